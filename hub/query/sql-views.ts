/** The views of SQL over one snapshot: lake files and the partials in memory as rows that are merged and finished. */
import { CODE_OFFSET, HISTOGRAM_SCALE } from '../../shared/window/histogram.ts';
import { definitionHash } from '../../shared/window/definition.ts';
import type { AggregateCapture, LakeFile, SnapshotCapture, SnapshotRequest, TableRange } from '../engine-api.ts';
import { quote, readParquet, timestamp } from './duckdb.ts';
import type { SqlView } from './sql-plan.ts';

/** TIMESTAMPTZ as TIMESTAMP in UTC: a cast would ask the calendar of the time zone about every row (six times slower, measured). */
function utc(column: string): string {
  return `make_timestamp(epoch_us(${column}))`;
}

const READINGS_TYPES =
  'ts TIMESTAMP, gateway VARCHAR, device VARCHAR, metric VARCHAR, tags VARCHAR, value DOUBLE, text VARCHAR, epoch VARCHAR, lane VARCHAR, seq BIGINT, ingested_at TIMESTAMP, day DATE';
const EXCEPTIONS_TYPES =
  'id VARCHAR, kind VARCHAR, gateway VARCHAR, device VARCHAR, metric VARCHAR, from_ts TIMESTAMP, to_ts TIMESTAMP, reading_count BIGINT, reason VARCHAR, payload BLOB, ingested_at TIMESTAMP';
const PARTIAL_TYPES =
  'def VARCHAR, window_name VARCHAR, window_start TIMESTAMPTZ, window_end TIMESTAMPTZ, gateway VARCHAR, device VARCHAR, metric VARCHAR, tags VARCHAR, gen BIGINT, n BIGINT, mean DOUBLE, m2 DOUBLE, min_value DOUBLE, max_value DOUBLE, sum_value DOUBLE, first_value DOUBLE, first_ts TIMESTAMPTZ, last_value DOUBLE, last_ts TIMESTAMPTZ, hist_pos MAP(INTEGER, BIGINT), hist_neg MAP(INTEGER, BIGINT), hist_zero BIGINT, nan BIGINT, late BIGINT, revision BIGINT';

/** What a range without conditions is: years 1 to 9999. */
export const ALL_TIME: TableRange = { fromUs: -62_135_596_800_000_000, toUs: 253_402_300_799_000_000, devices: null, metrics: null };

/**
 * The range once more as conditions on the file's own column: a view's computed column cannot skip row groups. A bound that
 * bounds nothing is left out: every row would be compared with it (a tenth of a scan, measured).
 */
function within(column: string, { fromUs, toUs }: TableRange): string {
  const from = fromUs <= ALL_TIME.fromUs ? [] : [`${column} >= ${timestamp(fromUs)}`];
  const to = toUs >= ALL_TIME.toUs ? [] : [`${column} < ${timestamp(toUs)}`];
  return [...from, ...to].join(' AND ') || 'true';
}

function readings(files: readonly LakeFile[], range: TableRange): string {
  if (files.length === 0) return `CREATE TABLE readings (${READINGS_TYPES})`;
  return `CREATE VIEW readings AS SELECT ${utc('ts')} AS ts, gateway, device, metric, tags, value, text, epoch, lane, seq,
    ${utc('ingested_at')} AS ingested_at, ${utc('ts')}::DATE AS day FROM ${readParquet(files)} WHERE ${within('ts', range)}`;
}

function exceptions(files: readonly LakeFile[]): string {
  if (files.length === 0) return `CREATE TABLE exceptions (${EXCEPTIONS_TYPES})`;
  return `CREATE VIEW exceptions AS SELECT concat_ws('/', gateway, epoch, lane, seq, idx) AS id, kind, gateway, device, metric,
    ${utc('from_ts')} AS from_ts, ${utc('to_ts')} AS to_ts, reading_count, reason, payload, ${utc('ingested_at')} AS ingested_at
    FROM ${readParquet(files)}`;
}

/** The value below which the share `ratio` of the readings lies, as shared/window/histogram.ts has it. `hist`: (code, count) by code. */
function percentileMacro(): string {
  const middle = (code: string): string => `pow(2, (${code} - ${CODE_OFFSET} + 0.5) / ${2 ** HISTOGRAM_SCALE})`;
  return `CREATE MACRO sluice_percentile(hist, n, ratio, low, high) AS least(high, greatest(low,
    list_transform([list_reduce(hist, lambda a, b: CASE WHEN a.v >= greatest(1, ceil(ratio * n - 1e-9)) THEN a ELSE {'k': b.k, 'v': a.v + b.v} END).k],
      lambda code: CASE WHEN code > 0 THEN ${middle('code')} WHEN code < 0 THEN -${middle('-code')} ELSE 0.0 END)[1]))`;
}

const CHAN = `list_reduce(list({'n': n::DOUBLE, 'mean': mean, 'm2': m2}) FILTER (WHERE n > 0), lambda a, b: {
    'n': a.n + b.n, 'mean': a.mean + (b.mean - a.mean) * (b.n / (a.n + b.n)),
    'm2': a.m2 + b.m2 + (b.mean - a.mean) * (b.mean - a.mean) * (a.n * b.n / (a.n + b.n))}).m2`;

const KEYS = 'window_name, window_start, window_end, gateway, device, metric, tags';

