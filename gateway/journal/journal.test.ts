import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../shared/clock.ts';
import { isSluiceError, SluiceError } from '../../shared/errors.ts';
import { groupOf, groupOfExceptions, crashCopy, drain, openJournal, START_US, temporaryDirectory } from './journal-fixture.ts';
import { newProgress } from './journal.ts';

const SECOND_US = 1_000_000;

describe('a group', () => {
  test('is there after a crash right behind its commit, sealed by the next opening', () => {
    const directory = temporaryDirectory();
    const copy = temporaryDirectory();
    const journal = openJournal(directory);
    journal.commit(
      groupOf([
        [
          { series: 0, value: 1.5 },
          { series: 1, value: 2 },
        ],
        [{ series: 0, value: NaN, text: 'on' }],
      ]),
    );
    crashCopy(directory, copy);
    const { readings, exceptions } = drain(openJournal(copy));
    expect(readings).toEqual(['d0=1.5', 'd0=on', 'd1=2']);
    expect(exceptions).toEqual([]);
  });

  test('with one message that cannot be stored keeps the others, each once', () => {
    const directory = temporaryDirectory();
    const journal = openJournal(directory);
    const messages = Array.from({ length: 9 }, (_, index) => [{ series: index === 5 ? 99 : 0, value: index }]);
    const { failed } = journal.commit(groupOf(messages));
    expect(failed.map(({ message, error }) => [message, error.code])).toEqual([[5, 'ERR_JOURNAL_MESSAGE']]);
    journal.tick();
    expect(drain(journal).readings).toEqual([0, 1, 2, 3, 4, 6, 7, 8].map((value) => `d0=${value}`));
  });

  test('that meets a full disk is refused as a whole and stored once when there is room', () => {
    const directory = temporaryDirectory();
    const journal = openJournal(directory, { bufferBytesMax: 128 * 1024, bufferPolicy: 'reject', batchBytesMax: 1024 * 1024 });
    let stored = 0;
    let refusal: unknown = null;
    const next = () => groupOf([Array.from({ length: 500 }, (_, index) => ({ series: 0, value: stored + index + 0.123456789 }))], 0);
    for (; refusal === null; stored += 500) {
      try {
        journal.commit(next());
      } catch (error) {
        refusal = error;
        break;
      }
    }
    expect(refusal).toBeInstanceOf(SluiceError);
    expect((refusal as SluiceError).kind).toMatchObject({ retryable: true, httpStatus: 503 });
    expect(stored).toBeGreaterThan(1000);
    journal.tick();
    const { epoch } = journal;
    const [batch] = journal.offer(epoch, 'live', 0, 1);
    expect(batch?.readingCount).toBe(stored);
    journal.free(epoch, 'live', 1);
    journal.tick();
    journal.commit(next());
    journal.tick();
    const { readings } = drain(journal);
    expect(readings.length).toBe(500);
    expect(readings[0]).toBe(`d0=${stored + 0.123456789}`);
  });
});

