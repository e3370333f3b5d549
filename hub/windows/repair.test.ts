/** Damaged files of `aggregates` beside an engine whose windows they are: what answers say before the damage and after the repair. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ManualClock } from '../../shared/clock.ts';
import { createLogger } from '../../shared/logging.ts';
import { laneAppId } from '../../shared/uplink.ts';
import { definitionHash, DEFAULT_WINDOW_DEFINITIONS } from '../../shared/window/definition.ts';
import type { WindowPartial } from '../../shared/window/partial.ts';
import { batchOf, EPOCH, laneOf, mergedCapture, startHub, temporaryLake, type TestHub } from '../engine.fixture.ts';
import type { CompactionSettings } from '../lake/compaction.ts';
import { parseFileStats } from '../lake/delta-actions.ts';
import { removeAction } from '../lake/delta-stats.ts';
import { Lake } from '../lake/lake.ts';
import { LocalStore } from '../lake/local-store.ts';
import { Maintenance } from '../maintenance.ts';

/** Ten minutes before a midnight: windows of two days. */
const START_US = Math.floor(Date.now() / 86_400_000) * 86_400_000_000 - 600_000_000;
const LANE = laneOf('gw-1');
const WINDOWS = ['1m', '1h', '1m_by_metric'];
const KEEP_ALL = { fanIn: 1_000 };

let lake: ReturnType<typeof temporaryLake>;
let clock: ManualClock;
beforeEach(() => {
  lake = temporaryLake();
  clock = new ManualClock(Date.now() * 1000);
});
afterEach(() => lake.remove());

async function openLake(): Promise<Lake> {
  const store = await LocalStore.open(lake.directory);
  return Lake.open(store, lake.directory, { clock, hubId: 'maintenance', logger: createLogger('test', 'silent') });
}

async function maintenance(
  settings: Partial<CompactionSettings> = KEEP_ALL,
  definitions = DEFAULT_WINDOW_DEFINITIONS,
): Promise<Maintenance> {
  return new Maintenance(await openLake(), settings, undefined, definitions);
}

/** Batches of 100 readings, one each second, of which every other overlaps the one before; flushed after every second one. */
async function commit(hub: TestHub, fromSeq: number, toSeq: number, isFlushed = true): Promise<void> {
  await hub.engine.openLane(LANE, { epoch: EPOCH, lane: 'live', base: fromSeq, assigned: toSeq });
  for (let seq = fromSeq; seq <= toSeq; seq++) {
    hub.engine.submit(LANE, batchOf(seq, START_US + seq * 90_000_000 - (seq % 2) * 50_000_000, 100, seq * 3));
    clock.advance(2_000_000);
    await hub.waitCommitted(laneAppId(LANE), seq);
    await hub.engine.idle();
    if (isFlushed && seq % 2 === 0) await hub.engine.flush();
  }
}

/** Every window of every definition, without what is not kept over a repair. */
async function answers(hub: TestHub): Promise<ReadonlyMap<string, unknown>> {
  const all = new Map<string, unknown>();
  for (const window of WINDOWS) {
    const filter = { window, fromUs: 0, toUs: Number.MAX_SAFE_INTEGER, gateways: null, devices: null, metrics: null };
    for (const [key, partial] of await mergedCapture(hub.engine.captureAggregates(filter))) all.set(`${window} ${key}`, shown(partial));
  }
  return all;
}

function shown({ histPos, histNeg, srcFrom: _from, srcTo: _to, late: _late, revision: _revision, ...scalars }: WindowPartial): unknown {
  const numbers = Object.entries(scalars).map(([name, value]) => [name, Number(value.toPrecision(12))]);
  return [...numbers, ...[histPos, histNeg].map((buckets) => [...buckets].sort(([a], [b]) => a - b))];
}

/** Files of a definition, absolute, oldest first. */
async function filesOf(window: string): Promise<string[]> {
  const hash = DEFAULT_WINDOW_DEFINITIONS.filter(({ name }) => name === window).map(definitionHash)[0];
  const files = [...(await openLake()).aggregates.snapshot.files.values()];
  return files
    .filter(({ stats }) => parseFileStats(stats).minValues['def'] === hash)
    .sort((a, b) => a.modificationTime - b.modificationTime)
    .map((file) => path.join(lake.directory, 'aggregates', file.path));
}

function overwrite(file: string): void {
  const bytes = readFileSync(file);
  bytes.fill(0xa5, bytes.length >> 2, (bytes.length >> 2) + 16);
  writeFileSync(file, bytes);
}

