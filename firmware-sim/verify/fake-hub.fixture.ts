/**
 * A lake and a hub for the tests of verify, made by other means than Sluice's: Parquet files by DuckDB, a Delta log by
 * hand, and an HTTP server whose aggregates come from shared/window's algebra (verify's own expectations do not use it).
 */
import { randomUUID } from 'node:crypto';
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { DEFAULT_FUNCTIONS, EMPTY_PARTIAL, finalise, mergePartials, type WindowPartial } from '../../shared/window/partial.ts';
import { bucketOf } from '../../shared/window/histogram.ts';

export interface FakeRow {
  readonly eventTimeUs: number;
  readonly gateway: string;
  readonly device: string;
  readonly metric: string;
  readonly tags: string | null;
  readonly value: number | null;
  readonly text: string | null;
}

export interface FakeException {
  readonly kind: string;
  readonly device: string | null;
  readonly metric: string | null;
  readonly fromUs: number;
  readonly toUs: number;
  readonly readingCount: number | null;
  /** Last part of its id. */
  readonly idx?: number;
}

function writeLog(table: string, version: number, actions: readonly object[]): void {
  mkdirSync(path.join(table, '_delta_log'), { recursive: true });
  const lines = actions.map((action) => JSON.stringify(action)).join('\n');
  writeFileSync(path.join(table, '_delta_log', `${String(version).padStart(20, '0')}.json`), `${lines}\n`);
}

function firstActions(): object[] {
  return [
    { protocol: { minReaderVersion: 1, minWriterVersion: 2 } },
    { metaData: { id: randomUUID(), partitionColumns: [], configuration: {} } },
  ];
}

let instance: DuckDBInstance | null = null; // one per test file: starting it takes longer than using it

/** Writes the tables `readings` (a file per commit and day) and `exceptions` below the directory. */
export async function writeFakeLake(
  lakeDir: string,
  commits: readonly (readonly FakeRow[])[],
  exceptions: readonly FakeException[],
): Promise<void> {
  instance ??= await DuckDBInstance.create(':memory:');
  const connection = await instance.connect();
  const copy = async (file: string, columns: string, rows: readonly object[]): Promise<void> => {
    mkdirSync(path.dirname(file), { recursive: true });
    const json = `${file}.json`;
    writeFileSync(json, rows.map((row) => JSON.stringify(row)).join('\n'));
    await connection.run(
      `COPY (SELECT ${columns} FROM read_json('${json}', format = 'newline_delimited', columns = {ts: 'BIGINT', gateway: 'VARCHAR', device: 'VARCHAR', metric: 'VARCHAR', tags: 'VARCHAR', value: 'DOUBLE', text: 'VARCHAR', kind: 'VARCHAR', from_us: 'BIGINT', to_us: 'BIGINT', reading_count: 'BIGINT', idx: 'INTEGER'})) TO '${file}' (FORMAT parquet, COMPRESSION zstd)`,
    );
  };
  try {
    const readings = path.join(lakeDir, 'readings');
    writeLog(readings, 0, firstActions());
    for (const [index, rows] of commits.entries()) {
      const days = new Map<string, FakeRow[]>();
      for (const row of rows) {
        const day = new Date(row.eventTimeUs / 1000).toISOString().slice(0, 10);
        days.set(day, [...(days.get(day) ?? []), row]);
      }
      const adds = [];
      for (const [day, dayRows] of days) {
        const file = `day=${day}/part-${index}-${randomUUID()}.parquet`;
        const columns =
          "make_timestamptz(ts) AS ts, gateway, device, metric, tags, value, text, 'e' AS epoch, 'live' AS lane, 1::BIGINT AS seq";
        await copy(
          path.join(readings, file),
          columns,
          dayRows.map(({ eventTimeUs, ...row }) => ({ ts: eventTimeUs, ...row })),
        );
        adds.push({
          add: { path: encodeURI(file), size: statSync(path.join(readings, file)).size, partitionValues: { day }, dataChange: true },
        });
      }
      writeLog(readings, index + 1, [{ commitInfo: {} }, ...adds]);
    }
    const table = path.join(lakeDir, 'exceptions');
    writeLog(table, 0, firstActions());
    if (exceptions.length > 0) {
      const columns =
        "NULL::VARCHAR AS gateway, 'e' AS epoch, 'live' AS lane, 1::BIGINT AS seq, idx, kind, device, metric, make_timestamptz(from_us) AS from_ts, make_timestamptz(to_us) AS to_ts, reading_count, 'test' AS reason, NULL::BLOB AS payload";
      await copy(
        path.join(table, 'part-0.parquet'),
        columns,
        exceptions.map(({ fromUs, toUs, readingCount, ...rest }, index) => ({
          idx: index,
          from_us: fromUs,
          to_us: toUs,
          reading_count: readingCount,
          ...rest,
        })),
      );
      writeLog(table, 1, [
        { add: { path: 'part-0.parquet', size: statSync(path.join(table, 'part-0.parquet')).size, partitionValues: {}, dataChange: true } },
      ]);
    }
  } finally {
    connection.closeSync();
  }
}

