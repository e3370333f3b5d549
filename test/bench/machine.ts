/** The machine that figures come from: without it they say nothing. */
import { readFileSync, statfsSync } from 'node:fs';
import { cpus, loadavg, release, tmpdir, totalmem } from 'node:os';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly distribution: string;
  readonly node: string;
  /** File system of the benchmarks' directory. */
  readonly fileSystem: string;
  readonly date: string;
  /** Processes that wanted a core when the run began, mean of a minute: what else the machine was doing. */
  readonly loadAverage: number;
}

/** Magic numbers of statfs(2) that a benchmark machine may have. */
const FILE_SYSTEMS: Readonly<Record<number, string>> = {
  0xef53: 'ext4',
  0x58465342: 'xfs',
  0x9123683e: 'btrfs',
  0x01021994: 'tmpfs',
  0x794c7630: 'overlayfs',
};

export function describeMachine(now: Date): Machine {
  const type = statfsSync(tmpdir()).type;
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryBytes: totalmem(),
    kernel: release(),
    distribution: distribution(),
    node: process.version,
    fileSystem: FILE_SYSTEMS[type] ?? `0x${type.toString(16)}`,
    date: now.toISOString().slice(0, 10),
    loadAverage: loadavg()[0],
  };
}

function distribution(): string {
  try {
    return /^PRETTY_NAME="(.*)"$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'unknown';
  } catch {
    return 'unknown'; // a system without that file: the kernel's name has to do
  }
}
