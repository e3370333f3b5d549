import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readParquetRows } from '../lake/parquet/read.ts';
import { ApiFixture, START_US } from './app.fixture.ts';

interface Page {
  readonly window: string;
  readonly from: string;
  readonly to: string;
  readonly rows: readonly Record<string, unknown>[];
  readonly waiting_for: readonly string[];
  readonly next_cursor: string | null;
}

const MINUTE_US = 60_000_000;

let api: ApiFixture;
beforeAll(async () => {
  api = await ApiFixture.start();
  await api.fill();
});
afterAll(() => api.stop());

async function allPages(path: string): Promise<Record<string, unknown>[]> {
  const rows: Record<string, unknown>[] = [];
  let cursor: string | null = null;
  for (let page = 0; page < 100; page++) {
    const answer: Page = await api.json(cursor === null ? path : `${path}&cursor=${cursor}`);
    rows.push(...answer.rows);
    cursor = answer.next_cursor;
    if (cursor === null) return rows;
  }
  throw new Error('the pages do not end');
}

/** The query engine adds up in parallel: the last digits differ from answer to answer. */
function rounded(row: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(row).map(([name, value]) => [name, typeof value === 'number' ? Number(value.toPrecision(12)) : value]),
  );
}

describe('GET /v1/aggregates', () => {
  test('with nothing but a metric answers the last hour in minutes', async () => {
    const page = await api.json<Page>('/v1/aggregates?metric=temperature');
    expect(page).toMatchObject({
      window: '1m',
      from: '2026-11-22T12:00:00Z',
      to: '2026-11-22T13:00:00Z',
      next_cursor: null,
      waiting_for: ['gw-1', 'gw-2'],
    });
    expect(page.rows[0]).toMatchObject({
      window_start: '2026-11-22T12:00:00Z',
      window_end: '2026-11-22T12:01:00Z',
      gateway: 'gw-1',
      device: 'pump-1',
      metric: 'temperature',
      tags: null,
      count: 60,
      sum: 1770,
      mean: 29.5,
      min: 0,
      max: 59,
      first: 0,
      last: 59,
      status: 'provisional',
      revision: 0,
      late: 0,
      lost: 0,
      complete: false,
    });
    expect(page.rows[0]?.['stddev']).toBeCloseTo(Math.sqrt(305), 9);
    expect(Math.abs((page.rows[0]?.['p50'] as number) - 29.5)).toBeLessThan(1);
  });

  test('counts lake, tail and what is only received once each', async () => {
    for (const window of ['10s', '1m', '1h', '1m_by_metric']) {
      const rows = await allPages(`/v1/aggregates?window=${window}&from=2026-11-22T12:00:00Z&to=now&limit=1000`);
      expect(
        rows.reduce((sum, row) => sum + (row['count'] as number), 0),
        window,
      ).toBe(120 + 60 + 60 + 100);
    }
  });

  test.each(['10s', '1m', '1m_by_metric'])('pages of %s are together the whole answer, in its order', async (window) => {
    const path = `/v1/aggregates?window=${window}&from=2026-11-22T12:00:00Z&to=2026-11-22T13:00:00Z`;
    const whole = await allPages(`${path}&limit=10000`);
    expect(whole.length).toBeGreaterThan(3);
    for (const limit of [2, 7]) expect((await allPages(`${path}&limit=${limit}`)).map(rounded)).toEqual(whole.map(rounded));
    const places = whole.map((row) => `${row['window_start'] as string} ${row['gateway'] as string}`);
    expect(places).toEqual([...places].sort());
  });

  test('pages go on where they ended although older and newer windows changed in between', async () => {
    const other = await ApiFixture.start();
    try {
      await other.commit('gw-1', START_US + 10 * MINUTE_US, 300, 0);
      const first = await other.json<Page>('/v1/aggregates?metric=temperature&limit=2');
      await other.commit('gw-1', START_US + 5 * MINUTE_US, 60, 0);
      await other.restart();
      other.clock.advance(10 * MINUTE_US);
      await other.commit('gw-1', START_US + 65 * MINUTE_US, 60, 0);
      const second = await other.json<Page>(`/v1/aggregates?metric=temperature&limit=10&cursor=${first.next_cursor ?? ''}`);
      expect([...first.rows, ...second.rows].map((row) => row['window_start'])).toEqual(
        ['10', '11', '12', '13', '14'].map((minute) => `2026-11-22T12:${minute}:00Z`),
      );
      expect(second.to).toBe(first.to);
    } finally {
      await other.stop();
    }
  });

  test('filters by lists and repeated parameters', async () => {
    const count = async (query: string): Promise<number> =>
      (await api.json<Page>(`/v1/aggregates?window=1h&from=now-2h&${query}`)).rows.length;
    expect(await count('gateway=gw-1')).toBe(1);
    expect(await count('gateway=gw-1,gw-2')).toBe(2);
    expect(await count('gateway=gw-1&gateway=gw-2&device=pump-1')).toBe(2);
    expect(await count('gateway=gw-3')).toBe(0);
    expect(await count('metric=pressure')).toBe(0);
    expect(await count('device=pump-1%5C%2Cgw')).toBe(0);
  });

  test('answers the functions that are asked for, and count', async () => {
    const { rows } = await api.json<Page>('/v1/aggregates?metric=temperature&functions=p99.9,delta&functions=mean&limit=1');
    expect(Object.keys(rows[0] ?? {})).toEqual([
      'window_start',
      'window_end',
      'gateway',
      'device',
      'metric',
      'tags',
      'count',
      'p99.9',
      'delta',
      'mean',
      'status',
      'revision',
      'late',
      'lost',
      'lost_is_estimate',
      'complete',
    ]);
  });

  test('a group by metric has no gateway and device', async () => {
    const { rows } = await api.json<Page>('/v1/aggregates?window=1m_by_metric&from=now-2h');
    expect(rows[0]).toMatchObject({ gateway: null, device: null, tags: null, metric: 'temperature', count: 120 });
  });

  test('what exceptions say is missing shows as lost, and the window is not complete', async () => {
    const { rows } = await api.json<Page>('/v1/aggregates?window=1m&from=2026-11-22T12:00:00Z&gateway=gw-2');
    expect(rows).toMatchObject([{ lost: null, lost_is_estimate: true, complete: false }]);
    const byMetric = await api.json<Page>('/v1/aggregates?window=1m_by_metric&from=2026-11-22T12:02:00Z&to=2026-11-22T12:03:00Z');
    expect(byMetric.rows).toMatchObject([{ lost: 42, complete: false }]);
  });

  test('as CSV has the same rows, and the next page in a Link header', async () => {
    const path = '/v1/aggregates?window=1m&from=2026-11-22T12:00:00Z&limit=2';
    const { rows } = await api.json<Page>(path);
    for (const response of [await api.get(`${path}&format=csv`), await api.get(path, { accept: 'text/csv' })]) {
      expect(response.headers.get('content-type')).toContain('text/csv');
      expect(response.headers.get('link')).toMatch(/^<\?window=1m&.*cursor=.*>; rel="next"$/);
      const [header = '', ...lines] = (await response.text()).trimEnd().split('\r\n');
      const columns = header.split(',');
      expect(lines.map((line) => line.split(',')[columns.indexOf('count')])).toEqual(rows.map((row) => String(row['count'])));
    }
  });

  test('an answer is compressed for who takes that', async () => {
    for (const format of ['json', 'csv', 'ndjson', 'arrow']) {
      const response = await api.get(`/v1/aggregates?metric=temperature&limit=1000&format=${format}`, { 'accept-encoding': 'gzip' });
      expect(response.headers.get('content-encoding'), format).toBe('gzip');
    }
    const response = await api.get('/v1/aggregates?metric=temperature', { 'accept-encoding': 'gzip' });
    const text = gunzipSync(Buffer.from(await response.arrayBuffer())).toString();
    expect((JSON.parse(text) as Page).rows.length).toBeGreaterThan(3);
  });
});

