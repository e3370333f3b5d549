import { describe, expect, test } from 'vitest';
import type { AddFile } from '../lake/delta-actions.ts';
import { planFolds, spanNames } from './fold-plan.ts';

const LIMITS = { fanIn: 4, rowsMax: 1_000, bytesMax: 1_000_000, filesMax: 64 };
const HOUR_MS = 3_600_000;
const NEVER_MS = Date.UTC(2030, 0);

function fileOf(path: string, start: string, windowMs: number, { def = 'a', rows = 10, createdMs = 0 } = {}): AddFile {
  const window_end = new Date(Date.parse(start) + windowMs).toISOString();
  const stats = {
    numRecords: rows,
    minValues: { def, window_start: start, window_end },
    maxValues: { def, window_start: start, window_end },
    nullCount: {},
  };
  return { path, partitionValues: {}, size: 100, modificationTime: createdMs, dataChange: true, stats: JSON.stringify(stats) };
}

function plan(files: readonly AddFile[], nowMs = NEVER_MS): string[][] {
  return planFolds(files, LIMITS, nowMs).map((job) => job.map(({ file }) => file.path).sort());
}

describe('files of aggregates are folded', () => {
  test('by months where windows are hours, by days where they are minutes, by years where they are days', () => {
    const starts = ['2026-01-01T00:00:00.000Z', '2026-01-31T23:00:00.000Z', '2026-02-01T00:00:00.000Z', '2026-12-31T00:00:00.000Z'];
    const files = (windowMs: number): AddFile[] => starts.map((start) => fileOf(start.slice(0, 10), start, windowMs));
    expect(plan(files(HOUR_MS))).toEqual([['2026-01-01', '2026-01-31']]);
    expect(plan(files(60_000))).toEqual([]);
    expect(plan([...files(60_000), fileOf('late', '2026-01-01T05:00:00.000Z', 60_000)])).toEqual([['2026-01-01', 'late']]);
    expect(plan(files(24 * HOUR_MS))).toEqual([starts.map((start) => start.slice(0, 10))]);
  });

  test('of different definitions apart, and once a month is over and nothing came for an hour', () => {
    const endMs = Date.UTC(2026, 1);
    const files = ['a', 'a', 'b'].map((def, index) => fileOf(`${def}${index}`, `2026-01-0${index + 1}T00:00:00.000Z`, HOUR_MS, { def }));
    expect(plan(files, endMs + HOUR_MS - 1)).toEqual([]);
    expect(plan(files, endMs + HOUR_MS)).toEqual([['a0', 'a1']]);
    const late = fileOf('late', '2026-01-09T00:00:00.000Z', HOUR_MS, { createdMs: endMs + HOUR_MS });
    expect(plan([...files, late], endMs + 2 * HOUR_MS - 1)).toEqual([]);
    expect(plan([...files, late], endMs + 2 * HOUR_MS)).toEqual([['a0', 'a1', 'late']]);
  });

  test('only where the log says what they hold', () => {
    const file = fileOf('x', '2026-01-01T00:00:00.000Z', HOUR_MS);
    expect(plan([file, { ...file, path: 'y', stats: null }])).toEqual([]);
  });
});

test('spans are those of the UTC calendar, before 1970 too', () => {
  const nameOf = spanNames(HOUR_MS);
  const us = (text: string): number => Date.parse(text) * 1000;
  expect(['2024-02-29T23:00Z', '2024-03-01T00:00Z', '1969-12-31T23:00Z'].map((text) => nameOf(us(text)))).toEqual([
    '2024-02',
    '2024-03',
    '1969-12',
  ]);
});
