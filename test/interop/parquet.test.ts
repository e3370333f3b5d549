/** DuckDB reads what our Parquet encoder writes: values, types and structs of checkpoints. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DuckDBInstance, type DuckDBConnection } from '@duckdb/node-api';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { encodeNestedParquet, type NestedField } from '../../hub/lake/parquet/encode-nested.ts';
import { drain, encodeParquet, type FileColumn, type ParquetColumn, type ParquetFile } from '../../hub/lake/parquet/encode.ts';
import { readParquetColumns } from '../../hub/lake/parquet/read.ts';
import { columnValues, storedType, parquetFile, type CellValue } from '../../hub/lake/parquet/table.arbitrary.ts';

const SQL_TYPES = {
  timestamp: 'TIMESTAMP WITH TIME ZONE',
  double: 'DOUBLE',
  long: 'BIGINT',
  int: 'INTEGER',
  boolean: 'BOOLEAN',
  string: 'VARCHAR',
  binary: 'BLOB',
  map_int_long: 'MAP(INTEGER, BIGINT)',
} as const;

let directory: string;
let instance: DuckDBInstance;
let connection: DuckDBConnection;

beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-parquet-'));
  instance = await DuckDBInstance.create(':memory:', { threads: '1' });
  connection = await instance.connect();
  await connection.run("SET TimeZone = 'UTC'");
});

afterAll(() => {
  connection.closeSync();
  instance.closeSync();
  rmSync(directory, { recursive: true, force: true });
});

let fileCount = 0;

function store(bytes: Uint8Array): string {
  const file = path.join(directory, `${fileCount++}.parquet`);
  writeFileSync(file, bytes);
  return file;
}

async function rowsOf(sql: string): Promise<unknown[][]> {
  return (await connection.runAndReadAll(sql)).getRowsJS();
}

/** How a column is asked for so that its values come back exactly: maps as two lists, times as µs. */
function selection(column: FileColumn): string {
  if (storedType(column) === 'timestamp') return `epoch_us(${column.name})`;
  if (column.type === 'map_int_long')
    return `CASE WHEN ${column.name} IS NULL THEN NULL ELSE [map_keys(${column.name})::BIGINT[], map_values(${column.name})] END`;
  return column.name;
}

function cell(column: FileColumn, value: unknown): CellValue {
  if (value === null) return null;
  if (typeof value === 'bigint') return Number(value);
  if (column.type === 'binary') return new Uint8Array(value as Uint8Array);
  if (column.type === 'map_int_long') {
    const [keys, counts] = value as [bigint[], bigint[]];
    return keys.map((key, i) => [Number(key), Number(counts[i])] as const);
  }
  return value as CellValue;
}

async function expectDuckdbReads(file: ParquetFile): Promise<void> {
  const stored = store(drain(encodeParquet(file)).bytes);
  const described = await rowsOf(`DESCRIBE SELECT * FROM read_parquet('${stored}')`);
  expect(described.map(([name, type]) => [name, type])).toEqual(file.columns.map((column) => [column.name, SQL_TYPES[storedType(column)]]));
  const rows = await rowsOf(`SELECT ${file.columns.map(selection).join(', ')} FROM read_parquet('${stored}')`);
  expect(rows.length).toBe(file.rowCount);
  file.columns.forEach((column, index) => {
    expect(rows.map((row) => cell(column, row[index]))).toEqual(columnValues(column, file.rowCount));
  });
}

function numbers(name: string, type: 'timestamp' | 'double' | 'long', rowCount: number, value: (row: number) => number): ParquetColumn {
  return { name, type, values: Float64Array.from({ length: rowCount }, (_, row) => value(row)) };
}

