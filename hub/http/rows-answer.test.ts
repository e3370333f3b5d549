import fc from 'fast-check';
import { expect, test } from 'vitest';
import { tableFromIPC } from 'apache-arrow';
import { z } from '@hono/zod-openapi';
import { readParquetRows } from '../lake/parquet/read.ts';
import { csvField } from '../query/csv.ts';
import { answerFormat } from './answer-format.ts';
import { columnsOf, rowsResponse, timeSchema, type RowsRequest } from './rows-answer.ts';

function asked(url: string, headers: Record<string, string> = {}): RowsRequest {
  return { url, header: (name) => headers[name] };
}

function parseCsv(text: string): (string | null)[][] {
  const rows: (string | null)[][] = [];
  let row: (string | null)[] = [];
  let at = 0;
  while (at < text.length) {
    let field: string | null;
    if (text[at] === '"') {
      const match = /"((?:[^"]|"")*)"/y;
      match.lastIndex = at;
      const [whole, inner] = match.exec(text) as unknown as [string, string];
      field = inner.replaceAll('""', '"');
      at += whole.length;
    } else {
      const end = text.slice(at).search(/[,\r]/);
      field = text.slice(at, at + end);
      at += end;
      if (field === '') field = null;
    }
    row.push(field);
    if (text[at] === ',') at++;
    else {
      at += 2;
      rows.push(row);
      row = [];
    }
  }
  return rows;
}

test('CSV reads back what was written, null and the empty text told apart', async () => {
  const field = fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom(null, '', ' a ', '"', 'a,b', 'a\r\nb', '=1+1'));
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(field, field), { maxLength: 300 }), async (rows) => {
      const response = rowsResponse(
        {
          format: 'csv',
          head: {},
          rows,
          render: ([a, b]) => ({ a, b }),
          columns: [
            { name: 'a', type: 'text' },
            { name: 'b', type: 'text' },
          ],
          nextCursor: null,
        },
        asked('http://localhost/'),
      );
      expect(parseCsv(await response.text())).toEqual([['a', 'b'], ...rows]);
    }),
    { numRuns: 20 },
  );
});

test.each([0, 1, 255, 256, 257, 1_000])('JSON of %i rows is one document, in slices or not', async (count) => {
  const rows = Array.from({ length: count }, (_, index) => ({ index }));
  const answer = {
    format: 'json',
    head: { window: '1m' },
    rows,
    render: (row: { index: number }) => row,
    columns: [],
    tail: { waiting_for: [] },
    nextCursor: 'next',
  } as const;
  const response = rowsResponse(answer, asked('http://localhost/v1/x?limit=5&cursor=before'));
  expect(await response.json()).toEqual({ window: '1m', rows, waiting_for: [], next_cursor: 'next' });
  expect(response.headers.get('link')).toBe('<?limit=5&cursor=next>; rel="next"');
});

test('an object in a CSV is JSON', () => {
  expect(csvField({ site: 'a' })).toBe('"{""site"":""a""}"');
});

test('format= decides, then the Accept header', () => {
  expect(answerFormat('json', 'text/csv')).toBe('json');
  expect(answerFormat(undefined, 'text/csv')).toBe('csv');
  expect(answerFormat(undefined, 'text/csv, application/json')).toBe('json');
  expect(answerFormat(undefined, '*/*')).toBe('json');
  expect(answerFormat(undefined, undefined)).toBe('json');
});

test('Arrow and Parquet have the rows with types, and a page is known by its tag', async () => {
  const schema = z.object({
    ts: timeSchema,
    name: z.string().nullable(),
    count: z.int(),
    value: z.number().nullable(),
    whole: z.boolean(),
  });
  const rows = Array.from({ length: 600 }, (_, index) => ({
    ts: '2026-11-22T12:00:00.000001Z',
    name: index === 0 ? null : `n${index % 7}`,
    count: index,
    value: index === 1 ? null : index / 2,
    whole: index % 2 === 0,
  }));
  const answer = {
    head: {},
    rows,
    render: (row: (typeof rows)[number]) => row,
    columns: columnsOf(schema),
    nextCursor: null,
    version: 7,
  } as const;
  const arrow = tableFromIPC(new Uint8Array(await rowsResponse({ ...answer, format: 'arrow' }, asked('http://localhost/')).arrayBuffer()));
  expect(arrow.schema.fields.map(({ type }) => String(type))).toEqual(['Timestamp<MICROSECOND, UTC>', 'Utf8', 'Int64', 'Float64', 'Bool']);
  expect(arrow.toArray().map((row) => ({ ...row.toJSON(), ts: null, count: Number(row['count']) }))).toEqual(
    rows.map((row) => ({ ...row, ts: null })),
  );
  const parquet = await readParquetRows(
    new Uint8Array(await rowsResponse({ ...answer, format: 'parquet' }, asked('http://localhost/')).arrayBuffer()),
  );
  expect(parquet).toEqual(rows.map((row) => ({ ...row, ts: Date.UTC(2026, 10, 22, 12) * 1000 + 1 })));
  const first = rowsResponse({ ...answer, format: 'json' }, asked('http://localhost/'));
  const tag = first.headers.get('etag') ?? '';
  expect(rowsResponse({ ...answer, format: 'json' }, asked('http://localhost/', { 'if-none-match': `"x", ${tag}` })).status).toBe(304);
  expect(rowsResponse({ ...answer, format: 'csv' }, asked('http://localhost/', { 'if-none-match': tag })).status).toBe(200);
  expect(rowsResponse({ ...answer, format: 'json', version: 8 }, asked('http://localhost/', { 'if-none-match': tag })).status).toBe(200);
});

test('lines are streamed page by page, with one header', async () => {
  const pages = [[{ a: 2 }], [{ a: 3 }]];
  const answer = {
    head: {},
    rows: [{ a: 1 }],
    render: (row: { a: number }) => row,
    columns: [{ name: 'a', type: 'long' }],
    nextCursor: null,
  } as const;
  const more = async () => pages.shift() ?? null;
  expect(await rowsResponse({ ...answer, format: 'csv', more }, asked('http://localhost/')).text()).toBe('a\r\n1\r\n2\r\n3\r\n');
  pages.push([{ a: 2 }]);
  expect(await rowsResponse({ ...answer, format: 'ndjson', more }, asked('http://localhost/')).text()).toBe('{"a":1}\n{"a":2}\n');
});
