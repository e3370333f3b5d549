import { describe, expect, test } from 'vitest';
import { isSluiceError, type ErrorCode } from '../../shared/errors.ts';
import { removeAction } from './delta-stats.ts';
import { positionOf } from './delta-snapshot.ts';
import type { AppliedVersion } from './delta-table.ts';
import { DAY_US, getLines, HOUR_US, keysOf, makeBench, putText, request, stage, START_US } from './delta.fixture.ts';
import { schemaString } from './table-spec.ts';
import { EXCEPTIONS, READINGS } from './tables.ts';

const LANE = 'gw/g1/0123456789abcdef0123456789abcdef/live';
const LANE_2 = 'gw/g2/0123456789abcdef0123456789abcdef/live';
const entry = (version: number): string => `readings/_delta_log/${String(version).padStart(20, '0')}.json`;

const failsWith = (code: ErrorCode) => (error: unknown) => isSluiceError(error, code);

describe('opening', () => {
  test('creates version 0 with the protocol, schema, partitioning and retention of the table', async () => {
    const { open, store } = makeBench();
    const table = await open();
    expect(table.version).toBe(0);
    const [commitInfo, protocol, metaData] = await getLines(store, entry(0));
    expect(commitInfo?.['commitInfo']).toMatchObject({
      timestamp: START_US / 1000,
      operation: 'CREATE TABLE',
      engineInfo: expect.stringMatching(/^sluice-hub\/\d/),
      hubId: 'hub-a',
    });
    expect(protocol).toEqual({ protocol: { minReaderVersion: 1, minWriterVersion: 2 } });
    expect(metaData?.['metaData']).toMatchObject({
      id: table.snapshot.metaData.id,
      format: { provider: 'parquet', options: {} },
      schemaString: schemaString(READINGS),
      partitionColumns: ['day'],
      configuration: { 'delta.setTransactionRetentionDuration': 'interval 400 days', 'delta.checkpointInterval': '100' },
    });
  });

  test('hubs that create at once all get the table of one of them', async () => {
    const { open } = makeBench();
    const tables = await Promise.all([open(), open(), open()]);
    expect(new Set(tables.map((table) => table.snapshot.metaData.id)).size).toBe(1);
    expect(tables.map((table) => table.version)).toEqual([0, 0, 0]);
  });

  test('a lost answer to the creation is no error', async () => {
    const { open, store } = makeBench();
    const client = store.client((operation) => (operation === 'putIfAbsent' ? 'fail-after' : null));
    expect((await open({ store: client })).version).toBe(0);
  });

  test.each([
    { protocol: { minReaderVersion: 2, minWriterVersion: 5 } },
    { protocol: { minReaderVersion: 1, minWriterVersion: 7, writerFeatures: ['appendOnly'] } },
    { protocol: { minReaderVersion: 3, minWriterVersion: 7, readerFeatures: ['deletionVectors'], writerFeatures: ['deletionVectors'] } },
  ])('refuses the protocol %j', async (line) => {
    const { open, store } = makeBench();
    const table = await open();
    await putText(store, entry(1), [line]);
    await expect(open()).rejects.toSatisfy(failsWith('ERR_LAKE_PROTOCOL'));
    await expect(table.refresh()).rejects.toSatisfy(failsWith('ERR_LAKE_PROTOCOL'));
    expect(table.version).toBe(0);
  });

  test('refuses a table with other columns, and accepts one with more', async () => {
    const { open, store } = makeBench();
    const id = (await open()).snapshot.metaData.id;
    const metaData = { id, format: { provider: 'parquet' }, partitionColumns: ['day'], configuration: {} };
    const schema = JSON.parse(schemaString(READINGS)) as { fields: { name: string; type: unknown; nullable: boolean; metadata: object }[] };
    schema.fields.push({ name: 'site', type: 'string', nullable: true, metadata: {} });
    await putText(store, entry(1), [{ metaData: { ...metaData, schemaString: JSON.stringify(schema) } }]);
    expect((await open()).version).toBe(1);
    await putText(store, entry(2), [{ metaData: { ...metaData, schemaString: schemaString(EXCEPTIONS) } }]);
    await expect(open()).rejects.toSatisfy(failsWith('ERR_LAKE_SCHEMA'));
  });

  test('a corrupt entry stops it: no other object says the same', async () => {
    const { open, store } = makeBench();
    await open();
    await putText(store, entry(1), ['{"add":{"path":"x"']);
    await expect(open()).rejects.toSatisfy(failsWith('ERR_LAKE_LOG_CORRUPT'));
    await store.put(entry(1), new Uint8Array(0));
    await expect(open()).rejects.toSatisfy(failsWith('ERR_LAKE_LOG_CORRUPT'));
  });
});

