/**
 * The lake's rows against the truth, one by one. Pure: takes what was read, gives what was found.
 */
import type { LakeContent, LakeException, LakeRow } from './lake-reader.ts';
import type { DeviceTruth, TruthReading } from './truth.ts';

/** A reading that windows must count, with the series that they count it under. */
export interface CountedSeries {
  readonly gateway: string;
  readonly device: string;
  readonly metric: string;
  readonly tags: string;
  /** Of a simulated device: its windows by series are compared. Others count only in windows by metric. */
  readonly simulated: boolean;
  /** In no order; `value` NaN for a reading with only a text. */
  readonly rows: { readonly eventTimeUs: number; readonly value: number }[];
}

export interface ReadingsResult {
  readonly acked: number;
  readonly inDoubt: number;
  /** Acknowledged and in the lake. */
  readonly found: number;
  readonly lost: number;
  /** Acknowledged, not in the lake, inside the range and count of an exception. */
  readonly accountedFor: number;
  readonly duplicated: number;
  readonly altered: number;
  readonly inDoubtArrived: number;
  /** Rows of other devices, or of other runs where those are allowed. */
  readonly foreign: number;
  readonly examples: readonly string[];
  readonly counted: readonly CountedSeries[];
}

const EXAMPLES_MAX = 20;

interface GatheredRow extends LakeRow {
  readonly gateway: string;
  readonly tags: string;
}

/** A quarantined exception's range is that of arrival, as the event time is what is not believed: it names its readings instead. */
function covers(exception: LakeException, eventTimeUs: number): boolean {
  if (exception.kind === 'quarantined') return exception.eventTimesUs?.has(eventTimeUs) ?? true;
  return eventTimeUs >= exception.fromUs && eventTimeUs < exception.toUs;
}

/** Spends exceptions on missing readings: narrow ones first, none for more readings than it says. */
class ExceptionBudget {
  readonly #exceptions: { readonly exception: LakeException; left: number }[];

  constructor(exceptions: readonly LakeException[]) {
    const breadth = (exception: LakeException): number => (exception.device === null ? 2 : 0) + (exception.metric === null ? 1 : 0);
    this.#exceptions = [...exceptions]
      .sort((a, b) => breadth(a) - breadth(b) || a.toUs - a.fromUs - (b.toUs - b.fromUs))
      .map((exception) => ({ exception, left: exception.readingCount ?? Infinity }));
  }

  /** @param gateway that the device sends to; null: nobody knows it, no row of it is there */
  spend(gateway: string | null, device: string, metric: string, eventTimeUs: number): boolean {
    for (const entry of this.#exceptions) {
      const { exception } = entry;
      if (entry.left <= 0 || !covers(exception, eventTimeUs)) continue;
      if (exception.gateway !== null && gateway !== null && exception.gateway !== gateway) continue;
      if (exception.device !== null && exception.device !== device) continue;
      if (exception.metric !== null && exception.metric !== metric) continue;
      entry.left--;
      return true;
    }
    return false;
  }
}

function same(row: GatheredRow, truth: TruthReading, tags: string): boolean {
  return Object.is(row.value + 0, truth.value + 0) && row.text === truth.text && row.tags === tags;
}

function time(eventTimeUs: number): string {
  return Number.isFinite(eventTimeUs) ? new Date(eventTimeUs / 1000).toISOString() : String(eventTimeUs);
}

function show(row: { value: number; text: string | null }): string {
  return row.text === null ? String(row.value) : JSON.stringify(row.text);
}

function seriesKey(gateway: string, device: string, metric: string, tags: string): string {
  return `${gateway}\u0000${device}\u0000${metric}\u0000${tags}`;
}

class Comparison {
  readonly #result = { acked: 0, inDoubt: 0, found: 0, lost: 0, accountedFor: 0, duplicated: 0, altered: 0, inDoubtArrived: 0, foreign: 0 };
  readonly #examples: string[] = [];
  readonly #counted = new Map<string, CountedSeries>();
  readonly #missing: { truth: TruthReading; device: string; metric: string; tags: string; gateway: string | null }[] = [];

  #example(text: string): void {
    if (this.#examples.length < EXAMPLES_MAX) this.#examples.push(text);
  }

  count(
    gateway: string,
    device: string,
    metric: string,
    tags: string,
    simulated: boolean,
    row: { eventTimeUs: number; value: number },
  ): void {
    const key = seriesKey(gateway, device, metric, tags);
    let series = this.#counted.get(key);
    if (series === undefined) {
      series = { gateway, device, metric, tags, simulated, rows: [] };
      this.#counted.set(key, series);
    }
    series.rows.push(row);
  }

  foreign(gateway: string, device: string, metric: string, tags: string, simulated: boolean, row: LakeRow): void {
    this.#result.foreign++;
    this.count(gateway, device, metric, tags, simulated, row);
  }

  altered(device: string, metric: string, row: LakeRow, why: string): void {
    this.#result.altered++;
    this.#example(`altered: ${device}/${metric} at ${time(row.eventTimeUs)} is ${show(row)}: ${why}`);
  }

