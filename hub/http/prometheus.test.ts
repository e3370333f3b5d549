import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeWorld, runsOf } from '../promql/world.fixture.ts';
import { ApiFixture, START_US } from './app.fixture.ts';

const START_SECONDS = START_US / 1e6;

let api: ApiFixture;
beforeAll(async () => {
  api = await ApiFixture.start();
  let state = 1;
  const random = (): number => (state = (state * 16_807) % 2_147_483_647) / 2_147_483_647;
  await api.commitRuns('gw-1', runsOf(makeWorld(START_US, 1_800, random)));
});
afterAll(() => api.stop());

interface Answer {
  readonly code: number;
  readonly status: string;
  readonly errorType?: string;
  readonly error?: string;
  readonly data: unknown;
}

async function answerOf(response: Response): Promise<Answer> {
  return { code: response.status, ...((await response.json()) as Omit<Answer, 'code'>) };
}

async function get(path: string, parameters: Readonly<Record<string, string | undefined>> = {}): Promise<Answer> {
  return answerOf(
    await api.get(
      `/api/v1/${path}?${String(new URLSearchParams(Object.entries(parameters).flatMap(([name, value]) => (value === undefined ? [] : [[name, value] as [string, string]]))))}`,
    ),
  );
}

async function post(path: string, parameters: [string, string][], headers: Record<string, string> = {}): Promise<Answer> {
  const type = { 'content-type': 'application/x-www-form-urlencoded', ...headers };
  return answerOf(
    await api.app.request(`/api/v1/${path}`, { method: 'POST', headers: type, body: String(new URLSearchParams(parameters)) }),
  );
}

test('the health check of Grafana and its first questions are answered', async () => {
  expect(
    await post('query', [
      ['query', '1+1'],
      ['time', '4'],
    ]),
  ).toMatchObject({
    code: 200,
    data: { resultType: 'scalar', result: [4, '2'] },
  });
  expect(await get('status/buildinfo')).toMatchObject({ status: 'success', data: { version: '3.0.0' } });
  expect(await get('label/__name__/values', { start: String(START_SECONDS), end: String(START_SECONDS + 1800) })).toMatchObject({
    data: ['cpu_usage_idle', 'energy_total', 'temperature'],
  });
  expect(await get('metadata', { limit: '1' })).toMatchObject({ data: { cpu_usage_idle: [{ type: 'unknown' }] } });
  expect(await get('query_exemplars', { query: 'temperature' })).toMatchObject({ code: 200, data: [] });
  expect(await get('targets')).toMatchObject({ code: 404, status: 'error', errorType: 'not_found' });
});

test("a dashboard's panel: a form with start, end and step in seconds; labels say gateway, device and the metric's own name", async () => {
  const answer = await post('query_range', [
    ['query', 'avg by (device, metric) (rate(cpu_usage_idle{device=~"pump-1|pump-2"}[1m0s]))'],
    ['start', String(START_SECONDS + 600)],
    ['end', String(START_SECONDS + 900)],
    ['step', '15'],
  ]);
  const { resultType, result } = answer.data as {
    resultType: string;
    result: { metric: Record<string, string>; values: [number, string][] }[];
  };
  expect(resultType).toBe('matrix');
  expect(result.map(({ metric }) => metric)).toEqual([
    { device: 'pump-1', metric: 'cpu.usage_idle' },
    { device: 'pump-2', metric: 'cpu.usage_idle' },
  ]);
  expect(result[0].values).toHaveLength(21);
  expect(result[0].values[1]).toEqual([START_SECONDS + 615, expect.stringMatching(/^-?\d/)]);
});

