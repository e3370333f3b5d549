/**
 * Takes telemetry out of a connection's byte stream before aedes sees it: a PUBLISH of QoS 0 or 1 that is neither
 * retained nor a repetition, on a topic that nobody subscribes to, needs the journal and its ack, and nothing of a broker.
 * Everything else goes to aedes, byte for byte, and so does every packet that is not as it should be.
 *
 * Why: aedes and its parser cost 7 µs and some thirty objects per message, most of a gateway's time under load (measured).
 *
 * Constraints: the order of the stream is kept (a packet is only taken here when everything before it was taken here or
 * handed to aedes, which journals as it parses); acks pass through the connection's AckOrder like those of aedes and leave
 * in one write per connection and group commit; a slow reader of acks is waited for, and in the end cut off, by aedes' own
 * drain time-out; at most MESSAGES_WAITING_MAX messages of a connection wait for their commit, then it is not read.
 *
 * Layout: a TCP connection is read into the buffer of all connections (shared-reads.ts), and telemetry is taken there and then;
 * what is not goes to the stream. aedes reads that by `read(null)` on 'readable'; that method is replaced on the one stream, so that
 * it gives aedes only its part. An incomplete packet at the end of a read stays here (`#tail`, at most TAIL_BYTES_MAX; longer ones are
 * aedes' to collect, within the PacketGuard's bound).
 *
 * Nothing is kept that a crash could lose: what is not acknowledged comes again. Not here: connecting, sessions, wills.
 */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TurnBudget } from '../turn-budget.ts';
import type { AckWriter, Settle } from './ack-order.ts';
import { LENGTH_BYTES_MAX, PacketGuard } from './packet-guard.ts';
import type { PublishGate, Sender } from './publish-gate.ts';
import { shareReads } from './shared-reads.ts';

/** The part of a client of aedes 1.2 that its types leave out. */
export interface BrokerClient {
  readonly connected: boolean;
  readonly closed: boolean;
  readonly connackSent: boolean;
  /** Packets that came before the CONNACK; null when they have been handled. */
  readonly _parser: { readonly _queue: readonly unknown[] | null };
  readonly _keepaliveInterval: number;
  readonly _keepaliveTimer: { refresh(): void } | null;
  waitForDrain(callback: () => void): void;
  emit(event: 'error', error: Error): unknown;
}

export interface DirectIntakeOptions {
  readonly gate: PublishGate;
  /** Shared by all connections. */
  readonly turns: TurnBudget;
  readonly packetBytesMax: number;
  readonly topicLevelsMax: number;
  /** Does anybody, connected or not, subscribe to anything? */
  readonly hasSubscribers: () => boolean;
}

/** A device has tens in flight; half of what is remembered of a client to know its redeliveries (KEYS_PER_CLIENT_MAX). */
const MESSAGES_WAITING_MAX = 512;
/** An incomplete packet is copied for each further piece of it: short ones only. */
const TAIL_BYTES_MAX = 16 * 1024;
/** Of a read: to put it off would cost as much as to take it. */
const AT_ONCE_BYTES_MAX = 512;
/** Room that a connection keeps for its next acks: 8 bytes each. */
const ACKS_KEPT_MAX = 64;
const PUBLISH_QOS0 = 0x30;
const PUBLISH_QOS1 = 0x32;
const PUBACK = 0x40;
const PUBACK_BYTES = 4;
const INCOMPLETE = -1;
const NOT_HERE = -2;

