/**
 * Processes under measurement: ours from the build, and peers, each with what it used of CPU, memory and disk.
 *
 * A Site owns one temporary directory and every process started over it; `close` ends them all and removes the directory.
 * When the benchmark itself ends early (an error, Ctrl-C), its processes are killed with it.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createWriteStream, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { createToken } from '../../hub/ingest/tokens.ts';
import { LocalStore } from '../../hub/lake/local-store.ts';
import { systemClock } from '../../shared/clock.ts';
import { noteMeasured } from './profile-summary.ts';
import { freePort, waitReady } from '../process-tools.ts';

export const distDir = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');

const CLOCK_TICKS_PER_SECOND = 100; // USER_HZ of every Linux that Node runs on
const STOP_MS_MAX = 20_000;

export interface Usage {
  readonly cpuSeconds: number;
  /** Highest resident memory so far. */
  readonly residentBytesMax: number;
  readonly residentBytes: number;
  /** Bytes that the process made the kernel write to a disk. */
  readonly writtenBytes: number;
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

export class Program {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | null>;

  constructor(
    name: string,
    command: string,
    args: readonly string[],
    options: { stdout?: 'pipe' | 'ignore' | 'inherit'; logFile?: string; env?: NodeJS.ProcessEnv } = {},
  ) {
    this.name = name;
    const child = spawn(command, args, {
      stdio: ['pipe', options.stdout ?? 'ignore', options.logFile === undefined ? 'inherit' : 'pipe'],
      env: { ...process.env, ...options.env },
    });
    if (options.logFile !== undefined) child.stderr?.pipe(createWriteStream(options.logFile));
    running.add(child);
    this.#child = child;
    this.#ended = new Promise((resolve, reject) => {
      child.once('exit', (code) => {
        running.delete(child);
        resolve(code);
      });
      child.once('error', reject);
    });
    this.#ended.catch(() => undefined); // told where the process is waited for
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** The first line that it prints. @throws Error when it ends without one */
  firstLine(): Promise<string> {
    return new Promise((resolve, reject) => {
      let text = '';
      this.#child.stdout?.on('data', (chunk: Buffer) => {
        text += chunk.toString();
        if (text.includes('\n')) resolve(text.slice(0, text.indexOf('\n')));
      });
      this.#ended.then((code) => reject(new Error(`${this.name} ended with ${code}`)), reject);
    });
  }

  /**
   * The first line that it prints, as JSON.
   *
   * It may be waited for late: while something else fails first, and the site ends this process, its own end is no news.
   */
  answer<T>(): Promise<T> {
    const answer = this.firstLine().then((line) => JSON.parse(line) as T);
    answer.catch(() => undefined);
    return answer;
  }

  usage(): Usage {
    const fields = readFileSync(`/proc/${this.pid}/stat`, 'utf8').split(') ')[1].split(' ');
    const status = readFileSync(`/proc/${this.pid}/status`, 'utf8');
    const kilobytes = (name: string): number => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? NaN) * 1024;
    return {
      cpuSeconds: (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS_PER_SECOND,
      residentBytesMax: kilobytes('VmHWM'),
      residentBytes: kilobytes('VmRSS'),
      writtenBytes: writtenBytes(this.pid),
    };
  }

  /** SIGTERM, then SIGKILL for one that does not listen. A profile is written only by an orderly end. */
  async stop(): Promise<void> {
    this.#child.kill('SIGTERM');
    const killer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_MS_MAX);
    await this.#ended;
    clearTimeout(killer);
  }

  async kill(): Promise<void> {
    if (!this.hasEnded) this.#child.kill('SIGKILL');
    await this.#ended;
  }
}

function writtenBytes(pid: number): number {
  try {
    return Number(/^write_bytes: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1] ?? NaN);
  } catch {
    return NaN; // a kernel without task I/O accounting: the figure is shown as missing
  }
}

export interface GatewayProgram {
  readonly program: Program;
  readonly mqttPort: number;
  readonly httpUrl: string;
}

export interface HubProgram {
  readonly program: Program;
  readonly port: number;
  readonly url: string;
}

/** One temporary directory with a lake, and the processes over it. */
export class Site {
  readonly directory = mkdtempSync(path.join(tmpdir(), 'sluice-bench-'));
  readonly lakeDir = path.join(this.directory, 'lake');
  readonly #programs: Program[] = [];
  readonly #profileDir: string | null;

  constructor(profileDir: string | null = null) {
    this.#profileDir = profileDir;
  }

