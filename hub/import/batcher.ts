/**
 * Mapped rows → batches, cut in the same places whenever the same file is read: resuming relies on it.
 *
 * A chunk is so many rows, whatever is in them. Its readings are grouped by series and, where they are of more days than
 * a batch may touch, split by days, oldest first; its rejected rows are the exceptions of its last batch.
 */
import type { BatchContent } from '../../shared/batch/batch.ts';
import { EXCEPTION_PAYLOAD_BYTES_MAX, type ExceptionRecord } from '../../shared/exception.ts';
import { compareSeries, type Series, type SeriesRuns } from '../../shared/reading.ts';
import type { MappedReading } from './mapping.ts';

/** About 30 MB while a chunk is collected. Changing it would cut files that are half imported in other places: never do. */
const CHUNK_ROWS = 50_000;
/** Of the wide form: readings of a chunk. */
const CHUNK_READINGS = 200_000;
/** Design: invariant 7. */
const DAYS_MAX = 8;
const DAY_US = 86_400_000_000;
/** Rejected rows of a chunk that have an exception of their own; the rest share one. */
const REJECTED_ALONE_MAX = 200;
const REASON_CHARACTERS_MAX = 250;

interface Rejected {
  readonly line: number;
  readonly fault: string;
  readonly text: string;
}

export class Batcher {
  readonly #startedUs: number;
  readonly #fileName: string;
  #rows = 0;
  #readings: MappedReading[] = [];
  #rejected: Rejected[] = [];
  /** Of the whole file. */
  readonly totals = { rows: 0, readings: 0, rejected: 0 };

  /** @param fileName how exceptions name the file */
  constructor(fileName: string, startedUs: number) {
    this.#fileName = fileName;
    this.#startedUs = startedUs;
  }

  add(readings: readonly MappedReading[]): void {
    this.#rows++;
    this.totals.rows++;
    this.totals.readings += readings.length;
    this.#readings.push(...readings);
  }

  reject(line: number, fault: string, text: string): void {
    this.#rows++;
    this.totals.rows++;
    this.totals.rejected++;
    this.#rejected.push({ line, fault, text: text.slice(0, EXCEPTION_PAYLOAD_BYTES_MAX) });
  }

  get isFull(): boolean {
    return this.#rows >= CHUNK_ROWS || this.#readings.length >= CHUNK_READINGS;
  }

  /** The batches of the chunk, and an empty one is begun. */
  take(): BatchContent[] {
    const readings = this.#readings;
    const exceptions = this.#exceptions(readings);
    this.#rows = 0;
    this.#readings = [];
    this.#rejected = [];
    const parts = byDays(readings);
    if (parts.length === 0) return exceptions.length === 0 ? [] : [this.#content([], exceptions)];
    return parts.map((part, index) => this.#content(part, index === parts.length - 1 ? exceptions : []));
  }

  #content(readings: readonly MappedReading[], exceptions: readonly ExceptionRecord[]): BatchContent {
    const { length } = readings;
    return {
      sealedUs: this.#startedUs,
      // When they arrived at whoever collected them nobody knows: when they were measured comes closest.
      arrivalFromUs: length === 0 ? this.#startedUs : readings.reduce((least, { tsUs }) => Math.min(least, tsUs), Infinity),
      arrivalToUs: length === 0 ? this.#startedUs : readings.reduce((most, { tsUs }) => Math.max(most, tsUs), 0),
      runs: runsOf(readings),
      exceptions,
    };
  }

  #exceptions(readings: readonly MappedReading[]): ExceptionRecord[] {
    const fromUs = readings.reduce((least, { tsUs }) => Math.min(least, tsUs), Infinity);
    const toUs = readings.reduce((most, { tsUs }) => Math.max(most, tsUs), -Infinity);
    // Their own time is unknown: that of the rows around them, or of the import.
    const range = Number.isFinite(fromUs) ? { fromUs, toUs: toUs + 1 } : { fromUs: this.#startedUs, toUs: this.#startedUs + 1 };
    const record = (reason: string, readingCount: number | null, text: string | null): ExceptionRecord => ({
      kind: 'dead_letter',
      device: null,
      metric: null,
      ...range,
      readingCount,
      reason: `import_row: ${reason}`.slice(0, REASON_CHARACTERS_MAX),
      payload: text === null ? null : Buffer.from(text).subarray(0, EXCEPTION_PAYLOAD_BYTES_MAX),
    });
    const alone = this.#rejected
      .slice(0, REJECTED_ALONE_MAX)
      .map(({ line, fault, text }) => record(`line ${line} of ${this.#fileName}: ${fault}`, null, text));
    const rest = this.#rejected.slice(REJECTED_ALONE_MAX);
    const [first] = rest;
    const last = rest.at(-1);
    if (first === undefined || last === undefined) return alone;
    return [
      ...alone,
      record(
        `lines ${first.line} to ${last.line} of ${this.#fileName}: ${rest.length} more rows, the first: ${first.fault}`,
        rest.length,
        first.text,
      ),
    ];
  }
}

/** Parts of at most DAYS_MAX days each, in the order of time. */
function byDays(readings: readonly MappedReading[]): MappedReading[][] {
  const days = new Map<number, MappedReading[]>();
  for (const reading of readings) {
    const day = Math.floor(reading.tsUs / DAY_US);
    const known = days.get(day);
    if (known === undefined) days.set(day, [reading]);
    else known.push(reading);
  }
  if (days.size <= DAYS_MAX) return readings.length === 0 ? [] : [[...readings]];
  const parts: MappedReading[][] = [];
  const inOrder = [...days].sort(([a], [b]) => a - b).map(([, part]) => part);
  for (let from = 0; from < inOrder.length; from += DAYS_MAX) parts.push(inOrder.slice(from, from + DAYS_MAX).flat());
  return parts;
}

function runsOf(readings: readonly MappedReading[]): SeriesRuns {
  const bySeries = new Map<Series, MappedReading[]>();
  for (const reading of readings) {
    const run = bySeries.get(reading.series);
    if (run === undefined) bySeries.set(reading.series, [reading]);
    else run.push(reading);
  }
  const runs = [...bySeries].sort(([a], [b]) => compareSeries(a, b));
  const runOffsets = new Uint32Array(runs.length + 1);
  const eventTimeUs = new Float64Array(readings.length);
  const value = new Float64Array(readings.length);
  let at = 0;
  runs.forEach(([, run], index) => {
    // Stable: equal times stay in the order of the file.
    for (const reading of run.sort((a, b) => a.tsUs - b.tsUs)) {
      eventTimeUs[at] = reading.tsUs;
      value[at] = reading.value;
      at++;
    }
    runOffsets[index + 1] = at;
  });
  return { count: at, seriesTable: runs.map(([series]) => series), runOffsets, eventTimeUs, value, text: null, texts: [] };
}
