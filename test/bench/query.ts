/**
 * How quick the hub answers, idle and while it takes half of what it can: windows of the last minutes, of the last hour and
 * of a year, and a SQL scan of all readings. What it takes is live traffic of many gateways; once also a backlog, whose every
 * second changes the windows of the last twenty minutes.
 *
 * The lake is made by the engine in this process: a year of 500 series (short 100) every half hour, and as many readings of the
 * reference fleet as SLUICE_BENCH_SQL_READINGS says (default 100 million, short 5 million). SLUICE_BENCH_LAKE=DIR keeps it
 * there, and later runs take a copy of what it has. References: InfluxDB's GROUP BY time over the same year of one series,
 * and DuckDB in this process over the same Parquet files.
 */
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { encodeBatch } from '../../shared/batch/encode.ts';
import { ManualClock } from '../../shared/clock.ts';
import { Maintenance } from '../../hub/maintenance.ts';
import { BenchEngine, openLocalBenchLake } from './bench-engine.ts';
import { Samples, type BenchOptions, type Measured } from './figures.ts';
import { LiveFleet } from './live-fleet.ts';
import { absentNote, startInflux } from './peers.ts';
import { percentile } from './percentile.ts';
import { pause, withSite, type HubProgram, type Site } from './processes.ts';
import { runQueries, type QueryResult } from './query-load.ts';
import { mulberry32, REFERENCE_START_US } from './reference-fleet.ts';
import { sealFleet, type SealedFleet } from './sealed-fleet.ts';
import { UplinkClient, type SealedBody } from './uplink-client.ts';

const HOT_DEVICES = 250;
const YEAR_DEVICES = 100;
const YEAR_INTERVAL_US = 1_800_000_000;
/** By name, as a batch has its series. */
const YEAR_METRICS = ['humidity', 'power', 'pressure', 'temperature', 'voltage'];
const DAY_US = 86_400_000_000;
const YEAR_FROM_US = REFERENCE_START_US - 365 * DAY_US;
const SECONDS_PER_RAW_BATCH = 60;
const RAW_BATCHES_PER_CHUNK = 16;
const QUERIES_PER_SECOND = 500;
const CONNECTIONS = 64;
const THREADS = 2;

const HUB = 'Sluice hub';
const INFLUX = 'InfluxDB 1.x, GROUP BY time over the readings';
const DUCKDB = 'DuckDB, the same files';
const SCAN = "date_trunc('hour', ts) AS hour, count(*) AS n, avg(value) AS mean";

/** One value per series every half hour of a day. */
function dayBatch(day: number, metrics: readonly string[], random: () => number): SealedBody {
  const fromUs = YEAR_FROM_US + day * DAY_US;
  const toUs = fromUs + DAY_US;
  const perSeries = (toUs - fromUs) / YEAR_INTERVAL_US;
  const seriesTable = Array.from({ length: YEAR_DEVICES }, (_, index) =>
    metrics.map((metric) => ({ device: yearDevice(index), metric, tags: '' })),
  ).flat();
  const count = perSeries * seriesTable.length;
  const runs = {
    count,
    seriesTable,
    runOffsets: Uint32Array.from({ length: seriesTable.length + 1 }, (_, index) => index * perSeries),
    eventTimeUs: Float64Array.from({ length: count }, (_, index) => fromUs + (index % perSeries) * YEAR_INTERVAL_US),
    value: Float64Array.from({ length: count }, () => Math.round(random() * 1000) / 10),
    text: null,
    texts: [],
  };
  return {
    body: encodeBatch({ sealedUs: toUs, arrivalFromUs: fromUs, arrivalToUs: toUs, runs, exceptions: [] }, 'br'),
    readingCount: count,
  };
}

function yearDevice(index: number): string {
  return `year-${String(index).padStart(3, '0')}`;
}

