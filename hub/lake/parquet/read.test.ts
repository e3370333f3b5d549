import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isSluiceError } from '../../../shared/errors.ts';
import { encodeNestedParquet } from './encode-nested.ts';
import { drain, encodeParquet, type ParquetColumn } from './encode.ts';
import { readParquetColumns, readParquetRows } from './read.ts';

const columns: ParquetColumn[] = [
  { name: 'ts', type: 'timestamp', values: Float64Array.of(1_763_000_000_000_001, 1_763_000_000_000_002) },
  { name: 'device', type: 'string', dictionary: ['a'], indices: Uint32Array.of(0, 1), nullIndex: 1 },
  { name: 'payload', type: 'binary', values: [Uint8Array.of(0xff, 0x00), null] },
];
const { bytes } = drain(encodeParquet({ rowCount: 2, columns, compression: 'zstd' }));

describe('readParquetColumns', () => {
  test('reads the named columns and leaves out those that the file does not have', async () => {
    const read = await readParquetColumns(bytes, { columns: ['payload', 'later_column', 'ts'] });
    expect(read.columns.get('ts')).toEqual({ ...columns[0], valid: null });
    expect(read.columns.get('payload')).toEqual(columns[2]);
    expect(read.columns.size).toBe(2);
    expect(read.rowCount).toBe(2);
  });

  test('reads through an AsyncBuffer', async () => {
    const slice = (start: number, end?: number): Promise<ArrayBuffer> => Promise.resolve(bytes.slice(start, end).buffer);
    const read = await readParquetColumns({ byteLength: bytes.length, slice }, { columns: ['ts'] });
    expect(read.columns.get('ts')).toEqual({ ...columns[0], valid: null });
  });

  test('refuses more rows than allowed before it reads them', async () => {
    await expect(readParquetColumns(bytes, { rowsMax: 1 })).rejects.toMatchObject({ code: 'ERR_PARQUET_UNSUPPORTED' });
  });

  test('refuses a named column of a kind that it does not have', async () => {
    const nested = drain(encodeNestedParquet([{ name: 'tags', type: 'map_string_string' }], [{ tags: { a: 'b' } }]));
    await expect(readParquetColumns(nested, { columns: ['tags'] })).rejects.toMatchObject({ code: 'ERR_PARQUET_UNSUPPORTED' });
    expect((await readParquetColumns(nested)).columns.size).toBe(0);
  });

  test('a damaged file gives a typed error or other values, never a crash', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.integer({ min: 0, max: 255 })), { maxLength: 4 }),
        fc.nat(bytes.length),
        async (changes, cut) => {
          const damaged = bytes.slice(0, changes.length > 0 ? bytes.length : cut);
          for (const [at, value] of changes) damaged[at] = value;
          for (const read of [readParquetColumns, readParquetRows]) {
            const outcome: unknown = await read(damaged).then(
              () => 'read',
              (error: unknown) => (isSluiceError(error) && /^ERR_PARQUET_(?:INVALID|UNSUPPORTED)$/.test(error.code) ? 'refused' : error),
            );
            expect(outcome).toBeTypeOf('string');
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});

test('readParquetRows answers named fields of a row as plain values', async () => {
  const rows = await readParquetRows(bytes, { columns: ['device', 'ts', 'later_column'] });
  expect(rows).toEqual([
    { ts: 1_763_000_000_000_001, device: 'a' },
    { ts: 1_763_000_000_000_002, device: null },
  ]);
});
