import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { compareSeries } from '../../shared/reading.ts';
import { ApiFixture, problemOf, START_US } from './app.fixture.ts';

interface Page {
  rows: Record<string, unknown>[];
  next_cursor: string | null;
  step_seconds?: number | null;
  readings_version: number;
}

let api: ApiFixture;
/** Two sites with two pumps each, a minute apart at the end of the third minute; a text series; nothing in the fourth minute. */
beforeAll(async () => {
  api = await ApiFixture.start();
  const series = ['pump-1', 'pump-2'].flatMap((device) =>
    ['a', 'b'].map((site) => ({ device, metric: 'flow', tags: `{"site":"${site}"}` })),
  );
  const minutes = [0, 1, 2, 4];
  const values = series.flatMap((_, place) =>
    minutes.map((minute) => ({ us: START_US + minute * 60_000_000, value: place * 10 + minute, text: '' })),
  );
  await api.commitRuns('gw-1', {
    count: values.length + 2,
    seriesTable: [{ device: 'door', metric: 'state', tags: '' }, ...series],
    runOffsets: Uint32Array.from([0, 2, 6, 10, 14, 18]),
    eventTimeUs: Float64Array.from([START_US, START_US + 1, ...values.map(({ us }) => us)]),
    value: Float64Array.from([NaN, NaN, ...values.map(({ value }) => value)]),
    text: Uint32Array.from([1, 2, ...values.map(() => 0)]),
    texts: ['open', 'closed'],
  });
});
afterAll(() => api.stop());

const RANGE = '/v1/aggregates?window=1m&from=2026-11-22T12:00:00Z&to=2026-11-22T12:05:00Z&metric=flow&functions=sum,mean';

async function shape(query: string, ...names: string[]): Promise<unknown[][]> {
  const { rows } = await api.json<Page>(`${RANGE}&${query}`);
  return rows.map((row) => names.map((name) => row[name]));
}

test('series are merged over the keys that are not grouped by', async () => {
  expect(await shape('group_by=metric&limit=1', 'device', 'metric', 'tags', 'count', 'sum')).toEqual([[null, 'flow', null, 4, 60]]);
  expect(await shape('group_by=tag:site&limit=2', 'metric', 'tags', 'sum')).toEqual([
    [null, { site: 'a' }, 20],
    [null, { site: 'b' }, 40],
  ]);
  expect((await problemOf(await api.get(`${RANGE}&group_by=color`))).errors?.[0]?.detail).toContain('gateway, device, metric, tags');
});

test('names and tags are asked for by list and pattern', async () => {
  expect(await shape('device=pump-*&tag=site:a&limit=9', 'device', 'tags')).toEqual(
    Array.from({ length: 8 }, (_, index) => [`pump-${(index % 2) + 1}`, { site: 'a' }]),
  );
  expect(await shape('device=*-2&tag=site:a,site:b&limit=2', 'device', 'tags')).toEqual([
    ['pump-2', { site: 'a' }],
    ['pump-2', { site: 'b' }],
  ]);
  expect(await shape('tag=site:c', 'device')).toEqual([]);
  const readings = await api.json<Page>('/v1/readings?from=2026-11-22T12:00:00Z&device=pump*&tag=site:b&metric=fl*w');
  expect(readings.rows.length).toBe(8);
  expect((await problemOf(await api.get(`${RANGE}&tag=site`))).errors?.[0]?.parameter).toBe('tag');
});

test('windows are merged into steps, by length or by the number of points', async () => {
  const one = 'device=pump-1&tag=site:a';
  expect(await shape(`${one}&step=2m`, 'window_start', 'window_end', 'count', 'sum')).toEqual([
    ['2026-11-22T12:00:00Z', '2026-11-22T12:02:00Z', 2, 1],
    ['2026-11-22T12:02:00Z', '2026-11-22T12:04:00Z', 1, 2],
    ['2026-11-22T12:04:00Z', '2026-11-22T12:06:00Z', 1, 4],
  ]);
  const points = await api.json<Page>(`${RANGE}&${one}&points=3`);
  expect([points.step_seconds, points.rows.length]).toEqual([120, 3]);
  expect((await problemOf(await api.get(`${RANGE}&step=90s`))).errors?.[0]).toMatchObject({ parameter: 'step' });
  const hour = await api.json<Page & { window: string }>('/v1/aggregates?from=2026-11-22T00:00:00Z&to=2026-11-23&step=6h');
  expect([hour.window, hour.rows[0]?.['window_start']]).toEqual(['1h', '2026-11-22T12:00:00Z']);
});