function rawChunk(chunk: number): SealedFleet {
  const seconds = SECONDS_PER_RAW_BATCH * RAW_BATCHES_PER_CHUNK;
  const options = { devices: HOT_DEVICES, secondsPerBatch: SECONDS_PER_RAW_BATCH, batchCount: RAW_BATCHES_PER_CHUNK, seed: chunk };
  return sealFleet({ ...options, startUs: REFERENCE_START_US + chunk * seconds * 1_000_000, compression: 'none' });
}

/** @returns readings in it */
async function makeLake(lakeDir: string, rawReadings: number, metrics: readonly string[], log: (line: string) => void): Promise<number> {
  const clock = new ManualClock(YEAR_FROM_US);
  const bench = await BenchEngine.open(await openLocalBenchLake(lakeDir, clock), lakeDir, clock);
  let readings = 0;
  const submit = async (...batches: readonly SealedBody[]): Promise<void> => {
    for (const { readingCount } of batches) readings += readingCount;
    await bench.commitTogether(batches, 5_000_000);
  };
  const random = mulberry32(1);
  const maintenance = new Maintenance(await openLocalBenchLake(lakeDir, clock));
  // A day's windows go to the lake together, as folding leaves them; maintenance runs every day, as it would have.
  for (let day = 0; day < 365; day++) {
    clock.step(YEAR_FROM_US + (day + 1) * DAY_US - clock.nowUs());
    await submit(dayBatch(day, metrics, random));
    await bench.engine.flush();
    await maintenance.run();
    if (day % 60 === 59) log(`the lake has ${day + 1} days`);
  }
  for (let chunk = 0; readings < rawReadings; chunk++) {
    // Files as compaction leaves them: nothing is to be merged afterwards.
    await submit(...rawChunk(chunk).batches);
    await bench.engine.flush();
    if (chunk % 10 === 9) log(`the lake has ${Math.round(readings / 1e6)} M readings`);
  }
  await bench.engine.stop();
  for (const waitUs of [DAY_US, DAY_US / 12]) {
    clock.step(waitUs);
    await maintenance.run();
  }
  return readings;
}

/** What a kept lake was made of; one that was made otherwise is refused. */
interface LakeMade {
  readonly rawReadings: number;
  readonly metrics: readonly string[];
  readonly readings: number;
}

/** A lake of this run's own: made, or copied from where `keptDir` has one. @returns readings in it */
async function provideLake(
  lakeDir: string,
  rawReadings: number,
  metrics: readonly string[],
  keptDir: string | undefined,
  log: (line: string) => void,
): Promise<number> {
  if (keptDir === undefined) return makeLake(lakeDir, rawReadings, metrics, log);
  const noteFile = path.join(keptDir, 'made.json');
  if (!existsSync(noteFile)) {
    const readings = await makeLake(lakeDir, rawReadings, metrics, log);
    mkdirSync(keptDir, { recursive: true });
    cpSync(lakeDir, path.join(keptDir, 'lake'), { recursive: true });
    // Last: a lake without it is not whole.
    writeFileSync(noteFile, JSON.stringify({ rawReadings, metrics, readings } satisfies LakeMade));
    return readings;
  }
  const made = JSON.parse(readFileSync(noteFile, 'utf8')) as LakeMade;
  if (made.rawReadings !== rawReadings || made.metrics.join() !== metrics.join())
    throw new Error(
      `${keptDir} has a lake of ${made.rawReadings} readings with ${made.metrics.join(', ')}; this run asks for ${rawReadings} with ${metrics.join(', ')}`,
    );
  cpSync(path.join(keptDir, 'lake'), lakeDir, { recursive: true });
  return made.readings;
}

/** The fleet is sent so often that the interval of commits, which the last one waits for, is a small part of the time. */
const MAXIMUM_TIMES = 5;
/** V8 compiles what answers for some seconds, on threads that take the cores away. */
const WARMUP_SECONDS = 8;
/** Live traffic goes on until the queries' process has ended. */
const LIVE_SPARE_SECONDS = 4;
/** A scan that takes longer ends without ingest beside it; it has missed its mark long before. */
const SCAN_SECONDS = 30;

