/**
 * `npm run bench`: all benchmarks, or those named. `--short`: a quick look. `--rounds N`. `--json FILE`: the results.
 * `--profile`: CPU profiles of our processes. `--report`: renders docs/benchmarks.md and its charts from this run.
 *
 * Each benchmark runs in a process of its own, prints its figures beside references measured in the same run, and ends by
 * itself; one that fails leaves the others alone.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { asText, ratioTable, valueTable, type BenchOptions, type BenchResult, type Measured } from './figures.ts';
import { describeMachine } from './machine.ts';
import { renderReport } from './report.ts';

interface Bench {
  readonly name: string;
  readonly title: string;
  readonly rounds: number;
  /** Loaded only where it runs. */
  readonly load: () => Promise<(options: BenchOptions) => Promise<Measured>>;
}

const BENCHES: readonly Bench[] = [
  {
    name: 'batch-bytes',
    title: 'Bytes per reading on the wire',
    rounds: 5,
    load: async () => (await import('./batch-bytes.ts')).benchBatchBytes,
  },
  { name: 'journal', title: 'Journal', rounds: 5, load: async () => (await import('./journal.ts')).benchJournal },
  { name: 'broker-ingest', title: 'Broker ingest', rounds: 3, load: async () => (await import('./broker-ingest.ts')).benchBrokerIngest },
  {
    name: 'store-forward',
    title: 'Store and forward',
    rounds: 3,
    load: async () => (await import('./store-forward.ts')).benchStoreForward,
  },
  { name: 'drain', title: 'Drain', rounds: 3, load: async () => (await import('./drain.ts')).benchDrain },
  { name: 'freshness', title: 'Freshness and hot queries', rounds: 3, load: async () => (await import('./freshness.ts')).benchFreshness },
  { name: 'hub-ingest', title: 'Hub ingest', rounds: 3, load: async () => (await import('./hub-ingest.ts')).benchHubIngest },
  { name: 'scale', title: 'Many gateways', rounds: 2, load: async () => (await import('./scale.ts')).benchScale },
  { name: 'window-engine', title: 'Window engine', rounds: 5, load: async () => (await import('./window-engine.ts')).benchWindowEngine },
  {
    name: 'parquet-encode',
    title: 'Parquet encoder',
    rounds: 5,
    load: async () => (await import('./parquet-encode.ts')).benchParquetEncode,
  },
];

async function runHere(bench: Bench, options: BenchOptions, resultFile: string): Promise<void> {
  const run = await bench.load();
  const measured = await run(options);
  const result: BenchResult = { name: bench.name, title: bench.title, rounds: options.rounds, ...measured };
  process.stdout.write(`\n${asText(valueTable(result.figures))}\n`);
  const ratios = ratioTable(result.figures);
  if (ratios.length > 0) process.stdout.write(`${asText(ratios)}\n`);
  for (const note of result.notes) process.stdout.write(`  ${note}\n`);
  writeFileSync(resultFile, JSON.stringify(result));
}

/** @returns null when the benchmark failed; it has said why */
async function runInChild(bench: Bench, args: readonly string[], directory: string): Promise<BenchResult | null> {
  const resultFile = path.join(directory, `${bench.name}.json`);
  process.stdout.write(`\n== ${bench.title} (${bench.name})\n`);
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), '--one', resultFile, ...args, bench.name], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const code = await new Promise<number | null>((resolve) => child.once('exit', resolve));
  if (code === 0) return JSON.parse(readFileSync(resultFile, 'utf8')) as BenchResult;
  process.stdout.write(`${bench.name} ended with ${code}\n`);
  process.exitCode = 1;
  return null;
}

function usage(problem: string | null): never {
  if (problem !== null) process.stderr.write(`${problem}\n`);
  process.stdout.write(
    `npm run bench [-- [--short] [--rounds N] [--json FILE] [--profile DIR] [--report] NAME …]\n${BENCHES.map(({ name, title }) => `  ${name.padEnd(18)} ${title}`).join('\n')}\n`,
  );
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
        profile: { type: 'string' },
        report: { type: 'boolean', default: false },
        one: { type: 'string' },
        help: { type: 'boolean', default: false },
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
  await runHere(
    bench,
    {
      rounds: roundsAsked ?? (values.short ? 1 : bench.rounds),
      isShort: values.short,
      profileDir: values.profile === undefined ? null : path.resolve(values.profile, bench.name),
      log: (line) => process.stdout.write(`  ${line}\n`),
    },
    values.one,
  );
  process.exit(0); // a library's idle handle must not keep a benchmark from ending
}

async function runAll(): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-bench-results-'));
  const args = [
    ...(values.short ? ['--short'] : []),
    ...(values.rounds === undefined ? [] : ['--rounds', values.rounds]),
    ...(values.profile === undefined ? [] : ['--profile', path.resolve(values.profile)]),
  ];
  const results: BenchResult[] = [];
  for (const bench of chosen) {
    const result = await runInChild(bench, args, directory);
    if (result !== null) results.push(result);
  }
  rmSync(directory, { recursive: true, force: true });
  const machine = describeMachine(new Date());
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ machine, results }, null, 2)}\n`);
  if (values.profile !== undefined)
    process.stdout.write(`CPU profiles are in ${path.resolve(values.profile)} (open them in a browser's developer tools)\n`);
  if (values.report) {
    const docs = path.resolve('docs');
    mkdirSync(path.join(docs, 'benchmarks'), { recursive: true });
    for (const [file, text] of renderReport(machine, results)) writeFileSync(path.join(docs, file), text);
    process.stdout.write(`${path.join(docs, 'benchmarks.md')} is written\n`);
  }
}
