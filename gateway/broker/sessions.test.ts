/** What is durable of sessions and retained messages, and when it is acknowledged; over real sockets, with commits when a test says so. */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connect as connectMqtt, type IClientOptions, type MqttClient } from 'mqtt';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { systemClock } from '../../shared/clock.ts';
import { SluiceError } from '../../shared/errors.ts';
import { createLogger } from '../../shared/logging.ts';
import { Access } from '../access.ts';
import { accessConfigSchema, mqttConfigSchema } from '../config.ts';
import { addDevice, Credentials, credentialsPath } from '../credentials.ts';
import { Decoder } from '../decode/decoder.ts';
import { DEFAULT_TOPIC_RULES } from '../decode/topic-rules.ts';
import { createIngestCounters } from '../ingest-counters.ts';
import { NO_SESSIONS, type StoredSessions } from '../journal/sessions.ts';
import { startBroker, type Broker } from './broker.ts';
import { MemoryJournal } from './memory-journal.ts';
import { sessionLimits, type SessionLimits } from './session-store.ts';

let directory: string;
let journal: MemoryJournal;
let broker: Broker;
let clients: MqttClient[];

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-sessions-'));
  journal = new MemoryJournal();
  clients = [];
});

afterEach(async () => {
  journal.automatic = true;
  journal.commit();
  await Promise.all(clients.map((client) => client.endAsync(true)));
  await broker.stop(1000);
  rmSync(directory, { recursive: true, force: true });
});

async function start(limits: Partial<SessionLimits> = {}, stored: StoredSessions = NO_SESSIONS): Promise<void> {
  broker = await startBroker({
    config: mqttConfigSchema.parse({ port: 0, wsPort: null }),
    decoder: new Decoder(DEFAULT_TOPIC_RULES, journal.series),
    journal,
    access: new Access(accessConfigSchema.parse({}), new Credentials(credentialsPath(directory), systemClock)),
    clock: systemClock,
    counters: createIngestCounters(),
    stored,
    sessionLimits: { ...sessionLimits(Infinity), ...limits },
    logger: createLogger('test', 'silent'),
  });
}

type Connected = MqttClient & { readonly heard: string[]; readonly ended: Promise<true> };

