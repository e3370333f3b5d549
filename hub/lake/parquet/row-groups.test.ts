import { expect, test } from 'vitest';
import { drain, encodeParquet, type ParquetColumn } from './encode.ts';
import { readParquetColumns } from './read.ts';
import { RowGroups, type ReadBytes } from './row-groups.ts';

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