describe('sealing', () => {
  test('takes the arrival where there is no event time, and quarantines what cannot be true with its readings', () => {
    const clock = new ManualClock(START_US);
    const journal = openJournal(temporaryDirectory(), { clock });
    clock.advance(10 * SECOND_US);
    const ahead = START_US + 10 * SECOND_US + 301 * SECOND_US;
    journal.commit(
      groupOf(
        [
          [{ series: 0, value: 1 }],
          [{ series: 1, value: 2, eventTimeUs: ahead }],
          [{ series: 1, value: 3, eventTimeUs: 5 }],
          [{ series: 2, value: 4, eventTimeUs: START_US - 3600 * SECOND_US }],
        ],
        8 * SECOND_US,
      ),
    );
    journal.tick();
    const { readings, times, exceptions } = drain(journal);
    expect(readings).toEqual(['d0=1', 'd2=4']);
    expect(times).toEqual([START_US + 8 * SECOND_US, START_US - 3600 * SECOND_US]);
    expect(exceptions.map(({ kind, reason, device, readingCount, fromUs }) => [kind, reason, device, readingCount, fromUs])).toEqual([
      ['quarantined', 'event_time_ahead', 'd1', 1, START_US + 8 * SECOND_US],
      ['quarantined', 'event_time_before_2015', 'd1', 1, START_US + 8 * SECOND_US],
    ]);
    expect(JSON.parse(Buffer.from(exceptions[0]?.payload as Uint8Array).toString())).toEqual({
      device: 'd1',
      metric: 'm',
      tags: '',
      readings: [{ ts: ahead, value: 2, text: null }],
    });
  });

  test('splits readings of many days into batches of at most eight', () => {
    const journal = openJournal(temporaryDirectory());
    const day = 86_400 * SECOND_US;
    journal.commit(
      groupOf([Array.from({ length: 20 }, (_, index) => ({ series: index % 2, value: index, eventTimeUs: START_US - index * day }))]),
    );
    journal.tick();
    const batches = journal.offer(journal.epoch, 'live', 0, 1e9);
    expect(batches.map(({ readingCount }) => readingCount)).toEqual([8, 8, 4]);
  });

  test('waits for the clock, and quarantines what an opening without one left behind', () => {
    const directory = temporaryDirectory();
    openJournal(directory, { clock: new ManualClock(START_US) }).close();
    const unset = new ManualClock(1_000_000_000);
    const lost = openJournal(directory, { clock: unset });
    lost.commit(groupOf([[{ series: 0, value: 7 }]], 0));
    unset.advance(60 * SECOND_US);
    lost.tick();
    expect(drain(lost).readings).toEqual([]);
    expect(lost.state().backlog.readings).toBe(1);
    lost.close();
    const still = openJournal(directory, { clock: new ManualClock(5_000_000_000) });
    still.commit(groupOf([[{ series: 1, value: 8 }]], 0));
    expect(drain(still).seqs).toEqual([]);
    still.close();
    const later = START_US + 86_400 * SECOND_US;
    const { readings, exceptions } = drain(openJournal(directory, { clock: new ManualClock(later) }));
    expect(readings).toEqual([]);
    expect(exceptions.map(({ kind, reason, device, fromUs, toUs }) => [kind, reason, device, fromUs, toUs])).toEqual([
      ['quarantined', 'clock_unknown', 'd0', START_US, later],
      ['quarantined', 'clock_unknown', 'd1', START_US, later],
    ]);
  });

  test('resolves with the clock that became known later in the same opening', () => {
    const clock = new ManualClock(0);
    const journal = openJournal(temporaryDirectory(), { clock });
    clock.advance(SECOND_US);
    journal.commit(groupOf([[{ series: 0, value: 7 }]], SECOND_US));
    clock.step(START_US);
    clock.advance(SECOND_US);
    journal.tick();
    expect(drain(journal).times).toEqual([START_US + SECOND_US]);
  });
});

