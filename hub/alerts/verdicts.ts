/**
 * What windows say to rules: each window of a group fires, holds or clears. Pure; runs in the thread of the queries, so that
 * of thousands of series only those cross to the main thread that fire, or that an alert is about.
 */
import { finalise, type AggregateFunction, type WindowPartial } from '../../shared/window/partial.ts';
import { groupKeyText, type GroupKey } from '../../shared/window/partial-columns.ts';
import { nameMatcher } from '../name-patterns.ts';
import type { AggregateQuery } from '../query/query-api.ts';
import { tagMatcher, type TagFilter } from '../query/tags.ts';
import type { ThresholdRule } from './rule.ts';

/** `hold`: between firing and clearing. */
export type Verdict = 'fire' | 'hold' | 'clear';

export interface VerdictRow {
  /** groupKeyText of the alert that it is about. */
  readonly key: string;
  readonly startUs: number;
  readonly endUs: number;
  readonly value: number | null;
  readonly verdict: Verdict;
  /** Open windows are there for rules that ask for them. */
  readonly closed: boolean;
}

export type Bounds = Pick<ThresholdRule, 'above' | 'below' | 'clear_above' | 'clear_below'>;

export interface RuleTask {
  readonly name: string;
  readonly gateways: readonly string[] | null;
  readonly devices: readonly string[] | null;
  readonly metrics: readonly string[] | null;
  readonly tags: TagFilter | null;
  readonly condition:
    | {
        readonly kind: 'threshold';
        readonly function: AggregateFunction;
        readonly bounds: Bounds;
        readonly early: boolean;
        /** Judged is the value minus that of the window so long before; 0: the value. */
        readonly changeUs: number;
      }
    | { readonly kind: 'absence'; readonly by: 'gateway' | 'device' | 'series'; readonly forUs: number };
  /** Alerts that there are, and groups that may become one: their windows are wanted whatever they say. */
  readonly known: readonly string[];
  /** Further groups that fire; those beyond are counted. */
  readonly newMax: number;
}

export interface VerdictQuery {
  /** Windows that start in its range, of its gateways. */
  readonly windows: AggregateQuery;
  /** Windows that end at or before it are closed; null: as the watermarks of all active gateways have it (windows by metric). */
  readonly closedUs: number | null;
  /** Thresholds judge windows that end behind it. */
  readonly baseUs: number;
  readonly rules: readonly RuleTask[];
}

export interface RuleVerdicts {
  readonly name: string;
  /** Of a rule of absence: one a group, at `closedUs`; `startUs` is the end of the last window that had a reading. */
  readonly rows: readonly VerdictRow[];
  readonly surplus: number;
}

export interface VerdictAnswer {
  readonly readingsVersion: number;
  /** false: something that is in the lake or was received could not be read, so silence means nothing. */
  readonly whole: boolean;
  readonly closedUs: number;
  readonly rules: readonly RuleVerdicts[];
}

export interface JudgedWindow {
  readonly group: GroupKey;
  readonly groupText: string;
  readonly windowStartUs: number;
  readonly partial: WindowPartial;
}

/** NaN and null are no values: a window without numbers says nothing. */
export function judge(value: number, { above, below, clear_above: clearAbove, clear_below: clearBelow }: Bounds): Verdict {
  if ((above !== undefined && value > above) || (below !== undefined && value < below)) return 'fire';
  const isClear = value <= (clearBelow ?? above ?? Infinity) && value >= (clearAbove ?? below ?? -Infinity);
  return isClear ? 'clear' : 'hold';
}

interface Collected {
  readonly rows: VerdictRow[];
  isWanted: boolean;
}

/** A function of the windows of a group, with the extremes that tell at once that most groups fire nowhere. */
interface Values {
  readonly of: readonly (number | null)[];
  /** Of the windows that are judged: closed ones, and all. */
  readonly closed: Extremes;
  readonly all: Extremes;
}

interface Extremes {
  least: number;
  most: number;
}

interface Span {
  readonly sizeUs: number;
  readonly baseUs: number;
  readonly closedUs: number;
}

type Threshold = Extract<RuleTask['condition'], { kind: 'threshold' }>;

/**
 * Cost: a lookup for each group, and two comparisons for each rule that watches it. Rules that watch other metrics, gateways
 * or devices cost a group nothing.
 *
 * @param sizeUs length of the windows
 */
