import { describe, expect, test } from 'vitest';
import { decodeBatch } from '../../shared/batch/decode.ts';
import { ManualClock } from '../../shared/clock.ts';
import type { OfferedBatch } from './journal-api.ts';
import { drain, groupOf, openJournal, START_US, temporaryDirectory } from './journal-fixture.ts';
import type { Journal } from './journal.ts';

const SECOND_US = 1_000_000;
const OLD_MS = 10_000;

const valuesOf = (batches: readonly OfferedBatch[]): number[] => batches.flatMap(({ body }) => [...decodeBatch(body).runs.value]);

/** One batch a second, its value the second. */
function seconds(journal: Journal, clock: ManualClock, from: number, to: number): void {
  for (let value = from; value < to; value++) {
    journal.commit(groupOf([[{ series: 0, value }]], clock.monotonicUs()));
    journal.tick();
    clock.advance(SECOND_US);
  }
}

function afterOutage(seconds_ = 40): { journal: Journal; clock: ManualClock; directory: string } {
  const clock = new ManualClock(START_US);
  const directory = temporaryDirectory();
  const journal = openJournal(directory, { clock, backfillAfterMs: OLD_MS });
  seconds(journal, clock, 0, seconds_);
  return { journal, clock, directory };
}

describe('after an outage', () => {
  test('the live lane offers what is young, the backfill lane the oldest first, each reading on one of them', () => {
    const { journal, clock } = afterOutage();
    const { epoch } = journal;
    expect(journal.lanes().map(({ lane }) => lane)).toEqual(['live', 'backfill']);
    const live = valuesOf(journal.offer(epoch, 'live', 0, 1e9));
    expect(live).toEqual(Array.from({ length: 10 }, (_, at) => 30 + at));
    expect(valuesOf(journal.offer(epoch, 'backfill', 0, 1))).toEqual([0]);
    seconds(journal, clock, 40, 43);
    expect(valuesOf(journal.offer(epoch, 'live', 10, 1e9))).toEqual([40, 41, 42]);
    expect(valuesOf(journal.offer(epoch, 'backfill', 1, 1e9))).toEqual(Array.from({ length: 29 }, (_, at) => 1 + at));
    expect(journal.offer(epoch, 'backfill', 30, 1e9)).toEqual([]);
    journal.free(epoch, 'backfill', 30);
    const held = journal.lanes().filter(({ base, assigned }) => base <= assigned);
    expect(held).toMatchObject([{ epoch, lane: 'live', base: 1, assigned: 13 }]);
  });

  test('live data that the lane could not take in time joins the backlog', () => {
    const { journal, clock } = afterOutage(10);
    const { epoch } = journal;
    expect(valuesOf(journal.offer(epoch, 'live', 0, 1))).toEqual([0]);
    clock.advance(60 * SECOND_US);
    seconds(journal, clock, 10, 11);
    expect(valuesOf(journal.offer(epoch, 'live', 1, 1e9))).toEqual([10]);
    expect(valuesOf(journal.offer(epoch, 'backfill', 0, 1e9))).toEqual(Array.from({ length: 9 }, (_, at) => 1 + at));
  });

  test('a clock that is set back after the live lane has passed a backlog over does not strand it', () => {
    const { journal, clock } = afterOutage();
    const { epoch } = journal;
    journal.offer(epoch, 'live', 0, 1e9);
    clock.step(-3_600 * SECOND_US);
    expect(journal.lanes().map(({ lane, isDue }) => [lane, isDue])).toEqual([
      ['live', true],
      ['backfill', true],
    ]);
    expect(valuesOf(journal.offer(epoch, 'backfill', 0, 1e9))).toEqual(Array.from({ length: 30 }, (_, at) => at));
  });

  test('the watermark waits for what the backfill lane has not got, and depends on both lanes', () => {
    const { journal } = afterOutage();
    const { epoch } = journal;
    journal.offer(epoch, 'live', 0, 1e9);
    expect(journal.state().unsentUs).toBe(START_US);
    journal.offer(epoch, 'backfill', 0, 1);
    expect(journal.state().unsentUs).toBe(START_US + SECOND_US);
    expect(journal.state().positions).toEqual([
      { epoch, lane: 'live', seq: 10 },
      { epoch, lane: 'backfill', seq: 1 },
    ]);
    journal.offer(epoch, 'backfill', 1, 1e9);
    expect(journal.state().unsentUs).toBe(null);
    expect(journal.state().backlog.oldestUs).toBe(START_US);
  });

  test('both lanes go on under their places after a crash, and what had none is still on one lane alone', () => {
    const { journal, clock, directory } = afterOutage();
    const { epoch } = journal;
    journal.offer(epoch, 'live', 0, 1);
    journal.offer(epoch, 'backfill', 0, 1);
    journal.close();
    const again = openJournal(directory, { clock, backfillAfterMs: OLD_MS });
    expect(again.lanes().map(({ epoch: of, lane, base, assigned }) => [of === epoch, lane, base, assigned])).toEqual([
      [true, 'backfill', 1, 1],
      [true, 'live', 1, 1],
      [false, 'live', 1, 0],
      [false, 'backfill', 1, 0],
    ]);
    const { readings } = drain(again);
    expect(readings.length).toBe(40);
    expect(new Set(readings).size).toBe(40);
  });

  test('a clock that is set back makes nothing old and nothing lost', () => {
    const { journal, clock } = afterOutage();
    clock.step(-3600 * SECOND_US);
    expect(drain(journal).readings.length).toBe(40);
  });
});

describe('while the hub is away', () => {
  test('small batches of the backlog become larger ones, without loss, under the same bounds of time', () => {
    const clock = new ManualClock(START_US);
    const journal = openJournal(temporaryDirectory(), { clock, backfillAfterMs: OLD_MS, compression: 'br' });
    const sent: string[] = [];
    for (let second = 0; second < 200; second++) {
      const readings = Array.from({ length: 100 }, (_, series) => ({ series, value: second + series / 100 }));
      sent.push(...readings.map(({ series, value }) => `d${series}=${value}`));
      journal.commit(groupOf([readings], clock.monotonicUs(), 100));
      journal.tick(1);
      clock.advance(SECOND_US);
    }
    const { merged, batches, backfill } = journal.stats();
    expect(merged).toBeGreaterThan(1);
    expect(batches).toBeLessThan(100);
    expect(backfill).toMatchObject({ readings: 20_000, oldestUs: START_US });
    expect(journal.state()).toMatchObject({ unsentUs: START_US, backlog: { readings: 20_000 } });
    const held = drain(journal);
    expect(held.readings.sort()).toEqual(sent.sort());
    expect(held.exceptions).toEqual([]);
    expect(Math.min(...held.times)).toBe(START_US);
    expect(Math.max(...held.times)).toBe(START_US + 199 * SECOND_US);
  });
});

test('what comes while sealing goes on is for the next batch: a busy gateway does not seal every group by itself', () => {
  const journal = openJournal(temporaryDirectory(), { batchReadingsMax: 100 });
  for (let group = 0; group < 5; group++) journal.commit(groupOf([Array.from({ length: 50 }, (_, at) => ({ series: at % 8, value: at }))]));
  let rounds = 0;
  for (let more = true; more && rounds < 20; rounds++) {
    more = journal.tick(1);
    journal.commit(groupOf([[{ series: 0, value: 1 }]])); // there is always something new
  }
  expect(rounds).toBe(3);
});
