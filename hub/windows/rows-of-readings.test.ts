import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { WindowDefinition } from '../../shared/window/definition.ts';
import { EMPTY_PARTIAL, mergePartials, type WindowPartial } from '../../shared/window/partial.ts';
import { groupKeyText, partialRows } from '../../shared/window/partial-columns.ts';
import type { GatewayRuns } from './overlay.ts';
import { rowsOfReadings, type RowsLimits } from './rows-of-readings.ts';

const MINUTE: WindowDefinition = { name: '1m', sizeMs: 60_000, by: 'series', persisted: true };
const HOPPING: WindowDefinition = { name: '3m', sizeMs: 180_000, slideMs: 60_000, by: 'series', persisted: true };
const METRICS: WindowDefinition = { name: 'by metric', sizeMs: 60_000, by: 'metric', persisted: true };

/** Of one series; whole numbers, so that sums are the same in every order. */
const runs: fc.Arbitrary<GatewayRuns> = fc
  .record({
    gateway: fc.constantFrom('g', 'h'),
    device: fc.constantFrom('a', 'b', 'c', 'd'),
    points: fc.array(fc.tuple(fc.nat(20), fc.integer({ min: -8, max: 8 })), { minLength: 1, maxLength: 12 }),
  })
  .map(({ gateway, device, points }) => {
    const inOrder = points.sort(([a], [b]) => a - b);
    return {
      gateway,
      runs: {
        count: inOrder.length,
        seriesTable: [{ device, metric: 'm', tags: '' }],
        runOffsets: Uint32Array.of(0, inOrder.length),
        eventTimeUs: Float64Array.from(inOrder, ([step]) => step * 20_000_000),
        value: Float64Array.from(inOrder, ([, value]) => value),
        text: null,
        texts: [],
      },
    };
  });

async function merged(files: readonly (readonly GatewayRuns[])[], definition: WindowDefinition, limits?: RowsLimits) {
  const rows = new Map<string, WindowPartial>();
  let parts = 0;
  const read = (path: string) => Promise.resolve(files[Number(path)]);
  for await (const columns of rowsOfReadings(Object.keys(files), definition, read, () => Promise.resolve(), limits)) {
    parts++;
    for (const { group, windowStartUs, partial } of partialRows(columns)) {
      const key = `${windowStartUs} ${groupKeyText(group)}`;
      rows.set(key, mergePartials(rows.get(key) ?? EMPTY_PARTIAL, partial));
    }
  }
  const found = [...rows].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, partial]) => [key, { ...partial, mean: 0, m2: 0, revision: 0 }]);
  return { found, parts };
}

test('what does not fit into memory at once comes in parts, which together are the same windows', async () => {
  let cut = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(runs, { maxLength: 5 }), { maxLength: 5 }),
      fc.constantFrom(MINUTE, HOPPING, METRICS),
      fc.record({ slotsMax: fc.integer({ min: 1, max: 30 }), seriesMax: fc.integer({ min: 1, max: 8 }) }),
      async (files, definition, limits) => {
        const whole = await merged(files, definition);
        const inParts = await merged(files, definition, limits);
        expect(whole.parts).toBeLessThanOrEqual(1);
        if (inParts.parts > 1) cut++;
        expect(inParts.found).toEqual(whole.found);
      },
    ),
  );
  expect(cut).toBeGreaterThan(20);
});
