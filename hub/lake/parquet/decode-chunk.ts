/**
 * Column chunks of flat columns to columns, as far as this hub writes them: data pages V1, one definition level, PLAIN,
 * dictionary or DELTA_BINARY_PACKED, zstd or uncompressed. Numbers and texts.
 *
 * For queries, which read some chunks of some thousand rows each: hyparquet makes an array of values per page, this fills
 * typed arrays. A chunk that is made otherwise, or that has numbers beyond 2^53, is not an error but null: hyparquet reads it.
 *
 * The input may be damaged: every page is checked against its checksum, and every length and index before it is used.
 */
import { crc32 } from 'node:zlib';
import type { ColumnMetaData, FileMetaData, SchemaElement } from 'hyparquet';
import { SluiceError } from '../../../shared/errors.ts';
import type { ParquetColumn } from './encode.ts';
import { ENCODING, PAGE } from './format.ts';
import { zstdDecompressPage } from './page-codec.ts';
import { readPageHead, type PageHead } from './page-header.ts';

const TWO_32 = 0x1_0000_0000;
const NULL_INDEX = 0xffff_ffff;
/** What newer writers call the encoding of indices. */
const RLE_DICTIONARY = 8;

/** What a chunk is decoded as. */
export type FlatType = 'timestamp' | 'long' | 'double' | 'string';

/** By name, for the columns that decodeChunk may read. */
export function flatTypes({ schema }: FileMetaData): ReadonlyMap<string, FlatType> {
  const types = new Map<string, FlatType>();
  // The root, then its children, each with what is below it.
  for (let at = 1; at < schema.length; at++) {
    const element = schema[at];
    if ((element.num_children ?? 0) > 0) {
      at = endOfNode(schema, at) - 1;
      continue;
    }
    const type = element.repetition_type === 'OPTIONAL' ? flatTypeOf(element) : null;
    if (type !== null) types.set(element.name, type);
  }
  return types;
}

function endOfNode(schema: readonly SchemaElement[], at: number): number {
  let end = at + 1;
  for (let child = 0; child < (schema[at].num_children ?? 0) && end < schema.length; child++) end = endOfNode(schema, end);
  return end;
}

function flatTypeOf({ type, converted_type: converted, logical_type: logical }: SchemaElement): FlatType | null {
  if (type === 'DOUBLE') return 'double';
  if (type === 'BYTE_ARRAY') return converted === 'UTF8' || logical?.type === 'STRING' ? 'string' : null;
  if (type !== 'INT64') return null;
  if (logical === undefined && converted === undefined) return 'long';
  return converted === 'TIMESTAMP_MICROS' || (logical?.type === 'TIMESTAMP' && logical.unit === 'MICROS') ? 'timestamp' : null;
}

export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** Of its pages in the file. */
export function chunkRange(chunk: ColumnMetaData): ByteRange {
  const { dictionary_page_offset: dictionary, data_page_offset: data } = chunk;
  const start = Number(dictionary !== undefined && dictionary > 0n && dictionary < data ? dictionary : data);
  return { start, end: start + Number(chunk.total_compressed_size) };
}

/** Bytes of one page, read front to back. */
class PageReader {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** The offset where so many bytes stand; they are behind it then. */
  take(count: number): number {
    const from = this.at;
    if (!(count >= 0 && from + count <= this.bytes.length)) throw invalid(`a page ends at ${this.bytes.length}, its values behind it`);
    this.at = from + count;
    return from;
  }

  uint32(): number {
    return this.view.getUint32(this.take(4), true);
  }

  /** Exact below 2^53. */
  varint(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.bytes[this.take(1)];
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  }

  /** NaN: beyond what a double holds exactly. The sign bit is kept apart: with it they are up to 2^54, of which no odd one is a double. */
  zigzag(): number {
    let byte = this.bytes[this.take(1)];
    const sign = byte & 1;
    let half = (byte & 0x7f) >> 1;
    for (let scale = 64; byte >= 0x80; scale *= 128) {
      byte = this.bytes[this.take(1)];
      half += (byte & 0x7f) * scale;
    }
    if (!(half <= Number.MAX_SAFE_INTEGER)) return NaN;
    return sign === 0 ? half : -half - 1;
  }
}