test('a variable of a dashboard: values of a label, labels and series of what matches', async () => {
  const match = ['match[]', '{__name__="energy_total"}'] as [string, string];
  expect(await get('label/device/values', { 'match[]': 'energy_total' })).toMatchObject({ data: ['fan 3', 'pump-1', 'pump-2'] });
  expect(await post('labels', [match])).toMatchObject({ data: ['__name__', 'device', 'gateway', 'metric'] });
  expect((await post('series', [match, ['match[]', 'temperature{device="pump-9"}']])).data).toHaveLength(4);
  expect(await get('label/device/values', { 'match[]': 'energy_total', limit: '1' })).toMatchObject({ data: ['fan 3'] });
  expect(await get('series', { 'match[]': 'energy_total', end: String(START_SECONDS - 10) })).toMatchObject({ data: [] });
});

test('the metric may be named as it is: the label `metric`, or a quoted name', async () => {
  const time = String(START_SECONDS + 900);
  for (const query of ['count({"cpu.usage_idle"})', 'count({metric="cpu.usage_idle"})', 'count({__name__="cpu.usage_idle"})'])
    expect(await get('query', { query, time }), query).toMatchObject({ data: { result: [{ value: [START_SECONDS + 900, '3'] }] } });
});

test.each([
  ['sum(', /^1:5: parse error: unexpected end of input/],
  ['temperature{device="a"', /parse error/],
  ['', /no expression found/],
  ['temperature[5m:1m]', /a subquery .*docs\/promql\.md/],
  ['sum(temperature) @ end()', /@ modifier/],
  ['temperature @ 1 @ 2', /multiple times/],
  ['temperature @ Inf', /out of bounds/],
  ['histogram_quantile(0.9, temperature)', /this function .*docs\/promql\.md/],
  ['count_values("x", temperature)', /this aggregation/],
  ['temperature * on(device) group_left() cpu_usage_idle', /many series to one/],
  ['rate(temperature)', /expected type matrix/],
  ['sum(temperature[5m])', /expected type instant vector/],
  ['temperature[5m] + 1', /got matrix/],
  ['1 > 2', /BOOL modifier/],
  ['{device=~".*"}', /at least one non-empty matcher/],
  ['{device=~"a(?=b)"}', /RE2/],
  ['temperature{device="\\q"}', /unknown escape/],
])('%s is bad data, and the answer says why', async (query, why) => {
  const answer = await post('query', [['query', query]]);
  expect(answer).toMatchObject({ code: 400, status: 'error', errorType: 'bad_data' });
  expect(answer.error).toMatch(why);
});

test.each([
  [{ start: '0', end: '11000', step: '1' }, /11000 points/],
  [{ start: '5', end: '1', step: '1' }, /"end"/],
  [{ start: '1', end: '5', step: '0' }, /"step"/],
  [{ start: '1', end: '5', step: 'soon' }, /"step"/],
  [{ start: 'yesterday', end: '5', step: '1' }, /"start"/],
  [{ start: '1', step: '1' }, /"end"/],
  [{ start: '1', end: '1e300', step: '1' }, /"end"/],
])('the range %j is bad data', async (range, why) => {
  const answer = await get('query_range', { query: 'temperature', ...range });
  expect(answer).toMatchObject({ code: 400, errorType: 'bad_data' });
  expect(answer.error).toMatch(why);
});

test('limit cuts the series of an answer, never its numbers, and says so; 0 and -1 mean all', async () => {
  const range = { query: 'energy_total', start: String(START_SECONDS + 600), end: String(START_SECONDS + 900), step: '60' };
  const time = String(START_SECONDS + 900);
  for (const [path, parameters] of [
    ['query_range', range],
    ['query', { query: 'energy_total', time }],
    ['query', { query: 'energy_total[1m]', time }],
  ] as const) {
    const cut = await get(path, { ...parameters, limit: '2' });
    expect(cut).toMatchObject({ warnings: ['results truncated due to limit'] });
    expect((cut.data as { result: unknown[] }).result).toHaveLength(2);
    for (const limit of ['0', '-1', '3']) expect(await get(path, { ...parameters, limit })).not.toHaveProperty('warnings');
  }
  expect(await get('query', { query: '1', limit: '1' })).not.toHaveProperty('warnings');
  expect(await get('labels', { limit: '2' })).toMatchObject({ data: ['__name__', 'core'], warnings: ['results truncated due to limit'] });
  expect(await get('query', { query: '1', limit: 'few' })).toMatchObject({ code: 400, errorType: 'bad_data' });
});

