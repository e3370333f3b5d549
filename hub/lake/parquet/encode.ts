/**
 * Parquet files from columns: dictionaries and typed arrays go straight to pages, no object per row exists.
 *
 * Layout: row groups of at most `rowGroupRowsMax` rows, pages of at most 32 Ki rows (constant text columns: one page),
 * data pages V1, every page compressed and with a CRC. All columns are nullable, as the Delta schemas say.
 * Pure and synchronous, in slices: the generator yields before a step takes 5 ms, so that the thread can answer others.
 * The file is held in memory; nothing is written anywhere, so a crash leaves nothing.
 * It does not sort, does not partition and writes neither page indexes nor Bloom filters.
 */
import assert from 'node:assert/strict';
import { ByteSink } from './byte-sink.ts';
import { ColumnChunk, giveBackScratch, Scratch, takeScratch, type PagePlan } from './column-chunk.ts';
import { planFlatPages, presentNumbers, type Validity } from './flat-pages.ts';
import {
  ENCODING,
  MAGIC,
  PHYSICAL,
  REPETITION,
  encodeFooter,
  schemaLeaves,
  type ChunkMetadata,
  type ChunkStatistics,
  type Leaf,
  type RowGroupMetadata,
  type SchemaNode,
} from './format.ts';
import { planMapPages } from './map-pages.ts';
import {
  assertIntegers,
  encodeNumberChunk,
  numberBounds,
  numberStatistics,
  writePlainNumbers,
  type NumberPhysical,
} from './number-chunk.ts';
import { PAGE_CODECS, type Compression, type PageCodec } from './page-codec.ts';
import { encodeRunChunk } from './run-chunk.ts';
import { expandRuns, rowCountOf, type Runs } from './runs.ts';
import { encodeBinaryChunk, encodeTextChunk, writeTextEntries, type TextChunkResult, type TextRows } from './text-chunk.ts';
import { compareUtf8, TextBounds } from './text-order.ts';

/** Arrays may be longer than the file's row count; what stands behind is not read. */
export type ParquetColumn =
  /** Integer µs since the epoch: INT64 TIMESTAMP(MICROS, UTC). `long`: safe integers as INT64. */
  | { readonly name: string; readonly type: 'timestamp' | 'double' | 'long'; readonly values: Float64Array; readonly valid?: Validity }
  | { readonly name: string; readonly type: 'int'; readonly values: Int32Array; readonly valid?: Validity }
  /** 0 or 1 per row. */
  | { readonly name: string; readonly type: 'boolean'; readonly values: Uint8Array; readonly valid?: Validity }
  /**
   * `nullIndex`: the index that means null; it need not be in the dictionary. A dictionary of one entry without
   * `nullIndex` says that the column is constant; an empty one, that it is null: then the indices are not read.
   */
  | {
      readonly name: string;
      readonly type: 'string';
      readonly dictionary: readonly string[];
      readonly indices: Uint32Array;
      readonly nullIndex?: number | undefined;
    }
  | { readonly name: string; readonly type: 'binary'; readonly values: readonly (Uint8Array | null)[] }
  /** MAP<INT, LONG>: row i has the entries [offsets[i], offsets[i + 1]); a null row has none. */
  | {
      readonly name: string;
      readonly type: 'map_int_long';
      readonly offsets: Uint32Array;
      readonly keys: Int32Array;
      readonly counts: Float64Array;
      readonly valid?: Validity;
    };

/** A column as runs of equal values, for what is the same over many rows. Readers of files never give these. */
export type RunColumn =
  /** `nullIndex`: the index that means null; if it is in the dictionary, its entry is not read. */
  | {
      readonly name: string;
      readonly type: 'string_runs';
      readonly dictionary: readonly string[];
      readonly runs: Runs;
      readonly nullIndex?: number | undefined;
    }
  /** `values` has no number twice; safe integers. */
  | { readonly name: string; readonly type: 'timestamp_runs' | 'long_runs'; readonly values: Float64Array; readonly runs: Runs };

/** Numbers beyond what a double holds; only of answers, readers of files never give these. */
export type ExactColumn =
  | { readonly name: string; readonly type: 'int64'; readonly values: BigInt64Array; readonly valid?: Validity }
  /** value / 10^scale, of at most `precision` digits (38). */
  | {
      readonly name: string;
      readonly type: 'decimal';
      readonly precision: number;
      readonly scale: number;
      readonly values: readonly (bigint | null)[];
    };

