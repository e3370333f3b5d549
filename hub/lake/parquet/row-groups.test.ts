import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { SluiceError } from '../../../shared/errors.ts';
import { drain, encodeParquet, type ParquetColumn } from './encode.ts';
import { readParquetColumns } from './read.ts';
import { RowGroups, type ReadBytes } from './row-groups.ts';
import { columnValues, parquetFile } from './table.arbitrary.ts';

const ROWS = 1_000;
const DEVICES = ['pump-1', 'pump-2', 'pump-3', 'pump-4'];
const COLUMNS: readonly ParquetColumn[] = [
  { name: 'device', type: 'string', dictionary: DEVICES, indices: Uint32Array.from({ length: ROWS }, (_, row) => Math.floor(row / 250)) },
  { name: 'ts', type: 'timestamp', values: Float64Array.from({ length: ROWS }, (_, row) => 1e15 + row) },
  // The same in every row of some row groups, and not of others; null in a row of the last.
  {
    name: 'gen',
    type: 'long',
    values: Float64Array.from({ length: ROWS }, (_, row) => (row >= 300 && row < 600 ? row : 7)),
    valid: Uint8Array.from({ length: ROWS }, (_, row) => (row === 999 ? 0 : 1)),
  },
  { name: 'value', type: 'double', values: Float64Array.from({ length: ROWS }, (_, row) => (row === 3 ? NaN : 1.5)) },
];
const FILE = drain(encodeParquet({ rowCount: ROWS, columns: COLUMNS, compression: 'zstd', rowGroupRowsMax: 250 })).bytes;

function reader(file: Uint8Array, log: [number, number][] = []): ReadBytes {
  return (start, end) => {
    log.push([start, end]);
    return file.subarray(start, end);
  };
}

test('row groups are those of the whole file, one by one, with the bounds of the asked columns', async () => {
  const whole = await readParquetColumns(FILE);
  const log: [number, number][] = [];
  const groups = await RowGroups.open(reader(FILE, log), FILE.length, ['device', 'ts']);
  expect(groups.extents.map(({ rowCount, bounds }) => [rowCount, bounds.get('device')?.min, bounds.get('ts')?.max])).toEqual(
    DEVICES.map((device, index) => [250, device, 1e15 + index * 250 + 249]),
  );
  expect(groups.extents.map(({ constants }) => constants.get('gen'))).toEqual([7n, undefined, undefined, undefined]);
  for (const index of DEVICES.keys()) {
    const { rowCount, columns } = await groups.read(index, reader(FILE, log), ['gen', 'ts', 'device', 'value']);
    expect(rowCount).toBe(250);
    for (const name of ['ts', 'gen', 'value']) {
      const [part, all] = [columns.get(name), whole.columns.get(name)] as { values: Float64Array; valid?: Uint8Array | null }[];
      expect(part.values).toEqual(all.values.slice(index * 250, index * 250 + 250));
      expect(part.valid ?? new Uint8Array(250).fill(1)).toEqual(
        (all.valid ?? new Uint8Array(ROWS).fill(1)).slice(index * 250, index * 250 + 250),
      );
    }
    expect(columns.get('device')).toMatchObject({ dictionary: [DEVICES[index]] });
  }
  expect((await groups.read(0, reader(FILE), ['gen'])).columns.get('gen')).toMatchObject({ values: new Float64Array(250).fill(7) });
  // The groups that are not asked for are not read.
  expect(log.slice(1).every(([start, end]) => end - start < FILE.length / 3)).toBe(true);
});

test('a byte that changed, and a file that ends early, are errors and not values', async () => {
  const groups = await RowGroups.open(reader(FILE), FILE.length, []);
  const log: [number, number][] = [];
  await groups.read(0, reader(FILE, log), ['ts']);
  const damaged = FILE.slice();
  damaged[log[0][1] - 1] ^= 1;
  await expect(groups.read(0, reader(damaged), ['ts'])).rejects.toMatchObject({ code: 'ERR_PARQUET_INVALID' });
  await expect(groups.read(0, reader(FILE.subarray(0, log[0][1] - 1)), ['ts'])).rejects.toMatchObject({ code: 'ERR_PARQUET_INVALID' });
  for (const file of [new Uint8Array(3), FILE.subarray(0, 100), new Uint8Array(100).fill(255), FILE.subarray(FILE.length - 20)]) {
    await expect(RowGroups.open(reader(file), file.length, [])).rejects.toMatchObject({ code: 'ERR_PARQUET_INVALID' });
  }
});

async function valuesOf(file: Uint8Array, names: readonly string[]): Promise<unknown[][]> {
  const groups = await RowGroups.open(reader(file), file.length, []);
  const values: unknown[][] = names.map(() => []);
  for (const index of groups.extents.keys()) {
    const { rowCount, columns } = await groups.read(index, reader(file), names);
    for (const [place, name] of names.entries()) {
      const column = columns.get(name);
      if (column !== undefined) values[place].push(...columnValues(column, rowCount));
    }
  }
  return values;
}

test('any table comes back row group by row group as it was given', async () => {
  await fc.assert(
    fc.asyncProperty(parquetFile, async (file) => {
      const { bytes } = drain(encodeParquet(file));
      const names = file.columns.map(({ name }) => name);
      expect(await valuesOf(bytes, names)).toEqual(file.columns.map((column) => columnValues(column, file.rowCount)));
    }),
    { numRuns: 60 },
  );
});

