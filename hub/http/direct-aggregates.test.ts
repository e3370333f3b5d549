import { once } from 'node:events';
import { createServer, request, type IncomingHttpHeaders, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { getRequestListener } from '@hono/node-server';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ApiFixture } from './app.fixture.ts';
import { DirectAggregates } from './direct-aggregates.ts';

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

let api: ApiFixture;
let server: Server;
let isDirect = true;
let leftOver = 0;

beforeAll(async () => {
  api = await ApiFixture.start();
  await api.fill();
  // Everything is in the lake: no version moves between two answers.
  await api.restart();
  const routed = getRequestListener(api.app.fetch);
  const direct = new DirectAggregates(api.services);
  server = createServer((incoming, outgoing) => {
    const otherwise = (): void => {
      leftOver++;
      void routed(incoming, outgoing);
    };
    if (isDirect) direct.answer(incoming, outgoing, otherwise);
    else otherwise();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterAll(async () => {
  server.close();
  await api.stop();
});

async function get(path: string, headers: Record<string, string>, method: string): Promise<Answer> {
  const { port } = server.address() as AddressInfo;
  const asked = request({ port, path, method, headers, host: '127.0.0.1' }).end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  const chunks = (await response.toArray()) as Buffer[];
  const bytes = Buffer.concat(chunks);
  const body = response.headers['content-encoding'] === 'gzip' ? gunzipSync(bytes) : bytes;
  return { status: response.statusCode ?? 0, headers: response.headers, body: body.toString() };
}

/** The same request both ways. @returns what differs between them by nature left out; and whether it was answered directly */
async function both(path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Answer & { readonly wasDirect: boolean }> {
  isDirect = false;
  const expected = await get(path, headers, method);
  isDirect = true;
  leftOver = 0;
  const actual = await get(path, headers, method);
  const comparable = ({ date: _date, 'content-length': _length, 'transfer-encoding': _coding, ...rest }: IncomingHttpHeaders) => rest;
  expect({ ...actual, headers: comparable(actual.headers) }, path).toEqual({ ...expected, headers: comparable(expected.headers) });
  return { ...actual, wasDirect: leftOver === 0 };
}

const HOUR = 'from=2026-11-22T12:00:00Z&to=2026-11-22T13:00:00Z';

test('a plain query is answered directly as its route answers it: rows, cursor, tag, compressed and not modified', async () => {
  const plain = await both(`/v1/aggregates?window=1m&device=pump-1&${HOUR}`);
  expect(plain).toMatchObject({ status: 200, wasDirect: true });
  expect(JSON.parse(plain.body)).toMatchObject({ window: '1m', next_cursor: null });
  expect((JSON.parse(plain.body) as { rows: unknown[] }).rows.length).toBeGreaterThan(2);
  const tag = plain.headers.etag ?? '';
  const same = await both(`/v1/aggregates?window=1m&device=pump-1&${HOUR}`, { 'if-none-match': tag });
  expect(same).toMatchObject({ status: 304, body: '', wasDirect: true });
  const zipped = await both(`/v1/aggregates?window=1m&device=pump-1&${HOUR}`, { 'accept-encoding': 'gzip, deflate, br' });
  expect(zipped).toMatchObject({ status: 200, body: plain.body, wasDirect: true });
  expect(zipped.headers['content-encoding']).toBe('gzip');
  const page = await both(`/v1/aggregates?window=1m&device=pump%2D1&metric=temp*&limit=1&${HOUR}`);
  expect(page).toMatchObject({ status: 200, wasDirect: true });
  const { next_cursor: cursor } = JSON.parse(page.body) as { next_cursor: string };
  expect(page.headers.link).toContain(cursor);
  expect(await both(`/v1/aggregates?device=pump-1&metric=temp*&limit=1&cursor=${cursor}`)).toMatchObject({ status: 200, wasDirect: true });
  expect(await both(`/v1/aggregates?metric=temperature&points=5&fill=linear&${HOUR}`)).toMatchObject({ status: 200, wasDirect: true });
});

test('a query that is wrong, or of another form or encoding, is left to its route', async () => {
  for (const [path, headers, status] of [
    [`/v1/aggregates?device=pump-1&wndow=1m`, {}, 400],
    [`/v1/aggregates?device=%ff&limit=0`, {}, 400],
    [`/v1/aggregates?device=pump-1&format=csv&${HOUR}`, {}, 200],
    [`/v1/aggregates?device=pump-1&${HOUR}`, { accept: 'text/csv' }, 200],
    [`/v1/aggregates?device=pump-1&${HOUR}`, { 'accept-encoding': 'gzip;q=0' }, 200],
    [`/v1/aggregates?device=pump-1&${HOUR}`, { origin: 'https://example.org' }, 200],
    [`/v1/aggregates?device=pump-1&${HOUR}`, { host: 'example.org' }, 403],
    [`/v1/aggregatesx?device=pump-1`, {}, 404],
  ] as const)
    expect(await both(path, headers), path).toMatchObject({ status, wasDirect: false });
  expect(await both(`/v1/aggregates?device=pump-1&${HOUR}`, {}, 'HEAD')).toMatchObject({ status: 200, wasDirect: false });
  expect(await both(`/v1/aggregates?device=pump-1&${HOUR}`, {}, 'POST')).toMatchObject({ status: 405, wasDirect: false });
});

test('errors that only the query brings are the same problem', async () => {
  expect(await both('/v1/aggregates?device=pump-1&from=now&to=now-1h')).toMatchObject({ status: 400, wasDirect: true });
  api.failQueries = true;
  expect(await both(`/v1/aggregates?device=pump-1&${HOUR}`)).toMatchObject({ status: 504, wasDirect: true });
  api.failQueries = false;
});

test('where there are tokens, only those of readers get a direct answer', async () => {
  const path = `/v1/aggregates?window=1m&device=pump-1&${HOUR}`;
  const [reader, gateway] = [await api.token('read'), await api.token('gateway', 'gw-1')];
  expect(await both(path, { authorization: `Bearer ${reader}`, host: 'hub.example.org' })).toMatchObject({ status: 200, wasDirect: true });
  expect(await both(path)).toMatchObject({ status: 401, wasDirect: false });
  expect(await both(path, { authorization: `Bearer ${gateway}` })).toMatchObject({ status: 403, wasDirect: false });
  await api.clearTokens();
  expect(await both(path)).toMatchObject({ status: 200, wasDirect: true });
});
