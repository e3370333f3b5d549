/**
 * Column chunks from runs: a dictionary page and indices that are written run by run, a row of a long run costs nothing.
 *
 * Where a dictionary does not pay (values that hardly repeat, more of them than a dictionary page may hold) the answer is
 * null, and the caller has the rows expanded and encoded as any others.
 */
import type { ByteSink } from './byte-sink.ts';
import { writeEqualLevels, type ColumnChunk, type PagePlan } from './column-chunk.ts';
import { PAGE_ROWS } from './flat-pages.ts';
import { ENCODING } from './format.ts';
import { bitWidth, HybridWriter } from './rle.ts';
import { runAt, type Runs } from './runs.ts';

export interface RunRows {
  readonly runs: Runs;
  readonly rowStart: number;
  readonly rowEnd: number;
  /** The index that means null. */
  readonly nullIndex?: number | undefined;
  /** Entries that indices may point to. */
  readonly entryCount: number;
}

/** A number of eight bytes each: 512 KiB. */
const ENTRIES_MAX = 65_536;

const writer = new HybridWriter();

interface UsedEntries {
  /** By index: position among the used ones + 1, 0 = not used. */
  readonly positions: Uint32Array;
  /** Indices in the order of their first use. */
  readonly order: readonly number[];
}

function usedEntries({ runs, rowStart, rowEnd, nullIndex = -1, entryCount }: RunRows): UsedEntries {
  const positions = new Uint32Array(entryCount);
  const order: number[] = [];
  if (rowEnd === rowStart) return { positions, order };
  const last = runAt(runs, rowEnd - 1);
  for (let run = runAt(runs, rowStart); run <= last; run++) {
    const index = runs.indices[run];
    if (index !== nullIndex && positions[index] === 0) positions[index] = order.push(index);
  }
  return { positions, order };
}

/** Rows of a page that are null. */
function countNulls({ runs, nullIndex }: RunRows, from: number, to: number): number {
  if (nullIndex === undefined) return 0;
  let nulls = 0;
  let at = from;
  for (let run = runAt(runs, from); at < to; run++) {
    const end = Math.min(to, runs.ends[run]);
    if (runs.indices[run] === nullIndex) nulls += end - at;
    at = end;
  }
  return nulls;
}

function planPage(rows: RunRows, from: number, to: number, nullCount: number): PagePlan {
  const present = to - from - nullCount;
  return {
    levelCount: to - from,
    valueStart: 0,
    valueEnd: present,
    writeLevels: (sink) => {
      if (nullCount === 0 || present === 0) return writeEqualLevels(sink, present > 0 ? 1 : 0, to - from, 1);
      const at = sink.length;
      sink.uint32(0);
      writeRuns(sink, rows, from, to, 1, (index) => (index === rows.nullIndex ? 0 : 1));
      sink.uint32At(at, sink.length - at - 4);
    },
  };
}

/** Writes one value per row; of a negative one none. */
function writeRuns(sink: ByteSink, { runs }: RunRows, from: number, to: number, width: number, valueOf: (index: number) => number): void {
  writer.begin(sink, width);
  let at = from;
  for (let run = runAt(runs, from); at < to; run++) {
    const end = Math.min(to, runs.ends[run]);
    const value = valueOf(runs.indices[run]);
    if (value >= 0) writer.add(value, end - at);
    at = end;
  }
  writer.end();
}

export interface RunChunkResult {
  readonly nullCount: number;
  /** Indices of the entries that the rows have. */
  readonly used: readonly number[];
}

/**
 * Encodes the rows.
 *
 * @param writeEntries appends the entries PLAIN, in this order; false: they are too large for a dictionary page
 * @returns null: nothing was written, a dictionary does not pay
 */
export function* encodeRunChunk(
  chunk: ColumnChunk,
  rows: RunRows,
  writeEntries: (sink: ByteSink, order: readonly number[]) => boolean,
): Generator<void, RunChunkResult | null> {
  const { rowStart, rowEnd } = rows;
  const { positions, order } = usedEntries(rows);
  yield;
  if (order.length > ENTRIES_MAX || (order.length > 8 && order.length * 2 > rowEnd - rowStart)) return null;
  if (order.length > 0) {
    chunk.page.reset();
    if (!writeEntries(chunk.page, order)) {
      chunk.page.reset();
      return null;
    }
    chunk.endDictionary(order.length);
    yield;
  }
  const width = bitWidth(order.length - 1);
  let nulls = 0;
  // One run is one page of a few bytes, whatever the row count.
  const pageRows = rowEnd > rowStart && runAt(rows.runs, rowStart) === runAt(rows.runs, rowEnd - 1) ? rowEnd - rowStart : PAGE_ROWS;
  for (let from = rowStart; from < rowEnd; from += pageRows) {
    const to = Math.min(rowEnd, from + pageRows);
    const nullCount = countNulls(rows, from, to);
    const plan = planPage(rows, from, to, nullCount);
    chunk.beginPage(plan);
    if (nullCount < to - from) {
      chunk.page.byte(width);
      writeRuns(chunk.page, rows, from, to, width, (index) => positions[index] - 1);
    }
    chunk.endPage(plan, nullCount < to - from ? ENCODING.plainDictionary : ENCODING.plain);
    nulls += nullCount;
    yield;
  }
  return { nullCount: nulls, used: order };
}
