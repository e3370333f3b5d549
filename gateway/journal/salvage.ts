/**
 * What happens to a damaged journal: it is moved aside whole, a fresh one is opened, and everything in the old file that
 * can still be read and proves itself (checksums) is carried over. The process starts in any case (invariant 9).
 *
 * Layout: `quarantine/<time>/journal.db[-wal][-shm][-wal.damaged]`, the newest QUARANTINES_MAX kept. A crash while moving leaves some of
 * the three files moved: a database without its WAL opens as what was checkpointed, a WAL without its database is moved
 * aside at the next opening. A crash while salvaging leaves a fresh journal that is only partly filled; therefore all of
 * the salvage is one transaction, and until it has committed a marker makes the next opening take it up again.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import Database from 'better-sqlite3';
import { ByteReader } from './bytes.ts';
import { encodeTombstone, insertBatch, isWhole } from './batch-store.ts';
import type { Connection, Statement } from './database.ts';
import { insertException } from './pending-exceptions.ts';
import { OLD_BATCH_TABLE } from './schema.ts';
import type { OutgoingRow, RetainedRow, SubscriptionRow } from './sessions.ts';
import {
  prepareStatements,
  type BatchRow,
  type ExceptionRow,
  type JournalRow,
  type LaneRow,
  type OpeningRow,
  type SeriesRow,
  type Statements,
} from './statements.ts';

export const DATABASE_NAME = 'journal.db';
/** The original of a WAL that could be mended in part (wal-repair.ts) goes with the rest. */
const SUFFIXES = ['', '-wal', '-shm', '-wal.damaged'];
const QUARANTINE_NAME = 'quarantine';
const QUARANTINES_MAX = 2;
const PENDING_NAME = 'salvage-pending';
/** Holes in a lane that are filled by tombstones; a lane with more has lost its file, not a page. */
const TOMBSTONES_MAX = 10_000;

/** Moves the database aside. @returns the folder */
export function quarantine(directory: string, nowUs: number): string {
  const root = path.join(directory, QUARANTINE_NAME);
  mkdirSync(root, { recursive: true });
  let folder = path.join(root, new Date(nowUs / 1000).toISOString().replaceAll(':', '-'));
  for (let again = 2; existsSync(folder); again++) folder = `${folder.replace(/~\d+$/, '')}~${again}`;
  mkdirSync(folder);
  writeFileSync(path.join(folder, PENDING_NAME), '');
  for (const suffix of SUFFIXES) {
    const from = path.join(directory, `${DATABASE_NAME}${suffix}`);
    if (existsSync(from)) renameSync(from, path.join(folder, `${DATABASE_NAME}${suffix}`));
  }
  // The newest last: an older one whose salvage never finished would be gone with it, so those are kept as well.
  const finished = readdirSync(root).filter((name) => !existsSync(path.join(root, name, PENDING_NAME)));
  for (const name of finished.sort().slice(0, Math.max(0, finished.length + 1 - QUARANTINES_MAX)))
    rmSync(path.join(root, name), { recursive: true, force: true });
  return folder;
}

/** Folders whose salvage has not been committed, oldest first. */
export function pendingSalvages(directory: string): string[] {
  const root = path.join(directory, QUARANTINE_NAME);
  if (!existsSync(root)) return [];
  return readdirSync(root)
    .sort()
    .map((name) => path.join(root, name))
    .filter((folder) => existsSync(path.join(folder, PENDING_NAME)));
}

export function finishSalvage(folder: string): void {
  rmSync(path.join(folder, PENDING_NAME), { force: true });
}

export interface SalvageReport {
  batches: number;
  journalRows: number;
  readings: number;
  damagedBatches: number;
  damagedJournalRows: number;
}

