/**
 * Sealing, the pure part: decoded journal rows and resolved exceptions in, the contents of batches out.
 *
 * Here everything about a reading that depends on time is decided, once: its arrival on the wall clock, its event time if
 * the device sent none, and whether its event time can be believed (invariant 6). What cannot goes into exceptions that
 * hold the readings themselves, so that an operator can release them. No input makes it throw: what does not fit a bound
 * becomes an exception with a count.
 *
 * It does not encode, store or compress, and knows no clock.
 */
import type { BatchContent } from '../../shared/batch/batch.ts';
import { sortIntoRuns } from '../../shared/batch/runs.ts';
import { errorMessage } from '../../shared/errors.ts';
import type { ExceptionRecord } from '../../shared/exception.ts';
import { EVENT_TIME_AHEAD_MAX_US, EVENT_TIME_MIN_US, seriesKey, type ReadingColumns, type Series } from '../../shared/reading.ts';
import { QuarantineNotes } from './quarantine-notes.ts';

/** Invariant 7: so many UTC days per batch, so that a batch touches at most so many partitions of the lake. */
export const DAYS_PER_BATCH_MAX = 8;
const DAY_US = 86_400_000_000;

/** `priority`: of the topic rule; default 0. Each has batches of its own, because a batch is what is thinned or dropped. */
export type PrioritySeries = Series & { readonly priority?: number };

/** The readings of one journal row with what is needed to resolve them. */
export interface SealRow {
  readonly readings: number;
  /** Ids for `seriesOf`. */
  readonly series: Uint32Array;
  /** µs; NaN: absent. */
  readonly eventTimeUs: Float64Array;
  readonly value: Float64Array;
  readonly text: Uint32Array | null;
  readonly texts: readonly string[];
  /** Monotonic time of the opening that wrote the row. */
  readonly arrivalUs: Float64Array;
  /** Wall clock minus monotonic clock of that opening; null: its clock never was known. */
  readonly offsetUs: number | null;
  /** Opening that wrote the row: series ids are its own. */
  readonly opening: number;
  /** undefined: damage lost the series. */
  readonly seriesOf: (id: number) => PrioritySeries | undefined;
  /** What is known of the arrival where the clock was not: half-open, from the openings around it. */
  readonly bounds: { readonly fromUs: number; readonly toUs: number };
}

export interface SealInput {
  readonly sealedUs: number;
  readonly rows: readonly SealRow[];
  readonly exceptions: readonly ResolvedException[];
}

export interface ResolvedException {
  readonly arrivalUs: number;
  readonly record: ExceptionRecord;
}

/** The content of one batch and what the journal notes beside it. Event times are half-open; equal when there are none. */
export interface SealedContent {
  readonly content: BatchContent;
  readonly eventFromUs: number;
  readonly eventToUs: number;
  readonly priority: number;
}

/** Readings on their way into batches, series as indexes into `table`. */
export class Gathered {
  readonly table: Series[] = [];
  readonly texts: string[] = [];
  readonly series: Uint32Array;
  readonly eventTimeUs: Float64Array;
  readonly value: Float64Array;
  readonly arrivalUs: Float64Array;
  #text: Uint32Array | null = null;
  count = 0;
  readonly #byKey = new Map<string, number>();

  constructor(capacity: number) {
    this.series = new Uint32Array(capacity);
    this.eventTimeUs = new Float64Array(capacity);
    this.value = new Float64Array(capacity);
    this.arrivalUs = new Float64Array(capacity);
  }

  get text(): Uint32Array | null {
    return this.#text;
  }

  indexOf(series: Series): number {
    const key = seriesKey(series);
    const known = this.#byKey.get(key);
    if (known !== undefined) return known;
    this.#byKey.set(key, this.table.length);
    const { device, metric, tags } = series;
    return this.table.push({ device, metric, tags }) - 1;
  }

  add(series: number, eventTimeUs: number, value: number, arrivalUs: number, text: string | null): void {
    const index = this.count++;
    this.series[index] = series;
    this.eventTimeUs[index] = eventTimeUs;
    this.value[index] = value;
    this.arrivalUs[index] = arrivalUs;
    if (text !== null) {
      this.#text ??= new Uint32Array(this.series.length);
      this.#text[index] = this.texts.push(text);
    }
  }
}

