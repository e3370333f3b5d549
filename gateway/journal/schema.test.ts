import { copyFileSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../shared/clock.ts';
import { drain, groupOf, openJournal, START_US, temporaryDirectory } from './journal-fixture.ts';
import { MIGRATIONS, moveBatches, OLD_BATCH_TABLE } from './schema.ts';

const fileOf = (directory: string): string => path.join(directory, 'journal.db');
const HEAD = 'id, epoch, lane, seq, readings, exceptions, arrival_from_us, arrival_to_us, event_from_us, event_to_us, bytes, checksum';

/** A journal with batches that have a place, batches without one, and rows that are not sealed, as version 1 left it. */
function versionOne(directory: string, bufferBytesMax: number): { readonly readings: string[]; readonly seqs: string[] } {
  const clock = new ManualClock(START_US);
  const journal = openJournal(directory, { clock, bufferBytesMax, bufferPolicy: 'reject' });
  const readings: string[] = [];
  for (let group = 0; journal.state().accepting; group++) {
    clock.advance(1_000_000);
    const values = Array.from({ length: 2_000 }, (_, at) => 1 / (group * 2_000 + at + 3));
    try {
      journal.commit(groupOf([values.map((value) => ({ series: 0, value }))], clock.monotonicUs()));
    } catch {
      break; // full
    }
    readings.push(...values.map((value) => `d0=${value}`));
    journal.tick();
  }
  const seqs = journal.offer(journal.epoch, 'live', 0, 64 * 1024).map(({ epoch, seq }) => `${epoch}/${seq}`);
  journal.close();
  const db = new Database(fileOf(directory));
  const old = new Database(`${fileOf(directory)}.old`);
  old.pragma('page_size = 1024');
  old.pragma('journal_mode = WAL');
  old.exec(MIGRATIONS[0]);
  for (const table of ['meta', 'opening', 'series', 'journal', 'lane', 'key_log', 'loss']) {
    for (const row of db.prepare<[], Record<string, unknown>>(`SELECT * FROM ${table}`).iterate()) {
      for (const later of ['priority', 'boot', 'start_us', 'alive_us']) delete row[later];
      const columns = Object.keys(row);
      old.prepare(`INSERT INTO ${table} (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`).run(...Object.values(row));
    }
  }
  const insert = old.prepare(`INSERT INTO batch (${HEAD}, body) VALUES (${'?, '.repeat(12)}?)`);
  for (const row of db.prepare<[], object>(`SELECT ${HEAD}, body FROM batch JOIN batch_body USING (id)`).iterate())
    insert.run(...Object.values(row));
  old.prepare("UPDATE meta SET value = '1' WHERE key = 'schema'").run();
  old.pragma('user_version = 1');
  old.close();
  db.close();
  copyFileSync(`${fileOf(directory)}.old`, fileOf(directory));
  return { readings, seqs };
}

describe('a journal of version 1', () => {
  test('with a full buffer opens with all that it had, under the same places, and takes no room beside the buffer', () => {
    const directory = temporaryDirectory();
    const bufferBytesMax = 512 * 1024;
    const before = versionOne(directory, bufferBytesMax);
    const bytesBefore = statSync(fileOf(directory)).size;
    const journal = openJournal(directory, { bufferBytesMax, bufferPolicy: 'reject' });
    expect(statSync(fileOf(directory)).size).toBeLessThan(bytesBefore * 1.05);
    const held = drain(journal);
    expect(held.readings.sort()).toEqual(before.readings.sort());
    expect(held.exceptions).toEqual([]);
    expect(before.seqs.length).toBeGreaterThan(1);
    expect(held.seqs).toEqual(expect.arrayContaining(before.seqs));
    expect(readdirSync(directory)).not.toContain('quarantine');
  });

  test('of which a crash left half moved is moved on by the next opening, damaged or not', () => {
    for (const damaged of [false, true]) {
      const directory = temporaryDirectory();
      const before = versionOne(directory, 400 * 1024);
      const db = new Database(fileOf(directory));
      db.exec(MIGRATIONS[1]);
      db.prepare("UPDATE meta SET value = '2' WHERE key = 'schema'").run();
      db.pragma('user_version = 2');
      db.exec(`INSERT INTO batch (${HEAD}) SELECT ${HEAD} FROM ${OLD_BATCH_TABLE} ORDER BY id LIMIT 3;
        INSERT INTO batch_body SELECT id, body FROM ${OLD_BATCH_TABLE} ORDER BY id LIMIT 3;
        DELETE FROM ${OLD_BATCH_TABLE} WHERE id IN (SELECT id FROM batch)`);
      if (damaged) db.exec('DROP TABLE key_log'); // enough for a salvage
      db.close();
      const held = drain(openJournal(directory));
      expect(held.readings.sort()).toEqual(before.readings.sort());
      expect(held.exceptions.length).toBe(damaged ? 1 : 0);
    }
  });

  test('is moved in steps of which each can be the last', () => {
    const directory = temporaryDirectory();
    versionOne(directory, 1_200 * 1024);
    const db = new Database(fileOf(directory));
    db.exec(MIGRATIONS[1]);
    let steps = 0;
    const transaction = db.transaction.bind(db);
    const counting = new Proxy(db, {
      get: (target, name) => {
        if (name === 'transaction')
          return (run: () => void) => {
            steps++;
            return transaction(run);
          };
        const value: unknown = Reflect.get(target, name);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    moveBatches(counting);
    expect(steps).toBeGreaterThan(2);
    expect(db.prepare('SELECT count(*) AS n FROM batch b LEFT JOIN batch_body USING (id) WHERE body IS NULL').get()).toEqual({ n: 0 });
    db.close();
  });
});

test('giving a batch its place does not write its body a second time', () => {
  const directory = temporaryDirectory();
  const journal = openJournal(directory);
  for (let group = 0; group < 10; group++) {
    journal.commit(groupOf([Array.from({ length: 5_000 }, (_, at) => ({ series: 0, value: Math.sin(group * 5_000 + at) }))]));
    journal.tick();
  }
  const { epoch } = journal;
  journal.close();
  // A new WAL is as long as what is written to it.
  const again = openJournal(directory);
  const walBytes = (): number => statSync(`${fileOf(directory)}-wal`).size;
  const before = walBytes();
  const offered = again.offer(again.epoch, 'live', 0, 1e9);
  expect(again.offer(epoch, 'live', 0, 1e9)).toEqual([]);
  const bytes = offered.reduce((sum, { body }) => sum + body.length, 0);
  expect(bytes).toBeGreaterThan(200_000);
  expect(walBytes() - before).toBeLessThan(10_000);
});
