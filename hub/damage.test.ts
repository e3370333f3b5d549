/** Damage of the lake's files under a hub that stands still, so that each start and each query meets it when it is told to. */
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ManualClock } from '../shared/clock.ts';
import { SluiceError } from '../shared/errors.ts';
import { laneAppId } from '../shared/uplink.ts';
import type { AggregateFilter, TableName } from './engine-api.ts';
import { batchOf, EPOCH, laneOf, mergedCapture, startHub, temporaryLake, type TestHub } from './engine.fixture.ts';
import { readParquetRows } from './lake/parquet/read.ts';
import { QueryService } from './query/query-service.ts';
import { SqlService } from './query/sql-service.ts';

const START_US = (Math.floor(Date.now() / 3_600_000) - 3) * 3_600_000_000;
const HOUR = { fromUs: START_US, toUs: START_US + 3_600_000_000, devices: null, metrics: null };
const MINUTES: AggregateFilter = { ...HOUR, window: '1m', gateways: null };
const LANE = laneOf('gw-1');

let lake: ReturnType<typeof temporaryLake>;
let clock: ManualClock;
beforeEach(() => {
  lake = temporaryLake();
  clock = new ManualClock(Date.now() * 1000);
});
afterEach(() => lake.remove());

function start(): Promise<TestHub> {
  return startHub(lake.directory, {}, clock);
}

/** One commit for each seq: 60 readings of the minute `seq`. */
async function commit(hub: TestHub, fromSeq: number, toSeq: number): Promise<void> {
  await hub.engine.openLane(LANE, { epoch: EPOCH, lane: 'live', base: fromSeq, assigned: toSeq });
  for (let seq = fromSeq; seq <= toSeq; seq++) {
    hub.engine.submit(LANE, batchOf(seq, START_US + seq * 60_000_000, 60, 0));
    clock.advance(2_000_000);
    await hub.waitCommitted(laneAppId(LANE), seq);
    await hub.engine.idle();
  }
}

async function counted(hub: TestHub): Promise<number> {
  const rows = [...(await mergedCapture(hub.engine.captureAggregates(MINUTES))).values()];
  return rows.reduce((sum, row) => sum + row.n, 0);
}

async function rowsOf(hub: TestHub, table: TableName): Promise<Record<string, unknown>[]> {
  const all = { fromUs: 0, toUs: Number.MAX_SAFE_INTEGER, devices: null, metrics: null };
  const { files } = hub.engine.captureTable(table, all);
  return (await Promise.all(files.map((file) => readParquetRows(readFileSync(file.path))))).flat();
}

/** Files of a table, oldest version first, absolute. */
function filesOf(hub: TestHub, table: TableName): string[] {
  const files = [...hub.lake[table].snapshot.files.values()].sort((a, b) => a.modificationTime - b.modificationTime);
  return files.map((file) => path.join(lake.directory, table, file.path));
}

/** In the middle of a page: it still decompresses, mostly. */
function overwrite(file: string): void {
  const bytes = readFileSync(file);
  bytes.fill(0xa5, bytes.length >> 2, (bytes.length >> 2) + 16);
  writeFileSync(file, bytes);
}