describe('DuckDB', () => {
  test('reads any table with equal values and types', async () => {
    await fc.assert(fc.asyncProperty(parquetFile, expectDuckdbReads), { numRuns: 80 });
  });

  test('reads columns of several pages and row groups, and finds rows by their statistics', async () => {
    const rowCount = 120_000;
    const columns: ParquetColumn[] = [
      numbers('ts', 'timestamp', rowCount, (row) => 1_763_000_000_000_000 + row * 1_000_000 + ((row * 7919) % 40_000)),
      numbers('value', 'double', rowCount, (row) => ((row * 31) % 3001) / 100),
      numbers('seq', 'long', rowCount, (row) => 9_007_199_254_000_000 + Math.floor(row / 2000)),
      {
        name: 'device',
        type: 'string',
        dictionary: Array.from({ length: 1000 }, (_, i) => `device-${i}`),
        indices: Uint32Array.from({ length: rowCount }, (_, row) => Math.floor(row / 120)),
      },
      { name: 'text', type: 'string', dictionary: [], indices: new Uint32Array(0) },
    ];
    const stored = store(drain(encodeParquet({ rowCount, columns, rowGroupRowsMax: 50_000, compression: 'zstd' })).bytes);
    const [sums] = await rowsOf(
      `SELECT count(*), sum(epoch_us(ts))::DOUBLE, sum(round(value * 100)::BIGINT)::DOUBLE, sum(seq - 9007199254000000)::DOUBLE, count(DISTINCT device), count(text) FROM read_parquet('${stored}')`,
    );
    const total = (index: number, map: (value: number) => number): number =>
      (columns[index] as { values: Float64Array }).values.reduce((sum, value) => sum + map(value), 0);
    expect(sums?.slice(2).map(Number)).toEqual([
      total(1, (value) => Math.round(value * 100)),
      total(2, (value) => value - 9_007_199_254_000_000),
      1000,
      0,
    ]);
    expect(Number(sums?.[1])).toBeCloseTo(
      total(0, (value) => value),
      -6,
    );
    expect(await rowsOf(`SELECT count(*)::INTEGER, min(seq)::DOUBLE FROM read_parquet('${stored}') WHERE device = 'device-900'`)).toEqual([
      [120, 9_007_199_254_000_054],
    ]);
    expect(await rowsOf(`SELECT row_group_num_rows FROM parquet_metadata('${stored}') WHERE path_in_schema = 'ts'`)).toEqual([
      [50_000n],
      [50_000n],
      [20_000n],
    ]);
  });

  test('what DuckDB writes, snappy and zstd, is read back as columns', async () => {
    for (const compression of ['snappy', 'zstd', 'uncompressed']) {
      const file = path.join(directory, `duckdb-${compression}.parquet`);
      await connection.run(
        `COPY (SELECT CASE WHEN i % 7 = 3 THEN NULL ELSE 'device-' || (i % 5) END AS device, make_timestamptz(1763000000000000 + i) AS ts, i / 4.0::DOUBLE AS value, i::BIGINT AS seq,
           CASE WHEN i % 3 = 0 THEN NULL WHEN i % 3 = 1 THEN MAP {} ELSE MAP {i::INTEGER: i::BIGINT, -1: 5::BIGINT} END AS hist
         FROM range(1000) t(i)) TO '${file}' (FORMAT parquet, COMPRESSION ${compression})`,
      );
      const bytes = new Uint8Array(readFileSync(file));
      const { rowCount, columns } = await readParquetColumns(bytes, { columns: ['hist', 'ts', 'device', 'missing', 'value', 'seq'] });
      expect(rowCount).toBe(1000);
      expect([...columns.keys()].sort()).toEqual(['device', 'hist', 'seq', 'ts', 'value']);
      const values = (name: string): CellValue[] => columnValues(columns.get(name) as ParquetColumn, rowCount);
      expect(columns.get('ts')?.type).toBe('timestamp');
      expect(values('ts')).toEqual(Array.from({ length: 1000 }, (_, i) => 1_763_000_000_000_000 + i));
      expect(values('value')).toEqual(Array.from({ length: 1000 }, (_, i) => i / 4));
      expect(values('seq')).toEqual(Array.from({ length: 1000 }, (_, i) => i));
      expect(values('device')).toEqual(Array.from({ length: 1000 }, (_, i) => (i % 7 === 3 ? null : `device-${i % 5}`)));
      expect(values('hist')).toEqual(
        Array.from({ length: 1000 }, (_, i) =>
          i % 3 === 0
            ? null
            : i % 3 === 1
              ? []
              : [
                  [i, i],
                  [-1, 5],
                ],
        ),
      );
    }
  });
});

