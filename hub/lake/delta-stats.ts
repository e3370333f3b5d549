/**
 * `add` and `remove` actions, and the statistics by which Spark, Trino, Fabric and our own queries skip files.
 *
 * Rules (PROTOCOL.md, "Per-file Statistics", and what delta-kernel reads): every bound must hold, an absent one only
 * costs speed. Times are cut to ms, the smallest down and the largest up. Texts are cut to 32 characters; a cut largest
 * one gets a tie-breaker that sorts above whatever was cut, or is left out. Columns with a NaN, an infinity or an integer
 * that JSON would round have no bounds. Maps have no statistics; partition columns are not in the files.
 */
import type { AddFile, PartitionValues, RemoveFile } from './delta-actions.ts';
import type { ColumnStatistics, EncodedParquet } from './parquet/encode.ts';
import { storedColumns, type ColumnSpec, type TableSpec } from './table-spec.ts';

/** Delta's default for `delta.dataSkippingNumIndexedCols`: readers expect no more. */
const STATS_COLUMNS_MAX = 32;

/** Delta's default length of texts in statistics, in code points. */
const STATS_TEXT_MAX = 32;

/** The action for a staged file of this table. */
export function addAction(
  path: string,
  partitionValues: PartitionValues,
  size: number,
  modificationMs: number,
  stats: string | null,
  dataChange = true,
): AddFile {
  return { path, partitionValues, size, modificationTime: modificationMs, dataChange, stats };
}

/** @param deletionTimestamp ms since the Unix epoch; `dataChange` false when other files hold the same rows */
export function removeAction(file: AddFile, deletionTimestamp: number, dataChange: boolean): RemoveFile {
  return { path: file.path, deletionTimestamp, dataChange, partitionValues: file.partitionValues, size: file.size };
}

/** `AddFile.stats` from what the encoder saw. */
export function fileStats(spec: TableSpec, encoded: Pick<EncodedParquet, 'rowCount' | 'stats'>): string {
  const minValues: Record<string, unknown> = {};
  const maxValues: Record<string, unknown> = {};
  const nullCount: Record<string, number> = {};
  for (const column of storedColumns(spec).slice(0, STATS_COLUMNS_MAX)) {
    const stats = encoded.stats.get(column.name);
    if (stats === undefined || typeof column.type !== 'string') continue;
    nullCount[column.name] = stats.nullCount;
    const bounds = statsBounds(column, stats);
    if (bounds.min !== null) minValues[column.name] = bounds.min;
    if (bounds.max !== null) maxValues[column.name] = bounds.max;
  }
  return JSON.stringify({ numRecords: encoded.rowCount, minValues, maxValues, nullCount });
}

type Bound = string | number | boolean | null;

const NO_BOUNDS: { readonly min: Bound; readonly max: Bound } = { min: null, max: null };

function statsBounds(column: ColumnSpec, { min, max, hasNan }: ColumnStatistics): { readonly min: Bound; readonly max: Bound } {
  if (hasNan || min === null || max === null) return NO_BOUNDS;
  if (typeof min === 'string' && typeof max === 'string') return { min: cutText(min), max: cutTextUp(max) };
  if (typeof min !== 'number' || typeof max !== 'number') return { min, max };
  if (column.type === 'timestamp') return { min: isoMs(Math.floor(min / 1000)), max: isoMs(Math.ceil(max / 1000)) };
  if (column.type === 'date') return { min: isoDay(min), max: isoDay(max) };
  const isExact = column.type === 'double' ? Number.isFinite : Number.isSafeInteger;
  return isExact(min) && isExact(max) ? { min, max } : NO_BOUNDS;
}

function cutText(text: string): string {
  const characters = Array.from(text.slice(0, 2 * STATS_TEXT_MAX));
  return characters.slice(0, STATS_TEXT_MAX).join('');
}

function cutTextUp(text: string): string | null {
  const prefix = cutText(text);
  if (prefix.length === text.length) return text;
  const next = text.codePointAt(prefix.length) as number;
  // U+007F sorts above every other ASCII character in every encoding, U+10FFFF above everything but itself in UTF-8.
  if (next < 0x7f) return `${prefix}\u007f`;
  return next < 0x10ffff ? `${prefix}\u{10ffff}` : null;
}

/** ISO 8601 in UTC; null outside of what a Date can say. */
function isoMs(ms: number): string | null {
  return Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : null;
}

function isoDay(day: number): string | null {
  return isoMs(day * 86_400_000)?.slice(0, 10) ?? null;
}
