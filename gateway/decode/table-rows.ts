/**
 * Rows of files into readings: CSV cells by a mapping of columns, NDJSON lines in the shapes of JSON payloads.
 *
 * Wide: each value column is a metric. Long: one column names the metric, another holds its value. A row that cannot be
 * used is a problem with its line number and harms no other.
 */
import { z } from 'zod';
import { SluiceError, isSluiceError } from '../../shared/errors.ts';
import { writeBareValue } from './bare-value.ts';
import { EventTimeReader, TIME_UNITS } from './event-time.ts';
import { decodeShapes } from './json-shapes.ts';
import { parseJson } from './json-text.ts';
import { ENTRY_FIELDS_MAX } from './limits.ts';
import { checkedTags } from './names.ts';
import type { ReadingWriter } from './reading-writer.ts';
import type { SeriesScope, SeriesScopes } from './series-scope.ts';
import { isFields } from './shape-context.ts';

const column = z.string().min(1).max(256);

export const rowMappingSchema = z.strictObject({
  device: z.string().min(1).max(256).nullable().default(null).describe('Device of all rows; null: the column deviceColumn names it'),
  deviceColumn: column.default('device').describe('Column (NDJSON: key) with the device'),
  timeColumn: column.nullable().default('time').describe('Column (NDJSON: key) with the event time; null: the time of reading the file'),
  timeUnit: z
    .enum(['auto', ...TIME_UNITS])
    .default('auto')
    .describe('Unit of numeric times'),
  assumeUtc: z.boolean().default(false).describe('Whether a date without a zone is UTC; otherwise it is refused'),
  metricColumn: column.nullable().default(null).describe('Column with the name of the metric: the table is long; null: it is wide'),
  valueColumn: column.default('value').describe('Long table: column with the value'),
  valueColumns: z
    .array(column)
    .max(ENTRY_FIELDS_MAX)
    .nullable()
    .default(null)
    .describe('Wide table: the columns that are metrics; null: all that are nothing else'),
  tagColumns: z.array(column).max(32).default([]).describe('Columns that are tags'),
  decimalComma: z.boolean().default(false).describe('CSV: whether 21,5 is a number (with delimiter ;)'),
});
export type RowMapping = z.infer<typeof rowMappingSchema>;

/** A CSV record, or a line of NDJSON, and the number of its last line in the file, from 1. */
export interface TableRow {
  readonly line: number;
  /** A text: NDJSON. null: damaged, as `fault` says. */
  readonly cells: readonly string[] | string | null;
  readonly fault: string | null;
}

interface Columns {
  readonly count: number;
  readonly device: number;
  readonly time: number;
  readonly metric: number;
  readonly value: number;
  readonly values: readonly { readonly index: number; readonly name: string }[];
  readonly tags: readonly { readonly index: number; readonly name: string }[];
}

const HAS_ZONE = /(?:[Zz]|[+-]\d\d:?\d\d)$/;
const DECIMAL_COMMA = /^[+-]?\d*,\d+$/;

/** The mapping applied to the columns of one file. */
export class RowDecoder {
  readonly #mapping: RowMapping;
  readonly #columns: Columns | null;
  readonly #time: EventTimeReader;

  /**
   * @param columns null: the rows are NDJSON
   * @throws SluiceError ERR_DECODE_SHAPE: the mapping names columns that the file does not have
   */
  constructor(mapping: RowMapping, columns: readonly string[] | null) {
    this.#mapping = mapping;
    this.#time = new EventTimeReader(mapping.timeUnit);
    this.#columns = columns === null ? null : resolveColumns(mapping, columns);
  }

