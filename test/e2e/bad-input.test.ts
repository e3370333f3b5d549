/** Must show 7: whatever arrives at whichever entrance, the answer is typed and the next good message is taken. */
import * as fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { PACKETS_BEFORE_CONNECT, PACKETS_IN_SESSION } from './bad-packets.ts';
import { BAD_PAYLOADS, TOPIC_RULES } from './bad-payloads.ts';
import { BAD_LINES, BAD_REQUESTS, json, type BadRequest } from './bad-requests.ts';
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
let good = 0;

beforeAll(async () => {
  console.log(`seed ${SEED}`);
  lab = new Lab();
  hub = await lab.hub();
  gateway = await lab.gateway('gw-1', hub.url, ['--mqtt-connect-timeout-ms', String(CONNECT_TIMEOUT_MS), '--topics', TOPIC_RULES]);
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
  test('packets that are wrong end their connection and nothing else', { timeout: 40_000 }, async () => {
    for (const { name, bytes, half } of [...PACKETS_BEFORE_CONNECT, ...PACKETS_IN_SESSION]) {
      const ping = half === true || bytes.length === 0 ? Buffer.alloc(0) : MQTT_PING;
      const answer = await exchange(gateway.mqttPort, Buffer.concat([bytes, ping]), { half: half === true, until: answered });
      expect(answer.closed, `${name}: ${answer.received.toString('hex')}`).toBe(true);
      await survives(name);
    }
  });

  test('the same packets over WebSocket end theirs, and so do frames that are no MQTT', { timeout: 40_000 }, async () => {
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

  test('random and flipped bytes harm nobody else', { timeout: 40_000 }, async () => {
    for (const bytes of fc.sample(hostileBytes, { seed: SEED, numRuns: 150 })) {
      await exchange(gateway.mqttPort, bytes, { half: true, timeoutMs: CONNECT_TIMEOUT_MS * 2 });
    }
    await survives('random bytes');
  });

  test('a payload that is no reading is acknowledged and becomes an exception that says why', { timeout: 40_000 }, async () => {
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
    await exceptionsWith('an exception of its reason for each bad payload', (found) => missing(found).length === 0);
  });
});

describe("the gateway's HTTP", () => {
  const send = (request: Pick<BadRequest, 'path' | 'body' | 'method' | 'headers'>): Promise<Response> =>
    fetch(`${gateway.httpUrl}${request.path}`, {
      method: request.method ?? 'POST',
      headers: request.headers ?? json,
      ...(request.body === undefined ? {} : { body: request.body as string }),
    });

  test('a wrong request is answered by its problem, and nothing of it is stored', { timeout: 40_000 }, async () => {
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

  test('wrong lines are answered as InfluxDB answers them, after the good ones are stored', { timeout: 40_000 }, async () => {
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

  test('bytes that are no HTTP end their connection', { timeout: 40_000 }, async () => {
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
    // Only announced: a client that sends it all may miss the answer that comes while it still writes.
    const announced = 'POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 9437184\r\n\r\n';
    expect((await exchange(port, Buffer.from(announced))).received.toString('latin1', 0, 12)).toBe('HTTP/1.1 413');
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
  test('wrong parameters are answered by a problem that names them, at every route', { timeout: 40_000 }, async () => {
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

  test('bytes that are no HTTP end their connection', { timeout: 40_000 }, async () => {
    for (const bytes of fc.sample(fc.uint8Array({ minLength: 1, maxLength: 200 }), { seed: SEED, numRuns: 20 })) {
      expect((await exchange(hub.port, bytes, { half: true })).closed).toBe(true);
    }
    const long = `GET / HTTP/1.1\r\nHost: x\r\nX-Long: ${'x'.repeat(40_000)}\r\n\r\n`;
    expect((await exchange(hub.port, Buffer.from(long), { half: true })).received.toString('latin1')).toContain('431');
  });
});
