/**
 * Bounds and durability around the memory persistence of aedes.
 *
 * aedes keeps sessions, retained messages and queues of absent subscribers in memory, without bounds: here each has one,
 * and what is beyond it is refused and counted. QoS 2 ids between PUBLISH and PUBREL are durable in the journal: the
 * memory forgets them in a crash, the journal does not, and PUBCOMP waits until the journal has released the id.
 *
 * A crash loses sessions, retained messages and queues (they are conveniences beside the telemetry, as README says), never
 * a QoS 2 id.
 */
import { SluiceError } from '../../shared/errors.ts';
import type { JournalWriter } from '../journal/journal-api.ts';

export const SESSIONS_MAX = 10_000;
export const SESSION_QUEUE_MAX = 1_000; // Mosquitto's max_queued_messages
export const QUEUED_BYTES_MAX = 16 * 1024 * 1024;
export const RETAINED_MAX = 10_000;
export const RETAINED_BYTES_MAX = 16 * 1024 * 1024;

interface StoredPacket {
  readonly cmd?: string;
  readonly topic: string;
  readonly payload: Buffer | string;
  readonly messageId?: number;
}

interface ClientRef {
  readonly id: string;
}

/** The part of aedes-persistence 11 that is wrapped. */
export interface MemoryPersistence {
  storeRetained(packet: StoredPacket): Promise<unknown>;
  addSubscriptions(client: ClientRef, subscriptions: readonly unknown[]): Promise<unknown>;
  removeSubscriptions(client: ClientRef, topics: readonly string[]): Promise<unknown>;
  cleanSubscriptions(client: ClientRef): Promise<unknown>;
  subscriptionsByClient(client: ClientRef): Promise<readonly unknown[]>;
  outgoingEnqueue(subscription: { readonly clientId: string }, packet: StoredPacket): Promise<unknown>;
  outgoingEnqueueCombi(subscriptions: readonly { readonly clientId: string }[], packet: StoredPacket): Promise<unknown>;
  outgoingClearMessageId(client: ClientRef, packet: StoredPacket): Promise<StoredPacket | undefined>;
  incomingGetPacket(client: ClientRef, packet: StoredPacket): Promise<unknown>;
  incomingDelPacket(client: ClientRef, packet: StoredPacket): Promise<unknown>;
}

export interface SessionCounters {
  /** Messages that were not queued for an absent or slow subscriber. */
  queueDropped: number;
  retainedDropped: number;
}

/**
 * Changes the persistence in place: aedes makes it itself and looks its methods up at each call.
 *
 * @returns how many sessions have subscriptions
 */
export function boundPersistence(
  memory: MemoryPersistence,
  journal: JournalWriter,
  isRedelivered: (packet: object) => boolean,
  counters: SessionCounters,
): () => number {
  boundRetained(memory, counters);
  const sessions = boundSessions(memory);
  boundQueues(memory, counters);
  keepQos2Ids(memory, journal, isRedelivered);
  return () => sessions.size;
}

function boundRetained(memory: MemoryPersistence, counters: SessionCounters): void {
  const sizes = new Map<string, number>();
  let bytes = 0;
  const store = memory.storeRetained.bind(memory);
  memory.storeRetained = async (packet) => {
    const before = sizes.get(packet.topic);
    const after = packet.payload.length + packet.topic.length;
    if (packet.payload.length === 0) {
      sizes.delete(packet.topic);
      bytes -= before ?? 0;
    } else if ((before === undefined && sizes.size >= RETAINED_MAX) || bytes - (before ?? 0) + after > RETAINED_BYTES_MAX) {
      // Not an error: it would end the connection of a device whose reading is durable already.
      counters.retainedDropped++;
      return undefined;
    } else {
      sizes.set(packet.topic, after);
      bytes += after - (before ?? 0);
    }
    return store(packet);
  };
}

function boundSessions(memory: MemoryPersistence): ReadonlySet<string> {
  const sessions = new Set<string>();
  const add = memory.addSubscriptions.bind(memory);
  const remove = memory.removeSubscriptions.bind(memory);
  const clean = memory.cleanSubscriptions.bind(memory);
  memory.addSubscriptions = async (client, subscriptions) => {
    if (!sessions.has(client.id) && sessions.size >= SESSIONS_MAX) {
      throw new SluiceError('ERR_BROKER_TOO_MANY', `${sessions.size} sessions have subscriptions, at most ${SESSIONS_MAX} may`);
    }
    sessions.add(client.id);
    return add(client, subscriptions);
  };
  memory.removeSubscriptions = async (client, topics) => {
    const answer = await remove(client, topics);
    if ((await memory.subscriptionsByClient(client)).length === 0) sessions.delete(client.id);
    return answer;
  };
  memory.cleanSubscriptions = async (client) => {
    sessions.delete(client.id);
    return clean(client);
  };
  return sessions;
}

function boundQueues(memory: MemoryPersistence, counters: SessionCounters): void {
  const queues = new Map<string, number>();
  let bytes = 0;
  const enqueueCombi = memory.outgoingEnqueueCombi.bind(memory);
  const clear = memory.outgoingClearMessageId.bind(memory);
  const admit = (clientId: string, size: number): boolean => {
    const count = queues.get(clientId) ?? 0;
    if (count >= SESSION_QUEUE_MAX || bytes + size > QUEUED_BYTES_MAX) {
      counters.queueDropped++;
      return false;
    }
    queues.set(clientId, count + 1);
    bytes += size;
    return true;
  };
  memory.outgoingEnqueueCombi = async (subscriptions, packet) =>
    enqueueCombi(
      subscriptions.filter((subscription) => admit(subscription.clientId, packet.payload.length)),
      packet,
    );
  memory.outgoingEnqueue = async (subscription, packet) => memory.outgoingEnqueueCombi([subscription], packet);
  memory.outgoingClearMessageId = async (client, packet) => {
    const cleared = await clear(client, packet);
    if (cleared === undefined) return undefined;
    const count = (queues.get(client.id) ?? 1) - 1;
    if (count > 0) queues.set(client.id, count);
    else queues.delete(client.id);
    bytes = Math.max(0, bytes - (cleared.payload?.length ?? 0));
    return cleared;
  };
}

function keepQos2Ids(memory: MemoryPersistence, journal: JournalWriter, isRedelivered: (packet: object) => boolean): void {
  const get = memory.incomingGetPacket.bind(memory);
  const del = memory.incomingDelPacket.bind(memory);
  // aedes asks this for a PUBLISH (is it a duplicate?) and for a PUBREL (is there something to release?). The journal
  // knows the id of every PUBLISH by then, its own included, so only the gate can tell a redelivery.
  memory.incomingGetPacket = (client, packet) =>
    get(client, packet).catch((error: unknown) => {
      const known = packet.cmd === 'publish' ? isRedelivered(packet) : journal.qos2Open(client.id, packet.messageId as number);
      if (known) return packet;
      throw error;
    });
  memory.incomingDelPacket = async (client, packet) => {
    const messageId = packet.messageId as number;
    await del(client, packet).catch(() => undefined); // after a restart only the journal has it
    if (!journal.qos2Open(client.id, messageId)) return;
    await new Promise<void>((resolve, reject) => {
      journal.qos2Release(client.id, messageId, (error) => (error === null ? resolve() : reject(error)));
    });
  };
}
