/** MQTT 3.1.1 and NATS as a load generator needs them: packets made once, answers only counted. */
import { Payload, writeDigits } from './payload.ts';

/** One connection's view of a protocol. */
export interface LoadProtocol {
  /** Sent when the socket is open. */
  readonly hello: Buffer;
  readonly messageBytes: number;
  /** Writes a message with an id in [1, 65535]. */
  write(out: Buffer, at: number, id: number, nowMs: number): void;
  /** Reads what came; packets may be torn between two reads. */
  read(chunk: Buffer, events: { onReady: () => void; onAck: (id: number) => void; reply: (bytes: Buffer) => void }): void;
}

function remainingLength(length: number): number[] {
  const bytes: number[] = [];
  let rest = length;
  do {
    bytes.push((rest % 128) | (rest >= 128 ? 0x80 : 0));
    rest = Math.floor(rest / 128);
  } while (rest > 0);
  return bytes;
}

function mqttText(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.of(bytes.length >> 8, bytes.length & 0xff), bytes]);
}

function mqttPacket(typeAndFlags: number, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.of(typeAndFlags, ...remainingLength(body.length)), body]);
}

/** CONNECT; a session that is not clean keeps its subscriptions and what arrives for them. */
export function mqttConnect(clientId: string, cleanSession = true): Buffer {
  return mqttPacket(0x10, mqttText('MQTT'), Buffer.of(4, cleanSession ? 2 : 0, 0, 0), mqttText(clientId));
}

export function mqttSubscribe(topic: string, id = 1): Buffer {
  return mqttPacket(0x82, Buffer.of(id >> 8, id & 0xff), mqttText(topic), Buffer.of(1));
}

/** PUBLISH at QoS 1. */
export function mqttPublish(topic: string, id: number, payload: string): Buffer {
  return mqttPacket(0x32, mqttText(topic), Buffer.of(id >> 8, id & 0xff), Buffer.from(payload));
}

const CONNACK = 2;
const PUBACK = 4;

/** QoS 1 publishes of one device. Every packet that answers has four bytes. */
export class MqttDevice implements LoadProtocol {
  readonly hello: Buffer;
  readonly messageBytes: number;
  readonly #payload: Payload;
  readonly #head: Buffer;
  #held: Buffer = Buffer.alloc(0);

  constructor(name: string, readings: number, seed: number) {
    this.hello = mqttConnect(name);
    this.#payload = new Payload(readings, seed);
    const packet = mqttPacket(0x32, mqttText(`devices/${name}/telemetry`), Buffer.of(0, 0), this.#payload.bytes);
    this.#head = packet.subarray(0, packet.length - this.#payload.bytes.length);
    this.messageBytes = packet.length;
  }

  write(out: Buffer, at: number, id: number, nowMs: number): void {
    this.#head.copy(out, at);
    out.writeUInt16BE(id, at + this.#head.length - 2);
    this.#payload.writeTo(out, at + this.#head.length, nowMs);
  }

  read(chunk: Buffer, { onReady, onAck }: Parameters<LoadProtocol['read']>[1]): void {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    let at = 0;
    for (; at + 4 <= bytes.length; at += 4) {
      const type = bytes[at] >> 4;
      if (type === CONNACK) onReady();
      else if (type === PUBACK) onAck(bytes.readUInt16BE(at + 2));
    }
    this.#held = Buffer.from(bytes.subarray(at));
  }
}

const ID_DIGITS = 5;

/** Publishes to a JetStream subject; the stream's acknowledgement comes as a message to the inbox of the id. */
export class NatsDevice implements LoadProtocol {
  readonly hello: Buffer;
  readonly messageBytes: number;
  readonly #payload: Payload;
  readonly #head: Buffer;
  readonly #idAt: number;
  #held: Buffer = Buffer.alloc(0);

  constructor(name: string, readings: number, seed: number) {
    this.#payload = new Payload(readings, seed);
    const inbox = `_INBOX.${name}.`;
    this.hello = Buffer.from(`CONNECT {"verbose":false,"pedantic":false,"name":"${name}"}\r\nSUB ${inbox}* 1\r\nPING\r\n`);
    this.#head = Buffer.from(`PUB devices.${name} ${inbox}${'0'.repeat(ID_DIGITS)} ${this.#payload.bytes.length}\r\n`);
    this.#idAt = this.#head.indexOf(inbox) + inbox.length;
    this.messageBytes = this.#head.length + this.#payload.bytes.length + 2;
  }

  write(out: Buffer, at: number, id: number, nowMs: number): void {
    this.#head.copy(out, at);
    writeDigits(out, at + this.#idAt, ID_DIGITS, id);
    this.#payload.writeTo(out, at + this.#head.length, nowMs);
    out.write('\r\n', at + this.messageBytes - 2, 'latin1');
  }

  read(chunk: Buffer, { onReady, onAck, reply }: Parameters<LoadProtocol['read']>[1]): void {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    let at = 0;
    for (;;) {
      const end = bytes.indexOf('\r\n', at);
      if (end < 0) break;
      const first = bytes[at];
      if (first === 0x4d) {
        // MSG <subject> <sid> <bytes>
        const [, subject, , length] = bytes.toString('latin1', at, end).split(' ');
        const next = end + 2 + Number(length) + 2;
        if (next > bytes.length) break;
        if (bytes.indexOf('"error"', end + 2) >= 0 && bytes.toString('latin1', end, next).includes('"error"')) {
          throw new Error(`NATS refused a message: ${bytes.toString('latin1', end + 2, next)}`);
        }
        onAck(Number(subject.slice(subject.lastIndexOf('.') + 1)));
        at = next;
        continue;
      }
      if (bytes.toString('latin1', at, at + 4) === 'PING') reply(Buffer.from('PONG\r\n'));
      else if (bytes.toString('latin1', at, at + 4) === 'PONG') onReady();
      else if (first === 0x2d) throw new Error(`NATS: ${bytes.toString('latin1', at, end)}`);
      at = end + 2;
    }
    this.#held = Buffer.from(bytes.subarray(at));
  }
}
