/** Must show 7: whatever arrives at whichever entrance, the answer is typed and the next good message is taken. */
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import * as fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { encodeBatch } from '../../shared/batch/encode.ts';
import { contentOf, resealed } from './bad-batches.ts';
import { encodeGatewayMessage, decodeHubMessage } from '../../shared/uplink-codec.ts';
import { UPLINK_SUBPROTOCOL, type GatewayMessage, type HubMessage } from '../../shared/uplink.ts';
import { PACKETS_BEFORE_CONNECT, PACKETS_IN_SESSION } from './bad-packets.ts';
import { BAD_PAYLOADS, TOPIC_RULES } from './bad-payloads.ts';
import { fetchJson, Lab, until, type GatewayProgram } from './processes.ts';
import { exchange, mqttConnect, mqttPackets, mqttPublish, MQTT_PING, PINGRESP, PUBACK, webSocketExchange } from './raw-clients.ts';

const CONNECT_TIMEOUT_MS = 500;
const SEED = Number(process.env['SLUICE_TEST_SEED'] ?? Date.now() % 2 ** 31);

interface Row {
  readonly device: string | null;
  readonly metric: string;
  readonly value: number | null;
  readonly kind: string;
  readonly reason: string;
}
interface Rows {
  readonly rows: readonly Row[];
}
interface Problem {
  readonly code: string;
  readonly status: number;
  readonly detail: string;
}

let lab: Lab;
let hub: Awaited<ReturnType<Lab['hub']>>;
let gateway: GatewayProgram;
let pids: readonly number[];
let good = 0;

beforeAll(async () => {
  console.log(`seed ${SEED}`);
  lab = new Lab();
  hub = await lab.hub();
  gateway = await lab.gateway('gw-1', hub.url, ['--mqtt-connect-timeout-ms', String(CONNECT_TIMEOUT_MS), '--topics', TOPIC_RULES]);
  pids = [hub.program.pid, gateway.program.pid];
}, 60_000);

afterAll(() => lab.close());

/** A good message over MQTT, acknowledged. */
async function takesTheNext(): Promise<void> {
  const payload = JSON.stringify({ ts: Date.now(), n: ++good });
  const answer = await exchange(
    gateway.mqttPort,
    Buffer.concat([mqttConnect(`good-${good}`), mqttPublish('devices/good/telemetry', payload)]),
    {
      until: (received) => mqttPackets(received).some(({ type }) => type === PUBACK),
    },
  );
  expect(answer.closed, lab.logs()).toBe(false);
}

afterEach(async () => {
  await takesTheNext();
  for (const url of [gateway.httpUrl, hub.url]) expect((await fetch(`${url}/healthz`)).status).toBe(200);
  expect([hub.program.pid, gateway.program.pid], lab.logs()).toEqual(pids);
  await until('all good messages in the hub', async () => {
    const { rows } = await fetchJson<Rows>(`${hub.url}/v1/readings?device=good&limit=10000`);
    expect(rows.length).toBeLessThanOrEqual(good);
    return rows.length === good ? true : null;
  });
}, 40_000);

/** The exceptions of the lake, once `isThere` finds among them what it looks for. */
function exceptionsWith(what: string, isThere: (rows: readonly Row[]) => boolean): Promise<readonly Row[]> {
  return until(what, async () => {
    const { rows } = await fetchJson<Rows>(`${hub.url}/v1/exceptions?limit=1000`);
    return isThere(rows) ? rows : null;
  });
}

async function problemOf(answer: Response, name = answer.url): Promise<Problem> {
  expect(answer.headers.get('content-type'), `${name}: ${answer.status}`).toBe('application/problem+json');
  const problem = (await answer.json()) as Problem;
  expect(problem.status).toBe(answer.status);
  return problem;
}

async function survives(name: string): Promise<void> {
  await takesTheNext();
  expect((await fetch(`${gateway.httpUrl}/healthz`)).status, name).toBe(200);
}

const answered = (received: Buffer): boolean => mqttPackets(received).some(({ type }) => type === PINGRESP || type === PUBACK);

