/** Alerts through the HTTP surface: real engine, real query thread, a manual clock for the rounds. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { ApiFixture, problemOf, START_US } from './app.fixture.ts';

const MINUTE_US = 60_000_000;

interface AlertRow {
  id: string;
  rule: string;
  state: string;
  device: string | null;
  gateway: string | null;
  value: number | null;
  since: string;
  fired_at: string | null;
  resolved_at: string | null;
  cause: string;
}

const ROW_OF_ALL = '&rule=sum';

let api: ApiFixture;
/** Each test has gateways of its own. */
let gateway = '';
let tests = 0;
beforeAll(async () => {
  api = await ApiFixture.start();
});
beforeEach(() => {
  gateway = `gw-${++tests}`;
});
afterEach(async () => {
  await api.clearTokens();
  for (const { name } of api.alerts.rules()) await api.alerts.deleteRule(name);
});
afterAll(() => api.stop());

function put(name: string, rule: object): Promise<Response> {
  return Promise.resolve(
    api.app.request(`/v1/alerts/rules/${name}`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify('window' in rule && rule.window !== '1m' ? rule : { gateway: [gateway, 'other'], ...rule }),
    }),
  );
}

/** One reading in the middle of each minute, of each device; null: none. */
async function minutes(from: number, values: readonly (number | null)[], devices = ['pump-1'], own = gateway): Promise<void> {
  const times = values.flatMap((value, index) => (value === null ? [] : [START_US + (from + index) * MINUTE_US + 30_000_000]));
  const numbers = values.filter((value) => value !== null);
  await api.commitRuns(own, {
    count: times.length * devices.length,
    seriesTable: devices.map((device) => ({ device, metric: 'temperature', tags: '' })),
    runOffsets: Uint32Array.from({ length: devices.length + 1 }, (_, index) => index * times.length),
    eventTimeUs: Float64Array.from(devices.flatMap(() => times)),
    value: Float64Array.from(devices.flatMap(() => numbers)),
    text: null,
    texts: [],
  });
}

/** All windows of the first so many minutes are closed, and looked at. */
async function closed(count: number, own = gateway): Promise<void> {
  api.watermark(own, START_US + count * MINUTE_US);
  await api.alerts.evaluate();
}

async function alerts(query = ''): Promise<AlertRow[]> {
  const { rows } = await api.json<{ rows: AlertRow[] }>(`/v1/alerts?from=2026-11-22${query}`);
  return rows.filter((row) => row.gateway === gateway || query === ROW_OF_ALL);
}

const at = (minute: number): string => new Date((START_US + minute * MINUTE_US) / 1000).toISOString().replace('.000Z', 'Z');

const HOT = { kind: 'threshold', window: '1m', function: 'max', above: 80 };

test('windows by metric have alerts of the metric', async () => {
  await put('sum', { kind: 'threshold', window: '1m_by_metric', function: 'sum', above: 150 });
  await minutes(0, [90], ['pump-1', 'pump-2']);
  api.watermark(gateway, START_US + MINUTE_US);
  await api.alerts.evaluate();
  expect(await alerts(ROW_OF_ALL)).toMatchObject([{ device: null, gateway: null, value: 180, state: 'firing' }]);
});

test('a threshold fires after its time, stays between its bounds, and clears below the lower one', async () => {
  const rule = { kind: 'threshold', window: '1m', metric: ['temp*'], device: ['pump-*'], above: 80, clear_below: 70, for: '2m' };
  expect((await put('hot', rule)).status).toBe(201);
  await minutes(0, [50, 85, 90, 75, 75, 60], ['door', 'pump-1']);
  await closed(2);
  expect(await alerts()).toMatchObject([{ rule: 'hot', device: 'pump-1', state: 'pending', value: 85, since: at(1), fired_at: null }]);
  await closed(3);
  expect(await alerts()).toMatchObject([{ state: 'firing', value: 90, since: at(1), fired_at: at(3), cause: 'window' }]);
  const [{ id }] = await alerts('&state=firing&severity=warning&device=pump*&rule=hot');
  const labels = { alertname: 'hot', severity: 'warning', device: 'pump-1', metric: 'temperature', gateway };
  const prometheus = await api.json<{ data: { alerts: { labels: Record<string, string> }[] } }>('/api/v1/alerts');
  const own = prometheus.data.alerts.filter((alert) => alert.labels['gateway'] === gateway);
  expect(own).toMatchObject([{ labels, state: 'firing', value: '90', activeAt: at(1) }]);
  await closed(5);
  expect(await alerts('&state=firing')).toMatchObject([{ id, value: 90 }]);
  await closed(6);
  expect(await alerts('&state=firing,pending')).toEqual([]);
  expect(await alerts()).toMatchObject([{ id, state: 'resolved', value: 60, resolved_at: at(6), fired_at: at(3) }]);
});

