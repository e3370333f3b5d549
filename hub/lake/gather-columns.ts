/**
 * Columns of several files as one column, in a given order of the rows. Pure.
 *
 * A row is named by its number when the files are laid one behind the other. Memory: the result, and nothing per row.
 */
import type { ParquetColumn } from './parquet/encode.ts';
import type { ColumnSpec } from './table-spec.ts';

/** One file's part of a column; undefined where the file lacks it, which means null. */
export interface ColumnPart {
  readonly rowCount: number;
  readonly column: ParquetColumn | undefined;
}

type NumberColumn = Extract<ParquetColumn, { values: Float64Array } | { values: Int32Array }>;
type TextColumn = Extract<ParquetColumn, { type: 'string' }>;

/** @param order row numbers, each once; null: as they are */
export function gatherColumn({ name, type }: ColumnSpec, parts: readonly ColumnPart[], order: Uint32Array | null): ParquetColumn {
  const rowCount = parts.reduce((sum, part) => sum + part.rowCount, 0);
  switch (type) {
    case 'string':
      return gatherTexts(name, parts, rowCount, order);
    case 'binary':
      return gatherBinaries(name, parts, rowCount, order);
    case 'timestamp':
    case 'double':
    case 'long':
    case 'integer':
      return gatherNumbers(name, type === 'integer' ? 'int' : type, parts, rowCount, order);
    default:
      throw new TypeError(`column ${name}: files with columns of type ${JSON.stringify(type)} are not merged`);
  }
}

function gatherNumbers(
  name: string,
  type: NumberColumn['type'],
  parts: readonly ColumnPart[],
  rowCount: number,
  order: Uint32Array | null,
): ParquetColumn {
  const make = (length: number): Float64Array | Int32Array => (type === 'int' ? new Int32Array(length) : new Float64Array(length));
  const values = make(rowCount);
  let valid: Uint8Array | null = null;
  let at = 0;
  for (const part of parts) {
    const { column } = part;
    const isKnown = column !== undefined && column.type === type;
    if (isKnown) values.set(column.values.subarray(0, part.rowCount), at);
    const partValid = isKnown ? (column.valid ?? null) : new Uint8Array(part.rowCount);
    if (partValid !== null) {
      valid ??= new Uint8Array(rowCount).fill(1);
      valid.set(partValid.subarray(0, part.rowCount), at);
    }
    at += part.rowCount;
  }
  if (order === null) return { name, type, values, valid } as ParquetColumn;
  const sorted = make(rowCount);
  for (let row = 0; row < rowCount; row++) sorted[row] = values[order[row]];
  const sortedValid = valid?.slice() ?? null;
  if (valid !== null && sortedValid !== null) for (let row = 0; row < rowCount; row++) sortedValid[row] = valid[order[row]];
  return { name, type, values: sorted, valid: sortedValid } as ParquetColumn;
}

function gatherTexts(name: string, parts: readonly ColumnPart[], rowCount: number, order: Uint32Array | null): ParquetColumn {
  // Index 0 is null.
  const dictionary = [''];
  const places = new Map<string, number>();
  const indices = new Uint32Array(rowCount);
  let at = 0;
  for (const part of parts) {
    if (part.column?.type === 'string') copyTexts(part.column, part.rowCount, indices.subarray(at), dictionary, places);
    at += part.rowCount;
  }
  const sorted = order === null ? indices : new Uint32Array(rowCount);
  // A loop: `from` with a function goes through an iterator, at ten times the cost.
  if (order !== null) for (let row = 0; row < rowCount; row++) sorted[row] = indices[order[row]];
  return { name, type: 'string', dictionary: dictionary.length === 1 ? [] : dictionary, indices: sorted, nullIndex: 0 };
}