describe('committing', () => {
  test('makes files and positions one version, and every listener sees it in the same step', async () => {
    const { open, store } = makeBench();
    const table = await open();
    const seen: [number, number][] = [];
    table.onVersion((applied) => seen.push([applied.version, positionOf(table.snapshot, LANE)]));
    const add = await stage(table);
    const outcome = await table.tryCommit(request([add], [{ appId: LANE, from: 0, to: 3 }]));
    expect(outcome).toMatchObject({ status: 'committed', version: 1, timestampMs: START_US / 1000 + 1 });
    expect(outcome.applied.map(({ version, isOwn }) => ({ version, isOwn }))).toEqual([{ version: 1, isOwn: true }]);
    expect(seen).toEqual([[1, 3]]);
    expect([...table.snapshot.files.keys()]).toEqual([add.path]);
    expect(add.path).toMatch(/^day=2026-11-22\/part-00000-[0-9a-f-]{36}\.c000\.zstd\.parquet$/);
    const lines = await getLines(store, entry(1));
    expect(lines.slice(1)).toEqual([
      { txn: { appId: LANE, version: 3, lastUpdated: START_US / 1000 + 1 } },
      { add: { path: add.path, partitionValues: { day: '2026-11-22' }, size: 4, modificationTime: START_US / 1000, dataChange: true } },
    ]);
    const again = await open();
    expect(again.snapshot).toEqual(table.snapshot);
  });

  test('commit times rise with the version, even when the clock goes back', async () => {
    const { open, clock } = makeBench();
    const table = await open();
    const times: number[] = [];
    for (let index = 0; index < 3; index++) {
      const outcome = await table.tryCommit(request([], [{ appId: LANE, from: index, to: index + 1 }]));
      if (outcome.status === 'committed') times.push(outcome.timestampMs);
      clock.step(-600_000_000);
    }
    expect(times).toHaveLength(3);
    expect([...times].sort((a, b) => a - b)).toEqual(times);
    expect(new Set(times).size).toBe(3);
  });

  test('after a lost race on other lanes the same files are committed at the next version', async () => {
    const { open } = makeBench();
    const [a, b] = [await open(), await open()];
    const add = await stage(b);
    await a.tryCommit(request([await stage(a)], [{ appId: LANE_2, from: 0, to: 7 }]));
    const outcome = await b.tryCommit(request([add], [{ appId: LANE, from: 0, to: 1 }]));
    expect(outcome).toMatchObject({ status: 'committed', version: 2 });
    expect(outcome.applied.map(({ version, isOwn }) => [version, isOwn])).toEqual([
      [1, false],
      [2, true],
    ]);
    expect(positionOf(b.snapshot, LANE_2)).toBe(7);
  });

  test('a position that a winner moved refuses the whole commit, and the staged file can be deleted', async () => {
    const { open, store } = makeBench();
    const [a, b] = [await open(), await open()];
    const add = await stage(b);
    await a.tryCommit(request([await stage(a)], [{ appId: LANE, from: 0, to: 2 }]));
    const outcome = await b.tryCommit(
      request(
        [add],
        [
          { appId: LANE_2, from: 0, to: 1 },
          { appId: LANE, from: 0, to: 3 },
        ],
      ),
    );
    expect(outcome).toMatchObject({ status: 'moved', appIds: [LANE] });
    expect(positionOf(b.snapshot, LANE)).toBe(2);
    expect(positionOf(b.snapshot, LANE_2)).toBe(0);
    await b.discardStaged([add.path, ...a.snapshot.files.keys()]);
    expect(await store.get(`readings/${add.path}`)).toBeNull();
    for (const path of a.snapshot.files.keys()) expect(await store.get(`readings/${path}`)).not.toBeNull();
  });

  test('a rewrite is a conflict when a winner removed one of its inputs', async () => {
    const { open } = makeBench();
    const [a, b] = [await open(), await open()];
    const input = await stage(a);
    await a.tryCommit(request([input], [{ appId: LANE, from: 0, to: 1 }]));
    await b.refresh();
    const remove = removeAction(input, START_US / 1000, false);
    const rewritten = { ...(await stage(a)), dataChange: false };
    expect(await a.tryCommit(request([rewritten], [], { removes: [remove] }))).toMatchObject({ status: 'committed' });
    const loser = { ...(await stage(b)), dataChange: false };
    expect(await b.tryCommit(request([loser], [], { removes: [remove] }))).toMatchObject({ status: 'conflict', reason: 'removed' });
    expect([...b.snapshot.files.keys()]).toEqual([rewritten.path]);
    expect([...b.snapshot.tombstones.keys()]).toEqual([input.path]);
  });

  test('a change of metaData since the request was planned is a conflict', async () => {
    const { open, store } = makeBench();
    const table = await open();
    const planned = table.version;
    const [, , metaData] = await getLines(store, entry(0));
    await putText(store, entry(1), [metaData]);
    expect(await table.tryCommit(request([], [{ appId: LANE, from: 0, to: 1 }]))).toMatchObject({ status: 'conflict', reason: 'metadata' });
    // Seen by a refresh before the commit, it is one as well if the caller says what it planned with.
    expect(await table.tryCommit(request([], [{ appId: LANE, from: 0, to: 1 }], { readVersion: planned }))).toMatchObject({
      status: 'conflict',
    });
    expect(await table.tryCommit(request([], [{ appId: LANE, from: 0, to: 1 }]))).toMatchObject({ status: 'committed', version: 2 });
  });

  test('rows of an append-only table are not removed', async () => {
    const { open, store } = makeBench();
    const table = await open();
    const add = await stage(table);
    await table.tryCommit(request([add], []));
    const [, , line] = await getLines(store, entry(0));
    await putText(store, entry(2), [{ metaData: { ...line?.['metaData'], configuration: { 'delta.appendOnly': 'true' } } }]);
    await table.refresh();
    const commit = table.tryCommit(request([], [], { removes: [removeAction(add, 0, true)] }));
    await expect(commit).rejects.toSatisfy(failsWith('ERR_LAKE_PROTOCOL'));
  });

  test('files staged so long ago that vacuum may have taken them are refused', async () => {
    const { open, clock } = makeBench();
    const table = await open();
    const add = await stage(table);
    clock.advance(13 * HOUR_US);
    const commit = table.tryCommit(request([add], [{ appId: LANE, from: 0, to: 1 }]));
    await expect(commit).rejects.toSatisfy(failsWith('ERR_LAKE_STAGED_EXPIRED'));
  });

  test('a crash between staging and commit leaves only an orphan file', async () => {
    const { open, store } = makeBench();
    const table = await open();
    const client = store.client((operation, key) =>
      operation === 'putIfAbsent' && key.includes('_delta_log') ? new Promise(() => undefined) : null,
    );
    const dying = await open({ store: client });
    const add = await stage(dying);
    void dying.tryCommit(request([add], [{ appId: LANE, from: 0, to: 1 }]));
    await table.refresh();
    expect(table.version).toBe(0);
    expect(await keysOf(store)).toEqual([entry(0), `readings/${add.path}`]);
  });
});

