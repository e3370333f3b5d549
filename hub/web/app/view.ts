/** What the reader has chosen; it stands in the address after #, so that a link shows the same. */
import type { WindowDefinition } from './answers.ts';
import { listOf, type Parameters } from './api.ts';

/** More lines than colours that can be told apart help nobody. */
export const LINES_MAX = 8;

export interface View {
  readonly metric: string;
  readonly window: string;
  readonly rangeMs: number;
  /** null: the first LINES_MAX of the metric. Only for windows by series. */
  readonly device: string | null;
}

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;

/** From a good first look to what still draws in one piece; the first is the default. */
const RANGES_MS = [5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS, 6 * HOUR_MS, DAY_MS, 7 * DAY_MS, 30 * DAY_MS];
const POINTS_MIN = 20;
const POINTS_MAX = 1_500;

/** At least one: a window of any size has a range of its own. */
export function rangesOf(definition: WindowDefinition): readonly number[] {
  const fitting = RANGES_MS.filter((rangeMs) => rangeMs >= POINTS_MIN * definition.size_ms && rangeMs <= POINTS_MAX * definition.size_ms);
  const first = fitting.slice(0, 4);
  return first.length > 0 ? first : [POINTS_MIN * definition.size_ms];
}

/** Sixty points or so: fine enough to see, coarse enough to come at once. */
export function defaultRange(definition: WindowDefinition): number {
  const ranges = rangesOf(definition);
  return ranges.find((rangeMs) => rangeMs >= 60 * definition.size_ms) ?? ranges[0] ?? POINTS_MIN * definition.size_ms;
}

export function readView(hash: string): Partial<View> {
  const parameters = new URLSearchParams(hash.replace(/^#/, ''));
  const rangeMs = Number(parameters.get('range')) * 1000;
  return {
    ...(parameters.has('metric') ? { metric: parameters.get('metric') ?? '' } : {}),
    ...(parameters.has('window') ? { window: parameters.get('window') ?? '' } : {}),
    ...(Number.isFinite(rangeMs) && rangeMs > 0 ? { rangeMs } : {}),
    ...(parameters.has('device') ? { device: parameters.get('device') } : {}),
  };
}

export function writeView({ metric, window, rangeMs, device }: View): string {
  const parameters = new URLSearchParams({ metric, window, range: String(rangeMs / 1000), ...(device === null ? {} : { device }) });
  return `#${parameters.toString()}`;
}

export const FUNCTIONS = 'count,mean,min,max';

/** Which windows: the same for aggregates, stream, CSV and the command line. */
export function viewFilter(view: View, devices: readonly string[] | null): Parameters {
  return {
    window: view.window,
    metric: listOf([view.metric]),
    ...(devices === null ? {} : { device: listOf(devices) }),
    functions: FUNCTIONS,
  };
}

/** `now-1h` and the like, as the API takes it. */
export function sinceExpression(rangeMs: number): string {
  for (const [unitMs, unit] of [
    [DAY_MS, 'd'],
    [HOUR_MS, 'h'],
    [MINUTE_MS, 'm'],
  ] as const) {
    if (rangeMs % unitMs === 0) return `now-${rangeMs / unitMs}${unit}`;
  }
  return `now-${Math.round(rangeMs / 1000)}s`;
}
