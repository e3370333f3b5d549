/** The SQL of the queries, and from result columns back to rows. */
import { slideUsOf } from '../../shared/window/definition.ts';
import { isSluiceError } from '../../shared/errors.ts';
import { HISTOGRAM_SCALE } from '../../shared/window/histogram.ts';
import type { PartialRow } from '../../shared/window/partial-columns.ts';
import type { AggregateCapture, AggregateFilter, LakeFile, PendingException } from '../engine-api.ts';
import { quote, readParquet, timestamp, Where, type LakeReader, type ResultColumns } from './duckdb.ts';
import { releaseEpoch } from '../release-lane.ts';
import type { ExceptionQuery, ExceptionRow, ReadingQuery, ReadingRow } from './query-api.ts';

function column<T>(columns: ResultColumns, name: string): readonly T[] {
  return (columns.get(name) ?? []) as readonly T[];
}

function rowCountOf(columns: ResultColumns): number {
  return columns.values().next().value?.length ?? 0;
}

/** DOUBLE casts: counts and times below 2^53 come as numbers, not as bigints. */
const PARTIAL_COLUMNS = `
  gateway, device, metric, tags, epoch_us(window_start)::DOUBLE AS ws,
  n::DOUBLE AS n, mean, m2, min_value, max_value, sum_value,
  first_value, epoch_us(first_ts)::DOUBLE AS first_us, last_value, epoch_us(last_ts)::DOUBLE AS last_us,
  map_keys(hist_pos) AS pos_keys, map_values(hist_pos)::DOUBLE[] AS pos_counts,
  map_keys(hist_neg) AS neg_keys, map_values(hist_neg)::DOUBLE[] AS neg_counts,
  hist_zero::DOUBLE AS hist_zero, nan::DOUBLE AS nan, late::DOUBLE AS late, revision::DOUBLE AS revision, gen::DOUBLE AS gen,
  src_from::DOUBLE AS src_from, src_to::DOUBLE AS src_to`;

/** Partials of a persisted definition from the files of `aggregates`. @param rowsMax one more is read, so that the caller sees the bound */
export async function lakePartials(
  reader: LakeReader,
  capture: AggregateCapture,
  filter: AggregateFilter,
  rowsMax: number,
): Promise<PartialRow[]> {
  if (capture.files.length === 0) return [];
  const where = new Where()
    .and(`def = ${quote(capture.definitionHash)}`)
    .and(`window_start >= ${timestamp(filter.fromUs)} AND window_start < ${timestamp(filter.toUs)}`)
    .oneOf('metric', filter.metrics);
  if (capture.definition.by === 'series') where.oneOf('device', filter.devices).oneOf('gateway', filter.gateways);
  const sql = `SELECT ${PARTIAL_COLUMNS} FROM ${readParquet(capture.files)} WHERE ${where.sql} LIMIT ${rowsMax + 1}`;
  return partialRowsOf(await reader.query(sql, where.parameters));
}

/** Bucket of |value| (DuckDB evaluates it before a FILTER, and refuses log2(0)), as shared/window/histogram.ts defines it (±1 at a boundary: another engine's logarithm). */
const BUCKET = `CASE WHEN value <> 0 AND isfinite(value) THEN (ceil(log2(abs(value)) * ${2 ** HISTOGRAM_SCALE}) - 1)::INT END`;

