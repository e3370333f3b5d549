import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ExceptionRecord } from '../../shared/exception.ts';
import { ApiFixture, problemOf, START_US } from './app.fixture.ts';

/** Three readings of a clock that was an hour behind, and one that never had a time. */
function quarantined(
  readings: readonly { ts: number | null; value: number | null; text: string | null; cut?: boolean }[],
): ExceptionRecord {
  return {
    kind: 'quarantined',
    device: 'pump-9',
    metric: 'flow',
    fromUs: START_US + 240_000_000,
    toUs: START_US + 300_000_000,
    readingCount: readings.length,
    reason: 'event_time_too_old',
    payload: Buffer.from(JSON.stringify({ device: 'pump-9', metric: 'flow', tags: '{"site":"a"}', readings })),
  };
}

interface Rows {
  rows: Record<string, unknown>[];
}

const DAY = 'from=2026-11-22&to=2026-11-23';
let api: ApiFixture;
beforeAll(async () => {
  api = await ApiFixture.start();
  await api.commit('gw-1', START_US + 240_000_000, 60, 0, [
    quarantined(
      [1, 3, 2].map((second) => ({
        ts: START_US - 3_600_000_000 + 240_000_000 + second * 1e6,
        value: second,
        text: second === 2 ? 'two' : null,
      })),
    ),
    quarantined([
      { ts: null, value: 7, text: null },
      { ts: null, value: 8, text: null },
    ]),
    quarantined([{ ts: START_US, value: null, text: 'the beginning', cut: true }]),
    { ...quarantined([]), kind: 'gap', device: null, metric: null, readingCount: 1, fromUs: START_US, toUs: START_US + 1, payload: null },
    // A device without a clock that counts days from 1970.
    { ...quarantined(Array.from({ length: 65 }, (_, day) => ({ ts: day * 86_400_000_000, value: day, text: null }))), device: 'pump-8' },
  ]);
});
afterAll(() => api.stop());

async function ids(): Promise<string[]> {
  const { rows } = await api.json<Rows>(`/v1/exceptions?${DAY}`);
  return rows.map((row) => String(row['id']));
}

async function release(body: unknown, headers: Record<string, string> = {}): Promise<Response> {
  return api.app.request('/v1/exceptions/release', {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
}

test('quarantined readings come back once with corrected times, however often they are asked for', async () => {
  const [id] = await ids();
  const lostBefore = await api.json<Rows>(`/v1/aggregates?window=1m_by_metric&metric=temperature&${DAY}`);
  expect(lostBefore.rows).toMatchObject([{ lost: 0 }]);
  const answers = await Promise.all([1, 2, 3].map(async () => (await release({ id, shift_seconds: 3600 })).json()));
  expect(answers).toMatchObject([1, 2, 3].map(() => ({ id, status: 'released', readings: 3 })));
  const expected = [
    { ts: '2026-11-22T12:04:01Z', device: 'pump-9', metric: 'flow', tags: { site: 'a' }, value: 1, text: null },
    { ts: '2026-11-22T12:04:02Z', value: 2, text: 'two' },
    { ts: '2026-11-22T12:04:03Z', value: 3 },
  ];
  expect((await api.json<Rows>(`/v1/readings?${DAY}&device=pump-9`)).rows).toMatchObject(expected);
  // As after a crash: what decides is in the lake.
  await api.restart();
  expect(await (await release({ id, shift_seconds: 60 })).json()).toMatchObject({ status: 'released', again: true });
  expect((await api.json<Rows>(`/v1/readings?${DAY}&device=pump-9`)).rows).toMatchObject(expected);
  const aggregates = await api.json<Rows>(`/v1/aggregates?window=1m&device=pump-9&${DAY}`);
  expect(aggregates.rows).toMatchObject([{ count: 3, sum: 6, lost: 3 }]);
  expect((await api.json<Rows>(`/v1/exceptions?${DAY}`)).rows.map((row) => row['released'])).toEqual([true, false, false, false, false]);
});

test('what cannot be released says why', async () => {
  const [, timeless, cut, gap, days] = await ids();
  const refused = async (body: unknown): Promise<unknown[]> => {
    const { status, code } = await problemOf(await release(body));
    return [status, code];
  };
  expect(await refused({ id: gap, shift_seconds: 1 })).toEqual([409, 'ERR_RELEASE_CONTENT']);
  expect(await refused({ id: cut, shift_seconds: 3600 })).toEqual([409, 'ERR_RELEASE_CONTENT']);
  expect(await refused({ id: days, start: '2026-08-01' })).toEqual([400, 'ERR_RELEASE_TIME']);
  expect(await refused({ id: timeless, shift_seconds: 1 })).toEqual([400, 'ERR_RELEASE_TIME']);
  const [first] = await ids();
  expect(await refused({ id: first, start: '2014-01-01' })).toEqual([400, 'ERR_RELEASE_TIME']);
  expect(await refused({ id: first, start: '2199-01-01' })).toEqual([400, 'ERR_RELEASE_TIME']);
  expect(await refused({ id: first.replace(/[0-9]+$/, '99'), shift_seconds: 1 })).toEqual([404, 'ERR_RELEASE_UNKNOWN']);
  for (const body of [
    { id: first },
    { id: first, shift_seconds: 1, start: 'now' },
    { id: 'x', shift_seconds: 1 },
    { id: first, start: 'then' },
    [],
  ])
    expect(await refused(body)).toEqual([400, 'ERR_HTTP_PARAMETER']);
});

test('where there are tokens, releasing needs one of kind admin', async () => {
  const [id] = await ids();
  const read = await api.token('read');
  const admin = await api.token('admin');
  expect((await release({ id, shift_seconds: 1 }, { authorization: `Bearer ${read}` })).status).toBe(403);
  expect((await release({ id, shift_seconds: 3600 }, { authorization: `Bearer ${admin}` })).status).toBe(200);
  await api.clearTokens();
});
