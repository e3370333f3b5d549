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
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import type { LaneName } from '../../shared/uplink.ts';
import { laneClaims } from './batch-store.ts';
import { evict, excessBytes, hasRelief, wantsThinning } from './buffer-bound.ts';
import type { BufferPolicy } from './buffer-policy.ts';
import { ByteWriter } from './bytes.ts';
import type { Group } from './group.ts';
import type { JournalLane, OfferedBatch } from './journal-api.ts';
import type { JournalState, JournalStats } from './journal-state.ts';
import { JournalStore, type JournalStoreOptions } from './journal-store.ts';
import { foldKeys, readKeys } from './key-log.ts';
import { freeBatches, hasOldBatches, offerBatches, startNewEpoch, type Age } from './lanes.ts';
import { addException, ExceptionBudget, FLOOD } from './pending-exceptions.ts';
import { mergeOnce } from './merging.ts';
import { encodeKeys } from './redelivery.ts';
import { encodeRow } from './row-codec.ts';
import { applyChange, changeBytes, readSessions, type StoredSessions } from './sessions.ts';
import { isSealDue, sealOnce, type SealingOptions } from './sealing.ts';
import { thinOnce } from './thinning.ts';

export interface JournalOptions extends JournalStoreOptions, SealingOptions {
  readonly bufferPolicy: BufferPolicy;
  /** Sealed batches that are older and have no place are backfill. */
  readonly backfillAfterMs: number;
}

export const JOURNAL_DEFAULTS = {
  bufferBytesMax: 1024 ** 3,
  bufferPolicy: 'thin',
  // Longer than a hub needs for a commit, so that only an outage or a slow link makes backfill.
  backfillAfterMs: 30_000,
  freeSpaceReserveBytes: 64 * 1024 ** 2,
  growWal: true,
  batchBytesMax: 256 * 1024,
  // About 30 ms of sorting, encoding and compressing on a 2-core x86, during which no group commits.
  batchReadingsMax: 32_768,
  compression: 'br',
} as const;

/** A device waits for the room: then dropping is the better choice. */
const THIN_STEPS_FOR_COMMIT = 4;
/** In one go; then groups that wait for their commit have their turn. */
const THIN_STEPS = 2;

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