  /** @param rows of this device and metric, ascending by event time */
  series(
    device: string,
    metric: string,
    tags: string,
    gateway: string | null,
    truth: readonly TruthReading[],
    rows: readonly GatheredRow[],
  ): void {
    const result = this.#result;
    let next = 0;
    for (const reading of truth) {
      if (reading.acked) result.acked++;
      else result.inDoubt++;
      for (; next < rows.length && rows[next].eventTimeUs < reading.eventTimeUs; next++) {
        this.altered(device, metric, rows[next], 'nothing was sent for this time');
      }
      let arrived = false;
      for (; next < rows.length && rows[next].eventTimeUs === reading.eventTimeUs; next++) {
        const row = rows[next];
        if (!same(row, reading, tags)) {
          this.altered(
            device,
            metric,
            row,
            `sent was ${show(reading)}${row.tags === tags ? '' : `, with tags '${tags}', not '${row.tags}'`}`,
          );
        } else if (arrived) {
          result.duplicated++;
          this.#example(`duplicated: ${device}/${metric} at ${time(reading.eventTimeUs)} = ${show(reading)}`);
        } else {
          arrived = true;
          if (row.gateway !== gateway) this.altered(device, metric, row, `it is of gateway ${row.gateway}, its device sends to ${gateway}`);
          this.count(row.gateway, device, metric, tags, true, row);
        }
      }
      if (arrived && reading.acked) result.found++;
      else if (arrived) result.inDoubtArrived++;
      else if (reading.acked) this.#missing.push({ truth: reading, device, metric, tags, gateway });
    }
    for (; next < rows.length; next++) this.altered(device, metric, rows[next], 'nothing was sent for this time');
  }

  finish(exceptions: readonly LakeException[]): ReadingsResult {
    const budget = new ExceptionBudget(exceptions);
    for (const { truth, device, metric, tags, gateway } of this.#missing) {
      if (budget.spend(gateway, device, metric, truth.eventTimeUs)) {
        this.#result.accountedFor++;
        continue;
      }
      this.#result.lost++;
      this.#example(`lost: ${device}/${metric} at ${time(truth.eventTimeUs)} = ${show(truth)}`);
      // What should be there should be counted too: a lost reading also shows as a wrong aggregate.
      this.count(gateway ?? '?', device, metric, tags, true, truth);
    }
    return { ...this.#result, examples: this.#examples, counted: [...this.#counted.values()] };
  }
}

/** Span of event times that the run can have used, [from, to) in µs. */
function timeSpan(truth: readonly DeviceTruth[]): { fromUs: number; toUs: number } {
  let fromUs = Infinity;
  let toUs = -Infinity;
  for (const { metrics } of truth) {
    for (const readings of metrics.values()) {
      const first = readings[0];
      const last = readings.at(-1);
      if (first === undefined || last === undefined) continue;
      fromUs = Math.min(fromUs, first.eventTimeUs);
      toUs = Math.max(toUs, last.eventTimeUs + 1);
    }
  }
  return { fromUs, toUs };
}

/** The gateway behind an address: the ledger knows the address, the lake the name. null: no row says. */
function commonest(counts: ReadonlyMap<string, number> | undefined): string | null {
  let name: string | null = null;
  for (const [other, count] of counts ?? []) if (name === null || count > (counts?.get(name) ?? 0)) name = other;
  return name;
}

/**
 * @param otherRuns rows of simulated devices outside this run's span of event times are another run's: counted as foreign
 */
export function compareReadings(truth: readonly DeviceTruth[], lake: LakeContent, otherRuns: boolean): ReadingsResult {
  const comparison = new Comparison();
  const span = timeSpan(truth);
  const byDevice = new Map(truth.map((entry) => [entry.device.name, entry]));
  const gathered = new Map<string, GatheredRow[]>();
  const rowsByGateway = new Map<number, Map<string, number>>();
  for (const series of lake.series) {
    const entry = byDevice.get(series.device);
    if (entry === undefined) {
      for (const row of series.rows) comparison.foreign(series.gateway, series.device, series.metric, series.tags, false, row);
      continue;
    }
    const key = `${series.device}\u0000${series.metric}`;
    const rows = gathered.get(key) ?? [];
    gathered.set(key, rows);
    for (const row of series.rows) {
      if (otherRuns && (row.eventTimeUs < span.fromUs || row.eventTimeUs >= span.toUs)) {
        comparison.foreign(series.gateway, series.device, series.metric, series.tags, true, row);
      } else if (!entry.metrics.has(series.metric)) {
        comparison.altered(series.device, series.metric, row, 'the device has no such metric');
      } else {
        rows.push({ ...row, gateway: series.gateway, tags: series.tags });
        const counts = rowsByGateway.get(entry.device.gatewayIndex) ?? new Map<string, number>();
        rowsByGateway.set(entry.device.gatewayIndex, counts.set(series.gateway, (counts.get(series.gateway) ?? 0) + 1));
      }
    }
  }
  for (const { device, metrics } of truth) {
    const gateway = commonest(rowsByGateway.get(device.gatewayIndex));
    for (const [metric, readings] of metrics) {
      const rows = gathered.get(`${device.name}\u0000${metric}`) ?? [];
      rows.sort((a, b) => a.eventTimeUs - b.eventTimeUs);
      comparison.series(device.name, metric, device.tags, gateway, readings, rows);
    }
  }
  return comparison.finish(lake.exceptions);
}
