/**
 * DELTA_BINARY_PACKED: blocks of 128 deltas in four miniblocks, each with its own bit width above the block's minimum.
 *
 * Source: parquet-format Encodings.md, "Delta Encoding". Deltas are computed in doubles, exact below 2^53; a page that
 * would leave that range is refused and the caller writes it PLAIN.
 */
import type { ByteSink } from './byte-sink.ts';
import { PACK_WIDTH_MAX } from './rle.ts';

const BLOCK_VALUES = 128;
const MINIBLOCK_VALUES = 32;
const MINIBLOCKS = BLOCK_VALUES / MINIBLOCK_VALUES;
const TWO_32 = 0x1_0000_0000;

/** Bits of a non-negative integer below 2^53. */
function bitLength(value: number): number {
  return value >= TWO_32 ? 64 - Math.clz32(value / TWO_32) : 32 - Math.clz32(value);
}

const deltas = new Float64Array(BLOCK_VALUES);

/** Packs deltas[from .. from + 32) less `min` in `width` bits each. */
function packMiniblock(bytes: Uint8Array, at: number, from: number, min: number, width: number): number {
  let offset = at;
  let waiting = 0;
  let bits = 0;
  for (let i = from; i < from + MINIBLOCK_VALUES; i++) {
    let value = deltas[i] - min;
    let left = width;
    while (left > PACK_WIDTH_MAX) {
      // Wide values go in slices of 24 bits.
      waiting |= (value & 0xff_ffff) << bits;
      value = Math.floor(value / 0x100_0000);
      left -= 24;
      bytes[offset++] = waiting;
      bytes[offset++] = waiting >>> 8;
      bytes[offset++] = waiting >>> 16;
      waiting >>>= 24;
    }
    waiting |= value << bits;
    bits += left;
    while (bits >= 8) {
      bytes[offset++] = waiting;
      waiting >>>= 8;
      bits -= 8;
    }
  }
  return offset; // 32 values fill whole bytes at every width
}

/**
 * Encodes values[from..to), integers.
 *
 * @param deltaLimit deltas and their span must stay below this in size: 2^31 for INT32, 2^53 for INT64
 * @returns false if they do not; what was written is then taken back
 */
export function writeDeltaBinary(sink: ByteSink, values: Float64Array, from: number, to: number, deltaLimit: number): boolean {
  const start = sink.length;
  sink.varint(BLOCK_VALUES);
  sink.varint(MINIBLOCKS);
  sink.varint(to - from);
  sink.zigzag(to > from ? values[from] : 0);
  let previous = values[from];
  for (let block = from + 1; block < to; block += BLOCK_VALUES) {
    const count = Math.min(BLOCK_VALUES, to - block);
    let min = Infinity;
    let max = -Infinity;
    for (let k = 0; k < count; k++) {
      const value = values[block + k];
      const delta = value - previous;
      previous = value;
      deltas[k] = delta;
      if (delta < min) min = delta;
      if (delta > max) max = delta;
    }
    if (!(min > -deltaLimit && max < deltaLimit && max - min < deltaLimit)) {
      sink.length = start;
      return false;
    }
    deltas.fill(min, count);
    writeBlock(sink, count, min);
  }
  return true;
}

function writeBlock(sink: ByteSink, count: number, min: number): void {
  sink.zigzag(min);
  sink.reserve(MINIBLOCKS + BLOCK_VALUES * 8);
  const widthsAt = sink.length;
  let offset = widthsAt + MINIBLOCKS;
  for (let miniblock = 0; miniblock < MINIBLOCKS; miniblock++) {
    const from = miniblock * MINIBLOCK_VALUES;
    let width = 0;
    if (from < count) {
      let max = min;
      for (let k = from; k < from + MINIBLOCK_VALUES; k++) if (deltas[k] > max) max = deltas[k];
      width = bitLength(max - min);
      if (width > 0) offset = packMiniblock(sink.bytes, offset, from, min, width);
    }
    sink.bytes[widthsAt + miniblock] = width;
  }
  sink.length = offset;
}
