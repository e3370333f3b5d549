/**
 * A load of QoS 1 publishes over raw sockets, cheap enough not to be the ceiling itself: the packets are made once, of an
 * answer only the type byte is looked at.
 *
 * Closed loop: every client keeps `inFlight` messages unacknowledged. Run as a child process:
 *   node mqtt-load.js PORT CLIENTS IN_FLIGHT SECONDS READINGS_PER_MESSAGE
 * prints one line of JSON: { messages, seconds, p50Ms, p99Ms, cpuSeconds }. Stops by itself.
 */
import { connect, type Socket } from 'node:net';

const CONNACK = 2;
const PUBACK = 4;

function remainingLength(length: number): number[] {
  const bytes: number[] = [];
  let rest = length;
  do {
    bytes.push((rest % 128) | (rest >= 128 ? 0x80 : 0));
    rest = Math.floor(rest / 128);
  } while (rest > 0);
  return bytes;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.of(bytes.length >> 8, bytes.length & 0xff), bytes]);
}

function packet(typeAndFlags: number, body: Buffer): Buffer {
  return Buffer.concat([Buffer.of(typeAndFlags, ...remainingLength(body.length)), body]);
}

function connectPacket(clientId: string): Buffer {
  return packet(0x10, Buffer.concat([text('MQTT'), Buffer.of(4, 2, 0, 60), text(clientId)]));
}

function payloadOf(device: number, readings: number): string {
  if (readings === 1) return JSON.stringify({ ts: Date.now(), temperature: 20 + (device % 10) / 10 });
  return JSON.stringify(Array.from({ length: readings }, (_, index) => ({ ts: Date.now() + index, temperature: 20 + (index % 10) / 10 })));
}

interface Client {
  readonly socket: Socket;
  readonly template: Buffer;
  /** Where the message id stands in the template. */
  readonly idAt: number;
  readonly sentAtMs: Float64Array;
  nextId: number;
}

const [port, clientCount, inFlight, seconds, readings] = process.argv.slice(2).map(Number);
const latencies: number[] = [];
let acked = 0;
let measuring = false;

function publish(client: Client, count: number): void {
  const { template, idAt } = client;
  const out = Buffer.allocUnsafe(template.length * count);
  const now = performance.now();
  for (let index = 0; index < count; index++) {
    const at = index * template.length;
    template.copy(out, at);
    const id = client.nextId;
    client.nextId = id >= 0xffff ? 1 : id + 1;
    out.writeUInt16BE(id, at + idAt);
    client.sentAtMs[id] = now;
  }
  client.socket.write(out);
}

/** Acknowledgements have four bytes; a CONNACK too. A packet may be torn between two reads. */
function onData(client: Client, state: { held: Buffer }, onConnected: () => void): (chunk: Buffer) => void {
  return (chunk) => {
    const bytes = state.held.length === 0 ? chunk : Buffer.concat([state.held, chunk]);
    let at = 0;
    let answered = 0;
    for (; at + 4 <= bytes.length; at += 4) {
      const type = bytes[at] >> 4;
      if (type === CONNACK) onConnected();
      if (type !== PUBACK) continue;
      answered++;
      if (!measuring) continue;
      acked++;
      // One in 16 is enough for a percentile and costs nothing.
      if ((acked & 15) === 0) latencies.push(performance.now() - client.sentAtMs[bytes.readUInt16BE(at + 2)]);
    }
    state.held = at === bytes.length ? Buffer.alloc(0) : bytes.subarray(at);
    if (answered > 0) publish(client, answered);
  };
}

async function openClient(index: number): Promise<Client> {
  const topic = text(`devices/load-${index}/telemetry`);
  const template = packet(0x32, Buffer.concat([topic, Buffer.of(0, 0), Buffer.from(payloadOf(index, readings))]));
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  const client: Client = { socket, template, idAt: template.indexOf(topic) + topic.length, sentAtMs: new Float64Array(0x10000), nextId: 1 };
  await new Promise<void>((resolve, reject) => {
    socket.on('error', reject);
    socket.on('data', onData(client, { held: Buffer.alloc(0) }, resolve));
    socket.write(connectPacket(`load-${index}`));
  });
  socket.on('close', () => {
    if (measuring) throw new Error('the broker closed a connection under load');
  });
  return client;
}

const clients: Client[] = [];
for (let index = 0; index < clientCount; index++) clients.push(await openClient(index));
for (const client of clients) publish(client, inFlight);
await new Promise((resolve) => setTimeout(resolve, 1_500)); // the first seconds are the compiler's
const cpuStart = process.cpuUsage();
const startMs = performance.now();
measuring = true;
await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
measuring = false;
const elapsed = (performance.now() - startMs) / 1000;
const cpu = process.cpuUsage(cpuStart);
latencies.sort((a, b) => a - b);
const percentile = (ratio: number): number => Number((latencies[Math.floor(latencies.length * ratio)] ?? 0).toFixed(2));
process.stdout.write(
  `${JSON.stringify({ messages: acked, seconds: elapsed, p50Ms: percentile(0.5), p99Ms: percentile(0.99), cpuSeconds: (cpu.user + cpu.system) / 1e6 })}\n`,
);
process.exit(0);
