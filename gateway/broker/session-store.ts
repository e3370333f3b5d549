/**
 * Retained messages, and subscriptions and queues of persistent sessions: in memory for aedes, durable in the journal.
 *
 * Constraints: a QoS 1 or 2 message is acknowledged once it is in the journal together with what it means here: aedes writes
 * its PUBACK before it stores, so the gate takes that from `take` and has it committed with the readings, in one fsync. SUBACK,
 * UNSUBACK and the CONNACK that ends an old session wait for their commit as well. A PUBACK of a subscriber takes its message
 * away with the next commit, without one of its own: after a crash QoS 1 may deliver again. QoS 2 may not, so the id under which a
 * message is sent, and that it has arrived, are durable before PUBLISH and PUBREL leave.
 *
 * Everything has a bound: sessions and their filters are refused beyond it, messages for a full queue are not queued, what is too much
 * to retain leaves its topic without a retained message rather than with an old one; all counted.
 *
 * A client that comes back is sent its queue while new messages already flow to it: aedes takes no care that a message goes by one
 * of the two ways alone. The second of them is stopped here, or a QoS 2 message would come twice, under two ids.
 *
 * A crash leaves what was committed: of what was acknowledged, all. A message whose publisher was gone before it could be told is
 * there once for each time it was sent (QoS 1). Wills are not kept over a crash. QoS 2 ids of publishers: qos2-ids.ts.
 */
import { Readable } from 'node:stream';
import { SluiceError } from '../../shared/errors.ts';
import type { JournalWriter } from '../journal/journal-api.ts';
import type { SessionChange, StoredSessions } from '../journal/sessions.ts';
import type { ClientRef, OutgoingUpdate, Persistence, StoredPacket } from './persistence.ts';
import { filterMatches, SubscriptionTree, type Match } from './subscription-tree.ts';

export interface SessionLimits {
  readonly sessionsMax: number;
  readonly filtersPerSessionMax: number;
  /** Messages in the queue of one session. */
  readonly queueMax: number;
  readonly queuedBytesMax: number;
  readonly retainedMax: number;
  readonly retainedBytesMax: number;
}

const BYTES_MAX = 16 * 1024 * 1024;
/** In a small buffer less, or readings would have no room. */
const BUFFER_SHARE_MAX = 1 / 16;

export function sessionLimits(bufferBytesMax: number): SessionLimits {
  const bytesMax = Math.min(BYTES_MAX, bufferBytesMax * BUFFER_SHARE_MAX);
  return {
    sessionsMax: 10_000,
    filtersPerSessionMax: 100,
    queueMax: 1_000, // Mosquitto's max_queued_messages
    queuedBytesMax: bytesMax,
    retainedMax: 10_000,
    retainedBytesMax: bytesMax,
  };
}

/** A message as the gate has it. */
interface Message {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: number;
  readonly retain?: boolean;
}

/** What a message changes here, to be committed with it. */
export interface MessageState {
  readonly changes: readonly SessionChange[];
  /** Must be called as soon as the journal has not refused it, before another message is looked at. */
  taken(): void;
  /** Must be called once a QoS 1 or 2 message is durable, or has failed. */
  settled(error: Error | null): void;
}

export interface SessionStats {
  readonly sessions: number;
  readonly sessionsRefused: number;
  readonly queuedMessages: number;
  readonly queuedBytes: number;
  /** Messages that were not queued for an absent or slow subscriber. */
  readonly queueDropped: number;
  readonly retainedMessages: number;
  readonly retainedBytes: number;
  readonly retainedDropped: number;
}

interface Retained {
  readonly topic: string;
  readonly qos: number;
  readonly payload: Buffer;
  durable: boolean;
}

interface Filter {
  readonly qos: number;
  /** Resolves when it is durable; null: that has failed. */
  written: Promise<void> | null;
}

interface Entry {
  readonly id: number;
  readonly topic: string;
  readonly qos: number;
  readonly payload: Buffer;
  /** Has a row in the journal, or is about to. */
  readonly stored: boolean;
  /** aedes' name of the message; null: aedes has not begun to deliver it. */
  brokerId: string | null;
  brokerCounter: number;
  messageId: number | undefined;
  released: boolean;
  /** The connection that it was last sent on. */
  sentOn: ClientRef | null;
  committed: boolean;
  /** aedes does not deliver a QoS 1 message whose publisher went before its PUBACK could be written. */
  readonly publisherGone: () => boolean;
}

