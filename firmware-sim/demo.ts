/**
 * `npm start`: a hub, a gateway and a simulated fleet as three real processes with zero configuration.
 *
 * Data goes under one directory; what is there already is used again. Every process is a child of this one: when one ends
 * unexpectedly the others are stopped and its exit code is ours; on SIGINT or SIGTERM they stop in the order of the data,
 * devices first, so that the gateway's last batches still find the hub.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { SluiceError } from '../shared/errors.ts';

export interface DemoOptions {
  readonly dataDir: string;
  readonly devices: number;
  /** Stops by itself after so long; null: runs until it is told to stop. */
  readonly durationSeconds: number | null;
  readonly hubPort: number;
  readonly mqttPort: number;
  readonly webSocketPort: number;
  readonly gatewayHttpPort: number;
}

/** Start-up of one process on a slow Pi with a cold cache takes several seconds; past this it hangs. */
const READY_TIMEOUT_MS = 60_000;
const READY_POLL_MS = 100;

const programsDir = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');

interface Program {
  readonly name: string;
  readonly child: ChildProcess;
  readonly ended: Promise<number>;
}

function startProgram(name: string, entry: string, args: readonly string[]): Program {
  const child = spawn(process.execPath, [path.join(programsDir, entry), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    // A group of its own: Ctrl-C reaches this process alone, which then stops the others in order.
    detached: true,
  });
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => process.stdout.write(`${name.padEnd(8)}| ${shorten(line)}\n`));
  }
  const ended = new Promise<number>((resolve) => {
    child.once('error', () => resolve(1));
    child.once('exit', (code) => resolve(code ?? 1));
  });
  return { name, child, ended };
}

/** A pino line as people read it; anything else as it is. */
function shorten(line: string): string {
  if (!line.startsWith('{')) return line;
  try {
    const { level, msg } = JSON.parse(line) as { level?: number; msg?: string };
    if (msg === undefined || level === undefined) return line;
    return level >= 50 ? `ERROR ${line}` : level >= 40 ? `warning: ${msg}` : msg;
  } catch {
    return line; // not JSON after all: shown as it came
  }
}

async function runToEnd(entry: string, args: readonly string[]): Promise<string> {
  const child = spawn(process.execPath, [path.join(programsDir, entry), ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const code = await new Promise<number>((resolve) => child.once('exit', (exitCode) => resolve(exitCode ?? 1)));
  if (code !== 0) throw new SluiceError('ERR_DEMO_CHILD', `${entry} ${args.join(' ')} ended with exit code ${code}`);
  return output;
}

async function waitReady(program: Program, url: string, isStopping: () => boolean): Promise<void> {
  let ended = false;
  void program.ended.then(() => (ended = true));
  for (const startMs = Date.now(); Date.now() - startMs < READY_TIMEOUT_MS && !isStopping();) {
    if (ended) throw new SluiceError('ERR_DEMO_CHILD', `the ${program.name} ended while starting; its message stands above`);
    try {
      const answer = await fetch(url, { signal: AbortSignal.timeout(2_000) });
      await answer.arrayBuffer();
      if (answer.ok) return;
    } catch {
      // Not listening yet: that is what is being waited for.
    }
    await new Promise((resolve) => setTimeout(resolve, READY_POLL_MS));
  }
  if (!isStopping())
    throw new SluiceError('ERR_DEMO_CHILD', `the ${program.name} was not ready after ${READY_TIMEOUT_MS / 1000} s (${url})`);
}

/** The gateway's token for the hub: made once, kept beside the gateway's data, readable by its owner only. */
async function gatewayTokenFile(dataDir: string, lakeDir: string): Promise<string> {
  const file = path.join(dataDir, 'gateway-token');
  try {
    if (readFileSync(file, 'utf8').trim() !== '') return file;
  } catch {
    // First start: it is made below.
  }
  const token = await runToEnd('hub/main.js', ['token', 'create', '--gateway', 'demo', '--quiet', '--lake-dir', lakeDir]);
  writeFileSync(file, token, { mode: 0o600 });
  return file;
}

async function stop(program: Program | undefined): Promise<void> {
  if (program === undefined) return;
  program.child.kill('SIGTERM');
  await program.ended;
}

/** @returns the exit code of the demo. */
export async function runDemo(options: DemoOptions): Promise<number> {
  const { dataDir } = options;
  const lakeDir = path.join(dataDir, 'hub', 'lake');
  mkdirSync(dataDir, { recursive: true });
  let stopping = false;
  const running: { hub?: Program; gateway?: Program; fleet?: Program } = {};
  const stopped = new Promise<number>((resolve) => {
    const onSignal = (): void => {
      stopping = true;
      resolve(0);
    };
    process.once('SIGINT', onSignal);
    process.once('SIGTERM', onSignal);
  });
  const hubUrl = `http://127.0.0.1:${options.hubPort}`;
  const gatewayUrl = `http://127.0.0.1:${options.gatewayHttpPort}`;
  try {
    const tokenFile = await gatewayTokenFile(dataDir, lakeDir);
    // One commit a second instead of one in five: whoever tries Sluice wants to see the lake grow.
    running.hub = startProgram('hub', 'hub/main.js', [
      'run',
      '--lake-dir',
      lakeDir,
      '--http-port',
      String(options.hubPort),
      '--commit-interval-ms-min',
      '1000',
    ]);
    await waitReady(running.hub, `${hubUrl}/readyz`, () => stopping);
    running.gateway = startProgram('gateway', 'gateway/main.js', [
      'run',
      ...['--data-dir', path.join(dataDir, 'gateway'), '--uplink-url', hubUrl, '--uplink-token-file', tokenFile],
      ...[
        '--mqtt-port',
        String(options.mqttPort),
        '--mqtt-ws-port',
        String(options.webSocketPort),
        '--http-port',
        String(options.gatewayHttpPort),
      ],
    ]);
    await waitReady(running.gateway, `${gatewayUrl}/readyz`, () => stopping);
    running.fleet = startProgram('fleet', 'firmware-sim/main.js', [
      'run',
      ...[
        '--url',
        `mqtt://127.0.0.1:${options.mqttPort}`,
        '--devices',
        String(options.devices),
        '--ledger',
        path.join(dataDir, 'ledger.json'),
      ],
      ...['--duration', String(options.durationSeconds ?? 0)],
    ]);
    if (!stopping) printWhereToLook(options, hubUrl, gatewayUrl, lakeDir);
    const firstEnd = Promise.race(Object.values(running).map((program) => program.ended));
    const code = await Promise.race([stopped, firstEnd]);
    return stopping ? 0 : code;
  } finally {
    stopping = true;
    await stop(running.fleet);
    await stop(running.gateway);
    await stop(running.hub);
  }
}

function printWhereToLook(options: DemoOptions, hubUrl: string, gatewayUrl: string, lakeDir: string): void {
  process.stdout.write(
    [
      '',
      `Sluice is running: ${options.devices} simulated devices → gateway → hub. Ctrl-C stops it.`,
      '',
      `  the fleet, live      ${hubUrl}/`,
      `  aggregates           curl '${hubUrl}/v1/aggregates?metric=temperature'`,
      `  the gateway          ${gatewayUrl}/`,
      `  publish yourself     mosquitto_pub -p ${options.mqttPort} -q 1 -t devices/mine/telemetry -m '{"temperature":21.5}'`,
      `  the lake (Delta)     ${lakeDir}/readings`,
      '',
    ].join('\n') + '\n',
  );
}
