/**
 * The journal's tables, and the steps by which an older file becomes a newer one.
 *
 * Constraints: migration n brings user_version from n to n + 1 in one transaction; append only. A migration that has to move
 * what may be as large as the whole buffer leaves that to `moveBatches`, in steps that need no room beside the buffer.
 *
 * A crash leaves the version before or after a migration, or, in a move, some rows in the old table and the others in the new:
 * the next opening goes on. Nothing uses the journal before a move is complete.
 *
 * Layout: database and WAL. `journal` has groups as they came, `exception` what is to go into a batch beside them, `batch` and
 * `batch_body` what is sealed: a body is written once, what changes about a batch (its place) is in its head. `retained`,
 * `subscription` and `outgoing` are the broker's (sessions.ts).
 */
import type Database from 'better-sqlite3';

export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
  -- One row per opening: its monotonic clock is its own, wall = monotonic + offset_us once the wall clock is known.
  CREATE TABLE opening (id INTEGER PRIMARY KEY, epoch TEXT NOT NULL, wall_us INTEGER NOT NULL, offset_us INTEGER);
  CREATE TABLE series (opening INTEGER NOT NULL, id INTEGER NOT NULL, device TEXT NOT NULL, metric TEXT NOT NULL, tags TEXT NOT NULL,
    PRIMARY KEY (opening, id)) WITHOUT ROWID;
  -- One row per group commit.
  CREATE TABLE journal (id INTEGER PRIMARY KEY, opening INTEGER NOT NULL, arrival_us INTEGER NOT NULL, readings INTEGER NOT NULL, body BLOB NOT NULL);
  -- Exceptions that no batch carries yet. arrival_us is monotonic time of the opening; merge: what further ones are added to.
  CREATE TABLE exception (id INTEGER PRIMARY KEY, opening INTEGER NOT NULL, arrival_us INTEGER NOT NULL, kind TEXT NOT NULL, device TEXT, metric TEXT,
    from_us INTEGER, to_us INTEGER, readings INTEGER, reason TEXT NOT NULL, payload BLOB, merge TEXT, merged INTEGER NOT NULL DEFAULT 1);
  -- epoch, lane and seq are null until the batch is offered for the first time.
  CREATE TABLE batch (id INTEGER PRIMARY KEY, epoch TEXT, lane TEXT, seq INTEGER, readings INTEGER NOT NULL, exceptions INTEGER NOT NULL,
    arrival_from_us INTEGER NOT NULL, arrival_to_us INTEGER NOT NULL, event_from_us INTEGER NOT NULL, event_to_us INTEGER NOT NULL,
    bytes INTEGER NOT NULL, checksum INTEGER NOT NULL, body BLOB NOT NULL);
  CREATE UNIQUE INDEX batch_position ON batch (epoch, lane, seq);
  CREATE TABLE lane (epoch TEXT NOT NULL, lane TEXT NOT NULL, assigned INTEGER NOT NULL, PRIMARY KEY (epoch, lane)) WITHOUT ROWID;
  -- id 0: the snapshot; the others: one blob per commit since.
  CREATE TABLE key_log (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
  CREATE TABLE loss (reason TEXT PRIMARY KEY, readings INTEGER NOT NULL, batches INTEGER NOT NULL) WITHOUT ROWID;
  `,
  // Giving a batch its place wrote its body a second time: now the body is in a table of its own.
  `
  DROP INDEX batch_position;
  ALTER TABLE batch RENAME TO batch_v1;
  -- priority: of the topic rule; the highest is thinned and evicted last. thinned: 1 when thinning has nothing more to take.
  CREATE TABLE batch (id INTEGER PRIMARY KEY, epoch TEXT, lane TEXT, seq INTEGER, readings INTEGER NOT NULL, exceptions INTEGER NOT NULL,
    arrival_from_us INTEGER NOT NULL, arrival_to_us INTEGER NOT NULL, event_from_us INTEGER NOT NULL, event_to_us INTEGER NOT NULL,
    bytes INTEGER NOT NULL, checksum INTEGER NOT NULL, priority INTEGER NOT NULL DEFAULT 0, thinned INTEGER NOT NULL DEFAULT 0);
  CREATE UNIQUE INDEX batch_position ON batch (epoch, lane, seq);
  CREATE TABLE batch_body (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
  ALTER TABLE series ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
  `,
  // Openings of one boot share its monotonic clock: what one of them learns of the wall clock holds for all.
  `
  -- start_us, alive_us: monotonic time at the start and when it was last noted to be running.
  ALTER TABLE opening ADD COLUMN boot TEXT;
  ALTER TABLE opening ADD COLUMN start_us INTEGER;
  ALTER TABLE opening ADD COLUMN alive_us INTEGER;
  `,
  // What the broker keeps (sessions.ts).
  `
  CREATE TABLE retained (topic TEXT PRIMARY KEY, qos INTEGER NOT NULL, payload BLOB NOT NULL);
  CREATE TABLE subscription (client TEXT NOT NULL, filter TEXT NOT NULL, qos INTEGER NOT NULL, PRIMARY KEY (client, filter)) WITHOUT ROWID;
  CREATE TABLE outgoing (id INTEGER PRIMARY KEY, client TEXT NOT NULL, topic TEXT NOT NULL, qos INTEGER NOT NULL, payload BLOB NOT NULL,
    message_id INTEGER, released INTEGER NOT NULL DEFAULT 0);
  `,
];

export const SCHEMA_VERSION = MIGRATIONS.length;

/** The table that version 1 kept batches in, while some are still there. */
export const OLD_BATCH_TABLE = 'batch_v1';
/** Bytes of bodies in one transaction, so that a step needs no more WAL than the usual commit of a large batch. */
const MOVE_BYTES_MAX = 256 * 1024;
const COLUMNS = 'id, epoch, lane, seq, readings, exceptions, arrival_from_us, arrival_to_us, event_from_us, event_to_us, bytes, checksum';

interface OldRow {
  readonly id: number;
  readonly body: Buffer;
}

/**
 * Moves batches of version 1 to where version 2 has them. Each step deletes before it inserts, so that it takes the pages that
 * it gives back: a full buffer on a full disk can be moved.
 */
export function moveBatches(db: Database.Database): void {
  const exists = db.prepare('SELECT 1 FROM sqlite_master WHERE name = ?');
  if (exists.get(OLD_BATCH_TABLE) === undefined) return;
  const first = db.prepare<[], OldRow>(`SELECT id, body FROM ${OLD_BATCH_TABLE} ORDER BY id LIMIT 1`);
  const copyHead = db.prepare<[number]>(`INSERT INTO batch (${COLUMNS}) SELECT ${COLUMNS} FROM ${OLD_BATCH_TABLE} WHERE id = ?`);
  const remove = db.prepare<[number]>(`DELETE FROM ${OLD_BATCH_TABLE} WHERE id = ?`);
  const insertBody = db.prepare<[number, Buffer]>('INSERT INTO batch_body (id, body) VALUES (?, ?)');
  let more = true;
  while (more) {
    db.transaction(() => {
      for (let bytes = 0; more && bytes < MOVE_BYTES_MAX;) {
        const row = first.get();
        more = row !== undefined;
        if (row === undefined) break;
        copyHead.run(row.id);
        remove.run(row.id);
        insertBody.run(row.id, row.body);
        bytes += row.body.length;
      }
    }).immediate();
  }
  db.exec(`DROP TABLE ${OLD_BATCH_TABLE}`);
}
