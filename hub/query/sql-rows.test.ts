import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DuckDBInstance, type DuckDBConnection } from '@duckdb/node-api';
import { DataType, tableFromIPC } from 'apache-arrow';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { AnswerFormat } from './sql-api.ts';
import { renderResult } from './sql-rows.ts';

let connection: DuckDBConnection;
const directory = mkdtempSync(path.join(tmpdir(), 'sluice-rows-'));
beforeAll(async () => {
  connection = await (await DuckDBInstance.create(':memory:')).connect();
});
afterAll(() => {
  connection.closeSync();
  rmSync(directory, { recursive: true });
});

async function render(sql: string, format: AnswerFormat): Promise<Uint8Array> {
  return (await renderResult(await connection.stream(sql), { format, rowsMax: 100 }, 1_000_000, {})).body;
}

async function jsonOf(sql: string): Promise<{ columns: unknown; rows: Record<string, unknown>[] }> {
  return JSON.parse(Buffer.from(await render(sql, 'json')).toString()) as { columns: unknown; rows: Record<string, unknown>[] };
}

/** Arrow's digits of a value, without point. */
async function arrowOf(sql: string): Promise<{ type: string; digits: (string | null)[] }> {
  const table = tableFromIPC(await render(sql, 'arrow'));
  const vector = table.getChildAt(0);
  const type: DataType = vector?.type;
  const digits = Array.from({ length: table.numRows }, (_, row) => {
    const value: unknown = vector?.get(row);
    if (value === null) return null;
    if (!DataType.isDecimal(type)) return `${value as bigint | string}`;
    const [low, high] = new BigUint64Array((value as Uint32Array).slice().buffer);
    return String(BigInt.asIntN(128, low + (high << 64n)));
  });
  const name = DataType.isDecimal(type)
    ? `Decimal(${type.precision}, ${type.scale})`
    : DataType.isInt(type)
      ? `Int${type.bitWidth}`
      : 'Utf8';
  return { type: name, digits };
}

/** As DuckDB reads the file. */
async function parquetOf(sql: string): Promise<{ type: string; values: (string | null)[] }> {
  const file = path.join(directory, 'answer.parquet');
  writeFileSync(file, await render(sql, 'parquet'));
  const rows = (await connection.runAndReadAll(`SELECT typeof(v), v::VARCHAR FROM '${file}'`)).getRows() as [string, string | null][];
  return { type: rows[0][0], values: rows.map(([, value]) => value) };
}

/** @param values SQL literals @param type that they are cast to */
function column(type: string, values: readonly string[]): string {
  return `SELECT value::${type} AS v FROM (VALUES ${values.map((value) => `('${value}')`).join(', ')}, (NULL)) AS given(value)`;
}

const BIG = '9223372036854775807';
const HUGE = '99999999999999999999999999999999999999';

test.each([
  ['BIGINT', ['-9223372036854775808', BIG, '5'], 'Int64', 'BIGINT', ['-9223372036854775808', BIG, 5]],
  ['BIGINT', ['9007199254740991', '-3'], 'Int64', 'BIGINT', [9007199254740991, -3]],
  ['UBIGINT', ['18446744073709551615', '1'], 'Decimal(38, 0)', 'DECIMAL(38,0)', ['18446744073709551615', 1]],
  ['HUGEINT', ['7', BIG], 'Int64', 'BIGINT', [7, BIG]],
  ['HUGEINT', [HUGE, `-${HUGE}`, '-1'], 'Decimal(38, 0)', 'DECIMAL(38,0)', [HUGE, `-${HUGE}`, -1]],
  ['HUGEINT', ['170141183460469231731687303715884105727'], 'Utf8', 'VARCHAR', ['170141183460469231731687303715884105727']],
] as const)('whole numbers of %s %j keep every digit', async (type, values, arrowType, parquetType, json) => {
  const sql = column(type, values);
  const digits = [...values, null];
  expect(await arrowOf(sql)).toEqual({ type: arrowType, digits });
  expect(await parquetOf(sql)).toEqual({ type: parquetType, values: digits });
  expect((await jsonOf(sql)).rows.map(({ v }) => v)).toEqual([...json, null]);
  const ndjson = Buffer.from(await render(sql, 'ndjson')).toString();
  expect(ndjson).toBe([...json, null].map((v) => `${JSON.stringify({ v })}\n`).join(''));
  expect(Buffer.from(await render(sql, 'csv')).toString()).toBe(
    ['v', ...digits.map((text) => text ?? '')].map((line) => `${line}\r\n`).join(''),
  );
});

