/**
 * Rules and alerts in memory: what the entries of the log add up to. Only entries change it, in their order, so that every
 * hub of a lake has the same book at the same version.
 *
 * Bounds: rules, alerts of a rule (by who makes the entries), resolved alerts that are kept: the oldest are forgotten, and
 * counted.
 */
import { groupKeyText } from '../../shared/window/partial-columns.ts';
import type { Alert, Entry, Snapshot } from './alert.ts';
import type { AlertRule } from './rule.ts';
import type { Progress } from './state-machine.ts';

/** About 400 bytes each: 4 MB. */
export const HISTORY_MAX = 10_000;

export interface StoredRule {
  readonly rule: AlertRule;
  /** Of the entry that set it. */
  readonly version: number;
  readonly updatedUs: number;
}

export class AlertBook {
  version = 0;
  committedUs = 0;
  readonly rules = new Map<string, StoredRule>();
  /** Window name → gateway → end of the last window that was evaluated. */
  readonly frontiers = new Map<string, Map<string, number>>();
  /** Rule → group → what it was at its base; inactive ones are absent. */
  readonly bases = new Map<string, Map<string, Progress>>();
  /** Rule → group → alert that is pending or firing. */
  readonly active = new Map<string, Map<string, Alert>>();
  /** Resolved, oldest first. */
  history: Alert[] = [];
  forgotten = 0;
  /** Transitions since this hub's start, by the state that they led to. */
  readonly transitions = { pending: 0, firing: 0, resolved: 0 };

  apply(entry: Entry): void {
    if (entry.version !== this.version + 1) throw new Error(`entry ${entry.version} does not follow ${this.version}`);
    this.version = entry.version;
    this.committedUs = entry.committedUs;
    for (const alert of entry.alerts) this.#take(alert);
    for (const [name, rule] of Object.entries(entry.rules)) {
      this.bases.delete(name);
      if (rule === null) this.rules.delete(name);
      else this.rules.set(name, { rule, version: entry.version, updatedUs: entry.committedUs });
    }
    for (const [window, gateways] of Object.entries(entry.frontiers))
      for (const [gateway, us] of Object.entries(gateways)) this.moveFrontier(window, gateway, us);
    for (const [rule, groups] of Object.entries(entry.bases)) {
      const own = mapAt(this.bases, rule);
      for (const [key, progress] of Object.entries(groups)) {
        if (progress === null) own.delete(key);
        else own.set(key, { phase: progress[0], sinceUs: progress[1] });
      }
    }
  }

  /** Without an entry: where nothing else has changed, a crash costs nothing but evaluating again. */
  moveFrontier(window: string, gateway: string, us: number): void {
    mapAt(this.frontiers, window).set(gateway, us);
  }

  #take(alert: Alert): void {
    const own = mapAt(this.active, alert.rule);
    this.transitions[alert.state]++;
    if (alert.state !== 'resolved') {
      own.set(groupKeyText(alert), alert);
      return;
    }
    own.delete(groupKeyText(alert));
    if (own.size === 0) this.active.delete(alert.rule);
    this.history.push(alert);
    this.#forget();
  }

  #forget(): void {
    // Seldom many at once: an array is moved once for a hundred.
    if (this.history.length < HISTORY_MAX + 100) return;
    this.forgotten += this.history.length - HISTORY_MAX;
    this.history = this.history.slice(-HISTORY_MAX);
  }

  *alerts(): Generator<Alert> {
    for (const own of this.active.values()) yield* own.values();
    yield* this.history;
  }

  /** Those that an entry behind the version has changed. */
  changedSince(version: number): Alert[] {
    const changed = [...this.active.values()].flatMap((own) => [...own.values()].filter((alert) => alert.version > version));
    return [...changed, ...this.#historyWhile((alert) => alert.version > version)];
  }

  /** Those that hold, and those that ended at or after a time by the clock of the hub; null: those that hold. */
  holding(endedSinceUs: number | null): Alert[] {
    const active = [...this.active.values()].flatMap((own) => [...own.values()]);
    return endedSinceUs === null ? active : [...active, ...this.#historyWhile(({ updatedUs }) => updatedUs >= endedSinceUs)];
  }

  /** Newest first; versions and times of entries only ever rise. */
  #historyWhile(isWanted: (alert: Alert) => boolean): Alert[] {
    const end = this.history.findLastIndex((alert) => !isWanted(alert));
    return this.history.slice(end + 1).reverse();
  }

  activeOf(rule: string): ReadonlyMap<string, Alert> {
    return this.active.get(rule) ?? NONE;
  }

  toSnapshot(): Snapshot {
    const plain = <T, U>(map: ReadonlyMap<string, T>, of: (value: T) => U): Record<string, U> =>
      Object.fromEntries([...map].map(([key, value]) => [key, of(value)]));
    return {
      format: 1,
      version: this.version,
      committedUs: this.committedUs,
      rules: plain(this.rules, (rule) => rule),
      frontiers: plain(this.frontiers, (gateways) => Object.fromEntries(gateways)),
      bases: plain(this.bases, (groups) =>
        plain(groups, ({ phase, sinceUs }): ['pending' | 'firing', number] => [phase === 'pending' ? 'pending' : 'firing', sinceUs]),
      ),
      active: [...this.active.values()].flatMap((own) => [...own.values()]),
      history: this.history,
      forgotten: this.forgotten,
    };
  }

  static fromSnapshot(snapshot: Snapshot): AlertBook {
    const book = new AlertBook();
    book.version = snapshot.version;
    book.committedUs = snapshot.committedUs;
    for (const [name, rule] of Object.entries(snapshot.rules)) book.rules.set(name, rule);
    for (const [window, gateways] of Object.entries(snapshot.frontiers)) book.frontiers.set(window, new Map(Object.entries(gateways)));
    for (const [rule, groups] of Object.entries(snapshot.bases))
      for (const [key, progress] of Object.entries(groups))
        if (progress !== null) mapAt(book.bases, rule).set(key, { phase: progress[0], sinceUs: progress[1] });
    for (const alert of snapshot.active) mapAt(book.active, alert.rule).set(groupKeyText(alert), alert);
    book.history = [...snapshot.history];
    book.forgotten = snapshot.forgotten;
    return book;
  }
}

const NONE: ReadonlyMap<string, Alert> = new Map();

function mapAt<T>(maps: Map<string, Map<string, T>>, key: string): Map<string, T> {
  let map = maps.get(key);
  if (map === undefined) maps.set(key, (map = new Map<string, T>()));
  return map;
}
