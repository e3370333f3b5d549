/**
 * Many partials of one definition in columns: what accumulators give out, the Parquet writer takes and readers give back.
 */
import type { WindowPartial } from './partial.ts';

/** Group keys, one row per group. Null where the definition does not group by the key, and for the tags of a series without tags. */
export interface GroupTable {
  readonly count: number;
  readonly gateway: readonly (string | null)[];
  readonly device: readonly (string | null)[];
  readonly metric: readonly (string | null)[];
  /** Canonical JSON. */
  readonly tags: readonly (string | null)[];
}

/** Row r has the entries [offsets[r], offsets[r + 1]), buckets ascending. */
export interface HistogramColumn {
  /** count + 1 offsets. */
  readonly offsets: Uint32Array;
  readonly buckets: Int32Array;
  readonly counts: Float64Array;
}

/**
 * Partials of one definition, each row one window of one group; columns as WindowPartial has them, `count` long.
 *
 * Where n is 0 the six columns minValue … lastTsUs hold NaN: null in the lake. A (group, window) may have several rows.
 */
export interface PartialColumns {
  readonly count: number;
  readonly groups: GroupTable;
  /** Index into `groups`. */
  readonly group: Uint32Array;
  readonly windowSizeUs: number;
  readonly windowStartUs: Float64Array;
  readonly n: Float64Array;
  readonly mean: Float64Array;
  readonly m2: Float64Array;
  readonly sumValue: Float64Array;
  readonly minValue: Float64Array;
  readonly maxValue: Float64Array;
  readonly firstValue: Float64Array;
  readonly firstTsUs: Float64Array;
  readonly lastValue: Float64Array;
  readonly lastTsUs: Float64Array;
  readonly histPos: HistogramColumn;
  readonly histNeg: HistogramColumn;
  readonly histZero: Float64Array;
  readonly nan: Float64Array;
  readonly late: Float64Array;
  readonly revision: Float64Array;
  readonly gen: Float64Array;
  readonly srcFrom: Float64Array;
  readonly srcTo: Float64Array;
}

/** The columns that hold one number per row; the names are WindowPartial's. */
export const SCALAR_COLUMNS = [
  'n',
  'mean',
  'm2',
  'sumValue',
  'minValue',
  'maxValue',
  'firstValue',
  'firstTsUs',
  'lastValue',
  'lastTsUs',
  'histZero',
  'nan',
  'late',
  'revision',
  'gen',
  'srcFrom',
  'srcTo',
] as const satisfies readonly (keyof WindowPartial & keyof PartialColumns)[];

export type ScalarColumn = (typeof SCALAR_COLUMNS)[number];
export type ScalarColumns = Record<ScalarColumn, Float64Array>;

/** Zeroed scalar columns for so many rows, to be filled by whoever builds PartialColumns; one buffer: they cross threads together. */
export function scalarColumns(count: number): ScalarColumns {
  const all = new Float64Array(SCALAR_COLUMNS.length * count);
  return Object.fromEntries(SCALAR_COLUMNS.map((name, index) => [name, all.subarray(index * count, (index + 1) * count)])) as ScalarColumns;
}

/** The keys of one group, as one row of a GroupTable. */
export interface GroupKey {
  readonly gateway: string | null;
  readonly device: string | null;
  readonly metric: string | null;
  readonly tags: string | null;
}

/** One row of PartialColumns, with its keys. */
export interface PartialRow {
  readonly group: GroupKey;
  readonly windowStartUs: number;
  readonly partial: WindowPartial;
}

/** One string per group, for maps. U+0000 and U+0001 cannot stand in a name. */
export function groupKeyText(group: GroupKey): string {
  return `${group.gateway ?? '\u0001'}\u0000${group.device ?? '\u0001'}\u0000${group.metric ?? '\u0001'}\u0000${group.tags ?? '\u0001'}`;
}

export function groupKeyAt(groups: GroupTable, index: number): GroupKey {
  return { gateway: groups.gateway[index], device: groups.device[index], metric: groups.metric[index], tags: groups.tags[index] };
}