describe('checkpoints', () => {
  const schema: NestedField[] = [
    {
      name: 'txn',
      type: 'struct',
      fields: [
        { name: 'appId', type: 'string' },
        { name: 'version', type: 'long' },
        { name: 'lastUpdated', type: 'long' },
      ],
    },
    {
      name: 'add',
      type: 'struct',
      fields: [
        { name: 'path', type: 'string' },
        { name: 'partitionValues', type: 'map_string_string' },
        { name: 'size', type: 'long' },
        { name: 'dataChange', type: 'boolean' },
        { name: 'tags', type: 'map_string_string' },
      ],
    },
    {
      name: 'metaData',
      type: 'struct',
      fields: [
        { name: 'id', type: 'string' },
        {
          name: 'format',
          type: 'struct',
          fields: [
            { name: 'provider', type: 'string' },
            { name: 'options', type: 'map_string_string' },
          ],
        },
        { name: 'partitionColumns', type: 'list_string' },
      ],
    },
    {
      name: 'protocol',
      type: 'struct',
      fields: [
        { name: 'minReaderVersion', type: 'int' },
        { name: 'minWriterVersion', type: 'int' },
      ],
    },
  ];

  test('DuckDB reads structs, maps and lists with their nulls and empties', async () => {
    const rows = [
      { protocol: { minReaderVersion: 1, minWriterVersion: 2 } },
      { metaData: { id: 'a-b', format: { provider: 'parquet', options: {} }, partitionColumns: ['day', null, ''] } },
      { metaData: { id: null, format: null, partitionColumns: [] } },
      { txn: { appId: 'gw/a/é', version: Number.MAX_SAFE_INTEGER, lastUpdated: null } },
      { add: { path: 'day=1/x', partitionValues: { day: '2026-11-22', none: null }, size: -1, dataChange: false, tags: null } },
      {},
    ];
    const stored = store(drain(encodeNestedParquet(schema, rows)));
    const json = await rowsOf(
      `SELECT to_json(txn)::VARCHAR, to_json(add)::VARCHAR, to_json("metaData")::VARCHAR, to_json(protocol)::VARCHAR FROM read_parquet('${stored}')`,
    );
    const parsed = json.map((row) => row.map((text) => (text === null ? null : (JSON.parse(text as string) as unknown))));
    expect(parsed).toEqual([
      [null, null, null, { minReaderVersion: 1, minWriterVersion: 2 }],
      [null, null, { id: 'a-b', format: { provider: 'parquet', options: {} }, partitionColumns: ['day', null, ''] }, null],
      [null, null, { id: null, format: null, partitionColumns: [] }, null],
      [{ appId: 'gw/a/é', version: Number.MAX_SAFE_INTEGER, lastUpdated: null }, null, null, null],
      [null, { path: 'day=1/x', partitionValues: { day: '2026-11-22', none: null }, size: -1, dataChange: false, tags: null }, null, null],
      [null, null, null, null],
    ]);
  });

  test('a checkpoint of many pages keeps its counts', async () => {
    const rows = Array.from({ length: 40_000 }, (_, i) => ({
      add: { path: `day=${i}/${'p'.repeat(i % 90)}`, partitionValues: { day: String(i) }, size: i, dataChange: true },
    }));
    const stored = store(drain(encodeNestedParquet(schema, rows)));
    expect(
      await rowsOf(
        `SELECT count(*)::INTEGER, sum(add.size)::DOUBLE, sum(length(add.path))::DOUBLE, sum(add."partitionValues"['day']::INTEGER)::DOUBLE FROM read_parquet('${stored}')`,
      ),
    ).toEqual([[40_000, 799_980_000, rows.reduce((total, row) => total + row.add.path.length, 0), 799_980_000]]);
  });
});
