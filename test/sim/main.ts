/**
 * `npm run sim`: the simulation under many seeds, on all cores.
 *
 * `--seeds N` (default 1,000) from `--first S` (default 1), or as many as fit into `--minutes M`. A seed that fails prints its
 * story and is kept in test/sim/seeds.json, which every `npm test` reruns; the command then exits with 1.
 *
 * `--day`: instead of seeds a day of a fleet (day.ts), about ten minutes of one core. It exits with 1 when a reading is lost or
 * doubled, a window is wrong, or memory grows by more than GROWTH_RATIO_MAX from its first hour to a later one.
 */
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { SimDay } from './day.ts';
import { addTotals, keepSeed, noTotals, SimRoom, story, totalsOf, type SimTotals } from './seeds.ts';

const SEEDS_FILE = path.resolve('test/sim/seeds.json');
const PROGRESS_MS = 5_000;
/** By 6:00 what is bounded by time and count is there: keys of redeliveries, tombstones of two hours. */
const DAY_HOURS = [6, 12, 18, 24];
/** Files of the lake become more through the day, and reused buffers as large as the largest of them asks for. */
const GROWTH_RATIO_MAX = 1.15;

/** What a process says of a seed that it ran, a line of JSON each. */
interface Line {
  readonly seed: number;
  readonly totals: SimTotals;
  /** null: no violation. */
  readonly story: string | null;
}

function count(text: string | undefined, name: string): number | null {
  if (text === undefined) return null;
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0) throw new RangeError(`--${name} ${text}: wanted a number above 0`);
  return value;
}

const { values } = parseArgs({
  options: {
    seeds: { type: 'string' },
    first: { type: 'string' },
    minutes: { type: 'string' },
    day: { type: 'boolean', default: false },
    stride: { type: 'string' }, // how this program starts itself
  },
});
const first = count(values.first, 'first') ?? 1;
const minutes = count(values.minutes, 'minutes');
const seeds = count(values.seeds, 'seeds') ?? (minutes === null ? 1_000 : Number.MAX_SAFE_INTEGER - first);
const stride = count(values.stride, 'stride');

if (values.day) process.exitCode = (await runDay()) ? 0 : 1;
else if (stride === null) process.exitCode = (await runAll()) ? 0 : 1;
else await runSome(stride);

async function runDay(): Promise<boolean> {
  const room = new SimRoom();
  process.once('exit', () => room.close());
  const mb = (bytes: number): string => (bytes / 1e6).toFixed(1);
  const { hours, ...sums } = await new SimDay(first, room.directory('day')).run(DAY_HOURS, (hour) => {
    const { heapBytes, bufferBytes, residentBytes, readingsCommitted } = hour;
    const files = hour.tables.map(({ name, files, tombstones }) => `${name} ${files} files, ${tombstones} removed`).join('; ');
    process.stdout.write(
      `${String(hour.hour).padStart(2)}:00 heap ${mb(heapBytes)} MB, buffers ${mb(bufferBytes)} MB, resident ${mb(residentBytes)} MB; ` +
        `${readingsCommitted} readings; ${files}\n`,
    );
  });
  const held = hours.map(({ heapBytes, bufferBytes }) => heapBytes + bufferBytes);
  const growth = Math.max(...held) / held[0];
  process.stdout.write(`${JSON.stringify(sums)}\nmemory at its most is ${growth.toFixed(3)} of that at ${DAY_HOURS[0]}:00\n`);
  return growth <= GROWTH_RATIO_MAX;
}

/** In a process of its own: every stride-th seed, a line each. */
async function runSome(step: number): Promise<void> {
  const room = new SimRoom();
  process.once('SIGTERM', () => process.exit(0));
  process.once('exit', () => room.close());
  for (let seed = first; seed < first + seeds; seed += step) {
    const report = await room.run(seed);
    const line: Line = { seed, totals: totalsOf(report), story: report.error === null ? null : story(report) };
    process.stdout.write(`${JSON.stringify(line)}\n`);
  }
  process.exit(0); // a library's idle handle must not keep it
}

async function runAll(): Promise<boolean> {
  const cores = Math.min(availableParallelism(), seeds);
  const totals = noTotals();
  const failed: number[] = [];
  const startMs = performance.now();
  const progress = setInterval(
    () => process.stdout.write(`  ${totals.seeds} seeds, ${totals.rows} readings, ${failed.length} failed\n`),
    PROGRESS_MS,
  );
  const ends = Array.from({ length: cores }, async (_, core) => {
    const own = Math.ceil((seeds - core) / cores) * cores;
    const args = ['--first', String(first + core), '--seeds', String(own), '--stride', String(cores)];
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url), ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    const timer = minutes === null ? null : setTimeout(() => child.kill('SIGTERM'), minutes * 60_000);
    const exit = new Promise<number | null>((resolve) => child.once('exit', resolve));
    for await (const text of readline.createInterface({ input: child.stdout })) {
      const line = JSON.parse(text) as Line;
      addTotals(totals, line.totals);
      if (line.story === null) continue;
      failed.push(line.seed);
      keepSeed(SEEDS_FILE, line.seed);
      process.stdout.write(`${line.story}\n`);
    }
    if (timer !== null) clearTimeout(timer);
    return (await exit) === 0;
  });
  const areWhole = (await Promise.all(ends)).every((end) => end);
  clearInterval(progress);
  const seconds = (performance.now() - startMs) / 1000;
  process.stdout.write(`${JSON.stringify(totals)} in ${seconds.toFixed(0)} s on ${cores} cores\n`);
  process.stdout.write(failed.length === 0 ? 'no violation\n' : `violations at seeds ${failed.join(', ')}\n`);
  return areWhole && failed.length === 0 && totals.rows > 0;
}
