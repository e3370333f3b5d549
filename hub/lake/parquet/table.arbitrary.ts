/** Random tables for the tests of the encoder, and columns as plain values to compare them by. */
import * as fc from 'fast-check';
import type { FileColumn, ParquetColumn, ParquetFile } from './encode.ts';
import { expandRuns, RunBuilder, type Runs } from './runs.ts';

export type CellValue = number | string | boolean | null | Uint8Array | readonly (readonly [number, number])[];

/** The type that a column has in the file. */
export function storedType({ type }: FileColumn): ParquetColumn['type'] {
  switch (type) {
    case 'string_runs':
      return 'string';
    case 'long_runs':
    case 'int64':
      return 'long';
    case 'timestamp_runs':
      return 'timestamp';
    case 'decimal':
      return 'binary';
    default:
      return type;
  }
}

/** A column's rows as plain values. */
export function columnValues(column: FileColumn, rowCount: number): CellValue[] {
  if ('runs' in column) {
    const indices = Array.from(expandRuns(column.runs, 0, rowCount));
    if (column.type !== 'string_runs') return indices.map((index) => column.values[index] + 0);
    return indices.map((index) => (index === column.nullIndex ? null : column.dictionary[index]));
  }
  const valid = 'valid' in column ? column.valid : null;
  return Array.from({ length: rowCount }, (_, row): CellValue => {
    if (valid != null && valid[row] === 0) return null;
    switch (column.type) {
      case 'string': {
        if (column.dictionary.length === 0) return null;
        if (column.dictionary.length === 1 && column.nullIndex === undefined) return column.dictionary[0];
        const index = column.indices[row];
        return index === column.nullIndex ? null : column.dictionary[index];
      }
      case 'binary':
        return column.values[row] ?? null;
      case 'int64':
      case 'decimal':
        return String(column.values[row]);
      case 'boolean':
        return column.values[row] === 1;
      case 'map_int_long': {
        const [from, to] = [column.offsets[row], column.offsets[row + 1]];
        return Array.from({ length: to - from }, (_, i) => [column.keys[from + i], column.counts[from + i]] as const);
      }
      default:
        // A double keeps the sign of its zero, an integer has none.
        return column.type === 'double' ? column.values[row] : column.values[row] + 0;
    }
  });
}

const safeInteger = fc.oneof(
  fc.maxSafeInteger(),
  fc.integer({ min: -3, max: 3 }),
  fc.constantFrom(Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 2 ** 32, -(2 ** 32), 2 ** 31),
);
const timestampUs = fc.oneof(
  fc.integer({ min: 1_700_000_000_000_000, max: 1_800_000_000_000_000 }),
  fc.integer({ min: -1_000_000, max: 1_000_000 }),
);
const double = fc.oneof(
  fc.double(),
  fc.constantFrom(0, -0, NaN, Infinity, -Infinity, 0.1, 21.5),
  fc.integer({ min: -300, max: 300 }).map((value) => value / 100),
);
const text = fc.oneof(
  fc.string({ maxLength: 12 }),
  fc.string({ unit: 'grapheme', maxLength: 12 }),
  fc.constantFrom('', 'a', '\uffee', '\u{1f600}'),
  fc.string({ minLength: 60, maxLength: 400 }),
);

/** Rows as runs of equal values, so that every encoding gets its turn. */
function rows<T>(value: fc.Arbitrary<T>, rowCount: number): fc.Arbitrary<T[]> {
  const piece = fc.tuple(value, fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 40 }), fc.constant(rowCount)));
  return fc.array(piece, { minLength: 1, maxLength: 30 }).map((pieces) => {
    const all: T[] = [];
    for (let at = 0; all.length < rowCount; at = (at + 1) % pieces.length) {
      const [value, length] = pieces[at];
      for (let i = 0; i < length && all.length < rowCount; i++) all.push(value);
    }
    return all;
  });
}

function validity(rowCount: number): fc.Arbitrary<Uint8Array | null> {
  return fc.oneof(
    fc.constant(null),
    rows(fc.constantFrom(0, 1), rowCount).map((bits) => Uint8Array.from(bits)),
  );
}

