/**
 * The journal: what makes an ack mean durable (invariant 1). Synchronous over SQLite; `journal-worker.ts` gives it a thread.
 *
 * Constraints: a group of messages is one transaction and one fsync; whatever happens to the disk or to the file, the
 * process goes on, and what could not be kept is an exception (invariants 4 and 9).
 *
 * Layout (database.ts has the tables): a group becomes a `journal` row (readings), `exception` rows (dead letters) and a
 * `key_log` row (what recognises redeliveries), all in one transaction. Sealing turns the oldest rows into a `batch` and
 * deletes them, in one transaction. Offering gives a batch its position, durably, before anybody sees it. Freeing deletes.
 *
 * Ids of journal, exception and key rows are counted here and move on only after a commit has returned. After an I/O error
 * the connection is opened anew and whatever the failed commit may have left (its frames may be in the WAL although the
 * fsync failed) is deleted by its ids before the group is tried again: it is stored once, or not at all.
 *
 * A crash leaves: before a commit returned, the group or nothing of it, and nobody was acknowledged; between groups, journal
 * rows, which the next opening seals first; in a seal, the rows or the batch; after an offer, a batch whose seq is in its row
 * and in its lane, offered again with the same content. Every opening has an epoch of its own, so no file that was copied,
 * restored or half lost can continue numbering that somebody else has used.
 *
 * It does not wait, retry or order: those who call it do. Errors: ERR_JOURNAL_UNAVAILABLE (try again), ERR_JOURNAL_FULL.
 */
import { mkdirSync, statSync } from 'node:fs';
import path from 'node:path';
import type { Compression } from '../../shared/batch/batch.ts';
import type { Clock } from '../../shared/clock.ts';
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import type { ExceptionRecord } from '../../shared/exception.ts';
import { EVENT_TIME_MIN_US, type Series } from '../../shared/reading.ts';
import type { LaneClaim, LaneName } from '../../shared/uplink.ts';
import { sealOrGap, type ResolvedException, type SealRow } from '../seal/seal.ts';
import { encodeOrGap, batchChecksum, laneClaims, settle } from './batch-store.ts';
import {
  diskUse,
  EVICTIONS_PER_STEP_MAX,
  evictedRecords,
  excessBytes,
  freeBytes,
  hasRelief,
  walBytes,
  type DiskUse,
} from './buffer-bound.ts';
import { ByteWriter } from './bytes.ts';
import { asSluiceError, connect, failureKind, PAGE_BYTES, usedBytes, type Connection } from './database.ts';
import type { Group } from './group.ts';
import type { OfferedBatch } from './journal-api.ts';
import type { JournalState, JournalStats } from './journal-state.ts';
import { ExceptionBudget, insertException, mergedRecord, mergeException, resolveException } from './pending-exceptions.ts';
import { encodeKeys, RedeliveryKeys } from './redelivery.ts';
import { decodeRow, encodeRow } from './row-codec.ts';
import { openStore } from './store.ts';
import { prepareStatements, type OpeningRow, type Statements } from './statements.ts';
import { DATABASE_NAME } from './salvage.ts';

export interface JournalOptions {
  readonly directory: string;
  readonly clock: Clock;
  readonly randomHex: (bytes: number) => string;
  /** Bound on database and WAL. */
  readonly bufferBytesMax: number;
  readonly bufferPolicy: 'drop-oldest' | 'reject';
  /** Free space of the disk that is left to others. */
  readonly freeBytesMin: number;
  /** Estimated size of a sealed batch, compressed. */
  readonly batchBytesMax: number;
  readonly batchReadingsMax: number;
  readonly compression: Compression;
}

export const JOURNAL_DEFAULTS = {
  bufferBytesMax: 1024 ** 3,
  bufferPolicy: 'drop-oldest',
  freeBytesMin: 64 * 1024 ** 2,
  batchBytesMax: 256 * 1024,
  // About 30 ms of sorting, encoding and compressing on a 2-core x86, during which no group commits.
  batchReadingsMax: 32_768,
  compression: 'br',
} as const;

