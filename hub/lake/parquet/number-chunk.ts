/**
 * Column chunks of numbers: PLAIN, dictionary or DELTA_BINARY_PACKED, whichever a trial on samples finds smallest.
 *
 * A trial, because no rule holds: delta halves regular times and is worse than PLAIN on jittered ones; a dictionary
 * wins for decimals, constants and repeated times and loses for measured noise.
 */
import assert from 'node:assert/strict';
import type { ByteSink } from './byte-sink.ts';
import type { ColumnChunk, PagePlan } from './column-chunk.ts';
import { writeDeltaBinary } from './delta-binary.ts';
import { ENCODING, PHYSICAL, type ChunkStatistics, type Encoding, type Physical } from './format.ts';
import { buildNumberDictionary, type NumberDictionary } from './number-dictionary.ts';
import { bitWidth, writeHybrid } from './rle.ts';

export type NumberPhysical = typeof PHYSICAL.int32 | typeof PHYSICAL.int64 | typeof PHYSICAL.double;

export interface NumberBounds {
  /** null: no value, or a NaN among them (a bound would then exclude rows that belong to an answer). */
  readonly min: number | null;
  readonly max: number | null;
  readonly hasNan: boolean;
}

/** Values of a sample, and how many samples a chunk is judged by. */
const SAMPLE_VALUES = 4096;
const SAMPLES = 2;

/** Appends values[from..to) PLAIN. */
export function writePlainNumbers(sink: ByteSink, physical: Physical, values: Float64Array, from: number, to: number): void {
  const count = to - from;
  if (physical === PHYSICAL.double) {
    sink.raw(new Uint8Array(values.buffer, values.byteOffset + from * 8, count * 8));
  } else if (physical === PHYSICAL.int64) {
    const words = new Uint32Array(count * 2);
    for (let i = 0; i < count; i++) {
      const value = values[from + i];
      const high = Math.floor(value / 0x1_0000_0000);
      words[2 * i] = value - high * 0x1_0000_0000;
      words[2 * i + 1] = high; // modulo 2^32: two's complement
    }
    sink.raw(new Uint8Array(words.buffer));
  } else {
    sink.raw(new Uint8Array(new Int32Array(values.subarray(from, to)).buffer));
  }
}

function writeIndices(sink: ByteSink, dictionary: NumberDictionary, from: number, to: number): void {
  const width = bitWidth(dictionary.values.length - 1);
  sink.byte(width);
  writeHybrid(sink, dictionary.ids.subarray(from, to), to - from, width);
}

function writeDelta(sink: ByteSink, physical: NumberPhysical, values: Float64Array, from: number, to: number): boolean {
  return physical !== PHYSICAL.double && writeDeltaBinary(sink, values, from, to, physical === PHYSICAL.int32 ? 2 ** 31 : 2 ** 53);
}

/** Appends values[from..to) in the encoding, or PLAIN where a page does not fit it; answers what was used. */
function writeValues(
  sink: ByteSink,
  encoding: Encoding,
  physical: NumberPhysical,
  values: Float64Array,
  dictionary: NumberDictionary | null,
  from: number,
  to: number,
): Encoding {
  if (encoding === ENCODING.plainDictionary && dictionary !== null) {
    writeIndices(sink, dictionary, from, to);
    return encoding;
  }
  if (encoding === ENCODING.deltaBinaryPacked && writeDelta(sink, physical, values, from, to)) return encoding;
  writePlainNumbers(sink, physical, values, from, to);
  return ENCODING.plain;
}

