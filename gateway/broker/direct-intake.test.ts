import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { systemClock, type Clock } from '../../shared/clock.ts';
import type { SluiceError } from '../../shared/errors.ts';
import { TurnBudget } from '../turn-budget.ts';
import { AckOrder, type AckWriter, type Settle } from './ack-order.ts';
import { DirectIntake } from './direct-intake.ts';
import type { PublishedMessage, PublishGate, Sender } from './publish-gate.ts';

const PACKET_BYTES_MAX = 40_000;

function frame(type: number, body: Buffer): Buffer {
  const length: number[] = [];
  let rest = body.length;
  do {
    length.push((rest & 127) | (rest > 127 ? 128 : 0));
    rest >>= 7;
  } while (rest > 0);
  return Buffer.concat([Buffer.of(type, ...length), body]);
}

function publish(type: number, topic: string, messageId: number, payload: string): Buffer {
  const name = Buffer.from(topic);
  const id = type & 6 ? Buffer.of(messageId >> 8, messageId & 255) : Buffer.alloc(0);
  return frame(type, Buffer.concat([Buffer.of(name.length >> 8, name.length & 255), name, id, Buffer.from(payload)]));
}

/** A connection between a device that sends bytes and an aedes that takes what it is given. */
class Connection {
  readonly stream: Duplex;
  readonly intake: DirectIntake;
  /** What was taken directly (its payload), and the bytes that aedes got, in order. */
  readonly log: (string | Buffer)[] = [];
  readonly written: Buffer[] = [];
  readonly settles: Settle[] = [];
  readonly client = {
    connected: true,
    closed: false,
    connackSent: true,
    _parser: { _queue: null },
    _keepaliveInterval: 0,
    _keepaliveTimer: null,
    waitForDrain: () => undefined,
    emit: (_: 'error', error: Error) => this.stream.destroy(error),
  };
  subscribers = false;
  readonly turns: TurnBudget;
  /** What the turns have put off; run by `nextTurn` where the test has its own turns. */
  readonly putOff: (() => void)[] = [];

  /** @param socket whose reads go by the shared buffer; absent: a stream that `send` fills */
  constructor(clock: Clock = systemClock, socket?: Socket, hasOwnTurns = false) {
    this.turns = hasOwnTurns ? new TurnBudget(clock, (callback) => void this.putOff.push(callback)) : new TurnBudget(clock);
    this.stream =
      socket ??
      new Duplex({
        read: () => undefined,
        write: (chunk: Buffer, _, done) => {
          this.written.push(chunk);
          done();
        },
      });
    this.stream.on('error', () => undefined);
    const gate = {
      publish: (sender: Sender, message: PublishedMessage, callback: Settle, direct: boolean) => {
        this.log.push(message.payload.toString());
        if (message.qos === 1) {
          const ticket = sender.order.expect(direct ? null : callback, message.messageId as number, 1);
          this.settles.push((error) => sender.order.settle(error, ticket));
        }
        return false;
      },
    };
    this.intake = new DirectIntake(this.stream, {
      gate: gate as unknown as PublishGate,
      turns: this.turns,
      packetBytesMax: PACKET_BYTES_MAX,
      topicLevelsMax: 32,
      hasSubscribers: () => this.subscribers,
    });
    this.intake.attach(this.client);
    if (socket !== undefined) this.intake.readDirectly(socket);
    const writer: AckWriter = this.intake;
    this.intake.open({ clientId: 'c', onlyDevice: null, order: new AckOrder(writer, () => undefined) });
    this.stream.on('readable', () => {
      for (let chunk: Buffer | null; (chunk = this.stream.read() as Buffer | null) !== null;) this.log.push(chunk);
    });
  }

  async send(bytes: Buffer): Promise<void> {
    this.stream.push(bytes);
    await new Promise((resolve) => setImmediate(resolve));
  }

  settle(error: Error | null = null): void {
    for (const done of this.settles.splice(0)) done(error);
  }
}

/** On which every other look finds the turn spent. */
function hastyClock(): Clock {
  let nowUs = 0;
  return { ...systemClock, monotonicUs: () => (nowUs += 2_000) };
}

const DIRECT = ['d0', 'd1'] as const;
const OTHER = ['qos2', 'retained', 'repeated', 'ping', 'wildcard', 'system', 'no id', 'long'] as const;

