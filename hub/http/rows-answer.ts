/**
 * Answers that are lists of rows: JSON `{…head, rows: […], …tail, next_cursor}` or CSV, written in slices.
 *
 * A page of 10,000 rows is megabytes of text: it is made slice by slice with a turn of the event loop in between, since
 * the thread owns the uplinks' sockets as well.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { z } from '@hono/zod-openapi';

/** About 2 ms of JSON. */
const SLICE_ROWS = 256;

export interface RowsAnswer<T> {
  readonly format: 'json' | 'csv';
  /** Members before `rows`. */
  readonly head: Readonly<Record<string, unknown>>;
  readonly rows: readonly T[];
  /** One row as its answer has it, with its members in the order of `columns`. */
  readonly render: (row: T) => Readonly<Record<string, unknown>>;
  /** Columns of the CSV. */
  readonly columns: readonly string[];
  readonly tail?: Readonly<Record<string, unknown>>;
  readonly nextCursor: string | null;
}

/** RFC 4180; null is an empty field, an object (tags) is JSON. */
export function csvField(value: unknown): string {
  if (value === null || value === undefined) return '';
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  // An empty text is quoted: unquoted it would be null.
  return text === '' || /[",\r\n]/.test(text) || text !== text.trim() ? `"${text.replaceAll('"', '""')}"` : text;
}

function membersOf(object: Readonly<Record<string, unknown>>): string {
  return JSON.stringify(object).slice(1, -1);
}

function* jsonSlices<T>({ head, rows, render, tail = {}, nextCursor }: RowsAnswer<T>): Generator<string> {
  const before = membersOf(head);
  let text = `{${before}${before === '' ? '' : ','}"rows":[`;
  for (let from = 0; from < rows.length; from += SLICE_ROWS) {
    const slice = rows.slice(from, from + SLICE_ROWS).map((row) => JSON.stringify(render(row)));
    yield `${text}${from === 0 ? '' : ','}${slice.join(',')}`;
    text = '';
  }
  yield `${text}],${membersOf({ ...tail, next_cursor: nextCursor })}}`;
}

function* csvSlices<T>({ rows, render, columns }: RowsAnswer<T>): Generator<string> {
  yield `${columns.map(csvField).join(',')}\r\n`;
  for (let from = 0; from < rows.length; from += SLICE_ROWS) {
    yield rows
      .slice(from, from + SLICE_ROWS)
      .map((row) => {
        const fields = render(row);
        return `${columns.map((column) => csvField(fields[column])).join(',')}\r\n`;
      })
      .join('');
  }
}

function streamOf(slices: Iterator<string>): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream({
    async pull(controller) {
      // Promises alone would never let the event loop turn while the reader is fast.
      await nextTurn();
      const { value, done } = slices.next();
      if (done === true) controller.close();
      else controller.enqueue(encoder.encode(value));
    },
  });
}

export function rowsResponse<T>(answer: RowsAnswer<T>, url: string): Response {
  const isCsv = answer.format === 'csv';
  const slices = isCsv ? csvSlices(answer) : jsonSlices(answer);
  const headers = new Headers({
    'content-type': isCsv ? 'text/csv; charset=utf-8; header=present' : 'application/json',
    'cache-control': 'no-store',
    vary: 'Accept',
  });
  if (answer.nextCursor !== null) {
    const next = new URL(url);
    next.searchParams.set('cursor', answer.nextCursor);
    // A CSV has no place for the cursor: it is here, in both forms (RFC 8288), relative, so that it
    // holds behind a proxy with a path of its own.
    headers.set('link', `<${next.search}>; rel="next"`);
  }
  return new Response(answer.rows.length <= SLICE_ROWS ? [...slices].join('') : streamOf(slices), { headers });
}

/** `format` decides, then whether the Accept header asks for CSV and not for JSON. */
export function answerFormat(format: 'json' | 'csv' | undefined, accept: string | undefined): 'json' | 'csv' {
  if (format !== undefined) return format;
  return accept !== undefined && /\btext\/csv\b/i.test(accept) && !/\bapplication\/json\b/i.test(accept) ? 'csv' : 'json';
}

export const nextCursorSchema = z.string().nullable().openapi({ description: 'cursor= of the next page; null: this was the last one' });
export const unreadableFilesSchema = z
  .int()
  .openapi({ description: 'Files of the range that are damaged or gone: their rows are missing from the answer; 0 in a healthy lake' });
export const timeSchema = z.string().openapi({ format: 'date-time' });
export const tagsSchema = z.record(z.string(), z.string()).nullable();

export function tagsOf(canonical: string | null): Record<string, string> | null {
  return canonical === null || canonical === '' ? null : (JSON.parse(canonical) as Record<string, string>);
}
