/**
 * The algebra of partials: aggregate state of one window of one group that merges in any order.
 *
 * Merging is associative and commutative, exactly for counts, extremes, first, last and histograms, up to rounding for
 * sum, mean and m2. Only finite values are aggregated; NaN and the infinities are counted in `nan`, readings that have
 * only a text not at all. -0 counts as 0.
 */
import { SluiceError } from '../errors.ts';
import { quantiles } from './histogram.ts';

/** The columns of `aggregates` that are state; which window and group it belongs to is the holder's business. */
export interface WindowPartial {
  /** Finite values. When 0, mean, m2 and sumValue are 0 and the six fields after them NaN (null in the lake). */
  readonly n: number;
  readonly mean: number;
  /** Sum of squared differences from the mean. */
  readonly m2: number;
  readonly sumValue: number;
  readonly minValue: number;
  readonly maxValue: number;
  /** Smallest by (time, value). */
  readonly firstValue: number;
  readonly firstTsUs: number;
  /** Greatest by (time, value). */
  readonly lastValue: number;
  readonly lastTsUs: number;
  /** Bucket -> count, as shared/window/histogram.ts defines buckets; of the absolute value for histNeg. */
  readonly histPos: ReadonlyMap<number, number>;
  readonly histNeg: ReadonlyMap<number, number>;
  readonly histZero: number;
  /** NaN and ±Infinity. */
  readonly nan: number;
  /** Readings that arrived after their window was closed. */
  readonly late: number;
  /** How many partials brought something late: a closed window with revision 0 is final, otherwise revised. */
  readonly revision: number;
  /** Generation of a recomputation from `readings`: a higher one replaces all lower ones. */
  readonly gen: number;
  /** The versions (srcFrom, srcTo] of `readings` behind it; (Infinity, -Infinity] for what is not from a version yet. */
  readonly srcFrom: number;
  readonly srcTo: number;
}

export const EMPTY_PARTIAL: WindowPartial = {
  n: 0,
  mean: 0,
  m2: 0,
  sumValue: 0,
  minValue: NaN,
  maxValue: NaN,
  firstValue: NaN,
  firstTsUs: NaN,
  lastValue: NaN,
  lastTsUs: NaN,
  histPos: new Map(),
  histNeg: new Map(),
  histZero: 0,
  nan: 0,
  late: 0,
  revision: 0,
  gen: 0,
  srcFrom: Infinity,
  srcTo: -Infinity,
};

function mergeBuckets(a: ReadonlyMap<number, number>, b: ReadonlyMap<number, number>): ReadonlyMap<number, number> {
  if (b.size === 0) return a;
  if (a.size === 0) return b;
  const merged = new Map(a);
  for (const [bucket, count] of b) merged.set(bucket, (merged.get(bucket) ?? 0) + count);
  return merged;
}

/** The order that makes first and last independent of arrival: by time, equal times by value. */
function isBefore(aTsUs: number, aValue: number, bTsUs: number, bValue: number): boolean {
  return aTsUs < bTsUs || (aTsUs === bTsUs && aValue < bValue);
}

type ValueState = Pick<
  WindowPartial,
  'n' | 'mean' | 'm2' | 'sumValue' | 'minValue' | 'maxValue' | 'firstValue' | 'firstTsUs' | 'lastValue' | 'lastTsUs'
>;

function mergeValues(a: WindowPartial, b: WindowPartial): ValueState {
  if (b.n === 0) return a;
  if (a.n === 0) return b;
  const n = a.n + b.n;
  // Chan, Golub, LeVeque (1979): merging means and sums of squares without cancellation.
  const delta = b.mean - a.mean;
  const first = isBefore(b.firstTsUs, b.firstValue, a.firstTsUs, a.firstValue) ? b : a;
  const last = isBefore(a.lastTsUs, a.lastValue, b.lastTsUs, b.lastValue) ? b : a;
  return {
    n,
    mean: a.mean + delta * (b.n / n),
    m2: a.m2 + b.m2 + delta * delta * ((a.n * b.n) / n),
    sumValue: a.sumValue + b.sumValue,
    minValue: Math.min(a.minValue, b.minValue),
    maxValue: Math.max(a.maxValue, b.maxValue),
    firstValue: first.firstValue,
    firstTsUs: first.firstTsUs,
    lastValue: last.lastValue,
    lastTsUs: last.lastTsUs,
  };
}