/** All rows that can be read: upwards until an error, then downwards from the other end. */
function* readable<R extends object>(old: Connection, table: string, order: string): Generator<R> {
  const seen = new Set<string>();
  const keyOf = (row: R): string =>
    order
      .split(', ')
      .map((column) => String((row as Record<string, unknown>)[column]))
      .join('/');
  for (const direction of ['ASC', 'DESC']) {
    const sorted = order
      .split(', ')
      .map((column) => `${column} ${direction}`)
      .join(', ');
    try {
      for (const row of old.prepare<[], R>(`SELECT * FROM ${table} ORDER BY ${sorted}`).iterate()) {
        const key = keyOf(row);
        if (direction === 'DESC' && seen.has(key)) return;
        seen.add(key);
        yield row;
      }
      return;
    } catch {
      // Damage ends this direction; what lies between is what the gap stands for.
    }
  }
}

/** One row of salvage: what SQLite refuses (a type that damage changed, a key twice) is lost, and the gap says so. */
function attempt(insert: () => void): boolean {
  try {
    insert();
    return true;
  } catch (error) {
    if (error instanceof Database.SqliteError && /^SQLITE_(FULL|IOERR)/.test(error.code)) throw error;
    return false;
  }
}

/** Fills the fresh journal `db` from the quarantined file. Runs inside the caller's transaction. */
export function salvage(db: Connection, folder: string, nowUs: number): SalvageReport {
  const report = { batches: 0, journalRows: 0, readings: 0, damagedBatches: 0, damagedJournalRows: 0 };
  const file = path.join(folder, DATABASE_NAME);
  let old: Connection;
  try {
    if (statSync(file).size === 0) return report;
    old = new Database(file, { fileMustExist: true, timeout: 0 });
  } catch {
    return report; // nothing that SQLite recognises: all of it is the gap
  }
  try {
    const sql = prepareStatements(db);
    salvageNames(old, sql);
    salvageBatches(old, sql, report);
    salvageJournal(old, sql, report);
    fillLanes(old, sql, nowUs);
    return report;
  } finally {
    try {
      old.close();
    } catch {
      // It is a damaged file that nobody writes.
    }
  }
}

function salvageNames(old: Connection, sql: Statements): void {
  for (const row of readable<{ key: string; value: string }>(old, 'meta', 'key')) {
    if (row.key === 'lakeId') attempt(() => sql.setMeta.run(row.key, row.value));
  }
  for (const row of readable<OpeningRow>(old, 'opening', 'id'))
    attempt(() =>
      sql.insertOpening.run(row.id, row.epoch, row.wall_us, row.offset_us, row.boot ?? null, row.start_us ?? null, row.alive_us ?? null),
    );
  for (const row of readable<SeriesRow & { opening: number }>(old, 'series', 'opening, id')) {
    attempt(() => sql.insertSeries.run(row.opening, row.id, row.device, row.metric, row.tags, row.priority ?? 0));
  }
  for (const row of readable<{ id: number; body: Buffer }>(old, 'key_log', 'id')) {
    attempt(() => {
      void new ByteReader(row.body);
      sql.insertKeys.run(row.id, row.body);
    });
  }
  salvageSessions(old, sql);
  for (const row of readable<{ reason: string; readings: number; batches: number }>(old, 'loss', 'reason')) {
    attempt(() => sql.addLoss.run(row.reason, row.readings, row.batches));
  }
}

function salvageSessions(old: Connection, sql: Statements): void {
  for (const { topic, qos, payload } of readable<RetainedRow>(old, 'retained', 'topic'))
    attempt(() => sql.setRetained.run(topic, qos, payload));
  for (const { client, filter, qos } of readable<SubscriptionRow>(old, 'subscription', 'client, filter'))
    attempt(() => sql.setSubscription.run(client, filter, qos));
  for (const row of readable<OutgoingRow & { message_id: number | null }>(old, 'outgoing', 'id'))
    attempt(() => sql.insertOutgoing.run(row.id, row.client, row.topic, row.qos, row.payload, row.message_id, row.released));
}

/** Batches as version 1 has them (body and head in one row), and as version 2 has them; after a crash in a move there are both. */
function* oldBatches(old: Connection): Generator<BatchRow> {
  const defaults = { priority: 0, thinned: 0 };
  for (const table of [OLD_BATCH_TABLE, 'batch']) {
    const bodyOf = bodiesOf(old, table);
    for (const row of readable<BatchRow>(old, table, 'id'))
      yield { ...defaults, ...row, body: bodyOf === null ? row.body : bodyOf(row.id) };
  }
}