/** The encoding whose compressed samples, scaled to the chunk, are smallest. */
function* chooseEncoding(
  chunk: ColumnChunk,
  physical: NumberPhysical,
  values: Float64Array,
  dictionary: NumberDictionary | null,
): Generator<void, Encoding> {
  if (dictionary !== null && dictionary.values.length <= 2) return ENCODING.plainDictionary; // at most a bit per value
  const count = values.length;
  const samples = count <= SAMPLE_VALUES * SAMPLES ? 1 : SAMPLES;
  const length = samples === 1 ? count : SAMPLE_VALUES;
  const stride = Math.floor((count - length) / samples);
  const candidates: Encoding[] = [ENCODING.plain];
  if (physical !== PHYSICAL.double) candidates.push(ENCODING.deltaBinaryPacked);
  if (dictionary !== null) candidates.push(ENCODING.plainDictionary);
  let best: Encoding = ENCODING.plain;
  let bestBytes = Infinity;
  for (const candidate of candidates) {
    let bytes = 0;
    for (let sample = 0; sample < samples; sample++) {
      chunk.page.reset();
      writeValues(chunk.page, candidate, physical, values, dictionary, sample * stride, sample * stride + length);
      bytes += chunk.codec.compress(chunk.page.view()).length;
      yield;
    }
    bytes *= count / (samples * length);
    if (candidate === ENCODING.plainDictionary && dictionary !== null) {
      chunk.page.reset();
      writePlainNumbers(chunk.page, physical, dictionary.values, 0, dictionary.values.length);
      bytes += chunk.codec.compress(chunk.page.view()).length;
      yield;
    }
    if (bytes < bestBytes) {
      best = candidate;
      bestBytes = bytes;
    }
  }
  return best;
}

/**
 * Encodes all pages of a chunk; answers the bounds of its values.
 *
 * @param values the chunk's present values without holes; for INT32 and INT64 safe integers
 */
export function* encodeNumberChunk(
  chunk: ColumnChunk,
  physical: NumberPhysical,
  values: Float64Array,
  pages: readonly PagePlan[],
): Generator<void, NumberBounds> {
  const dictionary = values.length === 0 ? null : yield* buildNumberDictionary(values, chunk.scratch);
  const bounds = numberBounds(dictionary?.values ?? values);
  if (physical !== PHYSICAL.double) assertIntegers(chunk, bounds);
  yield;
  const encoding = values.length === 0 ? ENCODING.plain : yield* chooseEncoding(chunk, physical, values, dictionary);
  if (encoding === ENCODING.plainDictionary && dictionary !== null) {
    chunk.page.reset();
    writePlainNumbers(chunk.page, physical, dictionary.values, 0, dictionary.values.length);
    chunk.endDictionary(dictionary.values.length);
  }
  for (const plan of pages) {
    chunk.beginPage(plan);
    const used = writeValues(chunk.page, encoding, physical, values, dictionary, plan.valueStart, plan.valueEnd);
    chunk.endPage(plan, used);
    yield;
  }
  return bounds;
}

export function assertIntegers(chunk: ColumnChunk, { min, max, hasNan }: NumberBounds): void {
  assert(
    !hasNan && (min ?? 0) >= Number.MIN_SAFE_INTEGER && (max ?? 0) <= Number.MAX_SAFE_INTEGER,
    `column ${chunk.leaf.path.join('.')}: not safe integers`,
  );
}

/** Bounds of all values. */
export function numberBounds(values: Float64Array): NumberBounds {
  let min = Infinity;
  let max = -Infinity;
  let hasNan = false;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value < min) min = value;
    if (value > max) max = value;
    if (value !== value) hasNan = true;
  }
  if (values.length === 0 || hasNan) return { min: null, max: null, hasNan };
  return { min, max, hasNan };
}

export function numberStatistics(physical: NumberPhysical, bounds: NumberBounds, nullCount: number): ChunkStatistics {
  if (bounds.min === null || bounds.max === null) return { nullCount, bounds: null };
  // Readers may not tell the zeros apart: the lower bound says -0, the upper one +0 [parquet.thrift, ColumnOrder].
  return {
    nullCount,
    bounds: {
      min: plainNumber(physical, bounds.min === 0 ? -0 : bounds.min),
      max: plainNumber(physical, bounds.max === 0 ? 0 : bounds.max),
    },
  };
}

function plainNumber(physical: NumberPhysical, value: number): Uint8Array {
  const bytes = Buffer.alloc(physical === PHYSICAL.int32 ? 4 : 8);
  if (physical === PHYSICAL.double) bytes.writeDoubleLE(value);
  else if (physical === PHYSICAL.int32) bytes.writeInt32LE(value);
  else bytes.writeBigInt64LE(BigInt(value));
  return bytes;
}
