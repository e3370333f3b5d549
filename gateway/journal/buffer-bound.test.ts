import Database from 'better-sqlite3';
import { expect, test } from 'vitest';
import { ManualClock } from '../../shared/clock.ts';
import { insertBatch } from './batch-store.ts';
import { evict } from './buffer-bound.ts';
import { countingHex, START_US, temporaryDirectory } from './journal-fixture.ts';
import { JournalStore } from './journal-store.ts';

test('an eviction whose fsync fails after all of it reached the file leaves the batch or its gap', () => {
  const clock = new ManualClock(START_US);
  const options = { growWal: false, directory: temporaryDirectory(), clock, randomHex: countingHex('evict') };
  const store = new JournalStore({ ...options, bufferBytesMax: 1024 ** 2, freeSpaceReserveBytes: 0 }, () => {});
  try {
    const times = { arrival_from_us: START_US, arrival_to_us: START_US, event_from_us: START_US, event_to_us: START_US + 10 };
    const head = { epoch: null, lane: null, seq: null, readings: 7, exceptions: 0, ...times, priority: 0, thinned: 0 };
    store.write(() => insertBatch(store.sql, store.ids.batch++, head, Buffer.from('body')));
    store.loadTotals();
    const db = store.ready();
    const begin = db.transaction.bind(db);
    const failing = (run: () => unknown): unknown => ({
      immediate: (): never => {
        begin(run).immediate();
        throw new Database.SqliteError('disk I/O error', 'SQLITE_IOERR_FSYNC');
      },
    });
    Object.assign(db, { transaction: failing });
    expect(() => evict(store, 1, clock.monotonicUs())).toThrow(expect.objectContaining({ code: 'ERR_JOURNAL_UNAVAILABLE' }) as Error);
    store.ready();
    expect(store.counters.reopened).toBe(1);
    expect(store.totals.batchReadings).toBe(0);
    expect(store.sql.exceptionsFirst.all(9)).toMatchObject([{ kind: 'gap', reason: 'buffer_full', readings: 7 }]);
  } finally {
    store.close();
  }
});
