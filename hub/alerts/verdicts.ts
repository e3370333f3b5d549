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
    | { readonly kind: 'threshold'; readonly function: AggregateFunction; readonly bounds: Bounds; readonly early: boolean }
    | { readonly kind: 'absence'; readonly by: 'device' | 'series'; readonly forUs: number };
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

/** @param sizeUs length of the windows */
export function judgeWindows(
  windows: readonly JudgedWindow[],
  { rules }: Pick<VerdictQuery, 'rules'>,
  sizeUs: number,
  closedUs: number,
): RuleVerdicts[] {
  const fits = rules.map(groupFilter);
  const collected = rules.map(() => new Map<string, Collected>());
  const known = rules.map((rule) => new Set(rule.known));
  const byGroup = new Map<string, JudgedWindow[]>();
  for (const window of windows) {
    const own = byGroup.get(window.groupText);
    if (own === undefined) byGroup.set(window.groupText, [window]);
    else own.push(window);
  }
  for (const own of byGroup.values()) {
    const { group } = own[0];
    const values = new Map<AggregateFunction, (number | null)[]>();
    rules.forEach(({ condition }, index) => {
      if (!fits[index](group)) return;
      if (condition.kind === 'absence') {
        for (const window of own) hear(collected[index], known[index], condition.by, window, sizeUs, closedUs);
        return;
      }
      let results = values.get(condition.function);
      if (results === undefined) {
        results = own.map(({ partial }) => finalise(partial, [condition.function])[0]);
        values.set(condition.function, results);
      }
      judgeGroup(collected[index], known[index], condition, own, results, sizeUs, closedUs);
    });
  }
  return rules.map((rule, index) => {
    const { condition } = rule;
    if (condition.kind === 'absence') endSilence(collected[index], condition.forUs, closedUs);
    return limited(rule, collected[index], known[index]);
  });
}

function groupFilter({ gateways, devices, metrics, tags }: RuleTask): (group: GroupKey) => boolean {
  const any = (): boolean => true;
  const name = (names: readonly string[] | null): ((own: string | null) => boolean) => {
    if (names === null) return any;
    const matches = nameMatcher(names);
    return (own) => own !== null && matches(own);
  };
  const [gateway, device, metric] = [name(gateways), name(devices), name(metrics)];
  const tag = tags === null ? any : tagMatcher(tags);
  return (group) => gateway(group.gateway) && device(group.device) && metric(group.metric) && tag(group.tags);
}

function entryOf(groups: Map<string, Collected>, known: ReadonlySet<string>, key: string): Collected {
  let entry = groups.get(key);
  if (entry === undefined) groups.set(key, (entry = { rows: [], isWanted: known.has(key) }));
  return entry;
}

/** Most groups fire in no window: nothing is made for them. */
function judgeGroup(
  groups: Map<string, Collected>,
  known: ReadonlySet<string>,
  { bounds, early }: Extract<RuleTask['condition'], { kind: 'threshold' }>,
  windows: readonly JudgedWindow[],
  values: readonly (number | null)[],
  sizeUs: number,
  closedUs: number,
): void {
  const key = windows[0].groupText;
  const isJudged = (index: number): boolean => values[index] !== null && (early || windows[index].windowStartUs + sizeUs <= closedUs);
  const fires = values.some((value, index) => value !== null && isJudged(index) && judge(value, bounds) === 'fire');
  if (!fires && !known.has(key)) return;
  const entry = entryOf(groups, known, key);
  entry.isWanted = true;
  windows.forEach(({ windowStartUs }, index) => {
    const value = values[index];
    const endUs = windowStartUs + sizeUs;
    if (value === null || !isJudged(index)) return;
    entry.rows.push({ key, startUs: windowStartUs, endUs, value, verdict: judge(value, bounds), closed: endUs <= closedUs });
  });
}

/** Keeps the newest window with readings. Open ones are signs of life as well. */
function hear(
  groups: Map<string, Collected>,
  known: ReadonlySet<string>,
  by: 'device' | 'series',
  { group, groupText, windowStartUs, partial }: JudgedWindow,
  sizeUs: number,
  closedUs: number,
): void {
  if (partial.n === 0 && partial.nan === 0) return;
  const key = by === 'series' ? groupText : groupKeyText({ ...group, metric: null, tags: null });
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
