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
 * Histograms are most of a row, and only percentiles need them: a row group is kept without them until one is asked for.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import type { AggregateFunction } from '../../shared/window/partial.ts';
import { groupKeyAt, partialAt, type PartialColumns, type PartialRow } from '../../shared/window/partial-columns.ts';
import type { AggregateFilter, LakeFile } from '../engine-api.ts';
import type { ParquetColumns } from '../lake/parquet/read.ts';
import { RowGroups, type ReadBytes, type RowGroupExtent } from '../lake/parquet/row-groups.ts';
import { AGGREGATES } from '../lake/tables.ts';
import { isPattern, mayHoldNames, nameMatcher } from '../name-patterns.ts';
import { concatenate } from '../windows/fold.ts';
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
const HISTOGRAM_COLUMNS = ['hist_pos', 'hist_neg'];
/** `window_end` of one row says the size of all; the rest is what `concatenate` takes. */
const COLUMNS = AGGREGATES.columns.map(({ name }) => name).filter((name) => name !== 'window_name');
const COLUMNS_WITHOUT_HISTOGRAMS = COLUMNS.filter((name) => !HISTOGRAM_COLUMNS.includes(name));
/** Of an entry of a footer: a chunk's metadata as objects. */
const CHUNK_BYTES = 500;

/** Rows [from, to) of one definition and group, as a file has them side by side. */
interface Run {
  readonly def: string;
  readonly group: number;
  readonly from: number;
  readonly to: number;
}

interface KeptGroup {
  readonly columns: PartialColumns;
  readonly runs: readonly Run[];
  /** Those of each device; null: of groups that are not of one. */
  readonly runsOfDevice: ReadonlyMap<string | null, readonly Run[]>;
  readonly hasHistograms: boolean;
}

interface Wanted {
  readonly definitionHash: string;
  readonly filter: AggregateFilter;
  readonly needsHistograms: boolean;
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
   * @param functions that the partials are for: histograms are empty where none of them needs one
   */
  async read(
    files: readonly LakeFile[],
    definitionHash: string,
    filter: AggregateFilter,
    functions: readonly AggregateFunction[],
  ): Promise<{ readonly rows: PartialRow[]; readonly rest: readonly LakeFile[] }> {
    const wanted = { definitionHash, filter, needsHistograms: functions.some(needsHistogram) };
    const rows: PartialRow[] = [];
    const rest: LakeFile[] = [];
    const budget = { bytes: this.#readBytesMax };
    for (const file of files) {
      const groups = await this.#groupsOf(file, wanted, budget);
      if (groups === null) rest.push(file);
      else for (const group of groups) addRows(rows, group, wanted);
    }
    return { rows, rest };
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
        if (group === undefined || (wanted.needsHistograms && !group.hasHistograms)) {
          // What is not cheap comes in over several queries.
          if (budget.bytes <= 0) return null;
          budget.bytes -= extent.bytes;
          const columns = wanted.needsHistograms ? COLUMNS : COLUMNS_WITHOUT_HISTOGRAMS;
          group = keptGroup(await footer.read(index, opened.read, columns), wanted.needsHistograms);
          this.#groups.set(key, { value: group, bytes: bytesOf(group) });
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

function needsHistogram(name: AggregateFunction): boolean {
  return /^p\d/.test(name);
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

function keptGroup(parquet: ParquetColumns, hasHistograms: boolean): KeptGroup {
  const columns = concatenate([parquet]);
  const def = parquet.columns.get('def');
  if (def?.type !== 'string') throw new TypeError('no column def');
  const runs: Run[] = [];
  for (let from = 0; from < columns.count;) {
    let to = from + 1;
    while (to < columns.count && columns.group[to] === columns.group[from] && def.indices[to] === def.indices[from]) to++;
    runs.push({ def: def.dictionary[def.indices[from]] ?? '', group: columns.group[from], from, to });
    from = to;
  }
  const runsOfDevice = new Map<string | null, Run[]>();
  for (const run of runs) {
    const device = columns.groups.device[run.group];
    const own = runsOfDevice.get(device);
    if (own === undefined) runsOfDevice.set(device, [run]);
    else own.push(run);
  }
  return { columns, runs, runsOfDevice, hasHistograms };
}

/** 20 columns of doubles, buckets, keys. */
function bytesOf({ columns, runs }: KeptGroup): number {
  const buckets = columns.histPos.buckets.length + columns.histNeg.buckets.length;
  return columns.count * 172 + buckets * 12 + runs.length * 150 + columns.groups.count * 300;
}

/** Those that may pass: where devices are named one by one, theirs and those that no device can be asked of. */
function candidates({ runs, runsOfDevice }: KeptGroup, devices: readonly string[] | null): readonly Run[] {
  if (devices === null || devices.length >= runsOfDevice.size || devices.some(isPattern)) return runs;
  return [null, ...new Set(devices)].flatMap((device) => runsOfDevice.get(device) ?? []);
}

function addRows(rows: PartialRow[], kept: KeptGroup, { definitionHash, filter }: Wanted): void {
  const [gateway, device, metric] = [filter.gateways, filter.devices, filter.metrics].map((names) =>
    names === null ? () => true : nameMatcher(names),
  );
  const { columns } = kept;
  for (const run of candidates(kept, filter.devices)) {
    if (run.def !== definitionHash) continue;
    const group = groupKeyAt(columns.groups, run.group);
    // A key that the definition does not group by is no condition.
    if (group.metric !== null && !metric(group.metric)) continue;
    if (group.device !== null && !device(group.device)) continue;
    if (group.gateway !== null && !gateway(group.gateway)) continue;
    for (let row = run.from; row < run.to; row++) {
      const windowStartUs = columns.windowStartUs[row];
      if (windowStartUs >= filter.fromUs && windowStartUs < filter.toUs)
        rows.push({ group, windowStartUs, partial: partialAt(columns, row) });
    }
  }
}