/** Bytes that are sometimes random and sometimes nearly a session. */
const hostileBytes = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 300 }),
  fc.uint8Array({ minLength: 1, maxLength: 300 }).map((bytes) => Buffer.concat([mqttConnect('random'), bytes])),
  fc.tuple(fc.nat(60), fc.nat(255)).map(([at, byte]) => {
    const bytes = Buffer.concat([mqttConnect('flipped'), mqttPublish('devices/x/telemetry', '{"flipped":1}')]);
    bytes[at % bytes.length] = byte;
    return bytes;
  }),
);

describe('MQTT', () => {
  test('packets that are wrong end their connection and nothing else', { timeout: 20_000 }, async () => {
    for (const { name, bytes, half } of [...PACKETS_BEFORE_CONNECT, ...PACKETS_IN_SESSION]) {
      const ping = half === true || bytes.length === 0 ? Buffer.alloc(0) : MQTT_PING;
      const answer = await exchange(gateway.mqttPort, Buffer.concat([bytes, ping]), { half: half === true, until: answered });
      expect(answer.closed, `${name}: ${answer.received.toString('hex')}`).toBe(true);
      await survives(name);
    }
  });

  test('the same packets over WebSocket end theirs, and so do frames that are no MQTT', { timeout: 20_000 }, async () => {
    const url = `ws://127.0.0.1:${gateway.webSocketPort}`;
    for (const { name, bytes } of [...PACKETS_BEFORE_CONNECT, ...PACKETS_IN_SESSION].filter(({ half }) => half !== true)) {
      const frames = bytes.length === 0 ? [] : [bytes, MQTT_PING];
      const answer = await webSocketExchange(url, { protocols: ['mqtt'], frames, until: (messages) => answered(Buffer.concat(messages)) });
      expect(answer.closeCode, name).not.toBe(null);
      await survives(name);
    }
    const plain = await fetch(`http://127.0.0.1:${gateway.webSocketPort}/`);
    expect(plain.status).toBe(426);
    const split = mqttConnect('split');
    const bytewise = [...split, ...MQTT_PING].map((byte) => Uint8Array.of(byte));
    const whole = await webSocketExchange(url, {
      protocols: ['mqtt'],
      frames: bytewise,
      until: (messages) => answered(Buffer.concat(messages)),
    });
    expect(whole.closeCode, 'a good session, a byte a frame').toBe(null);
  });

  test('random and flipped bytes harm nobody else', { timeout: 20_000 }, async () => {
    for (const bytes of fc.sample(hostileBytes, { seed: SEED, numRuns: 150 })) {
      await exchange(gateway.mqttPort, bytes, { half: true, timeoutMs: CONNECT_TIMEOUT_MS * 2 });
    }
    await survives('random bytes');
  });

  test('a payload that is no reading is acknowledged and becomes an exception that says why', { timeout: 20_000 }, async () => {
    for (const { name, topic, payload } of BAD_PAYLOADS) {
      const packets = Buffer.concat([mqttConnect('payloads'), mqttPublish(topic, payload)]);
      const answer = await exchange(gateway.mqttPort, packets, { until: answered });
      expect(answer.closed, name).toBe(false);
      await survives(name);
    }
    const missing = (rows: readonly Row[]): readonly string[] =>
      BAD_PAYLOADS.filter(({ topic, reason, kind, nameless }) => {
        const device = nameless === true ? null : (topic.split('/')[1] ?? null);
        return !rows.some((row) => row.device === device && row.kind === (kind ?? 'dead_letter') && row.reason.startsWith(reason));
      }).map(({ name }) => name);
    const rows = await exceptionsWith('the exceptions of the bad payloads', (found) => found.length >= BAD_PAYLOADS.length);
    expect(missing(rows)).toEqual([]);
  });
});

interface BadRequest {
  readonly name: string;
  readonly path: string;
  readonly body?: string | Uint8Array;
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly status: number;
  readonly code: string;
}

