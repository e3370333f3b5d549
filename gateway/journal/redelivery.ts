/**
 * What makes a message recognisable when it comes again: the keys of design section 5, in memory and as a log.
 *
 * Constraints: recording costs O(1) per message and allocates nothing in the steady state; a look-up (only DUP=1, QoS 2
 * and keyed HTTP ask) may cost a scan of one client's ring. Bounded per client and in total; the least recently active
 * client loses its oldest keys first, because a key matters for as long as its message may be in flight, and a busy
 * neighbour must not push out a quiet device's last message.
 *
 * Each entry carries the number of the group commit that makes it durable; the journal's answer says up to where groups
 * are durable. The log is replayed by the same class: one blob per commit, folded into one snapshot when it grows. A crash
 * between any two blobs leaves exactly the keys of the groups that were committed, since they share their transaction.
 *
 * A QoS 1 key in the log is the most of what a short message costs the flash, so it is packed: of the hash 32 bits, which
 * are compared only under the same client and message id, and of the id its distance to the client's one before. The hashes stand
 * behind all entries: nothing makes them shorter, and between the entries they would keep those from being deflated well.
 *
 * It does not decide what to do with a redelivery, and it keeps no payloads.
 */
import { createHash } from 'node:crypto';
import { ByteReader, type ByteWriter } from './bytes.ts';
import { KEY_IDEMPOTENCY, KEY_POSITION, KEY_QOS1, KEY_QOS2_OPEN, KEY_QOS2_RELEASE, type Group } from './group.ts';

/** A client has at most 65,535 in flight, real ones below 100 (mosquitto 20, paho 20, MQTT.js by receive maximum). */
export const KEYS_PER_CLIENT_MAX = 1024;
/** 16 bytes each in memory, at most twice that where rings are half full: 6.4 MB. */
export const KEYS_MAX = 200_000;
export const QOS2_OPEN_MAX = 100_000;
/** Digests of 22 characters with their times: about 10 MB. */
export const IDEMPOTENCY_KEYS_MAX = 50_000;
export const IDEMPOTENCY_US_MAX = 24 * 3600 * 1_000_000;
/** Sources whose position is known: files that were read count among them, so that their content is known again. */
export const POSITIONS_MAX = 10_000;

/** Group number of what is durable since before this process. */
const DURABLE_BEFORE = 0;
const LOG_VERSION = 1;
const RING_CAPACITY_MIN = 8;
const NO_INDEX = (): number => 0;
/** In the log, beside the kinds of group.ts: a QoS 1 key, packed. */
const KIND_QOS1_PACKED = 65;

interface Ring {
  readonly clientId: string;
  /** The clients that were last active before and after this one. */
  older: Ring | null;
  newer: Ring | null;
  /** Two places for each key, in one array since a small one is mostly its own overhead: `packKey`, and its group. */
  keys: Float64Array;
  capacity: number;
  head: number;
  count: number;
  /** The group in which this client was last active, and its index among that group's clients. */
  activeGroup: number;
  clientIndex: number;
}

function emptyRing(clientId: string): Ring {
  return {
    clientId,
    older: null,
    newer: null,
    keys: new Float64Array(2 * RING_CAPACITY_MIN),
    capacity: RING_CAPACITY_MIN,
    head: 0,
    count: 0,
    activeGroup: -1,
    clientIndex: 0,
  };
}

const HASHES = 2 ** 32;
/** Added to a key that was taken back: its message id is still the client's newest, and no hash fits it. */
const TAKEN_BACK = 0.5;

/** 16 bits of message id above 32 of hash: exact in a double. */
function packKey(messageId: number, hash: number): number {
  return messageId * HASHES + (hash >>> 0);
}

export interface RedeliveryLimits {
  readonly keysPerClientMax: number;
  readonly keysMax: number;
  readonly qos2OpenMax: number;
  readonly idempotencyKeysMax: number;
}

export const REDELIVERY_LIMITS: RedeliveryLimits = {
  keysPerClientMax: KEYS_PER_CLIENT_MAX,
  keysMax: KEYS_MAX,
  qos2OpenMax: QOS2_OPEN_MAX,
  idempotencyKeysMax: IDEMPOTENCY_KEYS_MAX,
};

/** Fixed size whatever the client sends; SHA-256, because here a collision would drop another client's data. */
export function idempotencyDigest(key: string): string {
  return createHash('sha256').update(key).digest('base64url').slice(0, 22);
}

