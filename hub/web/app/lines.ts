/** Window rows as lines of a chart: pure, so that it can be tested without a browser. */
import type { AggregateRow, WindowStatus } from './answers.ts';
import { LINES_MAX } from './view.ts';

export interface LinePoint {
  readonly startMs: number;
  readonly count: number;
  readonly mean: number | null;
  readonly min: number | null;
  readonly max: number | null;
  readonly status: WindowStatus;
  readonly lost: number;
  readonly lostIsEstimate: boolean;
  readonly complete: boolean;
}

export interface Line {
  readonly key: string;
  readonly label: string;
  /** In ascending start. */
  readonly points: readonly LinePoint[];
}

function tagsText(tags: AggregateRow['tags']): string {
  return tags === null || tags === undefined
    ? ''
    : Object.entries(tags)
        .map(([name, value]) => `${name}=${value}`)
        .join(' ');
}

function lineKey(row: AggregateRow): string {
  return JSON.stringify([row.gateway ?? null, row.device ?? null, tagsText(row.tags)]);
}

/** The rows of one view, merged as they come: a newer row of the same window and group replaces the older one. */
export class RowSet {
  #rows = new Map<string, Map<number, AggregateRow>>();

  merge(rows: readonly AggregateRow[]): void {
    for (const row of rows) {
      const key = lineKey(row);
      let line = this.#rows.get(key);
      if (line === undefined) this.#rows.set(key, (line = new Map()));
      line.set(Date.parse(row.window_start), row);
    }
  }

  clear(): void {
    this.#rows.clear();
  }

  /** Forgets what has left the range: a page that is open for days stays small. */
  dropBefore(startMs: number): void {
    for (const [key, line] of this.#rows) {
      for (const start of line.keys()) if (start < startMs) line.delete(start);
      if (line.size === 0) this.#rows.delete(key);
    }
  }

