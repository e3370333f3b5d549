/**
 * The hybrid of run lengths and bit packing that levels and dictionary indices use.
 *
 * Source: parquet-format Encodings.md, "Run Length Encoding / Bit-Packing Hybrid".
 */
import assert from 'node:assert/strict';
import type { ByteSink } from './byte-sink.ts';

/** Bits that hold 0..max; at least 1, so that no reader has to know the width 0. */
export function bitWidth(max: number): number {
  return Math.max(1, 32 - Math.clz32(max));
}

/** With at most 7 bits waiting and 25 added, the 32-bit accumulator is enough. */
export const PACK_WIDTH_MAX = 25;

/** Bit-packs values[from..to), lowest bits first, filled up with zeros to 8 values. Returns the offset behind it. */
function packBits(bytes: Uint8Array, at: number, values: Uint32Array, from: number, to: number, width: number): number {
  let offset = at;
  let waiting = 0;
  let bits = 0;
  for (let i = from; i < to; i++) {
    waiting |= values[i] << bits;
    bits += width;
    while (bits >= 8) {
      bytes[offset++] = waiting;
      waiting >>>= 8;
      bits -= 8;
    }
  }
  const end = at + Math.ceil((to - from) / 8) * width;
  while (offset < end) {
    bytes[offset++] = waiting;
    waiting = 0;
  }
  return offset;
}

/** A run of equal values as (run length, value). */
export function writeRun(sink: ByteSink, value: number, count: number, width: number): void {
  sink.varint(count * 2);
  sink.reserve(4);
  for (let shift = 0; shift < width; shift += 8) sink.bytes[sink.length++] = value >>> shift;
}

function writePacked(sink: ByteSink, values: Uint32Array, from: number, to: number, width: number): void {
  if (from === to) return;
  const groups = Math.ceil((to - from) / 8);
  sink.varint(groups * 2 + 1);
  sink.reserve(groups * width);
  sink.length = packBits(sink.bytes, sink.length, values, from, to, width);
}

/** Encodes values[0..count), each below 2^width. */
export function writeHybrid(sink: ByteSink, values: Uint32Array, count: number, width: number): void {
  assert(width <= PACK_WIDTH_MAX, `hybrid width ${width} above ${PACK_WIDTH_MAX}`);
  let packedFrom = 0;
  let i = 0;
  while (i < count) {
    const value = values[i];
    let runEnd = i + 1;
    while (runEnd < count && values[runEnd] === value) runEnd++;
    if (runEnd - i >= 8) {
      // Packed values come in eights: what is missing there is taken from the run.
      const missing = -(i - packedFrom) & 7;
      if (runEnd - i - missing >= 8) {
        writePacked(sink, values, packedFrom, i + missing, width);
        writeRun(sink, value, runEnd - i - missing, width);
        packedFrom = runEnd;
      }
    }
    i = runEnd;
  }
  writePacked(sink, values, packedFrom, count, width);
}

/** Packed values that wait for their run to end: in the first-level cache, a multiple of 8. */
const WAITING_MAX = 2048;

/** The same encoding from runs: a long run costs a few bytes and no more time than a short one. */
export class HybridWriter {
  readonly #waiting = new Uint32Array(WAITING_MAX);
  #count = 0;
  #sink: ByteSink | null = null;
  #width = 0;

  begin(sink: ByteSink, width: number): void {
    assert(width <= PACK_WIDTH_MAX, `hybrid width ${width} above ${PACK_WIDTH_MAX}`);
    this.#sink = sink;
    this.#width = width;
    this.#count = 0;
  }

  /** Appends `rows` times the value, which is below 2^width. */
  add(value: number, rows: number): void {
    let left = rows;
    if (left >= 8) {
      // Packed values come in eights: what is missing there is taken from the run.
      const missing = -this.#count & 7;
      if (left - missing >= 8) {
        this.#push(value, missing);
        this.#flush();
        writeRun(this.#open(), value, left - missing, this.#width);
        return;
      }
    }
    while (left > 0) {
      const part = Math.min(left, WAITING_MAX - this.#count);
      this.#push(value, part);
      left -= part;
      if (this.#count === WAITING_MAX) this.#flush();
    }
  }

  end(): void {
    this.#flush();
    this.#sink = null;
  }

  #open(): ByteSink {
    assert(this.#sink !== null, 'no page was begun');
    return this.#sink;
  }

  #push(value: number, rows: number): void {
    const waiting = this.#waiting;
    const end = this.#count + rows;
    for (let at = this.#count; at < end; at++) waiting[at] = value;
    this.#count = end;
  }

  #flush(): void {
    writePacked(this.#open(), this.#waiting, 0, this.#count, this.#width);
    this.#count = 0;
  }
}
