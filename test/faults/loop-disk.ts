/**
 * A disk that can lose power, fill up and be looked at: an ext4 file system in an image file, mounted over a directory that
 * a program of the lab uses.
 *
 * Power cut: the file system is shut down as xfstests do it (EXT4_IOC_SHUTDOWN without flushing its log). From that call on
 * nothing more reaches the image, what was only in memory is gone, and every write and fsync fails; then the image is copied
 * and the copy mounted in its place, which replays ext4's journal like a boot after a power cut. Copying the image of a
 * mounted file system instead would mix blocks of different moments, a state that no power cut leaves.
 *
 * What it cannot show: writes that a real drive took into its volatile cache and lost although a flush was asked for.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, renameSync, rmSync, statfsSync } from 'node:fs';
import path from 'node:path';

/** _IOR('X', 125, __u32); argument 2: EXT4_GOING_FLAGS_NOLOGFLUSH. */
const SHUTDOWN = 'open(F, "<", $ARGV[0]) or die "open: $!"; my $flags = pack("L", 2); ioctl(F, 0x8004587d, $flags) or die "ioctl: $!"';
const FILLER_NAME = 'somebody-elses-data';

function command(name: string, ...args: string[]): void {
  execFileSync(name, args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

export class LoopDisk {
  readonly mountPoint: string;
  readonly #image: string;
  #isMounted = false;

  private constructor(image: string, mountPoint: string) {
    this.#image = image;
    this.mountPoint = mountPoint;
  }

  /** @param megabytes whole size; ext4 keeps a tenth of it or so for itself */
  static create(image: string, mountPoint: string, megabytes: number): LoopDisk {
    mkdirSync(path.dirname(image), { recursive: true });
    mkdirSync(mountPoint, { recursive: true });
    command('fallocate', '-l', `${megabytes}M`, image);
    // Nothing is left for the kernel to write later: whoever counts bytes counts a program's.
    command('mkfs.ext4', '-q', '-F', '-m', '0', '-E', 'lazy_itable_init=0,lazy_journal_init=0', image);
    const disk = new LoopDisk(image, mountPoint);
    disk.#mount();
    return disk;
  }

  #mount(): void {
    command('mount', '-o', 'loop', this.#image, this.mountPoint);
    this.#isMounted = true;
  }

  /** Lazily where something still has it open. */
  #unmount(): void {
    if (!this.#isMounted) return;
    this.#isMounted = false;
    if (spawnSync('umount', [this.mountPoint], { stdio: 'ignore' }).status !== 0) command('umount', '-l', this.mountPoint);
  }

  /** All that was written so far reaches the disk. */
  sync(): void {
    command('sync', '--file-system', this.mountPoint);
  }

  /** From now on nothing reaches the disk. Kill who writes to it, then `powerUp`. */
  cutPower(): void {
    command('perl', '-e', SHUTDOWN, this.mountPoint);
  }

  /** What had reached the disk by the cut, at the same place. Nobody may have it open. */
  powerUp(): void {
    command('umount', this.mountPoint); // fails loudly while somebody has a file open: that would be no power cut
    this.#isMounted = false;
    const copy = `${this.#image}.copy`;
    command('cp', '--sparse=always', this.#image, copy);
    renameSync(copy, this.#image);
    this.#mount();
  }

  get freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.mountPoint);
    return bavail * bsize;
  }

  /** Somebody else's file takes the space, all but so many bytes. */
  fill(leaveBytes: number): void {
    const bytes = this.freeBytes - leaveBytes;
    // The file's own blocks of administration come out of the same space: what does not fit is left.
    if (bytes > 0) spawnSync('fallocate', ['-l', String(bytes), path.join(this.mountPoint, FILLER_NAME)], { stdio: 'ignore' });
    if (leaveBytes === 0) spawnSync('sh', ['-c', 'cat /dev/zero >> "$0"', path.join(this.mountPoint, FILLER_NAME)], { stdio: 'ignore' });
  }

  /** The space is there again. */
  clear(): void {
    rmSync(path.join(this.mountPoint, FILLER_NAME), { force: true });
  }

  close(): void {
    this.#unmount();
    rmSync(this.#image, { force: true });
  }
}
