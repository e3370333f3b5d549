import * as fc from 'fast-check';
import { parquetMetadata } from 'hyparquet';
import { describe, expect, test } from 'vitest';
import { drain, encodeParquet, type ColumnStatistics, type FileColumn, type ParquetColumn, type ParquetFile } from './encode.ts';
import { readParquetColumns } from './read.ts';
import { RunBuilder, type Runs } from './runs.ts';
import { columnValues, parquetFile, storedType, type CellValue } from './table.arbitrary.ts';

interface Table {
  readonly rowCount: number;
  readonly columns: readonly { readonly name: string; readonly type: string; readonly values: readonly CellValue[] }[];
}

function tableOf(columns: Iterable<FileColumn>, rowCount: number): Table {
  return {
    rowCount,
    columns: Array.from(columns, (column) => ({ name: column.name, type: storedType(column), values: columnValues(column, rowCount) })),
  };
}

async function readBack(file: ParquetFile): Promise<Table> {
  const { columns, rowCount } = await readParquetColumns(drain(encodeParquet(file)).bytes);
  return tableOf(columns.values(), rowCount);
}

function given({ columns, rowCount }: ParquetFile): Table {
  return tableOf(columns, rowCount);
}

function encode(
  columns: readonly FileColumn[],
  rowCount: number,
  rowGroupRowsMax = 1_000_000,
): ReturnType<typeof parquetMetadata> & { stats: ReadonlyMap<string, ColumnStatistics> } {
  const encoded = drain(encodeParquet({ rowCount, columns, rowGroupRowsMax, compression: 'zstd' }));
  return { ...parquetMetadata(encoded.bytes), stats: encoded.stats };
}

function encodings(columns: readonly FileColumn[], rowCount: number): string[] {
  return encode(columns, rowCount).row_groups[0]?.columns[0]?.meta_data?.encodings.filter((name) => name !== 'RLE') ?? [];
}

function numbers(name: string, type: 'timestamp' | 'double' | 'long', rowCount: number, value: (row: number) => number): ParquetColumn {
  return { name, type, values: Float64Array.from({ length: rowCount }, (_, row) => value(row)) };
}

/** Deterministic noise in 0..1. */
function noise(row: number): number {
  const mixed = Math.imul(row + 1, 0x9e37_79b1) ^ (Math.imul(row + 7, 0x85eb_ca6b) >>> 13);
  return (Math.imul(mixed ^ (mixed >>> 15), 0x2c1b_3c6d) >>> 0) / 2 ** 32;
}

