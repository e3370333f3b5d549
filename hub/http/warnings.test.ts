import { rmSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ApiFixture, START_US } from './app.fixture.ts';
import { warningText } from './warnings.ts';

let api: ApiFixture;
beforeAll(async () => {
  api = await ApiFixture.start();
  await api.commit('gw-1', START_US, 60, 0);
  const [first] = api.readingsFiles();
  await api.commit('gw-1', START_US + 60_000_000, 60, 0);
  rmSync(first);
});
afterAll(() => api.stop());

test('an answer from a lake with a damaged file says so in every form', async () => {
  for (const format of ['json', 'ndjson', 'csv', 'arrow', 'parquet']) {
    const answer = await api.get(`/v1/readings?from=2026-11-22&format=${format}`);
    expect([answer.status, answer.headers.get('sluice-warning')], format).toEqual([200, 'unreadable_files=1']);
    if (format !== 'json' && format !== 'csv') continue;
    const body = JSON.stringify({ sql: 'SELECT count(*) AS n FROM readings', format });
    const sql = await api.app.request('/v1/sql', { method: 'POST', headers: { 'content-type': 'application/json' }, body });
    expect([sql.status, sql.headers.get('sluice-warning')], format).toEqual([200, 'unreadable_files=1']);
  }
  const time = String(START_US / 1e6 + 120);
  const promql = await api.json(`/api/v1/query?query=count_over_time(temperature[10m])&time=${time}`);
  expect(promql).toMatchObject({ warnings: ['PromQL warning: 1 files of the lake cannot be read, their samples are missing'] });
});

test('pages are of the version of the first one behind a restart too; where that is not known, they say so', async () => {
  interface Page {
    readonly readings_version: number;
    readonly rows: readonly { readonly gateway: string }[];
    readonly next_cursor: string;
  }
  const first = await api.json<Page>('/v1/readings?from=2026-11-22&limit=1');
  await api.commit('gw-2', START_US + 60_000_000, 10, 0);
  await api.restart();
  const next = (cursor: string): Promise<Response> => api.get(`/v1/readings?limit=100&cursor=${cursor}`);
  const second = await next(first.next_cursor);
  expect(second.headers.get('sluice-warning')).toBe('unreadable_files=1');
  const { rows, readings_version } = (await second.json()) as Page;
  expect(readings_version).toBe(first.readings_version);
  expect(new Set(rows.map(({ gateway }) => gateway))).toEqual(new Set(['gw-1']));
  const parts = JSON.parse(Buffer.from(first.next_cursor, 'base64url').toString()) as unknown[];
  const ahead = await next(Buffer.from(JSON.stringify(parts.with(1, 999))).toString('base64url'));
  expect(ahead.headers.get('sluice-warning')).toMatch(/version_moved$/);
});

test('an answer that lacks nothing has no such header', async () => {
  const { headers } = await api.get('/v1/exceptions?format=csv');
  expect(headers.has('sluice-warning')).toBe(false);
  expect(warningText({ unreadableFiles: 0, isOverlayIncomplete: false, isTruncated: false })).toBeNull();
  expect(warningText({ unreadableFiles: 2, isOverlayIncomplete: true, isTruncated: true })).toBe(
    'unreadable_files=2, overlay_incomplete, truncated',
  );
});