export class RedeliveryKeys {
  readonly #limits: RedeliveryLimits;
  readonly #rings = new Map<string, Ring>();
  // In the order of last activity, as a list: a Map that is put in order again for each message is copied every few thousand.
  #oldest: Ring | null = null;
  #newest: Ring | null = null;
  #keys = 0;
  /** client NUL id → what was taken under it; the hash tells a message of a new session from the one that was left open. */
  readonly #qos2 = new Map<string, { readonly group: number; readonly hash: number }>();
  /** digest → [group, taken µs] in the order taken */
  readonly #idempotency = new Map<string, { readonly group: number; readonly takenUs: number; readonly takenMonotonicUs: number }>();
  /** source → durable position, the longest unmoved first */
  readonly #positions = new Map<string, number>();

  constructor(limits: RedeliveryLimits = REDELIVERY_LIMITS) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#keys + this.#qos2.size + this.#idempotency.size + this.#positions.size;
  }

  /**
   * Records a QoS 1 key.
   *
   * @param newClient called when the client is seen for the first time in `group`; gives its index there
   * @returns the client's index in the group
   */
  add(clientId: string, messageId: number, hash: number, group: number, newClient: (clientId: string) => number): number {
    const ring = this.#activate(clientId, group, newClient);
    if (ring.count === this.#limits.keysPerClientMax) this.#dropOldest(ring);
    else if (ring.count === ring.capacity) growRing(ring, this.#limits.keysPerClientMax);
    const at = 2 * ((ring.head + ring.count) % ring.capacity);
    ring.keys[at] = packKey(messageId, hash);
    ring.keys[at + 1] = group;
    ring.count++;
    this.#keys++;
    while (this.#keys > this.#limits.keysMax) this.#dropOldestOfAll();
    return ring.clientIndex;
  }

  /** The group of the newest key of this message id, if the hash fits; null: not known. */
  groupOf(clientId: string, messageId: number, hash: number): number | null {
    const ring = this.#rings.get(clientId);
    if (ring === undefined) return null;
    const [from, key] = [packKey(messageId, 0), packKey(messageId, hash)];
    for (let back = ring.count - 1; back >= 0; back--) {
      const at = 2 * ((ring.head + back) % ring.capacity);
      const found = ring.keys[at];
      if (found >= from && found < from + HASHES) return found === key ? ring.keys[at + 1] : null;
    }
    return null;
  }

  /** Takes back the newest key of a message that could not be stored. */
  forget(clientId: string, messageId: number, hash: number): void {
    const ring = this.#rings.get(clientId);
    if (ring === undefined) return;
    const key = packKey(messageId, hash);
    for (let back = ring.count - 1; back >= 0; back--) {
      const at = 2 * ((ring.head + back) % ring.capacity);
      if (ring.keys[at] !== key) continue;
      ring.keys[at] = key + TAKEN_BACK;
      return;
    }
  }

  openQos2(clientId: string, messageId: number, hash: number, group: number): void {
    const key = qos2Key(clientId, messageId);
    this.#qos2.delete(key);
    this.#qos2.set(key, { group, hash });
    if (this.#qos2.size > this.#limits.qos2OpenMax) this.#qos2.delete(firstKey(this.#qos2));
  }

  releaseQos2(clientId: string, messageId: number): void {
    this.#qos2.delete(qos2Key(clientId, messageId));
  }

  isQos2Open(clientId: string, messageId: number): boolean {
    return this.#qos2.has(qos2Key(clientId, messageId));
  }

  /** The group of the open message, if the hash fits; null: not known. */
  qos2GroupOf(clientId: string, messageId: number, hash: number): number | null {
    const open = this.#qos2.get(qos2Key(clientId, messageId));
    return open?.hash === hash ? open.group : null;
  }

  /** @param takenMonotonicUs of this process; absent: before it */
  addIdempotency(digest: string, takenUs: number, group: number, takenMonotonicUs = -Infinity): void {
    this.#idempotency.delete(digest);
    this.#idempotency.set(digest, { group, takenUs, takenMonotonicUs });
    if (this.#idempotency.size > this.#limits.idempotencyKeysMax) this.#idempotency.delete(firstKey(this.#idempotency));
  }

  forgetIdempotency(digest: string): void {
    this.#idempotency.delete(digest);
  }

  idempotencyGroupOf(digest: string, nowUs: number, monotonicUs = Infinity): number | null {
    const known = this.#idempotency.get(digest);
    if (known === undefined) return null;
    // Both clocks must say so: a board without a battery learns the time minutes after it took its first requests.
    const isOld = nowUs - known.takenUs > IDEMPOTENCY_US_MAX && monotonicUs - known.takenMonotonicUs > IDEMPOTENCY_US_MAX;
    return isOld ? null : known.group;
  }

  setPosition(source: string, at: number): void {
    this.#positions.delete(source);
    this.#positions.set(source, at);
    if (this.#positions.size > POSITIONS_MAX) this.#positions.delete(firstKey(this.#positions));
  }

  positionOf(source: string): number | null {
    return this.#positions.get(source) ?? null;
  }

  /** Applies a blob of the log. @throws SluiceError ERR_JOURNAL_DAMAGED */
  replay(blob: Uint8Array): void {
    const reader = new ByteReader(blob);
    if (reader.byte() !== LOG_VERSION) return; // keys of another version make duplicates possible, nothing worse
    const clients = Array.from({ length: reader.count() }, () => reader.text());
    const entries = reader.count();
    const idBefore = new Uint16Array(clients.length);
    const packedClient: number[] = [];
    const packedId: number[] = [];
    for (let index = 0; index < entries; index++) {
      const kind = reader.byte();
      const clientIndex = reader.varint();
      const client = clients[clientIndex] ?? '';
      if (kind === KIND_QOS1_PACKED) {
        idBefore[clientIndex] += reader.varint();
        packedClient.push(clientIndex);
        packedId.push(idBefore[clientIndex]);
        continue;
      }
      const messageId = reader.varint();
      const hash = kind === KEY_QOS2_RELEASE ? 0 : reader.varint();
      // During a replay every entry activates its client anew, which keeps the order of activity.
      if (kind === KEY_QOS1) this.add(client, messageId, hash, DURABLE_BEFORE, NO_INDEX);
      else if (kind === KEY_QOS2_OPEN) this.openQos2(client, messageId, hash, DURABLE_BEFORE);
      else if (kind === KEY_QOS2_RELEASE) this.releaseQos2(client, messageId);
      else if (kind === KEY_IDEMPOTENCY) this.addIdempotency(client, hash, DURABLE_BEFORE);
      else if (kind === KEY_POSITION) this.setPosition(client, hash);
    }
    for (let index = 0; index < packedId.length; index++)
      this.add(clients[packedClient[index]] ?? '', packedId[index], reader.word(), DURABLE_BEFORE, NO_INDEX);
  }

  /** Everything as one blob that `replay` takes, without expired idempotency keys. */
  snapshot(writer: ByteWriter, nowUs: number): Uint8Array {
    // Twice over everything: a list of all entries would be 20 MB.
    const clients = new Map<string, number>();
    let entries = 0;
    this.#eachEntry(nowUs, (_kind, client) => {
      entries++;
      if (!clients.has(client)) clients.set(client, clients.size);
    });
    writer.start();
    writer.byte(LOG_VERSION);
    writer.varint(clients.size);
    for (const client of clients.keys()) writer.text(client);
    writer.varint(entries);
    const entryWriter = new EntryWriter(writer, clients.size, entries);
    this.#eachEntry(nowUs, (kind, client, messageId, hash) => entryWriter.write(kind, clients.get(client) as number, messageId, hash));
    entryWriter.end();
    return writer.finishShort();
  }

  #eachEntry(nowUs: number, visit: (kind: number, client: string, messageId: number, hash: number) => void): void {
    for (let ring = this.#oldest; ring !== null; ring = ring.newer) {
      for (let index = 0; index < ring.count; index++) {
        const key = ring.keys[2 * ((ring.head + index) % ring.capacity)];
        if (Number.isInteger(key)) visit(KEY_QOS1, ring.clientId, Math.floor(key / HASHES), key % HASHES);
      }
    }
    for (const [key, { hash }] of this.#qos2) {
      const cut = key.lastIndexOf('\u0000');
      visit(KEY_QOS2_OPEN, key.slice(0, cut), Number(key.slice(cut + 1)), hash);
    }
    for (const [digest, { takenUs }] of this.#idempotency) {
      if (nowUs - takenUs <= IDEMPOTENCY_US_MAX) visit(KEY_IDEMPOTENCY, digest, 0, takenUs);
    }
    for (const [source, at] of this.#positions) visit(KEY_POSITION, source, 0, at);
  }

  #activate(clientId: string, group: number, newClient: (clientId: string) => number): Ring {
    let ring = this.#rings.get(clientId);
    if (ring !== undefined && ring.activeGroup === group && group !== DURABLE_BEFORE) return ring;
    if (ring === undefined) {
      ring = emptyRing(clientId);
      this.#rings.set(clientId, ring);
      this.#append(ring);
    } else if (ring !== this.#newest) {
      this.#unlink(ring);
      this.#append(ring);
    }
    ring.activeGroup = group;
    ring.clientIndex = newClient(clientId);
    return ring;
  }

  #append(ring: Ring): void {
    ring.older = this.#newest;
    if (this.#newest === null) this.#oldest = ring;
    else this.#newest.newer = ring;
    this.#newest = ring;
  }

  #unlink(ring: Ring): void {
    if (ring.older === null) this.#oldest = ring.newer;
    else ring.older.newer = ring.newer;
    if (ring.newer === null) this.#newest = ring.older;
    else ring.newer.older = ring.older;
    ring.older = null;
    ring.newer = null;
  }

  #dropOldest(ring: Ring): void {
    ring.head = (ring.head + 1) % ring.capacity;
    ring.count--;
    this.#keys--;
  }

  #dropOldestOfAll(): void {
    const ring = this.#oldest as Ring;
    if (ring.count > 0) this.#dropOldest(ring);
    if (ring.count > 0) return;
    this.#unlink(ring);
    this.#rings.delete(ring.clientId);
  }
}