function copyTexts(column: TextColumn, rowCount: number, out: Uint32Array, dictionary: string[], places: Map<string, number>): void {
  const placeOf = column.dictionary.map((text) => {
    let place = places.get(text);
    if (place === undefined) {
      place = dictionary.push(text) - 1;
      places.set(text, place);
    }
    return place;
  });
  // What is outside of the dictionary is null.
  for (let row = 0; row < rowCount; row++) {
    const index = column.indices[row];
    out[row] = index === column.nullIndex ? 0 : (placeOf[index] ?? 0);
  }
}

function gatherBinaries(name: string, parts: readonly ColumnPart[], rowCount: number, order: Uint32Array | null): ParquetColumn {
  const values: (Uint8Array | null)[] = [];
  for (const part of parts) {
    for (let row = 0; row < part.rowCount; row++) values.push(part.column?.type === 'binary' ? (part.column.values[row] ?? null) : null);
  }
  return { name, type: 'binary', values: order === null ? values : Array.from({ length: rowCount }, (_, row) => values[order[row]]) };
}

/** The index of a part's text column at a row, for comparing neighbours; null as one number. */
function textAt(column: ParquetColumn | undefined, row: number): number {
  if (column?.type !== 'string') return -1;
  const index = column.indices[row];
  return index === column.nullIndex || index >= column.dictionary.length ? -1 : index;
}

function nameAt(column: ParquetColumn | undefined, index: number): string {
  return column?.type === 'string' && index >= 0 ? column.dictionary[index] : '';
}

/** Columns by which rows are told into runs, in the order in which runs are compared. */
const SERIES_COLUMNS = ['device', 'metric', 'tags', 'gateway'] as const;

interface Run {
  readonly start: number;
  readonly end: number;
}

/**
 * The order of the lake's files over the rows of several: device, metric, tags, gateway, then time, equal times as they came.
 *
 * @param parts of each file its columns `device`, `metric`, `tags`, `gateway` and `ts`
 */
export function readingsOrder(
  parts: readonly { readonly rowCount: number; readonly columns: ReadonlyMap<string, ParquetColumn> }[],
): Uint32Array {
  const rowCount = parts.reduce((sum, part) => sum + part.rowCount, 0);
  const ts = new Float64Array(rowCount);
  const series = new Map<string, { readonly names: readonly string[]; readonly runs: Run[] }>();
  let at = 0;
  for (const part of parts) {
    const times = part.columns.get('ts');
    if (times?.type === 'timestamp') ts.set(times.values.subarray(0, part.rowCount), at);
    const columns = SERIES_COLUMNS.map((name) => part.columns.get(name));
    for (let start = 0; start < part.rowCount;) {
      const indices = columns.map((column) => textAt(column, start));
      let end = start + 1;
      while (end < part.rowCount && columns.every((column, index) => textAt(column, end) === indices[index])) end++;
      const names = columns.map((column, index) => nameAt(column, indices[index]));
      const key = names.join('\u0000');
      const known = series.get(key);
      const run = { start: at + start, end: at + end };
      if (known === undefined) series.set(key, { names, runs: [run] });
      else known.runs.push(run);
      start = end;
    }
    at += part.rowCount;
  }
  const sorted = [...series.values()].sort((a, b) => compareNames(a.names, b.names));
  const order = new Uint32Array(rowCount);
  let next = 0;
  for (const { runs } of sorted) next = placeRuns(runs, ts, order, next);
  return order;
}

function compareNames(a: readonly string[], b: readonly string[]): number {
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return a[index] < b[index] ? -1 : 1;
  return 0;
}

function placeRuns(runs: Run[], ts: Float64Array, order: Uint32Array, next: number): number {
  const from = next;
  runs.sort((a, b) => ts[a.start] - ts[b.start] || a.start - b.start);
  for (const { start, end } of runs) for (let row = start; row < end; row++) order[next++] = row;
  let isAscending = true;
  for (let place = from + 1; place < next && isAscending; place++) isAscending = ts[order[place - 1]] <= ts[order[place]];
  // Late data and two epochs overlap; most series do not.
  if (!isAscending) order.subarray(from, next).sort((a, b) => ts[a] - ts[b] || a - b);
  return next;
}
