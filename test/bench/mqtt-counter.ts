/** A QoS 1 subscriber that only counts and acknowledges. */
import { connect, type Socket } from 'node:net';
import { mqttConnect, mqttSubscribe } from './load-protocols.ts';

const PUBLISH = 3;
const SUBACK = 9;

export class MqttCounter {
  readonly #socket: Socket;
  #held: Buffer = Buffer.alloc(0);
  messages = 0;

  static async subscribe(port: number, topic: string): Promise<MqttCounter> {
    const socket = connect(port, '127.0.0.1');
    const counter = new MqttCounter(socket);
    await new Promise<void>((resolve, reject) => {
      socket.on('error', reject);
      socket.on('data', (chunk: Buffer) => counter.#read(chunk, resolve));
      socket.write(Buffer.concat([mqttConnect('counter'), mqttSubscribe(topic)]));
    });
    return counter;
  }

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  close(): void {
    this.#socket.destroy();
  }

  #read(chunk: Buffer, onReady: () => void): void {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const acks: number[] = [];
    let at = 0;
    for (;;) {
      let length = 0;
      let lengthBytes = 0;
      let more = true;
      while (more && at + 1 + lengthBytes < bytes.length) {
        const byte = bytes[at + 1 + lengthBytes];
        length += (byte & 0x7f) * 128 ** lengthBytes++;
        more = byte >= 0x80;
      }
      const body = at + 1 + lengthBytes;
      if (more || body + length > bytes.length) break;
      const type = bytes[at] >> 4;
      if (type === SUBACK) onReady();
      if (type === PUBLISH) {
        this.messages++;
        const qos = (bytes[at] >> 1) & 3;
        const idAt = body + 2 + bytes.readUInt16BE(body);
        if (qos === 1) acks.push(0x40, 2, bytes[idAt], bytes[idAt + 1]);
      }
      at = body + length;
    }
    if (acks.length > 0) this.#socket.write(Buffer.from(acks));
    this.#held = Buffer.from(bytes.subarray(at));
  }
}
