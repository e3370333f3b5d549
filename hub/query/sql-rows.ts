/** From DuckDB's chunks to the bytes of an answer, within bounds of rows and bytes. */
import {
  DuckDBDateValue,
  DuckDBTimestampMillisecondsValue,
  DuckDBTimestampNanosecondsValue,
  DuckDBTimestampSecondsValue,
  DuckDBTimestampTZValue,
  DuckDBTimestampValue,
  DuckDBDecimalValue,
  DuckDBTypeId,
  type DuckDBResult,
  type DuckDBValue,
} from '@duckdb/node-api';
import { SluiceError } from '../../shared/errors.ts';
import { formatTime } from '../http/times.ts';
import { arrowSteps, parquetSteps, runSteps, type ColumnType } from './result-formats.ts';
import { csvField } from './csv.ts';
import type { SqlQuery } from './sql-api.ts';

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
  ...[DuckDBTypeId.FLOAT, DuckDBTypeId.DOUBLE, DuckDBTypeId.DECIMAL].map((id) => [id, 'double'] as const),
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
  if (value instanceof DuckDBTimestampNanosecondsValue) return Number(value.nanos / 1000n);
  return null;
}

/** As JSON can say it; integers above 2^53 keep their digits as text. */
function plain(value: DuckDBValue): unknown {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value;
  if (typeof value === 'number') return Number.isFinite(value) ? value : null;
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : value.toString();
  const us = microsOf(value);
  if (us !== null) return formatTime(us);
  if (value instanceof DuckDBDecimalValue) return value.toDouble();
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

interface Column {
  readonly name: string;
  readonly type: ColumnType;
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
      const isTime = this.#columns[index].type === 'timestamp';
      for (const value of values) {
        const item = isTime ? microsOf(value) : typeof value === 'number' ? value : plain(value);
        bytes += typeof item === 'string' ? item.length + 8 : 8;
        this.#values[index].push(item);
      }
    });
    return bytes;
  }

  finish(rowCount: number): Uint8Array {
    const columns = this.#columns.map(({ name, type }, index) => {
      const values = this.#values[index];
      // Digits above 2^53 stand there as text.
      const isText = type === 'long' && values.some((value) => typeof value === 'string');
      return { name, type: isText ? ('text' as const) : type, values };
    });
    return runSteps(this.#format === 'arrow' ? arrowSteps({ rowCount, columns }) : parquetSteps({ rowCount, columns }));
  }
}

/** @throws SluiceError ERR_QUERY_TOO_LARGE */
export async function renderResult(
  result: DuckDBResult,
  { format, rowsMax }: Pick<SqlQuery, 'format' | 'rowsMax'>,
  bytesMax: number,
  versions: Readonly<Record<string, number>>,
): Promise<{ readonly body: Uint8Array; readonly rowCount: number }> {
  const ids = result.columnTypes().map(({ typeId }) => typeId);
  const columns = result.deduplicatedColumnNames().map((name, index): Column => ({ name, type: TYPES.get(ids[index]) ?? 'text' }));
  const writer: RowsWriter =
    format === 'arrow' || format === 'parquet' ? new ColumnsWriter(columns, format) : new TextWriter(columns, format);
  let rowCount = 0;
  let bytes = 0;
  for (;;) {
    const chunk = await result.fetchChunk();
    if (chunk === null || chunk.rowCount === 0) break;
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