export function judgeWindows(
  windows: readonly JudgedWindow[],
  { rules, baseUs }: Pick<VerdictQuery, 'rules' | 'baseUs'>,
  sizeUs: number,
  closedUs: number,
): RuleVerdicts[] {
  const span: Span = { sizeUs, baseUs, closedUs };
  const index = new RuleIndex(rules);
  const slots = slotsOf(rules);
  const collected = rules.map(() => new Map<string, Collected>());
  const known = rules.map((rule) => new Set(rule.known));
  const knownTo = new Map<string, Set<number>>();
  rules.forEach((rule, at) => rule.known.forEach((key) => knownTo.set(key, (knownTo.get(key) ?? new Set<number>()).add(at))));
  for (const [text, own] of byGroup(windows)) {
    const { group } = own[0];
    const tested: (boolean | undefined)[] = [];
    const knowing = knownTo.get(text);
    const values: (Values | undefined)[] = [];
    for (const at of index.candidates(group)) {
      if (!index.watches(at, group, tested)) continue;
      const { condition } = rules[at];
      if (condition.kind === 'absence') {
        for (const window of own) hear(collected[at], known[at], condition.by, window, sizeUs, closedUs);
        continue;
      }
      const slot = slots[at];
      const found = (values[slot] ??= valuesOf(own, condition, span));
      if (firesIn(condition.early ? found.all : found.closed, condition.bounds) || knowing?.has(at) === true)
        judgeGroup(collected[at], condition, own, found.of, span);
    }
  }
  return rules.map((rule, at) => {
    const { condition } = rule;
    if (condition.kind === 'absence') endSilence(collected[at], condition.forUs, closedUs);
    return limited(rule, collected[at], known[at]);
  });
}

function byGroup(windows: readonly JudgedWindow[]): Map<string, JudgedWindow[]> {
  const groups = new Map<string, JudgedWindow[]>();
  for (const window of windows) {
    const own = groups.get(window.groupText);
    if (own === undefined) groups.set(window.groupText, [window]);
    else own.push(window);
  }
  return groups;
}

/** Rules that look at the same values share a place for them. */
function slotsOf(rules: readonly RuleTask[]): number[] {
  const places = new Map<string, number>();
  return rules.map(({ condition }) => {
    const text = condition.kind === 'threshold' ? `${condition.function} ${condition.changeUs}` : '';
    const place = places.get(text) ?? places.size;
    places.set(text, place);
    return place;
  });
}

/** Which rules watch a group. Patterns are tried once for each name, not for each group. */
class RuleIndex {
  readonly #rules: readonly RuleTask[];
  readonly #byMetric = new Map<string | null, Map<string | null, readonly number[]>>();
  readonly #metric: readonly NameTest[];
  readonly #gateway: readonly NameTest[];
  readonly #tags: readonly ((tags: string | null) => boolean)[];
  /** Each list of devices once: rules share them. */
  readonly #deviceTests: readonly NameTest[];
  /** Of each rule the place of its list there; -1: any device. */
  readonly #deviceTestOf: readonly number[];

  constructor(rules: readonly RuleTask[]) {
    this.#rules = rules;
    this.#metric = rules.map(({ metrics }) => nameTest(metrics));
    this.#gateway = rules.map(({ gateways }) => nameTest(gateways));
    this.#tags = rules.map(({ tags }) => (tags === null ? () => true : tagMatcher(tags)));
    const lists = [...new Set(rules.flatMap(({ devices }) => (devices === null ? [] : [JSON.stringify(devices)])))];
    this.#deviceTests = lists.map((list) => nameTest(JSON.parse(list) as string[]));
    this.#deviceTestOf = rules.map(({ devices }) => (devices === null ? -1 : lists.indexOf(JSON.stringify(devices))));
  }

  /** Those that name its metric and gateway, each to be asked with `watches`. */
  candidates({ metric, gateway }: GroupKey): readonly number[] {
    let byGateway = this.#byMetric.get(metric);
    if (byGateway === undefined) this.#byMetric.set(metric, (byGateway = new Map<string | null, readonly number[]>()));
    let candidates = byGateway.get(gateway);
    if (candidates === undefined) {
      candidates = this.#rules.flatMap((_, at) => (this.#metric[at](metric) && this.#gateway[at](gateway) ? [at] : []));
      byGateway.set(gateway, candidates);
    }
    return candidates;
  }

