/** Pages of columns without nesting: at most so many rows each, one definition level. */
import type { ByteSink } from './byte-sink.ts';
import { writeEqualLevels, writeLevels, type PagePlan } from './column-chunk.ts';

/** Keeps a page of 8-byte values at 256 KiB and its encoding with zstd below 2 ms. */
export const PAGE_ROWS = 32_768;

/** One byte per row: 1 = present. null or undefined: all are. */
export type Validity = Uint8Array | null | undefined;

export interface FlatPages {
  readonly pages: readonly PagePlan[];
  readonly nullCount: number;
}

const levels = new Uint32Array(PAGE_ROWS);

function writeValidity(sink: ByteSink, valid: Uint8Array, from: number, to: number): void {
  for (let i = from; i < to; i++) levels[i - from] = valid[i];
  writeLevels(sink, levels, to - from, 1);
}

/** Plans the rows [rowStart, rowEnd); the values are those of the present rows, in order. */
export function planFlatPages(valid: Validity, rowStart: number, rowEnd: number): FlatPages {
  const pages: PagePlan[] = [];
  let valueStart = 0;
  for (let from = rowStart; from < rowEnd; from += PAGE_ROWS) {
    const to = Math.min(rowEnd, from + PAGE_ROWS);
    let present = to - from;
    if (valid != null) {
      present = 0;
      for (let i = from; i < to; i++) present += valid[i];
    }
    const writer =
      valid != null && present > 0 && present < to - from
        ? (sink: ByteSink) => writeValidity(sink, valid, from, to)
        : (sink: ByteSink) => writeEqualLevels(sink, present > 0 ? 1 : 0, to - from, 1);
    pages.push({ levelCount: to - from, valueStart, valueEnd: valueStart + present, writeLevels: writer });
    valueStart += present;
  }
  return { pages, nullCount: rowEnd - rowStart - valueStart };
}

/** The present values of the rows [rowStart, rowEnd): a view where nothing is missing, else a copy. */
export function presentNumbers(
  values: Float64Array | Int32Array | Uint8Array,
  valid: Validity,
  rowStart: number,
  rowEnd: number,
  nullCount: number,
): Float64Array {
  if (nullCount === 0 || valid == null) {
    const rows = values.subarray(rowStart, rowEnd);
    return rows instanceof Float64Array ? rows : new Float64Array(rows);
  }
  const present = new Float64Array(rowEnd - rowStart - nullCount);
  let count = 0;
  for (let i = rowStart; i < rowEnd; i++) if (valid[i] === 1) present[count++] = values[i];
  return present;
}
