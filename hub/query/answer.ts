/**
 * From partials to an answer: merge per window and group, finalise, and say how far each window can be trusted. Pure.
 *
 * A window is closed when its end is behind the watermark of every gateway that can still contribute to it: its own one
 * for a group of one gateway, all that are asked for otherwise. A gateway that fell silent for longer than the time-out
 * holds nothing open any more; an active one that has asserted nothing yet holds everything open.
 *
 * Windows are merged further as asked: into steps of several windows, and over keys that are not grouped by.
 */
import { EMPTY_PARTIAL, finalise, mergePartials, type WindowPartial } from '../../shared/window/partial.ts';
import { partialColumnsOf } from '../../shared/window/packed-partials.ts';
import { groupKeyText, partialRows, type GroupKey, type PartialRow } from '../../shared/window/partial-columns.ts';
import { SluiceError } from '../../shared/errors.ts';
import { slideUsOf } from '../../shared/window/definition.ts';
import type { AggregateCapture, PendingException } from '../engine-api.ts';
import { nameMatcher } from '../name-patterns.ts';
import { fillValues } from './fill.ts';
import type { AggregateAnswer, AggregateQuery, AggregateRow, WindowStatus } from './query-api.ts';
import { projectTags, tagMatcher } from './tags.ts';

/** Windows of groups that one answer may be filled to. */
const FILLED_ROWS_MAX = 200_000;

export interface MergedWindow {
  readonly group: GroupKey;
  readonly groupText: string;
  readonly windowStartUs: number;
  partial: WindowPartial;
  /** Where there was no reading: what fill= makes of it. */
  readonly values?: readonly (number | null)[];
}