test('a timeout is of the whole question, waiting included', async () => {
  const parameters = {
    query: 'quantile_over_time(0.9, energy_total[30m])',
    start: String(START_SECONDS),
    end: String(START_SECONDS + 1800),
    step: '1',
  };
  const answers = await Promise.all(['1ms', '10m'].map((timeout) => get('query_range', { ...parameters, timeout })));
  expect(answers.map(({ code, errorType }) => [code, errorType])).toEqual([
    [503, 'timeout'],
    [200, undefined],
  ]);
  expect(await get('query', { query: '1', timeout: 'soon' })).toMatchObject({ code: 400, errorType: 'bad_data' });
});

test("Sluice's own rules and alerts are listed as Grafana lists those of a data source", async () => {
  expect(await get('rules')).toMatchObject({ data: { groups: [] } });
  const rule = {
    kind: 'threshold',
    window: '1m',
    metric: ['temperature'],
    above: 80,
    for: '5m',
    summary: 'Too hot',
    labels: { team: 'a' },
  };
  const put = { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify(rule) };
  expect((await api.app.request('/v1/alerts/rules/hot', put)).status).toBe(201);
  const labels = { team: 'a', severity: 'warning' };
  const shown = {
    type: 'alerting',
    name: 'hot',
    state: 'inactive',
    duration: 300,
    labels,
    annotations: { summary: 'Too hot' },
    alerts: [],
  };
  expect(await get('rules', { type: 'alert' })).toMatchObject({ data: { groups: [{ name: 'sluice', rules: [shown] }] } });
  for (const none of [{ type: 'record' }, { 'rule_name[]': 'cold' }])
    expect(await get('rules', none)).toMatchObject({ data: { groups: [] } });
  expect(await get('rules', { type: 'x' })).toMatchObject({ code: 400, errorType: 'bad_data' });
  expect(await get('alerts')).toMatchObject({ data: { alerts: [] } });
});

test('a query that is too deep or too long is bad data', async () => {
  expect((await post('query', [['query', `${'('.repeat(300)}1${')'.repeat(300)}`]])).error).toMatch(/nested deeper/);
  expect((await post('query', [['query', `${'('.repeat(5_000)}1${')'.repeat(5_000)}`]])).errorType).toBe('bad_data');
  expect((await post('query', [['query', `${'1+'.repeat(20_000)}1`]])).error).toMatch(/characters, at most/);
});

test('what cannot be combined is an execution error', async () => {
  const time = String(START_SECONDS + 900);
  const answer = await get('query', { query: 'temperature + on(gateway) cpu_usage_idle', time });
  expect(answer).toMatchObject({ code: 422, errorType: 'execution' });
});

test('an expression that makes other engines backtrack is matched in linear time', async () => {
  const startMs = performance.now();
  const query = 'temperature{device=~"(((((p+)+)+)+)+)+x"}';
  expect(await get('query', { query, time: String(START_SECONDS + 900) })).toMatchObject({ code: 200, data: { result: [] } });
  expect(performance.now() - startMs).toBeLessThan(5_000);
});

test('a body that is no form, or too long, is refused; with read tokens nobody reads without one', async () => {
  expect(await post('query', [['query', '1']], { 'content-type': 'application/json' })).toMatchObject({ code: 400, errorType: 'bad_data' });
  expect(await post('query', [['query', '1'.repeat(300_000)]])).toMatchObject({ code: 400, errorType: 'bad_data' });
  const token = await api.token('read');
  expect((await api.get('/api/v1/query?query=1')).status).toBe(401);
  expect((await api.get('/api/v1/query?query=1', { authorization: `Bearer ${token}` })).status).toBe(200);
  await api.clearTokens();
});
