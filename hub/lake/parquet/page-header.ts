/**
 * Headers of Parquet pages, as far as reading takes: what kind of page, its sizes, checksum and encodings. (parquet.thrift,
 * PageHeader; thrift-compact-protocol.md.)
 *
 * What a damaged file has there may be anything: every header ends inside its column, or is refused.
 */
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

const DATA_PAGE_FIELD = 5;
const DICTIONARY_PAGE_FIELD = 7;

/** Fields that the header does not have are -1. */
export interface PageHead {
  /** parquet.thrift, PageType. */
  readonly type: number;
  readonly uncompressedBytes: number;
  readonly compressedBytes: number;
  readonly crc: number | null;
  /** Of a data page V1 or a dictionary page. */
  readonly valueCount: number;
  readonly encoding: number;
  /** Of a data page V1. */
  readonly levelEncoding: number;
  /** Where the page itself begins. */
  readonly bodyStart: number;
}

/** @throws SluiceError ERR_PARQUET_INVALID: there is no header at `at` that ends before `end` */
export function readPageHead(bytes: Uint8Array, at: number, end: number): PageHead {
  return new HeaderReader(bytes, at, end).pageHead();
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

  pageHead(): PageHead {
    const head = { type: -1, uncompressedBytes: -1, compressedBytes: -1, valueCount: -1, encoding: -1, levelEncoding: -1 };
    let crc: number | null = null;
    const takePage = (id: number, type: number): boolean => {
      if (type !== TYPE_I32 || id > 3) return false;
      const value = this.#zigzag();
      if (id === 1) head.valueCount = value;
      else if (id === 2) head.encoding = value;
      else head.levelEncoding = value;
      return true;
    };
    this.#struct(0, (id, type) => {
      if (type === TYPE_STRUCT && (id === DATA_PAGE_FIELD || id === DICTIONARY_PAGE_FIELD)) this.#struct(1, takePage);
      else if (type !== TYPE_I32) return false;
      else if (id === 1) head.type = this.#zigzag();
      else if (id === 2) head.uncompressedBytes = this.#zigzag();
      else if (id === 3) head.compressedBytes = this.#zigzag();
      else if (id === 4) crc = this.#zigzag();
      else return false;
      return true;
    });
    return { ...head, crc, bodyStart: this.at };
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
