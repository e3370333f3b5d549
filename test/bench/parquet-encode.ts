/** Cost of the Parquet encoder on a `readings` file, with DuckDB's COPY of the same rows as the reference in the same run. */
import { statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { encodeParquet, type EncodedParquet, type ParquetColumn } from '../../hub/lake/parquet/encode.ts';
import { Samples, type BenchOptions, type Measured } from './figures.ts';
import { withSite } from './processes.ts';
import { mulberry32 } from './reference-fleet.ts';

/** 1 Hz with 0–40 ms of jitter, 4 metrics per device, sorted by device, metric, time; one batch per 2,000 rows. */
function readingColumns(rowCount: number): ParquetColumn[] {
  const random = mulberry32(1);
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

interface Encoded {
  readonly nsPerRow: number;
  readonly stepMsMax: number;
  readonly encoded: EncodedParquet;
}

function measure(columns: readonly ParquetColumn[], rowCount: number, compression: 'zstd' | 'uncompressed'): Encoded {
  const startMs = performance.now();
  const steps = encodeParquet({ rowCount, columns, compression });
  let stepMsMax = 0;
  for (;;) {
    const stepMs = performance.now();
    const step = steps.next();
    const endMs = performance.now();
    stepMsMax = Math.max(stepMsMax, endMs - stepMs);
    if (step.done === true) return { nsPerRow: ((endMs - startMs) * 1e6) / rowCount, stepMsMax, encoded: step.value };
  }
}

/** DuckDB's COPY of rows that are in its memory already, one thread. */
async function copyWithDuckDb(
  directory: string,
  bytes: Uint8Array,
  rowCount: number,
  rounds: number,
): Promise<{ nsPerRow: number[]; bytes: number }> {
  const source = path.join(directory, 'source.parquet');
  const target = path.join(directory, 'duckdb.parquet');
  writeFileSync(source, bytes);
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
  const connection = await instance.connect();
  await connection.run(`CREATE TABLE readings AS SELECT * FROM read_parquet('${source}')`);
  const nsPerRow: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const startMs = performance.now();
    await connection.run(`COPY readings TO '${target}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)`);
    nsPerRow.push(((performance.now() - startMs) * 1e6) / rowCount);
  }
  connection.closeSync();
  instance.closeSync();
  return { nsPerRow, bytes: statSync(target).size };
}

export async function benchParquetEncode({ rounds, isShort }: BenchOptions): Promise<Measured> {
  const samples = new Samples();
  const rowCount = isShort ? 200_000 : 1_000_000;
  const columns = readingColumns(rowCount);
  const whole = 'all 11 columns';
  measure(columns, rowCount, 'zstd'); // the compiler's turn
  for (let round = 0; round < rounds; round++) {
    for (const compression of ['uncompressed', 'zstd'] as const) {
      const subject = compression === 'zstd' ? 'Sluice, zstd 1' : 'Sluice, uncompressed';
      const { nsPerRow, stepMsMax, encoded } = measure(columns, rowCount, compression);
      samples.add(whole, subject, 'time', 'ns/row', nsPerRow);
      samples.add(whole, subject, 'size', 'B/row', encoded.bytes.length / rowCount);
      samples.add(whole, subject, 'longest step', 'ms', stepMsMax);
    }
    for (const column of columns) {
      const { nsPerRow, encoded } = measure([column], rowCount, 'zstd');
      samples.add(`column ${column.name}`, 'Sluice, zstd 1', 'time', 'ns/row', nsPerRow);
      samples.add(`column ${column.name}`, 'Sluice, zstd 1', 'size', 'B/row', encoded.bytes.length / rowCount);
    }
  }
  await withSite(null, async ({ directory }) => {
    const duckDb = await copyWithDuckDb(directory, measure(columns, rowCount, 'zstd').encoded.bytes, rowCount, rounds);
    for (const nsPerRow of duckDb.nsPerRow) samples.add(whole, 'DuckDB COPY, zstd 1', 'time', 'ns/row', nsPerRow);
    samples.add(whole, 'DuckDB COPY, zstd 1', 'size', 'B/row', duckDb.bytes / rowCount);
  });
  samples.compare(whole, 'Sluice, zstd 1', 'time', 'DuckDB COPY, zstd 1');
  samples.compare(whole, 'Sluice, zstd 1', 'size', 'DuckDB COPY, zstd 1');
  return {
    figures: samples.figures(),
    method: `One file of ${rowCount} rows of \`readings\` (1 Hz with jitter, 4 metrics per device, sorted as the lake sorts), from typed arrays to bytes. DuckDB copies the same rows from its own memory with one thread.`,
    notes: [],
    chart: { metric: 'time', title: 'Nanoseconds per row of a readings file' },
  };
}