  /** Writes the rows [from, to); faults of a row are problems of the writer. */
  write(writer: ReadingWriter, scopes: SeriesScopes, rows: readonly TableRow[], from: number, to: number): void {
    for (let index = from; index < to; index++) {
      const row = rows[index];
      writer.beginEntry(row.line);
      try {
        if (row.cells === null) throw new SluiceError('ERR_DECODE_SYNTAX', row.fault ?? 'damaged');
        if (typeof row.cells === 'string') this.#writeJson(writer, scopes, row.cells);
        else this.#writeCells(writer, scopes, row.cells);
      } catch (error) {
        if (!isSluiceError(error)) throw error;
        writer.problem(error.code, `line ${row.line}: ${error.message}`, this.#mapping.device, null, NaN);
      }
    }
  }

  #writeJson(writer: ReadingWriter, scopes: SeriesScopes, text: string): void {
    const { device, deviceColumn, timeColumn, metricColumn, valueColumn, tagColumns } = this.#mapping;
    const value = parseJson(Buffer.from(text));
    if (!isFields(value)) throw new SluiceError('ERR_DECODE_SHAPE', 'a line is a JSON object');
    const timeKeys = timeColumn === null ? [] : [timeColumn];
    if (metricColumn === null && tagColumns.length === 0) {
      const scope = device === null ? null : scopes.scope(device, '');
      return decodeShapes({ writer, scopes, scope, metric: null, time: this.#time, timeKeys, deviceKey: deviceColumn }, value);
    }
    const text_ = (key: string): string => {
      const field = Object.hasOwn(value, key) ? value[key] : undefined;
      if (typeof field === 'string') return field;
      if (typeof field === 'number') return String(field);
      throw new SluiceError('ERR_DECODE_SHAPE', `no key ${JSON.stringify(key)} with a text`);
    };
    const scope = this.#scope(
      writer,
      scopes,
      () => text_(deviceColumn),
      tagColumns.filter((key) => Object.hasOwn(value, key)).map((key) => [key, text_(key)]),
    );
    const timeUs = timeColumn === null ? NaN : this.#time.read(value[timeColumn]);
    if (metricColumn !== null) return writer.value(scope, scopes.child(scope.root, text_(metricColumn)), timeUs, value[valueColumn], 0);
    const others = new Set([timeColumn, deviceColumn, ...tagColumns]);
    for (const key of Object.keys(value)) if (!others.has(key)) writer.field(scope, scope.root, key, timeUs, value[key], 1);
  }

  #writeCells(writer: ReadingWriter, scopes: SeriesScopes, cells: readonly string[]): void {
    const columns = this.#columns as Columns;
    if (cells.length !== columns.count)
      throw new SluiceError('ERR_DECODE_SHAPE', `it has ${cells.length} fields, the table ${columns.count}`);
    const tags = columns.tags.filter(({ index }) => cells[index] !== '').map(({ index, name }): [string, string] => [name, cells[index]]);
    const scope = this.#scope(writer, scopes, () => cells[columns.device], tags);
    const timeUs = columns.time < 0 ? NaN : this.#timeOf(cells[columns.time].trim());
    if (columns.metric >= 0) {
      this.#writeCell(writer, scopes, scope, cells[columns.metric], timeUs, cells[columns.value]);
      return;
    }
    for (const { index, name } of columns.values) {
      try {
        this.#writeCell(writer, scopes, scope, name, timeUs, cells[index]);
      } catch (error) {
        if (!isSluiceError(error)) throw error;
        writer.problem(error.code, error.message, scope.device, name, timeUs);
      }
    }
  }

  #writeCell(writer: ReadingWriter, scopes: SeriesScopes, scope: SeriesScope, name: string, timeUs: number, cell: string): void {
    if (cell.trim() === '') return; // not measured
    const text = this.#mapping.decimalComma && DECIMAL_COMMA.test(cell.trim()) ? cell.replace(',', '.') : cell;
    writeBareValue(writer, scope, scopes.child(scope.root, name), timeUs, text, null);
  }

  #scope(writer: ReadingWriter, scopes: SeriesScopes, named: () => string, tags: readonly [string, string][]): SeriesScope {
    const device = this.#mapping.device ?? named();
    if (device === '') throw new SluiceError('ERR_DECODE_DEVICE', 'the device is empty');
    writer.permit(device);
    return scopes.scope(device, tags.length === 0 ? '' : checkedTags(Object.fromEntries(tags)));
  }

  #timeOf(text: string): number {
    if (text === '') return NaN;
    return this.#time.read(this.#mapping.assumeUtc && text.includes(':') && !HAS_ZONE.test(text) ? `${text}Z` : text);
  }
}

function resolveColumns(mapping: RowMapping, names: readonly string[]): Columns {
  const { device, deviceColumn, timeColumn, metricColumn, valueColumn, valueColumns, tagColumns } = mapping;
  const find = (name: string, what: string): number => {
    const index = names.indexOf(name);
    if (index >= 0) return index;
    const known = names
      .slice(0, 20)
      .map((known_) => JSON.stringify(known_))
      .join(', ');
    throw new SluiceError(
      'ERR_DECODE_SHAPE',
      `there is no column ${JSON.stringify(name)} (${what}); the columns are ${known}`.slice(0, 1_000),
    );
  };
  if (names.length > ENTRY_FIELDS_MAX)
    throw new SluiceError('ERR_DECODE_TOO_MANY', `the table has ${names.length} columns, at most ${ENTRY_FIELDS_MAX} are allowed`);
  const deviceAt = device === null ? find(deviceColumn, 'deviceColumn; or name one device for all') : -1;
  const timeAt = timeColumn === null ? -1 : find(timeColumn, 'timeColumn; null: the time of reading the file');
  const tags = tagColumns.map((name) => ({ index: find(name, 'tagColumns'), name }));
  const shared = { count: names.length, device: deviceAt, time: timeAt, tags };
  if (metricColumn !== null) {
    return { ...shared, metric: find(metricColumn, 'metricColumn'), value: find(valueColumn, 'valueColumn'), values: [] };
  }
  const taken = new Set([deviceAt, timeAt, ...tags.map(({ index }) => index)]);
  const values =
    valueColumns === null
      ? names.map((name, index) => ({ index, name })).filter(({ index, name }) => !taken.has(index) && name !== '')
      : valueColumns.map((name) => ({ index: find(name, 'valueColumns'), name }));
  return { ...shared, metric: -1, value: -1, values };
}
