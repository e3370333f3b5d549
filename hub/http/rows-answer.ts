/**
 * Answers that are lists of rows: JSON `{…head, rows: […], …tail, next_cursor}`, NDJSON, CSV, Arrow IPC or Parquet.
 *
 * A page of 10,000 rows is megabytes of text: it is made slice by slice with a turn of the event loop in between, since
 * the thread owns the uplinks' sockets as well. Arrow and Parquet are put together from slices of rows, then encoded
 * column by column.
 *
 * Pages are tagged (ETag) by what they were made from; whoever shows the tag again gets a 304.
 */
import { hash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { z } from '@hono/zod-openapi';
import { arrowSteps, FORMAT_TYPES, parquetSteps, type ColumnType, type ResultColumn } from '../query/result-formats.ts';
import type { AnswerFormat } from '../query/sql-api.ts';
import { csvField } from '../query/csv.ts';
import { parseTime } from './times.ts';
import { WARNING_HEADER, warningText, type Warnings } from './warnings.ts';

/** About 2 ms of JSON. */
export const SLICE_ROWS = 256;

export interface RowColumn {
  readonly name: string;
  readonly type: ColumnType;
}

export interface RowsAnswer<T> {
  readonly format: AnswerFormat;
  /** Members before `rows`. */
  readonly head: Readonly<Record<string, unknown>>;
  readonly rows: readonly T[];
  /** One row as its answer has it, with its members in the order of `columns`. */
  readonly render: (row: T) => Readonly<Record<string, unknown>>;
  /** Of the forms that have columns; Arrow and Parquet have their types. */
  readonly columns: readonly RowColumn[];
  readonly tail?: Readonly<Record<string, unknown>>;
  readonly nextCursor: string | null;
  /** Of the forms by line: the rows behind these, page by page, while a slow reader wants them; null: that was all. */
  readonly more?: () => Promise<readonly T[] | null>;
  /** Everything that the rows were made from; absent: the answer has no tag. */
  readonly version?: unknown;
  /** What is missing from the rows. */
  readonly warnings?: Warnings;
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

function* lineSlices<T>({ rows, render, columns, format }: RowsAnswer<T>, isFirst = true): Generator<string> {
  const names = columns.map(({ name }) => name);
  if (format === 'csv' && isFirst) yield `${names.map(csvField).join(',')}\r\n`;
  const line = (fields: Readonly<Record<string, unknown>>): string =>
    format === 'csv' ? `${names.map((name) => csvField(fields[name])).join(',')}\r\n` : `${JSON.stringify(fields)}\n`;
  for (let from = 0; from < rows.length; from += SLICE_ROWS) {
    yield rows
      .slice(from, from + SLICE_ROWS)
      .map((row) => line(render(row)))
      .join('');
  }
}

/** One chunk, after as many empty ones as there are slices of work. */
function* binarySlices<T>({ rows, render, columns, format }: RowsAnswer<T>): Generator<Uint8Array | ''> {
  const values: unknown[][] = columns.map(() => []);
  for (let from = 0; from < rows.length; from += SLICE_ROWS) {
    for (const row of rows.slice(from, from + SLICE_ROWS)) {
      const fields = render(row);
      columns.forEach(({ name, type }, index) =>
        values[index].push(type === 'timestamp' ? microsOf(fields[name]) : (fields[name] ?? null)),
      );
    }
    yield '';
  }
  const table = { rowCount: rows.length, columns: columns.map((column, index): ResultColumn => ({ ...column, values: values[index] })) };
  const steps = format === 'arrow' ? arrowSteps(table) : parquetSteps(table);
  for (;;) {
    const step = steps.next();
    yield step.done === true ? step.value : '';
    if (step.done === true) return;
  }
}

function microsOf(text: unknown): number | null {
  const time = typeof text === 'string' ? parseTime(text) : null;
  return time?.kind === 'absolute' ? time.us : null;
}

function slicesOf<T>(answer: RowsAnswer<T>): Generator<string | Uint8Array> {
  if (answer.format === 'json') return jsonSlices(answer);
  return answer.format === 'csv' || answer.format === 'ndjson' ? lineSlices(answer) : binarySlices(answer);
}

function streamOf<T>(answer: RowsAnswer<T>): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let slices = slicesOf(answer);
  return new ReadableStream({
    async pull(controller) {
      for (;;) {
        // Promises alone would never let the event loop turn while the reader is fast.
        await nextTurn();
        const { value, done } = slices.next();
        if (done === true) {
          const rows = (await answer.more?.()) ?? null;
          if (rows === null) {
            controller.close();
            return;
          }
          slices = lineSlices({ ...answer, rows }, false);
          continue;
        }
        if (value.length === 0) continue;
        controller.enqueue(typeof value === 'string' ? encoder.encode(value) : value);
        return;
      }
    },
  });
}

/** What of a request an answer depends on. */
export interface RowsRequest {
  readonly url: string;
  header(name: string): string | undefined;
}

/** Both, since `compress` would add the second by making the response anew. */
export const ROWS_VARY = 'Accept, Accept-Encoding';
/** Kept by the caller, and asked about every time: it is the data of whoever has the token. */
export const ROWS_CACHE_CONTROL = 'private, no-cache';

/** Weak: compressed or not it is the same answer. @param search of the URL */
export function entityTag(version: unknown, format: AnswerFormat, search: string): string {
  return `W/"${hash('sha256', JSON.stringify([version, format, search]), 'base64url').slice(0, 22)}"`;
}

export function isKnown(tag: string, ifNoneMatch: string | undefined): boolean {
  const known = (ifNoneMatch ?? '')
    .slice(0, 4_000)
    .split(',')
    .map((text) => text.trim());
  return known.includes(tag) || known.includes('*');
}

export function notModified(tag: string): Response {
  return new Response(null, { status: 304, headers: { etag: tag, 'cache-control': ROWS_CACHE_CONTROL, vary: ROWS_VARY } });
}

/** What the headers of an answer are made from. */
type Described = Pick<RowsAnswer<unknown>, 'format' | 'nextCursor' | 'version' | 'warnings'>;

/** @param makeBody called unless the caller has the answer already */
function describedResponse(
  { format, nextCursor, version, warnings = {} }: Described,
  request: RowsRequest,
  makeBody: () => string | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>,
): Response {
  const tag = version === undefined ? null : entityTag(version, format, new URL(request.url).search);
  if (tag !== null && isKnown(tag, request.header('if-none-match'))) return notModified(tag);
  const headers: Record<string, string> = { 'content-type': FORMAT_TYPES[format], vary: ROWS_VARY };
  if (tag !== null) headers['etag'] = tag;
  const warning = warningText(warnings);
  if (warning !== null) headers[WARNING_HEADER] = warning;
  headers['cache-control'] = tag === null ? 'no-store' : ROWS_CACHE_CONTROL;
  if (nextCursor !== null) {
    const next = new URL(request.url);
    next.searchParams.set('cursor', nextCursor);
    // Forms without a place for the cursor have it here (RFC 8288), relative, so that it holds behind a proxy with a
    // path of its own.
    headers['link'] = `<${next.search}>; rel="next"`;
  }
  return new Response(makeBody(), { headers });
}

export function rowsResponse<T>(answer: RowsAnswer<T>, request: RowsRequest): Response {
  const isText = answer.format === 'json' || answer.format === 'csv' || answer.format === 'ndjson';
  const isSmall = isText && answer.rows.length <= SLICE_ROWS && answer.more === undefined;
  return describedResponse(answer, request, () => (isSmall ? [...slicesOf(answer)].join('') : streamOf(answer)));
}

/** A JSON answer that another thread has made. @param parts the document */
export function documentResponse(
  answer: { readonly parts: readonly Uint8Array[]; readonly nextCursor: string | null; readonly version: unknown },
  request: RowsRequest,
): Response {
  return describedResponse({ ...answer, format: 'json' }, request, () => Buffer.concat(answer.parts));
}

/** Lists without pages: JSON as their schema has it, the other forms with the rows alone. */
export function wholeAnswer(
  body: { readonly rows: readonly Readonly<Record<string, unknown>>[]; readonly [member: string]: unknown },
  columns: readonly RowColumn[],
  format: AnswerFormat,
  request: RowsRequest,
): Response {
  if (format === 'json') return Response.json(body, { headers: { vary: 'Accept', 'cache-control': 'no-store' } });
  return rowsResponse({ format, head: {}, rows: body.rows, render: (row) => row, columns, nextCursor: null }, request);
}

/** What a 200 of a list may be. @param json schema of the JSON form */
export function rowsContent(json: z.ZodType) {
  const binary = z.string().openapi({ format: 'binary' });
  return {
    'application/json': { schema: json },
    'application/x-ndjson': { schema: z.string() },
    'text/csv': { schema: z.string() },
    'application/vnd.apache.arrow.stream': { schema: binary },
    'application/vnd.apache.parquet': { schema: binary },
  };
}

/** The columns of a row's schema: times are timestamps, numbers numbers, what is nested is JSON. */
export function columnsOf(schema: { readonly shape: Readonly<Record<string, z.ZodType>> }): RowColumn[] {
  return Object.entries(schema.shape).map(([name, member]) => ({ name, type: columnType(member) }));
}

function columnType(member: z.ZodType): ColumnType {
  if (member === timeSchema) return 'timestamp';
  if (member instanceof z.ZodNullable || member instanceof z.ZodOptional) return columnType(member.unwrap() as z.ZodType);
  if (member instanceof z.ZodBoolean) return 'boolean';
  if (!(member instanceof z.ZodNumber)) return 'text';
  return member.format === 'safeint' ? 'long' : 'double';
}

export const nextCursorSchema = z.string().nullable().openapi({ description: 'cursor= of the next page; null: this was the last one' });
export const timeSchema = z.string().openapi({ format: 'date-time' });
export const unreadableFilesSchema = z
  .int()
  .openapi({ description: 'Files of the range that are damaged or gone: their rows are missing from the answer; 0 in a healthy lake' });
export const tagsSchema = z.record(z.string(), z.string()).nullable();

export function tagsOf(canonical: string | null): Record<string, string> | null {
  return canonical === null || canonical === '' ? null : (JSON.parse(canonical) as Record<string, string>);
}