test('times, whole numbers and texts of thousands of rows come back in whatever encoding they chose', async () => {
  const rowCount = 40_000;
  const mixed = (row: number): number => Math.imul(row + 1, 0x9e37_79b1) >>> 0;
  const numbers = (name: string, type: 'timestamp' | 'long' | 'double', of: (row: number) => number): ParquetColumn => ({
    name,
    type,
    values: Float64Array.from({ length: rowCount }, (_, row) => of(row)),
    valid: name === 'holes' ? Uint8Array.from({ length: rowCount }, (_, row) => (mixed(row) % 5 === 0 ? 0 : 1)) : null,
  });
  const texts = (name: string, entries: number): ParquetColumn => {
    const dictionary = Array.from({ length: entries }, (_, entry) => `text ${entry} ${'é'.repeat(entry % 7)}`);
    return { name, type: 'string', dictionary, indices: Uint32Array.from({ length: rowCount }, (_, row) => mixed(row) % entries) };
  };
  const columns = [
    numbers('regular', 'timestamp', (row) => 1.7e15 + row * 1_000_000),
    numbers('jittered', 'timestamp', (row) => 1.7e15 + row * 1_000_000 + (mixed(row) % 977)),
    numbers('wild', 'long', (row) => (row % 2 === 0 ? 1 : -1) * (mixed(row) * 2 ** 20 + row)),
    numbers('few', 'long', (row) => mixed(row) % 300),
    numbers('holes', 'double', (row) => mixed(row) / 7),
    texts('names', 40),
    texts('many', 39_000),
  ];
  const { bytes } = drain(encodeParquet({ rowCount, columns, compression: 'zstd' }));
  const values = await valuesOf(
    bytes,
    columns.map(({ name }) => name),
  );
  for (const [place, column] of columns.entries()) expect(values[place]).toEqual(columnValues(column, rowCount));
});

test('whole numbers come back up to the largest that a double holds, also as differences', async () => {
  const max = Number.MAX_SAFE_INTEGER;
  const starts = [-max, 2 - max, -(2 ** 52) - 1, -(2 ** 52), 0, 2 ** 52 - 1, max - 1_600];
  const columns = starts.flatMap((start, place) =>
    [1, 4].map((step): ParquetColumn => ({
      name: `c${place} ${step}`,
      type: 'long',
      values: Float64Array.from({ length: 400 }, (_, row) => start + row * step),
    })),
  );
  const down = Float64Array.from({ length: 400 }, (_, row) => max - row * 2 ** 44);
  const file = drain(
    encodeParquet({ rowCount: 400, columns: [...columns, { name: 'down', type: 'long', values: down }], compression: 'zstd' }),
  ).bytes;
  for (const column of [...columns, { name: 'down', type: 'long', values: down } as const])
    expect(await valuesOf(file, [column.name])).toEqual([columnValues(column, 400)]);
});

test('texts come back that are the same in every row, in none, or only look the same', async () => {
  const texts = (name: string, dictionary: readonly string[], nullIndex?: number): ParquetColumn => ({
    name,
    type: 'string',
    dictionary,
    indices: Uint32Array.from({ length: 10 }, (_, row) => row % 2),
    nullIndex,
  });
  const columns = [
    texts('same', ['x', 'x']),
    texts('with a mark', ['x', '\ufeffx']),
    texts('empty', ['', '']),
    texts('half', ['x'], 1),
    texts('none', []),
  ];
  const { bytes } = drain(encodeParquet({ rowCount: 10, columns, compression: 'zstd' }));
  for (const column of columns) expect(await valuesOf(bytes, [column.name])).toEqual([columnValues(column, 10)]);
  const { extents } = await RowGroups.open(reader(bytes), bytes.length, []);
  expect([...extents[0].constants]).toEqual([
    ['same', 'x'],
    ['empty', ''],
    ['none', null],
  ]);
});

test('what another writer made of any integers is read as hyparquet reads it', async () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-row-groups-'));
  const instance = await DuckDBInstance.create(':memory:');
  const connection = await instance.connect();
  try {
    for (const version of ['V1', 'V2']) {
      const name = path.join(directory, `${version}.parquet`);
      // Times are what it writes without a word that they are of 64 bits.
      await connection.run(
        `COPY (SELECT CASE WHEN i % 7 = 0 THEN NULL ELSE make_timestamp(9223372036854775000 - i) END AS large,
           make_timestamp((i * 4503599627370497) - 9007199254740993) AS wide, make_timestamp(-9007199254740993 + i) AS near,
           make_timestamp(1700000000000000 + i) AS ts, 'name ' || (i % 5) AS name, i * 1000 AS small, i / 7 AS value
         FROM range(0, 2000) t(i)) TO '${name}' (FORMAT parquet, PARQUET_VERSION ${version}, DICTIONARY_SIZE_LIMIT 1, COMPRESSION zstd)`,
      );
      const bytes = new Uint8Array(readFileSync(name));
      const { columns, rowCount } = await readParquetColumns(bytes);
      for (const [column, expected] of columns) expect(await valuesOf(bytes, [column])).toEqual([columnValues(expected, rowCount)]);
      expect([...columns.keys()]).toHaveLength(7);
    }
  } finally {
    connection.closeSync();
    instance.closeSync();
    rmSync(directory, { recursive: true });
  }
});

test('a damaged file gives a typed error or other values, never a crash', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(FILE.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
      const damaged = FILE.slice();
      damaged[at] ^= change;
      const error: unknown = await valuesOf(damaged, ['device', 'ts', 'gen', 'value']).then(
        () => null,
        (cause: unknown) => cause,
      );
      if (error !== null) expect(['ERR_PARQUET_INVALID', 'ERR_PARQUET_UNSUPPORTED']).toContain((error as SluiceError).code);
    }),
    { numRuns: 300 },
  );
});