function column(name: string, rowCount: number): fc.Arbitrary<FileColumn> {
  const valid = validity(rowCount);
  const floats = (value: fc.Arbitrary<number>): fc.Arbitrary<Float64Array> =>
    rows(value, rowCount).map((values) => Float64Array.from(values));
  const strings = fc.tuple(fc.uniqueArray(text, { maxLength: 40 }), fc.boolean()).chain(([dictionary, isNullable]) => {
    const nullIndex = isNullable ? dictionary.length : undefined;
    const max = Math.max(0, dictionary.length - (isNullable ? 0 : 1));
    const isConstant = !isNullable && dictionary.length <= 1;
    return rows(fc.integer({ min: 0, max: isConstant ? 0 : max }), rowCount).map((indices): ParquetColumn => ({
      name,
      type: 'string',
      dictionary,
      indices: Uint32Array.from(indices),
      nullIndex,
    }));
  });
  const runs = (entryCount: number): fc.Arbitrary<Runs> =>
    rows(fc.integer({ min: 0, max: entryCount - 1 }), rowCount).map((indices) => {
      const builder = new RunBuilder();
      for (const index of indices) builder.add(index, 1);
      return builder.runs();
    });
  const stringRuns = fc
    .tuple(fc.uniqueArray(text, { minLength: 1, maxLength: 40 }), fc.option(fc.integer({ min: 0, max: 3 }), { nil: undefined }))
    .chain(([dictionary, nullIndex]) =>
      runs(dictionary.length).map((all): FileColumn => ({ name, type: 'string_runs', dictionary, runs: all, nullIndex })),
    );
  const numberRuns = (type: 'long_runs' | 'timestamp_runs', number: fc.Arbitrary<number>): fc.Arbitrary<FileColumn> =>
    fc
      .uniqueArray(number, { minLength: 1, maxLength: 40, selector: (value) => value + 0 })
      .chain((values) => runs(values.length).map((all): FileColumn => ({ name, type, values: Float64Array.from(values), runs: all })));
  const maps = fc
    .tuple(rows(fc.option(fc.uniqueArray(fc.tuple(fc.integer(), safeInteger), { maxLength: 5, selector: ([key]) => key })), rowCount))
    .map(([all]): ParquetColumn => {
      const offsets = new Uint32Array(rowCount + 1);
      all.forEach((entries, row) => (offsets[row + 1] = offsets[row] + (entries?.length ?? 0)));
      const entries = all.flatMap((row) => row ?? []);
      return {
        name,
        type: 'map_int_long',
        offsets,
        keys: Int32Array.from(entries, ([key]) => key),
        counts: Float64Array.from(entries, ([, count]) => count),
        valid: Uint8Array.from(all, (row) => (row === null ? 0 : 1)),
      };
    });
  return fc.oneof(
    fc.tuple(floats(timestampUs), valid).map(([values, valid]): ParquetColumn => ({ name, type: 'timestamp', values, valid })),
    fc.tuple(floats(double), valid).map(([values, valid]): ParquetColumn => ({ name, type: 'double', values, valid })),
    fc.tuple(floats(safeInteger), valid).map(([values, valid]): ParquetColumn => ({ name, type: 'long', values, valid })),
    fc
      .tuple(rows(fc.integer(), rowCount), valid)
      .map(([values, valid]): ParquetColumn => ({ name, type: 'int', values: Int32Array.from(values), valid })),
    fc
      .tuple(rows(fc.constantFrom(0, 1), rowCount), valid)
      .map(([values, valid]): ParquetColumn => ({ name, type: 'boolean', values: Uint8Array.from(values), valid })),
    rows(fc.option(fc.uint8Array({ maxLength: 20 })), rowCount).map((values): ParquetColumn => ({ name, type: 'binary', values })),
    strings,
    stringRuns,
    numberRuns('long_runs', safeInteger),
    numberRuns('timestamp_runs', timestampUs),
    maps,
  );
}

/** Tables of up to 300 rows in row groups of any size. */
export const parquetFile: fc.Arbitrary<ParquetFile> = fc
  .tuple(
    fc.oneof(fc.constantFrom(0, 1, 2, 8), fc.integer({ min: 0, max: 300 })),
    fc.integer({ min: 1, max: 6 }),
    fc.integer({ min: 1, max: 400 }),
    fc.constantFrom('zstd' as const, 'uncompressed' as const),
  )
  .chain(([rowCount, columnCount, rowGroupRowsMax, compression]) =>
    fc
      .tuple(...Array.from({ length: columnCount }, (_, i) => column(`c${i}`, rowCount)))
      .map((columns): ParquetFile => ({ rowCount, columns, rowGroupRowsMax, compression })),
  );
