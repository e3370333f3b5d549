import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ManualClock } from '../shared/clock.ts';
import { SluiceError } from '../shared/errors.ts';
import type { ExceptionRecord } from '../shared/exception.ts';
import { laneAppId } from '../shared/uplink.ts';
import { partialColumnsOf } from '../shared/window/packed-partials.ts';
import type { AggregateCapture, AggregateFilter } from './engine-api.ts';
import { batchOf, laneOf, mergedCapture, startHub, temporaryLake, wideBatch, EPOCH, type TestHub } from './engine.fixture.ts';
import { readParquetRows } from './lake/parquet/read.ts';
import { readGatewayRuns } from './windows/readings-source.ts';

/** A whole hour some hours ago: a watermark that lies ahead of the hub's clock is cut back. */
const START_US = (Math.floor(Date.now() / 3_600_000) - 3) * 3_600_000_000;
const MINUTES: AggregateFilter = {
  window: '1m',
  fromUs: START_US,
  toUs: START_US + 3_600_000_000,
  gateways: null,
  devices: null,
  metrics: null,
};

let lake: ReturnType<typeof temporaryLake>;
beforeEach(() => {
  lake = temporaryLake();
});
afterEach(() => lake.remove());

/** What an answer over all minutes says: how many readings, and their sum. */
async function total(hub: TestHub, filter = MINUTES): Promise<{ n: number; sum: number }> {
  const rows = [...(await mergedCapture(hub.engine.captureAggregates(filter))).values()];
  return { n: rows.reduce((sum, row) => sum + row.n, 0), sum: rows.reduce((sum, row) => sum + row.sumValue, 0) };
}

/** Rows of `readings`, from the files that the log names. */
async function lakeValues(hub: TestHub): Promise<number[]> {
  const values: number[] = [];
  await hub.lake.readings.refresh();
  for (const path of hub.lake.readings.snapshot.files.keys()) {
    for (const { runs } of await readGatewayRuns(hub.lake.store, `readings/${path}`)) values.push(...runs.value.subarray(0, runs.count));
  }
  return values.sort((a, b) => a - b);
}

