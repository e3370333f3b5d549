/**
 * Thinning, the pure part: of each series and minute the first, last, smallest and largest reading stay, with their own times
 * and values; the rest becomes gaps with their exact counts.
 *
 * What stays are real readings, so that what is computed from them is true as far as it goes: a counter is exact at the ends
 * of its minutes, a band of minimum and maximum is the band, first and last are first and last. Sums, means and counts are not,
 * and the gaps say so. Of readings that no window aggregates (texts, NaN) first and last stay.
 *
 * First and last are those of the windows: by time, equal times by value (shared/window/partial.ts). A minute that lies in two
 * calls keeps up to four of each.
 *
 * Gaps: one for each device that lost something, reason `thinned`, its range from the first to the last lost reading; its
 * metric where it lost readings of one only. Past GAP_DEVICES_MAX devices the others share one.
 */
import type { BatchContent } from '../../shared/batch/batch.ts';
import { sortIntoRuns } from '../../shared/batch/runs.ts';
import type { ExceptionRecord } from '../../shared/exception.ts';
import type { SeriesRuns } from '../../shared/reading.ts';
import { assemble, Gathered, type SealedContent } from './seal.ts';

export const THINNED = 'thinned';
const MINUTE_US = 60_000_000;
/** A gap is a row of the lake. */
const GAP_DEVICES_MAX = 10_000;

export interface Thinned {
  readonly contents: readonly SealedContent[];
  /** In the gaps. */
  readonly lostReadings: number;
  readonly keptReadings: number;
}

interface Loss {
  readonly device: string | null;
  metric: string | null;
  readings: number;
  fromUs: number;
  toUs: number;
}

/** @param batches in the order in which they were sealed, at least one. Cost: about 100 ns a reading. */
export function thin(batches: readonly BatchContent[]): Thinned {
  const gathered = gather(batches);
  const runs = sortIntoRuns(gathered, gathered.table);
  const kept = new Gathered(runs.count);
  const losses = new Map<string | null, Loss>();
  for (const [series, name] of runs.seriesTable.entries()) {
    const to = runs.runOffsets[series + 1];
    let index = -1;
    for (let at = runs.runOffsets[series]; at < to;) {
      const minute = Math.floor(runs.eventTimeUs[at] / MINUTE_US);
      let end = at + 1;
      while (end < to && Math.floor(runs.eventTimeUs[end] / MINUTE_US) === minute) end++;
      const stay = ofMinute(runs, at, end);
      for (; at < end; at++) {
        if (stay.has(at)) {
          if (index < 0) index = kept.indexOf(name);
          kept.add(index, runs.eventTimeUs[at], runs.value[at], 0, textOf(runs, at));
        } else addLoss(losses, name.device, name.metric, runs.eventTimeUs[at]);
      }
    }
  }
  const gaps = [...losses.values()].map(gapOf);
  const contents = assemble(kept, [...batches.flatMap(({ exceptions }) => exceptions), ...gaps], stampsOf(batches), 0);
  return { contents, keptReadings: kept.count, lostReadings: runs.count - kept.count };
}

/** All batches as one, or as one for each so many days. Nothing is lost. */
export function mergeContents(batches: readonly BatchContent[]): SealedContent[] {
  const exceptions = batches.flatMap((batch) => batch.exceptions);
  return assemble(gather(batches), exceptions, stampsOf(batches), 0);
}

function stampsOf(batches: readonly BatchContent[]): Pick<BatchContent, 'sealedUs' | 'arrivalFromUs' | 'arrivalToUs'> {
  return {
    sealedUs: Math.max(...batches.map(({ sealedUs }) => sealedUs)),
    arrivalFromUs: Math.min(...batches.map(({ arrivalFromUs }) => arrivalFromUs)),
    arrivalToUs: Math.max(...batches.map(({ arrivalToUs }) => arrivalToUs)),
  };
}

/** The readings of all batches, in their order. */
function gather(batches: readonly BatchContent[]): Gathered {
  const all = new Gathered(batches.reduce((sum, { runs }) => sum + runs.count, 0));
  for (const { runs } of batches) {
    for (const [series, name] of runs.seriesTable.entries()) {
      const index = all.indexOf(name);
      for (let at = runs.runOffsets[series]; at < runs.runOffsets[series + 1]; at++)
        all.add(index, runs.eventTimeUs[at], runs.value[at], 0, textOf(runs, at));
    }
  }
  return all;
}

function textOf({ text, texts }: SeriesRuns, at: number): string | null {
  return text === null || text[at] === 0 ? null : texts[text[at] - 1];
}

/** Indexes of what stays of the readings [from, to) of one series and minute. */
function ofMinute({ eventTimeUs, value }: SeriesRuns, from: number, to: number): ReadonlySet<number> {
  const stay = new Set<number>();
  let first = -1;
  let last = -1;
  let smallest = -1;
  let largest = -1;
  let firstOther = -1;
  let lastOther = -1;
  for (let at = from; at < to; at++) {
    const v = value[at];
    if (!Number.isFinite(v)) {
      if (firstOther < 0) firstOther = at;
      lastOther = at;
      continue;
    }
    if (first < 0 || (eventTimeUs[at] === eventTimeUs[first] && v < value[first])) first = at;
    if (last < 0 || eventTimeUs[at] > eventTimeUs[last] || v > value[last]) last = at;
    if (smallest < 0 || v < value[smallest]) smallest = at;
    if (largest < 0 || v > value[largest]) largest = at;
  }
  for (const index of [first, last, smallest, largest, firstOther, lastOther]) if (index >= 0) stay.add(index);
  return stay;
}

function addLoss(losses: Map<string | null, Loss>, device: string, metric: string, eventTimeUs: number): void {
  const key = losses.has(device) || losses.size < GAP_DEVICES_MAX ? device : null;
  const loss = losses.get(key);
  if (loss === undefined) {
    losses.set(key, { device: key, metric: key === null ? null : metric, readings: 1, fromUs: eventTimeUs, toUs: eventTimeUs + 1 });
    return;
  }
  loss.readings++;
  if (loss.metric !== metric) loss.metric = null;
  loss.fromUs = Math.min(loss.fromUs, eventTimeUs);
  loss.toUs = Math.max(loss.toUs, eventTimeUs + 1);
}

function gapOf({ device, metric, fromUs, toUs, readings }: Loss): ExceptionRecord {
  return { kind: 'gap', device, metric, fromUs, toUs, readingCount: readings, reason: THINNED, payload: null };
}
