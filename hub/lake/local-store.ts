/**
 * An object store in a local directory. Several processes may share it.
 *
 * Constraints: one file system with hard links (refused without: `link` is what makes put-if-absent atomic), no writer
 * but this class.
 *
 * Layout: `<root>/<key>` is the object; `<root>/.sluice-tmp/<pid>-<random>.tmp` a write under way.
 *
 * A write is: temp file, fsync, `link` (or `rename` to replace), unlink temp, fsync of the directory. A new directory is
 * made durable by an fsync of its parent, at the first use by each process, because whoever made it may have died in
 * between. A crash leaves at each step: a temp file (deleted at an open an hour later); the object under its name,
 * perhaps to vanish with the machine (never answered as done yet); the object and its temp name (the same inode).
 *
 * It does not: lock, delete empty directories, or protect against another program that writes into the directory.
 */
import { randomUUID } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { link, lstat, mkdir, open, readdir, rename, unlink } from 'node:fs/promises';
import path from 'node:path';
import { errorMessage, SluiceError } from '../../shared/errors.ts';
import {
  isValidKey,
  listLimit,
  validateKey,
  validatePrefix,
  validateRange,
  type ListOptions,
  type ObjectInfo,
  type ObjectStore,
} from './store.ts';

const TEMP_DIRECTORY = '.sluice-tmp';

/** No write takes an hour, so an older temp file has no owner. */
const STALE_TEMP_MS = 60 * 60 * 1000;

/** Directories known durable; a lake has one per day and table, so the set is cleared once in decades. */
const KNOWN_DIRECTORIES_MAX = 10_000;

export class LocalStore implements ObjectStore {
  readonly #root: string;
  readonly #known = new Set<string>();

  private constructor(root: string) {
    this.#root = root;
  }

  /**
   * Opens the directory, creating it, and deletes temp files that a crash left.
   *
   * @throws SluiceError ERR_STORE_NO_HARD_LINKS, ERR_STORE_DENIED, ERR_STORE_FULL, ERR_STORE_IO
   */
  static async open(directory: string): Promise<LocalStore> {
    const root = path.resolve(directory);
    const store = new LocalStore(root);
    await adapt(root, async () => {
      await store.#ensureDirectory(root);
      await store.#ensureDirectory(store.#path(TEMP_DIRECTORY));
    });
    await store.#probeHardLinks();
    await store.#deleteStaleTemps();
    return store;
  }

