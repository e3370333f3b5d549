/**
 * Bytes on disk: what an hour of a fleet leaves in the lake, before and after maintenance, beside other ways to keep it.
 *
 * The engine runs in this process on a clock that is moved by hand, with the product's intervals: a commit every 5 s, a
 * flush a minute, maintenance at the end. All sides get the same readings.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { DuckDBInstance } from '@duckdb/node-api';
import { Maintenance, type TableReport } from '../../hub/maintenance.ts';
import { ManualClock } from '../../shared/clock.ts';
import { asLineProtocol } from './batch-bytes.ts';
import { BenchEngine, openLocalBenchLake } from './bench-engine.ts';
import { Samples, type BenchOptions, type Measured } from './figures.ts';
import { absentNote, startInflux } from './peers.ts';
import { until, withSite } from './processes.ts';
import { REFERENCE_START_US } from './reference-fleet.ts';
import { sealFleet, type SealedFleet } from './sealed-fleet.ts';

const SECONDS_PER_COMMIT = 5;
const COMMITS_PER_FLUSH = 12;
const LINES_PER_WRITE = 5_000;

interface LakeSizes {
  readonly before: readonly TableReport[];
  readonly after: readonly TableReport[];
  readonly readingFiles: readonly string[];
}

async function lakeSizes(lakeDir: string, fleet: SealedFleet): Promise<LakeSizes> {
  const clock = new ManualClock(REFERENCE_START_US);
  const bench = await BenchEngine.open(await openLocalBenchLake(lakeDir, clock), lakeDir, clock);
  for (const batch of fleet.batches) {
    const seq = await bench.commit(batch, SECONDS_PER_COMMIT * 1_000_000);
    if (seq % COMMITS_PER_FLUSH === 0) await bench.engine.flush();
  }
  await bench.engine.stop();
  const lake = await openLocalBenchLake(lakeDir, clock);
  const maintenance = new Maintenance(lake);
  const before = (await maintenance.status()).tables;
  // The day is over: what is left is merged whatever its size is, and what came of that an hour later.
  for (const pause of [86_400_000_000, 2 * 3_600_000_000]) {
    clock.advance(pause);
    await maintenance.run();
  }
  const after = (await maintenance.status()).tables;
  const readingFiles = [...lake.readings.snapshot.files.keys()].map((file) => lake.localPath(lake.readings, file));
  return { before, after, readingFiles };
}

/** The messages that the devices send, one JSON object each, as a file of lines. */
function gzipOfJson({ fleet: { table, columns } }: SealedFleet): number {
  const lines: string[] = [];
  for (let row = 0; row < columns.count; row += 4) {
    const values = [0, 1, 2, 3].map((offset) => [table[columns.series[row + offset]].metric, columns.value[row + offset]]);
    const { device } = table[columns.series[row]];
    lines.push(JSON.stringify({ device, ts: columns.eventTimeUs[row] / 1000, ...Object.fromEntries(values) }));
  }
  return gzipSync(lines.join('\n')).length;
}

async function duckDbDefaults(directory: string, files: readonly string[]): Promise<number> {
  const instance = await DuckDBInstance.create(':memory:');
  const connection = await instance.connect();
  const target = path.join(directory, 'defaults.parquet');
  await connection.run(
    `COPY (SELECT * FROM read_parquet([${files.map((file) => `'${file}'`).join(', ')}], hive_partitioning = false)) TO '${target}' (FORMAT parquet)`,
  );
  connection.closeSync();
  instance.closeSync();
  return statSync(target).size;
}

/** What the disk holds: InfluxDB makes its series files large and leaves them empty. */
function bytesBelow(directory: string): number {
  if (!existsSync(directory)) return 0;
  return readdirSync(directory, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(path.join(entry.parentPath, entry.name)).blocks * 512, 0);
}

