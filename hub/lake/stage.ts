/** From an encoded Parquet file to the `add` action of a commit. */
import type { AddFile, PartitionValues } from './delta-actions.ts';
import { addAction, fileStats } from './delta-stats.ts';
import type { DeltaTable } from './delta-table.ts';
import type { EncodedParquet } from './parquet/encode.ts';

/**
 * Writes the file, durably, where no commit names it yet. A crash now leaves an orphan, which vacuum deletes.
 *
 * @param partition partition column to value, '2026-11-22' for a date
 * @param dataChange false when other files of the table hold the same rows
 */
export async function stageFile(
  table: DeltaTable,
  partition: PartitionValues,
  encoded: EncodedParquet,
  dataChange = true,
): Promise<AddFile> {
  const staged = await table.stageFile(partition, encoded.bytes);
  return addAction(staged.path, staged.partitionValues, staged.size, staged.modificationMs, fileStats(table.spec, encoded), dataChange);
}
