/** The rows of a file, one after the other, with the line that each stands on. Memory is a record and the buffers of streams. */
import { createReadStream } from 'node:fs';
import { createGunzip } from 'node:zlib';
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import { parquetRows } from '../query/parquet-rows.ts';
import { csvRecords, type Line } from './csv-records.ts';
import type { Row } from './mapping.ts';

export const FORMATS = ['csv', 'ndjson', 'parquet'] as const;
export type Format = (typeof FORMATS)[number];

/** A longer line is not one of readings. */
const LINE_CHARACTERS_MAX = 1_000_000;

export type FileRow =
  | { readonly line: number; readonly row: Row }
  /** A line that is none of its format. */
  | { readonly line: number; readonly fault: string; readonly text: string };

export interface RowSource {
  readonly rows: AsyncIterable<FileRow>;
  /** Bytes of the file that are read; null: the format does not tell. */
  bytesRead(): number | null;
}

/** @throws SluiceError ERR_IMPORT_FILE */
export function formatOf(file: string, asked: string | undefined): Format {
  const extension = /\.([a-z]+)(?:\.gz)?$/i.exec(file)?.[1]?.toLowerCase();
  const name = asked ?? (extension === 'jsonl' || extension === 'json' ? 'ndjson' : extension);
  if (name !== undefined && (FORMATS as readonly string[]).includes(name)) return name as Format;
  throw new SluiceError(
    'ERR_IMPORT_FILE',
    `${file}: the format ${JSON.stringify(name ?? '')} is none of ${FORMATS.join(', ')}; say --format`,
  );
}

export function openRows(file: string, format: Format, delimiter: string, columns: readonly string[], timeColumn: string): RowSource {
  if (format === 'parquet') return { rows: parquetRows(file, columns, timeColumn), bytesRead: () => null };
  const raw = createReadStream(file, { highWaterMark: 256 * 1024 });
  const bytes = file.endsWith('.gz') ? raw.pipe(createGunzip()) : raw;
  // A stream that is piped does not hand its error on.
  if (bytes !== raw) raw.on('error', (error) => bytes.destroy(error));
  const rows = format === 'csv' ? csvRows(bytes, delimiter) : ndjsonRows(bytes);
  return { rows, bytesRead: () => raw.bytesRead };
}

async function* csvRows(bytes: NodeJS.ReadableStream, delimiter: string): AsyncGenerator<FileRow> {
  let header: readonly string[] | null = null;
  for await (const record of csvRecords(linesOf(bytes), delimiter)) {
    if ('fault' in record) yield record;
    else if (header === null) header = headerOf(record.fields);
    else yield rowOf(record.line, header, record.fields);
  }
}

function headerOf(fields: readonly string[]): readonly string[] {
  const names = fields.map((name) => name.trim());
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new SluiceError('ERR_IMPORT_MAPPING', `two columns have the name ${JSON.stringify(twice)}`);
  return names;
}

function rowOf(line: number, header: readonly string[], fields: readonly string[]): FileRow {
  if (fields.length !== header.length)
    return { line, fault: `it has ${fields.length} fields, the header ${header.length}`, text: fields.join(',') };
  const row: Record<string, string> = {};
  header.forEach((name, index) => {
    row[name] = fields[index];
  });
  return { line, row };
}

/** A line that is too long comes as what of it fits, and as its own fault: an open quote, or JSON that breaks off. */
async function* linesOf(bytes: NodeJS.ReadableStream): AsyncGenerator<Line> {
  const decoder = new TextDecoder();
  let rest = '';
  let line = 0;
  for await (const chunk of bytes as AsyncIterable<Buffer>) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = (lines.pop() ?? '').slice(0, LINE_CHARACTERS_MAX);
    for (const text of lines) yield { line: ++line, text: (text.endsWith('\r') ? text.slice(0, -1) : text).slice(0, LINE_CHARACTERS_MAX) };
  }
  rest += decoder.decode();
  if (rest !== '') yield { line: ++line, text: rest };
}

async function* ndjsonRows(bytes: NodeJS.ReadableStream): AsyncGenerator<FileRow> {
  for await (const { line, text } of linesOf(bytes)) if (text.trim() !== '') yield parseLine(text, line);
}

function parseLine(text: string, line: number): FileRow {
  if (text.length >= LINE_CHARACTERS_MAX)
    return { line, fault: `the line has ${LINE_CHARACTERS_MAX} characters or more`, text: text.slice(0, 200) };
  try {
    const value = JSON.parse(text) as unknown;
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { line, row: value as Row };
    return { line, fault: 'the line is not a JSON object', text };
  } catch (error) {
    return { line, fault: errorMessage(error), text };
  }
}
