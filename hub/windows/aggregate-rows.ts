/** From partials in columns to the rows of the table `aggregates`, sorted by metric, device, tags, gateway, window start. */
import type { HistogramColumn, PartialColumns } from '../../shared/window/partial-columns.ts';
import type { WindowDefinition } from '../../shared/window/definition.ts';
import type { ParquetColumn } from '../lake/parquet/encode.ts';
import { sortedInSteps, type Steps } from '../steps.ts';

/** Rows that are put in order in one step. */
const ROWS_PER_STEP = 32_768;

function compareNullable(a: string | null, b: string | null): number {
  if (a === b) return 0;
  if (a === null) return -1;
  if (b === null) return 1;
  return a < b ? -1 : 1;
}

/** Row numbers in the order in which the file has them: neighbours in a query are neighbours on disk. */
function* fileOrder({ count, groups, group, windowStartUs }: PartialColumns): Steps<Uint32Array> {
  const { metric, device, tags, gateway } = groups;
  const order = yield* sortedInSteps(
    0,
    groups.count,
    (a, b) =>
      compareNullable(metric[a], metric[b]) ||
      compareNullable(device[a], device[b]) ||
      compareNullable(tags[a], tags[b]) ||
      compareNullable(gateway[a], gateway[b]) ||
      a - b,
  );
  // Per group first how many rows it has, then where its next one goes.
  const next = new Uint32Array(groups.count);
  for (let row = 0; row < count; row++) next[group[row]]++;
  let place = 0;
  for (const one of order) {
    const rows = next[one];
    next[one] = place;
    place += rows;
  }
  yield;
  const rows = new Uint32Array(count);
  for (let row = 0; row < count; row++) rows[next[group[row]]++] = row;
  yield;
  // A group has few rows, which mostly came in order.
  let from = 0;
  for (const [index, one] of order.entries()) {
    const own = rows.subarray(from, next[one]);
    if (!isAscending(own, windowStartUs)) own.sort((a, b) => windowStartUs[a] - windowStartUs[b]);
    from = next[one];
    if (index % ROWS_PER_STEP === ROWS_PER_STEP - 1) yield;
  }
  return rows;
}

function isAscending(rows: Uint32Array, values: Float64Array): boolean {
  for (let index = 1; index < rows.length; index++) if (values[rows[index]] < values[rows[index - 1]]) return false;
  return true;
}

function keyColumn(name: string, keys: readonly (string | null)[], groupOfRow: Uint32Array): ParquetColumn {
  const dictionary = [''];
  const places = new Map<string, number>();
  const placeOfGroup = Uint32Array.from(keys, (key) => {
    if (key === null) return 0;
    let place = places.get(key);
    if (place === undefined) {
      place = dictionary.length;
      dictionary.push(key);
      places.set(key, place);
    }
    return place;
  });
  return { name, type: 'string', dictionary, indices: groupOfRow.map((group) => placeOfGroup[group]), nullIndex: 0 };
}

function constant(name: string, value: string, rowCount: number): ParquetColumn {
  return { name, type: 'string', dictionary: [value], indices: new Uint32Array(rowCount) };
}

function* histogramColumn(
  name: string,
  { offsets: from, buckets, counts: bucketCounts }: HistogramColumn,
  order: Uint32Array,
): Steps<ParquetColumn> {
  const offsets = new Uint32Array(order.length + 1);
  for (let index = 0; index < order.length; index++) offsets[index + 1] = offsets[index] + from[order[index] + 1] - from[order[index]];
  const keys = new Int32Array(offsets[order.length]);
  const counts = new Float64Array(offsets[order.length]);
  let to = 0;
  for (let index = 0; index < order.length; index++) {
    // A loop, not `set`: mostly they are few.
    for (let at = from[order[index]]; at < from[order[index] + 1]; at++, to++) {
      keys[to] = buckets[at];
      counts[to] = bucketCounts[at];
    }
    if (index % ROWS_PER_STEP === ROWS_PER_STEP - 1) yield;
  }
  return { name, type: 'map_int_long', offsets, keys, counts };
}

/**
 * @param source the versions (from, to] of `readings` that the partials stand for; null: what each partial says
 */
export function* aggregateColumns(
  definition: Pick<WindowDefinition, 'name'>,
  hash: string,
  partials: PartialColumns,
  source: { readonly from: number; readonly to: number } | null,
): Steps<ParquetColumn[]> {
  const order = yield* fileOrder(partials);
  const rowCount = order.length;
  const group = order.map((row) => partials.group[row]);
  const pick = (column: Float64Array): Float64Array => {
    const picked = new Float64Array(rowCount);
    for (let row = 0; row < rowCount; row++) picked[row] = column[order[row]];
    return picked;
  };
  const start = pick(partials.windowStartUs);
  const valid = new Uint8Array(rowCount);
  for (let row = 0; row < rowCount; row++) valid[row] = partials.n[order[row]] === 0 ? 0 : 1;
  const columns: ParquetColumn[] = [
    constant('def', hash, rowCount),
    constant('window_name', definition.name, rowCount),
    { name: 'window_start', type: 'timestamp', values: start },
    { name: 'window_end', type: 'timestamp', values: start.map((value) => value + partials.windowSizeUs) },
  ];
  yield;
  for (const name of ['gateway', 'device', 'metric', 'tags'] as const) {
    columns.push(keyColumn(name, partials.groups[name], group));
    yield;
  }
  for (const [name, type, member] of SCALARS_BEFORE_HISTOGRAMS) {
    const values = pick(partials[member]);
    // A null still has a place in `values`; NaN is no integer, so 0 stands there.
    if (type === 'timestamp') for (let row = 0; row < rowCount; row++) if (valid[row] === 0) values[row] = 0;
    columns.push({ name, type, values, ...(NULLABLE.has(name) ? { valid } : {}) });
    yield;
  }
  columns.push(yield* histogramColumn('hist_pos', partials.histPos, order));
  columns.push(yield* histogramColumn('hist_neg', partials.histNeg, order));
  for (const [name, member] of COUNTS_BEHIND_HISTOGRAMS) {
    columns.push({ name, type: 'long', values: pick(partials[member]) });
    yield;
  }
  const sourceOf = (one: 'from' | 'to', own: Float64Array): Float64Array =>
    source === null ? pick(own) : new Float64Array(rowCount).fill(source[one]);
  columns.push({ name: 'src_from', type: 'long', values: sourceOf('from', partials.srcFrom) });
  columns.push({ name: 'src_to', type: 'long', values: sourceOf('to', partials.srcTo) });
  return columns;
}

/** In the order of the file: name, type, member of the partials. */
const SCALARS_BEFORE_HISTOGRAMS = [
  ['gen', 'long', 'gen'],
  ['n', 'long', 'n'],
  ['mean', 'double', 'mean'],
  ['m2', 'double', 'm2'],
  ['min_value', 'double', 'minValue'],
  ['max_value', 'double', 'maxValue'],
  ['sum_value', 'double', 'sumValue'],
  ['first_value', 'double', 'firstValue'],
  ['first_ts', 'timestamp', 'firstTsUs'],
  ['last_value', 'double', 'lastValue'],
  ['last_ts', 'timestamp', 'lastTsUs'],
] as const;
/** What is null where a partial has no values. */
const NULLABLE: ReadonlySet<string> = new Set(['min_value', 'max_value', 'first_value', 'first_ts', 'last_value', 'last_ts']);
const COUNTS_BEHIND_HISTOGRAMS = [
  ['hist_zero', 'histZero'],
  ['nan', 'nan'],
  ['late', 'late'],
  ['revision', 'revision'],
] as const;