describe('a damaged file of aggregates is made again from readings', () => {
  test.each([
    ['1m', overwrite],
    ['1h', (file: string): void => rmSync(file)],
    ['1m_by_metric', (file: string): void => writeFileSync(file, '')],
  ] as const)('of %s: every window says what it said, also what is in memory and what comes later', async (window, hurt) => {
    const hub = await startHub(lake.directory, {}, clock);
    await commit(hub, 1, 8);
    await commit(hub, 9, 9, false);
    const before = await answers(hub);
    // What windows have not consumed is merged with what they have, and must not be computed twice.
    await (await maintenance({ fanIn: 2 }, [])).run();
    await commit(hub, 10, 10, false);
    const [after, files] = [await answers(hub), await filesOf(window)];
    expect(after).not.toEqual(before);
    hurt(files[0]);
    const runs = await maintenance();
    await runs.run();
    expect(await runs.status()).toMatchObject({ repairedFilesTotal: 1, unreadableFiles: 0 });
    await hub.engine.flush();
    expect(await answers(hub)).toEqual(after);
    const next = await startHub(lake.directory, {}, clock);
    expect(await answers(next)).toEqual(after);
    await commit(next, 11, 12);
    const last = await answers(next);
    await (await maintenance({ fanIn: 2 })).run();
    await runs.run();
    await next.engine.flush();
    expect(await answers(next)).toEqual(last);
    expect((await runs.status()).repairedFilesTotal).toBe(1);
  });

  test('all of them, one in each run, whatever two runs at once do to each other', async () => {
    const hub = await startHub(lake.directory, {}, clock);
    await commit(hub, 1, 6);
    const before = await answers(hub);
    for (const window of WINDOWS) (await filesOf(window)).forEach((file, index) => index !== 1 && overwrite(file));
    const [one, two] = [await maintenance(), await maintenance({ fanIn: 2 })];
    for (let turn = 0; turn < 8; turn++) await Promise.all([one.run(), two.run()]);
    expect((await one.status()).unreadableFiles).toBe(0);
    await hub.engine.flush();
    expect(await answers(await startHub(lake.directory, {}, clock))).toEqual(before);
  });

  test('while a hub flushes and somebody asks for the status: what was flushed meanwhile is not computed as well', async () => {
    const hub = await startHub(lake.directory, {}, clock);
    await commit(hub, 1, 4);
    const hours = await filesOf('1h');
    overwrite(hours[0]);
    // Of a run: one for each file that is checked, then one for each that has the same windows. The next is between looking and computing.
    const at = (await openLake()).aggregates.snapshot.files.size + hours.length;
    let [seq, breaths] = [4, 0];
    const breathe = async (): Promise<void> => {
      if (++breaths !== at) return;
      clock.advance(2_000_000);
      hub.engine.submit(LANE, batchOf(++seq, START_US, 100, seq));
      await hub.waitCommitted(laneAppId(LANE), seq);
      await hub.engine.flush();
      await runs.status();
    };
    const runs = new Maintenance(await openLake(), KEEP_ALL, breathe, DEFAULT_WINDOW_DEFINITIONS);
    await runs.run();
    expect((await runs.status()).repairedFilesTotal).toBe(1);
    expect(seq).toBe(5);
    await hub.engine.flush();
    for (const window of WINDOWS) {
      const filter = { window, fromUs: 0, toUs: Number.MAX_SAFE_INTEGER, gateways: null, devices: null, metrics: null };
      const rows = [...(await mergedCapture(hub.engine.captureAggregates(filter))).values()];
      const readings = rows.reduce((sum, { n }) => sum + n, 0);
      expect(readings, window).toBe(seq * 100);
    }
  });

  test('after a crash before the commit the next run does it, and what the first one staged is in no table', async () => {
    const hub = await startHub(lake.directory, {}, clock);
    await commit(hub, 1, 4);
    const before = await answers(hub);
    overwrite((await filesOf('1m'))[1]);
    const crashing = await openLake();
    crashing.aggregates.tryCommit = () => new Promise(() => undefined);
    void new Maintenance(crashing, KEEP_ALL, undefined, DEFAULT_WINDOW_DEFINITIONS).run();
    const runs = await maintenance();
    await runs.run();
    expect((await runs.status()).repairedFilesTotal).toBe(1);
    await hub.engine.flush();
    expect(await answers(hub)).toEqual(before);
  });

  test('not where the readings are gone, are damaged themselves, or nobody knows the definition: it stays, and the figure says so', async () => {
    const hub = await startHub(lake.directory, {}, clock);
    await commit(hub, 1, 4);
    const [file] = await filesOf('1m');
    overwrite(file);
    const stranger = await maintenance(KEEP_ALL, []);
    await stranger.run();
    expect(await stranger.status()).toMatchObject({ repairedFilesTotal: 0, unreadableFiles: 1 });
    const { readings } = hub.lake;
    const [first] = [...readings.snapshot.files.values()].sort((a, b) => a.modificationTime - b.modificationTime);
    const firstPath = path.join(lake.directory, 'readings', first.path);
    const bytes = readFileSync(firstPath);
    overwrite(firstPath);
    const runs = await maintenance();
    await runs.run();
    expect(await runs.status()).toMatchObject({ repairedFilesTotal: 0, unreadableFiles: 1 });
    writeFileSync(firstPath, bytes);
    const removes = [...readings.snapshot.files.values()].map((one) => removeAction(one, Date.now(), true));
    await readings.tryCommit({ operation: 'DELETE', operationParameters: {}, adds: [], removes, txns: [] });
    // As the version that windows have consumed, they are still there.
    const later = await startHub(lake.directory, {}, clock);
    await later.engine.flush();
    await runs.run();
    expect(await runs.status()).toMatchObject({ repairedFilesTotal: 0, unreadableFiles: 1 });
    expect(await filesOf('1m')).toContain(file);
  });
});
