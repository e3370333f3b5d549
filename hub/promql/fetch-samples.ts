/** The samples of selected series, from the files of `readings` or from partials of windows. */
import type { WindowPartial } from '../../shared/window/partial.ts';
import { mergePartials } from '../../shared/window/partial.ts';
import { partialColumnsOf } from '../../shared/window/packed-partials.ts';
import { partialRows } from '../../shared/window/partial-columns.ts';
import type { AggregateCapture, LakeFile } from '../engine-api.ts';
import { quote, readParquet, timestamp, Where, type ResultColumns, type SqlParameter } from '../query/duckdb.ts';
import { seriesKey, type CatalogueSeries } from './catalogue.ts';
import type { SelectedSeries } from './evaluate.ts';
import { labelsKey } from './labels.ts';
import type { SelectorPlan } from './plan.ts';
import { singleReadings, type Samples } from './samples.ts';
import { executionError } from './values.ts';

/** DuckDB, within the time of the query. */
export interface SampleReader {
  query(sql: string, parameters: readonly SqlParameter[]): Promise<ResultColumns>;
}

/** Of one selector: 16 to 80 bytes each. */
const SAMPLES_MAX = 1_000_000;
/** More names than these are not listed in a statement: the rows are filtered afterwards. */
const NAMES_MAX = 500;

function tooManySamples(): Error {
  return executionError(
    `the query would load more than ${SAMPLES_MAX} samples: ask for a shorter range, fewer series or (for functions that sum up) a longer step`,
  );
}

/** null: too many to list. */
export function distinctNames(series: readonly CatalogueSeries[], key: 'metric' | 'device'): string[] | null {
  const names = [...new Set(series.map((one) => one[key]))];
  return names.length > NAMES_MAX ? null : names;
}

/** DuckDB gives groups in any order; answers have a fixed one. */
function inOrder(found: SelectedSeries[]): SelectedSeries[] {
  const keys = new Map(found.map((one) => [one, labelsKey(one.labels)]));
  return found.sort((a, b) => ((keys.get(a) ?? '') < (keys.get(b) ?? '') ? -1 : 1));
}

function numbers(columns: ResultColumns, name: string, row: number): readonly number[] {
  return (columns.get(name)?.[row] ?? []) as readonly number[];
}

/** Rows of a result that has one row per series, of the series that were selected. */
function* selectedRows(columns: ResultColumns, selected: readonly CatalogueSeries[]): Generator<{ series: CatalogueSeries; row: number }> {
  const byKey = new Map(selected.map((one) => [seriesKey(one.gateway, one.device, one.metric, one.tags), one]));
  const text = (name: string): readonly (string | null)[] => (columns.get(name) ?? []) as readonly (string | null)[];
  const [gateway, device, metric, tags] = ['gateway', 'device', 'metric', 'tags'].map(text);
  for (let row = 0; row < gateway.length; row++) {
    const series = byKey.get(seriesKey(gateway[row] ?? '', device[row] ?? '', metric[row] ?? '', tags[row] ?? null));
    if (series !== undefined) yield { series, row };
  }
}

// --- readings --------------------------------------------------------------------------------------------------------

const LAST_COLUMNS = 'epoch_us(max(ts))::DOUBLE AS last_us, arg_max(value, ts) AS last_value';
const STATS_COLUMNS = `${LAST_COLUMNS}, epoch_us(min(ts))::DOUBLE AS first_us, arg_min(value, ts) AS first_value,
  count(*)::DOUBLE AS n, sum(value) AS sum_value, min(value) AS min_value, max(value) AS max_value, var_pop(value) * count(*) AS m2`;
const RESET_COLUMN = 'coalesce(sum(before) FILTER (WHERE value < before), 0) AS lost';

const COLUMNS_OF = {
  last: ['last_us', 'last_value'],
  stats: ['last_us', 'last_value', 'first_us', 'first_value', 'n', 'sum_value', 'min_value', 'max_value', 'm2'],
  counter: ['last_us', 'last_value', 'first_us', 'first_value', 'n', 'sum_value', 'min_value', 'max_value', 'm2', 'lost'],
} as const;