interface Session {
  readonly filters: Map<string, Filter>;
  queue: Entry[];
  /** Of the queue, what was sent under an id. */
  readonly underWay: Map<number, Entry>;
}

const STORED_BROKER_ID = 'stored';
const ENTRY_BYTES = 64;

function entryBytes({ topic, payload }: { readonly topic: string; readonly payload: Buffer }): number {
  return ENTRY_BYTES + topic.length + payload.length;
}

function nameOf({ brokerId, brokerCounter }: { readonly brokerId?: string; readonly brokerCounter?: number }): string {
  return `${brokerId}:${brokerCounter}`;
}

/** With memory of its own: a packet's payload is a part of a whole socket read. */
function ownCopy(payload: Uint8Array): Buffer {
  return Buffer.from(Uint8Array.from(payload).buffer);
}

export class SessionStore {
  readonly #journal: JournalWriter;
  readonly #limits: SessionLimits;
  readonly #tree = new SubscriptionTree();
  readonly #sessions = new Map<string, Session>();
  readonly #retained = new Map<string, Retained>();
  /** By the payload, which is the one thing of a message that aedes hands on as it is: what the gate has queued for whom. */
  readonly #taken = new WeakMap<Buffer, Map<string, Entry>>();
  /** Per connection, the messages that were taken from the queue for it, by aedes' names: true once one was sent. */
  readonly #fromQueue = new WeakMap<ClientRef, Map<string, boolean>>();
  readonly #counters = { sessionsRefused: 0, queueDropped: 0, retainedDropped: 0 };
  #subscribed = 0;
  #queued = 0;
  #queuedBytes = 0;
  #retainedBytes = 0;
  #nextId = 1;

  constructor(journal: JournalWriter, limits: SessionLimits, stored: StoredSessions) {
    this.#journal = journal;
    this.#limits = limits;
    for (const { topic, qos, payload } of stored.retained) this.#setRetained({ topic, qos, payload: ownCopy(payload), durable: true });
    for (const { client, filter, qos } of stored.subscriptions) this.#setFilter(client, filter, { qos, written: Promise.resolve() });
    for (const { id, client, topic, qos, payload, messageId, released } of stored.outgoing) {
      const state = { messageId: messageId ?? undefined, released: released === 1, sentOn: null, committed: true };
      const name = { brokerId: STORED_BROKER_ID, brokerCounter: id };
      const message = { topic, qos, payload: ownCopy(payload) };
      this.#enqueue(client, { id, ...message, ...name, ...state, stored: true, publisherGone: () => false });
      this.#nextId = id + 1;
    }
  }

  /** Does any session, its client present or not, have subscriptions? */
  get hasSubscriptions(): boolean {
    return this.#subscribed > 0;
  }

  stats(): SessionStats {
    return {
      sessions: this.#subscribed,
      queuedMessages: this.#queued,
      queuedBytes: this.#queuedBytes,
      retainedMessages: this.#retained.size,
      retainedBytes: this.#retainedBytes,
      ...this.#counters,
    };
  }

  /** Is a message on its way to this session under this id? */
  isUnderWay(clientId: string, messageId: number): boolean {
    return this.#sessions.get(clientId)?.underWay.has(messageId) === true;
  }

  /**
   * What a new message changes. Retained messages change in the order in which the journal has them; queues have it once aedes
   * delivers it.
   *
   * @param publisherGone whether the publisher's connection has ended
   * @returns null: nothing
   */
  take(message: Message, publisherGone: () => boolean): MessageState | null {
    const subscribers = message.qos > 0 && this.#subscribed > 0 ? this.#tree.match(message.topic).filter(({ qos }) => qos > 0) : [];
    if (subscribers.length === 0 && message.retain !== true) return null;
    const changes: SessionChange[] = [];
    const payload = ownCopy(message.payload);
    const retain = message.retain === true ? this.#retain({ ...message, payload }, changes) : null;
    const entries = new Map<string, Entry>();
    for (const { clientId } of subscribers) {
      const entry = this.#admit(clientId, { ...message, payload }, publisherGone);
      if (entry === null) continue;
      entries.set(clientId, entry);
      changes.push({ kind: 'queue', id: entry.id, client: clientId, topic: entry.topic, qos: entry.qos, payload });
    }
    // Also when there are none: what was not admitted now is not to be queued later.
    this.#taken.set(message.payload, entries);
    const settled = (error: Error | null): void => {
      if (retain !== null) retain.message.durable = error === null;
      for (const [clientId, entry] of entries) {
        entry.committed = error === null;
        if (error !== null) this.#remove(clientId, entry);
      }
    };
    return { changes, taken: () => retain?.apply(), settled };
  }

