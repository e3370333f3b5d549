import { mkdtempSync, rmSync } from 'node:fs';
import { connect as connectTcp, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connectAsync, type MqttClient } from 'mqtt';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../shared/clock.ts';
import { SluiceError } from '../../shared/errors.ts';
import { createLogger } from '../../shared/logging.ts';
import { Access } from '../access.ts';
import { accessConfigSchema, mqttConfigSchema } from '../config.ts';
import { Credentials, addDevice, credentialsPath } from '../credentials.ts';
import { Decoder } from '../decode/decoder.ts';
import { DEFAULT_TOPIC_RULES } from '../decode/topic-rules.ts';
import { createIngestCounters, type IngestCounters } from '../ingest-counters.ts';
import { startBroker, type Broker } from './broker.ts';
import { MemoryJournal } from './memory-journal.ts';

let directory: string;
let journal: MemoryJournal;
let counters: IngestCounters;
let decoder: Decoder;
const brokers: Broker[] = [];
const clients: MqttClient[] = [];
const sockets: Socket[] = [];

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-broker-'));
  journal = new MemoryJournal();
  counters = createIngestCounters();
});

afterEach(async () => {
  journal.automatic = true;
  journal.refuse = null;
  journal.commit();
  await Promise.all(clients.splice(0).map((client) => client.endAsync(true)));
  for (const socket of sockets.splice(0)) socket.destroy();
  await Promise.all(brokers.splice(0).map((broker) => broker.stop(1000)));
  rmSync(directory, { recursive: true, force: true });
});

async function start(settings: Record<string, unknown> = {}): Promise<Broker> {
  const config = mqttConfigSchema.parse({ port: 0, wsPort: 0, ...settings });
  decoder = new Decoder(DEFAULT_TOPIC_RULES, journal.series);
  const access = new Access(accessConfigSchema.parse({}), new Credentials(credentialsPath(directory), systemClock));
  const broker = await startBroker({
    config,
    decoder,
    journal,
    access,
    clock: systemClock,
    counters,
    logger: createLogger('test', 'silent'),
  });
  brokers.push(broker);
  return broker;
}

