/**
 * Cost of the Parquet encoder on a `readings` file, with DuckDB's COPY of the same rows as the reference in the same run.
 *
 * Run: npx tsx test/bench/parquet-encode.ts [rows]
 */
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { drain, encodeParquet, type EncodedParquet, type ParquetColumn } from '../../hub/lake/parquet/encode.ts';

const rowCount = Number(process.argv[2] ?? 1_000_000);
const ROUNDS = 5;

/** Deterministic 32-bit generator (mulberry32). */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

/** 1 Hz with 0–40 ms of jitter, 4 metrics per device, sorted by device, metric, time; one batch per 2,000 rows. */
function readingColumns(): ParquetColumn[] {
  const random = generator(1);
  const perSeries = 250;
  const seriesCount = Math.ceil(rowCount / perSeries);
  const metrics = ['humidity', 'power', 'pressure', 'temperature'];
  const devices = Array.from({ length: Math.ceil(seriesCount / metrics.length) }, (_, i) => `device-${String(i).padStart(5, '0')}`);
  const ts = new Float64Array(rowCount);
  const value = new Float64Array(rowCount);
  const seq = new Float64Array(rowCount);
  const ingestedAt = new Float64Array(rowCount);
  const device = new Uint32Array(rowCount);
  const metric = new Uint32Array(rowCount);
  const startUs = Date.UTC(2026, 10, 22) * 1000;
  let walk = 0;
  for (let row = 0; row < rowCount; row++) {
    const series = Math.floor(row / perSeries);
    if (row % perSeries === 0) walk = 1000 + Math.floor(random() * 2000);
    walk += Math.floor(random() * 3) - 1;
    ts[row] = startUs + (row % perSeries) * 1_000_000 + Math.floor(random() * 40_000);
    value[row] = walk / 100;
    seq[row] = 1 + Math.floor(row / 2000);
    ingestedAt[row] = startUs + 300_000_000 + Math.floor(row / 2000) * 1_000;
    device[row] = Math.floor(series / metrics.length);
    metric[row] = series % metrics.length;
  }
  const zeros = new Uint32Array(rowCount);
  const constant = (name: string, text: string): ParquetColumn => ({ name, type: 'string', dictionary: [text], indices: zeros });
  const absent = (name: string): ParquetColumn => ({ name, type: 'string', dictionary: [''], indices: zeros, nullIndex: 0 });
  return [
    { name: 'ts', type: 'timestamp', values: ts },
    constant('gateway', 'gateway-1'),
    { name: 'device', type: 'string', dictionary: devices, indices: device },
    { name: 'metric', type: 'string', dictionary: metrics, indices: metric },
    absent('tags'),
    { name: 'value', type: 'double', values: value },
    absent('text'),
    constant('epoch', '0123456789abcdef0123456789abcdef'),
    constant('lane', 'live'),
    { name: 'seq', type: 'long', values: seq },
    { name: 'ingested_at', type: 'timestamp', values: ingestedAt },
  ];
}

interface Measured {
  readonly nsPerRow: number;
  readonly stepMsMax: number;
  readonly encoded: EncodedParquet;
}

function measure(columns: readonly ParquetColumn[], compression: 'zstd' | 'uncompressed'): Measured {
  let best: Measured | null = null;
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now();
    const steps = encodeParquet({ rowCount, columns, compression });
    let stepMsMax = 0;
    for (;;) {
      const stepStart = performance.now();
      const step = steps.next();
      const end = performance.now();
      stepMsMax = Math.max(stepMsMax, end - stepStart);
      if (step.done !== true) continue;
      const nsPerRow = ((end - start) * 1e6) / rowCount;
      if (best === null || nsPerRow < best.nsPerRow) best = { nsPerRow, stepMsMax, encoded: step.value };
      break;
    }
  }
  return best as Measured;
}

function report(name: string, nsPerRow: number, bytes: number, referenceNs: number, more = ''): void {
  const ratio = Number.isNaN(referenceNs) ? '' : `  ${(nsPerRow / referenceNs).toFixed(2)} x DuckDB's time`;
  console.log(`${name.padEnd(22)} ${nsPerRow.toFixed(1).padStart(7)} ns/row  ${(bytes / rowCount).toFixed(3)} B/row${ratio}${more}`);
}

const directory = mkdtempSync(path.join(tmpdir(), 'sluice-bench-'));
try {
  const columns = readingColumns();
  const plain = measure(columns, 'uncompressed');
  const zstd = measure(columns, 'zstd');
  const source = path.join(directory, 'source.parquet');
  writeFileSync(source, zstd.encoded.bytes);
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
  const connection = await instance.connect();
  await connection.run(`CREATE TABLE readings AS SELECT * FROM read_parquet('${source}')`);
  const target = path.join(directory, 'duckdb.parquet');
  let duckdbNs = Infinity;
  for (let round = 0; round < 2; round++) {
    const start = performance.now();
    await connection.run(`COPY readings TO '${target}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)`);
    duckdbNs = Math.min(duckdbNs, ((performance.now() - start) * 1e6) / rowCount);
  }
  connection.closeSync();
  instance.closeSync();
  console.log(`${rowCount} rows, 11 columns, best of ${ROUNDS}; DuckDB: rows already in its memory, one thread`);
  report('sluice, uncompressed', plain.nsPerRow, plain.encoded.bytes.length, duckdbNs, `  longest step ${plain.stepMsMax.toFixed(1)} ms`);
  report('sluice, zstd 1', zstd.nsPerRow, zstd.encoded.bytes.length, duckdbNs, `  longest step ${zstd.stepMsMax.toFixed(1)} ms`);
  report('duckdb copy, zstd 1', duckdbNs, statSync(target).size, NaN);
  for (const column of columns) {
    const one = measure([column], 'zstd');
    const bare = measure([column], 'uncompressed');
    report(
      `  ${column.name}`,
      one.nsPerRow,
      one.encoded.bytes.length,
      NaN,
      `  (${bare.nsPerRow.toFixed(1)} ns/row uncompressed, longest step ${one.stepMsMax.toFixed(1)} ms)`,
    );
  }
  drain(encodeParquet({ rowCount: 0, columns, compression: 'zstd' }));
} finally {
  rmSync(directory, { recursive: true, force: true });
}
