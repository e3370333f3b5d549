/**
 * Window engine: readings per second of WindowState against references measured in the same run.
 *
 * Batches have the shape of a gateway's: 1 Hz, runs by series, at most 1,000 series a batch (100 k series are 100
 * gateways). First: k readings per series and window, each in one batch. Second: a live fleet in batches of 5 s, so that a
 * window of 1 min is hit twelve times, with the cost of merging states and of giving out the rows. Third: a backfill of one
 * device, window after window. The references aggregate the same columns: a Map of objects in
 * plain JavaScript (1 min windows, no histogram) and DuckDB's GROUP BY with one thread on a table in memory (1 min
 * windows, a number in place of the names; the histogram as a second GROUP BY).
 */
import { DuckDBDataChunk, DuckDBInstance, BIGINT, DOUBLE, INTEGER, type DuckDBConnection } from '@duckdb/node-api';
import type { Series, SeriesRuns } from '../../shared/reading.ts';
import { DEFAULT_WINDOW_DEFINITIONS, type WindowDefinition } from '../../shared/window/definition.ts';
import { GroupRegistry } from '../../hub/windows/group-registry.ts';
import { WindowState } from '../../hub/windows/window-state.ts';
import { Samples, type BenchOptions, type Measured } from './figures.ts';
import { mulberry32 } from './reference-fleet.ts';

interface Batch {
  readonly gateway: string;
  readonly runs: SeriesRuns;
}

const T0 = Date.UTC(2026, 0, 1) * 1000;
const SERIES_PER_GATEWAY = 1000;
const WINDOW_US = 60_000_000;

