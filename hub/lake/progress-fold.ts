/**
 * `progress` keeps the newest watermark of each gateway: older rows are dropped, and so are files that cannot be read,
 * whose watermarks are asserted again every second. One commit that changes data; a crash before it leaves an orphan.
 */
import { commitMerged } from './compaction.ts';
import { encodeInSlices } from './encode-slices.ts';
import type { AcceptedWatermark, Lake } from './lake.ts';
import type { ParquetColumn } from './parquet/encode.ts';
import { stageFile } from './stage.ts';

/** A flush a minute makes a file; readers take in 500. */
const FILES_MIN = 8;
const FILES_MAX = 400;

/** @returns how many files became one */
export async function foldProgress(lake: Lake, breathe: () => Promise<void>): Promise<number> {
  const table = lake.progress;
  await table.refresh();
  const readVersion = table.version;
  const files = [...table.snapshot.files.values()].sort((a, b) => a.modificationTime - b.modificationTime).slice(0, FILES_MAX);
  if (files.length < FILES_MIN) return 0;
  const rows = await lake.readProgressOf(files);
  const adds =
    rows.length === 0 ? [] : [await stageFile(table, {}, await encodeInSlices(rows.length, progressColumns(rows, null), breathe))];
  const outcome = await commitMerged(table, files, adds, readVersion, true);
  return outcome.status === 'committed' ? files.length : 0;
}

/** @param epoch the hub that accepted them; null: several */
export function progressColumns(rows: readonly AcceptedWatermark[], epoch: string | null): ParquetColumn[] {
  return [
    { name: 'gateway', type: 'string', dictionary: rows.map((row) => row.gateway), indices: Uint32Array.from(rows, (_, index) => index) },
    { name: 'watermark_ts', type: 'timestamp', values: Float64Array.from(rows, (row) => row.watermarkUs) },
    { name: 'asserted_ts', type: 'timestamp', values: Float64Array.from(rows, (row) => row.assertedUs) },
    {
      name: 'epoch',
      type: 'string',
      dictionary: epoch === null ? [] : [epoch],
      indices: new Uint32Array(rows.length),
      nullIndex: 0xffff_ffff,
    },
  ];
}
