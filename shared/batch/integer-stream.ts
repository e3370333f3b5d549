/**
 * A stream of integers: the one building block of every column in a batch (docs/wire.md, "Integer streams").
 *
 * Layout: `minimum` (MessagePack integer), packing byte `planes << 4 | bits`, then of every number minus the minimum:
 * `planes` byte planes (all lowest bytes, then all second bytes, …), then the `bits` highest bits of each, packed from
 * the lowest bit of each byte up. The count is not stored, the reader knows it; a stream of no numbers has no bytes.
 *
 * Byte planes and widths of 1, 2 and 4 bits keep repetitions visible to the compressor behind; other widths are used
 * where the numbers look evenly spread, which a compressor with one Huffman code for all streams stores badly: the
 * reference fleet needs 1.23 B per reading with planes alone, 0.99 with bits (columns only, measured, brotli 1, 2 s × 250 devices).
 */
import assert from 'node:assert/strict';
import { malformed, type ByteReader, type ByteWriter } from './bytes.ts';

/** A packed width may be so much above the entropy, in bits per number, and is still preferred to whole bytes. */
const PACKING_SLACK_BITS = 0.8;

const TWO_32 = 2 ** 32;

/** Numbers of bits that numbers 0..range need. */
function bitWidth(range: number): number {
  return range < TWO_32 ? 32 - Math.clz32(range) : 64 - Math.clz32(Math.floor(range / TWO_32));
}

/**
 * Writes `values` (safe integers whose span is a safe integer).
 *
 * Cost: linear, a few ns per number and byte.
 */
export function writeIntegers(writer: ByteWriter, values: ArrayLike<number>): void {
  const count = values.length;
  if (count === 0) return;
  let minimum = values[0];
  let maximum = minimum;
  for (let i = 1; i < count; i++) {
    const value = values[i];
    if (value < minimum) minimum = value;
    else if (value > maximum) maximum = value;
  }
  assert(Number.isSafeInteger(minimum) && Number.isSafeInteger(maximum - minimum), 'integer stream: span beyond 2^53');
  const width = bitWidth(maximum - minimum);
  let planes = width >>> 3;
  let bits = width & 7;
  const aligned = (bits & (bits - 1)) === 0; // 0, 1, 2 and 4 divide a byte
  if (!aligned && planes < 6 && bits - topEntropy(values, minimum, planes) > PACKING_SLACK_BITS) {
    if (bits === 3) bits = 4;
    else {
      planes += 1;
      bits = 0;
    }
  }
  writer.integer(minimum);
  writer.byte((planes << 4) | bits);
  const { bytes, offset } = writer.reserve(planes * count + Math.ceil((bits * count) / 8));
  for (let plane = 0; plane < planes; plane++) {
    const start = offset + plane * count;
    if (plane < 4) for (let i = 0; i < count; i++) bytes[start + i] = (values[i] - minimum) >>> (8 * plane);
    else for (let i = 0; i < count; i++) bytes[start + i] = (values[i] - minimum) / 2 ** (8 * plane);
  }
  if (bits > 0) packTop(bytes, offset + planes * count, values, minimum, planes, bits);
}

function packTop(bytes: Uint8Array, start: number, values: ArrayLike<number>, minimum: number, planes: number, bits: number): void {
  const divisor = 2 ** (8 * planes);
  let position = start;
  let held = 0;
  let heldBits = 0;
  for (let i = 0; i < values.length; i++) {
    held |= ((values[i] - minimum) / divisor) << heldBits;
    heldBits += bits;
    if (heldBits >= 8) {
      bytes[position++] = held;
      held >>>= 8;
      heldBits -= 8;
    }
  }
  if (heldBits > 0) bytes[position] = held;
}

/** Order-0 entropy of what is above the byte planes, in bits per number. */
function topEntropy(values: ArrayLike<number>, minimum: number, planes: number): number {
  const counts = new Uint32Array(128);
  const divisor = 2 ** (8 * planes);
  for (let i = 0; i < values.length; i++) counts[((values[i] - minimum) / divisor) | 0] += 1;
  return entropyBits(counts, values.length) / values.length;
}