async function connect(broker: Broker, options: Parameters<typeof connectAsync>[1] = {}, webSocket = false): Promise<MqttClient> {
  const url = webSocket ? `ws://127.0.0.1:${broker.webSocketAddress?.port}` : `mqtt://127.0.0.1:${broker.address.port}`;
  const client = await connectAsync(url, { reconnectPeriod: 0, ...options });
  client.on('error', () => undefined);
  clients.push(client);
  return client;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

/** A device that speaks bytes, for what a good client does not do. */
class RawDevice {
  readonly socket: Socket;
  #received = Buffer.alloc(0);
  closed = false;

  constructor(broker: Broker) {
    this.socket = connectTcp(broker.address.port, '127.0.0.1');
    sockets.push(this.socket);
    this.socket.on('data', (chunk) => (this.#received = Buffer.concat([this.#received, chunk])));
    this.socket.on('close', () => (this.closed = true));
    this.socket.on('error', () => undefined);
  }

  async connect(clientId: string): Promise<this> {
    const id = Buffer.from(clientId);
    const body = Buffer.concat([Buffer.from([0, 4]), Buffer.from('MQTT'), Buffer.from([4, 2, 0, 0, id.length >> 8, id.length & 255]), id]);
    this.socket.write(Buffer.concat([Buffer.from([0x10, body.length]), body]));
    const connack = await this.take(4);
    if (connack[3] !== 0) throw new Error(`CONNACK ${connack.toString('hex')}`);
    return this;
  }

  publish(topic: string, payload: string, messageId: number, options: { qos?: number; dup?: boolean } = {}): void {
    const name = Buffer.from(topic);
    const body = Buffer.concat([
      Buffer.from([name.length >> 8, name.length & 255]),
      name,
      Buffer.from([messageId >> 8, messageId & 255]),
      Buffer.from(payload),
    ]);
    const { qos = 1, dup = false } = options;
    this.socket.write(Buffer.concat([Buffer.from([0x30 | (qos << 1) | (dup ? 8 : 0), body.length]), body]));
  }

  async take(length: number): Promise<Buffer> {
    await until(() => this.#received.length >= length || this.closed);
    const taken = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return taken;
  }

  /** Answers nothing but a ping: all that was sent before has been read, and nothing is acknowledged. */
  async isSilent(): Promise<boolean> {
    this.socket.write(Buffer.from([0xc0, 0]));
    return (await this.take(2)).equals(Buffer.from([0xd0, 0]));
  }

  get waiting(): number {
    return this.#received.length;
  }
}

const TOPIC = 'devices/d1/telemetry';

describe('an ack means durable', () => {
  test.each([
    ['TCP', false, 1],
    ['TCP', false, 2],
    ['WebSocket', true, 1],
    ['WebSocket', true, 2],
  ] as const)('over %s (%s) QoS %i is acknowledged after the commit and not before', async (_, webSocket, qos) => {
    const broker = await start();
    const client = await connect(broker, {}, webSocket);
    journal.automatic = false;
    let acknowledged = false;
    const published = client.publishAsync(TOPIC, '{"temperature":21.5}', { qos }).then(() => (acknowledged = true));
    await until(() => journal.uncommitted === 1);
    await client.publishAsync(TOPIC, '{"later":1}', { qos: 0 }); // the socket is alive while the ack is held
    await until(() => journal.uncommitted === 2);
    expect(acknowledged).toBe(false);
    journal.automatic = true;
    journal.commit();
    await published;
    expect(journal.readings.map((reading) => reading.metric)).toEqual(['temperature', 'later']);
  });

  test('PUBREC, too, waits for the commit', async () => {
    const device = await new RawDevice(await start()).connect('a');
    journal.automatic = false;
    device.publish(TOPIC, '{"a":1}', 1, { qos: 2 });
    await until(() => journal.uncommitted === 1);
    expect(await device.isSilent()).toBe(true);
    journal.commit();
    expect(await device.take(4)).toEqual(Buffer.from([0x50, 2, 0, 1]));
  });

  test('a commit that fails ends the connection instead of acknowledging', async () => {
    const device = await new RawDevice(await start()).connect('a');
    journal.automatic = false;
    device.publish(TOPIC, '{"a":1}', 1);
    await until(() => journal.uncommitted === 1);
    journal.commit(new SluiceError('ERR_JOURNAL_UNAVAILABLE', 'disk'));
    await until(() => device.closed);
    expect(device.waiting).toBe(0);
  });

  test('a journal that takes nothing ends the connection', async () => {
    const device = await new RawDevice(await start()).connect('a');
    journal.refuse = new SluiceError('ERR_JOURNAL_FULL', 'full');
    device.publish(TOPIC, '{"a":1}', 1);
    await until(() => device.closed);
    expect(counters.refused).toBe(1);
  });

  test('acks leave in the order of arrival, also past topics that are not stored', async () => {
    const device = await new RawDevice(await start()).connect('a');
    journal.automatic = false;
    device.publish(TOPIC, '{"a":1}', 1);
    device.publish('other/topic/x', '1', 2);
    device.publish(TOPIC, '{"a":2}', 3);
    await until(() => journal.uncommitted === 2);
    expect(device.waiting).toBe(0);
    journal.commit();
    expect(await device.take(12)).toEqual(Buffer.from([0x40, 2, 0, 1, 0x40, 2, 0, 2, 0x40, 2, 0, 3]));
    expect(journal.readings.map((reading) => reading.value)).toEqual([1, 2]);
    expect(decoder.unmatched.list()).toMatchObject([{ suggestedMatch: 'other/{device}/{metric}', messageCount: 1 }]);
  });

  test('a thousand pipelined messages keep their order', async () => {
    const client = await connect(await start());
    await Promise.all(Array.from({ length: 1000 }, (_, index) => client.publishAsync(TOPIC, `{"n":${index}}`, { qos: 1 })));
    expect(journal.readings.map((reading) => reading.value)).toEqual(Array.from({ length: 1000 }, (_, index) => index));
  });
});

describe('a message that comes again', () => {
  const STAMPED = '{"a":1,"ts":1700000000000}';

  test('with DUP and a time of its own is stored once and acknowledged', async () => {
    const broker = await start();
    const first = await new RawDevice(broker).connect('a');
    first.publish(TOPIC, STAMPED, 7);
    await first.take(4);
    first.socket.destroy();
    const second = await new RawDevice(broker).connect('a');
    second.publish(TOPIC, STAMPED, 7, { dup: true });
    expect(await second.take(4)).toEqual(Buffer.from([0x40, 2, 0, 7]));
    expect(journal.readings).toHaveLength(1);
    expect(counters.redeliveries).toBe(1);
  });

  test('is acknowledged only when the first one is durable', async () => {
    const broker = await start();
    const device = await new RawDevice(broker).connect('a');
    journal.automatic = false;
    device.publish(TOPIC, STAMPED, 7);
    device.publish(TOPIC, STAMPED, 7, { dup: true });
    await until(() => journal.uncommitted === 1 && counters.redeliveries === 1);
    expect(await device.isSilent()).toBe(true);
    journal.commit();
    expect((await device.take(8)).length).toBe(8);
    expect(journal.readings).toHaveLength(1);
  });

  test.each([
    ['without a time of its own', '{"a":1}', '{"a":1}', true],
    ['with another payload', STAMPED, '{"a":2,"ts":1700000000000}', true],
    ['without DUP', STAMPED, STAMPED, false],
  ])('%s is stored again', async (_, before, after, dup) => {
    const device = await new RawDevice(await start()).connect('a');
    device.publish(TOPIC, before, 7);
    device.publish(TOPIC, after, 7, { dup });
    await device.take(8);
    expect(journal.readings).toHaveLength(2);
  });

  test('at QoS 2 is known by its id until PUBREL, also after a restart of the gateway', async () => {
    const before = await start();
    const first = await new RawDevice(before).connect('a');
    first.publish(TOPIC, '{"a":1}', 9, { qos: 2 });
    expect(await first.take(4)).toEqual(Buffer.from([0x50, 2, 0, 9]));
    first.publish(TOPIC, '{"a":1}', 9, { qos: 2, dup: true });
    expect(await first.take(4)).toEqual(Buffer.from([0x50, 2, 0, 9]));
    first.socket.destroy();
    const after = await start();
    const subscriber = await connect(after);
    const received: string[] = [];
    subscriber.on('message', (_, payload) => received.push(payload.toString()));
    await subscriber.subscribeAsync('devices/#');
    const second = await new RawDevice(after).connect('a');
    second.publish(TOPIC, '{"a":1}', 9, { qos: 2, dup: true });
    expect(await second.take(4)).toEqual(Buffer.from([0x50, 2, 0, 9]));
    await subscriber.publishAsync('devices/end', '', { qos: 1 });
    await until(() => received.length > 0);
    expect(received).toEqual(['']); // delivered once, before the restart
    expect(journal.readings).toHaveLength(1);
    journal.automatic = false;
    second.socket.write(Buffer.from([0x62, 2, 0, 9]));
    await until(() => !journal.qos2Open('a', 9));
    expect(await second.isSilent()).toBe(true); // PUBCOMP waits for the release to be durable
    journal.commit();
    expect(await second.take(4)).toEqual(Buffer.from([0x70, 2, 0, 9]));
    journal.automatic = true;
    second.publish(TOPIC, '{"a":1}', 9, { qos: 2, dup: true });
    await second.take(4);
    expect(journal.readings).toHaveLength(2);
  });
});

describe('subscribers', () => {
  test('get what is published, retained messages too, and a topic without rule as well', async () => {
    const broker = await start();
    const publisher = await connect(broker);
    await publisher.publishAsync('devices/d1/state', 'open', { qos: 1, retain: true });
    const subscriber = await connect(broker, {}, true);
    const received: string[] = [];
    subscriber.on('message', (topic, payload) => received.push(`${topic} ${payload.toString()}`));
    await subscriber.subscribeAsync('#', { qos: 1 });
    await publisher.publishAsync('home/lamp', 'on', { qos: 2 });
    await until(() => received.length === 2);
    expect(received).toEqual(['devices/d1/state open', 'home/lamp on']);
    expect(journal.readings).toHaveLength(1);
  });

  test('get a will, which is stored like QoS 0', async () => {
    const broker = await start();
    const device = await connect(broker, { will: { topic: 'devices/d1/online', payload: Buffer.from('false'), qos: 1, retain: false } });
    device.stream.destroy();
    await until(() => journal.readings.length === 1);
    expect(journal.readings[0]).toMatchObject({ device: 'd1', metric: 'online', value: 0 });
  });

  test('a queue for an absent one is bounded', async () => {
    const broker = await start();
    const subscriber = await connect(broker, { clientId: 's', clean: false });
    await subscriber.subscribeAsync('devices/#', { qos: 1 });
    await subscriber.endAsync();
    const publisher = await connect(broker);
    await Promise.all(Array.from({ length: 1100 }, () => publisher.publishAsync(TOPIC, '{"a":1}', { qos: 1 })));
    await until(() => broker.stats().queueDropped >= 100);
    expect(journal.readings).toHaveLength(1100);
    expect(broker.stats().queueDropped).toBe(100);
  });
});

describe('bad input', () => {
  async function takesTheNextGoodMessage(broker: Broker): Promise<boolean> {
    const client = await connect(broker);
    await client.publishAsync('devices/good/m', '1', { qos: 1 });
    return journal.readings.at(-1)?.device === 'good';
  }

  test('a payload that nothing can be made of is a dead letter, acknowledged after its commit', async () => {
    const broker = await start();
    const device = await new RawDevice(broker).connect('a');
    journal.automatic = false;
    device.publish(TOPIC, '{"a":', 1);
    await until(() => journal.uncommitted === 1);
    expect(await device.isSilent()).toBe(true);
    journal.automatic = true;
    journal.commit();
    await device.take(4);
    expect(journal.exceptions).toMatchObject([{ kind: 'dead_letter', device: 'd1', metric: null, readingCount: null }]);
    expect(Buffer.from(journal.exceptions[0]?.payload as Uint8Array).toString()).toBe('{"a":');
    expect(await takesTheNextGoodMessage(broker)).toBe(true);
  });

  test('a packet that is too large ends its connection before it is read', async () => {
    const broker = await start({ packetBytesMax: 4096 });
    const device = await new RawDevice(broker).connect('a');
    device.socket.write(Buffer.from([0x30, 0x80, 0x80, 0x80, 0x01])); // 2 MiB announced, nothing sent
    await until(() => device.closed);
    expect(await takesTheNextGoodMessage(broker)).toBe(true);
  });

  test.each([
    ['a CONNECT of 200 MB', [0x10, 0xff, 0xff, 0xff, 0x7f]],
    ['a length without end', [0x30, 0xff, 0xff, 0xff, 0xff, 0xff]],
    ['a PUBLISH before CONNECT', [0x30, 5, 0, 1, 97, 49, 50]],
    ['another protocol', [...Buffer.from('GET / HTTP/1.1\r\n\r\n')]],
    ['QoS 3', [0x10, 13, 0, 4, 77, 81, 84, 84, 4, 2, 0, 0, 0, 1, 97, 0x36, 7, 0, 1, 97, 0, 1, 49, 50]],
    ['a topic with a wildcard', [0x10, 13, 0, 4, 77, 81, 84, 84, 4, 2, 0, 0, 0, 1, 97, 0x32, 7, 0, 1, 0x23, 0, 1, 49, 50]],
  ])('%s ends its connection and nothing else', async (_, bytes) => {
    const broker = await start();
    const device = new RawDevice(broker);
    device.socket.write(Buffer.from(bytes));
    await until(() => device.closed);
    expect(broker.stats().connectionErrors).toBeGreaterThan(0);
    expect(await takesTheNextGoodMessage(broker)).toBe(true);
  });

  test('random bytes after CONNECT harm nobody else', async () => {
    const broker = await start();
    let seed = 12345;
    for (let round = 0; round < 50; round++) {
      const device = await new RawDevice(broker).connect(`r${round}`);
      const bytes = Buffer.from(Array.from({ length: 100 }, () => ((seed = (seed * 1103515245 + 12345) & 0x7fffffff) >> 16) & 255));
      device.socket.end(bytes);
    }
    expect(await takesTheNextGoodMessage(broker)).toBe(true);
  });

  test('publishing under $SYS is refused', async () => {
    const broker = await start();
    const device = await new RawDevice(broker).connect('a');
    device.publish('$SYS/x', '1', 1);
    await until(() => device.closed);
    expect(await takesTheNextGoodMessage(broker)).toBe(true);
  });

  test('connections beyond the limit are closed, the others stay', async () => {
    const broker = await start({ connectionsMax: 1 });
    const client = await connect(broker);
    const device = new RawDevice(broker);
    await until(() => device.closed);
    expect(broker.stats().connectionsRefused).toBe(1);
    await client.publishAsync('devices/good/m', '1', { qos: 1 });
  });
});

describe('credentials', () => {
  test('a wrong password, an unknown user and an anonymous client are refused', async () => {
    const secret = addDevice(credentialsPath(directory), 'd1', { anyDevice: false, now: new Date() });
    const broker = await start();
    await expect(connect(broker, { username: 'd1', password: 'wrong' })).rejects.toMatchObject({ code: 4 });
    await expect(connect(broker, { username: 'd2', password: secret })).rejects.toMatchObject({ code: 4 });
    await expect(connect(broker)).rejects.toMatchObject({ code: 5 });
    const client = await connect(broker, { username: 'd1', password: secret });
    await client.publishAsync(TOPIC, '{"a":1}', { qos: 1 });
    expect(journal.readings).toHaveLength(1);
    expect(broker.stats().authenticationsFailed).toBe(3);
  });

  test('a device may write as itself only, a collector as any', async () => {
    const secret = addDevice(credentialsPath(directory), 'd1', { anyDevice: false, now: new Date() });
    const collector = addDevice(credentialsPath(directory), 'telegraf', { anyDevice: true, now: new Date() });
    const broker = await start();
    const client = await connect(broker, { username: 'd1', password: secret });
    const ended = new Promise((resolve) => client.once('close', () => resolve(true)));
    client.publish('devices/d2/telemetry', '{"a":1}', { qos: 1 });
    await ended;
    expect(journal.readings).toHaveLength(0);
    const any = await connect(broker, { username: 'telegraf', password: collector });
    await any.publishAsync('devices/d2/telemetry', '{"a":1}', { qos: 1 });
    expect(journal.readings).toHaveLength(1);
  });

  test('without credentials the broker stays on loopback', async () => {
    await expect(start({ host: '0.0.0.0' })).rejects.toMatchObject({ code: 'ERR_LISTEN_NO_CREDENTIALS' });
    addDevice(credentialsPath(directory), 'd1', { anyDevice: false, now: new Date() });
    await start({ host: '0.0.0.0' });
  });
});

test('a stop hands out the acks that are due and takes no more messages', async () => {
  const broker = await start();
  const device = await new RawDevice(broker).connect('a');
  journal.automatic = false;
  device.publish(TOPIC, '{"a":1}', 1);
  await until(() => journal.uncommitted === 1);
  const stopped = broker.stop(5000);
  journal.commit();
  expect(await device.take(4)).toEqual(Buffer.from([0x40, 2, 0, 1]));
  await stopped;
  await until(() => device.closed);
});
