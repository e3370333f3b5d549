/**
 * Partials of the lake for answers about named series: row groups of `aggregates`, read once and kept in columns.
 *
 * A hot query (the last minutes) needs all of some small files, a year of one series one row group each of some large ones.
 * Both are read without DuckDB, which would open every file anew. A query that would have to read much that is not here
 * (a year of all series) reads a part of it and leaves the other files to DuckDB; so it does with a file that it
 * cannot read, for DuckDB to say what is wrong.
 *
 * Data files never change, so nothing is ever invalid. What is used least goes first. Bounds: bytes that one query reads,
 * bytes of all that is kept (estimated): footers and row groups.
 *
 * A row group is kept by its columns, each read when a function first needs it: histograms, which only percentiles need, are
 * most of a row.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import type { AggregateFunction, NAMED_FUNCTIONS } from '../../shared/window/partial.ts';
import {
  partialAt,
  SCALAR_COLUMNS,
  type GroupKey,
  type HistogramColumn,
  type PartialRow,
  type PartialStates,
  type ScalarColumn,
} from '../../shared/window/partial-columns.ts';
import type { AggregateFilter, LakeFile } from '../engine-api.ts';
import type { ParquetColumn } from '../lake/parquet/encode.ts';
import { RowGroups, type ReadBytes, type RowGroupExtent } from '../lake/parquet/row-groups.ts';
import { AGGREGATES } from '../lake/tables.ts';
import { isPattern, mayHoldNames, nameMatcher } from '../name-patterns.ts';
import { SCALAR_NAMES } from '../windows/fold.ts';
import { BoundedCache } from './bounded-cache.ts';

export interface PartialFilesBounds {
  /** What one query may read in. */
  readonly readBytesMax: number;
  readonly keptBytesMax: number;
}

const BOUNDS: PartialFilesBounds = { readBytesMax: 8_000_000, keptBytesMax: 256_000_000 };
/** A file of this size is read as a whole: one read costs less than two. */
const WHOLE_FILE_BYTES = 256_000;

const BOUND_COLUMNS = ['def', 'metric', 'device', 'window_start'];
const KEY_COLUMNS = ['def', 'gateway', 'device', 'metric', 'tags'] as const;
/** What every answer looks at. */
const BASE_COLUMNS: readonly string[] = [...KEY_COLUMNS, 'window_start', 'n', 'nan', 'late', 'revision', 'gen'];
const HISTOGRAM_COLUMNS = ['hist_pos', 'hist_neg', 'hist_zero', 'min_value', 'max_value'];
const VARIANCE_COLUMNS = ['mean', 'm2'];
/** First and last are told by their times. */
const FUNCTION_COLUMNS: Readonly<Record<(typeof NAMED_FUNCTIONS)[number], readonly string[]>> = {
  count: [],
  sum: ['sum_value'],
  mean: ['mean'],
  min: ['min_value'],
  max: ['max_value'],
  first: ['first_value', 'first_ts'],
  last: ['last_value', 'last_ts'],
  delta: ['first_value', 'first_ts', 'last_value', 'last_ts'],
  stddev: VARIANCE_COLUMNS,
  variance: VARIANCE_COLUMNS,
};
/** Of an entry of a footer: a chunk's metadata as objects. */
const CHUNK_BYTES = 500;
/** With its keys and its place in two lists. */
const RUN_BYTES = 400;

/** Rows [from, to) of one definition and group, as a file has them side by side. */
interface Run {
  readonly def: string;
  readonly group: GroupKey;
  readonly from: number;
  readonly to: number;
}

/** Rows [from, to) of one group that was asked for. */
export interface PartialRun {
  readonly windowStartUs: Float64Array;
  readonly states: PartialStates;
  readonly group: GroupKey;
  readonly from: number;
  readonly to: number;
}

