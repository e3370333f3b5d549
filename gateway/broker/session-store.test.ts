/** The two ways by which aedes sends a message to a session: its queue when it connects, and as a new message. */
import { describe, expect, test } from 'vitest';
import { MemoryJournal } from './memory-journal.ts';
import type { ClientRef, OutgoingUpdate, Persistence } from './persistence.ts';
import { sessionLimits, SessionStore } from './session-store.ts';

const CLIENT = 'valve';

interface Scene {
  readonly payload: Buffer;
  readonly persistence: Persistence;
  /** What the queue gives to a connection. */
  readonly queued: (client: ClientRef) => Promise<readonly OutgoingUpdate[]>;
  /** @returns whether it would be written */
  readonly send: (client: ClientRef, packet: OutgoingUpdate, messageId: number) => Promise<boolean>;
  readonly name: OutgoingUpdate;
}

/** A QoS 2 message that is durable and that aedes has begun to deliver to a session. */
async function scene(isStillSubscribed = true): Promise<Scene> {
  const journal = new MemoryJournal();
  const stored = { retained: [], subscriptions: [{ client: CLIENT, filter: 'commands/#', qos: 2 }], outgoing: [] };
  const store = new SessionStore(journal, sessionLimits(Infinity), stored);
  const persistence = {} as Persistence;
  store.install(persistence);
  const payload = Buffer.from('open');
  store.take({ topic: 'commands/valve', payload, qos: 2 }, () => false)?.settled(null);
  const name = { brokerId: 'broker', brokerCounter: 7 };
  if (isStillSubscribed)
    await persistence.outgoingEnqueueCombi([{ clientId: CLIENT }], { ...name, topic: 'commands/valve', payload, qos: 2 });
  journal.automatic = true;
  return {
    payload,
    persistence,
    name,
    queued: (client) => persistence.outgoingStream(client).toArray() as Promise<OutgoingUpdate[]>,
    send: (client, packet, messageId) =>
      new Promise((resolve, reject) => {
        const writeCallback = (): void => resolve(false);
        persistence.outgoingUpdate(client, { ...packet, cmd: 'publish', messageId, writeCallback }).then(() => resolve(true), reject);
      }),
  };
}

describe('a message on its way to a session that connects', () => {
  test('is sent from the queue alone when it also comes as a new one, also after it was received', async () => {
    const { persistence, queued, send, name } = await scene();
    const connection = { id: CLIENT };
    const [packet] = await queued(connection);
    expect(await send(connection, packet, 1)).toBe(true);
    expect(await send(connection, name, 2)).toBe(false);
    await persistence.outgoingClearMessageId(connection, { messageId: 1 });
    expect(await send(connection, name, 3)).toBe(false);
  });

  test('is sent as a new one alone when the queue comes later', async () => {
    const { queued, send, name } = await scene();
    const connection = { id: CLIENT };
    expect(await send(connection, name, 1)).toBe(true);
    expect(await queued(connection)).toEqual([]);
    const [again] = await queued({ id: CLIENT });
    expect(again).toMatchObject({ messageId: 1, dup: true }); // on the next connection
  });

  test('is known to be sent when the subscription ended while it was on its way', async () => {
    const { persistence, queued, send, name, payload } = await scene(false);
    const connection = { id: CLIENT };
    expect(await send(connection, { ...name, payload }, 5)).toBe(true);
    expect(await queued({ id: CLIENT })).toMatchObject([{ messageId: 5, dup: true }]); // not under another id
    await persistence.outgoingClearMessageId(connection, { messageId: 5 });
    expect(await queued({ id: CLIENT })).toEqual([]);
  });

  test('is sent once when the two cross', async () => {
    const { queued, send, name } = await scene();
    const connection = { id: CLIENT };
    const [packet] = await queued(connection);
    expect([await send(connection, name, 1), await send(connection, packet, 2)]).toEqual([true, false]);
  });
});