describe('a damaged file of readings that windows still need', () => {
  for (const [name, hurt] of [
    ['overwritten', overwrite],
    ['cut off', (file: string): void => writeFileSync(file, readFileSync(file).subarray(0, 100))],
    ['empty', (file: string): void => writeFileSync(file, '')],
    ['missing', (file: string): void => rmSync(file)],
  ] as const) {
    test(`${name}: the hub starts, and a gap says how many readings of when are gone, once however often it starts`, async () => {
      const before = await start();
      await commit(before, 1, 1);
      await before.engine.flush();
      await commit(before, 2, 3);
      const [, second] = filesOf(before, 'readings');
      hurt(second);
      for (let turn = 0; turn < 3; turn++) {
        const hub = await start();
        expect(await counted(hub)).toBe(120);
        expect(await rowsOf(hub, 'readings')).toHaveLength(120);
        const gaps = await rowsOf(hub, 'exceptions');
        expect(gaps).toMatchObject([
          {
            kind: 'gap',
            gateway: 'gw-1',
            device: 'pump-1',
            metric: 'temperature',
            reading_count: 60,
            from_ts: START_US + 120_000_000,
            to_ts: START_US + 179_001_000,
          },
        ]);
        expect(String(gaps[0]['reason'])).toMatch(/^lake_file_damaged: readings\/day=/);
        if (turn === 1) await hub.engine.flush();
      }
      const last = await start();
      await commit(last, 4, 4);
      expect(await counted(last)).toBe(180);
    });
  }

  test('two hubs that meet it at once record one gap', async () => {
    const before = await start();
    await commit(before, 1, 1);
    await before.engine.flush();
    await commit(before, 2, 3);
    overwrite(filesOf(before, 'readings')[1]);
    const hubs = await Promise.all([start(), start()]);
    for (const hub of [...hubs, await start()]) {
      expect(await counted(hub)).toBe(120);
      expect(await rowsOf(hub, 'exceptions')).toHaveLength(1);
    }
  });

  test('a crash between the gap and the removal of the file is made good by the next start', async () => {
    const before = await start();
    await commit(before, 1, 1);
    await before.engine.flush();
    await commit(before, 2, 3);
    const [, second] = filesOf(before, 'readings');
    overwrite(second);
    const { store } = before.lake;
    const proto = Object.getPrototypeOf(store) as typeof store;
    const original = proto.putIfAbsent;
    proto.putIfAbsent = function (key, bytes) {
      if (key.startsWith('readings/_delta_log/')) return Promise.reject(new SluiceError('ERR_STORE_FULL', 'the crash'));
      return original.call(this, key, bytes);
    };
    await expect(start()).rejects.toMatchObject({ code: 'ERR_STORE_FULL' });
    proto.putIfAbsent = original;
    const hub = await start();
    expect(await counted(hub)).toBe(120);
    expect(await rowsOf(hub, 'exceptions')).toHaveLength(1);
    expect(filesOf(hub, 'readings')).not.toContain(second);
  });

  test('put back from a backup after it was given up, it is not counted: the gap has said that it is gone', async () => {
    const before = await start();
    await commit(before, 1, 1);
    await before.engine.flush();
    await commit(before, 2, 3);
    const [, second] = filesOf(before, 'readings');
    copyFileSync(second, `${second}.backup`);
    overwrite(second);
    await start();
    copyFileSync(`${second}.backup`, second);
    const hub = await start();
    expect(await counted(hub)).toBe(120);
    expect(await rowsOf(hub, 'readings')).toHaveLength(120);
  });
});

