/**
 * A day of a hub in minutes: 17,280 commits, a flush a minute, maintenance every ten, on a clock moved by hand and a store in
 * memory. What must not grow with the age of the lake is measured every hour: the heap, what a capture costs, the files.
 */
import type { Engine } from '../../hub/engine.ts';
import { MemoryStore } from '../../hub/lake/memory-store.ts';
import { Maintenance } from '../../hub/maintenance.ts';
import { ManualClock } from '../../shared/clock.ts';
import { BenchEngine, openBenchLake } from './bench-engine.ts';
import { Samples, type BenchOptions, type Measured } from './figures.ts';
import { REFERENCE_START_US } from './reference-fleet.ts';
import { sealFleet } from './sealed-fleet.ts';

const SECONDS_PER_COMMIT = 5;
const COMMITS_PER_HOUR = 720;
const COMMITS_PER_FLUSH = 12;
const COMMITS_PER_MAINTENANCE = 120;
const CAPTURES = 200;
const NAME = 'Sluice';

interface Hour {
  readonly heapMb: number;
  readonly captureUs: number;
  readonly commitUs: number;
  readonly readingsFiles: number;
  readonly aggregatesFiles: number;
  readonly tombstones: number;
  readonly logEntries: number;
}

async function runHours(hours: number, seed: number, onHour: (hour: Hour) => void): Promise<void> {
  const clock = new ManualClock(REFERENCE_START_US);
  const store = new MemoryStore(clock);
  const bench = await BenchEngine.open(await openBenchLake(store, '/lake', clock), '/lake', clock);
  const { engine } = bench;
  const maintenance = new Maintenance(await openBenchLake(store, '/lake', clock));
  for (let hour = 0; hour < hours; hour++) {
    const startUs = REFERENCE_START_US + hour * 3_600_000_000;
    const { batches } = sealFleet({ devices: 5, secondsPerBatch: SECONDS_PER_COMMIT, batchCount: COMMITS_PER_HOUR, seed, startUs });
    const cpu = process.cpuUsage();
    let maintenanceCpuUs = 0;
    for (const batch of batches) {
      const seq = await bench.commit(batch, SECONDS_PER_COMMIT * 1_000_000 - 100_000);
      if (seq % COMMITS_PER_FLUSH === 0) await engine.flush();
      if (seq % COMMITS_PER_MAINTENANCE === 0) {
        const before = process.cpuUsage();
        await maintenance.run();
        const used = process.cpuUsage(before);
        maintenanceCpuUs += used.user + used.system;
      }
    }
    const used = process.cpuUsage(cpu);
    const commitUs = (used.user + used.system - maintenanceCpuUs) / COMMITS_PER_HOUR;
    const captureUs = captureCost(engine, clock.nowUs());
    const [readings, , aggregates] = (await maintenance.status()).tables;
    // Garbage is collected where it can be asked for: --expose-gc.
    (globalThis as { gc?: () => void }).gc?.();
    onHour({
      heapMb: process.memoryUsage().heapUsed / 1e6,
      captureUs,
      commitUs,
      readingsFiles: readings.files,
      aggregatesFiles: aggregates.files,
      tombstones: readings.tombstones,
      logEntries: readings.version - (readings.oldestLogVersion ?? 0) + 1,
    });
  }
}

/** CPU of one capture of the last hour of one device, as a dashboard asks for it. */
function captureCost(engine: Engine, nowUs: number): number {
  const filter = { window: '1m', fromUs: nowUs - 3_600_000_000, toUs: nowUs, gateways: null, devices: ['sensor-0001'], metrics: null };
  const before = process.cpuUsage();
  for (let turn = 0; turn < CAPTURES; turn++) engine.captureAggregates(filter);
  const used = process.cpuUsage(before);
  return (used.user + used.system) / CAPTURES;
}

export async function benchLakeDay({ rounds, isShort, log }: BenchOptions): Promise<Measured> {
  const samples = new Samples();
  // Vacuum keeps removed files for a day: what it deletes shows in the hours after.
  const hours = isShort ? 3 : 27;
  for (let round = 0; round < rounds; round++) {
    let hour = 0;
    await runHours(hours, round + 1, (figures) => {
      hour++;
      log(
        `hour ${hour}: ${JSON.stringify(figures, (_, value: unknown) => (typeof value === 'number' ? Math.round(value * 10) / 10 : value))}`,
      );
      const name = hour === 2 ? 'hour 2' : hour === hours ? `hour ${hours}` : null;
      if (name === null) return;
      samples.add(name, NAME, 'JS heap', 'MB', figures.heapMb);
      samples.add(name, NAME, 'capture', 'µs of CPU', figures.captureUs);
      samples.add(name, NAME, 'commit', 'µs of CPU', figures.commitUs);
      samples.add(name, NAME, 'files of readings', '', figures.readingsFiles);
      samples.add(name, NAME, 'files of aggregates', '', figures.aggregatesFiles);
      samples.add(name, NAME, 'entries of the log', '', figures.logEntries);
    });
  }
  return {
    method: `A hub of ${hours} h (${hours * COMMITS_PER_HOUR} commits at 5 s, 100 readings each, a flush a minute, maintenance every ten) on a clock moved by hand and a store in memory; CPU time of the process, the heap of JavaScript alone.`,
    figures: samples.figures(),
    notes: [],
    chart: null,
  };
}
