import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../shared/clock.ts';
import { isSluiceError } from '../../shared/errors.ts';
import { parseLaneAppId } from '../../shared/uplink.ts';
import type { IngestEngine } from '../engine-api.ts';
import { mergedCapture, startHub, type TestHub } from '../engine.fixture.ts';
import { readParquetRows } from '../lake/parquet/read.ts';
import { LocalStore } from '../lake/local-store.ts';
import { importFile, type ImportResult } from './import-file.ts';
import { importIdOf } from './import-record.ts';
import { mappingOf, type MappingFlags } from './mapping.ts';
import { bar } from './progress.ts';
import { formatOf } from './rows.ts';

const PROGRAM = fileURLToPath(new URL('../../dist/hub/main.js', import.meta.url));
const START_MS = Date.UTC(2024, 0, 1);
const ALL_TIME = { fromUs: 0, toUs: 4e15, devices: null, metrics: null };
const execute = promisify(execFile);

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-import-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const lakeDir = (): string => path.join(directory, 'lake');

function file(name: string, content: string | Uint8Array): string {
  const target = path.join(directory, name);
  writeFileSync(target, content);
  return target;
}

/** The import beside a hub: an engine of its own over the same lake, in this process. */
async function runImport(name: string, flags: MappingFlags & { gateway?: string } = {}): Promise<ImportResult> {
  const { engine, committed } = await startHub(lakeDir());
  const polls: NodeJS.Timeout[] = [];
  const ingest: IngestEngine = {
    lakeId: engine.lakeId,
    pendingBytes: 0,
    openLane: (lane, claim) => engine.openLane(lane, claim),
    submit: (lane, batch) => engine.submit(lane, batch),
    assertWatermark: (gateway, claim) => engine.assertWatermark(gateway, claim),
    onPendingBytes: () => undefined,
    onCommitted(callback) {
      const tell = (): void => {
        for (const [appId, position] of committed) {
          const lane = parseLaneAppId(appId);
          if (lane !== null) callback(lane, position);
        }
      };
      polls.push(setInterval(tell, 5));
    },
  };
  const plan = { gateway: flags.gateway ?? 'import', format: formatOf(name, undefined), delimiter: ',', mapping: mappingOf(flags) };
  try {
    return await importFile(name, plan, {
      engine: ingest,
      store: await LocalStore.open(lakeDir()),
      clock: systemClock,
      output: { write: () => undefined },
    });
  } finally {
    polls.forEach(clearInterval);
    await engine.stop();
  }
}

async function failure(name: string, flags: MappingFlags = {}): Promise<string> {
  return runImport(name, flags).then(
    () => 'it did not fail',
    (error: unknown) => (isSluiceError(error) ? `${error.code} ${error.message}` : String(error)),
  );
}

async function rowsOf(hub: TestHub, table: 'readings' | 'exceptions'): Promise<Record<string, unknown>[]> {
  const store = await LocalStore.open(lakeDir());
  const { files } = hub.engine.captureTable(table, ALL_TIME);
  const rows: Record<string, unknown>[] = [];
  for (const { path: name } of files) {
    const bytes = await store.get(path.relative(lakeDir(), name));
    if (bytes !== null) rows.push(...(await readParquetRows(bytes)));
  }
  return rows;
}

async function withHub<T>(look: (hub: TestHub) => Promise<T>): Promise<T> {
  const hub = await startHub(lakeDir());
  try {
    return await look(hub);
  } finally {
    await hub.engine.stop();
  }
}

const CSV = [
  'time,device,metric,value',
  '2024-01-01T00:00:00Z,d1,t,1',
  '2024-01-01T00:00:10Z,d1,t,oops',
  '2024-01-01 00:00:20,d2,t,3',
  '',
].join('\n');

test('a CSV file is in the lake and its windows; its wrong row is an exception with its line; a second run does nothing', async () => {
  const csv = file('a.csv', CSV);
  expect(await runImport(csv)).toMatchObject({ rows: 3, readings: 2, rejected: 1, wasDone: false });
  // Its content is what counts, not its name.
  expect(await runImport(file('b.csv', CSV))).toMatchObject({ rows: 3, readings: 2, wasDone: true });
  await withHub(async (hub) => {
    expect((await rowsOf(hub, 'readings')).map(({ gateway, device, value }) => [gateway, device, value])).toEqual([
      ['import', 'd1', 1],
      ['import', 'd2', 3],
    ]);
    const [exception] = await rowsOf(hub, 'exceptions');
    expect(exception?.['reason']).toMatch(/^import_row: line 3 of a\.csv: column value: "oops" is not a finite number/);
    const windows = await mergedCapture(hub.engine.captureAggregates({ window: '1h', gateways: null, ...ALL_TIME }));
    expect([...windows.values()].map(({ n }) => n)).toEqual([1, 1]);
  });
});

