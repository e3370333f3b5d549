/**
 * Answers to hot queries straight from columns to text: what answer.ts and aggregate-document.ts make of partials, without
 * an object for each of them. A hot answer costs a third of what it costs there (25 rows of 3 states each: 105 against 310 µs).
 *
 * Constraints: the same text byte for byte (a test compares the two), so partials are merged in the same order by the same
 * arithmetic as mergePartials. Only plain queries: windows as they are, ascending or descending, one page; of anything else
 * `isPlain` says so, or the text is null, and the general way is taken.
 *
 * Layout: a slot is one window of one series of the query, `series * windows + window`, STRIDE doubles in one scratch array;
 * the rows behind it, whose histograms are merged when it is written, are a linked list. All of it is used again by the next query.
 * Bounds: SERIES_MAX × windows of a hot query; texts that are kept.
 */
import { bucketMiddle, rankOf } from '../../shared/window/histogram.ts';
import type { AggregateFunction } from '../../shared/window/partial.ts';
import {
  groupKeyAt,
  groupKeyText,
  partialAt,
  type GroupKey,
  type HistogramColumn,
  type PartialColumns,
  type PartialRow,
  type PartialStates,
} from '../../shared/window/partial-columns.ts';
import { slideUsOf } from '../../shared/window/definition.ts';
import type { AggregateCapture, PendingException } from '../engine-api.ts';
import { formatTime } from '../http/times.ts';
import { nameMatcher } from '../name-patterns.ts';
import { documentHead, documentRows, groupText, windowText, type DocumentText } from './aggregate-document.ts';
import { lossOf } from './answer.ts';
import type { PartialRun } from './partial-files.ts';
import type { AggregateQuery, HotTask } from './query-api.ts';

const N = 0;
const MEAN = 1;
const M2 = 2;
const SUM = 3;
const MIN = 4;
const MAX = 5;
const FIRST = 6;
const FIRST_TS = 7;
const LAST = 8;
const LAST_TS = 9;
const ZERO = 10;
const LATE = 11;
const REVISION = 12;
const GEN = 13;
const STRIDE = 14;

/** More are no hot query; with 360 windows about 10 MB of scratch. */
const SERIES_MAX = 256;
/** A text is about 200 bytes. */
const TEXTS_MAX = 20_000;

/** What of the capture is not in files, by device. */
export interface TailRows {
  readonly columns: PartialColumns;
  readonly rowsOf: ReadonlyMap<string | null, readonly number[]>;
}

export function tailRows(tail: readonly PartialColumns[]): TailRows[] {
  return tail.map((columns) => {
    const rowsOf = new Map<string | null, number[]>();
    const byGroup: (number[] | undefined)[] = [];
    for (let row = 0; row < columns.count; row++) {
      const group = columns.group[row];
      let rows = byGroup[group];
      if (rows === undefined) {
        const device = columns.groups.device[group];
        rows = rowsOf.get(device);
        if (rows === undefined) rowsOf.set(device, (rows = []));
        byGroup[group] = rows;
      }
      rows.push(row);
    }
    return { columns, rowsOf };
  });
}

/** Those of the query's series, as objects. */
export function rowsOfTail({ columns, rowsOf }: TailRows, { devices, gateways, metrics }: AggregateQuery): PartialRow[] {
  const [hasGateway, hasMetric] = [gateways, metrics].map((names) => (names === null ? () => true : nameMatcher(names)));
  return (devices ?? []).flatMap((device) =>
    (rowsOf.get(device) ?? [])
      .map((row) => ({
        group: groupKeyAt(columns.groups, columns.group[row]),
        windowStartUs: columns.windowStartUs[row],
        partial: partialAt(columns, row),
      }))
      .filter(({ group }) => hasGateway(group.gateway ?? '') && hasMetric(group.metric ?? '')),
  );
}

/** A query that `HotWindows` may answer. */
export function isPlain({ stepUs = null, tags = null, groupBy = null, fill = null, after }: AggregateQuery): boolean {
  return stepUs === null && tags === null && groupBy === null && fill === null && after === null;
}

