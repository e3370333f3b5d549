/** From partials in columns to the rows of the table `aggregates`, sorted by metric, device, tags, gateway, window start. */
import type { HistogramColumn, PartialColumns } from '../../shared/window/partial-columns.ts';
import type { WindowDefinition } from '../../shared/window/definition.ts';
import type { ParquetColumn } from '../lake/parquet/encode.ts';

function compareNullable(a: string | null, b: string | null): number {
  if (a === b) return 0;
  if (a === null) return -1;
  if (b === null) return 1;
  return a < b ? -1 : 1;
}

/** Row numbers in the order in which the file has them: neighbours in a query are neighbours on disk. */
function fileOrder(columns: PartialColumns): Uint32Array {
  const { groups } = columns;
  const groupOrder = Uint32Array.from({ length: groups.count }, (_, group) => group).sort(
    (a, b) =>
      compareNullable(groups.metric[a], groups.metric[b]) ||
      compareNullable(groups.device[a], groups.device[b]) ||
      compareNullable(groups.tags[a], groups.tags[b]) ||
      compareNullable(groups.gateway[a], groups.gateway[b]),
  );
  const rankOf = new Uint32Array(groups.count);
  groupOrder.forEach((group, rank) => {
    rankOf[group] = rank;
  });
  return Uint32Array.from({ length: columns.count }, (_, row) => row).sort(
    (a, b) => rankOf[columns.group[a]] - rankOf[columns.group[b]] || columns.windowStartUs[a] - columns.windowStartUs[b],
  );
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

function histogramColumn(name: string, column: HistogramColumn, order: Uint32Array): ParquetColumn {
  const offsets = new Uint32Array(order.length + 1);
  order.forEach((row, index) => {
    offsets[index + 1] = offsets[index] + column.offsets[row + 1] - column.offsets[row];
  });
  const keys = new Int32Array(offsets[order.length]);
  const counts = new Float64Array(offsets[order.length]);
  order.forEach((row, index) => {
    keys.set(column.buckets.subarray(column.offsets[row], column.offsets[row + 1]), offsets[index]);
    counts.set(column.counts.subarray(column.offsets[row], column.offsets[row + 1]), offsets[index]);
  });
  return { name, type: 'map_int_long', offsets, keys, counts };
}

/**
 * @param source the versions (from, to] of `readings` that the partials stand for; null: what each partial says
 */
export function aggregateColumns(
  definition: Pick<WindowDefinition, 'name'>,
  hash: string,
  partials: PartialColumns,
  source: { readonly from: number; readonly to: number } | null,
): ParquetColumn[] {
  const order = fileOrder(partials);
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
  const nullable = (name: string, type: 'double' | 'timestamp', column: Float64Array): ParquetColumn => {
    const values = pick(column);
    // A null still has a place in `values`; NaN is no integer, so 0 stands there.
    if (type === 'timestamp') values.forEach((value, row) => (values[row] = Number.isNaN(value) ? 0 : value));
    return { name, type, values, valid };
  };
  return [
    constant('def', hash, rowCount),
    constant('window_name', definition.name, rowCount),
    { name: 'window_start', type: 'timestamp', values: start },
    { name: 'window_end', type: 'timestamp', values: start.map((value) => value + partials.windowSizeUs) },
    keyColumn('gateway', partials.groups.gateway, group),
    keyColumn('device', partials.groups.device, group),
    keyColumn('metric', partials.groups.metric, group),
    keyColumn('tags', partials.groups.tags, group),
    { name: 'gen', type: 'long', values: pick(partials.gen) },
    { name: 'n', type: 'long', values: pick(partials.n) },
    { name: 'mean', type: 'double', values: pick(partials.mean) },
    { name: 'm2', type: 'double', values: pick(partials.m2) },
    nullable('min_value', 'double', partials.minValue),
    nullable('max_value', 'double', partials.maxValue),
    { name: 'sum_value', type: 'double', values: pick(partials.sumValue) },
    nullable('first_value', 'double', partials.firstValue),
    nullable('first_ts', 'timestamp', partials.firstTsUs),
    nullable('last_value', 'double', partials.lastValue),
    nullable('last_ts', 'timestamp', partials.lastTsUs),
    histogramColumn('hist_pos', partials.histPos, order),
    histogramColumn('hist_neg', partials.histNeg, order),
    { name: 'hist_zero', type: 'long', values: pick(partials.histZero) },
    { name: 'nan', type: 'long', values: pick(partials.nan) },
    { name: 'late', type: 'long', values: pick(partials.late) },
    { name: 'revision', type: 'long', values: pick(partials.revision) },
    { name: 'src_from', type: 'long', values: source === null ? pick(partials.srcFrom) : new Float64Array(rowCount).fill(source.from) },
    { name: 'src_to', type: 'long', values: source === null ? pick(partials.srcTo) : new Float64Array(rowCount).fill(source.to) },
  ];
}
