import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../shared/clock.ts';
import type { ExceptionRecord } from '../../shared/exception.ts';
import { ballastBytes } from './ballast.ts';
import type { Group } from './group.ts';
import { OpenGroup } from './group.ts';
import type { RegisteredSeries } from './journal-api.ts';
import { crashCopy, drain, groupOf, openJournal, START_US, temporaryDirectory } from './journal-fixture.ts';
import type { Journal } from './journal.ts';

const SECOND_US = 1_000_000;
const BUFFER_BYTES = 256 * 1024;

/** Retries as the journal's server does. */
function commit(journal: Journal, group: Group): void {
  for (let attempt = 0; ; attempt++) {
    try {
      journal.commit(group);
      return;
    } catch (error) {
      if (attempt === 5) throw error;
    }
  }
}

/** Ten seconds of 40 sensors at 1 Hz in one batch each, until so much was sent. @returns the number of readings */
function send(journal: Journal, clock: ManualClock, steps: number): number {
  for (let step = 0; step < steps; step++) {
    const readings = Array.from({ length: 400 }, (_, at) => ({
      series: at % 8,
      value: Math.fround(Math.sin(step * 400 + at)),
      eventTimeUs: START_US + clock.monotonicUs() + Math.floor(at / 8) * 200_000,
    }));
    clock.advance(10 * SECOND_US);
    commit(journal, groupOf([readings], clock.monotonicUs()));
    while (journal.tick(1));
  }
  return steps * 400;
}

const lostOf = (exceptions: readonly ExceptionRecord[]): number =>
  exceptions.reduce((sum, { readingCount }) => sum + (readingCount ?? NaN), 0);

describe('a full buffer', () => {
  test('thins the oldest readings, each with its gap, and goes on; what was sealed last is whole', { timeout: 30_000 }, () => {
    const clock = new ManualClock(START_US);
    const directory = temporaryDirectory();
    const journal = openJournal(directory, { clock, bufferBytesMax: BUFFER_BYTES, bufferPolicy: 'thin' });
    const sent = send(journal, clock, 130);
    const { losses, backfill, usedBytes } = journal.stats();
    expect(usedBytes).toBeLessThanOrEqual(BUFFER_BYTES);
    expect(losses.map(({ reason }) => reason)).toEqual(['thinned']);
    expect(backfill.thinnedBatches).toBeGreaterThan(0);
    expect(journal.state().backlog.readings).toBe(sent - losses[0].readings);
    const copy = temporaryDirectory();
    crashCopy(directory, copy);
    for (const each of [journal, openJournal(copy, { clock, bufferBytesMax: BUFFER_BYTES, bufferPolicy: 'thin' })]) {
      const { readings, exceptions, times } = drain(each);
      expect(readings.length + lostOf(exceptions)).toBe(sent);
      expect(exceptions.every(({ kind, reason, device }) => kind === 'gap' && reason === 'thinned' && device !== null)).toBe(true);
      expect(Math.max(...exceptions.map(({ toUs }) => toUs))).toBeLessThan(START_US + clock.monotonicUs() - 60 * SECOND_US);
      // The last minute is there to the last reading.
      expect(times.filter((us) => us >= START_US + clock.monotonicUs() - 60 * SECOND_US).length).toBe(6 * 400);
    }
  });

  test('drops the oldest when nothing is left to thin, and counts what went', { timeout: 30_000 }, () => {
    const clock = new ManualClock(START_US);
    const journal = openJournal(temporaryDirectory(), { clock, bufferBytesMax: 220 * 1024, bufferPolicy: 'thin' });
    // Four readings of each series and minute: thinning cannot take one of them.
    let sent = 0;
    for (let step = 0; step < 70; step++) {
      for (let at = 0; at < 4; at++) {
        clock.advance(15 * SECOND_US);
        const readings = Array.from({ length: 200 }, (_, series) => ({ series, value: [1, 0, 9, 5][at] + Math.sin(sent + series) / 3 }));
        commit(journal, groupOf([readings], clock.monotonicUs(), 200));
        sent += 200;
      }
      while (journal.tick(1));
    }
    expect(journal.stats().losses.map(({ reason }) => reason)).toContain('buffer_full');
    const { readings, exceptions } = drain(journal);
    expect(readings.length + lostOf(exceptions)).toBe(sent);
  });

  test('thins and drops series of a low priority before it touches those of a high one, also after a restart', { timeout: 30_000 }, () => {
    const clock = new ManualClock(START_US);
    const directory = temporaryDirectory();
    const options = { clock, bufferBytesMax: BUFFER_BYTES + 8 * 1024, bufferPolicy: 'thin' } as const;
    const series: RegisteredSeries[] = [0, 5].map((priority) => ({ device: `p${priority}`, metric: 'm', tags: '', priority }));
    let journal = openJournal(directory, options);
    for (let step = 0; step < 130; step++) {
      if (step === 65) {
        journal.close();
        journal = openJournal(directory, options);
      }
      const open = new OpenGroup();
      for (let at = 0; at < 400; at++) open.add(at < 390 ? 0 : 1, NaN, Math.fround(Math.sin(step * 400 + at)), null);
      clock.advance(10 * SECOND_US);
      open.endMessage(clock.monotonicUs());
      commit(journal, open.take(0, series));
      while (journal.tick(1));
    }
    const { readings, exceptions } = drain(journal);
    expect(new Set(exceptions.map(({ device, reason }) => `${device} ${reason}`))).toEqual(new Set(['p0 thinned']));
    expect(readings.filter((reading) => reading.startsWith('p5')).length).toBe(130 * 10);
    expect(readings.length + lostOf(exceptions)).toBe(130 * 400);
  });

  test('does not touch what has a place', () => {
    const clock = new ManualClock(START_US);
    const journal = openJournal(temporaryDirectory(), { clock, bufferBytesMax: BUFFER_BYTES, bufferPolicy: 'thin' });
    send(journal, clock, 15);
    const offered = journal.offer(journal.epoch, 'live', 0, 1e9);
    send(journal, clock, 115);
    expect(journal.stats().losses.length).toBeGreaterThan(0);
    expect(journal.offer(journal.epoch, 'live', 0, 1).map(({ body }) => Buffer.from(body))).toEqual([Buffer.from(offered[0].body)]);
    const again = journal.offer(
      journal.epoch,
      'live',
      0,
      offered.reduce((sum, { body }) => sum + body.length, 0),
    );
    expect(again.map(({ seq, readingCount }) => [seq, readingCount])).toEqual(offered.map(({ seq, readingCount }) => [seq, readingCount]));
  });
});