/** Readings per second that the hub commits when it is sent all that it takes. */
async function maximum(hub: HubProgram, token: string, fleet: SealedFleet): Promise<number> {
  const client = await UplinkClient.connect(hub, token);
  const startMs = performance.now();
  for (let time = 0; time < MAXIMUM_TIMES; time++) for (const batch of fleet.batches) client.send(batch);
  await client.idle();
  client.close();
  return (fleet.readings * MAXIMUM_TIMES) / ((performance.now() - startMs) / 1000);
}

/** Sends the same twenty minutes again and again, at an even rate, until it is stopped. */
async function backlog(hub: HubProgram, token: string, fleet: SealedFleet, perSecond: number): Promise<() => void> {
  const client = await UplinkClient.connect(hub, token);
  const readingsPerBatch = fleet.readings / fleet.batches.length;
  const startMs = performance.now();
  let sent = 0;
  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - startMs) / 1000) * (perSecond / readingsPerBatch));
    for (; sent < due; sent++) client.send(fleet.batches[sent % fleet.batches.length]);
  }, 10);
  return () => {
    clearInterval(timer);
    client.close();
  };
}

async function scanMs(hub: HubProgram): Promise<number> {
  const startMs = performance.now();
  const response = await fetch(`${hub.url}/v1/sql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ sql: `SELECT ${SCAN} FROM readings GROUP BY 1 ORDER BY 1` }),
  });
  const text = await response.text();
  if (response.status !== 200) throw new Error(`SQL answered ${response.status}: ${text}`);
  return performance.now() - startMs;
}

/** The readings' files at their newest version. */
async function duckDbScanMs(lakeDir: string): Promise<number> {
  const lake = await openLocalBenchLake(lakeDir, new ManualClock(REFERENCE_START_US));
  const files = [...lake.readings.snapshot.files.keys()].map((file) => `'${lake.localPath(lake.readings, file)}'`);
  const instance = await DuckDBInstance.create(':memory:', { threads: String(THREADS) });
  const connection = await instance.connect();
  const startMs = performance.now();
  await connection.runAndReadAll(
    `SELECT date_trunc('hour', make_timestamp(epoch_us(ts))) AS hour, count(*) AS n, avg(value) AS mean FROM read_parquet([${files.join(', ')}]) GROUP BY 1 ORDER BY 1`,
  );
  return performance.now() - startMs;
}

/** p99 of the same year of one series; null: InfluxDB is not installed. */
async function influxYearMs(site: Site, rounds: number): Promise<number | null> {
  const influx = await startInflux(site);
  if (influx === null) return null;
  const random = mulberry32(1);
  const lines = Array.from(
    { length: (REFERENCE_START_US - YEAR_FROM_US) / YEAR_INTERVAL_US },
    (_, index) => `year,device=${yearDevice(7)} value=${Math.round(random() * 1000) / 10} ${YEAR_FROM_US + index * YEAR_INTERVAL_US}000`,
  );
  const written = await fetch(`${influx.url}/write?db=bench&precision=ns`, { method: 'POST', body: lines.join('\n') });
  if (!written.ok) throw new Error(`InfluxDB: ${written.status} ${await written.text()}`);
  const [from, to] = [YEAR_FROM_US, REFERENCE_START_US].map((us) => new Date(us / 1000).toISOString());
  const q = `SELECT count(value),sum(value),mean(value),min(value),max(value),stddev(value) FROM year WHERE device='${yearDevice(7)}' AND time >= '${from}' AND time < '${to}' GROUP BY time(1h)`;
  const latenciesMs: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const startMs = performance.now();
    await (await fetch(`${influx.url}/query?db=bench&q=${encodeURIComponent(q)}`)).text();
    latenciesMs.push(performance.now() - startMs);
  }
  return percentile(latenciesMs, 0.99);
}

interface Mix {
  readonly name: string;
  readonly paths: readonly string[];
  readonly perSecond: number;
  readonly connections: number;
  readonly wantedP99Ms: number | null;
  /** How many times as long as the others, for as many queries that a p99 is not the worst of them. */
  readonly longer?: number;
}

/** The reference fleet's names are those of the history that the maximum was measured with, and of one live gateway. */
function hot(range: string): string[] {
  return Array.from(
    { length: HOT_DEVICES },
    (_, index) => `/v1/aggregates?window=1m&device=sensor-${String(index + 1).padStart(4, '0')}&from=now-${range}`,
  );
}

function mixes(metrics: readonly string[]): Mix[] {
  const time = (us: number): string => new Date(us / 1000).toISOString();
  const year = (index: number): string =>
    `/v1/aggregates?window=1h&device=${yearDevice(index % YEAR_DEVICES)}&metric=${metrics[Math.floor(index / YEAR_DEVICES)]}&from=${time(YEAR_FROM_US)}&to=${time(REFERENCE_START_US)}&limit=10000&functions=count,sum,mean,min,max,stddev`;
  return [
    {
      name: 'the last 5 minutes of a device, 64 clients, 500/s',
      paths: hot('5m'),
      perSecond: QUERIES_PER_SECOND,
      connections: CONNECTIONS,
      wantedP99Ms: 10,
    },
    { name: 'the last 5 minutes of a device, 1 client', paths: hot('5m'), perSecond: 20, connections: 1, wantedP99Ms: null },
    { name: 'the last hour of a device, 64 clients, 100/s', paths: hot('1h'), perSecond: 100, connections: CONNECTIONS, wantedP99Ms: null },
    {
      name: 'a year of one series by the hour, 1 client',
      paths: Array.from({ length: YEAR_DEVICES * metrics.length }, (_, index) => year(index)),
      perSecond: 2,
      connections: 1,
      wantedP99Ms: 100,
      longer: 2.5,
    },
  ];
}

const BACKLOG_MIX: Mix = {
  name: 'the last 5 minutes of a device, 64 clients, 500/s, beside a backlog of 20 minutes',
  paths: hot('5m'),
  perSecond: QUERIES_PER_SECOND,
  connections: CONNECTIONS,
  wantedP99Ms: 10,
};

async function measureMix(samples: Samples, site: Site, hub: HubProgram, mix: Mix, seconds: number): Promise<QueryResult> {
  const { name, paths, perSecond, connections, wantedP99Ms } = mix;
  const result = await runQueries(site, { url: hub.url, paths, perSecond, connections, warmupSeconds: WARMUP_SECONDS, seconds });
  site.measured(seconds);
  samples.add(name, HUB, 'p50', 'ms', result.p50Ms);
  samples.add(name, HUB, 'p99', 'ms', result.p99Ms);
  samples.add(name, HUB, 'answered', '%', (result.queries / (result.queries + result.failed)) * 100);
  if (wantedP99Ms !== null) samples.want(name, HUB, 'p99', { of: 'value', atMost: wantedP99Ms });
  return result;
}

async function round(samples: Samples, { isShort, profileDir, log }: BenchOptions, notes: Set<string>): Promise<void> {
  const rawReadings = Number(process.env['SLUICE_BENCH_SQL_READINGS'] ?? (isShort ? 5_000_000 : 100_000_000));
  const seconds = isShort ? 5 : 20;
  const secondsOf = ({ longer = 1 }: Mix): number => Math.round(seconds * longer);
  const metrics = isShort ? ['temperature'] : YEAR_METRICS;
  // The short profiled pass after a measurement has another lake.
  const keptDir = profileDir === null ? process.env['SLUICE_BENCH_LAKE'] : undefined;
  await withSite(profileDir, async (site) => {
    const readings = await provideLake(site.lakeDir, rawReadings, metrics, keptDir, log);
    const scanCase = `SQL: ${Math.round(readings / 1e6)} M readings by the hour`;
    const isFull = readings >= 100_000_000;
    samples.add(`${scanCase}, idle`, DUCKDB, 'time', 's', (await duckDbScanMs(site.lakeDir)) / 1000);
    const tokens = await site.gatewayTokens(['gw-max', 'gw-load']);
    const hub = await site.hub();
    samples.add(`${scanCase}, idle`, HUB, 'time', 's', (await scanMs(hub)) / 1000);
    const now = Date.now() * 1000;
    const fleet = sealFleet({ devices: HOT_DEVICES, secondsPerBatch: 5, batchCount: 240, seed: 1, startUs: now - 1_200_000_000 });
    const maxPerSecond = await maximum(hub, tokens[0], fleet);
    log(`the maximum is ${Math.round(maxPerSecond)} readings/s`);
    const live = await LiveFleet.connect(site, hub, maxPerSecond / 2);
    for (const [index, mix] of mixes(metrics).entries()) {
      const stop = await live.run(WARMUP_SECONDS + secondsOf(mix) + LIVE_SPARE_SECONDS);
      const result = await measureMix(samples, site, hub, mix, secondsOf(mix));
      if (index === 0) {
        samples.add(`${mix.name}: the hub's first ${WARMUP_SECONDS} s of queries`, HUB, 'p50', 'ms', result.warmupP50Ms);
        samples.add(`${mix.name}: the hub's first ${WARMUP_SECONDS} s of queries`, HUB, 'p99', 'ms', result.warmupP99Ms);
      }
      log(`${mix.name}: ${stop()} batches of ${live.gateways} gateways are not committed yet`);
    }
    const stopLive = await live.run(SCAN_SECONDS);
    samples.add(`${scanCase}, ingesting`, HUB, 'time', 's', (await scanMs(hub)) / 1000);
    stopLive();
    live.close();
    const stopBacklog = await backlog(hub, tokens[1], fleet, maxPerSecond / 2);
    await measureMix(samples, site, hub, BACKLOG_MIX, seconds);
    stopBacklog();
    if (isFull) {
      samples.want(`${scanCase}, idle`, HUB, 'time', { of: 'value', atMost: 5 });
      samples.want(`${scanCase}, ingesting`, HUB, 'time', { of: 'value', atMost: 10 });
    }
    await pause(500);
    const influxMs = await influxYearMs(site, isShort ? 20 : 100);
    if (influxMs === null) notes.add(absentNote('influxd', 'influxdb'));
    else samples.add('a year of one series by the hour, 1 client', INFLUX, 'p99', 'ms', influxMs);
  });
}

