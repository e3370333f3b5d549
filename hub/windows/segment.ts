/**
 * Sums over pieces of a run: the only code of the windows that is done once for each reading.
 *
 * Pure, but for the scratch that it is given.
 */
import { bucketCodeOfWords, HIGH_WORD } from '../../shared/window/histogram.ts';
import { FIRST, FIRST_TS, LAST, LAST_TS, M2, MAX, MEAN, MIN, N, SUM } from './slot-layout.ts';

const LOW_WORD = 1 - HIGH_WORD;

/** The readings of a batch, and the span of event time that a piece may have. */
export interface RunColumns {
  readonly times: Float64Array;
  readonly values: Float64Array;
  /** `values` as 32-bit words. */
  readonly words: Int32Array;
  /** Index + 1 of the text of each reading, or 0; null: there are none. */
  readonly text: Uint32Array | null;
  /** From, to: half-open. */
  readonly spanUs: Float64Array;
}

/** What one piece of a run brings to a slot; `stats` has N … LAST_TS as a slot, START unused. */
export class Segment {
  readonly stats = new Float64Array(LAST_TS + 1);
  /** Code, count, code, count, …; a code may come again. */
  readonly pairs: Int32Array;
  pairCount = 0;
  nan = 0;

  /** @param readingsMax of a piece */
  constructor(readingsMax: number) {
    this.pairs = new Int32Array(readingsMax * 2);
  }
}

/** A reading that has text and no number is counted nowhere. */
export function isTextOnly(run: RunColumns, index: number): boolean {
  const value = run.values[index];
  return value !== value && run.text !== null && run.text[index] !== 0;
}

/**
 * Sums up readings from `from` on, up to `end` or the first one outside the span: n … last µs into `into` at `at`, which
 * keeps everything but an n of 0 where there is no finite value; codes and NaNs into the segment, with a pair for each
 * change of the code.
 *
 * @param end at most as far behind `from` as the segment has room for
 * @returns the index after the last reading taken, at least from + 1 if that one is in the span
 */
export function sumUp(run: RunColumns, from: number, end: number, segment: Segment, into: Float64Array, at: number): number {
  const { times, values, words, text, spanUs } = run;
  const fromUs = spanUs[0];
  const toUs = spanUs[1];
  const { pairs } = segment;
  let pair = -2;
  let code = 0;
  let repeats = 0;
  let n = 0;
  let nan = 0;
  let shift = 0;
  let sum = 0;
  let shiftedSum = 0;
  let shiftedSquares = 0;
  let min = 0;
  let max = 0;
  let firstTs = 0;
  let first = 0;
  let lastTs = -Infinity;
  let last = 0;
  let i = from;
  do {
    const t = times[i];
    if (!(t >= fromUs && t < toUs)) break; // NaN too: the next call refuses it
    const v = values[i] + 0; // -0 becomes 0
    if (v - v !== 0) {
      if (v === v || text === null || text[i] === 0) nan++;
      continue;
    }
    const own = bucketCodeOfWords(words[i * 2 + HIGH_WORD], words[i * 2 + LOW_WORD]);
    if (n === 0) {
      pair = 0;
      pairs[0] = code = own;
      shift = min = max = v;
      firstTs = lastTs = t;
      first = last = v;
      sum = v;
      n = repeats = 1;
      continue;
    }
    n++;
    if (own === code) repeats++;
    else {
      pairs[pair + 1] = repeats;
      pair += 2;
      pairs[pair] = code = own;
      repeats = 1;
    }
    sum += v;
    // Shifted by one of the values the squares exceed m2 at most (n + 1) times: no cancellation to speak of.
    const distance = v - shift;
    shiftedSum += distance;
    shiftedSquares += distance * distance;
    if (v < min) min = v;
    if (v > max) max = v;
    if (t > lastTs) {
      lastTs = t;
      last = v;
      continue;
    }
    if (t === lastTs && v > last) last = v;
    if (t < firstTs || (t === firstTs && v < first)) {
      firstTs = t;
      first = v;
    }
  } while (++i < end);
  segment.pairCount = (pair + 2) >> 1;
  segment.nan = nan;
  into[at + N] = n;
  if (n === 0) return i;
  pairs[pair + 1] = repeats;
  into[at + MEAN] = sum / n;
  into[at + M2] = Math.max(0, shiftedSquares - (shiftedSum * shiftedSum) / n);
  into[at + SUM] = sum;
  into[at + MIN] = min;
  into[at + MAX] = max;
  into[at + FIRST] = first;
  into[at + FIRST_TS] = firstTs;
  into[at + LAST] = last;
  into[at + LAST_TS] = lastTs;
  return i;
}