export class Journal {
  readonly #options: JournalOptions;
  readonly #store: JournalStore;
  readonly #writer = new ByteWriter(64 * 1024);
  readonly #budget: ExceptionBudget;
  #full = false;
  #uncheckedBytes = 0;
  /** Of a commit that is not done: so much room it needs when it is tried again. */
  #wantedBytes = 0;
  /** null: changed since it was last asked for. */
  #lanes: JournalLane[] | null = null;
  readonly #counters = {
    commits: 0,
    commitUs: 0,
    commitUsMax: 0,
    messages: 0,
    readings: 0,
    sealed: 0,
    sealUs: 0,
    merged: 0,
    thinned: 0,
    thinUs: 0,
    shrunk: 0,
    bisected: 0,
    rejected: 0,
  };

  /** @throws SluiceError ERR_JOURNAL_VERSION, ERR_JOURNAL_LOCKED, ERR_JOURNAL_UNAVAILABLE (disk full or read-only); never for damage */
  constructor(options: JournalOptions) {
    this.#options = options;
    this.#budget = new ExceptionBudget(options.clock);
    this.#store = new JournalStore(options, () => this.#reopened());
    this.tick();
  }

  get epoch(): string {
    return this.#store.epoch;
  }

  get lakeId(): string | null {
    return this.#store.lakeId;
  }

  /** Redelivery keys of all openings, as one blob for `RedeliveryKeys.replay`. */
  keysSnapshot(): Uint8Array {
    return readKeys(this.#store).snapshot(new ByteWriter(), this.#options.clock.nowUs()).slice();
  }

  /** Retained messages and persistent sessions as they are stored. */
  sessions(): StoredSessions {
    return this.#store.read(() => readSessions(this.#store.sql));
  }

  /**
   * Stores the group, durably. A message that cannot be stored is found by halving and stands in `progress.failed`; the
   * others are stored. After an error the same progress goes on with what is left.
   *
   * @throws SluiceError ERR_JOURNAL_UNAVAILABLE, ERR_JOURNAL_FULL: nothing of what is not in `progress` is stored
   */
  commit(group: Group, progress: CommitProgress = newProgress()): CommitProgress {
    for (let index = 0; index < group.newSeries.length; index++) this.#store.series[group.newSeriesFrom + index] ??= group.newSeries[index];
    if (this.#full) {
      this.#counters.rejected++;
      throw new SluiceError(
        'ERR_JOURNAL_FULL',
        `the buffer is full: ${this.#options.bufferBytesMax} bytes are allowed (bufferBytesMax), policy ${this.#options.bufferPolicy}`,
      );
    }
    const startedUs = this.#options.clock.monotonicUs();
    try {
      this.#commitRange(group, progress.done, group.messages, progress);
    } catch (error) {
      this.#evictForCommit();
      throw error;
    }
    const tookUs = this.#options.clock.monotonicUs() - startedUs;
    this.#counters.commits++;
    this.#counters.commitUs += tookUs;
    this.#counters.commitUsMax = Math.max(this.#counters.commitUsMax, tookUs);
    this.#counters.messages += group.messages;
    this.#counters.readings += group.readings;
    foldKeys(this.#store, this.#options.clock.nowUs());
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
    const next = { ...(this.#store.ready(), this.#store.ids) };
    let rowReadings = 0;
    let rowBytes = 0;
    let keyBytes = 0;
    let exceptions = 0;
    const changes = group.changes.filter(({ message }) => message >= from && message < to);
    const changedBytes = changes.reduce((sum, { change }) => sum + changeBytes(change), 0);
    this.#store.bounds.cover(group.arrays.eventTimeUs, group.readings, this.#options.clock.nowUs());
    this.#store.write(() => {
      for (let id = this.#store.seriesStored; id < this.#store.series.length; id++) {
        const { device, metric, tags, priority } = this.#store.series[id];
        this.#store.sql.insertSeries.run(this.#store.opening, id, device, metric, tags, priority);
      }
      const row = encodeRow(this.#writer, group, from, to, this.#store.series.length);
      if (row !== null) {
        const { messageReadingEnd, messageArrivalUs } = group.arrays;
        rowReadings = messageReadingEnd[to - 1] - (from === 0 ? 0 : messageReadingEnd[from - 1]);
        rowBytes = row.length;
        this.#takeRoom(rowBytes + changedBytes);
        this.#store.sql.insertJournal.run(next.journal++, this.#store.opening, messageArrivalUs[from], rowReadings, row);
      }
      const { messageExceptionEnd, messageArrivalUs } = group.arrays;
      for (let message = from, at = from === 0 ? 0 : messageExceptionEnd[from - 1]; message < to; message++) {
        for (; at < messageExceptionEnd[message]; at++) {
          const record = group.exceptions[at];
          exceptions += addException(
            this.#store.sql,
            next,
            this.#store.opening,
            record,
            messageArrivalUs[message],
            this.#budget.take() ? null : FLOOD,
          );
        }
      }
      if (row === null && changedBytes > 0) this.#takeRoom(changedBytes);
      for (const { change } of changes) {
        applyChange(this.#store.sql, change);
        if (change.kind === 'queue') next.outgoing = change.id + 1;
      }
      const keys = encodeKeys(this.#writer, group, from, to);
      if (keys !== null) {
        keyBytes = keys.length;
        this.#store.sql.insertKeys.run(next.keys++, keys);
      }
    });
    this.#store.ids = next;
    this.#store.seriesStored = this.#store.series.length;
    this.#store.totals.journalRows += rowBytes > 0 ? 1 : 0;
    this.#store.totals.journalReadings += rowReadings;
    this.#store.totals.journalBytes += rowBytes;
    this.#store.totals.exceptions += exceptions;
    this.#store.totals.keyLogBytes += keyBytes;
    this.#uncheckedBytes += rowBytes + keyBytes + changedBytes;
    this.#wantedBytes = 0;
  }

  /**
   * Housekeeping that time brings: learns the clock, seals what is there, keeps the bound. Call it every `sealIntervalMs`.
   *
   * @param batchesMax seal at most so many and leave the rest, because no group commits meanwhile
   * @returns whether there may be more to seal or to thin
   */
  tick(batchesMax = Infinity): boolean {
    const { clock } = this.#options;
    this.#store.ready();
    this.#store.learnClock();
    const startedUs = clock.monotonicUs();
    // What comes while it seals is for the next interval: batches of a moment each would be large and many.
    let isAll = false;
    for (let round = 0; round < batchesMax && !isAll; round++) {
      const sealed = sealOnce(this.#store, this.#options);
      this.#counters.sealed += sealed?.batches ?? 0;
      isAll = sealed?.isAll ?? true;
    }
    this.#counters.sealUs += clock.monotonicUs() - startedUs;
    const { nowUs, backfillAfterUs } = this.#age;
    if (mergeOnce(this.#store, this.#options.compression, nowUs - backfillAfterUs)) this.#counters.merged++;
    const more = this.#enforceBound();
    if (!more && this.#store.shrink()) this.#counters.shrunk++;
    if (this.#store.clockKnown) this.#store.bounds.advance(this.state().backlog.oldestUs ?? clock.nowUs());
    return !isAll || more;
  }

  /** Is there enough for a batch before its time? */
  get sealDue(): boolean {
    return isSealDue(this.#store, this.#options);
  }

  /** @throws SluiceError ERR_JOURNAL_UNAVAILABLE, as all that follow */
  lanes(): JournalLane[] {
    return this.#store.read(() => laneClaims(this.#store.sql, this.#store.epoch, hasOldBatches(this.#store, this.#age)));
  }

  /** As UplinkJournal.offer. */
  offer(epoch: string, lane: LaneName, afterSeq: number, bytesMax: number): OfferedBatch[] {
    this.#lanes = null;
    return offerBatches(this.#store, { epoch, lane }, afterSeq, bytesMax, this.#age);
  }

  /** As UplinkJournal.free. @returns how many batches went */
  free(epoch: string, lane: LaneName, seq: number): number {
    this.#lanes = null;
    const freed = freeBatches(this.#store, { epoch, lane }, seq);
    if (this.#full) this.#enforceBound();
    return freed;
  }

  /** As UplinkJournal.startNewEpoch. */
  startNewEpoch(): void {
    this.#lanes = null;
    startNewEpoch(this.#store, this.#options.randomHex(16));
  }

  pinLake(lakeId: string): void {
    this.#store.write(() => this.#store.sql.setMeta.run('lakeId', lakeId));
    this.#store.lakeId = lakeId;
  }

  /** What others need to know at once; cheap, a few index look-ups. */
  state(): JournalState {
    return this.#store.read(() => {
      this.#lanes ??= laneClaims(this.#store.sql, this.#store.epoch, false);
      const { journalReadings, journalBytes, exceptions, batchReadings, batchBytes, batchExceptions } = this.#store.totals;
      const wall = (row: { opening: number; arrival_us: number } | undefined): number => {
        if (row === undefined) return Infinity;
        const offsetUs = this.#store.offsetOf(row.opening);
        return offsetUs === null ? this.#store.boundsOf(row.opening).fromUs : Math.round(row.arrival_us + offsetUs);
      };
      const unsentUs = Math.min(
        this.#store.sql.unassignedOldest.get()?.arrival_from_us ?? Infinity,
        wall(this.#store.sql.journalOldest.get()),
        wall(this.#store.sql.exceptionOldest.get()),
      );
      const held = this.#lanes.filter(({ base, assigned }) => base <= assigned);
      const oldestUs = held.reduce(
        (oldest, { epoch, lane }) => Math.min(oldest, this.#store.sql.laneFirst.get(epoch, lane)?.arrival_from_us ?? Infinity),
        unsentUs,
      );
      return {
        epoch: this.#store.epoch,
        lakeId: this.#store.lakeId,
        accepting: !this.#full,
        clockKnown: this.#store.clockKnown,
        clockMemory: this.#store.clockMemory,
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
    return this.#store.read(() => {
      const use = this.#store.diskUse();
      return {
        ...this.#store.totals,
        ...this.#counters,
        ...this.#store.counters,
        ...this.#store.fileSizes(),
        databaseUsedBytes: use.usedBytes,
        databaseAllowedBytes: use.allowedBytes,
        backfill: this.#store.sql.unassignedTotals.get() as JournalStats['backfill'],
        full: this.#full,
        batchesByLane: this.#store.sql.batchesByLane.all().map(({ epoch, lane, batches }) => ({ epoch, lane, batches })),
        losses: this.#store.sql.losses.all(),
      };
    });
  }

  close(): void {
    this.#store.close();
  }

  get #age(): Age {
    return { nowUs: this.#options.clock.nowUs(), backfillAfterUs: this.#options.backfillAfterMs * 1000 };
  }

  /** Thins and evicts until the bound holds, or notes that the journal is full. @returns whether there is more to thin */
  #enforceBound(): boolean {
    this.#uncheckedBytes = 0;
    const { bufferPolicy, clock } = this.#options;
    let use = this.#store.read(() => this.#store.diskUse());
    let more = bufferPolicy === 'thin';
    for (let step = 0; more && wantsThinning(use) && step < THIN_STEPS; step++) {
      more = this.#thin() !== null;
      use = this.#store.read(() => this.#store.diskUse());
    }
    if (bufferPolicy !== 'reject' && !more) {
      for (let excess = excessBytes(use); excess > 0; excess = excessBytes(use)) {
        if (!evict(this.#store, excess, clock.monotonicUs())) break;
        use = this.#store.read(() => this.#store.diskUse());
      }
    }
    this.#full = !more && (this.#full ? !hasRelief(use) : excessBytes(use) > 0);
    return more && wantsThinning(use);
  }

  /** One step. @returns bytes that it gave back; null: nothing is left to thin */
  #thin(): number | null {
    const startedUs = this.#options.clock.monotonicUs();
    const freed = thinOnce(this.#store, this.#options.compression);
    this.#counters.thinUs += this.#options.clock.monotonicUs() - startedUs;
    if (freed !== null) this.#counters.thinned++;
    return freed;
  }

  /** @throws SluiceError ERR_JOURNAL_FULL, ERR_JOURNAL_UNAVAILABLE: there is none */
  #takeRoom(bytes: number): void {
    this.#wantedBytes = bytes;
    if (!this.#store.hasRoomFor(bytes)) throw this.#noRoom(bytes);
  }

  #noRoom(bytes: number): SluiceError {
    const { bufferPolicy, bufferBytesMax } = this.#options;
    // Rejecting, waiting for room would hold up the uplink, which alone can make it.
    return new SluiceError(
      bufferPolicy === 'reject' ? 'ERR_JOURNAL_FULL' : 'ERR_JOURNAL_UNAVAILABLE',
      `no room for ${bytes} bytes more: ${bufferBytesMax} bytes are allowed (bufferBytesMax), policy ${bufferPolicy}`,
    );
  }

  /** After an error that may have been a full disk: evict what the bound asks for, before anything is accepted. */
  #reopened(): void {
    this.#lanes = null;
    this.#evictForCommit();
  }

  /** Makes the room that a failed commit wanted; it will be tried again. */
  #evictForCommit(): void {
    if (this.#options.bufferPolicy === 'reject') return;
    const shortage = this.#store.pageShortage(this.#wantedBytes);
    if (shortage <= 0) return;
    if (this.#options.bufferPolicy === 'thin') {
      let freed = 0;
      for (let step = 0; step < THIN_STEPS_FOR_COMMIT && freed < shortage; step++) {
        const bytes = this.#thin();
        if (bytes === null) break;
        freed += bytes;
      }
      if (freed >= shortage) return;
    }
    evict(this.#store, shortage, this.#options.clock.monotonicUs());
  }
}
