/**
 * Real processes for end-to-end tests: hubs, gateways and fleets from the build in dist/, each killed and restarted as a
 * test says, on free loopback ports under one temporary directory.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../process-tools.ts';

const distDir = path.resolve(
  path.dirname(fileURLToPath(import.meta.url)),
  '..',
  '..',
  ...(import.meta.url.includes('/dist/') ? [] : ['dist']),
);

const READY_TIMEOUT_MS = 30_000;
const POLL_MS = 25;

/** Polls until the check answers something other than null. */
export async function until<T>(what: string, check: () => Promise<T | null> | T | null, timeoutMs = READY_TIMEOUT_MS): Promise<T> {
  const endMs = Date.now() + timeoutMs;
  for (;;) {
    const answer = await check();
    if (answer !== null) return answer;
    if (Date.now() > endMs) throw new Error(`timed out after ${timeoutMs} ms waiting for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

export async function fetchJson<T>(url: string): Promise<T> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(20_000) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${text.slice(0, 500)}`);
  return JSON.parse(text) as T;
}

/** A program of ours that can be killed and started again with the same arguments. */
export class Program {
  readonly name: string;
  readonly readyUrl: string | null;
  #entry: string;
  #args: readonly string[];
  #env: NodeJS.ProcessEnv;
  #child: ChildProcess | null = null;
  #log: string[] = [];

  constructor(name: string, entry: string, args: readonly string[], readyUrl: string | null, env: NodeJS.ProcessEnv = {}) {
    this.name = name;
    this.readyUrl = readyUrl;
    this.#entry = entry;
    this.#args = args;
    this.#env = env;
  }

  /** Started, and not ended by itself or by us. */
  get isRunning(): boolean {
    return this.#child !== null && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get pid(): number {
    return this.#child?.pid ?? -1;
  }

  /** The last lines that it printed. */
  get log(): string {
    return this.#log.slice(-60).join('');
  }

  /** A command that runs the program at its next start, as `unshare` does. */
  wrapper: readonly string[] = [];

  /** Starts no more, whoever asks. */
  isOver = false;
  readyTimeoutMs = READY_TIMEOUT_MS;
  /** Of all starts so far, from the spawn until it was ready. */
  slowestStartMs = 0;

  spawn(): void {
    if (this.isOver) throw new Error(`${this.name} is over`);
    const [command, ...args] = [...this.wrapper, process.execPath, path.join(distDir, this.#entry), ...this.#args];
    const child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...this.#env },
    });
    const keep = (chunk: Buffer): void => {
      this.#log.push(chunk.toString());
      if (this.#log.length > 2_000) this.#log.splice(0, 1_000);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    this.#child = child;
  }

  async start(): Promise<this> {
    const startMs = performance.now();
    this.spawn();
    await this.ready();
    this.slowestStartMs = Math.max(this.slowestStartMs, performance.now() - startMs);
    return this;
  }

  async ready(): Promise<void> {
    const { readyUrl } = this;
    if (readyUrl === null) return;
    const isReady = async (): Promise<true | null> => {
      if (this.#child?.exitCode !== null) throw new Error(`${this.name} ended with ${this.#child?.exitCode} while starting:\n${this.log}`);
      try {
        return (await fetch(readyUrl, { signal: AbortSignal.timeout(1_000) })).ok ? true : null;
      } catch {
        return null; // not listening yet
      }
    };
    await until(`${this.name} to be ready\n${this.log}`, isReady, this.readyTimeoutMs);
  }

  /** SIGSTOP, SIGCONT: what does not end it. */
  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** Sends a signal and waits for the end. @returns the exit code, null after a signal's death */
  async end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#child;
    if (child === null) return null;
    this.#child = null;
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
    const ended = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
    child.kill(signal);
    return ended;
  }

  kill(): Promise<number | null> {
    return this.end('SIGKILL');
  }

  stop(): Promise<number | null> {
    return this.end('SIGTERM');
  }

  /** Waits for an end of its own accord. */
  async exit(): Promise<number | null> {
    const child = this.#child;
    if (child === null) return null;
    if (child.exitCode !== null) return child.exitCode;
    return new Promise((resolve) => child.once('exit', (code) => resolve(code)));
  }
}

export interface GatewayProgram {
  readonly program: Program;
  readonly dataDir: string;
  readonly mqttPort: number;
  readonly webSocketPort: number;
  readonly httpUrl: string;
}

/** One temporary directory with a lake, and the programs over it. */
export class Lab {
  readonly directory = mkdtempSync(path.join(tmpdir(), 'sluice-e2e-'));
  readonly lakeDir = path.join(this.directory, 'lake');
  readonly #readyTimeoutMs: number;
  #programs: Program[] = [];

  /** @param readyTimeoutMs how long a program of it may take to start */
  constructor(readyTimeoutMs = READY_TIMEOUT_MS) {
    this.#readyTimeoutMs = readyTimeoutMs;
  }

  get programs(): readonly Program[] {
    return this.#programs;
  }

  #add(program: Program): void {
    program.readyTimeoutMs = this.#readyTimeoutMs;
    this.#programs.push(program);
  }

  /** A hub that commits five times a second and flushes every two, so that tests need not wait for its usual minute. */
  async hub(args: readonly string[] = [], env: NodeJS.ProcessEnv = {}): Promise<{ program: Program; url: string; port: number }> {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const program = new Program(
      'hub',
      'hub/main.js',
      [
        'run',
        '--lake-dir',
        this.lakeDir,
        '--http-port',
        String(port),
        '--commit-interval-ms-min',
        '200',
        '--flush-interval-ms',
        '2000',
        ...args,
      ],
      `${url}/readyz`,
      env,
    );
    this.#add(program);
    await program.start();
    return { program, url, port };
  }

  async gatewayToken(name: string): Promise<string> {
    const token = await this.run('hub/main.js', ['token', 'create', '--gateway', name, '--quiet', '--lake-dir', this.lakeDir]);
    const file = path.join(this.directory, `${name}.token`);
    writeFileSync(file, token, { mode: 0o600 });
    return file;
  }

  async gateway(name: string, hubUrl: string | null, args: readonly string[] = [], env: NodeJS.ProcessEnv = {}): Promise<GatewayProgram> {
    const [mqttPort, webSocketPort, httpPort] = [await freePort(), await freePort(), await freePort()];
    const dataDir = path.join(this.directory, name);
    const httpUrl = `http://127.0.0.1:${httpPort}`;
    const uplink = hubUrl === null ? [] : ['--uplink-url', hubUrl, '--uplink-token-file', await this.gatewayToken(name)];
    const program = new Program(
      name,
      'gateway/main.js',
      [
        ...[
          'run',
          '--data-dir',
          dataDir,
          '--mqtt-port',
          String(mqttPort),
          '--mqtt-ws-port',
          String(webSocketPort),
          '--http-port',
          String(httpPort),
        ],
        ...uplink,
        ...['--journal-seal-interval-ms', '300', '--host-metrics-enabled', 'false', ...args],
      ],
      `${httpUrl}/readyz`,
      env,
    );
    this.#add(program);
    await program.start();
    return { program, dataDir, mqttPort, webSocketPort, httpUrl };
  }

  fleet(ledger: string, mqttPorts: readonly number[], args: readonly string[], env: NodeJS.ProcessEnv = {}): Program {
    const urls = JSON.stringify(mqttPorts.map((port) => `mqtt://127.0.0.1:${port}`));
    const program = new Program('fleet', 'firmware-sim/main.js', ['run', '--ledger', ledger, '--urls', urls, ...args], null, env);
    this.#add(program);
    program.spawn();
    return program;
  }

  /** Runs one of our commands to its end. @throws Error with its output when it fails */
  async run(entry: string, args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.tryRun(entry, args);
    if (code !== 0) throw new Error(`${entry} ${args.join(' ')} ended with ${code}:\n${stdout}\n${stderr}`);
    return stdout;
  }

  /** Runs one of our commands to its end, whatever that is. */
  async tryRun(entry: string, args: readonly string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const child = spawn(process.execPath, [path.join(distDir, entry), ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    // 'close', not 'exit': by then all of its output has been read.
    const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
    return { code, stdout, stderr };
  }

  /** `sluice-sim verify` as a user runs it. @throws Error with its report when anything is lost, doubled, altered or wrong */
  verify(ledger: string, hubUrl: string, args: readonly string[] = []): Promise<string> {
    return this.run('firmware-sim/main.js', [
      'verify',
      '--ledger',
      ledger,
      '--hub',
      hubUrl,
      '--lake',
      this.lakeDir,
      '--wait',
      '45',
      '--json',
      ...args,
    ]);
  }

  /** What all programs printed last: for a test that failed. */
  logs(): string {
    return this.#programs.map((program) => `--- ${program.name}\n${program.log}`).join('\n');
  }

  async killAll(): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.kill()));
  }

  async close(): Promise<void> {
    await this.killAll();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