/** Journal rows are about so many times as long as what they are in a batch (measured: 6 to 8 bytes a reading against 1 to 2). */
const ROW_BYTES_PER_BATCH_BYTE = 4;
/** Wall clocks before 2024 are a Pi's without RTC, or a dead battery's (this program is younger). */
export const CLOCK_KNOWN_US = Date.UTC(2024, 0, 1) * 1000;
/** Slower drift than this is not worth a write. */
const OFFSET_STEP_US = 1_000_000;
const EXCEPTIONS_PER_BATCH_MAX = 1000;
/** So many openings are remembered, to bound what arrived while the clock was unknown. */
const OPENINGS_MAX = 16;
/** The key log is folded into a snapshot when it is longer than this and than the snapshot. */
const KEY_LOG_BYTES_MAX = 2 * 1024 * 1024;
/** Room is looked at again after so many bytes of groups. */
const BOUND_CHECK_BYTES = 1024 * 1024;

/** How far a group has come; a second attempt goes on from there. */
export interface CommitProgress {
  /** Messages from the front of the group that are stored or failed for good. */
  done: number;
  readonly failed: { readonly message: number; readonly error: SluiceError }[];
}

export function newProgress(): CommitProgress {
  return { done: 0, failed: [] };
}

interface Ids {
  journal: number;
  exception: number;
  batch: number;
  keys: number;
}

interface Totals {
  journalRows: number;
  journalReadings: number;
  journalBytes: number;
  exceptions: number;
  batches: number;
  batchReadings: number;
  batchExceptions: number;
  batchBytes: number;
  keyLogBytes: number;
}

