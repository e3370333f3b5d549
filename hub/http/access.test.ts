import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { ApiFixture, problemOf } from './app.fixture.ts';

const API = [
  '/v1/aggregates',
  '/v1/readings',
  '/v1/exceptions',
  '/v1/series',
  '/v1/devices',
  '/v1/gateways',
  '/v1/windows',
  '/v1/stream',
  '/v1/nothing',
];

let api: ApiFixture;
beforeAll(async () => {
  api = await ApiFixture.start();
});
beforeEach(() => api.clearTokens());
afterAll(() => api.stop());

/** As if the request had come over a socket from there. */
async function from(remoteAddress: string, path: string, headers: Record<string, string> = {}): Promise<Response> {
  return api.app.request(path, { headers }, { incoming: { socket: { remoteAddress } } as never });
}

test('without a read token this machine reads, and nobody else', async () => {
  for (const address of ['127.0.0.1', '::1', '::ffff:127.0.0.1']) expect((await from(address, '/v1/windows')).status).toBe(200);
  for (const path of API) expect((await from('192.0.2.7', path)).status, path).toBe(401);
  expect((await from('192.0.2.7', '/metrics')).status).toBe(401);
});

test('without a read token a page of another name cannot read through the browser of this machine', async () => {
  for (const host of ['rebound.example', 'localhost.example', '127.0.0.1.example']) {
    const response = await from('127.0.0.1', `http://${host}/v1/windows`);
    expect(await problemOf(response), host).toMatchObject({ status: 403, code: 'ERR_HTTP_FORBIDDEN' });
  }
  for (const host of ['localhost:8080', '127.0.0.1', '[::1]:8080'])
    expect((await from('127.0.0.1', `http://${host}/v1/windows`)).status, host).toBe(200);
});

test('a gateway token alone does not close reading', async () => {
  await api.token('gateway', 'gw-1');
  await api.services.tokens.verify('slc_AAAAAAAAAAAAAAAAAAAAAA');
  expect((await from('127.0.0.1', '/v1/windows')).status).toBe(200);
});

test('once there is a read token, every path of /v1 asks for one, from this machine too', async () => {
  const read = await api.token('read');
  const admin = await api.token('admin');
  const gateway = await api.token('gateway', 'gw-1');
  for (const path of API) {
    for (const headers of [
      {},
      { authorization: 'Bearer slc_AAAAAAAAAAAAAAAAAAAAAA' },
      { authorization: `Basic ${read}` },
      { authorization: 'Bearer' },
    ] as Record<string, string>[]) {
      const response = await from('127.0.0.1', path, headers);
      expect(response.headers.get('www-authenticate'), path).toContain('Bearer');
      expect((await problemOf(response)).code, path).toBe('ERR_HTTP_UNAUTHORIZED');
    }
    expect((await problemOf(await from('127.0.0.1', path, { authorization: `Bearer ${gateway}` }))).code).toBe('ERR_HTTP_FORBIDDEN');
  }
  for (const token of [read, admin]) {
    expect((await from('192.0.2.7', '/v1/windows', { authorization: `Bearer ${token}` })).status).toBe(200);
    expect((await from('192.0.2.7', 'http://hub.example/metrics', { authorization: `bearer ${token}` })).status).toBe(200);
  }
});

test('the token in the URL is no token', async () => {
  const read = await api.token('read');
  expect((await from('127.0.0.1', `/v1/windows?token=${read}`)).status).toBe(401);
});

test('probes, page and the description of the API need no token; metrics none from this machine', async () => {
  await api.token('read');
  for (const path of ['/healthz', '/readyz', '/openapi.json']) expect((await from('192.0.2.7', path)).status, path).toBe(200);
  expect((await from('192.0.2.7', '/')).status).not.toBe(401);
  expect((await from('127.0.0.1', '/metrics')).status).toBe(200);
  expect((await from('192.0.2.7', '/metrics')).status).toBe(401);
});
