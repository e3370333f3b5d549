/**
 * Functions of a range: the samples [from, to) of a series that lie in (startUs, endUs] → one number, or null for none.
 *
 * As Prometheus 3 computes them (promql/functions.go), the extrapolation of rate, increase and delta included.
 */
import type { Samples } from './samples.ts';

export interface Range {
  readonly samples: Samples;
  readonly from: number;
  readonly to: number;
  readonly startUs: number;
  readonly endUs: number;
}

type RangeFunction = (range: Range, parameter: number) => number | null;

function sumOf(column: ArrayLike<number>, { from, to }: Range): number {
  // Kahan's compensation as Prometheus has it: ranges of mixed magnitudes come out alike.
  let sum = 0;
  let compensation = 0;
  for (let index = from; index < to; index++) {
    const value = column[index];
    const next = sum + value;
    if (Number.isFinite(next)) compensation += Math.abs(sum) >= Math.abs(value) ? sum - next + value : value - next + sum;
    sum = next;
  }
  return sum + compensation;
}

function varianceOf(range: Range): number {
  const { samples, from, to } = range;
  let n = 0;
  let mean = 0;
  let m2 = 0;
  for (let index = from; index < to; index++) {
    const count = samples.n[index];
    const delta = samples.sum[index] / count - mean;
    const total = n + count;
    mean += delta * (count / total);
    m2 += samples.m2[index] + delta * delta * ((n * count) / total);
    n = total;
  }
  return m2 / n;
}

/** Between readings and over their ends: how much of the range the readings stand for. */
function extrapolated(range: Range, isCounter: boolean, isRate: boolean): number | null {
  const { samples, from, to, startUs, endUs } = range;
  const first = samples.first[from];
  const firstUs = samples.firstTsUs[from];
  const lastUs = samples.lastTsUs[to - 1];
  const readings = sumOf(samples.n, range);
  const sampledSeconds = (lastUs - firstUs) / 1e6;
  if (readings < 2 || sampledSeconds <= 0) return null;
  let result = samples.last[to - 1] - first;
  if (isCounter) {
    for (let index = from; index < to; index++) {
      result += samples.lostToResets[index];
      const before = index > from ? samples.last[index - 1] : -Infinity;
      if (samples.first[index] < before) result += before;
    }
  }
  const betweenSeconds = sampledSeconds / (readings - 1);
  let toStartSeconds = (firstUs - startUs) / 1e6;
  let toEndSeconds = (endUs - lastUs) / 1e6;
  if (toStartSeconds >= betweenSeconds * 1.1) toStartSeconds = betweenSeconds / 2;
  // A counter was not below zero before the range began.
  if (isCounter && result > 0 && first >= 0) toStartSeconds = Math.min(toStartSeconds, sampledSeconds * (first / result));
  if (toEndSeconds >= betweenSeconds * 1.1) toEndSeconds = betweenSeconds / 2;
  const factor = (sampledSeconds + toStartSeconds + toEndSeconds) / sampledSeconds;
  return isRate ? (result * factor) / ((endUs - startUs) / 1e6) : result * factor;
}

function lastTwo({ samples, to, from }: Range): { before: number; now: number; seconds: number } | null {
  if (to - from < 2) return null;
  return { before: samples.last[to - 2], now: samples.last[to - 1], seconds: (samples.lastTsUs[to - 1] - samples.lastTsUs[to - 2]) / 1e6 };
}

/** Linear between the ranks. @param sorted ascending */
export function quantileOf(sorted: readonly number[], ratio: number): number {
  if (sorted.length === 0 || Number.isNaN(ratio)) return NaN;
  if (ratio < 0) return -Infinity;
  if (ratio > 1) return Infinity;
  const rank = ratio * (sorted.length - 1);
  const lower = Math.max(0, Math.floor(rank));
  const upper = Math.min(sorted.length - 1, lower + 1);
  const weight = rank - Math.floor(rank);
  return sorted[lower] * (1 - weight) + sorted[upper] * weight;
}

/** Slope of the least-squares line, per second. */
function derivative({ samples, from, to }: Range): number | null {
  if (to - from < 2) return null;
  const originUs = samples.lastTsUs[from];
  let [sumX, sumY, sumXy, sumXx] = [0, 0, 0, 0];
  for (let index = from; index < to; index++) {
    const x = (samples.lastTsUs[index] - originUs) / 1e6;
    const y = samples.last[index] - samples.last[from];
    sumX += x;
    sumY += y;
    sumXy += x * y;
    sumXx += x * x;
  }
  const count = to - from;
  return (sumXy - (sumX * sumY) / count) / (sumXx - (sumX * sumX) / count);
}

function countSteps({ samples, from, to }: Range, counts: (before: number, now: number) => boolean): number {
  let count = 0;
  for (let index = from + 1; index < to; index++) if (counts(samples.last[index - 1], samples.last[index])) count++;
  return count;
}

function extremeOf(column: ArrayLike<number>, { from, to }: Range, pick: (a: number, b: number) => number): number {
  let extreme = column[from];
  for (let index = from + 1; index < to; index++) extreme = pick(extreme, column[index]);
  return extreme;
}

/** Of a range that has at least one sample. */
export const RANGE_FUNCTIONS: Readonly<Record<string, RangeFunction>> = {
  avg_over_time: (range) => sumOf(range.samples.sum, range) / sumOf(range.samples.n, range),
  min_over_time: (range) => extremeOf(range.samples.min, range, Math.min),
  max_over_time: (range) => extremeOf(range.samples.max, range, Math.max),
  sum_over_time: (range) => sumOf(range.samples.sum, range),
  count_over_time: (range) => sumOf(range.samples.n, range),
  first_over_time: ({ samples, from }) => samples.first[from],
  last_over_time: ({ samples, to }) => samples.last[to - 1],
  present_over_time: () => 1,
  stddev_over_time: (range) => Math.sqrt(varianceOf(range)),
  stdvar_over_time: varianceOf,
  quantile_over_time: ({ samples, from, to }, ratio) =>
    quantileOf(
      Array.from({ length: to - from }, (_, index) => samples.last[from + index]).sort((a, b) => a - b),
      ratio,
    ),
  rate: (range) => extrapolated(range, true, true),
  increase: (range) => extrapolated(range, true, false),
  delta: (range) => extrapolated(range, false, false),
  irate: (range) => {
    const two = lastTwo(range);
    return two === null || two.seconds === 0 ? null : (two.now < two.before ? two.now : two.now - two.before) / two.seconds;
  },
  idelta: (range) => {
    const two = lastTwo(range);
    return two === null ? null : two.now - two.before;
  },
  deriv: derivative,
  changes: (range) => countSteps(range, (before, now) => before !== now),
  resets: (range) => countSteps(range, (before, now) => now < before),
};
