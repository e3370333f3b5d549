import { describe, expect, test } from 'vitest';
import { positionOf } from './delta-snapshot.ts';
import type { AddFile } from './delta-actions.ts';
import { removeAction } from './delta-stats.ts';
import type { DeltaTable } from './delta-table.ts';
import { DAY_US, getLines, HOUR_US, keysOf, makeBench, putText, request, stage, START_US, type Bench } from './delta.fixture.ts';
import { cleanLog, vacuum } from './delta-maintenance.ts';
import { parquetCheckpointFormat } from './parquet-checkpoint.ts';

const LANE = 'gw/g1/0123456789abcdef0123456789abcdef/live';
const OLD_LANE = 'gw/g0/0123456789abcdef0123456789abcdef/live';
const log = (name: string): string => `readings/_delta_log/${name}`;
const entry = (version: number): string => log(`${String(version).padStart(20, '0')}.json`);
const checkpoint = (version: number): string => log(`${String(version).padStart(20, '0')}.checkpoint.parquet`);

/** `count` commits of one file each on LANE, a second apart. */
async function fill(bench: Bench, table: DeltaTable, count: number): Promise<void> {
  for (let index = 0; index < count; index++) {
    bench.clock.advance(1_000_000);
    const from = positionOf(table.snapshot, LANE);
    await table.tryCommit(request([await stage(table, `file ${from}`)], [{ appId: LANE, from, to: from + 1 }]));
  }
}

