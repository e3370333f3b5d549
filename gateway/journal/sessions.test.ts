import path from 'node:path';
import Database from 'better-sqlite3';
import { expect, test } from 'vitest';
import { OpenGroup, type Group } from './group.ts';
import { crashCopy, openJournal, temporaryDirectory } from './journal-fixture.ts';
import type { SessionChange } from './sessions.ts';

const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text));

/** One message per list of changes. */
function groupOfChanges(...messages: SessionChange[][]): Group {
  const open = new OpenGroup();
  for (const changes of messages) {
    for (const change of changes) open.change(change);
    open.endMessage(0);
  }
  return open.take(0, []);
}

const queued = (id: number, client: string): SessionChange => ({ kind: 'queue', id, client, topic: 't', qos: 2, payload: bytes(`m${id}`) });

const CHANGES: SessionChange[][] = [
  [{ kind: 'retain', topic: 'a', qos: 1, payload: bytes('old') }],
  [{ kind: 'subscribe', client: 'c', filter: 'x/#', qos: 1 }],
  [{ kind: 'subscribe', client: 'c', filter: 'y', qos: 1 }, queued(1, 'c'), queued(2, 'c')],
  [{ kind: 'subscribe', client: 'd', filter: 'y', qos: 1 }, queued(3, 'd')],
  [
    { kind: 'retain', topic: 'a', qos: 0, payload: bytes('new') },
    { kind: 'retain', topic: 'b', qos: 0, payload: bytes('b') },
  ],
  [{ kind: 'retain', topic: 'b', qos: 0, payload: bytes('') }],
  [
    { kind: 'unsubscribe', client: 'c', filter: 'y' },
    { kind: 'sent', id: 2, messageId: 7 },
    { kind: 'released', id: 2 },
  ],
  [
    { kind: 'unqueue', id: 1 },
    { kind: 'forget', client: 'd' },
  ],
];

const EXPECTED = {
  retained: [{ topic: 'a', qos: 0, payload: Buffer.from('new') }],
  subscriptions: [{ client: 'c', filter: 'x/#', qos: 1 }],
  outgoing: [{ id: 2, client: 'c', topic: 't', qos: 2, payload: Buffer.from('m2'), messageId: 7, released: 1 }],
};

test('changes of sessions and retained messages are there after a crash, and salvaged out of a damaged file', () => {
  const directory = temporaryDirectory();
  const journal = openJournal(directory);
  journal.commit(groupOfChanges(...CHANGES));
  const crashed = temporaryDirectory();
  crashCopy(directory, crashed);
  expect(openJournal(crashed).sessions()).toEqual(EXPECTED);
  journal.close();
  const db = new Database(path.join(directory, 'journal.db'));
  db.exec('DROP TABLE loss'); // enough for a salvage
  db.close();
  expect(openJournal(directory).sessions()).toEqual(EXPECTED);
});

test('a change is stored with its message or not at all', () => {
  const directory = temporaryDirectory();
  const journal = openJournal(directory);
  const bad = { kind: 'retain', topic: 'bad', qos: null as unknown as number, payload: bytes('x') } as const;
  const { failed } = journal.commit(groupOfChanges([queued(1, 'c')], [queued(2, 'c'), bad], [queued(3, 'c')]));
  expect(failed.map(({ message }) => message)).toEqual([1]);
  expect(journal.sessions().outgoing.map(({ id }) => id)).toEqual([1, 3]);
});

test('an older journal opens with no sessions and takes some', () => {
  const directory = temporaryDirectory();
  openJournal(directory).close();
  const db = new Database(path.join(directory, 'journal.db'));
  db.exec("DROP TABLE retained; DROP TABLE subscription; DROP TABLE outgoing; UPDATE meta SET value = '3' WHERE key = 'schema'");
  db.pragma('user_version = 3');
  db.close();
  const journal = openJournal(directory);
  expect(journal.sessions()).toEqual({ retained: [], subscriptions: [], outgoing: [] });
  journal.commit(groupOfChanges(...CHANGES));
  expect(journal.sessions()).toEqual(EXPECTED);
});
