/**
 * Column chunks of byte arrays: texts that come as dictionary and indices, and binary values.
 *
 * Texts keep their dictionary, reduced to the entries that the chunk uses, until it outgrows a page; what follows, and
 * chunks whose texts hardly repeat, are PLAIN.
 */
import assert from 'node:assert/strict';
import { SluiceError } from '../../../shared/errors.ts';
import type { ByteSink } from './byte-sink.ts';
import { writeEqualLevels, writeLevels, type ColumnChunk, type PagePlan } from './column-chunk.ts';
import { ENCODING } from './format.ts';
import { PAGE_ROWS } from './flat-pages.ts';
import { bitWidth, writeHybrid, writeRun } from './rle.ts';
import { TextBounds } from './text-order.ts';

/** Bytes at which a PLAIN page ends, and at which a dictionary is full (the limit that parquet-java has, too). */
export const PAGE_BYTES = 1024 * 1024;
/** A single value above this is refused: readers keep a page in memory several times. */
export const VALUE_BYTES_MAX = 64 * 1024 * 1024;
/** Dictionary entries written between two yields. */
const SLICE_ENTRIES = 8192;

export interface TextChunkResult {
  readonly nullCount: number;
  readonly bounds: { readonly min: string; readonly max: string } | null;
}

export interface TextRows {
  readonly dictionary: readonly string[];
  readonly indices: Uint32Array;
  /** The index that means null. */
  readonly nullIndex?: number | undefined;
  readonly rowStart: number;
  readonly rowEnd: number;
}

const levels = new Uint32Array(PAGE_ROWS);
const ids = new Uint32Array(PAGE_ROWS);

function refuse(bytes: number): never {
  throw new SluiceError('ERR_PARQUET_VALUE_TOO_LARGE', `a value of ${bytes} bytes, at most ${VALUE_BYTES_MAX} are allowed`);
}

function planPage(rowCount: number, nullCount: number): PagePlan {
  const present = rowCount - nullCount;
  return {
    levelCount: rowCount,
    valueStart: 0,
    valueEnd: present,
    writeLevels: (sink) => {
      if (nullCount === 0 || present === 0) writeEqualLevels(sink, present > 0 ? 1 : 0, rowCount, 1);
      else writeLevels(sink, levels, rowCount, 1);
    },
  };
}

/** The entries that a chunk has used so far. */
class UsedTexts {
  readonly #dictionary: readonly string[];
  /** By dictionary index: position among the used ones + 1, 0 = not used. */
  readonly positions: Uint32Array;
  /** Dictionary indices in the order of their first use. */
  readonly order: number[] = [];
  readonly bounds = new TextBounds();
  /** Upper bound of their PLAIN size. */
  bytes = 0;

  constructor(dictionary: readonly string[]) {
    this.#dictionary = dictionary;
    this.positions = new Uint32Array(dictionary.length);
  }