describe('checkpoints', () => {
  test('hold the whole state: a table opened from one, without the entries, is the same', async () => {
    const bench = makeBench();
    const table = await bench.open();
    await fill(bench, table, 5);
    const [first] = table.snapshot.files.values();
    await table.tryCommit(request([], [], { removes: [removeAction(first, Math.floor(bench.clock.nowUs() / 1000), true)] }));
    const result = await table.checkpoint();
    expect(result).toMatchObject({ version: 6, size: 2 + 1 + 4 + 1, isOwn: true });
    const [hint] = await getLines(bench.store, log('_last_checkpoint'));
    expect(hint).toEqual({ version: 6, size: 8, sizeInBytes: result.sizeInBytes, numOfAddFiles: 4 });
    for (let version = 0; version < 6; version++) await bench.store.delete(entry(version));
    await fill(bench, table, 2);
    const again = await bench.open();
    expect(again.version).toBe(8);
    expect(again.snapshot.metaData).toEqual(table.snapshot.metaData);
    expect(again.snapshot.txns).toEqual(table.snapshot.txns);
    expect(again.snapshot.timestampMs).toBe(table.snapshot.timestampMs);
    expect([...again.snapshot.files.keys()].sort()).toEqual([...table.snapshot.files.keys()].sort());
    expect([...again.snapshot.tombstones.keys()]).toEqual([...table.snapshot.tombstones.keys()]);
    const actions = await parquetCheckpointFormat.decode((await bench.store.get(checkpoint(6))) as Uint8Array);
    expect(actions.adds.every((add) => !add.dataChange)).toBe(true);
    expect(bench.warnings).toEqual([]);
  });

  test('of many files, with null partitions, escaped paths, statistics and a position that never expires, read back as written', async () => {
    const actions = {
      commitInfo: null,
      protocol: { minReaderVersion: 1, minWriterVersion: 2 },
      metaData: {
        id: 'i',
        name: null,
        description: 'd',
        schemaString: '{}',
        partitionColumns: ['day'],
        configuration: { a: 'b' },
        createdTime: 5,
      },
      txns: [
        { appId: 'a', version: 2 ** 52, lastUpdated: 7 },
        { appId: 'b', version: 0, lastUpdated: null },
      ],
      adds: Array.from({ length: 3000 }, (_, index) => ({
        path: `day=2026-11-22/ä #?%${index}.parquet`,
        partitionValues: { day: index % 2 === 0 ? '2026-11-22' : null },
        size: index,
        modificationTime: START_US / 1000,
        dataChange: false,
        stats: index % 3 === 0 ? null : `{"numRecords":${index}}`,
      })),
      removes: [
        { path: 'x', deletionTimestamp: 9, dataChange: false, partitionValues: null, size: null },
        { path: 'y', deletionTimestamp: 9, dataChange: false, partitionValues: { day: '2026-11-22' }, size: 3 },
      ],
    };
    const bytes = await parquetCheckpointFormat.encode(actions);
    expect(await parquetCheckpointFormat.decode(bytes)).toEqual(actions);
  });

  test('leave out positions and tombstones whose retention is over, and one fast clock expires nothing', async () => {
    const bench = makeBench();
    const table = await bench.open();
    await table.tryCommit(request([], [{ appId: OLD_LANE, from: 0, to: 9 }]));
    bench.clock.advance(401 * DAY_US);
    // A wall clock ahead alone is not enough: the table's own time has not passed.
    await table.checkpoint();
    expect(positionOf((await bench.open()).snapshot, OLD_LANE)).toBe(9);
    const add = await stage(table);
    await table.tryCommit(request([add], [{ appId: LANE, from: 0, to: 1 }]));
    await table.tryCommit(request([], [], { removes: [removeAction(add, Math.floor(bench.clock.nowUs() / 1000), true)] }));
    await table.checkpoint();
    expect(positionOf((await bench.open()).snapshot, OLD_LANE)).toBe(0);
    expect((await bench.open()).snapshot.tombstones.size).toBe(1);
    bench.clock.advance(2 * DAY_US);
    await table.tryCommit(request([], [{ appId: LANE, from: 1, to: 2 }]));
    await table.checkpoint();
    expect(table.snapshot.tombstones.size).toBe(0);
    expect((await bench.open()).snapshot.tombstones.size).toBe(0);
  });

  test('come when the interval has passed since the last one, whoever wrote it', async () => {
    const bench = makeBench();
    const [table, other] = [await bench.open(), await bench.open()];
    await fill(bench, table, 98);
    expect(await table.checkpointIfDue()).toBeNull();
    await fill(bench, table, 1);
    expect(await table.checkpointIfDue()).toMatchObject({ version: 99 });
    expect(await table.checkpointIfDue()).toBeNull();
    await other.refresh();
    expect(await other.checkpointIfDue()).toBeNull();
    expect(await keysOf(bench.store, log('_last'))).toHaveLength(1);
  });

  test('_last_checkpoint never goes back', async () => {
    const bench = makeBench();
    const [ahead, behind] = [await bench.open(), await bench.open()];
    await fill(bench, ahead, 3);
    await ahead.checkpoint();
    await behind.checkpoint();
    expect(await getLines(bench.store, log('_last_checkpoint'))).toMatchObject([{ version: 3 }]);
    expect(await bench.store.get(checkpoint(0))).not.toBeNull();
  });

  test.each(['torn', 'empty', 'noise', 'missing'] as const)(
    'one that is %s is passed over for an older one, with a warning, and written again',
    async (damage) => {
      const bench = makeBench();
      const table = await bench.open();
      await fill(bench, table, 2);
      await table.checkpoint();
      await fill(bench, table, 2);
      await table.checkpoint();
      for (const version of [0, 1]) await bench.store.delete(entry(version));
      const bytes = (await bench.store.get(checkpoint(4))) as Uint8Array;
      if (damage === 'missing') await bench.store.delete(checkpoint(4));
      else
        await bench.store.put(
          checkpoint(4),
          damage === 'torn'
            ? bytes.subarray(0, bytes.length / 2)
            : damage === 'empty'
              ? new Uint8Array(0)
              : bytes.map((byte, index) => byte ^ (index * 7)),
        );
      const again = await bench.open();
      expect(again.snapshot.txns).toEqual(table.snapshot.txns);
      expect([...again.snapshot.files.keys()].sort()).toEqual([...table.snapshot.files.keys()].sort());
      expect(bench.warnings.length).toBeGreaterThan(0);
      bench.warnings.length = 0;
      expect(await again.checkpoint()).toMatchObject({ version: 4 });
      bench.warnings.length = 0;
      expect((await bench.open()).version).toBe(4);
      expect(bench.warnings).toEqual([]);
    },
  );

  test.each(['', 'null', '{"version":"x"}', '{"version":-1}', '{"version":77}', '{"ver'])(
    'a _last_checkpoint of %j is passed over',
    async (text) => {
      const bench = makeBench();
      const table = await bench.open();
      await fill(bench, table, 3);
      await table.checkpoint();
      await putText(bench.store, log('_last_checkpoint'), [text]);
      for (const version of [0, 1]) await bench.store.delete(entry(version));
      expect((await bench.open()).snapshot.txns).toEqual(table.snapshot.txns);
      expect(bench.warnings.length).toBeGreaterThan(0);
    },
  );

  test('a log without its beginning and without a readable checkpoint is an error, never a new table', async () => {
    const bench = makeBench();
    const table = await bench.open();
    await fill(bench, table, 2);
    await bench.store.delete(entry(0));
    await expect(bench.open()).rejects.toMatchObject({ code: 'ERR_LAKE_LOG_GAP' });
  });
});

