import { cpSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ManualClock } from '../../shared/clock.ts';
import { laneAppId } from '../../shared/uplink.ts';
import { DEFAULT_WINDOW_DEFINITIONS } from '../../shared/window/definition.ts';
import type { AggregateFilter, EngineSettings } from '../engine-api.ts';
import { batchOf, EPOCH, laneOf, mergedCapture, startHub, temporaryLake, type TestHub } from '../engine.fixture.ts';
import { GroupRegistry } from './group-registry.ts';
import { Overlay, type GatewayRuns } from './overlay.ts';

/** A whole hour some hours ago: a watermark that lies ahead of the hub's clock is cut back. */
const START_US = (Math.floor(Date.now() / 3_600_000) - 3) * 3_600_000_000;
const MINUTES: AggregateFilter = {
  window: '1m',
  fromUs: START_US,
  toUs: START_US + 86_400_000_000,
  gateways: null,
  devices: null,
  metrics: null,
};
const LANE = laneOf('gw-1');
/** A batch of ten minutes makes 60 panes of 10 s, 10 of 1 min in the tail. */
const WINDOW_BYTES_OF_30 = 30 * 128;

let lake: ReturnType<typeof temporaryLake>;
let clock: ManualClock;
beforeEach(() => {
  lake = temporaryLake();
  clock = new ManualClock(Date.now() * 1000);
});
afterEach(() => lake.remove());

function start(changes: Partial<EngineSettings> = {}, ownClock = clock): Promise<TestHub> {
  return startHub(lake.directory, changes, ownClock);
}

async function readingsIn(hub: TestHub, window = '1m'): Promise<number> {
  const rows = [...(await mergedCapture(hub.engine.captureAggregates({ ...MINUTES, window }))).values()];
  return rows.reduce((sum, row) => sum + row.n, 0);
}

/** One commit for each seq, ten minutes of readings each. */
async function commit(hub: TestHub, fromSeq: number, toSeq: number): Promise<void> {
  await hub.engine.openLane(LANE, { epoch: EPOCH, lane: 'live', base: fromSeq, assigned: toSeq });
  for (let seq = fromSeq; seq <= toSeq; seq++) {
    hub.engine.submit(LANE, batchOf(seq, START_US + seq * 600_000_000, 600, 0));
    clock.advance(2_000_000);
    await hub.waitCommitted(laneAppId(LANE), seq);
    await hub.engine.idle();
  }
}

function deleteEntries(versions: readonly number[]): void {
  for (const version of versions) rmSync(path.join(lake.directory, 'readings/_delta_log', `${String(version).padStart(20, '0')}.json`));
}

test('a hub that is killed again and again before it flushes reads no more at each start', async () => {
  const killed = await start();
  await commit(killed, 1, 1);
  await killed.engine.flush();
  await commit(killed, 2, 70);
  const first = await start();
  // What the first start has read it has also written, so that the second finds it done though the first is killed as well.
  expect(first.lake.aggregates.version).toBe(killed.lake.aggregates.version + 1);
  expect(await readingsIn(first)).toBe(70 * 600);
  const second = await start();
  expect(second.lake.aggregates.version).toBe(first.lake.aggregates.version);
  expect(await readingsIn(second)).toBe(70 * 600);
});

describe('a tail that does not fit', () => {
  test('is flushed on the way when a hub starts, so that what one hub could commit another can read', async () => {
    const large = await start();
    await commit(large, 1, 1);
    await large.engine.flush();
    await commit(large, 2, 5);
    const small = await start({ windowBytesMax: WINDOW_BYTES_OF_30 });
    expect(small.lake.aggregates.version).toBeGreaterThan(large.lake.aggregates.version);
    expect(await readingsIn(small)).toBe(3_000);
    await commit(small, 6, 8);
    expect(await readingsIn(small)).toBe(4_800);
    const fresh = await start();
    for (const window of ['1m', '1h', '1m_by_metric']) expect(await readingsIn(fresh, window)).toBe(4_800);
  });

  test('is flushed when another hub commits more than fits, even in one version', async () => {
    const small = await start({ windowBytesMax: WINDOW_BYTES_OF_30 });
    const large = await start();
    await commit(large, 1, 1);
    for (const gateway of ['gw-3', 'gw-4']) {
      await large.engine.openLane(laneOf(gateway), { epoch: EPOCH, lane: 'live', base: 1, assigned: 1 });
      large.engine.submit(laneOf(gateway), batchOf(1, START_US, 36_000, 0));
    }
    await large.engine.stop();
    clock.advance(2_000_000);
    await small.engine.idle();
    expect(small.engine.status().lastError).toBeNull();
    expect(small.engine.captureAggregates(MINUTES).readingsVersion).toBe(large.lake.readings.version);
    expect(await readingsIn(small)).toBe(600 + 72_000);
  });

  test('takes over series from provisional answers, which say that they are not whole until it is committed', () => {
    const overlay = new Overlay(DEFAULT_WINDOW_DEFINITIONS, new GroupRegistry({ seriesMax: 3 }), () => -Infinity);
    const runs = (device: string): GatewayRuns => ({
      gateway: 'gw-1',
      runs: {
        count: 1,
        seriesTable: [{ device, metric: 'm', tags: '' }],
        runOffsets: Uint32Array.of(0, 1),
        eventTimeUs: Float64Array.of(START_US),
        value: Float64Array.of(1),
        text: null,
        texts: [],
      },
    });
    ['a', 'b', 'c'].forEach((device, round) => overlay.addOpen(runs(device), round));
    expect(() => overlay.addTail([runs('d')])).toThrow(expect.objectContaining({ code: 'ERR_WINDOW_GROUPS_FULL' }));
    overlay.giveWay();
    overlay.addTail([runs('d')]);
    expect(overlay.complete).toBe(false);
    overlay.rotate();
    overlay.commitGroup(['a', 'b'].map(runs));
    expect(overlay.complete).toBe(true);
    expect(overlay.tailRows(DEFAULT_WINDOW_DEFINITIONS[1]).count).toBe(3);
  });
});