  /** @param tested of the group: what its device has been tested for */
  watches(at: number, { device, tags }: GroupKey, tested: (boolean | undefined)[]): boolean {
    const test = this.#deviceTestOf[at];
    if (test !== -1 && !(tested[test] ??= this.#deviceTests[test](device))) return false;
    return this.#rules[at].tags === null || this.#tags[at](tags);
  }
}

type NameTest = (name: string | null) => boolean;

/** @param names null: any, also none */
function nameTest(names: readonly string[] | null): NameTest {
  if (names === null) return () => true;
  const matches = nameMatcher(names);
  const known = new Map<string | null, boolean>([[null, false]]);
  return (name) => {
    let isIn = known.get(name);
    if (isIn === undefined) known.set(name, (isIn = name !== null && matches(name)));
    return isIn;
  };
}

function valuesOf(windows: readonly JudgedWindow[], condition: Threshold, span: Span): Values {
  const { function: name, changeUs } = condition;
  const own = windows.map(({ partial }) => finalise(partial, [name])[0]);
  const values = changeUs === 0 ? own : changesOf(windows, own, changeUs);
  const closed: Extremes = { least: Infinity, most: -Infinity };
  const all: Extremes = { least: Infinity, most: -Infinity };
  for (let at = 0; at < values.length; at++) {
    const value = values[at];
    const endUs = windows[at].windowStartUs + span.sizeUs;
    if (value === null || endUs <= span.baseUs) continue;
    widen(all, value);
    if (endUs <= span.closedUs) widen(closed, value);
  }
  return { of: values, closed, all };
}

/** Each value minus that of the window so long before; null where there is none. */
function changesOf(windows: readonly JudgedWindow[], values: readonly (number | null)[], changeUs: number): (number | null)[] {
  const byStart = new Map(windows.map(({ windowStartUs }, at) => [windowStartUs, values[at]]));
  return windows.map(({ windowStartUs }, at) => {
    const before = byStart.get(windowStartUs - changeUs) ?? null;
    const now = values[at];
    return before === null || now === null ? null : now - before;
  });
}

function widen(extremes: Extremes, value: number): void {
  if (value < extremes.least) extremes.least = value;
  if (value > extremes.most) extremes.most = value;
}

function firesIn({ least, most }: Extremes, { above, below }: Bounds): boolean {
  return (above !== undefined && most > above) || (below !== undefined && least < below);
}

/** Of a group that fires, or that an alert is about. */
function judgeGroup(
  groups: Map<string, Collected>,
  { bounds, early }: Threshold,
  windows: readonly JudgedWindow[],
  values: readonly (number | null)[],
  { sizeUs, baseUs, closedUs }: Span,
): void {
  const key = windows[0].groupText;
  const rows: VerdictRow[] = [];
  windows.forEach(({ windowStartUs }, at) => {
    const value = values[at];
    const endUs = windowStartUs + sizeUs;
    const closed = endUs <= closedUs;
    if (value === null || endUs <= baseUs || !(early || closed)) return;
    rows.push({ key, startUs: windowStartUs, endUs, value, verdict: judge(value, bounds), closed });
  });
  groups.set(key, { rows, isWanted: true });
}

function entryOf(groups: Map<string, Collected>, known: ReadonlySet<string>, key: string): Collected {
  let entry = groups.get(key);
  if (entry === undefined) groups.set(key, (entry = { rows: [], isWanted: known.has(key) }));
  return entry;
}

/** Keeps the newest window with readings. Open ones are signs of life as well. */
function hear(
  groups: Map<string, Collected>,
  known: ReadonlySet<string>,
  by: 'gateway' | 'device' | 'series',
  { group, groupText, windowStartUs, partial }: JudgedWindow,
  sizeUs: number,
  closedUs: number,
): void {
  if (partial.n === 0 && partial.nan === 0) return;
  const key =
    by === 'series' ? groupText : groupKeyText({ ...group, device: by === 'device' ? group.device : null, metric: null, tags: null });
  const entry = entryOf(groups, known, key);
  const heardUs = windowStartUs + sizeUs;
  if (entry.rows.length > 0 && entry.rows[0].startUs >= heardUs) return;
  entry.rows[0] = { key, startUs: heardUs, endUs: closedUs, value: null, verdict: 'clear', closed: true };
}

function endSilence(groups: Map<string, Collected>, forUs: number, closedUs: number): void {
  for (const entry of groups.values()) {
    const [row] = entry.rows;
    if (closedUs - row.startUs < forUs) continue;
    entry.rows[0] = { ...row, verdict: 'fire', value: (closedUs - row.startUs) / 1e6 };
    entry.isWanted = true;
  }
}

function limited({ name, newMax }: RuleTask, groups: ReadonlyMap<string, Collected>, known: ReadonlySet<string>): RuleVerdicts {
  const rows: VerdictRow[] = [];
  let fresh = 0;
  let surplus = 0;
  // By name: which of too many are shown does not depend on the order in which rows came.
  for (const [key, entry] of [...groups].filter(([, { isWanted }]) => isWanted).sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (!known.has(key) && ++fresh > newMax) surplus++;
    else rows.push(...entry.rows.sort((a, b) => a.endUs - b.endUs));
  }
  return { name, rows, surplus };
}
