/** ClickHouse's own Parquet reader over our files, where the optional package chdb is installed. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { encodeNestedParquet } from '../../hub/lake/parquet/encode-nested.ts';
import { drain, encodeParquet, type ParquetColumn } from '../../hub/lake/parquet/encode.ts';
import { loadChdb } from './chdb.ts';

const chdb = await loadChdb();

const directory = mkdtempSync(path.join(tmpdir(), 'sluice-chdb-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function rowsOf(sql: string): unknown[] {
  const lines = chdb?.query(sql, 'JSONCompactEachRow').trim().split('\n') ?? [];
  return lines.map((line) => JSON.parse(line) as unknown);
}

describe.skipIf(chdb === null)('ClickHouse', () => {
  test('reads every column type with equal values', () => {
    const rowCount = 100_000;
    const floats = (value: (row: number) => number): Float64Array => Float64Array.from({ length: rowCount }, (_, row) => value(row));
    const columns: ParquetColumn[] = [
      { name: 'ts', type: 'timestamp', values: floats((row) => 1_763_000_000_000_000 + row * 1_000_000) },
      {
        name: 'value',
        type: 'double',
        values: floats((row) => (row % 3001) / 4),
        valid: Uint8Array.from({ length: rowCount }, (_, row) => (row % 5 > 0 ? 1 : 0)),
      },
      { name: 'noise', type: 'double', values: floats(Math.sin) },
      { name: 'big', type: 'long', values: floats((row) => (row % 2 === 1 ? 1 : -1) * (Number.MAX_SAFE_INTEGER - row)) },
      { name: 'n', type: 'int', values: Int32Array.from({ length: rowCount }, (_, row) => row - 50_000) },
      { name: 'ok', type: 'boolean', values: Uint8Array.from({ length: rowCount }, (_, row) => row & 1) },
      {
        name: 'device',
        type: 'string',
        dictionary: ['a', 'é', 'c'],
        indices: Uint32Array.from({ length: rowCount }, (_, row) => (row >> 12) & 3),
        nullIndex: 3,
      },
      { name: 'lane', type: 'string', dictionary: ['live'], indices: new Uint32Array(0) },
      { name: 'text', type: 'string', dictionary: [], indices: new Uint32Array(0) },
      {
        name: 'hist',
        type: 'map_int_long',
        offsets: Uint32Array.from({ length: rowCount + 1 }, (_, row) => row * 2),
        keys: Int32Array.from({ length: rowCount * 2 }, (_, i) => i - 5),
        counts: new Float64Array(rowCount * 2).fill(3),
      },
    ];
    const file = path.join(directory, 'flat.parquet');
    writeFileSync(file, drain(encodeParquet({ rowCount, columns, rowGroupRowsMax: 60_000, compression: 'zstd' })).bytes);
    const described = rowsOf(`DESCRIBE file('${file}', Parquet)`).map((row) => (row as string[]).slice(0, 2));
    expect(Object.fromEntries(described)).toMatchObject({
      ts: "Nullable(DateTime64(6, 'UTC'))",
      value: 'Nullable(Float64)',
      big: 'Nullable(Int64)',
      hist: 'Map(Int32, Nullable(Int64))',
    });
    const [sums] = rowsOf(
      `SELECT count(), sum(toUnixTimestamp64Micro(ts) - 1763000000000000), sum(value), countIf(value IS NULL), round(sum(noise), 9), sum(big), sum(n), sum(ok),
         uniqExact(device), countIf(device IS NULL), any(lane), count(text), sum(arraySum(mapKeys(hist))), sum(arraySum(x -> assumeNotNull(x), mapValues(hist)))
       FROM file('${file}', Parquet)`,
    );
    let [valueSum, noiseSum] = [0, 0];
    for (let row = 0; row < rowCount; row++) {
      if (row % 5 > 0) valueSum += (row % 3001) / 4;
      noiseSum += Math.sin(row);
    }
    const expected = [
      rowCount,
      4_999_950_000_000_000,
      valueSum,
      20_000,
      Number(noiseSum.toFixed(9)),
      -50_000,
      -50_000,
      50_000,
      3,
      24_576,
      'live',
      0,
      19_998_900_000,
      600_000,
    ];
    expect((sums as unknown[]).map((value) => (typeof value === 'string' && value !== 'live' ? Number(value) : value))).toEqual(expected);
  });

  test('reads structs, maps and lists', () => {
    const file = path.join(directory, 'nested.parquet');
    const rows = [
      { txn: { appId: 'a', version: 3 } },
      { add: { path: 'p', values: { a: 'b', c: null }, columns: ['x', null] } },
      { add: { path: null, values: {}, columns: [] } },
    ];
    const bytes = drain(
      encodeNestedParquet(
        [
          {
            name: 'txn',
            type: 'struct',
            fields: [
              { name: 'appId', type: 'string' },
              { name: 'version', type: 'long' },
            ],
          },
          {
            name: 'add',
            type: 'struct',
            fields: [
              { name: 'path', type: 'string' },
              { name: 'values', type: 'map_string_string' },
              { name: 'columns', type: 'list_string' },
            ],
          },
        ],
        rows,
      ),
    );
    writeFileSync(file, bytes);
    expect(rowsOf(`SELECT txn.appId, add.path, add.values, add.columns FROM file('${file}', Parquet)`)).toEqual([
      ['a', null, {}, []],
      [null, 'p', { a: 'b', c: null }, ['x', null]],
      [null, null, {}, []],
    ]);
  });
});
