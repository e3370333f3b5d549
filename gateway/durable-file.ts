/**
 * A small file that is replaced as a whole.
 *
 * Constraints: readers see the old content or the new one, never a part; durable when `writeDurably` returns; readable by
 * the owner alone, because most of these files hold secrets. Synchronous, one write and two fsyncs: for files that change a
 * few times in a gateway's life, or on a thread that owns no sockets.
 *
 * Crash: before the rename, the old file and a temporary one beside it, which the next write under the same temporary name
 * takes over; between the rename and the fsync of the directory, the old or the new one.
 *
 * What it does not do: keep two writers of one file from undoing each other's change.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/**
 * @param temporary default: a name of this process, for files that several may write; one that is always the same leaves no
 * litter after crashes, and is for files that one process alone writes
 * @throws Error of the file system; the old content stands
 */
export function writeDurably(file: string, content: string | Uint8Array, temporary = `${file}.${process.pid}.tmp`): void {
  mkdirSync(path.dirname(file), { recursive: true });
  try {
    rmSync(temporary, { force: true }); // its mode would stay
    const handle = openSync(temporary, 'wx', 0o600);
    try {
      writeFileSync(handle, content);
      fsyncSync(handle);
    } finally {
      closeSync(handle);
    }
    renameSync(temporary, file);
  } catch (error) {
    removeQuietly(temporary);
    throw error;
  }
  syncPath(path.dirname(file));
}

/** Of a file or a directory: what was written to it, or renamed in it, is durable. @throws Error of the file system */
export function syncPath(target: string): void {
  const handle = openSync(target, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

function removeQuietly(file: string): void {
  try {
    rmSync(file, { force: true });
  } catch {
    // Litter alone; the error that led here is the one to report.
  }
}
