/**
 * The OpenTelemetry exponential histogram at scale 5: bucket b of the absolute value holds (2^(b/32), 2^((b+1)/32)],
 * that is b = ceil(log2(|x|) * 32) - 1. Negative values have their own buckets, zero its own count.
 *
 * Chosen because it is plain arithmetic: every SQL engine computes and merges it (OpenTelemetry metrics data model,
 * "ExponentialHistogram"). A value exactly at a boundary may land one bucket beside where another engine's log2 puts it.
 *
 * Here a bucket comes from the exponent bits and a table over the mantissa bits instead of a logarithm. Buckets of
 * both signs and zero are one integer, the **code**, in the order of the values:
 * code = bucket + CODE_OFFSET for x > 0, 0 for zero, -(bucket + CODE_OFFSET) for x < 0.
 */

/** Buckets per doubling: 2^scale. */
export const HISTOGRAM_SCALE = 5;
const BUCKETS_PER_OCTAVE = 2 ** HISTOGRAM_SCALE;

/** Half a bucket's width as a ratio: the largest relative error of a quantile that falls into a bucket (about 1.09 %). */
export const HISTOGRAM_RELATIVE_ERROR = 2 ** (0.5 / BUCKETS_PER_OCTAVE) - 1;

/** Bucket of the smallest subnormal double, 2^-1074. */
export const BUCKET_MIN = -1074 * BUCKETS_PER_OCTAVE - 1;
/** Bucket of the largest double, just below 2^1024. */
export const BUCKET_MAX = 1024 * BUCKETS_PER_OCTAVE - 1;

/** Makes the code of every bucket at least 1. */
export const CODE_OFFSET = 1 - BUCKET_MIN;

/**
 * The mantissa's upper 6 bits choose a cell of width 1/64, narrower than the narrowest bucket (2^(1/32) - 1 = 0.0219),
 * so at most one boundary lies in a cell. CELL_BUCKET is the bucket at and below that boundary, CELL_HIGH / CELL_LOW the
 * boundary's mantissa bits (upper 20, lower 32); a cell without a boundary has one that no mantissa exceeds.
 */
const CELL_COUNT = 64;
const CELL_SHIFT = 20 - Math.log2(CELL_COUNT);
const CELL_BUCKET = new Int32Array(CELL_COUNT);
const CELL_HIGH = new Int32Array(CELL_COUNT);
const CELL_LOW = new Uint32Array(CELL_COUNT);

const scratch = new Float64Array(1);
const scratchWords = new Uint32Array(scratch.buffer);
/** Index of a double's upper word in a 32-bit view. */
export const HIGH_WORD = ((): 0 | 1 => {
  scratch[0] = 1;
  return scratchWords[1] !== 0 ? 1 : 0;
})();
const LOW_WORD = HIGH_WORD === 1 ? 0 : 1;

for (let cell = 0; cell < CELL_COUNT; cell++) {
  const from = 1 + cell / CELL_COUNT;
  const to = 1 + (cell + 1) / CELL_COUNT;
  CELL_HIGH[cell] = 0x100000;
  CELL_BUCKET[cell] = Math.ceil(Math.log2(to) * BUCKETS_PER_OCTAVE) - 1;
  for (let k = 0; k < BUCKETS_PER_OCTAVE; k++) {
    const boundary = 2 ** (k / BUCKETS_PER_OCTAVE);
    if (boundary < from || boundary >= to) continue;
    scratch[0] = boundary;
    CELL_HIGH[cell] = scratchWords[HIGH_WORD] & 0xfffff;
    CELL_LOW[cell] = scratchWords[LOW_WORD];
    CELL_BUCKET[cell] = k - 1;
  }
}

/** Code of a finite value. */
export function bucketCode(value: number): number {
  if (value === 0) return 0;
  scratch[0] = value;
  return bucketCodeOfWords(scratchWords[HIGH_WORD], scratchWords[LOW_WORD]);
}

/** Code of the finite value with these upper and lower 32 bits (both unsigned or both signed). */
export function bucketCodeOfWords(high: number, low: number): number {
  const exponent = (high >>> 20) & 0x7ff;
  if (exponent === 0) return subnormalCode(high, low);
  const mantissa = high & 0xfffff;
  const cell = mantissa >>> CELL_SHIFT;
  const boundary = CELL_HIGH[cell];
  let bucket = (exponent - 1023) * BUCKETS_PER_OCTAVE + CELL_BUCKET[cell];
  // 1 above the boundary, without a branch: for values of many series it is no better than guessed.
  bucket += (boundary - mantissa) >>> 31;
  if (mantissa === boundary && low >>> 0 > CELL_LOW[cell]) bucket++;
  return high >>> 31 === 0 ? bucket + CODE_OFFSET : -(bucket + CODE_OFFSET);
}

function subnormalCode(high: number, low: number): number {
  if (high << 1 === 0 && low === 0) return 0;
  const magnitude = ((high & 0xfffff) * 2 ** 32 + (low >>> 0)) * 2 ** -1074;
  const code = bucketCode(magnitude * 2 ** 52) - 52 * BUCKETS_PER_OCTAVE;
  return high >>> 31 === 0 ? code : -code;
}

/** The bucket that stands behind a code other than 0. */
export function bucketOfCode(code: number): number {
  return Math.abs(code) - CODE_OFFSET;
}

/** Bucket of a finite value other than 0. */
export function bucketOf(value: number): number {
  return bucketOfCode(bucketCode(value));
}

/** The value that stands for a bucket: its geometric middle. */
export function bucketMiddle(bucket: number): number {
  return 2 ** ((bucket + 0.5) / BUCKETS_PER_OCTAVE);
}

/** Counts of one histogram; buckets of the absolute value. */
export interface HistogramCounts {
  readonly histPos: ReadonlyMap<number, number>;
  readonly histNeg: ReadonlyMap<number, number>;
  readonly histZero: number;
  readonly minValue: number;
  readonly maxValue: number;
}

/** 0.07 * 100 is a little above 7 in doubles and must not become rank 8. */
const RANK_SLACK = 1e-9;

/** Of the value that a quantile is, counted from 1; `total` is at least 1. */
export function rankOf(ratio: number, total: number): number {
  return Math.min(total, Math.max(1, Math.ceil(ratio * total - RANK_SLACK)));
}

function sorted(buckets: ReadonlyMap<number, number>): [number, number][] {
  return [...buckets].sort((a, b) => a[0] - b[0]);
}

/**
 * Quantiles by nearest rank: the middle of the bucket that holds the ceil(q * n)-th smallest value, at most
 * HISTOGRAM_RELATIVE_ERROR away from that value, clamped to [minValue, maxValue].
 *
 * @param ratios each in 0..1
 * @returns one value per ratio; null where the histogram is empty.
 */
export function quantiles(histogram: HistogramCounts, ratios: readonly number[]): (number | null)[] {
  const values: number[] = [];
  const cumulative: number[] = [];
  let total = 0;
  const push = (value: number, count: number): void => {
    total += count;
    values.push(value);
    cumulative.push(total);
  };
  for (const [bucket, count] of sorted(histogram.histNeg).reverse()) push(-bucketMiddle(bucket), count);
  if (histogram.histZero > 0) push(0, histogram.histZero);
  for (const [bucket, count] of sorted(histogram.histPos)) push(bucketMiddle(bucket), count);
  return ratios.map((ratio) => {
    if (total === 0) return null;
    const rank = rankOf(ratio, total);
    const value = values[cumulative.findIndex((upTo) => upTo >= rank)];
    return Math.min(histogram.maxValue, Math.max(histogram.minValue, value));
  });
}
