/**
 * How fast a gateway's backlog reaches the lake, and what that does to live data meanwhile.
 *
 * A journal is filled with hours of a small fleet's readings, sealed every 2 s as the gateway would have, on a clock that is
 * moved by hand. Then gateway and hub start, a live fleet publishes, and the clock runs until the oldest reading that is not
 * in the lake is younger than the start. Reference: the journal's file copied and fsynced.
 */
import { closeSync, copyFileSync, cpSync, fsyncSync, mkdtempSync, openSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { JournalClient } from '../../gateway/journal/journal-client.ts';
import { ManualClock } from '../../shared/clock.ts';
import { Samples, type BenchOptions, type Measured } from './figures.ts';
import { runLoad } from './load.ts';
import { percentile } from './percentile.ts';
import { FreshnessProbe } from './probe.ts';
import { scrape, until, withSite } from './processes.ts';
import { mulberry32 } from './reference-fleet.ts';

const DEVICES = 250;
const METRICS = ['temperature', 'humidity', 'pressure', 'battery_voltage'];
const READINGS_PER_SECOND = DEVICES * METRICS.length;
/** Where a gateway has its journal, below its data directory. */
const JOURNAL_FOLDER = 'journal';
const SEAL_SECONDS = 2;
const DRAIN_MS_MAX = 120_000;
const WANTED_TIMES_REAL_TIME = 1_000;
/** Sealing interval and half a second: what live data may be old at 70 % load. */
const WANTED_LIVE_P99_MS = 2_500;

const SLUICE = 'Sluice: gateway and hub';
const COPY = "a copy of the journal's file, fsynced";

/** A closed journal with the backlog in it. @returns how many readings it holds */
async function fillJournal(directory: string, hours: number): Promise<number> {
  const seconds = Math.round(hours * 3600);
  const clock = new ManualClock((Date.now() - seconds * 1000) * 1000);
  const journal = await JournalClient.open({ directory, clock, freeSpaceReserveBytes: 0 });
  const { writer } = journal;
  const random = mulberry32(1);
  const walks = Float64Array.from({ length: READINGS_PER_SECOND }, () => 1000 + Math.floor(random() * 8000));
  for (let second = 0; second < seconds; second++) {
    await new Promise<void>((resolve, reject) => {
      for (let device = 0; device < DEVICES; device++) {
        const isLast = device === DEVICES - 1;
        const eventTimeUs = clock.nowUs() - Math.floor(random() * 40) * 1000;
        writer.message(
          (sink) =>
            METRICS.forEach((metric, index) => {
              const at = device * METRICS.length + index;
              walks[at] += Math.floor(random() * 3) - 1;
              sink.add(writer.series.idOf(`device-${device}`, metric, ''), eventTimeUs, walks[at] / 100, null);
            }),
          { redelivery: null, idempotencyKey: null, done: isLast ? (error) => (error === null ? resolve() : reject(error)) : null },
        );
      }
    });
    clock.advance(1_000_000);
    if (second % SEAL_SECONDS === SEAL_SECONDS - 1) await journal.seal();
  }
  await journal.seal();
  const { readings } = journal.backlog();
  await journal.close();
  if (readings !== seconds * READINGS_PER_SECOND)
    throw new Error(`the journal holds ${readings} readings, ${seconds * READINGS_PER_SECOND} were written`);
  return readings;
}

function directoryBytes(directory: string): number {
  return readdirSync(directory).reduce((sum, name) => sum + statSync(path.join(directory, name)).size, 0);
}

function copySeconds(from: string, to: string): number {
  const startMs = performance.now();
  for (const name of readdirSync(from)) {
    const target = path.join(to, name);
    copyFileSync(path.join(from, name), target);
    const file = openSync(target, 'r+');
    fsyncSync(file);
    closeSync(file);
  }
  return (performance.now() - startMs) / 1000;
}

interface Drained {
  readonly seconds: number;
  readonly copySeconds: number;
  readonly liveAgesMs: readonly number[];
  readonly cpuSeconds: readonly [number, number];
  readonly residentBytes: readonly [number, number];
}

function drainOnce(filled: string, readings: number, profileDir: string | null): Promise<Drained> {
  return withSite(profileDir, async (site) => {
    const dataDir = path.join(site.directory, 'gateway');
    const copyTarget = mkdtempSync(path.join(site.directory, 'copy-'));
    const copied = copySeconds(filled, copyTarget);
    cpSync(filled, path.join(dataDir, JOURNAL_FOLDER), { recursive: true });
    const token = await site.gatewayToken('gateway');
    const hub = await site.hub();
    const startUs = Date.now() * 1000;
    const startMs = performance.now();
    const gateway = await site.gateway('gateway', { dataDir, uplink: { url: hub.url, token } });
    // It ends with the site.
    void runLoad(site, {
      port: gateway.mqttPort,
      clients: DEVICES,
      perSecond: DEVICES,
      readings: METRICS.length,
      warmupSeconds: 0,
      seconds: DRAIN_MS_MAX / 1000,
      prefix: 'live',
    });
    const probe = await FreshnessProbe.start(gateway.mqttPort, hub.url, { pollMs: 50 });
    await until(
      'the backlog to reach the lake',
      async () => {
        if (((await scrape(hub.url)).get('sluice_hub_readings_committed_total') ?? 0) < readings) return false;
        const oldest = (await scrape(gateway.httpUrl)).get('sluice_gateway_backlog_oldest_timestamp_seconds') ?? 0;
        return oldest === 0 || oldest * 1e6 > startUs;
      },
      DRAIN_MS_MAX,
      50,
    );
    const seconds = (performance.now() - startMs) / 1000;
    site.measured(seconds);
    const [edge, centre] = [gateway.program.usage(), hub.program.usage()];
    const { agesMs } = await probe.stop();
    return {
      seconds,
      copySeconds: copied,
      liveAgesMs: agesMs,
      cpuSeconds: [edge.cpuSeconds, centre.cpuSeconds],
      residentBytes: [edge.residentBytesMax, centre.residentBytesMax],
    };
  });
}

export async function benchDrain({ rounds, isShort, profileDir, log }: BenchOptions): Promise<Measured> {
  const samples = new Samples();
  const hours = isShort ? (profileDir === null ? 0.25 : 1) : 4; // a profile of less would be one of the start-up
  const name = `${hours} h of backlog at ${READINGS_PER_SECOND.toLocaleString('en-US')} readings/s`;
  const filled = mkdtempSync(path.join(tmpdir(), 'sluice-bench-journal-'));
  try {
    const readings = await fillJournal(filled, hours);
    const bytes = directoryBytes(filled);
    log(`journal filled: ${readings} readings, ${(bytes / 1e6).toFixed(1)} MB`);
    for (let round = 0; round < rounds; round++) {
      const drained = await drainOnce(filled, readings, profileDir);
      samples.add(name, SLUICE, 'times real time', '', (hours * 3600) / drained.seconds);
      samples.add(name, SLUICE, 'readings', 'M/s', readings / drained.seconds / 1e6);
      samples.add(name, SLUICE, 'live data age p50', 'ms', percentile(drained.liveAgesMs, 0.5));
      samples.add(name, SLUICE, 'live data age p99', 'ms', percentile(drained.liveAgesMs, 0.99));
      samples.add(name, SLUICE, 'CPU, gateway', 's per million', drained.cpuSeconds[0] / (readings / 1e6));
      samples.add(name, SLUICE, 'CPU, hub', 's per million', drained.cpuSeconds[1] / (readings / 1e6));
      samples.add(name, SLUICE, 'resident, gateway', 'MB', drained.residentBytes[0] / 1e6);
      samples.add(name, SLUICE, 'resident, hub', 'MB', drained.residentBytes[1] / 1e6);
      samples.add(name, COPY, 'times real time', '', (hours * 3600) / drained.copySeconds);
      samples.add(name, COPY, 'readings', 'M/s', readings / drained.copySeconds / 1e6);
      log(`round ${round + 1}: drained in ${drained.seconds.toFixed(1)} s`);
    }
  } finally {
    rmSync(filled, { recursive: true, force: true });
  }
  samples.compare(name, SLUICE, 'times real time', COPY);
  samples.want(name, SLUICE, 'times real time', { of: 'value', atLeast: WANTED_TIMES_REAL_TIME });
  samples.want(name, SLUICE, 'live data age p99', { of: 'value', atMost: WANTED_LIVE_P99_MS });
  return {
    figures: samples.figures(),
    method:
      `A gateway's journal holds ${hours} h of ${DEVICES} devices with four metrics at 1 Hz, sealed every ${SEAL_SECONDS} s. The clock starts when the gateway is started and stops when all of the backlog is committed and the oldest reading that is not arrived after that; ` +
      'start-up, first connection and the last commit are in it (all settings are the defaults). Meanwhile as large a fleet publishes live, and a probe publishes a counter and asks /v1/aggregates for it: how old the newest visible count is, is the age of live data.',
    notes: [],
    chart: { metric: 'times real time', title: 'Backlog drained, times real time' },
  };
}