/** A random walk in steps of 0.01 around a level of its own, as the reference fleet's. */
function batchesOf(seriesCount: number, perWindow: number, total: number, windowUs: number): Batch[] {
  const next = mulberry32(seriesCount * 31 + perWindow);
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

/** Readings per second of each round, a first one not counted. */
async function measure(batches: readonly Batch[], rounds: number, round: () => void | Promise<void>): Promise<number[]> {
  const count = batches.reduce((sum, batch) => sum + batch.runs.count, 0);
  const rates: number[] = [];
  for (let i = 0; i <= rounds; i++) {
    const startMs = performance.now();
    await round();
    if (i > 0) rates.push((count / (performance.now() - startMs)) * 1000);
  }
  return rates;
}

/** The state is cleared every so many windows, as a hub that flushes every 60 s clears its 1 min windows. */
const WINDOWS_PER_FLUSH = 2;

/** @param givesRows whether all rows are asked for before the state is cleared, as a flush does */
function engineRound(definitions: readonly WindowDefinition[], batches: readonly Batch[], windowUs: number, givesRows = false): () => void {
  const registry = new GroupRegistry();
  const state = new WindowState(definitions, { registry });
  const flushUs = windowUs * WINDOWS_PER_FLUSH;
  const flushRows = (): void => {
    if (givesRows) definitions.forEach((_, index) => state.rows(index));
    state.clear();
  };
  return () => {
    state.clear();
    let flush = 0;
    for (const batch of batches) {
      const number = Math.floor((batch.runs.eventTimeUs[0] - T0) / flushUs);
      if (number !== flush) flushRows();
      flush = number;
      state.add(batch.gateway, batch.runs, -Infinity);
    }
    flushRows();
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

/** Each reading is in five windows: the rows of the tumbling panes, five times. */
const DUCKDB_HOPPING = DUCKDB_PLAIN.replaceAll(`ts // ${WINDOW_US}`, `ts // ${WINDOW_US} - hop`).replace(
  'FROM readings',
  'FROM readings CROSS JOIN range(5) AS hops(hop)',
);

const hoppingDefinition: WindowDefinition = { name: '5m every 1m', sizeMs: 300_000, slideMs: 60_000, by: 'series', persisted: true };
const oneDefinition = DEFAULT_WINDOW_DEFINITIONS.filter((definition) => definition.name === '1m');

const ONE = 'Sluice, one window definition';
const FOUR = 'Sluice, the four default definitions';
const FOUR_WITH_ROWS = 'Sluice, the four default definitions, and their rows given out';
const HOPPING = 'Sluice, hopping windows of 5 min every 1 min';
const HOPPING_WITH_ROWS = 'Sluice, hopping windows of 5 min every 1 min, and their rows given out';
const DUCKDB_HOPPING_NAME = 'DuckDB GROUP BY, hopping windows, no histogram';
const MAP = 'Map of objects, no histogram';
const DUCKDB = 'DuckDB GROUP BY, no histogram';
const DUCKDB_WITH_HISTOGRAM = 'DuckDB GROUP BY, with histogram';

/** What the issue of this project set as the aim, by series and readings per series and window. */
const WANTED_M_PER_SECOND: Readonly<Record<number, number>> = { 1000: 30, 100_000: 12 };

function addRates(samples: Samples, caseName: string, subject: string, rates: readonly number[]): void {
  for (const perSecond of rates) samples.add(caseName, subject, 'readings', 'M/s', perSecond / 1e6);
}

function measureEngine(samples: Samples, name: string, batches: readonly Batch[], rounds: number): Promise<void> {
  const subjects: [string, readonly WindowDefinition[], boolean][] = [
    [ONE, oneDefinition, false],
    [FOUR, DEFAULT_WINDOW_DEFINITIONS, false],
    [FOUR_WITH_ROWS, DEFAULT_WINDOW_DEFINITIONS, true],
    [HOPPING, [hoppingDefinition], false],
    [HOPPING_WITH_ROWS, [hoppingDefinition], true],
  ];
  return subjects.reduce(async (before, [subject, definitions, givesRows]) => {
    await before;
    addRates(samples, name, subject, await measure(batches, rounds, engineRound(definitions, batches, WINDOW_US, givesRows)));
  }, Promise.resolve());
}

async function compareWithReferences(
  samples: Samples,
  connection: DuckDBConnection,
  { rounds: roundsAsked, isShort }: BenchOptions,
): Promise<void> {
  for (const seriesCount of isShort ? [1000, 100_000] : [1, 1000, 100_000, 1_000_000]) {
    for (const perWindow of isShort ? [5] : [1, 5, 10]) {
      const name = `${seriesCount.toLocaleString('en-US')} series, ${perWindow} reading${perWindow === 1 ? '' : 's'} per series and window`;
      // One series makes a batch of k readings: that measures the call, so fewer of them do.
      const total = seriesCount === 1 ? 50_000 : Math.max(300_000, seriesCount * perWindow);
      const batches = batchesOf(seriesCount, perWindow, total, WINDOW_US);
      const rounds = seriesCount === 1_000_000 ? Math.min(roundsAsked, 2) : roundsAsked;
      await measureEngine(samples, name, batches, rounds);
      addRates(samples, name, MAP, await measure(batches, Math.min(rounds, 2), mapRound(batches)));
      await loadDuckDb(connection, batches);
      const plain = async (): Promise<void> => void (await connection.run(DUCKDB_PLAIN));
      const withHistogram = async (): Promise<void> => {
        await connection.run(DUCKDB_PLAIN);
        await connection.run(DUCKDB_HISTOGRAM);
      };
      addRates(samples, name, DUCKDB, await measure(batches, rounds, plain));
      addRates(samples, name, DUCKDB_WITH_HISTOGRAM, await measure(batches, rounds, withHistogram));
      const hopping = async (): Promise<void> => void (await connection.run(DUCKDB_HOPPING));
      addRates(samples, name, DUCKDB_HOPPING_NAME, await measure(batches, rounds, hopping));
      samples.compare(name, HOPPING_WITH_ROWS, 'readings', DUCKDB_HOPPING_NAME);
      samples.compare(name, ONE, 'readings', DUCKDB_WITH_HISTOGRAM);
      const wanted = WANTED_M_PER_SECOND[seriesCount];
      if (perWindow >= 5 && wanted !== undefined) samples.want(name, ONE, 'readings', { of: 'value', atLeast: wanted });
    }
  }
}

async function measureLive(samples: Samples, seriesCount: number, rounds: number): Promise<void> {
  const name = `live fleet of ${seriesCount.toLocaleString('en-US')} series, batches of 5 s`;
  const batches = batchesOf(seriesCount, 5, 2_000_000, 5_000_000);
  addRates(samples, name, ONE, await measure(batches, rounds, engineRound(oneDefinition, batches, WINDOW_US)));
  addRates(samples, name, FOUR, await measure(batches, rounds, engineRound(DEFAULT_WINDOW_DEFINITIONS, batches, WINDOW_US)));
  const registry = new GroupRegistry();
  const [state, tail] = [
    new WindowState(DEFAULT_WINDOW_DEFINITIONS, { registry }),
    new WindowState(DEFAULT_WINDOW_DEFINITIONS, { registry }),
  ];
  const lastMinute = batches.slice(0, Math.min(batches.length, (12 * seriesCount) / SERIES_PER_GATEWAY));
  for (const batch of lastMinute) state.add(batch.gateway, batch.runs, -Infinity);
  tail.merge(state);
  const mergeStartMs = performance.now();
  tail.merge(state);
  const mergeMs = performance.now() - mergeStartMs;
  const rowsStartMs = performance.now();
  const rows = DEFAULT_WINDOW_DEFINITIONS.reduce((sum, _, index) => sum + state.rows(index).count, 0);
  const rowsMs = performance.now() - rowsStartMs;
  samples.add(name, FOUR, 'memory', 'B/slot', state.bytes / rows);
  samples.add(name, FOUR, 'merge', 'ns/slot', (mergeMs / rows) * 1e6);
  samples.add(name, FOUR, 'rows', 'ns/slot', (rowsMs / rows) * 1e6);
}

async function measureBackfill(samples: Samples, rounds: number): Promise<void> {
  const seriesCount = 4;
  const next = mulberry32(7);
  const levels = Float64Array.from({ length: seriesCount }, () => 10 + 90 * next());
  const batches = Array.from({ length: 50 }, (_, index) => batchOf(levels, 0, seriesCount, 3600, T0 + index * 3_600_000_000, next));
  const registry = new GroupRegistry();
  const state = new WindowState(DEFAULT_WINDOW_DEFINITIONS, { registry });
  const rates = await measure(batches, rounds, () => {
    state.clear();
    for (const batch of batches) state.add(batch.gateway, batch.runs, -Infinity);
  });
  addRates(samples, 'backfill of one device, 50 h in batches of an hour', FOUR, rates);
}

export async function benchWindowEngine(options: BenchOptions): Promise<Measured> {
  const samples = new Samples();
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
  const connection = await instance.connect();
  await compareWithReferences(samples, connection, options);
  connection.closeSync();
  instance.closeSync();
  for (const seriesCount of options.isShort ? [1000] : [1000, 100_000]) await measureLive(samples, seriesCount, options.rounds);
  await measureBackfill(samples, options.rounds);
  return {
    figures: samples.figures(),
    method:
      "Decoded batches in the shape of a gateway's (1 Hz, runs by series, at most 1,000 series a batch) are added to the window state with all functions and the histogram. " +
      'The references aggregate the same columns: a Map of objects in plain JavaScript, and DuckDB in memory with one thread, which gets numbers in place of names.',
    notes: [
      'Readings go into panes; windows are put together from them when rows are asked for. Where a line does not say that rows are given out, it is the updates alone.',
    ],
    chart: { metric: 'readings', title: 'Window engine: million readings per second' },
  };
}