  /** At most LINES_MAX, by device, then tags; names carry as much as tells them apart. */
  lines(): { lines: Line[]; hidden: number } {
    const entries = [...this.#rows.entries()].map(([key, rows]) => ({ key, rows, row: [...rows.values()][0] }));
    entries.sort((a, b) => a.key.localeCompare(b.key, 'en', { numeric: true }));
    const severalGateways = new Set(entries.map(({ row }) => row.gateway)).size > 1;
    const lines = entries.slice(0, LINES_MAX).map(({ key, rows, row }) => ({
      key,
      label: labelOf(row, severalGateways),
      points: [...rows.entries()].sort(([a], [b]) => a - b).map(([startMs, point]) => pointOf(startMs, point)),
    }));
    return { lines, hidden: Math.max(0, entries.length - LINES_MAX) };
  }
}

function labelOf(row: AggregateRow, withGateway: boolean): string {
  if (row.device === null || row.device === undefined) return 'All devices';
  const tags = tagsText(row.tags);
  return [withGateway ? `${row.gateway ?? ''} / ${row.device}` : row.device, ...(tags === '' ? [] : [tags])].join(' · ');
}

function pointOf(
  startMs: number,
  { count, mean = null, min = null, max = null, status, lost, lost_is_estimate, complete }: AggregateRow,
): LinePoint {
  // null: some are missing, and nobody knows how many.
  return { startMs, count, mean, min, max, status, lost: lost ?? 0, lostIsEstimate: lost_is_estimate || lost === null, complete };
}

/** Aligned columns: one common time axis without holes, so that a window without readings is a gap in the line. */
export interface ChartColumns {
  readonly startsSeconds: number[];
  readonly lines: readonly {
    /** The mean of closed windows. */
    readonly closed: (number | null)[];
    /** The mean of open windows, from the last closed one on so that the line does not break. */
    readonly open: (number | null)[];
    readonly min: (number | null)[];
    readonly max: (number | null)[];
  }[];
  /** Index of the first open window; null: none is open. */
  readonly openFrom: number | null;
  /** Indexes of windows that miss readings. */
  readonly lossy: readonly number[];
}

/** Wider than this the axis is cut at its old end: a stray window of long ago must not become a million slots. */
const SLOTS_MAX = 2_000;

export function chartColumns(lines: readonly Line[], sizeMs: number): ChartColumns {
  const starts = lines.flatMap(({ points }) => points.map(({ startMs }) => startMs));
  if (starts.length === 0)
    return { startsSeconds: [], lines: lines.map(() => ({ closed: [], open: [], min: [], max: [] })), openFrom: null, lossy: [] };
  const lastMs = starts.reduce((a, b) => Math.max(a, b));
  const firstMs = Math.max(
    starts.reduce((a, b) => Math.min(a, b)),
    lastMs - (SLOTS_MAX - 1) * sizeMs,
  );
  const slots = Math.round((lastMs - firstMs) / sizeMs) + 1;
  const lossy = new Set<number>();
  let openFrom: number | null = null;
  const columns = lines.map(({ points }) => {
    const empty = (): (number | null)[] => Array.from({ length: slots }, () => null);
    const column = { closed: empty(), open: empty(), min: empty(), max: empty() };
    for (const point of points) {
      const slot = Math.round((point.startMs - firstMs) / sizeMs);
      if (slot < 0) continue;
      const isOpen = point.status === 'provisional';
      (isOpen ? column.open : column.closed)[slot] = point.mean;
      column.min[slot] = point.min;
      column.max[slot] = point.max;
      if (point.lost > 0 || (!isOpen && !point.complete)) lossy.add(slot);
      if (isOpen) openFrom = openFrom === null ? slot : Math.min(openFrom, slot);
    }
    joinOpen(column.closed, column.open);
    return column;
  });
  return {
    startsSeconds: Array.from({ length: slots }, (_, slot) => (firstMs + slot * sizeMs) / 1000),
    lines: columns,
    openFrom,
    lossy: [...lossy].sort((a, b) => a - b),
  };
}

function joinOpen(closed: readonly (number | null)[], open: (number | null)[]): void {
  for (let slot = 0; slot + 1 < open.length; slot++) {
    if (closed[slot] !== null && open[slot] === null && open[slot + 1] !== null && closed[slot + 1] === null)
      open[slot] = closed[slot] ?? null;
  }
}

/** One window over all lines that are shown: what the table below the chart says. */
export interface WindowSummary {
  readonly startMs: number;
  readonly status: WindowStatus;
  readonly count: number;
  readonly mean: number | null;
  readonly min: number | null;
  readonly max: number | null;
  readonly lost: number;
  readonly lostIsEstimate: boolean;
  readonly complete: boolean;
}

/** @returns the newest first; open if one line is, revised if one is */
export function newestWindows(lines: readonly Line[], limit: number): WindowSummary[] {
  const byStart = new Map<number, LinePoint[]>();
  for (const { points } of lines) {
    for (const point of points.slice(-limit)) {
      const known = byStart.get(point.startMs);
      if (known === undefined) byStart.set(point.startMs, [point]);
      else known.push(point);
    }
  }
  return [...byStart.entries()]
    .sort(([a], [b]) => b - a)
    .slice(0, limit)
    .map(([startMs, points]) => summaryOf(startMs, points));
}

function summaryOf(startMs: number, points: readonly LinePoint[]): WindowSummary {
  const measured = points.filter(({ mean, count }) => mean !== null && count > 0);
  const count = points.reduce((sum, point) => sum + point.count, 0);
  const weight = measured.reduce((sum, point) => sum + point.count, 0);
  const extreme = (pick: (a: number, b: number) => number, values: (number | null)[]): number | null => {
    const present = values.filter((value) => value !== null);
    return present.length === 0 ? null : present.reduce((a, b) => pick(a, b));
  };
  const statuses = new Set(points.map(({ status }) => status));
  return {
    startMs,
    status: statuses.has('provisional') ? 'provisional' : statuses.has('revised') ? 'revised' : 'final',
    count,
    mean: weight === 0 ? null : measured.reduce((sum, point) => sum + (point.mean ?? 0) * (point.count / weight), 0),
    min: extreme(
      Math.min,
      points.map(({ min }) => min),
    ),
    max: extreme(
      Math.max,
      points.map(({ max }) => max),
    ),
    lost: points.reduce((sum, point) => sum + point.lost, 0),
    lostIsEstimate: points.some(({ lostIsEstimate }) => lostIsEstimate),
    complete: points.every(({ complete }) => complete),
  };
}
