/**
 * Small files of `exceptions`, read once and kept: every answer about windows is joined with them.
 *
 * Data files never change, so nothing is ever invalid; what is used least goes first. A query that would have to read much
 * that is not here reads a part of it and leaves the rest to DuckDB; a file that cannot be read is left to it as well,
 * which then says so. Bounds: bytes of a file, bytes that one query reads in, bytes of all that is kept (estimated).
 */
import { readFile } from 'node:fs/promises';
import type { LakeFile, PendingException } from '../engine-api.ts';
import type { ParquetColumn } from '../lake/parquet/encode.ts';
import { readParquetColumns, type ParquetColumns } from '../lake/parquet/read.ts';
import { releaseEpoch } from '../release-lane.ts';
import { BoundedCache } from './bounded-cache.ts';

const FILE_BYTES_MAX = 4_000_000;
const READ_BYTES_MAX = 8_000_000;
const KEPT_BYTES_MAX = 64_000_000;

/** A file of `exceptions`, as far as windows care. */
interface KnownException extends PendingException {
  /** Of the lane that a release of it has; null: it is not one that could be released. */
  readonly releaseEpoch: string | null;
}

const EXCEPTION_BYTES = 400;

function exceptionsOf({ rowCount, columns }: ParquetColumns): KnownException[] {
  const text = (name: string, row: number): string | null => textAt(columns.get(name), row);
  const number = (name: string, row: number): number | null => numberAt(columns.get(name), row);
  return Array.from({ length: rowCount }, (_, row): KnownException => {
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
  readonly #kept = new BoundedCache<readonly KnownException[]>(KEPT_BYTES_MAX);

  /** Those that overlap the range and were not released; `rest` is left to another reader. */
  async read(
    files: readonly LakeFile[],
    fromUs: number,
    toUs: number,
    released: ReadonlySet<string>,
  ): Promise<{ readonly rows: PendingException[]; readonly rest: readonly LakeFile[] }> {
    const isWanted = (row: KnownException): boolean =>
      row.fromUs < toUs && row.toUs > fromUs && (row.releaseEpoch === null || !released.has(row.releaseEpoch));
    const rows: PendingException[] = [];
    const rest: LakeFile[] = [];
    let readBytes = 0;
    for (const file of files) {
      let known = this.#kept.get(file.path) ?? null;
      if (known === null && file.size <= FILE_BYTES_MAX && readBytes < READ_BYTES_MAX) {
        readBytes += file.size;
        known = await this.#read(file.path);
      }
      if (known === null) rest.push(file);
      else rows.push(...known.filter(isWanted));
    }
    return { rows, rest };
  }

  async #read(path: string): Promise<readonly KnownException[] | null> {
    try {
      const value = exceptionsOf(await readParquetColumns(await readFile(path)));
      this.#kept.set(path, { value, bytes: value.length * EXCEPTION_BYTES });
      return value;
    } catch {
      return null; // DuckDB says what is wrong with it
    }
  }
}
