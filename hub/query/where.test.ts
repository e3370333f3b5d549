import { DuckDBInstance } from '@duckdb/node-api';
import { expect, test } from 'vitest';
import { Where } from './duckdb.ts';

test('a filter that lets the unknown through keeps what may be of any gateway, and binds beside other filters', async () => {
  const instance = await DuckDBInstance.create(':memory:');
  const connection = await instance.connect();
  const found = async (gateways: readonly string[] | null): Promise<unknown[]> => {
    const where = new Where().oneOf('kind', ['gap']).oneOfOrUnknown('gateway', gateways).oneOf('n', ['1', '2', '3']);
    const rows = `(VALUES ('gw-1', 'gap', '1'), (NULL, 'gap', '2'), ('other', 'gap', '3'), (NULL, 'dead_letter', '3')) AS row (gateway, kind, n)`;
    const reader = await connection.runAndReadAll(`SELECT n FROM ${rows} WHERE ${where.sql} ORDER BY n`, [...where.parameters]);
    return reader.getRows().flat();
  };
  expect(await found(['gw-*'])).toEqual(['1', '2']);
  expect(await found(['other', 'third'])).toEqual(['2', '3']);
  expect(await found(null)).toEqual(['1', '2', '3']);
  connection.closeSync();
  instance.closeSync();
});
