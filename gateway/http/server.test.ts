import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { Packr } from 'msgpackr';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../shared/clock.ts';
import { SluiceError } from '../../shared/errors.ts';
import { createLogger } from '../../shared/logging.ts';
import { Access } from '../access.ts';
import { MemoryJournal } from '../broker/memory-journal.ts';
import { accessConfigSchema, httpConfigSchema } from '../config.ts';
import { Credentials, addDevice, credentialsPath } from '../credentials.ts';
import { Decoder } from '../decode/decoder.ts';
import { createIngestCounters } from '../ingest-counters.ts';
import { MessageTap } from '../tail/message-tap.ts';
import { Ingest } from './ingest.ts';
import { startHttp, type HttpServer } from './server.ts';

let directory: string;
let journal: MemoryJournal;
let server: HttpServer | null = null;
let base: string;
let notReady: string | null;

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-http-'));
  journal = new MemoryJournal();
  notReady = null;
});

afterEach(async () => {
  journal.automatic = true;
  journal.commit();
  await server?.stop(100);
  server = null;
  rmSync(directory, { recursive: true, force: true });
});

async function start(settings: Record<string, unknown> = {}): Promise<void> {
  const decoder = new Decoder([], journal.series);
  const tap = new MessageTap(journal.series, systemClock);
  server = await startHttp({
    config: httpConfigSchema.parse({ port: 0, ...settings }),
    access: new Access(accessConfigSchema.parse({}), new Credentials(credentialsPath(directory), systemClock)),
    ingest: new Ingest({ decoder, journal, clock: systemClock, counters: createIngestCounters(), tap }),
    clock: systemClock,
    tap,
    logger: createLogger('test', 'silent'),
    status: () => Promise.resolve({ fine: true }),
    metrics: () => Promise.resolve('sluice_gateway_up 1\n'),
    devices: () => null,
    notReady: () => notReady,
  });
  base = `http://127.0.0.1:${server.address.port}`;
}

