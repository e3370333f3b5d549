/**
 * What the windows must say, by the plain definitions over sorted values.
 *
 * Deliberately naive and without shared/window: a mistake there must not be made here as well.
 */
import type { CountedSeries } from './compare-readings.ts';
import type { AggregateName } from './hub-client.ts';

/** The default definitions that are compared. */
export const COMPARED_WINDOWS = [
  { name: '1m', sizeUs: 60_000_000, by: 'series' },
  { name: '1h', sizeUs: 3_600_000_000, by: 'series' },
  { name: '1m_by_metric', sizeUs: 60_000_000, by: 'metric' },
] as const;
export type ComparedWindow = (typeof COMPARED_WINDOWS)[number];

interface Point {
  readonly eventTimeUs: number;
  readonly value: number;
}

export interface ExpectedWindow {
  readonly windowStartUs: number;
  /** For messages: device/metric, or the metric. */
  readonly label: string;
  /** Ascending by value. */
  readonly sorted: readonly number[];
  readonly sum: number;
  /** Sum of the absolute values: what rounding of the sum is measured against. */
  readonly absoluteSum: number;
  readonly mean: number;
  /** Of the sample (n - 1); null below two values. */
  readonly stddev: number | null;
  /** By (time, value): the order that breaks ties of equal times. */
  readonly first: number;
  readonly last: number;
}

/** One string per group; the gateway and device are empty in windows by metric. */
export function windowKey(
  by: ComparedWindow['by'],
  row: { gateway: string | null; device: string | null; metric: string; tags: string },
  windowStartUs: number,
): string {
  return by === 'metric'
    ? `${row.metric}\u0000${windowStartUs}`
    : `${row.gateway ?? ''}\u0000${row.device ?? ''}\u0000${row.metric}\u0000${row.tags}\u0000${windowStartUs}`;
}

function summarise(label: string, windowStartUs: number, points: readonly Point[]): ExpectedWindow {
  const values = points.map((point) => point.value);
  const sum = values.reduce((total, value) => total + value, 0);
  const mean = sum / values.length;
  const squares = values.reduce((total, value) => total + (value - mean) ** 2, 0);
  const inOrder = [...points].sort((a, b) => a.eventTimeUs - b.eventTimeUs || a.value - b.value);
  return {
    windowStartUs,
    label,
    sorted: values.sort((a, b) => a - b),
    sum,
    absoluteSum: values.reduce((total, value) => total + Math.abs(value), 0),
    mean,
    stddev: values.length < 2 ? null : Math.sqrt(squares / (values.length - 1)),
    first: inOrder[0].value,
    last: (inOrder.at(-1) as Point).value,
  };
}

/** Windows with at least one number; texts are in no window. */
export function expectedWindows(
  definition: ComparedWindow,
  counted: readonly CountedSeries[],
  range: { fromUs: number; toUs: number },
  metrics: ReadonlySet<string>,
): Map<string, ExpectedWindow> {
  const groups = new Map<string, { label: string; windowStartUs: number; points: Point[] }>();
  for (const series of counted) {
    if (!metrics.has(series.metric) || (definition.by === 'series' && !series.simulated)) continue;
    const label = definition.by === 'metric' ? series.metric : `${series.device}/${series.metric}`;
    for (const row of series.rows) {
      if (!Number.isFinite(row.value)) continue;
      const windowStartUs = row.eventTimeUs - (row.eventTimeUs % definition.sizeUs);
      if (windowStartUs < range.fromUs || windowStartUs >= range.toUs) continue;
      const key = windowKey(definition.by, series, windowStartUs);
      const group = groups.get(key);
      if (group === undefined) groups.set(key, { label, windowStartUs, points: [row] });
      else group.points.push(row);
    }
  }
  return new Map([...groups].map(([key, { label, windowStartUs, points }]) => [key, summarise(label, windowStartUs, points)]));
}

/** Half a bucket of the exponential histogram of scale 5, as the API states it. */
const PERCENTILE_RELATIVE_ERROR = 2 ** (1 / 64) - 1 + 1e-9;
/** Sums are added in another order here than there. */
const SUM_RELATIVE_ERROR = 1e-11;
const STDDEV_RELATIVE_ERROR = 1e-6;
/** Rounding of a mean of large values shows in the deviation of nearly equal ones. */
const STDDEV_MAGNITUDE_ERROR = 1e-12;

function near(actual: number | null, expected: number, tolerance: number): boolean {
  return actual !== null && Math.abs(actual - expected) <= tolerance;
}

function nearestRank(sorted: readonly number[], ratio: number): number {
  return sorted[Math.max(1, Math.ceil(ratio * sorted.length - 1e-9)) - 1];
}

/** What is wrong with an answer: 'mean 3 instead of 4', …; empty when all functions are right. */
export function wrongValues(expected: ExpectedWindow, actual: Readonly<Record<AggregateName, number | null>>): string[] {
  const { sorted } = expected;
  const min = sorted[0];
  const max = sorted.at(-1) as number;
  const magnitude = Math.max(Math.abs(min), Math.abs(max));
  const sumTolerance = expected.absoluteSum * SUM_RELATIVE_ERROR;
  const wrong: string[] = [];
  const check = (name: AggregateName, value: number, right: boolean): void => {
    if (!right) wrong.push(`${name} ${String(actual[name])} instead of ${value}`);
  };
  check('count', sorted.length, actual.count === sorted.length);
  check('sum', expected.sum, near(actual.sum, expected.sum, sumTolerance));
  check('mean', expected.mean, near(actual.mean, expected.mean, sumTolerance / sorted.length));
  check('min', min, actual.min === min);
  check('max', max, actual.max === max);
  check('first', expected.first, actual.first === expected.first);
  check('last', expected.last, actual.last === expected.last);
  if (expected.stddev === null) check('stddev', NaN, actual.stddev === null || actual.stddev === 0);
  else
    check(
      'stddev',
      expected.stddev,
      near(actual.stddev, expected.stddev, expected.stddev * STDDEV_RELATIVE_ERROR + magnitude * STDDEV_MAGNITUDE_ERROR),
    );
  for (const [name, ratio] of [
    ['p50', 0.5],
    ['p95', 0.95],
    ['p99', 0.99],
  ] as const) {
    const value = nearestRank(sorted, ratio);
    check(name, value, near(actual[name], value, Math.abs(value) * PERCENTILE_RELATIVE_ERROR));
  }
  return wrong;
}
