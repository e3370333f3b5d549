/**
 * Queries in an open loop: each leaves when it is due, whatever the ones before do, and its latency counts from then. Run as
 * a child process: `node query-load.js '{…QuerySpec}'` prints one line of JSON, a QueryResult. Stops by itself.
 */
import { Agent, get } from 'node:http';
import { fileURLToPath } from 'node:url';
import { percentile } from './percentile.ts';
import type { Site } from './processes.ts';

export interface QuerySpec {
  readonly url: string;
  /** Paths, taken in turn. */
  readonly paths: readonly string[];
  readonly perSecond: number;
  readonly warmupSeconds: number;
  readonly seconds: number;
  readonly connections: number;
}

export interface QueryResult {
  readonly queries: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Of those that were due in the warm-up, if there was one. */
  readonly warmupP50Ms: number;
  readonly warmupP99Ms: number;
  /** Answered with anything but 200, or not at all. */
  readonly failed: number;
}

const TICK_MS = 1;
const WAITING_MAX = 10_000;

export function runQueries(site: Site, spec: QuerySpec): Promise<QueryResult> {
  const program = site.start('queries', process.execPath, [fileURLToPath(import.meta.url), JSON.stringify(spec)], { stdout: 'pipe' });
  return program.answer<QueryResult>();
}

async function query(spec: QuerySpec): Promise<QueryResult> {
  const agent = new Agent({ keepAlive: true, maxSockets: spec.connections });
  const latenciesMs: number[] = [];
  const warmupMs: number[] = [];
  let waiting = 0;
  let failed = 0;
  let due = 0;
  const startMs = performance.now();
  const ask = (dueMs: number, path: string): void => {
    const isMeasured = dueMs >= startMs + spec.warmupSeconds * 1000;
    waiting++;
    const done = (isGood: boolean): void => {
      waiting--;
      if (!isMeasured) {
        warmupMs.push(performance.now() - dueMs);
        return;
      }
      if (isGood) latenciesMs.push(performance.now() - dueMs);
      else failed++;
    };
    const request = get(`${spec.url}${path}`, { agent }, (response) => {
      response.resume();
      response.on('end', () => done(response.statusCode === 200));
    });
    request.on('error', () => done(false));
  };
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const elapsedMs = performance.now() - startMs;
      const target = Math.floor(Math.min(elapsedMs / 1000, spec.warmupSeconds + spec.seconds) * spec.perSecond);
      for (; due < target && waiting < WAITING_MAX; due++)
        ask(startMs + ((due + 1) / spec.perSecond) * 1000, spec.paths[due % spec.paths.length]);
      if (elapsedMs < (spec.warmupSeconds + spec.seconds) * 1000) return;
      clearInterval(timer);
      resolve();
    }, TICK_MS);
  });
  for (const endMs = performance.now() + 30_000; waiting > 0 && performance.now() < endMs;)
    await new Promise((resolve) => setTimeout(resolve, 20));
  return {
    queries: latenciesMs.length,
    p50Ms: percentile(latenciesMs, 0.5),
    p99Ms: percentile(latenciesMs, 0.99),
    warmupP50Ms: percentile(warmupMs, 0.5),
    warmupP99Ms: percentile(warmupMs, 0.99),
    failed: failed + waiting,
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const result = await query(JSON.parse(process.argv[2]) as QuerySpec);
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
}
