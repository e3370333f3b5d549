import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { pathOf, SluiceHub, type HubError } from './sluice-hub.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

let server: Server;
let url = '';
let requests: IncomingMessage[] = [];
let answer: (request: IncomingMessage, response: ServerResponse) => void;
beforeAll(async () => {
  server = createServer((request, response) => {
    requests.push(request);
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/under/a/proxy`;
});
beforeEach(() => {
  requests = [];
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

test('parameters: lists with commas in names, dates, numbers; what is undefined is not sent', () => {
  const query = { device: ['a,b', 'c\\d'], from: new Date(0), limit: 5, metric: undefined };
  expect(pathOf('v1/x', query)).toBe('v1/x?device=a%5C,b,c%5C%5Cd&from=1970-01-01T00:00:00.000Z&limit=5');
});

test('pages follow each other as far as the caller goes, with the token of the moment', async () => {
  let token = 'one';
  const hub = new SluiceHub({ url, token: () => token });
  answer = (request, response) => {
    const cursor = new URL(request.url ?? '', url).searchParams.get('cursor');
    token = 'two';
    json(response, 200, {
      rows: cursor === null ? [{ count: 1 }, { count: 2 }] : [{ count: 3 }],
      next_cursor: cursor === null ? 'next' : null,
    });
  };
  const counts: number[] = [];
  for await (const { count } of hub.aggregateRows({ window: '1m' })) counts.push(count);
  expect(counts).toEqual([1, 2, 3]);
  expect(requests.map((request) => request.url)).toEqual([
    '/under/a/proxy/v1/aggregates?window=1m',
    '/under/a/proxy/v1/aggregates?window=1m&cursor=next',
  ]);
  expect(requests.map(({ headers }) => headers.authorization)).toEqual(['Bearer one', 'Bearer two']);
  for await (const row of hub.aggregateRows()) if (row.count === 1) break;
  expect(requests).toHaveLength(3);
});

test("errors have the problem's code and every wrong parameter; what is no hub's answer has its status; no answer is status 0", async () => {
  const hub = new SluiceHub({ url });
  const failure = (): Promise<HubError> => hub.gateways().then(Promise.reject, (error: unknown) => error as HubError);
  const errors = [{ parameter: 'from', detail: 'soon' }];
  answer = (_, response) =>
    json(response, 400, { status: 400, code: 'ERR_HTTP_PARAMETER', detail: 'from: soon', retryable: false, errors });
  expect(await failure()).toMatchObject({
    status: 400,
    code: 'ERR_HTTP_PARAMETER',
    message: 'from: soon',
    retryable: false,
    faults: errors,
  });
  answer = (_, response) => response.writeHead(502).end('<h1>Bad Gateway');
  expect(await failure()).toMatchObject({ status: 502, code: null, retryable: true });
  answer = (request) => request.socket.destroy();
  expect(await failure()).toMatchObject({ status: 0, code: null, retryable: true });
  answer = (_, response) => response.writeHead(200).end('{"rows":[');
  expect(await failure()).toMatchObject({ status: 0 });
});

test("the caller's own abort is no error of the hub, a time-out is", async () => {
  answer = () => undefined;
  const hub = new SluiceHub({ url, timeoutMs: 50 });
  await expect(hub.windows()).rejects.toMatchObject({ name: 'HubError', status: 0 });
  await expect(hub.windows({ signal: AbortSignal.abort() })).rejects.toMatchObject({ name: 'AbortError' });
});

test('a live stream that breaks goes on behind the last event, and a refusal ends it', async () => {
  const hub = new SluiceHub({ url });
  answer = (request, response) => {
    if (requests.length === 3) return json(response, 401, { code: 'ERR_HTTP_UNAUTHORIZED', detail: 'no token', retryable: false });
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const id = Number(request.headers['last-event-id'] ?? 0) + 1;
    response.write(`event: window\nid: ${id}\ndata: {"rows":[]}\n\nevent: of-tomorrow\ndata: {}\n\nevent: gateways\ndata: {"rows":[]}\n\n`);
    // Broken, not ended.
    setTimeout(() => response.destroy(), 20);
  };
  const seen: string[] = [];
  const reading = (async () => {
    for await (const { name, id } of hub.live({ metric: 'a' })) seen.push(`${name} ${id}`);
  })();
  await expect(reading).rejects.toMatchObject({ code: 'ERR_HTTP_UNAUTHORIZED' });
  expect(seen).toEqual(['window 1', 'gateways 1', 'window 2', 'gateways 2']);
});

test('a program that imports sluice/client is checked against its types, and runs', async () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-client-'));
  try {
    writeFileSync(path.join(directory, 'package.json'), '{"type":"module"}');
    // As an installed package: through `exports`.
    const scope = path.join(directory, 'node_modules');
    await promisify(execFile)('mkdir', [scope]);
    symlinkSync(root, path.join(scope, 'sluice'));
    const program = path.join(directory, 'program.ts');
    const source = `
      import { SluiceHub, isHubError, type WindowRow } from 'sluice/client';
      const hub = new SluiceHub({ url: ${JSON.stringify(url)} });
      const row: WindowRow | undefined = (await hub.aggregates({ window: '1m', device: ['a', 'b'], order: 'desc' })).rows[0];
      const mean: number | null | undefined = row?.mean;
      const text: string = isHubError(1) ? 'x' : String(mean);
      console.log(text);`;
    const wrong = `
      // @ts-expect-error a status is no number
      const status: number = row!.status;
      // @ts-expect-error there is no such parameter
      await hub.aggregates({ windw: '1m' });
      // @ts-expect-error one of asc and desc
      await hub.readings({ order: 'up' });`;
    writeFileSync(program, source + wrong);
    const flags = ['--noEmit', '--strict', '--target', 'es2022', '--module', 'nodenext', '--lib', 'es2023,dom', '--types', ''];
    const tsc = [path.join(root, 'node_modules/typescript/bin/tsc'), ...flags, program];
    const checked = promisify(execFile)(process.execPath, tsc, { cwd: directory });
    expect(
      await checked.then(
        () => 'no errors',
        ({ stdout }: { stdout: string }) => stdout,
      ),
    ).toBe('no errors');
    answer = (_, response) => json(response, 200, { rows: [{ mean: 2.5 }], next_cursor: null });
    const javascript = path.join(directory, 'program.mjs');
    writeFileSync(javascript, source.replace(', type WindowRow', '').replace(/: (?:WindowRow|number|string)[^=]*=/g, ' ='));
    expect((await promisify(execFile)(process.execPath, [javascript])).stdout.trim()).toBe('2.5');
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
