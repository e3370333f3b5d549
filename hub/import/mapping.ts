/** How the columns of a file become readings: flags → mapping, row → readings. */
import { TAGS_BYTES_MAX } from '../../shared/batch/limits.ts';
import { SluiceError } from '../../shared/errors.ts';
import { canonicalTags, EVENT_TIME_AHEAD_MAX_US, NAME_BYTES_MAX, type Series } from '../../shared/reading.ts';
import { parseTime } from '../http/times.ts';

export const TIME_UNITS = ['s', 'ms', 'us', 'ns'] as const;
export type TimeUnit = (typeof TIME_UNITS)[number];

const UNIT_US: Readonly<Record<TimeUnit, number>> = { s: 1e6, ms: 1e3, us: 1, ns: 1e-3 };

/** Of the wide form: one metric per column. */
export interface ValueColumn {
  readonly column: string;
  readonly metric: string;
}

export interface Mapping {
  readonly time: string;
  /** null: RFC 3339, or a number whose unit its size tells. */
  readonly timeUnit: TimeUnit | null;
  readonly device: { readonly column: string } | { readonly name: string };
  readonly values:
    | { readonly form: 'long'; readonly metric: { readonly column: string } | { readonly name: string }; readonly value: string }
    | { readonly form: 'wide'; readonly columns: readonly ValueColumn[] };
  readonly tags: readonly string[];
}

export interface MappingFlags {
  readonly time?: string;
  readonly timeUnit?: string;
  readonly device?: string;
  readonly deviceName?: string;
  readonly metric?: string;
  readonly metricName?: string;
  readonly value?: string;
  readonly values?: string;
  readonly tags?: string;
}

function wrong(message: string): SluiceError {
  return new SluiceError('ERR_IMPORT_MAPPING', message);
}

function listOf(text: string | undefined): string[] {
  return text === undefined ? [] : text.split(',').map((part) => part.trim());
}

/** @throws SluiceError ERR_IMPORT_MAPPING */
export function mappingOf(flags: MappingFlags): Mapping {
  const { timeUnit } = flags;
  if (timeUnit !== undefined && !(TIME_UNITS as readonly string[]).includes(timeUnit))
    throw wrong(`--time-unit ${JSON.stringify(timeUnit)}: there are ${TIME_UNITS.join(', ')}`);
  return {
    time: flags.time ?? 'time',
    timeUnit: (timeUnit as TimeUnit | undefined) ?? null,
    device: oneOf(flags.device, flags.deviceName, 'device') ?? { column: 'device' },
    values: valuesOf(flags),
    tags: listOf(flags.tags),
  };
}

function oneOf(column: string | undefined, name: string | undefined, what: string): { column: string } | { name: string } | null {
  if (column !== undefined && name !== undefined) throw wrong(`give --${what} (a column) or --${what}-name, not both`);
  if (name !== undefined) return { name: usableName(what, name) };
  return column === undefined ? null : { column };
}

function valuesOf(flags: MappingFlags): Mapping['values'] {
  const metric = oneOf(flags.metric, flags.metricName, 'metric');
  if (flags.values === undefined) return { form: 'long', metric: metric ?? { column: 'metric' }, value: flags.value ?? 'value' };
  if (metric !== null || flags.value !== undefined)
    throw wrong(
      '--values is for files with a column per metric, --metric and --value for files with a row per metric: give one of the forms',
    );
  const columns = listOf(flags.values).map((part): ValueColumn => {
    const [column = '', named = column] = part.split('=');
    return { column, metric: usableName('metric', named) };
  });
  return { form: 'wide', columns };
}

export function columnsOf({ time, device, values, tags }: Mapping): string[] {
  const own = (source: { column: string } | { name: string }): string[] => ('column' in source ? [source.column] : []);
  const value = values.form === 'long' ? [...own(values.metric), values.value] : values.columns.map(({ column }) => column);
  return [...new Set([time, ...own(device), ...value, ...tags])];
}

/** What is wrong with a row; its message goes into the exception. */
export class RowError extends Error {}

// C0, DEL and C1 controls break terminals, CSV and logs; lone surrogates have no UTF-8.
const UNUSABLE = /\p{Control}|\p{Surrogate}/u;

function nameFault(name: string): string | null {
  if (name === '') return 'it is empty';
  if (UNUSABLE.test(name)) return 'it has control characters';
  const bytes = Buffer.byteLength(name);
  return bytes > NAME_BYTES_MAX ? `it has ${bytes} bytes, at most ${NAME_BYTES_MAX} are allowed` : null;
}

function usableName(what: string, name: string): string {
  const fault = nameFault(name);
  if (fault !== null) throw wrong(`the ${what} name ${JSON.stringify(name.slice(0, 60))} cannot be used: ${fault}`);
  return name;
}

function nameIn(row: Row, column: string): string {
  const given = row[column];
  const name = typeof given === 'string' ? given.trim() : typeof given === 'number' || typeof given === 'boolean' ? String(given) : '';
  // Two devices whose names differ in such a byte would become one.
  if (name.includes('\ufffd'))
    throw new RowError(
      `column ${column}: ${JSON.stringify(name.slice(0, 60))} is not UTF-8; recode the file first (iconv -f LATIN1 -t UTF-8)`,
    );
  const fault = nameFault(name);
  if (fault !== null) throw new RowError(`column ${column}: ${JSON.stringify(name.slice(0, 60))} is no name: ${fault}`);
  return name;
}

