/**
 * `npm run bench`: all benchmarks, or those named; `--short` takes a quick round of each that has one.
 *
 * Each is a program of its own that prints its figures beside references measured in the same run, and ends by itself.
 */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const BENCHES: readonly { name: string; about: string; short: boolean }[] = [
  { name: 'batch-bytes', about: 'bytes per reading of sealed batches against JSON and gzipped line protocol', short: true },
  { name: 'broker-ingest', about: 'durable QoS 1 messages per second against bare aedes', short: true },
  { name: 'hub-ingest', about: 'readings per second from the uplink to committed lake and windows', short: true },
  { name: 'window-engine', about: 'window updates per second against a Map of objects and DuckDB', short: false },
  { name: 'parquet-encode', about: 'Parquet encoder against DuckDB COPY', short: false },
  { name: 'journal', about: 'group commit against a transaction per message', short: false },
];

const args = process.argv.slice(2);
const isShort = args.includes('--short');
const names = args.filter((argument) => !argument.startsWith('-'));
const unknown = names.filter((name) => !BENCHES.some((bench) => bench.name === name));
if (args.includes('--help') || unknown.length > 0) {
  if (unknown.length > 0) process.stderr.write(`no benchmark '${unknown.join("', '")}'\n`);
  process.stdout.write(`npm run bench [-- [--short] NAME …]\n${BENCHES.map(({ name, about }) => `  ${name.padEnd(16)} ${about}`).join('\n')}\n`);
  process.exit(unknown.length > 0 ? 2 : 0);
}

const here = path.dirname(fileURLToPath(import.meta.url));
for (const { name, about, short } of BENCHES) {
  if (names.length > 0 ? !names.includes(name) : isShort && !short) continue;
  process.stdout.write(`\n== ${name}: ${about}\n`);
  const child = spawn(process.execPath, [path.join(here, `${name}.js`), ...(isShort ? ['--short'] : [])], { stdio: ['ignore', 'inherit', 'inherit'] });
  const code = await new Promise<number | null>((resolve) => child.once('exit', resolve));
  if (code !== 0) {
    process.stdout.write(`${name} ended with ${code}\n`);
    process.exitCode = 1;
  }
}
