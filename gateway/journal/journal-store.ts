/**
 * The journal's connection over its whole life: opening, transactions, what an error does to it, and what is counted
 * beside it in memory (ids, totals, openings, series).
 *
 * Constraints: whoever uses it gets a connection that works, or a typed error. After an I/O error the same opening goes on
 * over a new connection, once what the failed commit may have left is deleted. After damage the file is moved aside and a
 * new opening, with a new epoch, goes on in a fresh one (store.ts). Totals are moved only after a commit has returned.
 *
 * It does not know what the rows mean.
 */
import { mkdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { BATCH_BYTES_MAX } from '../../shared/batch/limits.ts';
import type { ClockMemory, JournalClock } from '../clock.ts';
import { CLOCK_PLAUSIBLE_US } from '../clock-judgement.ts';
import { SluiceError } from '../../shared/errors.ts';
import { EVENT_TIME_MIN_US } from '../../shared/reading.ts';
import { Ballast, ballastBytes } from './ballast.ts';
import { databasePagesMax, diskUse, freeBytes, walBytes, type DiskUse } from './buffer-bound.ts';
import { asSluiceError, connect, failureKind, isDiskFull, PAGE_BYTES, usedBytes, walPagesUsual, type Connection } from './database.ts';
import { EventBounds } from './event-bounds.ts';
import type { RegisteredSeries } from './journal-api.ts';
import { insertException } from './pending-exceptions.ts';
import { DATABASE_NAME } from './salvage.ts';
import { prepareStatements, type OpeningRow, type Statements } from './statements.ts';
import { openStore } from './store.ts';

/** Two reads of a clock that does not judge itself differ; less than this is not worth a write. */
const OFFSET_STEP_US = 1_000_000;
/** How often it is noted that this opening still runs: a bound for readings of a boot that never learns the time. */
const ALIVE_NOTE_US = 300_000_000;

/** The largest batch (16 MiB), once more. */
const RESERVE_PAGES = Math.ceil(BATCH_BYTES_MAX / PAGE_BYTES) + 64;

export interface JournalStoreOptions {
  /** Take the WAL's room on the disk at the opening. false is for tests that look at how much was written to it. */
  readonly growWal: boolean;
  readonly directory: string;
  readonly clock: JournalClock;
  readonly randomHex: (bytes: number) => string;
  /** Bound on database, WAL and ballast. */
  readonly bufferBytesMax: number;
  /** Free space of the disk that is left to others. */
  readonly freeSpaceReserveBytes: number;
}

/** Shrinking copies what is in use, while no group commits: about 50 ms on a 2-core x86. */
const SHRINK_USED_BYTES_MAX = 8 * 1024 * 1024;
const SHRINK_SPARE_BYTES_MIN = 16 * 1024 * 1024;

/** The next id of each table whose rows are counted here. */
export interface Ids {
  journal: number;
  exception: number;
  batch: number;
  keys: number;
  /** Messages to sessions: their ids come from the broker; this is behind the last one that is stored. */
  outgoing: number;
}

export interface Totals {
  journalRows: number;
  journalReadings: number;
  journalBytes: number;
  exceptions: number;
  batches: number;
  batchReadings: number;
  batchExceptions: number;
  batchBytes: number;
  keyLogBytes: number;
  keySnapshotBytes: number;
}

/** When an opening whose clock is known was seen running, by the wall clock. */
function spanOf({ wall_us, offset_us, start_us, alive_us }: OpeningRow): { readonly fromUs: number; readonly toUs: number } {
  const fromUs = start_us === null || offset_us === null ? wall_us : start_us + offset_us;
  return { fromUs, toUs: alive_us === null || offset_us === null ? fromUs : alive_us + offset_us };
}

export class JournalStore {
  readonly #options: JournalStoreOptions;
  readonly #path: string;
  readonly #onReopened: () => void;
  /** null: the last attempt to open it failed; the next use tries again. */
  #db: Connection | null = null;
  /** An opening was begun and not finished: there may be no file, or one that knows nothing of this process. */
  #unopened = true;
  #sql!: Statements;
  #openings = new Map<number, OpeningRow>();
  #epoch = '';
  #lakeId: string | null = null;
  /** Series of older openings that still have journal rows. */
  readonly #olderSeries = new Map<number, Map<number, RegisteredSeries>>();
  /** Series of this opening by id. */
  readonly series: RegisteredSeries[] = [];
  seriesStored = 0;
  /** Batches up to this id are not live any more, or have their place. */
  liveAfter = 0;
  opening = 0;
  ids!: Ids;
  totals!: Totals;
  readonly counters = { reopened: 0, quarantined: 0, walsMended: 0 };
  readonly bounds: EventBounds;
  readonly #ballast: Ballast;

  /**
   * @param onReopened called when a connection was given up and another one is there
   * @throws SluiceError ERR_JOURNAL_VERSION, ERR_JOURNAL_LOCKED, ERR_JOURNAL_UNAVAILABLE
   */
  constructor(options: JournalStoreOptions, onReopened: () => void) {
    this.#options = options;
    this.#onReopened = onReopened;
    this.#path = path.join(options.directory, DATABASE_NAME);
    mkdirSync(options.directory, { recursive: true });
    const isNew = statSync(this.#path, { throwIfNoEntry: false }) === undefined;
    this.#ballast = new Ballast(options.directory, ballastBytes(options.bufferBytesMax));
    this.bounds = new EventBounds(options.directory, options.clock.nowUs(), isNew);
    this.#open(false);
  }

  get sql(): Statements {
    return this.#sql;
  }

  get epoch(): string {
    return this.#epoch;
  }

  set epoch(epoch: string) {
    this.#epoch = epoch;
  }

  get lakeId(): string | null {
    return this.#lakeId;
  }

  set lakeId(lakeId: string | null) {
    this.#lakeId = lakeId;
  }

  get clockKnown(): boolean {
    const { clock } = this.#options;
    return clock.known ?? clock.nowUs() >= CLOCK_PLAUSIBLE_US;
  }

  /** Makes sure that there is a connection. @throws SluiceError ERR_JOURNAL_UNAVAILABLE */
  ready(): Connection {
    if (this.#db === null) {
      if (this.#unopened) this.#open(false);
      else this.#reopen();
      this.#onReopened();
    }
    return this.#db as unknown as Connection;
  }

  /** A transaction; what fails is classified and leaves a usable connection, or none until the next use. */
  write<T>(run: () => T): T {
    const db = this.ready();
    try {
      return db.transaction(run).immediate();
    } catch (error) {
      return this.#fail(error);
    }
  }

  /**
   * A transaction that makes room, or without which none would ever be made (a batch is written anew when it gets its
   * place): it may use RESERVE_PAGES beyond the bound, which `hasRoomFor` keeps from all others.
   */
  writeFromReserve<T>(run: () => T): T {
    const db = this.ready();
    db.pragma(`max_page_count = ${this.#pagesMax + RESERVE_PAGES}`);
    try {
      return this.write(run);
    } finally {
      if (this.#db === db) db.pragma(`max_page_count = ${this.#pagesMax}`);
    }
  }

  /** Would so much more stay below the bound? Cheap where the answer is plain. */
  hasRoomFor(bytes: number): boolean {
    const { journalBytes, batchBytes, keyLogBytes, keySnapshotBytes } = this.totals;
    const bytesMax = this.#pagesMax * PAGE_BYTES;
    if (journalBytes + batchBytes + keyLogBytes + keySnapshotBytes + bytes < bytesMax / 2) return true;
    // A tenth more: pages are not filled to the last byte.
    return usedBytes(this.ready()) + bytes * 1.1 <= this.diskUse().allowedBytes;
  }

  read<T>(run: () => T): T {
    this.ready();
    try {
      return run();
    } catch (error) {
      return this.#fail(error);
    }
  }

  close(): void {
    if (this.#db !== null && !this.#unopened) {
      try {
        this.#sql.setAlive.run(this.#options.clock.monotonicUs(), this.opening);
      } catch {
        // A bound that is a few minutes wider; nothing depends on it.
      }
    }
    this.#discard();
  }

  /** Notes how far the wall clock is from the monotonic one, durably, once it is known and whenever it was stepped. */
  learnClock(): void {
    const { clock } = this.#options;
    const monotonicUs = clock.monotonicUs();
    const own = this.#openings.get(this.opening) as OpeningRow;
    const offsetUs = clock.offsetUs ?? clock.nowUs() - monotonicUs;
    const stepUsMin = clock.offsetUs === undefined ? OFFSET_STEP_US : 1;
    const isStep = this.clockKnown && (own.offset_us === null || Math.abs(own.offset_us - offsetUs) >= stepUsMin);
    if (!isStep && monotonicUs - (own.alive_us ?? 0) < ALIVE_NOTE_US) return;
    this.write(() => {
      if (isStep) this.sql.setOffset.run(offsetUs, this.opening, own.boot);
      this.sql.setAlive.run(monotonicUs, this.opening);
    });
    this.#loadOpenings();
  }

  /** What is known of the wall clock from before this opening. */
  get clockMemory(): ClockMemory {
    let bootOffsetUs: number | null = null;
    let earlierBootUs = 0;
    const boot = this.#openings.get(this.opening)?.boot ?? null;
    for (const row of this.#openings.values()) {
      if (row.id === this.opening || row.offset_us === null) continue;
      if (row.boot !== null && row.boot === boot) bootOffsetUs = row.offset_us;
      else earlierBootUs = Math.max(earlierBootUs, spanOf(row).toUs);
    }
    return { bootOffsetUs, earlierBootUs };
  }

  /** Wall clock minus monotonic clock of an opening; null: it never was known. */
  offsetOf(opening: number): number | null {
    return this.#openings.get(opening)?.offset_us ?? null;
  }

  /** When the readings of an opening without a clock can have arrived, from the openings around it; half-open. */
  boundsOf(opening: number): { fromUs: number; toUs: number } {
    let fromUs = EVENT_TIME_MIN_US;
    let toUs = this.#options.clock.nowUs();
    for (const row of this.#openings.values()) {
      if (row.offset_us === null) continue;
      const span = spanOf(row);
      if (span.fromUs < CLOCK_PLAUSIBLE_US) continue;
      if (row.id < opening) fromUs = Math.max(fromUs, span.toUs);
      else if (row.id > opening) toUs = Math.min(toUs, span.fromUs);
    }
    return { fromUs, toUs: Math.max(toUs, fromUs + 1) };
  }

  seriesLookup(opening: number): (id: number) => RegisteredSeries | undefined {
    if (opening === this.opening) return (id) => this.series[id];
    let older = this.#olderSeries.get(opening);
    if (older === undefined) {
      older = new Map(this.sql.seriesOf.all(opening).map(({ id, ...series }) => [id, series]));
      this.#olderSeries.set(opening, older);
    }
    return (id) => older.get(id);
  }

  forgetOlderSeries(): void {
    this.#olderSeries.clear();
  }

  /** What the database uses and may use; asks the file system. */
  diskUse(): DiskUse {
    const { directory, freeSpaceReserveBytes } = this.#options;
    const free = freeBytes(directory) - freeSpaceReserveBytes;
    this.#ballast.renew(free);
    // What the WAL has not yet grown to is spoken for.
    const walGrowth = Math.max(0, 2 * walPagesUsual(this.#pagesMax) * PAGE_BYTES - this.walBytes());
    const used = { database: usedBytes(this.ready()), file: statSync(this.#path).size };
    return diskUse(used, free - walGrowth, this.#pagesMax * PAGE_BYTES);
  }

  /** What the journal takes of the disk, and what it may take of it at most now. */
  fileSizes(): { usedBytes: number; allowedBytes: number; fileBytes: number; walBytes: number; ballastBytes: number } {
    const { usedBytes: database, allowedBytes } = this.diskUse();
    const others = { walBytes: this.walBytes(), ballastBytes: this.#ballast.bytes };
    const beside = others.walBytes + others.ballastBytes;
    return {
      usedBytes: database + beside,
      allowedBytes: Math.max(Math.min(this.#options.bufferBytesMax, allowedBytes + beside), database + beside),
      fileBytes: statSync(this.#path).size,
      ...others,
    };
  }

  /**
   * Gives pages that a drained buffer has left back to the file system, in one step that copies what is still in use: little, or it
   * waits. Not by SQLite's incremental vacuum, whose page map would cost a further page in every other commit.
   *
   * @returns whether the file has become shorter
   */
  shrink(): boolean {
    const db = this.ready();
    const used = usedBytes(db);
    const file = (db.pragma('page_count', { simple: true }) as number) * PAGE_BYTES;
    if (used > SHRINK_USED_BYTES_MAX || file < 4 * used + SHRINK_SPARE_BYTES_MIN) return false;
    this.read(() => {
      db.pragma('temp_store = MEMORY');
      db.exec('VACUUM');
      db.pragma('wal_checkpoint(TRUNCATE)');
    });
    return true;
  }

  walBytes(): number {
    return walBytes(this.#path);
  }

  /**
   * Bytes that must be evicted because pages are used up; 0: none.
   *
   * @param wantedBytes what the next commit is going to write
   */
  pageShortage(wantedBytes: number): number {
    const { usedBytes: used, allowedBytes } = this.diskUse();
    const roomPages = Math.floor((allowedBytes - used) / PAGE_BYTES);
    const wantedPages = Math.max(this.#pagesMax * 0.02, (wantedBytes * 1.1) / PAGE_BYTES);
    return roomPages >= wantedPages ? 0 : Math.ceil((wantedPages - roomPages + this.#pagesMax * 0.03) * PAGE_BYTES);
  }

  /** Counts anew what is counted in memory. */
  loadTotals(): void {
    const journal = this.sql.journalTotals.get() as { readings: number; bytes: number; rows: number };
    const batch = this.sql.batchTotals.get() as { batches: number; readings: number; exceptions: number; bytes: number };
    const keyLog = this.sql.keyLogBytes.get() as { bytes: number; snapshot: number };
    this.totals = {
      journalRows: journal.rows,
      journalReadings: journal.readings,
      journalBytes: journal.bytes,
      exceptions: (this.sql.exceptionCount.get() as { count: number }).count,
      batches: batch.batches,
      batchReadings: batch.readings,
      batchExceptions: batch.exceptions,
      batchBytes: batch.bytes,
      keyLogBytes: keyLog.bytes,
      keySnapshotBytes: keyLog.snapshot,
    };
  }

  /** What the database may have. */
  get bytesMax(): number {
    return this.#pagesMax * PAGE_BYTES;
  }

  get #pagesMax(): number {
    return databasePagesMax(this.#options.bufferBytesMax);
  }

  #loadOpenings(): void {
    this.#openings = new Map(this.sql.openings.all().map((row) => [row.id, row]));
  }

  #fail(error: unknown): never {
    const kind = failureKind(error);
    if (kind === 'other' || error instanceof SluiceError) throw error;
    this.#discard();
    if (isDiskFull(error)) this.#ballast.release();
    if (kind === 'damaged') {
      this.#open(true);
      this.#onReopened();
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

  /** The same opening goes on over a new connection. What the failed commit may have left goes first. */
  #reopen(): void {
    try {
      const db = connect(this.#path, { pagesMax: this.#pagesMax, check: false, growWal: this.#options.growWal });
      this.#db = db;
      this.#sql = prepareStatements(db);
      db.transaction(() => {
        this.sql.deleteJournalFrom.run(this.ids.journal);
        this.sql.deleteExceptionsFrom.run(this.ids.exception);
        this.sql.deleteKeysFrom.run(this.ids.keys);
        this.sql.deleteOutgoingFrom.run(this.ids.outgoing);
      }).immediate();
      this.ids = { ...this.ids, batch: (this.sql.nextIds.get() as Ids).batch };
      this.seriesStored = this.sql.seriesOf.all(this.opening).length;
      this.loadTotals();
      this.counters.reopened++;
    } catch (error) {
      this.#discard();
      if (failureKind(error) !== 'damaged') throw asSluiceError(error);
      this.#open(true);
    }
  }

  /** A new opening: at the start of the process, or after the file was found damaged. */
  #open(damaged: boolean): void {
    const { clock, randomHex, directory } = this.#options;
    const before = this.opening;
    this.#unopened = true;
    if (damaged) this.counters.quarantined++;
    const { db, gaps, walMended } = openStore({
      directory,
      pagesMax: this.#pagesMax,
      growWal: this.#options.growWal,
      nowUs: clock.nowUs(),
      damaged,
      bounds: this.bounds,
    });
    if (walMended) this.counters.walsMended++;
    try {
      const sql = prepareStatements(db);
      const epoch = randomHex(16);
      const ids = sql.nextIds.get() as Ids;
      const opening = Math.max(before, sql.openings.all().at(-1)?.id ?? 0) + 1;
      db.transaction(() => {
        const monotonicUs = clock.monotonicUs();
        const boot = clock.boot ?? null;
        // An earlier opening of this boot may know what this one does not yet.
        const recalledUs = boot === null ? undefined : sql.openings.all().findLast((row) => row.boot === boot)?.offset_us;
        const offsetUs = this.clockKnown ? (clock.offsetUs ?? clock.nowUs() - monotonicUs) : (recalledUs ?? null);
        sql.insertOpening.run(opening, epoch, clock.nowUs(), offsetUs, boot, monotonicUs, monotonicUs);
        for (const record of gaps) insertException(sql, ids.exception++, opening, clock.monotonicUs(), record, null);
      }).immediate();
      this.#db = db;
      this.#sql = sql;
      this.#epoch = epoch;
      this.ids = ids;
      this.opening = opening;
      this.seriesStored = 0;
      this.#loadOpenings();
      this.#lakeId = sql.getMeta.get('lakeId')?.value ?? this.#lakeId;
      this.loadTotals();
    } catch (error) {
      db.close();
      this.#db = null;
      throw asSluiceError(error);
    }
    // Rows of this very process whose series the damage took are still named in memory.
    if (before > 0) this.#olderSeries.set(before, new Map(this.series.entries()));
    this.#unopened = false;
  }
}
