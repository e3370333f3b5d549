/**
 * PartialColumns in one buffer, for messages between threads: to clone dozens of small arrays takes longer than to copy
 * what is in them.
 *
 * Layout: doubles windowStartUs, SCALAR_COLUMNS, counts of histPos, counts of histNeg; then 32-bit words group, offsets of
 * histPos, offsets of histNeg, buckets of histPos, buckets of histNeg.
 */
import { SCALAR_COLUMNS, type GroupTable, type HistogramColumn, type PartialColumns, type ScalarColumns } from './partial-columns.ts';

export interface PackedPartials {
  readonly count: number;
  readonly groups: GroupTable;
  readonly windowSizeUs: number;
  /** Pairs of histPos and histNeg. */
  readonly positivePairs: number;
  readonly negativePairs: number;
  readonly buffer: ArrayBuffer;
}

export function packPartials(columns: PartialColumns): PackedPartials {
  const { count, groups, windowSizeUs, histPos, histNeg } = columns;
  const positivePairs = histPos.offsets[count];
  const negativePairs = histNeg.offsets[count];
  const doubles = count * (1 + SCALAR_COLUMNS.length) + positivePairs + negativePairs;
  const words = count + 2 * (count + 1) + positivePairs + negativePairs;
  const buffer = new ArrayBuffer(doubles * 8 + words * 4);
  const double = new Float64Array(buffer, 0, doubles);
  let at = 0;
  for (const column of [columns.windowStartUs, ...SCALAR_COLUMNS.map((name) => columns[name])]) {
    double.set(column, at);
    at += count;
  }
  double.set(histPos.counts.subarray(0, positivePairs), at);
  double.set(histNeg.counts.subarray(0, negativePairs), at + positivePairs);
  const word = new Int32Array(buffer, doubles * 8);
  at = 0;
  for (const column of [
    columns.group,
    histPos.offsets,
    histNeg.offsets,
    histPos.buckets.subarray(0, positivePairs),
    histNeg.buckets.subarray(0, negativePairs),
  ]) {
    word.set(column, at);
    at += column.length;
  }
  return { count, groups, windowSizeUs, positivePairs, negativePairs, buffer };
}

/** Columns are views of the buffer. */
export function unpackPartials({ count, groups, windowSizeUs, positivePairs, negativePairs, buffer }: PackedPartials): PartialColumns {
  let at = 0;
  const doubles = (length: number): Float64Array<ArrayBuffer> => {
    const column = new Float64Array(buffer, at, length);
    at += length * 8;
    return column;
  };
  const unsigned = (length: number): Uint32Array => {
    const column = new Uint32Array(buffer, at, length);
    at += length * 4;
    return column;
  };
  const windowStartUs = doubles(count);
  const scalars = Object.fromEntries(SCALAR_COLUMNS.map((name) => [name, doubles(count)])) as ScalarColumns;
  const [positiveCounts, negativeCounts] = [doubles(positivePairs), doubles(negativePairs)];
  const group = unsigned(count);
  const [positiveOffsets, negativeOffsets] = [unsigned(count + 1), unsigned(count + 1)];
  const histogram = (offsets: Uint32Array, pairs: number, counts: Float64Array): HistogramColumn => {
    const buckets = new Int32Array(buffer, at, pairs);
    at += pairs * 4;
    return { offsets, buckets, counts };
  };
  const histPos = histogram(positiveOffsets, positivePairs, positiveCounts);
  const histNeg = histogram(negativeOffsets, negativePairs, negativeCounts);
  return { count, groups, group, windowSizeUs, windowStartUs, ...scalars, histPos, histNeg };
}
