/** The package of the other processor, unpacked and run under qemu: that it starts and takes readings. No figure is speed. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { freePort } from '../process-tools.ts';
import { succeed } from './target-root.ts';

/** Debian's cross libraries: what libc6 and libstdc++6 of the target would be. */
const SYSROOT = '/usr/aarch64-linux-gnu';
const READINGS = 20;

/** Emulated code on a busy machine takes its time. */
const READY_MS_MAX = 180_000;

async function untilReady(url: string): Promise<void> {
  const endMs = Date.now() + READY_MS_MAX;
  for (;;) {
    const isReady = await fetch(url).then(
      ({ ok }) => ok,
      () => false, // not listening yet
    );
    if (isReady) return;
    if (Date.now() > endMs) throw new Error(`not ready within ${READY_MS_MAX} ms`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

export async function runForeign(deb: string): Promise<string> {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-arm64-'));
  const [mqtt, http] = [await freePort(), await freePort()];
  const lib = path.join(directory, 'usr/lib/sluice-gateway');
  await succeed('dpkg-deb', ['-x', deb, directory]);
  const settings = [
    '--data-dir',
    path.join(directory, 'data'),
    '--mqtt-port',
    `${mqtt}`,
    '--mqtt-ws-port',
    'null',
    '--http-port',
    `${http}`,
  ];
  const command = ['-L', SYSROOT, path.join(lib, 'sluice-gateway-node'), path.join(lib, 'app/main.js'), 'run', ...settings];
  const child = spawn('qemu-aarch64-static', command, { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (log += text));
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  try {
    await Promise.race([
      untilReady(`http://127.0.0.1:${http}/readyz`),
      ended.then((code) => Promise.reject(new Error(`it ended with ${code}:\n${log.slice(-3_000)}`))),
    ]);
    const lines = Array.from({ length: READINGS }, (_, index) => `{"n":${index}}`).join('\n');
    await succeed('mosquitto_pub', ['-h', '127.0.0.1', '-p', `${mqtt}`, '-q', '1', '-t', 'devices/pump-7/telemetry', '-l'], `${lines}\n`);
    const metrics = await (await fetch(`http://127.0.0.1:${http}/metrics`)).text();
    const readings = Number(/^sluice_gateway_readings_total(?:\{[^}]*\})? (\d+)/m.exec(metrics)?.[1]);
    child.kill('SIGTERM');
    assert.equal(await ended, 0, log.slice(-3_000));
    return `${READINGS} readings acknowledged on emulated arm64 (${Number.isFinite(readings) ? readings : 'some'} counted), stopped by itself`;
  } finally {
    child.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  }
}
