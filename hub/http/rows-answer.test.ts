import fc from 'fast-check';
import { expect, test } from 'vitest';
import { answerFormat, csvField, rowsResponse } from './rows-answer.ts';

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
        { format: 'csv', head: {}, rows, render: ([a, b]) => ({ a, b }), columns: ['a', 'b'], nextCursor: null },
        'http://localhost/',
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
  const response = rowsResponse(answer, 'http://localhost/v1/x?limit=5&cursor=before');
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