const json = { 'content-type': 'application/json' };
const bomb = gzipSync(Buffer.alloc(256 * 1024 * 1024));
const READING = '{"device":"bad-http","a":1}';
const BAD_REQUESTS: readonly BadRequest[] = [
  { name: 'no body', path: '/v1/readings', body: '', status: 400, code: 'ERR_DECODE_SYNTAX' },
  { name: 'JSON cut short', path: '/v1/readings', body: '{"device":"x","a":', status: 400, code: 'ERR_DECODE_SYNTAX' },
  { name: 'NaN', path: '/v1/readings', body: '{"device":"x","a":NaN}', status: 400, code: 'ERR_DECODE_SYNTAX' },
  { name: 'a number beyond doubles', path: '/v1/readings', body: '{"device":"x","a":1e999}', status: 400, code: 'ERR_DECODE_VALUE' },
  { name: 'no device', path: '/v1/readings', body: '{"a":1}', status: 400, code: 'ERR_DECODE_DEVICE' },
  { name: 'a device that is a number list', path: '/v1/readings', body: '{"device":[1],"a":1}', status: 400, code: 'ERR_DECODE_DEVICE' },
  { name: 'a word', path: '/v1/readings', body: '"warm"', status: 400, code: 'ERR_DECODE_SHAPE' },
  {
    name: '50,000 nested objects',
    path: '/v1/readings?device=x',
    body: `${'{"a":'.repeat(5e4)}1${'}'.repeat(5e4)}`,
    status: 400,
    code: 'ERR_DECODE_TOO_DEEP',
  },
  { name: 'a device of 300 bytes', path: `/v1/readings?device=${'d'.repeat(300)}`, body: '{"a":1}', status: 400, code: 'ERR_DECODE_NAME' },
  {
    name: 'SenML as XML',
    path: '/v1/readings',
    body: '<x/>',
    headers: { 'content-type': 'application/senml+xml' },
    status: 415,
    code: 'ERR_HTTP_UNSUPPORTED_MEDIA',
  },
  {
    name: 'an unknown content encoding',
    path: '/v1/readings',
    body: READING,
    headers: { ...json, 'content-encoding': 'zstd' },
    status: 415,
    code: 'ERR_HTTP_UNSUPPORTED_MEDIA',
  },
  {
    name: 'gzip that is none',
    path: '/v1/readings',
    body: READING,
    headers: { ...json, 'content-encoding': 'gzip' },
    status: 400,
    code: 'ERR_HTTP_PARAMETER',
  },
  {
    name: 'gzip cut short',
    path: '/v1/readings',
    body: gzipSync(READING).subarray(0, 20),
    headers: { ...json, 'content-encoding': 'gzip' },
    status: 400,
    code: 'ERR_HTTP_PARAMETER',
  },
  {
    name: 'a gzip bomb of 256 MiB',
    path: '/v1/readings',
    body: bomb,
    headers: { ...json, 'content-encoding': 'gzip' },
    status: 413,
    code: 'ERR_HTTP_BODY_TOO_LARGE',
  },
  {
    name: 'a body of 9 MiB',
    path: '/v1/readings',
    body: Buffer.alloc(9 * 1024 * 1024, 0x20),
    headers: json,
    status: 413,
    code: 'ERR_HTTP_BODY_TOO_LARGE',
  },
  {
    name: 'MessagePack that announces 4 GiB',
    path: '/v1/readings',
    body: Uint8Array.of(0xdd, 255, 255, 255, 255),
    headers: { 'content-type': 'application/msgpack' },
    status: 400,
    code: 'ERR_DECODE_SYNTAX',
  },
  {
    name: 'an Idempotency-Key of 2,000 characters',
    path: '/v1/readings',
    body: READING,
    headers: { ...json, 'idempotency-key': 'k'.repeat(2_000) },
    status: 400,
    code: 'ERR_HTTP_PARAMETER',
  },
  {
    name: 'a page of another site',
    path: '/v1/readings',
    body: READING,
    headers: { ...json, origin: 'https://example.org' },
    status: 403,
    code: 'ERR_HTTP_FORBIDDEN',
  },
  { name: 'GET where there is only POST', path: '/v1/readings', method: 'GET', status: 405, code: 'ERR_HTTP_METHOD' },
  { name: 'a path of nothing', path: '/v1/nothing', body: '', status: 404, code: 'ERR_HTTP_NOT_FOUND' },
  { name: 'a path upwards', path: '/..%2f..%2fetc/passwd', method: 'GET', status: 404, code: 'ERR_HTTP_NOT_FOUND' },
];
const BAD_LINES: readonly Pick<BadRequest, 'name' | 'path' | 'body' | 'headers' | 'status'>[] = [
  { name: 'no line protocol', path: '/write', body: '{"a":1}', status: 400 },
  { name: 'a line with NaN', path: '/write', body: 'cpu,host=x usage=NaN', status: 400 },
  { name: 'a line without device', path: '/api/v2/write', body: 'cpu usage=1', status: 400 },
  { name: 'an unknown precision', path: '/api/v2/write?precision=fortnight', body: 'cpu,host=x usage=1', status: 400 },
  { name: 'the precision __proto__', path: '/write?precision=__proto__', body: 'cpu,host=x usage=1', status: 400 },
  { name: 'lines that are not UTF-8', path: '/write', body: Buffer.from('cpu,host=\xff usage=1', 'latin1'), status: 400 },
  { name: 'a gzip bomb of 256 MiB', path: '/write', body: bomb, headers: { 'content-encoding': 'gzip' }, status: 413 },
];