/** Bits that `total` symbols with these counts need under a perfect order-0 code. */
export function entropyBits(counts: Uint32Array, total: number): number {
  let sum = 0;
  for (const count of counts) if (count > 0) sum += count * Math.log2(total / count);
  return sum;
}

/**
 * An estimate of the bits that these non-negative integers need once compressed: order-0 entropy, where from 255 on
 * only the magnitude is a symbol and the digits below it count in full.
 */
export function estimateBits(values: ArrayLike<number>): number {
  const counts = new Uint32Array(256 + 64);
  let extra = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value < 255) counts[value] += 1;
    else {
      const width = bitWidth(value);
      counts[255 + width] += 1;
      extra += width - 1;
    }
  }
  return entropyBits(counts, values.length) + extra;
}

/**
 * Reads `count` integers, each in [lowest, highest] (safe integers both).
 *
 * @throws SluiceError ERR_BATCH_MALFORMED. Nothing is allocated before the bytes are known to be there; a stream whose
 * numbers are all equal has none, so `count` must be bounded by the caller.
 */
export function readIntegers(reader: ByteReader, what: string, count: number, lowest: number, highest: number): Float64Array {
  return readInto(() => new Float64Array(count), reader, what, count, lowest, highest);
}

/** Above it the memory of a large batch is not kept. */
const TRANSIENT_MAX = 65_536;
const transient = new Float64Array(TRANSIENT_MAX);

/**
 * As readIntegers, in memory that the next call uses again: for what is only a step on the way to a column.
 */
export function readTransientIntegers(reader: ByteReader, what: string, count: number, lowest: number, highest: number): Float64Array {
  if (count > TRANSIENT_MAX) return readIntegers(reader, what, count, lowest, highest);
  return readInto(() => transient.subarray(0, count).fill(0), reader, what, count, lowest, highest);
}

/** @param room makes room for `count` zeros */
function readInto(
  room: () => Float64Array,
  reader: ByteReader,
  what: string,
  count: number,
  lowest: number,
  highest: number,
): Float64Array {
  if (count === 0) return new Float64Array(0);
  const minimum = reader.integer(`${what}: minimum`, lowest, highest);
  const packing = reader.byte();
  const planes = packing >>> 4;
  const bits = packing & 0x0f;
  const width = 8 * planes + bits;
  if (bits > 7 || width > 53) throw malformed(`${what}: packing byte ${packing}`);
  const start = reader.take(planes * count + Math.ceil((bits * count) / 8));
  const out = room();
  const bytes = reader.bytes;
  if (bits > 0) unpackTop(bytes, start + planes * count, out, bits, planes === 0 ? minimum : 0);
  else if (planes === 0 && minimum !== 0) out.fill(minimum);
  for (let plane = planes - 1; plane >= 0; plane--) {
    const from = start + plane * count;
    const add = plane === 0 ? minimum : 0;
    for (let i = 0; i < count; i++) out[i] = out[i] * 256 + bytes[from + i] + add;
  }
  if (minimum + (2 ** width - 1) > highest) {
    // Beyond 2^53 the sum is rounded, but then it is above `highest` all the same.
    for (let i = 0; i < count; i++) if (out[i] > highest) throw malformed(`${what} is ${out[i]}, allowed is ${lowest}..${highest}`);
  }
  return out;
}

function unpackTop(bytes: Uint8Array, start: number, out: Float64Array, bits: number, add: number): void {
  const mask = (1 << bits) - 1;
  if ((bits & (bits - 1)) === 0) {
    const shift = bits === 1 ? 3 : bits === 2 ? 2 : 1;
    const within = (1 << shift) - 1;
    for (let i = 0; i < out.length; i++) {
      out[i] = ((bytes[start + (i >>> shift)] >>> ((i & within) * bits)) & mask) + add;
    }
    return;
  }
  let position = start;
  let held = 0;
  let heldBits = 0;
  for (let i = 0; i < out.length; i++) {
    if (heldBits < bits) {
      held |= bytes[position++] << heldBits;
      heldBits += 8;
    }
    out[i] = (held & mask) + add;
    held >>>= bits;
    heldBits -= bits;
  }
}
