/**
 * The lake as other programs see it: a fleet's run through real processes, then the same rows as the ledger's truth, read
 * by DuckDB from the files that the log names and by delta-kernel (in ClickHouse) from the tables as such.
 */
import { DuckDBInstance } from '@duckdb/node-api';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readLedger } from '../../firmware-sim/ledger/ledger.ts';
import { regenerateTruth } from '../../firmware-sim/verify/truth.ts';
import { createLogger } from '../../shared/logging.ts';
import { DeltaTable } from '../../hub/lake/delta-table.ts';
import { Lake } from '../../hub/lake/lake.ts';
import { LocalStore } from '../../hub/lake/local-store.ts';
import { READINGS } from '../../hub/lake/tables.ts';
import { Maintenance } from '../../hub/maintenance.ts';
import { systemClock } from '../../shared/clock.ts';
import { Lab } from '../e2e/processes.ts';
import { loadChdb } from './chdb.ts';

const chdb = await loadChdb();
const lab = new Lab();
let truth: string[] = [];
let readingsTotal = 0;

/** One line per reading, the same for every reader: device, metric, time in µs, value or text. */
function line(device: string, metric: string, eventTimeUs: number, value: number | null, text: string | null): string {
  return [device, metric, eventTimeUs, text ?? String(value)].join(' ');
}

beforeAll(async () => {
  const hub = await lab.hub(['--commit-interval-ms-min', '100', '--flush-interval-ms', '500']);
  const gateway = await lab.gateway('gw-1', hub.url);
  const ledger = path.join(lab.directory, 'ledger.json');
  const fleet = lab.fleet(
    ledger,
    [gateway.mqttPort],
    ['--devices', '20', '--duration', '8', '--rate', '2', '--models-vibration', '0', '--qos', '0,8,2'],
  );
  expect(await fleet.exit(), fleet.log).toBe(0);
  await lab.verify(ledger, hub.url);
  await hub.program.stop();
  truth = regenerateTruth(readLedger(ledger)).flatMap(({ device, metrics }) =>
    [...metrics].flatMap(([metric, readings]) =>
      readings.map((reading) =>
        line(device.name, metric, reading.eventTimeUs, Number.isNaN(reading.value) ? null : reading.value, reading.text),
      ),
    ),
  );
  truth.sort();
  readingsTotal = truth.length;
}, 120_000);
afterAll(() => lab.close());

/** The active files of a table by its JSON log alone: adds without their removes. */
function namedFiles(table: string): string[] {
  const log = path.join(lab.lakeDir, table, '_delta_log');
  const files = new Set<string>();
  for (const entry of readdirSync(log)
    .filter((name) => name.endsWith('.json'))
    .sort()) {
    for (const text of readFileSync(path.join(log, entry), 'utf8').trim().split('\n')) {
      const action = JSON.parse(text) as { add?: { path: string }; remove?: { path: string } };
      if (action.add !== undefined) files.add(path.join(lab.lakeDir, table, decodeURIComponent(action.add.path)));
      if (action.remove !== undefined) files.delete(path.join(lab.lakeDir, table, decodeURIComponent(action.remove.path)));
    }
  }
  return [...files];
}

test('the run was long enough to have many commits', () => {
  const log = readdirSync(path.join(lab.lakeDir, 'readings', '_delta_log'));
  expect(readingsTotal).toBeGreaterThan(1_000);
  expect(namedFiles('readings').length).toBeGreaterThan(10);
  expect(log.filter((name) => name.endsWith('.json')).length).toBeGreaterThan(10);
});

test('DuckDB reads from the files that the log names the rows of the ledger', async () => {
  const connection = await (await DuckDBInstance.create(':memory:')).connect();
  const files = namedFiles('readings').map((file) => `'${file}'`);
  const reader = await connection.runAndReadAll(
    `SELECT device, metric, epoch_us(ts)::DOUBLE, value, text FROM read_parquet([${files.join(', ')}], union_by_name = true, hive_partitioning = false)`,
  );
  const rows = reader
    .getRows()
    .map(([device, metric, us, value, text]) =>
      line(device as string, metric as string, us as number, value as number | null, text as string | null),
    );
  expect(rows.sort()).toEqual(truth);
  const types = await connection.runAndReadAll(`DESCRIBE SELECT * FROM read_parquet([${files[0]}], hive_partitioning = false)`);
  expect(types.getRows().map(([name, type]) => `${String(name)} ${String(type)}`)).toEqual([
    'ts TIMESTAMP WITH TIME ZONE',
    'gateway VARCHAR',
    'device VARCHAR',
    'metric VARCHAR',
    'tags VARCHAR',
    'value DOUBLE',
    'text VARCHAR',
    'epoch VARCHAR',
    'lane VARCHAR',
    'seq BIGINT',
    'ingested_at TIMESTAMP WITH TIME ZONE',
  ]);
});

test('DuckDB adds the persisted aggregates up to the number of readings', async () => {
  const connection = await (await DuckDBInstance.create(':memory:')).connect();
  const files = namedFiles('aggregates').map((file) => `'${file}'`);
  const reader = await connection.runAndReadAll(
    `SELECT window_name, sum(n)::DOUBLE, sum(list_sum(map_values(hist_pos)) + 0)::DOUBLE + coalesce(sum(list_sum(map_values(hist_neg))), 0)::DOUBLE + sum(hist_zero)::DOUBLE
     FROM (SELECT * REPLACE (CASE WHEN cardinality(hist_pos) = 0 THEN MAP {0: 0} ELSE hist_pos END AS hist_pos) FROM read_parquet([${files.join(', ')}], union_by_name = true))
     GROUP BY window_name ORDER BY window_name`,
  );
  const numbers = truth.filter((text) => Number.isFinite(Number(text.split(' ')[3]))).length;
  expect(reader.getRows()).toEqual([
    ['1h', numbers, numbers],
    ['1m', numbers, numbers],
    ['1m_by_metric', numbers, numbers],
  ]);
});