interface KeptGroup {
  readonly rowCount: number;
  readonly windowStartUs: Float64Array;
  readonly runs: readonly Run[];
  /** Those of each device; null: of groups that are not of one. */
  readonly runsOfDevice: ReadonlyMap<string | null, readonly Run[]>;
  /** What of the columns has been read. */
  readonly read: ReadonlySet<string>;
  /** A column that has not been read: NaN, and no buckets. */
  readonly states: PartialStates;
  readonly bytes: number;
}

interface Wanted {
  readonly definitionHash: string;
  readonly filter: AggregateFilter;
  readonly columns: readonly string[];
}

function columnsFor(functions: readonly AggregateFunction[]): readonly string[] {
  const columns = new Set(BASE_COLUMNS);
  for (const name of functions) {
    for (const column of isNamed(name) ? FUNCTION_COLUMNS[name] : HISTOGRAM_COLUMNS) columns.add(column);
  }
  return [...columns];
}

function isNamed(name: AggregateFunction): name is (typeof NAMED_FUNCTIONS)[number] {
  return name in FUNCTION_COLUMNS;
}

export class PartialFiles {
  readonly #readBytesMax: number;
  readonly #footers: BoundedCache<RowGroups>;
  readonly #groups: BoundedCache<KeptGroup>;

  constructor({ readBytesMax, keptBytesMax }: PartialFilesBounds = BOUNDS) {
    this.#readBytesMax = readBytesMax;
    this.#footers = new BoundedCache(keptBytesMax / 8);
    this.#groups = new BoundedCache(keptBytesMax);
  }

  /**
   * Partials of a persisted definition, by series or by metric as it groups; `rest` is not looked at.
   *
   * @param functions that the partials are for: what none of them needs is NaN, or no bucket
   */
  async read(
    files: readonly LakeFile[],
    definitionHash: string,
    filter: AggregateFilter,
    functions: readonly AggregateFunction[],
  ): Promise<{ readonly rows: PartialRow[]; readonly rest: readonly LakeFile[] }> {
    const { runs, rest } = await this.runs(files, definitionHash, filter, functions);
    return { rows: runs.flatMap((run) => rowsOfRun(run, filter)), rest };
  }

  /** The same as they are kept: of windows outside the range, too. */
  async runs(
    files: readonly LakeFile[],
    definitionHash: string,
    filter: AggregateFilter,
    functions: readonly AggregateFunction[],
  ): Promise<{ readonly runs: PartialRun[]; readonly rest: readonly LakeFile[] }> {
    const wanted = { definitionHash, filter, columns: columnsFor(functions) };
    const runs: PartialRun[] = [];
    const rest: LakeFile[] = [];
    const budget = { bytes: this.#readBytesMax };
    for (const file of files) {
      const groups = await this.#groupsOf(file, wanted, budget);
      if (groups === null) rest.push(file);
      else for (const group of groups) addRuns(runs, group, wanted);
    }
    return { runs, rest };
  }

  /** null: it is left to DuckDB. */
  async #groupsOf(file: LakeFile, wanted: Wanted, budget: { bytes: number }): Promise<KeptGroup[] | null> {
    const opened = new OpenFile(file);
    try {
      const footer = await this.#footerOf(file, opened, budget);
      const groups: KeptGroup[] = [];
      for (const [index, extent] of footer.extents.entries()) {
        if (!mayHold(extent, wanted)) continue;
        const key = `${file.path}#${index}`;
        let group = this.#groups.get(key);
        const missing = group === undefined ? wanted.columns : wanted.columns.filter((name) => group?.read.has(name) !== true);
        if (group === undefined || missing.length > 0) {
          // What is not cheap comes in over several queries.
          if (budget.bytes <= 0) return null;
          budget.bytes -= footer.bytesOf(index, missing);
          const { columns, rowCount } = await footer.read(index, opened.read, missing);
          group = group === undefined ? keptGroup(columns, rowCount, missing) : withColumns(group, columns, missing);
          this.#groups.set(key, { value: group, bytes: group.bytes });
        }
        groups.push(group);
      }
      return groups;
    } catch {
      return null; // DuckDB says what is wrong with it
    } finally {
      opened.close();
    }
  }