/** Values of RLE and bit packing, [from, to) of `out`. */
function readHybrid(page: PageReader, width: number, out: Uint32Array, from: number, to: number): void {
  if (!(width >= 0 && width <= 32)) throw invalid(`values of ${width} bits`);
  const bytesOfRun = Math.ceil(width / 8);
  for (let at = from; at < to;) {
    const head = page.varint();
    const length = Math.floor(head / 2);
    if (length === 0) throw invalid('a run of no values');
    if (head % 2 === 0) {
      const start = page.take(bytesOfRun);
      let value = 0;
      for (let byte = bytesOfRun - 1; byte >= 0; byte--) value = value * 256 + page.bytes[start + byte];
      const end = Math.min(to, at + length);
      out.fill(value, at, end);
      at = end;
    } else {
      const start = page.take(length * width);
      const end = Math.min(to, at + length * 8);
      unpack(page.bytes, start, width, out, at, end);
      at = end;
    }
  }
}

/** Lowest bits first. */
function unpack(bytes: Uint8Array, start: number, width: number, out: Uint32Array, from: number, to: number): void {
  let offset = start;
  if (width <= 24) {
    const mask = (1 << width) - 1;
    let waiting = 0;
    let bits = 0;
    for (let at = from; at < to; at++) {
      while (bits < width) {
        waiting |= bytes[offset++] << bits;
        bits += 8;
      }
      out[at] = waiting & mask;
      // At most 31 bits are in it, one at least leaves: as an unsigned number it would be kept as a double.
      waiting = (waiting >>> width) | 0;
      bits -= width;
    }
    return;
  }
  const scale = 2 ** width;
  let waiting = 0;
  let bits = 0;
  for (let at = from; at < to; at++) {
    while (bits < width) {
      waiting += bytes[offset++] * 2 ** bits;
      bits += 8;
    }
    out[at] = waiting % scale;
    waiting = Math.floor(waiting / scale);
    bits -= width;
  }
}

function readPlainNumbers(page: PageReader, type: FlatType, out: Float64Array, from: number, to: number): void {
  const start = page.take((to - from) * 8);
  if (type === 'double') {
    const bytes = new Uint8Array(out.buffer, out.byteOffset + from * 8, (to - from) * 8);
    bytes.set(page.bytes.subarray(start, page.at));
    return;
  }
  for (let at = from, offset = start; at < to; at++, offset += 8) {
    out[at] = page.view.getInt32(offset + 4, true) * TWO_32 + page.view.getUint32(offset, true);
  }
}

/** @returns false: made as this hub does not write it, or with numbers on the way that a double does not hold exactly */
function readDeltaBinary(page: PageReader, out: Float64Array, from: number, to: number): boolean {
  const blockValues = page.varint();
  const miniblocks = page.varint();
  const count = page.varint();
  const perMiniblock = blockValues / miniblocks;
  if (!(miniblocks >= 1 && miniblocks <= 64 && perMiniblock >= 8 && perMiniblock <= 4096 && perMiniblock % 8 === 0)) return false;
  if (count !== to - from) throw invalid(`a page of ${to - from} values says that it has ${count}`);
  let value = page.zigzag();
  if (!Number.isSafeInteger(value)) return false;
  out[from] = value;
  for (let at = from + 1; at < to;) {
    const min = page.zigzag();
    const widths = page.take(miniblocks);
    for (let miniblock = 0; miniblock < miniblocks && at < to; miniblock++) {
      const width = page.bytes[widths + miniblock];
      if (width > 53) return false;
      const start = page.take((perMiniblock / 8) * width);
      const end = Math.min(to, at + perMiniblock);
      value = unpackDeltas(page.bytes, start, width, { out, at, end, value, min });
      if (!Number.isSafeInteger(value)) return false;
      at = end;
    }
  }
  return true;
}

interface Deltas {
  readonly out: Float64Array;
  readonly at: number;
  readonly end: number;
  /** The one before. */
  readonly value: number;
  readonly min: number;
}

