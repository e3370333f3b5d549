/**
 * Window engine: readings per second of WindowState against references measured in the same run.
 *
 *   node --import tsx test/bench/window-engine.ts
 *
 * Batches have the shape of a gateway's: 1 Hz, runs by series, at most 1,000 series a batch (100 k series are 100
 * gateways). First table: k readings per series and window, each in one batch. Second table: a live fleet in batches of
 * 5 s, so that a window of 1 min is hit twelve times, with the cost of merging states and of giving out the rows. Third
 * line: a backfill of one device, window after window. The references aggregate the same columns: a Map of objects in
 * plain JavaScript (1 min windows, no histogram) and DuckDB's GROUP BY with one thread on a table in memory (1 min
 * windows, a number in place of the names; the histogram as a second GROUP BY). Figures are medians of rounds; the
 * ratios are what to compare between machines. Ends by itself in under a minute.
 */
import { DuckDBDataChunk, DuckDBInstance, BIGINT, DOUBLE, INTEGER, type DuckDBConnection } from '@duckdb/node-api';
import type { Series, SeriesRuns } from '../../shared/reading.ts';
import { DEFAULT_WINDOW_DEFINITIONS, type WindowDefinition } from '../../shared/window/definition.ts';
import { GroupRegistry } from '../../hub/windows/group-registry.ts';
import { WindowState } from '../../hub/windows/window-state.ts';

interface Batch {
  readonly gateway: string;
  readonly runs: SeriesRuns;
}

const T0 = Date.UTC(2026, 0, 1) * 1000;
const SERIES_PER_GATEWAY = 1000;
const WINDOW_US = 60_000_000;
const ROUNDS = 5;

/** mulberry32: repeatable, good enough to draw values. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A random walk in steps of 0.01 around a level of its own, as the reference fleet's. */
function batchesOf(seriesCount: number, perWindow: number, total: number, windowUs: number): Batch[] {
  const next = random(seriesCount * 31 + perWindow);
  const levels = Float64Array.from({ length: seriesCount }, () => 10 + 90 * next());
  const batches: Batch[] = [];
  let made = 0;
  for (let window = 0; made < total; window++) {
    for (let from = 0; from < seriesCount && made < total; from += SERIES_PER_GATEWAY) {
      const batch = batchOf(levels, from, Math.min(seriesCount, from + SERIES_PER_GATEWAY), perWindow, T0 + window * windowUs, next);
      batches.push(batch);
      made += batch.runs.count;
    }
  }
  return batches;
}