  async putIfAbsent(key: string, bytes: Uint8Array): Promise<'created' | 'exists'> {
    validateKey(key);
    return adapt(key, () =>
      this.#write(key, bytes, async (temp, target) => {
        try {
          await link(temp, target);
          return 'created';
        } catch (error) {
          if (codeOf(error) === 'EEXIST') return 'exists';
          throw error;
        }
      }),
    );
  }

  async put(key: string, bytes: Uint8Array): Promise<void> {
    validateKey(key);
    await adapt(key, () => this.#write(key, bytes, rename));
  }

  async get(key: string): Promise<Uint8Array | null> {
    return this.#read(key, 0, null);
  }

  async getRange(key: string, start: number, end: number): Promise<Uint8Array | null> {
    validateRange(start, end);
    return this.#read(key, start, end);
  }

  async stat(key: string): Promise<ObjectInfo | null> {
    validateKey(key);
    return adapt(key, async () => {
      const stats = await lstatOrNull(this.#path(key));
      return stats === null || !stats.isFile() ? null : info(key, stats);
    });
  }

  async list(prefix: string, options?: ListOptions): Promise<ObjectInfo[]> {
    validatePrefix(prefix);
    const found: ObjectInfo[] = [];
    const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1);
    await adapt(prefix, () => this.#walk(folder, prefix, options?.startAfter ?? '', listLimit(options), found));
    return found;
  }

  async delete(key: string): Promise<void> {
    validateKey(key);
    await adapt(key, () => unlinkIfThere(this.#path(key)));
  }

  async settle(key: string): Promise<void> {
    validateKey(key);
    await adapt(key, () => fsyncDirectory(path.dirname(this.#path(key))));
  }

  #path(key: string): string {
    return path.join(this.#root, key);
  }

  async #read(key: string, start: number, end: number | null): Promise<Uint8Array | null> {
    validateKey(key);
    return adapt(key, async () => {
      try {
        // O_NONBLOCK: a fifo under the name must not hang the hub. A directory fails with EISDIR at the read.
        const file = await open(this.#path(key), constants.O_RDONLY | constants.O_NONBLOCK);
        try {
          const stats = await file.stat();
          if (!stats.isFile()) return null;
          const bytes = new Uint8Array(Math.max(0, Math.min(end ?? stats.size, stats.size) - start));
          let filled = 0;
          while (filled < bytes.length) {
            const { bytesRead } = await file.read(bytes, filled, bytes.length - filled, start + filled);
            if (bytesRead === 0) throw new Error(`the file ended at byte ${start + filled}, expected ${start + bytes.length}`);
            filled += bytesRead;
          }
          return bytes;
        } finally {
          await file.close();
        }
      } catch (error) {
        if (isAbsent(error)) return null;
        throw error;
      }
    });
  }

  /** Temp file, fsync, `publish`, fsync of the directory. Also after 'exists': the winner may not have come to its fsync. */
  async #write<T>(key: string, bytes: Uint8Array, publish: (temp: string, target: string) => Promise<T>): Promise<T> {
    const target = this.#path(key);
    const directory = path.dirname(target);
    await this.#ensureDirectory(directory);
    const temp = await this.#writeTemp(bytes);
    let answer: T;
    try {
      try {
        answer = await publish(temp, target);
      } catch (error) {
        if (codeOf(error) !== 'ENOENT') throw error;
        // Someone removed a directory that was known: find out anew, once.
        this.#known.clear();
        await this.#ensureDirectory(directory);
        answer = await publish(temp, target);
      }
    } finally {
      await unlinkIfThere(temp);
    }
    await fsyncDirectory(directory);
    return answer;
  }

  async #writeTemp(bytes: Uint8Array): Promise<string> {
    const temp = path.join(this.#root, TEMP_DIRECTORY, `${process.pid}-${randomUUID()}.tmp`);
    const file = await open(temp, 'wx', 0o644);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } catch (error) {
      // A full disk must not also keep the half of what did not fit.
      await unlinkIfThere(temp);
      throw error;
    } finally {
      await file.close();
    }
    return temp;
  }

  async #ensureDirectory(directory: string): Promise<void> {
    if (this.#known.has(directory)) return;
    const parent = path.dirname(directory);
    try {
      await mkdir(directory);
    } catch (error) {
      if (codeOf(error) === 'ENOENT' && parent !== directory) {
        await this.#ensureDirectory(parent);
        await mkdir(directory).catch((second: unknown) => {
          if (codeOf(second) !== 'EEXIST') throw second;
        });
      } else if (codeOf(error) !== 'EEXIST') {
        throw error;
      }
    }
    const isInside = directory.startsWith(this.#root + path.sep);
    if (parent !== directory) await fsyncDirectory(parent).catch((error: unknown) => throwUnlessDenied(error, isInside));
    if (this.#known.size >= KNOWN_DIRECTORIES_MAX) this.#known.clear();
    this.#known.add(directory);
  }

  async #probeHardLinks(): Promise<void> {
    await adapt(this.#root, async () => {
      // Empty, so that a hub starts, and answers queries, on a full disk too.
      const temp = await this.#writeTemp(new Uint8Array(0));
      const second = `${temp}.link`;
      try {
        await link(temp, second);
        const stats = await lstat(temp);
        if (stats.nlink !== 2) throw new Error(`a linked file has ${stats.nlink} links, expected 2`);
      } catch (error) {
        const why = `${this.#root}: the file system has no hard links (${errorMessage(error)}); put the lake on ext4, xfs, btrfs, zfs or APFS`;
        throw new SluiceError('ERR_STORE_NO_HARD_LINKS', why, { cause: error });
      } finally {
        await unlinkIfThere(second);
        await unlinkIfThere(temp);
      }
    });
  }

  /** Age is measured against a file written just now, so both times are by the clock of the file system. */
  async #deleteStaleTemps(): Promise<void> {
    await adapt(this.#root, async () => {
      const probe = await this.#writeTemp(new Uint8Array(0));
      const nowMs = (await lstat(probe)).mtimeMs;
      await unlinkIfThere(probe);
      for (const name of await readdir(path.join(this.#root, TEMP_DIRECTORY))) {
        const temp = path.join(this.#root, TEMP_DIRECTORY, name);
        const stats = await lstatOrNull(temp);
        if (stats?.isFile() === true && nowMs - stats.mtimeMs > STALE_TEMP_MS) await unlinkIfThere(temp);
      }
    });
  }

  /** Collects keys in order: a directory sorts as its name and '/', which is how its keys sort. */
  async #walk(folder: string, prefix: string, after: string, limit: number, found: ObjectInfo[]): Promise<void> {
    let entries;
    try {
      entries = await readdir(path.join(this.#root, folder), { withFileTypes: true });
    } catch (error) {
      if (isAbsent(error)) return;
      throw error;
    }
    const names = entries
      .filter((entry) => (entry.isFile() || entry.isDirectory()) && isValidKey(folder + entry.name))
      .map((entry) => folder + entry.name + (entry.isDirectory() ? '/' : ''))
      .sort();
    for (const name of names) {
      if (found.length >= limit) return;
      if (name.endsWith('/')) {
        const isWanted = name.startsWith(prefix) || prefix.startsWith(name);
        // Every key of the folder is below '<name>\x7f': skipped when that is not behind `after`.
        if (isWanted && name !== `${TEMP_DIRECTORY}/` && `${name}\x7f` > after) await this.#walk(name, prefix, after, limit, found);
      } else if (name.startsWith(prefix) && name > after) {
        const stats = await lstatOrNull(this.#path(name));
        if (stats !== null) found.push(info(name, stats));
      }
    }
  }
}

function info(key: string, stats: Stats): ObjectInfo {
  return { key, size: stats.size, modifiedMs: Math.floor(stats.mtimeMs) };
}

async function lstatOrNull(file: string): Promise<Stats | null> {
  try {
    return await lstat(file);
  } catch (error) {
    if (isAbsent(error)) return null;
    throw error;
  }
}

async function unlinkIfThere(file: string): Promise<void> {
  try {
    await unlink(file);
  } catch (error) {
    if (!isAbsent(error)) throw error;
  }
}

async function fsyncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** What lies above the root may belong to others and be closed to us: then its fsync was not ours to do either. */
function throwUnlessDenied(error: unknown, isInside: boolean): void {
  if (isInside || !['EACCES', 'EPERM'].includes(codeOf(error) ?? '')) throw error;
}

function codeOf(error: unknown): string | null {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null;
}

function isAbsent(error: unknown): boolean {
  const code = codeOf(error);
  return code === 'ENOENT' || code === 'ENOTDIR';
}

/** Runs file operations and gives their errors the store's codes. */
async function adapt<T>(subject: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof SluiceError) throw error;
    const code = codeOf(error);
    const message = `${subject}: ${errorMessage(error)}`;
    if (code === 'ENOSPC' || code === 'EDQUOT') throw new SluiceError('ERR_STORE_FULL', message, { cause: error });
    if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') throw new SluiceError('ERR_STORE_DENIED', message, { cause: error });
    throw new SluiceError('ERR_STORE_IO', message, { cause: error });
  }
}