describe.skipIf(chdb === null)('delta-kernel', () => {
  const home = process.cwd();
  // It reads below the working directory only.
  beforeAll(() => process.chdir(lab.lakeDir));
  afterAll(() => process.chdir(home));

  const query = (sql: string): unknown[][] => {
    const text = chdb?.query(sql, 'JSONCompactEachRow').trim() ?? '';
    return text === '' ? [] : text.split('\n').map((row) => JSON.parse(row) as unknown[]);
  };

  test('reads the table readings and finds the rows of the ledger', () => {
    const rows = query(
      `SELECT device, metric, toString(toUnixTimestamp64Micro(ts)), value, text FROM deltaLakeLocal('${lab.lakeDir}/readings') SETTINGS output_format_json_quote_64bit_integers = 0`,
    ).map(([device, metric, us, value, text]) =>
      line(device as string, metric as string, Number(us), value as number | null, text as string | null),
    );
    expect(rows.sort()).toEqual(truth);
  });

  test('reads all four tables, maps and partitions included', () => {
    for (const table of ['readings', 'aggregates', 'exceptions', 'progress']) {
      expect(existsSync(path.join(lab.lakeDir, table, '_delta_log')), table).toBe(true);
      const [[count]] = query(`SELECT toInt32(count()) FROM deltaLakeLocal('${lab.lakeDir}/${table}')`);
      if (table !== 'exceptions') expect(count, table).toBeGreaterThan(0);
    }
    const [[days]] = query(`SELECT toInt32(uniqExact(day)) FROM deltaLakeLocal('${lab.lakeDir}/readings') WHERE day = toDate(ts)`);
    expect(days).toBeGreaterThan(0);
  });

  test('reads the table from a checkpoint alone', async () => {
    const table = await DeltaTable.open(await LocalStore.open(lab.lakeDir), 'readings', READINGS, { clock: systemClock, hubId: 'test' });
    await table.checkpoint();
    const log = path.join(lab.lakeDir, 'readings', '_delta_log');
    for (const name of readdirSync(log))
      if (/^\d{20}\.json$/.test(name) && Number(name.slice(0, 20)) < table.version) rmSync(path.join(log, name));
    const [[count]] = query(`SELECT toInt32(count()) FROM deltaLakeLocal('${lab.lakeDir}/readings')`);
    expect(count).toBe(readingsTotal);
  });
});

describe('after compaction and folding', () => {
  const windows = new Map<string, number>();
  const home = process.cwd();
  let lake: Lake;
  const open = async (): Promise<Lake> =>
    Lake.open(await LocalStore.open(lab.lakeDir), lab.lakeDir, {
      clock: systemClock,
      hubId: 'test',
      logger: createLogger('test', 'silent'),
    });
  const filesOf = (table: DeltaTable): string =>
    [...table.snapshot.files.keys()].map((file) => `'${lake.localPath(table, file)}'`).join(', ');
  const windowsOf = async (): Promise<Map<string, number>> => {
    const connection = await (await DuckDBInstance.create(':memory:')).connect();
    const reader = await connection.runAndReadAll(
      `SELECT concat_ws(' ', window_name, gateway, device, metric, tags, window_start), sum(n)::DOUBLE FROM read_parquet([${filesOf(lake.aggregates)}], union_by_name = true) GROUP BY ALL`,
    );
    return new Map(reader.getRows().map(([key, n]) => [String(key), n as number]));
  };

  beforeAll(async () => {
    lake = await open();
    const before = lake.readings.snapshot.files.size;
    for (const [key, n] of await windowsOf()) windows.set(key, n);
    // A view of its own, as the hub's thread has it.
    await new Maintenance(await open(), { fanIn: 2 }).run();
    await lake.readings.refresh();
    await lake.aggregates.refresh();
    expect(lake.readings.snapshot.files.size).toBeLessThan(before / 2);
    process.chdir(lab.lakeDir);
  });
  afterAll(() => process.chdir(home));

  test('DuckDB reads the same rows and the same windows', async () => {
    const connection = await (await DuckDBInstance.create(':memory:')).connect();
    const reader = await connection.runAndReadAll(
      `SELECT device, metric, epoch_us(ts)::DOUBLE, value, text FROM read_parquet([${filesOf(lake.readings)}], union_by_name = true, hive_partitioning = false)`,
    );
    const rows = reader
      .getRows()
      .map(([device, metric, us, value, text]) =>
        line(device as string, metric as string, us as number, value as number | null, text as string | null),
      );
    expect(rows.sort()).toEqual(truth);
    expect(await windowsOf()).toEqual(windows);
  });

  test.skipIf(chdb === null)('delta-kernel reads the same rows', () => {
    const text =
      chdb?.query(
        `SELECT device, metric, toString(toUnixTimestamp64Micro(ts)), value, text FROM deltaLakeLocal('${lab.lakeDir}/readings')`,
        'JSONCompactEachRow',
      ) ?? '';
    const rows = text
      .trim()
      .split('\n')
      .map((row) => JSON.parse(row) as [string, string, string, number | null, string | null])
      .map(([device, metric, us, value, own]) => line(device, metric, Number(us), value, own));
    expect(rows.sort()).toEqual(truth);
  });
});
