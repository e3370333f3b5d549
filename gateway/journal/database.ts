/**
 * The journal's SQLite connection: its settings, and what kinds of errors there are (schema.ts has the tables).
 *
 * Constraints: a commit that returned is on the medium (WAL, synchronous=FULL), for as few bytes written as possible, since
 * flash wears by the byte: 1,024-byte pages, a WAL that grows once to the size of a checkpoint interval and is reused.
 * The lock is exclusive: a second gateway on the same directory fails at once, and the WAL index needs no shared memory.
 *
 * A crash leaves the database and its -wal; the next opening replays the WAL up to its last whole commit.
 */
import { closeSync, fstatSync, openSync, writeSync } from 'node:fs';
import Database from 'better-sqlite3';
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import { MIGRATIONS, moveBatches, SCHEMA_VERSION } from './schema.ts';

export type Connection = Database.Database;
export type Statement<P extends unknown[], R> = Database.Statement<P, R>;

/** Half of what ext4 writes as its smallest unit; measured best together with fdatasync at 512 to 1,024 (design: flash). */
export const PAGE_BYTES = 1024;
/** Checkpoint every 4 MiB of WAL: about a second of full load, and a WAL that fits any card; less where the buffer is small. */
const WAL_PAGES_MAX = 4096;
const WAL_PAGES_MIN = 64;
const WAL_SHARE = 1 / 16;
/** The commit that reaches the checkpoint goes a little beyond it. */
const WAL_GROWTH_RATIO = 1.03;
const WAL_GROWTH_STEP_BYTES = 64 * 1024;
const WAL_HEADER_BYTES = 32;
const WAL_FRAME_HEADER_BYTES = 24;
/** What is written is read once, soon, and never again; better-sqlite3 would take 16 MB for it. */
const CACHE_KIBIBYTES = 4096;
/** Above this a full check would make start-up grow with the backlog; rows and batches have checksums of their own. */
const QUICK_CHECK_BYTES_MAX = 32 * 1024 * 1024;

export type FailureKind = 'damaged' | 'unavailable' | 'locked' | 'other';

/** What an error of SQLite means for the journal. */
export function failureKind(error: unknown): FailureKind {
  if (error instanceof SluiceError) {
    if (error.code === 'ERR_JOURNAL_UNAVAILABLE') return 'unavailable';
    return error.code === 'ERR_JOURNAL_LOCKED' ? 'locked' : 'other';
  }
  if (!(error instanceof Database.SqliteError)) return 'other';
  if (/^SQLITE_(CORRUPT|NOTADB)/.test(error.code)) return 'damaged';
  if (/^SQLITE_(FULL|IOERR|CANTOPEN|READONLY|NOMEM|PROTOCOL)/.test(error.code)) return 'unavailable';
  return /^SQLITE_(BUSY|LOCKED)/.test(error.code) ? 'locked' : 'other';
}

/** SQLite found the disk, or the bound of its pages, full. */
export function isDiskFull(error: unknown): boolean {
  return error instanceof Database.SqliteError && /^SQLITE_(FULL|IOERR_WRITE)/.test(error.code);
}

/** The typed error for a failure of SQLite; a SluiceError stays itself. */
export function asSluiceError(error: unknown): SluiceError {
  if (error instanceof SluiceError) return error;
  const kind = failureKind(error);
  if (kind === 'locked')
    return new SluiceError('ERR_JOURNAL_LOCKED', `another process has the journal open: ${errorMessage(error)}`, { cause: error });
  return new SluiceError('ERR_JOURNAL_UNAVAILABLE', `the journal cannot be used: ${errorMessage(error)}`, { cause: error });
}

export interface ConnectOptions {
  /** Upper bound of the database file in pages; a backstop behind the buffer bound. */
  readonly pagesMax: number;
  /** Give the WAL its usual size at once; without, it grows as it is written. */
  readonly growWal: boolean;
  /** Look through the structure of a small file before trusting it (at the start of a process). */
  readonly check: boolean;
}

/** Pages after which the WAL is folded into the database and written from its start again. */
export function walPagesUsual(pagesMax: number): number {
  return Math.max(WAL_PAGES_MIN, Math.min(WAL_PAGES_MAX, Math.floor(pagesMax * WAL_SHARE)));
}