  /** Puts this in the place of what aedes' own persistence does in memory, without bounds. */
  install(persistence: Persistence): void {
    persistence.storeRetained = () => Promise.resolve(); // the gate has
    persistence.createRetainedStreamCombi = (filters) => Readable.from(this.#retainedFor(filters));
    persistence.addSubscriptions = (client, subscriptions) => this.#subscribe(client.id, subscriptions);
    persistence.removeSubscriptions = (client, filters) => this.#unsubscribe(client.id, filters);
    persistence.cleanSubscriptions = (client) => this.#forget(client.id);
    persistence.subscriptionsByClient = (client) =>
      Promise.resolve([...(this.#sessions.get(client.id)?.filters ?? [])].map(([topic, { qos }]) => ({ topic, qos })));
    persistence.subscriptionsByTopic = (topic) =>
      Promise.resolve(
        this.#tree
          .match(topic)
          .filter(({ qos }) => qos > 0)
          .map((match: Match) => ({ ...match, topic })),
      );
    persistence.outgoingEnqueue = (subscription, packet) => this.#deliver([subscription], packet);
    persistence.outgoingEnqueueCombi = (subscriptions, packet) => this.#deliver(subscriptions, packet);
    persistence.outgoingUpdate = (client, packet) => this.#update(client, packet);
    persistence.outgoingClearMessageId = (client, packet) => Promise.resolve(this.#clear(client, packet));
    persistence.outgoingStream = (client) => Readable.from(this.#outgoing(client));
  }

  #change(changes: readonly SessionChange[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#journal.sessionChanges(changes, (error) => (error === null ? resolve() : reject(error)));
    });
  }

  #retain({ topic, qos, payload }: Message, changes: SessionChange[]): { message: Retained; apply: () => void } | null {
    const before = this.#retained.get(topic);
    if (before?.durable === true && before.qos === qos && before.payload.equals(payload)) return null;
    const after: Retained = { topic, qos, payload, durable: false };
    const bytes = this.#retainedBytes - (before === undefined ? 0 : entryBytes(before)) + entryBytes(after);
    const isFull = (before === undefined && this.#retained.size >= this.#limits.retainedMax) || bytes > this.#limits.retainedBytesMax;
    const isKept = payload.length > 0 && !isFull;
    if (payload.length > 0 && isFull) this.#counters.retainedDropped++;
    // Nothing to forget in memory is no reason not to: an earlier attempt may not have become durable.
    if (!isKept && before === undefined && payload.length > 0) return null;
    changes.push({ kind: 'retain', topic, qos, payload: isKept ? payload : new Uint8Array(0) });
    return { message: after, apply: () => (isKept ? this.#setRetained(after) : this.#deleteRetained(topic)) };
  }

  #deleteRetained(topic: string): void {
    const before = this.#retained.get(topic);
    if (before === undefined) return;
    this.#retained.delete(topic);
    this.#retainedBytes -= entryBytes(before);
  }

  #setRetained(message: Retained): void {
    const before = this.#retained.get(message.topic);
    this.#retainedBytes += entryBytes(message) - (before === undefined ? 0 : entryBytes(before));
    this.#retained.set(message.topic, message);
  }

  *#retainedFor(filters: readonly string[]): Generator<object> {
    for (const filter of filters) {
      const exact = /[#+]/.test(filter) ? null : this.#retained.get(filter);
      const candidates = exact === null ? this.#retained.values() : exact === undefined ? [] : [exact];
      for (const { topic, qos, payload } of candidates)
        if (filterMatches(filter, topic)) yield { cmd: 'publish', topic, qos, payload, retain: true };
    }
  }

  #session(clientId: string): Session {
    let session = this.#sessions.get(clientId);
    if (session === undefined) {
      session = { filters: new Map(), queue: [], underWay: new Map() };
      this.#sessions.set(clientId, session);
    }
    return session;
  }

  #setFilter(clientId: string, filter: string, state: Filter): void {
    const { filters } = this.#session(clientId);
    if (filters.size === 0) this.#subscribed++;
    filters.set(filter, state);
    this.#tree.set(filter, clientId, state.qos);
  }

  #deleteFilter(clientId: string, filter: string): boolean {
    const session = this.#sessions.get(clientId);
    if (session?.filters.delete(filter) !== true) return false;
    this.#tree.delete(filter, clientId);
    if (session.filters.size === 0) this.#subscribed--;
    this.#dropIfEmpty(clientId, session);
    return true;
  }