function packetOf(kind: (typeof DIRECT)[number] | (typeof OTHER)[number], number: number): Buffer {
  const payload = `#${number}`;
  if (kind === 'd0') return publish(0x30, `devices/d${number % 3}/telemetry`, 0, payload);
  if (kind === 'd1') return publish(0x32, `devices/d${number % 3}/telemetry`, number + 1, payload);
  if (kind === 'qos2') return publish(0x34, 'devices/d/telemetry', number + 1, payload);
  if (kind === 'retained') return publish(0x31, 'devices/d/telemetry', 0, payload);
  if (kind === 'repeated') return publish(0x3a, 'devices/d/telemetry', number + 1, payload);
  if (kind === 'wildcard') return publish(0x32, 'devices/+/telemetry', number + 1, payload);
  if (kind === 'system') return publish(0x32, '$SYS/x', number + 1, payload);
  if (kind === 'no id') return publish(0x32, 'devices/d/telemetry', 0, payload);
  // Longer than what is kept of a packet; its pieces look like telemetry.
  if (kind === 'long') return publish(0x34, 'devices/d/telemetry', number + 1, String(publish(0x30, 'd/d', 0, '#9')).repeat(2_000));
  return Buffer.of(0xc0, 0);
}

describe('the stream', () => {
  test('however it is cut, every packet goes one way, once, in order', async () => {
    const kinds = fc.array(fc.constantFrom(...DIRECT, ...DIRECT, ...OTHER), { minLength: 1, maxLength: 30 });
    await fc.assert(
      fc.asyncProperty(kinds, fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 1, maxLength: 10 }), async (sent, cuts) => {
        const connection = new Connection(hastyClock());
        const packets = sent.map(packetOf);
        const bytes = Buffer.concat(packets);
        for (let at = 0, cut = 0; at < bytes.length; cut++) {
          const size = cuts[cut % cuts.length] * (cut % 4 === 3 ? 100 : 1);
          await connection.send(bytes.subarray(at, at + size));
          at += size;
        }
        for (let turn = 0; turn < 2_000 && connection.stream.readableLength > 0; turn++)
          await new Promise((resolve) => setImmediate(resolve));
        // Put together again from both ways, in the order of the log, it is what was sent.
        const rebuilt = connection.log.map((entry) => (typeof entry === 'string' ? packets[Number(entry.slice(1))] : entry));
        expect(Buffer.concat(rebuilt).equals(bytes)).toBe(true);
        const direct = connection.log.filter((entry) => typeof entry === 'string');
        expect(direct.every((entry) => (DIRECT as readonly string[]).includes(sent[Number(entry.slice(1))] as string))).toBe(true);
      }),
      { numRuns: 150 },
    );
  });

  test('however it is cut, the same holds for a socket that is read directly', async () => {
    const server = createServer({ noDelay: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const kinds = fc.array(fc.constantFrom(...DIRECT, ...DIRECT, ...DIRECT, ...OTHER), { minLength: 1, maxLength: 30 });
    const cuts = fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 1, maxLength: 10 });
    try {
      await fc.assert(
        fc.asyncProperty(kinds, cuts, fc.boolean(), async (sent, sizes, isHasty) => {
          let connection: Connection | null = null;
          server.once('connection', (socket) => (connection = new Connection(isHasty ? hastyClock() : systemClock, socket)));
          const device = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', noDelay: true });
          await once(server, 'connection');
          const { log, stream } = connection as unknown as Connection;
          const packets = sent.map(packetOf);
          const bytes = Buffer.concat(packets);
          for (let at = 0, cut = 0; at < bytes.length; cut++) {
            const size = sizes[cut % sizes.length] * (cut % 4 === 3 ? 100 : 1);
            device.write(bytes.subarray(at, at + size));
            await new Promise((resolve) => setImmediate(resolve));
            at += size;
          }
          const rebuilt = (): Buffer =>
            Buffer.concat(log.map((entry) => (typeof entry === 'string' ? packets[Number(entry.slice(1))] : entry)));
          for (let turn = 0; turn < 5_000 && rebuilt().length < bytes.length; turn++) await new Promise((resolve) => setImmediate(resolve));
          device.destroy();
          stream.destroy();
          expect(rebuilt().equals(bytes)).toBe(true);
        }),
        { numRuns: 60 },
      );
    } finally {
      server.close();
    }
  });

  test('what was put off to another turn is not overtaken by what is read meanwhile', async () => {
    const server = createServer({ noDelay: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    let connection: Connection | null = null;
    server.once('connection', (socket) => (connection = new Connection(hastyClock(), socket, true)));
    const device = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', noDelay: true });
    await once(server, 'connection');
    const { log, stream, turns, putOff } = connection as unknown as Connection;
    while (!turns.isSpent); // by others
    const packets = Array.from({ length: 41 }, (_, number) => packetOf('d1', number));
    device.write(Buffer.concat(packets.slice(0, 40)));
    while (stream.readableLength === 0) await new Promise((resolve) => setImmediate(resolve));
    const before = stream.readableLength;
    device.write(packets[40]);
    while (log.length === 0 && stream.readableLength === before) await new Promise((resolve) => setImmediate(resolve));
    for (let turn = 0; turn < 10 && putOff.length > 0; turn++) for (const run of putOff.splice(0)) run();
    device.destroy();
    stream.destroy();
    server.close();
    expect(log).toEqual(packets.map((_, number) => `#${number}`));
  });

  test('with whole packets all telemetry is taken', async () => {
    const connection = new Connection();
    await connection.send(Buffer.concat([packetOf('d1', 0), packetOf('d0', 1), packetOf('d1', 2)]));
    await connection.send(packetOf('d1', 3).subarray(0, 9));
    await connection.send(packetOf('d1', 3).subarray(9));
    expect(connection.log).toEqual(['#0', '#1', '#2', '#3']);
  });

  test('while anybody subscribes, or before the handshake is over, all of it is for the broker', async () => {
    const connection = new Connection();
    connection.subscribers = true;
    await connection.send(packetOf('d1', 0));
    connection.subscribers = false;
    connection.client.connected = false;
    await connection.send(packetOf('d1', 1));
    expect(connection.log).toEqual([packetOf('d1', 0), packetOf('d1', 1)]);
  });

  test('a packet beyond the limit ends the connection at its header', async () => {
    const connection = new Connection();
    let fault: SluiceError | null = null;
    connection.stream.on('error', (error) => (fault = error as SluiceError));
    await connection.send(Buffer.of(0x32, 0xff, 0xff, 0x7f));
    await new Promise((resolve) => setImmediate(resolve));
    expect(fault).toMatchObject({ code: 'ERR_BROKER_PACKET_TOO_LARGE' });
    expect(connection.log).toEqual([]);
  });
});

