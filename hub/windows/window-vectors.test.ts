import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { compareSeries, type Series, type SeriesRuns } from '../../shared/reading.ts';
import { parseDurationMs, type WindowBy, type WindowDefinition } from '../../shared/window/definition.ts';
import { partialRows, type PartialRow } from '../../shared/window/partial-columns.ts';
import { GroupRegistry } from './group-registry.ts';
import { WindowState } from './window-state.ts';

const FOLDER = new URL('../../test/vectors/window/', import.meta.url);

interface VectorReading {
  readonly device: string;
  readonly metric: string;
  readonly tags: string | null;
  readonly ts: number;
  readonly value: number | string | null;
  readonly text: string | null;
}

type VectorRow = Record<string, unknown> & { window_start: number };

interface Vector {
  readonly description: string;
  readonly batches: readonly { gateway: string; late_before: number | null; readings: readonly VectorReading[] }[];
  readonly expected: readonly { size: string; slide?: string; by: WindowBy; rows: readonly VectorRow[] }[];
}

function runsOf(readings: readonly VectorReading[]): SeriesRuns {
  const seriesOf = (reading: VectorReading): Series => ({ device: reading.device, metric: reading.metric, tags: reading.tags ?? '' });
  const sorted = [...readings].sort((a, b) => compareSeries(seriesOf(a), seriesOf(b)) || a.ts - b.ts);
  const starts = sorted.flatMap((one, index) =>
    index > 0 && compareSeries(seriesOf(one), seriesOf(sorted[index - 1])) === 0 ? [] : [index],
  );
  return {
    count: sorted.length,
    seriesTable: starts.map((index) => seriesOf(sorted[index])),
    runOffsets: Uint32Array.from([...starts, sorted.length]),
    eventTimeUs: Float64Array.from(sorted, (reading) => reading.ts),
    value: Float64Array.from(sorted, (reading) => (reading.value === null ? NaN : Number(reading.value))),
    text: Uint32Array.from(sorted, (reading, index) => (reading.text === null ? 0 : index + 1)),
    texts: sorted.map((reading) => reading.text ?? ''),
  };
}

function nullIfNaN(value: number): number | null {
  return Number.isNaN(value) ? null : value;
}

/** A row as the table `aggregates` has it, without what belongs to a flush. */
function tableRow({ group, windowStartUs, partial }: PartialRow, definition: WindowDefinition): VectorRow {
  return {
    ...group,
    window_start: windowStartUs,
    window_end: windowStartUs + definition.sizeMs * 1000,
    n: partial.n,
    mean: partial.mean,
    m2: partial.m2,
    min_value: nullIfNaN(partial.minValue),
    max_value: nullIfNaN(partial.maxValue),
    sum_value: partial.sumValue,
    first_value: nullIfNaN(partial.firstValue),
    first_ts: nullIfNaN(partial.firstTsUs),
    last_value: nullIfNaN(partial.lastValue),
    last_ts: nullIfNaN(partial.lastTsUs),
    hist_pos: Object.fromEntries(partial.histPos),
    hist_neg: Object.fromEntries(partial.histNeg),
    hist_zero: partial.histZero,
    nan: partial.nan,
    late: partial.late,
    revision: partial.revision,
  };
}

function sortKey(row: VectorRow): string {
  return JSON.stringify([row['gateway'], row['device'], row['metric'], row['tags'] ?? '', row.window_start]);
}

/** Rounds what the vectors allow to differ, by far less than 1e-9 of these small numbers would show. */
function rounded(row: VectorRow): VectorRow {
  const round = (name: string): number => Number((row[name] as number).toPrecision(12));
  return { ...row, mean: round('mean'), m2: round('m2'), sum_value: round('sum_value') };
}

const files = readdirSync(FOLDER).filter((name) => name.endsWith('.json'));

test('there are vectors', () => expect(files.length).toBeGreaterThanOrEqual(7));

describe.each(files)('vector %s', (file) => {
  const vector = JSON.parse(readFileSync(new URL(file, FOLDER), 'utf8')) as Vector;
  const definitions = vector.expected.map((one, index): WindowDefinition => ({
    name: `w${index}`,
    sizeMs: parseDurationMs(one.size) as number,
    ...(one.slide === undefined ? {} : { slideMs: parseDurationMs(one.slide) as number }),
    by: one.by,
    persisted: true,
  }));

  function expectRows(state: WindowState): void {
    definitions.forEach((definition, index) => {
      const rows = partialRows(state.rows(index)).map((row) => rounded(tableRow(row, definition)));
      const order = (a: VectorRow, b: VectorRow): number => (sortKey(a) < sortKey(b) ? -1 : 1);
      expect(rows.sort(order)).toEqual(vector.expected[index].rows.map(rounded).sort(order));
    });
  }

  test(`in one state: ${vector.description}`, () => {
    const state = new WindowState(definitions, { registry: new GroupRegistry() });
    for (const batch of vector.batches) state.add(batch.gateway, runsOf(batch.readings), batch.late_before ?? -Infinity);
    expectRows(state);
  });

  test('in one state per batch, merged last to first', () => {
    const registry = new GroupRegistry();
    const merged = new WindowState(definitions, { registry });
    for (const batch of [...vector.batches].reverse()) {
      const state = new WindowState(definitions, { registry });
      state.add(batch.gateway, runsOf(batch.readings), batch.late_before ?? -Infinity);
      merged.merge(state);
    }
    expectRows(merged);
  });
});