test('decimals keep every digit: of their width in Arrow and Parquet, as texts in JSON where a number would lose some', async () => {
  const narrow = column('DECIMAL(9,2)', ['-1234567.89', '0.10']);
  expect(await arrowOf(narrow)).toEqual({ type: 'Decimal(9, 2)', digits: ['-123456789', '10', null] });
  expect(await parquetOf(narrow)).toEqual({ type: 'DECIMAL(9,2)', values: ['-1234567.89', '0.10', null] });
  expect(await jsonOf(narrow)).toMatchObject({
    columns: [{ name: 'v', type: 'decimal', precision: 9, scale: 2 }],
    rows: [{ v: -1234567.89 }, { v: 0.1 }, { v: null }],
  });
  const digits = '1234567890123456789012345678901234.5678';
  const wide = column('DECIMAL(38,4)', [digits, `-${digits}`, '99999999999.9999', '1000000000000.0001']);
  expect(await arrowOf(wide)).toEqual({
    type: 'Decimal(38, 4)',
    digits: [digits.replace('.', ''), `-${digits.replace('.', '')}`, '999999999999999', '10000000000000001', null],
  });
  expect((await parquetOf(wide)).values).toEqual([digits, `-${digits}`, '99999999999.9999', '1000000000000.0001', null]);
  expect((await jsonOf(wide)).rows.map(({ v }) => v)).toEqual([digits, `-${digits}`, 99999999999.9999, '1000000000000.0001', null]);
});

test('a sum of whole numbers is one, and numbers inside of lists and structures keep their digits, too', async () => {
  const sum = 'SELECT sum(i) AS v FROM range(10) AS given(i)';
  expect(await arrowOf(sum)).toEqual({ type: 'Int64', digits: ['45'] });
  expect(await parquetOf(sum)).toEqual({ type: 'BIGINT', values: ['45'] });
  const nested = `SELECT [${BIG}, 1] AS list, {'d': 1234567890.1234567890::DECIMAL(20,10)} AS struct, MAP {'h': ${HUGE}::HUGEINT} AS map`;
  expect((await jsonOf(nested)).rows).toEqual([{ list: [BIG, 1], struct: { d: '1234567890.1234567890' }, map: { h: HUGE } }]);
});

test('columns of every form stand in the order of the statement, whatever they are named', async () => {
  const sql = `SELECT 1 AS "__proto__", 'a' AS "2025", 3.5 AS b, true AS "2024", NULL AS "constructor" FROM range(2)`;
  const names = ['__proto__', '2025', 'b', '2024', 'constructor'];
  const table = tableFromIPC(await render(sql, 'arrow'));
  expect(table.schema.fields.map(({ name }) => name)).toEqual(names);
  expect([0, 1, 3, 4].map((index) => [...(table.getChildAt(index) ?? [])])).toEqual([
    [1n, 1n],
    ['a', 'a'],
    [true, true],
    [null, null],
  ]);
  expect(tableFromIPC(await render(`${sql} LIMIT 0`, 'arrow')).schema.fields.map(({ name }) => name)).toEqual(names);
  expect(
    Buffer.from(await render(sql, 'csv'))
      .toString()
      .split('\r\n')[0],
  ).toBe(names.join(','));
  const file = path.join(directory, 'names.parquet');
  writeFileSync(file, await render(sql, 'parquet'));
  expect((await connection.runAndReadAll(`FROM '${file}'`)).columnNames()).toEqual(names);
});

test('times that are no number of µs are null where times are numbers', async () => {
  const sql = "SELECT t AS v FROM (VALUES ('infinity'::TIMESTAMP), ('2026-01-02'::TIMESTAMP)) AS given(t)";
  expect((await parquetOf(sql)).values).toEqual([null, '2026-01-02 00:00:00+00']);
});

test('times of a ns are cut to the µs before, on either side of the epoch', async () => {
  const sql =
    "SELECT t AS v FROM (VALUES ('2026-01-02 00:00:00.000001999'::TIMESTAMP_NS), ('1969-12-31 23:59:59.9999995'::TIMESTAMP_NS)) AS given(t)";
  expect((await jsonOf(sql)).rows.map(({ v }) => v)).toEqual(['2026-01-02T00:00:00.000001Z', '1969-12-31T23:59:59.999999Z']);
});
