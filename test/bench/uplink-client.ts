/**
 * A gateway's live lane without a gateway: sends sealed batches as the hub admits them, tells when they are committed.
 *
 * Constraints: one connection, never reconnects; anything unexpected (a refusal, a rewind, a closed socket) is an error and
 * ends the benchmark, because figures after it would mean nothing. Batches wait in memory: the caller bounds them.
 */
import { randomBytes } from 'node:crypto';
import { WebSocket } from 'ws';
import { decodeHubMessage, encodeGatewayMessage } from '../../shared/uplink-codec.ts';
import { UPLINK_PATH, UPLINK_SUBPROTOCOL, type HubMessage } from '../../shared/uplink.ts';
import type { HubProgram } from './processes.ts';

export interface SealedBody {
  readonly body: Uint8Array;
  readonly readingCount: number;
}

export class UplinkClient {
  readonly #socket: WebSocket;
  readonly #epoch = randomBytes(16).toString('hex');
  /** Batches that are not committed, lowest seq first. */
  readonly #held: { readonly seq: number; readonly body: SealedBody; readonly queuedMs: number }[] = [];
  readonly #commitMs: number[] = [];
  #nextSeq = 1;
  #sent = 0;
  #received = 0;
  #inFlightBytes = 0;
  #admittedBytes = 0;
  #onIdle: (() => void) | null = null;
  #failed: Error | null = null;
  #onOpen: { resolve: () => void; reject: (error: Error) => void } | null = null;

  static async connect(hub: HubProgram, token: string): Promise<UplinkClient> {
    const client = new UplinkClient(hub, token);
    await new Promise<void>((resolve, reject) => {
      client.#onOpen = { resolve, reject };
    });
    return client;
  }

  private constructor(hub: HubProgram, token: string) {
    const url = `${hub.url.replace('http', 'ws')}${UPLINK_PATH}`;
    this.#socket = new WebSocket(url, UPLINK_SUBPROTOCOL, { headers: { authorization: `Bearer ${token}` } });
    this.#socket.on('open', () => this.#hello());
    this.#socket.on('message', (data: Buffer) => this.#receive(decodeHubMessage(data)));
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('close', () => this.#fail(new Error('the hub closed a connection')));
  }

  /** ms from queued to heard committed, of all batches so far. */
  get commitMs(): readonly number[] {
    return this.#commitMs;
  }

  get heldBatches(): number {
    return this.#held.length;
  }

  send(body: SealedBody): void {
    if (this.#failed !== null) throw this.#failed;
    this.#held.push({ seq: this.#nextSeq++, body, queuedMs: performance.now() });
    this.#pump();
  }

  /** Resolves when everything that was sent is committed. */
  idle(): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#failed !== null) return reject(this.#failed);
      if (this.#held.length === 0) return resolve();
      const timer = setInterval(() => {
        if (this.#failed === null) return;
        clearInterval(timer);
        reject(this.#failed);
      }, 100);
      this.#onIdle = () => {
        clearInterval(timer);
        resolve();
      };
    });
  }

  close(): void {
    this.#socket.removeAllListeners('close');
    this.#socket.close();
  }

  #hello(): void {
    const epoch = this.#epoch;
    this.#socket.send(
      encodeGatewayMessage({
        type: 'hello',
        gatewayVersion: 'bench',
        wireVersions: [1],
        lakeId: null,
        epoch,
        lane: 'live',
        lanes: [{ epoch, lane: 'live', base: 1, assigned: 0 }],
        backlog: { readings: 0, bytes: 0, exceptions: 0, oldestUs: null },
        clock: { state: 'known', wallUs: Date.now() * 1000 },
      }),
    );
  }

  #receive(message: HubMessage): void {
    if (message.type === 'refuse') return this.#fail(new Error(`the hub refused: ${message.code} ${message.message}`));
    const position = message.type === 'welcome' ? message.position : message;
    if (position.rewind || position.status !== 'open')
      return this.#fail(new Error(`the hub answered ${position.status}, rewind ${position.rewind}`));
    this.#admittedBytes = position.admission.inFlightBytesMax;
    if (message.type === 'welcome') this.#onOpen?.resolve();
    const nowMs = performance.now();
    for (const held of this.#held) {
      if (held.seq <= this.#received) continue;
      if (held.seq > position.received) break;
      this.#inFlightBytes -= held.body.body.length;
    }
    this.#received = Math.max(this.#received, position.received);
    while (this.#held.length > 0 && this.#held[0].seq <= position.committed) {
      this.#commitMs.push(nowMs - this.#held[0].queuedMs);
      this.#held.shift();
    }
    if (this.#held.length === 0) this.#onIdle?.();
    this.#pump();
  }

  #pump(): void {
    for (const { seq, body } of this.#held.slice(Math.max(0, this.#sent + 1 - (this.#held[0]?.seq ?? 0)))) {
      if (this.#inFlightBytes > 0 && this.#inFlightBytes + body.body.length > this.#admittedBytes) break;
      const message = { type: 'batch', seq, generation: 0, readingCount: body.readingCount, exceptionCount: 0, body: body.body } as const;
      this.#socket.send(encodeGatewayMessage(message));
      this.#sent = seq;
      this.#inFlightBytes += body.body.length;
    }
  }

  #fail(error: Error): void {
    this.#failed ??= error;
    this.#onOpen?.reject(error);
  }
}