/** What a query is answered from. */
export interface HotSources {
  readonly capture: AggregateCapture;
  readonly runs: readonly PartialRun[];
  readonly tail: readonly TailRows[];
  readonly exceptions: readonly PendingException[];
  /** Of the active gateways; -Infinity for one that has asserted nothing. */
  readonly openFromUs: ReadonlyMap<string, number>;
}

/** A function's values: its member name and how it is found. */
interface Member {
  readonly name: string;
  readonly of: AggregateFunction;
  /** Of a percentile, 0 … 1; null: another function. */
  readonly ratio: number | null;
}

export class HotWindows {
  #state = new Float64Array(STRIDE * 64);
  /** First source of each slot, -1: there is no such window. */
  #first = new Int32Array(64);
  readonly #sourceColumns: PartialStates[] = [];
  readonly #sourceRow: number[] = [];
  readonly #sourceNext: number[] = [];
  readonly #series = new Map<string, number>();
  readonly #keys: GroupKey[] = [];
  readonly #keyTexts: string[] = [];
  #windows = 0;
  readonly #windowTexts = new Map<string, string>();
  readonly #groupTexts = new Map<string, string>();
  readonly #members = new WeakMap<readonly AggregateFunction[], readonly Member[]>();
  readonly #lists = new Map<string, readonly Member[]>();
  readonly #histogram = new MergedHistogram();

  /** @returns null: too much for this way, or more than a page */
  text({ query, head, fromUs, toUs }: HotTask, sources: HotSources): DocumentText | null {
    const { capture } = sources;
    const slideUs = slideUsOf(capture.definition);
    this.#begin(Math.round((toUs - fromUs) / slideUs));
    if (!this.#addAll(query, sources, fromUs, slideUs)) return null;
    return this.#write(query, head ?? '', sources, fromUs, slideUs);
  }

  #begin(windows: number): void {
    this.#windows = windows;
    this.#series.clear();
    this.#keys.length = 0;
    this.#keyTexts.length = 0;
    // What is not looked at any more must not be kept alive.
    this.#sourceColumns.length = 0;
    this.#sourceRow.length = 0;
    this.#sourceNext.length = 0;
  }