/** Partials of a live-only definition, computed from the files of `readings`. */
export async function computedPartials(
  reader: LakeReader,
  capture: AggregateCapture,
  filter: AggregateFilter,
  rowsMax: number,
): Promise<PartialRow[]> {
  if (capture.files.length === 0) return [];
  const { definition } = capture;
  const sizeUs = definition.sizeMs * 1000;
  const slideUs = slideUsOf(definition);
  const where = new Where()
    .and(`ts >= ${timestamp(filter.fromUs)} AND ts < ${timestamp(filter.toUs + sizeUs)}`)
    .and('value IS NOT NULL')
    .oneOf('metric', filter.metrics);
  if (definition.by === 'series') where.oneOf('device', filter.devices).oneOf('gateway', filter.gateways);
  const keys = definition.by === 'series' ? 'gateway, device, metric, tags' : 'metric';
  const nulls = definition.by === 'series' ? '' : 'NULL::VARCHAR AS gateway, NULL::VARCHAR AS device, NULL::VARCHAR AS tags,';
  const finite = 'FILTER (WHERE isfinite(value))';
  const sql = `
    SELECT ${nulls} ${keys}, ws, count(*) ${finite}::DOUBLE AS n, coalesce(avg(value) ${finite}, 0) AS mean,
      coalesce(var_pop(value) ${finite} * count(*) ${finite}, 0) AS m2, min(value) ${finite} AS min_value, max(value) ${finite} AS max_value,
      coalesce(sum(value) ${finite}, 0) AS sum_value,
      first(value ORDER BY ts, value) ${finite} AS first_value, epoch_us(min(ts) ${finite})::DOUBLE AS first_us,
      last(value ORDER BY ts, value) ${finite} AS last_value, epoch_us(max(ts) ${finite})::DOUBLE AS last_us,
      map_keys(histogram(${BUCKET}) FILTER (WHERE isfinite(value) AND value > 0)) AS pos_keys,
      map_values(histogram(${BUCKET}) FILTER (WHERE isfinite(value) AND value > 0))::DOUBLE[] AS pos_counts,
      map_keys(histogram(${BUCKET}) FILTER (WHERE isfinite(value) AND value < 0)) AS neg_keys,
      map_values(histogram(${BUCKET}) FILTER (WHERE isfinite(value) AND value < 0))::DOUBLE[] AS neg_counts,
      (count(*) FILTER (WHERE value = 0))::DOUBLE AS hist_zero, (count(*) FILTER (WHERE NOT isfinite(value)))::DOUBLE AS nan,
      0::DOUBLE AS late, 0::DOUBLE AS revision, 0::DOUBLE AS gen, 0::DOUBLE AS src_from, ${capture.readingsVersion}::DOUBLE AS src_to
    FROM (SELECT *, (floor(epoch_us(ts)::DOUBLE / ${slideUs}) - hop) * ${slideUs} AS ws
      FROM ${readParquet(capture.files)} CROSS JOIN range(${sizeUs / slideUs}) AS hops(hop) WHERE ${where.sql})
    WHERE ws >= ${filter.fromUs} AND ws < ${filter.toUs}
    GROUP BY ${keys}, ws LIMIT ${rowsMax + 1}`;
  return partialRowsOf(await reader.query(sql, where.parameters));
}

function partialRowsOf(columns: ResultColumns): PartialRow[] {
  const text = (name: string): readonly (string | null)[] => column(columns, name);
  const number = (name: string): readonly (number | null)[] => column(columns, name);
  const [gateway, device, metric, tags] = ['gateway', 'device', 'metric', 'tags'].map(text);
  const value = Object.fromEntries(
    [
      'ws',
      'n',
      'mean',
      'm2',
      'min_value',
      'max_value',
      'sum_value',
      'first_value',
      'first_us',
      'last_value',
      'last_us',
      'hist_zero',
      'nan',
      'late',
      'revision',
      'gen',
      'src_from',
      'src_to',
    ].map((name) => [name, number(name)]),
  );
  const buckets = (sign: 'pos' | 'neg', row: number): Map<number, number> => {
    const keys = column<readonly number[] | null>(columns, `${sign}_keys`)[row] ?? [];
    const counts = column<readonly number[] | null>(columns, `${sign}_counts`)[row] ?? [];
    return new Map(keys.map((key, index) => [key, counts[index] ?? 0]));
  };
  return Array.from({ length: rowCountOf(columns) }, (_, row) => {
    const at = (name: string): number => value[name]?.[row] ?? NaN;
    return {
      group: { gateway: gateway?.[row] ?? null, device: device?.[row] ?? null, metric: metric?.[row] ?? null, tags: tags?.[row] ?? null },
      windowStartUs: at('ws'),
      partial: {
        n: at('n'),
        mean: at('mean'),
        m2: at('m2'),
        sumValue: at('sum_value'),
        minValue: at('min_value'),
        maxValue: at('max_value'),
        firstValue: at('first_value'),
        firstTsUs: at('first_us'),
        lastValue: at('last_value'),
        lastTsUs: at('last_us'),
        histPos: buckets('pos', row),
        histNeg: buckets('neg', row),
        histZero: at('hist_zero'),
        nan: at('nan'),
        late: at('late'),
        revision: at('revision'),
        gen: at('gen'),
        srcFrom: at('src_from'),
        srcTo: at('src_to'),
      },
    };
  });
}

