/**
 * Small files of the lake, read once and kept in columns: what answers hot queries without asking DuckDB.
 *
 * Data files never change, so nothing is ever invalid; what is used least goes first. A query that would have to read much
 * that is not here (a year) reads a part of it and leaves the rest to DuckDB, which skips row groups; one file that cannot be read is left to it as well,
 * which then says so. Bounds: bytes of a file, bytes that one query reads in, bytes of all that is kept (estimated).
 */
import { readFile } from 'node:fs/promises';
import { partialAt, type PartialColumns, type PartialRow, groupKeyAt } from '../../shared/window/partial-columns.ts';
import type { AggregateFilter, LakeFile, PendingException } from '../engine-api.ts';
import type { ParquetColumn } from '../lake/parquet/encode.ts';
import { readParquetColumns, type ParquetColumns } from '../lake/parquet/read.ts';
import { nameMatcher } from '../name-patterns.ts';
import { releaseEpoch } from '../release-lane.ts';
import { concatenate } from '../windows/fold.ts';

const FILE_BYTES_MAX = 4_000_000;
const READ_BYTES_MAX = 8_000_000;
const KEPT_BYTES_MAX = 256_000_000;

interface Kept<T> {
  readonly value: T;
  readonly bytes: number;
}

/** Files by path, each as `parse` makes it. */
class FileCache<T> {
  readonly #parse: (columns: ParquetColumns) => Kept<T>;
  readonly #bytesMax: number;
  readonly #kept = new Map<string, Kept<T>>();
  #bytes = 0;

  constructor(bytesMax: number, parse: (columns: ParquetColumns) => Kept<T>) {
    this.#bytesMax = bytesMax;
    this.#parse = parse;
  }

