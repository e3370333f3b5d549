import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { DEFAULT_FUNCTIONS, finalise } from '../../shared/window/partial.ts';
import type { PartialRow } from '../../shared/window/partial-columns.ts';
import type { ExceptionRecord } from '../../shared/exception.ts';
import { laneAppId } from '../../shared/uplink.ts';
import { batchOf, EPOCH, laneOf, startHub, temporaryLake } from '../engine.fixture.ts';
import { releaseEpoch } from '../release-lane.ts';
import { LakeReader } from './duckdb.ts';
import { ExceptionFiles } from './exception-files.ts';
import { PartialFiles } from './partial-files.ts';
import { lakeExceptions, lakePartials } from './statements.ts';

const START_US = Date.UTC(2026, 10, 22, 12) * 1000;

test('what is kept in memory answers as DuckDB does from the same files, and a damaged file is left to it', async () => {
  const lake = temporaryLake();
  const hub = await startHub(lake.directory);
  const lane = laneOf('gw-1');
  const gap: ExceptionRecord = {
    kind: 'gap',
    device: null,
    metric: 'temperature',
    fromUs: START_US,
    toUs: START_US + 9,
    readingCount: null,
    reason: 'x',
    payload: null,
  };
  const held: ExceptionRecord = { ...gap, kind: 'quarantined', device: 'pump-1', readingCount: 3, payload: Buffer.from('{}') };
  for (const seq of [1, 2]) {
    await hub.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: seq });
    hub.engine.submit(lane, batchOf(seq, START_US + (seq - 1) * 30_000_000, 90, seq * 10 - 15, [gap, held]));
    await hub.waitCommitted(laneAppId(lane), seq);
    await hub.engine.flush();
  }
  const reader = await LakeReader.open({ lakeDir: lake.directory, memoryBytesMax: 100_000_000, timeoutMs: 10_000 });
  const partials = new PartialFiles();
  const byKey = (a: { windowStartUs: number; partial: { n: number } }, b: typeof a): number =>
    a.windowStartUs - b.windowStartUs || a.partial.n - b.partial.n;
  for (const window of ['1m', '1h', '1m_by_metric']) {
    for (const names of [null, ['pump-1'], ['pump-*'], ['nobody']]) {
      const filter = {
        window,
        fromUs: START_US,
        toUs: START_US + 120_000_000,
        gateways: names === null ? null : ['gw-1'],
        devices: names,
        metrics: ['temp*'],
      };
      const capture = hub.engine.captureAggregates(filter);
      if (names === null) expect(capture.files.length).toBeGreaterThan(1);
      const { rows, rest } = await partials.read(capture.files, capture.definitionHash, filter, DEFAULT_FUNCTIONS);
      expect(rest).toEqual([]);
      const read = (await lakePartials(reader, capture, filter, 1_000)).sort(byKey);
      // No answer shows the versions behind a partial.
      const shown = ({ partial, ...row }: PartialRow): unknown => ({ ...row, partial: { ...partial, srcFrom: null, srcTo: null } });
      expect(rows.sort(byKey).map(shown)).toEqual(read.map(shown));
      // Columns are read for the functions that need them, and later for whoever needs more.
      const few = new PartialFiles();
      const functions = ['mean', 'last', 'count'] as const;
      const bare = (await few.read(capture.files, capture.definitionHash, filter, functions)).rows.sort(byKey);
      const answered = ({ group, windowStartUs, partial }: PartialRow): unknown => [
        [group, windowStartUs, finalise(partial, functions)],
        [partial.late, partial.revision, partial.nan, partial.gen],
      ];
      expect(bare.map(answered)).toEqual(read.map(answered));
      expect(bare.every(({ partial }) => partial.histPos.size === 0 && Number.isNaN(partial.m2))).toBe(true);
      expect(
        (await few.read(capture.files, capture.definitionHash, filter, ['p99'])).rows.map(({ partial }) =>
          finalise(partial, ['p99', 'mean']),
        ),
      ).toEqual(
        (await partials.read(capture.files, capture.definitionHash, filter, ['p99'])).rows.map(({ partial }) =>
          finalise(partial, ['p99', 'mean']),
        ),
      );
    }
  }
  const { files } = hub.engine.captureTable('exceptions', { fromUs: START_US, toUs: START_US + 1, devices: null, metrics: null });
  for (const released of [new Set<string>(), new Set([releaseEpoch({ ...lane, seq: 2, idx: 1 })])]) {
    const kept = (await new ExceptionFiles().read(files, START_US, START_US + 1, released)).rows.map(({ kind, device, readingCount }) => [
      kind,
      device,
      readingCount,
    ]);
    const read = (await lakeExceptions(reader, files, START_US, START_US + 1, 100, released)).map(({ kind, device, readingCount }) => [
      kind,
      device,
      readingCount,
    ]);
    expect(kept.length).toBe(4 - released.size);
    expect(kept.map(String).toSorted()).toEqual(read.map(String).toSorted());
  }
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-damaged-'));
  const damaged = { path: path.join(directory, 'a.parquet'), size: 4, day: null };
  writeFileSync(damaged.path, 'PAR1');
  const filter = { window: '1m', fromUs: 0, toUs: 1, gateways: null, devices: null, metrics: null };
  expect((await partials.read([damaged], 'x', filter, ['count'])).rest).toEqual([damaged]);
  rmSync(directory, { recursive: true });
  await reader.close();
  await hub.engine.stop();
  lake.remove();
});
