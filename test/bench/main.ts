/**
 * `npm run bench`: all benchmarks, or those named. `--short`: a quick look. `--rounds N`. `--json FILE`: the results.
 * `--profile`: leaves CPU profiles of our processes in a directory that it names. `--report`: writes what was measured
 * into docs/benchmarks.md and its charts, with where the time goes from a short profiled pass after each benchmark, since
 * profiling slows what it looks at; benchmarks that were not run keep what docs/benchmarks/results.json has of this machine.
 *
 * Each benchmark runs in a process of its own, prints its figures beside references measured in the same run, and ends by
 * itself; one that fails leaves the others alone.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { asText, hotTable, ratioTable, valueTable, type BenchOptions, type BenchResult, type BenchRun, type Measured } from './figures.ts';
import { describeMachine } from './machine.ts';
import { summariseProfiles, type HotThread } from './profile-summary.ts';
import { mergeResults, renderReport } from './report.ts';

interface Bench {
  readonly name: string;
  readonly title: string;
  readonly rounds: number;
  /** Of the long form with its own rounds on a slow machine that is not idle: what takes longer hangs, and is ended. */
  readonly minutesMax: number;
  /** Measures code in its own process; the others start ours. */
  readonly isInProcess?: true;
  /** Loaded only where it runs. */
  readonly load: () => Promise<(options: BenchOptions) => Promise<Measured>>;
}

const BENCHES: readonly Bench[] = [
  {
    name: 'batch-bytes',
    title: 'Bytes per reading on the wire',
    rounds: 5,
    minutesMax: 10,
    isInProcess: true,
    load: async () => (await import('./batch-bytes.ts')).benchBatchBytes,
  },
  {
    name: 'journal',
    title: 'Journal',
    rounds: 5,
    minutesMax: 15,
    isInProcess: true,
    load: async () => (await import('./journal.ts')).benchJournal,
  },
  {
    name: 'flash',
    title: 'Bytes per reading at the flash',
    rounds: 1,
    minutesMax: 15,
    load: async () => (await import('./flash.ts')).benchFlash,
  },
  {
    name: 'broker-ingest',
    title: 'Broker ingest',
    rounds: 3,
    minutesMax: 60,
    load: async () => (await import('./broker-ingest.ts')).benchBrokerIngest,
  },
  {
    name: 'store-forward',
    title: 'Store and forward',
    rounds: 3,
    minutesMax: 30,
    load: async () => (await import('./store-forward.ts')).benchStoreForward,
  },
  { name: 'drain', title: 'Drain', rounds: 3, minutesMax: 30, load: async () => (await import('./drain.ts')).benchDrain },
  {
    name: 'freshness',
    title: 'Freshness and hot queries',
    rounds: 3,
    minutesMax: 30,
    load: async () => (await import('./freshness.ts')).benchFreshness,
  },
  {
    name: 'query',
    title: 'Queries while ingesting',
    rounds: 1,
    minutesMax: 120,
    load: async () => (await import('./query.ts')).benchQuery,
  },
  {
    name: 'hub-ingest',
    title: 'Hub ingest',
    rounds: 3,
    minutesMax: 30,
    load: async () => (await import('./hub-ingest.ts')).benchHubIngest,
  },
  {
    name: 'lake-size',
    title: 'Size of the lake',
    rounds: 2,
    minutesMax: 30,
    isInProcess: true,
    load: async () => (await import('./lake-size.ts')).benchLakeSize,
  },
  {
    name: 'lake-day',
    title: 'A day of the lake',
    rounds: 1,
    minutesMax: 60,
    isInProcess: true,
    load: async () => (await import('./lake-day.ts')).benchLakeDay,
  },
  { name: 'scale', title: 'Many gateways', rounds: 2, minutesMax: 30, load: async () => (await import('./scale.ts')).benchScale },
  {
    name: 'window-engine',
    title: 'Window engine',
    rounds: 5,
    minutesMax: 6,
    isInProcess: true,
    load: async () => (await import('./window-engine.ts')).benchWindowEngine,
  },
  {
    name: 'parquet-encode',
    title: 'Parquet encoder',
    rounds: 5,
    minutesMax: 15,
    isInProcess: true,
    load: async () => (await import('./parquet-encode.ts')).benchParquetEncode,
  },
];

