import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';

const MAIN = fileURLToPath(new URL('../../dist/gateway/main.js', import.meta.url));

let directory: string;
const children: ChildProcess[] = [];

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-tail-'));
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  rmSync(directory, { recursive: true, force: true });
});

function decode(payload: string, ...flags: string[]): Promise<{ code: number; stdout: string }> {
  return new Promise((resolve) => {
    const child = execFile('node', [MAIN, 'decode', ...flags], (error, stdout) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout }),
    );
    child.stdin?.end(payload);
  });
}

test('decode tells rule, readings and reasons offline, and its exit code whether all is well', async () => {
  const config = path.join(directory, 'gateway.yaml');
  writeFileSync(config, 'topics:\n  - preset: tasmota\n  - match: plant/{device}\n');
  const bad = await decode('{"a":1,"b":1e999,"ts":"2023-11-14T22:13:20Z"}', '--topic', 'plant/press', '--config', config);
  expect(bad).toMatchObject({ code: 1, stdout: expect.stringContaining('rule      plant/{device}') });
  expect(bad.stdout).toMatch(/press {2}a {2}1 {2}2023-11-14T22:13:20\.000Z/);
  expect(bad.stdout).toMatch(/! ERR_DECODE_VALUE press b: .*\n {4}→ /);
});

test('tail shows what arrives at a running gateway, until the gateway stops', async () => {
  const flags = [
    '--data-dir',
    directory,
    '--mqtt-port',
    '0',
    '--mqtt-ws-port',
    'null',
    '--http-port',
    '0',
    '--host-metrics-enabled',
    'false',
  ];
  const gateway = spawn('node', [MAIN, ...flags], { stdio: ['ignore', 'ignore', 'pipe'] });
  children.push(gateway);
  let httpPort = 0;
  for await (const line of createInterface({ input: gateway.stderr })) {
    if (!line.includes('gateway is ready')) continue;
    ({ httpPort } = JSON.parse(line) as { httpPort: number });
    break;
  }
  const base = `http://127.0.0.1:${httpPort}`;
  const tail = spawn('node', [MAIN, 'tail', '--url', base, '--json'], { stdio: ['ignore', 'pipe', 'pipe'] });
  children.push(tail);
  let trouble = '';
  tail.stderr.on('data', (chunk: Buffer) => (trouble += chunk.toString()));
  const ended = new Promise<number | null>((resolve) => tail.once('exit', resolve));
  const lines = createInterface({ input: tail.stdout })[Symbol.asyncIterator]();
  // The viewer may not be there for the first ones.
  let sending = true;
  const sender = (async () => {
    for (let index = 0; sending; index++) {
      await fetch(`${base}/v1/readings?device=d1`, { method: 'POST', body: `{"index":${index}}` });
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  })();
  const first = JSON.parse((await lines.next()).value as string) as unknown;
  sending = false;
  await sender;
  expect(first).toMatchObject({ source: 'http', topic: '/v1/readings', outcome: 'taken', readings: [{ device: 'd1', metric: 'index' }] });
  gateway.kill('SIGTERM');
  expect(await ended).toBe(1);
  expect(trouble).toContain('ERR_TAIL_CONNECT');
});
