import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { BatchContent } from '../../shared/batch/batch.ts';
import { sortIntoRuns } from '../../shared/batch/runs.ts';
import type { ExceptionRecord } from '../../shared/exception.ts';
import { thin } from './thin.ts';

const START_US = Date.UTC(2026, 0, 15, 12) * 1000;
const MINUTE_US = 60_000_000;

interface Reading {
  readonly series: number;
  readonly us: number;
  readonly value: number;
  readonly text: string | null;
}

const table = Array.from({ length: 4 }, (_, id) => ({ device: `d${id >> 1}`, metric: `m${id & 1}`, tags: '' }));

function batchOf(readings: readonly Reading[], exceptions: readonly ExceptionRecord[] = []): BatchContent {
  const texts = readings.map(({ text }) => text ?? '');
  const columns = {
    count: readings.length,
    series: Uint32Array.from(readings, ({ series }) => series),
    eventTimeUs: Float64Array.from(readings, ({ us }) => START_US + us),
    value: Float64Array.from(readings, ({ value }) => value),
    text: Uint32Array.from(readings, ({ text }, at) => (text === null ? 0 : at + 1)),
    texts,
  };
  return { sealedUs: START_US, arrivalFromUs: START_US, arrivalToUs: START_US, runs: sortIntoRuns(columns, table), exceptions };
}

/** Back from columns. */
function readingsOf(contents: readonly { readonly content: BatchContent }[]): Reading[] {
  return contents.flatMap(({ content: { runs } }) =>
    runs.seriesTable.flatMap((name, at) =>
      Array.from({ length: runs.runOffsets[at + 1] - runs.runOffsets[at] }, (_, offset) => {
        const index = runs.runOffsets[at] + offset;
        const text = runs.text === null ? 0 : runs.text[index];
        return {
          series: table.findIndex(({ device, metric }) => device === name.device && metric === name.metric),
          us: runs.eventTimeUs[index] - START_US,
          value: runs.value[index],
          text: text === 0 ? null : runs.texts[text - 1],
        };
      }),
    ),
  );
}

/** What windows of a minute show beside count and sum. */
function extremes(readings: readonly Reading[]): Map<string, readonly number[]> {
  const groups = new Map<string, Reading[]>();
  for (const reading of readings) {
    if (!Number.isFinite(reading.value)) continue;
    const key = `${reading.series}/${Math.floor((START_US + reading.us) / MINUTE_US)}`;
    groups.set(key, [...(groups.get(key) ?? []), reading]);
  }
  return new Map(
    [...groups].map(([key, group]) => {
      const sorted = [...group].sort((a, b) => a.us - b.us || a.value - b.value);
      const values = group.map(({ value }) => value);
      return [
        key,
        [sorted[0].us, sorted[0].value, sorted.at(-1)?.us ?? NaN, sorted.at(-1)?.value ?? NaN, Math.min(...values), Math.max(...values)],
      ];
    }),
  );
}

const identity = ({ series, us, value, text }: Reading): string => `${series}/${us}/${value}/${text}`;

const reading = fc.record({
  series: fc.nat(3),
  us: fc.oneof(fc.integer({ min: 0, max: 5 * MINUTE_US }), fc.constantFrom(0, 1, MINUTE_US - 1, MINUTE_US)),
  value: fc.oneof(fc.integer({ min: -50, max: 50 }), fc.constant(NaN), fc.double({ noDefaultInfinity: true, noNaN: true })),
  text: fc.constantFrom(null, null, 'on', 'off'),
});

describe('thinning', () => {
  test('keeps first, last, smallest and largest of each series and minute, and counts the rest exactly per device', () => {
    fc.assert(
      fc.property(fc.array(fc.array(reading, { minLength: 1, maxLength: 60 }), { minLength: 1, maxLength: 4 }), (batches) => {
        const all = batches.flat();
        const { contents, keptReadings, lostReadings } = thin(batches.map((each) => batchOf(each)));
        const kept = readingsOf(contents);
        expect(extremes(kept)).toEqual(extremes(all));
        expect(kept.length).toBe(keptReadings);
        // Real readings, none twice.
        const left = new Map<string, number>();
        for (const each of all) left.set(identity(each), (left.get(identity(each)) ?? 0) + 1);
        for (const each of kept) left.set(identity(each), (left.get(identity(each)) ?? 0) - 1);
        expect([...left.values()].every((count) => count >= 0)).toBe(true);
        const gaps = contents.flatMap(({ content }) => content.exceptions);
        expect(gaps.reduce((sum, { readingCount }) => sum + (readingCount ?? NaN), 0)).toBe(lostReadings);
        expect(keptReadings + lostReadings).toBe(all.length);
        for (const device of ['d0', 'd1']) {
          const lost = all.filter((each) => table[each.series].device === device && (left.get(identity(each)) ?? 0) > 0);
          const gap = gaps.filter((each) => each.device === device);
          const sent = all.filter((each) => table[each.series].device === device).length;
          const stayed = kept.filter((each) => table[each.series].device === device).length;
          expect(gap.map(({ readingCount }) => readingCount)).toEqual(sent === stayed ? [] : [sent - stayed]);
          for (const { us } of lost) {
            expect(gap[0].fromUs).toBeLessThanOrEqual(START_US + us);
            expect(gap[0].toUs).toBeGreaterThan(START_US + us);
          }
        }
      }),
      { numRuns: 150 },
    );
  });

  test('leaves a counter exact at the ends of its minutes, across batches', () => {
    const counter = Array.from({ length: 300 }, (_, second) => ({ series: 0, us: second * 1_000_000, value: second * 7, text: null }));
    const batches = Array.from({ length: 60 }, (_, at) => batchOf(counter.slice(at * 5, at * 5 + 5)));
    const kept = readingsOf(thin(batches).contents);
    expect(kept.map(({ value }) => value / 7)).toEqual([0, 59, 60, 119, 120, 179, 180, 239, 240, 299]);
  });

  test('names device and metric of a gap where it can, and takes along the exceptions that were there', () => {
    const gap = {
      kind: 'gap',
      device: null,
      metric: null,
      fromUs: 1,
      toUs: 2,
      readingCount: null,
      reason: 'journal_corrupt',
      payload: null,
    } as const;
    const minute = (series: number): Reading[] => Array.from({ length: 10 }, (_, at) => ({ series, us: at, value: at, text: null }));
    const { contents } = thin([batchOf([...minute(0), ...minute(2), ...minute(3)], [gap])]);
    expect(
      contents
        .flatMap(({ content }) => content.exceptions)
        .map(({ device, metric, readingCount, reason }) => [device, metric, readingCount, reason]),
    ).toEqual([
      [null, null, null, 'journal_corrupt'],
      ['d0', 'm0', 8, 'thinned'],
      ['d1', null, 16, 'thinned'],
    ]);
  });
});
