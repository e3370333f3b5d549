/**
 * A load of acknowledged publishes over raw sockets, cheap enough not to be the ceiling itself.
 *
 * Closed loop: every client keeps `inFlight` messages unacknowledged. Open loop (`perSecond`): messages leave when they are
 * due, whatever the answers do, and latency counts from then; at most BEHIND_MAX wait for an answer, more are not sent and
 * show as a rate below the asked one. Run as a child process: `node load.js '{…LoadSpec}'` prints one line of JSON, a
 * LoadResult, when everything that it sent is acknowledged. Stops by itself.
 */
import { connect, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { MqttDevice, NatsDevice, type LoadProtocol } from './load-protocols.ts';
import { percentile } from './percentile.ts';
import type { Site } from './processes.ts';

export interface LoadSpec {
  readonly protocol: 'mqtt' | 'nats';
  readonly port: number;
  readonly clients: number;
  readonly inFlight: number;
  /** Messages per second of all clients together; null: closed loop. */
  readonly perSecond: number | null;
  readonly readings: number;
  /** Not measured: the first seconds are the compiler's. */
  readonly warmupSeconds: number;
  readonly seconds: number;
  /** Device names start with it. */
  readonly prefix: string;
}

export interface LoadResult {
  /** Acknowledged while it was measured. */
  readonly messages: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Of the generator itself. */
  readonly cpuSeconds: number;
  /** Acknowledged at all, the warm-up included. */
  readonly messagesTotal: number;
  /** From the first message to the last acknowledgement. */
  readonly secondsTotal: number;
  /** Connections that the server closed; they are not opened again, and what was in flight on them does not count. */
  readonly closed: number;
}

export const LOAD_DEFAULTS: Omit<LoadSpec, 'port'> = {
  protocol: 'mqtt',
  clients: 20,
  inFlight: 100,
  perSecond: null,
  readings: 1,
  warmupSeconds: 1.5,
  seconds: 4,
  prefix: 'load',
};

const BEHIND_MAX = 50_000;
const TICK_MS = 4;
const LAST_ACKS_MS_MAX = 60_000;

/** Starts the load as a process of the site. */
export function runLoad(site: Site, spec: Partial<LoadSpec> & { readonly port: number }): Promise<LoadResult> {
  const full: LoadSpec = { ...LOAD_DEFAULTS, ...spec };
  const program = site.start('load', process.execPath, [fileURLToPath(import.meta.url), JSON.stringify(full)], { stdout: 'pipe' });
  return program.answer<LoadResult>();
}

interface Client {
  readonly socket: Socket;
  readonly protocol: LoadProtocol;
  readonly sentAtMs: Float64Array;
  nextId: number;
  unacked: number;
}

class Load {
  readonly #spec: LoadSpec;
  #clients: Client[] = [];
  #closed = 0;
  readonly #latenciesMs: number[] = [];
  #sent = 0;
  #acked = 0;
  #measuredAcks = 0;
  #measuring = false;
  #stopping = false;

  constructor(spec: LoadSpec) {
    this.#spec = spec;
  }

  async run(): Promise<LoadResult> {
    const { clients, inFlight, perSecond, warmupSeconds, seconds } = this.#spec;
    for (let index = 0; index < clients; index++) this.#clients.push(await this.#open(index));
    const firstMs = performance.now();
    if (perSecond === null) for (const client of this.#clients) this.#publish(client, inFlight, performance.now());
    else this.#pace(perSecond, firstMs);
    await wait(warmupSeconds * 1000);
    const cpuStart = process.cpuUsage();
    const startMs = performance.now();
    this.#measuring = true;
    await wait(seconds * 1000);
    this.#measuring = false;
    const elapsed = (performance.now() - startMs) / 1000;
    const cpu = process.cpuUsage(cpuStart);
    this.#stopping = true;
    const lastMs = performance.now();
    while (this.#acked < this.#sent && performance.now() < lastMs + LAST_ACKS_MS_MAX) await wait(10);
    if (this.#acked < this.#sent) throw new Error(`${this.#sent - this.#acked} messages are still not acknowledged`);
    return {
      messages: this.#measuredAcks,
      seconds: elapsed,
      p50Ms: percentile(this.#latenciesMs, 0.5),
      p99Ms: percentile(this.#latenciesMs, 0.99),
      cpuSeconds: (cpu.user + cpu.system) / 1e6,
      messagesTotal: this.#acked,
      secondsTotal: (performance.now() - firstMs) / 1000,
      closed: this.#closed,
    };
  }

  async #open(index: number): Promise<Client> {
    const { protocol, port, readings, prefix } = this.#spec;
    const name = `${prefix}-${index}`;
    const device = protocol === 'mqtt' ? new MqttDevice(name, readings, index + 1) : new NatsDevice(name, readings, index + 1);
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    const client: Client = { socket, protocol: device, sentAtMs: new Float64Array(0x10000), nextId: 1, unacked: 0 };
    await new Promise<void>((resolve, reject) => {
      socket.on('error', reject); // once it is open, the close that follows counts
      socket.on('data', (chunk: Buffer) => this.#onData(client, chunk, resolve));
      socket.write(device.hello);
    });
    socket.on('close', () => {
      if (this.#stopping && client.unacked === 0) return;
      this.#closed++;
      this.#sent -= client.unacked;
      client.unacked = 0;
      this.#clients = this.#clients.filter((other) => other !== client);
    });
    return client;
  }

  #onData(client: Client, chunk: Buffer, onReady: () => void): void {
    let answered = 0;
    const nowMs = performance.now();
    client.protocol.read(chunk, {
      onReady,
      onAck: (id) => {
        answered++;
        // One in 16 is enough for a percentile and costs nothing.
        if (this.#measuring && ((this.#measuredAcks + answered) & 15) === 0) this.#latenciesMs.push(nowMs - client.sentAtMs[id]);
      },
      reply: (bytes) => client.socket.write(bytes),
    });
    if (answered === 0) return;
    client.unacked -= answered;
    this.#acked += answered;
    if (this.#measuring) this.#measuredAcks += answered;
    if (this.#spec.perSecond === null && !this.#stopping) this.#publish(client, answered, nowMs);
  }

  #publish(client: Client, count: number, dueMs: number): void {
    const { messageBytes } = client.protocol;
    const out = Buffer.allocUnsafe(messageBytes * count);
    const wallMs = Date.now();
    for (let index = 0; index < count; index++) {
      const id = client.nextId;
      client.nextId = id >= 0xffff ? 1 : id + 1;
      client.protocol.write(out, index * messageBytes, id, wallMs);
      client.sentAtMs[id] = dueMs;
    }
    client.unacked += count;
    this.#sent += count;
    if (!client.socket.destroyed) client.socket.write(out);
  }

  /** Round robin over the clients, so many as are due. */
  #pace(perSecond: number, startMs: number): void {
    let turn = 0;
    let due = 0;
    const timer = setInterval(() => {
      if (this.#stopping) return clearInterval(timer);
      const target = Math.floor(((performance.now() - startMs) / 1000) * perSecond);
      const room = Math.max(0, BEHIND_MAX - (this.#sent - this.#acked));
      if (this.#clients.length === 0) throw new Error('the server closed all connections');
      const count = Math.min(target - due, room);
      due = target;
      const counts = new Map<Client, number>();
      for (let index = 0; index < count; index++) {
        const client = this.#clients[turn++ % this.#clients.length];
        counts.set(client, (counts.get(client) ?? 0) + 1);
      }
      const dueMs = performance.now();
      for (const [client, messages] of counts) this.#publish(client, messages, dueMs);
    }, TICK_MS);
  }
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const result = await new Load(JSON.parse(process.argv[2]) as LoadSpec).run();
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
}
