import { describe, expect, test } from 'vitest';
import type { AggregateRow } from './answers.ts';
import { chartColumns, newestWindows, RowSet } from './lines.ts';

const START_MS = Date.UTC(2026, 0, 1);
const SIZE_MS = 60_000;

function row(slot: number, mean: number | null, changes: Partial<AggregateRow> = {}): AggregateRow {
  const start = START_MS + slot * SIZE_MS;
  return {
    window_start: new Date(start).toISOString(),
    window_end: new Date(start + SIZE_MS).toISOString(),
    gateway: 'g',
    device: 'd',
    metric: 'm',
    tags: null,
    count: 10,
    mean,
    min: mean === null ? null : mean - 1,
    max: mean === null ? null : mean + 1,
    status: 'final',
    revision: 0,
    late: 0,
    lost: 0,
    lost_is_estimate: false,
    complete: true,
    ...changes,
  };
}

function linesOf(...rows: AggregateRow[]) {
  const set = new RowSet();
  set.merge(rows);
  return set.lines();
}

describe('the rows of a view', () => {
  test('a newer row of a window takes the place of the older one', () => {
    const set = new RowSet();
    set.merge([row(0, 1, { status: 'provisional' })]);
    set.merge([row(0, 2)]);
    expect(set.lines().lines[0]?.points).toMatchObject([{ mean: 2, status: 'final' }]);
  });

  test('tags make a line of their own, devices sort by their numbers, and more than eight lines are counted', () => {
    const rows = Array.from({ length: 10 }, (_, index) => row(0, index, { device: `d-${10 - index}` }));
    const { lines, hidden } = linesOf(...rows, row(0, 5, { device: 'd-2', tags: { axis: 'x' } }));
    expect(lines.map(({ label }) => label)).toEqual(['d-1', 'd-2', 'd-2 · axis=x', 'd-3', 'd-4', 'd-5', 'd-6', 'd-7']);
    expect(hidden).toBe(3);
  });

  test('the gateway is named only where there are several', () => {
    expect(linesOf(row(0, 1), row(0, 1, { gateway: 'h' })).lines.map(({ label }) => label)).toEqual(['g / d', 'h / d']);
  });

  test('what has left the range is forgotten', () => {
    const set = new RowSet();
    set.merge([row(0, 1), row(1, 1), row(0, 1, { device: 'gone' })]);
    set.dropBefore(START_MS + SIZE_MS);
    expect(set.lines().lines.map(({ points }) => points.length)).toEqual([1]);
  });
});

describe('the columns of the chart', () => {
  test('a window without readings is a gap, not a line across', () => {
    const { lines } = linesOf(row(0, 1), row(2, 3));
    const columns = chartColumns(lines, SIZE_MS);
    expect(columns.startsSeconds).toEqual([0, 1, 2].map((slot) => (START_MS + slot * SIZE_MS) / 1000));
    expect(columns.lines[0]?.closed).toEqual([1, null, 3]);
  });

  test('open windows are a line of their own that starts at the last closed one', () => {
    const { lines } = linesOf(row(0, 1), row(1, 2), row(2, 3, { status: 'provisional' }), row(3, 4, { status: 'provisional' }));
    const columns = chartColumns(lines, SIZE_MS);
    expect(columns.lines[0]?.closed).toEqual([1, 2, null, null]);
    expect(columns.lines[0]?.open).toEqual([null, 2, 3, 4]);
    expect(columns.openFrom).toBe(2);
  });

  test('windows that miss readings are marked; an open one is not taken for that', () => {
    const rows = [
      row(0, 1, { lost: 3, complete: false }),
      row(1, 1),
      row(2, 1, { complete: false }),
      row(3, 1, { status: 'provisional', complete: false }),
    ];
    expect(chartColumns(linesOf(...rows).lines, SIZE_MS).lossy).toEqual([0, 2]);
  });

  test('a stray window of years ago does not make millions of slots', () => {
    const columns = chartColumns(linesOf(row(-5_000_000, 1), row(0, 2)).lines, SIZE_MS);
    expect(columns.startsSeconds.length).toBe(2_000);
    expect(columns.lines[0]?.closed.at(-1)).toBe(2);
  });

  test('no rows are no columns', () => {
    expect(chartColumns([], SIZE_MS).startsSeconds).toEqual([]);
  });
});

describe('the newest windows', () => {
  test('are summed over the lines: means by their counts, provisional if one line is', () => {
    const { lines } = linesOf(
      row(0, 1, { count: 30 }),
      row(0, 5, { device: 'e', count: 10, status: 'provisional', lost: 2, complete: false }),
    );
    expect(newestWindows(lines, 6)).toEqual([
      { startMs: START_MS, status: 'provisional', count: 40, mean: 2, min: 0, max: 6, lost: 2, lostIsEstimate: false, complete: false },
    ]);
  });

  test('come newest first, and a window without numbers has none', () => {
    const windows = newestWindows(linesOf(row(0, 1), row(1, null, { count: 0 }), row(2, 3)).lines, 2);
    expect(windows.map(({ startMs, mean }) => [(startMs - START_MS) / SIZE_MS, mean])).toEqual([
      [2, 3],
      [1, null],
    ]);
  });
});