  #dropIfEmpty(clientId: string, { filters, queue }: Session): void {
    if (filters.size === 0 && queue.length === 0) this.#sessions.delete(clientId);
  }

  async #subscribe(clientId: string, subscriptions: readonly { readonly topic: string; readonly qos: number }[]): Promise<void> {
    const { sessionsMax, filtersPerSessionMax } = this.#limits;
    const known = this.#sessions.get(clientId)?.filters;
    const filters = (known?.size ?? 0) + subscriptions.filter(({ topic }) => known?.has(topic) !== true).length;
    if (((known?.size ?? 0) === 0 && this.#subscribed >= sessionsMax) || filters > filtersPerSessionMax) {
      this.#counters.sessionsRefused++;
      const what = `${this.#subscribed} sessions have subscriptions, this one would have ${filters}`;
      throw new SluiceError('ERR_BROKER_TOO_MANY', `${what}; at most ${sessionsMax} sessions with ${filtersPerSessionMax} each may`);
    }
    const waits = new Set<Promise<void>>();
    const added: Filter[] = [];
    const changes: SessionChange[] = [];
    for (const { topic: filter, qos } of subscriptions) {
      const before = this.#sessions.get(clientId)?.filters.get(filter);
      // aedes asks for all filters of a packet once for each of them: they are written once.
      if (before?.qos === qos && before.written !== null) {
        waits.add(before.written);
        continue;
      }
      const state: Filter = { qos, written: null };
      this.#setFilter(clientId, filter, state);
      added.push(state);
      changes.push({ kind: 'subscribe', client: clientId, filter, qos });
    }
    if (changes.length > 0) {
      const written = this.#change(changes);
      for (const state of added) state.written = written;
      waits.add(written);
      written.catch(() => {
        for (const state of added) state.written = null;
      });
    }
    await Promise.all(waits);
  }

  async #unsubscribe(clientId: string, filters: readonly string[]): Promise<void> {
    for (const filter of filters) this.#deleteFilter(clientId, filter);
    // Known or not: an earlier attempt may not have become durable.
    await this.#change(filters.map((filter) => ({ kind: 'unsubscribe', client: clientId, filter })));
  }

  /** A clean session starts: what there was of another is over [MQTT-3.1.2-6]. */
  async #forget(clientId: string): Promise<void> {
    const session = this.#sessions.get(clientId);
    if (session === undefined) return;
    for (const filter of session.filters.keys()) this.#deleteFilter(clientId, filter);
    for (const entry of session.queue.slice()) this.#remove(clientId, entry);
    this.#sessions.delete(clientId);
    try {
      await this.#change([{ kind: 'forget', client: clientId }]);
    } catch (error) {
      this.#session(clientId); // its next clean start tries again
      throw error;
    }
  }

  #admit(clientId: string, message: Message, publisherGone: () => boolean, stored = true): Entry | null {
    const { topic, qos, payload } = message;
    const { queueMax, queuedBytesMax } = this.#limits;
    const length = this.#sessions.get(clientId)?.queue.length ?? 0;
    if (length >= queueMax || this.#queuedBytes + entryBytes(message) > queuedBytesMax) {
      this.#counters.queueDropped++;
      return null;
    }
    const state = { brokerId: null, brokerCounter: 0, messageId: undefined, released: false, sentOn: null, committed: false };
    const entry: Entry = { id: this.#nextId++, topic, qos, payload, stored, publisherGone, ...state };
    this.#enqueue(clientId, entry);
    return entry;
  }

  #enqueue(clientId: string, entry: Entry): void {
    const session = this.#session(clientId);
    session.queue.push(entry);
    if (entry.messageId !== undefined) session.underWay.set(entry.messageId, entry);
    this.#queued++;
    this.#queuedBytes += entryBytes(entry);
  }

  #remove(clientId: string, entry: Entry): void {
    const session = this.#sessions.get(clientId);
    const at = session?.queue.indexOf(entry) ?? -1;
    if (session === undefined || at < 0) return;
    session.queue.splice(at, 1);
    if (entry.messageId !== undefined && session.underWay.get(entry.messageId) === entry) session.underWay.delete(entry.messageId);
    this.#queued--;
    this.#queuedBytes -= entryBytes(entry);
    this.#dropIfEmpty(clientId, session);
  }

  /** aedes begins to deliver: what the gate has queued gets the name by which aedes will ask for it. */
  #deliver(subscriptions: readonly { readonly clientId: string }[], packet: StoredPacket): Promise<void> {
    const payload = packet.payload as Buffer;
    const taken = this.#taken.get(payload);
    for (const { clientId } of subscriptions) {
      // A redelivery, or one who has subscribed since: it gets the message while it and the gateway are there.
      const entry =
        taken === undefined
          ? this.#admit(clientId, { topic: packet.topic, qos: packet.qos, payload: ownCopy(payload) }, () => false, false)
          : taken.get(clientId);
      if (entry === undefined || entry === null) continue;
      entry.brokerId = packet.brokerId;
      entry.brokerCounter = packet.brokerCounter;
    }
    return Promise.resolve();
  }

  *#outgoing(client: ClientRef): Generator<object> {
    const taken = new Map<string, boolean>();
    this.#fromQueue.set(client, taken);
    for (const entry of this.#sessions.get(client.id)?.queue.slice() ?? []) {
      const { id, topic, qos, payload, messageId, released } = entry;
      if (entry.sentOn === client) continue; // as a new message, while the queue was being sent
      if (entry.brokerId === null) {
        if (qos === 2 || !entry.committed || !entry.publisherGone()) continue;
        entry.brokerId = STORED_BROKER_ID;
        entry.brokerCounter = id;
      }
      const name = { brokerId: entry.brokerId, brokerCounter: entry.brokerCounter, messageId };
      if (entry.brokerId !== STORED_BROKER_ID) taken.set(nameOf(name), false);
      // Sent before: with DUP [MQTT-3.3.1-1], or only its release.
      if (released) yield { ...name, cmd: 'pubrel' };
      else yield { ...name, cmd: 'publish', topic, qos, payload, retain: false, dup: messageId !== undefined };
    }
  }

  /** The subscription was ended between the gate and aedes, which delivers all the same: what the gate has queued is what is sent. */
  #unnamed(clientId: string, session: Session, { payload, brokerId, brokerCounter }: OutgoingUpdate): Entry | undefined {
    const entry = payload instanceof Buffer ? this.#taken.get(payload)?.get(clientId) : undefined;
    if (entry === undefined || entry.brokerId !== null || brokerId === undefined || !session.queue.includes(entry)) return undefined;
    entry.brokerId = brokerId;
    entry.brokerCounter = brokerCounter ?? 0;
    return entry;
  }

  async #update(client: ClientRef, packet: OutgoingUpdate): Promise<void> {
    const { brokerId, brokerCounter, messageId, cmd } = packet;
    const taken = this.#fromQueue.get(client);
    const name = nameOf(packet);
    if (cmd !== 'pubrel' && taken?.has(name) === true) {
      if (taken.get(name) === true) {
        packet.writeCallback?.();
        return new Promise(() => {}); // never: it is not to be written
      }
      taken.set(name, true);
    }
    const session = this.#sessions.get(client.id);
    // Not queued, for want of room: it is delivered all the same, once.
    if (session === undefined || messageId === undefined) return;
    const entry =
      session.queue.find(
        (candidate) => brokerId !== undefined && candidate.brokerId === brokerId && candidate.brokerCounter === brokerCounter,
      ) ??
      this.#unnamed(client.id, session, packet) ??
      session.underWay.get(messageId);
    if (entry === undefined) return;
    entry.sentOn = client;
    if (cmd === 'pubrel') {
      if (entry.released) return;
      entry.released = true;
      if (entry.stored) await this.#change([{ kind: 'released', id: entry.id }]);
    } else if (entry.messageId !== messageId) {
      if (entry.messageId !== undefined) session.underWay.delete(entry.messageId);
      entry.messageId = messageId;
      session.underWay.set(messageId, entry);
      if (entry.qos === 2 && entry.stored) await this.#change([{ kind: 'sent', id: entry.id, messageId }]);
    }
  }

  #clear({ id: clientId }: ClientRef, { messageId }: { readonly messageId?: number }): object | undefined {
    // aedes clears a message that it has found to be delivered already, which has no id: that one is still to be acknowledged.
    if (messageId === undefined) return undefined;
    const entry = this.#sessions.get(clientId)?.underWay.get(messageId);
    if (entry === undefined) return undefined;
    this.#remove(clientId, entry);
    if (entry.stored) this.#journal.sessionChanges([{ kind: 'unqueue', id: entry.id }], null);
    const { topic, qos, payload } = entry;
    return { cmd: 'publish', topic, qos, payload, messageId };
  }
}
