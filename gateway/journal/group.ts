/**
 * One group of messages on its way into the journal: columns of readings, and per message where its part ends.
 *
 * `OpenGroup` gathers it on the thread that owns the sockets; `Group` is what crosses to the journal (its arrays are
 * transferred and come back to be filled again, so that a steady load allocates nothing). All arrays of a group lie in one
 * buffer: each buffer that is transferred costs both threads some microseconds.
 */
import type { ExceptionRecord } from '../../shared/exception.ts';
import type { ReadingSink, RegisteredSeries } from './journal-api.ts';
import { changeBytes, type SessionChange } from './sessions.ts';

/** What a key entry says; stored as one byte. */
export const KEY_QOS1 = 1;
export const KEY_QOS2_OPEN = 2;
export const KEY_QOS2_RELEASE = 3;
export const KEY_IDEMPOTENCY = 4;
export const KEY_POSITION = 5;

/** The typed arrays of a group; lengths are capacities, the counts stand in `Group`. */
export interface GroupArrays {
  /** Registry ids. */
  readonly series: Uint32Array<ArrayBuffer>;
  /** µs, or NaN: absent. */
  readonly eventTimeUs: Float64Array<ArrayBuffer>;
  readonly value: Float64Array<ArrayBuffer>;
  /** 0 = no text, k = texts[k - 1]. */
  readonly text: Uint32Array<ArrayBuffer>;
  /** Per message: readings, exceptions and keys up to and including it; its arrival (monotonic µs). */
  readonly messageReadingEnd: Uint32Array<ArrayBuffer>;
  readonly messageExceptionEnd: Uint32Array<ArrayBuffer>;
  readonly messageKeyEnd: Uint32Array<ArrayBuffer>;
  readonly messageArrivalUs: Float64Array<ArrayBuffer>;
  /** Per key: index into `clients`, message id, hash (idempotency keys: time taken, wall clock µs; positions: the position), KEY_… */
  readonly keyClient: Uint32Array<ArrayBuffer>;
  readonly keyMessageId: Uint32Array<ArrayBuffer>;
  readonly keyHash: Float64Array<ArrayBuffer>;
  readonly keyKind: Uint8Array<ArrayBuffer>;
}

export interface Group {
  readonly arrays: GroupArrays;
  readonly readings: number;
  readonly messages: number;
  readonly keys: number;
  readonly hasTexts: boolean;
  readonly texts: readonly string[];
  readonly exceptions: readonly ExceptionRecord[];
  /** Of sessions and retained messages, with the index of the message that they belong to; ascending. */
  readonly changes: readonly { readonly message: number; readonly change: SessionChange }[];
  /** MQTT client ids, idempotency key digests, or names of sources. */
  readonly clients: readonly string[];
  /** Series that the journal has not seen, with consecutive ids from `newSeriesFrom`. */
  readonly newSeriesFrom: number;
  readonly newSeries: readonly RegisteredSeries[];
}

const READINGS_CAPACITY = 4096;
const MESSAGES_CAPACITY = 1024;

export function allocateGroupArrays(readings: number = READINGS_CAPACITY, messages: number = MESSAGES_CAPACITY): GroupArrays {
  // A message has at most one redelivery key and either an idempotency key or a position.
  const keys = 2 * messages;
  const buffer = new ArrayBuffer(8 * (2 * readings + messages + keys) + 4 * (2 * readings + 3 * messages + 2 * keys) + keys);
  let at = 0;
  const doubles = (length: number): Float64Array<ArrayBuffer> => new Float64Array(buffer, (at += 8 * length) - 8 * length, length);
  const words = (length: number): Uint32Array<ArrayBuffer> => new Uint32Array(buffer, (at += 4 * length) - 4 * length, length);
  // In the order of their alignment.
  return {
    eventTimeUs: doubles(readings),
    value: doubles(readings),
    messageArrivalUs: doubles(messages),
    keyHash: doubles(keys),
    series: words(readings),
    text: words(readings),
    messageReadingEnd: words(messages),
    messageExceptionEnd: words(messages),
    messageKeyEnd: words(messages),
    keyClient: words(keys),
    keyMessageId: words(keys),
    keyKind: new Uint8Array(buffer, at, keys),
  };
}

/** What to name in a transfer list. */
export function groupBuffers(arrays: GroupArrays): ArrayBuffer[] {
  return [arrays.series.buffer];
}

function copyInto(from: GroupArrays, to: GroupArrays): GroupArrays {
  for (const key of Object.keys(from) as (keyof GroupArrays)[]) {
    to[key].set(from[key]);
  }
  return to;
}