function gatheredOf(byPriority: Map<number, Gathered>, priority: number, capacity: number): Gathered {
  let gathered = byPriority.get(priority);
  if (gathered === undefined) {
    gathered = new Gathered(capacity);
    byPriority.set(priority, gathered);
  }
  return gathered;
}

/** Cost: about 100 ns a reading, most of it the sort. */
export function seal(input: SealInput): SealedContent[] {
  const capacity = input.rows.reduce((sum, row) => sum + row.readings, 0);
  const byPriority = new Map<number, Gathered>();
  const notes = new QuarantineNotes();
  /** opening → its series id → where its readings go; null: unknown */
  const indexes = new Map<number, Map<number, { readonly gathered: Gathered; readonly index: number } | null>>();
  let arrivalFromUs = Infinity;
  let arrivalToUs = -Infinity;
  for (const row of input.rows) {
    let indexOf = indexes.get(row.opening);
    if (indexOf === undefined) {
      indexOf = new Map();
      indexes.set(row.opening, indexOf);
    }
    for (let at = 0; at < row.readings; at++) {
      const id = row.series[at];
      let place = indexOf.get(id);
      if (place === undefined) {
        const named = row.seriesOf(id);
        const gathered = named === undefined ? null : gatheredOf(byPriority, named.priority ?? 0, capacity);
        place = named === undefined || gathered === null ? null : { gathered, index: gathered.indexOf(named) };
        indexOf.set(id, place);
      }
      const sent = row.eventTimeUs[at];
      const value = row.value[at];
      const textIndex = row.text === null ? 0 : row.text[at];
      const text = textIndex === 0 ? null : row.texts[textIndex - 1];
      const arrivalUs = row.offsetUs === null ? NaN : Math.round(row.arrivalUs[at] + row.offsetUs);
      if (place === null) {
        const timeUs = Number.isNaN(sent) || sent < EVENT_TIME_MIN_US ? arrivalUs : Math.round(sent);
        notes.lost(row.offsetUs === null ? row.bounds : { fromUs: timeUs, toUs: timeUs + 1 });
        continue;
      }
      if (row.offsetUs === null) {
        notes.add('clock_unknown', place.gathered.table[place.index], sent, value, text, row.bounds.fromUs, row.bounds.toUs);
        continue;
      }
      if (arrivalUs < arrivalFromUs) arrivalFromUs = arrivalUs;
      if (arrivalUs > arrivalToUs) arrivalToUs = arrivalUs;
      const eventTimeUs = Number.isNaN(sent) ? arrivalUs : Math.round(sent);
      const doubt =
        eventTimeUs > arrivalUs + EVENT_TIME_AHEAD_MAX_US
          ? 'event_time_ahead'
          : eventTimeUs < EVENT_TIME_MIN_US
            ? 'event_time_before_2015'
            : null;
      if (doubt !== null) notes.add(doubt, place.gathered.table[place.index], sent, value, text, arrivalUs, arrivalUs + 1);
      else place.gathered.add(place.index, eventTimeUs, value, arrivalUs, text);
    }
  }
  const exceptions = [...input.exceptions.map(({ record }) => record), ...notes.records()];
  for (const { arrivalUs } of input.exceptions) {
    arrivalFromUs = Math.min(arrivalFromUs, arrivalUs);
    arrivalToUs = Math.max(arrivalToUs, arrivalUs);
  }
  if (arrivalFromUs > arrivalToUs) arrivalFromUs = arrivalToUs = input.sealedUs;
  const stamps = { sealedUs: input.sealedUs, arrivalFromUs, arrivalToUs };
  // Exceptions ride with what is dropped last.
  const priorities = [...byPriority.keys()].sort((a, b) => b - a);
  if (priorities.length === 0) return assemble(new Gathered(0), exceptions, stamps, 0);
  return priorities.flatMap((priority, index) =>
    assemble(byPriority.get(priority) as Gathered, index === 0 ? exceptions : [], stamps, priority),
  );
}

/**
 * `seal`, or for content on which it fails (which is a defect of this program) the gap that this makes: rows that cannot be
 * sealed must not hold up everything behind them for ever, nor through every restart.
 */
