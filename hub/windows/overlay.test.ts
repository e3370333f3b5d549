import { expect, test } from 'vitest';
import type { SeriesRuns } from '../../shared/reading.ts';
import { partialRows } from '../../shared/window/partial-columns.ts';
import { GroupRegistry } from './group-registry.ts';
import { Overlay, type GatewayRuns } from './overlay.ts';

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

test('a batch that finds no room while the overlay is made anew is in the windows once it is committed', () => {
  const overlay = new Overlay([MINUTE], new GroupRegistry(), () => -Infinity, 100);
  const first = readings(60_000);
  // More than a step: the rebuild is under way when the next batch comes, which reckons with a slot for each reading.
  overlay.rebuild([], [first, readings(10)]);
  const late = readings(1_000);
  overlay.addOpen(late);
  while (overlay.isRebuilding) overlay.rebuildStep();
  expect(overlay.complete).toBe(false);
  overlay.rotate();
  overlay.commitGroup([first, readings(10), late]);
  expect(partialRows(overlay.tailRows(MINUTE)).map(({ partial }) => partial.n)).toEqual([61_010]);
});