describe('values', () => {
  test('any table comes back as it was given', async () => {
    await fc.assert(
      fc.asyncProperty(parquetFile, async (file) => {
        expect(await readBack(file)).toEqual(given(file));
      }),
      { numRuns: 100 },
    );
  });

  test('columns of several pages and row groups come back, whatever encoding they chose', async () => {
    const rowCount = 150_000;
    const valid = Uint8Array.from({ length: rowCount }, (_, row) => (row % 70_000 < 40_000 ? 1 : row % 3 === 0 ? 0 : 1));
    const dictionary = Array.from({ length: 5000 }, (_, i) => `device-${i}`);
    const file: ParquetFile = {
      rowCount,
      rowGroupRowsMax: 100_000,
      compression: 'zstd',
      columns: [
        { ...numbers('noise', 'double', rowCount, noise), valid } as ParquetColumn,
        { ...numbers('regular', 'timestamp', rowCount, (row) => 1_763_000_000_000_000 + row * 1_000_000), valid } as ParquetColumn,
        numbers('jittered', 'timestamp', rowCount, (row) => 1_763_000_000_000_000 + row * 1_000_000 + Math.floor(noise(row) * 40_000)),
        numbers('decimal', 'double', rowCount, (row) => Math.floor(noise(row) * 3000) / 100),
        numbers('seq', 'long', rowCount, (row) => Math.floor(row / 2000)),
        numbers('wide', 'long', rowCount, (row) => Math.round((noise(row) - 0.5) * 2 * Number.MAX_SAFE_INTEGER)),
        { name: 'int', type: 'int', values: Int32Array.from({ length: rowCount }, (_, row) => row * 3 - 200_000), valid },
        { name: 'boolean', type: 'boolean', values: Uint8Array.from({ length: rowCount }, (_, row) => row & 1), valid },
        { name: 'device', type: 'string', dictionary, indices: Uint32Array.from({ length: rowCount }, (_, row) => Math.floor(row / 30)) },
        {
          name: 'unique',
          type: 'string',
          dictionary: Array.from({ length: rowCount }, (_, i) => `text ${i}`),
          indices: Uint32Array.from({ length: rowCount }, (_, row) => row),
        },
        { name: 'constant', type: 'string', dictionary: ['gateway-1'], indices: new Uint32Array(0) },
        { name: 'absent', type: 'string', dictionary: [], indices: new Uint32Array(0) },
      ],
    };
    expect(await readBack(file)).toEqual(given(file));
  });

  test('runs of several pages and row groups come back, with nulls and with more values than a dictionary pays for', async () => {
    const rowCount = 150_000;
    const runsOf = (length: (run: number) => number, index: (run: number) => number): Runs => {
      const builder = new RunBuilder();
      for (let run = 0, rows = 0; rows < rowCount; run++) {
        const part = Math.min(length(run), rowCount - rows);
        builder.add(index(run), part);
        rows += part;
      }
      return builder.runs();
    };
    const texts = Array.from({ length: 20_000 }, (_, i) => `device ${i} ${'é'.repeat(40)}`);
    const short = runsOf(
      (run) => 1 + (run % 17),
      (run) => (run * 7) % 500,
    );
    const file: ParquetFile = {
      rowCount,
      rowGroupRowsMax: 100_000,
      compression: 'zstd',
      columns: [
        { name: 'short', type: 'string_runs', dictionary: texts, runs: short },
        { name: 'nulls', type: 'string_runs', dictionary: texts, runs: short, nullIndex: 14 },
        {
          name: 'constant',
          type: 'string_runs',
          dictionary: ['', 'live'],
          runs: runsOf(
            () => rowCount,
            () => 1,
          ),
          nullIndex: 0,
        },
        {
          name: 'absent',
          type: 'string_runs',
          dictionary: [''],
          runs: runsOf(
            () => rowCount,
            () => 0,
          ),
          nullIndex: 0,
        },
        {
          name: 'large',
          type: 'string_runs',
          dictionary: texts,
          runs: runsOf(
            () => 9,
            (run) => run % texts.length,
          ),
        },
        {
          name: 'unique',
          type: 'long_runs',
          values: Float64Array.from({ length: 100_000 }, (_, i) => i * 3),
          runs: runsOf(
            () => 1,
            (run) => run % 100_000,
          ),
        },
        { name: 'seq', type: 'long_runs', values: Float64Array.from({ length: 500 }, (_, i) => 500 - i), runs: short },
        { name: 'at', type: 'timestamp_runs', values: Float64Array.from({ length: 500 }, (_, i) => 1.7e15 + i), runs: short },
      ],
    };
    expect(await readBack(file)).toEqual(given(file));
  });

  test('a dictionary that outgrows a page goes on PLAIN', async () => {
    const rowCount = 90_000;
    const dictionary = Array.from({ length: 10_000 }, (_, i) => `${i} ${'é'.repeat(60)}`);
    const column: ParquetColumn = {
      name: 'text',
      type: 'string',
      dictionary,
      indices: Uint32Array.from({ length: rowCount }, (_, row) => Math.floor(row / 9)),
    };
    expect(encodings([column], rowCount).sort()).toEqual(['PLAIN', 'PLAIN_DICTIONARY']);
    // 57,232 rows PLAIN and the 3,641 entries of the first page are 7.9 MB; the whole dictionary would make it 8.7.
    expect(Number(encode([column], rowCount).row_groups[0]?.columns[0]?.meta_data?.total_uncompressed_size)).toBeLessThan(8_200_000);
    const file: ParquetFile = { rowCount, columns: [column], compression: 'zstd' };
    expect(await readBack(file)).toEqual(given(file));
  });

  test('zeros of both signs and NaNs in a row keep their bits', async () => {
    const cycle = [0, -0, -0, 0, NaN, NaN, 0, -0, 1];
    const rowCount = 9000;
    const file: ParquetFile = { rowCount, columns: [numbers('v', 'double', rowCount, (row) => cycle[row % 9])], compression: 'zstd' };
    expect(encodings(file.columns, rowCount)).toEqual(['PLAIN_DICTIONARY']);
    expect(await readBack(file)).toEqual(given(file));
  });

  test('maps larger than a page come back', async () => {
    const sizes = [0, 100_000, 1, 0, 40_000];
    const offsets = Uint32Array.from([0, 0, 100_000, 100_001, 100_001, 140_001]);
    const keys = Int32Array.from({ length: 140_001 }, (_, i) => i - 70_000);
    const file: ParquetFile = {
      rowCount: sizes.length,
      columns: [
        {
          name: 'hist',
          type: 'map_int_long',
          offsets,
          keys,
          counts: Float64Array.from(keys, (key) => key * 1000),
          valid: Uint8Array.of(0, 1, 1, 1, 1),
        },
      ],
      compression: 'zstd',
    };
    expect(await readBack(file)).toEqual(given(file));
  });

  test('a value above the limit is refused with a code', () => {
    const columns: ParquetColumn[] = [{ name: 'payload', type: 'binary', values: [new Uint8Array(64 * 1024 * 1024 + 1)] }];
    expect(() => drain(encodeParquet({ rowCount: 1, columns, compression: 'zstd' }))).toThrow(
      expect.objectContaining({ code: 'ERR_PARQUET_VALUE_TOO_LARGE' }),
    );
  });
});