test('NDJSON, compressed, in the wide form; lines that are no objects are exceptions', async () => {
  const lines = ['{"ts":1704067200,"dev":"d1","a":1,"b":null}', '[1]', '{"ts":1704067201,"dev":"d1","a":true,"b":2.5}', '{'];
  const ndjson = file('a.ndjson.gz', gzipSync(lines.join('\n')));
  const flags = { time: 'ts', device: 'dev', values: 'a,b', gateway: 'old-site' };
  expect(await runImport(ndjson, flags)).toMatchObject({ rows: 4, readings: 3, rejected: 2 });
  await withHub(async (hub) => {
    expect((await rowsOf(hub, 'readings')).map(({ gateway, metric, value }) => [gateway, metric, value])).toEqual([
      ['old-site', 'a', 1],
      ['old-site', 'a', 1],
      ['old-site', 'b', 2.5],
    ]);
    expect((await rowsOf(hub, 'exceptions')).map(({ reason }) => String(reason).slice(0, 35))).toEqual([
      'import_row: line 2 of a.ndjson.gz: ',
      'import_row: line 4 of a.ndjson.gz: ',
    ]);
  });
});

test('a Parquet file of another program: timestamps, integers, decimals', async () => {
  const { DuckDBInstance } = await import('@duckdb/node-api');
  const parquet = path.join(directory, 'a.parquet');
  const connection = await (await DuckDBInstance.create(':memory:')).connect();
  await connection.run(
    `COPY (SELECT TIMESTAMP '2024-01-01 00:00:00.123456' + INTERVAL 1 SECOND * i AS at, 'd' || (i % 3) AS device, i AS n, i::DECIMAL(9, 2) / 4 AS x FROM range(10000) t(i)) TO '${parquet}' (FORMAT parquet)`,
  );
  connection.closeSync();
  expect(await failure(parquet, { time: 'when', values: 'n' })).toMatch(
    /ERR_IMPORT_MAPPING .* has no column when; it has at, device, n, x/,
  );
  expect(await runImport(parquet, { time: 'at', values: 'n,x' })).toMatchObject({ rows: 10_000, readings: 20_000, rejected: 0 });
  await withHub(async (hub) => {
    const rows = await rowsOf(hub, 'readings');
    expect(rows).toHaveLength(20_000);
    expect(rows.find(({ metric, value }) => metric === 'x' && value === 0.25)?.['ts']).toEqual(START_MS * 1000 + 1_123_456);
  });
});

test('a Parquet file that is damaged far behind its first rows is not imported as if it ended there', async () => {
  const { DuckDBInstance } = await import('@duckdb/node-api');
  const parquet = path.join(directory, 'a.parquet');
  const connection = await (await DuckDBInstance.create(':memory:')).connect();
  await connection.run(
    `COPY (SELECT TIMESTAMP '2024-01-01 00:00:00' + INTERVAL 1 SECOND * i AS at, 'd' AS device, random() AS n FROM range(100000) t(i)) TO '${parquet}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 2048)`,
  );
  connection.closeSync();
  const bytes = readFileSync(parquet);
  const damaged = Math.floor(bytes.length * 0.8);
  bytes.fill(0, damaged, damaged + 4_000);
  writeFileSync(parquet, bytes);
  expect(await failure(parquet, { time: 'at', values: 'n' })).toMatch(/ERR_IMPORT_FILE .*broke off before the last row/);
});

