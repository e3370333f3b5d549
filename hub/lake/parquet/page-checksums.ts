/**
 * The CRC-32 of Parquet pages, checked: what a reader that does not look at them would take for values. (parquet.thrift,
 * PageHeader field 4: over the page as it is stored, without its header.)
 *
 * A byte that changed inside a compressed page mostly still decompresses. Pages without a CRC (other writers leave it out)
 * pass; so do the footer and the page headers, which have none and mostly fail to parse.
 */
import { crc32 } from 'node:zlib';
import type { FileMetaData } from 'hyparquet';
import { SluiceError } from '../../../shared/errors.ts';

const TYPE_STOP = 0;
const TYPE_TRUE = 1;
const TYPE_FALSE = 2;
const TYPE_BYTE = 3;
const TYPE_I32 = 5;
const TYPE_I64 = 6;
const TYPE_DOUBLE = 7;
const TYPE_BINARY = 8;
const TYPE_LIST = 9;
const TYPE_SET = 10;
const TYPE_STRUCT = 12;

/** Structs in a page header lie two deep; a damaged one may claim any depth. */
const DEPTH_MAX = 8;

/**
 * @param file its bytes, or those from `fileStart` on that hold the pages
 * @throws SluiceError ERR_PARQUET_INVALID: a page's bytes are not those that were written, or its header is none
 */
export function checkPageChecksums(file: Uint8Array, metadata: Pick<FileMetaData, 'row_groups'>, fileStart = 0): void {
  for (const { columns } of metadata.row_groups) {
    for (const { meta_data: chunk } of columns) {
      if (chunk === undefined) continue;
      const { dictionary_page_offset: dictionary, data_page_offset: data } = chunk;
      const start = Number(dictionary !== undefined && dictionary > 0n && dictionary < data ? dictionary : data) - fileStart;
      checkPages(file, start, start + Number(chunk.total_compressed_size), chunk.path_in_schema.join('.'));
    }
  }
}

function checkPages(file: Uint8Array, start: number, end: number, column: string): void {
  if (!(start >= 0 && start <= end && end <= file.length)) throw invalid(`column ${column} lies outside of the file`);
  for (let at = start; at < end;) {
    const reader = new HeaderReader(file, at, end);
    const { compressedBytes, crc } = reader.pageHeader();
    const body = file.subarray(reader.at, reader.at + compressedBytes);
    if (compressedBytes < 0 || body.length !== compressedBytes) throw invalid(`a page of column ${column} ends behind the file`);
    if (crc !== null && crc32(body) !== crc >>> 0) throw invalid(`a page of column ${column} at byte ${at} has another checksum`);
    at = reader.at + compressedBytes;
  }
}

/** As much of Thrift's compact protocol as it takes to find a header's end. (thrift-compact-protocol.md) */
class HeaderReader {
  at: number;
  readonly #bytes: Uint8Array;
  readonly #end: number;

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.#bytes = bytes;
    this.at = at;
    this.#end = end;
  }

  pageHeader(): { compressedBytes: number; crc: number | null } {
    let compressedBytes = -1;
    let crc: number | null = null;
    this.#struct(0, (id, type) => {
      if (type === TYPE_I32 && id === 3) compressedBytes = this.#zigzag();
      else if (type === TYPE_I32 && id === 4) crc = this.#zigzag();
      else return false;
      return true;
    });
    return { compressedBytes, crc };
  }

  #struct(depth: number, take: (id: number, type: number) => boolean): void {
    if (depth > DEPTH_MAX) throw invalid('a page header is nested too deep');
    for (let id = 0; ;) {
      const head = this.#byte();
      const type = head & 0x0f;
      if (type === TYPE_STOP) return;
      id = head >> 4 === 0 ? this.#zigzag() : id + (head >> 4);
      if (!take(id, type)) this.#skip(type, depth);
    }
  }

  #skip(type: number, depth: number): void {
    if (type === TYPE_TRUE || type === TYPE_FALSE) return;
    if (type === TYPE_BYTE) this.at += 1;
    else if (type > TYPE_BYTE && type <= TYPE_I64) this.#varint();
    else if (type === TYPE_DOUBLE) this.at += 8;
    else if (type === TYPE_BINARY) this.at += this.#varint();
    else if (type === TYPE_LIST || type === TYPE_SET) this.#skipList(depth);
    else if (type === TYPE_STRUCT) this.#struct(depth + 1, () => false);
    else throw invalid(`a page header has a field of type ${type}`);
  }

  #skipList(depth: number): void {
    const head = this.#byte();
    const count = head >> 4 === 15 ? this.#varint() : head >> 4;
    for (let item = 0; item < count; item++) this.#skip(head & 0x0f, depth + 1);
  }

  #byte(): number {
    if (this.at >= this.#end) throw invalid('a page header ends behind its column');
    return this.#bytes[this.at++];
  }

  /** Exact below 2^53; longer ones only ever are skipped. */
  #varint(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.#byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  }

  #zigzag(): number {
    const value = this.#varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }
}

function invalid(what: string): SluiceError {
  return new SluiceError('ERR_PARQUET_INVALID', what);
}