/** @returns null where the row has its body itself */
function bodiesOf(old: Connection, table: string): ((id: number) => Buffer | null) | null {
  if (table === OLD_BATCH_TABLE) return null;
  let statement: Statement<[number], { body: Buffer }>;
  try {
    statement = old.prepare<[number], { body: Buffer }>('SELECT body FROM batch_body WHERE id = ?');
  } catch {
    return null; // a file of version 1, or one whose schema is gone
  }
  return (id) => {
    try {
      return statement.get(id)?.body ?? null;
    } catch {
      return null; // the page is damaged: without its body the head is a loss that is counted
    }
  };
}

function salvageBatches(old: Connection, sql: Statements, report: SalvageReport): void {
  for (const row of oldBatches(old)) {
    if (!isWhole(row) || !attempt(() => insertBatch(sql, row.id, row, row.body))) {
      report.damagedBatches++;
      continue;
    }
    report.batches++;
    report.readings += row.readings;
  }
}

function salvageJournal(old: Connection, sql: Statements, report: SalvageReport): void {
  for (const row of readable<JournalRow>(old, 'journal', 'id')) {
    const kept = attempt(() => {
      void new ByteReader(row.body);
      sql.insertJournal.run(row.id, row.opening, row.arrival_us, row.readings, row.body);
    });
    if (kept) {
      report.journalRows++;
      report.readings += row.readings;
    } else {
      report.damagedJournalRows++;
    }
  }
  for (const row of readable<ExceptionRow>(old, 'exception', 'id')) {
    const { kind, device, metric, reason, payload } = row;
    if (!['gap', 'dead_letter', 'quarantined'].includes(kind) || typeof reason !== 'string') continue;
    const record = {
      kind,
      device,
      metric,
      fromUs: row.from_us ?? NaN,
      toUs: row.to_us ?? NaN,
      readingCount: row.readings,
      reason,
      payload,
    };
    attempt(() => insertException(sql, row.id, row.opening, row.arrival_us, record, null));
  }
}

/** Lanes with their `assigned`; what misses below it gets a tombstone, so that a lane has no holes. */
function fillLanes(old: Connection, sql: Statements, nowUs: number): void {
  const assignedOf = new Map<string, LaneRow>();
  const keep = (row: LaneRow): void => {
    const key = `${row.epoch}/${row.lane}`;
    if ((assignedOf.get(key)?.assigned ?? 0) < row.assigned) assignedOf.set(key, row);
  };
  for (const row of readable<LaneRow>(old, 'lane', 'epoch, lane')) {
    if (
      /^[0-9a-f]{32}$/.test(row.epoch) &&
      (row.lane === 'live' || row.lane === 'backfill') &&
      Number.isSafeInteger(row.assigned) &&
      row.assigned >= 0
    )
      keep(row);
  }
  for (const { epoch, lane } of sql.batchesByLane.all()) {
    if (epoch !== null && lane !== null) keep({ epoch, lane, assigned: sql.laneHighest.get(epoch, lane)?.seq ?? 0 });
  }
  for (const { epoch, lane, assigned } of assignedOf.values()) {
    sql.setLane.run(epoch, lane, assigned);
    const first = sql.laneFirst.get(epoch, lane)?.seq;
    if (first === undefined || first === null || assigned - first > TOMBSTONES_MAX) continue;
    for (let seq = first + 1; seq <= assigned; seq++) {
      if (sql.batchAt.get(epoch, lane, seq) !== undefined) continue;
      const tombstone = encodeTombstone({}, 'batch_corrupt', nowUs);
      const head = {
        epoch,
        lane,
        seq,
        readings: 0,
        exceptions: 1,
        arrival_from_us: nowUs,
        arrival_to_us: nowUs,
        event_from_us: nowUs,
        event_to_us: nowUs,
        priority: 0,
        thinned: 0,
      };
      insertBatch(sql, sql.nextIds.get()?.batch as number, head, tombstone.body);
    }
  }
}