test('names that JavaScript has for itself are names like any other, of rules and of tags', async () => {
  await put('constructor', { ...HOT, for: '2m' });
  await put('tagged', { ...HOT, tag: ['__proto__:x', 'constructor:y'] });
  await minutes(
    0,
    Array.from({ length: 12 }, () => 90),
  );
  await closed(2);
  expect(await alerts()).toMatchObject([{ rule: 'constructor', state: 'firing', since: at(0), fired_at: at(2) }]);
  await closed(8);
  // As another hub would go on from what the log says, when the windows that it fired by are not looked at any more.
  expect(api.alerts.book.bases.get('constructor')?.size).toBe(1);
  expect(api.alerts.figures.failures).toBe(0);
});

test('late readings fire an alert by a window that was evaluated, and take one back', async () => {
  await put('hot', HOT);
  await minutes(0, [50, 50, 50]);
  await closed(3);
  expect(await alerts()).toEqual([]);
  await minutes(2, [95]);
  await api.alerts.evaluate();
  // Nothing new is closed: what came late is looked at every ten seconds.
  api.clock.advance(11_000_000);
  await api.alerts.evaluate();
  expect(await alerts()).toMatchObject([{ state: 'firing', value: 95, cause: 'late', fired_at: at(3) }]);
  await closed(4);
  expect(await alerts('&state=firing')).toHaveLength(1);
  await put('cold', { kind: 'threshold', window: '1m', function: 'mean', below: 10 });
  await minutes(4, [5, null]);
  await closed(5);
  expect(await alerts('&rule=cold')).toMatchObject([{ state: 'firing', value: 5 }]);
  await minutes(4, [100]);
  await closed(6);
  expect(await alerts('&rule=cold')).toMatchObject([{ state: 'resolved', cause: 'late', value: 52.5 }]);
});

test('an alert that late readings make pending again is over, and another one begins: who was told is told', async () => {
  await put('hot', { ...HOT, function: 'min', for: '2m' });
  await minutes(0, [90, 90]);
  await closed(2);
  const [{ id }] = await alerts('&state=firing');
  await minutes(0, [10]);
  await closed(2);
  api.clock.advance(11_000_000);
  await api.alerts.evaluate();
  const rows = await alerts();
  expect(rows.find((row) => row.id === id)).toMatchObject({ state: 'resolved', cause: 'late', fired_at: at(2) });
  expect(rows.filter((row) => row.id !== id)).toMatchObject([{ state: 'pending', since: at(1), fired_at: null }]);
  await minutes(2, [95]);
  await closed(3);
  expect(await alerts('&state=firing')).toMatchObject([{ since: at(1), fired_at: at(3) }]);
});

test('what fires survives a restart, and is told once', async () => {
  await put('hot', HOT);
  const { version } = api.alerts.book;
  await minutes(0, [50, 90]);
  await closed(2);
  const before = await alerts();
  expect(before).toMatchObject([{ state: 'firing' }]);
  await api.restart();
  await api.alerts.evaluate();
  expect(await alerts()).toEqual(before);
  await minutes(2, [60]);
  await closed(3);
  expect(await alerts()).toMatchObject([{ id: before[0].id, state: 'resolved' }]);
  expect(api.alerts.book.version).toBe(version + 2);
});

