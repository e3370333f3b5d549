/** Running seeds: the story of one that failed, the sums over those that did not, and the list of those to rerun for ever. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Simulation, type SimReport } from './simulation.ts';

const TRACE_LINES_MAX = 150;
// On a disk each commit of a journal would cost an fsync, which a simulation does not need: its crashes copy files.
const MEMORY = '/dev/shm';

/** Where simulated machines keep their files; `close` removes it. */
export class SimRoom {
  readonly #root = mkdtempSync(path.join(existsSync(MEMORY) ? MEMORY : tmpdir(), 'sluice-sim-'));

  run(seed: number): Promise<SimReport> {
    return new Simulation(seed, this.directory(String(seed))).run();
  }

  directory(name: string): string {
    return path.join(this.#root, name);
  }

  close(): void {
    rmSync(this.#root, { recursive: true, force: true });
  }
}

export function story({ seed, shape, error, trace }: SimReport): string {
  return [
    `seed ${seed}: ${error?.message}`,
    `again: npm run sim -- --first ${seed} --seeds 1`,
    `shape: ${shape}`,
    ...trace.slice(-TRACE_LINES_MAX),
    error?.stack ?? '',
  ].join('\n');
}

const SUMMED = ['rows', 'repeated', 'quarantined', 'inGaps', 'inLostSeqs', 'excused', 'forgotten'] as const;

/** What runs without a violation have seen. */
export interface SimTotals extends Record<(typeof SUMMED)[number], number> {
  seeds: number;
  events: number;
  /** The longest, in simulated seconds. */
  recoverySeconds: number;
}

export function noTotals(): SimTotals {
  return {
    ...{ seeds: 0, events: 0, rows: 0, repeated: 0, quarantined: 0, inGaps: 0, inLostSeqs: 0, excused: 0, forgotten: 0 },
    recoverySeconds: 0,
  };
}

export function totalsOf(report: SimReport): SimTotals {
  const totals = { ...noTotals(), seeds: 1, events: report.events, recoverySeconds: report.recoverySeconds };
  for (const name of SUMMED) totals[name] = report.tally?.[name] ?? 0;
  return totals;
}

export function addTotals(into: SimTotals, more: SimTotals): void {
  for (const name of [...SUMMED, 'seeds', 'events'] as const) into[name] += more[name];
  into.recoverySeconds = Math.max(into.recoverySeconds, more.recoverySeconds);
}

/** @param file JSON {"failed": [seed, …]} */
export function keptSeeds(file: string): readonly number[] {
  return (JSON.parse(readFileSync(file, 'utf8')) as { readonly failed: number[] }).failed;
}

/** Commit the file with the fix. */
export function keepSeed(file: string, seed: number): void {
  const failed = [...new Set([...keptSeeds(file), seed])].sort((a, b) => a - b);
  writeFileSync(file, `${JSON.stringify({ failed }, null, 2)}\n`);
}
