import { encodeParquet, type EncodedParquet, type FileColumn } from './parquet/encode.ts';

/** Encodes a file, letting the thread breathe between the encoder's slices. */
export async function encodeInSlices(rowCount: number, columns: FileColumn[], breathe: () => Promise<void>): Promise<EncodedParquet> {
  const steps = encodeParquet({ rowCount, columns, compression: 'zstd' });
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    await breathe();
  }
}
