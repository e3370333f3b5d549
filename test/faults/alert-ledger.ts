/** When alerts of a known level must have fired and been resolved, and whether they were: once each, at the right times. */
import type { Finding } from './finding.ts';

export interface LevelReading {
  readonly timeMs: number;
  readonly level: number;
}

/** Times in ms since the Unix epoch. */
export interface ExpectedAlert {
  /** Start of the first window above the bound. */
  readonly sinceMs: number;
  /** End of the first window that is not, behind it; null: it still fires. */
  readonly resolvedMs: number | null;
}

/** As `/v1/alerts` and the stream tell it, as far as the lab looks at it. */
export interface AlertRow {
  readonly id: string;
  readonly device: string;
  readonly state: 'pending' | 'firing' | 'resolved';
  readonly since: string;
  readonly resolved_at: string | null;
}

/** A rule `max above bound` over tumbling windows, by the readings of one device; windows without readings change nothing. */
export function expectedAlerts(readings: readonly LevelReading[], windowMs: number, bound: number): ExpectedAlert[] {
  const highest = new Map<number, number>();
  for (const { timeMs, level } of readings) {
    const start = timeMs - (timeMs % windowMs);
    highest.set(start, Math.max(highest.get(start) ?? -Infinity, level));
  }
  const alerts: ExpectedAlert[] = [];
  let sinceMs: number | null = null;
  for (const [start, level] of [...highest].sort(([a], [b]) => a - b)) {
    if (level > bound) sinceMs ??= start;
    else if (sinceMs !== null) {
      alerts.push({ sinceMs, resolvedMs: start + windowMs });
      sinceMs = null;
    }
  }
  return sinceMs === null ? alerts : [...alerts, { sinceMs, resolvedMs: null }];
}

/**
 * What was told over a stream, each alert as often as it was told. Alerts are known by their ids; a state that is told again after a
 * break is no second transition, but an alert that fires after it was resolved is.
 */
export class ToldAlerts {
  readonly #states = new Map<string, AlertRow>();
  readonly contradictions: string[] = [];

  take(row: AlertRow): void {
    const before = this.#states.get(row.id);
    if (before?.state === 'resolved' && row.state !== 'resolved')
      this.contradictions.push(`${row.id} of ${row.device} was told as ${row.state} after it was resolved`);
    this.#states.set(row.id, row);
  }

  rows(): readonly AlertRow[] {
    return [...this.#states.values()];
  }
}

const EXAMPLES_MAX = 5;

/** @param rows of the same device, whatever states */
export function compareAlerts(where: string, device: string, expected: readonly ExpectedAlert[], rows: readonly AlertRow[]): Finding {
  const result = { due: expected.length, found: 0, lost: 0, duplicated: 0, again: 0, invented: 0 };
  const examples: string[] = [];
  const example = (text: string): void => {
    if (examples.length < EXAMPLES_MAX) examples.push(`${text} ${where}`);
  };
  const bySince = new Map<number, AlertRow[]>();
  for (const row of rows) {
    const since = Date.parse(row.since);
    bySince.set(since, [...(bySince.get(since) ?? []), row]);
  }
  for (const { sinceMs, resolvedMs } of expected) {
    const own = bySince.get(sinceMs) ?? [];
    bySince.delete(sinceMs);
    const name = `alert of ${device} since ${new Date(sinceMs).toISOString()}`;
    if (own.length === 0) {
      result.lost++;
      example(`missing: ${name}`);
      continue;
    }
    result.found++;
    if (own.length > 1) {
      result.duplicated += own.length - 1;
      example(`${own.length} times: ${name}`);
    }
    const resolved = own[0].resolved_at === null ? null : Date.parse(own[0].resolved_at);
    if (resolved === resolvedMs) continue;
    result.invented++;
    const text = (ms: number | null): string => (ms === null ? 'never' : new Date(ms).toISOString());
    example(`${name} was resolved ${text(resolved)}, not ${text(resolvedMs)},`);
  }
  for (const [since, own] of bySince) {
    result.invented += own.length;
    example(`nothing was to fire: alert of ${device} since ${new Date(since).toISOString()}`);
  }
  return { ...result, examples };
}