function connect(clientId: string, options: IClientOptions = {}): Promise<Connected> {
  return new Promise((resolve, reject) => {
    const client = connectMqtt(`mqtt://127.0.0.1:${broker.address.port}`, { clientId, reconnectPeriod: 0, ...options });
    clients.push(client);
    const heard: string[] = [];
    const ended = new Promise<true>((end) => client.once('close', () => end(true)));
    client.on('message', (topic, payload) => heard.push(`${topic} ${payload.toString()}`));
    client.on('error', reject);
    client.on('connect', () => resolve(Object.assign(client, { heard, ended })));
  });
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

/** Fails unless `answered` waits for the commit. */
async function waitsForCommit(answered: Promise<unknown>, kinds: readonly string[]): Promise<void> {
  let done = false;
  void answered.then(() => (done = true));
  await until(() => journal.uncommitted > 0);
  const before = journal.changes.length;
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
  expect(done).toBe(false);
  journal.commit();
  await answered;
  expect(journal.changes.slice(before).map(({ kind }) => kind)).toEqual(kinds);
}

/** Id and payload of each whole PUBLISH above QoS 0 among short packets. */
function publishesIn(bytes: Buffer): string[] {
  const found: string[] = [];
  for (let at = 0; at + 1 < bytes.length && at + 2 + bytes[at + 1] <= bytes.length; at += 2 + bytes[at + 1]) {
    if (bytes[at] >> 4 !== 3) continue;
    const idAt = at + 4 + bytes.readUInt16BE(at + 2);
    found.push(`${bytes.readUInt16BE(idAt)} ${bytes.toString('utf8', idAt + 2, at + 2 + bytes[at + 1])}`);
  }
  return found;
}

test('SUBACK, UNSUBACK, and the PUBACK of a command and of a retained message wait for their commit', async () => {
  await start();
  const sleeper = await connect('sleeper', { clean: false });
  const operator = await connect('operator');
  journal.automatic = false;
  await waitsForCommit(sleeper.subscribeAsync(['commands/a', 'commands/b'], { qos: 1 }), ['subscribe', 'subscribe']);
  await waitsForCommit(sleeper.unsubscribeAsync('commands/b'), ['unsubscribe']);
  await waitsForCommit(operator.publishAsync('commands/b', 'on', { qos: 1, retain: true }), ['retain']);
  await sleeper.endAsync();
  await waitsForCommit(operator.publishAsync('commands/a', 'on', { qos: 1 }), ['queue']);
  journal.automatic = true;
  await operator.publishAsync('commands/a', 'off', { qos: 2 });
  expect(broker.stats()).toMatchObject({ sessions: 1, queuedMessages: 2, retainedMessages: 1 });
  const awake = await connect('sleeper', { clean: false });
  await until(() => awake.heard.length === 2);
  await until(() => broker.stats().queuedMessages === 0);
});

test('to a subscriber at QoS 2 the id of a message is durable before it is sent, and its arrival before it is released', async () => {
  await start();
  const subscriber = await connect('s', { clean: false });
  await subscriber.subscribeAsync('commands/#', { qos: 2 });
  const packets: string[] = [];
  subscriber.on('packetreceive', ({ cmd }) => packets.push(cmd));
  const operator = await connect('operator');
  await operator.publishAsync('commands/a', 'on', { qos: 2 }).catch(() => undefined);
  await until(() => subscriber.heard.length === 1 && broker.stats().queuedMessages === 0);
  await until(() => journal.changes.at(-1)?.kind === 'unqueue');
  expect(journal.changes.map(({ kind }) => kind)).toEqual(['subscribe', 'queue', 'sent', 'released', 'unqueue']);
  expect(packets).toEqual(['publish', 'pubrel']);
});

test('a new message never gets the id under which an older one is still on its way to the session', async () => {
  const under = (messageId: number): StoredSessions['outgoing'][number] => {
    const payload = Buffer.from(`old ${messageId}`);
    return { id: messageId, client: 's', topic: 'commands/a', qos: 2, payload, messageId, released: 0 };
  };
  const outgoing = [65_534, 65_535, 1].map(under);
  await start({}, { retained: [], subscriptions: [{ client: 's', filter: 'commands/#', qos: 2 }], outgoing });
  const random = vi.spyOn(Math, 'random').mockReturnValue(0.99998); // aedes begins to count at 65,534
  // Receives and answers nothing.
  let received = Buffer.alloc(0);
  const socket = connectTcp(broker.address.port, '127.0.0.1');
  socket.on('data', (bytes) => void (received = Buffer.concat([received, bytes])));
  socket.write(Buffer.from('\x10\x0d\0\x04MQTT\x04\0\0\0\0\x01s'));
  const heard = (): string[] => publishesIn(received);
  await until(() => heard().length === 3);
  random.mockRestore();
  const operator = await connect('operator');
  await operator.publishAsync('commands/a', 'new', { qos: 2 });
  await until(() => heard().length === 4);
  socket.destroy();
  expect(heard()).toEqual(['65534 old 65534', '65535 old 65535', '1 old 1', '2 new']);
});

test('a message whose commit fails is queued for nobody and comes once when it is sent again', async () => {
  await start();
  const sleeper = await connect('sleeper', { clean: false });
  await sleeper.subscribeAsync('#', { qos: 1 });
  await sleeper.endAsync();
  const first = await connect('operator');
  journal.automatic = false;
  first.publish('devices/d1/telemetry', '{"a":1}', { qos: 1 });
  await until(() => journal.uncommitted === 1);
  journal.commit(new SluiceError('ERR_JOURNAL_UNAVAILABLE', 'disk'));
  await first.ended;
  expect(broker.stats()).toMatchObject({ queuedMessages: 0, queuedBytes: 0 });
  journal.automatic = true;
  const second = await connect('operator');
  await second.publishAsync('devices/d1/telemetry', '{"a":1}', { qos: 1 });
  const awake = await connect('sleeper', { clean: false });
  await until(() => awake.heard.length > 0 && broker.stats().queuedMessages === 0);
  expect(awake.heard).toEqual(['devices/d1/telemetry {"a":1}']);
});

test('what is too much to retain leaves its topic empty rather than old, and is counted', async () => {
  await start({ retainedMax: 2, retainedBytesMax: 400 });
  const client = await connect('a');
  const retain = (topic: string, payload: string): Promise<unknown> => client.publishAsync(topic, payload, { qos: 1, retain: true });
  await retain('site/a', 'one');
  await retain('site/b', 'two');
  await retain('site/c', 'a third');
  await retain('site/a', 'x'.repeat(500));
  expect(broker.stats()).toMatchObject({ retainedMessages: 1, retainedDropped: 2 });
  await client.subscribeAsync('site/#');
  await until(() => client.heard.length > 0);
  expect(client.heard).toEqual(['site/b two']);
  expect(journal.changes.filter(({ kind }) => kind === 'retain')).toHaveLength(3);
});

test('filters and sessions beyond the limit end the connection that asks for them', async () => {
  await start({ sessionsMax: 1, filtersPerSessionMax: 2 });
  const first = await connect('first', { clean: false });
  await first.subscribeAsync(['a', 'b'], { qos: 1 });
  first.subscribe('c', { qos: 1 });
  await first.ended;
  const second = await connect('second', { clean: false });
  second.subscribe('a', { qos: 1 });
  await second.ended;
  expect(broker.stats()).toMatchObject({ sessions: 1, sessionsRefused: 2 });
});

test('a device that may not write a topic cannot leave a retained message there', async () => {
  const password = addDevice(credentialsPath(directory), 'd1', { anyDevice: false, now: new Date() });
  await start();
  const client = await connect('c', { username: 'd1', password });
  client.publish('devices/d2/telemetry', '{"a":1}', { qos: 1, retain: true });
  await client.ended;
  expect(broker.stats().retainedMessages).toBe(0);
  expect(journal.changes).toEqual([]);
});