function growRing(ring: Ring, capacityMax: number): void {
  const capacity = Math.min(ring.capacity * 2, capacityMax);
  const keys = new Float64Array(2 * capacity);
  // What lies behind the head, then what has come round to the front.
  const behind = ring.keys.subarray(2 * ring.head);
  keys.set(behind);
  keys.set(ring.keys.subarray(0, 2 * ring.head), behind.length);
  ring.keys = keys;
  ring.capacity = capacity;
  ring.head = 0;
}

function qos2Key(clientId: string, messageId: number): string {
  return `${clientId}\u0000${messageId}`;
}

function firstKey<V>(map: ReadonlyMap<string, V>): string {
  return map.keys().next().value as string;
}

/** The entries of one blob. */
class EntryWriter {
  readonly #writer: ByteWriter;
  readonly #idBefore: Uint16Array;
  /** Of the packed keys, in their order. */
  readonly #hashes: Uint32Array;
  #packed = 0;

  constructor(writer: ByteWriter, clients: number, entries: number) {
    this.#writer = writer;
    this.#idBefore = new Uint16Array(clients);
    this.#hashes = new Uint32Array(entries);
  }

  write(kind: number, client: number, messageId: number, hash: number): void {
    const writer = this.#writer;
    if (kind === KEY_QOS1) {
      writer.byte(KIND_QOS1_PACKED);
      writer.varint(client);
      // Modulo 2^16, as ids are: a client that begins again at 1 goes forward too.
      writer.varint((messageId - this.#idBefore[client]) & 0xffff);
      this.#hashes[this.#packed++] = hash;
      this.#idBefore[client] = messageId;
      return;
    }
    writer.byte(kind);
    writer.varint(client);
    writer.varint(messageId);
    if (kind !== KEY_QOS2_RELEASE) writer.varint(hash);
  }

  end(): void {
    for (let index = 0; index < this.#packed; index++) this.#writer.word(this.#hashes[index]);
  }
}

/** The keys of the group's messages [from, to) as a log blob, a view into the writer; null when there are none. */
export function encodeKeys(writer: ByteWriter, group: Group, from: number, to: number): Uint8Array | null {
  const { messageKeyEnd, keyClient, keyHash, keyKind, keyMessageId } = group.arrays;
  const start = from === 0 ? 0 : messageKeyEnd[from - 1];
  const end = messageKeyEnd[to - 1];
  if (start === end) return null;
  writer.start();
  writer.byte(LOG_VERSION);
  writer.varint(group.clients.length);
  for (const client of group.clients) writer.text(client);
  writer.varint(end - start);
  const entryWriter = new EntryWriter(writer, group.clients.length, end - start);
  for (let index = start; index < end; index++) entryWriter.write(keyKind[index], keyClient[index], keyMessageId[index], keyHash[index]);
  entryWriter.end();
  return writer.finishShort();
}
