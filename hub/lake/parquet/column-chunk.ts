/**
 * One column chunk in the making: takes pages one at a time, keeps them compressed, places them at the end.
 *
 * The dictionary page stands first in the file though its content is known last; so nothing has an offset before
 * `place`. Pages are limited by their callers (rows and bytes); here is only the format's own limit asserted.
 */
import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import { ByteSink } from './byte-sink.ts';
import {
  ENCODING,
  PAGE,
  writePageHeader,
  type ChunkMetadata,
  type ChunkStatistics,
  type Encoding,
  type Leaf,
  type PageType,
} from './format.ts';
import type { PageCodec } from './page-codec.ts';
import { bitWidth, writeHybrid, writeRun } from './rle.ts';

/** Page sizes are 32-bit signed in the format. */
const PAGE_BYTES_LIMIT = 0x7fff_ffff;

/** A page's part of a chunk: the values [valueStart, valueEnd) of the chunk's present values, and its levels. */
export interface PagePlan {
  /** Values and nulls. */
  readonly levelCount: number;
  readonly valueStart: number;
  readonly valueEnd: number;
  /** Writes repetition and definition levels, each as a data page V1 has them. */
  readonly writeLevels: (sink: ByteSink) => void;
}

/** Buffers of one file at a time: the page being built, its header, the ids and the dictionary of a chunk's values. */
export class Scratch {
  readonly page = new ByteSink(512 * 1024);
  readonly header = new ByteSink(256);
  #ids = new Uint32Array(0);
  #slots = new Uint32Array(0);
  #distinct = new Float64Array(0);

  /** At least `count` elements of any content, valid until the next call. */
  ids(count: number): Uint32Array {
    if (this.#ids.length < count) this.#ids = new Uint32Array(count);
    return this.#ids;
  }

  /** `count` zeros, valid until the next call. */
  zeros(count: number): Uint32Array {
    if (this.#slots.length < count) this.#slots = new Uint32Array(count);
    else this.#slots.fill(0, 0, count);
    return this.#slots.subarray(0, count);
  }

  /** `count` elements of any content, valid until the next call. */
  distinct(count: number): Float64Array {
    if (this.#distinct.length < count) this.#distinct = new Float64Array(count);
    return this.#distinct.subarray(0, count);
  }
}

/** What the last file left: files are mostly made one after the other, and 5 MB each time keep the collector busy. */
let spare: Scratch | null = null;

/** Buffers for one file. Whoever does not give them back costs the next file its own. */
export function takeScratch(): Scratch {
  const scratch = spare ?? new Scratch();
  spare = null;
  return scratch;
}

export function giveBackScratch(scratch: Scratch): void {
  spare = scratch;
}

export class ColumnChunk {
  readonly leaf: Leaf;
  readonly codec: PageCodec;
  readonly page: ByteSink;
  readonly scratch: Scratch;
  #dictionary: Uint8Array[] = [];
  #dictionaryBytes = 0;
  readonly #data: Uint8Array[] = [];
  #levelCount = 0;
  #uncompressedBytes = 0;
  #compressedBytes = 0;
  readonly #pages = new Map<string, { type: PageType; encoding: Encoding; count: number }>();

  constructor(leaf: Leaf, codec: PageCodec, scratch: Scratch) {
    this.leaf = leaf;
    this.codec = codec;
    this.page = scratch.page;
    this.scratch = scratch;
    this.page.reset();
  }

  /** Starts a data page with its levels; the caller appends the values to `page` and calls `endPage`. */
  beginPage(plan: PagePlan): void {
    this.page.reset();
    plan.writeLevels(this.page);
  }

  endPage(plan: PagePlan, encoding: Encoding): void {
    this.#levelCount += plan.levelCount;
    this.#data.push(...this.#seal(PAGE.data, plan.levelCount, encoding));
  }

  /** Makes what stands in `page` the dictionary page, PLAIN values. */
  endDictionary(valueCount: number): void {
    const before = this.#compressedBytes;
    this.#dictionary = this.#seal(PAGE.dictionary, valueCount, ENCODING.plainDictionary);
    this.#dictionaryBytes = this.#compressedBytes - before;
  }

  #seal(type: PageType, valueCount: number, encoding: Encoding): Uint8Array[] {
    const uncompressedBytes = this.page.length;
    assert(uncompressedBytes <= PAGE_BYTES_LIMIT, `page of ${uncompressedBytes} bytes above ${PAGE_BYTES_LIMIT}`);
    const { header } = this.scratch;
    const body = this.codec.compress(this.page.view());
    header.reset();
    writePageHeader(header, { type, uncompressedBytes, compressedBytes: body.length, crc: crc32(body), valueCount, encoding });
    const headerBytes = header.take();
    this.page.reset();
    this.#uncompressedBytes += headerBytes.length + uncompressedBytes;
    this.#compressedBytes += headerBytes.length + body.length;
    const key = `${type} ${encoding}`;
    const seen = this.#pages.get(key) ?? { type, encoding, count: 0 };
    seen.count++;
    this.#pages.set(key, seen);
    return [headerBytes, body];
  }

  /** Appends the chunk's bytes to `out` and answers its metadata for the file offset where they stand. */
  place(out: Uint8Array[], offset: number, statistics: ChunkStatistics): ChunkMetadata {
    out.push(...this.#dictionary);
    for (const part of this.#data) out.push(part);
    return {
      leaf: this.leaf,
      codec: this.codec.id,
      levelCount: this.#levelCount,
      uncompressedBytes: this.#uncompressedBytes,
      compressedBytes: this.#compressedBytes,
      dictionaryOffset: this.#dictionaryBytes > 0 ? offset : null,
      dataOffset: offset + this.#dictionaryBytes,
      pages: [...this.#pages.values()],
      statistics,
    };
  }
}

/** Writes levels of one kind with their length in front; nothing where the maximum is 0. */
export function writeLevels(sink: ByteSink, levels: Uint32Array, count: number, max: number): void {
  if (max === 0) return;
  const at = sink.length;
  sink.uint32(0);
  writeHybrid(sink, levels, count, bitWidth(max));
  sink.uint32At(at, sink.length - at - 4);
}

/** The same for `count` equal levels. */
export function writeEqualLevels(sink: ByteSink, level: number, count: number, max: number): void {
  if (max === 0) return;
  const at = sink.length;
  sink.uint32(0);
  if (count > 0) writeRun(sink, level, count, bitWidth(max));
  sink.uint32At(at, sink.length - at - 4);
}