describe('the same windows', () => {
  test('are answered before the commit, after it, after the flush and after a restart', async () => {
    const other = await ApiFixture.start();
    try {
      const rows = async (): Promise<Record<string, unknown>[]> =>
        (await allPagesOf(other)).map((row) => ({ ...row, status: '', complete: false }));
      await other.submit('gw-1', START_US, 150, -20);
      const received = await rows();
      expect(received.length).toBe(3);
      await other.commit('gw-1', START_US + 150_000_000, 10, 5);
      const committed = await rows();
      expect(committed[0]).toEqual(received[0]);
      await other.restart();
      const restarted = await rows();
      expect(restarted.length).toBe(committed.length);
      restarted.forEach((row, index) => {
        for (const [name, value] of Object.entries(row)) {
          if (typeof value === 'number') expect(value, name).toBeCloseTo(committed[index]?.[name] as number, 9);
          else expect(value, name).toEqual(committed[index]?.[name]);
        }
      });
    } finally {
      await other.stop();
    }
  });

  test('become final once the watermark has passed them, and revised by what is late', async () => {
    const other = await ApiFixture.start();
    try {
      await other.commit('gw-1', START_US, 60, 0);
      other.watermark('gw-1', START_US + MINUTE_US);
      expect(await allPagesOf(other)).toMatchObject([{ status: 'final', complete: true, count: 60 }]);
      await other.commit('gw-1', START_US + 10_000_000, 5, 0);
      expect(await allPagesOf(other)).toMatchObject([{ status: 'revised', count: 65, late: 5, revision: 1 }]);
    } finally {
      await other.stop();
    }
  });
});