describe('lost answers', () => {
  test('a commit whose answer was lost is found by its txnId and counts once', async () => {
    const { open, store } = makeBench();
    let faults = 1;
    const client = store.client((operation, key) =>
      operation === 'putIfAbsent' && key === entry(1) && faults-- > 0 ? 'fail-after' : null,
    );
    const table = await open({ store: client });
    const outcome = await table.tryCommit(request([await stage(table)], [{ appId: LANE, from: 0, to: 1 }]));
    expect(outcome).toMatchObject({ status: 'committed', version: 1 });
    expect(outcome.applied.map((applied) => applied.isOwn)).toEqual([true]);
    expect(await store.get(entry(2))).toBeNull();
  });

  test('a put that did not happen is tried again', async () => {
    const { open, store } = makeBench();
    let faults = 3;
    const client = store.client((operation, key) =>
      operation === 'putIfAbsent' && key === entry(1) && faults-- > 0 ? 'fail-before' : null,
    );
    const table = await open({ store: client });
    expect(await table.tryCommit(request([], [{ appId: LANE, from: 0, to: 1 }]))).toMatchObject({ status: 'committed', version: 1 });
  });

  test('while the store says nothing the commit is in doubt, its files are kept, and the next commit learns the truth', async () => {
    const { open, store } = makeBench();
    let isDown = false;
    const client = store.client((operation, key) => {
      if (!isDown || !key.includes('_delta_log')) return null;
      return operation === 'putIfAbsent' ? 'fail-after' : 'fail-before';
    });
    const table = await open({ store: client });
    const add = await stage(table);
    const commit = request([add], [{ appId: LANE, from: 0, to: 1 }]);
    isDown = true;
    await expect(table.tryCommit(commit)).rejects.toSatisfy(failsWith('ERR_LAKE_COMMIT_UNKNOWN'));
    expect(table.version).toBe(0);
    await table.discardStaged([add.path]);
    expect(await store.get(`readings/${add.path}`)).not.toBeNull();
    isDown = false;
    // The same request again: its files are in version 1, so it is committed there and nowhere else.
    expect(await table.tryCommit(commit)).toMatchObject({ status: 'committed', version: 1 });
    expect(await store.get(entry(2))).toBeNull();
  });

  test('a rebuilt request after a commit in doubt meets the first one and is moved; the first one keeps its file', async () => {
    const { open, store } = makeBench();
    let isDown = false;
    const client = store.client((operation, key) =>
      isDown && key.includes('_delta_log') ? (operation === 'putIfAbsent' ? 'fail-after' : 'fail-before') : null,
    );
    const table = await open({ store: client });
    const first = await stage(table);
    isDown = true;
    await expect(table.tryCommit(request([first], [{ appId: LANE, from: 0, to: 1 }]))).rejects.toSatisfy(
      failsWith('ERR_LAKE_COMMIT_UNKNOWN'),
    );
    isDown = false;
    const second = await stage(table);
    expect(await table.tryCommit(request([second], [{ appId: LANE, from: 0, to: 2 }]))).toMatchObject({ status: 'moved' });
    await table.discardStaged([first.path, second.path]);
    expect(await store.get(`readings/${first.path}`)).not.toBeNull();
    expect(await store.get(`readings/${second.path}`)).toBeNull();
  });

  test('versions applied by a call that threw are in the next answer', async () => {
    const { open, store } = makeBench();
    const other = await open();
    let isDown = false;
    const client = store.client((operation, key) => (isDown && operation !== 'get' && key === entry(2) ? 'fail-before' : null));
    const table = await open({ store: client });
    await other.tryCommit(request([], [{ appId: LANE_2, from: 0, to: 1 }]));
    isDown = true;
    await expect(table.tryCommit(request([], [{ appId: LANE, from: 0, to: 1 }]))).rejects.toSatisfy(failsWith('ERR_LAKE_COMMIT_UNKNOWN'));
    expect(table.version).toBe(1);
    isDown = false;
    const outcome = await table.tryCommit(request([], [{ appId: LANE, from: 0, to: 1 }]));
    expect(outcome.applied.map(({ version, isOwn }) => [version, isOwn])).toEqual([
      [1, false],
      [2, true],
    ]);
  });

  test('a full store is an error at once, and the next commit goes on', async () => {
    const { open, store } = makeBench();
    const { SluiceError } = await import('../../shared/errors.ts');
    let isFull = true;
    let puts = 0;
    const client = store.client((operation, key) => {
      if (operation !== 'putIfAbsent' || key !== entry(1)) return null;
      puts++;
      if (isFull) throw new SluiceError('ERR_STORE_FULL', 'no space left');
      return null;
    });
    const table = await open({ store: client });
    const commit = request([], [{ appId: LANE, from: 0, to: 1 }]);
    await expect(table.tryCommit(commit)).rejects.toSatisfy(failsWith('ERR_STORE_FULL'));
    expect(puts).toBe(1);
    isFull = false;
    expect(await table.tryCommit(commit)).toMatchObject({ status: 'committed', version: 1 });
  });
});

