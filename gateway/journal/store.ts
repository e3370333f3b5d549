/**
 * Opens the database whatever state it is in: a sound one as it is, a damaged one by moving it aside and carrying over
 * what can be read (salvage.ts).
 */
import { existsSync, statSync } from 'node:fs';
import path from 'node:path';
import { SluiceError } from '../../shared/errors.ts';
import type { ExceptionRecord } from '../../shared/exception.ts';
import { asSluiceError, connect, failureKind, PAGE_BYTES, type Connection } from './database.ts';
import { DATABASE_NAME, finishSalvage, pendingSalvages, quarantine, salvage, type SalvageReport } from './salvage.ts';
import { prepareStatements } from './statements.ts';
import { isWalDamaged } from './wal-check.ts';

export interface StoreOptions {
  readonly directory: string;
  readonly pagesMax: number;
  readonly nowUs: number;
  /** The caller found damage: do not even try. */
  readonly damaged: boolean;
}

export interface Store {
  readonly db: Connection;
  /** What damage took, to be recorded by the opening that follows. */
  readonly gaps: readonly ExceptionRecord[];
}

/** @throws SluiceError ERR_JOURNAL_VERSION, ERR_JOURNAL_LOCKED, ERR_JOURNAL_UNAVAILABLE */
export function openStore(options: StoreOptions): Store {
  const { directory, nowUs, pagesMax } = options;
  const file = path.join(directory, DATABASE_NAME);
  // A WAL without a database, or with one of no bytes, is half of a crash while moving aside, or damage: SQLite would delete it.
  const damaged = options.damaged || ((statSync(file, { throwIfNoEntry: false })?.size ?? 0) === 0 && existsSync(`${file}-wal`));
  // Before SQLite opens it: the first thing that a new connection does is to forget what it cannot read.
  const walDamaged = !damaged && isWalDamaged(`${file}-wal`, PAGE_BYTES);
  let db: Connection | null = null;
  if (!damaged) {
    try {
      db = connect(file, { pagesMax, check: true });
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
      db = connect(file, { pagesMax, check: false });
    } catch (error) {
      throw asSluiceError(error);
    }
  }
  const gaps = takeUpSalvages(db, options);
  if (walDamaged) gaps.push(gapBehind(db, nowUs));
  return { db, gaps };
}

function isNotDamage(error: unknown): boolean {
  if (error instanceof SluiceError) return true;
  const kind = failureKind(error);
  // A file that ends before its pages do, or is shorter than its header says, answers with a short read.
  const short = error instanceof Error && 'code' in error && error.code === 'SQLITE_IOERR_SHORT_READ';
  return (kind === 'unavailable' && !short) || kind === 'locked';
}

function takeUpSalvages(db: Connection, { directory, nowUs }: StoreOptions): ExceptionRecord[] {
  const gaps: ExceptionRecord[] = [];
  const sql = prepareStatements(db);
  for (const folder of pendingSalvages(directory)) {
    const done = `salvaged:${path.basename(folder)}`;
    if (sql.getMeta.get(done) === undefined) {
      try {
        db.transaction(() => {
          const file = statSync(path.join(folder, DATABASE_NAME), { throwIfNoEntry: false });
          const report = salvage(db, folder, nowUs);
          sql.setMeta.run(done, new Date(nowUs / 1000).toISOString());
          gaps.push(gapOf(report, file === undefined ? nowUs : file.birthtimeMs * 1000, nowUs));
        }).immediate();
      } catch (error) {
        throw asSluiceError(error);
      }
    }
    finishSalvage(folder);
  }
  return gaps;
}

/** Groups behind the damage in a WAL arrived after everything that was kept. */
function gapBehind(db: Connection, nowUs: number): ExceptionRecord {
  const latest = db
    .prepare<[], { us: number }>(
      'SELECT max((SELECT coalesce(max(arrival_to_us), 0) FROM batch), (SELECT coalesce(max(wall_us), 0) FROM opening)) AS us',
    )
    .get();
  const fromUs = Math.min(latest?.us ?? 0, nowUs - 1);
  return {
    kind: 'gap',
    device: null,
    metric: null,
    fromUs,
    toUs: nowUs,
    readingCount: null,
    reason: 'journal_corrupt: wal',
    payload: null,
  };
}

/** How many readings the damage took cannot be known; when they arrived: after the oldest that were there, or the file's birth. */
function gapOf(report: SalvageReport, bornUs: number, nowUs: number): ExceptionRecord {
  const fromUs = Math.floor(Math.min(report.oldestUs ?? bornUs, nowUs - 1));
  const kept = `${report.batches} batches and ${report.journalRows} groups kept`;
  const lost = `${report.damagedBatches} batches and ${report.damagedJournalRows} groups seen damaged`;
  return {
    kind: 'gap',
    device: null,
    metric: null,
    fromUs,
    toUs: nowUs,
    readingCount: null,
    reason: `journal_corrupt: ${kept}, ${lost}`,
    payload: null,
  };
}
