import { tableFromIPC } from 'apache-arrow';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { readParquetRows } from '../lake/parquet/read.ts';
import { ApiFixture, problemOf, START_US } from './app.fixture.ts';

let api: ApiFixture;
beforeAll(async () => {
  api = await ApiFixture.start();
  await api.fill();
});
afterAll(() => api.stop());

interface Answer {
  columns: { name: string; type: string }[];
  rows: Record<string, unknown>[];
  row_count: number;
  versions: Record<string, number>;
}

function post(body: unknown, headers: Record<string, string> = {}, signal?: AbortSignal): Promise<Response> {
  const request = new Request('http://localhost/v1/sql', {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
    ...(signal === undefined ? {} : { signal }),
  });
  return Promise.resolve(api.app.request(request));
}

async function rows(sql: string, parameters?: unknown): Promise<Record<string, unknown>[]> {
  const response = await post({ sql, ...(parameters === undefined ? {} : { parameters }) });
  const text = await response.text();
  if (response.status !== 200) throw new Error(`${response.status}: ${text}`);
  return (JSON.parse(text) as Answer).rows;
}

test('readings are rows with times in UTC, and parameters are bound by place and by name', async () => {
  const sql = 'SELECT ts, device, value FROM readings WHERE metric = $1 AND ts < $2 ORDER BY ts, value LIMIT 1';
  expect(await rows(sql, ['temperature', '2026-11-22 12:00:05'])).toEqual([{ ts: '2026-11-22T12:00:00Z', device: 'pump-1', value: 0 }]);
  expect(await rows('SELECT count(*) AS n FROM readings WHERE gateway = $gateway', { gateway: 'gw-2' })).toEqual([{ n: 60 }]);
});

test('aggregates are merged over lake, tail and what is only received, and say what /v1/aggregates says', async () => {
  const asked = await api.json<{ rows: Record<string, unknown>[] }>(
    `/v1/aggregates?window=1m&from=${START_US}&functions=count,sum,mean,min,max,first,last,stddev,variance,delta,p50,p95,p99&limit=1000`,
  );
  const merged = await rows("SELECT * FROM aggregates WHERE window_name = '1m' ORDER BY window_start, gateway");
  expect(merged.length).toBe(asked.rows.length);
  const names = [
    'count',
    'sum',
    'mean',
    'min',
    'max',
    'first',
    'last',
    'stddev',
    'variance',
    'delta',
    'p50',
    'p95',
    'p99',
    'late',
    'revision',
  ];
  asked.rows.forEach((row, index) => {
    expect(merged[index]).toMatchObject({
      window_start: row['window_start'],
      gateway: row['gateway'],
      device: row['device'],
      status: row['status'],
    });
    for (const name of names) {
      if (row[name] === null) expect(merged[index][name], name).toBeNull();
      else expect(merged[index][name] as number, name).toBeCloseTo(row[name] as number, 6);
    }
  });
});

test('exceptions and devices are views, and a statement sees one snapshot of all of them', async () => {
  expect(await rows("SELECT kind, device, reading_count FROM exceptions WHERE kind = 'gap'")).toEqual([
    { kind: 'gap', device: 'pump-1', reading_count: 42 },
  ]);
  expect(await rows('SELECT gateway, metrics, series FROM devices ORDER BY gateway')).toEqual([
    { gateway: 'gw-1', metrics: ['temperature'], series: 1 },
    { gateway: 'gw-2', metrics: ['temperature'], series: 1 },
  ]);
  const response = await post({ sql: 'SELECT (SELECT count(*) FROM readings) AS a, (SELECT sum(count) FROM aggregates) AS b' });
  expect(((await response.json()) as Answer).versions).toMatchObject({ readings: expect.any(Number), aggregates: expect.any(Number) });
});

test('conditions on time and names choose the files that are read', async () => {
  const explain = async (where: string): Promise<string> =>
    JSON.stringify(await rows(`EXPLAIN ANALYZE SELECT count(*) FROM readings r WHERE ${where}`));
  const filesOf = (plan: string): number => Number(/Total Files Read: (\d+)/.exec(plan)?.[1] ?? 0);
  const all = filesOf(await explain('value >= 0'));
  expect(all).toBeGreaterThan(1);
  expect(filesOf(await explain("r.ts >= TIMESTAMP '2026-11-22 12:10:00'"))).toBe(0);
  expect(filesOf(await explain("device IN ('a', 'b')"))).toBe(0);
  expect(filesOf(await explain("ts >= '2026-11-22' OR device = 'a'"))).toBe(all);
  expect(filesOf(await explain("NOT (device = 'a')"))).toBe(all);
});