/** null: not installed. Its cache goes to disk after a second and is compacted at once, so that nothing unfinished is counted. */
function influxBytes(fleet: SealedFleet): Promise<number | null> {
  return withSite(null, async (site) => {
    const influx = await startInflux(site, 'cache-snapshot-write-cold-duration = "1s"\n  compact-full-write-cold-duration = "1s"');
    if (influx === null) return null;
    const perWrite = LINES_PER_WRITE * 4;
    for (let from = 0; from < fleet.readings; from += perWrite) {
      const body = asLineProtocol(fleet.fleet, from, Math.min(fleet.readings, from + perWrite));
      const answer = await fetch(`${influx.url}/write?db=bench&precision=ns`, { method: 'POST', body });
      if (!answer.ok) throw new Error(`InfluxDB: ${answer.status} ${await answer.text()}`);
    }
    const data = path.join(influx.directory, 'data', 'bench');
    let last = -1;
    let equal = 0;
    await until(
      'InfluxDB has written its cache',
      () => {
        const bytes = bytesBelow(data);
        equal = bytes > 100_000 && bytes === last ? equal + 1 : 0;
        last = bytes;
        return equal >= 10;
      },
      60_000,
      500,
    );
    return last;
  });
}

const OURS = 'Sluice, maintained';
const FRESH = 'Sluice, as committed';
const GZIP = 'gzip of the JSON';
const DUCKDB = 'Parquet by DuckDB, defaults';
const INFLUX = 'InfluxDB 1.x';

export async function benchLakeSize({ rounds, isShort, log }: BenchOptions): Promise<Measured> {
  const samples = new Samples();
  const notes = new Set<string>();
  const batchCount = isShort ? 120 : 720;
  for (let round = 0; round < rounds; round++) {
    const fleet = sealFleet({ devices: 50, secondsPerBatch: SECONDS_PER_COMMIT, batchCount, seed: round + 1 });
    await withSite(null, async ({ directory }) => {
      const { before, after, readingFiles } = await lakeSizes(path.join(directory, 'lake'), fleet);
      const add = (name: string, bytes: number): void => samples.add('readings', name, 'bytes per reading', 'B', bytes / fleet.readings);
      add(OURS, after[0].bytes);
      add(FRESH, before[0].bytes);
      add(GZIP, gzipOfJson(fleet));
      add(DUCKDB, await duckDbDefaults(directory, readingFiles));
      const influx = await influxBytes(fleet);
      if (influx === null) notes.add(absentNote('influxd', 'influxdb'));
      else add(INFLUX, influx);
      for (const [name, tables] of [
        [OURS, after],
        [FRESH, before],
      ] as const) {
        samples.add('readings', name, 'files', '', tables[0].files);
        samples.add('aggregates', name, 'files', '', tables[2].files);
        samples.add('aggregates', name, 'bytes per row', 'B', tables[2].bytes / (tables[2].rows ?? NaN));
        samples.add('aggregates', name, 'bytes per reading', 'B', tables[2].bytes / fleet.readings);
      }
      log(`round ${round + 1}: ${fleet.readings} readings, ${(after[0].bytes / fleet.readings).toFixed(2)} B each after maintenance`);
    });
  }
  for (const reference of [GZIP]) samples.compare('readings', OURS, 'bytes per reading', reference);
  samples.compare('aggregates', OURS, 'bytes per reading', FRESH);
  return {
    method: `${batchCount * SECONDS_PER_COMMIT} s of the reference fleet (50 devices, 4 metrics at 1 Hz), a commit every ${SECONDS_PER_COMMIT} s and a flush a minute, then the maintenance, after the day is over. Sizes are those of the active data files; of InfluxDB, its data directory once the cache is written and compacted. The lake keeps tags, epoch, lane, seq and arrival time beside what the others keep.`,
    figures: samples.figures(),
    notes: [...notes],
    chart: { metric: 'bytes per reading', title: 'Bytes per reading on disk' },
  };
}