describe('lanes', () => {
  test('number batches durably before they are offered, and free never above what was assigned', () => {
    const directory = temporaryDirectory();
    const copy = temporaryDirectory();
    const journal = openJournal(directory);
    for (let value = 0; value < 3; value++) {
      journal.commit(groupOf([[{ series: 0, value }]]));
      journal.tick();
    }
    const { epoch } = journal;
    expect(journal.lanes()).toEqual([{ epoch, lane: 'live', base: 1, assigned: 0, isDue: false }]);
    expect(journal.offer(epoch, 'live', 0, 1).map(({ seq }) => seq)).toEqual([1]);
    crashCopy(directory, copy);
    expect(journal.offer(epoch, 'live', 1, 1).map(({ seq }) => seq)).toEqual([2]);
    journal.free(epoch, 'live', 99);
    expect(journal.lanes()).toEqual([{ epoch, lane: 'live', base: 3, assigned: 2, isDue: false }]);
    expect(journal.offer(epoch, 'live', 2, 1e6).map(({ seq }) => seq)).toEqual([3]);

    const again = openJournal(copy);
    expect(again.epoch).not.toBe(epoch);
    expect(again.lanes()).toEqual([
      { epoch, lane: 'live', base: 1, assigned: 1, isDue: true },
      { epoch: again.epoch, lane: 'live', base: 1, assigned: 0, isDue: false },
    ]);
    expect(again.offer(epoch, 'live', 0, 1e6).map(({ seq }) => seq)).toEqual([1]);
    expect(again.offer(again.epoch, 'live', 0, 1e6).map(({ seq }) => seq)).toEqual([1, 2]);
    again.free(epoch, 'live', 1);
    expect(again.lanes().map((lane) => lane.epoch)).toEqual([again.epoch]);
  });

  test('of a restored image do not meet those that were written after the copy was made', () => {
    const directory = temporaryDirectory();
    const image = temporaryDirectory();
    const first = openJournal(directory);
    first.commit(groupOf([[{ series: 0, value: 1 }]]));
    first.tick();
    first.offer(first.epoch, 'live', 0, 1);
    crashCopy(directory, image);
    first.commit(groupOf([[{ series: 0, value: 2 }]]));
    first.tick();
    const after = drain(first);
    first.close();
    crashCopy(image, directory);
    const restored = openJournal(directory);
    restored.commit(groupOf([[{ series: 0, value: 3 }]]));
    restored.tick();
    const held = drain(restored);
    expect(after.readings).toEqual(['d0=1', 'd0=2']);
    expect(held.readings.sort()).toEqual(['d0=1', 'd0=3']);
    const positionOf = (from: typeof held, reading: string) => from.seqs[from.readings.indexOf(reading)];
    expect(after.seqs).not.toContain(positionOf(held, 'd0=3'));
  });

  test('start anew when the hub knows more than was assigned: what has a place keeps it, the rest gets one in the new epoch', () => {
    const journal = openJournal(temporaryDirectory());
    for (let value = 0; value < 3; value++) {
      journal.commit(groupOf([[{ series: 0, value }]]));
      journal.tick();
    }
    const { epoch } = journal;
    journal.offer(epoch, 'live', 0, 1);
    journal.startNewEpoch();
    expect(journal.epoch).not.toBe(epoch);
    expect(journal.offer(epoch, 'live', 1, 1e6)).toEqual([]);
    const { readings, seqs } = drain(journal);
    expect(readings).toEqual(['d0=0', 'd0=1', 'd0=2']);
    expect(seqs).toEqual([`${epoch}/1`, `${journal.epoch}/1`, `${journal.epoch}/2`]);
  });
});

