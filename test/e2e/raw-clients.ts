/**
 * Clients that send what no client library would: bytes over TCP, MQTT packets by hand, WebSocket frames of any kind.
 *
 * Every exchange ends by itself: with the peer's close, with the answer that it waits for, or with its time-out.
 */
import { connect } from 'node:net';
import WebSocket from 'ws';

export interface Exchange {
  readonly received: Buffer;
  /** The peer ended it. */
  readonly closed: boolean;
}

const EXCHANGE_TIMEOUT_MS = 5_000;

export interface ExchangeOptions {
  /** Says nothing more after the bytes. */
  readonly half?: boolean;
  /** The answer that ends the exchange, found in what was received. */
  readonly until?: (received: Buffer) => boolean;
  readonly timeoutMs?: number;
}

/** Sends the bytes as they are. */
export function exchange(port: number, bytes: Uint8Array, options: ExchangeOptions = {}): Promise<Exchange> {
  return new Promise((resolve) => {
    let received = Buffer.alloc(0);
    const socket = connect(port, '127.0.0.1');
    const finish = (closed: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ received, closed });
    };
    const timer = setTimeout(() => finish(false), options.timeoutMs ?? EXCHANGE_TIMEOUT_MS);
    socket.on('connect', () => {
      if (options.half === true) socket.end(bytes);
      else socket.write(bytes);
    });
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (options.until?.(received) === true) finish(false);
    });
    // A peer that closes with our bytes unread resets the connection: as good an end as any.
    socket.on('error', () => finish(true));
    socket.on('end', () => finish(true));
    socket.on('close', () => finish(true));
  });
}

export interface WebSocketExchange {
  readonly messages: readonly Buffer[];
  /** null: the time-out came first. */
  readonly closeCode: number | null;
  /** HTTP status and body of an upgrade that was refused. */
  readonly refused: { readonly status: number; readonly body: string } | null;
}

export interface WebSocketExchangeOptions {
  readonly protocols?: string[];
  readonly headers?: Record<string, string>;
  /** What is sent; text goes as a text frame. */
  readonly frames: readonly (Uint8Array | string)[];
  /** Sent once the peer has answered. */
  readonly framesAfterAnswer?: readonly Uint8Array[];
  readonly until?: (messages: readonly Buffer[]) => boolean;
  readonly timeoutMs?: number;
}

export function webSocketExchange(url: string, options: WebSocketExchangeOptions): Promise<WebSocketExchange> {
  return new Promise((resolve) => {
    const messages: Buffer[] = [];
    const socket = new WebSocket(url, options.protocols ?? [], { headers: options.headers ?? {}, perMessageDeflate: false });
    let refused: WebSocketExchange['refused'] = null;
    const finish = (closeCode: number | null): void => {
      clearTimeout(timer);
      resolve({ messages, closeCode, refused });
      socket.terminate();
    };
    const timer = setTimeout(() => finish(null), options.timeoutMs ?? EXCHANGE_TIMEOUT_MS);
    socket.on('open', () => {
      for (const frame of options.frames) socket.send(frame, () => undefined); // a close in between shows as such
    });
    socket.on('message', (data: Buffer) => {
      if (messages.push(data) === 1) for (const frame of options.framesAfterAnswer ?? []) socket.send(frame, () => undefined);
      if (options.until?.(messages) === true) finish(null);
    });
    socket.on('unexpected-response', (_request, response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      response.on('end', () => {
        refused = { status: response.statusCode ?? 0, body };
        finish(null);
      });
    });
    socket.on('error', () => undefined); // 'close' follows
    socket.on('close', (code) => finish(code));
  });
}

/** An MQTT packet with its remaining length. @param type type and flags, the first byte */
export function mqttPacket(type: number, body: Uint8Array): Buffer {
  const length: number[] = [];
  let rest = body.length;
  do {
    length.push((rest % 128) | (rest >= 128 ? 128 : 0));
    rest = Math.floor(rest / 128);
  } while (rest > 0);
  return Buffer.concat([Buffer.from([type, ...length]), body]);
}

export function mqttString(text: string | Uint8Array): Buffer {
  const bytes = Buffer.from(text as string);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

const CONNECT_HEAD = Buffer.concat([mqttString('MQTT'), Buffer.from([4, 2, 0, 60])]);

export function mqttConnect(clientId: string | Uint8Array): Buffer {
  return mqttPacket(0x10, Buffer.concat([CONNECT_HEAD, mqttString(clientId)]));
}

/** A PUBLISH at QoS 1. */
export function mqttPublish(topic: string | Uint8Array, payload: Uint8Array | string, messageId = 1): Buffer {
  const id = Buffer.alloc(2);
  id.writeUInt16BE(messageId);
  return mqttPacket(0x32, Buffer.concat([mqttString(topic), id, Buffer.from(payload as string)]));
}

export const MQTT_PING = Buffer.from([0xc0, 0]);

/** The packets of a server's answer, by their first byte; what is cut at the end is left out. */
export function mqttPackets(received: Buffer): { readonly type: number; readonly body: Buffer }[] {
  const packets: { type: number; body: Buffer }[] = [];
  for (let at = 0; at + 2 <= received.length;) {
    const length = received[at + 1] ?? 0; // a server's answers here are all below 128 bytes
    if (at + 2 + length > received.length) break;
    packets.push({ type: received[at] ?? 0, body: received.subarray(at + 2, at + 2 + length) });
    at += 2 + length;
  }
  return packets;
}

export const PUBACK = 0x40;
export const PINGRESP = 0xd0;
