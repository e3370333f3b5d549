/**
 * Files of rows, in pieces: lines, CSV records that may span lines, and never more in memory than a piece.
 *
 * A record whose quote is never closed would swallow the rest of the file in any CSV parser; here its first line is damaged
 * and reading goes on at the next one, so that one bad byte costs one row.
 */
import { parse } from 'csv-parse/sync';
import type { TableRow } from '../decode/table-rows.ts';

/** Longer lines are damaged: no row of telemetry has so much. */
const LINE_BYTES_MAX = 1024 * 1024;
/** Lines of one CSV record (a text with line breaks). */
const RECORD_LINES_MAX = 100;
/** Of a piece: about 2 ms of parsing on a thread that owns sockets. */
const PIECE_ROWS_MAX = 1_000;
const PIECE_CELLS_MAX = 8_192;
const PIECE_CHARS_MAX = 64 * 1024;

const NEWLINE = 10;

interface Line {
  /** null: longer than LINE_BYTES_MAX. */
  readonly text: string | null;
  readonly line: number;
}

export type TextEncoding = 'utf8' | 'latin1';

/** Lines of one chunk after the other, without their ends. */
async function* linesOf(chunks: AsyncIterable<Buffer>, encoding: TextEncoding): AsyncGenerator<Line[]> {
  let rest: Buffer[] = [];
  let restBytes = 0;
  let tooLong = false;
  let line = 0;
  const take = (end: Buffer): Line => {
    const bytes = rest.length === 0 ? end : Buffer.concat([...rest, end]);
    const long = tooLong || bytes.length > LINE_BYTES_MAX;
    rest = [];
    restBytes = 0;
    tooLong = false;
    line++;
    let text = long ? null : bytes.toString(encoding);
    if (text?.endsWith('\r') === true) text = text.slice(0, -1);
    if (line === 1 && text?.startsWith('\ufeff') === true) text = text.slice(1); // the mark of a UTF-8 file
    return { text, line };
  };
  for await (const chunk of chunks) {
    const lines: Line[] = [];
    let at = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, at)) {
      lines.push(take(chunk.subarray(at, end)));
      at = end + 1;
    }
    restBytes += chunk.length - at;
    if (restBytes > LINE_BYTES_MAX) {
      tooLong = true;
      rest = [];
    } else if (at < chunk.length) rest.push(Buffer.from(chunk.subarray(at)));
    if (lines.length > 0) yield lines;
  }
  if (restBytes > 0) yield [take(Buffer.alloc(0))];
}

function countQuotes(text: string): number {
  let count = 0;
  for (let at = text.indexOf('"'); at >= 0; at = text.indexOf('"', at + 1)) count++;
  return count;
}

interface CsvRecord {
  /** null: damaged. */
  readonly text: string | null;
  readonly line: number;
  readonly fault: string | null;
}

/** Joins lines to records: a record ends where its quotes are even. */
class RecordJoiner {
  #open: Line[] = [];
  #quotes = 0;

  push(line: Line, out: CsvRecord[]): void {
    if (line.text === null) {
      this.end(out);
      out.push({ text: null, line: line.line, fault: `the line has more than ${LINE_BYTES_MAX} bytes` });
      return;
    }
    if (this.#open.length === 0 && line.text.trim() === '') return;
    this.#open.push(line);
    this.#quotes += countQuotes(line.text);
    if (this.#quotes % 2 === 0) {
      out.push({ text: this.#open.map(({ text }) => text).join('\n'), line: line.line, fault: null });
      this.#open = [];
      this.#quotes = 0;
    } else if (this.#open.length >= RECORD_LINES_MAX) this.#giveUp(out);
  }

  end(out: CsvRecord[]): void {
    while (this.#open.length > 0) this.#giveUp(out);
  }

  /** The first line is damaged; the others are looked at again. */
  #giveUp(out: CsvRecord[]): void {
    const [first, ...others] = this.#open;
    this.#open = [];
    this.#quotes = 0;
    out.push({ text: null, line: first.line, fault: 'a quote is never closed' });
    for (const line of others) this.push(line, out);
  }
}

function parseRecords(records: readonly CsvRecord[], delimiter: string): TableRow[] {
  const options = { delimiter, relax_column_count: true, relax_quotes: false, skip_empty_lines: false } as const;
  const good = records.filter(({ text }) => text !== null);
  let cells: string[][] | null;
  try {
    cells = parse(good.map(({ text }) => text).join('\n'), options);
  } catch {
    cells = null; // one of them is damaged: each by itself says which
  }
  if (cells?.length === good.length) {
    let next = 0;
    const parsed = cells;
    return records.map(({ text, line, fault }) => ({ line, cells: text === null ? null : parsed[next++], fault }));
  }
  return records.map(({ text, line, fault }) => {
    if (text === null) return { line, cells: null, fault };
    try {
      const [row] = parse(text, options);
      return { line, cells: row ?? null, fault: row === undefined ? 'not a record' : null };
    } catch (error) {
      return { line, cells: null, fault: error instanceof Error ? error.message.slice(0, 200) : 'damaged' };
    }
  });
}

export interface ReadOptions {
  readonly format: 'csv' | 'ndjson';
  readonly delimiter: string;
  readonly encoding: TextEncoding;
}

/** Rows in the order of the file, in pieces that are decoded in about 2 ms. Blank lines are none. */
export async function* readRows(chunks: AsyncIterable<Buffer>, { format, delimiter, encoding }: ReadOptions): AsyncGenerator<TableRow[]> {
  const joiner = new RecordJoiner();
  let records: CsvRecord[] = [];
  let chars = 0;
  const flush = (): TableRow[] => {
    const rows =
      format === 'csv' ? parseRecords(records, delimiter) : records.map(({ text, line, fault }) => ({ line, cells: text, fault }));
    records = [];
    chars = 0;
    return rows;
  };
  const push = (line: Line): void => {
    const before = records.length;
    if (format === 'csv') joiner.push(line, records);
    else if (line.text === null) records.push({ ...line, fault: `the line has more than ${LINE_BYTES_MAX} bytes` });
    else if (line.text.trim() !== '') records.push({ ...line, fault: null });
    for (let index = before; index < records.length; index++) chars += records[index].text?.length ?? 0;
  };
  for await (const lines of linesOf(chunks, encoding)) {
    for (const line of lines) {
      push(line);
      if (records.length >= PIECE_ROWS_MAX || chars >= PIECE_CHARS_MAX) yield* cut(flush());
    }
  }
  joiner.end(records);
  if (records.length > 0) yield* cut(flush());
}

/** Wide tables get smaller pieces: what counts is the number of cells. */
function* cut(rows: TableRow[]): Generator<TableRow[]> {
  let from = 0;
  let cells = 0;
  for (let index = 0; index < rows.length; index++) {
    const width = Array.isArray(rows[index].cells) ? (rows[index].cells as string[]).length : 8;
    if (cells > 0 && cells + width > PIECE_CELLS_MAX) {
      yield rows.slice(from, index);
      from = index;
      cells = 0;
    }
    cells += width;
  }
  yield from === 0 ? rows : rows.slice(from);
}