describe('log clean-up', () => {
  test('deletes what is older than the retention, below the two newest checkpoints, and the table opens the same, even from the older one', async () => {
    const bench = makeBench();
    const table = await bench.open();
    await fill(bench, table, 4);
    await table.checkpoint();
    await fill(bench, table, 4);
    await table.checkpoint();
    expect(await cleanLog(table, null)).toEqual({ checkpointVersion: 4, deletedEntries: 0, deletedCheckpoints: 0 });
    bench.clock.advance(3 * DAY_US);
    await table.refresh();
    await fill(bench, table, 2);
    expect(await cleanLog(table, null)).toEqual({ checkpointVersion: 4, deletedEntries: 4, deletedCheckpoints: 0 });
    const kept = [4, 5, 6, 7, 8, 9, 10].map(entry);
    expect(await keysOf(bench.store, log(''))).toEqual([...kept, checkpoint(4), checkpoint(8), log('_last_checkpoint')].sort());
    expect((await bench.open()).snapshot.txns).toEqual(table.snapshot.txns);
    expect(bench.warnings).toEqual([]);
    await bench.store.put(checkpoint(8), new Uint8Array(100));
    expect((await bench.open()).snapshot.txns).toEqual(table.snapshot.txns);
    // The hint named a damaged one: other readers are given one that they can read.
    bench.warnings.length = 0;
    expect((await bench.open()).snapshot.txns).toEqual(table.snapshot.txns);
    expect(bench.warnings).toEqual([]);
  });

  test('keeps what the slowest consumer has not consumed', async () => {
    const bench = makeBench();
    const table = await bench.open();
    await fill(bench, table, 5);
    await table.checkpoint();
    await fill(bench, table, 1);
    await table.checkpoint();
    bench.clock.advance(3 * DAY_US);
    await table.refresh();
    await fill(bench, table, 1);
    expect(await cleanLog(table, 2)).toMatchObject({ deletedEntries: 3 });
    const versions: number[] = [];
    for await (const { version } of table.history(2, 7)) versions.push(version);
    expect(versions).toEqual([3, 4, 5, 6, 7]);
  });

  test('does not trust a checkpoint that cannot be read', async () => {
    const bench = makeBench();
    const table = await bench.open();
    for (let turn = 0; turn < 3; turn++) {
      await fill(bench, table, 2);
      await table.checkpoint();
    }
    await bench.store.put(checkpoint(6), new Uint8Array(100));
    bench.clock.advance(3 * DAY_US);
    await table.refresh();
    await fill(bench, table, 1);
    expect(await cleanLog(table, null)).toMatchObject({ checkpointVersion: 2, deletedEntries: 2 });
    expect((await bench.open()).snapshot.txns).toEqual(table.snapshot.txns);
    for (const version of [2, 4, 6, 7]) await bench.store.put(checkpoint(version), new Uint8Array(100));
    expect(await cleanLog(table, null)).toMatchObject({ checkpointVersion: null, deletedEntries: 0 });
  });

  test('stopped at any point leaves a table that opens', async () => {
    for (let stopAfter = 0; stopAfter < 8; stopAfter++) {
      const bench = makeBench();
      const writer = await bench.open();
      await fill(bench, writer, 3);
      await writer.checkpoint();
      await fill(bench, writer, 3);
      await writer.checkpoint();
      bench.clock.advance(3 * DAY_US);
      await writer.refresh();
      await fill(bench, writer, 1);
      let deletes = 0;
      const client = bench.store.client((operation) => (operation === 'delete' && deletes++ >= stopAfter ? 'fail-before' : null));
      const table = await bench.open({ store: client });
      await cleanLog(table, null).catch((error: unknown) => expect(error).toMatchObject({ code: 'ERR_STORE_IO' }));
      expect((await bench.open()).snapshot.txns).toEqual(writer.snapshot.txns);
    }
  });
});