export function sealOrGap(input: SealInput): SealedContent[] {
  try {
    return seal(input);
  } catch (error) {
    const readingCount = input.rows.reduce((sum, row) => sum + row.readings, 0);
    const arrivals = input.rows
      .filter(({ offsetUs, readings }) => offsetUs !== null && readings > 0)
      .map(({ arrivalUs, offsetUs }) => arrivalUs[0] + (offsetUs as number));
    const fromUs = Math.floor(arrivals.reduce((a, b) => Math.min(a, b), input.sealedUs - 1));
    const reason = `seal_failed: ${errorMessage(error)}`.slice(0, 256);
    const record: ExceptionRecord = {
      kind: 'gap',
      device: null,
      metric: null,
      fromUs,
      toUs: input.sealedUs,
      readingCount,
      reason,
      payload: null,
    };
    return seal({ sealedUs: input.sealedUs, rows: [], exceptions: [...input.exceptions, { arrivalUs: fromUs, record }] });
  }
}

type Stamps = Pick<BatchContent, 'sealedUs' | 'arrivalFromUs' | 'arrivalToUs'>;

/** Splits by days where there are too many; exceptions ride in the first batch. */
export function assemble(gathered: Gathered, exceptions: readonly ExceptionRecord[], stamps: Stamps, priority: number): SealedContent[] {
  if (gathered.count === 0 && exceptions.length === 0) return [];
  let eventFromUs = Infinity;
  let eventToUs = -Infinity;
  for (let at = 0; at < gathered.count; at++) {
    const time = gathered.eventTimeUs[at];
    if (time < eventFromUs) eventFromUs = time;
    if (time > eventToUs) eventToUs = time;
  }
  if (gathered.count === 0 || Math.floor(eventToUs / DAY_US) - Math.floor(eventFromUs / DAY_US) < DAYS_PER_BATCH_MAX) {
    return [toContent(gathered, null, exceptions, stamps, priority)];
  }
  const days = [...new Set(Array.from(gathered.eventTimeUs.subarray(0, gathered.count), (time) => Math.floor(time / DAY_US)))].sort(
    (a, b) => a - b,
  );
  const partOfDay = new Map(days.map((day, index) => [day, Math.floor(index / DAYS_PER_BATCH_MAX)]));
  const parts: number[][] = Array.from({ length: Math.ceil(days.length / DAYS_PER_BATCH_MAX) }, () => []);
  for (let at = 0; at < gathered.count; at++) {
    const part = partOfDay.get(Math.floor(gathered.eventTimeUs[at] / DAY_US)) as number;
    parts[part].push(at);
  }
  return parts.map((rows, index) => toContent(gathered, rows, index === 0 ? exceptions : [], stamps, priority));
}

/** @param rows indexes into the gathered readings, or null: all of them */
function toContent(
  gathered: Gathered,
  rows: readonly number[] | null,
  exceptions: readonly ExceptionRecord[],
  stamps: Stamps,
  priority: number,
): SealedContent {
  const columns: ReadingColumns =
    rows === null
      ? gathered
      : {
          count: rows.length,
          series: Uint32Array.from(rows, (at) => gathered.series[at]),
          eventTimeUs: Float64Array.from(rows, (at) => gathered.eventTimeUs[at]),
          value: Float64Array.from(rows, (at) => gathered.value[at]),
          text: gathered.text === null ? null : Uint32Array.from(rows, (at) => (gathered.text as Uint32Array)[at]),
          texts: gathered.texts,
        };
  let eventFromUs = Infinity;
  let eventLastUs = -Infinity;
  for (let at = 0; at < columns.count; at++) {
    eventFromUs = Math.min(eventFromUs, columns.eventTimeUs[at]);
    eventLastUs = Math.max(eventLastUs, columns.eventTimeUs[at]);
  }
  const content = { ...stamps, runs: sortIntoRuns(columns, gathered.table), exceptions };
  if (columns.count > 0) return { content, eventFromUs, eventToUs: eventLastUs + 1, priority };
  return { content, eventFromUs: stamps.arrivalFromUs, eventToUs: stamps.arrivalFromUs, priority };
}