describe('acknowledgements', () => {
  test('of a commit leave in one write, in order', async () => {
    const connection = new Connection();
    await connection.send(Buffer.concat([packetOf('d1', 0), packetOf('d1', 1)]));
    expect(connection.written).toEqual([]);
    connection.settles.reverse();
    connection.settle();
    await new Promise((resolve) => setImmediate(resolve));
    expect(connection.written).toEqual([Buffer.of(0x40, 2, 0, 1, 0x40, 2, 0, 2)]);
  });

  test('leave in order and all of them when turns are spent by others', async () => {
    const connection = new Connection(hastyClock());
    await connection.send(Buffer.concat([packetOf('d1', 0), packetOf('d1', 1)]));
    for (let turn = 0; turn < 10 && connection.settles.length < 2; turn++) await new Promise((resolve) => setImmediate(resolve));
    connection.settle();
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(Buffer.concat(connection.written)).toEqual(Buffer.of(0x40, 2, 0, 1, 0x40, 2, 0, 2));
  });

  test('stop at a message that could not be stored', async () => {
    const connection = new Connection();
    await connection.send(Buffer.concat([packetOf('d1', 0), packetOf('d1', 1)]));
    connection.settles[1](null);
    connection.settles[0](new Error('disk'));
    await new Promise((resolve) => setImmediate(resolve));
    expect(connection.written).toEqual([]);
    expect(connection.stream.destroyed).toBe(true);
  });

  test('that are outstanding bound what is read, and nothing is lost by it', async () => {
    const connection = new Connection();
    const packets = Array.from({ length: 1300 }, (_, number) => packetOf('d1', number));
    await connection.send(Buffer.concat(packets));
    expect(connection.settles).toHaveLength(512);
    for (let round = 0; round < 3; round++) {
      connection.settle();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(connection.log).toEqual(packets.map((_, number) => `#${number}`));
    expect(Buffer.concat(connection.written).length).toBe(4 * 1300);
  });
});
