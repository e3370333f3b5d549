/** From DuckDB's chunks to the bytes of an answer, within bounds of rows and bytes. */
import {
  DuckDBDateValue,
  DuckDBTimestampMillisecondsValue,
  DuckDBTimestampNanosecondsValue,
  DuckDBTimestampSecondsValue,
  DuckDBTimestampTZValue,
  DuckDBTimestampValue,
  DuckDBDecimalType,
  DuckDBDecimalValue,
  DuckDBTypeId,
  type DuckDBResult,
  type DuckDBType,
  type DuckDBValue,
} from '@duckdb/node-api';
import { SluiceError } from '../../shared/errors.ts';
import { formatTime } from '../http/times.ts';
import { arrowSteps, DECIMAL_DIGITS_MAX, parquetSteps, runSteps, type ColumnType, type ResultColumn } from './result-formats.ts';
import { csvField } from './csv.ts';
import type { SqlQuery } from './sql-api.ts';
import { streamedChunks } from './streamed-chunks.ts';

const TYPES: ReadonlyMap<DuckDBTypeId, ColumnType> = new Map([
  ...[
    DuckDBTypeId.TINYINT,
    DuckDBTypeId.SMALLINT,
    DuckDBTypeId.INTEGER,
    DuckDBTypeId.BIGINT,
    DuckDBTypeId.UTINYINT,
    DuckDBTypeId.USMALLINT,
    DuckDBTypeId.UINTEGER,
    DuckDBTypeId.UBIGINT,
    DuckDBTypeId.HUGEINT,
    DuckDBTypeId.UHUGEINT,
  ].map((id) => [id, 'long'] as const),
  ...[DuckDBTypeId.FLOAT, DuckDBTypeId.DOUBLE].map((id) => [id, 'double'] as const),
  ...[
    DuckDBTypeId.TIMESTAMP,
    DuckDBTypeId.TIMESTAMP_S,
    DuckDBTypeId.TIMESTAMP_MS,
    DuckDBTypeId.TIMESTAMP_NS,
    DuckDBTypeId.TIMESTAMP_TZ,
  ].map((id) => [id, 'timestamp'] as const),
  [DuckDBTypeId.BOOLEAN, 'boolean'],
]);

/** µs; null for what is not a time. */
function microsOf(value: DuckDBValue): number | null {
  if (value instanceof DuckDBTimestampValue || value instanceof DuckDBTimestampTZValue) return Number(value.micros);
  if (value instanceof DuckDBTimestampMillisecondsValue) return Number(value.millis) * 1000;
  if (value instanceof DuckDBTimestampSecondsValue) return Number(value.seconds) * 1_000_000;
  // Down, on either side of the epoch.
  if (value instanceof DuckDBTimestampNanosecondsValue) return Number((value.nanos - (((value.nanos % 1000n) + 1000n) % 1000n)) / 1000n);
  return null;
}

/** 10^15: a double holds every decimal of so many digits, and JSON.stringify writes them. */
const EXACT_DIGITS = 10n ** 15n;

function decimalOf(value: DuckDBDecimalValue): number | string {
  const isExact = value.value > -EXACT_DIGITS && value.value < EXACT_DIGITS;
  return isExact ? Number(value.toString()) : value.toString();
}

/** As JSON can say it; integers above 2^53 and decimals of more than 15 digits keep their digits as text. */
function plain(value: DuckDBValue): unknown {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value;
  if (typeof value === 'number') return Number.isFinite(value) ? value : null;
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : value.toString();
  const us = microsOf(value);
  if (us !== null) return formatTime(us);
  if (value instanceof DuckDBDecimalValue) return decimalOf(value);
  if (value instanceof DuckDBDateValue) return value.toString();
  if ('items' in value) return (value.items as DuckDBValue[]).map(plain);
  if ('bytes' in value) return Buffer.from(value.bytes).toString('base64');
  if ('entries' in value && Array.isArray(value.entries)) {
    const entries = value.entries as readonly { readonly key: DuckDBValue; readonly value: DuckDBValue }[];
    return Object.fromEntries(entries.map((entry) => [String(plain(entry.key)), plain(entry.value)]));
  }
  if ('entries' in value)
    return Object.fromEntries(Object.entries(value.entries as Record<string, DuckDBValue>).map(([key, item]) => [key, plain(item)]));
  return String(value);
}

/** Of a column of the answer, as JSON shows it. */
interface Column {
  readonly name: string;
  readonly type: ColumnType | 'decimal';
  readonly precision?: number;
  readonly scale?: number;
}

function columnOf(name: string, type: DuckDBType): Column {
  if (type instanceof DuckDBDecimalType) return { name, type: 'decimal', precision: type.width, scale: type.scale };
  return { name, type: TYPES.get(type.typeId) ?? 'text' };
}

const LONG_BITS = 64;
const DECIMAL_MAX = 10n ** BigInt(DECIMAL_DIGITS_MAX);

