/**
 * `npm run test:packages [-- --short]`: the packages, built, installed into a Debian root, used, upgraded and removed.
 *
 * --short: amd64 only and a shorter load, for CI. What the machine lacks is skipped and said. Exit 1 when a claim does not
 * hold. Ends by itself; the root and its mounts are removed also after a failure.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  checkDoctor,
  checkFdatasync,
  checkFiles,
  checkUnits,
  checkWatchdog,
  firstContact,
  install,
  measureMemory,
  removeAndPurge,
  upgrade,
  type Installed,
} from './installed.ts';
import { boot } from './booted.ts';
import { runForeign } from './foreign.ts';
import { rootArchive, succeed, TargetRoot } from './target-root.ts';

const distDir = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const buildDir = path.resolve(distDir, '../build');
const short = process.argv.includes('--short');
const LOAD_SECONDS = short ? 8 : 30;

let failures = 0;

function has(command: string, args: readonly string[] = ['--version']): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).error === undefined;
}

async function step(what: string, run: () => Promise<string>): Promise<boolean> {
  const startMs = Date.now();
  try {
    const found = await run();
    process.stdout.write(`ok    ${what}: ${found} (${((Date.now() - startMs) / 1000).toFixed(0)} s)\n`);
    return true;
  } catch (error) {
    failures++;
    process.stdout.write(`FAIL  ${what}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    return false;
  }
}

function skip(what: string, needed: string): void {
  process.stdout.write(`skip  ${what}: needs ${needed}\n`);
}

/** The path of the package. */
async function build(component: 'gateway' | 'hub', architecture: string, revision: string): Promise<string> {
  const script = path.join(distDir, component, 'package/build.js');
  const printed = await succeed('nice', ['-n', '10', process.execPath, script, '--arch', architecture, '--revision', revision, '--fast']);
  return printed.split('\n')[0];
}

/** What it installs beside its Node. */
async function sizes(deb: string): Promise<string> {
  const rows = (await succeed('dpkg-deb', ['-c', deb])).split('\n').map((line) => line.split(/\s+/));
  const bytes = (matching: (file: string) => boolean): number =>
    rows.filter((row) => row.length > 5 && matching(row[5])).reduce((sum, row) => sum + Number(row[2]), 0);
  const node = bytes((file) => file.endsWith('-node'));
  const others = bytes((file) => !file.endsWith('-node'));
  return `${(statSync(deb).size / 1e6).toFixed(1)} MB, installs ${(others / 1e6).toFixed(1)} MB beside a Node of ${(node / 1e6).toFixed(1)} MB`;
}

async function installedSteps(gateway: string, next: string, hub: string): Promise<void> {
  const root = await TargetRoot.create(path.join(buildDir, 'cache'));
  let installed: Installed | null = null;
  try {
    const works = await step('apt install', async () => {
      installed = await install(root, [gateway, hub]);
      return 'both packages configured';
    });
    if (!works || installed === null) return;
    const both: Installed = installed;
    await step('files', () => checkFiles(both));
    await step('units', () => checkUnits(both));
    if (!(await step('first contact', () => firstContact(both)))) return;
    await step('service manager', () => checkWatchdog(both));
    await step('doctor', () => checkDoctor(both));
    if (has('strace', ['-V'])) await step('fdatasync', () => checkFdatasync(both));
    else skip('fdatasync', 'strace');
    await step('memory', () => measureMemory(both, LOAD_SECONDS));
    await step('upgrade under load', () => upgrade(both, next));
    await step('remove and purge', () => removeAndPurge(both));
  } finally {
    await (installed as Installed | null)?.gateway.stop('SIGKILL');
    await (installed as Installed | null)?.hub.stop('SIGKILL');
    await root.remove();
  }
}

async function bootedStep(gateway: string, hub: string): Promise<void> {
  if (!has('systemd-nspawn')) return skip('booted system', 'systemd-nspawn (apt-get install systemd-container)');
  const root = await TargetRoot.create(path.join(buildDir, 'cache'));
  try {
    await step('booted system', () => boot(root, [gateway, hub]));
  } finally {
    await root.remove();
  }
}

async function main(): Promise<void> {
  if (!has('dpkg-deb')) return skip('all', 'a Debian system (dpkg-deb)');
  const canInstall = process.getuid?.() === 0 && process.arch === 'x64' && has('debootstrap');
  // Beside the compiler, which uses the processor while this waits for the network.
  const archive = canInstall ? rootArchive(path.join(buildDir, 'cache')).catch(() => null) : null; // told of where it is used
  const debs: string[] = [];
  const built = await step('build for amd64', async () => {
    debs.push(await build('gateway', 'amd64', '1'), await build('gateway', 'amd64', '2'), await build('hub', 'amd64', '1'));
    return `gateway ${await sizes(debs[0])}; hub ${await sizes(debs[2])}`;
  });
  const [gateway, next, hub] = debs;
  if (short) skip('lintian', 'the long form');
  else if (has('lintian') && built)
    await step('lintian', async () => {
      await succeed('lintian', ['--allow-root', '--fail-on', 'error,warning', gateway, hub]);
      return 'no errors, no warnings';
    });
  else skip('lintian', 'lintian');
  if (process.getuid?.() !== 0 || process.arch !== 'x64') skip('install', 'root on an x86-64 machine');
  else if (!has('debootstrap')) skip('install', 'debootstrap');
  else if (built) {
    await archive;
    await installedSteps(gateway, next, hub);
    if (!short) await bootedStep(gateway, hub);
  }
  if (short) return;
  const foreign = ['qemu-aarch64-static', 'aarch64-linux-gnu-g++', 'mosquitto_pub'].filter((command) => !has(command));
  if (foreign.length > 0)
    return skip('arm64', `${foreign.join(', ')} (apt-get install qemu-user-static g++-aarch64-linux-gnu mosquitto-clients)`);
  await step('arm64 under qemu', async () => {
    const deb = await build('gateway', 'arm64', '1');
    return `${await runForeign(deb)}; ${await sizes(deb)}`;
  });
  await step('hub for arm64', async () => sizes(await build('hub', 'arm64', '1')));
}

if (!existsSync(path.join(distDir, 'gateway')) || readdirSync(distDir).length === 0) throw new Error('npm run build comes first');
await main();
process.exitCode = failures === 0 ? 0 : 1;
