/**
 * Window engine: readings per second of WindowState against references measured in the same run.
 *
 * Batches have the shape of a gateway's: 1 Hz, runs by series, at most 1,000 series a batch (100 k series are 100
 * gateways), their series known after the first pass, as the hub's cache of series tables makes them. First: k readings per
 * series and window, each in one batch. Second: a live fleet in batches of 5 s, so that a
 * window of 1 min is hit twelve times, with the cost of merging states and of giving out the rows. Third: a backfill of one
 * device, window after window. The references aggregate the same columns: a Map of objects in
 * plain JavaScript (1 min windows, no histogram) and DuckDB's GROUP BY with one thread on a table in memory (1 min
 * windows, a number in place of the names; the histogram as a second GROUP BY).
 *
 * What is measured is a process that runs for days, so V8 has compiled before the clock starts: every subject goes through the batches for
 * WARMUP_MS, then a round is as many passes as take ROUND_MS, collections of garbage and the making and clearing of windows
 * included. The whole ends within 4 minutes: cases that COMPARISON_MS_MAX leaves no time for are named, not measured.
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

/** V8 compiles what runs hot in its first tenths of a second. */
const WARMUP_MS = 500;
/** Several turns of the young generation's collector, so that no round is without its share of them. */
const ROUND_MS = 200;
/** Of one subject and case, warming up included; a pass that is under way is finished. */
const SUBJECT_MS_MAX = 3_000;
/** Of all comparisons; the live fleets and the backfill take half a minute more. */
const COMPARISON_MS_MAX = 180_000;

function readingsOf(batches: readonly Batch[]): number {
  return batches.reduce((sum, batch) => sum + batch.runs.count, 0);
}

/**
 * What is done per second, by round. Where a single pass takes all of the time, compiling is next to nothing of it, and it is the figure.
 *
 * @param count what a pass does
 */