export class DirectIntake implements AckWriter {
  readonly #options: DirectIntakeOptions;
  readonly #stream: Duplex;
  readonly #read: (size?: number) => Buffer | null;
  readonly #guard: PacketGuard;
  #client: BrokerClient | null = null;
  #sender: Sender | null = null;
  #tail: Buffer | null = null;
  /** Acknowledged in this turn, not written yet: the first #ackCount; the list is used again. */
  #acks: number[] = [];
  #ackCount = 0;
  #draining = false;
  /** `read` was refused: aedes must be told when there is room again. */
  #asleep = false;
  /** `read` was refused for this turn, and is offered again in one of the next. */
  #isPutOff = false;
  /** The next `read` is the one that was put off. */
  #isItsTurn = false;
  // A device mostly publishes on one topic: its bytes are compared, not decoded.
  #topicBytes: Uint8Array = new Uint8Array(0);
  #topic = '';
  /** Where the body of the frame at hand starts. */
  #bodyAt = 0;
  readonly #onRefused: Settle = (error) => {
    if (error !== null) this.#fail(error);
  };
  readonly #wake = (): void => void this.#stream.emit('readable');
  readonly #readAgain = (): void => {
    this.#isPutOff = false;
    this.#isItsTurn = true;
    this.#wake();
    this.#isItsTurn = false;
  };
  readonly #flushNow = (): void => this.flush();

  /** Takes the stream over; `attach` must follow before anything is read. */
  constructor(stream: Duplex, options: DirectIntakeOptions) {
    this.#stream = stream;
    this.#options = options;
    this.#guard = new PacketGuard(options.packetBytesMax);
    this.#read = stream.read.bind(stream) as (size?: number) => Buffer | null;
    // Streams call `read(0)` themselves, to be filled: that takes nothing.
    stream.read = (size?: number) => (size === 0 ? this.#read(0) : this.#readForBroker());
  }

  attach(client: BrokerClient): void {
    this.#client = client;
  }

  /** Takes telemetry as it is read, before it is the stream's; for a socket of which nothing was read. */
  readDirectly(socket: Socket): void {
    shareReads(socket, (length, buffer) => this.#onRead(buffer, length));
  }

  /** @returns false: the stream has enough */
  #onRead(buffer: Buffer, length: number): boolean {
    let taken = 0;
    // Only between packets of which aedes has nothing, and in their order.
    if (this.#stream.readableLength === 0 && this.#tail === null && this.#guard.bodyBytesOpen === 0 && this.#isReady()) {
      if (length <= AT_ONCE_BYTES_MAX || !this.#options.turns.isSpent) taken = this.#takePublishes(buffer, length);
    }
    // The buffer is that of all connections.
    return taken === length || this.#stream.push(Buffer.from(buffer.subarray(taken, length)));
  }

  /** From now on messages may be taken: the client has said who it is. */
  open(sender: Sender): void {
    this.#sender = sender;
  }

  acknowledge(messageId: number, error: Error | null): void {
    if (error !== null) return this.#fail(error);
    if (this.#ackCount === this.#acks.length) this.#acks.push(messageId);
    else this.#acks[this.#ackCount] = messageId;
    if (++this.#ackCount === 1) this.#options.turns.soon(this.#flushNow);
  }

  flush(): void {
    const count = this.#ackCount;
    if (count > 0) {
      this.#ackCount = 0;
      this.#writeAcks(count);
      if (count > ACKS_KEPT_MAX) this.#acks = [];
    }
    if (this.#asleep && !this.#full) {
      this.#asleep = false;
      // Later: the caller may be inside the parser of aedes, which is not re-entrant.
      process.nextTick(this.#wake);
    }
  }

  #writeAcks(count: number): void {
    const client = this.#client as BrokerClient;
    // Nobody is acknowledged on a connection that has failed: the order of its acks would have a hole.
    if (client.closed || !client.connected || this.#stream.destroyed) return;
    const bytes = Buffer.allocUnsafe(count * PUBACK_BYTES);
    for (let index = 0, at = 0; index < count; index++, at += PUBACK_BYTES) {
      const messageId = this.#acks[index];
      bytes[at] = PUBACK;
      bytes[at + 1] = 2;
      bytes[at + 2] = messageId >> 8;
      bytes[at + 3] = messageId & 0xff;
    }
    if (this.#stream.write(bytes) || this.#draining) return;
    this.#draining = true;
    client.waitForDrain(() => {
      this.#draining = false;
      this.flush();
    });
  }

  get #full(): boolean {
    return this.#draining || (this.#sender !== null && this.#sender.order.size >= MESSAGES_WAITING_MAX);
  }

  #readForBroker(): Buffer | null {
    if (this.#full) {
      this.#asleep = true;
      return null;
    }
    if (!this.#isItsTurn && this.#options.turns.isSpent) {
      if (!this.#isPutOff) this.#options.turns.later(this.#readAgain);
      this.#isPutOff = true;
      return null;
    }
    this.#isItsTurn = false;
    const chunk = this.#read();
    if (chunk === null) return null;
    const bytes = this.#tail === null ? chunk : Buffer.concat([this.#tail, chunk]);
    this.#tail = null;
    const rest = this.#take(bytes);
    if (rest === null) return null;
    const fault = this.#guard.scan(rest);
    if (fault === null) return rest;
    this.#stream.destroy(fault);
    return null;
  }

  /** Takes what is telemetry. @returns what aedes is to have now; null: nothing */
  #take(bytes: Buffer): Buffer | null {
    if (!this.#isReady()) return bytes;
    const open = this.#guard.bodyBytesOpen;
    if (open !== 0) {
      // aedes has the start of this packet and gets the rest of it; what follows is looked at once it has.
      if (open === null || open >= bytes.length) return bytes;
      this.#stream.unshift(bytes.subarray(open));
      return bytes.subarray(0, open);
    }
    const taken = this.#takePublishes(bytes, bytes.length);
    if (taken === bytes.length) return null;
    if (this.#full) {
      this.#asleep = true;
      this.#stream.unshift(bytes.subarray(taken));
      return null;
    }
    return this.#keepTail(bytes, taken);
  }

  /** The handshake is over, aedes has nothing of this connection in its own queue, and nobody listens. */
  #isReady(): boolean {
    const client = this.#client;
    return (
      this.#sender !== null &&
      client !== null &&
      client.connected &&
      client.connackSent &&
      !client.closed &&
      client._parser._queue === null &&
      !this.#options.hasSubscribers()
    );
  }

  /** @returns how many of the `length` bytes were taken: whole packets from the front */
  #takePublishes(bytes: Buffer, length: number): number {
    let at = 0;
    const client = this.#client as BrokerClient;
    while (at < length && !this.#full) {
      if (client.closed) return length; // a message was refused: nothing behind it counts
      const type = bytes[at];
      if (type !== PUBLISH_QOS1 && type !== PUBLISH_QOS0) break;
      const end = this.#frameEnd(bytes, at, length);
      if (end < 0 || !this.#publish(bytes, this.#bodyAt, end, type)) break;
      at = end;
    }
    if (at > 0 && client._keepaliveInterval > 0) client._keepaliveTimer?.refresh();
    return at;
  }

  /** @returns aedes' part: whole packets, unless one is too long to be kept */
  #keepTail(bytes: Buffer, from: number): Buffer | null {
    let at = from;
    let end = this.#frameEnd(bytes, at, bytes.length);
    while (end >= 0 && end < bytes.length) {
      at = end;
      end = this.#frameEnd(bytes, at, bytes.length);
    }
    // A wrong length is the guard's to refuse.
    if (end !== INCOMPLETE || bytes.length - at > TAIL_BYTES_MAX) return bytes.subarray(from);
    this.#tail = Buffer.from(bytes.subarray(at)); // a copy: what is kept must not hold a whole read
    return at === from ? null : bytes.subarray(from, at);
  }

  /** @returns where the frame that starts at `at` ends; INCOMPLETE; NOT_HERE: its length is wrong */
  #frameEnd(bytes: Buffer, at: number, length: number): number {
    let bodyBytes = 0;
    for (let index = 0, scale = 1; index < LENGTH_BYTES_MAX; index++, scale *= 128) {
      const byteAt = at + 1 + index;
      if (byteAt >= length) return INCOMPLETE;
      const byte = bytes[byteAt];
      bodyBytes += (byte & 0x7f) * scale;
      if (byte >= 0x80) continue;
      if (bodyBytes > this.#options.packetBytesMax) return NOT_HERE;
      this.#bodyAt = byteAt + 1;
      const end = this.#bodyAt + bodyBytes;
      return end > length ? INCOMPLETE : end;
    }
    return NOT_HERE;
  }

  /** @returns false: aedes shall judge this packet */
  #publish(bytes: Buffer, bodyAt: number, end: number, type: number): boolean {
    const qos = type === PUBLISH_QOS1 ? 1 : 0;
    const topicAt = bodyAt + 2;
    if (topicAt > end) return false;
    const topicEnd = topicAt + (bytes[bodyAt] << 8) + bytes[bodyAt + 1];
    const payloadAt = topicEnd + 2 * qos;
    if (payloadAt > end || !this.#readTopic(bytes, topicAt, topicEnd)) return false;
    const messageId = qos === 0 ? undefined : (bytes[topicEnd] << 8) + bytes[topicEnd + 1];
    if (messageId === 0) return false;
    const message = { topic: this.#topic, payload: bytes.subarray(payloadAt, end), qos, dup: false, messageId } as const;
    this.#options.gate.publish(this.#sender, message, this.#onRefused, true);
    return true;
  }

  /** Sets `#topic`. @returns false for one that aedes refuses, or that is the broker's own */
  #readTopic(bytes: Buffer, from: number, to: number): boolean {
    const known = this.#topicBytes;
    const length = to - from;
    if (known.length === length && length > 0) {
      let same = 0;
      while (same < length && known[same] === bytes[from + same]) same++;
      if (same === length) return true;
    }
    const topic = bytes.toString('utf8', from, to);
    if (topic === '' || topic.startsWith('$') || topic.includes('+') || topic.includes('#')) return false;
    let levels = 1;
    for (let at = topic.indexOf('/'); at >= 0; at = topic.indexOf('/', at + 1)) levels++;
    if (levels > this.#options.topicLevelsMax) return false;
    this.#topic = topic;
    this.#topicBytes = Uint8Array.from(bytes.subarray(from, to));
    return true;
  }

  #fail(error: Error): void {
    const client = this.#client as BrokerClient;
    if (!client.closed) client.emit('error', error);
  }
}