describe('following', () => {
  test('every version comes once, in order, with its actions', async () => {
    const { open } = makeBench();
    const [writer, reader] = [await open(), await open()];
    for (let index = 0; index < 150; index++) await writer.tryCommit(request([], [{ appId: LANE, from: index, to: index + 1 }]));
    const applied = await reader.refresh();
    expect(applied.map(({ version }) => version)).toEqual(Array.from({ length: 150 }, (_, index) => index + 1));
    expect(applied.every((version, index) => version.actions.txns[0]?.version === index + 1)).toBe(true);
    expect(await reader.refresh()).toEqual([]);
    const history: number[] = [];
    for await (const { version, actions } of reader.history(10, 13)) history.push(version, actions.txns[0]?.version ?? -1);
    expect(history).toEqual([11, 11, 12, 12, 13, 13]);
  });

  test('a snapshot that was handed out stays as it was', async () => {
    const { open } = makeBench();
    const table = await open();
    const before = table.snapshot;
    const add = await stage(table);
    await table.tryCommit(request([add], [{ appId: LANE, from: 0, to: 1 }]));
    expect(before.version).toBe(0);
    expect(before.files.size).toBe(0);
    expect(before.txns.size).toBe(0);
    expect(table.snapshot.files.size).toBe(1);
  });

  test('foreign commits with unknown actions, no commitInfo, odd statistics and times in seconds are followed', async () => {
    const { open, store } = makeBench();
    const table = await open();
    await putText(store, entry(1), [
      { cdc: { path: 'x' } },
      { domainMetadata: { domain: 'd', configuration: '{}', removed: false } },
      {
        add: {
          path: 'day=2026-11-22/a%20b.parquet',
          partitionValues: { day: '2026-11-22' },
          size: '12',
          modificationTime: 1_795_338_578,
          dataChange: true,
          stats: { stats_json: '{}' },
        },
      },
      {
        add: {
          path: 'day=2026-11-22/plain.parquet',
          partitionValues: {},
          size: 1,
          modificationTime: 1,
          dataChange: true,
          stats: 'not json',
        },
      },
      { txn: { appId: 'spark-query', version: 4 } },
      '',
    ]);
    await putText(store, entry(2), [{ remove: { path: 'day=2026-11-22/plain.parquet', dataChange: true } }]);
    const applied: AppliedVersion[] = await table.refresh();
    expect(applied).toHaveLength(2);
    expect([...table.snapshot.files.keys()]).toEqual(['day=2026-11-22/a b.parquet']);
    expect(table.snapshot.txns.get('spark-query')).toEqual({ appId: 'spark-query', version: 4, lastUpdated: null });
    expect(await table.tryCommit(request([], [{ appId: 'spark-query', from: 4, to: 5 }]))).toMatchObject({
      status: 'committed',
      version: 3,
    });
  });
});