/** Summed up in buckets where the query does not see the difference, in the order of time. */
export async function readingSamples(
  reader: SampleReader,
  files: readonly LakeFile[],
  selected: readonly CatalogueSeries[],
  plan: SelectorPlan,
): Promise<SelectedSeries[]> {
  if (files.length === 0 || selected.length === 0) return [];
  const where = new Where()
    .and(`ts > ${timestamp(plan.fromUs)} AND ts <= ${timestamp(plan.toUs)} AND isfinite(value)`)
    .oneOf('metric', distinctNames(selected, 'metric'))
    .oneOf('device', distinctNames(selected, 'device'));
  const isEach = plan.need === 'samples';
  const columns = plan.need === 'samples' ? (['last_us', 'last_value'] as const) : COLUMNS_OF[plan.need];
  const from = `${readParquet(files)} WHERE ${where.sql}`;
  const inner = isEach
    ? `SELECT gateway, device, metric, tags, epoch_us(ts)::DOUBLE AS last_us, value AS last_value FROM ${from} LIMIT ${SAMPLES_MAX + 1}`
    : bucketStatement(plan, from);
  const lists = columns.map((name) => `list(${name} ORDER BY last_us, last_value) AS ${name}`).join(', ');
  const sql = `SELECT gateway, device, metric, tags, ${lists} FROM (${inner}) GROUP BY gateway, device, metric, tags`;
  const result = await reader.query(sql, where.parameters);
  const found: SelectedSeries[] = [];
  let count = 0;
  for (const stamps of result.get('last_us') ?? []) count += (stamps as readonly number[]).length;
  if (count > SAMPLES_MAX) throw tooManySamples();
  for (const { series, row } of selectedRows(result, selected))
    found.push({ labels: series.labels, samples: samplesOfRow(result, row, plan.need) });
  return inOrder(found);
}

function bucketStatement(plan: SelectorPlan, from: string): string {
  const bucket = `floor((${plan.toUs} - epoch_us(ts)) / ${plan.bucketUs})`;
  const keys = 'gateway, device, metric, tags, bucket';
  const before = plan.need === 'counter' ? `, lag(value) OVER (PARTITION BY ${keys} ORDER BY ts, value) AS before` : '';
  const state = plan.need === 'last' ? LAST_COLUMNS : plan.need === 'stats' ? STATS_COLUMNS : `${STATS_COLUMNS}, ${RESET_COLUMN}`;
  return `SELECT ${keys}, ${state} FROM (SELECT *${before} FROM (SELECT gateway, device, metric, tags, ts, value, ${bucket} AS bucket FROM ${from}))
    GROUP BY ${keys} LIMIT ${SAMPLES_MAX + 1}`;
}

function samplesOfRow(result: ResultColumns, row: number, need: SelectorPlan['need']): Samples {
  const lastTsUs = numbers(result, 'last_us', row);
  const last = numbers(result, 'last_value', row);
  if (need === 'samples' || need === 'last') return singleReadings(lastTsUs, last);
  return {
    lastTsUs,
    last,
    firstTsUs: numbers(result, 'first_us', row),
    first: numbers(result, 'first_value', row),
    n: numbers(result, 'n', row),
    sum: numbers(result, 'sum_value', row),
    min: numbers(result, 'min_value', row),
    max: numbers(result, 'max_value', row),
    m2: numbers(result, 'm2', row),
    lostToResets: need === 'counter' ? numbers(result, 'lost', row) : new Float64Array(lastTsUs.length),
  };
}

// --- windows ---------------------------------------------------------------------------------------------------------

const PARTIAL_COLUMNS = [
  ['ws', 'epoch_us(window_start)::DOUBLE'],
  ['n', 'n::DOUBLE'],
  ['mean', 'mean'],
  ['m2', 'm2'],
  ['sum_value', 'sum_value'],
  ['min_value', 'min_value'],
  ['max_value', 'max_value'],
  ['first_value', 'first_value'],
  ['first_us', 'epoch_us(first_ts)::DOUBLE'],
  ['last_value', 'last_value'],
  ['last_us', 'epoch_us(last_ts)::DOUBLE'],
  ['gen', 'gen::DOUBLE'],
] as const;

type WindowsOfSeries = Map<number, WindowPartial>;

const NO_BUCKETS: ReadonlyMap<number, number> = new Map();

/** One sample per window that has a value; lake and memory merged. */
export async function windowSamples(
  reader: SampleReader,
  capture: AggregateCapture,
  selected: readonly CatalogueSeries[],
  plan: SelectorPlan,
): Promise<SelectedSeries[]> {
  if (selected.length === 0) return [];
  const windows = new Map<CatalogueSeries, WindowsOfSeries>(selected.map((series) => [series, new Map()]));
  const sizeUs = capture.definition.sizeMs * 1000;
  const isInRange = (windowStartUs: number): boolean => windowStartUs > plan.fromUs - sizeUs && windowStartUs <= plan.toUs;
  let budget = SAMPLES_MAX;
  for await (const { series, windowStartUs, partial } of allPartials(reader, capture, selected, plan)) {
    if (!isInRange(windowStartUs)) continue;
    if (budget-- === 0) throw tooManySamples();
    const known = windows.get(series)?.get(windowStartUs);
    windows.get(series)?.set(windowStartUs, known === undefined ? partial : mergePartials(known, partial));
  }
  return inOrder(selected.map((series) => ({ labels: series.labels, samples: samplesOfWindows(windows.get(series) ?? new Map()) })));
}

