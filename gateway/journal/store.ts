/**
 * Opens the database whatever state it is in: a sound one as it is, a damaged one by moving it aside and carrying over
 * what can be read (salvage.ts).
 */
import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs';
import path from 'node:path';
import Database from 'better-sqlite3';
import { SluiceError } from '../../shared/errors.ts';
import type { ExceptionRecord } from '../../shared/exception.ts';
import { asSluiceError, connect, failureKind, PAGE_BYTES, type Connection } from './database.ts';
import type { EventBounds, EventRange } from './event-bounds.ts';
import { DATABASE_NAME, finishSalvage, pendingSalvages, quarantine, salvage, type SalvageReport } from './salvage.ts';
import { prepareStatements } from './statements.ts';
import { repairWal } from './wal-repair.ts';

export interface StoreOptions {
  readonly directory: string;
  readonly pagesMax: number;
  readonly growWal: boolean;
  readonly nowUs: number;
  /** The caller found damage: do not even try. */
  readonly damaged: boolean;
  /** Where the event times of what is lost can lie. */
  readonly bounds: EventBounds;
}

export interface Store {
  readonly db: Connection;
  /** What damage took, to be recorded by the opening that follows. */
  readonly gaps: readonly ExceptionRecord[];
  /** The WAL was damaged and nothing of it is missing. */
  readonly walMended: boolean;
}

/** @throws SluiceError ERR_JOURNAL_VERSION, ERR_JOURNAL_LOCKED, ERR_JOURNAL_UNAVAILABLE */
export function openStore(options: StoreOptions): Store {
  const { directory, nowUs, pagesMax, growWal } = options;
  const file = path.join(directory, DATABASE_NAME);
  // A WAL without a database, or with one of no bytes, is half of a crash while moving aside, or damage: SQLite would delete it.
  let damaged = options.damaged || ((statSync(file, { throwIfNoEntry: false })?.size ?? 0) === 0 && existsSync(`${file}-wal`));
  // Before SQLite opens it: the first thing that a new connection does is to forget what it cannot read.
  const wal = damaged ? ('sound' as const) : mendWal(file);
  damaged ||= wal === 'damaged';
  let db: Connection | null = null;
  if (!damaged) {
    try {
      db = connect(file, { pagesMax, check: true, growWal });
      prepareStatements(db); // a schema that lost a table or a column shows here
      db.prepare('SELECT (SELECT max(id) FROM journal), (SELECT max(id) FROM batch), (SELECT count(*) FROM lane)').get();
    } catch (error) {
      db?.close();
      db = null;
      if (isNotDamage(error)) throw asSluiceError(error);
    }
  }
  if (db === null) {
    quarantine(directory, nowUs);
    try {
      db = connect(file, { pagesMax, check: false, growWal });
    } catch (error) {
      throw asSluiceError(error);
    }
  }
  return { db, gaps: takeUpSalvages(db, options), walMended: wal === 'mended' };
}

function mendWal(file: string): ReturnType<typeof repairWal> {
  if (!existsSync(`${file}-wal`) && !existsSync(`${file}-wal.damaged`)) return 'sound';
  try {
    // Mending the WAL under a gateway that runs would be the damage itself.
    if (isLocked(file)) return 'sound';
    return repairWal(`${file}-wal`, pageBytesOf(file));
  } catch (error) {
    throw asSluiceError(error);
  }
}

/** A look at a file that another process has open for itself alone fails; opening it for reading writes and forgets nothing. */
function isLocked(file: string): boolean {
  let db: Connection | null = null;
  try {
    db = new Database(file, { readonly: true, fileMustExist: true, timeout: 0 });
    db.prepare('SELECT 1 FROM sqlite_master').get();
    return false;
  } catch (error) {
    return failureKind(error) === 'locked';
  } finally {
    db?.close();
  }
}

/** As the header of the database says, which an older version may have made with other pages. */
function pageBytesOf(file: string): number {
  const handle = openSync(file, 'r');
  try {
    const field = Buffer.alloc(2);
    readSync(handle, field, 0, 2, 16);
    const bytes = field.readUInt16BE(0);
    return bytes >= 512 && Number.isInteger(Math.log2(bytes)) ? bytes : PAGE_BYTES;
  } finally {
    closeSync(handle);
  }
}

function isNotDamage(error: unknown): boolean {
  if (error instanceof SluiceError) return true;
  const kind = failureKind(error);
  // A file that ends before its pages do, or is shorter than its header says, answers with a short read.
  const short = error instanceof Error && 'code' in error && error.code === 'SQLITE_IOERR_SHORT_READ';
  return (kind === 'unavailable' && !short) || kind === 'locked';
}

function takeUpSalvages(db: Connection, { directory, nowUs, bounds }: StoreOptions): ExceptionRecord[] {
  const gaps: ExceptionRecord[] = [];
  const sql = prepareStatements(db);
  for (const folder of pendingSalvages(directory)) {
    const done = `salvaged:${path.basename(folder)}`;
    if (sql.getMeta.get(done) === undefined) {
      try {
        db.transaction(() => {
          const report = salvage(db, folder, nowUs);
          sql.setMeta.run(done, new Date(nowUs / 1000).toISOString());
          gaps.push(gapOf(report, bounds.range(nowUs)));
        }).immediate();
      } catch (error) {
        throw asSluiceError(error);
      }
    }
    finishSalvage(folder);
  }
  return gaps;
}

/** How many readings the damage took, and of whom, cannot be known; between which event times they lie, the bounds say. */
function gapOf(report: SalvageReport, { fromUs, toUs }: EventRange): ExceptionRecord {
  const kept = `${report.batches} batches and ${report.journalRows} groups kept`;
  const lost = `${report.damagedBatches} batches and ${report.damagedJournalRows} groups seen damaged`;
  return {
    kind: 'gap',
    device: null,
    metric: null,
    fromUs,
    toUs,
    readingCount: null,
    reason: `journal_corrupt: ${kept}, ${lost}`,
    payload: null,
  };
}