test.each([
  ["SELECT count(*) AS n FROM (SELECT * FROM readings WHERE device = 'nobody') x FULL JOIN readings y USING (device, ts)", 340],
  ['WITH readings AS (SELECT * FROM main.readings) SELECT count(*) AS n FROM readings', 340],
  ["SELECT count(*) AS n FROM readings AS r(a, b) WHERE b = 'gw-1'", 280],
  ["SELECT count(*) AS n FROM (VALUES ('pump-1')) v(device) SEMI JOIN readings USING (device) WHERE device = 'pump-1'", 1],
])('no row is left out by the choice of files: %s', async (sql, n) => {
  // What is received only when the test starts is committed within an interval.
  await vi.waitFor(async () => expect(await rows(sql)).toEqual([{ n }]), 5_000);
});

test('who looks around finds the views, and their columns', async () => {
  const views = ['aggregates', 'alerts', 'devices', 'exceptions', 'readings'];
  expect((await rows('SHOW TABLES')).map(({ name }) => name)).toEqual(expect.arrayContaining(views));
  const names = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'main' ORDER BY 1";
  expect((await rows(names)).map(({ table_name: name }) => name)).toEqual((await rows('SHOW TABLES')).map(({ name }) => name));
  expect((await rows('DESCRIBE aggregates')).map(({ column_name: name }) => name)).toContain('p95');
  expect(
    await rows('SELECT (SELECT count(*) FROM readings) AS n, (SELECT count(*) FROM duckdb_views WHERE NOT internal) > 0 AS listed'),
  ).toEqual([{ n: 340, listed: true }]);
  const { detail } = await problemOf(await post({ sql: 'SELECT * FROM reading' }));
  expect(detail).toContain('readings, aggregates');
  expect(detail).not.toContain('pg_');
});