  /** In the order in which the general way has them: of files, then of the capture. */
  #addAll(query: AggregateQuery, { runs, tail }: HotSources, fromUs: number, slideUs: number): boolean {
    const [isGateway, isMetric] = [query.gateways, query.metrics].map((names) => (names === null ? null : nameMatcher(names)));
    const isAsked = (key: GroupKey): boolean => (isGateway?.(key.gateway ?? '') ?? true) && (isMetric?.(key.metric ?? '') ?? true);
    for (const { windowStartUs, states, group, from, to } of runs) {
      if (!isAsked(group)) continue;
      const series = this.#seriesOf(group);
      if (series < 0) return false;
      for (let row = from; row < to; row++) this.#add(series, states, row, (windowStartUs[row] - fromUs) / slideUs);
    }
    for (const device of query.devices ?? []) {
      for (const { columns, rowsOf } of tail) {
        let previous = -1;
        let series = -1;
        for (const row of rowsOf.get(device) ?? []) {
          const group = columns.group[row];
          if (group !== previous) {
            previous = group;
            const { gateway, metric, tags } = columns.groups;
            const key = { gateway: gateway[group], device, metric: metric[group], tags: tags[group] };
            series = isAsked(key) ? this.#seriesOf(key) : -2;
            if (series === -1) return false;
          }
          if (series >= 0) this.#add(series, columns, row, (columns.windowStartUs[row] - fromUs) / slideUs);
        }
      }
    }
    return true;
  }

  /** -1: they are too many. */
  #seriesOf(key: GroupKey): number {
    const text = groupKeyText(key);
    const known = this.#series.get(text);
    if (known !== undefined) return known;
    const series = this.#keys.length;
    if (series === SERIES_MAX) return -1;
    this.#series.set(text, series);
    this.#keys.push(key);
    this.#keyTexts.push(text);
    const slots = (series + 1) * this.#windows;
    if (slots > this.#first.length) {
      const first = new Int32Array(slots * 2);
      first.set(this.#first);
      this.#first = first;
      const state = new Float64Array(slots * 2 * STRIDE);
      state.set(this.#state);
      this.#state = state;
    }
    this.#first.fill(-1, series * this.#windows, slots);
    return series;
  }

  #add(series: number, columns: PartialStates, row: number, window: number): void {
    if (!(window >= 0 && window < this.#windows)) return;
    const slot = series * this.#windows + window;
    const at = slot * STRIDE;
    const state = this.#state;
    const gen = columns.gen[row];
    let next = this.#first[slot];
    if (next >= 0 && gen < state[at + GEN]) return;
    if (next >= 0 && gen > state[at + GEN]) next = -1;
    if (next < 0) {
      copyValues(state, at, columns, row);
      state[at + ZERO] = columns.histZero[row];
      state[at + LATE] = columns.late[row];
      state[at + REVISION] = columns.revision[row];
      state[at + GEN] = gen;
    } else {
      mergeValues(state, at, columns, row);
      state[at + ZERO] += columns.histZero[row];
      state[at + LATE] += columns.late[row];
      state[at + REVISION] += columns.revision[row];
    }
    this.#first[slot] = this.#sourceRow.length;
    this.#sourceColumns.push(columns);
    this.#sourceRow.push(row);
    this.#sourceNext.push(next);
  }

  #write(query: AggregateQuery, head: string, sources: HotSources, fromUs: number, slideUs: number): DocumentText | null {
    const { capture, exceptions, openFromUs } = sources;
    const sizeUs = capture.definition.sizeMs * 1000;
    const texts = this.#keyTexts;
    const isDescending = query.order === 'desc';
    const sign = isDescending ? -1 : 1;
    const order = texts.map((_, index) => index).sort((a, b) => (texts[a] < texts[b] ? -sign : sign));
    const groups = texts.map((text, series) => this.#groupText(text, this.#keys[series]));
    const members = this.#membersOf(query.functions);
    const known = exceptions.length + capture.pendingExceptions.length === 0 ? null : effective(exceptions, capture.pendingExceptions);
    const waiting = new Set<string>();
    let rows = '';
    let count = 0;
    for (let step = 0; step < this.#windows; step++) {
      const window = isDescending ? this.#windows - 1 - step : step;
      const startUs = fromUs + window * slideUs;
      const endUs = startUs + sizeUs;
      let times: string | null = null;
      for (const series of order) {
        const slot = series * this.#windows + window;
        if (this.#first[slot] < 0) continue;
        if (count++ === query.limit) return null;
        times ??= this.#windowText(startUs, endUs);
        const key = this.#keys[series];
        const isOpen = key.gateway !== null && (openFromUs.get(key.gateway) ?? Infinity) < endUs;
        if (isOpen) waiting.add(key.gateway);
        rows += count === 1 ? times : `,${times}`;
        rows += groups[series];
        rows += this.#values(slot, members);
        const at = slot * STRIDE;
        const late = this.#state[at + LATE];
        const loss = known === null ? NO_LOSS : lossOf(key, startUs, endUs, known);
        const status = isOpen ? 'provisional' : late > 0 ? 'revised' : 'final';
        rows += `,"status":"${status}","revision":${this.#state[at + REVISION]},"late":${late},"lost":${loss.count},"lost_is_estimate":${loss.isEstimate},"complete":${!isOpen && !loss.overlaps}}`;
      }
    }
    return { head: documentHead(capture, head), rows: documentRows(rows, [...waiting].sort()), next: null };
  }

  #windowText(startUs: number, endUs: number): string {
    const key = `${startUs} ${endUs}`;
    let text = this.#windowTexts.get(key);
    if (text === undefined) {
      if (this.#windowTexts.size >= TEXTS_MAX) this.#windowTexts.clear();
      this.#windowTexts.set(key, (text = `{${windowText(formatTime(startUs), formatTime(endUs))},`));
    }
    return text;
  }

  #groupText(keyText: string, key: GroupKey): string {
    let text = this.#groupTexts.get(keyText);
    if (text === undefined) {
      if (this.#groupTexts.size >= TEXTS_MAX) this.#groupTexts.clear();
      this.#groupTexts.set(keyText, (text = groupText(key)));
    }
    return text;
  }

  /** Lists come anew with every message; there are few different ones. */
  #membersOf(functions: readonly AggregateFunction[]): readonly Member[] {
    const known = this.#members.get(functions);
    if (known !== undefined) return known;
    const key = functions.join(',');
    let members = this.#lists.get(key);
    if (members === undefined) {
      members = functions.map((of) => ({
        name: `,${JSON.stringify(of)}:`,
        of,
        ratio: of.startsWith('p') ? Number(of.slice(1)) / 100 : null,
      }));
      if (this.#lists.size >= TEXTS_MAX) this.#lists.clear();
      this.#lists.set(key, members);
    }
    this.#members.set(functions, members);
    return members;
  }

  #values(slot: number, members: readonly Member[]): string {
    const state = this.#state;
    const at = slot * STRIDE;
    let text = '';
    let isMerged = false;
    for (const { name, of, ratio } of members) {
      let value: number;
      if (ratio === null) value = valueOf(state, at, of);
      else {
        if (!isMerged) this.#mergeHistograms(slot);
        isMerged = true;
        value = this.#histogram.quantile(ratio, state[at + MIN], state[at + MAX]);
      }
      // Neither NaN nor an infinity is JSON.
      text += value - value === 0 ? name + value : `${name}null`;
    }
    return text;
  }

  #mergeHistograms(slot: number): void {
    this.#histogram.begin(this.#state[slot * STRIDE + ZERO]);
    for (let source = this.#first[slot]; source >= 0; source = this.#sourceNext[source]) {
      const columns = this.#sourceColumns[source];
      this.#histogram.add(columns.histPos, columns.histNeg, this.#sourceRow[source]);
    }
  }
}

