/**
 * A Debian system in a directory, to install packages into: made by debootstrap once, kept as an archive under
 * build/cache, unpacked anew for each run. Programs run in it by chroot; it shares this machine's network.
 *
 * It is no booted system: there is no service manager, so units are run by what they say (unit-process.ts).
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const SUITE = 'bookworm';
/** systemd for systemd-notify and the unit checks; the others are what the packages depend on. */
const INCLUDED = ['systemd', 'adduser', 'init-system-helpers', 'libstdc++6', 'mosquitto-clients'];
const OUTPUT_BYTES_MAX = 16 * 1024 * 1024;

export interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export function execute(command: string, args: readonly string[], input?: string): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = execFile(command, [...args], { maxBuffer: OUTPUT_BYTES_MAX, encoding: 'utf8' }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : null;
      if (code === null) reject(error ?? new Error(`${command} ended in an unknown way`));
      else resolve({ code, stdout, stderr });
    });
    // A program that ends before it read its input (mosquitto_pub, refused by a gateway that restarts) is told by its code.
    child.stdin?.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') reject(error);
    });
    child.stdin?.end(input);
  });
}

/** @throws Error with its output when it fails */
export async function succeed(command: string, args: readonly string[], input?: string): Promise<string> {
  const { code, stdout, stderr } = await execute(command, args, input);
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}:\n${stdout.slice(-3_000)}\n${stderr.slice(-3_000)}`);
  return stdout;
}

export class TargetRoot {
  readonly directory: string;
  #mounted: string[] = [];

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async create(cacheDir: string): Promise<TargetRoot> {
    const archive = await rootArchive(cacheDir);
    const root = new TargetRoot(mkdtempSync(path.join(tmpdir(), 'sluice-root-')));
    await succeed('tar', ['-xf', archive, '-C', root.directory]);
    await succeed('chmod', ['755', root.directory]);
    for (const [type, at] of [
      ['proc', 'proc'],
      ['devpts', 'dev/pts'],
    ]) {
      const target = path.join(root.directory, at);
      mkdirSync(target, { recursive: true });
      await succeed('mount', ['-t', type, type, target]);
      root.#mounted.push(target);
    }
    return root;
  }

  path(inside: string): string {
    return path.join(this.directory, inside);
  }

  read(inside: string): string {
    return readFileSync(this.path(inside), 'utf8');
  }

  write(inside: string, text: string): void {
    writeFileSync(this.path(inside), text);
  }

  has(inside: string): boolean {
    // Not followed: links of the root point into the root.
    return lstatSync(this.path(inside), { throwIfNoEntry: false }) !== undefined;
  }

  /** As root; @throws Error with its output when it fails */
  run(command: string, ...args: string[]): Promise<string> {
    return succeed('chroot', [this.directory, command, ...args]);
  }

  tryRun(command: string, ...args: string[]): Promise<Finished> {
    return execute('chroot', [this.directory, command, ...args]);
  }

  /** `apt-get …` without questions. */
  apt(...args: string[]): Promise<string> {
    return this.run('env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-y', '--no-install-recommends', '-o', 'Dpkg::Use-Pty=0', ...args);
  }

  spawn(user: string, env: Readonly<Record<string, string>>, command: readonly string[]): ChildProcess {
    const variables = Object.entries({ PATH: '/usr/sbin:/usr/bin:/sbin:/bin', ...env }).map(([name, value]) => `${name}=${value}`);
    // exec, so that the process is the one that is measured and signalled.
    return spawn('chroot', [`--userspec=${user}:${user}`, this.directory, 'env', '-i', ...variables, ...command], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  /** Leaves the files: a container mounts its own. */
  async unmount(): Promise<void> {
    for (const target of this.#mounted.splice(0).reverse()) await succeed('umount', [target]);
  }

  async remove(): Promise<void> {
    await this.unmount();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Makes the archive that roots are unpacked from, if it is not there. */
export async function rootArchive(cacheDir: string): Promise<string> {
  const archive = path.join(cacheDir, `debootstrap-${SUITE}.tar`);
  if (existsSync(archive)) return archive;
  mkdirSync(cacheDir, { recursive: true });
  const directory = mkdtempSync(path.join(cacheDir, 'debootstrap.part-'));
  try {
    await succeed('debootstrap', ['--variant=minbase', `--include=${INCLUDED.join(',')}`, SUITE, directory]);
    await succeed('tar', ['-cf', `${archive}.part`, '-C', directory, '.']);
    renameSync(`${archive}.part`, archive);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  return archive;
}