/** What a file is made from. */
export type FileColumn = ParquetColumn | RunColumn | ExactColumn;

export interface ParquetFile {
  readonly rowCount: number;
  readonly columns: readonly FileColumn[];
  /** Default and most: 1,000,000. */
  readonly rowGroupRowsMax?: number;
  readonly compression: Compression;
}

/** What Delta's `add.stats` wants of a column. */
export interface ColumnStatistics {
  /**
   * Exact bounds of the values that are not null: µs for timestamps. Both null where there is no value, a NaN, a text
   * above 256 bytes of UTF-8, or a type without order (binary, map). Doubles may be infinite, which JSON cannot say.
   */
  readonly min: number | string | boolean | null;
  readonly max: number | string | boolean | null;
  readonly nullCount: number;
  readonly hasNan: boolean;
}

export interface EncodedParquet {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly rowCount: number;
  /** By column name. */
  readonly stats: ReadonlyMap<string, ColumnStatistics>;
}

/** Bounds the work between two footers' entries, and the memory of readers that take a row group whole. */
export const ROW_GROUP_ROWS_MAX = 1_000_000;
/** Bytes copied between two yields when the file is put together. */
const COPY_SLICE_BYTES = 4 * 1024 * 1024;

const optional = REPETITION.optional;

function columnNode(column: FileColumn): SchemaNode {
  const { name } = column;
  switch (column.type) {
    case 'timestamp':
    case 'timestamp_runs':
      return { name, repetition: optional, physical: PHYSICAL.int64, annotation: 'timestampUs' };
    case 'double':
      return { name, repetition: optional, physical: PHYSICAL.double };
    case 'long':
    case 'long_runs':
    case 'int64':
      return { name, repetition: optional, physical: PHYSICAL.int64 };
    case 'int':
      return { name, repetition: optional, physical: PHYSICAL.int32 };
    case 'boolean':
      return { name, repetition: optional, physical: PHYSICAL.boolean };
    case 'string':
    case 'string_runs':
      return { name, repetition: optional, physical: PHYSICAL.byteArray, annotation: 'string' };
    case 'binary':
      return { name, repetition: optional, physical: PHYSICAL.byteArray };
    case 'decimal': {
      const { precision, scale } = column;
      return { name, repetition: optional, physical: PHYSICAL.byteArray, annotation: 'decimal', precision, scale };
    }
    case 'map_int_long': {
      const key: SchemaNode = { name: 'key', repetition: REPETITION.required, physical: PHYSICAL.int32 };
      const value: SchemaNode = { name: 'value', repetition: optional, physical: PHYSICAL.int64 };
      return {
        name,
        repetition: optional,
        annotation: 'map',
        children: [{ name: 'key_value', repetition: REPETITION.repeated, children: [key, value] }],
      };
    }
  }
}

/** A file in the making. */
export interface Encoder {
  readonly codec: PageCodec;
  readonly scratch: Scratch;
  /** Bodies of byte array pages, beside the page itself. */
  readonly body: ByteSink;
  readonly out: Uint8Array[];
  offset: number;
}

interface ColumnResult {
  readonly chunks: readonly ChunkMetadata[];
  readonly stats: ColumnStatistics;
}

export function createEncoder(compression: Compression, scratch = new Scratch()): Encoder {
  return {
    codec: PAGE_CODECS[compression],
    scratch,
    body: new ByteSink(64 * 1024),
    out: [MAGIC],
    offset: MAGIC.length,
  };
}

/** Places a finished chunk behind what the file has so far. */
export function placeChunk(encoder: Encoder, chunk: ColumnChunk, statistics: ChunkStatistics): ChunkMetadata {
  const metadata = chunk.place(encoder.out, encoder.offset, statistics);
  encoder.offset += metadata.compressedBytes;
  return metadata;
}

function* encodeNumbers(
  encoder: Encoder,
  leaf: Leaf,
  values: Float64Array,
  pages: readonly PagePlan[],
  nullCount: number,
): Generator<void, ColumnResult> {
  const physical = leaf.physical as NumberPhysical;
  const chunk = new ColumnChunk(leaf, encoder.codec, encoder.scratch);
  const bounds = yield* encodeNumberChunk(chunk, physical, values, pages);
  return { chunks: [placeChunk(encoder, chunk, numberStatistics(physical, bounds, nullCount))], stats: { ...bounds, nullCount } };
}

