/**
 * What the CPU profiles of a pass say: per thread of each process, the functions in which it spent its time.
 *
 * A benchmark notes the spans of time that it measured beside the profiles; what its processes did before and after (starting,
 * compiling, warming up, ending) is left out. Spans and profiles count in microseconds of CLOCK_MONOTONIC, which all processes
 * of a machine share.
 */
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

/** One `.cpuprofile`, as far as it is read (Chrome DevTools Protocol, Profiler.Profile). */
interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly startTime: number;
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

export interface HotThread {
  /** `hub: engine-worker`. */
  readonly thread: string;
  /** Of all threads of the pass, which share of the busy time was this one's. */
  readonly share: number;
  readonly busySeconds: number;
  readonly functions: readonly { readonly name: string; readonly share: number }[];
}

const FUNCTIONS_MAX = 6;
/** A thread with less of the busy time is not where a bottleneck is. */
const SHARE_MIN = 0.03;
const SPANS_FILE = 'measured-spans';
const NOT_BUSY = new Set(['(idle)', '(root)']);

type Span = readonly [fromUs: number, toUs: number];

/** Notes that the last so many seconds were measured. */
export function noteMeasured(directory: string, seconds: number): void {
  const nowUs = Number(process.hrtime.bigint() / 1000n);
  mkdirSync(directory, { recursive: true });
  appendFileSync(path.join(directory, SPANS_FILE), `${nowUs - Math.round(seconds * 1e6)} ${nowUs}\n`);
}

/** No span: a benchmark that measures from its first moment to its last. */
function readSpans(directory: string): readonly Span[] {
  const file = path.join(directory, SPANS_FILE);
  if (!existsSync(file)) return [[0, Infinity]];
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
  return lines.map((line): Span => {
    const [fromUs, toUs] = line.split(' ').map(Number);
    return [fromUs, toUs];
  });
}

/** @param directory one folder per process with its profiles, or profiles themselves; busiest thread first */
export function summariseProfiles(directory: string): HotThread[] {
  if (!existsSync(directory)) return [];
  const spans = readSpans(directory);
  const threads = new Map<string, Map<string, number>>();
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith('.cpuprofile')) continue;
    const file = path.join(entry.parentPath, entry.name);
    const profile = JSON.parse(readFileSync(file, 'utf8')) as CpuProfile;
    const processName = path.relative(directory, entry.parentPath) || 'benchmark';
    const thread = `${processName}: ${threadName(profile)}`;
    const functions = threads.get(thread) ?? new Map<string, number>();
    threads.set(thread, functions);
    addSelfTimes(profile, spans, functions);
  }
  const busy = [...threads].map(([thread, functions]) => ({
    thread,
    functions,
    us: [...functions.values()].reduce((sum, us) => sum + us, 0),
  }));
  const totalUs = busy.reduce((sum, { us }) => sum + us, 0);
  return busy
    .sort((a, b) => b.us - a.us)
    .filter(({ us }) => us >= totalUs * SHARE_MIN)
    .map(({ thread, functions, us }) => ({
      thread,
      share: us / totalUs,
      busySeconds: us / 1e6,
      functions: [...functions]
        .sort((a, b) => b[1] - a[1])
        .slice(0, FUNCTIONS_MAX)
        .map(([name, selfUs]) => ({ name, share: selfUs / us })),
    }));
}

/** A worker's entry stands in its profile; a main thread has none. */
function threadName({ nodes }: CpuProfile): string {
  const entry = nodes.find(({ callFrame }) => callFrame.url.endsWith('-worker.js'));
  return entry === undefined ? 'main thread' : path.basename(entry.callFrame.url, '.js');
}

function addSelfTimes({ nodes, startTime, samples, timeDeltas }: CpuProfile, spans: readonly Span[], functions: Map<string, number>): void {
  const names = new Map(nodes.map(({ id, callFrame }) => [id, frameName(callFrame)]));
  let timeUs = startTime;
  samples.forEach((id, index) => {
    timeUs += timeDeltas[index];
    if (!spans.some(([fromUs, toUs]) => timeUs >= fromUs && timeUs < toUs)) return;
    const name = names.get(id) ?? '';
    const us = timeDeltas[index + 1] ?? 0; // a sample lasts until the next one
    if (!NOT_BUSY.has(name)) functions.set(name, (functions.get(name) ?? 0) + Math.max(0, us));
  });
}

function frameName({ functionName, url, lineNumber }: CpuProfile['nodes'][number]['callFrame']): string {
  const file = url === '' || url.startsWith('node:') ? url : path.basename(url, '.js');
  if (functionName.startsWith('(')) return functionName === '(program)' ? '(native code, system calls)' : functionName;
  // Lines count from 0 there; a function without a name is found by its line in the build.
  return functionName === '' ? `anonymous at ${file}.js:${lineNumber + 1}` : `${functionName}${file === '' ? '' : ` in ${file}`}`;
}
