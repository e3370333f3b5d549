import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readTable } from './delta-log.ts';

let table: string;
let log: string;

beforeEach(() => {
  table = mkdtempSync(path.join(tmpdir(), 'sluice-delta-'));
  log = path.join(table, '_delta_log');
  mkdirSync(log);
});
afterEach(() => rmSync(table, { recursive: true, force: true }));

const name = (version: number, suffix: string): string => path.join(log, `${String(version).padStart(20, '0')}.${suffix}`);

function commit(version: number, ...actions: object[]): void {
  writeFileSync(name(version, 'json'), actions.map((action) => `${JSON.stringify(action)}\n`).join(''));
}

const add = (file: string): object => ({ add: { path: file, size: 1, partitionValues: { day: '2026-11-22' }, dataChange: true } });
const remove = (file: string): object => ({ remove: { path: file, dataChange: false } });
const first = [{ protocol: { minReaderVersion: 1, minWriterVersion: 2 } }, { metaData: { id: 'table-1' } }];

async function files(): Promise<string[]> {
  return ((await readTable(table))?.files ?? []).map((file) => path.relative(table, file.path)).sort();
}

/** A classic checkpoint by DuckDB: protocol, metaData and these adds. */
async function checkpoint(version: number, paths: readonly string[], suffix = 'checkpoint.parquet'): Promise<void> {
  const instance = await DuckDBInstance.create(':memory:');
  const connection = await instance.connect();
  const adds = paths.map(
    (file) => `(NULL, NULL, {'path': '${file}', 'size': 1::BIGINT, 'partitionValues': MAP {'day': '2026-11-22'}, 'dataChange': false})`,
  );
  const rows = ["({'minReaderVersion': 1, 'minWriterVersion': 2}, NULL, NULL)", "(NULL, {'id': 'table-1'}, NULL)", ...adds];
  await connection.run(
    `COPY (SELECT * FROM (VALUES ${rows.join(', ')}) t(protocol, "metaData", "add")) TO '${name(version, suffix)}' (FORMAT parquet)`,
  );
  connection.closeSync();
  instance.closeSync();
}

describe('the log reader', () => {
  test('has what was added and not removed, with decoded paths', async () => {
    commit(0, ...first);
    commit(1, add('day=2026-11-22/a.parquet'), add('b%20b.parquet'), add('c.parquet'));
    commit(2, add('d.parquet'), remove('c.parquet'), { txn: { appId: 'x', version: 1 } }, { somethingNew: {} });
    expect(await files()).toEqual(['b b.parquet', 'd.parquet', 'day=2026-11-22/a.parquet']);
    expect(await readTable(table)).toMatchObject({ version: 2, tableId: 'table-1' });
  });

  test('begins at a checkpoint when the commits before it are gone', async () => {
    await checkpoint(5, ['a.parquet', 'b.parquet']);
    writeFileSync(path.join(log, '_last_checkpoint'), '{"version":5,"size":4}');
    commit(5, remove('not-read-again.parquet'));
    commit(6, remove('a.parquet'), add('c.parquet'));
    expect(await files()).toEqual(['b.parquet', 'c.parquet']);
    expect(await readTable(table)).toMatchObject({
      version: 6,
      tableId: 'table-1',
      files: [{ partitionValues: { day: '2026-11-22' } }, {}],
    });
  });

  test('does not use a checkpoint of which a part is missing', async () => {
    commit(0, ...first, add('a.parquet'));
    commit(1, add('b.parquet'));
    await checkpoint(1, ['wrong.parquet'], 'checkpoint.0000000001.0000000002.parquet');
    expect(await files()).toEqual(['a.parquet', 'b.parquet']);
  });

  test('knows no table where there is no log', async () => {
    expect(await readTable(path.join(table, 'none'))).toBeNull();
    expect(await readTable(table)).toBeNull();
  });

  test.each<[string, () => void]>([
    ['a version is missing', () => commit(2, add('a.parquet'))],
    ['a commit is not JSON', () => writeFileSync(name(1, 'json'), '{"add":')],
    ['a higher reader version is demanded', () => commit(1, { protocol: { minReaderVersion: 3, minWriterVersion: 7 } })],
    ['_last_checkpoint names one that is not there', () => writeFileSync(path.join(log, '_last_checkpoint'), '{"version":1}')],
    ['a checkpoint is not Parquet', () => writeFileSync(name(0, 'checkpoint.parquet'), 'PAR1')],
  ])('gives a typed error when %s', async (_what, damage) => {
    commit(0, ...first);
    damage();
    await expect(readTable(table)).rejects.toMatchObject({ code: 'ERR_SIM_LAKE' });
  });
});