  /** Answers the entry's position + 1. */
  add(index: number): number {
    assert(index < this.#dictionary.length, `index ${index} outside a dictionary of ${this.#dictionary.length}`);
    const text = this.#dictionary[index];
    if (text.length * 3 > VALUE_BYTES_MAX && Buffer.byteLength(text) > VALUE_BYTES_MAX) refuse(Buffer.byteLength(text));
    this.bytes += 4 + text.length * (text.length > 64 ? 3 : 1);
    this.bounds.add(text);
    this.order.push(index);
    this.positions[index] = this.order.length;
    return this.order.length;
  }
}

/** Whether a dictionary would hold more than half as many entries as there are values. */
function hardlyRepeats({ dictionary, indices, nullIndex = -1, rowStart, rowEnd }: TextRows): boolean {
  if (dictionary.length * 2 <= rowEnd - rowStart) return false;
  const seen = new Uint8Array(dictionary.length);
  let distinct = 0;
  let present = 0;
  for (let i = rowStart; i < rowEnd; i++) {
    const index = indices[i];
    if (index === nullIndex) continue;
    present++;
    if (seen[index] === 0) {
      seen[index] = 1;
      distinct++;
    }
  }
  return distinct * 2 > present && distinct > 8;
}

/** `fill` is a call into C++, worth it from some twenty elements on. */
function fillRun(target: Uint32Array, value: number, from: number, to: number): void {
  if (to - from > 20) target.fill(value, from, to);
  else for (let i = from; i < to; i++) target[i] = value;
}

/** Collects levels and ids of the rows [from, to), run by run; answers the null count, or null where the dictionary is full. */
function collectIds({ indices, nullIndex = -1 }: TextRows, used: UsedTexts, from: number, to: number): number | null {
  const positions = used.positions;
  let nullCount = 0;
  let count = 0;
  for (let i = from; i < to;) {
    const index = indices[i];
    let runEnd = i + 1;
    while (runEnd < to && indices[runEnd] === index) runEnd++;
    const length = runEnd - i;
    const isNull = index === nullIndex;
    fillRun(levels, isNull ? 0 : 1, i - from, runEnd - from);
    if (isNull) {
      nullCount += length;
    } else {
      let position = positions[index];
      if (!position) {
        position = used.add(index);
        if (used.bytes > PAGE_BYTES && used.order.length > 1) return null;
      }
      fillRun(ids, position - 1, count, count + length);
      count += length;
    }
    i = runEnd;
  }
  return nullCount;
}

/** Writes one PLAIN page from row `from` on, up to its limit of rows or bytes; answers the row behind it and its nulls. */
function writePlainPage(
  chunk: ColumnChunk,
  rows: TextRows,
  used: UsedTexts,
  values: ByteSink,
  from: number,
): { to: number; nullCount: number } {
  const { dictionary, indices, nullIndex = -1, rowEnd } = rows;
  values.reset();
  let nullCount = 0;
  let to = from;
  while (to < rowEnd && to - from < PAGE_ROWS && values.length < PAGE_BYTES) {
    const index = indices[to];
    levels[to - from] = index === nullIndex ? 0 : 1;
    if (index === nullIndex) {
      nullCount++;
    } else {
      if (!used.positions[index]) used.add(index);
      values.plainString(dictionary[index]);
    }
    to++;
  }
  const plan = planPage(to - from, nullCount);
  chunk.beginPage(plan);
  chunk.page.raw(values.view());
  chunk.endPage(plan, ENCODING.plain);
  return { to, nullCount };
}

/** All rows equal: one page of a few bytes, whatever the row count. */
function* encodeConstant(chunk: ColumnChunk, text: string | null, rowCount: number): Generator<void, TextChunkResult> {
  const plan = planPage(rowCount, text === null ? rowCount : 0);
  const bounds = new TextBounds();
  if (text !== null) {
    bounds.add(text);
    chunk.page.plainString(text);
    if (chunk.page.length > VALUE_BYTES_MAX) refuse(chunk.page.length);
    chunk.endDictionary(1);
  }
  chunk.beginPage(plan);
  if (text !== null) {
    chunk.page.byte(bitWidth(0));
    writeRun(chunk.page, 0, rowCount, bitWidth(0));
  }
  chunk.endPage(plan, text === null ? ENCODING.plain : ENCODING.plainDictionary);
  yield;
  return { nullCount: text === null ? rowCount : 0, bounds: bounds.bounds() };
}

/** Encodes the rows' texts. `values` is a buffer of the caller's. */
export function* encodeTextChunk(chunk: ColumnChunk, rows: TextRows, values: ByteSink): Generator<void, TextChunkResult> {
  const { dictionary, nullIndex, rowStart, rowEnd } = rows;
  if (rowEnd > rowStart && dictionary.length === 0) return yield* encodeConstant(chunk, null, rowEnd - rowStart);
  if (rowEnd > rowStart && dictionary.length === 1 && nullIndex === undefined) {
    return yield* encodeConstant(chunk, dictionary[0], rowEnd - rowStart);
  }
  const used = new UsedTexts(dictionary);
  let isPlain = hardlyRepeats(rows);
  let dictionaryLength = 0; // entries that the dictionary pages point to; those that only PLAIN pages use come behind
  let nulls = 0;
  yield;
  for (let from = rowStart; from < rowEnd;) {
    const to = Math.min(rowEnd, from + PAGE_ROWS);
    const nullCount = isPlain ? null : collectIds(rows, used, from, to);
    if (nullCount === null) {
      isPlain = true;
      const page = writePlainPage(chunk, rows, used, values, from);
      from = page.to;
      nulls += page.nullCount;
    } else {
      const plan = planPage(to - from, nullCount);
      const hasValues = nullCount < to - from;
      chunk.beginPage(plan);
      if (hasValues) {
        const width = bitWidth(used.order.length - 1);
        chunk.page.byte(width);
        writeHybrid(chunk.page, ids, to - from - nullCount, width);
        dictionaryLength = used.order.length;
      }
      chunk.endPage(plan, hasValues ? ENCODING.plainDictionary : ENCODING.plain);
      from = to;
      nulls += nullCount;
    }
    yield;
  }
  if (dictionaryLength > 0) yield* writeDictionary(chunk, dictionary, used.order.slice(0, dictionaryLength));
  return { nullCount: nulls, bounds: used.bounds.bounds() };
}

/** Appends entries of a dictionary PLAIN. @returns false where they outgrow a dictionary page */
export function writeTextEntries(sink: ByteSink, dictionary: readonly string[], order: readonly number[]): boolean {
  for (const index of order) {
    sink.plainString(dictionary[index]);
    if (sink.length > PAGE_BYTES) return false;
  }
  return true;
}

function* writeDictionary(chunk: ColumnChunk, dictionary: readonly string[], order: readonly number[]): Generator<void, void> {
  chunk.page.reset();
  for (let i = 0; i < order.length; i++) {
    chunk.page.plainString(dictionary[order[i]]);
    if (i % SLICE_ENTRIES === SLICE_ENTRIES - 1) yield;
  }
  chunk.endDictionary(order.length);
}

/** Encodes values[rowStart..rowEnd) PLAIN, pages bounded by rows and bytes. Answers the null count. */
export function* encodeBinaryChunk(
  chunk: ColumnChunk,
  values: readonly (Uint8Array | null)[],
  rowStart: number,
  rowEnd: number,
  body: ByteSink,
): Generator<void, number> {
  let nulls = 0;
  for (let from = rowStart; from < rowEnd;) {
    body.reset();
    let nullCount = 0;
    let to = from;
    while (to < rowEnd && to - from < PAGE_ROWS && body.length < PAGE_BYTES) {
      const value = values[to] ?? null;
      levels[to - from] = value === null ? 0 : 1;
      if (value === null) {
        nullCount++;
      } else {
        if (value.length > VALUE_BYTES_MAX) refuse(value.length);
        body.uint32(value.length);
        body.raw(value);
      }
      to++;
    }
    const plan = planPage(to - from, nullCount);
    chunk.beginPage(plan);
    chunk.page.raw(body.view());
    chunk.endPage(plan, ENCODING.plain);
    nulls += nullCount;
    from = to;
    yield;
  }
  return nulls;
}
