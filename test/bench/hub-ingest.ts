/**
 * Readings per second from the uplink to the committed lake and the windows, through one real hub.
 *
 * Simulated gateways send sealed batches of the reference fleet as fast as the hub takes them; the clock stops when the
 * last one is committed. References on the same readings: InfluxDB's HTTP write, DuckDB's appender and COPY, decoding the
 * batches, and decompressing them, the least that any hub does.
 */
import { statSync } from 'node:fs';
import path from 'node:path';
import { DuckDBDataChunk, DuckDBInstance, DOUBLE, TIMESTAMP, VARCHAR, DuckDBTimestampValue } from '@duckdb/node-api';
import { availableCompressions, compress, decompress } from '../../shared/batch/compression.ts';
import { decodeBatch } from '../../shared/batch/decode.ts';
import { asLineProtocol } from './batch-bytes.ts';
import { Samples, type BenchOptions, type Measured } from './figures.ts';
import { absentNote, startInflux } from './peers.ts';
import { withSite, type Usage } from './processes.ts';
import { sealFleet, type SealedFleet } from './sealed-fleet.ts';
import { UplinkClient } from './uplink-client.ts';

const GATEWAYS = 4;
const DEVICES = 250;
const SECONDS_PER_BATCH = 5;
/** InfluxDB's own advice is 5,000 to 10,000 lines a write. */
const LINES_PER_WRITE = 5_000;
const FIELDS_PER_LINE = 4;
const CHUNK_ROWS = 2_048;
const WANTED_M_PER_CPU_SECOND = 2;
/** Of the batches: until then V8 compiles what runs hot, which a hub does once and a short benchmark would count again and again. */
const WARMUP_SHARE = 0.2;

const CASE = `${GATEWAYS} gateways, ${DEVICES} devices each, batches of ${SECONDS_PER_BATCH} s`;
const HUB = 'Sluice hub: committed lake and windows';
const INFLUX = 'InfluxDB 1.x, line protocol over HTTP';
const DUCKDB = 'DuckDB appender, then COPY to Parquet';
const DECODE = 'decoding the batches, one thread';
const DECOMPRESS = 'decompressing them (zstd), one thread';

interface Run {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly residentBytes?: number;
  readonly writtenBytes?: number;
}

function used(before: Usage, after: Usage, seconds: number): Run {
  return {
    seconds,
    cpuSeconds: after.cpuSeconds - before.cpuSeconds,
    residentBytes: after.residentBytesMax,
    writtenBytes: after.writtenBytes - before.writtenBytes,
  };
}

function hubRound(fleets: readonly SealedFleet[], profileDir: string | null): Promise<Run> {
  return withSite(profileDir, async (site) => {
    const tokens = await site.gatewayTokens(fleets.map((_, index) => `gw-${index}`));
    const hub = await site.hub(['--commit-interval-ms-min', '1000']);
    const clients = await Promise.all(tokens.map((token) => UplinkClient.connect(hub, token)));
    const send = (fromShare: number, toShare: number): Promise<unknown> => {
      fleets.forEach(({ batches }, index) => {
        const [from, to] = [fromShare, toShare].map((share) => Math.round(share * batches.length));
        for (const batch of batches.slice(from, to)) clients[index].send(batch);
      });
      return Promise.all(clients.map((client) => client.idle()));
    };
    await send(0, WARMUP_SHARE);
    const before = hub.program.usage();
    const startMs = performance.now();
    await send(WARMUP_SHARE, 1);
    const run = used(before, hub.program.usage(), (performance.now() - startMs) / 1000);
    site.measured(run.seconds);
    for (const client of clients) client.close();
    return run;
  });
}

/** One writer per gateway; the bodies are made before the clock starts. null: not installed. */
function influxRound(fleets: readonly SealedFleet[]): Promise<Run | null> {
  return withSite(null, async (site) => {
    const influx = await startInflux(site);
    if (influx === null) return null;
    const before = influx.program.usage();
    let elapsedMs = 0;
    const perWrite = LINES_PER_WRITE * FIELDS_PER_LINE;
    // In waves, so that the text of all writes is never in memory at once.
    for (let from = 0; from < fleets[0].readings; from += perWrite) {
      const bodies = fleets.map(({ fleet }, index) =>
        asLineProtocol(fleet, from, Math.min(fleet.columns.count, from + perWrite)).replaceAll(
          'environment,',
          `environment,gateway=gw-${index},`,
        ),
      );
      const startMs = performance.now();
      await Promise.all(
        bodies.map(async (body) => {
          const answer = await fetch(`${influx.url}/write?db=bench&precision=ns`, { method: 'POST', body });
          if (!answer.ok) throw new Error(`InfluxDB: ${answer.status} ${await answer.text()}`);
        }),
      );
      elapsedMs += performance.now() - startMs;
    }
    return used(before, influx.program.usage(), elapsedMs / 1000);
  });
}