describe('a damaged file that only queries need', () => {
  test('is left out of answers, which say so, and is back in them once it is put back', async () => {
    const hub = await start();
    await commit(hub, 1, 3);
    await hub.engine.flush();
    const query = await QueryService.start({
      engine: {
        definitions: hub.definitions,
        captureAggregates: async (filter) => hub.engine.captureAggregates(filter),
        captureTable: async (table, range) => hub.engine.captureTable(table, range),
        reportUnreadable: (paths) => hub.engine.reportUnreadable(paths),
        status: async () => hub.engine.status(),
      },
      lakeDir: lake.directory,
      memoryBytesMax: 256_000_000,
      timeoutMs: 10_000,
    });
    const ask = () => query.readings({ ...HOUR, gateways: null, order: 'asc', limit: 1_000, after: null });
    const [first] = filesOf(hub, 'readings');
    copyFileSync(first, `${first}.backup`);
    writeFileSync(first, readFileSync(first).subarray(0, 200));
    const answer = await ask();
    expect(answer.rows).toHaveLength(120);
    expect(answer.unreadable).toMatchObject([{ rows: 60, fromUs: START_US + 60_000_000 }]);
    const live = hub.engine.captureAggregates({ ...MINUTES, window: '10s' });
    expect(live.pendingExceptions).toMatchObject([{ kind: 'gap', readingCount: null, fromUs: START_US + 60_000_000 }]);
    expect(await counted(hub)).toBe(180);
    rmSync(first);
    copyFileSync(`${first}.backup`, first);
    clock.advance(60_000_000);
    await hub.engine.idle();
    expect((await ask()).rows).toHaveLength(180);
    expect((await ask()).unreadable).toEqual([]);
    await query.stop();
  });

  test('is left out of SQL that is the first to meet it, in every view, and statements that are wrong themselves accuse no file', async () => {
    const hub = await start();
    await commit(hub, 1, 3);
    await hub.engine.flush();
    const sql = new SqlService({
      engine: {
        captureSnapshot: async (request) => hub.engine.captureSnapshot(request),
        reportUnreadable: (paths) => hub.engine.reportUnreadable(paths),
      },
      captureAlerts: () => ({ version: 0, rows: [] }),
      processesMax: 1,
      memoryBytesMax: 256_000_000,
      timeoutMs: 10_000,
      threads: 1,
      answerBytesMax: 1_000_000,
    });
    const ask = async (text: string): Promise<{ rows: unknown; unreadableFiles: number }> => {
      const { body, unreadableFiles } = await sql.query({ sql: text, parameters: [], format: 'json', rowsMax: 1_000 });
      return { rows: (JSON.parse(Buffer.from(body).toString()) as { rows: unknown }).rows, unreadableFiles };
    };
    const [first, second, third] = filesOf(hub, 'readings');
    const [aggregates] = filesOf(hub, 'aggregates');
    await expect(ask('SELECT device::INT FROM readings')).rejects.toMatchObject({ code: 'ERR_SQL_INVALID' });
    await expect(ask("SELECT error('a parquet file') FROM readings")).rejects.toMatchObject({ code: 'ERR_SQL_INVALID' });
    expect(hub.engine.status().unreadableFiles).toBe(0);
    overwrite(first);
    writeFileSync(second, readFileSync(second).subarray(0, 200));
    expect(await ask('SELECT count(value)::INT AS n, count(DISTINCT device)::INT AS devices FROM readings')).toEqual({
      rows: [{ n: 60, devices: 1 }],
      unreadableFiles: 2,
    });
    expect(hub.engine.status().unreadableFiles).toBe(2);
    rmSync(third);
    expect(await ask('SELECT value FROM readings LIMIT 1')).toEqual({ rows: [], unreadableFiles: 3 });
    writeFileSync(aggregates, 'PAR1');
    expect((await ask("SELECT count FROM aggregates WHERE window_name = '1m'")).unreadableFiles).toBe(1);
    expect(hub.engine.status().unreadableFiles).toBe(4);
    sql.stop();
  });
});

test('damaged files of progress, aggregates and exceptions, and a damaged newest checkpoint, do not stop a start', async () => {
  const before = await start();
  await commit(before, 1, 2);
  before.engine.assertWatermark('gw-1', { us: START_US + 120_000_000, positions: [{ epoch: EPOCH, lane: 'live', seq: 2 }] });
  await before.engine.flush();
  await before.lake.readings.checkpoint();
  await commit(before, 3, 3);
  await before.lake.readings.checkpoint();
  for (const table of ['progress', 'aggregates', 'exceptions'] as const) filesOf(before, table).forEach(overwrite);
  const log = path.join(lake.directory, 'readings', '_delta_log');
  overwrite(path.join(log, `${String(before.lake.readings.version).padStart(20, '0')}.checkpoint.parquet`));
  writeFileSync(path.join(log, '_last_checkpoint'), '{"version":');
  const hub = await start();
  await commit(hub, 4, 4);
  expect(await rowsOf(hub, 'readings')).toHaveLength(240);
});