describe('a log that is gone', () => {
  test('under a running hub ends it, and the next one starts', async () => {
    const standing = new ManualClock(Date.now() * 1000);
    const hub = await start({}, standing);
    const other = await start();
    await commit(other, 1, 4);
    await other.lake.readings.checkpoint();
    deleteEntries([1, 2, 3]);
    standing.advance(2 * 3_600_000_000);
    await hub.engine.idle();
    expect(hub.fatal).toMatchObject([{ code: 'ERR_LAKE_LOG_GAP' }]);
    expect(await readingsIn(await start())).toBe(2_400);
  });

  test('behind the last flush: the windows are computed anew, and what they had is replaced', async () => {
    const hub = await start();
    await commit(hub, 1, 1);
    await hub.engine.flush();
    await commit(hub, 2, 3);
    await hub.lake.readings.checkpoint();
    deleteEntries([1, 2]);
    const next = await start();
    for (const window of ['1m', '1h', '1m_by_metric']) expect(await readingsIn(next, window)).toBe(1_800);
    await commit(next, 4, 4);
    await next.engine.flush();
    expect(await readingsIn(await start())).toBe(2_400);
  });

  test('readings restored from an older copy: the hub starts, and its windows are those of the readings that are there', async () => {
    const hub = await start();
    await commit(hub, 1, 2);
    const copy = path.join(lake.directory, 'copy');
    cpSync(path.join(lake.directory, 'readings'), copy, { recursive: true });
    await commit(hub, 3, 5);
    await hub.engine.flush();
    rmSync(path.join(lake.directory, 'readings'), { recursive: true });
    cpSync(copy, path.join(lake.directory, 'readings'), { recursive: true });
    const next = await start();
    for (const window of ['1m', '1h', '1m_by_metric']) expect(await readingsIn(next, window)).toBe(1_200);
    // The gateway has freed 3 to 5: they become a gap, and its next batch goes on behind it.
    await commit(next, 6, 6);
    await next.engine.flush();
    const last = await start();
    expect(await readingsIn(last)).toBe(1_800);
    const { pendingExceptions, exceptionFiles } = last.engine.captureAggregates(MINUTES);
    expect([pendingExceptions.length, exceptionFiles.length]).toEqual([0, 1]);
  });

  test('behind a definition that was switched off: it alone is computed anew', async () => {
    const hub = await start();
    await commit(hub, 1, 1);
    await hub.engine.flush();
    const fewer = await start({ definitions: DEFAULT_WINDOW_DEFINITIONS.filter(({ name }) => name === '1m') });
    await commit(fewer, 2, 4);
    await fewer.engine.flush();
    await fewer.lake.readings.checkpoint();
    deleteEntries([1, 2, 3]);
    const again = await start();
    for (const window of ['1m', '1h', '1m_by_metric']) expect(await readingsIn(again, window)).toBe(2_400);
  });

  test('behind a definition that was off for longer than positions are kept: what it had is replaced, not added to', async () => {
    const hub = await start();
    await commit(hub, 1, 2);
    await hub.engine.flush();
    await hub.engine.stop();
    clock = new ManualClock((Date.now() + 401 * 86_400_000) * 1000);
    const fewer = await start({ definitions: DEFAULT_WINDOW_DEFINITIONS.filter(({ name }) => name === '1m') });
    await commit(fewer, 3, 3);
    await fewer.engine.flush();
    await fewer.lake.aggregates.checkpoint();
    const again = await start();
    for (const window of ['1m', '1h', '1m_by_metric']) expect(await readingsIn(again, window)).toBe(1_800);
  });
});