describe("the gateway's HTTP", () => {
  const send = (request: Pick<BadRequest, 'path' | 'body' | 'method' | 'headers'>): Promise<Response> =>
    fetch(`${gateway.httpUrl}${request.path}`, {
      method: request.method ?? 'POST',
      headers: request.headers ?? json,
      ...(request.body === undefined ? {} : { body: request.body as string }),
    });

  test('a wrong request is answered by its problem, and nothing of it is stored', { timeout: 20_000 }, async () => {
    for (const request of BAD_REQUESTS) {
      const answer = await send(request);
      const problem = await problemOf(answer, request.name);
      expect({ name: request.name, status: answer.status, code: problem.code }, problem.detail).toEqual({
        name: request.name,
        status: request.status,
        code: request.code,
      });
      await survives(request.name);
    }
    const { rows } = await fetchJson<Rows>(`${hub.url}/v1/readings?device=bad-http`);
    expect(rows).toEqual([]);
  });

  test('wrong lines are answered as InfluxDB answers them, after the good ones are stored', { timeout: 20_000 }, async () => {
    for (const request of BAD_LINES) {
      const answer = await send({ ...request, headers: request.headers ?? {} });
      const body = (await answer.json()) as { readonly code: string; readonly message: string };
      expect({ name: request.name, status: answer.status }, body.message).toEqual({ name: request.name, status: request.status });
      expect(body.code).not.toBe('');
      await survives(request.name);
    }
    const mixed = await send({
      path: '/write?precision=ms',
      body: `room,host=bad-lines t=1 ${Date.now()}\nroom,host=bad-lines t=\n`,
      headers: {},
    });
    expect(mixed.status).toBe(400);
    expect(await mixed.text()).toContain('partial write');
    await until('the good line', async () => {
      const { rows } = await fetchJson<Rows>(`${hub.url}/v1/readings?device=bad-lines`);
      return rows.length === 1 ? true : null;
    });
  });

  test('keys of the prototype are names like any others', async () => {
    const body = `{"device":"proto","__proto__":{"polluted":1},"constructor":2,"toString":3,"hasOwnProperty":4}`;
    expect((await send({ path: '/v1/readings', body, headers: json })).status).toBe(200);
    const metrics = await until('the four readings', async () => {
      const { rows } = await fetchJson<Rows>(`${hub.url}/v1/readings?device=proto`);
      return rows.length === 4 ? rows.map(({ metric }) => metric).sort() : null;
    });
    expect(metrics).toEqual(['__proto__.polluted', 'constructor', 'hasOwnProperty', 'toString']);
  });

  test('bytes that are no HTTP end their connection', { timeout: 20_000 }, async () => {
    const port = Number(new URL(gateway.httpUrl).port);
    const requests = [
      'POST /v1/readings HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      'POST /v1/readings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n',
      'POST /v1/readings HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n',
      'POST /v1/readings HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n',
      `GET / HTTP/1.1\r\nHost: x\r\nX-Long: ${'x'.repeat(40_000)}\r\n\r\n`,
      'GET http://[::1 HTTP/1.1\r\nHost: [\r\n\r\n',
      'GET // HTTP/1.1\r\nHost: %\r\nConnection: close\r\n\r\n',
      ...fc.sample(fc.uint8Array({ minLength: 1, maxLength: 200 }), { seed: SEED, numRuns: 20 }),
    ];
    for (const request of requests) {
      const answer = await exchange(port, Buffer.from(request as string), { half: true });
      expect(answer.closed, String(request).slice(0, 100)).toBe(true);
      expect(answer.received.toString('latin1', 0, 15)).toMatch(/^(HTTP\/1\.1 4\d\d|$)/);
      await survives(String(request).slice(0, 100));
    }
    const cut = 'POST /v1/readings?device=cut HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"a":1}';
    await exchange(port, Buffer.from(cut), { half: true });
    await survives('a body cut short');
  });
});

