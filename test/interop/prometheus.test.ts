/**
 * PromQL as Prometheus' own programs see it: promtool against a hub, and the same samples in a real Prometheus, whose
 * answers are the reference. Both are Debian's package `prometheus`; without it the tests are skipped and say so.
 */
import { execFile, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { getRequestListener } from '@hono/node-server';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ApiFixture, START_US } from '../../hub/http/app.fixture.ts';
import { makeWorld, openMetricsOf, runsOf } from '../../hub/promql/world.fixture.ts';

const isInstalled = ['promtool', 'prometheus'].every((program) => spawnSync(program, ['--version']).status === 0);
if (!isInstalled) console.warn('prometheus and promtool are not installed (apt-get install prometheus): their tests are skipped');

const START_SECONDS = START_US / 1e6;
const WORLD_SECONDS = 3 * 3_600;
const execute = promisify(execFile);

/** mulberry32. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

interface Result {
  readonly metric: Record<string, string>;
  readonly value?: readonly [number, string];
  readonly values?: readonly (readonly [number, string])[];
}

describe.skipIf(!isInstalled)('PromQL', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-prometheus-'));
  let api: ApiFixture;
  let server: Server;
  let prometheus: ChildProcess;
  let hubUrl = '';
  let prometheusUrl = '';

  beforeAll(async () => {
    api = await ApiFixture.start();
    const world = makeWorld(START_US, WORLD_SECONDS, randomOf(7));
    await api.commitRuns('gw-1', runsOf(world));
    const answer = getRequestListener(api.app.fetch);
    server = createServer((request, response) => void answer(request, response)).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    hubUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    prometheusUrl = await startPrometheus(openMetricsOf('gw-1', world));
  });

  afterAll(async () => {
    prometheus?.kill('SIGKILL');
    server?.close();
    server?.closeAllConnections();
    await api?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  async function startPrometheus(openMetrics: string): Promise<string> {
    const input = path.join(directory, 'samples.om');
    const data = path.join(directory, 'data');
    const config = path.join(directory, 'prometheus.yml');
    writeFileSync(input, openMetrics);
    writeFileSync(config, 'global: {}\n');
    await execute('promtool', ['tsdb', 'create-blocks-from', 'openmetrics', input, data], { maxBuffer: 1e8 });
    prometheus = spawn(
      'prometheus',
      [`--config.file=${config}`, `--storage.tsdb.path=${data}`, '--storage.tsdb.retention.time=50y', '--web.listen-address=127.0.0.1:0'],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let log = '';
    return new Promise((resolve, reject) => {
      prometheus.once('exit', (code) => reject(new Error(`prometheus ended with ${code}: ${log}`)));
      prometheus.stderr?.on('data', (chunk: Buffer) => {
        log += chunk.toString();
        const port = /Listening on"? address=127\.0\.0\.1:(\d+)/.exec(log)?.[1];
        if (port !== undefined && log.includes('Server is ready')) resolve(`http://127.0.0.1:${port}`);
      });
    });
  }

  async function ask(base: string, route: string, parameters: Record<string, string>): Promise<Result[]> {
    const response = await fetch(`${base}/api/v1/${route}`, { method: 'POST', body: new URLSearchParams(parameters) });
    const body = (await response.json()) as {
      status: string;
      error?: string;
      data: { resultType: string; result: Result[] | [number, string] };
    };
    expect(body.status, `${base} ${JSON.stringify(parameters)}: ${body.error}`).toBe('success');
    const { resultType, result } = body.data;
    return resultType === 'scalar' ? [{ metric: {}, value: result as [number, string] }] : (result as Result[]);
  }

  function byLabels(results: readonly Result[]): Map<string, readonly (readonly [number, string])[]> {
    return new Map(
      results.map(({ metric, value, values }) => [
        JSON.stringify(Object.entries(metric).sort(([a], [b]) => (a < b ? -1 : 1))),
        values ?? (value === undefined ? [] : [value]),
      ]),
    );
  }

  /** Equal series, times and values, these up to the rounding of another order of sums. */
  async function expectSame(route: string, parameters: Record<string, string>): Promise<number> {
    const [ours, theirs] = await Promise.all([hubUrl, prometheusUrl].map(async (base) => byLabels(await ask(base, route, parameters))));
    const what = parameters['query'];
    expect([...ours.keys()].sort(), what).toEqual([...theirs.keys()].sort());
    let points = 0;
    for (const [labels, expected] of theirs) {
      const got = ours.get(labels) ?? [];
      expect(
        got.map(([time]) => time),
        `${what} ${labels}`,
      ).toEqual(expected.map(([time]) => time));
      got.forEach(([time, text], index) => {
        points++;
        const [a, b] = [Number(text), Number(expected[index][1])];
        if (text === expected[index][1] || (Number.isNaN(a) && Number.isNaN(b))) return;
        expect(Math.abs(a - b), `${what} ${labels} at ${time}: ${a} and ${b}`).toBeLessThanOrEqual(
          1e-9 * Math.max(1, Math.abs(a), Math.abs(b)),
        );
      });
    }
    return points;
  }

  const EXPRESSIONS = [
    'temperature',
    'temperature{device="pump-1"}',
    '{__name__=~"temp.*|energy_total", device!="pump-2"}',
    'temperature{device=~"pump-[12]"}',
    'temperature{device!~"pump-.*"}',
    'cpu_usage_idle{core="0", exported_device="x"}',
    'temperature offset 10m',
    'avg_over_time(temperature[5m])',
    'min_over_time(temperature[90s])',
    'max_over_time(temperature[10m])',
    'sum_over_time(temperature[5m])',
    'count_over_time(temperature[5m])',
    'last_over_time(temperature[2m])',
    'present_over_time(temperature[2m])',
    'stddev_over_time(temperature[5m])',
    'stdvar_over_time(temperature[7m])',
    'quantile_over_time(0.9, temperature[5m])',
    'rate(energy_total[5m])',
    'rate(energy_total[1m15s])',
    'increase(energy_total[10m])',
    'delta(temperature[5m])',
    'irate(energy_total[5m])',
    'idelta(temperature[5m])',
    'deriv(temperature[5m])',
    'changes(energy_total[5m])',
    'resets(energy_total[30m])',
    'sum(temperature)',
    'sum by (metric) ({__name__=~".+"})',
    'avg without (device) (temperature)',
    'count by (device) ({gateway="gw-1"})',
    'min(temperature)',
    'max by (metric) (cpu_usage_idle)',
    'group by (device) (temperature)',
    'stddev(temperature)',
    'stdvar by (metric) ({gateway="gw-1"})',
    'quantile(0.5, temperature)',
    'topk(2, temperature)',
    'bottomk(1, temperature)',
    'sum by (device) (rate(energy_total[5m]))',
    'temperature * 1.8 + 32',
    '100 - temperature',
    '-temperature',
    '2 ^ 3 ^ 2 + -1 ^ 2',
    'temperature > 20',
    'temperature > bool 20',
    '20 < temperature',
    'temperature % 7',
    'temperature / on(device) cpu_usage_idle',
    'temperature - ignoring(metric) temperature',
    'temperature and on(device) (cpu_usage_idle > 0)',
    'temperature unless on(device) (cpu_usage_idle > 0)',
    'temperature{device="pump-1"} or temperature',
    'abs(temperature)',
    'ceil(temperature)',
    'floor(temperature)',
    'round(temperature)',
    'round(temperature, 0.5)',
    'clamp(temperature, 0, 20)',
    'clamp_min(temperature, 5)',
    'clamp_max(temperature, 5)',
    'sqrt(temperature)',
    'ln(temperature)',
    'log2(temperature)',
    'log10(temperature)',
    'sgn(temperature)',
    'exp(temperature / 100)',
    'timestamp(temperature)',
    'absent(nothing{device="x"})',
    'absent(temperature)',
    'time()',
    'vector(1)',
    'scalar(temperature{device="pump-1"}) + 1',
    '1 + 1',
    'Inf',
  ];
  /** What dashboards send besides: `$__rate_interval`, regular expressions of variables, thresholds, shares of a total. */
  const OF_DASHBOARDS = [
    'rate(energy_total[1m0s])',
    'sum by (device) (increase(energy_total[15m]))',
    'sum without (gateway, metric) (irate(energy_total[2m]))',
    'max_over_time(energy_total[20s])',
    'rate(energy_total[6s])',
    'increase(energy_total{device=~"pump-1|pump-2"}[5m]) > 0',
    'avg by (device) (avg_over_time(temperature{device=~"(pump-1|fan 3)"}[10m]))',
    'temperature{device=~".*"}',
    'temperature{device=~"pump"}',
    'temperature{device=~"^pump-.$"}',
    'temperature{device!~"(pump-1|pump-2)|x.*"}',
    'temperature{device=~"(?i:PUMP)-[0-9]+"}',
    'temperature{nolabel=""}',
    'cpu_usage_idle{core!="", nolabel!~".+"}',
    '{__name__=~".*_total|temperature", core=""}',
    '{__name__!~"temp.*", device="pump-1"}',
    'temperature{device=~"fan.3|"}',
    'temperature offset -10m',
    'rate(energy_total[5m] offset 7m)',
    'temperature - temperature offset 30m',
    'temperature @ AT',
    'temperature @ start()',
    'temperature - temperature @ end()',
    'rate(energy_total[5m] @ AT)',
    'avg_over_time(temperature[5m] @ end() offset 3m)',
    'temperature offset 3m @ AT',
    'topk by (metric) (1, {gateway="gw-1"})',
    'bottomk(2, rate(energy_total[5m]))',
    'topk(scalar(count(temperature)), temperature)',
    'quantile by (metric) (0.95, {gateway="gw-1"})',
    'quantile(2, temperature)',
    'quantile_over_time(0.5, energy_total[3m])',
    'count(temperature > 20)',
    'count(temperature > 20) or vector(0)',
    'sum(temperature > bool 20) / count(temperature)',
    '100 * (1 - avg by (device) (cpu_usage_idle) / 100)',
    'sum(rate(energy_total[5m])) * 3600 / 1e3',
    'sum by (metric) (temperature) / ignoring(metric) sum(temperature{device="pump-1"})',
    'temperature / 0',
    '0 / (temperature * 0)',
    'temperature ^ -1',
    'ln(temperature) == bool ln(temperature)',
    'temperature == 1 or temperature != 1',
    'temperature >= 0 <= 40',
    'temperature > on(device) cpu_usage_idle',
    'temperature > bool on(device) cpu_usage_idle',
    'temperature{device="pump-1"} + on() temperature{device="fan 3"}',
    'min without (device) (temperature)',
    'avg without () (temperature)',
    'sum by () (temperature)',
    'avg(last_over_time(temperature{device="pump-9"}[10m]))',
    'count_over_time(temperature{device="pump-9"}[20m])',
    'present_over_time(temperature{device="pump-9"}[1h])',
    'delta(temperature{device="pump-9"}[10m])',
    'changes(temperature[4m])',
    'clamp(temperature, 20, 0)',
    'round(-temperature, 0.1)',
    'sgn(temperature - temperature)',
    'absent(temperature{device="pump-9"})',
    'absent(sum(temperature{device="none"}))',
    'time() - timestamp(temperature)',
    'vector(time()) - vector(scalar(temperature{device="pump-9"}))',
    '-(1 + 2) ^ 2 % 5',
    '1 / 0 - -1 / 0',
    '0x1F + 1e3 + .5',
  ].map((text) => text.replace('AT', String(START_SECONDS + 4000.25)));

  async function refusal(base: string, parameters: Record<string, string>): Promise<object> {
    const response = await fetch(`${base}/api/v1/query_range`, { method: 'POST', body: new URLSearchParams(parameters) });
    return { code: response.status, ...((await response.json()) as object) };
  }

  test('lookback_delta is how old an instant may be: what last_over_time of that range is in Prometheus', async () => {
    const range = { start: String(START_SECONDS + 1800), end: String(START_SECONDS + 5400), step: '10' };
    for (const lookback of ['8s', '20m']) {
      const [ours, theirs] = await Promise.all([
        ask(hubUrl, 'query_range', { query: 'temperature', lookback_delta: lookback, ...range }),
        ask(prometheusUrl, 'query_range', { query: `last_over_time(temperature[${lookback}])`, ...range }),
      ]);
      expect(byLabels(ours)).toEqual(byLabels(theirs));
    }
  });

  test('a timeout is kept and wrong parameters are refused, with the codes and types of Prometheus', async () => {
    const range = { start: String(START_SECONDS + 1800), end: String(START_SECONDS + 5400), step: '10' };
    for (const base of [hubUrl, prometheusUrl]) {
      const late = await refusal(base, { ...range, query: 'quantile_over_time(0.9, temperature[1h])', timeout: '1ms' });
      expect(late).toMatchObject({ code: 503, errorType: 'timeout' });
      for (const [name, value] of Object.entries({ timeout: 'soon', step: '-1', start: 'x', end: '0' }))
        expect(await refusal(base, { query: '1', ...range, [name]: value }), name).toMatchObject({ code: 400, errorType: 'bad_data' });
    }
  });

  test('a range query of readings answers what Prometheus answers, at every kind of step', async () => {
    let points = 0;
    // The others are asked as instants: one evaluation does both.
    const asRanges = [...EXPRESSIONS, ...OF_DASHBOARDS.filter((_, index) => index % 2 === 0)];
    for (const [index, query] of asRanges.entries()) {
      const step = ['15', '60s', '5m', '37'][index % 4];
      points += await expectSame('query_range', { query, start: String(START_SECONDS + 1800), end: String(START_SECONDS + 5400), step });
    }
    expect(points).toBeGreaterThan(10_000);
  });

  test('an instant query answers what Prometheus answers', async () => {
    // The range query has all of the first; the way of an instant query is what is different here.
    const asInstants = [...EXPRESSIONS.filter((_, index) => index % 4 === 0), ...OF_DASHBOARDS.filter((_, index) => index % 2 === 1)];
    for (const query of asInstants) {
      await expectSame('query', { query, time: String(START_SECONDS + 4000.5) });
    }
    await expectSame('query', { query: 'temperature[2m]', time: String(START_SECONDS + 4000.5) });
  });

  test('a range that is too long for readings is answered from windows: whole windows give the same as Prometheus', async () => {
    // Steps on window boundaries: every range is whole windows.
    const range = { start: String(START_SECONDS + 600), end: String(START_SECONDS + WORLD_SECONDS - 600), step: '60' };
    for (const query of [
      'temperature',
      'avg_over_time(temperature[5m])',
      'max_over_time(temperature[10m])',
      'min_over_time(temperature[10m])',
      'sum_over_time(temperature[5m])',
      'count_over_time(temperature[5m])',
      'stddev_over_time(temperature[5m])',
      'sum by (metric) (last_over_time(cpu_usage_idle[2m]))',
      'delta(temperature[5m])',
    ])
      expect(await expectSame('query_range', { query, ...range }), query).toBeGreaterThan(150);
    const response = await fetch(`${hubUrl}/api/v1/query_range?${String(new URLSearchParams({ query: 'temperature', ...range }))}`);
    expect(((await response.json()) as { infos: string[] }).infos).toEqual(['PromQL info: computed from 1m windows (docs/promql.md)']);
  });

  async function promtool(...args: string[]): Promise<string> {
    const { stdout } = await execute('promtool', args);
    return stdout.trim();
  }

  test('promtool asks a hub for instants, ranges, series and labels', async () => {
    const at = new Date((START_SECONDS + 3600) * 1000).toISOString();
    expect(await promtool('query', 'instant', hubUrl, 'count(temperature)', `--time=${at}`)).toMatch(/^\{\} => 3 @/);
    expect(await promtool('query', 'instant', hubUrl, '1+1')).toMatch(/^scalar: 2 @/);
    const range = [`--start=${START_SECONDS + 600}`, `--end=${START_SECONDS + 1200}`];
    expect(await promtool('query', 'range', hubUrl, 'sum(rate(energy_total[5m]))', ...range, '--step=60s')).toContain('{} =>');
    const series = await promtool('query', 'series', hubUrl, '--match={__name__=~"temp.*"}', ...range);
    expect(series.split('\n')).toHaveLength(4);
    expect(series).toContain('{__name__="temperature", device="fan 3", gateway="gw-1", metric="temperature"}');
    expect(await promtool('query', 'labels', hubUrl, 'device')).toBe(['fan 3', 'pump-1', 'pump-2', 'pump-9'].join('\n'));
    await expect(promtool('query', 'instant', hubUrl, 'histogram_quantile(0.9, temperature)')).rejects.toThrow(/bad_data/);
  });
});