/** Appends bits, lowest first, as PLAIN BOOLEAN has them. */
export function writeBits(sink: ByteSink, bits: Float64Array, from: number, to: number): void {
  for (let i = from; i < to; i += 8) {
    let byte = 0;
    for (let bit = 0; bit < Math.min(8, to - i); bit++) byte |= bits[i + bit] << bit;
    sink.byte(byte);
  }
}

function* encodeBooleans(
  encoder: Encoder,
  leaf: Leaf,
  values: Float64Array,
  pages: readonly PagePlan[],
  nullCount: number,
): Generator<void, ColumnResult> {
  const { min, max } = numberBounds(values);
  const chunk = new ColumnChunk(leaf, encoder.codec, encoder.scratch);
  for (const plan of pages) {
    chunk.beginPage(plan);
    writeBits(chunk.page, values, plan.valueStart, plan.valueEnd);
    chunk.endPage(plan, ENCODING.plain);
    yield;
  }
  const bounds = min === null || max === null ? null : { min: Uint8Array.of(min), max: Uint8Array.of(max) };
  const stats = { min: min === null ? null : min === 1, max: max === null ? null : max === 1, nullCount, hasNan: false };
  return { chunks: [placeChunk(encoder, chunk, { nullCount, bounds })], stats };
}

function* encodeMap(
  encoder: Encoder,
  leaves: readonly Leaf[],
  column: ParquetColumn & { type: 'map_int_long' },
  rowStart: number,
  rowEnd: number,
): Generator<void, ColumnResult> {
  const { offsets, valid } = column;
  const from = offsets[rowStart];
  const to = offsets[rowEnd];
  const chunks: ChunkMetadata[] = [];
  let nullCount = 0;
  if (valid != null) for (let row = rowStart; row < rowEnd; row++) nullCount += valid[row] === 0 ? 1 : 0;
  for (const [index, values] of [new Float64Array(column.keys.subarray(from, to)), column.counts.subarray(from, to)].entries()) {
    const leaf = leaves[index];
    const pages = planMapPages({ offsets, valid, rowStart, rowEnd }, leaf.definitionMax);
    yield;
    const levelCount = pages.reduce((total, page) => total + page.levelCount, 0);
    const result = yield* encodeNumbers(encoder, leaf, values, pages, levelCount - (to - from));
    chunks.push(...result.chunks);
  }
  return { chunks, stats: { min: null, max: null, nullCount, hasNan: false } };
}

function placeTexts(encoder: Encoder, chunk: ColumnChunk, { nullCount, bounds }: TextChunkResult): ColumnResult {
  const plain = bounds === null ? null : { min: Buffer.from(bounds.min), max: Buffer.from(bounds.max) };
  const stats = { min: bounds?.min ?? null, max: bounds?.max ?? null, nullCount, hasNan: false };
  return { chunks: [placeChunk(encoder, chunk, { nullCount, bounds: plain })], stats };
}

function* encodeTexts(encoder: Encoder, leaf: Leaf, rows: TextRows): Generator<void, ColumnResult> {
  const chunk = new ColumnChunk(leaf, encoder.codec, encoder.scratch);
  return placeTexts(encoder, chunk, yield* encodeTextChunk(chunk, rows, encoder.body));
}

function* encodeTextRuns(
  encoder: Encoder,
  leaf: Leaf,
  column: RunColumn & { type: 'string_runs' },
  rowStart: number,
  rowEnd: number,
): Generator<void, ColumnResult> {
  const { dictionary, runs, nullIndex } = column;
  const chunk = new ColumnChunk(leaf, encoder.codec, encoder.scratch);
  const bounds = new TextBounds();
  const rows = { runs, rowStart, rowEnd, nullIndex, entryCount: dictionary.length };
  const result = yield* encodeRunChunk(chunk, rows, (sink, order) => writeTextEntries(sink, dictionary, order));
  if (result !== null) {
    for (const index of result.used) bounds.add(dictionary[index]);
    return placeTexts(encoder, chunk, { nullCount: result.nullCount, bounds: bounds.bounds() });
  }
  const indices = expandRuns(runs, rowStart, rowEnd);
  yield;
  return yield* encodeTexts(encoder, leaf, { dictionary, indices, nullIndex, rowStart: 0, rowEnd: rowEnd - rowStart });
}