/** A value of Arrow and Parquet: integers beyond 2^53 and decimals as they are. */
function columnValue(value: DuckDBValue, { type }: Column): unknown {
  if (value === null) return null;
  if (type === 'timestamp') {
    const us = microsOf(value);
    // The infinite times are no number of µs.
    return us !== null && Number.isSafeInteger(us) ? us : null;
  }
  if (type === 'decimal') return value instanceof DuckDBDecimalValue ? value.value : null;
  if (type === 'long' && typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  return typeof value === 'number' ? value : plain(value);
}

/** Whole numbers by what they are: of 64 bits, of 38 digits, or texts. */
function integerColumn(name: string, values: readonly unknown[]): ResultColumn {
  const large = values.filter((value) => typeof value === 'bigint');
  if (large.every((value) => BigInt.asIntN(LONG_BITS, value) === value)) return { name, type: 'long', values };
  if (large.every((value) => value > -DECIMAL_MAX && value < DECIMAL_MAX)) {
    const exact = values.map((value) => (value === null ? null : BigInt(value as number | bigint)));
    return { name, type: 'decimal', precision: DECIMAL_DIGITS_MAX, scale: 0, values: exact };
  }
  return { name, type: 'text', values: values.map((value) => (value === null ? null : `${value as number | bigint}`)) };
}

/** Rows of one format, added chunk by chunk. */
interface RowsWriter {
  add(columns: readonly (readonly DuckDBValue[])[], rowCount: number): number;
  finish(rowCount: number, versions: Readonly<Record<string, number>>): Uint8Array;
}

class TextWriter implements RowsWriter {
  readonly #columns: readonly Column[];
  readonly #format: 'json' | 'ndjson' | 'csv';
  readonly #parts: Buffer[] = [];
  #isFirst = true;

  constructor(columns: readonly Column[], format: 'json' | 'ndjson' | 'csv') {
    this.#columns = columns;
    this.#format = format;
    if (format === 'csv') this.#push(`${columns.map(({ name }) => csvField(name)).join(',')}\r\n`);
    if (format === 'json') this.#push(`{"columns":${JSON.stringify(columns)},"rows":[`);
  }

  #push(text: string): number {
    const bytes = Buffer.from(text);
    this.#parts.push(bytes);
    return bytes.byteLength;
  }

  add(columns: readonly (readonly DuckDBValue[])[], rowCount: number): number {
    if (rowCount === 0) return 0;
    const rows = Array.from({ length: rowCount }, (_, row) => columns.map((values) => plain(values[row])));
    if (this.#format === 'csv') return this.#push(rows.map((row) => `${row.map(csvField).join(',')}\r\n`).join(''));
    const names = this.#columns.map(({ name }) => `${JSON.stringify(name)}:`);
    const lines = rows.map((row) => `{${row.map((value, index) => `${names[index]}${JSON.stringify(value)}`).join(',')}}`);
    if (this.#format === 'ndjson') return this.#push(`${lines.join('\n')}\n`);
    const text = `${this.#isFirst ? '' : ','}${lines.join(',')}`;
    this.#isFirst = false;
    return this.#push(text);
  }

  finish(rowCount: number, versions: Readonly<Record<string, number>>): Uint8Array {
    if (this.#format === 'json') this.#push(`],"row_count":${rowCount},"versions":${JSON.stringify(versions)}}`);
    return Buffer.concat(this.#parts);
  }
}

class ColumnsWriter implements RowsWriter {
  readonly #columns: readonly Column[];
  readonly #format: 'arrow' | 'parquet';
  readonly #values: unknown[][];

  constructor(columns: readonly Column[], format: 'arrow' | 'parquet') {
    this.#columns = columns;
    this.#format = format;
    this.#values = columns.map(() => []);
  }

  add(columns: readonly (readonly DuckDBValue[])[]): number {
    let bytes = 0;
    columns.forEach((values, index) => {
      const column = this.#columns[index];
      for (const value of values) {
        const item = columnValue(value, column);
        bytes += typeof item === 'string' ? item.length + 8 : typeof item === 'bigint' ? 16 : 8;
        this.#values[index].push(item);
      }
    });
    return bytes;
  }

  finish(rowCount: number): Uint8Array {
    const columns = this.#columns.map(({ name, type, precision = 0, scale = 0 }, index): ResultColumn => {
      const values = this.#values[index];
      if (type === 'decimal') return { name, type, precision, scale, values: values as (bigint | null)[] };
      return type === 'long' ? integerColumn(name, values) : { name, type, values };
    });
    return runSteps(this.#format === 'arrow' ? arrowSteps({ rowCount, columns }) : parquetSteps({ rowCount, columns }));
  }
}

/** @throws SluiceError ERR_QUERY_TOO_LARGE, StreamBrokenError */
export async function renderResult(
  result: DuckDBResult,
  { format, rowsMax }: Pick<SqlQuery, 'format' | 'rowsMax'>,
  bytesMax: number,
  versions: Readonly<Record<string, number>>,
): Promise<{ readonly body: Uint8Array; readonly rowCount: number }> {
  const types = result.columnTypes();
  const columns = result.deduplicatedColumnNames().map((name, index) => columnOf(name, types[index]));
  const writer: RowsWriter =
    format === 'arrow' || format === 'parquet' ? new ColumnsWriter(columns, format) : new TextWriter(columns, format);
  let rowCount = 0;
  let bytes = 0;
  for await (const chunk of streamedChunks(result)) {
    rowCount += chunk.rowCount;
    if (rowCount > rowsMax) {
      throw new SluiceError('ERR_QUERY_TOO_LARGE', `the answer has more than ${rowsMax} rows: aggregate, add a LIMIT, or raise \`limit\``);
    }
    bytes += writer.add(chunk.getColumns(), chunk.rowCount);
    if (bytes > bytesMax)
      throw new SluiceError('ERR_QUERY_TOO_LARGE', `the answer has more than ${bytesMax} bytes: ask for fewer rows or columns`);
  }
  return { body: writer.finish(rowCount, versions), rowCount };
}
