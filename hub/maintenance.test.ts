/** Maintenance beside an engine over the same lake: what answers say before and after, and what is left of the files. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ManualClock } from '../shared/clock.ts';
import { createLogger } from '../shared/logging.ts';
import { laneAppId } from '../shared/uplink.ts';
import type { WindowPartial } from '../shared/window/partial.ts';
import type { AggregateFilter } from './engine-api.ts';
import { batchOf, EPOCH, laneOf, mergedCapture, startHub, temporaryLake, type TestHub } from './engine.fixture.ts';
import type { CompactionSettings } from './lake/compaction.ts';
import { Lake } from './lake/lake.ts';
import { LocalStore } from './lake/local-store.ts';
import { Maintenance } from './maintenance.ts';

const START_US = (Math.floor(Date.now() / 3_600_000) - 3) * 3_600_000_000;
const LANE = laneOf('gw-1');
const WINDOWS = ['1m', '1h', '1m_by_metric'];

let lake: ReturnType<typeof temporaryLake>;
let clock: ManualClock;
beforeEach(() => {
  lake = temporaryLake();
  clock = new ManualClock(Date.now() * 1000);
});
afterEach(() => lake.remove());

async function maintenance(settings: Partial<CompactionSettings> = {}): Promise<Maintenance> {
  const store = await LocalStore.open(lake.directory);
  const logger = createLogger('test', 'silent');
  return new Maintenance(await Lake.open(store, lake.directory, { clock, hubId: 'maintenance', logger }), { fanIn: 2, ...settings });
}

async function commit(hub: TestHub, fromSeq: number, toSeq: number): Promise<void> {
  await hub.engine.openLane(LANE, { epoch: EPOCH, lane: 'live', base: fromSeq, assigned: toSeq });
  for (let seq = fromSeq; seq <= toSeq; seq++) {
    hub.engine.submit(LANE, batchOf(seq, START_US + seq * 20_000_000, 30, seq));
    clock.advance(2_000_000);
    await hub.waitCommitted(laneAppId(LANE), seq);
    await hub.engine.idle();
  }
}

/** What every window of every definition says, sums rounded: folding adds in another order. */
async function answers(hub: TestHub): Promise<Map<string, unknown>> {
  const all = new Map<string, unknown>();
  for (const window of WINDOWS) {
    const filter: AggregateFilter = { window, fromUs: 0, toUs: Number.MAX_SAFE_INTEGER, gateways: null, devices: null, metrics: null };
    for (const [key, partial] of await mergedCapture(hub.engine.captureAggregates(filter))) all.set(`${window} ${key}`, rounded(partial));
  }
  return all;
}

function rounded({ histPos, histNeg, srcFrom: _from, srcTo: _to, ...scalars }: WindowPartial): unknown {
  const numbers = Object.entries(scalars).map(([name, value]) => [name, Number(value.toPrecision(12))]);
  const sorted = (buckets: ReadonlyMap<number, number>): unknown => [...buckets].sort(([a], [b]) => a - b);
  return [...numbers, sorted(histPos), sorted(histNeg)];
}

/** Commits, and flushes after every other one: windows in many pieces. */
async function lakeOfPieces(hub: TestHub, seqs: number): Promise<void> {
  for (let seq = 1; seq <= seqs; seq++) {
    await commit(hub, seq, seq);
    if (seq % 2 === 0) await hub.engine.flush();
  }
}

describe('maintenance beside an engine', () => {
  test('changes no answer: not of the hub that runs, whatever it holds in memory, nor of one that starts later', async () => {
    const hub = await startHub(lake.directory, {}, clock);
    await lakeOfPieces(hub, 5);
    const before = await answers(hub);
    const runs = await maintenance();
    await runs.run();
    expect(await answers(hub)).toEqual(before);
    expect(await answers(await startHub(lake.directory, {}, clock))).toEqual(before);
    // The engine takes the fold over with its next flush, and goes on.
    await hub.engine.flush();
    expect(await answers(hub)).toEqual(before);
    await commit(hub, 6, 7);
    await hub.engine.flush();
    await runs.run();
    const after = await answers(hub);
    expect(await answers(await startHub(lake.directory, {}, clock))).toEqual(after);
    const { tables } = await runs.status();
    expect(tables.map(({ name, files }) => [name, files <= 8])).toEqual(
      ['readings', 'exceptions', 'aggregates', 'progress'].map((name) => [name, true]),
    );
    expect(tables[0]).toMatchObject({ rows: 210, consumers: WINDOWS.map(() => ({ lag: 1 })) });
  });

  test('leaves one row for each window and group once the month is over', async () => {
    const hub = await startHub(lake.directory, {}, clock);
    await lakeOfPieces(hub, 6);
    const before = await answers(hub);
    clock.step(40 * 86_400_000_000);
    const runs = await maintenance();
    await runs.run();
    const rows = (await runs.status()).tables.find(({ name }) => name === 'aggregates')?.rows;
    expect(rows).toBe(before.size);
    await hub.engine.flush();
    expect(
      hub.engine.captureAggregates({ window: '1m', fromUs: 0, toUs: Number.MAX_SAFE_INTEGER, gateways: null, devices: null, metrics: null })
        .files,
    ).toHaveLength(1);
    expect(await answers(hub)).toEqual(before);
  });

  test('two of them at once, with an engine that commits, neither lose nor double a row', async () => {
    const hub = await startHub(lake.directory, {}, clock);
    await lakeOfPieces(hub, 6);
    const [one, two] = [await maintenance(), await maintenance()];
    await Promise.all([one.run(), two.run(), commit(hub, 7, 8)]);
    await Promise.all([one.run(), two.run(), hub.engine.flush()]);
    const minutes = [...(await answers(hub))].filter(([key]) => key.startsWith('1m '));
    const counted = minutes.reduce((sum, [, row]) => sum + Number((row as [string, number][]).find(([name]) => name === 'n')?.[1]), 0);
    expect(counted).toBe(240);
    expect(await answers(await startHub(lake.directory, {}, clock))).toEqual(await answers(hub));
    expect((await one.status()).tables[0].rows).toBe(240);
  });

  test('folds progress to the newest watermark of each gateway', async () => {
    const hub = await startHub(lake.directory, {}, clock);
    for (let seq = 1; seq <= 8; seq++) {
      await commit(hub, seq, seq);
      hub.engine.assertWatermark('gw-1', { us: START_US + seq * 1_000_000, positions: [] });
      await hub.engine.flush();
    }
    const runs = await maintenance();
    await runs.run();
    expect((await runs.status()).tables[3]).toMatchObject({ name: 'progress', files: 1, rows: 1 });
    const next = await startHub(lake.directory, {}, clock);
    expect(
      next.engine.captureAggregates({ window: '1m', fromUs: 0, toUs: 1, gateways: null, devices: null, metrics: null }).watermarks,
    ).toEqual(new Map([['gw-1', START_US + 8_000_000]]));
  });
});
