/**
 * The bound on what the journal takes on disk: database pages in use plus the WAL, and a reserve of free space.
 *
 * Policy `drop-oldest`: the oldest sealed batches without a seq go first; what went is a gap with its count and range,
 * merged with its neighbours while no batch has taken it yet. Batches with a seq stay: the hub may have them already.
 * Policy `reject`, or nothing left to evict: the journal accepts nothing until there is room again.
 */
import { statSync, statfsSync } from 'node:fs';
import { decodeBatch } from '../../shared/batch/decode.ts';
import type { ExceptionRecord } from '../../shared/exception.ts';
import { deleteBatch } from './batch-store.ts';
import type { JournalStore } from './journal-store.ts';
import { addException } from './pending-exceptions.ts';
import type { BatchRow } from './statements.ts';

/** Room is made, or counts as there again, down to this share of the bound, so that neither happens for every batch. */
const RELIEF_RATIO = 0.95;
/** In one transaction; a longer one would hold up the acks. */
const EVICTIONS_PER_STEP_MAX = 64;

export interface DiskUse {
  /** Pages in use, and the WAL up to its usual size. */
  readonly usedBytes: number;
  /** What may be used at most, less if the disk has less. */
  readonly allowedBytes: number;
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
 * @param fileBytes size of the database file: pages of it that are free are room that no other program can take
 * @param freeBytes free space of the file system
 * @param freeBytesMin reserve that the journal leaves to others
 */
export function diskUse(
  used: { database: number; wal: number; file: number },
  free: number,
  bufferBytesMax: number,
  freeBytesMin: number,
): DiskUse {
  const usedBytes = used.database + used.wal;
  const spareInFile = Math.max(0, used.file - used.database);
  return { usedBytes, allowedBytes: Math.min(bufferBytesMax, usedBytes + spareInFile + Math.max(0, free - freeBytesMin)) };
}

/** How many bytes must go; 0: none. */
export function excessBytes(use: DiskUse): number {
  return use.usedBytes <= use.allowedBytes ? 0 : Math.ceil(use.usedBytes - use.allowedBytes * RELIEF_RATIO);
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
 * Evicts the oldest batches without a seq, `excess` bytes or EVICTIONS_PER_STEP_MAX of them, in one transaction.
 *
 * @returns false when there is nothing to evict
 * @throws SluiceError ERR_JOURNAL_UNAVAILABLE
 */
export function evict(store: JournalStore, excess: number, arrivalUs: number): boolean {
  const next = { ...store.ids };
  const gone = { batches: 0, readings: 0, exceptions: 0, bytes: 0, rows: 0 };
  store.writeFromReserve(() => {
    const { sql } = store;
    let row = sql.unassignedAfter.get(0);
    while (row !== undefined && gone.bytes < excess && gone.batches < EVICTIONS_PER_STEP_MAX) {
      for (const { record, merge } of evictedRecords(row)) gone.rows += addException(sql, next, store.opening, record, arrivalUs, merge);
      deleteBatch(sql, row.id);
      gone.batches++;
      gone.readings += row.readings;
      gone.exceptions += row.exceptions;
      gone.bytes += row.bytes;
      row = sql.unassignedAfter.get(row.id);
    }
    if (gone.batches > 0) sql.addLoss.run('buffer_full', gone.readings, gone.batches);
  });
  store.ids = next;
  store.totals.exceptions += gone.rows;
  store.totals.batches -= gone.batches;
  store.totals.batchReadings -= gone.readings;
  store.totals.batchExceptions -= gone.exceptions;
  store.totals.batchBytes -= gone.bytes;
  return gone.batches > 0;
}