test.each(['fail-before', 'fail-after'] as const)('a hub that ends while it commits a transition (%s) makes it once', async (fault) => {
  await put('hot', HOT);
  await minutes(0, [90]);
  const { version } = api.alerts.book;
  api.tokenStore.hook = (operation, key) => (operation === 'putIfAbsent' && key.startsWith('_sluice/alerts/log/') ? fault : null);
  await closed(1);
  api.tokenStore.hook = null;
  await api.restart();
  await api.alerts.evaluate();
  await closed(2);
  expect(await alerts()).toMatchObject([{ state: 'firing', value: 90, fired_at: at(1) }]);
  expect(api.alerts.book.version).toBe(version + 1);
});

test('a device that was there and sends nothing is told, but not while its gateway has not delivered', async () => {
  await put('silent', { kind: 'absence', for: '5m', device: ['pump-*'] });
  await minutes(
    0,
    Array.from({ length: 4 }, () => 1),
    ['pump-1', 'pump-2'],
  );
  await minutes(
    4,
    Array.from({ length: 8 }, () => 1),
    ['pump-2'],
  );
  await minutes(0, [1], ['pump-9'], 'other');
  await closed(4);
  await closed(1, 'other');
  await closed(8);
  expect(await alerts()).toEqual([]);
  await closed(9);
  expect(await alerts()).toMatchObject([{ rule: 'silent', device: 'pump-1', gateway, state: 'firing', value: 300, since: at(4) }]);
  await closed(12);
  expect(await alerts('&state=firing')).toHaveLength(1);
  await minutes(12, [1], ['pump-1', 'pump-2']);
  await closed(13);
  expect(await alerts()).toMatchObject([{ device: 'pump-1', state: 'resolved', cause: 'silence' }]);
});

test('windows without readings keep an alert, or clear it, as its rule says', async () => {
  await put('keeps', HOT);
  await put('clears', { ...HOT, missing: 'clear' });
  await minutes(0, [90]);
  await closed(1);
  expect(await alerts('&state=firing')).toHaveLength(2);
  await closed(2);
  expect(await alerts('&state=firing')).toMatchObject([{ rule: 'keeps' }]);
});

test('an open window fires early where a rule asks for it', async () => {
  await put('early', { ...HOT, early: true });
  await put('calm', HOT);
  await minutes(0, [50, 90]);
  await closed(1);
  expect(await alerts()).toMatchObject([{ rule: 'early', state: 'firing', cause: 'early' }]);
  await closed(2);
  expect((await alerts('&state=firing')).map(({ rule }) => rule).sort()).toEqual(['calm', 'early']);
});

test('rules are set, shown, changed and deleted', async () => {
  const rule = { ...HOT, labels: { team: 'a' }, severity: 'critical', summary: 'hot' };
  expect((await put('hot', rule)).status).toBe(201);
  expect((await put('hot', rule)).status).toBe(200);
  await minutes(0, [90]);
  await closed(1);
  expect(await api.json('/v1/alerts/rules/hot')).toMatchObject({ name: 'hot', rule: { above: 80, missing: 'keep' }, firing: 1 });
  expect(await alerts('&severity=critical')).toMatchObject([{ summary: 'hot', labels: { team: 'a' } }]);
  await put('hot', { ...rule, above: 95 });
  await api.alerts.evaluate();
  expect(await alerts()).toMatchObject([{ state: 'resolved', cause: 'rule' }]);
  const remove = (): Promise<Response> => Promise.resolve(api.app.request('/v1/alerts/rules/hot', { method: 'DELETE' }));
  expect((await remove()).status).toBe(204);
  expect(await problemOf(await remove())).toMatchObject({ status: 404, code: 'ERR_ALERT_RULE_UNKNOWN' });
  expect(await api.json('/v1/alerts/rules')).toMatchObject({ rows: [] });
});

test('a wrong rule is refused with all that is wrong about it', async () => {
  const wrong = async (rule: object): Promise<string[]> =>
    ((await problemOf(await put('r', rule))).errors ?? []).map(({ parameter }) => parameter).sort();
  expect(await wrong({ kind: 'threshold', window: '7m', function: 'most', above: 1, clear_below: 2 })).toEqual([
    'clear_below',
    'function',
    'window',
  ]);
  expect(await wrong({ kind: 'threshold', window: '1m' })).toEqual(['above']);
  expect(await wrong({ kind: 'absence', for: '2s' })).toEqual(['for']);
  expect(await wrong({ kind: 'gateway', condition: 'lag' })).toEqual(['above']);
  expect(await wrong({ kind: 'threshold', window: '1m', above: 1, abvoe: 2 })).toEqual(['abvoe']);
  expect((await problemOf(await put('-', HOT))).errors?.[0]?.parameter).toBe('name');
});

