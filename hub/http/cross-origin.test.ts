import { afterAll, beforeAll, expect, test } from 'vitest';
import { ApiFixture } from './app.fixture.ts';
import { hubConfigSchema } from '../config.ts';

const FRIEND = 'https://dashboard.example:3000';

let api: ApiFixture;
beforeAll(async () => {
  api = await ApiFixture.start({ corsOrigins: [FRIEND] });
});
afterAll(() => api.stop());

async function preflight(origin: string): Promise<Response> {
  const headers = { origin, 'access-control-request-method': 'GET', 'access-control-request-headers': 'authorization' };
  return api.app.request('/v1/aggregates', { method: 'OPTIONS', headers });
}

test('a page of a named origin asks first, then shows its token and reads', async () => {
  const token = await api.token('read');
  const asked = await preflight(FRIEND);
  expect(asked.status).toBe(204);
  expect(asked.headers.get('access-control-allow-origin')).toBe(FRIEND);
  expect(asked.headers.get('access-control-allow-headers')).toMatch(/authorization/i);
  expect(asked.headers.get('access-control-allow-credentials')).toBeNull();
  for (const [path, headers, status] of [
    ['/v1/readings', { authorization: `Bearer ${token}` }, 200],
    ['/v1/readings?limit=x', { authorization: `Bearer ${token}` }, 400],
    ['/v1/readings', {}, 401],
    ['/api/v1/labels', { authorization: `Bearer ${token}` }, 200],
  ] as const) {
    const answer = await api.get(path, { ...headers, origin: FRIEND });
    expect([path, answer.status, answer.headers.get('access-control-allow-origin')]).toEqual([path, status, FRIEND]);
    expect(answer.headers.get('vary')).toMatch(/Origin/);
    expect(answer.headers.get('access-control-expose-headers')).toMatch(/Sluice-Warning/);
  }
  expect((await api.get('/v1/readings', { authorization: `Bearer ${token}`, origin: FRIEND })).headers.get('vary')).toMatch(/Accept/);
  await api.clearTokens();
});

test('a page of any other origin is not let in, and one of none is told nothing', async () => {
  for (const origin of ['https://dashboard.example', 'http://dashboard.example:3000', 'null', `${FRIEND}.evil.example`]) {
    expect((await preflight(origin)).headers.get('access-control-allow-origin'), origin).toBeNull();
    expect((await api.get('/v1/readings', { origin })).headers.get('access-control-allow-origin'), origin).toBeNull();
  }
});

test('origins are named one by one', () => {
  const isTaken = (corsOrigins: string[]): boolean => hubConfigSchema.safeParse({ http: { corsOrigins } }).success;
  for (const right of [[], [FRIEND], ['http://localhost:3000', 'https://[::1]:8443']]) expect(isTaken(right), right.join()).toBe(true);
  const wrong = ['*', 'https://*.example', 'a.example', 'https://a.example/', 'https://a.example/x', 'null', 'file://', 'ftp://a.example'];
  for (const one of wrong) expect(isTaken([one]), one).toBe(false);
});
