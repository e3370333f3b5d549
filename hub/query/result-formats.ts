/**
 * Rows as the formats of answers: JSON, NDJSON, CSV, Arrow IPC (stream) and Parquet.
 *
 * Values are plain: null, boolean, number, text, and JSON values for lists and structures. Arrow and Parquet have a type per
 * column, taken from its declared type; what is neither number, truth nor time is text there (JSON where it is a structure).
 * Whole numbers and decimals are exact there: Int64 and Decimal128, INT64 and DECIMAL.
 */
import {
  Bool,
  Decimal,
  Field,
  Float64,
  Int64,
  RecordBatch,
  Schema,
  Struct,
  TimestampMicrosecond,
  Utf8,
  makeData,
  makeVector,
  tableToIPC,
  Table,
  vectorFromArray,
  type DataType,
  type Vector,
} from 'apache-arrow';
import { availableCompressions } from '../../shared/batch/compression.ts';
import { encodeParquet, type FileColumn } from '../lake/parquet/encode.ts';
import type { AnswerFormat } from './sql-api.ts';

export type ColumnType = 'double' | 'long' | 'boolean' | 'text' | 'timestamp';

export type ResultColumn =
  /** Of a `timestamp` integer µs since the epoch; of a `long` numbers, or bigints of 64 bits where one is beyond 2^53. */
  { readonly name: string; readonly type: ColumnType; readonly values: readonly unknown[] } | DecimalColumn;

/** value / 10^scale, of at most DECIMAL_DIGITS_MAX digits. */
export interface DecimalColumn {
  readonly name: string;
  readonly type: 'decimal';
  readonly precision: number;
  readonly scale: number;
  readonly values: readonly (bigint | null)[];
}

/** Of 128 bits. */
export const DECIMAL_DIGITS_MAX = 38;

export interface ResultTable {
  readonly rowCount: number;
  readonly columns: readonly ResultColumn[];
}

export const FORMAT_TYPES: Readonly<Record<AnswerFormat, string>> = {
  json: 'application/json',
  ndjson: 'application/x-ndjson',
  csv: 'text/csv; charset=utf-8; header=present',
  arrow: 'application/vnd.apache.arrow.stream',
  parquet: 'application/vnd.apache.parquet',
};

function asText(value: unknown): string | null {
  if (value === null || value === undefined) return null;
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function numbers(values: readonly unknown[]): { values: Float64Array; valid: Uint8Array } {
  const valid = Uint8Array.from(values, (value) => (value === null || value === undefined ? 0 : 1));
  return { values: Float64Array.from(values, (value) => (value === null || value === undefined ? 0 : Number(value))), valid };
}

function bitmap(valid: Uint8Array): Uint8Array {
  const bits = new Uint8Array(Math.ceil(valid.length / 64) * 8);
  valid.forEach((flag, index) => {
    if (flag === 1) bits[index >> 3] |= 1 << (index & 7);
  });
  return bits;
}

/** 64 bits of each; null is 0. */
function integersOf(values: readonly unknown[]): BigInt64Array {
  return BigInt64Array.from(values, (value) => (typeof value === 'bigint' ? value : BigInt(Math.trunc(Number(value ?? 0)))));
}

/** Two words of 64 bits a value, the lower one first. */
function decimalVector({ precision, scale, values }: DecimalColumn): Vector {
  const words = new BigInt64Array(values.length * 2);
  values.forEach((value, row) => {
    words[row * 2] = BigInt.asIntN(64, value ?? 0n);
    words[row * 2 + 1] = BigInt.asIntN(64, (value ?? 0n) >> 64n);
  });
  const valid = Uint8Array.from(values, (value) => (value === null ? 0 : 1));
  const nullCount = valid.reduce((sum, flag) => sum + 1 - flag, 0);
  const data = new Uint32Array(words.buffer);
  return makeVector({ type: new Decimal(scale, precision, 128), data, length: values.length, nullCount, nullBitmap: bitmap(valid) });
}

function arrowVector(column: ResultColumn): Vector {
  if (column.type === 'decimal') return decimalVector(column);
  const { type, values } = column;
  if (type === 'text') return vectorFromArray(values.map(asText), new Utf8());
  if (type === 'boolean') return vectorFromArray(values as (boolean | null)[], new Bool());
  const { values: data, valid } = numbers(values);
  const nullCount = valid.reduce((sum, flag) => sum + 1 - flag, 0);
  const common = { length: values.length, nullCount, nullBitmap: bitmap(valid) };
  if (type === 'double') return makeVector({ type: new Float64(), data, ...common });
  const integers = integersOf(values);
  if (type === 'long') return makeVector({ type: new Int64(), data: integers, ...common });
  return makeVector({ type: new TimestampMicrosecond('UTC'), data: integers, ...common });
}

/** A column a step, then the whole. */
export function* arrowSteps({ rowCount, columns }: ResultTable): Generator<void, Uint8Array> {
  const vectors: Vector[] = [];
  for (const column of columns) {
    vectors.push(arrowVector(column));
    yield;
  }
  // By a schema and not by an object of vectors: that would put names like 2025 first, and has no place for some names.
  const schema = new Schema(columns.map(({ name }, index) => new Field(name, vectors[index].type as DataType, true)));
  const children = vectors.map(({ data }) => data[0]);
  const rows = makeData({ type: new Struct(schema.fields), length: rowCount, nullCount: 0, children });
  return tableToIPC(new Table(schema, [new RecordBatch(schema, rows)]), 'stream');
}

function parquetColumn(column: ResultColumn): FileColumn {
  if (column.type === 'decimal') return column;
  const { name, type, values } = column;
  if (type === 'text') {
    const places = new Map<string, number>();
    const dictionary: string[] = [];
    const nullIndex = 0xffff_ffff;
    const indices = Uint32Array.from(values, (value) => {
      const text = asText(value);
      if (text === null) return nullIndex;
      let place = places.get(text);
      if (place === undefined) {
        place = dictionary.push(text) - 1;
        places.set(text, place);
      }
      return place;
    });
    return { name, type: 'string', dictionary, indices, nullIndex };
  }
  const { values: data, valid } = numbers(values);
  if (type === 'boolean') return { name, type, values: Uint8Array.from(data), valid };
  if (type === 'long' && values.some((value) => typeof value === 'bigint'))
    return { name, type: 'int64', values: integersOf(values), valid };
  return { name, type, values: data, valid };
}

/** In the encoder's slices. */
export function* parquetSteps({ rowCount, columns }: ResultTable): Generator<void, Uint8Array> {
  const encoded: FileColumn[] = [];
  for (const column of columns) {
    encoded.push(parquetColumn(column));
    yield;
  }
  const { bytes } = yield* encodeParquet({
    rowCount,
    columns: encoded,
    compression: availableCompressions().includes('zstd') ? 'zstd' : 'uncompressed',
  });
  return bytes;
}

/** Without a thread to share. */
export function runSteps(steps: Generator<void, Uint8Array>): Uint8Array {
  let step = steps.next();
  while (step.done !== true) step = steps.next();
  return step.value;
}