/** Partials with the names that their definitions have now; rows of others are left out. */
function partials(captures: readonly AggregateCapture[], files: readonly LakeFile[], range: TableRange): string {
  if (files.length === 0) return `CREATE TABLE sluice.partials (${PARTIAL_TYPES})`;
  const names = captures.map(({ definition }) => `WHEN ${quote(definitionHash(definition))} THEN ${quote(definition.name)}`).join(' ');
  const hashes = captures.map(({ definition }) => quote(definitionHash(definition))).join(', ');
  return `CREATE VIEW sluice.partials AS SELECT * REPLACE (CASE def ${names} END AS window_name) FROM ${readParquet(files)}
    WHERE def IN (${hashes}) AND ${within('window_start', range)}`;
}

/** SQL of one window's status, as answer.ts decides it. */
function statusSql([capture]: readonly AggregateCapture[]): string {
  const active = capture?.activeGateways ?? [];
  const watermarkOf = (gateway: string): string => {
    const us = capture?.watermarks.get(gateway);
    return us === undefined ? "'-infinity'::TIMESTAMP" : utc(timestamp(us));
  };
  const entries = active.map((gateway) => `${quote(gateway)}: ${watermarkOf(gateway)}`).join(', ');
  const all = active.length === 0 ? "'infinity'::TIMESTAMP" : `least(${active.map(watermarkOf).join(', ')})`;
  const own = active.length === 0 ? "'infinity'::TIMESTAMP" : `coalesce(MAP {${entries}}[gateway], 'infinity'::TIMESTAMP)`;
  return `CASE WHEN window_end > CASE WHEN gateway IS NULL THEN ${all} ELSE ${own} END THEN 'provisional' WHEN late > 0 THEN 'revised' ELSE 'final' END`;
}

function aggregates(captures: readonly AggregateCapture[]): string {
  const nullIfEmpty = (sql: string): string => `CASE WHEN count > 0 THEN ${sql} END`;
  const percentile = (name: string, ratio: number): string => `sluice_percentile(hist, count, ${ratio}, min, max) AS ${name}`;
  return `CREATE VIEW aggregates AS
    SELECT window_name, make_timestamp(epoch_us(window_start)) AS window_start, make_timestamp(epoch_us(window_end)) AS window_end,
      gateway, device, metric, tags, count, ${nullIfEmpty('sum')} AS sum, mean, min, max, first, last,
      sqrt(variance) AS stddev, variance, last - first AS delta,
      ${percentile('p50', 0.5)}, ${percentile('p95', 0.95)}, ${percentile('p99', 0.99)},
      first_ts, last_ts, nan, late, revision, ${statusSql(captures)} AS status
    FROM (SELECT ${KEYS}, sum(n)::BIGINT AS count, sum(sum_value) AS sum, sum(n * mean) / nullif(sum(n), 0) AS mean,
        min(min_value) AS min, max(max_value) AS max,
        arg_min(first_value, {'t': first_ts, 'v': first_value}) AS first, arg_max(last_value, {'t': last_ts, 'v': last_value}) AS last,
        ${CHAN} / nullif(sum(n) - 1, 0) AS variance,
        ${utc('min(first_ts)')} AS first_ts, ${utc('max(last_ts)')} AS last_ts,
        list_sort(list_concat(
          list_transform(flatten(list(map_entries(hist_neg))), lambda e: {'k': -(e.key + ${CODE_OFFSET}), 'v': e.value::DOUBLE}),
          CASE WHEN sum(hist_zero) > 0 THEN [{'k': 0, 'v': sum(hist_zero)::DOUBLE}] ELSE [] END,
          list_transform(flatten(list(map_entries(hist_pos))), lambda e: {'k': e.key + ${CODE_OFFSET}, 'v': e.value::DOUBLE}))) AS hist,
        sum(nan)::BIGINT AS nan, sum(late)::BIGINT AS late, sum(revision)::BIGINT AS revision
      FROM sluice.partials GROUP BY ${KEYS})`;
}

/** By the coarsest window of series, which has the fewest rows; windows that overlap would count readings twice. */
function devices(captures: readonly AggregateCapture[]): string {
  const coarsest = captures
    .map(({ definition }) => definition)
    .filter(({ by, slideMs }) => by === 'series' && slideMs === undefined)
    .sort((a, b) => b.sizeMs - a.sizeMs)[0];
  return `CREATE VIEW devices AS SELECT gateway, device, list_sort(list(DISTINCT metric)) AS metrics,
    count(DISTINCT metric || chr(1) || coalesce(tags, '')) AS series, sum(n)::BIGINT AS count,
    ${utc('min(first_ts)')} AS first_ts, ${utc('max(last_ts)')} AS last_ts
    FROM sluice.partials WHERE window_name = ${quote(coarsest?.name ?? '')} GROUP BY gateway, device`;
}

/** Of all definitions; a file may have rows of several. */
export function aggregateFiles({ aggregates: captures }: SnapshotCapture): LakeFile[] {
  return [...new Map(captures.flatMap(({ files }) => files.map((file) => [file.path, file] as const))).values()];
}

/** @param tailFiles Parquet files with the partials that are in memory */
export function viewStatements(
  views: ReadonlySet<SqlView>,
  request: SnapshotRequest,
  capture: SnapshotCapture,
  tailFiles: readonly LakeFile[],
): string[] {
  const statements: string[] = [];
  if (request.readings !== null) statements.push(readings(capture.readings?.files ?? [], request.readings));
  if (request.exceptions !== null) statements.push(exceptions(capture.exceptions?.files ?? []));
  if (request.aggregates !== null) {
    const files = [...aggregateFiles(capture), ...tailFiles];
    // In a schema of its own: SHOW TABLES lists the views alone.
    statements.push('CREATE SCHEMA sluice', partials(capture.aggregates, files, request.aggregates));
    if (views.has('devices')) statements.push(devices(capture.aggregates));
    if (views.has('aggregates')) statements.push(percentileMacro(), aggregates(capture.aggregates));
  }
  return statements;
}