/** Both as one. Of different generations the higher one stands alone. */
export function mergePartials(a: WindowPartial, b: WindowPartial): WindowPartial {
  if (a.gen !== b.gen) return a.gen > b.gen ? a : b;
  const { n, mean, m2, sumValue, minValue, maxValue, firstValue, firstTsUs, lastValue, lastTsUs } = mergeValues(a, b);
  return {
    n,
    mean,
    m2,
    sumValue,
    minValue,
    maxValue,
    firstValue,
    firstTsUs,
    lastValue,
    lastTsUs,
    histPos: mergeBuckets(a.histPos, b.histPos),
    histNeg: mergeBuckets(a.histNeg, b.histNeg),
    histZero: a.histZero + b.histZero,
    nan: a.nan + b.nan,
    late: a.late + b.late,
    revision: a.revision + b.revision,
    gen: a.gen,
    srcFrom: Math.min(a.srcFrom, b.srcFrom),
    srcTo: Math.max(a.srcTo, b.srcTo),
  };
}

export const NAMED_FUNCTIONS = ['count', 'sum', 'mean', 'min', 'max', 'first', 'last', 'stddev', 'variance', 'delta'] as const;
/** p50, p95, p99.9: a percentile from the histogram. */
export type PercentileName = `p${number}`;
export type AggregateFunction = (typeof NAMED_FUNCTIONS)[number] | PercentileName;

export const DEFAULT_FUNCTIONS: readonly AggregateFunction[] = [
  'count',
  'sum',
  'mean',
  'min',
  'max',
  'first',
  'last',
  'stddev',
  'p50',
  'p95',
  'p99',
];

const PERCENTILE_PATTERN = /^p(100|[0-9]{1,2}(?:\.[0-9]{1,3})?)$/;

/** No other function begins with a p. */
function isPercentile(name: AggregateFunction): name is PercentileName {
  return name.startsWith('p');
}

/** An answer finalises thousands of windows with one list. */
const ratiosByList = new WeakMap<readonly AggregateFunction[], readonly number[]>();

function ratiosOf(functions: readonly AggregateFunction[]): readonly number[] {
  let ratios = ratiosByList.get(functions);
  if (ratios === undefined) {
    ratios = functions.filter(isPercentile).map((name) => Number(name.slice(1)) / 100);
    ratiosByList.set(functions, ratios);
  }
  return ratios;
}

/**
 * @throws SluiceError ERR_WINDOW_FUNCTION for a name that is neither in NAMED_FUNCTIONS nor p0 … p100.
 */
export function parseFunction(name: string): AggregateFunction {
  if ((NAMED_FUNCTIONS as readonly string[]).includes(name) || PERCENTILE_PATTERN.test(name)) return name as AggregateFunction;
  throw new SluiceError(
    'ERR_WINDOW_FUNCTION',
    `no function '${name.slice(0, 64)}' (there are ${NAMED_FUNCTIONS.join(', ')} and p0 to p100, p99.9 too)`,
  );
}

function namedValue(partial: WindowPartial, name: (typeof NAMED_FUNCTIONS)[number]): number | null {
  if (name === 'count') return partial.n;
  if (partial.n === 0) return null;
  switch (name) {
    case 'sum':
      return partial.sumValue;
    case 'mean':
      return partial.mean;
    case 'min':
      return partial.minValue;
    case 'max':
      return partial.maxValue;
    case 'first':
      return partial.firstValue;
    case 'last':
      return partial.lastValue;
    case 'variance':
      return partial.n < 2 ? null : partial.m2 / (partial.n - 1);
    case 'stddev':
      return partial.n < 2 ? null : Math.sqrt(partial.m2 / (partial.n - 1));
    case 'delta':
      return partial.lastValue - partial.firstValue;
  }
}

/**
 * The results of one window, in the order of `functions`.
 *
 * Variance and stddev are the sample's (n - 1), null below two values. Percentiles are within HISTOGRAM_RELATIVE_ERROR.
 * Null as well where there is no value, and where a sum left the range of a double.
 */
export function finalise(partial: WindowPartial, functions: readonly AggregateFunction[]): (number | null)[] {
  const ratios = ratiosOf(functions);
  const percentiles = ratios.length === 0 ? [] : quantiles(partial, ratios);
  let next = 0;
  return functions.map((name) => {
    const value = isPercentile(name) ? percentiles[next++] : namedValue(partial, name);
    return value !== null && Number.isFinite(value) ? value : null;
  });
}
