/**
 * Folding: the partials of `aggregates` become fewer, with the same answers.
 *
 * Every flush writes the partials of its minute: a window of an hour has sixty rows for each group, in sixty files. Folding
 * merges files of one definition and span of time (fold-plan.ts), and their rows to one for each window and group. A file is
 * cut at the border of a span, so that once that is over everything of it lies together: one row per window, if it fits
 * into a job.
 *
 * Merging is associative, so any files may be folded at any time, also while windows are open; positions stay as they are.
 * The commit changes rows, so it is one with `dataChange: true`. Crash and races as for compaction: an orphan, or a refused
 * commit.
 *
 * Memory: the partials of one job, with their histograms (about 500 bytes each).
 *
 * Merging adds doubles in another order than a query over the unfolded rows does: means and sums may differ in their last
 * digit.
 */
import { mergePartials, type WindowPartial } from '../../shared/window/partial.ts';
import {
  partialAt,
  SCALAR_COLUMNS,
  scalarColumns,
  type GroupTable,
  type HistogramColumn,
  type PartialColumns,
  type ScalarColumn,
} from '../../shared/window/partial-columns.ts';
import { commitMerged, hasOnlyOwnColumns, noCompaction, type CompactionResult, type CompactionSettings } from '../lake/compaction.ts';
import { isDamage } from '../lake/damage.ts';
import { parseFileStats, type AddFile } from '../lake/delta-actions.ts';
import type { DeltaTable } from '../lake/delta-table.ts';
import { AGGREGATE_ROW_GROUP_ROWS, encodeInSlices } from '../lake/encode-slices.ts';
import { gatherColumn } from '../lake/gather-columns.ts';
import type { Lake } from '../lake/lake.ts';
import type { ParquetColumn } from '../lake/parquet/encode.ts';
import { readParquetColumns, type ParquetColumns } from '../lake/parquet/read.ts';
import { stageFile } from '../lake/stage.ts';
import { AGGREGATES } from '../lake/tables.ts';
import { inSlices } from '../steps.ts';
import { aggregateColumns } from './aggregate-rows.ts';
import { planFolds, spanNames } from './fold-plan.ts';

/** 150 MB of partials. */
export const FOLD_ROWS_MAX = 300_000;

/** Folds what there is to fold. @throws SluiceError ERR_STORE_*, ERR_LAKE_* */
export async function foldAggregates(lake: Lake, settings: CompactionSettings, breathe: () => Promise<void>): Promise<CompactionResult> {
  const table = lake.aggregates;
  const result = noCompaction();
  if (!hasOnlyOwnColumns(table)) return result;
  const limits = { ...settings, rowsMax: Math.min(settings.rowsMax, FOLD_ROWS_MAX) };
  const untilMs = lake.clock.monotonicUs() / 1000 + settings.runMsMax;
  const bad = new Set<string>();
  for (;;) {
    await table.refresh();
    const files = [...table.snapshot.files.values()].filter(({ path }) => !bad.has(path));
    const [job] = planFolds(files, limits, lake.clock.nowUs() / 1000);
    if (job === undefined || lake.clock.monotonicUs() / 1000 >= untilMs) return result;
    const readVersion = table.version;
    const inputs = job.map(({ file }) => file);
    const parts = await readParts(table, inputs, bad, breathe);
    if (parts === null) {
      result.unreadable.splice(0, Infinity, ...bad);
      continue;
    }
    const adds = await stageFolded(table, parts, breathe);
    const outcome = await commitMerged(table, inputs, adds, readVersion, true);
    if (outcome.status === 'conflict') {
      result.conflicts++;
      continue;
    }
    result.jobs++;
    result.filesIn += inputs.length;
    result.filesOut += adds.length;
    result.rows += outcome.rows;
    result.bytesIn += job.reduce((sum, { bytes }) => sum + bytes, 0);
    result.bytesOut += outcome.bytes;
  }
}

/** null: one of them cannot be read, and is in `bad` now. */
async function readParts(
  table: DeltaTable,
  inputs: readonly AddFile[],
  bad: Set<string>,
  breathe: () => Promise<void>,
): Promise<ParquetColumns[] | null> {
  const parts: ParquetColumns[] = [];
  for (const file of inputs) {
    try {
      const bytes = await table.log.store.get(`${table.log.prefix}/${file.path}`);
      const part = bytes === null ? null : await readParquetColumns(bytes);
      if (part === null || part.rowCount !== parseFileStats(file.stats).numRecords) {
        bad.add(file.path);
        return null;
      }
      parts.push(part);
    } catch (error) {
      if (!isDamage(error)) throw error;
      bad.add(file.path);
      return null;
    }
    await breathe();
  }
  return parts;
}

