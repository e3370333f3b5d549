import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import Database from 'better-sqlite3';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../shared/clock.ts';
import { isSluiceError } from '../../shared/errors.ts';
import { connect } from './database.ts';
import { SCHEMA_VERSION } from './schema.ts';
import { crashCopy, drain, groupOf, openJournal, START_US, temporaryDirectory } from './journal-fixture.ts';
import type { Journal } from './journal.ts';

const fileOf = (directory: string): string => path.join(directory, 'journal.db');

/** Sealed batches with and without a seq, and rows: something of every kind. */
function filled(directory: string, groups = 12): Journal {
  const clock = new ManualClock(START_US);
  // A small buffer has a small WAL: some of the groups are in the database, some in the WAL.
  const journal = openJournal(directory, { clock, bufferBytesMax: 1024 * 1024 });
  for (let group = 0; group < groups; group++) {
    clock.advance(1_000_000);
    journal.commit(
      groupOf(
        Array.from({ length: 40 }, (_, at) => [{ series: at % 8, value: group * 100 + at }]),
        clock.monotonicUs(),
      ),
    );
    if (group < groups - 2) journal.tick();
    if (group === groups / 2) journal.offer(journal.epoch, 'live', 0, 1e9);
  }
  return journal;
}

function overwrite(file: string, offset: number, bytes: Uint8Array): void {
  const handle = openSync(file, 'r+');
  writeSync(handle, bytes, 0, bytes.length, offset);
  closeSync(handle);
}

/** After whatever happened: it opens, takes readings, and what it offers can be read. */
function expectUsable(directory: string): ReturnType<typeof drain> {
  const journal = openJournal(directory, { clock: new ManualClock(START_US + 3600_000_000) });
  journal.commit(groupOf([[{ series: 0, value: 424242 }]]));
  journal.tick();
  const held = drain(journal);
  expect(held.readings).toContain('d0=424242');
  journal.close();
  return held;
}

describe('a damaged file', () => {
  const image = temporaryImage();

  test('whatever bytes of database or WAL are overwritten or cut off, it opens, goes on, and invents nothing', { timeout: 30_000 }, () => {
    const written = new Set(
      Array.from({ length: 12 }, (_, group) => Array.from({ length: 40 }, (_, at) => `d${at % 8}=${group * 100 + at}`)).flat(),
    );
    const damage = fc.record({
      suffix: fc.constantFrom('', '', '-wal'),
      at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 600 }),
      cut: fc.nat(9).map((n) => n === 0),
    });
    fc.assert(
      fc.property(fc.array(damage, { minLength: 1, maxLength: 4 }), (damages) => {
        const directory = temporaryDirectory();
        restore(image, directory);
        for (const { suffix, at, bytes, cut } of damages) {
          const file = `${fileOf(directory)}${suffix}`;
          const offset = Math.floor(statSync(file).size * at);
          if (cut) truncateSync(file, offset);
          else if (offset < statSync(file).size) overwrite(file, offset, bytes);
        }
        const { readings, exceptions } = expectUsable(directory);
        // The last group alone may have been in writing when the power went. A WAL that was cut looks like that, whatever it lost.
        const walCut = damages.some(({ suffix, cut }) => cut && suffix === '-wal');
        if (exceptions.length === 0 && !walCut) expect(readings.length).toBeGreaterThan(written.size - 40);
        expect(new Set(readings).size).toBe(readings.length);
        expect(readings.filter((reading) => !written.has(reading) && reading !== 'd0=424242')).toEqual([]);
      }),
      { numRuns: 25 },
    );
  });

  test('that is no database is moved aside, and a gap of unknown count says so', () => {
    const directory = temporaryDirectory();
    writeFileSync(fileOf(directory), Buffer.alloc(5000, 'no database '));
    const { readings, exceptions } = expectUsable(directory);
    expect(readings).toEqual(['d0=424242']);
    expect(exceptions).toMatchObject([{ kind: 'gap', readingCount: null }]);
    expect(exceptions[0]?.reason).toMatch(/^journal_corrupt/);
    const [quarantined] = readdirSync(path.join(directory, 'quarantine'));
    expect(
      readFileSync(path.join(directory, 'quarantine', quarantined, 'journal.db'))
        .subarray(0, 12)
        .toString(),
    ).toBe('no database ');
  });

  test('keeps what can still be read, under the same seqs, and fills the hole with a tombstone', () => {
    const directory = temporaryDirectory();
    const journal = openJournal(directory);
    for (let group = 0; group < 30; group++) {
      journal.commit(groupOf([Array.from({ length: 200 }, (_, at) => ({ series: 0, value: Math.sin(group * 200 + at) }))]));
      journal.tick();
    }
    const { epoch } = journal;
    const before = journal.offer(epoch, 'live', 0, 1e9);
    journal.close();
    checkpoint(directory); // so that the damage below is not covered by the WAL
    const pages = statSync(fileOf(directory)).size / 1024;
    overwrite(fileOf(directory), Math.floor(pages / 2) * 1024, Buffer.alloc(1024, 0xaa));
    const again = openJournal(directory);
    expect(existsSync(path.join(directory, 'quarantine'))).toBe(true);
    const after = again.offer(epoch, 'live', 0, 1e9);
    expect(after.map(({ seq }) => seq)).toEqual(before.map(({ seq }) => seq));
    const changed = after.filter(({ body }, index) => Buffer.compare(body, before[index]?.body) !== 0);
    expect(changed.map(({ readingCount, exceptionCount }) => [readingCount, exceptionCount])).toEqual([[0, 1]]);
    expect(drain(again).exceptions.map(({ kind, reason }) => `${kind} ${reason.split(':')[0]}`)).toEqual([
      'gap batch_corrupt',
      'gap journal_corrupt',
    ]);
  });

  test('found while it runs: a damaged batch is a tombstone under its seq, and the lane goes on', () => {
    const directory = temporaryDirectory();
    filled(directory).close();
    const db = new Database(fileOf(directory));
    db.prepare('UPDATE batch_body SET body = zeroblob(length(body)) WHERE id = (SELECT id FROM batch WHERE seq = 3)').run();
    db.prepare('UPDATE batch SET readings = readings + 1 WHERE seq = 5').run();
    db.prepare('UPDATE batch SET exceptions = 2 WHERE seq = 7').run();
    db.close();
    const journal = openJournal(directory);
    const { readings, exceptions, seqs } = drain(journal);
    expect(exceptions.map(({ kind, reason, readingCount }) => [kind, reason, readingCount])).toEqual([
      ['gap', 'batch_corrupt', 40],
      ['gap', 'batch_corrupt', 41],
      ['gap', 'batch_corrupt', 40],
      ['gap', 'batch_corrupt: 2 exceptions', null], // how many readings they told of is not known
    ]);
    expect(readings.length).toBe(12 * 40 - 120);
    expect(seqs.length).toBe(12 - 1);
    expect(journal.state().backlog.readings).toBe(360);
  });

  test('found while it seals: a damaged row is a gap with its count, and the others are kept', () => {
    const directory = temporaryDirectory();
    const copy = temporaryDirectory();
    filled(directory);
    crashCopy(directory, copy);
    const db = new Database(fileOf(copy));
    db.prepare('UPDATE journal SET body = zeroblob(length(body)) WHERE id = (SELECT max(id) FROM journal)').run();
    db.close();
    const { readings, exceptions } = drain(openJournal(copy));
    expect(readings.length).toBe(11 * 40);
    expect(exceptions).toMatchObject([{ kind: 'gap', reason: 'journal_corrupt: row', readingCount: 40, fromUs: START_US + 12_000_000 }]);
  });
});