describe('the bound', () => {
  test('of drop-oldest evicts unsent batches and says so in one gap with its count and range', () => {
    const clock = new ManualClock(START_US);
    const journal = openJournal(temporaryDirectory(), { clock, bufferPolicy: 'drop-oldest', bufferBytesMax: 400 * 1024 });
    let written = 0;
    for (let second = 0; second < 60; second++) {
      clock.advance(SECOND_US);
      const group = groupOf([Array.from({ length: 1000 }, () => ({ series: 0, value: 1 / (written++ + 3) }))], clock.monotonicUs());
      // As the journal's server does: what finds no room is tried again when room was made.
      try {
        journal.commit(group);
      } catch {
        journal.commit(group);
      }
      journal.tick();
      expect(journal.stats().usedBytes).toBeLessThanOrEqual(400 * 1024);
      expect(journal.state().accepting).toBe(true);
    }
    journal.tick();
    const { readings, exceptions } = drain(journal);
    const lost = exceptions.reduce((sum, { readingCount }) => sum + (readingCount ?? NaN), 0);
    expect(lost).toBeGreaterThan(0);
    expect(readings.length + lost).toBe(60_000);
    expect(new Set(exceptions.map(({ kind, reason }) => `${kind}/${reason}`))).toEqual(new Set(['gap/buffer_full']));
    expect(Math.min(...exceptions.map(({ fromUs }) => fromUs))).toBe(START_US + SECOND_US);
    expect(journal.stats().losses).toMatchObject([{ reason: 'buffer_full', readings: lost }]);
  });

  test('makes room for a group that is larger than what it leaves free', () => {
    const clock = new ManualClock(START_US);
    const journal = openJournal(temporaryDirectory(), {
      clock,
      bufferPolicy: 'drop-oldest',
      bufferBytesMax: 1024 * 1024,
      batchReadingsMax: 2_000,
    });
    let written = 0;
    let refusals = 0;
    // As the journal's server and the uplink do: what fails for want of room is tried again.
    const persistently = <T>(run: () => T, attempts = 4): T => {
      try {
        return run();
      } catch (error) {
        refusals++;
        expect(isSluiceError(error, 'ERR_JOURNAL_UNAVAILABLE')).toBe(true);
        expect(attempts).toBeGreaterThan(1);
        return persistently(run, attempts - 1);
      }
    };
    for (let group = 0; group < 30; group++) {
      clock.advance(SECOND_US);
      const readings = Array.from({ length: 12_000 }, () => ({ series: 0, value: 1 / (written++ + 3) }));
      const next = groupOf([readings], clock.monotonicUs());
      persistently(() => journal.commit(next));
      journal.tick();
    }
    expect(refusals).toBeGreaterThan(0);
    const { readings, exceptions } = persistently(() => {
      journal.tick(); // giving places may have had to make room: its gap is to be sealed too
      return drain(journal);
    });
    expect(readings.length + exceptions.reduce((sum, { readingCount }) => sum + (readingCount ?? NaN), 0)).toBe(written);
  });

  test('of reject, reached with large groups, leaves what it takes to seal, offer and free everything', () => {
    const clock = new ManualClock(START_US);
    const journal = openJournal(temporaryDirectory(), { clock, bufferBytesMax: 1024 * 1024, bufferPolicy: 'reject' });
    // Texts: a batch is as large as the group that it was. Smaller and smaller groups leave no room for one.
    let written = 0;
    for (let size = 128; size >= 1;) {
      clock.advance(SECOND_US);
      const readings = Array.from({ length: size }, (_, at) => ({ series: 0, value: NaN, text: `${written + at}`.padStart(1_000) }));
      try {
        journal.commit(groupOf([readings], clock.monotonicUs()));
        written += size;
      } catch (error) {
        expect(isSluiceError(error, 'ERR_JOURNAL_FULL')).toBe(true);
        size >>= 1;
      }
      journal.tick();
    }
    expect(drain(journal).readings.length).toBe(written);
    const { epoch, assigned } = journal.lanes()[0];
    journal.free(epoch, 'live', assigned);
    journal.commit(groupOf([[{ series: 0, value: 1 }]], clock.monotonicUs()));
    journal.tick();
    expect(drain(journal).readings).toEqual(['d0=1']);
  });

  test('is not reached by offering what is there: what the WAL holds twice is no reason to evict', () => {
    const clock = new ManualClock(START_US);
    const journal = openJournal(temporaryDirectory(), { clock, bufferPolicy: 'drop-oldest', bufferBytesMax: 1024 * 1024 });
    let written = 0;
    while (journal.stats().usedBytes < 0.8 * 1024 * 1024) {
      clock.advance(SECOND_US);
      journal.commit(groupOf([Array.from({ length: 1000 }, () => ({ series: 0, value: 1 / (written++ + 3) }))], clock.monotonicUs()));
      journal.tick();
    }
    expect(journal.stats().losses).toEqual([]);
    expect(journal.offer(journal.epoch, 'live', 0, 512 * 1024).length).toBeGreaterThan(10);
    journal.tick();
    expect(journal.stats().losses).toEqual([]);
    expect(journal.stats().usedBytes).toBeLessThan(1024 * 1024);
    expect(drain(journal).readings.length).toBe(written);
  });

  test('on dead letters keeps the first and counts the rest', () => {
    const journal = openJournal(temporaryDirectory());
    const record = {
      kind: 'dead_letter',
      device: 'd',
      metric: null,
      fromUs: START_US,
      toUs: START_US + 1,
      readingCount: null,
      reason: 'not_json',
      payload: Buffer.alloc(5000, 'x'),
    } as const;
    journal.commit(groupOfExceptions(Array.from({ length: 1000 }, () => record)));
    journal.tick();
    const { exceptions } = drain(journal);
    expect(exceptions.length).toBe(257);
    expect(exceptions[0]).toMatchObject({ reason: 'not_json', device: 'd' });
    expect(exceptions[0]?.payload?.length).toBe(4096);
    expect(exceptions.at(-1)).toMatchObject({ kind: 'dead_letter', reason: 'dead_letters_merged: 744', device: 'd', payload: null });
  });
});

test('progress tells where a group goes on after an error', () => {
  const journal = openJournal(temporaryDirectory());
  const group = groupOf([[{ series: 0, value: 0 }], [{ series: 0, value: 1 }], [{ series: 0, value: 2 }]]);
  const progress = newProgress();
  progress.done = 1;
  journal.commit(group, progress);
  journal.tick();
  expect(drain(journal).readings).toEqual(['d0=1', 'd0=2']);
});
