import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ApiFixture, NOW_US, problemOf, START_US } from './app.fixture.ts';

interface Page {
  readonly window: string;
  readonly from: string;
  readonly to: string;
  readonly rows: readonly Record<string, unknown>[];
  readonly waiting_for: readonly string[];
  readonly next_cursor: string | null;
}

let api: ApiFixture;
beforeAll(async () => {
  api = await ApiFixture.start();
  await api.commit('gw-1', START_US, 120, 0);
  await api.restart();
  await api.commit('gw-1', START_US + 120_000_000, 60, 100);
  await api.submit('gw-1', START_US + 180_000_000, 30, 200);
  await api.commit('gw-2', START_US, 60, 7);
});
afterAll(() => api.stop());

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
    expect(page.rows.length).toBe(5);
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
  });

  test('names every wrong parameter at once', async () => {
    const response = await api.get('/v1/aggregates?window=5m&limit=0&form=csv&from=yesterday');
    expect(response.status).toBe(400);
    expect(response.headers.get('content-type')).toBe('application/problem+json');
    const problem = await problemOf(response);
    expect(problem.code).toBe('ERR_HTTP_PARAMETER');
    expect(problem.errors?.map(({ parameter }) => parameter).sort()).toEqual(['form', 'from', 'limit', 'window']);
    expect(problem.detail).toContain('1m_by_metric');
  });
});

test('the probes answer', async () => {
  expect(await api.json('/healthz')).toMatchObject({ status: 'ok' });
  expect(await api.json('/readyz')).toMatchObject({ status: 'ready', lake_error: null });
  expect(await (await api.get('/metrics')).text()).toContain('sluice_hub_readings_committed_total');
  expect(NOW_US).toBeGreaterThan(START_US);
});