test('windows without a reading are filled as asked, and pages go on through them', async () => {
  const one = 'device=pump-1&tag=site:a';
  const sums = async (fill: string): Promise<unknown> => (await shape(`${one}&fill=${fill}`, 'sum')).flat();
  expect(await sums('none')).toEqual([0, 1, 2, 4]);
  expect(await sums('null')).toEqual([0, 1, 2, null, 4]);
  expect(await sums('previous')).toEqual([0, 1, 2, 2, 4]);
  expect(await sums('linear')).toEqual([0, 1, 2, 3, 4]);
  const paged: unknown[] = [];
  let cursor: string | null = '';
  while (cursor !== null) {
    const page: Page = await api.json<Page>(`${RANGE}&${one}&fill=null&order=desc&limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`);
    paged.push(...page.rows.map((row) => row['sum']));
    cursor = page.next_cursor;
  }
  expect(paged).toEqual([4, null, 2, 1, 0]);
  expect((await api.get('/v1/aggregates?window=10s&from=2020-01-01&fill=null')).status).toBe(422);
});

test('series that have texts only are listed, with their newest', async () => {
  await vi.waitFor(async () => {
    const { rows } = await api.json<Page>('/v1/series?device=do*');
    expect(rows).toMatchObject([{ device: 'door', metric: 'state', count: 2, last_value: null, last_text: 'closed' }]);
  });
  expect((await api.json<Page>('/v1/devices')).rows.map((row) => row['device'])).toEqual(['door', 'pump-1', 'pump-2']);
});

test('who shows the tag of an answer gets it again only when its rows have changed', async () => {
  for (const path of [`${RANGE}&limit=3`, '/v1/readings?from=2026-11-22T12:00:00Z&to=2026-11-23']) {
    const tag = (await api.get(path)).headers.get('etag') ?? '';
    expect((await api.get(path, { 'if-none-match': tag })).status, path).toBe(304);
    expect((await api.get(path, { 'if-none-match': tag, accept: 'text/csv' })).status).toBe(200);
  }
});

test('pages are of the version of the first one, whatever is committed in between', async () => {
  const path = '/v1/readings?from=2026-11-22T12:00:00Z&to=2026-11-23&limit=10';
  const first = await api.json<Page>(path);
  await api.commit('gw-2', START_US + 30_000_000, 60, 0);
  const second = await api.json<Page>(`${path}&cursor=${first.next_cursor}`);
  expect([second.readings_version, second.rows.length, second.next_cursor]).toEqual([first.readings_version, 8, null]);
  expect((await api.json<Page>(path)).readings_version).toBeGreaterThan(first.readings_version);
  const lines = (
    await (await api.get(`${path}000000`.replace('limit=10000000', 'limit=100000'), { accept: 'application/x-ndjson' })).text()
  ).trimEnd();
  expect(lines.split('\n').length).toBe(78);
  expect((await problemOf(await api.get(path.replace('limit=10', 'limit=100000')))).errors?.[0]?.parameter).toBe('limit');
});

test('a tag may have any key', async () => {
  const keys = ['*', 'a"b', 'a/b~1', '__proto__', '0'];
  const us = Date.parse('2026-11-21T12:00:00Z') * 1000;
  await api.commitRuns('gw-keys', {
    count: keys.length,
    seriesTable: keys.map((key) => ({ device: `of ${key}`, metric: 'flow', tags: `{${JSON.stringify(key)}:"x"}` })).sort(compareSeries),
    runOffsets: Uint32Array.from({ length: keys.length + 1 }, (_, index) => index),
    eventTimeUs: new Float64Array(keys.length).fill(us),
    value: new Float64Array(keys.length),
    text: null,
    texts: [],
  });
  // The list of series is read anew.
  api.clock.advance(3_000_000);
  for (const key of keys) {
    for (const what of ['readings', 'aggregates', 'series']) {
      const range = what === 'series' ? '' : 'from=2026-11-21&to=2026-11-22&';
      const { rows } = await api.json<Page>(`/v1/${what}?${range}tag=${encodeURIComponent(`${key}:x`)}`);
      expect(
        rows.map((row) => row['device']),
        `${what} ${key}`,
      ).toEqual([`of ${key}`]);
    }
  }
});