function* encodeNumberRuns(
  encoder: Encoder,
  leaf: Leaf,
  column: RunColumn & { readonly values: Float64Array },
  rowStart: number,
  rowEnd: number,
): Generator<void, ColumnResult> {
  const { values, runs } = column;
  const physical = leaf.physical as NumberPhysical;
  const chunk = new ColumnChunk(leaf, encoder.codec, encoder.scratch);
  const rows = { runs, rowStart, rowEnd, entryCount: values.length };
  const pick = (order: readonly number[]): Float64Array => Float64Array.from(order, (index) => values[index]);
  const result = yield* encodeRunChunk(chunk, rows, (sink, order) => {
    writePlainNumbers(sink, physical, pick(order), 0, order.length);
    return true;
  });
  if (result !== null) {
    const bounds = numberBounds(pick(result.used));
    assertIntegers(chunk, bounds);
    return { chunks: [placeChunk(encoder, chunk, numberStatistics(physical, bounds, 0))], stats: { ...bounds, nullCount: 0 } };
  }
  const expanded = Float64Array.from(expandRuns(runs, rowStart, rowEnd), (index) => values[index]);
  const { pages, nullCount } = planFlatPages(null, 0, expanded.length);
  yield;
  return yield* encodeNumbers(encoder, leaf, expanded, pages, nullCount);
}

/** PLAIN, as they are. */
function* encodeIntegers(
  encoder: Encoder,
  leaf: Leaf,
  { values, valid }: ExactColumn & { readonly type: 'int64' },
  rowStart: number,
  rowEnd: number,
): Generator<void, ColumnResult> {
  const { pages, nullCount } = planFlatPages(valid, rowStart, rowEnd);
  const present = values.subarray(rowStart, rowEnd).filter((_, row) => valid == null || valid[rowStart + row] === 1);
  const chunk = new ColumnChunk(leaf, encoder.codec, encoder.scratch);
  for (const plan of pages) {
    chunk.beginPage(plan);
    const { buffer, byteOffset, byteLength } = present.subarray(plan.valueStart, plan.valueEnd);
    chunk.page.raw(new Uint8Array(buffer, byteOffset, byteLength));
    chunk.endPage(plan, ENCODING.plain);
    yield;
  }
  return { chunks: [placeChunk(encoder, chunk, { nullCount, bounds: null })], stats: { min: null, max: null, nullCount, hasNan: false } };
}

/** Big-endian, as few bytes as hold it. */
function twosComplement(value: bigint): Uint8Array {
  let count = 1;
  while (BigInt.asIntN(count * 8, value) !== value) count++;
  const hex = BigInt.asUintN(count * 8, value).toString(16);
  return Buffer.from(hex.padStart(count * 2, '0'), 'hex');
}

function* encodeColumn(
  encoder: Encoder,
  leaves: readonly Leaf[],
  column: FileColumn,
  rowStart: number,
  rowEnd: number,
): Generator<void, ColumnResult> {
  if (column.type === 'map_int_long') return yield* encodeMap(encoder, leaves, column, rowStart, rowEnd);
  const leaf = leaves[0];
  if (column.type === 'string') return yield* encodeTexts(encoder, leaf, { ...column, rowStart, rowEnd });
  if ('runs' in column) {
    if (column.type === 'string_runs') return yield* encodeTextRuns(encoder, leaf, column, rowStart, rowEnd);
    return yield* encodeNumberRuns(encoder, leaf, column, rowStart, rowEnd);
  }
  if (column.type === 'int64') return yield* encodeIntegers(encoder, leaf, column, rowStart, rowEnd);
  if (column.type === 'binary' || column.type === 'decimal') {
    const chunk = new ColumnChunk(leaf, encoder.codec, encoder.scratch);
    const values = column.type === 'binary' ? column.values : column.values.map((value) => (value === null ? null : twosComplement(value)));
    const nullCount = yield* encodeBinaryChunk(chunk, values, rowStart, rowEnd, encoder.body);
    return { chunks: [placeChunk(encoder, chunk, { nullCount, bounds: null })], stats: { min: null, max: null, nullCount, hasNan: false } };
  }
  const { pages, nullCount } = planFlatPages(column.valid, rowStart, rowEnd);
  yield;
  const values = presentNumbers(column.values, column.valid, rowStart, rowEnd, nullCount);
  yield;
  return yield* (column.type === 'boolean' ? encodeBooleans : encodeNumbers)(encoder, leaf, values, pages, nullCount);
}

function isSmaller(a: number | string | boolean, b: number | string | boolean): boolean {
  return typeof a === 'string' && typeof b === 'string' ? compareUtf8(a, b) < 0 : a < b;
}

