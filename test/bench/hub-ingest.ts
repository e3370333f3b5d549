/**
 * Readings per second from the uplink to the committed lake and the windows, through one real hub.
 *
 * Simulated gateways send sealed batches of the reference fleet as fast as the hub takes them; the clock stops when the
 * last one is committed. Reference in the same run: decompressing and decoding the same batches, the least that any hub does.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'ws';
import { decodeBatch } from '../../shared/batch/decode.ts';
import { encodeBatch } from '../../shared/batch/encode.ts';
import { sortIntoRuns } from '../../shared/batch/runs.ts';
import { decodeHubMessage, encodeGatewayMessage } from '../../shared/uplink-codec.ts';
import { UPLINK_PATH, UPLINK_SUBPROTOCOL } from '../../shared/uplink.ts';
import { freePort, median, waitReady } from '../process-tools.ts';
import { referenceFleet } from './reference-fleet.ts';

const distDir = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');

const GATEWAYS = 4;
const DEVICES = 250;
const SECONDS_PER_BATCH = 5;
const IN_FLIGHT_BYTES = 2_000_000;

export interface HubIngestFigures {
  readonly readings: number;
  readonly readingsPerSecond: number;
  readonly spread: readonly [number, number];
  readonly hubCpuSecondsPerMillion: number;
  readonly decodeOnlyPerSecond: number;
  /** Share of what pure decoding on one core does. */
  readonly ratioToDecode: number;
  readonly residentBytesMax: number;
}

/** The batches of one gateway: consecutive spans of the fleet's life. */
function sealedBatches(seed: number, count: number): { bodies: Uint8Array[]; readingsPerBatch: number } {
  const { table, columns } = referenceFleet({ devices: DEVICES, seconds: count * SECONDS_PER_BATCH, seed });
  const readingsPerBatch = columns.count / count;
  const bodies = Array.from({ length: count }, (_, index) => {
    const from = index * readingsPerBatch;
    const to = from + readingsPerBatch;
    const runs = sortIntoRuns(
      {
        count: readingsPerBatch,
        series: columns.series.subarray(from, to),
        eventTimeUs: columns.eventTimeUs.subarray(from, to),
        value: columns.value.subarray(from, to),
        text: null,
        texts: [],
      },
      table,
    );
    const sealedUs = columns.eventTimeUs[to - 1] + 100_000;
    return encodeBatch({ sealedUs, arrivalFromUs: columns.eventTimeUs[from], arrivalToUs: sealedUs, runs, exceptions: [] }, 'br');
  });
  return { bodies, readingsPerBatch };
}

/** Sends all batches of one lane; resolves when the last one is committed. */
function sendLane(url: string, token: string, epoch: string, bodies: readonly Uint8Array[], readingCount: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`${url.replace('http', 'ws')}${UPLINK_PATH}`, UPLINK_SUBPROTOCOL, {
      headers: { authorization: `Bearer ${token}` },
    });
    let next = 0;
    let received = 0;
    const pump = (): void => {
      let inFlight = 0;
      for (let seq = received; seq < next; seq++) inFlight += bodies[seq].length;
      while (next < bodies.length && inFlight < IN_FLIGHT_BYTES) {
        const body = bodies[next++];
        inFlight += body.length;
        socket.send(encodeGatewayMessage({ type: 'batch', seq: next, generation: 0, readingCount, exceptionCount: 0, body }));
      }
    };
    socket.on('open', () => {
      const lane = { epoch, lane: 'live' as const, base: 1, assigned: bodies.length };
      socket.send(
        encodeGatewayMessage({
          type: 'hello',
          gatewayVersion: 'bench',
          wireVersions: [1],
          lakeId: null,
          epoch,
          lane: 'live',
          lanes: [lane],
          backlog: { readings: 0, bytes: 0, exceptions: 0, oldestUs: null },
          clock: { state: 'known', wallUs: Date.now() * 1000 },
        }),
      );
    });
    socket.on('message', (data: Buffer) => {
      const message = decodeHubMessage(data);
      if (message.type === 'refuse') return reject(new Error(`${message.code}: ${message.message}`));
      const position = message.type === 'welcome' ? message.position : message;
      received = position.received;
      if (position.committed === bodies.length) {
        socket.close();
        resolve();
      } else pump();
    });
    socket.on('error', reject);
  });
}