function partialOf(row: FakeRow): WindowPartial {
  const value = row.value ?? NaN;
  const one = new Map(value === 0 ? [] : [[bucketOf(value), 1]]);
  return {
    ...EMPTY_PARTIAL,
    n: 1,
    mean: value,
    sumValue: value,
    minValue: value,
    maxValue: value,
    firstValue: value,
    firstTsUs: row.eventTimeUs,
    lastValue: value,
    lastTsUs: row.eventTimeUs,
    histPos: value > 0 ? one : new Map(),
    histNeg: value < 0 ? one : new Map(),
    histZero: value === 0 ? 1 : 0,
  };
}

const WINDOWS: Record<string, { sizeUs: number; byMetric: boolean }> = {
  '1m': { sizeUs: 60_000_000, byMetric: false },
  '1h': { sizeUs: 3_600_000_000, byMetric: false },
  '1m_by_metric': { sizeUs: 60_000_000, byMetric: true },
};

export type AnswerRow = Record<string, unknown>;

function answerRows(rows: readonly FakeRow[], window: string, metric: string, fromUs: number, toUs: number): AnswerRow[] {
  const { sizeUs, byMetric } = WINDOWS[window];
  const groups = new Map<string, { row: FakeRow; startUs: number; partial: WindowPartial }>();
  for (const row of rows) {
    const startUs = Math.floor(row.eventTimeUs / sizeUs) * sizeUs;
    if (row.metric !== metric || row.value === null || startUs < fromUs || startUs >= toUs) continue;
    const key = byMetric ? `${startUs}` : `${row.gateway} ${row.device} ${row.tags} ${startUs}`;
    const known = groups.get(key);
    const partial = partialOf(row);
    groups.set(key, { row, startUs, partial: known === undefined ? partial : mergePartials(known.partial, partial) });
  }
  return [...groups.values()].map(({ row, startUs, partial }) => ({
    window_start: new Date(startUs / 1000).toISOString(),
    window_end: new Date((startUs + sizeUs) / 1000).toISOString(),
    ...(byMetric ? {} : { gateway: row.gateway, device: row.device, tags: row.tags === null ? null : JSON.parse(row.tags) }),
    metric,
    ...Object.fromEntries(finalise(partial, DEFAULT_FUNCTIONS).map((value, index) => [DEFAULT_FUNCTIONS[index], value])),
    status: 'provisional',
    revision: 0,
    lost: 0,
  }));
}

export interface FakeHub {
  readonly url: string;
  readonly server: Server;
}

const PAGE_ROWS = 13; // small, so that cursors are followed

/** @param change what the hub says instead of the right row; null: it leaves the row out */
export async function startFakeHub(
  rows: () => readonly FakeRow[],
  change: (row: AnswerRow, window: string) => AnswerRow | null,
): Promise<FakeHub> {
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://localhost');
    const parameter = (name: string): string => url.searchParams.get(name) ?? '';
    if (url.pathname !== '/v1/aggregates' || request.headers.authorization !== 'Bearer secret') {
      response.writeHead(401).end('{}');
      return;
    }
    const all = answerRows(
      rows(),
      parameter('window'),
      parameter('metric'),
      Date.parse(parameter('from')) * 1000,
      Date.parse(parameter('to')) * 1000,
    );
    const changed = all.map((row) => change(row, parameter('window'))).filter((row) => row !== null);
    const start = Number(parameter('cursor'));
    const next = start + PAGE_ROWS;
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ rows: changed.slice(start, next), next_cursor: next < changed.length ? String(next) : null }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}
