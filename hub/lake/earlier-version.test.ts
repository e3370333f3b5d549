import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { TableCapture } from '../engine-api.ts';
import type { AddFile } from './delta-actions.ts';
import { removeAction } from './delta-stats.ts';
import { makeBench, request, stage } from './delta.fixture.ts';
import type { DeltaTable } from './delta-table.ts';
import { captureEarlier, type EarlierSource } from './earlier-version.ts';

const DAY_US = Date.UTC(2026, 10, 22) * 1000;
const RANGE = { fromUs: DAY_US, toUs: DAY_US + 3_600_000_000, devices: null, metrics: null };

function captureOf({ version, snapshot }: DeltaTable): TableCapture {
  const files = [...snapshot.files.values()].map(({ path, size, partitionValues }) => ({
    path: `/lake/${path}`,
    size,
    day: partitionValues['day'] ?? null,
  }));
  return { version, files, unreadable: [] };
}

function sourceOf(table: DeltaTable): EarlierSource {
  return {
    readEntry: (version) => table.log.readEntry(version),
    exists: () => Promise.resolve(true),
    localPath: (path) => `/lake/${path}`,
  };
}

const inOrder = ({ files }: TableCapture): string[] => files.map((file) => JSON.stringify(file)).sort();

test('every version of a table is what it was, whatever was added, removed and put back since', async () => {
  // A step adds files, and removes (merges away) or puts back some that are or were there.
  const step = fc.record({ added: fc.nat(2), removed: fc.array(fc.nat(20), { maxLength: 3 }), back: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
      const table = await makeBench().open();
      const gone: AddFile[] = [];
      const seen: TableCapture[] = [captureOf(table)];
      for (const { added, removed, back } of steps) {
        const adds = await Promise.all(Array.from({ length: added }, () => stage(table)));
        const active = [...table.snapshot.files.values()];
        const removes = [
          ...new Set(removed.map((index) => active[index % Math.max(1, active.length)]).filter((file) => file !== undefined)),
        ];
        const returned = back ? gone.splice(0, 1) : [];
        gone.push(...removes);
        await table.tryCommit(request([...adds, ...returned], [], { removes: removes.map((file) => removeAction(file, 1, true)) }));
        seen.push(captureOf(table));
      }
      const newest = captureOf(table);
      for (const then of seen) {
        const earlier = await captureEarlier(newest, then.version, RANGE, sourceOf(table));
        expect(earlier?.version).toBe(then.version);
        expect(inOrder(earlier as TableCapture)).toEqual(inOrder(then));
      }
    }),
    { numRuns: 40 },
  );
});

test('a version that the log has no more, that is far back, or that is not yet here has no capture', async () => {
  const table = await makeBench().open();
  for (let version = 0; version < 3; version++) await table.tryCommit(request([await stage(table)], []));
  const newest = captureOf(table);
  const cleaned = { ...sourceOf(table), readEntry: async (version: number) => (version === 2 ? null : table.log.readEntry(version)) };
  expect(await captureEarlier(newest, 1, RANGE, cleaned)).toBeNull();
  expect(await captureEarlier(newest, newest.version + 1, RANGE, sourceOf(table))).toBeNull();
  const [first] = table.snapshot.files.values();
  await table.tryCommit(request([], [], { removes: [removeAction(first, 1, true)] }));
  const vacuumed = { ...sourceOf(table), exists: (path: string) => Promise.resolve(path !== first.path) };
  expect(await captureEarlier(captureOf(table), newest.version, RANGE, vacuumed)).toBeNull();
  expect(await captureEarlier({ ...newest, version: 5_000 }, 2, RANGE, sourceOf(table))).toBeNull();
});