async function oneRound(
  bodies: readonly Uint8Array[][],
  readingsPerBatch: number,
): Promise<{ seconds: number; cpuSeconds: number; residentBytes: number }> {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-bench-'));
  const lakeDir = path.join(directory, 'lake');
  const tokens = bodies.map((_, index) =>
    spawnSync(process.execPath, [
      path.join(distDir, 'hub/main.js'),
      'token',
      'create',
      '--gateway',
      `gw-${index}`,
      '--quiet',
      '--lake-dir',
      lakeDir,
    ])
      .stdout.toString()
      .trim(),
  );
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const args = ['run', '--lake-dir', lakeDir, '--http-port', String(port), '--commit-interval-ms-min', '1000', '--log-level', 'error'];
  const child = spawn(process.execPath, [...process.execArgv, path.join(distDir, 'hub/main.js'), ...args], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  try {
    await waitReady(`${url}/readyz`);
    const cpuBefore = cpuSeconds(child.pid ?? 0);
    const startMs = performance.now();
    await Promise.all(
      bodies.map((lane, index) => sendLane(url, tokens[index], index.toString(16).padStart(32, '0'), lane, readingsPerBatch)),
    );
    const seconds = (performance.now() - startMs) / 1000;
    const residentBytes = Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
    return { seconds, cpuSeconds: cpuSeconds(child.pid ?? 0) - cpuBefore, residentBytes };
  } finally {
    child.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  }
}

/** User and system time of a process, all threads. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

export async function benchHubIngest(options: { rounds: number; batchesPerGateway: number }): Promise<HubIngestFigures> {
  const lanes = Array.from({ length: GATEWAYS }, (_, index) => sealedBatches(index + 1, options.batchesPerGateway));
  const { readingsPerBatch } = lanes[0];
  const bodies = lanes.map((lane) => lane.bodies);
  const readings = GATEWAYS * options.batchesPerGateway * readingsPerBatch;
  const decodeStart = performance.now();
  for (const lane of bodies) for (const body of lane) decodeBatch(body);
  const decodeOnlyPerSecond = readings / ((performance.now() - decodeStart) / 1000);
  const rounds = [];
  for (let round = 0; round < options.rounds; round++) rounds.push(await oneRound(bodies, readingsPerBatch));
  const rates = rounds.map(({ seconds }) => readings / seconds).sort((a, b) => a - b);
  return {
    readings,
    readingsPerSecond: Math.round(median(rates)),
    spread: [Math.round(rates[0]), Math.round(rates[rates.length - 1])],
    hubCpuSecondsPerMillion: median(rounds.map((round) => round.cpuSeconds)) / (readings / 1e6),
    decodeOnlyPerSecond: Math.round(decodeOnlyPerSecond),
    ratioToDecode: median(rates) / decodeOnlyPerSecond,
    residentBytesMax: Math.max(...rounds.map((round) => round.residentBytes)),
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const figures = await benchHubIngest(
    process.argv.includes('--short') ? { rounds: 1, batchesPerGateway: 50 } : { rounds: 3, batchesPerGateway: 200 },
  );
  process.stdout.write(
    `hub ingest: ${figures.readings} readings, ${figures.readingsPerSecond}/s to committed lake and windows (${figures.spread.join(' … ')}; wanted ≥ 500000), ` +
      `${figures.hubCpuSecondsPerMillion.toFixed(2)} CPU s per million; decoding alone ${figures.decodeOnlyPerSecond}/s, ratio ${figures.ratioToDecode.toFixed(2)}; ` +
      `resident ${Math.round(figures.residentBytesMax / 1e6)} MB\n`,
  );
}
