import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { planCompaction, type PlanFile, type PlanLimits } from './compaction-plan.ts';

const LIMITS: PlanLimits = { fanIn: 8, rowsMax: 1_000_000, bytesMax: 64_000_000, filesMax: 64 };

let nextId = 0;
function file(rows: number, createdMs: number, group = 'today'): PlanFile<number> {
  return { file: nextId++, group, rows, bytes: rows * 3, createdMs };
}

/** Merges as planned until nothing is left to do. @returns files, and how many rows were written on the way */
function settle(
  files: PlanFile<number>[],
  isOver: (group: string) => boolean,
  nowMs: number,
): { files: PlanFile<number>[]; written: number } {
  let written = 0;
  for (;;) {
    const jobs = planCompaction(files, LIMITS, isOver);
    if (jobs.length === 0) return { files, written };
    const gone = new Set(jobs.flat());
    const merged = jobs.map((job) => {
      const rows = job.reduce((sum, input) => sum + input.rows, 0);
      written += rows;
      return file(rows, nowMs, job[0].group);
    });
    files = [...files.filter((input) => !gone.has(input)), ...merged];
  }
}

describe('the plan of a compaction', () => {
  test('keeps a day of 17,280 commits below a hundred files all the time, and writes a row about three times', () => {
    const rows = 500;
    let files: PlanFile<number>[] = [];
    let written = 0;
    let filesMax = 0;
    for (let commit = 0; commit < 17_280; commit++) {
      files.push(file(rows, commit * 5_000));
      if (commit % 120 !== 119) continue;
      const settled = settle(files, () => false, commit * 5_000);
      files = settled.files;
      written += settled.written;
      filesMax = Math.max(filesMax, files.length);
    }
    expect(filesMax).toBeLessThan(40);
    expect(written / (17_280 * rows)).toBeLessThan(4);
    expect(settle(files, () => true, 86_400_000).files.length).toBeLessThanOrEqual(18);
  });

  test('never mixes groups, exceeds a limit, names a file twice or plans a job of one', () => {
    const arbitrary = fc.array(
      fc.record({ rows: fc.integer({ min: 0, max: 1_200_000 }), at: fc.nat(1_000), group: fc.constantFrom('a', 'b', 'c') }),
      { maxLength: 200 },
    );
    fc.assert(
      fc.property(arbitrary, fc.constantFrom('a', 'b', ''), (entries, over) => {
        const files = entries.map(({ rows, at, group }) => file(rows, at, group));
        const jobs = planCompaction(files, LIMITS, (group) => group === over);
        expect(new Set(jobs.flat()).size).toBe(jobs.flat().length);
        for (const job of jobs) {
          expect(job.length).toBeGreaterThanOrEqual(2);
          expect(job.length).toBeLessThanOrEqual(LIMITS.filesMax);
          expect(new Set(job.map(({ group }) => group)).size).toBe(1);
          expect(job.reduce((sum, { rows }) => sum + rows, 0)).toBeLessThanOrEqual(LIMITS.rowsMax);
        }
      }),
    );
  });
});