/** What a benchmark's own process leaves in a file. */
type ResultOfProcess = Omit<BenchResult, 'run' | 'hotThreads'>;

/** In the benchmark's own process: measures, prints, leaves the result in a file. */
async function runHere(bench: Bench, options: BenchOptions, resultFile: string): Promise<void> {
  const run = await bench.load();
  const measured = await run(options);
  const result: ResultOfProcess = { name: bench.name, title: bench.title, rounds: options.rounds, ...measured };
  process.stdout.write(`\n${asText(valueTable(result.figures))}\n`);
  const ratios = ratioTable(result.figures);
  if (ratios.length > 0) process.stdout.write(`${asText(ratios)}\n`);
  for (const note of result.notes) process.stdout.write(`  ${note}\n`);
  writeFileSync(resultFile, JSON.stringify(result));
}

interface ChildOptions {
  readonly args: readonly string[];
  readonly profileDir: string | null;
  readonly isSilent: boolean;
}

/** A benchmark that catches the signal ends its programs; one that is in a computation does not get to it. */
function endHanging(bench: Bench, child: ChildProcess, minutes: number): void {
  process.stdout.write(`${bench.name} has not ended within its ${minutes} minutes and is ended\n`);
  child.kill('SIGTERM');
  setTimeout(() => child.kill('SIGKILL'), 10_000).unref();
}

/** @returns null when the benchmark failed; it has said why */
async function runInChild(bench: Bench, resultsDir: string, { args, profileDir, isSilent }: ChildOptions): Promise<ResultOfProcess | null> {
  const resultFile = path.join(resultsDir, `${bench.name}.json`);
  const profiling = profileDir === null ? [] : ['--profile-dir', profileDir];
  const nodeFlags = profileDir !== null && bench.isInProcess === true ? ['--cpu-prof', '--cpu-prof-dir', profileDir] : [];
  const child = spawn(
    process.execPath,
    [...nodeFlags, fileURLToPath(import.meta.url), '--one', resultFile, ...args, ...profiling, bench.name],
    {
      stdio: ['ignore', isSilent ? 'ignore' : 'inherit', 'inherit'],
    },
  );
  const startMs = performance.now();
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  const limitMinutes = bench.minutesMax * Math.max(1, (roundsAsked ?? bench.rounds) / bench.rounds);
  const timer = setTimeout(() => endHanging(bench, child, limitMinutes), limitMinutes * 60_000);
  const code = await ended;
  clearTimeout(timer);
  if (!isSilent) process.stdout.write(`  took ${Math.round((performance.now() - startMs) / 1000)} s\n`);
  if (code === 0) return JSON.parse(readFileSync(resultFile, 'utf8')) as ResultOfProcess;
  process.stdout.write(`${bench.name} ended with ${code}\n`);
  process.exitCode = 1;
  return null;
}

function usage(problem: string | null): never {
  if (problem !== null) process.stderr.write(`${problem}\n`);
  const names = BENCHES.map(({ name, title, minutesMax }) => `  ${name.padEnd(18)} ${title} (at most ${minutesMax} min)`).join('\n');
  process.stdout.write(`npm run bench [-- [--short] [--rounds N] [--json FILE] [--profile] [--report] NAME …]\n${names}\n`);
  process.exit(problem === null ? 0 : 2);
}

function parse() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        short: { type: 'boolean', default: false },
        rounds: { type: 'string' },
        json: { type: 'string' },
        profile: { type: 'boolean', default: false },
        report: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
        // How this program starts itself.
        one: { type: 'string' },
        'profile-dir': { type: 'string' },
      },
    });
  } catch (error) {
    return usage(error instanceof Error ? error.message : String(error));
  }
}