async function allPagesOf(fixture: ApiFixture): Promise<readonly Record<string, unknown>[]> {
  return (await fixture.json<Page>('/v1/aggregates?window=1m&from=2026-11-22T12:00:00Z')).rows;
}

describe('the lists', () => {
  test('readings come in order, page by page, forwards and backwards', async () => {
    const path = '/v1/readings?from=2026-11-22T12:00:00Z&to=2026-11-22T13:00:00Z';
    const whole = await allPages(`${path}&limit=10000`);
    expect(whole.length).toBeGreaterThanOrEqual(240);
    expect(whole[0]).toMatchObject({
      ts: '2026-11-22T12:00:00Z',
      gateway: 'gw-1',
      device: 'pump-1',
      metric: 'temperature',
      tags: null,
      value: 0,
      text: null,
      lane: 'live',
      seq: 1,
    });
    expect(await allPages(`${path}&limit=37`)).toEqual(whole);
    expect(await allPages(`${path}&limit=91&order=desc`)).toEqual([...whole].reverse());
    expect(await allPages(`${path}&gateway=gw-2&limit=59`)).toHaveLength(60);
  });

  test('exceptions say what is missing, why, and what was received', async () => {
    const rows = await allPages('/v1/exceptions?from=2026-11-22T12:00:00Z&limit=1');
    expect(rows).toMatchObject([
      { kind: 'gap', device: 'pump-1', reading_count: 42, reason: 'buffer_full', payload: null, from_ts: '2026-11-22T12:02:00Z' },
      { kind: 'dead_letter', device: null, reading_count: null, payload: Buffer.from('{"a":').toString('base64') },
    ]);
    expect(await allPages('/v1/exceptions?from=2026-11-22T12:00:00Z&kind=dead_letter')).toHaveLength(1);
  });

  test('series and devices are those that have readings', async () => {
    const series = await allPages('/v1/series?limit=1');
    expect(series.map((row) => row['gateway'])).toEqual(['gw-1', 'gw-2']);
    expect(series[1]).toMatchObject({
      device: 'pump-1',
      metric: 'temperature',
      tags: null,
      count: 60,
      first_ts: '2026-11-22T12:00:00Z',
      last_ts: '2026-11-22T12:00:59Z',
      last_value: 66,
    });
    expect(await allPages('/v1/devices?gateway=gw-2')).toEqual([
      {
        gateway: 'gw-2',
        device: 'pump-1',
        metrics: ['temperature'],
        series: 1,
        count: 60,
        first_ts: '2026-11-22T12:00:00Z',
        last_ts: '2026-11-22T12:00:59Z',
      },
    ]);
  });

  test('gateways show their backlog and lag as they reported them, and the hub itself', async () => {
    const nowUs = api.clock.nowUs();
    const backlog = { readings: 10, bytes: 1_000, exceptions: 1, oldestUs: nowUs - 3_000_000 };
    api.gateways.heartbeat(
      'gw-9',
      { type: 'heartbeat', watermark: null, backlog, clock: { state: 'known', wallUs: nowUs - 500_000 } },
      nowUs,
    );
    const answer = await api.json<{ hub: Record<string, unknown>; rows: Record<string, unknown>[] }>('/v1/gateways');
    expect(answer.hub).toMatchObject({ lake_error: null, uplinks_paused: false, readings_version: expect.any(Number) });
    expect(answer.rows.at(-1)).toMatchObject({
      gateway: 'gw-9',
      connected: false,
      lag_seconds: 2.5,
      backlog: { readings: 10, bytes: 1_000 },
      clock: { state: 'known', offset_seconds: -0.5 },
      lanes: [],
    });
  });

  test('the lists of windows, gateways and tables have the same forms and filters as all lists', async () => {
    for (const route of ['windows', 'gateways', 'tables']) {
      const { rows } = await api.json<{ rows: Record<string, unknown>[] }>(`/v1/${route}`);
      const lines = (await (await api.get(`/v1/${route}`, { accept: 'text/csv' })).text()).trimEnd().split('\r\n');
      expect([lines.length - 1, lines[0].split(',')], route).toEqual([rows.length, Object.keys(rows[0])]);
      const parquet = await readParquetRows(new Uint8Array(await (await api.get(`/v1/${route}?format=parquet`)).arrayBuffer()));
      expect(parquet.length, route).toBe(rows.length);
    }
    const { rows } = await api.json<{ rows: { gateway: string }[] }>('/v1/gateways?gateway=*-9,nobody');
    expect(rows.map(({ gateway }) => gateway)).toEqual(['gw-9']);
  });

  test('windows are listed as queries name them', async () => {
    const { rows } = await api.json<{ rows: { name: string }[] }>('/v1/windows');
    expect(rows.map(({ name }) => name)).toEqual(['10s', '1m', '1h', '1m_by_metric']);
  });
});

