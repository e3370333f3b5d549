/**
 * How soon a published reading can be asked for, how quick hot queries are, and what the threads that own sockets suffer,
 * while devices publish at a share of what gateway and hub together can take on this machine.
 */
import { Samples, type BenchOptions, type Measured } from './figures.ts';
import { runLoad } from './load.ts';
import { percentile } from './percentile.ts';
import { FreshnessProbe } from './probe.ts';
import { pause, scrape, withSite, type GatewayProgram, type HubProgram, type Site } from './processes.ts';
import { runQueries } from './query-load.ts';

const CLIENTS = 250;
const READINGS_PER_MESSAGE = 4;
const WARMUP_SECONDS = 5;
const QUERIES_PER_SECOND = 500;
const SUBJECT = 'Sluice: gateway and hub';

const SEAL_INTERVAL_MS = 2_000; // the gateway's default
const WANTED_VISIBLE_P99_MS = SEAL_INTERVAL_MS + 500;
const WANTED_QUERY_P99_MS = 10;
const WANTED_LOOP_P99_MS = 5;

interface Pair {
  readonly gateway: GatewayProgram;
  readonly hub: HubProgram;
}

async function start(site: Site): Promise<Pair> {
  const token = await site.gatewayToken('gateway');
  const hub = await site.hub();
  return { hub, gateway: await site.gateway('gateway', { uplink: { url: hub.url, token } }) };
}

/** Messages per second that the gateway acknowledges while the hub takes what it sends. */
function maximum(seconds: number): Promise<number> {
  return withSite(null, async (site) => {
    const { gateway } = await start(site);
    const result = await runLoad(site, {
      port: gateway.mqttPort,
      clients: CLIENTS,
      inFlight: 4,
      readings: READINGS_PER_MESSAGE,
      seconds,
      warmupSeconds: 3,
    });
    return result.messages / result.seconds;
  });
}

async function loopDelaysMs({ gateway, hub }: Pair): Promise<readonly [number, number]> {
  const [edge, centre] = [await scrape(gateway.httpUrl), await scrape(hub.url)];
  return [
    (edge.get('sluice_gateway_event_loop_delay_p99_seconds') ?? NaN) * 1000,
    (centre.get('sluice_hub_event_loop_delay_p99_seconds') ?? NaN) * 1000,
  ];
}

function caseName(share: number, isQueried: boolean): string {
  return `${Math.round(share * 100)} % of the maximum${isQueried ? `, ${QUERIES_PER_SECOND} queries/s` : ''}`;
}

interface Options {
  readonly share: number;
  readonly isQueried: boolean;
  readonly maxPerSecond: number;
  readonly seconds: number;
  readonly profileDir: string | null;
}

function measure(samples: Samples, { share, isQueried, maxPerSecond, seconds, profileDir }: Options): Promise<void> {
  return withSite(profileDir, async (site) => {
    const pair = await start(site);
    const { gateway, hub } = pair;
    const name = caseName(share, isQueried);
    const load = runLoad(site, {
      ...{ port: gateway.mqttPort, clients: CLIENTS, perSecond: maxPerSecond * share, readings: READINGS_PER_MESSAGE },
      ...{ warmupSeconds: WARMUP_SECONDS, seconds: seconds + 1 },
    });
    const probe = await FreshnessProbe.start(gateway.mqttPort, hub.url);
    await pause(WARMUP_SECONDS * 1000);
    probe.reset();
    await loopDelaysMs(pair); // each scrape starts a new measurement
    const paths = Array.from({ length: CLIENTS }, (_, index) => `/v1/aggregates?window=1m&device=load-${index}&from=now-5m`);
    const queries = isQueried
      ? runQueries(site, { url: hub.url, paths, perSecond: QUERIES_PER_SECOND, warmupSeconds: 0, seconds, connections: 64 })
      : null;
    await pause(seconds * 1000);
    site.measured(seconds);
    const [edgeMs, centreMs] = await loopDelaysMs(pair);
    const { visibleMs, streamMs } = await probe.stop();
    const result = await load;
    samples.add(name, SUBJECT, 'load', 'readings/s', (result.messages * READINGS_PER_MESSAGE) / result.seconds);
    samples.add(name, SUBJECT, 'ack p99', 'ms', result.p99Ms);
    samples.add(name, SUBJECT, 'visible p50', 'ms', percentile(visibleMs, 0.5));
    samples.add(name, SUBJECT, 'visible p99', 'ms', percentile(visibleMs, 0.99));
    samples.add(name, SUBJECT, 'on the stream p50', 'ms', percentile(streamMs, 0.5));
    samples.add(name, SUBJECT, 'on the stream p99', 'ms', percentile(streamMs, 0.99));
    samples.add(name, SUBJECT, 'event loop p99, gateway', 'ms', edgeMs);
    samples.add(name, SUBJECT, 'event loop p99, hub', 'ms', centreMs);
    if (queries === null) return;
    const answered = await queries;
    samples.add(name, SUBJECT, 'queries answered', '%', (answered.queries / (answered.queries + answered.failed)) * 100);
    samples.add(name, SUBJECT, 'query p50', 'ms', answered.p50Ms);
    samples.add(name, SUBJECT, 'query p99', 'ms', answered.p99Ms);
  });
}

export async function benchFreshness({ rounds, isShort, profileDir, log }: BenchOptions): Promise<Measured> {
  const samples = new Samples();
  const seconds = isShort ? 5 : 20;
  const cases = [
    { share: 0.1, isQueried: false },
    { share: 0.7, isQueried: false },
    { share: 0.5, isQueried: true },
  ];
  for (let round = 0; round < rounds; round++) {
    const maxPerSecond = await maximum(isShort ? 3 : 6);
    log(`round ${round + 1}: the maximum is ${Math.round(maxPerSecond * READINGS_PER_MESSAGE)} readings/s`);
    for (const entry of cases) await measure(samples, { ...entry, maxPerSecond, seconds, profileDir });
  }
  samples.want(caseName(0.7, false), SUBJECT, 'visible p99', { of: 'value', atMost: WANTED_VISIBLE_P99_MS });
  samples.want(caseName(0.5, true), SUBJECT, 'queries answered', { of: 'value', atLeast: 100 });
  samples.want(caseName(0.5, true), SUBJECT, 'query p99', { of: 'value', atMost: WANTED_QUERY_P99_MS });
  for (const { share, isQueried } of cases) {
    for (const place of ['gateway', 'hub']) {
      samples.want(caseName(share, isQueried), SUBJECT, `event loop p99, ${place}`, { of: 'value', atMost: WANTED_LOOP_P99_MS });
    }
  }
  return {
    figures: samples.figures(),
    method:
      `The maximum is what a gateway that sends to a hub acknowledges from ${CLIENTS} devices with 4 messages of ${READINGS_PER_MESSAGE} readings in flight each. The same devices then publish at shares of it in an open loop. ` +
      'A probe publishes a counter every 50 ms and asks /v1/aggregates for it every 20 ms; visible is from published to first seen there, or on /v1/stream, which tells once a second. ' +
      `Queries are /v1/aggregates for the last five 1 min windows of one device after the other, ${QUERIES_PER_SECOND} a second in an open loop over 64 connections, latency from when they were due; what the hub refuses because 64 queries wait is not answered. All settings are the defaults.`,
    notes: [],
    chart: { metric: 'visible p99', title: 'From published to visible in /v1/aggregates, p99, ms' },
  };
}