/** Exceptions of the lake that overlap the range, as far as windows care. */
export async function lakeExceptions(
  reader: LakeReader,
  files: readonly LakeFile[],
  fromUs: number,
  toUs: number,
  rowsMax: number,
  /** Epochs of the lanes of releases: what has been released is not missing any more. */
  released: ReadonlySet<string>,
): Promise<PendingException[]> {
  if (files.length === 0) return [];
  const sql = `
    SELECT gateway, epoch, lane, seq::DOUBLE AS seq, idx, kind, device, metric, epoch_us(from_ts)::DOUBLE AS from_us, epoch_us(to_ts)::DOUBLE AS to_us,
      reading_count::DOUBLE AS reading_count, reason
    FROM ${readParquet(files)} WHERE from_ts < ${timestamp(toUs)} AND to_ts > ${timestamp(fromUs)} LIMIT ${rowsMax}`;
  const columns = await reader.query(sql, []);
  const isReleased = (row: number): boolean =>
    column<string>(columns, 'kind')[row] === 'quarantined' &&
    released.has(
      releaseEpoch({
        gateway: column<string>(columns, 'gateway')[row],
        epoch: column<string>(columns, 'epoch')[row],
        lane: column<string>(columns, 'lane')[row],
        seq: column<number>(columns, 'seq')[row],
        idx: column<number>(columns, 'idx')[row],
      }),
    );
  const rows = Array.from({ length: rowCountOf(columns) }, (_, row) => row);
  return (released.size === 0 ? rows : rows.filter((row) => !isReleased(row))).map((row) => ({
    gateway: column<string | null>(columns, 'gateway')[row] ?? null,
    kind: column<string>(columns, 'kind')[row] ?? '',
    device: column<string | null>(columns, 'device')[row] ?? null,
    metric: column<string | null>(columns, 'metric')[row] ?? null,
    fromUs: column<number>(columns, 'from_us')[row] ?? 0,
    toUs: column<number>(columns, 'to_us')[row] ?? 0,
    readingCount: column<number | null>(columns, 'reading_count')[row] ?? null,
    reason: column<string>(columns, 'reason')[row] ?? '',
  }));
}

/** Every value of the file is looked at. A query that may not take so long, or so much memory, proves nothing. */
export async function isReadable(reader: LakeReader, path: string): Promise<boolean> {
  try {
    await reader.query(`SELECT max(hash(rows)) FROM ${readParquet([{ path, size: 0, day: null }])} rows`, []);
    return true;
  } catch (error) {
    return !isSluiceError(error, 'ERR_QUERY_FAILED') && !isSluiceError(error, 'ERR_QUERY_FILE_GONE');
  }
}

/** Raw rows in the total order (ts, gateway, device, metric, tags, epoch, lane, seq); one more than the limit, behind the cursor. */
export async function lakeReadings(reader: LakeReader, files: readonly LakeFile[], query: ReadingQuery): Promise<ReadingRow[]> {
  if (files.length === 0) return [];
  const where = new Where()
    .and(`ts >= ${timestamp(query.fromUs)} AND ts < ${timestamp(query.toUs)}`)
    .oneOf('metric', query.metrics)
    .oneOf('device', query.devices)
    .oneOf('gateway', query.gateways)
    .tags('tags', query.tags);
  const { after } = query;
  const direction = query.order === 'asc' ? 'ASC' : 'DESC';
  if (after !== null) {
    const place = [after.gateway, after.device, after.metric, after.tags, after.epoch, after.lane].map((part) => where.bind(part));
    const cursor = `(${timestamp(after.tsUs)}, ${place.join(', ')}, ${where.bind(after.seq)})`;
    where.and(`(ts, gateway, device, metric, coalesce(tags, ''), epoch, lane, seq) ${query.order === 'asc' ? '>=' : '<='} ${cursor}`);
  }
  const order = ['ts', 'gateway', 'device', 'metric', "coalesce(tags, '')", 'epoch', 'lane', 'seq']
    .map((key) => `${key} ${direction}`)
    .join(', ');
  const sql = `
    SELECT epoch_us(ts)::DOUBLE AS ts_us, gateway, device, metric, tags, value, text, epoch, lane, seq::DOUBLE AS seq, epoch_us(ingested_at)::DOUBLE AS ingested_us
    FROM ${readParquet(files)} WHERE ${where.sql} ORDER BY ${order}, value ${direction}, text ${direction} LIMIT ${query.limit + 1} OFFSET ${after?.skip ?? 0}`;
  const columns = await reader.query(sql, where.parameters);
  return Array.from({ length: rowCountOf(columns) }, (_, row) => ({
    tsUs: column<number>(columns, 'ts_us')[row] ?? 0,
    gateway: column<string>(columns, 'gateway')[row] ?? '',
    device: column<string>(columns, 'device')[row] ?? '',
    metric: column<string>(columns, 'metric')[row] ?? '',
    tags: column<string | null>(columns, 'tags')[row] ?? null,
    value: column<number | null>(columns, 'value')[row] ?? null,
    text: column<string | null>(columns, 'text')[row] ?? null,
    epoch: column<string>(columns, 'epoch')[row] ?? '',
    lane: column<string>(columns, 'lane')[row] ?? '',
    seq: column<number>(columns, 'seq')[row] ?? 0,
    ingestedUs: column<number>(columns, 'ingested_us')[row] ?? 0,
  }));
}

