/** What is asked of an installed pair of gateway and hub: each function is one claim, and throws where it does not hold. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { chmodSync, readFileSync, statSync } from 'node:fs';
import { LOAD_DEFAULTS, type LoadResult, type LoadSpec } from '../bench/load.ts';
import { freePort } from '../process-tools.ts';
import { succeed, type TargetRoot } from './target-root.ts';
import { UnitProcess } from './unit-process.ts';

export interface Ports {
  readonly mqtt: number;
  readonly http: number;
  readonly hub: number;
}

export interface Installed {
  readonly root: TargetRoot;
  readonly ports: Ports;
  /** Of the README. */
  readonly lines: readonly string[];
  readonly gateway: UnitProcess;
  readonly hub: UnitProcess;
}

const GATEWAY = 'sluice-gateway';
const HUB = 'sluice-hub';
const WAIT_MS = 30_000;

/** The commands of the README's section for a Raspberry Pi, without their comments. */
export function readmeLines(readme: string): string[] {
  const block = /## Deploy on a Raspberry Pi[\s\S]*?```\n([\s\S]*?)```/.exec(readme)?.[1] ?? '';
  const lines = block.trim().split('\n');
  assert.equal(lines.length, 5, 'the README deploys in five lines');
  return lines.map((line) => line.replace(/\s+#.*$/, ''));
}

/** What the root lacks: it has no sudo and no running systemd. What systemctl is asked is written down. */
function standIns(root: TargetRoot): void {
  root.write('/usr/local/bin/sudo', '#!/bin/sh\nexec "$@"\n');
  root.write('/usr/local/bin/systemctl', '#!/bin/sh\necho "$@" >> /root/systemctl.log\n');
  for (const name of ['sudo', 'systemctl']) chmodSync(root.path(`/usr/local/bin/${name}`), 0o755);
}

function shell(root: TargetRoot, line: string): Promise<string> {
  return root.run('env', 'DEBIAN_FRONTEND=noninteractive', 'sh', '-ec', `cd /root/packages; ${line}`);
}

/** The gateway by the README's first line, the hub in the same way; nothing comes from elsewhere but what Debian has. */
export async function install(root: TargetRoot, debs: readonly string[]): Promise<Installed> {
  standIns(root);
  await succeed('mkdir', ['-p', root.path('/root/packages')]);
  for (const deb of debs) await succeed('cp', [deb, root.path('/root/packages/')]);
  const lines = readmeLines(readFileSync('README.md', 'utf8'));
  await shell(root, lines[0].replace('_arm64', '_amd64'));
  await shell(root, 'sudo apt install ./sluice-hub_*_amd64.deb');
  const ports: Ports = { mqtt: await freePort(), http: await freePort(), hub: await freePort() };
  const installed = { root, ports, lines, gateway: new UnitProcess(root, GATEWAY), hub: new UnitProcess(root, HUB) };
  // Free ports of this machine, which is not the root's own; and the load has no password.
  edit(root, '/etc/sluice/gateway.yaml', [
    ['port: 1883', `port: ${ports.mqtt}\n  wsPort: null`],
    ['port: 8081', `port: ${ports.http}\n\naccess:\n  anonymous: true`],
  ]);
  edit(root, '/etc/sluice/hub.yaml', [['port: 8080', `port: ${ports.hub}`]]);
  return installed;
}

function edit(root: TargetRoot, file: string, changes: readonly (readonly [string, string])[]): void {
  let text = root.read(file);
  for (const [from, to] of changes) {
    assert.ok(text.includes(from), `${file} has no ${JSON.stringify(from)}`);
    text = text.replace(from, to);
  }
  root.write(file, text);
}

export async function checkFiles({ root }: Installed): Promise<string> {
  for (const [name, state] of [
    [GATEWAY, '/var/lib/sluice'],
    [HUB, '/var/lib/sluice-hub'],
  ]) {
    const uid = Number(await root.run('id', '-u', name));
    const stat = statSync(root.path(state));
    assert.equal(stat.uid, uid, `${state} belongs to ${name}`);
    assert.equal(stat.mode & 0o777, 0o750, state);
    assert.ok(root.has(`/etc/systemd/system/multi-user.target.wants/${name}.service`), `${name}.service is enabled`);
    // Only what was edited on purpose differs from the package.
    const { stdout } = await root.tryRun('dpkg', '--verify', name);
    assert.match(stdout.trim(), /^\?\?5\?{6} c \/etc\/sluice\/\w+\.yaml$/);
  }
  await root.run(GATEWAY, 'config', 'check');
  await root.run(HUB, 'config', 'check');
  assert.equal((await root.run(GATEWAY, '--version')).trim(), (await root.run(HUB, '--version')).trim());
  return 'users, modes, services enabled, nothing else touched';
}

/** What systemd says of the units; a warning about keys that this version does not know yet is none. */
export async function checkUnits({ root }: Installed): Promise<string> {
  const exposures: string[] = [];
  for (const name of [GATEWAY, HUB]) {
    const { stdout, stderr } = await root.tryRun('systemd-analyze', 'verify', `/usr/lib/systemd/system/${name}.service`);
    const lines = `${stdout}${stderr}`.split('\n').filter((line) => line.includes(name));
    const serious = lines.filter((line) => !/Restart(?:Steps|MaxDelaySec)|Command 'man|proc\/self\/fd/.test(line));
    assert.deepEqual(serious, [], 'systemd-analyze verify');
    const security = await root.tryRun('systemd-analyze', 'security', '--offline=true', `/usr/lib/systemd/system/${name}.service`);
    const exposure = /Overall exposure level for \S+: ([\d.]+)/.exec(security.stdout)?.[1];
    assert.ok(Number(exposure) < 3, `systemd-analyze security ${name}: ${exposure}\n${security.stderr}`);
    exposures.push(`${name} ${exposure}`);
  }
  return `exposure of 10: ${exposures.join(', ')}`;
}

/** The other lines of the README, as they are written, but for the address and the token. */
export async function firstContact({ root, ports, lines, gateway, hub }: Installed): Promise<string> {
  await hub.start();
  await gateway.start();
  const hubUrl = `http://127.0.0.1:${ports.hub}`;
  const token = (await root.run(HUB, 'token', 'create', '--enroll', 'site-1', '--quiet')).trim();
  const [, enroll, addDevice, listen, doctor] = lines;
  assert.match(await shell(root, enroll.replace('http://hub:8080', hubUrl).replace('TOKEN', token)), /^enrolled as site-1 /);
  assert.equal(statSync(root.path('/var/lib/sluice/hub.json')).mode & 0o777, 0o600);
  const again = await root.tryRun(GATEWAY, 'enroll', '--hub', hubUrl, '--token', token, '--data-dir', '/var/lib/sluice/second');
  assert.equal(again.code, 1, 'a second use of the token is refused');
  const command = (await shell(root, addDevice)).split('\n').find((line) => line.startsWith('mosquitto_pub'));
  await shell(root, listen);
  assert.equal(root.read('/root/systemctl.log').trim(), 'restart sluice-gateway');
  assert.equal(await gateway.stop(), 0, gateway.log);
  await gateway.start();
  await shell(root, doctor);
  await shell(root, command ?? 'false');
  assert.equal(await committed(ports, 'pump-7', 1, 'temperature'), 1);
  await publish(root, ports, 'pump-8', 20);
  assert.equal(await committed(ports, 'pump-8', 20), 20);
  return `the README's lines; 21 readings of mosquitto_pub acknowledged, in the journal, in the hub`;
}

/** @returns once all of them are acknowledged */
export async function publish(root: TargetRoot, ports: Ports, device: string, count: number, from = 0): Promise<void> {
  const lines = Array.from({ length: count }, (_, index) => JSON.stringify({ n: from + index })).join('\n');
  const args = ['-h', '127.0.0.1', '-p', String(ports.mqtt), '-q', '1', '-t', `devices/${device}/telemetry`, '-l'];
  await succeed('chroot', [root.directory, 'mosquitto_pub', ...args], `${lines}\n`);
}

/** The readings of the device in the hub, waiting until there are so many. */
export async function committed(ports: Ports, device: string, wanted: number, metric = 'n'): Promise<number> {
  const url = `http://127.0.0.1:${ports.hub}/v1/readings?device=${device}&metric=${metric}&from=now-1h&limit=10000`;
  const endMs = Date.now() + WAIT_MS;
  for (;;) {
    const { rows } = (await (await fetch(url)).json()) as { rows: { value: number }[] };
    const distinct = new Set(rows.map(({ value }) => value)).size;
    assert.equal(distinct, rows.length, `${device}: a reading is there twice`);
    if (rows.length >= wanted || Date.now() > endMs) return rows.length;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

export async function checkDoctor({ root }: Installed): Promise<string> {
  const { code, stdout } = await root.tryRun(GATEWAY, 'doctor', '--json');
  const report = JSON.parse(stdout) as { checks: { name: string; result: string; detail: string }[] };
  const failed = report.checks.filter(({ result }) => result === 'fail');
  assert.deepEqual(failed, []);
  assert.equal(code, 0);
  for (const name of ['hub', 'hub credential', 'disk latency', 'file permissions', 'ports'])
    assert.equal(report.checks.find((check) => check.name === name)?.result, 'ok', name);
  return report.checks.find(({ name }) => name === 'disk latency')?.detail ?? '';
}

export async function checkWatchdog({ gateway, hub }: Installed): Promise<string> {
  const endMs = Date.now() + WAIT_MS;
  for (const process of [gateway, hub]) {
    while (!process.notified.some((message) => message.includes('WATCHDOG=1'))) {
      assert.ok(Date.now() < endMs, `no sign of life; it said ${process.notified.join(' | ')}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  return `READY=1, then WATCHDOG=1 from both`;
}

/** fdatasync and no fsync for the commits: the ext4 journal is left alone. */
export async function checkFdatasync({ root, ports, gateway }: Installed): Promise<string> {
  const trace = root.path('/root/strace.log');
  const strace = spawn('strace', ['-f', '-qq', '-e', 'trace=fsync,fdatasync', '-o', trace, '-p', String(gateway.pid)], { stdio: 'ignore' });
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  // One after the other: messages in flight together share a commit.
  for (let sent = 0; sent < 5; sent++) await publish(root, ports, 'traced', 1, sent);
  strace.kill('SIGINT');
  await new Promise((resolve) => strace.once('exit', resolve));
  const text = root.read('/root/strace.log');
  const counts = ['fdatasync', 'fsync'].map((call) => text.split('\n').filter((line) => new RegExp(`\\b${call}\\(`).test(line)).length);
  const [fdatasyncs, fsyncs] = counts;
  assert.ok(fdatasyncs >= 5, `five acknowledged messages, one after the other, need five fdatasync, there were ${fdatasyncs}`);
  assert.ok(fsyncs <= 1, `${fsyncs} calls of fsync: SQLite was compiled without HAVE_FDATASYNC`);
  return `${fdatasyncs} fdatasync, ${fsyncs} fsync for 5 messages`;
}

/** 1,000 single-reading messages per second from 100 clients. @returns MB resident: before, at the end, and the largest */
export async function measureMemory({ ports, gateway }: Installed, seconds: number): Promise<string> {
  const idle = gateway.memory('VmRSS');
  const spec: LoadSpec = { ...LOAD_DEFAULTS, port: ports.mqtt, clients: 100, inFlight: 10, perSecond: 1_000, seconds, prefix: 'load' };
  const script = fileURLToPath(new URL('../bench/load.js', import.meta.url));
  const result = JSON.parse(await succeed(process.execPath, [script, JSON.stringify(spec)])) as LoadResult;
  const mb = (kilobytes: number): string => (kilobytes / 1000).toFixed(0);
  const loaded = `${mb(gateway.memory('VmRSS'))} MB (${mb(gateway.memory('RssAnon'))} its own, ${mb(gateway.memory('RssFile'))} of files)`;
  return `idle ${mb(idle)} MB; at ${(result.messages / result.seconds).toFixed(0)} readings/s ${loaded}, peak ${mb(gateway.memory('VmHWM'))} MB`;
}

/** A new revision over a gateway that takes readings: each acknowledged one is there afterwards, once. */
export async function upgrade({ root, ports, gateway }: Installed, deb: string): Promise<string> {
  const before = root.read('/etc/sluice/gateway.yaml');
  let acknowledged = 0;
  let stopping = false;
  const publisher = (async () => {
    while (!stopping) {
      try {
        await publish(root, ports, 'busy', 5, acknowledged);
        acknowledged += 5;
      } catch {
        // Cut off while it restarts: some of the five may be stored; they are sent again and count once, by their number.
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  })();
  await succeed('cp', [deb, root.path('/root/packages/')]);
  await root.apt('install', `/root/packages/${deb.slice(deb.lastIndexOf('/') + 1)}`);
  assert.ok(acknowledged > 0, 'the old process served while the new files were put in place');
  const atRestart = acknowledged;
  // What deb-systemd-invoke restart does on a booted system.
  assert.equal(await gateway.stop(), 0, `it stops by itself\n${gateway.log}`);
  await gateway.start();
  while (acknowledged <= atRestart) await new Promise((resolve) => setTimeout(resolve, 50));
  stopping = true;
  await publisher;
  assert.equal(root.read('/etc/sluice/gateway.yaml'), before, 'the edited configuration stays');
  const rows = await distinctNumbers(ports, 'busy', acknowledged);
  assert.equal(rows, acknowledged);
  return `${acknowledged} readings acknowledged before, during and after, ${rows} in the hub`;
}

/** Distinct values below `count`: numbers that were sent twice because their ack was lost count once. */
async function distinctNumbers(ports: Ports, device: string, count: number): Promise<number> {
  const url = `http://127.0.0.1:${ports.hub}/v1/readings?device=${device}&metric=n&from=now-1h&limit=10000`;
  const endMs = Date.now() + WAIT_MS;
  for (;;) {
    const { rows } = (await (await fetch(url)).json()) as { rows: { value: number }[] };
    const distinct = new Set(rows.map(({ value }) => value).filter((value) => value < count)).size;
    if (distinct >= count || Date.now() > endMs) return distinct;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

export async function removeAndPurge({ root, gateway, hub }: Installed): Promise<string> {
  for (const process of [gateway, hub]) assert.equal(await process.stop(), 0, `it stops by itself\n${process.log}`);
  await root.apt('remove', GATEWAY, HUB);
  assert.ok(root.has('/var/lib/sluice/journal'), 'remove keeps the readings');
  assert.ok(root.has('/var/lib/sluice-hub/lake'), 'remove keeps the lake');
  assert.ok(root.has('/etc/sluice/gateway.yaml'), 'remove keeps the configuration');
  assert.ok(!root.has('/usr/lib/sluice-gateway'));
  await root.apt('purge', GATEWAY, HUB);
  for (const gone of [
    '/var/lib/sluice',
    '/var/lib/sluice-hub',
    '/etc/sluice',
    '/etc/systemd/system/multi-user.target.wants/sluice-gateway.service',
  ])
    assert.ok(!root.has(gone), `purge deletes ${gone}`);
  assert.notEqual((await root.tryRun('id', GATEWAY)).code, 0, 'purge deletes the user');
  return 'remove keeps data and configuration, purge deletes them';
}
