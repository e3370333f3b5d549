/** Files of `readings` that other programs wrote and committed. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ManualClock } from '../shared/clock.ts';
import { mergedCapture, startHub, temporaryLake, type TestHub } from './engine.fixture.ts';
import { readParquetRows } from './lake/parquet/read.ts';

const START_US = Date.UTC(2026, 10, 22, 11) * 1000;
const FILE = 'day=2026-11-22/foreign.parquet';

let lake: ReturnType<typeof temporaryLake>;
const clock = new ManualClock(START_US + 3_600_000_000);
beforeEach(() => {
  lake = temporaryLake();
});
afterEach(() => lake.remove());

/** Sixty readings of a minute, appended by another writer of the table. */
async function appendForeign(compression: string): Promise<void> {
  await startHub(lake.directory, {}, clock);
  const table = path.join(lake.directory, 'readings');
  mkdirSync(path.join(table, path.dirname(FILE)), { recursive: true });
  const connection = await (await DuckDBInstance.create(':memory:')).connect();
  const columns = `make_timestamptz(${START_US}) + to_seconds(range) AS ts, 'gw-1' AS gateway, 'd' AS device, 'm' AS metric, NULL::VARCHAR AS tags, range::DOUBLE AS value, NULL::VARCHAR AS text`;
  await connection.run(
    `COPY (SELECT ${columns} FROM range(60)) TO '${path.join(table, FILE)}' (FORMAT parquet, COMPRESSION ${compression})`,
  );
  connection.closeSync();
  const log = path.join(table, '_delta_log');
  const version = readdirSync(log).filter((name) => /^\d{20}\.json$/.test(name)).length;
  const { size } = statSync(path.join(table, FILE));
  const add = {
    path: FILE,
    partitionValues: { day: '2026-11-22' },
    size,
    modificationTime: 1,
    dataChange: true,
    stats: '{"numRecords":60}',
  };
  writeFileSync(path.join(log, `${String(version).padStart(20, '0')}.json`), JSON.stringify({ add }));
}

async function countedBy({ engine }: TestHub): Promise<number> {
  const minute = { window: '1m', gateways: null, devices: null, metrics: null, fromUs: START_US, toUs: START_US + 60_000_000 };
  return [...(await mergedCapture(engine.captureAggregates(minute))).values()].reduce((sum, { n }) => sum + n, 0);
}

test.each(['gzip', 'brotli'])('windows take in a file that is compressed with %s', async (compression) => {
  await appendForeign(compression);
  const hub = await startHub(lake.directory, {}, clock);
  expect(await countedBy(hub)).toBe(60);
  expect(hub.lake.exceptions.snapshot.files.size).toBe(0);
});

test('a file that is whole and not read here stays in its table; a gap says once that windows are without it', async () => {
  await appendForeign('lz4_raw');
  for (let turn = 0; turn < 2; turn++) {
    const hub = await startHub(lake.directory, {}, clock);
    expect(hub.fatal).toEqual([]);
    expect([...hub.lake.readings.snapshot.files.keys()]).toEqual([FILE]);
    expect(await countedBy(hub)).toBe(0);
    const files = [...hub.lake.exceptions.snapshot.files.keys()].map((file) => path.join(lake.directory, 'exceptions', file));
    const rows = (await Promise.all(files.map((file) => readParquetRows(readFileSync(file))))).flat();
    expect(rows).toMatchObject([
      { kind: 'gap', reading_count: 60, reason: expect.stringMatching(/^lake_file_unsupported: readings\/day=.*LZ4_RAW/) },
    ]);
  }
});
