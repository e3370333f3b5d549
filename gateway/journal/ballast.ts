/**
 * A file that holds some of the disk for the moment in which others have filled it: deleting takes room too (the WAL), and a
 * journal that cannot delete would stay full for ever.
 *
 * Given up when SQLite finds the disk full, made again once there is room. A crash leaves it or not.
 */
import { closeSync, fsyncSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import path from 'node:path';

const NAME = 'ballast';
/** An eviction or a free writes some hundred pages at most. */
const BYTES_MAX = 1024 * 1024;
const BUFFER_SHARE = 1 / 64;

/** @returns 0 for a buffer so small that it is not worth a file */
export function ballastBytes(bufferBytesMax: number): number {
  const bytes = Math.min(BYTES_MAX, Math.floor(bufferBytesMax * BUFFER_SHARE));
  return bytes < 64 * 1024 ? 0 : bytes;
}

export class Ballast {
  readonly #file: string;
  readonly #bytes: number;
  #isThere: boolean;

  constructor(directory: string, bytes: number) {
    this.#file = path.join(directory, NAME);
    this.#bytes = bytes;
    this.#isThere = statSync(this.#file, { throwIfNoEntry: false })?.size === bytes;
  }

  /** Bytes that it takes now. */
  get bytes(): number {
    return this.#isThere ? this.#bytes : 0;
  }

  /** @param free bytes of the disk that may be taken */
  renew(free: number): void {
    if (this.#isThere || this.#bytes === 0 || free < 2 * this.#bytes) return;
    try {
      const handle = openSync(this.#file, 'w', 0o600);
      try {
        // Written, not only sized: a sparse file holds nothing.
        writeSync(handle, Buffer.alloc(this.#bytes, 0xa5));
        fsyncSync(handle);
      } finally {
        closeSync(handle);
      }
      this.#isThere = true;
    } catch {
      this.release(); // the room went elsewhere meanwhile
    }
  }

  release(): void {
    this.#isThere = false;
    try {
      rmSync(this.#file, { force: true });
    } catch {
      // A disk on which nothing can be deleted either: the caller finds out with its next write.
    }
  }
}