const NO_BUCKETS: ReadonlyMap<number, number> = new Map();

function bucketsAt(column: HistogramColumn, row: number): ReadonlyMap<number, number> {
  if (column.offsets[row] === column.offsets[row + 1]) return NO_BUCKETS;
  const buckets = new Map<number, number>();
  for (let i = column.offsets[row]; i < column.offsets[row + 1]; i++) buckets.set(column.buckets[i], column.counts[i]);
  return buckets;
}

/** The state of partials without what they are of. */
export type PartialStates = Pick<PartialColumns, ScalarColumn | 'histPos' | 'histNeg'>;

/** The state of one row. Spelled out: an object made from a list of names takes many times as long, and a hot query makes many. */
export function partialAt(columns: PartialStates, row: number): WindowPartial {
  return {
    n: columns.n[row],
    mean: columns.mean[row],
    m2: columns.m2[row],
    sumValue: columns.sumValue[row],
    minValue: columns.minValue[row],
    maxValue: columns.maxValue[row],
    firstValue: columns.firstValue[row],
    firstTsUs: columns.firstTsUs[row],
    lastValue: columns.lastValue[row],
    lastTsUs: columns.lastTsUs[row],
    histZero: columns.histZero[row],
    nan: columns.nan[row],
    late: columns.late[row],
    revision: columns.revision[row],
    gen: columns.gen[row],
    srcFrom: columns.srcFrom[row],
    srcTo: columns.srcTo[row],
    histPos: bucketsAt(columns.histPos, row),
    histNeg: bucketsAt(columns.histNeg, row),
  };
}

/** All rows as objects: for answers of a few thousand rows and tests, not for the hot path. */
export function partialRows(columns: PartialColumns): PartialRow[] {
  const groups = Array.from({ length: columns.groups.count }, (_, index) => groupKeyAt(columns.groups, index));
  return Array.from({ length: columns.count }, (_, row) => ({
    group: groups[columns.group[row]],
    windowStartUs: columns.windowStartUs[row],
    partial: partialAt(columns, row),
  }));
}

function histogramColumn(maps: readonly ReadonlyMap<number, number>[]): HistogramColumn {
  const total = maps.reduce((sum, map) => sum + map.size, 0);
  const offsets = new Uint32Array(maps.length + 1);
  const buckets = new Int32Array(total);
  const counts = new Float64Array(total);
  let next = 0;
  maps.forEach((map, row) => {
    for (const [bucket, count] of [...map].sort((a, b) => a[0] - b[0])) {
      buckets[next] = bucket;
      counts[next++] = count;
    }
    offsets[row + 1] = next;
  });
  return { offsets, buckets, counts };
}

/** The inverse of partialRows; equal groups get one row of the group table. */
export function partialColumns(rows: readonly PartialRow[], windowSizeUs: number): PartialColumns {
  const scalars = scalarColumns(rows.length);
  const group = new Uint32Array(rows.length);
  const windowStartUs = new Float64Array(rows.length);
  const indexes = new Map<string, number>();
  const keys: GroupKey[] = [];
  rows.forEach((row, index) => {
    const text = groupKeyText(row.group);
    let groupIndex = indexes.get(text);
    if (groupIndex === undefined) {
      groupIndex = keys.length;
      indexes.set(text, groupIndex);
      keys.push(row.group);
    }
    group[index] = groupIndex;
    windowStartUs[index] = row.windowStartUs;
    for (const name of SCALAR_COLUMNS) scalars[name][index] = row.partial[name];
  });
  return {
    count: rows.length,
    groups: {
      count: keys.length,
      gateway: keys.map((key) => key.gateway),
      device: keys.map((key) => key.device),
      metric: keys.map((key) => key.metric),
      tags: keys.map((key) => key.tags),
    },
    group,
    windowSizeUs,
    windowStartUs,
    ...scalars,
    histPos: histogramColumn(rows.map((row) => row.partial.histPos)),
    histNeg: histogramColumn(rows.map((row) => row.partial.histNeg)),
  };
}
