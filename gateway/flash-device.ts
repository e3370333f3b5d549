/**
 * The block device under a directory and the bytes written to it, from the kernel's own counters: Linux, /proc and /sys.
 *
 * What counts for wear is what reaches the device: the file system's own journal and metadata, and half blocks written
 * whole, are in it, and are most of it where little is written at a time. Others' writes to the same device are in it too.
 */
import { readFileSync, readdirSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';

/** /sys counts in these, whatever the device's own sectors are. */
const SECTOR_BYTES = 512;
const SECTORS_WRITTEN_FIELD = 6;
/** Devices made of devices (encryption, logical volumes) are followed so deep. */
const LAYERS_MAX = 4;

export interface FlashDevice {
  /** Of the file system, as mmcblk0p2. */
  readonly name: string;
  /** The whole device, as mmcblk0: wear is shared by its partitions. */
  readonly disk: string;
  /** Of the disk. */
  readonly capacityBytes: number;
  /** SD cards and eMMC. */
  readonly isCard: boolean;
  /** Written to the whole disk since boot. */
  diskWrittenBytes(): number;
  /** Written to the file system's device since boot. */
  writtenBytes(): number;
  /** What an eMMC says of its own wear, share of its rated life used, in steps of a tenth; null: it does not. */
  wornShare(): number | null;
}

function read(file: string): string | null {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return null; // this kernel or this device does not show it
  }
}

function writtenBytes(folder: string): number {
  return Number(read(path.join(folder, 'stat'))?.split(/\s+/)[SECTORS_WRITTEN_FIELD] ?? NaN) * SECTOR_BYTES;
}

/** Bytes that this process caused to be written since it started, without what the file system adds; null: not counted. */
export function processWrittenBytes(root = '/'): number | null {
  const bytes = /^write_bytes: (\d+)$/m.exec(read(path.join(root, 'proc/self/io')) ?? '')?.[1];
  return bytes === undefined ? null : Number(bytes);
}

/** MAJOR:MINOR of the file system that `directory` is on; where it shows none (btrfs, overlays), of what is mounted there. */
function deviceNumber(directory: string, root: string): string | null {
  const { dev } = statSync(directory, { bigint: true });
  const numbers = numbersOf(dev);
  if (!numbers.startsWith('0:')) return numbers;
  // proc_pid_mountinfo(5): id parent major:minor root mount-point options … - type source options
  const source = (read(path.join(root, 'proc/self/mountinfo')) ?? '')
    .split('\n')
    .map((line) => / (\d+:\d+) \S+ (\S+) .* - \S+ (\S+)/.exec(line))
    .filter((found) => found !== null && found[1] === numbers)[0]?.[3];
  if (source === undefined || !source.startsWith('/dev/')) return null;
  try {
    return numbersOf(statSync(realpathSync(source), { bigint: true }).rdev);
  } catch {
    return null; // mounted in another namespace: the device cannot be seen from here
  }
}

/** makedev(3) backwards, as glibc packs it. */
function numbersOf(dev: bigint): string {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
  const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn);
  return `${major}:${minor}`;
}

/**
 * @param root where /proc and /sys are; tests give a directory of their own
 * @returns null where no block device shows: another system, a network file system, a memory disk
 */
export function flashDeviceOf(directory: string, root = '/', numbers = deviceNumber(directory, root)): FlashDevice | null {
  if (numbers === null) return null;
  const link = path.join(root, 'sys/dev/block', numbers);
  let folder: string;
  try {
    folder = path.resolve(path.dirname(link), readlinkSync(link));
  } catch {
    return null; // no such device here
  }
  if (Number.isNaN(writtenBytes(folder))) return null;
  const diskFolder = wholeDisk(folder);
  const disk = path.basename(diskFolder);
  return {
    name: path.basename(folder),
    disk,
    capacityBytes: Number(read(path.join(diskFolder, 'size')) ?? 0) * SECTOR_BYTES,
    isCard: disk.startsWith('mmcblk'),
    diskWrittenBytes: () => writtenBytes(diskFolder),
    writtenBytes: () => writtenBytes(folder),
    wornShare: () => {
      // eMMC 5.0, EXT_CSD 268 and 269: 0x01 is up to a tenth used, 0x0B past its rated life; two kinds of cells, the worse counts.
      const steps = (read(path.join(diskFolder, 'device/life_time')) ?? '').split(/\s+/).map(Number);
      const worst = Math.max(0, ...steps.filter((step) => step > 0));
      return worst === 0 ? null : Math.min(1, worst / 10);
    },
  };
}

function wholeDisk(folder: string): string {
  let at = folder;
  for (let layer = 0; layer < LAYERS_MAX; layer++) {
    if (read(path.join(at, 'partition')) !== null) return path.dirname(at);
    const lower = firstLower(at);
    if (lower === null) return at;
    at = lower;
  }
  return at;
}

function firstLower(folder: string): string | null {
  try {
    const [first] = readdirSync(path.join(folder, 'slaves'));
    return first === undefined ? null : realpathSync(path.join(folder, 'slaves', first));
  } catch {
    return null; // not a device made of devices
  }
}