function duckDbRound(fleets: readonly SealedFleet[]): Promise<Run> {
  return withSite(null, async ({ directory }) => {
    const instance = await DuckDBInstance.create(path.join(directory, 'bench.duckdb'));
    const connection = await instance.connect();
    await connection.run('CREATE TABLE readings (ts TIMESTAMP, gateway VARCHAR, device VARCHAR, metric VARCHAR, value DOUBLE)');
    const cpuStart = process.cpuUsage();
    const startMs = performance.now();
    const appender = await connection.createAppender('readings');
    fleets.forEach(({ fleet: { table, columns } }, gateway) => {
      for (let from = 0; from < columns.count; from += CHUNK_ROWS) {
        const rows = Math.min(CHUNK_ROWS, columns.count - from);
        const at = (row: number) => table[columns.series[from + row]];
        const chunk = DuckDBDataChunk.create([TIMESTAMP, VARCHAR, VARCHAR, VARCHAR, DOUBLE], rows);
        chunk.setColumns([
          Array.from({ length: rows }, (_, row) => new DuckDBTimestampValue(BigInt(columns.eventTimeUs[from + row]))),
          Array.from({ length: rows }, () => `gw-${gateway}`),
          Array.from({ length: rows }, (_, row) => at(row).device),
          Array.from({ length: rows }, (_, row) => at(row).metric),
          Array.from(columns.value.subarray(from, from + rows)),
        ]);
        appender.appendDataChunk(chunk);
      }
    });
    appender.closeSync();
    const target = path.join(directory, 'readings.parquet');
    await connection.run(
      `COPY (SELECT * FROM readings ORDER BY device, metric, ts) TO '${target}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)`,
    );
    const seconds = (performance.now() - startMs) / 1000;
    const cpu = process.cpuUsage(cpuStart);
    connection.closeSync();
    instance.closeSync();
    return { seconds, cpuSeconds: (cpu.user + cpu.system) / 1e6, writtenBytes: statSync(target).size };
  });
}

function timed(work: () => void): Run {
  const cpuStart = process.cpuUsage();
  const startMs = performance.now();
  work();
  const cpu = process.cpuUsage(cpuStart);
  return { seconds: (performance.now() - startMs) / 1000, cpuSeconds: (cpu.user + cpu.system) / 1e6 };
}

/** What stands behind the compression of each batch, compressed with zstd. */
function zstdBodies(fleets: readonly SealedFleet[], options: { devices: number; secondsPerBatch: number; batchCount: number }) {
  const bodies = fleets.flatMap((_, index) => sealFleet({ ...options, seed: index + 1, compression: 'none' }).batches);
  return bodies.map(({ body }) => ({ bytes: compress('zstd', body), rawBytes: body.length }));
}

function record(samples: Samples, subject: string, readings: number, run: Run): void {
  samples.add(CASE, subject, 'readings', 'M/s', readings / run.seconds / 1e6);
  samples.add(CASE, subject, 'CPU', 's per million', run.cpuSeconds / (readings / 1e6));
  samples.add(CASE, subject, 'readings per CPU second', 'M', readings / 1e6 / run.cpuSeconds);
  if (run.residentBytes !== undefined) samples.add(CASE, subject, 'resident', 'MB', run.residentBytes / 1e6);
  if (run.writtenBytes !== undefined) samples.add(CASE, subject, 'written to disk', 'B/reading', run.writtenBytes / readings);
}

export async function benchHubIngest({ rounds, isShort, profileDir, log }: BenchOptions): Promise<Measured> {
  const samples = new Samples();
  const notes = new Set<string>();
  const options = { devices: DEVICES, secondsPerBatch: SECONDS_PER_BATCH, batchCount: isShort && profileDir === null ? 40 : 300 }; // a profile of less would be one of the start-up
  const fleets = Array.from({ length: GATEWAYS }, (_, index) => sealFleet({ ...options, seed: index + 1 }));
  const readings = fleets.reduce((sum, fleet) => sum + fleet.readings, 0);
  const canZstd = availableCompressions().includes('zstd');
  for (let round = 0; round < rounds; round++) {
    record(samples, HUB, readings * (1 - WARMUP_SHARE), await hubRound(fleets, profileDir));
    if (isShort && profileDir !== null) continue; // peers are not looked into
    const influx = await influxRound(fleets);
    if (influx === null) notes.add(absentNote('influxd', 'influxdb'));
    else record(samples, INFLUX, readings, influx);
    record(samples, DUCKDB, readings, await duckDbRound(fleets));
    const decode = timed(() => fleets.forEach(({ batches }) => batches.forEach(({ body }) => decodeBatch(body))));
    record(samples, DECODE, readings, decode);
    if (canZstd) {
      const bodies = zstdBodies(fleets, options);
      const plain = timed(() => bodies.forEach(({ bytes, rawBytes }) => decompress('zstd', bytes, rawBytes)));
      record(samples, DECOMPRESS, readings, plain);
    }
    log(`round ${round + 1} of ${rounds}`);
  }
  samples.compare(CASE, HUB, 'readings', INFLUX);
  samples.compare(CASE, HUB, 'CPU', INFLUX);
  samples.compare(CASE, DUCKDB, 'readings', INFLUX);
  samples.compare(CASE, HUB, 'readings per CPU second', DECODE, null);
  samples.want(CASE, HUB, 'readings per CPU second', { of: 'value', atLeast: WANTED_M_PER_CPU_SECOND });
  return {
    figures: samples.figures(),
    method:
      `${(readings / 1e6).toFixed(1)} million readings of the reference fleet. The hub gets them as sealed batches from ${GATEWAYS} simulated uplinks, as fast as it admits them, until the last one is committed, the first fifth not counted (V8 compiles what runs hot): ` +
      'decoded, in the windows with histogram, in Parquet files, fsynced, in the Delta log. InfluxDB gets the same as one line per message of four fields, ' +
      `${LINES_PER_WRITE} lines a write, one writer per gateway; making the text is not counted. DuckDB runs in the benchmark's process and sorts as the lake does. CPU counts all threads of the process that does the work.`,
    notes: [...notes],
    chart: { metric: 'readings', title: 'Readings ingested, million per second' },
  };
}
