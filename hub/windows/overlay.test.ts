import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { SeriesRuns } from '../../shared/reading.ts';
import { partialRows, type PartialColumns, type PartialRow } from '../../shared/window/partial-columns.ts';
import { GroupRegistry } from './group-registry.ts';
import { Overlay, type GatewayRuns, type OpenBatch } from './overlay.ts';

const MINUTE = { name: '1m', sizeMs: 60_000, by: 'series', persisted: true } as const;

function readings(count: number): GatewayRuns {
  const runs: SeriesRuns = {
    count,
    seriesTable: [{ device: 'd', metric: 'm', tags: '' }],
    runOffsets: Uint32Array.of(0, count),
    eventTimeUs: new Float64Array(count).fill(60_000_000),
    value: new Float64Array(count).fill(1),
    text: null,
    texts: [],
  };
  return { gateway: 'g', runs };
}

/** Over so many minutes, the first of them half full: a row each. */
function readingsOver(minutes: number): GatewayRuns {
  const { gateway, runs } = readings(minutes * 2 - 1);
  return { gateway, runs: { ...runs, eventTimeUs: runs.eventTimeUs.map((us, index) => us + Math.ceil(index / 2) * 60_000_000) } };
}

function inRounds(batches: readonly GatewayRuns[]): OpenBatch[] {
  return batches.map((batch, round) => ({ batch, round }));
}

test('a batch that finds no room while the overlay is made anew is in the windows once it is committed', () => {
  const overlay = new Overlay([MINUTE], new GroupRegistry(), () => -Infinity, 100);
  const first = readings(60_000);
  // More than a step: the rebuild is under way when the next batch comes, which reckons with a slot for each reading.
  overlay.rebuild([], inRounds([first, readings(10)]));
  const late = readings(1_000);
  overlay.addOpen(late, 2);
  while (overlay.isRebuilding) overlay.rebuildStep();
  expect(overlay.complete).toBe(false);
  overlay.rotate();
  overlay.commitGroup([first, readings(10), late]);
  expect(partialRows(overlay.tailRows(MINUTE)).map(({ partial }) => partial.n)).toEqual([61_010]);
});

/** Readings of all rows. */
function counted(overlay: Overlay): number {
  return [overlay.tailRows(MINUTE), ...overlay.overlayRows(0)]
    .flatMap((rows) => partialRows(rows))
    .reduce((sum, { partial }) => sum + partial.n, 0);
}

function finish(overlay: Overlay): void {
  while (overlay.isRebuilding) overlay.rebuildStep();
}

test('a commit that leaves batches behind has nothing summed up again where it takes whole parts of what waits', () => {
  const overlay = new Overlay([MINUTE], new GroupRegistry(), () => -Infinity, 100_000, 40_000);
  const batches = Array.from({ length: 20 }, () => readings(5_000));
  batches.forEach((batch, round) => overlay.addOpen(batch, round));
  for (let from = 0; from < 80_000; from += 40_000) {
    const group = batches.slice(from / 5_000, from / 5_000 + 8);
    overlay.rotate(group);
    expect(overlay.isRebuilding).toBe(false);
    expect(overlay.complete).toBe(true);
    expect(counted(overlay)).toBe(100_000);
    overlay.commitGroup(group);
    expect(counted(overlay)).toBe(100_000);
  }
  expect(partialRows(overlay.tailRows(MINUTE)).map(({ partial }) => partial.n)).toEqual([80_000]);
});

test('lanes that come in bursts and are taken in turn have no more than half of it summed up again', () => {
  const overlay = new Overlay([MINUTE], new GroupRegistry(), () => -Infinity, 10_000_000, 1_000_000);
  const [lanes, rounds, taken] = [4, 120, 20];
  const batches = Array.from({ length: lanes }, () => Array.from({ length: rounds }, () => readings(12_500)));
  const burst = 30;
  for (let from = 0; from < rounds; from += burst) {
    for (const lane of batches) lane.slice(from, from + burst).forEach((batch, index) => overlay.addOpen(batch, from + index));
  }
  let again = 0;
  for (let from = 0; from < rounds; from += taken) {
    const group = batches.flatMap((lane) => lane.slice(from, from + taken));
    overlay.rotate(group);
    // A step is four batches of this size, and each rotation takes the first step.
    for (; overlay.isRebuilding; overlay.rebuildStep()) again++;
    overlay.commitGroup(group);
  }
  expect(counted(overlay)).toBe(lanes * rounds * 12_500);
  // Of 120: the first part, which was to be all of a commit, once, and what lies across a border (90 with parts by arrival).
  expect(again).toBeLessThanOrEqual(60);
});

