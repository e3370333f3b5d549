/**
 * One hub and many gateways: simulated uplinks, each with a connection and a lane of its own, sending small batches at the
 * pace of a gateway.
 */
import { Samples, type BenchOptions, type Measured } from './figures.ts';
import { percentile } from './percentile.ts';
import { pause, scrape, withSite } from './processes.ts';
import { sealFleet } from './sealed-fleet.ts';
import { UplinkClient } from './uplink-client.ts';

const DEVICES_PER_GATEWAY = 10;
const METRICS = 4;
const SECONDS_PER_BATCH = 2;
const SUBJECT = 'Sluice hub';
const WANTED_LOOP_P99_MS = 5;

function caseName(gateways: number): string {
  return `${gateways.toLocaleString('en-US')} gateway${gateways === 1 ? '' : 's'}`;
}

interface Options {
  readonly gateways: number;
  readonly seconds: number;
  readonly profileDir: string | null;
}

function measure(samples: Samples, { gateways, seconds, profileDir }: Options): Promise<void> {
  return withSite(profileDir, async (site) => {
    const name = caseName(gateways);
    const tokens = await site.gatewayTokens(Array.from({ length: gateways }, (_, index) => `gw-${index}`));
    const hub = await site.hub();
    const clients: UplinkClient[] = [];
    const connectMs = performance.now();
    for (let from = 0; from < gateways; from += 50)
      clients.push(...(await Promise.all(tokens.slice(from, from + 50).map((token) => UplinkClient.connect(hub, token)))));
    const connectSeconds = (performance.now() - connectMs) / 1000;
    const batchCount = Math.round(seconds / SECONDS_PER_BATCH);
    const { batches } = sealFleet({
      devices: DEVICES_PER_GATEWAY,
      secondsPerBatch: SECONDS_PER_BATCH,
      batchCount,
      seed: 1,
      startUs: Date.now() * 1000,
    });
    const idle = hub.program.usage();
    await scrape(hub.url); // starts the event loop's measurement
    const startMs = performance.now();
    // Gateways seal at times of their own: each sends its batch at its place in the interval.
    for (let batch = 0; batch < batchCount; batch++) {
      for (let index = 0; index < gateways; index++) {
        const dueMs = startMs + (batch + index / gateways) * SECONDS_PER_BATCH * 1000;
        if (dueMs > performance.now() + 2) await pause(dueMs - performance.now());
        clients[index].send(batches[batch]);
      }
    }
    const loopMs = ((await scrape(hub.url)).get('sluice_hub_event_loop_delay_p99_seconds') ?? NaN) * 1000;
    await Promise.all(clients.map((client) => client.idle()));
    const done = hub.program.usage();
    const elapsed = (performance.now() - startMs) / 1000;
    site.measured(elapsed);
    const interval = (await scrape(hub.url)).get('sluice_hub_commit_interval_seconds') ?? NaN;
    const commitMs = clients.flatMap((client) => client.commitMs);
    for (const client of clients) client.close();
    const readings = gateways * batchCount * SECONDS_PER_BATCH * DEVICES_PER_GATEWAY * METRICS;
    samples.add(name, SUBJECT, 'readings', '/s', readings / (batchCount * SECONDS_PER_BATCH));
    samples.add(name, SUBJECT, 'commit p50', 'ms', percentile(commitMs, 0.5));
    samples.add(name, SUBJECT, 'commit p99', 'ms', percentile(commitMs, 0.99));
    samples.add(name, SUBJECT, 'commit interval at the end', 's', interval);
    samples.add(name, SUBJECT, 'resident', 'MB', done.residentBytesMax / 1e6);
    samples.add(name, SUBJECT, 'of that while idle', 'MB', idle.residentBytes / 1e6);
    samples.add(name, SUBJECT, 'CPU', 'cores', (done.cpuSeconds - idle.cpuSeconds) / elapsed);
    samples.add(name, SUBJECT, 'CPU per reading', 's per million', (done.cpuSeconds - idle.cpuSeconds) / (readings / 1e6));
    samples.add(name, SUBJECT, 'event loop p99', 'ms', loopMs);
    samples.add(name, SUBJECT, 'all connected after', 's', connectSeconds);
    samples.want(name, SUBJECT, 'event loop p99', { of: 'value', atMost: WANTED_LOOP_P99_MS });
  });
}

export async function benchScale({ rounds, isShort, profileDir, log }: BenchOptions): Promise<Measured> {
  const samples = new Samples();
  const seconds = isShort ? 8 : 30;
  for (let round = 0; round < rounds; round++) {
    for (const gateways of isShort ? [10, 100] : [10, 100, 1_000]) {
      await measure(samples, { gateways, seconds, profileDir });
      log(`round ${round + 1}: ${caseName(gateways)}`);
    }
  }
  return {
    figures: samples.figures(),
    method:
      `Simulated uplinks, each with ${DEVICES_PER_GATEWAY} devices of four metrics at 1 Hz, send a batch every ${SECONDS_PER_BATCH} s for ${seconds} s, spread over the interval. ` +
      "Commit is from sent to heard committed; the hub chooses its commit interval by itself (defaults), so most of it is waiting for the next commit. CPU is that of the hub's process, all threads.",
    notes: [],
    chart: { metric: 'commit p99', title: 'From sent to committed, p99, ms' },
  };
}