function batchOf(levels: Float64Array, from: number, to: number, perSeries: number, startUs: number, next: () => number): Batch {
  const count = (to - from) * perSeries;
  const eventTimeUs = new Float64Array(count);
  const value = new Float64Array(count);
  const runOffsets = new Uint32Array(to - from + 1);
  const seriesTable: Series[] = [];
  for (let s = from; s < to; s++) {
    const device = `device-${String(Math.floor((s - from) / 4)).padStart(5, '0')}`;
    // A template makes new strings, as decoding does: equal, not identical, to those of the batch before.
    seriesTable.push({ device, metric: `metric-${s % 4}`, tags: '' });
    for (let i = 0; i < perSeries; i++) {
      const at = (s - from) * perSeries + i;
      levels[s] += 0.01 * (Math.floor(next() * 3) - 1);
      value[at] = levels[s];
      eventTimeUs[at] = startUs + i * 1_000_000 + Math.floor(next() * 40_000);
    }
    runOffsets[s - from + 1] = (s - from + 1) * perSeries;
  }
  return {
    gateway: `gateway-${from / SERIES_PER_GATEWAY}`,
    runs: { count, seriesTable, runOffsets, eventTimeUs, value, text: null, texts: [] },
  };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

/** Readings per second: median of rounds, the first one not counted. */
async function measure(batches: readonly Batch[], round: () => void | Promise<void>, rounds = ROUNDS): Promise<number> {
  const count = batches.reduce((sum, batch) => sum + batch.runs.count, 0);
  const rates: number[] = [];
  for (let i = 0; i <= rounds; i++) {
    const started = performance.now();
    await round();
    if (i > 0) rates.push((count / (performance.now() - started)) * 1000);
  }
  return median(rates);
}

/** The state is cleared every so many windows, as a hub that flushes every 60 s clears its 1 min windows. */
const WINDOWS_PER_FLUSH = 2;

function engineRound(definitions: readonly WindowDefinition[], batches: readonly Batch[], windowUs: number): () => void {
  const registry = new GroupRegistry();
  const state = new WindowState(definitions, { registry });
  const flushUs = windowUs * WINDOWS_PER_FLUSH;
  return () => {
    state.clear();
    let flush = 0;
    for (const batch of batches) {
      const number = Math.floor((batch.runs.eventTimeUs[0] - T0) / flushUs);
      if (number !== flush) state.clear();
      flush = number;
      state.add(batch.gateway, batch.runs, -Infinity);
    }
  };
}

interface PlainAggregate {
  n: number;
  sum: number;
  mean: number;
  m2: number;
  min: number;
  max: number;
  first: number;
  firstTs: number;
  last: number;
  lastTs: number;
}

/** What one writes first: one Map from the names and the window to an object; no histogram. */
function mapRound(batches: readonly Batch[]): () => void {
  return () => {
    const windows = new Map<string, PlainAggregate>();
    for (const { gateway, runs } of batches) {
      for (let s = 0; s < runs.seriesTable.length; s++) {
        const { device, metric, tags } = runs.seriesTable[s];
        for (let i = runs.runOffsets[s]; i < runs.runOffsets[s + 1]; i++) {
          const ts = runs.eventTimeUs[i];
          const v = runs.value[i];
          const key = `${gateway}/${device}/${metric}/${tags}/${Math.floor(ts / WINDOW_US)}`;
          const known = windows.get(key);
          if (known === undefined) {
            windows.set(key, { n: 1, sum: v, mean: v, m2: 0, min: v, max: v, first: v, firstTs: ts, last: v, lastTs: ts });
            continue;
          }
          known.n++;
          known.sum += v;
          const delta = v - known.mean;
          known.mean += delta / known.n;
          known.m2 += delta * (v - known.mean);
          if (v < known.min) known.min = v;
          if (v > known.max) known.max = v;
          if (ts >= known.lastTs) {
            known.last = v;
            known.lastTs = ts;
          }
        }
      }
    }
  };
}

const CHUNK_ROWS = 2048;

/** The columns as a DuckDB table in memory: a series number instead of names, which spares DuckDB all string work. */
async function loadDuckDb(connection: DuckDBConnection, batches: readonly Batch[]): Promise<void> {
  await connection.run('CREATE OR REPLACE TABLE readings (series INTEGER, ts BIGINT, value DOUBLE)');
  const appender = await connection.createAppender('readings');
  const ids = new Map<string, number>();
  let columns: [number[], bigint[], number[]] = [[], [], []];
  const flush = (): void => {
    if (columns[0].length === 0) return;
    const chunk = DuckDBDataChunk.create([INTEGER, BIGINT, DOUBLE], columns[0].length);
    chunk.setColumns(columns);
    appender.appendDataChunk(chunk);
    columns = [[], [], []];
  };
  for (const { gateway, runs } of batches) {
    for (let s = 0; s < runs.seriesTable.length; s++) {
      const key = `${gateway}/${runs.seriesTable[s].device}/${runs.seriesTable[s].metric}`;
      const id = ids.get(key) ?? ids.size;
      ids.set(key, id);
      for (let i = runs.runOffsets[s]; i < runs.runOffsets[s + 1]; i++) {
        columns[0].push(id);
        columns[1].push(BigInt(runs.eventTimeUs[i]));
        columns[2].push(runs.value[i]);
        if (columns[0].length === CHUNK_ROWS) flush();
      }
    }
  }
  flush();
  appender.closeSync();
}

const DUCKDB_PLAIN = `CREATE OR REPLACE TEMP TABLE result AS SELECT series, ts // ${WINDOW_US} AS w, count(*), sum(value), avg(value),
  var_samp(value), min(value), max(value), arg_min(value, ts), min(ts), arg_max(value, ts), max(ts) FROM readings GROUP BY ALL`;
const DUCKDB_HISTOGRAM = `CREATE OR REPLACE TEMP TABLE buckets AS SELECT series, ts // ${WINDOW_US} AS w,
  CAST(ceil(log2(value) * 32) - 1 AS INTEGER) AS bucket, count(*) FROM readings GROUP BY ALL`;

function rate(readingsPerSecond: number): string {
  return `${(readingsPerSecond / 1e6).toFixed(1)} M/s`.padStart(10);
}

function ratio(engine: number, reference: number): string {
  return `× ${(engine / reference).toFixed(1)}`.padStart(8);
}

const oneDefinition = DEFAULT_WINDOW_DEFINITIONS.filter((definition) => definition.name === '1m');

async function compareWithReferences(connection: DuckDBConnection): Promise<void> {
  console.log('1. k readings per series and window, all functions and histogram; ratios are 1 definition against each reference');
  console.log('series   k | 1 definition  4 definitions | Map, no hist.     ratio |     DuckDB     ratio | DuckDB+hist.    ratio');
  for (const seriesCount of [1, 1000, 100_000]) {
    for (const perWindow of [1, 5, 10]) {
      // One series makes a batch of k readings: that measures the call, so fewer of them do.
      const total = seriesCount === 1 ? 50_000 : Math.max(300_000, seriesCount * perWindow);
      const batches = batchesOf(seriesCount, perWindow, total, WINDOW_US);
      const one = await measure(batches, engineRound(oneDefinition, batches, WINDOW_US));
      const four = await measure(batches, engineRound(DEFAULT_WINDOW_DEFINITIONS, batches, WINDOW_US));
      const map = await measure(batches, mapRound(batches), 1);
      await loadDuckDb(connection, batches);
      const plain = async (): Promise<void> => void (await connection.run(DUCKDB_PLAIN));
      const withHistogram = async (): Promise<void> => {
        await connection.run(DUCKDB_PLAIN);
        await connection.run(DUCKDB_HISTOGRAM);
      };
      const duck = await measure(batches, plain, 1);
      const duckHistogram = await measure(batches, withHistogram, 1);
      console.log(
        `${String(seriesCount).padStart(6)} ${String(perWindow).padStart(3)} | ${rate(one).padStart(12)}  ${rate(four).padStart(13)} |` +
          `    ${rate(map)}  ${ratio(one, map)} | ${rate(duck)}  ${ratio(one, duck)} |   ${rate(duckHistogram)} ${ratio(one, duckHistogram)}`,
      );
    }
  }
}

async function measureLive(seriesCount: number): Promise<void> {
  const batches = batchesOf(seriesCount, 5, 2_000_000, 5_000_000);
  const one = await measure(batches, engineRound(oneDefinition, batches, WINDOW_US));
  const four = await measure(batches, engineRound(DEFAULT_WINDOW_DEFINITIONS, batches, WINDOW_US));
  const registry = new GroupRegistry();
  const [state, tail] = [
    new WindowState(DEFAULT_WINDOW_DEFINITIONS, { registry }),
    new WindowState(DEFAULT_WINDOW_DEFINITIONS, { registry }),
  ];
  const lastMinute = batches.slice(0, Math.min(batches.length, (12 * seriesCount) / SERIES_PER_GATEWAY));
  for (const batch of lastMinute) state.add(batch.gateway, batch.runs, -Infinity);
  tail.merge(state);
  const mergeStarted = performance.now();
  tail.merge(state);
  const mergeMs = performance.now() - mergeStarted;
  const rowsStarted = performance.now();
  const rows = DEFAULT_WINDOW_DEFINITIONS.reduce((sum, _, index) => sum + state.rows(index).count, 0);
  const rowsMs = performance.now() - rowsStarted;
  console.log(
    `${String(seriesCount).padStart(6)} | ${rate(one).padStart(12)}  ${rate(four).padStart(13)} | ${String(rows).padStart(8)} slots, ` +
      `${(state.bytes / rows).toFixed(0)} bytes each | merge ${((mergeMs / rows) * 1e6).toFixed(0)} ns, rows ${((rowsMs / rows) * 1e6).toFixed(0)} ns per slot`,
  );
}

async function measureBackfill(): Promise<void> {
  const seriesCount = 4;
  const next = random(7);
  const levels = Float64Array.from({ length: seriesCount }, () => 10 + 90 * next());
  const batches = Array.from({ length: 50 }, (_, index) => batchOf(levels, 0, seriesCount, 3600, T0 + index * 3_600_000_000, next));
  const registry = new GroupRegistry();
  const state = new WindowState(DEFAULT_WINDOW_DEFINITIONS, { registry });
  const filled = await measure(batches, () => {
    state.clear();
    for (const batch of batches) state.add(batch.gateway, batch.runs, -Infinity);
  });
  console.log(`3. backfill of one device (4 series, 50 h at 1 Hz, batches of an hour), 4 definitions: ${rate(filled).trim()}`);
}

const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
const connection = await instance.connect();
await compareWithReferences(connection);
connection.closeSync();
instance.closeSync();
console.log('2. live fleet, batches of 5 s at 1 Hz');
console.log('series | 1 definition  4 definitions | state of a minute, 4 definitions');
for (const seriesCount of [1000, 100_000]) await measureLive(seriesCount);
await measureBackfill();
