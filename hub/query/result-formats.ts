/**
 * Rows as the formats of answers: JSON, NDJSON, CSV, Arrow IPC (stream) and Parquet.
 *
 * Values are plain: null, boolean, number, text, and JSON values for lists and structures. Arrow and Parquet have a type per
 * column, taken from its declared type; what is neither number, truth nor time is text there (JSON where it is a structure).
 */
import {
  Bool,
  Float64,
  Int64,
  TimestampMicrosecond,
  Utf8,
  makeVector,
  tableToIPC,
  Table,
  vectorFromArray,
  type Vector,
} from 'apache-arrow';
import { availableCompressions } from '../../shared/batch/compression.ts';
import { encodeParquet, type ParquetColumn } from '../lake/parquet/encode.ts';
import type { AnswerFormat } from './sql-api.ts';

export type ColumnType = 'double' | 'long' | 'boolean' | 'text' | 'timestamp';

export interface ResultColumn {
  readonly name: string;
  readonly type: ColumnType;
  /** Of a `timestamp` integer µs since the epoch. */
  readonly values: readonly unknown[];
}

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

function arrowVector({ type, values }: ResultColumn): Vector {
  if (type === 'text') return vectorFromArray(values.map(asText), new Utf8());
  if (type === 'boolean') return vectorFromArray(values as (boolean | null)[], new Bool());
  const { values: data, valid } = numbers(values);
  const nullCount = valid.reduce((sum, flag) => sum + 1 - flag, 0);
  const common = { length: values.length, nullCount, nullBitmap: bitmap(valid) };
  if (type === 'double') return makeVector({ type: new Float64(), data, ...common });
  const integers = BigInt64Array.from(data, (value) => BigInt(Math.trunc(value)));
  if (type === 'long') return makeVector({ type: new Int64(), data: integers, ...common });
  return makeVector({ type: new TimestampMicrosecond('UTC'), data: integers, ...common });
}

/** A column a step, then the whole. */
export function* arrowSteps({ columns }: ResultTable): Generator<void, Uint8Array> {
  const vectors: Record<string, Vector> = {};
  for (const column of columns) {
    vectors[column.name] = arrowVector(column);
    yield;
  }
  return tableToIPC(new Table(vectors), 'stream');
}

function parquetColumn({ name, type, values }: ResultColumn): ParquetColumn {
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
  return { name, type, values: data, valid };
}

/** In the encoder's slices. */
export function* parquetSteps({ rowCount, columns }: ResultTable): Generator<void, Uint8Array> {
  const encoded: ParquetColumn[] = [];
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