export async function benchQuery(options: BenchOptions): Promise<Measured> {
  const samples = new Samples();
  const notes = new Set<string>();
  for (let count = 0; count < options.rounds; count++) await round(samples, options, notes);
  return {
    figures: samples.figures(),
    method:
      `A lake of ${YEAR_DEVICES * YEAR_METRICS.length} series (--short: ${YEAR_DEVICES}) every half hour for a year, maintained every day of it, and of the reference fleet (${HOT_DEVICES} devices, 4 metrics, 1 Hz) in files of about a million readings, folded. Then the hub takes half of the rate that it took just before, when one gateway sent it twenty minutes of that fleet five times: live traffic of as many gateways as that needs, each with 250 devices of four metrics at 10 Hz and a batch a second, sealed before; and once, where it says so, those twenty minutes again and again, which change every window of them each second; ` +
      `latencies are of an open loop, from when a query was due, after ${WARMUP_SECONDS} s of the same queries, which are shown by themselves where they are the hub's first; every query for a year is for another series. SQL is POST /v1/sql of \`SELECT ${SCAN} FROM readings GROUP BY 1\` with ${THREADS} threads, InfluxDB and DuckDB ran idle.`,
    notes: [...notes],
    chart: { metric: 'p99', title: 'Query latency while ingesting, p99, ms' },
  };
}