/** A row of any format: texts (CSV), JSON values, or what Parquet holds. */
export type Row = Readonly<Record<string, unknown>>;

export interface MappedReading {
  readonly series: Series;
  readonly tsUs: number;
  readonly value: number;
}

/** null: nothing was measured (an empty field, null). */
function valueOf(given: unknown, column: string): number | null {
  if (given === null || given === undefined) return null;
  if (typeof given === 'boolean') return Number(given);
  const value = typeof given === 'string' ? numberOf(given.trim()) : given;
  if (value === null) return null;
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  throw new RowError(`column ${column}: ${(JSON.stringify(given) ?? '').slice(0, 60)} is not a finite number`);
}

function numberOf(text: string): number | null {
  if (text === '') return null;
  if (/^(?:true|false)$/i.test(text)) return Number(text.toLowerCase() === 'true');
  return /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i.test(text) ? Number(text) : NaN;
}

const WITHOUT_ZONE = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?$/;

/** @param nowUs times more than five minutes ahead of it are nobody's history */
function timeOf(given: unknown, { time, timeUnit }: Mapping, nowUs: number): number {
  const us = timeUnit === null ? timeBySize(given) : timeInUnit(given, timeUnit);
  if (us === null || !Number.isSafeInteger(us))
    throw new RowError(
      `column ${time}: ${JSON.stringify(String(given).slice(0, 60))} is not ${timeUnit === null ? 'RFC 3339 (UTC where it has no zone) or Unix time' : `a number of ${timeUnit}`}`,
    );
  if (us < 0 || us > nowUs + EVENT_TIME_AHEAD_MAX_US)
    throw new RowError(`column ${time}: ${JSON.stringify(String(given).slice(0, 60))} is not between 1970 and now; is --time-unit right?`);
  return us;
}

function timeBySize(given: unknown): number | null {
  const text = typeof given === 'number' ? String(given) : typeof given === 'string' ? given.trim() : '';
  const time = parseTime(WITHOUT_ZONE.test(text) ? `${text}Z` : text);
  return time?.kind === 'absolute' ? time.us : null;
}

function timeInUnit(given: unknown, unit: TimeUnit): number | null {
  if (typeof given === 'number') return Math.round(given * UNIT_US[unit]);
  if (typeof given !== 'string' || !/^\s*\d+(?:\.\d+)?\s*$/.test(given)) return null;
  // Nanoseconds since 1970 are above 2^53: their digits are cut, not rounded.
  if (unit === 'ns') return Number(given.trim().replace(/\..*/, '').slice(0, -3) || '0');
  return Math.round(Number(given) * UNIT_US[unit]);
}

export class RowMapper {
  readonly #mapping: Mapping;
  readonly #nowUs: number;
  /** One object per series: rows of the same series share it. */
  readonly #series = new Map<string, Series>();

  constructor(mapping: Mapping, nowUs: number) {
    this.#mapping = mapping;
    this.#nowUs = nowUs;
  }

  /** @throws RowError: nothing of the row is taken */
  map(row: Row): MappedReading[] {
    const { device, values, tags } = this.#mapping;
    const tsUs = timeOf(row[this.#mapping.time], this.#mapping, this.#nowUs);
    const deviceName = 'name' in device ? device.name : nameIn(row, device.column);
    const canonical = tags.length === 0 ? '' : canonicalTags(tagsOf(row, tags));
    if (canonical.length * 3 > TAGS_BYTES_MAX && Buffer.byteLength(canonical) > TAGS_BYTES_MAX)
      throw new RowError(`its tags have ${Buffer.byteLength(canonical)} bytes, at most ${TAGS_BYTES_MAX} are allowed`);
    const readings: MappedReading[] = [];
    const add = (metric: () => string, column: string): void => {
      const value = valueOf(row[column], column);
      if (value !== null) readings.push({ series: this.#seriesOf(deviceName, metric(), canonical), tsUs, value });
    };
    if (values.form === 'wide') for (const { column, metric } of values.columns) add(() => metric, column);
    else {
      const { metric } = values;
      add(() => ('name' in metric ? metric.name : nameIn(row, metric.column)), values.value);
    }
    return readings;
  }

  #seriesOf(device: string, metric: string, tags: string): Series {
    const key = `${device}\u0000${metric}\u0000${tags}`;
    let series = this.#series.get(key);
    if (series === undefined) {
      if (this.#series.size >= SERIES_MAX)
        throw new SluiceError('ERR_SERIES_LIMIT', `the file has more than ${SERIES_MAX} series: is --device or --metric the right column?`);
      series = { device, metric, tags };
      this.#series.set(key, series);
    }
    return series;
  }
}

/** As many as a gateway has by default. */
const SERIES_MAX = 100_000;

function tagsOf(row: Row, columns: readonly string[]): Record<string, string> {
  const tags: [string, string][] = [];
  for (const column of columns)
    if (row[column] !== null && row[column] !== undefined && row[column] !== '') tags.push([column, nameIn(row, column)]);
  return Object.fromEntries(tags);
}
