/** The rows of a file, one after the other, with the line that each stands on. Memory is a record and the buffers of streams. */
import { createReadStream } from 'node:fs';
import { createGunzip } from 'node:zlib';
import { parse, type CsvError, type Info } from 'csv-parse';
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import { parquetRows } from '../query/parquet-rows.ts';
import type { Row } from './mapping.ts';

export const FORMATS = ['csv', 'ndjson', 'parquet'] as const;
export type Format = (typeof FORMATS)[number];

/** A longer record is not one of readings. */
const RECORD_BYTES_MAX = 1_000_000;

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
  const faults: FileRow[] = [];
  const parser = parse({
    columns: true,
    info: true,
    bom: true,
    delimiter,
    skip_empty_lines: true,
    skip_records_with_error: true,
    max_record_size: RECORD_BYTES_MAX,
    on_skip: (error: CsvError | undefined, text: string | undefined) => {
      faults.push({ line: Number(error?.['lines'] ?? 0), fault: error?.message ?? 'not a record', text: text ?? '' });
    },
  });
  bytes.on('error', (error) => parser.destroy(error));
  bytes.pipe(parser);
  for await (const { info, record } of parser as AsyncIterable<{ info: Info; record: Record<string, string> }>) {
    yield* faults.splice(0);
    yield { line: info.lines, row: record };
  }
  yield* faults;
}

async function* ndjsonRows(bytes: NodeJS.ReadableStream): AsyncGenerator<FileRow> {
  const decoder = new TextDecoder();
  let rest = '';
  let line = 0;
  let isTooLong = false;
  const rowOf = (text: string): FileRow | null => {
    line++;
    const wasTooLong = isTooLong;
    isTooLong = false;
    if (wasTooLong || text.length > RECORD_BYTES_MAX)
      return { line, fault: `the line is longer than ${RECORD_BYTES_MAX} characters`, text: text.slice(0, 200) };
    return text.trim() === '' ? null : parseLine(text, line);
  };
  for await (const chunk of bytes as AsyncIterable<Buffer>) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    for (const text of lines) {
      const row = rowOf(text);
      if (row !== null) yield row;
    }
    if (rest.length > RECORD_BYTES_MAX) {
      isTooLong = true;
      rest = '';
    }
  }
  const last = rest === '' && !isTooLong ? null : rowOf(rest);
  if (last !== null) yield last;
}

function parseLine(text: string, line: number): FileRow {
  try {
    const value = JSON.parse(text) as unknown;
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { line, row: value as Row };
    return { line, fault: 'the line is not a JSON object', text };
  } catch (error) {
    return { line, fault: errorMessage(error), text };
  }
}
