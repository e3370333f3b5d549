/**
 * From partials to an answer: merge per window and group, finalise, and say how far each window can be trusted. Pure.
 *
 * A window is closed when its end is behind the watermark of every gateway that can still contribute to it: its own one
 * for a group by series, all active ones for a group by metric. A gateway that fell silent for longer than the time-out
 * holds nothing open any more; an active one that has asserted nothing yet holds everything open.
 */
import { finalise, mergePartials, type WindowPartial } from '../../shared/window/partial.ts';
import { groupKeyText, partialRows, type GroupKey, type PartialRow } from '../../shared/window/partial-columns.ts';
import type { AggregateCapture, PendingException } from '../engine-api.ts';
import type { AggregateAnswer, AggregateQuery, AggregateRow, WindowStatus } from './query-api.ts';

interface MergedWindow {
  readonly group: GroupKey;
  readonly groupText: string;
  readonly windowStartUs: number;
  partial: WindowPartial;
}

/** @param lakeRows partials from the files of the capture, of its definition, in the query's range and of its keys */
export function answerAggregates(
  query: AggregateQuery,
  capture: AggregateCapture,
  lakeRows: Iterable<PartialRow>,
  lakeExceptions: readonly PendingException[],
): AggregateAnswer {
  const windows = mergeWindows(capture, lakeRows);
  const { after } = query;
  const behind = after === null ? windows : windows.filter((window) => compareWindow(window, after) > 0);
  const page = behind.slice(0, query.limit);
  const exceptions = [...lakeExceptions, ...capture.pendingExceptions].filter((exception) => exception.fromUs < exception.toUs);
  const waiting = new Set<string>();
  const rows = page.map((window) => finishRow(window, query, capture, exceptions, waiting));
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

/** One entry per window and group, by window start, then group. */
function mergeWindows(capture: AggregateCapture, lakeRows: Iterable<PartialRow>): MergedWindow[] {
  const windows = new Map<string, MergedWindow>();
  const add = ({ group, windowStartUs, partial }: PartialRow): void => {
    const groupText = groupKeyText(group);
    const key = `${windowStartUs} ${groupText}`;
    const known = windows.get(key);
    if (known === undefined) windows.set(key, { group, groupText, windowStartUs, partial });
    else known.partial = mergePartials(known.partial, partial);
  };
  for (const row of lakeRows) add(row);
  for (const columns of capture.tail) for (const row of partialRows(columns)) add(row);
  return [...windows.values()].sort((a, b) => a.windowStartUs - b.windowStartUs || compareText(a.groupText, b.groupText));
}

function finishRow(
  window: MergedWindow,
  query: AggregateQuery,
  capture: AggregateCapture,
  exceptions: readonly PendingException[],
  waiting: Set<string>,
): AggregateRow {
  const { group, partial, windowStartUs } = window;
  const windowEndUs = windowStartUs + capture.definition.sizeMs * 1000;
  const holders = holdersOf(group, windowEndUs, capture);
  for (const gateway of holders) waiting.add(gateway);
  const status: WindowStatus = holders.length > 0 ? 'provisional' : partial.late > 0 ? 'revised' : 'final';
  const loss = lossOf(group, windowStartUs, windowEndUs, exceptions);
  return {
    windowStartUs,
    windowEndUs,
    gateway: group.gateway,
    device: group.device,
    metric: group.metric,
    tags: group.tags,
    values: finalise(partial, query.functions),
    status,
    revision: partial.revision,
    late: partial.late,
    lost: loss.count,
    lostIsEstimate: loss.isEstimate,
    complete: status !== 'provisional' && !loss.overlaps,
  };
}

/** The gateways that keep the window open. */
function holdersOf(group: GroupKey, windowEndUs: number, capture: AggregateCapture): string[] {
  const isOpen = (gateway: string): boolean => (capture.watermarks.get(gateway) ?? -Infinity) < windowEndUs;
  const active = group.gateway === null ? capture.activeGateways : capture.activeGateways.filter((gateway) => gateway === group.gateway);
  return active.filter(isOpen);
}

/**
 * What exceptions say is missing. Only an exception that names the row's own keys counts into `count`; one that names
 * less (a whole batch that was lost) makes the number an estimate, since how much of it is this group's is not known.
 */
function lossOf(
  group: GroupKey,
  fromUs: number,
  toUs: number,
  exceptions: readonly PendingException[],
): { count: number; isEstimate: boolean; overlaps: boolean } {
  let count = 0;
  let isEstimate = false;
  let overlaps = false;
  for (const exception of exceptions) {
    if (exception.fromUs >= toUs || exception.toUs <= fromUs || !mayConcern(group, exception)) continue;
    overlaps = true;
    const isNamed = (group.device === null || exception.device !== null) && exception.metric !== null;
    if (!isNamed || exception.readingCount === null) {
      isEstimate = true;
      continue;
    }
    const share = (Math.min(toUs, exception.toUs) - Math.max(fromUs, exception.fromUs)) / (exception.toUs - exception.fromUs);
    if (share < 1) isEstimate = true;
    count += exception.readingCount * share;
  }
  return { count: Math.round(count), isEstimate, overlaps };
}

function mayConcern(group: GroupKey, exception: PendingException): boolean {
  const fits = (key: string | null, name: string | null): boolean => key === null || name === null || key === name;
  return fits(group.gateway, exception.gateway) && fits(group.device, exception.device) && fits(group.metric, exception.metric);
}