  async #footerOf(file: LakeFile, opened: OpenFile, budget: { bytes: number }): Promise<RowGroups> {
    const known = this.#footers.get(file.path);
    if (known !== undefined) return known;
    const footer = await RowGroups.open(opened.read, file.size, BOUND_COLUMNS);
    budget.bytes -= footer.footerBytes;
    this.#footers.set(file.path, { value: footer, bytes: footer.extents.length * AGGREGATES.columns.length * CHUNK_BYTES });
    return footer;
  }
}

/** A file that is opened when something of it is asked for. */
class OpenFile {
  readonly #file: LakeFile;
  #fd: number | null = null;
  #whole: Uint8Array | null = null;

  constructor(file: LakeFile) {
    this.#file = file;
  }

  /** Synchronous: the thread has nothing else to do meanwhile, and a turn of the event loop costs as much as the read. */
  readonly read: ReadBytes = (start, end) => {
    if (this.#file.size > WHOLE_FILE_BYTES) return this.#readRange(start, end);
    this.#whole ??= this.#readRange(0, this.#file.size);
    return this.#whole.subarray(start, end);
  };

  #readRange(start: number, end: number): Uint8Array {
    this.#fd ??= openSync(this.#file.path, 'r');
    const bytes = new Uint8Array(end - start);
    let at = 0;
    while (at < bytes.length) {
      const read = readSync(this.#fd, bytes, at, bytes.length - at, start + at);
      if (read === 0) break;
      at += read;
    }
    return bytes.subarray(0, at);
  }

  close(): void {
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
  }
}

/** By the statistics of the row group; rows are looked at one by one afterwards. */
function mayHold({ bounds }: RowGroupExtent, { definitionHash, filter }: Wanted): boolean {
  const names = (column: string, wanted: readonly string[] | null): boolean => {
    const bound = bounds.get(column);
    return bound === undefined || mayHoldNames(bound.min, bound.max, wanted);
  };
  const times = bounds.get('window_start');
  if (typeof times?.min === 'number' && times.min >= filter.toUs) return false;
  if (typeof times?.max === 'number' && times.max < filter.fromUs) return false;
  return names('def', [definitionHash]) && names('metric', filter.metrics) && names('device', filter.devices);
}

type Columns = ReadonlyMap<string, ParquetColumn>;

function keptGroup(columns: Columns, rowCount: number, read: readonly string[]): KeptGroup {
  const runs = runsOf(columns, rowCount);
  const runsOfDevice = new Map<string | null, Run[]>();
  for (const run of runs) {
    const own = runsOfDevice.get(run.group.device);
    if (own === undefined) runsOfDevice.set(run.group.device, [run]);
    else own.push(run);
  }
  const windowStartUs = numbersOf(columns.get('window_start'), rowCount);
  const empty: KeptGroup = {
    rowCount,
    windowStartUs,
    runs,
    runsOfDevice,
    read: new Set(),
    states: emptyStates(rowCount),
    bytes: rowCount * 8 + runs.length * RUN_BYTES,
  };
  return withColumns(empty, columns, read);
}

function emptyStates(rowCount: number): PartialStates {
  const absent = new Float64Array(rowCount).fill(NaN);
  const none: HistogramColumn = { offsets: new Uint32Array(rowCount + 1), buckets: new Int32Array(0), counts: new Float64Array(0) };
  const scalars = Object.fromEntries(SCALAR_COLUMNS.map((name) => [name, absent])) as Record<ScalarColumn, Float64Array>;
  return { ...scalars, histPos: none, histNeg: none };
}

function withColumns(group: KeptGroup, columns: Columns, read: readonly string[]): KeptGroup {
  const { rowCount } = group;
  const states = { ...group.states };
  let { bytes } = group;
  for (const name of SCALAR_COLUMNS) {
    if (!read.includes(SCALAR_NAMES[name])) continue;
    states[name] = numbersOf(columns.get(SCALAR_NAMES[name]), rowCount);
    bytes += rowCount * 8;
  }
  for (const [name, column] of [['histPos', columns.get('hist_pos')] as const, ['histNeg', columns.get('hist_neg')] as const]) {
    if (column?.type !== 'map_int_long') continue;
    states[name] = { offsets: column.offsets, buckets: column.keys, counts: column.counts };
    bytes += rowCount * 4 + column.keys.length * 12;
  }
  return { ...group, read: new Set([...group.read, ...read]), states, bytes };
}

/** A column that the file does not have, and a null, is NaN. */
function numbersOf(column: ParquetColumn | undefined, rowCount: number): Float64Array {
  if (column === undefined || !('values' in column) || !(column.values instanceof Float64Array))
    return new Float64Array(rowCount).fill(NaN);
  const { values } = column;
  if ('valid' in column) column.valid?.forEach((isValid, row) => isValid === 0 && (values[row] = NaN));
  return values;
}

interface Texts {
  readonly indices: Uint32Array;
  /** The same in every row. */
  readonly isConstant: boolean;
  at(index: number): string | null;
}

function textsOf(column: ParquetColumn | undefined, rowCount: number): Texts {
  if (column?.type !== 'string') return { indices: new Uint32Array(rowCount), isConstant: true, at: () => null };
  const { dictionary, indices, nullIndex } = column;
  const isConstant = dictionary.length === 0 || (dictionary.length === 1 && nullIndex === undefined);
  return { indices, isConstant, at: (index) => (index === nullIndex ? null : (dictionary[index] ?? null)) };
}

function runsOf(columns: Columns, rowCount: number): Run[] {
  const texts = KEY_COLUMNS.map((name) => textsOf(columns.get(name), rowCount));
  const varying = texts.filter(({ isConstant }) => !isConstant).map(({ indices }) => indices);
  const runs: Run[] = [];
  for (let from = 0; from < rowCount;) {
    let to = rowCount;
    for (const indices of varying) to = endOfEqual(indices, from, to);
    const [def, gateway, device, metric, tags] = texts.map((text) => text.at(text.indices[from]));
    runs.push({ def: def ?? '', group: { gateway, device, metric, tags }, from, to });
    from = to;
  }
  return runs;
}

/** Where another index stands than at `from`; `end` if it is the same until there. */
function endOfEqual(indices: Uint32Array, from: number, end: number): number {
  const index = indices[from];
  let to = from + 1;
  while (to < end && indices[to] === index) to++;
  return to;
}

/** Those that may pass: where devices are named one by one, theirs and those that no device can be asked of. */
function candidates({ runs, runsOfDevice }: Pick<KeptGroup, 'runs' | 'runsOfDevice'>, devices: readonly string[] | null): readonly Run[] {
  if (devices === null || devices.length >= runsOfDevice.size || devices.some(isPattern)) return runs;
  return [null, ...new Set(devices)].flatMap((device) => runsOfDevice.get(device) ?? []);
}

function addRuns(runs: PartialRun[], { windowStartUs, states, ...kept }: KeptGroup, { definitionHash, filter }: Wanted): void {
  const [gateway, device, metric] = [filter.gateways, filter.devices, filter.metrics].map((names) =>
    names === null ? () => true : nameMatcher(names),
  );
  for (const { def, group, from, to } of candidates(kept, filter.devices)) {
    if (def !== definitionHash) continue;
    // A key that the definition does not group by is no condition.
    if (group.metric !== null && !metric(group.metric)) continue;
    if (group.device !== null && !device(group.device)) continue;
    if (group.gateway !== null && !gateway(group.gateway)) continue;
    runs.push({ windowStartUs, states, group, from, to });
  }
}

/** Its rows whose windows begin in the range. */
export function rowsOfRun(
  { windowStartUs: starts, states, group, from, to }: PartialRun,
  range: { readonly fromUs: number; readonly toUs: number },
): PartialRow[] {
  const rows: PartialRow[] = [];
  for (let row = from; row < to; row++) {
    const windowStartUs = starts[row];
    if (windowStartUs >= range.fromUs && windowStartUs < range.toUs) rows.push({ group, windowStartUs, partial: partialAt(states, row) });
  }
  return rows;
}