describe('a hub that slept', () => {
  test('for more than an hour confirms its snapshot before a commit, by the wall clock or the monotonic one', async () => {
    for (const pass of ['advance', 'step'] as const) {
      const { open, store, clock } = makeBench();
      const other = await open();
      const listed: string[] = [];
      const table = await open({ store: store.client((operation, key) => (operation === 'list' && listed.push(key), null)) });
      await other.tryCommit(request([], [{ appId: LANE, from: 0, to: 1 }]));
      listed.length = 0;
      clock[pass](HOUR_US + 1);
      expect(await table.tryCommit(request([], [{ appId: LANE, from: 0, to: 1 }]))).toMatchObject({ status: 'moved' });
      expect(listed.length).toBeGreaterThan(0);
    }
  });

  test('through a log clean-up does not commit into a version that nobody reads', async () => {
    const { open, store, clock } = makeBench();
    const [table, other] = [await open(), await open()];
    for (let index = 0; index < 3; index++) await other.tryCommit(request([], [{ appId: LANE, from: index, to: index + 1 }]));
    await other.checkpoint();
    for (const version of [0, 1, 2]) await store.delete(entry(version));
    clock.step(3 * DAY_US);
    await expect(table.tryCommit(request([], [{ appId: LANE_2, from: 0, to: 1 }]))).rejects.toSatisfy(failsWith('ERR_LAKE_LOG_GAP'));
    await expect(table.refresh()).rejects.toSatisfy(failsWith('ERR_LAKE_LOG_GAP'));
    expect(await store.get(entry(1))).toBeNull();
  });

  test('does not take in an entry that a late put left in the place of a deleted one', async () => {
    const { open, store, clock } = makeBench();
    const [table, other] = [await open(), await open()];
    for (let index = 0; index < 3; index++) await other.tryCommit(request([], [{ appId: LANE, from: index, to: index + 1 }]));
    await other.checkpoint();
    for (const version of [0, 1]) await store.delete(entry(version));
    clock.step(3 * DAY_US);
    await putText(store, entry(1), [{ txn: { appId: LANE_2, version: 99 } }]);
    await expect(table.refresh()).rejects.toSatisfy(failsWith('ERR_LAKE_LOG_GAP'));
    expect(positionOf(table.snapshot, LANE_2)).toBe(0);
  });

  test('in the middle of the put takes back an entry that nobody reads', async () => {
    const { open, store, clock } = makeBench();
    const other = await open();
    const client = store.client(async (operation, key) => {
      if (operation !== 'putIfAbsent' || key !== entry(1)) return null;
      for (let index = 0; index < 3; index++) await other.tryCommit(request([], [{ appId: LANE, from: index, to: index + 1 }]));
      await other.checkpoint();
      for (const version of [0, 1, 2]) await store.delete(entry(version));
      clock.step(3 * DAY_US);
      return null;
    });
    const table = await open({ store: client });
    await expect(table.tryCommit(request([await stage(table)], [{ appId: LANE, from: 0, to: 1 }]))).rejects.toSatisfy(
      failsWith('ERR_LAKE_LOG_GAP'),
    );
    expect(await store.get(entry(1))).toBeNull();
    expect(positionOf((await open()).snapshot, LANE)).toBe(3);
  });

  test('in the middle of a put that counted all the same is told that it counted', async () => {
    const { open, store, clock } = makeBench();
    const client = store.client((operation, key) => {
      if (operation === 'putIfAbsent' && key === entry(1)) clock.step(2 * HOUR_US);
      return null;
    });
    const table = await open({ store: client });
    expect(await table.tryCommit(request([], [{ appId: LANE, from: 0, to: 1 }]))).toMatchObject({ status: 'committed', version: 1 });
  });
});