async function stageFolded(table: DeltaTable, parts: readonly ParquetColumns[], breathe: () => Promise<void>): Promise<AddFile[]> {
  const all = concatenate(parts);
  const hash = onlyText(parts[0], 'def');
  const name = onlyText(parts[0], 'window_name');
  const spans = new Map<string, number[]>();
  const spanOf = spanNames(all.windowSizeUs / 1000);
  foldOrder(all).forEach((row) => {
    const span = spanOf(all.windowStartUs[row]);
    const rows = spans.get(span);
    if (rows === undefined) spans.set(span, [row]);
    else rows.push(row);
  });
  await breathe();
  const adds: AddFile[] = [];
  for (const rows of spans.values()) {
    const folded = foldRows(all, rows);
    await breathe();
    const columns = await inSlices(aggregateColumns({ name }, hash, folded, null), breathe);
    adds.push(await stageFile(table, {}, await encodeInSlices(folded.count, columns, breathe, AGGREGATE_ROW_GROUP_ROWS)));
  }
  return adds;
}

function onlyText(part: ParquetColumns, name: string): string {
  const column = part.columns.get(name);
  return column?.type === 'string' ? (column.dictionary[column.indices[0]] ?? '') : '';
}

const KEY_COLUMNS = ['gateway', 'device', 'metric', 'tags'] as const;

/** Columns of `aggregates`. */
export const SCALAR_NAMES: Readonly<Record<ScalarColumn, string>> = {
  n: 'n',
  mean: 'mean',
  m2: 'm2',
  sumValue: 'sum_value',
  minValue: 'min_value',
  maxValue: 'max_value',
  firstValue: 'first_value',
  firstTsUs: 'first_ts',
  lastValue: 'last_value',
  lastTsUs: 'last_ts',
  histZero: 'hist_zero',
  nan: 'nan',
  late: 'late',
  revision: 'revision',
  gen: 'gen',
  srcFrom: 'src_from',
  srcTo: 'src_to',
};

/** All rows of some files of `aggregates`, in their order. */
export function concatenate(parts: readonly ParquetColumns[]): PartialColumns {
  const count = parts.reduce((sum, part) => sum + part.rowCount, 0);
  const numbers = (name: string): Float64Array => {
    const spec = AGGREGATES.columns.find((column) => column.name === name);
    if (spec === undefined) throw new TypeError(`aggregates have no column ${name}`);
    const columns = parts.map((part) => ({ rowCount: part.rowCount, column: part.columns.get(name) }));
    const column = gatherColumn(spec, columns, null) as Extract<ParquetColumn, { values: Float64Array }>;
    const { values, valid } = column;
    if (valid !== null && valid !== undefined) valid.forEach((isValid, row) => isValid === 0 && (values[row] = NaN));
    return values;
  };
  const scalars = Object.fromEntries(SCALAR_COLUMNS.map((name) => [name, numbers(SCALAR_NAMES[name])])) as Record<
    ScalarColumn,
    Float64Array
  >;
  const windowStartUs = numbers('window_start');
  const windowEndUs = numbers('window_end');
  return {
    count,
    ...groupsOf(parts, count),
    windowSizeUs: count === 0 ? 0 : windowEndUs[0] - windowStartUs[0],
    windowStartUs,
    ...scalars,
    histPos: histogramOf(parts, 'hist_pos', count),
    histNeg: histogramOf(parts, 'hist_neg', count),
  };
}

function groupsOf(parts: readonly ParquetColumns[], count: number): { groups: GroupTable; group: Uint32Array } {
  const keys: (string | null)[][] = [];
  const places = new Map<string, number>();
  const group = new Uint32Array(count);
  let at = 0;
  for (const part of parts) {
    const columns = KEY_COLUMNS.map((name) => part.columns.get(name));
    let last: (string | null)[] | null = null;
    let place = 0;
    for (let row = 0; row < part.rowCount; row++) {
      const key = columns.map((column) => textAt(column, row));
      if (last === null || key.some((text, index) => text !== last?.[index])) {
        const text = key.map((part_) => part_ ?? '\u0001').join('\u0000');
        place = places.get(text) ?? keys.push(key) - 1;
        places.set(text, place);
        last = key;
      }
      group[at++] = place;
    }
  }
  const [gateway, device, metric, tags] = KEY_COLUMNS.map((_, index) => keys.map((key) => key[index]));
  return { groups: { count: keys.length, gateway, device, metric, tags }, group };
}