describe('for machines', () => {
  test('the probes answer, and say when the hub is stopping', async () => {
    expect(await api.json('/healthz')).toMatchObject({ status: 'ok' });
    expect(await api.json('/readyz')).toMatchObject({ status: 'ready', lake_error: null });
    api.ready = false;
    expect((await api.get('/readyz')).status).toBe(503);
    api.ready = true;
  });

  test('/metrics has the figures of engine, uplink, gateways and requests', async () => {
    const text = await (await api.get('/metrics')).text();
    for (const name of [
      'readings_committed_total',
      'uplink_connections',
      'gateways_lag_seconds_max',
      'gateway_lag_seconds{gateway="gw-9"}',
      'event_loop_delay_p99_seconds',
      'http_request_seconds_count{route="/v1/aggregates",status="200"}',
    ]) {
      expect(text).toContain(`sluice_hub_${name} `);
    }
  });

  test('/openapi.json describes every route of /v1, and the answers have the shape that it says', async () => {
    const document = await api.json<{ openapi: string; paths: Record<string, unknown> }>('/openapi.json');
    expect(document.openapi).toBe('3.1.0');
    const served = new Set(
      api.app.routes.filter(({ path, method }) => method !== 'ALL' && path.startsWith('/v1/')).map(({ path }) => path),
    );
    expect(served.size).toBeGreaterThan(8);
    expect([...served].map((path) => path.replaceAll(/:(\w+)/g, '{$1}')).sort()).toEqual(Object.keys(document.paths).sort());
    for (const [path, operations] of Object.entries(document.paths)) {
      if (path !== '/v1/stream' && !path.includes('{') && 'get' in (operations as Json))
        expect(
          unlikeSchema(
            document,
            responseSchema(document, path),
            await api.json(`${path}${/aggregates|readings/.test(path) ? '?from=2026-11-22T12:00:00Z' : ''}`),
            path,
          ),
        ).toEqual([]);
    }
  });
});

type Json = Record<string, unknown>;

function at(value: unknown, ...path: string[]): unknown {
  return path.reduce((inner: unknown, key) => (inner as Json | undefined)?.[key], value);
}

function responseSchema(document: unknown, path: string): Json {
  return at(document, 'paths', path, 'get', 'responses', '200', 'content', 'application/json', 'schema') as Json;
}

/** Members that the schema does not know or that it demands and that are missing: enough of JSON Schema for these answers. */
function unlikeSchema(document: unknown, schema: Json, value: unknown, place: string): string[] {
  const reference = schema['$ref'];
  if (typeof reference === 'string') return unlikeSchema(document, at(document, ...reference.slice(2).split('/')) as Json, value, place);
  if (Array.isArray(value))
    return value.flatMap((item, index) => unlikeSchema(document, schema['items'] as Json, item, `${place}[${index}]`));
  const properties = schema['properties'] as Record<string, Json> | undefined;
  if (typeof value !== 'object' || value === null || properties === undefined) return [];
  const missing = ((schema['required'] as string[] | undefined) ?? [])
    .filter((name) => !(name in value))
    .map((name) => `${place}.${name} is missing`);
  return Object.entries(value).reduce((wrong, [name, member]) => {
    const inner = properties[name];
    if (inner === undefined) return schema['additionalProperties'] === undefined ? [...wrong, `${place}.${name} is not described`] : wrong;
    return [...wrong, ...unlikeSchema(document, inner, member, `${place}.${name}`)];
  }, missing);
}