const { values, positionals } = parse();
const unknown = positionals.filter((name) => !BENCHES.some((bench) => bench.name === name));
if (values.help) usage(null);
if (unknown.length > 0) usage(`no benchmark '${unknown.join("', '")}'`);
const chosen = BENCHES.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
const roundsAsked = values.rounds === undefined ? null : Number(values.rounds);
if (roundsAsked !== null && !(Number.isInteger(roundsAsked) && roundsAsked >= 1 && roundsAsked <= 100)) usage('--rounds: 1 to 100');

if (values.one === undefined) await runAll();
else {
  const [bench] = chosen;
  const rounds = roundsAsked ?? (values.short ? 1 : bench.rounds);
  const log = (line: string): void => void process.stdout.write(`  ${line}\n`);
  await runHere(bench, { rounds, isShort: values.short, profileDir: values['profile-dir'] ?? null, log }, values.one);
  process.exit(0); // a library's idle handle must not keep a benchmark from ending
}

/** A short pass of its own, so that the figures are of programs that nobody looked into. */
async function profiledPass(bench: Bench, resultsDir: string): Promise<readonly HotThread[]> {
  const profileDir = path.join(resultsDir, `${bench.name}.profiles`);
  await runInChild(bench, resultsDir, { args: ['--short', '--rounds', '1'], profileDir, isSilent: true });
  return summariseProfiles(profileDir);
}

/** Of each benchmark by itself, so that a section of the page can be measured again as its command says. */
function runOf(bench: Bench, args: readonly string[]): BenchRun {
  return { machine: describeMachine(new Date()), command: ['npm run bench --', ...args, bench.name].join(' '), isShort: values.short };
}

async function runAll(): Promise<void> {
  const resultsDir = mkdtempSync(path.join(tmpdir(), 'sluice-bench-results-'));
  const profilesDir = values.profile ? mkdtempSync(path.join(tmpdir(), 'sluice-bench-profiles-')) : null;
  const args = [...(values.short ? ['--short'] : []), ...(values.rounds === undefined ? [] : ['--rounds', values.rounds])];
  const results: BenchResult[] = [];
  for (const bench of chosen) {
    process.stdout.write(`\n== ${bench.title} (${bench.name})\n`);
    const profileDir = profilesDir === null ? null : path.join(profilesDir, bench.name);
    const run = runOf(bench, args);
    const result = await runInChild(bench, resultsDir, { args, profileDir, isSilent: false });
    if (result === null) continue;
    const hotThreads = profileDir !== null ? summariseProfiles(profileDir) : values.report ? await profiledPass(bench, resultsDir) : [];
    if (hotThreads.length > 0) process.stdout.write(`\n${asText(hotTable(hotThreads))}\n`);
    results.push({ run, ...result, hotThreads });
    // After each, so that an interrupted run leaves what it has.
    if (values.json !== undefined) writeResults(values.json, results);
    if (values.report) writeReport(results);
  }
  rmSync(resultsDir, { recursive: true, force: true });
  if (profilesDir !== null) process.stdout.write(`CPU profiles are in ${profilesDir} (a browser's developer tools open them)\n`);
}

function writeResults(file: string, results: readonly BenchResult[]): void {
  writeFileSync(file, `${JSON.stringify({ results }, null, 2)}\n`);
}

function writeReport(measured: readonly BenchResult[]): void {
  const docs = path.resolve('docs');
  const resultsFile = path.join(docs, 'benchmarks', 'results.json');
  mkdirSync(path.dirname(resultsFile), { recursive: true });
  const names = BENCHES.map(({ name }) => name);
  const results = mergeResults(names, readResults(resultsFile), measured);
  writeResults(resultsFile, results);
  for (const [file, text] of renderReport(results)) writeFileSync(path.join(docs, file), text);
  process.stdout.write(`${path.join(docs, 'benchmarks.md')} is written\n`);
}

function readResults(file: string): readonly BenchResult[] {
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as { results: BenchResult[] }).results : [];
}