interface SeriesPartial {
  readonly series: CatalogueSeries;
  readonly windowStartUs: number;
  readonly partial: WindowPartial;
}

async function* allPartials(
  reader: SampleReader,
  capture: AggregateCapture,
  selected: readonly CatalogueSeries[],
  plan: SelectorPlan,
): AsyncGenerator<SeriesPartial> {
  if (capture.files.length > 0) {
    const where = new Where()
      .and(`def = ${quote(capture.definitionHash)} AND n > 0`)
      .and(`window_start > ${timestamp(plan.fromUs - capture.definition.sizeMs * 1000)} AND window_start <= ${timestamp(plan.toUs)}`)
      .oneOf('metric', distinctNames(selected, 'metric'))
      .oneOf('device', distinctNames(selected, 'device'));
    const columns = PARTIAL_COLUMNS.map(([name, expression]) => `${expression} AS ${name}`).join(', ');
    // One total order for all lists: they are read side by side.
    const order = PARTIAL_COLUMNS.map(([name]) => name).join(', ');
    const lists = PARTIAL_COLUMNS.map(([name]) => `list(${name} ORDER BY ${order}) AS ${name}`).join(', ');
    const sql = `SELECT gateway, device, metric, tags, ${lists}
      FROM (SELECT gateway, device, metric, tags, ${columns} FROM ${readParquet(capture.files)} WHERE ${where.sql} LIMIT ${SAMPLES_MAX + 1})
      GROUP BY gateway, device, metric, tags`;
    const result = await reader.query(sql, where.parameters);
    for (const { series, row } of selectedRows(result, selected)) yield* partialsOfRow(result, series, row);
  }
  const byKey = new Map(selected.map((one) => [seriesKey(one.gateway, one.device, one.metric, one.tags), one]));
  for (const columns of capture.tail.map(partialColumnsOf)) {
    for (const { group, windowStartUs, partial } of partialRows(columns)) {
      const series = byKey.get(seriesKey(group.gateway ?? '', group.device ?? '', group.metric ?? '', group.tags));
      if (series !== undefined && partial.n > 0)
        yield { series, windowStartUs, partial: { ...partial, histPos: NO_BUCKETS, histNeg: NO_BUCKETS } };
    }
  }
}

function* partialsOfRow(result: ResultColumns, series: CatalogueSeries, row: number): Generator<SeriesPartial> {
  const column = Object.fromEntries(PARTIAL_COLUMNS.map(([name]) => [name, numbers(result, name, row)])) as Record<
    (typeof PARTIAL_COLUMNS)[number][0],
    readonly number[]
  >;
  for (let index = 0; index < column.ws.length; index++) {
    const partial: WindowPartial = {
      n: column.n[index],
      mean: column.mean[index],
      m2: column.m2[index],
      sumValue: column.sum_value[index],
      minValue: column.min_value[index],
      maxValue: column.max_value[index],
      firstValue: column.first_value[index],
      firstTsUs: column.first_us[index],
      lastValue: column.last_value[index],
      lastTsUs: column.last_us[index],
      histPos: NO_BUCKETS,
      histNeg: NO_BUCKETS,
      histZero: 0,
      nan: 0,
      late: 0,
      revision: 0,
      gen: column.gen[index],
      srcFrom: 0,
      srcTo: 0,
    };
    yield { series, windowStartUs: column.ws[index], partial };
  }
}

function samplesOfWindows(windows: WindowsOfSeries): Samples {
  const partials = [...windows].sort(([a], [b]) => a - b).map(([, partial]) => partial);
  const pick = (key: 'n' | 'm2' | 'sumValue' | 'minValue' | 'maxValue' | 'firstValue' | 'firstTsUs' | 'lastValue' | 'lastTsUs'): number[] =>
    partials.map((partial) => partial[key]);
  return {
    lastTsUs: pick('lastTsUs'),
    last: pick('lastValue'),
    firstTsUs: pick('firstTsUs'),
    first: pick('firstValue'),
    n: pick('n'),
    sum: pick('sumValue'),
    min: pick('minValue'),
    max: pick('maxValue'),
    m2: pick('m2'),
    // A counter ends a window with its maximum unless it was reset in it; of several resets in one window one is seen.
    lostToResets: partials.map(({ maxValue, lastValue }) => (maxValue > lastValue ? maxValue : 0)),
  };
}
