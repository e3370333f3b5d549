/** What there is to choose from: metrics and their devices, out of the list of series. Pure. */
import type { SeriesAnswer, WindowDefinition } from './answers.ts';
import { defaultRange, type View } from './view.ts';

export interface MetricEntry {
  readonly metric: string;
  /** By name, digits as numbers. */
  readonly devices: readonly string[];
  readonly firstMs: number;
  readonly lastMs: number;
}

export interface Catalogue {
  readonly metrics: ReadonlyMap<string, MetricEntry>;
  /** There are more series than are listed here. */
  readonly isPartial: boolean;
}

export const EMPTY_CATALOGUE: Catalogue = { metrics: new Map(), isPartial: false };

export function catalogueOf({ rows, truncated, next_cursor }: SeriesAnswer): Catalogue {
  const found = new Map<string, { devices: Set<string>; firstMs: number; lastMs: number }>();
  for (const { metric, device, first_ts, last_ts } of rows) {
    let entry = found.get(metric);
    if (entry === undefined) found.set(metric, (entry = { devices: new Set(), firstMs: Infinity, lastMs: -Infinity }));
    entry.devices.add(device);
    if (first_ts !== null) entry.firstMs = Math.min(entry.firstMs, Date.parse(first_ts));
    if (last_ts !== null) entry.lastMs = Math.max(entry.lastMs, Date.parse(last_ts));
  }
  const inOrder = new Intl.Collator('en', { numeric: true }).compare;
  const metrics = [...found.entries()]
    .sort(([a], [b]) => inOrder(a, b))
    .map(([metric, { devices, firstMs, lastMs }]): [string, MetricEntry] => [
      metric,
      { metric, devices: [...devices].sort(inOrder), firstMs, lastMs },
    ]);
  return { metrics: new Map(metrics), isPartial: truncated || next_cursor !== null };
}

/** A young fleet has no minutes to show: until there are so many of them, finer windows by device say more. */
const YOUNG_MS = 8 * 60_000;

/** The first look: what the address says, the rest chosen so that there is something to see. null: nothing to choose from. */
export function firstView(
  catalogue: Catalogue,
  definitions: readonly WindowDefinition[],
  wanted: Partial<View>,
  nowMs: number,
): View | null {
  const entry = catalogue.metrics.get(wanted.metric ?? '') ?? liveliest(catalogue, nowMs);
  if (entry === undefined) return null;
  const metric = wanted.metric ?? entry.metric;
  const isYoung = nowMs - entry.firstMs < YOUNG_MS;
  const bySize = [...definitions].sort((a, b) => a.size_ms - b.size_ms);
  const named = definitions.find(({ name }) => name === wanted.window);
  const byMetric = bySize.find(({ by }) => by === 'metric');
  const bySeries = bySize.find(({ by }) => by === 'series');
  const definition = named ?? (isYoung || wanted.device !== undefined ? (bySeries ?? byMetric) : (byMetric ?? bySeries));
  if (definition === undefined) return null;
  const device = definition.by === 'series' ? (wanted.device ?? null) : null;
  return { metric, window: definition.name, rangeMs: wanted.rangeMs ?? defaultRange(definition), device };
}

/** Where several are as good as another: everybody has an idea of it, and it moves. */
const FAVOURITE = 'temperature';

/** Of the metrics that are alive the one that most devices have: a machine's own metrics come last that way. */
function liveliest({ metrics }: Catalogue, nowMs: number): MetricEntry | undefined {
  const alive = [...metrics.values()].filter(({ lastMs }) => nowMs - lastMs < 5 * 60_000);
  return [...(alive.length > 0 ? alive : metrics.values())].sort(
    (a, b) => b.devices.length - a.devices.length || Number(b.metric === FAVOURITE) - Number(a.metric === FAVOURITE),
  )[0];
}