test('a crash between moving aside and taking over does not lose the salvage, nor do it twice', () => {
  const directory = temporaryDirectory();
  filled(directory).close();
  overwrite(fileOf(directory), 100, Buffer.from([0]));
  const first = openJournal(directory);
  const kept = drain(first).readings.length;
  first.close();
  const folder = path.join(directory, 'quarantine', readdirSync(path.join(directory, 'quarantine'))[0]);
  // The marker was not yet removed, and: the fresh database was not yet there.
  writeFileSync(path.join(folder, 'salvage-pending'), '');
  const again = openJournal(directory);
  expect(drain(again).readings.length).toBe(kept);
  again.close();
  writeFileSync(path.join(folder, 'salvage-pending'), '');
  for (const suffix of ['', '-wal']) rmSync(`${fileOf(directory)}${suffix}`, { force: true });
  expect(drain(openJournal(directory)).readings.length).toBe(kept);
});

describe('opening', () => {
  test('refuses the file of a newer version and leaves it alone', () => {
    const directory = temporaryDirectory();
    filled(directory).close();
    const db = new Database(fileOf(directory));
    db.pragma(`user_version = ${SCHEMA_VERSION + 1}`);
    db.prepare("UPDATE meta SET value = ? WHERE key = 'schema'").run(String(SCHEMA_VERSION + 1));
    db.close();
    expect(codeOf(() => openJournal(directory))).toBe('ERR_JOURNAL_VERSION');
    expect(existsSync(path.join(directory, 'quarantine'))).toBe(false);
  });

  test('refuses a directory that another journal has open', () => {
    const directory = temporaryDirectory();
    filled(directory);
    expect(codeOf(() => openJournal(directory))).toBe('ERR_JOURNAL_LOCKED');
  });

  test('sets what durability rests on', () => {
    const db = connect(fileOf(temporaryDirectory()), { pagesMax: 1 << 20, check: true, growWal: false });
    expect(['journal_mode', 'synchronous', 'page_size', 'locking_mode'].map((name) => db.pragma(name, { simple: true }))).toEqual([
      'wal',
      2,
      1024,
      'exclusive',
    ]);
    db.close();
  });
});

function checkpoint(directory: string): void {
  const db = new Database(fileOf(directory));
  db.pragma('wal_checkpoint(TRUNCATE)');
  db.close();
}

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (isSluiceError(error)) return error.code;
    throw error;
  }
  return 'none';
}

/** The files of a filled journal as a crash leaves them, in memory. */
function temporaryImage(): () => { readonly database: Buffer; readonly wal: Buffer } {
  let image: { database: Buffer; wal: Buffer } | null = null;
  return () => {
    if (image === null) {
      const directory = temporaryDirectory();
      const copy = temporaryDirectory();
      const journal = filled(directory);
      crashCopy(directory, copy);
      journal.close();
      image = { database: readFileSync(fileOf(copy)), wal: readFileSync(`${fileOf(copy)}-wal`) };
    }
    return image;
  };
}

function restore(image: ReturnType<typeof temporaryImage>, directory: string): void {
  const { database, wal } = image();
  writeFileSync(fileOf(directory), database);
  writeFileSync(`${fileOf(directory)}-wal`, wal);
}
