/**
 * Durable QoS 1 messages per second through a gateway against bare aedes under the same load, in turn, several rounds.
 *
 * Shapes are clients × messages in flight. The gateway acknowledges after its group commit is fsynced; aedes at once.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, median, waitReady } from '../process-tools.ts';

const distDir = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');

/** Wanted ratio to bare aedes; null: shown only. */
const SHAPES: readonly { clients: number; inFlight: number; readings: number; wanted: number | null }[] = [
  { clients: 20, inFlight: 100, readings: 1, wanted: 0.8 },
  { clients: 200, inFlight: 1, readings: 1, wanted: 0.5 },
  { clients: 2000, inFlight: 1, readings: 1, wanted: 0.8 },
];

interface LoadResult {
  readonly messages: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly cpuSeconds: number;
}

export interface BrokerFigures {
  readonly shape: string;
  readonly gatewayPerSecond: number;
  readonly aedesPerSecond: number;
  readonly ratio: number;
  readonly ratioSpread: readonly [number, number];
  readonly wanted: number | null;
  readonly gatewayP99Ms: number;
  readonly residentBytesMax: number;
}

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.stdout?.once('data', (chunk: Buffer) => resolve(chunk.toString().trim()));
    child.once('exit', (code) => reject(new Error(`ended with ${code}`)));
  });
}

async function load(port: number, shape: (typeof SHAPES)[number], seconds: number): Promise<LoadResult> {
  const args = [port, shape.clients, shape.inFlight, seconds, shape.readings].map(String);
  const child = spawn(process.execPath, [path.join(distDir, 'test/bench/mqtt-load.js'), ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  return JSON.parse(await firstLine(child)) as LoadResult;
}

async function withGateway<T>(use: (port: number, pid: number) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-bench-'));
  const [mqttPort, webSocketPort, httpPort] = [await freePort(), await freePort(), await freePort()];
  const child = spawn(
    process.execPath,
    [
      path.join(distDir, 'gateway/main.js'),
      ...['run', '--data-dir', directory, '--mqtt-port', String(mqttPort), '--mqtt-ws-port', String(webSocketPort), '--http-port', String(httpPort)],
      ...['--host-metrics-enabled', 'false', '--log-level', 'error'],
    ],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  try {
    await waitReady(`http://127.0.0.1:${httpPort}/readyz`);
    return await use(mqttPort, child.pid ?? 0);
  } finally {
    child.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  }
}

async function withAedes<T>(use: (port: number) => Promise<T>): Promise<T> {
  const child = spawn(process.execPath, [path.join(distDir, 'test/bench/bare-aedes.js')], { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    return await use(Number(await firstLine(child)));
  } finally {
    child.kill('SIGKILL');
  }
}

function residentBytes(pid: number): number {
  const match = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(match?.[1] ?? 0) * 1024;
}

export async function benchBrokerIngest(options: { rounds: number; seconds: number }): Promise<BrokerFigures[]> {
  const figures: BrokerFigures[] = [];
  for (const shape of SHAPES) {
    const gateway: LoadResult[] = [];
    const aedes: LoadResult[] = [];
    let residentBytesMax = 0;
    for (let round = 0; round < options.rounds; round++) {
      aedes.push(await withAedes((port) => load(port, shape, options.seconds)));
      gateway.push(
        await withGateway(async (port, pid) => {
          const result = await load(port, shape, options.seconds);
          residentBytesMax = Math.max(residentBytesMax, residentBytes(pid));
          return result;
        }),
      );
    }
    const rate = (result: LoadResult): number => result.messages / result.seconds;
    const ratios = gateway.map((result, round) => rate(result) / rate(aedes[round])).sort((a, b) => a - b);
    figures.push({
      shape: `${shape.clients} × ${shape.inFlight}${shape.readings > 1 ? `, ${shape.readings} readings per message` : ''}`,
      gatewayPerSecond: Math.round(median(gateway.map(rate))),
      aedesPerSecond: Math.round(median(aedes.map(rate))),
      ratio: median(ratios),
      ratioSpread: [ratios[0], ratios[ratios.length - 1]],
      wanted: shape.wanted,
      gatewayP99Ms: median(gateway.map((result) => result.p99Ms)),
      residentBytesMax,
    });
  }
  return figures;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const row of await benchBrokerIngest(process.argv.includes('--short') ? { rounds: 1, seconds: 2 } : { rounds: 5, seconds: 4 })) {
    process.stdout.write(
      `${row.shape.padEnd(12)} gateway ${row.gatewayPerSecond}/s, bare aedes ${row.aedesPerSecond}/s, ratio ${row.ratio.toFixed(2)} ` +
        `(${row.ratioSpread.map((ratio) => ratio.toFixed(2)).join(' … ')}; wanted ≥ ${row.wanted ?? '-'}), ` +
        `ack p99 ${row.gatewayP99Ms} ms, resident ${Math.round(row.residentBytesMax / 1e6)} MB\n`,
    );
  }
}
