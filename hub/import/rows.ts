/** The rows of a file, one after the other, with the line that each stands on. Memory is a record and the buffers of streams. */
import { createReadStream, type ReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
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
  const { raw, bytes } = openBytes(file);
  const chunks = readable(file, bytes);
  const rows = format === 'csv' ? csvRows(chunks, delimiter) : ndjsonRows(chunks);
  return { rows, bytesRead: () => raw.bytesRead };
}

function openBytes(file: string): { readonly raw: ReadStream; readonly bytes: Readable } {
  const raw = createReadStream(file, { highWaterMark: 256 * 1024 });
  if (!file.endsWith('.gz')) return { raw, bytes: raw };
  const bytes = raw.pipe(createGunzip());
  // A stream that is piped does not hand its error on.
  raw.on('error', (error) => bytes.destroy(error));
  return { raw, bytes };
}

async function* readable(file: string, bytes: Readable): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of bytes) yield chunk as Buffer;
  } catch (cause) {
    throw new SluiceError('ERR_IMPORT_FILE', `${file} cannot be read to its end: ${errorMessage(cause)}`, { cause });
  }
}

/**
 * Is a compressed file whole? One that is cut would bring its beginning, and once more with the whole file, which is another content.
 *
 * @throws SluiceError ERR_IMPORT_FILE
 */
export async function checkWhole(file: string): Promise<void> {
  if (!file.endsWith('.gz')) return;
  const chunks = readable(file, openBytes(file).bytes);
  while ((await chunks.next()).done !== true);
}

async function* csvRows(bytes: AsyncIterable<Buffer>, delimiter: string): AsyncGenerator<FileRow> {
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
async function* linesOf(bytes: AsyncIterable<Buffer>): AsyncGenerator<Line> {
  const decoder = new TextDecoder();
  let rest = '';
  let line = 0;
  for await (const chunk of bytes) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = (lines.pop() ?? '').slice(0, LINE_CHARACTERS_MAX);
    for (const text of lines) yield { line: ++line, text: (text.endsWith('\r') ? text.slice(0, -1) : text).slice(0, LINE_CHARACTERS_MAX) };
  }
  rest += decoder.decode();
  if (rest !== '') yield { line: ++line, text: rest };
}

async function* ndjsonRows(bytes: AsyncIterable<Buffer>): AsyncGenerator<FileRow> {
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