/**
 * Opens and migrates. Creates the file if there is none.
 *
 * @throws SluiceError ERR_JOURNAL_VERSION when a newer version wrote it, ERR_JOURNAL_LOCKED; otherwise what SQLite says
 */
export function connect(path: string, options: ConnectOptions): Connection {
  const db = new Database(path, { timeout: 0 });
  try {
    db.pragma('locking_mode = EXCLUSIVE');
    db.pragma(`page_size = ${PAGE_BYTES}`);
    if (db.pragma('journal_mode = WAL', { simple: true }) !== 'wal')
      throw new SluiceError('ERR_JOURNAL_UNAVAILABLE', `${path}: no write-ahead log here`);
    db.pragma('synchronous = FULL');
    const walPages = walPagesUsual(options.pagesMax);
    db.pragma(`wal_autocheckpoint = ${walPages}`);
    db.pragma(`cache_size = -${CACHE_KIBIBYTES}`);
    // A WAL that one huge transaction made larger is cut back to twice its usual size.
    db.pragma(`journal_size_limit = ${2 * walPages * PAGE_BYTES}`);
    const version = db.pragma('user_version', { simple: true }) as number;
    if (version > SCHEMA_VERSION) {
      // One flipped bit in the header must not look like an upgrade: a real one says so in two places.
      const stated = db.prepare<[], { value: string }>("SELECT value FROM meta WHERE key = 'schema'").get()?.value;
      if (stated !== String(version)) throw new DamageError(`schema ${version} in the header, ${stated} inside`);
      throw new SluiceError('ERR_JOURNAL_VERSION', `${path} has schema ${version}; this program knows ${SCHEMA_VERSION}`);
    }
    if (options.check && usedBytes(db) <= QUICK_CHECK_BYTES_MAX) {
      const found = db.pragma('quick_check(1)', { simple: true }) as string;
      if (found !== 'ok') throw new DamageError(found);
    }
    for (let next = version; next < SCHEMA_VERSION; next++) {
      db.transaction(() => {
        db.exec(MIGRATIONS[next]);
        db.prepare("INSERT OR REPLACE INTO meta (key, value) VALUES ('schema', ?)").run(String(next + 1));
        db.pragma(`user_version = ${next + 1}`);
      })();
    }
    moveBatches(db);
    // Only now: a move needs some pages for itself, and a full buffer must not keep its own migration from ending.
    db.pragma(`max_page_count = ${options.pagesMax}`);
    if (options.growWal) growWal(`${path}-wal`, walPages);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/**
 * Writes zeros behind what is there, which no reader of a WAL takes for frames. From then on a commit overwrites blocks that
 * exist, and fdatasync has no new length and no new blocks to commit to the journal of the file system. Not fallocate: a
 * block that was never written is metadata to be changed when it is. Beside the connection this is safe, as SQLite locks
 * the database, never the WAL; a disk without room leaves a shorter one.
 */
function growWal(file: string, pages: number): void {
  const zeros = new Uint8Array(WAL_GROWTH_STEP_BYTES);
  const targetBytes = WAL_HEADER_BYTES + Math.ceil(pages * WAL_GROWTH_RATIO) * (PAGE_BYTES + WAL_FRAME_HEADER_BYTES);
  const descriptor = openSync(file, 'r+');
  try {
    for (let at = fstatSync(descriptor).size; at < targetBytes;)
      at += writeSync(descriptor, zeros, 0, Math.min(zeros.length, targetBytes - at), at);
  } catch {
    // As far as it came; commits grow the rest as they need it, or say what is wrong.
  } finally {
    closeSync(descriptor);
  }
}

/** quick_check found something. Leads to the quarantine, never to a caller. */
export class DamageError extends Error {}

/** Bytes of pages in use. */
export function usedBytes(db: Connection): number {
  const pages = db.pragma('page_count', { simple: true }) as number;
  const free = db.pragma('freelist_count', { simple: true }) as number;
  return (pages - free) * (db.pragma('page_size', { simple: true }) as number);
}