export class Journal {
  readonly #options: JournalOptions;
  readonly #path: string;
  readonly #writer = new ByteWriter(64 * 1024);
  readonly #budget: ExceptionBudget;
  /** null: the last attempt to open it failed; the next use tries again. */
  #db: Connection | null = null;
  #sql!: Statements;
  #ids!: Ids;
  #totals!: Totals;
  #opening = 0;
  #openings = new Map<number, OpeningRow>();
  #epoch = '';
  #lakeId: string | null = null;
  /** Series of this opening by id, and how many of them are stored. */
  readonly #series: Series[] = [];
  #seriesStored = 0;
  /** Series of older openings that still have journal rows. */
  readonly #olderSeries = new Map<number, Map<number, Series>>();
  #full = false;
  #uncheckedBytes = 0;
  #keySnapshotBytes = 0;
  #lanes: LaneClaim[] | null = null;
  readonly #counters = {
    commits: 0,
    commitUs: 0,
    commitUsMax: 0,
    messages: 0,
    readings: 0,
    sealed: 0,
    sealUs: 0,
    bisected: 0,
    reopened: 0,
    quarantined: 0,
    rejected: 0,
  };

  /** @throws SluiceError ERR_JOURNAL_VERSION, ERR_JOURNAL_LOCKED, ERR_JOURNAL_UNAVAILABLE (disk full or read-only); never for damage */
  constructor(options: JournalOptions) {
    this.#options = options;
    this.#path = path.join(options.directory, DATABASE_NAME);
    this.#budget = new ExceptionBudget(options.clock);
    mkdirSync(options.directory, { recursive: true });
    this.#open();
    this.tick();
  }

  get epoch(): string {
    return this.#epoch;
  }

  get lakeId(): string | null {
    return this.#lakeId;
  }

  /** Redelivery keys of all openings, as one blob for `RedeliveryKeys.replay`. */
  keysSnapshot(): Uint8Array {
    return this.#readKeys().snapshot(new ByteWriter(), this.#options.clock.nowUs()).slice();
  }

  /**
   * Stores the group, durably. A message that cannot be stored is found by halving and stands in `progress.failed`; the
   * others are stored. After an error the same progress goes on with what is left.
   *
   * @throws SluiceError ERR_JOURNAL_UNAVAILABLE, ERR_JOURNAL_FULL: nothing of what is not in `progress` is stored
   */
  commit(group: Group, progress: CommitProgress = newProgress()): CommitProgress {
    for (let index = 0; index < group.newSeries.length; index++)
      this.#series[group.newSeriesFrom + index] ??= group.newSeries[index] as Series;
    if (this.#full) {
      this.#counters.rejected++;
      throw new SluiceError(
        'ERR_JOURNAL_FULL',
        `the buffer is full: ${this.#options.bufferBytesMax} bytes are allowed (bufferBytesMax), policy ${this.#options.bufferPolicy}`,
      );
    }
    const startedUs = this.#options.clock.monotonicUs();
    this.#commitRange(group, progress.done, group.messages, progress);
    const tookUs = this.#options.clock.monotonicUs() - startedUs;
    this.#counters.commits++;
    this.#counters.commitUs += tookUs;
    this.#counters.commitUsMax = Math.max(this.#counters.commitUsMax, tookUs);
    this.#counters.messages += group.messages;
    this.#counters.readings += group.readings;
    if (this.#totals.keyLogBytes > Math.max(KEY_LOG_BYTES_MAX, this.#keySnapshotBytes)) this.#foldKeys();
    if (this.#uncheckedBytes > BOUND_CHECK_BYTES) this.#enforceBound();
    return progress;
  }

  #commitRange(group: Group, from: number, to: number, progress: CommitProgress): void {
    if (from >= to) return;
    try {
      this.#storeRange(group, from, to);
      progress.done = to;
    } catch (error) {
      if (error instanceof SluiceError && error.kind.retryable) throw error;
      if (to - from === 1) {
        progress.failed.push({
          message: from,
          error: new SluiceError('ERR_JOURNAL_MESSAGE', `the message cannot be stored: ${errorMessage(error)}`, { cause: error }),
        });
        progress.done = to;
        return;
      }
      this.#counters.bisected++;
      const middle = (from + to) >>> 1;
      this.#commitRange(group, from, middle, progress);
      this.#commitRange(group, middle, to, progress);
    }
  }

  #storeRange(group: Group, from: number, to: number): void {
    const next = { ...(this.#ready(), this.#ids) };
    let rowReadings = 0;
    let rowBytes = 0;
    let keyBytes = 0;
    let exceptions = 0;
    this.#write(() => {
      for (let id = this.#seriesStored; id < this.#series.length; id++) {
        const { device, metric, tags } = this.#series[id] as Series;
        this.#sql.insertSeries.run(this.#opening, id, device, metric, tags);
      }
      const row = encodeRow(this.#writer, group, from, to, this.#series.length);
      if (row !== null) {
        const { messageReadingEnd, messageArrivalUs } = group.arrays;
        rowReadings = (messageReadingEnd[to - 1] as number) - (from === 0 ? 0 : (messageReadingEnd[from - 1] as number));
        rowBytes = row.length;
        this.#sql.insertJournal.run(next.journal++, this.#opening, messageArrivalUs[from] as number, rowReadings, row);
      }
      const { messageExceptionEnd, messageArrivalUs } = group.arrays;
      for (let message = from, at = from === 0 ? 0 : (messageExceptionEnd[from - 1] as number); message < to; message++) {
        for (; at < (messageExceptionEnd[message] as number); at++) {
          exceptions += this.#addException(
            next,
            group.exceptions[at] as ExceptionRecord,
            messageArrivalUs[message] as number,
            this.#budget.take() ? null : 'flood',
          );
        }
      }
      const keys = encodeKeys(this.#writer, group, from, to);
      if (keys !== null) {
        keyBytes = keys.length;
        this.#sql.insertKeys.run(next.keys++, keys);
      }
    });
    this.#ids = next;
    this.#seriesStored = this.#series.length;
    this.#totals.journalRows += rowBytes > 0 ? 1 : 0;
    this.#totals.journalReadings += rowReadings;
    this.#totals.journalBytes += rowBytes;
    this.#totals.exceptions += exceptions;
    this.#totals.keyLogBytes += keyBytes;
    this.#uncheckedBytes += rowBytes + keyBytes;
  }

  /** @returns 1 when a row was added, 0 when it was merged into one */
  #addException(ids: Ids, record: ExceptionRecord, arrivalUs: number, merge: string | null): number {
    if (merge === null) {
      insertException(this.#sql, ids.exception++, this.#opening, arrivalUs, record, null);
      return 1;
    }
    const merged = merge === 'flood' ? mergedRecord(record) : record;
    const key = merge === 'flood' ? merged.reason : merge;
    if (mergeException(this.#sql, merged, key)) return 0;
    insertException(this.#sql, ids.exception++, this.#opening, arrivalUs, merged, key);
    return 1;
  }

  /** Housekeeping that time brings: learns the clock, seals what is there, keeps the bound. Call it every `sealIntervalMs`. */
  tick(): void {
    this.#ready();
    this.#learnClock();
    while (this.#sealOnce());
    this.#enforceBound();
  }

  /** Is there enough for a batch before its time? */
  get sealDue(): boolean {
    const { journalBytes, journalReadings } = this.#totals;
    return journalBytes >= this.#options.batchBytesMax * ROW_BYTES_PER_BATCH_BYTE || journalReadings >= this.#options.batchReadingsMax;
  }

  get clockKnown(): boolean {
    return this.#options.clock.nowUs() >= CLOCK_KNOWN_US;
  }

  #learnClock(): void {
    if (!this.clockKnown) return;
    const offsetUs = this.#options.clock.nowUs() - this.#options.clock.monotonicUs();
    const own = this.#openings.get(this.#opening) as OpeningRow;
    if (own.offset_us !== null && Math.abs(own.offset_us - offsetUs) < OFFSET_STEP_US) return;
    this.#write(() => this.#sql.setOffset.run(offsetUs, this.#opening));
    this.#openings.set(this.#opening, { ...own, offset_us: offsetUs });
  }

  /** When the readings of an opening without a clock can have arrived, from the openings around it. */
  #boundsOf(opening: number): { fromUs: number; toUs: number } {
    let fromUs = EVENT_TIME_MIN_US;
    let toUs = this.#options.clock.nowUs();
    for (const { id, offset_us, wall_us } of this.#openings.values()) {
      if (offset_us === null || wall_us < CLOCK_KNOWN_US) continue;
      if (id < opening) fromUs = Math.max(fromUs, wall_us);
      else if (id > opening) toUs = Math.min(toUs, wall_us);
    }
    return { fromUs, toUs: Math.max(toUs, fromUs + 1) };
  }

  #seriesLookup(opening: number): (id: number) => Series | undefined {
    if (opening === this.#opening) return (id) => this.#series[id];
    let older = this.#olderSeries.get(opening);
    if (older === undefined) {
      older = new Map(this.#sql.seriesOf.all(opening).map(({ id, device, metric, tags }) => [id, { device, metric, tags }]));
      this.#olderSeries.set(opening, older);
    }
    return (id) => older.get(id);
  }

  /** Seals the oldest rows and exceptions that one batch takes. @returns whether there may be more */
  #sealOnce(): boolean {
    const own = this.#openings.get(this.#opening) as OpeningRow;
    if (own.offset_us === null || (this.#totals.journalRows === 0 && this.#totals.exceptions === 0)) return false;
    const startedUs = this.#options.clock.monotonicUs();
    const nowUs = this.#options.clock.nowUs();
    const taken = this.#read(() => this.#takeRows(nowUs));
    if (taken.rowCount === 0 && taken.lastException === 0) {
      this.#loadTotals(); // the totals claimed that there was something: count again rather than turn in circles
      return false;
    }
    const sealed = sealOrGap({ sealedUs: nowUs, rows: taken.rows, exceptions: taken.exceptions });
    const next = { ...this.#ids };
    const added = { batches: 0, readings: 0, exceptions: 0, bytes: 0 };
    this.#write(() => {
      // Deleting first: on a full disk the batch takes the pages that its rows give back.
      this.#sql.deleteJournalTo.run(taken.lastRow);
      this.#sql.deleteExceptionsTo.run(taken.lastException);
      for (const { content, eventFromUs, eventToUs } of sealed) {
        const { body, readings, exceptions } = encodeOrGap(content, { eventFromUs, eventToUs }, this.#options.compression);
        const times = {
          arrival_from_us: content.arrivalFromUs,
          arrival_to_us: content.arrivalToUs,
          event_from_us: eventFromUs,
          event_to_us: eventToUs,
        };
        const checksum = batchChecksum({ epoch: null, lane: null, seq: null, readings, exceptions, ...times }, body);
        const { arrivalFromUs, arrivalToUs } = content;
        this.#sql.insertBatch.run(
          next.batch++,
          null,
          null,
          null,
          readings,
          exceptions,
          arrivalFromUs,
          arrivalToUs,
          eventFromUs,
          eventToUs,
          body.length,
          checksum,
          body,
        );
        added.batches++;
        added.readings += readings;
        added.exceptions += exceptions;
        added.bytes += body.length;
      }
      if (taken.damagedReadings > 0) this.#sql.addLoss.run('journal_corrupt', taken.damagedReadings, 0);
      if (taken.drained) {
        this.#sql.dropSeries.run(this.#opening);
        this.#sql.dropOpenings.run(this.#opening - OPENINGS_MAX);
      }
    });
    this.#ids = next;
    this.#totals.journalRows -= taken.rowCount;
    this.#totals.journalReadings -= taken.readings;
    this.#totals.journalBytes -= taken.bytes;
    this.#totals.exceptions -= taken.exceptions.length - taken.made;
    this.#totals.batches += added.batches;
    this.#totals.batchReadings += added.readings;
    this.#totals.batchExceptions += added.exceptions;
    this.#totals.batchBytes += added.bytes;
    if (taken.drained) this.#olderSeries.clear();
    this.#counters.sealed += added.batches;
    this.#counters.sealUs += this.#options.clock.monotonicUs() - startedUs;
    return true;
  }

  #takeRows(nowUs: number) {
    const bytesMax = this.#options.batchBytesMax * ROW_BYTES_PER_BATCH_BYTE;
    const taken = {
      rows: [] as SealRow[],
      exceptions: [] as ResolvedException[],
      rowCount: 0,
      readings: 0,
      bytes: 0,
      lastRow: 0,
      lastException: 0,
      made: 0,
      damagedReadings: 0,
      drained: false,
    };
    while (taken.bytes < bytesMax && taken.readings < this.#options.batchReadingsMax) {
      const row = this.#sql.journalFrom.get(taken.lastRow);
      if (row === undefined) {
        taken.drained = true;
        break;
      }
      taken.lastRow = row.id;
      taken.rowCount++;
      taken.readings += row.readings;
      taken.bytes += row.body.length;
      const bounds = this.#boundsOf(row.opening);
      const offsetUs = this.#openings.get(row.opening)?.offset_us ?? null;
      try {
        taken.rows.push({ ...decodeRow(row.body), offsetUs, opening: row.opening, seriesOf: this.#seriesLookup(row.opening), bounds });
      } catch {
        const arrivalUs = offsetUs === null ? null : Math.round(row.arrival_us + offsetUs);
        const range =
          arrivalUs === null ? bounds : { fromUs: arrivalUs, toUs: Math.max(arrivalUs + 1, Math.min(nowUs, arrivalUs + 10_000_000)) };
        const record: ExceptionRecord = {
          kind: 'gap',
          device: null,
          metric: null,
          ...range,
          readingCount: row.readings,
          reason: 'journal_corrupt: row',
          payload: null,
        };
        taken.exceptions.push({ arrivalUs: range.fromUs, record });
        taken.made++;
        taken.damagedReadings += row.readings;
      }
    }
    for (const row of this.#sql.exceptionsFirst.all(EXCEPTIONS_PER_BATCH_MAX)) {
      taken.exceptions.push(resolveException(row, this.#openings.get(row.opening)?.offset_us ?? null, this.#boundsOf(row.opening)));
      taken.lastException = row.id;
    }
    return taken;
  }

  /** @throws SluiceError ERR_JOURNAL_UNAVAILABLE */
  lanes(): LaneClaim[] {
    this.#ready();
    return this.#read(() => laneClaims(this.#sql, this.#epoch));
  }

  /** As UplinkJournal.offer. */
  offer(epoch: string, lane: LaneName, afterSeq: number, bytesMax: number): OfferedBatch[] {
    this.#ready();
    const offered: OfferedBatch[] = [];
    let damaged = 0;
    const nowUs = this.#options.clock.nowUs();
    this.#write(() => {
      offered.length = 0;
      damaged = 0;
      let bytes = 0;
      const push = (batch: OfferedBatch): boolean => {
        offered.push(batch);
        bytes += batch.body.length;
        return bytes < bytesMax;
      };
      const toOffered = (row: ReturnType<typeof settle>): OfferedBatch => {
        if (row.damaged) damaged++;
        const { seq, readings: readingCount, exceptions: exceptionCount, arrival_from_us: arrivalFromUs, body } = row;
        return { epoch, lane, seq: seq as number, readingCount, exceptionCount, arrivalFromUs, body };
      };
      for (
        let row = this.#sql.batchesAfter.get(epoch, lane, afterSeq);
        row !== undefined;
        row = this.#sql.batchesAfter.get(epoch, lane, row.seq as number)
      ) {
        if (!push(toOffered(settle(this.#sql, row, { epoch, lane, seq: row.seq as number }, nowUs)))) return;
      }
      if (epoch !== this.#epoch || lane !== 'live') return;
      const before = this.#sql.lane.get(epoch, lane)?.assigned ?? 0;
      // A caller that is behind the lane's freed part gets what is held; one that is ahead of it gets nothing.
      if (afterSeq > before) return;
      let assigned = before;
      for (let row = this.#sql.unassignedAfter.get(0); row !== undefined; row = this.#sql.unassignedAfter.get(row.id)) {
        assigned++;
        if (!push(toOffered(settle(this.#sql, row, { epoch, lane, seq: assigned }, nowUs)))) break;
      }
      if (assigned > before) this.#sql.setLane.run(epoch, lane, assigned);
      if (damaged > 0) this.#sql.addLoss.run('batch_corrupt', 0, damaged);
    });
    this.#lanes = null;
    if (damaged > 0) this.#loadTotals();
    return offered;
  }

  /** As UplinkJournal.free. @returns how many batches went */
  free(epoch: string, lane: LaneName, seq: number): number {
    this.#ready();
    const going = this.#write(() => {
      const known = this.#sql.lane.get(epoch, lane);
      if (known === undefined) return null;
      const to = Math.min(seq, known.assigned);
      const totals = this.#sql.laneTotals.get(epoch, lane, to);
      this.#sql.freeLane.run(epoch, lane, to);
      if (epoch !== this.#epoch && this.#sql.laneFirst.get(epoch, lane) === undefined) this.#sql.deleteLane.run(epoch, lane);
      return totals ?? null;
    });
    this.#lanes = null;
    if (going === null) return 0;
    this.#totals.batches -= going.batches;
    this.#totals.batchReadings -= going.readings;
    this.#totals.batchExceptions -= going.exceptions;
    this.#totals.batchBytes -= going.bytes;
    if (this.#full) this.#enforceBound();
    return going.batches;
  }

  /** As UplinkJournal.startNewEpoch: all batches of the current epoch become unsent ones of a new one. Nothing is freed. */
  startNewEpoch(): void {
    this.#ready();
    const epoch = this.#options.randomHex(16);
    this.#write(() => {
      for (const lane of ['live', 'backfill'] as const) {
        for (
          let row = this.#sql.batchesAfter.get(this.#epoch, lane, 0);
          row !== undefined;
          row = this.#sql.batchesAfter.get(this.#epoch, lane, row.seq as number)
        ) {
          // A damaged one keeps a checksum that does not fit, and becomes a tombstone when it is offered.
          this.#sql.unassign.run(batchChecksum({ ...row, epoch: null, lane: null, seq: null }, row.body), row.id);
        }
        this.#sql.deleteLane.run(this.#epoch, lane);
      }
      this.#sql.setEpoch.run(epoch, this.#opening);
    });
    this.#epoch = epoch;
    this.#lanes = null;
  }

  pinLake(lakeId: string): void {
    this.#ready();
    this.#write(() => this.#sql.setMeta.run('lakeId', lakeId));
    this.#lakeId = lakeId;
  }

  /** What others need to know at once; cheap, a few index look-ups. */
  state(): JournalState {
    this.#ready();
    return this.#read(() => {
      this.#lanes ??= laneClaims(this.#sql, this.#epoch);
      const { journalReadings, journalBytes, exceptions, batchReadings, batchBytes, batchExceptions } = this.#totals;
      const wall = (row: { opening: number; arrival_us: number } | undefined): number => {
        if (row === undefined) return Infinity;
        const offsetUs = this.#openings.get(row.opening)?.offset_us ?? null;
        return offsetUs === null ? this.#boundsOf(row.opening).fromUs : Math.round(row.arrival_us + offsetUs);
      };
      const unsentUs = Math.min(
        this.#sql.unassignedOldest.get()?.arrival_from_us ?? Infinity,
        wall(this.#sql.journalOldest.get()),
        wall(this.#sql.exceptionOldest.get()),
      );
      const held = this.#lanes.filter(({ base, assigned }) => base <= assigned);
      const oldestUs = held.reduce(
        (oldest, { epoch, lane }) => Math.min(oldest, this.#sql.laneFirst.get(epoch, lane)?.arrival_from_us ?? Infinity),
        unsentUs,
      );
      return {
        epoch: this.#epoch,
        lakeId: this.#lakeId,
        accepting: !this.#full,
        clockKnown: this.clockKnown,
        backlog: {
          readings: journalReadings + batchReadings,
          bytes: journalBytes + batchBytes,
          exceptions: exceptions + batchExceptions,
          oldestUs: Number.isFinite(oldestUs) ? Math.max(0, oldestUs) : null,
        },
        unsentUs: Number.isFinite(unsentUs) ? unsentUs : null,
        positions: held.map(({ epoch, lane, assigned }) => ({ epoch, lane, seq: assigned })),
        sealed: this.#counters.sealed,
      };
    });
  }

  stats(): JournalStats {
    this.#ready();
    return this.#read(() => {
      const use = this.#diskUse();
      return {
        ...this.#totals,
        ...this.#counters,
        usedBytes: use.usedBytes,
        allowedBytes: use.allowedBytes,
        walBytes: walBytes(this.#path),
        full: this.#full,
        batchesByLane: this.#sql.batchesByLane.all().map(({ epoch, lane, batches }) => ({ epoch, lane, batches })),
        losses: this.#sql.losses.all(),
      };
    });
  }

  close(): void {
    this.#db?.close();
    this.#db = null;
  }

  #diskUse(): DiskUse {
    const db = this.#db as Connection;
    const used = { database: usedBytes(db), wal: walBytes(this.#path), file: statSync(this.#path).size };
    return diskUse(used, freeBytes(this.#options.directory), this.#options.bufferBytesMax, this.#options.freeBytesMin);
  }

  /** Evicts until the bound holds, or notes that the journal is full. */
  #enforceBound(): void {
    this.#uncheckedBytes = 0;
    let use = this.#read(() => this.#diskUse());
    if (this.#options.bufferPolicy === 'drop-oldest') {
      for (let excess = excessBytes(use); excess > 0; excess = excessBytes(use)) {
        if (!this.#evict(excess)) break;
        use = this.#read(() => this.#diskUse());
      }
    }
    this.#full = this.#full ? !hasRelief(use) : excessBytes(use) > 0;
  }

  /** @returns false when there is nothing to evict */
  #evict(excess: number): boolean {
    const next = { ...this.#ids };
    const arrivalUs = this.#options.clock.monotonicUs();
    const gone = { batches: 0, readings: 0, exceptions: 0, bytes: 0, rows: 0 };
    this.#write(() => {
      for (
        let row = this.#sql.unassignedAfter.get(0);
        row !== undefined && gone.bytes < excess && gone.batches < EVICTIONS_PER_STEP_MAX;
        row = this.#sql.unassignedAfter.get(row.id)
      ) {
        for (const { record, merge } of evictedRecords(row)) gone.rows += this.#addException(next, record, arrivalUs, merge);
        this.#sql.deleteBatch.run(row.id);
        gone.batches++;
        gone.readings += row.readings;
        gone.exceptions += row.exceptions;
        gone.bytes += row.bytes;
      }
      if (gone.batches > 0) this.#sql.addLoss.run('buffer_full', gone.readings, gone.batches);
    });
    this.#ids = next;
    this.#totals.exceptions += gone.rows;
    this.#totals.batches -= gone.batches;
    this.#totals.batchReadings -= gone.readings;
    this.#totals.batchExceptions -= gone.exceptions;
    this.#totals.batchBytes -= gone.bytes;
    return gone.batches > 0;
  }

  #readKeys(): RedeliveryKeys {
    this.#ready();
    const keys = new RedeliveryKeys();
    this.#read(() => {
      for (let row = this.#sql.keysAfter.get(-1); row !== undefined; row = this.#sql.keysAfter.get(row.id)) {
        try {
          keys.replay(row.body);
        } catch {
          // A damaged blob of keys makes duplicates possible where devices repeat just now, and harms nothing else.
        }
      }
    });
    return keys;
  }

  #foldKeys(): void {
    const snapshot = this.#readKeys().snapshot(this.#writer, this.#options.clock.nowUs());
    this.#write(() => {
      this.#sql.insertKeys.run(0, snapshot);
      this.#sql.deleteKeysBetween.run(0, this.#ids.keys);
    });
    this.#keySnapshotBytes = snapshot.length;
    this.#totals.keyLogBytes = 0;
  }

  /** A transaction; what fails is classified and leaves a usable connection, or none until the next call. */
  #write<T>(run: () => T): T {
    const db = this.#ready();
    try {
      return db.transaction(run).immediate();
    } catch (error) {
      return this.#fail(error);
    }
  }

  #read<T>(run: () => T): T {
    try {
      return run();
    } catch (error) {
      return this.#fail(error);
    }
  }

  #fail(error: unknown): never {
    const kind = failureKind(error);
    if (kind === 'other' || error instanceof SluiceError) throw error;
    this.#discard();
    if (kind === 'damaged') {
      this.#counters.quarantined++;
      this.#open(true);
    }
    throw asSluiceError(error);
  }

  #discard(): void {
    try {
      this.#db?.close();
    } catch {
      // The connection is given up because it failed; what closing it says adds nothing.
    }
    this.#db = null;
  }

  #ready(): Connection {
    if (this.#db !== null) return this.#db;
    this.#reopen();
    return this.#db as unknown as Connection;
  }

  /** The same opening goes on over a new connection. What the failed commit may have left goes first. */
  #reopen(): void {
    try {
      const db = connect(this.#path, { pagesMax: this.#pagesMax, check: false });
      this.#db = db;
      this.#sql = prepareStatements(db);
      db.transaction(() => {
        this.#sql.deleteJournalFrom.run(this.#ids.journal);
        this.#sql.deleteExceptionsFrom.run(this.#ids.exception);
        this.#sql.deleteKeysFrom.run(this.#ids.keys);
      }).immediate();
      this.#ids = { ...this.#ids, batch: (this.#sql.nextIds.get() as { batch: number }).batch };
      this.#seriesStored = this.#sql.seriesOf.all(this.#opening).length;
      this.#loadTotals();
      this.#counters.reopened++;
    } catch (error) {
      this.#discard();
      if (failureKind(error) === 'damaged') this.#open(true);
      throw asSluiceError(error);
    }
    if (this.#options.bufferPolicy === 'drop-oldest') this.#makeRoom();
  }

  /** After an error that may have been a full disk: evict what the bound asks for, before anything is accepted. */
  #makeRoom(): void {
    const db = this.#db as Connection;
    const pages = db.pragma('page_count', { simple: true }) as number;
    const free = db.pragma('freelist_count', { simple: true }) as number;
    if (pages >= this.#pagesMax && free < pages * 0.02) this.#evict(Math.ceil(pages * PAGE_BYTES * 0.05));
  }

  get #pagesMax(): number {
    return Math.ceil(this.#options.bufferBytesMax / PAGE_BYTES);
  }

  /** A new opening: at the start of the process, or after the file was found damaged. */
  #open(damaged = false): void {
    const { clock, randomHex, directory } = this.#options;
    const epoch = randomHex(16);
    const known = this.clockKnown;
    const before = this.#opening;
    const store = openStore({ directory, pagesMax: this.#pagesMax, nowUs: clock.nowUs(), damaged });
    this.#db = store.db;
    this.#sql = prepareStatements(store.db);
    this.#ids = this.#sql.nextIds.get() as Ids;
    this.#lanes = null;
    this.#seriesStored = 0;
    this.#write(() => {
      const offsetUs = known ? clock.nowUs() - clock.monotonicUs() : null;
      this.#opening = Math.max(before, this.#sql.openings.all().at(-1)?.id ?? 0) + 1;
      this.#sql.insertOpening.run(this.#opening, epoch, clock.nowUs(), offsetUs);
      for (const record of store.gaps) insertException(this.#sql, this.#ids.exception++, this.#opening, clock.monotonicUs(), record, null);
    });
    this.#epoch = epoch;
    this.#openings = new Map(this.#sql.openings.all().map((row) => [row.id, row]));
    // Rows of this very process whose series the damage took are still named in memory.
    if (before > 0) this.#olderSeries.set(before, new Map(this.#series.entries()));
    this.#lakeId = this.#sql.getMeta.get('lakeId')?.value ?? this.#lakeId;
    this.#loadTotals();
  }

  #loadTotals(): void {
    const journal = this.#sql.journalTotals.get() as { readings: number; bytes: number; rows: number };
    const batch = this.#sql.batchTotals.get() as { batches: number; readings: number; exceptions: number; bytes: number };
    const keyLog = this.#sql.keyLogBytes.get() as { bytes: number; snapshot: number };
    this.#keySnapshotBytes = keyLog.snapshot;
    this.#totals = {
      journalRows: journal.rows,
      journalReadings: journal.readings,
      journalBytes: journal.bytes,
      exceptions: (this.#sql.exceptionCount.get() as { count: number }).count,
      batches: batch.batches,
      batchReadings: batch.readings,
      batchExceptions: batch.exceptions,
      batchBytes: batch.bytes,
      keyLogBytes: keyLog.bytes,
    };
  }
}