test('the form of the answer is asked for in the URL as on every other route, or in the body', async () => {
  const ask = (url: string, body: unknown): Promise<Response> =>
    Promise.resolve(
      api.app.request(`http://localhost/v1/sql${url}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      }),
    );
  expect(await (await ask('?format=csv', { sql: 'SELECT 1 AS a' })).text()).toBe('a\r\n1\r\n');
  expect(await problemOf(await ask('?format=csv', { sql: 'SELECT 1', format: 'json' }))).toMatchObject({
    errors: [{ parameter: 'format' }],
  });
  expect(await problemOf(await ask('?fromat=csv', { sql: 'SELECT 1' }))).toMatchObject({ errors: [{ parameter: 'fromat' }] });
});

test('every format has the same rows', async () => {
  const sql =
    'SELECT ts, device, value, value > 5 AS high, seq, [1, 2] AS list, NULL AS nothing FROM readings WHERE value IN (0, 7) ORDER BY ts, value LIMIT 2';
  const first = { ts: '2026-11-22T12:00:00Z', device: 'pump-1', value: 0, high: false, seq: 1, list: [1, 2], nothing: null };
  expect((await rows(sql))[0]).toEqual(first);
  const ndjson = await (await post({ sql, format: 'ndjson' })).text();
  expect(JSON.parse(ndjson.split('\n')[0])).toEqual(first);
  const csv = await (await post({ sql }, { accept: 'text/csv' })).text();
  expect(csv.split('\r\n').slice(0, 2)).toEqual([
    'ts,device,value,high,seq,list,nothing',
    '2026-11-22T12:00:00Z,pump-1,0,false,1,"[1,2]",',
  ]);
  const arrow = tableFromIPC(new Uint8Array(await (await post({ sql }, { accept: 'application/vnd.apache.arrow.stream' })).arrayBuffer()));
  expect(arrow.toArray().map((row) => row.toJSON())[0]).toMatchObject({
    device: 'pump-1',
    value: 0,
    high: false,
    seq: 1n,
    list: '[1,2]',
    nothing: null,
  });
  const parquet = await readParquetRows(new Uint8Array(await (await post({ sql, format: 'parquet' })).arrayBuffer()));
  expect(parquet[0]).toMatchObject({ ts: START_US, device: 'pump-1', value: 0, high: false, seq: 1, list: '[1,2]' });
});

test.each([
  "SELECT * FROM read_csv('/etc/passwd')",
  "SELECT * FROM read_text('/etc/passwd')",
  "SELECT * FROM read_blob('/proc/self/environ')",
  "SELECT * FROM read_parquet('/etc/passwd')",
  "SELECT * FROM glob('/*')",
  "SELECT * FROM '/etc/passwd'",
  'SELECT * FROM "/etc/hostname.csv"',
  "SELECT * FROM sniff_csv('/etc/passwd')",
  'SELECT * FROM duckdb_settings()',
  "SELECT * FROM query('SELECT 1')",
  "SELECT * FROM enable_logging('QueryLog', storage = 'file', storage_path = '/tmp/sluice-log')",
  "SELECT (SELECT content FROM read_text('/etc/passwd'))",
  "SELECT * FROM readings WHERE device IN (SELECT content FROM read_text('/etc/passwd'))",
  "WITH a AS MATERIALIZED (SELECT * FROM read_text('/etc/passwd')) SELECT * FROM a",
  "DESCRIBE SELECT * FROM read_text('/etc/passwd')",
  "COPY (SELECT 1) TO '/tmp/sluice.csv'",
  "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/sluice.csv'",
  "/* x */ -- y\n explain analyze COPY (SELECT 1) TO '/tmp/sluice.csv'",
  "EXPLAIN EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/sluice.csv'",
  "COPY readings FROM '/etc/passwd'",
  "ATTACH '/tmp/sluice.db'",
  'INSTALL httpfs',
  'LOAD httpfs',
  'SET threads = 64',
  'RESET ALL',
  'PRAGMA database_list',
  'CALL pragma_version()',
  'CREATE TABLE a (b INT)',
  'INSERT INTO readings VALUES (1)',
  'DROP VIEW readings',
  "EXPORT DATABASE '/tmp/sluice'",
  'CHECKPOINT',
  'SELECT 1; SELECT 2',
  'PREPARE a AS SELECT 1',
  'VACUUM',
  'BEGIN',
])('is refused: %s', async (sql) => {
  const problem = await problemOf(await post({ sql }));
  expect([problem.status, problem.code]).toEqual([400, expect.stringMatching(/^ERR_SQL_(REFUSED|INVALID)$/)]);
});

test('a wrong statement or body says what is wrong', async () => {
  expect(await problemOf(await post({ sql: 'SELECT vallue FROM readings' }))).toMatchObject({
    code: 'ERR_SQL_INVALID',
    detail: expect.stringContaining('vallue'),
  });
  expect(await problemOf(await post({ sql: 'SELECT $1' }))).toMatchObject({ status: 400 });
  expect(await problemOf(await post({ sql: 'SELECT 1', limit: 0, formt: 'csv' }))).toMatchObject({
    status: 400,
    errors: [{ parameter: 'limit' }, { parameter: 'formt' }],
  });
  expect(await problemOf(await post({ query: 'SELECT 1' }))).toMatchObject({
    errors: [
      { parameter: 'sql', detail: expect.stringContaining('{"sql":') },
      { parameter: 'query', detail: expect.stringContaining('there are sql') },
    ],
  });
  expect(await problemOf(await post([]))).toMatchObject({ errors: [{ parameter: 'body', detail: expect.stringContaining('object') }] });
  expect(await problemOf(await post({ sql: 'SELECT $1', parameters: [[1]] }))).toMatchObject({
    errors: [{ parameter: 'parameters', detail: expect.stringContaining('a list of at most') }],
  });
  expect(await problemOf(await post({ sql: 'SELECT 1' }, { 'content-type': 'text/plain' }))).toMatchObject({
    status: 415,
    detail: expect.stringContaining('send `content-type: application/json`'),
  });
  expect(await problemOf(await post({ sql: 'SELECT 1' }, { 'content-encoding': 'gzip' }))).toMatchObject({ status: 415 });
  expect(await problemOf(await post({ sql: 'x'.repeat(300_000) }))).toMatchObject({ status: 413 });
  expect(await problemOf(await post({ sql: 'SELECT * FROM range(11)', limit: 10 }))).toMatchObject({
    code: 'ERR_QUERY_TOO_LARGE',
    detail: expect.stringContaining('10 rows'),
  });
  expect((await api.get('/v1/sql')).headers.get('allow')).toBe('POST');
});