const ROUTES = ['aggregates', 'readings', 'exceptions', 'devices', 'series', 'gateways', 'windows', 'stream'].map((name) => `/v1/${name}`);
const BAD_QUERIES = [
  'from=yesterday',
  'to=99999999999999999999',
  'from=now&to=now-1h',
  'limit=0',
  'limit=1e9',
  'limit=-1',
  'limit=NaN',
  'limit=1&limit=2',
  'cursor=%00',
  'cursor=WyJlIiwxLDIsM10',
  `device=${'d'.repeat(300)}`,
  'device=',
  'window=2fortnights',
  'functions=median',
  'functions=__proto__',
  'format=xml',
  'nonsense=1',
  'constructor=1',
];

describe("the hub's HTTP", () => {
  test('wrong parameters are answered by a problem that names them, at every route', { timeout: 20_000 }, async () => {
    for (const route of ROUTES) {
      let refused = 0;
      for (const query of BAD_QUERIES) {
        const stop = new AbortController();
        const metric = route === '/v1/aggregates' && !query.startsWith('metric') ? 'metric=n&' : '';
        const answer = await fetch(`${hub.url}${route}?${metric}${query}`, { signal: stop.signal });
        const place = `${route}?${query}`;
        // A parameter that the route does not have is unknown there, which is an error as well.
        if (answer.status === 200)
          expect(`${place} taken`).toMatch(/^\/v1\/(aggregates|readings|exceptions)\?(from=now&to=now-1h|cursor=.*) /);
        else {
          const problem = await problemOf(answer);
          expect({ place, code: problem.code, status: problem.status }).toEqual({ place, code: 'ERR_HTTP_PARAMETER', status: 400 });
          refused++;
        }
        stop.abort();
      }
      expect(refused, route).toBeGreaterThan(10);
      for (const method of ['POST', 'PUT', 'DELETE', 'PATCH']) {
        const problem = await problemOf(await fetch(`${hub.url}${route}`, { method, body: '{"a":1}' }));
        expect({ route, method, code: problem.code }).toEqual({ route, method, code: 'ERR_HTTP_METHOD' });
      }
    }
    for (const path of ['/v1/nothing', '/..%2f..%2fetc%2fpasswd', '/%ff%00', '/v1/readings/..%2f', '/app.js/x']) {
      expect((await problemOf(await fetch(`${hub.url}${path}`))).code, path).toBe('ERR_HTTP_NOT_FOUND');
    }
  });

  test('names with quotes, wildcards and NUL are values, never a part of the query', async () => {
    for (const name of ["' OR 1=1 --", '%', '_', '\\', '"', 'a\u0000b', '{{}}', '/etc/passwd']) {
      for (const route of ['/v1/readings?device=', '/v1/exceptions?device=', '/v1/aggregates?metric=']) {
        const answer = await fetch(`${hub.url}${route}${encodeURIComponent(name)}`);
        const text = await answer.text();
        expect(answer.status, `${route}${name}: ${text.slice(0, 300)}`).toBe(200);
        expect((JSON.parse(text) as Rows).rows).toEqual([]);
      }
    }
  });

  test('bytes that are no HTTP end their connection', { timeout: 20_000 }, async () => {
    for (const bytes of fc.sample(fc.uint8Array({ minLength: 1, maxLength: 200 }), { seed: SEED, numRuns: 20 })) {
      expect((await exchange(hub.port, bytes, { half: true })).closed).toBe(true);
    }
    const long = `GET / HTTP/1.1\r\nHost: x\r\nX-Long: ${'x'.repeat(40_000)}\r\n\r\n`;
    expect((await exchange(hub.port, Buffer.from(long), { half: true })).received.toString('latin1')).toContain('431');
  });
});

interface UplinkOptions {
  readonly headers?: Record<string, string>;
  readonly protocols?: string[];
  readonly path?: string;
  /** Sent after the welcome. */
  readonly batches?: readonly Uint8Array[];
  readonly until?: (messages: readonly HubMessage[]) => boolean;
}