/** Newest first; one more than the limit. */
export async function lakeExceptionRows(reader: LakeReader, files: readonly LakeFile[], query: ExceptionQuery): Promise<ExceptionRow[]> {
  if (files.length === 0) return [];
  const where = new Where()
    .and(`from_ts < ${timestamp(query.toUs)} AND to_ts > ${timestamp(query.fromUs)}`)
    .oneOfOrUnknown('gateway', query.gateways)
    .oneOf('device', query.devices)
    .oneOf('metric', query.metrics)
    .oneOf('kind', query.kinds);
  const { after, id = null } = query;
  if (id !== null)
    where.and(
      `epoch = ${where.bind(id.epoch)} AND lane = ${where.bind(id.lane)} AND seq = ${where.bind(id.seq)} AND idx = ${where.bind(id.idx)}`,
    );
  if (after !== null) {
    const place = [after.gateway, after.epoch, after.lane, after.seq, -after.idx].map((part) => where.bind(part));
    where.and(`(ingested_at, coalesce(gateway, ''), epoch, lane, seq, -idx) < (${timestamp(after.ingestedUs)}, ${place.join(', ')})`);
  }
  const sql = `
    SELECT gateway, epoch, lane, seq::DOUBLE AS seq, idx, kind, device, metric, epoch_us(from_ts)::DOUBLE AS from_us, epoch_us(to_ts)::DOUBLE AS to_us,
      reading_count::DOUBLE AS reading_count, reason, payload, epoch_us(ingested_at)::DOUBLE AS ingested_us
    FROM ${readParquet(files)} WHERE ${where.sql}
    ORDER BY ingested_at DESC, coalesce(gateway, '') DESC, epoch DESC, lane DESC, seq DESC, idx LIMIT ${query.limit + 1}`;
  const columns = await reader.query(sql, where.parameters);
  return Array.from({ length: rowCountOf(columns) }, (_, row) => ({
    gateway: column<string>(columns, 'gateway')[row] ?? '',
    epoch: column<string>(columns, 'epoch')[row] ?? '',
    lane: column<string>(columns, 'lane')[row] ?? '',
    seq: column<number>(columns, 'seq')[row] ?? 0,
    idx: column<number>(columns, 'idx')[row] ?? 0,
    kind: column<string>(columns, 'kind')[row] ?? '',
    device: column<string | null>(columns, 'device')[row] ?? null,
    metric: column<string | null>(columns, 'metric')[row] ?? null,
    fromUs: column<number>(columns, 'from_us')[row] ?? 0,
    toUs: column<number>(columns, 'to_us')[row] ?? 0,
    readingCount: column<number | null>(columns, 'reading_count')[row] ?? null,
    reason: column<string>(columns, 'reason')[row] ?? '',
    payload: column<Uint8Array | null>(columns, 'payload')[row] ?? null,
    ingestedUs: column<number>(columns, 'ingested_us')[row] ?? 0,
  }));
}

/** Series with their newest reading, of the definition by series that the capture is of; merged with the tail by the caller. */
export async function lakeSeries(reader: LakeReader, capture: AggregateCapture, rowsMax: number): Promise<PartialRow[]> {
  if (capture.files.length === 0) return [];
  const sql = `
    SELECT gateway, device, metric, tags, 0::DOUBLE AS ws, sum(n)::DOUBLE AS n, 0::DOUBLE AS mean, 0::DOUBLE AS m2, 0::DOUBLE AS sum_value,
      epoch_us(min(first_ts))::DOUBLE AS first_us, epoch_us(max(last_ts))::DOUBLE AS last_us, arg_max(last_value, last_ts) AS last_value, 0::DOUBLE AS gen
    FROM ${readParquet(capture.files)} WHERE def = ${quote(capture.definitionHash)}
    GROUP BY gateway, device, metric, tags ORDER BY last_us DESC NULLS LAST LIMIT ${rowsMax + 1}`;
  return partialRowsOf(await reader.query(sql, []));
}