/** @returns the last value; NaN: a step or a value is beyond what a double holds exactly */
function unpackDeltas(bytes: Uint8Array, start: number, width: number, { out, at: from, end, value: before, min }: Deltas): number {
  let value = before;
  let bit = 0;
  for (let at = from; at < end; at++) {
    let delta = 0;
    let scale = 1;
    // A part of a byte at a time: up to 53 bits are exact in a double, and not in the operators of 32.
    for (let left = width; left > 0;) {
      const shift = bit & 7;
      const taken = Math.min(left, 8 - shift);
      delta += ((bytes[start + (bit >> 3)] >> shift) & ((1 << taken) - 1)) * scale;
      scale *= 1 << taken;
      left -= taken;
      bit += taken;
    }
    const step = min + delta;
    value += step;
    if (!(Math.abs(step) <= Number.MAX_SAFE_INTEGER && Math.abs(value) <= Number.MAX_SAFE_INTEGER)) return NaN;
    out[at] = value;
  }
  return value;
}

/** What values are put into, page by page. */
interface Target {
  readonly type: FlatType;
  readonly rowCount: number;
  /** Of the rows; of texts their places in `dictionary`. */
  readonly numbers: Float64Array;
  readonly indices: Uint32Array;
  readonly dictionary: string[];
  readonly places: Map<string, number>;
  valid: Uint8Array | null;
}

/** The values of a chunk's dictionary page, in the words of the target. */
type Dictionary = Float64Array | Uint32Array;

function placeOf({ dictionary, places }: Target, text: string): number {
  let place = places.get(text);
  if (place === undefined) places.set(text, (place = dictionary.push(text) - 1));
  return place;
}

function readPlainTexts(page: PageReader, target: Target, out: Uint32Array, from: number, to: number): void {
  for (let at = from; at < to; at++) {
    const start = page.take(page.uint32());
    out[at] = placeOf(target, Buffer.from(page.bytes.buffer, page.bytes.byteOffset + start, page.at - start).toString('utf8'));
  }
}

function readDictionary(page: PageReader, head: PageHead, target: Target): Dictionary {
  // Every entry takes bytes: a count that lies allocates no more than the page is long.
  if (!(head.valueCount >= 0 && head.valueCount <= page.bytes.length)) throw invalid(`a dictionary of ${head.valueCount} entries`);
  if (target.type === 'string') {
    const entries = new Uint32Array(head.valueCount);
    readPlainTexts(page, target, entries, 0, entries.length);
    return entries;
  }
  const entries = new Float64Array(head.valueCount);
  readPlainNumbers(page, target.type, entries, 0, entries.length);
  return entries;
}

/** Is it one run of ones, as of most pages? Leaves the page where it is. */
function isAllPresent(page: PageReader, end: number, rows: number): boolean {
  const start = page.at;
  const head = page.varint();
  const isOne = head % 2 === 0 && head / 2 >= rows && page.bytes[page.take(1)] === 1 && page.at === end;
  page.at = start;
  return isOne;
}

/** Which of the page's rows have a value; null: all. */
function readValidity(page: PageReader, rows: number): Uint32Array | null {
  if (rows === 0) return null;
  const length = page.uint32();
  const end = page.at + length;
  if (isAllPresent(page, end, rows)) {
    page.at = end;
    return null;
  }
  const levels = new Uint32Array(rows);
  readHybrid(page, 1, levels, 0, rows);
  if (page.at > end || end > page.bytes.length) throw invalid('levels that are longer than they say');
  page.at = end;
  return levels.includes(0) ? levels : null;
}

/** Present values of a page: [0, count) of an array of their own, or of the target's from `row` on. @returns false: not of this hub */
function readValues(
  page: PageReader,
  encoding: number,
  target: Target,
  dictionary: Dictionary | null,
  out: Float64Array | Uint32Array,
  from: number,
  to: number,
): boolean {
  if (from === to) return true;
  if (encoding === ENCODING.plain) {
    if (out instanceof Uint32Array) readPlainTexts(page, target, out, from, to);
    else readPlainNumbers(page, target.type, out, from, to);
    return true;
  }
  if (encoding === ENCODING.deltaBinaryPacked && out instanceof Float64Array && target.type !== 'double')
    return readDeltaBinary(page, out, from, to);
  if (encoding !== ENCODING.plainDictionary && encoding !== RLE_DICTIONARY) return false;
  if (dictionary === null) throw invalid('indices without a dictionary');
  const width = page.bytes[page.take(1)];
  const indices = new Uint32Array(to - from);
  readHybrid(page, width, indices, 0, indices.length);
  for (let index = 0; index < indices.length; index++) {
    const place = indices[index];
    if (place >= dictionary.length) throw invalid(`index ${place} of ${dictionary.length} entries`);
    out[from + index] = dictionary[place];
  }
  return true;
}