test('wrong flags import nothing, and say what is there', async () => {
  const csv = file('a.csv', CSV);
  expect(await failure(csv, { time: 'when' })).toMatch(
    /ERR_IMPORT_MAPPING there is no column when; the first line has time, device, metric, value/,
  );
  expect(await failure(csv, { device: 'time', time: 'device' })).toMatch(/ERR_IMPORT_MAPPING all of the first 3 rows .* are wrong.*line 2/);
  const damaged = file('b.csv', CSV.replace('Z,d1,t,1', 'Z,d1,t'));
  expect(await failure(damaged, { deviceName: 'd', values: 'value,humidty' })).toMatch(/ERR_IMPORT_MAPPING there is no column humidty/);
  const ndjson = file('a.ndjson', '{"time":"2024-01-01T00:00:00Z","device":"d","metric":"m","value":1}\n');
  expect(await failure(ndjson, { value: 'val' })).toMatch(/ERR_IMPORT_MAPPING none of the first 1 rows of .*a\.ndjson has val/);
  expect(await failure(ndjson, { values: 'a,b=c' })).toMatch(/ERR_IMPORT_MAPPING none of the first 1 rows of .* has a, b/);
  await expect(runImport(path.join(directory, 'none.csv'))).rejects.toThrow(/none\.csv cannot be read/);
  expect(() => formatOf('a.txt', undefined)).toThrow(/is none of csv, ndjson, parquet/);
  await withHub(async (hub) => expect(await rowsOf(hub, 'readings')).toEqual([]));
});

test('a compressed file that is cut imports nothing, or its beginning would come again with the whole one', async () => {
  const whole = gzipSync(history(80_000));
  const cut = file('a.csv.gz', whole.subarray(0, whole.length - 1_000));
  expect(await failure(cut)).toMatch(/ERR_IMPORT_FILE .*a\.csv\.gz cannot be read to its end: unexpected end of file/);
  await withHub(async (hub) => expect(await rowsOf(hub, 'readings')).toEqual([]));
});

/** Rows over 40 days, an hour of each, in the order of devices: the first chunk touches every day. */
function history(rows: number): string {
  const perDevice = rows / 4;
  const lines = ['time,device,metric,value'];
  for (let row = 0; row < rows; row++) {
    const day = Math.floor(((row % perDevice) / perDevice) * 40);
    const seconds = day * 86_400 + (row % 360) * 10;
    lines.push(`${START_MS / 1000 + seconds},d${Math.floor(row / perDevice)},m,${row}`);
  }
  return `${lines.join('\n')}\n`;
}

/** Small commits, so that there is something to kill between. */
const flagsOf = (name: string, ...flags: string[]): string[] => [
  ...[PROGRAM, 'import', name, '--lake-dir', lakeDir(), '--commit-interval-ms-min', '50', '--commit-readings-max', '5000'],
  ...flags,
];

test('killed while a hub runs beside, and resumed: every row is there once, in readings and in windows', async () => {
  const rows = 24_000;
  const csv = file('history.csv', history(rows));
  const hub = await startHub(lakeDir());
  const versions = (): number => readdirSync(path.join(lakeDir(), 'readings/_delta_log')).length;
  try {
    const before = versions();
    const child = spawn(process.execPath, flagsOf(csv), { stdio: 'ignore' });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    while (versions() < before + 2 && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 5));
    child.kill('SIGKILL');
    await ended;
    expect(child.signalCode).toBe('SIGKILL');
    expect(await failure(csv, { metricName: 'other' })).toMatch(/ERR_IMPORT_CONFLICT .* begun with other flags/);
    const { stdout } = await execute(process.execPath, flagsOf(csv));
    expect(stdout).toContain(`history.csv: imported ${rows} readings of ${rows} rows`);
    // Batches of eight days.
    await hub.waitCommitted(`gw/import/${await importIdOf(csv)}/backfill`, 5);
    const values = (await rowsOf(hub, 'readings')).map(({ value }) => Number(value)).sort((a, b) => a - b);
    expect(values).toHaveLength(rows);
    expect(values.every((value, index) => value === index)).toBe(true);
    const windows = await mergedCapture(hub.engine.captureAggregates({ window: '1h', gateways: null, ...ALL_TIME }));
    expect([...windows.values()].reduce((sum, { n }) => sum + n, 0)).toBe(rows);
  } finally {
    await hub.engine.stop();
  }
});

test('the bar is as long as the share', () => {
  expect([0, 0.5, 1, 2].map(bar)).toEqual([
    `[${'.'.repeat(24)}]`,
    `[${'#'.repeat(12)}${'.'.repeat(12)}]`,
    `[${'#'.repeat(24)}]`,
    `[${'#'.repeat(24)}]`,
  ]);
});