describe('the uplink', () => {
  let token: string;
  let lakeId: string;
  beforeAll(async () => {
    token = readFileSync(await lab.gatewayToken('hostile'), 'utf8').trim();
    lakeId = (await fetchJson<{ lake_id: string }>(`${hub.url}/readyz`)).lake_id;
    // Running hubs notice a new token within seconds.
    await until('the token to be known', async () => ((await uplink([])).refused === null ? true : null));
  }, 20_000);

  const uplink = (frames: readonly (Uint8Array | string)[], options: UplinkOptions = {}) =>
    webSocketExchange(`ws://127.0.0.1:${hub.port}${options.path ?? '/v1/uplink'}`, {
      protocols: options.protocols ?? [UPLINK_SUBPROTOCOL],
      headers: options.headers ?? { authorization: `Bearer ${token}` },
      frames,
      framesAfterAnswer: options.batches ?? [],
      timeoutMs: frames.length === 0 ? 100 : 5_000,
      until: (messages) => options.until?.(messages.map(decodeHubMessage)) === true,
    });

  const zeros = { readings: 0, bytes: 0, exceptions: 0, oldestUs: null };
  const hello = (epoch: string, more: Partial<Extract<GatewayMessage, { type: 'hello' }>> = {}): Uint8Array =>
    encodeGatewayMessage({
      type: 'hello',
      gatewayVersion: '0',
      wireVersions: [1],
      lakeId,
      epoch,
      lane: 'live',
      lanes: [{ epoch, lane: 'live', base: 1, assigned: 100 }],
      backlog: zeros,
      clock: { state: 'known', wallUs: Date.now() * 1000 },
      ...more,
    });
  const batch = (seq: number, body: Uint8Array, readingCount = 1): Uint8Array =>
    encodeGatewayMessage({ type: 'batch', seq, generation: 0, readingCount, exceptionCount: 0, body });
  const goodBatch = (device: string): Uint8Array => encodeBatch(contentOf(device, [Date.now() * 1000]), 'br');
  const epochOf = (digit: string): string => digit.repeat(32);
  const committed = (seq: number) => (messages: readonly HubMessage[]) =>
    messages.some((message) => message.type === 'position' && message.committed >= seq);

  test('who is not a gateway gets a problem instead of a connection', async () => {
    const tries: { options: UplinkOptions; status: number; code: string }[] = [
      { options: { headers: {} }, status: 401, code: 'ERR_HTTP_UNAUTHORIZED' },
      { options: { headers: { authorization: 'Bearer wrong' } }, status: 401, code: 'ERR_HTTP_UNAUTHORIZED' },
      { options: { headers: { authorization: `Basic ${btoa(`hostile:${token}`)}` } }, status: 401, code: 'ERR_HTTP_UNAUTHORIZED' },
      { options: { headers: { authorization: `Bearer ${token}${'x'.repeat(5_000)}` } }, status: 401, code: 'ERR_HTTP_UNAUTHORIZED' },
      { options: { protocols: ['mqtt'] }, status: 400, code: 'ERR_HTTP_PARAMETER' },
      { options: { path: '/v1/readings' }, status: 404, code: 'ERR_HTTP_NOT_FOUND' },
    ];
    for (const { options, status, code } of tries) {
      const { refused } = await uplink([hello(epochOf('0'))], options);
      expect(refused?.status, JSON.stringify(options).slice(0, 100)).toBe(status);
      expect((JSON.parse(refused?.body ?? '{}') as Problem).code).toBe(code);
    }
  });

  test('a frame that is no message, or comes out of turn, is refused by name', { timeout: 20_000 }, async () => {
    const first = hello(epochOf('1'));
    const conversations: { name: string; frames: (Uint8Array | string)[]; code: string }[] = [
      { name: 'a text frame', frames: ['{"type":"hello"}'], code: 'bad_message' },
      { name: 'an empty frame', frames: [new Uint8Array(0)], code: 'bad_message' },
      { name: 'an array that announces 4 GiB', frames: [Uint8Array.of(0xdd, 255, 255, 255, 255)], code: 'bad_message' },
      { name: '100,000 nested arrays', frames: [new Uint8Array(100_000).fill(0x91)], code: 'bad_message' },
      { name: 'a hello cut short', frames: [first.subarray(0, 50)], code: 'bad_message' },
      { name: 'a hello with bytes behind it', frames: [Buffer.concat([first, Uint8Array.of(1)])], code: 'bad_message' },
      { name: 'a batch before the hello', frames: [batch(1, goodBatch('early'))], code: 'bad_message' },
      { name: 'a second hello', frames: [first, first], code: 'bad_message' },
      { name: 'another lake', frames: [hello(epochOf('1'), { lakeId: 'another' })], code: 'wrong_lake' },
      { name: 'a lane that it does not claim', frames: [hello(epochOf('1'), { lanes: [] })], code: 'bad_message' },
      { name: 'an epoch of other letters', frames: [hello('../../../../etc/passwd-----------')], code: 'bad_message' },
      ...fc
        .sample(fc.uint8Array({ minLength: 1, maxLength: 200 }), { seed: SEED, numRuns: 30 })
        .map((bytes) => ({ name: `random bytes ${Buffer.from(bytes).toString('hex')}`, frames: [bytes], code: 'bad_message' })),
    ];
    for (const { name, frames, code } of conversations) {
      const { messages, closeCode } = await uplink(frames);
      const last = messages.map(decodeHubMessage).at(-1);
      expect({ name, type: last?.type, code: last?.type === 'refuse' ? last.code : null, closeCode }).toEqual({
        name,
        type: 'refuse',
        code,
        closeCode: 1008,
      });
    }
    const giant = await uplink([new Uint8Array(9 * 1024 * 1024)]);
    expect(giant.closeCode, 'a frame of 9 MiB').toBe(1009);
  });

  test('a damaged batch is refused, sent again it is taken', async () => {
    const body = goodBatch('resent');
    const damaged = Uint8Array.from(body);
    damaged[20] = (damaged[20] ?? 0) ^ 1;
    const refused = await uplink([hello(epochOf('2'))], {
      batches: [batch(1, damaged)],
      until: (messages) => messages.some(({ type }) => type === 'refuse'),
    });
    expect(refused.messages.map(decodeHubMessage).at(-1)).toMatchObject({ type: 'refuse', code: 'bad_message' });
    const taken = await uplink([hello(epochOf('2'))], { batches: [batch(1, body)], until: committed(1) });
    expect(taken.closeCode).toBe(null);
    expect((await fetchJson<Rows>(`${hub.url}/v1/readings?device=resent`)).rows).toHaveLength(1);
  });

  test('a batch of a newer wire version makes its lane wait, and only its lane', async () => {
    const newer = Uint8Array.from(goodBatch('newer'));
    newer[3] = 99;
    const answer = await uplink([hello(epochOf('3'))], {
      batches: [batch(1, resealed(newer))],
      until: (messages) => messages.some((message) => message.type === 'position' && message.status === 'upgrade_hub'),
    });
    expect(answer.closeCode).toBe(null);
  });

  test('a batch that nobody can ever apply becomes an exception, and the lane goes on', async () => {
    const broken = goodBatch('broken');
    const content = encodeBatch(contentOf('broken', [Date.now() * 1000]), 'none');
    const at = Buffer.from(content).indexOf('broken');
    content[at] = 0xff; // not UTF-8 in the series table, under a right checksum
    const answer = await uplink([hello(epochOf('4'))], { batches: [batch(1, resealed(content)), batch(2, broken)], until: committed(2) });
    expect(answer.closeCode).toBe(null);
    const rows = await exceptionsWith('the exception of the batch', (found) =>
      found.some(({ reason }) => reason.startsWith('batch_not_applicable')),
    );
    expect(rows.find(({ reason }) => reason.startsWith('batch_not_applicable'))).toMatchObject({ kind: 'dead_letter' });
    expect((await fetchJson<Rows>(`${hub.url}/v1/readings?device=broken`)).rows).toHaveLength(1);
  });

  test('batches out of their order are asked for again, not taken', async () => {
    const answer = await uplink([hello(epochOf('5'))], {
      batches: [batch(7, goodBatch('hole'))],
      until: (messages) => messages.some((message) => message.type === 'position' && message.rewind),
    });
    expect(answer.closeCode).toBe(null);
    expect((await fetchJson<Rows>(`${hub.url}/v1/readings?device=hole`)).rows).toEqual([]);
  });
});
