import { Readable } from 'node:stream';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parse } from 'csv-parse/sync';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { csvRecords, type CsvRecord, type Line } from './csv-records.ts';
import { openRows, type FileRow } from './rows.ts';

async function recordsOf(text: string, delimiter = ','): Promise<CsvRecord[]> {
  const lines = text.split('\n').map((line, index): Line => ({ text: line, line: index + 1 }));
  const records: CsvRecord[] = [];
  for await (const record of csvRecords(Readable.from(lines), delimiter)) records.push(record);
  return records;
}

async function rowsOf(name: string, content: string): Promise<FileRow[]> {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-rows-'));
  try {
    const file = path.join(directory, name);
    writeFileSync(file, content);
    const rows: FileRow[] = [];
    for await (const row of openRows(file, name.endsWith('csv') ? 'csv' : 'ndjson', ',', [], 'time').rows) rows.push(row);
    return rows;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

test('whatever a CSV writer writes is read as another parser reads it', async () => {
  const field = fc.string({ unit: fc.constantFrom('a', '"', ',', '\n', ' ', 'ü', ';') });
  const quote = (text: string): string => (/[",\n;]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(field, { minLength: 2, maxLength: 2 }), { minLength: 1, maxLength: 5 }), async (rows) => {
      // A line of blanks alone would be passed over.
      const text = rows.map((row) => ['x', ...row].map(quote).join(',')).join('\n');
      const expected = parse(text);
      expect((await recordsOf(text)).map((record) => ('fields' in record ? record.fields : record))).toEqual(expected);
    }),
  );
});

test('a quote that is not closed, or stands inside a field, costs its line and no other', async () => {
  const lines = Array.from({ length: 1_000 }, (_, index) => `${index},b`);
  lines[100] = '100,"oops';
  lines[500] = '500,a"b';
  lines[700] = '700,"x"y"';
  lines[999] = '999,"open';
  const records = await recordsOf(lines.join('\n'));
  expect(records.filter((record) => 'fault' in record)).toMatchObject([
    { line: 101, fault: 'a quote is not closed', text: '100,"oops' },
    { line: 501, fault: 'a quote is not closed' },
    { line: 701, fault: 'a quote is not closed' },
    { line: 1000, fault: 'a quote is not closed' },
  ]);
  expect(records).toHaveLength(1_000);
});

test('lines that a stray quote joins to a record of another shape are records of their own', async () => {
  const records = await recordsOf('a,b\n1,"2\n3,4\n5,6"\n7,8"9\n"10",11');
  expect(records.map((record) => ('fields' in record ? record.fields.join('|') : record.line))).toEqual([
    'a|b',
    '1|2\n3,4\n5,6',
    5,
    '10|11',
  ]);
  const crossed = await recordsOf('a,b\n1,"2\n3,4\n5,"6\n7,8');
  expect(crossed.map((record) => ('fields' in record ? record.fields.join('|') : record.line))).toEqual(['a|b', 2, '3|4', 4, '7|8']);
});

test('a row with more or fewer fields than the header is a fault; a byte-order mark and CRLF are not', async () => {
  expect(await rowsOf('a.csv', '\ufefftime,a\r\n1,2\r\n\r\n1,2,3\r\n4')).toEqual([
    { line: 2, row: { time: '1', a: '2' } },
    { line: 4, fault: 'it has 3 fields, the header 2', text: '1,2,3' },
    { line: 5, fault: 'it has 1 fields, the header 2', text: '4' },
  ]);
  await expect(rowsOf('a.csv', 'a,a\n1,2')).rejects.toThrow(/two columns have the name "a"/);
});

test('a line without end is a fault, and the next one is read', async () => {
  const rows = await rowsOf('a.ndjson', `{"a":1}\n{"a":"${'x'.repeat(3_000_000)}"}\n{"a":2}\n`);
  expect(rows).toMatchObject([
    { line: 1, row: { a: 1 } },
    { line: 2, fault: 'the line has 1000000 characters or more' },
    { line: 3, row: { a: 2 } },
  ]);
});