describe('the engine', () => {
  test('answers about a batch before it is committed, and the same afterwards, after a flush and after a restart', async () => {
    const first = await startHub(lake.directory);
    const lane = laneOf('gw-1');
    expect(await first.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: 2 })).toEqual({
      committed: 0,
      received: 0,
      status: 'open',
    });
    first.engine.submit(lane, batchOf(1, START_US, 90, 0));
    const expected = { n: 90, sum: (89 * 90) / 2 };
    expect(await total(first)).toEqual(expected);
    await first.waitCommitted(laneAppId(lane), 1);
    expect(await total(first)).toEqual(expected);
    await first.engine.stop();
    expect(await total(first)).toEqual(expected);

    const second = await startHub(lake.directory);
    expect(await total(second)).toEqual(expected);
    expect(await second.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 2, assigned: 2 })).toEqual({
      committed: 1,
      received: 1,
      status: 'open',
    });
    await second.engine.stop();
  });

  test('a large commit is seen whole in every capture between two of its steps', async () => {
    const count = 90_000;
    const captures: AggregateCapture[] = [];
    const filter = { ...MINUTES, toUs: START_US + count * 1_000_000 };
    let isSubmitted = false;
    const hub: TestHub = await startHub(lake.directory, {}, undefined, () => {
      if (isSubmitted && (captures.length === 0 || hub.committed.size > 0)) captures.push(hub.engine.captureAggregates(filter));
    });
    const lane = laneOf('gw-1');
    await hub.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: 1 });
    hub.engine.submit(lane, batchOf(1, START_US, count, 0));
    isSubmitted = true;
    await hub.waitCommitted(laneAppId(lane), 1);
    await hub.engine.idle();
    // 9,000 panes of 10 s are more than two steps; the first capture is from before the commit.
    expect(captures.length).toBeGreaterThanOrEqual(3);
    for (const capture of captures) {
      const rows = [...(await mergedCapture(capture)).values()];
      expect(rows.map(({ n }) => n)).toEqual(Array.from({ length: count / 60 }, () => 60));
      expect(rows.reduce((sum, row) => sum + row.sumValue, 0)).toBe((count * (count - 1)) / 2);
    }
    await hub.engine.stop();
  });

  test('a capture in steps is of one moment, however many batches and commits come meanwhile, and others see those', async () => {
    const count = 17_000;
    const lane = laneOf('gw-1');
    let next = 0;
    let seq = 0;
    let isCapturing = false;
    let isSubmitting = false;
    let seen = 0;
    const intervals = { commitIntervalMsMin: 1_000, commitIntervalMsMax: 1_000 };
    const hub: TestHub = await startHub(lake.directory, intervals, undefined, () => {
      // A submission has steps of its own.
      if (!isCapturing || isSubmitting) return;
      isSubmitting = true;
      hub.engine.submit(lane, batchOf(++seq, START_US + (next % 3_600) * 1_000_000, 10, next));
      isSubmitting = false;
      next += 10;
      const { tail } = hub.engine.captureAggregates({ ...MINUTES, devices: ['pump-1'], toUs: START_US + 7_200_000_000 });
      seen = tail.map(partialColumnsOf).reduce((sum, { n }) => sum + n.reduce((all, one) => all + one, 0), 0);
      expect(seen).toBe(next - 2 * count);
    });
    await hub.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: 100_000 });
    // The second one is not committed when the first capture comes: what is open is read in steps, too.
    for (let wide = 0; wide < 2; wide++) {
      hub.engine.submit(lane, wideBatch(++seq, START_US, count, next));
      next += count;
      if (wide === 0) await hub.waitCommitted(laneAppId(lane), 1);
    }
    const filter = { ...MINUTES, toUs: START_US + 7_200_000_000 };
    isCapturing = true;
    for (let turn = 0; turn < 2; turn++) {
      const before = seq;
      const rows = [...(await mergedCapture(await hub.engine.captureAggregatesInTurn(filter))).values()];
      expect(seq).toBeGreaterThan(before);
      // Values count up, so the sum says which readings were counted.
      const n = rows.reduce((sum, row) => sum + row.n, 0);
      expect(n).toBeGreaterThanOrEqual(2 * count);
      expect(rows.reduce((sum, row) => sum + row.sumValue, 0)).toBe((n * (n - 1)) / 2);
    }
    isCapturing = false;
    expect(seen).toBeGreaterThan(0);
    await hub.waitCommitted(laneAppId(lane), seq);
    expect((await total(hub, filter)).n).toBe(next);
    await hub.engine.stop();
  });

  test('a hub that dies between commit and flush leaves nothing out and nothing doubled', async () => {
    const first = await startHub(lake.directory);
    const lane = laneOf('gw-1');
    await first.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: 2 });
    first.engine.submit(lane, batchOf(1, START_US, 60, 0));
    await first.waitCommitted(laneAppId(lane), 1);
    // No stop: its memory is gone as after a kill.
    const second = await startHub(lake.directory);
    expect(await total(second)).toEqual({ n: 60, sum: (59 * 60) / 2 });
    await second.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 2, assigned: 2 });
    second.engine.submit(lane, batchOf(2, START_US + 60_000_000, 60, 60));
    await second.waitCommitted(laneAppId(lane), 2);
    await second.engine.stop();
    const third = await startHub(lake.directory);
    expect(await total(third)).toEqual({ n: 120, sum: (119 * 120) / 2 });
    await third.engine.stop();
    await first.engine.stop();
  });

  test('two hubs that are sent the same batches at the same time commit each of them once', async () => {
    const hubs = [
      await startHub(lake.directory, { hubInstance: 'a'.repeat(32) }),
      await startHub(lake.directory, { hubInstance: 'b'.repeat(32) }),
    ];
    const lanes = ['gw-1', 'gw-2', 'gw-3'].map((gateway) => laneOf(gateway));
    const batches = 12;
    for (const hub of hubs) {
      for (const lane of lanes) await hub.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: batches });
    }
    for (let seq = 1; seq <= batches; seq++) {
      for (const lane of lanes) {
        for (const hub of hubs) {
          const state = await hub.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: batches });
          if (state.received === seq - 1) hub.engine.submit(lane, batchOf(seq, START_US + seq * 10_000_000, 10, seq * 10));
        }
      }
    }
    for (const hub of hubs) for (const lane of lanes) await hub.waitCommitted(laneAppId(lane), batches);
    const expectedValues = lanes.flatMap(() => Array.from({ length: batches * 10 }, (_, index) => index + 10)).sort((a, b) => a - b);
    expect(await lakeValues(hubs[0])).toEqual(expectedValues);
    const sum = expectedValues.reduce((a, b) => a + b, 0);
    for (const hub of hubs) expect(await total(hub)).toEqual({ n: expectedValues.length, sum });
    // Both flush; the loser reads again what is behind the winner's position.
    for (const hub of hubs) await hub.engine.stop();
    for (const hub of hubs) expect(await total(hub)).toEqual({ n: expectedValues.length, sum });
  });

  test('a lane whose gateway has assigned less than the lake knows is forked, and frees nothing', async () => {
    const hub = await startHub(lake.directory);
    const lane = laneOf('gw-1');
    await hub.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: 1 });
    hub.engine.submit(lane, batchOf(1, START_US, 5, 0));
    await hub.waitCommitted(laneAppId(lane), 1);
    expect(await hub.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: 0 })).toMatchObject({
      status: 'forked',
      committed: 1,
    });
    await hub.engine.stop();
  });

  test('seqs that the gateway has freed and the lake does not have become a gap, and the lane goes on', async () => {
    const hub = await startHub(lake.directory);
    const lane = laneOf('gw-1');
    expect(await hub.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 5, assigned: 5 })).toMatchObject({
      status: 'open',
      received: 4,
    });
    hub.engine.submit(lane, batchOf(5, START_US, 5, 0));
    await hub.waitCommitted(laneAppId(lane), 5);
    expect(await total(hub)).toEqual({ n: 5, sum: 10 });
    expect(
      hub.engine.captureTable('exceptions', { fromUs: 0, toUs: Number.MAX_SAFE_INTEGER, devices: null, metrics: null }).files,
    ).toHaveLength(1);
    await hub.engine.stop();
  });

  test('a batch that cannot be decoded becomes an exception with its declared count, and the next one is taken', async () => {
    const hub = await startHub(lake.directory);
    const lane = laneOf('gw-1');
    await hub.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: 2 });
    const broken = batchOf(1, START_US, 5, 0);
    hub.engine.submit(lane, { ...broken, body: broken.body.slice(0, broken.body.length - 3) });
    hub.engine.submit(lane, batchOf(2, START_US, 5, 0));
    const pending = hub.engine.captureAggregates({ ...MINUTES, fromUs: 0 }).pendingExceptions;
    expect(pending).toMatchObject([{ kind: 'dead_letter', readingCount: 5 }]);
    await hub.waitCommitted(laneAppId(lane), 2);
    expect(await total(hub)).toEqual({ n: 5, sum: 10 });
    await hub.engine.stop();
  });

  test('a batch that is a tombstone on its second try has its gap recorded, also behind exceptions of its first', async () => {
    const lane = laneOf('gw-1');
    const gap = (device: string | null, reason: string, readingCount: number): ExceptionRecord => ({
      kind: device === null ? 'gap' : 'quarantined',
      device,
      metric: null,
      fromUs: START_US,
      toUs: START_US + 1_000_000,
      readingCount,
      reason,
      payload: null,
    });
    const first = await startHub(lake.directory, { commitIntervalMsMin: 60_000, commitIntervalMsMax: 60_000 });
    await first.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: 1 });
    first.engine.submit(lane, batchOf(1, START_US, 10, 0, [gap('pump-1', 'clock_ahead', 2)]));
    // A crash between the two commits: exceptions are in the lake, readings are not.
    const { store } = first.lake;
    const original = store.putIfAbsent.bind(store);
    store.putIfAbsent = (key, bytes) =>
      key.startsWith('readings/_delta_log') ? Promise.reject(new SluiceError('ERR_STORE_FULL', 'the crash')) : original(key, bytes);
    await expect(first.engine.stop()).rejects.toMatchObject({ code: 'ERR_STORE_FULL' });
    const tombstone = batchOf(1, START_US, 0, 0, [gap(null, 'batch_corrupt', 10)]);
    for (let turn = 0; turn < 2; turn++) {
      const hub = await startHub(lake.directory);
      const { committed } = await hub.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: 1 });
      if (committed === 0) hub.engine.submit(lane, tombstone);
      await hub.engine.stop();
      const { files } = hub.engine.captureTable('exceptions', { fromUs: 0, toUs: Number.MAX_SAFE_INTEGER, devices: null, metrics: null });
      const rows = (await Promise.all(files.map((file) => readParquetRows(readFileSync(file.path))))).flat();
      expect(new Map(rows.map((row) => [row['reason'], row['reading_count']]))).toEqual(
        new Map([
          ['batch_corrupt', 10],
          ['clock_ahead', 2],
        ]),
      );
      expect(rows).toHaveLength(2);
    }
  });

  test('a backlog that has arrived is committed without waiting for the interval, live data waits for it', async () => {
    const hub = await startHub(lake.directory, { commitIntervalMsMin: 60_000, commitIntervalMsMax: 60_000 });
    const live = laneOf('gw-1');
    const backfill = { ...live, lane: 'backfill' } as const;
    for (const lane of [live, backfill]) await hub.engine.openLane(lane, { epoch: EPOCH, lane: lane.lane, base: 1, assigned: 9 });
    hub.engine.submit(live, batchOf(1, START_US, 10, 0));
    await hub.waitCommitted(laneAppId(live), 1); // the first commit of a hub waits for nothing
    hub.engine.submit(live, batchOf(2, START_US, 120_000, 0));
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(hub.committed.get(laneAppId(live))).toBe(1);
    hub.engine.submit(backfill, batchOf(1, START_US - 86_400_000_000, 10, 0));
    await hub.waitCommitted(laneAppId(backfill), 1);
    expect(hub.committed.get(laneAppId(live))).toBe(2);
    await hub.engine.stop();
  });

  test('late readings are merged into their windows, counted as late, and make the window revised', async () => {
    const hub = await startHub(lake.directory);
    const lane = laneOf('gw-1');
    await hub.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: 2 });
    hub.engine.submit(lane, batchOf(1, START_US, 60, 0));
    hub.engine.assertWatermark('gw-1', { us: START_US + 300_000_000, positions: [{ epoch: EPOCH, lane: 'live', seq: 1 }] });
    expect(hub.engine.captureAggregates(MINUTES).watermarks.get('gw-1')).toBeUndefined();
    await hub.waitCommitted(laneAppId(lane), 1);
    expect(hub.engine.captureAggregates(MINUTES).watermarks.get('gw-1')).toBe(START_US + 300_000_000);
    hub.engine.submit(lane, batchOf(2, START_US + 500_000, 3, 100));
    await hub.waitCommitted(laneAppId(lane), 2);
    await hub.engine.stop();
    const again = await startHub(lake.directory);
    const rows = [...(await mergedCapture(again.engine.captureAggregates(MINUTES))).values()];
    expect(rows).toMatchObject([{ n: 63, late: 3, revision: 1 }]);
    expect(again.engine.captureAggregates(MINUTES).watermarks.get('gw-1')).toBe(START_US + 300_000_000);
    await again.engine.stop();
  });

  test('a definition that is new to the lake is computed from all its readings at start', async () => {
    const first = await startHub(lake.directory, { definitions: [] });
    const lane = laneOf('gw-1');
    await first.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: 1 });
    first.engine.submit(lane, batchOf(1, START_US, 30, 0));
    await first.waitCommitted(laneAppId(lane), 1);
    await first.engine.stop();
    const second = await startHub(lake.directory);
    expect(await total(second)).toEqual({ n: 30, sum: (29 * 30) / 2 });
    expect(await total(second, { ...MINUTES, window: '1h' })).toEqual({ n: 30, sum: (29 * 30) / 2 });
    await second.engine.stop();
  });
});

test('the position of a lane that its gateway still lists outlives its retention', async () => {
  const lane = laneOf('gw-1');
  const other = laneOf('gw-2');
  const startAt = (days: number): Promise<TestHub> =>
    startHub(lake.directory, {}, new ManualClock((Date.now() + days * 86_400_000) * 1000));
  const first = await startAt(0);
  await first.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: 1 });
  first.engine.submit(lane, batchOf(1, START_US, 10, 0));
  await first.engine.stop();
  // It sends nothing more, and hubs come and go.
  for (const days of [300, 600]) {
    const hub = await startAt(days);
    await hub.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 2, assigned: 1 });
    await hub.engine.openLane(other, { epoch: EPOCH, lane: 'live', base: 1, assigned: days });
    hub.engine.submit(other, batchOf(days / 300, START_US, 10, 0));
    await hub.engine.stop();
    await hub.lake.readings.checkpoint();
  }
  const last = await startAt(601);
  expect(await last.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 2, assigned: 1 })).toMatchObject({
    committed: 1,
    received: 1,
  });
  expect(await total(last)).toMatchObject({ n: 30 });
});
