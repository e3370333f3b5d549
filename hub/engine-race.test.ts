/** Hubs that share a lake, step by step: their clocks stand still, so each follows, commits and flushes only when told to. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ManualClock } from '../shared/clock.ts';
import { laneAppId, type LaneKey } from '../shared/uplink.ts';
import { DEFAULT_WINDOW_DEFINITIONS } from '../shared/window/definition.ts';
import type { AggregateFilter, EngineSettings } from './engine-api.ts';
import { batchOf, EPOCH, laneOf, mergedCapture, startHub, temporaryLake, type TestHub } from './engine.fixture.ts';

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

const clocks = new Map<TestHub, ManualClock>();

async function startStill(changes: Partial<EngineSettings> = {}): Promise<TestHub> {
  const clock = new ManualClock(Date.now() * 1000);
  const hub = await startHub(lake.directory, changes, clock);
  clocks.set(hub, clock);
  return hub;
}

async function readingsIn(hub: TestHub, filter = MINUTES): Promise<number> {
  const rows = [...(await mergedCapture(hub.engine.captureAggregates(filter))).values()];
  return rows.reduce((sum, row) => sum + row.n, 0);
}

/** Follows the log, as the opening of any lane does. */
async function follow(hub: TestHub): Promise<void> {
  await hub.engine.openLane(laneOf('gw-idle'), { epoch: EPOCH, lane: 'live', base: 1, assigned: 0 });
}

async function send(hub: TestHub, lane: LaneKey, seq: number, count = 10): Promise<void> {
  const { received } = await hub.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: seq, assigned: seq });
  expect(received).toBe(seq - 1);
  hub.engine.submit(lane, batchOf(seq, START_US + seq * 60_000_000, count, 0));
}

/** Lets the hub commit what it has, without a flush. */
async function tick(hub: TestHub, lane: LaneKey, seq: number): Promise<void> {
  clocks.get(hub)?.advance(60_000_000);
  await hub.waitCommitted(laneAppId(lane), seq);
  await hub.engine.idle();
}

/** Flushes, and commits nothing. */
function flush(hub: TestHub): Promise<void> {
  return hub.engine.flush();
}

/** Commits and flushes; the engine goes on to answer, and does the same again when it is called again. */
function commitAndFlush(hub: TestHub): Promise<void> {
  return hub.engine.stop();
}

describe('windows of two hubs', () => {
  test('a hub whose flush lost to one that was further on counts nothing twice, in answers and in the lake', async () => {
    const slow = await startStill();
    await send(slow, laneOf('gw-1'), 1);
    await tick(slow, laneOf('gw-1'), 1);
    const fast = await startStill();
    await send(fast, laneOf('gw-2'), 1);
    await commitAndFlush(fast);
    // It has not seen the version that the other one has flushed.
    await commitAndFlush(slow);
    expect(await readingsIn(slow)).toBe(20);
    await follow(slow);
    expect(await readingsIn(slow)).toBe(20);
    await send(slow, laneOf('gw-1'), 2);
    await commitAndFlush(slow);
    expect(await readingsIn(slow)).toBe(30);
    expect(await readingsIn(await startStill())).toBe(30);
  });

  test('batches that wait here and were flushed by another hub leave the overlay in the step that takes its flush over', async () => {
    const slow = await startStill();
    await send(slow, laneOf('gw-1'), 1);
    await tick(slow, laneOf('gw-1'), 1);
    await send(slow, laneOf('gw-2'), 1);
    const fast = await startStill();
    await send(fast, laneOf('gw-2'), 1);
    await commitAndFlush(fast);
    await flush(slow);
    expect(await readingsIn(slow)).toBe(20);
    expect(slow.engine.status().pendingReadings).toBe(0);
    await commitAndFlush(slow);
    expect(await readingsIn(await startStill())).toBe(20);
  });

  test('a lost flush whose second reading fails is not made good for by the old tail', async () => {
    const slow = await startStill();
    await send(slow, laneOf('gw-1'), 1);
    await tick(slow, laneOf('gw-1'), 1);
    const fast = await startStill();
    await send(fast, laneOf('gw-2'), 1);
    await commitAndFlush(fast);
    await send(slow, laneOf('gw-1'), 2);
    await tick(slow, laneOf('gw-1'), 2);
    const { store } = slow.lake;
    const get = store.get.bind(store);
    store.get = (key) => (key.endsWith('.parquet') && key.startsWith('readings/day') ? Promise.reject(new Error('EIO')) : get(key));
    await expect(flush(slow)).rejects.toThrow('EIO');
    store.get = get;
    expect(await readingsIn(slow)).toBe(30);
    await flush(slow);
    expect(await readingsIn(slow)).toBe(30);
    expect(await readingsIn(await startStill())).toBe(30);
  });

  test('hubs with different definitions flush beside each other, and each answers right', async () => {
    const few = DEFAULT_WINDOW_DEFINITIONS.filter(({ name }) => name === '1m' || name === '10s');
    const narrow = await startStill({ definitions: few });
    await send(narrow, laneOf('gw-1'), 1);
    await commitAndFlush(narrow);
    const wide = await startStill();
    await send(wide, laneOf('gw-2'), 1);
    await follow(narrow);
    await send(narrow, laneOf('gw-1'), 2);
    await commitAndFlush(narrow);
    await commitAndFlush(wide);
    await send(wide, laneOf('gw-2'), 2);
    await commitAndFlush(wide);
    await follow(narrow);
    for (const hub of [wide, narrow, await startStill()]) expect(await readingsIn(hub)).toBe(40);
    expect(await readingsIn(wide, { ...MINUTES, window: '1h' })).toBe(40);
  });

  test('a batch that another hub has committed meanwhile is let go when it still arrives', async () => {
    const first = await startStill();
    const second = await startStill();
    const lane = laneOf('gw-1');
    await send(first, lane, 1);
    await send(second, lane, 1);
    second.engine.submit(lane, batchOf(2, START_US + 120_000_000, 10, 0));
    await commitAndFlush(second);
    await follow(first);
    // The message was on its way from the thread of the sockets, which did not know yet.
    first.engine.submit(lane, batchOf(2, START_US + 120_000_000, 10, 0));
    first.engine.submit(lane, batchOf(3, START_US + 180_000_000, 10, 0));
    await commitAndFlush(first);
    expect(await readingsIn(first)).toBe(30);
    expect(first.committed.get(laneAppId(lane))).toBe(3);
  });
});
