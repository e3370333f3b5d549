/**
 * The bound on what the journal takes on disk, and what happens there.
 *
 * `bufferBytesMax` covers everything that lies in the journal's directory while it runs: the database, the WAL at the most that
 * it grows to, and the ballast. What the first two leave is what the database may have in pages; a free-space reserve of the disk
 * makes that less. Files of a quarantine (salvage.ts) are not in it; at most two are kept.
 *
 * Policy `thin`: from THIN_RATIO of the bound on, the oldest sealed batches without a place are thinned, those of the lowest
 * priority first (thinning.ts). Where that is not enough, and with policy `drop-oldest` at once: they go, lowest priority first,
 * oldest first, and a gap with count and range stays, merged with its neighbours while no batch has taken it yet. Batches
 * with a seq stay: the hub may have them already.
 * Policy `reject`, or nothing left to evict: the journal accepts nothing until there is room again.
 */
import { statSync, statfsSync } from 'node:fs';
import { decodeBatch } from '../../shared/batch/decode.ts';
import type { ExceptionRecord } from '../../shared/exception.ts';
import { ballastBytes } from './ballast.ts';
import { deleteBatch } from './batch-store.ts';
import { PAGE_BYTES, walPagesUsual } from './database.ts';
import type { JournalStore } from './journal-store.ts';
import { addException } from './pending-exceptions.ts';
import type { BatchRow } from './statements.ts';

/** Room is made from this share of the bound on, before a group finds none. */
const FULL_RATIO = 0.97;
/** Down to this share, or counts as there again, so that neither happens for every batch. */
const RELIEF_RATIO = 0.92;
/** Thinning begins below the bound: it takes a while, and dropping is worse. */
const THIN_RATIO = 0.88;
/** In one transaction; a longer one would hold up the acks. */
const EVICTIONS_PER_STEP_MAX = 64;
/** Of a buffer too small for WAL and ballast beside it, so much is for the database. */
const DATABASE_SHARE_MIN = 0.5;

export interface DiskUse {
  /** Pages of the database in use. */
  readonly usedBytes: number;
  /** What may be used of them at most, less if the disk has less. */
  readonly allowedBytes: number;
}

/** Pages that the database may have: the rest of the bound is for the WAL, which may be twice its usual size, and the ballast. */
export function databasePagesMax(bufferBytesMax: number): number {
  const pages = Math.floor(bufferBytesMax / PAGE_BYTES);
  const others = 2 * walPagesUsual(pages) + Math.ceil(ballastBytes(bufferBytesMax) / PAGE_BYTES);
  return Math.max(Math.floor(pages * DATABASE_SHARE_MIN), pages - others);
}

/** Size of the WAL; 0 when there is none. */
export function walBytes(databasePath: string): number {
  return statSync(`${databasePath}-wal`, { throwIfNoEntry: false })?.size ?? 0;
}

/** Bytes that the file system still gives to an ordinary process. */
export function freeBytes(directory: string): number {
  const { bavail, bsize } = statfsSync(directory);
  return bavail * bsize;
}

/**
 * @param used bytes of pages in use, and of the file: pages of it that are free are room that no other program can take
 * @param free space of the file system beyond what is left to others; may be negative
 */
export function diskUse(used: { database: number; file: number }, free: number, databaseBytesMax: number): DiskUse {
  const spareInFile = Math.max(0, used.file - used.database);
  return { usedBytes: used.database, allowedBytes: Math.min(databaseBytesMax, used.database + spareInFile + Math.max(0, free)) };
}

/** How many bytes must go so that the next groups have room; 0: none. */
export function excessBytes(use: DiskUse): number {
  return use.usedBytes <= use.allowedBytes * FULL_RATIO ? 0 : Math.ceil(use.usedBytes - use.allowedBytes * RELIEF_RATIO);
}

/** Is it time to thin? */
export function wantsThinning(use: DiskUse): boolean {
  return use.usedBytes > use.allowedBytes * THIN_RATIO;
}

/** After the journal was full: is there room again? */
export function hasRelief(use: DiskUse): boolean {
  return use.usedBytes <= use.allowedBytes * RELIEF_RATIO;
}

/** What an evicted batch leaves: the gap of its readings, and its own exceptions without their payloads. */
export function evictedRecords(row: BatchRow): { record: ExceptionRecord; merge: string }[] {
  const left: { record: ExceptionRecord; merge: string }[] = [];
  if (row.readings > 0) {
    const gap = { device: null, metric: null, fromUs: row.event_from_us, toUs: row.event_to_us, readingCount: row.readings };
    left.push({ record: { kind: 'gap', ...gap, reason: 'buffer_full', payload: null }, merge: 'buffer_full' });
  }
  if (row.exceptions === 0) return left;
  try {
    for (const { kind, device, metric, fromUs, toUs, readingCount } of decodeBatch(row.body ?? Buffer.alloc(0)).exceptions) {
      // A gap that goes stays a gap; the others lose what they kept, so theirs is a gap as well, under a reason of its own.
      const reason = kind === 'gap' ? 'buffer_full' : `buffer_full: ${kind}`;
      left.push({ record: { kind, device, metric, fromUs, toUs, readingCount, reason, payload: null }, merge: reason });
    }
  } catch {
    // Damaged as well as evicted: that it was there is all that can be said.
    const gap = { device: null, metric: null, fromUs: row.arrival_from_us, toUs: row.arrival_to_us + 1, readingCount: null };
    left.push({ record: { kind: 'gap', ...gap, reason: 'buffer_full', payload: null }, merge: 'buffer_full' });
  }
  return left;
}

/**
 * Evicts batches without a seq, lowest priority first, oldest first: `excess` bytes or EVICTIONS_PER_STEP_MAX of them, in one
 * transaction.
 *
 * @returns false when there is nothing to evict
 * @throws SluiceError ERR_JOURNAL_UNAVAILABLE
 */
export function evict(store: JournalStore, excess: number, arrivalUs: number): boolean {
  const gone = { batches: 0, readings: 0, exceptions: 0, bytes: 0, rows: 0 };
  store.writeFromReserve(() => {
    const { sql } = store;
    // Ids move on at once, not after the commit: where that fails and the file has all of it nevertheless, the next connection
    // deletes what stands at ids that are not used yet. Without the batches, which nobody writes again, their gaps must stay.
    const priority = sql.lowestPriority.get()?.priority ?? 0;
    let row = sql.evictableAfter.get(priority, 0);
    while (row !== undefined && gone.bytes < excess && gone.batches < EVICTIONS_PER_STEP_MAX) {
      for (const { record, merge } of evictedRecords(row))
        gone.rows += addException(sql, store.ids, store.opening, record, arrivalUs, merge);
      deleteBatch(sql, row.id);
      gone.batches++;
      gone.readings += row.readings;
      gone.exceptions += row.exceptions;
      gone.bytes += row.bytes;
      row = sql.evictableAfter.get(priority, row.id);
    }
    if (gone.batches > 0) sql.addLoss.run('buffer_full', gone.readings, gone.batches);
  });
  store.totals.exceptions += gone.rows;
  store.totals.batches -= gone.batches;
  store.totals.batchReadings -= gone.readings;
  store.totals.batchExceptions -= gone.exceptions;
  store.totals.batchBytes -= gone.bytes;
  return gone.batches > 0;
}