function readPage(page: PageReader, head: PageHead, target: Target, dictionary: Dictionary | null, row: number): boolean {
  const rows = head.valueCount;
  const out = target.type === 'string' ? target.indices : target.numbers;
  const levels = readValidity(page, rows);
  if (levels === null) return readValues(page, head.encoding, target, dictionary, out, row, row + rows);
  const present = levels.reduce((sum, level) => sum + level, 0);
  const values = target.type === 'string' ? new Uint32Array(present) : new Float64Array(present);
  if (!readValues(page, head.encoding, target, dictionary, values, 0, present)) return false;
  target.valid ??= new Uint8Array(target.rowCount).fill(1);
  let next = 0;
  for (let index = 0; index < rows; index++) {
    if (levels[index] === 1) out[row + index] = values[next++];
    else target.valid[row + index] = 0;
  }
  return true;
}

function bodyOf(bytes: Uint8Array, head: PageHead, codec: string): Uint8Array {
  const body = bytes.subarray(head.bodyStart, head.bodyStart + head.compressedBytes);
  if (head.compressedBytes < 0 || body.length !== head.compressedBytes) throw invalid('a page ends behind its column');
  if (head.crc !== null && crc32(body) !== head.crc >>> 0) throw invalid('a page has another checksum');
  return codec === 'ZSTD' ? zstdDecompressPage(body, head.uncompressedBytes) : body;
}

/**
 * @param bytes the chunk's own, from its first page on
 * @param rowCount of the row group
 * @returns null: it is made in a way that this does not read
 * @throws SluiceError ERR_PARQUET_INVALID, and the codec's own error for a damaged frame
 */
export function decodeChunk(bytes: Uint8Array, chunk: ColumnMetaData, type: FlatType, rowCount: number): ParquetColumn | null {
  const { codec } = chunk;
  if (codec !== 'ZSTD' && codec !== 'UNCOMPRESSED') return null;
  const isText = type === 'string';
  const target: Target = {
    type,
    rowCount,
    numbers: new Float64Array(isText ? 0 : rowCount),
    indices: new Uint32Array(isText ? rowCount : 0),
    dictionary: [],
    places: new Map(),
    valid: null,
  };
  let dictionary: Dictionary | null = null;
  let row = 0;
  for (let at = 0; at < bytes.length;) {
    const head = readPageHead(bytes, at, bytes.length);
    const page = new PageReader(bodyOf(bytes, head, codec));
    at = head.bodyStart + head.compressedBytes;
    if (head.type === PAGE.dictionary) {
      dictionary = readDictionary(page, head, target);
      continue;
    }
    if (head.type !== PAGE.data || head.levelEncoding !== ENCODING.rle) return null;
    if (!(head.valueCount >= 0 && row + head.valueCount <= rowCount)) throw invalid(`pages of more than ${rowCount} rows`);
    if (!readPage(page, head, target, dictionary, row)) return null;
    row += head.valueCount;
  }
  if (row !== rowCount) throw invalid(`pages of ${row} rows in a row group of ${rowCount}`);
  return finish(chunk.path_in_schema[0], target);
}

function finish(name: string, { type, numbers, indices, dictionary, valid }: Target): ParquetColumn {
  if (type !== 'string') return { name, type, values: numbers, valid };
  if (valid === null) return { name, type, dictionary, indices };
  valid.forEach((isValid, row) => isValid === 0 && (indices[row] = NULL_INDEX));
  return { name, type, dictionary, indices, nullIndex: NULL_INDEX };
}

function invalid(what: string): SluiceError {
  return new SluiceError('ERR_PARQUET_INVALID', what);
}