async function measure(count: number, rounds: number, pass: () => void | Promise<void>): Promise<number[]> {
  const startMs = performance.now();
  const perSecondFor = async (roundMs: number): Promise<number> => {
    const fromMs = performance.now();
    let passes = 0;
    do {
      await pass();
      passes++;
    } while (performance.now() - fromMs < roundMs);
    return ((passes * count) / (performance.now() - fromMs)) * 1000;
  };
  const first = await perSecondFor(WARMUP_MS);
  const rates: number[] = [];
  while (rates.length < rounds && performance.now() - startMs < SUBJECT_MS_MAX) rates.push(await perSecondFor(ROUND_MS));
  return rates.length === 0 ? [first] : rates;
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
  // The pass before has cleared the state; to clear it again would give its buffers up, which no hub under load does.
  return () => {
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

async function measureEngine(
  samples: Samples,
  name: string,
  batches: readonly Batch[],
  rounds: number,
  updatesOnly: boolean,
): Promise<void> {
  const subjects: [string, readonly WindowDefinition[], boolean][] = [
    [ONE, oneDefinition, false],
    [FOUR, DEFAULT_WINDOW_DEFINITIONS, false],
    [FOUR_WITH_ROWS, DEFAULT_WINDOW_DEFINITIONS, true],
    [HOPPING, [hoppingDefinition], false],
    [HOPPING_WITH_ROWS, [hoppingDefinition], true],
  ];
  for (const [subject, definitions, givesRows] of subjects) {
    if (givesRows && updatesOnly) continue;
    addRates(samples, name, subject, await measure(readingsOf(batches), rounds, engineRound(definitions, batches, WINDOW_US, givesRows)));
  }
}

interface Load {
  readonly seriesCount: number;
  readonly perWindow: number;
  /** Minutes of passes that say little more: of a million series, references and rows are measured at one density. */
  readonly updatesOnly: boolean;
}

function loadsOf(isShort: boolean): Load[] {
  if (isShort) return [1000, 100_000].map((seriesCount) => ({ seriesCount, perWindow: 5, updatesOnly: false }));
  return [1, 1000, 100_000, 1_000_000].flatMap((seriesCount) =>
    [1, 5, 10].map((perWindow) => ({ seriesCount, perWindow, updatesOnly: seriesCount === 1_000_000 && perWindow !== 1 })),
  );
}

/** @returns names of the cases that there was no time for */
async function compareWithReferences(samples: Samples, connection: DuckDBConnection, options: BenchOptions): Promise<string[]> {
  const { rounds, isShort, log } = options;
  const startMs = performance.now();
  const leftOut: string[] = [];
  for (const { seriesCount, perWindow, updatesOnly } of loadsOf(isShort)) {
    const name = `${seriesCount.toLocaleString('en-US')} series, ${perWindow} reading${perWindow === 1 ? '' : 's'} per series and window`;
    if (performance.now() - startMs > COMPARISON_MS_MAX) {
      leftOut.push(name);
      continue;
    }
    log(name);
    // One series makes a batch of k readings: that measures the call, so fewer of them do.
    const total = seriesCount === 1 ? 50_000 : Math.max(300_000, seriesCount * perWindow);
    const batches = batchesOf(seriesCount, perWindow, total, WINDOW_US);
    await measureEngine(samples, name, batches, rounds, updatesOnly);
    const wanted = WANTED_M_PER_SECOND[seriesCount];
    if (perWindow >= 5 && wanted !== undefined) samples.want(name, ONE, 'readings', { of: 'value', atLeast: wanted });
    if (!updatesOnly) await measureReferences(samples, connection, name, batches, rounds);
  }
  return leftOut;
}

async function measureReferences(
  samples: Samples,
  connection: DuckDBConnection,
  name: string,
  batches: readonly Batch[],
  rounds: number,
): Promise<void> {
  addRates(samples, name, MAP, await measure(readingsOf(batches), rounds, mapRound(batches)));
  await loadDuckDb(connection, batches);
  const statements: [string, readonly string[]][] = [
    [DUCKDB, [DUCKDB_PLAIN]],
    [DUCKDB_WITH_HISTOGRAM, [DUCKDB_PLAIN, DUCKDB_HISTOGRAM]],
    [DUCKDB_HOPPING_NAME, [DUCKDB_HOPPING]],
  ];
  for (const [subject, sql] of statements) {
    const pass = async (): Promise<void> => {
      for (const statement of sql) await connection.run(statement);
    };
    addRates(samples, name, subject, await measure(readingsOf(batches), rounds, pass));
  }
  samples.compare(name, HOPPING_WITH_ROWS, 'readings', DUCKDB_HOPPING_NAME);
  samples.compare(name, ONE, 'readings', DUCKDB_WITH_HISTOGRAM);
}

async function measureLive(samples: Samples, seriesCount: number, rounds: number): Promise<void> {
  const name = `live fleet of ${seriesCount.toLocaleString('en-US')} series, batches of 5 s`;
  const batches = batchesOf(seriesCount, 5, 2_000_000, 5_000_000);
  addRates(samples, name, ONE, await measure(readingsOf(batches), rounds, engineRound(oneDefinition, batches, WINDOW_US)));
  addRates(samples, name, FOUR, await measure(readingsOf(batches), rounds, engineRound(DEFAULT_WINDOW_DEFINITIONS, batches, WINDOW_US)));
  const registry = new GroupRegistry();
  const state = new WindowState(DEFAULT_WINDOW_DEFINITIONS, { registry });
  const tail = new WindowState(
    DEFAULT_WINDOW_DEFINITIONS.filter(({ persisted }) => persisted),
    { registry },
  );
  const lastMinute = batches.slice(0, Math.min(batches.length, (12 * seriesCount) / SERIES_PER_GATEWAY));
  for (const batch of lastMinute) state.add(batch.gateway, batch.runs, -Infinity);
  const rows = DEFAULT_WINDOW_DEFINITIONS.reduce((sum, _, index) => sum + state.rows(index).count, 0);
  const merges = await measure(state.slotCount, rounds, () => {
    tail.clear();
    tail.merge(state);
  });
  const gives = await measure(rows, rounds, () => DEFAULT_WINDOW_DEFINITIONS.forEach((_, index) => state.rows(index)));
  samples.add(name, FOUR, 'memory', 'B/slot', state.bytes / state.slotCount);
  for (const perSecond of merges) samples.add(name, FOUR, 'merge', 'ns/slot', 1e9 / perSecond);
  for (const perSecond of gives) samples.add(name, FOUR, 'rows', 'ns/row', 1e9 / perSecond);
}

async function measureBackfill(samples: Samples, rounds: number): Promise<void> {
  const seriesCount = 4;
  const next = mulberry32(7);
  const levels = Float64Array.from({ length: seriesCount }, () => 10 + 90 * next());
  const batches = Array.from({ length: 50 }, (_, index) => batchOf(levels, 0, seriesCount, 3600, T0 + index * 3_600_000_000, next));
  const registry = new GroupRegistry();
  const state = new WindowState(DEFAULT_WINDOW_DEFINITIONS, { registry });
  const rates = await measure(readingsOf(batches), rounds, () => {
    state.clear();
    for (const batch of batches) state.add(batch.gateway, batch.runs, -Infinity);
  });
  addRates(samples, 'backfill of one device, 50 h in batches of an hour', FOUR, rates);
}

export async function benchWindowEngine(options: BenchOptions): Promise<Measured> {
  const samples = new Samples();
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
  const connection = await instance.connect();
  const leftOut = await compareWithReferences(samples, connection, options);
  connection.closeSync();
  instance.closeSync();
  for (const seriesCount of options.isShort ? [1000] : [1000, 100_000]) await measureLive(samples, seriesCount, options.rounds);
  await measureBackfill(samples, options.rounds);
  return {
    figures: samples.figures(),
    method:
      "Decoded batches in the shape of a gateway's (1 Hz, runs by series, at most 1,000 series a batch) are added to the window state with all functions and the histogram. " +
      `Every subject goes through them for ${WARMUP_MS} ms before the clock starts, since V8 compiles what runs hot; a round is as many passes as take ${ROUND_MS} ms. ` +
      'The references aggregate the same columns: a Map of objects in plain JavaScript, and DuckDB in memory with one thread, which gets numbers in place of names.',
    notes: [
      'Readings go into panes; windows are put together from them when rows are asked for. Where a line does not say that rows are given out, it is the updates alone.',
      ...(leftOut.length === 0 ? [] : [`There was no time for: ${leftOut.join('; ')}.`]),
    ],
    chart: { metric: 'readings', title: 'Window engine: million readings per second' },
  };
}