describe('the disk', () => {
  test('gets its room back when the buffer has drained', { timeout: 30_000 }, () => {
    const clock = new ManualClock(START_US);
    const directory = temporaryDirectory();
    const file = path.join(directory, 'journal.db');
    const journal = openJournal(directory, { clock, bufferBytesMax: 64 * 1024 * 1024, batchReadingsMax: 200_000 });
    for (let group = 0; group < 40; group++) {
      const readings = Array.from({ length: 600 }, (_, at) => ({ series: 0, value: NaN, text: `${group}/${at}/`.padEnd(1_000, 'x') }));
      journal.commit(groupOf([readings], clock.monotonicUs()));
      journal.tick();
    }
    const full = statSync(file).size;
    expect(full).toBeGreaterThan(20 * 1024 * 1024);
    const offered = journal.offer(journal.epoch, 'live', 0, 1e9);
    journal.free(journal.epoch, 'live', offered.length);
    journal.commit(groupOf([[{ series: 0, value: 42 }]], clock.monotonicUs()));
    journal.tick();
    expect(statSync(file).size).toBeLessThan(1024 * 1024);
    expect(journal.stats()).toMatchObject({ shrunk: 1 });
    journal.commit(groupOf([[{ series: 0, value: 43 }]], clock.monotonicUs()));
    journal.tick();
    expect(drain(journal).readings).toEqual(['d0=42', 'd0=43']);
  });

  test('holds a ballast within the bound, none for a small buffer, and not a wrong one', () => {
    const directory = temporaryDirectory();
    const bufferBytesMax = 16 * 1024 * 1024;
    const file = path.join(directory, 'ballast');
    writeFileSync(file, 'half of one');
    const journal = openJournal(directory, { bufferBytesMax });
    expect(journal.stats()).toMatchObject({ ballastBytes: ballastBytes(bufferBytesMax) });
    expect(readFileSync(file).length).toBe(ballastBytes(bufferBytesMax));
    const small = temporaryDirectory();
    openJournal(small, { bufferBytesMax: 1024 * 1024 }).tick();
    expect(existsSync(path.join(small, 'ballast'))).toBe(false);
  });
});
