import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ManualClock } from '../../shared/clock.ts';
import { createLogger } from '../../shared/logging.ts';
import { laneAppId, parseLaneAppId, type LaneClaim, type LaneKey } from '../../shared/uplink.ts';
import type { IngestEngine } from '../engine-api.ts';
import { batchOf, EPOCH, laneOf, startHub, temporaryLake, type TestHub } from '../engine.fixture.ts';
import { readParquetRows } from '../lake/parquet/read.ts';
import { ForkedLanes, listForkedLanes, releasedLane, releaseForkedLane } from './forked-lanes.ts';

const START_US = Date.UTC(2026, 10, 22) * 1000;
const LANE = laneOf('gw-1');
const clock = new ManualClock(START_US);
const ALL = { fromUs: 0, toUs: Number.MAX_SAFE_INTEGER, devices: null, metrics: null };

let lake: ReturnType<typeof temporaryLake>;
beforeEach(() => {
  lake = temporaryLake();
});
afterEach(() => lake.remove());

/** What the uplink of a hub has: the lanes behind their engine, and what it hears of committed positions. */
function uplinkOf(hub: TestHub): { lanes: ForkedLanes; heard: Map<string, number> } {
  const callbacks: ((lane: LaneKey, committed: number) => void)[] = [];
  const set = hub.committed.set.bind(hub.committed);
  hub.committed.set = (appId, committed) => {
    const lane = parseLaneAppId(appId);
    if (lane !== null) for (const callback of callbacks) callback(lane, committed);
    return set(appId, committed);
  };
  const engine: IngestEngine = {
    lakeId: hub.engine.lakeId,
    pendingBytes: 0,
    openLane: (lane, claim, isRenamed) => hub.engine.openLane(lane, claim, isRenamed),
    submit: (lane, batch) => hub.engine.submit(lane, batch),
    assertWatermark: () => undefined,
    onCommitted: (callback) => callbacks.push(callback),
    onPendingBytes: () => undefined,
  };
  const lanes = new ForkedLanes({ engine, store: hub.lake.store, clock, logger: createLogger('test', 'silent') });
  const heard = new Map<string, number>();
  lanes.onCommitted((lane, committed) => heard.set(laneAppId(lane), committed));
  return { lanes, heard };
}

function claim(base: number, assigned: number): LaneClaim {
  return { epoch: EPOCH, lane: 'live', base, assigned };
}

test('a forked lane is held until an operator releases it; then what the gateway has is taken in once, without a gap', async () => {
  const hub = await startHub(lake.directory);
  const { lanes, heard } = uplinkOf(hub);
  await lanes.openLane(LANE, claim(1, 6));
  for (let seq = 1; seq <= 6; seq++) lanes.submit(LANE, batchOf(seq, START_US + seq * 60_000_000, 10, seq));
  await hub.waitCommitted(laneAppId(LANE), 6);
  // Restored from an image of when it held 3 and 4 and had assigned no more.
  expect(await lanes.openLane(LANE, claim(3, 4))).toMatchObject({ status: 'forked', committed: 6 });
  expect(await lanes.openLane(LANE, claim(3, 4))).toMatchObject({ status: 'forked' });
  const [fork, ...others] = await listForkedLanes(hub.lake.store);
  expect(others).toEqual([]);
  expect(fork).toMatchObject({ gateway: 'gw-1', epoch: EPOCH, assigned: 4, committed: 6, isReleased: false });
  await expect(releaseForkedLane(hub.lake.store, 'f'.repeat(16), clock)).rejects.toMatchObject({ code: 'ERR_LANE_UNKNOWN' });
  await releaseForkedLane(hub.lake.store, fork.id, clock);
  await releaseForkedLane(hub.lake.store, fork.id, clock);
  expect((await listForkedLanes(hub.lake.store))[0].isReleased).toBe(true);
  heard.clear();
  expect(await lanes.openLane(LANE, claim(3, 4))).toMatchObject({ status: 'open', received: 2 });
  for (const seq of [3, 4]) lanes.submit(LANE, batchOf(seq, START_US + seq * 3_600_000_000, 10, 0));
  await hub.engine.stop();
  expect([...heard]).toEqual([[laneAppId(LANE), 4]]);
  // Asked again, by this hub and the next: everything is committed, and nothing is taken twice.
  expect(await lanes.openLane(LANE, claim(3, 4))).toMatchObject({ status: 'open', committed: 4 });
  const next = await startHub(lake.directory);
  expect(await uplinkOf(next).lanes.openLane(LANE, claim(3, 4))).toMatchObject({ status: 'open', committed: 4 });
  const files = next.engine.captureTable('readings', ALL).files.map((file) => readParquetRows(readFileSync(file.path)));
  expect((await Promise.all(files)).flat()).toHaveLength(80);
  expect(next.engine.captureTable('exceptions', ALL).files).toEqual([]);
});

test('a lane that was released twice hears nothing of what the copy of its gateway has committed under the first release', async () => {
  const hub = await startHub(lake.directory);
  const { lanes, heard } = uplinkOf(hub);
  const take = async (batches: readonly number[], assigned: number): Promise<void> => {
    await lanes.openLane(LANE, claim(batches[0], assigned));
    for (const seq of batches) lanes.submit(LANE, batchOf(seq, START_US + seq * 60_000_000, 10, seq));
    await hub.engine.stop();
  };
  const release = async (): Promise<void> => {
    const fork = (await listForkedLanes(hub.lake.store)).find(({ isReleased }) => !isReleased);
    await releaseForkedLane(hub.lake.store, fork?.id ?? '', clock);
  };
  await take([1, 2, 3, 4, 5], 5);
  expect(await lanes.openLane(LANE, claim(2, 4))).toMatchObject({ status: 'forked' });
  await release();
  await take([2, 3], 4);
  // Restored from the same image once more, while the copy goes on at another hub.
  expect(await lanes.openLane(LANE, claim(2, 2))).toMatchObject({ status: 'forked' });
  await release();
  expect(await lanes.openLane(LANE, claim(2, 2))).toMatchObject({ status: 'open', received: 1 });
  heard.clear();
  const first = releasedLane(LANE);
  const other = await startHub(lake.directory);
  await other.engine.openLane(first, { ...claim(4, 4), epoch: first.epoch });
  other.engine.submit(first, batchOf(4, START_US, 10, 4));
  await other.engine.stop();
  await hub.engine.openLane(first, { ...claim(5, 4), epoch: first.epoch });
  expect(hub.committed.get(laneAppId(first))).toBe(4);
  expect(heard.get(laneAppId(LANE))).toBeUndefined();
});