describe('encodings', () => {
  const rowCount = 40_000;

  test('regular times become deltas', () => {
    expect(encodings([numbers('ts', 'timestamp', rowCount, (row) => 1_763_000_000_000_000 + row * 1_000_000)], rowCount)).toEqual([
      'DELTA_BINARY_PACKED',
    ]);
  });

  test('decimals become a dictionary', () => {
    expect(encodings([numbers('value', 'double', rowCount, (row) => Math.floor(noise(row) * 3000) / 100)], rowCount)).toEqual([
      'PLAIN_DICTIONARY',
    ]);
  });

  test('noise stays PLAIN', () => {
    expect(encodings([numbers('value', 'double', rowCount, noise)], rowCount)).toEqual(['PLAIN']);
  });

  test('a constant text costs less than 200 bytes for a million rows, and its indices are not read', () => {
    const rows = 1_000_000;
    const column: ParquetColumn = { name: 'lane', type: 'string', dictionary: ['live'], indices: new Uint32Array(0) };
    const chunk = encode([column], rows).row_groups[0]?.columns[0]?.meta_data;
    expect(Number(chunk?.total_compressed_size)).toBeLessThan(200);
  });

  test('no step of a wide table takes a whole column', () => {
    const rows = 200_000;
    const columns = [numbers('a', 'double', rows, noise), numbers('b', 'long', rows, (row) => row)];
    let steps = 0;
    for (const generator = encodeParquet({ rowCount: rows, columns, compression: 'zstd' }); generator.next().done !== true;) steps++;
    expect(steps).toBeGreaterThan((2 * rows) / 32_768);
  });
});

describe('statistics', () => {
  function statistics(column: ParquetColumn, rowCount: number, rowGroupRowsMax?: number): ColumnStatistics | undefined {
    return encode([column], rowCount, rowGroupRowsMax).stats.get(column.name);
  }

  test('bounds are exact and nulls are counted across row groups', () => {
    const column: ParquetColumn = {
      name: 'n',
      type: 'long',
      values: Float64Array.of(5, 9, -7, 100, 3),
      valid: Uint8Array.of(1, 1, 1, 0, 1),
    };
    expect(statistics(column, 5, 2)).toEqual({ min: -7, max: 9, nullCount: 1, hasNan: false });
    const { row_groups: groups } = encode([column], 5, 2);
    expect(groups.map((group) => group.columns[0]?.meta_data?.statistics)).toMatchObject([
      { min_value: 5n, max_value: 9n, null_count: 0n },
      { min_value: -7n, max_value: -7n, null_count: 1n },
      { min_value: 3n, max_value: 3n, null_count: 0n },
    ]);
  });

  test('a row group of nulls keeps the bounds of the others', () => {
    const column: ParquetColumn = { name: 'n', type: 'double', values: Float64Array.of(0, 2, 0, 1), valid: Uint8Array.of(0, 1, 0, 1) };
    expect(statistics(column, 4, 1)).toEqual({ min: 1, max: 2, nullCount: 2, hasNan: false });
  });

  test('a NaN removes the bounds of its chunk and is told', () => {
    const column: ParquetColumn = { name: 'v', type: 'double', values: Float64Array.of(1, NaN, 3) };
    expect(statistics(column, 3)).toEqual({ min: null, max: null, nullCount: 0, hasNan: true });
    const { row_groups: groups } = encode([column], 3);
    expect(groups[0]?.columns[0]?.meta_data?.statistics?.min_value).toBeUndefined();
  });

  test('a zero is a lower bound of -0 and an upper bound of +0', () => {
    for (const zero of [0, -0]) {
      const { row_groups: groups } = encode([{ name: 'v', type: 'double', values: Float64Array.of(zero) }], 1);
      expect(groups[0]?.columns[0]?.meta_data?.statistics).toMatchObject({ min_value: -0, max_value: 0 });
    }
  });

  test('texts are ordered by their UTF-8 bytes', () => {
    const column: ParquetColumn = { name: 's', type: 'string', dictionary: ['\u{10000}', '\uffee', 'z'], indices: Uint32Array.of(0, 1, 2) };
    expect(statistics(column, 3)).toMatchObject({ min: 'z', max: '\u{10000}' });
  });

  test('only the entries that rows use are bounds', () => {
    const column: ParquetColumn = {
      name: 's',
      type: 'string',
      dictionary: ['a', 'm', 'z'],
      indices: Uint32Array.of(1, 1, 3),
      nullIndex: 3,
    };
    expect(statistics(column, 3)).toEqual({ min: 'm', max: 'm', nullCount: 1, hasNan: false });
  });

  test('a text above 256 bytes, or one with a lone surrogate, leaves the bounds out', () => {
    for (const text of ['x'.repeat(257), 'é'.repeat(129), '\ud800']) {
      const column: ParquetColumn = { name: 's', type: 'string', dictionary: ['a', text], indices: Uint32Array.of(0, 1) };
      expect(statistics(column, 2)).toMatchObject({ min: null, max: null });
    }
  });
});