/** @param lakeRows partials from the files of the capture, of its definition, in the query's range and of its keys */
export function answerAggregates(
  query: AggregateQuery,
  capture: AggregateCapture,
  lakeRows: Iterable<PartialRow>,
  lakeExceptions: readonly PendingException[],
): AggregateAnswer {
  const merged = mergeWindows(query, capture, lakeRows);
  const windows = (query.fill ?? null) === null ? merged : filled(merged, query, capture);
  const sign = query.order === 'desc' ? -1 : 1;
  windows.sort((a, b) => sign * compareWindow(a, { windowStartUs: b.windowStartUs, group: b.groupText }));
  const { after } = query;
  const behind = after === null ? windows : windows.filter((window) => sign * compareWindow(window, after) > 0);
  const page = behind.slice(0, query.limit);
  const exceptions = [...lakeExceptions, ...capture.pendingExceptions].filter((exception) => exception.fromUs < exception.toUs);
  const waiting = new Set<string>();
  const holdersOf = holders(query, capture);
  const rows = page.map((window) => finishRow(window, query, capture, exceptions, holdersOf, waiting));
  const last = page.at(-1);
  return {
    aggregatesVersion: capture.aggregatesVersion,
    readingsVersion: capture.readingsVersion,
    rows,
    next: last === undefined || behind.length === page.length ? null : { windowStartUs: last.windowStartUs, group: last.groupText },
    waitingFor: [...waiting].sort(),
    overlayComplete: capture.overlayComplete,
  };
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function compareWindow(window: MergedWindow, other: { readonly windowStartUs: number; readonly group: string }): number {
  return window.windowStartUs - other.windowStartUs || compareText(window.groupText, other.group);
}

/** Length of a row's span: a window, or a step of several. */
function spanUs(query: AggregateQuery, capture: AggregateCapture): number {
  return query.stepUs ?? capture.definition.sizeMs * 1000;
}

/** One entry per step and group. */
export function mergeWindows(query: AggregateQuery, capture: AggregateCapture, lakeRows: Iterable<PartialRow>): MergedWindow[] {
  // By group, then start: a text for each window would cost more than all the rest.
  const groups = new Map<string, Map<number, MergedWindow>>();
  const { stepUs = null, tags = null, groupBy = null } = query;
  const hasTags = tags === null ? null : tagMatcher(tags);
  const project = projection(groupBy);
  const add = ({ group: own, windowStartUs: ownStartUs, partial }: PartialRow): void => {
    if (hasTags !== null && !hasTags(own.tags)) return;
    const { group, groupText } = project(own);
    const windowStartUs = stepUs === null ? ownStartUs : Math.floor(ownStartUs / stepUs) * stepUs;
    let windows = groups.get(groupText);
    if (windows === undefined) groups.set(groupText, (windows = new Map<number, MergedWindow>()));
    const known = windows.get(windowStartUs);
    if (known === undefined) windows.set(windowStartUs, { group, groupText, windowStartUs, partial });
    else known.partial = mergePartials(known.partial, partial);
  };
  for (const row of lakeRows) add(row);
  for (const sent of capture.tail) for (const row of partialRows(partialColumnsOf(sent))) add(row);
  return [...groups.values()].flatMap((windows) => [...windows.values()]);
}

/** Keys that are not grouped by become null. Each group is looked at once. */
function projection(groupBy: readonly string[] | null): (group: GroupKey) => { readonly group: GroupKey; readonly groupText: string } {
  const known = new Map<string, { readonly group: GroupKey; readonly groupText: string }>();
  const keys = groupBy === null ? null : new Set(groupBy);
  const tagKeys = (groupBy ?? []).filter((key) => key.startsWith('tag:')).map((key) => key.slice(4));
  // Rows of a group come one after the other, with one object for its keys.
  let previous: { readonly own: GroupKey; readonly projected: { readonly group: GroupKey; readonly groupText: string } } | null = null;
  return (own) => {
    if (previous?.own === own) return previous.projected;
    const text = groupKeyText(own);
    let projected = known.get(text);
    if (projected === undefined) {
      const of = (key: 'gateway' | 'device' | 'metric'): string | null => (keys === null || keys.has(key) ? own[key] : null);
      const tags = keys === null || keys.has('tags') ? own.tags : projectTags(own.tags, tagKeys);
      const group = { gateway: of('gateway'), device: of('device'), metric: of('metric'), tags };
      projected = { group, groupText: groupKeyText(group) };
      known.set(text, projected);
    }
    previous = { own, projected };
    return projected;
  };
}

/** Every group has a row in every step of the range. */
function filled(merged: readonly MergedWindow[], query: AggregateQuery, capture: AggregateCapture): MergedWindow[] {
  const { stepUs = null } = query;
  const everyUs = stepUs ?? slideUsOf(capture.definition);
  const firstUs = stepUs === null ? Math.ceil(query.fromUs / everyUs) * everyUs : Math.floor(query.fromUs / everyUs) * everyUs;
  const steps = Math.max(0, Math.ceil((query.toUs - firstUs) / everyUs));
  const groups = new Map<string, Map<number, MergedWindow>>();
  for (const window of merged) {
    let group = groups.get(window.groupText);
    if (group === undefined) groups.set(window.groupText, (group = new Map<number, MergedWindow>()));
    group.set(window.windowStartUs, window);
  }
  if (groups.size * steps > FILLED_ROWS_MAX) {
    throw new SluiceError(
      'ERR_QUERY_TOO_LARGE',
      `filling ${groups.size} groups in ${steps} windows gives ${groups.size * steps} rows, at most ${FILLED_ROWS_MAX} are made: ask for a shorter range, fewer series or a longer step`,
    );
  }
  return [...groups.values()].flatMap((windows) =>
    fillGroup(
      windows,
      Array.from({ length: steps }, (_, step) => firstUs + step * everyUs),
      query,
    ),
  );
}

function fillGroup(windows: ReadonlyMap<number, MergedWindow>, startsUs: readonly number[], query: AggregateQuery): MergedWindow[] {
  const [any] = windows.values();
  const rows = startsUs.map((startUs) => {
    const window = windows.get(startUs);
    return window === undefined || window.partial.n === 0 ? null : finalise(window.partial, query.functions);
  });
  const values = fillValues(rows, query.functions, query.fill ?? 'null');
  return startsUs.map(
    (windowStartUs, index) =>
      windows.get(windowStartUs) ?? {
        group: any.group,
        groupText: any.groupText,
        windowStartUs,
        partial: EMPTY_PARTIAL,
        values: values[index],
      },
  );
}

function finishRow(
  window: MergedWindow,
  query: AggregateQuery,
  capture: AggregateCapture,
  exceptions: readonly PendingException[],
  holdersOf: ReturnType<typeof holders>,
  waiting: Set<string>,
): AggregateRow {
  const { group, partial, windowStartUs } = window;
  const windowEndUs = windowStartUs + spanUs(query, capture);
  const open = holdersOf(group, windowEndUs);
  for (const gateway of open) waiting.add(gateway);
  const status: WindowStatus = open.length > 0 ? 'provisional' : partial.late > 0 ? 'revised' : 'final';
  const loss = lossOf(group, windowStartUs, windowEndUs, exceptions);
  return {
    windowStartUs,
    windowEndUs,
    gateway: group.gateway,
    device: group.device,
    metric: group.metric,
    tags: group.tags,
    values: window.values ?? finalise(partial, query.functions),
    status,
    revision: partial.revision,
    late: partial.late,
    lost: loss.count,
    lostIsEstimate: loss.isEstimate,
    complete: status !== 'provisional' && !loss.overlaps,
  };
}

/** The gateways that keep a window open. */
export function holders({ gateways }: AggregateQuery, capture: AggregateCapture): (group: GroupKey, windowEndUs: number) => string[] {
  const isAsked = gateways === null ? () => true : nameMatcher(gateways);
  const watermarks = capture.activeGateways.map((gateway) => ({ gateway, us: capture.watermarks.get(gateway) ?? -Infinity }));
  const leastUs = Math.min(Infinity, ...watermarks.map(({ us }) => us));
  return (group, windowEndUs) => {
    // Most windows are closed for all.
    if (leastUs >= windowEndUs) return [];
    return watermarks
      .filter(({ gateway, us }) => us < windowEndUs && (group.gateway === null ? isAsked(gateway) : gateway === group.gateway))
      .map(({ gateway }) => gateway);
  };
}

/**
 * What exceptions say is missing. Only an exception that names the row's own keys counts into `count`; one that names
 * less (a whole batch that was lost) makes the number an estimate, since how much of it is this group's is not known: null
 * where nothing else is known either.
 */
export function lossOf(
  group: GroupKey,
  fromUs: number,
  toUs: number,
  exceptions: readonly PendingException[],
): { count: number | null; isEstimate: boolean; overlaps: boolean } {
  let count = 0;
  let isEstimate = false;
  let isUnknown = false;
  let overlaps = false;
  for (const exception of exceptions) {
    if (exception.fromUs >= toUs || exception.toUs <= fromUs || !mayConcern(group, exception)) continue;
    overlaps = true;
    const isNamed = (group.device === null || exception.device !== null) && exception.metric !== null;
    if (!isNamed || exception.readingCount === null) {
      isEstimate = true;
      isUnknown = true;
      continue;
    }
    const share = (Math.min(toUs, exception.toUs) - Math.max(fromUs, exception.fromUs)) / (exception.toUs - exception.fromUs);
    if (share < 1) isEstimate = true;
    count += exception.readingCount * share;
  }
  return { count: isUnknown && count === 0 ? null : Math.round(count), isEstimate, overlaps };
}

function mayConcern(group: GroupKey, exception: PendingException): boolean {
  const fits = (key: string | null, name: string | null): boolean => key === null || name === null || key === name;
  return fits(group.gateway, exception.gateway) && fits(group.device, exception.device) && fits(group.metric, exception.metric);
}