  /** A process that ends with the site. */
  start(
    name: string,
    command: string,
    args: readonly string[],
    options: { stdout?: 'pipe' | 'ignore' | 'inherit'; quiet?: boolean; env?: NodeJS.ProcessEnv } = {},
  ): Program {
    const log = options.quiet === true ? { logFile: path.join(this.directory, `${name}.err`) } : {};
    const program = new Program(name, command, args, {
      ...(options.stdout === undefined ? {} : { stdout: options.stdout }),
      ...(options.env === undefined ? {} : { env: options.env }),
      ...log,
    });
    this.#programs.push(program);
    return program;
  }

  /** A program of ours from the build; under --profile it leaves CPU profiles of all its threads. */
  startOurs(name: string, entry: string, args: readonly string[], options: { stdout?: 'pipe'; env?: NodeJS.ProcessEnv } = {}): Program {
    const profiling = this.#profileDir === null ? [] : ['--cpu-prof', '--cpu-prof-dir', path.join(this.#profileDir, name)];
    return this.start(name, process.execPath, [...profiling, path.join(distDir, entry), ...args], options);
  }

  async gateway(
    name: string,
    options: { uplink?: { url: string; token: string }; dataDir?: string; args?: readonly string[]; env?: NodeJS.ProcessEnv } = {},
  ): Promise<GatewayProgram> {
    const [mqttPort, httpPort] = [await freePort(), await freePort()];
    const uplink = options.uplink === undefined ? [] : ['--uplink-url', options.uplink.url, '--uplink-token', options.uplink.token];
    const program = this.startOurs(
      name,
      'gateway/main.js',
      [
        ...[
          'run',
          '--data-dir',
          options.dataDir ?? path.join(this.directory, name),
          '--host-metrics-enabled',
          'false',
          '--log-level',
          'error',
        ],
        ...['--mqtt-port', String(mqttPort), '--mqtt-ws-port', 'null', '--http-port', String(httpPort)],
        ...uplink,
        ...(options.args ?? []),
      ],
      options.env === undefined ? {} : { env: options.env },
    );
    const httpUrl = `http://127.0.0.1:${httpPort}`;
    await waitReady(`${httpUrl}/readyz`);
    return { program, mqttPort, httpUrl };
  }

  async hub(args: readonly string[] = []): Promise<HubProgram> {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const program = this.startOurs('hub', 'hub/main.js', [
      'run',
      '--lake-dir',
      this.lakeDir,
      '--http-port',
      String(port),
      '--log-level',
      'error',
      ...args,
    ]);
    await waitReady(`${url}/readyz`);
    return { program, port, url };
  }

  async gatewayToken(name: string): Promise<string> {
    const [token] = await this.gatewayTokens([name]);
    return token;
  }

  /** Before the hub starts: a running one learns of new tokens seconds later. */
  async gatewayTokens(names: readonly string[]): Promise<string[]> {
    const store = await LocalStore.open(this.lakeDir);
    const tokens: string[] = [];
    for (const name of names) tokens.push((await createToken(store, 'gateway', name, systemClock, (count) => randomBytes(count))).token);
    return tokens;
  }

  /** To be called right after: what the last so many seconds show is what was measured, so profiles are cut to it. */
  measured(seconds: number): void {
    if (this.#profileDir !== null) noteMeasured(this.#profileDir, seconds);
  }

  /** Ends everything; under --profile in order, so that profiles are written. */
  async close(): Promise<void> {
    await Promise.all(this.#programs.map((program) => (this.#profileDir === null || program.hasEnded ? program.kill() : program.stop())));
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Runs with a site and closes it whatever happens. */
export async function withSite<T>(profileDir: string | null, use: (site: Site) => Promise<T>): Promise<T> {
  const site = new Site(profileDir);
  try {
    return await use(site);
  } finally {
    await site.close();
  }
}

/** Polls until the check is true. @throws Error after the time-out, so that no benchmark hangs */
export async function until(what: string, check: () => Promise<boolean> | boolean, timeoutMs: number, pollMs = 20): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!(await check())) {
    if (performance.now() > endMs) throw new Error(`timed out after ${timeoutMs} ms waiting for ${what}`);
    await pause(pollMs);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** The values of a Prometheus text by name; those with labels are left out. */
export async function scrape(url: string): Promise<Map<string, number>> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return new Map([...text.matchAll(/^([a-z0-9_]+) ([^ ]+)$/gm)].map((match) => [match[1], Number(match[2])]));
}
