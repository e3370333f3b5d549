/**
 * The simulation under many seeds. `SLUICE_SIM_SEEDS=N` runs so many instead of as many as fit into a quarter of a
 * minute, `SLUICE_SIM_FIRST=S` begins at seed S. A seed that fails is written to seeds.json, which is run first from then
 * on: commit it with the fix.
 */
import { mkdtempSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { Simulation, type SimReport } from './simulation.ts';

const SEEDS_FILE = fileURLToPath(new URL('./seeds.json', import.meta.url));
const BUDGET_MS = 13_000;
const TRACE_LINES_MAX = 150;
// On a disk each commit of a journal would cost an fsync, which a simulation does not need: its crashes copy files.
const MEMORY = '/dev/shm';

const root = mkdtempSync(path.join(existsSync(MEMORY) ? MEMORY : tmpdir(), 'sluice-sim-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const kept = (JSON.parse(readFileSync(SEEDS_FILE, 'utf8')) as { readonly failed: number[] }).failed;
const first = Number(process.env['SLUICE_SIM_FIRST'] ?? 1);
const wanted = process.env['SLUICE_SIM_SEEDS'] === undefined ? null : Number(process.env['SLUICE_SIM_SEEDS']);

async function run(seed: number): Promise<SimReport> {
  return new Simulation(seed, path.join(root, String(seed))).run();
}

function story({ seed, shape, error, trace }: SimReport): string {
  return [
    `seed ${seed}: ${error?.message}`,
    `again: SLUICE_SIM_FIRST=${seed} SLUICE_SIM_SEEDS=1 npx vitest run test/sim/simulation`,
    `shape: ${shape}`,
    ...trace.slice(-TRACE_LINES_MAX),
    error?.stack ?? '',
  ].join('\n');
}

function keep(seed: number): void {
  const failed = [...new Set([...kept, seed])].sort((a, b) => a - b);
  writeFileSync(SEEDS_FILE, `${JSON.stringify({ failed }, null, 2)}\n`);
}

describe('gateways, hubs and devices under faults', () => {
  test('a seed makes the same run twice, event for event', async () => {
    const [once, again] = [await run(first), await run(first)];
    expect(once.error === null ? '' : story(once)).toBe('');
    expect(again.fingerprint).toBe(once.fingerprint);
    expect(once.tally?.rows).toBeGreaterThan(0);
  });

  test.each(kept)('seed %i, which failed once, conserves, answers and recovers', async (seed) => {
    const report = await run(seed);
    expect(report.error === null ? '' : story(report)).toBe('');
  });

  test(
    'every acknowledged reading is in the lake once or told of, every answer is right, and everything recovers',
    { timeout: 3_600_000 },
    async () => {
      const startMs = performance.now();
      const totals = {
        seeds: 0,
        events: 0,
        rows: 0,
        repeated: 0,
        quarantined: 0,
        inGaps: 0,
        inLostSeqs: 0,
        excused: 0,
        forgotten: 0,
        recoverySeconds: 0,
      };
      for (let seed = first; wanted === null ? performance.now() - startMs < BUDGET_MS : seed < first + wanted; seed++) {
        const report = await run(seed);
        if (report.error !== null) {
          keep(seed);
          expect.fail(story(report));
        }
        totals.seeds++;
        totals.events += report.events;
        totals.recoverySeconds = Math.max(totals.recoverySeconds, report.recoverySeconds);
        for (const name of ['rows', 'repeated', 'quarantined', 'inGaps', 'inLostSeqs', 'excused', 'forgotten'] as const)
          totals[name] += report.tally?.[name] ?? 0;
      }
      console.info(`simulation: ${JSON.stringify(totals)} in ${Math.round(performance.now() - startMs)} ms`);
      expect(totals.rows).toBeGreaterThan(0);
    },
  );
});