describe('vacuum', () => {
  test('deletes old orphans and long removed files, and nothing that is young, active, removed of late or beside the data', async () => {
    const bench = makeBench();
    const table = await bench.open();
    const orphan = await stage(table, 'orphan');
    const [active, longRemoved, lateRemoved] = [await stage(table, 'active'), await stage(table, 'long'), await stage(table, 'late')];
    await bench.store.put('readings/_sluice/settings', new Uint8Array(1));
    await bench.store.put('readings/.hidden', new Uint8Array(1));
    await bench.store.put('exceptions/other.parquet', new Uint8Array(1));
    const nowMs = (): number => Math.floor(bench.clock.nowUs() / 1000);
    await table.tryCommit(request([active, longRemoved, lateRemoved], [{ appId: LANE, from: 0, to: 1 }]));
    await table.tryCommit(request([], [], { removes: [removeAction(longRemoved, nowMs(), true)] }));
    expect(await vacuum(table, null)).toEqual({ deletedFiles: 0, deletedBytes: 0, waitingFiles: 2 });
    bench.clock.advance(2 * DAY_US);
    await table.tryCommit(request([], [], { removes: [removeAction(lateRemoved, nowMs(), true)] }));
    const young = await stage(table, 'young');
    expect(await vacuum(table, null)).toEqual({ deletedFiles: 2, deletedBytes: 'orphan'.length + 'long'.length, waitingFiles: 2 });
    expect((await keysOf(bench.store)).filter((key) => !key.startsWith(log('')))).toEqual(
      [
        ...[active, lateRemoved, young].map((add) => `readings/${add.path}`),
        'exceptions/other.parquet',
        'readings/.hidden',
        'readings/_sluice/settings',
      ].sort(),
    );
    expect(await bench.store.get(`readings/${orphan.path}`)).toBeNull();
  });

  test('keeps what a consumer that lags may still have to read, also when no tombstone tells any more', async () => {
    const bench = makeBench();
    const table = await bench.open();
    const adds: AddFile[] = [];
    for (let index = 0; index < 3; index++) {
      const add = await stage(table);
      adds.push(add);
      await table.tryCommit(request([add], [{ appId: LANE, from: index, to: index + 1 }]));
      bench.clock.advance(DAY_US);
    }
    const merged = await stage(table, 'both');
    const removes = adds.map((add) => removeAction(add, Math.floor(bench.clock.nowUs() / 1000), false));
    await table.tryCommit(request([merged], [], { removes }));
    bench.clock.advance(3 * DAY_US);
    await fill(bench, table, 1);
    await table.checkpoint();
    const again = await bench.open();
    expect(again.snapshot.tombstones.size).toBe(0);
    expect(await vacuum(again, 2)).toMatchObject({ deletedFiles: 1 });
    expect(await bench.store.get(`readings/${adds[2].path}`)).not.toBeNull();
    expect(await vacuum(again, null)).toMatchObject({ deletedFiles: 2 });
  });

  test('a table whose checkpoints another hub writes forgets what they forget', async () => {
    const bench = makeBench();
    const [writer, reader] = [await bench.open(), await bench.open()];
    const add = await stage(writer);
    await writer.tryCommit(request([add], []));
    await writer.tryCommit(request([], [], { removes: [removeAction(add, Math.floor(bench.clock.nowUs() / 1000), true)] }));
    bench.clock.advance(2 * DAY_US);
    await fill(bench, writer, 100);
    await writer.checkpoint();
    await reader.refresh();
    expect(reader.snapshot.tombstones.size).toBe(1);
    expect(await reader.checkpointIfDue()).toBeNull();
    expect(reader.snapshot.tombstones.size).toBe(0);
  });

  test('after a checkpoint has forgotten a tombstone still waits for nothing that is referenced', async () => {
    const bench = makeBench();
    const table = await bench.open();
    const add = await stage(table);
    await table.tryCommit(request([add], [{ appId: LANE, from: 0, to: 1 }]));
    bench.clock.advance(2 * DAY_US);
    await table.tryCommit(request([], [], { removes: [removeAction(add, Math.floor(bench.clock.nowUs() / 1000), true)] }));
    bench.clock.advance(HOUR_US);
    await table.checkpoint();
    const again = await bench.open();
    expect(await vacuum(again, null)).toMatchObject({ deletedFiles: 0, waitingFiles: 1 });
  });
});
