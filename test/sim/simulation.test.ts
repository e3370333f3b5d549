/** The simulation for some seconds. `npm run sim` runs as many seeds as one likes, on all cores. */
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { addTotals, keepSeed, keptSeeds, noTotals, SimRoom, story, totalsOf } from './seeds.ts';

const SEEDS_FILE = fileURLToPath(new URL('./seeds.json', import.meta.url));
const FIRST = 1;
const BUDGET_MS = 5_000;

const room = new SimRoom();
afterAll(() => room.close());

describe('gateways, hubs and devices under faults', () => {
  test('a seed makes the same run twice, event for event', async () => {
    const [once, again] = [await room.run(FIRST), await room.run(FIRST)];
    expect(once.error === null ? '' : story(once)).toBe('');
    expect(again.fingerprint).toBe(once.fingerprint);
    expect(once.tally?.rows).toBeGreaterThan(0);
  });

  test.each(keptSeeds(SEEDS_FILE))('seed %i, which failed once, conserves, answers and recovers', async (seed) => {
    const report = await room.run(seed);
    expect(report.error === null ? '' : story(report)).toBe('');
  });

  test('every acknowledged reading is in the lake once or told of, every answer is right, and everything recovers', async () => {
    const startMs = performance.now();
    const totals = noTotals();
    for (let seed = FIRST; performance.now() - startMs < BUDGET_MS; seed++) {
      const report = await room.run(seed);
      if (report.error !== null) {
        keepSeed(SEEDS_FILE, seed);
        expect.fail(story(report));
      }
      addTotals(totals, totalsOf(report));
    }
    console.info(`simulation: ${JSON.stringify(totals)}`);
    expect(totals.rows).toBeGreaterThan(0);
  });
});