function post(pathAndQuery: string, body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${base}${pathAndQuery}`, { method: 'POST', body, headers });
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

describe('POST /v1/readings', () => {
  test('answers 200 after the commit and not before', async () => {
    await start();
    journal.automatic = false;
    let answered = false;
    const response = post('/v1/readings?device=d1', '{"temperature":21.5,"ts":1700000000000}').then(
      (answer) => ((answered = true), answer),
    );
    await until(() => journal.uncommitted === 1);
    expect((await fetch(`${base}/healthz`)).status).toBe(200);
    expect(answered).toBe(false);
    journal.commit();
    expect(await (await response).json()).toEqual({ accepted: 1, rejected: 0, errors: [] });
    expect(journal.readings).toMatchObject([{ device: 'd1', metric: 'temperature', value: 21.5, us: 1_700_000_000_000_000 }]);
  });

  test.each([
    ['the device in the body', '/v1/readings', 'application/json', Buffer.from('{"device":"d1","a":1}')],
    ['an array', '/v1/readings', 'application/json; charset=utf-8', Buffer.from('[{"device":"d1","a":1}]')],
    ['SenML', '/v1/readings', 'application/senml+json', Buffer.from('[{"bn":"d1:","n":"a","v":1}]')],
    ['MessagePack', '/v1/readings?device=d1', 'application/msgpack', Buffer.from(new Packr({ useRecords: false }).pack({ a: 1 }))],
  ])('takes %s', async (_, url, type, body) => {
    await start();
    expect((await post(url, new Uint8Array(body), { 'content-type': type })).status).toBe(200);
    expect(journal.readings).toMatchObject([{ device: 'd1', metric: 'a', value: 1 }]);
  });

  test('lists what it did not take beside what it took', async () => {
    await start();
    const response = await post('/v1/readings?device=d1', '[{"a":1},5,{"a":2,"ts":"later"}]');
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({
      accepted: 1,
      rejected: 2,
      errors: [
        { entry: 1, code: 'ERR_DECODE_SHAPE' },
        { entry: 2, code: 'ERR_DECODE_TIME' },
      ],
    });
    expect(journal.exceptions).toHaveLength(2);
  });

  test('refuses as a whole what holds nothing good, and keeps nothing of it', async () => {
    await start();
    const response = await post('/v1/readings?device=d1', '[5,6]');
    expect(response.status).toBe(400);
    expect(response.headers.get('content-type')).toBe('application/problem+json');
    expect(await response.json()).toMatchObject({ code: 'ERR_DECODE_SHAPE', rejected: 2, errors: [{ entry: 0 }, { entry: 1 }] });
    expect(journal.exceptions).toHaveLength(0);
  });

  test('with an Idempotency-Key is taken once', async () => {
    await start();
    for (const replayed of [null, 'true', 'true']) {
      const response = await post('/v1/readings?device=d1', '{"a":1}', { 'idempotency-key': 'k1' });
      expect(response.status).toBe(200);
      expect(response.headers.get('idempotent-replayed')).toBe(replayed);
    }
    expect(journal.readings).toHaveLength(1);
  });

  test.each<[string, string, string | Buffer, Record<string, string>, number, string]>([
    ['cut JSON', '/v1/readings?device=d1', '{"a":', {}, 400, 'ERR_DECODE_SYNTAX'],
    ['no device', '/v1/readings', '{"a":1}', {}, 400, 'ERR_DECODE_DEVICE'],
    ['a bare value', '/v1/readings?device=d1', '5', {}, 400, 'ERR_DECODE_SHAPE'],
    ['another content type', '/v1/readings?device=d1', '<a/>', { 'content-type': 'text/xml' }, 415, 'ERR_HTTP_UNSUPPORTED_MEDIA'],
    ['another encoding', '/v1/readings?device=d1', 'x', { 'content-encoding': 'zstd' }, 415, 'ERR_HTTP_UNSUPPORTED_MEDIA'],
    ['damaged gzip', '/v1/readings?device=d1', 'x', { 'content-encoding': 'gzip' }, 400, 'ERR_HTTP_PARAMETER'],
    ['a large body', '/v1/readings?device=d1', ' '.repeat(10_001), {}, 413, 'ERR_HTTP_BODY_TOO_LARGE'],
    [
      'a bomb',
      '/v1/readings?device=d1',
      gzipSync(Buffer.alloc(50_000_000)).subarray(0, 9_000),
      { 'content-encoding': 'gzip' },
      413,
      'ERR_HTTP_BODY_TOO_LARGE',
    ],
    ['a foreign web page', '/v1/readings?device=d1', '{"a":1}', { origin: 'https://evil.example' }, 403, 'ERR_HTTP_FORBIDDEN'],
  ])('refuses %s', async (_, url, body, headers, status, code) => {
    await start({ bodyBytesMax: 10_000 });
    const response = await post(url, typeof body === 'string' ? body : new Uint8Array(body), headers);
    expect(await response.json()).toMatchObject({ status, code });
    expect(response.status).toBe(status);
    expect((await post('/v1/readings?device=d1', '{"a":1}')).status).toBe(200);
  });

  test('a journal that takes nothing is 503 with Retry-After', async () => {
    await start();
    journal.refuse = new SluiceError('ERR_JOURNAL_FULL', 'full');
    const response = await post('/v1/readings?device=d1', '{"a":1}');
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1']);
  });

  test('a body without announced length is bounded too, and a cut one harms nobody', async () => {
    await start({ bodyBytesMax: 10_000 });
    const port = (server as HttpServer).address.port;
    const socket = connect(port, '127.0.0.1', () =>
      socket.write('POST /v1/readings HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n'),
    );
    socket.on('connect', () => socket.end());
    const long = connect(port, '127.0.0.1', () =>
      long.write(`POST /v1/readings HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4e20\r\n${'x'.repeat(20_000)}\r\n`),
    );
    const answer = await new Promise<string>((resolve) => long.on('data', (chunk: Buffer) => resolve(chunk.toString())));
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
    long.destroy();
    socket.destroy();
    expect((await post('/v1/readings?device=d1', '{"a":1}')).status).toBe(200);
  });
});

describe('the Influx write API', () => {
  test('takes gzipped lines of Telegraf and answers 204 after the commit', async () => {
    await start();
    const lines = Array.from(
      { length: 5_000 },
      (_, index) => `cpu,cpu=cpu0,host=pi usage=${index} ${1_700_000_000_000_000_000n + BigInt(index) * 1000n}`,
    ).join('\n');
    const response = await post('/api/v2/write?bucket=b&org=o&precision=ns', new Uint8Array(gzipSync(lines)), {
      'content-encoding': 'gzip',
      'content-type': 'text/plain; charset=utf-8',
    });
    expect(response.status).toBe(204);
    expect(journal.readings).toHaveLength(5_000);
    expect(journal.readings[4_999]).toMatchObject({
      device: 'pi',
      metric: 'cpu.usage',
      tags: '{"cpu":"cpu0"}',
      value: 4_999,
      us: 1_700_000_000_004_999,
    });
  });

  test('version 1 with its precision', async () => {
    await start();
    expect((await post('/write?db=telegraf&precision=s', 'm,host=a v=1 1700000000')).status).toBe(204);
    expect(journal.readings[0]?.us).toBe(1_700_000_000_000_000);
    expect((await post('/query?q=CREATE+DATABASE+x', '')).status).toBe(200);
    expect((await fetch(`${base}/ping`)).headers.get('x-influxdb-version')).toMatch(/^sluice-/);
  });

  test('keeps the good lines and names the bad ones', async () => {
    await start();
    const response = await post('/write', 'm,host=a v=1\nbad\nm,host=a v=2\nm v=3');
    expect(response.status).toBe(400);
    const answer = (await response.json()) as Record<string, string>;
    expect(answer).toMatchObject({ code: 'invalid', message: expect.stringMatching(/^partial write: .*line 2: .*line 4: .*dropped=2$/) });
    expect(journal.readings.map((reading) => reading.value)).toEqual([1, 2]);
    expect(journal.exceptions).toHaveLength(2);
  });

  test.each([
    ['only bad lines', '/write', 'bad\nworse', 400, 'invalid'],
    ['an unknown precision', '/write?precision=d', 'm,host=a v=1', 400, 'invalid'],
    ['a large body', '/write', `m,host=a v="${'x'.repeat(20_000)}"`, 413, 'request too large'],
  ])('refuses %s', async (_, url, body, status, code) => {
    await start({ bodyBytesMax: 10_000 });
    const response = await post(url, body);
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ code });
    expect(journal.readings).toHaveLength(0);
    expect(journal.exceptions).toHaveLength(0);
  });

  test('a journal that takes nothing is 503, and the request ends', async () => {
    await start();
    journal.refuse = new SluiceError('ERR_JOURNAL_FULL', 'full');
    expect((await post('/write', 'm,host=a v=1\n'.repeat(3_000))).status).toBe(503);
  });
});

describe('credentials', () => {
  test('Basic, Bearer, Token and u/p open the door; others do not', async () => {
    const secret = addDevice(credentialsPath(directory), 'd1', { anyDevice: false, now: new Date() });
    await start();
    const basic = `Basic ${Buffer.from(`d1:${secret}`).toString('base64')}`;
    const doors: [string, Record<string, string>, number][] = [
      ['/write', { authorization: basic }, 204],
      ['/write', { authorization: `Bearer ${secret}` }, 204],
      ['/write', { authorization: `Token d1:${secret}` }, 204],
      [`/write?u=d1&p=${secret}`, {}, 204],
      ['/write', {}, 401],
      ['/write', { authorization: 'Bearer x' }, 401],
      ['/write', { authorization: 'Token d1:x' }, 401],
      ['/write?u=d1&p=x', {}, 401],
    ];
    for (const [url, headers, status] of doors)
      expect([url, headers, (await post(url, 'm,host=d1 v=1', headers)).status]).toEqual([url, headers, status]);
    expect((await post('/write', 'm,host=d2 v=1', { authorization: basic })).status).toBe(403);
    expect((await post('/v1/readings?device=d2', '{"a":1}', { authorization: basic })).status).toBe(403);
    expect(journal.readings).toHaveLength(4);
  });

  test('the same Idempotency-Key of two devices is two keys', async () => {
    const secrets = ['d1', 'd2'].map((name) => addDevice(credentialsPath(directory), name, { anyDevice: false, now: new Date() }));
    await start();
    for (const [index, secret] of secrets.entries()) {
      const response = await post(`/v1/readings?device=d${index + 1}`, '{"a":1}', {
        authorization: `Bearer ${secret}`,
        'idempotency-key': '1',
      });
      expect(response.status).toBe(200);
    }
    expect(journal.readings).toHaveLength(2);
  });
});

test('health, readiness, metrics, status and page are served; what is not is a problem', async () => {
  await start();
  expect((await fetch(`${base}/readyz`)).status).toBe(200);
  notReady = 'full';
  expect((await fetch(`${base}/readyz`)).status).toBe(503);
  expect(await (await fetch(`${base}/metrics`)).text()).toContain('sluice_gateway_up 1');
  expect(await (await fetch(`${base}/v1/status`)).json()).toEqual({ fine: true });
  const page = await (await fetch(`${base}/`)).text();
  expect(page).toContain('<title>Sluice gateway</title>');
  expect(page).not.toMatch(/https?:\/\//);
  expect(await (await fetch(`${base}/nothing`)).json()).toMatchObject({ status: 404, code: 'ERR_HTTP_NOT_FOUND' });
  expect(await (await fetch(`${base}/v1/readings`)).json()).toMatchObject({ status: 405, code: 'ERR_HTTP_METHOD' });
});
