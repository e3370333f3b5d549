import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { connectAsync } from 'mqtt';
import { afterEach, beforeEach, expect, test } from 'vitest';

// The journal's thread needs JavaScript: `npm test` builds first.
const MAIN = fileURLToPath(new URL('../dist/gateway/main.js', import.meta.url));
const run = promisify(execFile);

let directory: string;
let child: ChildProcess | null = null;

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-gateway-'));
});
afterEach(() => {
  child?.kill('SIGKILL');
  child = null;
  rmSync(directory, { recursive: true, force: true });
});

interface Ready {
  readonly mqttPort: number;
  readonly mqttWsPort: number;
  readonly httpPort: number;
}

function start(...flags: string[]): Promise<Ready> {
  const process = spawn('node', [MAIN, '--data-dir', directory, '--mqtt-port', '0', '--mqtt-ws-port', '0', '--http-port', '0', ...flags], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  child = process;
  return new Promise((resolve, reject) => {
    let log = '';
    process.stderr.on('data', (chunk: Buffer) => {
      log += chunk.toString();
      const line = log.split('\n').find((text) => text.includes('gateway is ready'));
      if (line !== undefined) resolve(JSON.parse(line) as Ready);
    });
    process.once('exit', (code) => reject(new Error(`exit ${code}: ${log}`)));
  });
}

function ended(process: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => process.once('exit', resolve));
}

test('takes readings over MQTT and HTTP, tells of them, and stops on SIGTERM with exit code 0', async () => {
  const { mqttPort, httpPort } = await start('--host-metrics-enabled', 'false');
  const client = await connectAsync(`mqtt://127.0.0.1:${mqttPort}`, { reconnectPeriod: 0 });
  client.on('error', () => undefined);
  await client.publishAsync('devices/d1/telemetry', '{"temperature":21.5}', { qos: 1 });
  await client.publishAsync('other/topic', 'x', { qos: 2 });
  const base = `http://127.0.0.1:${httpPort}`;
  expect((await fetch(`${base}/write`, { method: 'POST', body: 'cpu,host=pi usage=1' })).status).toBe(204);
  expect(await (await fetch(`${base}/v1/status`)).json()).toMatchObject({
    backlog: { readings: 2, exceptions: 0, oldest_us: expect.any(Number) },
    clock: { state: 'known' },
    lanes: expect.any(Array),
    ingest: { messages: 2, readings: 2, unmatched: 1 },
    journal: { accepting: true },
    unmatched_topics: [{ suggested_match: '{device}/{metric}', messages: 1 }],
  });
  const metrics = await (await fetch(`${base}/metrics`)).text();
  expect(metrics).toContain('sluice_gateway_readings_total 2');
  expect((await fetch(`${base}/readyz`)).status).toBe(200);
  const process = child as ChildProcess;
  process.kill('SIGTERM');
  expect(await ended(process)).toBe(0);
  await client.endAsync(true);
  // What was acknowledged is there after the restart.
  const again = await start('--host-metrics-enabled', 'false');
  expect(await (await fetch(`http://127.0.0.1:${again.httpPort}/v1/status`)).json()).toMatchObject({ backlog: { readings: 2 } });
});

test('a busy port ends the start with the flag that moves it', async () => {
  const { mqttPort } = await start();
  const other = run('node', [MAIN, '--data-dir', path.join(directory, 'other'), '--mqtt-port', String(mqttPort), '--http-port', '0']);
  await expect(other).rejects.toMatchObject({ code: 1, stderr: expect.stringMatching(/ERR_LISTEN_PORT_BUSY/) });
  await expect(other).rejects.toMatchObject({ stderr: expect.stringContaining('--mqtt-port') });
});

test('makes, lists and removes credentials', async () => {
  const added = await run('node', [MAIN, 'device', 'add', 'pump-1', '--data-dir', directory]);
  expect(added.stdout).toMatch(
    /^user {4}pump-1\nsecret {2}[\w-]{22}\n\nmosquitto_pub -h 127\.0\.0\.1 -p 1883 -u pump-1 -P [\w-]{22} -q 1 -t devices\/pump-1\/telemetry /,
  );
  expect((await run('node', [MAIN, 'device', 'list', '--data-dir', directory])).stdout).toContain('pump-1\t');
  await expect(run('node', [MAIN, 'device', 'add', 'pump-1', '--data-dir', directory])).rejects.toMatchObject({ code: 1 });
  await run('node', [MAIN, 'device', 'remove', 'pump-1', '--data-dir', directory]);
  expect((await run('node', [MAIN, 'device', 'list', '--data-dir', directory])).stdout).toBe('');
});

test('tells all configuration errors at once, with exit code 2', async () => {
  const check = run('node', [MAIN, 'config', 'check', '--mqtt-port', '99999', '--journal-buffer-policy', 'never']);
  await expect(check).rejects.toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/mqtt\.port[\s\S]*journal\.bufferPolicy|journal\.bufferPolicy[\s\S]*mqtt\.port/),
  });
  expect((await run('node', [MAIN, 'config', 'check'])).stdout).toContain('valid');
});