test('whichever batches commits take or others drop, tail and overlay together have every reading once', () => {
  const operation = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('add' as const), size: fc.integer({ min: 1, max: 30 }) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('rotate' as const), size: fc.nat(5) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('commit' as const), size: fc.constant(0) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('step' as const), size: fc.integer({ min: 1, max: 8 }) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('foreign' as const), size: fc.integer({ min: 1, max: 10 }) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('drop' as const), size: fc.nat(3) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('giveWay' as const), size: fc.constant(0) }) },
  );
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 40 }), fc.integer({ min: 1, max: 60 }), (operations, readingsPerCommit) => {
      const overlay = new Overlay([MINUTE], new GroupRegistry(), () => -Infinity, 100_000, readingsPerCommit);
      let [waiting, group]: GatewayRuns[][] = [[], []];
      let committed = 0;
      const total = (batches: readonly GatewayRuns[]): number => batches.reduce((sum, { runs }) => sum + runs.count, 0);
      for (const { kind, size } of operations) {
        if (kind === 'add') {
          waiting.push(readingsOver(size));
          // Rounds are a guess: whatever they are, only speed depends on it.
          overlay.addOpen(waiting[waiting.length - 1], (size * 7) % 11);
        } else if (kind === 'rotate' && group.length === 0) {
          // Every so-manieth batch, as lanes in turn give them: not those that came first.
          group = waiting.filter((_, index) => size === 0 || index % size === 0);
          waiting = waiting.filter((batch) => !group.includes(batch));
          overlay.rotate(group);
          finish(overlay);
        } else if (kind === 'commit' && group.length > 0) {
          overlay.commitGroup(group);
          committed += total(group);
          group = [];
        } else if (kind === 'step') {
          overlay.mergeStep(size);
        } else if (kind === 'foreign') {
          overlay.addTail([readings(size)]);
          committed += size;
        } else if (kind === 'drop') {
          waiting = waiting.slice(size);
          overlay.rebuild(group, inRounds(waiting));
          finish(overlay);
        } else if (kind === 'giveWay') {
          overlay.giveWay();
        }
        const expected = committed + total(group) + total(waiting);
        if (overlay.complete) expect(counted(overlay)).toBe(expected);
        else expect(counted(overlay)).toBeLessThanOrEqual(expected);
        if (kind === 'drop') expect(overlay.complete).toBe(true);
      }
      if (group.length > 0) overlay.commitGroup(group);
      expect(partialRows(overlay.tailRows(MINUTE)).reduce((sum, { partial }) => sum + partial.n, 0)).toBe(committed + total(group));
    }),
  );
});

test('rows in steps are those of tail, group and open parts together, whatever is added meanwhile', () => {
  const hour = { name: '1h', sizeMs: 3_600_000, by: 'metric', persisted: false } as const;
  const overlay = new Overlay([MINUTE, hour], new GroupRegistry(), (gateway) => (gateway === 'g' ? 3_000_000_000 : -Infinity), 1_000_000);
  const wide = readingsOver(9_000);
  overlay.addOpen(wide, 0);
  overlay.rotate();
  overlay.commitGroup([wide]);
  const group = { ...readingsOver(9_100), gateway: 'h' };
  overlay.addOpen(group, 0);
  overlay.rotate();
  overlay.addOpen(readingsOver(9_200), 0);
  const filters = [{}, { fromUs: 600_000_000, toUs: 1_200_000_000 }, { device: 'd' }];
  for (const filter of filters) {
    const asks = [0, 1].map((definitionIndex) => ({ definitionIndex, filter }));
    const expected = asks.map(({ definitionIndex }) => {
      const rows = overlay.overlayRows(definitionIndex, filter);
      return totals(definitionIndex === 0 ? [...rows, overlay.tailRows(MINUTE, filter)] : rows);
    });
    const steps = overlay.rowsInSteps(asks);
    let step = steps.next();
    for (; step.done !== true; step = steps.next()) overlay.addOpen(readings(10), 1);
    expect(step.value.map((rows) => totals([rows]))).toEqual(expected);
    expect(new Set(step.value.flatMap((rows) => partialRows(rows)).map(keyOf)).size).toBe(
      step.value.reduce((sum, { count }) => sum + count, 0),
    );
  }
});

function keyOf({ group, windowStartUs }: PartialRow): string {
  return `${group.gateway} ${group.metric} ${windowStartUs}`;
}

/** Readings, their sum, and how many were late, per group and window. */
function totals(all: readonly PartialColumns[]): Map<string, number[]> {
  const sums = new Map<string, number[]>();
  for (const row of all.flatMap((rows) => partialRows(rows))) {
    const own = sums.get(keyOf(row)) ?? [0, 0, 0];
    [row.partial.n, row.partial.sumValue, row.partial.late].forEach((value, index) => (own[index] += value));
    sums.set(keyOf(row), own);
  }
  return sums;
}
