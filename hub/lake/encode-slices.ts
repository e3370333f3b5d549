import { inSlices } from '../steps.ts';
import { encodeParquet, ROW_GROUP_ROWS_MAX, type EncodedParquet, type FileColumn } from './parquet/encode.ts';

/** Aggregates are sorted by series: who asks for one of them reads its row groups, and skips the others by their statistics. */
export const AGGREGATE_ROW_GROUP_ROWS = 4_096;

/** Encodes a file, letting the thread breathe between the encoder's slices. */
export function encodeInSlices(
  rowCount: number,
  columns: FileColumn[],
  breathe: () => Promise<void>,
  rowGroupRowsMax: number = ROW_GROUP_ROWS_MAX,
): Promise<EncodedParquet> {
  return inSlices(encodeParquet({ rowCount, columns, compression: 'zstd', rowGroupRowsMax }), breathe);
}
