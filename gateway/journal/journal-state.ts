/** What the journal tells about itself: plain objects that cross threads. */
import type { ClockMemory } from '../clock.ts';
import type { Backlog, LaneName } from '../../shared/uplink.ts';

export interface JournalState {
  readonly epoch: string;
  readonly lakeId: string | null;
  /** false: the buffer is full and nothing may be evicted. */
  readonly accepting: boolean;
  readonly clockKnown: boolean;
  /** From before this opening. */
  readonly clockMemory: ClockMemory;
  readonly backlog: Backlog;
  /** Arrival (wall clock, µs) of the oldest reading or exception that has no position yet; null: none. */
  readonly unsentUs: number | null;
  /** Lanes that hold something, with the highest seq assigned. */
  readonly positions: readonly { readonly epoch: string; readonly lane: LaneName; readonly seq: number }[];
  /** Batches sealed by this process: has it grown, there is something new to offer. */
  readonly sealed: number;
}

export interface JournalStats {
  /** Not sealed yet. */
  readonly journalRows: number;
  readonly journalReadings: number;
  readonly journalBytes: number;
  /** Exceptions that no batch carries yet. */
  readonly exceptions: number;
  /** Sealed and not committed. */
  readonly batches: number;
  readonly batchReadings: number;
  readonly batchExceptions: number;
  readonly batchBytes: number;
  readonly batchesByLane: readonly { readonly epoch: string | null; readonly lane: LaneName | null; readonly batches: number }[];
  readonly keyLogBytes: number;
  /** Database pages in use, WAL and ballast; what they may be at most now. */
  readonly usedBytes: number;
  readonly allowedBytes: number;
  /** On disk: the database file with pages that are free in it, WAL, ballast. */
  readonly fileBytes: number;
  readonly walBytes: number;
  readonly ballastBytes: number;
  /** Of the database alone, by which the policies go. */
  readonly databaseUsedBytes: number;
  readonly databaseAllowedBytes: number;
  /** Sealed and without a place: what a policy may touch. */
  readonly backfill: {
    readonly batches: number;
    readonly readings: number;
    readonly bytes: number;
    /** Of them, thinned. */
    readonly thinnedBatches: number;
    /** Arrival of the oldest, µs; null: none. */
    readonly oldestUs: number | null;
  };
  readonly full: boolean;
  /** Since the process started. */
  readonly commits: number;
  readonly commitUs: number;
  readonly commitUsMax: number;
  readonly messages: number;
  readonly readings: number;
  readonly sealed: number;
  readonly sealUs: number;
  /** Steps of merging; steps of thinning, and times that the file was made shorter. */
  readonly merged: number;
  readonly thinned: number;
  readonly thinUs: number;
  readonly shrunk: number;
  /** Groups that had to be halved, connections opened anew, databases moved aside, groups refused because the buffer is full. */
  readonly bisected: number;
  readonly reopened: number;
  readonly quarantined: number;
  /** Damaged WALs of which nothing was missing once they were mended. */
  readonly walsMended: number;
  readonly rejected: number;
  /** Since the journal exists, by reason. */
  readonly losses: readonly { readonly reason: string; readonly readings: number; readonly batches: number }[];
}