export class OpenGroup implements ReadingSink {
  #arrays: GroupArrays;
  #readings = 0;
  #messages = 0;
  #keys = 0;
  #hasTexts = false;
  #texts: string[] = [];
  #exceptions: ExceptionRecord[] = [];
  #changes: { message: number; change: SessionChange }[] = [];
  #clients: string[] = [];
  /** Estimate of what the group holds in memory. */
  #bytes = 0;
  // Where the group stood before the message at hand: fields, so that marking allocates nothing.
  #markReadings = 0;
  #markTexts = 0;
  #markExceptions = 0;
  #markHasTexts = false;
  #markBytes = 0;

  constructor(arrays: GroupArrays = allocateGroupArrays()) {
    this.#arrays = arrays;
  }

  get readings(): number {
    return this.#readings;
  }

  get messages(): number {
    return this.#messages;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get clients(): number {
    return this.#clients.length;
  }

  /** Arrival of the first message; null when there is none. */
  get arrivalUs(): number | null {
    return this.#messages === 0 ? null : this.#arrays.messageArrivalUs[0];
  }

  add(seriesId: number, eventTimeUs: number, value: number, text: string | null): void {
    const index = this.#readings;
    if (index === this.#arrays.series.length) this.#grow(index * 2, this.#arrays.messageReadingEnd.length);
    this.#readings = index + 1;
    const arrays = this.#arrays;
    arrays.series[index] = seriesId;
    arrays.eventTimeUs[index] = eventTimeUs;
    arrays.value[index] = value;
    this.#bytes += 24;
    if (text === null) {
      arrays.text[index] = 0;
    } else {
      this.#hasTexts = true;
      arrays.text[index] = this.#texts.push(text);
      this.#bytes += 2 * text.length;
    }
  }

  exception(record: ExceptionRecord): void {
    this.#exceptions.push(record);
    this.#bytes += 256 + (record.payload?.length ?? 0);
  }

  /** Remembers where a message starts, for `rollback`. */
  mark(): void {
    this.#markReadings = this.#readings;
    this.#markTexts = this.#texts.length;
    this.#markExceptions = this.#exceptions.length;
    this.#markHasTexts = this.#hasTexts;
    this.#markBytes = this.#bytes;
  }

  /** Forgets everything since `mark`. */
  rollback(): void {
    this.#readings = this.#markReadings;
    this.#texts.length = this.#markTexts;
    this.#exceptions.length = this.#markExceptions;
    this.#hasTexts = this.#markHasTexts;
    this.#bytes = this.#markBytes;
  }

  /** Names a client for `key`. */
  addClient(clientId: string): number {
    this.#bytes += 2 * clientId.length;
    return this.#clients.push(clientId) - 1;
  }

  /** A key of the message that `endMessage` ends next. */
  key(kind: number, client: number, messageId: number, hash: number): void {
    const index = this.#keys;
    if (index === this.#arrays.keyClient.length) this.#grow(this.#arrays.series.length, this.#arrays.messageReadingEnd.length * 2);
    this.#keys = index + 1;
    this.#arrays.keyKind[index] = kind;
    this.#arrays.keyClient[index] = client;
    this.#arrays.keyMessageId[index] = messageId;
    this.#arrays.keyHash[index] = hash;
    this.#bytes += 24;
  }

  /** A change that the message brings that `endMessage` ends next. */
  change(change: SessionChange): void {
    this.#changes.push({ message: this.#messages, change });
    this.#bytes += changeBytes(change);
  }

  /** @returns the index of the message in the group */
  endMessage(arrivalUs: number): number {
    const index = this.#messages;
    if (index === this.#arrays.messageReadingEnd.length) this.#grow(this.#arrays.series.length, index * 2);
    this.#messages = index + 1;
    this.#arrays.messageReadingEnd[index] = this.#readings;
    this.#arrays.messageExceptionEnd[index] = this.#exceptions.length;
    this.#arrays.messageKeyEnd[index] = this.#keys;
    this.#arrays.messageArrivalUs[index] = arrivalUs;
    this.#bytes += 20;
    return index;
  }

  /** Hands the group over; this object must not be used again until `reopen`. */
  take(newSeriesFrom: number, newSeries: readonly RegisteredSeries[]): Group {
    return {
      arrays: this.#arrays,
      readings: this.#readings,
      messages: this.#messages,
      keys: this.#keys,
      hasTexts: this.#hasTexts,
      texts: this.#texts,
      exceptions: this.#exceptions,
      changes: this.#changes,
      clients: this.#clients,
      newSeriesFrom,
      newSeries,
    };
  }

  reopen(arrays: GroupArrays): void {
    this.#arrays = arrays;
    this.#readings = 0;
    this.#messages = 0;
    this.#keys = 0;
    this.#hasTexts = false;
    this.#texts = [];
    this.#exceptions = [];
    this.#changes = [];
    this.#clients = [];
    this.#bytes = 0;
  }

  #grow(readings: number, messages: number): void {
    this.#arrays = copyInto(this.#arrays, allocateGroupArrays(readings, messages));
  }
}