test('what is wrong about a rule is said with what would be right', async () => {
  const detail = async (rule: object): Promise<string> => (await problemOf(await put('r', rule))).detail;
  expect(await detail({ kind: 'threshold', window: '1m', above: 'hot' })).toBe('above: "hot" is not a number');
  expect(await detail({ kind: 'threshold', above: 1 })).toBe('window: is missing: a text is needed');
  expect(await detail({})).toBe('kind: is missing, there are threshold, absence, gateway');
  expect(await detail({ kind: 'gateway', condition: 'slow' })).toBe('condition: "slow", there are disconnected, lag, backlog, clock');
  expect(await detail({ ...HOT, abvoe: 2 })).toMatch(/^abvoe: unknown, did you mean above\? There are kind, .*above, below/);
  expect(await detail({ ...HOT, window: '7m', function: 'avg' })).toMatch(
    /no function 'avg' \(there are .*mean.*no window "7m", there are 10s, 1m/,
  );
  expect(await detail({ ...HOT, change_over: '90s' })).toMatch(/^change_over: 90s is no multiple of 1m up to 1h/);
  expect(await detail({ kind: 'absence', for: '0s' })).toMatch(/^for: "0s" is not a duration from 1ms to 7d/);
});

test('a rule of change fires by how far a value has moved since a window before', async () => {
  const rule = { kind: 'threshold', window: '1m', function: 'mean', change_over: '2m', above: 15, for: '0s' };
  expect((await put('rise', rule)).status).toBe(201);
  await minutes(0, [50, 60, 64, 80, 81]);
  await closed(3);
  expect(await alerts()).toEqual([]);
  await closed(4);
  expect(await alerts()).toMatchObject([{ state: 'firing', value: 20, since: at(3) }]);
});

test('without an admin token nobody sets a rule where there are tokens', async () => {
  const read = await api.token('read');
  const admin = await api.token('admin');
  const send = async (token: string): Promise<number> => {
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` };
    return (await api.app.request('/v1/alerts/rules/hot', { method: 'PUT', headers, body: JSON.stringify(HOT) })).status;
  };
  expect([await send(read), await send(admin)]).toEqual([403, 201]);
});

test('a gateway that is not heard fires after its time, and clears when it is back', async () => {
  await put('gone', { kind: 'gateway', condition: 'disconnected', for: '1m' });
  const lane = { gateway, epoch: '0'.repeat(31) + '1', lane: 'live' as const };
  const connect = (): void => api.gateways.laneConnected(lane, { received: 0, committed: 0, status: 'open' }, api.clock.nowUs());
  connect();
  await api.alerts.evaluate();
  api.gateways.laneDisconnected(lane, false);
  api.clock.advance(30_000_000);
  await api.alerts.evaluate();
  expect(await alerts()).toMatchObject([{ gateway, state: 'pending', device: null }]);
  api.clock.advance(31_000_000);
  await api.alerts.evaluate();
  expect(await alerts()).toMatchObject([{ state: 'firing', cause: 'gateway' }]);
  connect();
  await api.alerts.evaluate();
  expect(await alerts()).toMatchObject([{ state: 'resolved' }]);
});

test('whether receivers are told is shown without what is secret about them', async () => {
  const figures = { receiver: 'people', delivered: 3, refused: 0, failed: 2, waiting: 1, waitingSinceUs: START_US, lastError: 'no answer' };
  api.notifier.figures = [figures];
  expect(await api.json('/v1/alerts/receivers')).toEqual({
    rows: [{ receiver: 'people', delivered: 3, refused: 0, failed: 2, waiting: 1, waiting_since: at(0), last_error: 'no answer' }],
  });
  expect(await (await api.get('/metrics')).text()).toContain('sluice_hub_alert_notifications_total{receiver="people",result="failed"} 2');
});

test('pages of alerts follow each other, and an unchanged page is a 304', async () => {
  await put('hot', HOT);
  const devices = Array.from({ length: 7 }, (_, index) => `pump-${index}`);
  await minutes(0, [90], devices);
  await closed(1);
  const seen: unknown[] = [];
  let cursor = '';
  for (let page = 0; page < 3; page++) {
    const answer = await api.json<{ rows: AlertRow[]; next_cursor: string | null }>(
      `/v1/alerts?from=2026-11-22&rule=hot&gateway=${gateway}&limit=3${cursor}`,
    );
    seen.push(...answer.rows.map(({ device }) => device));
    cursor = `&cursor=${answer.next_cursor}`;
  }
  expect(new Set(seen)).toEqual(new Set(devices));
  expect(seen).toHaveLength(devices.length);
  expect(cursor).toBe('&cursor=null');
  const range = `/v1/alerts?from=2026-11-22&to=2026-11-23&format=csv&rule=hot&gateway=${gateway}&state=firing`;
  const first = await api.get(range);
  expect((await first.text()).split('\r\n')).toHaveLength(9);
  expect((await api.get(range, { 'if-none-match': first.headers.get('etag') ?? '' })).status).toBe(304);
});

test('SQL sees alerts as rows, none as an empty view', async () => {
  const sql = async (statement: string): Promise<unknown> => {
    const headers = { 'content-type': 'application/json' };
    const answer = await api.app.request('/v1/sql', { method: 'POST', headers, body: JSON.stringify({ sql: statement }) });
    return ((await answer.json()) as { rows: unknown }).rows;
  };
  await put('sqlhot', HOT);
  const statement = `SELECT device, state, value, window_end, resolved_at FROM alerts WHERE rule = 'sqlhot' AND gateway = '${gateway}'`;
  expect(await sql(statement)).toEqual([]);
  await minutes(0, [90]);
  await closed(1);
  expect(await sql(statement)).toEqual([{ device: 'pump-1', state: 'firing', value: 90, window_end: at(1), resolved_at: null }]);
});

/** Data of the events of a name, as far as they come before the reader stops. */
async function events(stream: Response, count: number): Promise<{ whole: boolean; rows: AlertRow[] }[]> {
  const reader = (stream.body as ReadableStream<Uint8Array>).getReader();
  let text = '';
  const found = (): string[] => [...text.matchAll(/event: alerts\ndata: (.*)\n\n/g)].map(([, data]) => data);
  while (found().length < count) text += Buffer.from((await reader.read()).value ?? []).toString('utf8');
  await reader.cancel();
  return found().map((data) => JSON.parse(data) as { whole: boolean; rows: AlertRow[] });
}

test('a stream tells of alerts before it gives the id that it is resumed by', async () => {
  const stream = await api.get(`/v1/stream?gateway=${gateway}`);
  const reader = (stream.body as ReadableStream<Uint8Array>).getReader();
  let text = '';
  while (!/^id: /m.test(text)) text += Buffer.from((await reader.read()).value ?? []).toString('utf8');
  await reader.cancel();
  expect(text.indexOf('event: alerts')).toBeGreaterThan(0);
  expect(text.indexOf('event: alerts')).toBeLessThan(text.indexOf('\nid: '));
});

test('a stream begins with what holds, tells what changes, and after a break what ended meanwhile', async () => {
  await put('hot', HOT);
  await minutes(0, [90, 60]);
  const stream = await api.get(`/v1/stream?gateway=${gateway}`);
  const two = events(stream, 2);
  api.clock.advance(1_000_000);
  const lastId = String(api.clock.nowUs());
  await closed(1);
  api.clock.advance(1_000_000);
  const [first, second] = await two;
  expect(first).toMatchObject({ whole: true, rows: [] });
  expect(second).toMatchObject({ whole: false, rows: [{ rule: 'hot', device: 'pump-1', state: 'firing' }] });
  await closed(2);
  api.clock.advance(1_000_000);
  for (const id of [lastId, String(api.clock.nowUs())]) {
    // Also by an id that is newer than the alert: it may have been given before the alert was known.
    const [resumed] = await events(await api.get(`/v1/stream?gateway=${gateway}`, { 'last-event-id': id }), 1);
    expect(resumed).toMatchObject({ whole: true, rows: [{ id: second.rows[0].id, state: 'resolved' }] });
  }
});