const NO_LOSS = { count: 0, isEstimate: false, overlaps: false };

function effective(lake: readonly PendingException[], pending: readonly PendingException[]): PendingException[] {
  return [...lake, ...pending].filter((exception) => exception.fromUs < exception.toUs);
}

function copyValues(state: Float64Array, at: number, columns: PartialStates, row: number): void {
  state[at + N] = columns.n[row];
  state[at + MEAN] = columns.mean[row];
  state[at + M2] = columns.m2[row];
  state[at + SUM] = columns.sumValue[row];
  state[at + MIN] = columns.minValue[row];
  state[at + MAX] = columns.maxValue[row];
  state[at + FIRST] = columns.firstValue[row];
  state[at + FIRST_TS] = columns.firstTsUs[row];
  state[at + LAST] = columns.lastValue[row];
  state[at + LAST_TS] = columns.lastTsUs[row];
}

/** As mergePartials, whose arithmetic it repeats operation by operation. */
function mergeValues(state: Float64Array, at: number, columns: PartialStates, row: number): void {
  const nb = columns.n[row];
  if (nb === 0) return;
  const na = state[at + N];
  if (na === 0) {
    copyValues(state, at, columns, row);
    return;
  }
  const n = na + nb;
  const delta = columns.mean[row] - state[at + MEAN];
  state[at + N] = n;
  state[at + MEAN] += delta * (nb / n);
  state[at + M2] = state[at + M2] + columns.m2[row] + delta * delta * ((na * nb) / n);
  state[at + SUM] += columns.sumValue[row];
  state[at + MIN] = Math.min(state[at + MIN], columns.minValue[row]);
  state[at + MAX] = Math.max(state[at + MAX], columns.maxValue[row]);
  const [first, firstTs] = [columns.firstValue[row], columns.firstTsUs[row]];
  if (firstTs < state[at + FIRST_TS] || (firstTs === state[at + FIRST_TS] && first < state[at + FIRST])) {
    state[at + FIRST] = first;
    state[at + FIRST_TS] = firstTs;
  }
  const [last, lastTs] = [columns.lastValue[row], columns.lastTsUs[row]];
  if (state[at + LAST_TS] < lastTs || (state[at + LAST_TS] === lastTs && state[at + LAST] < last)) {
    state[at + LAST] = last;
    state[at + LAST_TS] = lastTs;
  }
}