function textAt(column: ParquetColumn | undefined, row: number): string | null {
  if (column?.type !== 'string') return null;
  const index = column.indices[row];
  return index === column.nullIndex ? null : (column.dictionary[index] ?? null);
}

function histogramOf(parts: readonly ParquetColumns[], name: string, count: number): HistogramColumn {
  const columns = parts.map((part) => part.columns.get(name));
  const total = columns.reduce((sum, column) => sum + (column?.type === 'map_int_long' ? column.keys.length : 0), 0);
  const offsets = new Uint32Array(count + 1);
  const buckets = new Int32Array(total);
  const counts = new Float64Array(total);
  let row = 0;
  let at = 0;
  parts.forEach((part, index) => {
    const column = columns[index];
    for (let partRow = 0; partRow < part.rowCount; partRow++, row++) {
      const length = column?.type === 'map_int_long' ? column.offsets[partRow + 1] - column.offsets[partRow] : 0;
      offsets[row + 1] = offsets[row] + length;
    }
    if (column?.type !== 'map_int_long') return;
    buckets.set(column.keys, at);
    counts.set(column.counts, at);
    at += column.keys.length;
  });
  return { offsets, buckets, counts };
}

/** Rows of one window and group side by side. */
export function foldOrder({ count, group, windowStartUs }: PartialColumns): Uint32Array {
  return Uint32Array.from({ length: count }, (_, row) => row).sort(
    (a, b) => group[a] - group[b] || windowStartUs[a] - windowStartUs[b] || a - b,
  );
}

/** @param rows those of one window and group side by side */
export function foldRows(all: PartialColumns, rows: readonly number[]): PartialColumns {
  const starts: number[] = [];
  const merged = new Map<number, WindowPartial>();
  rows.forEach((row, index) => {
    const previous = rows[index - 1] as number | undefined;
    const isSame =
      previous !== undefined && all.group[previous] === all.group[row] && all.windowStartUs[previous] === all.windowStartUs[row];
    if (!isSame) {
      starts.push(row);
      return;
    }
    const place = starts.length - 1;
    merged.set(place, mergePartials(merged.get(place) ?? partialAt(all, starts[place]), partialAt(all, row)));
  });
  const scalars = scalarColumns(starts.length);
  for (const name of SCALAR_COLUMNS) {
    const [from, to] = [all[name], scalars[name]];
    starts.forEach((row, place) => (to[place] = merged.get(place)?.[name] ?? from[row]));
  }
  return {
    count: starts.length,
    groups: all.groups,
    group: Uint32Array.from(starts, (row) => all.group[row]),
    windowSizeUs: all.windowSizeUs,
    windowStartUs: Float64Array.from(starts, (row) => all.windowStartUs[row]),
    ...scalars,
    histPos: foldHistogram(all.histPos, starts, (place) => merged.get(place)?.histPos),
    histNeg: foldHistogram(all.histNeg, starts, (place) => merged.get(place)?.histNeg),
  };
}

function foldHistogram(
  column: HistogramColumn,
  starts: readonly number[],
  mergedAt: (place: number) => ReadonlyMap<number, number> | undefined,
): HistogramColumn {
  const offsets = new Uint32Array(starts.length + 1);
  starts.forEach((row, place) => {
    offsets[place + 1] = offsets[place] + (mergedAt(place)?.size ?? column.offsets[row + 1] - column.offsets[row]);
  });
  const buckets = new Int32Array(offsets[starts.length]);
  const counts = new Float64Array(buckets.length);
  starts.forEach((row, place) => {
    let at = offsets[place];
    const merged = mergedAt(place);
    if (merged === undefined) {
      buckets.set(column.buckets.subarray(column.offsets[row], column.offsets[row + 1]), at);
      counts.set(column.counts.subarray(column.offsets[row], column.offsets[row + 1]), at);
      return;
    }
    for (const [bucket, value] of [...merged].sort((a, b) => a[0] - b[0])) {
      buckets[at] = bucket;
      counts[at++] = value;
    }
  });
  return { offsets, buckets, counts };
}
