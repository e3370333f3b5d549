/** What a scenario needs of the machine, and how to find out. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

const EATMYDATA = [
  '/usr/lib/x86_64-linux-gnu/libeatmydata.so',
  '/usr/lib/aarch64-linux-gnu/libeatmydata.so',
  '/usr/lib/arm-linux-gnueabihf/libeatmydata.so',
];
const FAKETIME = ['x86_64', 'aarch64'].map((machine) => `/usr/lib/${machine}-linux-gnu/faketime/libfaketimeMT.so.1`);

function answers(command: string, args: readonly string[]): boolean {
  const { error, status } = spawnSync(command, args, { stdio: 'ignore', timeout: 10_000 });
  return error === undefined && status === 0;
}

const isRoot = (): boolean => process.getuid?.() === 0;

/** Library that turns fsync into nothing (Debian: libeatmydata1); null where it is missing. */
export function eatMyDataLibrary(): string | null {
  return EATMYDATA.find((file) => existsSync(file)) ?? null;
}

/** Library that shifts a process's clock (Debian: faketime); null where it is missing. */
export function fakeTimeLibrary(): string | null {
  return FAKETIME.find((file) => existsSync(file)) ?? null;
}

const CHECKS = {
  'loop devices': () => isRoot() && existsSync('/dev/loop-control') && answers('mkfs.ext4', ['-V']) && answers('perl', ['-v']),
  strace: () => answers('strace', ['-V']),
  faketime: () => fakeTimeLibrary() !== null,
  'time namespaces': () => isRoot() && answers('unshare', ['--time', '--monotonic', '1', 'true']),
  libeatmydata: () => eatMyDataLibrary() !== null,
  'network namespaces with nftables': () => isRoot() && answers('unshare', ['--net', 'nft', 'add', 'table', 'inet', 'probe']),
} as const;
export type Need = keyof typeof CHECKS;

const HINTS: Readonly<Record<Need, string>> = {
  'loop devices': 'root, /dev/loop-control, e2fsprogs, perl',
  strace: 'apt-get install strace',
  faketime: 'apt-get install faketime',
  'time namespaces': 'root, Linux 5.6 with CONFIG_TIME_NS',
  libeatmydata: 'apt-get install libeatmydata1',
  'network namespaces with nftables': 'root, apt-get install nftables',
};

/** null: everything is there; else what is missing, and how to get it. */
export function missing(needs: readonly Need[]): string | null {
  const absent = needs.filter((need) => !CHECKS[need]());
  return absent.length === 0 ? null : absent.map((need) => `${need} (${HINTS[need]})`).join(', ');
}