  /** @returns what is here or was cheap to read, and the files that are left to another reader */
  async take(files: readonly LakeFile[]): Promise<{ readonly values: readonly T[]; readonly rest: readonly LakeFile[] }> {
    const missing = files.filter(({ path }) => !this.#kept.has(path));
    const isCheap = missing.reduce((sum, { size }) => sum + size, 0) <= READ_BYTES_MAX;
    let readBytes = 0;
    for (const file of missing) {
      // What is not cheap comes in over several queries, as far as there is room: nothing goes for it.
      const isFull = !isCheap && (readBytes >= READ_BYTES_MAX || this.#bytes >= this.#bytesMax);
      if (file.size > FILE_BYTES_MAX || isFull) continue;
      await this.#read(file.path);
      readBytes += file.size;
    }
    const values: T[] = [];
    const rest: LakeFile[] = [];
    for (const file of files) {
      const kept = this.#kept.get(file.path);
      if (kept === undefined) {
        rest.push(file);
        continue;
      }
      values.push(kept.value);
      this.#kept.delete(file.path);
      this.#kept.set(file.path, kept);
    }
    return { values, rest };
  }

  async #read(path: string): Promise<void> {
    try {
      const kept = this.#parse(await readParquetColumns(await readFile(path)));
      this.#kept.set(path, kept);
      this.#bytes += kept.bytes;
    } catch {
      return; // DuckDB says what is wrong with it
    }
    for (const [oldest, { bytes }] of this.#kept) {
      if (this.#bytes <= this.#bytesMax || oldest === path) break;
      this.#kept.delete(oldest);
      this.#bytes -= bytes;
    }
  }
}

/** One file of `aggregates`: its rows by definition and group. */
interface PartialFile {
  readonly columns: PartialColumns;
  /** By hash of a definition: of each group with rows of it, their numbers. */
  readonly definitions: ReadonlyMap<string, ReadonlyMap<number, readonly number[]>>;
}

function partialFile(parquet: ParquetColumns): Kept<PartialFile> {
  const columns = concatenate([parquet]);
  const def = parquet.columns.get('def');
  if (def?.type !== 'string') throw new TypeError('no column def');
  const definitions = new Map<string, Map<number, number[]>>();
  for (let row = 0; row < columns.count; row++) {
    const hash = def.dictionary.length === 1 && def.nullIndex === undefined ? def.dictionary[0] : def.dictionary[def.indices[row]];
    let groups = definitions.get(hash);
    if (groups === undefined) definitions.set(hash, (groups = new Map<number, number[]>()));
    const rows = groups.get(columns.group[row]);
    if (rows === undefined) groups.set(columns.group[row], [row]);
    else rows.push(row);
  }
  // 20 columns of doubles, histograms, and the row's place in the maps.
  const buckets = columns.histPos.buckets.length + columns.histNeg.buckets.length;
  return { value: { columns, definitions }, bytes: columns.count * 200 + buckets * 12 + columns.groups.count * 400 };
}

export class PartialFiles {
  readonly #cache = new FileCache<PartialFile>(KEPT_BYTES_MAX, partialFile);

  /** Partials of a persisted definition, by series or by metric as it groups; `rest` is not looked at. */
  async read(
    files: readonly LakeFile[],
    definitionHash: string,
    filter: AggregateFilter,
  ): Promise<{ readonly rows: PartialRow[]; readonly rest: readonly LakeFile[] }> {
    const { values, rest } = await this.#cache.take(files);
    const rows: PartialRow[] = [];
    const [gateway, device, metric] = [filter.gateways, filter.devices, filter.metrics].map((names) =>
      names === null ? () => true : nameMatcher(names),
    );
    for (const { columns, definitions } of values) {
      for (const [index, numbers] of definitions.get(definitionHash) ?? []) {
        const group = groupKeyAt(columns.groups, index);
        // A key that the definition does not group by is no condition.
        if (group.metric !== null && !metric(group.metric)) continue;
        if (group.device !== null && !device(group.device)) continue;
        if (group.gateway !== null && !gateway(group.gateway)) continue;
        for (const row of numbers) {
          const windowStartUs = columns.windowStartUs[row];
          if (windowStartUs >= filter.fromUs && windowStartUs < filter.toUs)
            rows.push({ group, windowStartUs, partial: partialAt(columns, row) });
        }
      }
    }
    return { rows, rest };
  }
}

/** A file of `exceptions`, as far as windows care. */
interface KnownException extends PendingException {
  /** Of the lane that a release of it has; null: it is not one that could be released. */
  readonly releaseEpoch: string | null;
}

const EXCEPTION_BYTES = 400;

function exceptionFile({ rowCount, columns }: ParquetColumns): Kept<readonly KnownException[]> {
  const text = (name: string, row: number): string | null => textAt(columns.get(name), row);
  const number = (name: string, row: number): number | null => numberAt(columns.get(name), row);
  const value = Array.from({ length: rowCount }, (_, row): KnownException => {
    const kind = text('kind', row) ?? '';
    const id = {
      gateway: text('gateway', row) ?? '',
      epoch: text('epoch', row) ?? '',
      lane: text('lane', row) ?? '',
      seq: number('seq', row) ?? 0,
      idx: number('idx', row) ?? 0,
    };
    return {
      gateway: text('gateway', row),
      kind,
      device: text('device', row),
      metric: text('metric', row),
      fromUs: number('from_ts', row) ?? 0,
      toUs: number('to_ts', row) ?? 0,
      readingCount: number('reading_count', row),
      reason: text('reason', row) ?? '',
      releaseEpoch: kind === 'quarantined' ? releaseEpoch(id) : null,
    };
  });
  return { value, bytes: rowCount * EXCEPTION_BYTES };
}

function textAt(column: ParquetColumn | undefined, row: number): string | null {
  if (column?.type !== 'string' || column.dictionary.length === 0) return null;
  if (column.dictionary.length === 1 && column.nullIndex === undefined) return column.dictionary[0];
  const index = column.indices[row];
  return index === column.nullIndex ? null : (column.dictionary[index] ?? null);
}

function numberAt(column: ParquetColumn | undefined, row: number): number | null {
  if (column === undefined || !('values' in column) || column.type === 'binary') return null;
  const valid = 'valid' in column ? column.valid : undefined;
  return valid !== undefined && valid !== null && valid[row] === 0 ? null : column.values[row];
}

export class ExceptionFiles {
  readonly #cache = new FileCache<readonly KnownException[]>(KEPT_BYTES_MAX / 4, exceptionFile);

  /** Those that overlap the range and were not released. */
  async read(
    files: readonly LakeFile[],
    fromUs: number,
    toUs: number,
    released: ReadonlySet<string>,
  ): Promise<{ readonly rows: PendingException[]; readonly rest: readonly LakeFile[] }> {
    const { values, rest } = await this.#cache.take(files);
    const overlaps = (row: KnownException): boolean => row.fromUs < toUs && row.toUs > fromUs;
    const isMissing = (row: KnownException): boolean => row.releaseEpoch === null || !released.has(row.releaseEpoch);
    return { rows: values.flatMap((rows) => rows.filter((row) => overlaps(row) && isMissing(row))), rest };
  }
}