/** NaN: there is none. */
function valueOf(state: Float64Array, at: number, name: AggregateFunction): number {
  const n = state[at + N];
  if (name === 'count') return n;
  if (n === 0) return NaN;
  switch (name) {
    case 'sum':
      return state[at + SUM];
    case 'mean':
      return state[at + MEAN];
    case 'min':
      return state[at + MIN];
    case 'max':
      return state[at + MAX];
    case 'first':
      return state[at + FIRST];
    case 'last':
      return state[at + LAST];
    case 'variance':
      return n < 2 ? NaN : state[at + M2] / (n - 1);
    case 'stddev':
      return n < 2 ? NaN : Math.sqrt(state[at + M2] / (n - 1));
    case 'delta':
      return state[at + LAST] - state[at + FIRST];
    default:
      return NaN;
  }
}

/** Buckets ascending, with their counts. */
interface Side {
  buckets: Int32Array;
  counts: Float64Array;
  length: number;
}

/** The sum of several histograms, whose buckets are sorted: merging them in order needs no map. */
class MergedHistogram {
  #positive = emptySide();
  #negative = emptySide();
  #spare = emptySide();
  #zero = 0;
  #total = 0;

  begin(zero: number): void {
    this.#positive.length = 0;
    this.#negative.length = 0;
    this.#zero = zero;
    this.#total = zero;
  }

  add(positive: HistogramColumn, negative: HistogramColumn, row: number): void {
    this.#positive = this.#merge(this.#positive, positive, row);
    this.#negative = this.#merge(this.#negative, negative, row);
  }

  #merge(own: Side, { offsets, buckets, counts }: HistogramColumn, row: number): Side {
    const end = offsets[row + 1];
    let b = offsets[row];
    if (b === end) return own;
    const merged = this.#spare;
    const needed = own.length + end - b;
    if (merged.buckets.length < needed) {
      merged.buckets = new Int32Array(needed * 2);
      merged.counts = new Float64Array(needed * 2);
    }
    let a = 0;
    let length = 0;
    while (a < own.length || b < end) {
      const bucket = a === own.length ? buckets[b] : b === end ? own.buckets[a] : Math.min(own.buckets[a], buckets[b]);
      let count = 0;
      if (a < own.length && own.buckets[a] === bucket) count = own.counts[a++];
      if (b < end && buckets[b] === bucket) {
        count += counts[b];
        this.#total += counts[b++];
      }
      merged.buckets[length] = bucket;
      merged.counts[length++] = count;
    }
    merged.length = length;
    this.#spare = own;
    return merged;
  }

  /** As `quantiles`; NaN where there is nothing. */
  quantile(ratio: number, min: number, max: number): number {
    if (this.#total === 0) return NaN;
    return Math.min(max, Math.max(min, this.#at(rankOf(ratio, this.#total))));
  }

  #at(rank: number): number {
    let upTo = 0;
    const [negative, positive] = [this.#negative, this.#positive];
    for (let index = negative.length - 1; index >= 0; index--) {
      upTo += negative.counts[index];
      if (upTo >= rank) return -bucketMiddle(negative.buckets[index]);
    }
    upTo += this.#zero;
    if (this.#zero > 0 && upTo >= rank) return 0;
    for (let index = 0; index < positive.length; index++) {
      upTo += positive.counts[index];
      if (upTo >= rank) return bucketMiddle(positive.buckets[index]);
    }
    return NaN;
  }
}

function emptySide(): Side {
  return { buckets: new Int32Array(64), counts: new Float64Array(64), length: 0 };
}