/** Statistics of two row groups as those of both. A group without bounds has none only because it is all null, or for all. */
function mergeStatistics(a: ColumnStatistics, b: ColumnStatistics, aRows: number, bRows: number): ColumnStatistics {
  const nullCount = a.nullCount + b.nullCount;
  const hasNan = a.hasNan || b.hasNan;
  if (a.nullCount === aRows) return { ...b, nullCount };
  if (b.nullCount === bRows) return { ...a, nullCount };
  if (a.min === null || a.max === null || b.min === null || b.max === null) return { min: null, max: null, nullCount, hasNan };
  return { min: isSmaller(b.min, a.min) ? b.min : a.min, max: isSmaller(a.max, b.max) ? b.max : a.max, nullCount, hasNan };
}

function assertLengths({ rowCount, columns }: ParquetFile): void {
  assert(Number.isSafeInteger(rowCount) && rowCount >= 0, `row count ${rowCount}`);
  assert(new Set(columns.map((column) => column.name)).size === columns.length && columns.length > 0, 'columns need different names');
  for (const column of columns) {
    if ('runs' in column) {
      assert(rowCountOf(column.runs) >= rowCount, `column ${column.name} has runs of ${rowCountOf(column.runs)} rows for ${rowCount}`);
      continue;
    }
    const isConstant =
      column.type === 'string' && (column.dictionary.length === 0 || (column.dictionary.length === 1 && column.nullIndex === undefined));
    const length =
      column.type === 'string' ? column.indices.length : column.type === 'map_int_long' ? column.offsets.length - 1 : column.values.length;
    assert(isConstant || length >= rowCount, `column ${column.name} has ${length} values for ${rowCount} rows`);
    const valid = 'valid' in column ? column.valid : null;
    assert(valid == null || valid.length >= rowCount, `column ${column.name} has a validity of ${valid?.length} for ${rowCount} rows`);
  }
}

/**
 * Encodes a file.
 *
 * @throws SluiceError ERR_PARQUET_VALUE_TOO_LARGE for a single text or binary value above 64 MiB
 */
export function* encodeParquet(file: ParquetFile): Generator<void, EncodedParquet> {
  assertLengths(file);
  const { rowCount, columns } = file;
  const groupRows = Math.max(1, Math.min(file.rowGroupRowsMax ?? ROW_GROUP_ROWS_MAX, ROW_GROUP_ROWS_MAX));
  const nodes = columns.map(columnNode);
  const leaves = nodes.map((node) => schemaLeaves([node]));
  const encoder = createEncoder(file.compression, takeScratch());
  const groups: RowGroupMetadata[] = [];
  const stats = new Map<string, ColumnStatistics>(columns.map(({ name }) => [name, { min: null, max: null, nullCount: 0, hasNan: false }]));
  for (let rowStart = 0; rowStart < rowCount; rowStart += groupRows) {
    const rowEnd = Math.min(rowCount, rowStart + groupRows);
    const offset = encoder.offset;
    const chunks: ChunkMetadata[] = [];
    for (const [index, column] of columns.entries()) {
      const result = yield* encodeColumn(encoder, leaves[index], column, rowStart, rowEnd);
      chunks.push(...result.chunks);
      stats.set(column.name, mergeStatistics(stats.get(column.name) as ColumnStatistics, result.stats, rowStart, rowEnd - rowStart));
    }
    groups.push({ rowCount: rowEnd - rowStart, offset, chunks });
  }
  giveBackScratch(encoder.scratch);
  return { bytes: yield* assembleFile(encoder, nodes, rowCount, groups), rowCount, stats };
}

/** Puts magic, chunks and footer together. */
export function* assembleFile(
  encoder: Encoder,
  nodes: readonly SchemaNode[],
  rowCount: number,
  groups: readonly RowGroupMetadata[],
): Generator<void, Uint8Array<ArrayBuffer>> {
  const footer = encodeFooter(nodes, rowCount, groups);
  yield;
  const bytes = new Uint8Array(encoder.offset + footer.length);
  let at = 0;
  let sliceEnd = COPY_SLICE_BYTES;
  for (const part of encoder.out) {
    bytes.set(part, at);
    at += part.length;
    if (at < sliceEnd) continue;
    sliceEnd = at + COPY_SLICE_BYTES;
    yield;
  }
  bytes.set(footer, at);
  return bytes;
}

/** Runs a sliced computation to its end at once. */
export function drain<T>(generator: Generator<void, T>): T {
  for (;;) {
    const step = generator.next();
    if (step.done === true) return step.value;
  }
}
