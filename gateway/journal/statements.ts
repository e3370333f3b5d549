/** The journal's rows and the statements that touch them, prepared once per connection. */
import type { ExceptionKind } from '../../shared/exception.ts';
import type { LaneName } from '../../shared/uplink.ts';
import type { Connection, Statement } from './database.ts';
import type { OutgoingRow, RetainedRow, SubscriptionRow } from './sessions.ts';

export interface JournalRow {
  readonly id: number;
  readonly opening: number;
  readonly arrival_us: number;
  readonly readings: number;
  readonly body: Buffer;
}

export interface ExceptionRow {
  readonly id: number;
  readonly opening: number;
  readonly arrival_us: number;
  readonly kind: ExceptionKind;
  readonly device: string | null;
  readonly metric: string | null;
  readonly from_us: number | null;
  readonly to_us: number | null;
  readonly readings: number | null;
  readonly reason: string;
  readonly payload: Buffer | null;
  readonly merge: string | null;
  readonly merged: number;
}

export interface BatchRow {
  readonly id: number;
  readonly epoch: string | null;
  readonly lane: LaneName | null;
  readonly seq: number | null;
  readonly readings: number;
  readonly exceptions: number;
  readonly arrival_from_us: number;
  readonly arrival_to_us: number;
  readonly event_from_us: number;
  readonly event_to_us: number;
  readonly bytes: number;
  readonly checksum: number;
  readonly priority: number;
  /** 1: thinning has nothing more to take from it. */
  readonly thinned: number;
  /** null: damage took it. */
  readonly body: Buffer | null;
}

/** A batch without its body: what eviction and totals need. */
export type BatchHead = Omit<BatchRow, 'body'>;

export interface OpeningRow {
  readonly id: number;
  readonly epoch: string;
  readonly wall_us: number;
  readonly offset_us: number | null;
  /** The three are null where version 2 or an unknown boot wrote the row. */
  readonly boot: string | null;
  readonly start_us: number | null;
  readonly alive_us: number | null;
}

export interface SeriesRow {
  readonly id: number;
  readonly device: string;
  readonly metric: string;
  readonly tags: string;
  readonly priority: number;
}

export interface LaneRow {
  readonly epoch: string;
  readonly lane: LaneName;
  readonly assigned: number;
}

const BATCH_HEAD =
  'id, epoch, lane, seq, readings, exceptions, arrival_from_us, arrival_to_us, event_from_us, event_to_us, bytes, checksum, priority, thinned';
const BATCH_WITH_BODY = `SELECT batch.*, batch_body.body FROM batch LEFT JOIN batch_body ON batch_body.id = batch.id`;
const UNASSIGNED = 'epoch IS NULL AND lane IS NULL AND seq IS NULL';

export type Statements = ReturnType<typeof prepareStatements>;

export function prepareStatements(db: Connection) {
  const prepare = <P extends unknown[], R = unknown>(sql: string): Statement<P, R> => db.prepare<P, R>(sql);
  return {
    insertSeries: prepare<[number, number, string, string, string, number]>(
      'INSERT INTO series (opening, id, device, metric, tags, priority) VALUES (?, ?, ?, ?, ?, ?)',
    ),
    seriesOf: prepare<[number], SeriesRow>('SELECT id, device, metric, tags, priority FROM series WHERE opening = ?'),
    dropSeries: prepare<[number]>('DELETE FROM series WHERE opening <> ?'),

    insertJournal: prepare<[number, number, number, number, Uint8Array]>(
      'INSERT INTO journal (id, opening, arrival_us, readings, body) VALUES (?, ?, ?, ?, ?)',
    ),
    journalFrom: prepare<[number], JournalRow>('SELECT * FROM journal WHERE id > ? ORDER BY id LIMIT 1'),
    journalTotals: prepare<[], { readings: number; bytes: number; rows: number }>(
      'SELECT coalesce(sum(readings), 0) AS readings, coalesce(sum(length(body)), 0) AS bytes, count(*) AS rows FROM journal',
    ),
    journalOldest: prepare<[], { opening: number; arrival_us: number }>('SELECT opening, arrival_us FROM journal ORDER BY id LIMIT 1'),
    deleteJournalTo: prepare<[number]>('DELETE FROM journal WHERE id <= ?'),
    deleteJournalFrom: prepare<[number]>('DELETE FROM journal WHERE id >= ?'),

    insertException: prepare<
      [
        number,
        number,
        number,
        string,
        string | null,
        string | null,
        number | null,
        number | null,
        number | null,
        string,
        Uint8Array | null,
        string | null,
        number,
      ]
    >(
      'INSERT INTO exception (id, opening, arrival_us, kind, device, metric, from_us, to_us, readings, reason, payload, merge, merged) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
    ),
    mergeTarget: prepare<[string], ExceptionRow>('SELECT * FROM exception WHERE merge = ? ORDER BY id DESC LIMIT 1'),
    updateMerged: prepare<[string | null, string | null, number | null, number | null, number | null, number, number]>(
      'UPDATE exception SET device = ?, metric = ?, from_us = ?, to_us = ?, readings = ?, merged = ? WHERE id = ?',
    ),
    exceptionsFirst: prepare<[number], ExceptionRow>('SELECT * FROM exception ORDER BY id LIMIT ?'),
    exceptionOldest: prepare<[], { opening: number; arrival_us: number }>('SELECT opening, arrival_us FROM exception ORDER BY id LIMIT 1'),
    exceptionCount: prepare<[], { count: number }>('SELECT count(*) AS count FROM exception'),
    deleteExceptionsTo: prepare<[number]>('DELETE FROM exception WHERE id <= ?'),
    deleteExceptionsFrom: prepare<[number]>('DELETE FROM exception WHERE id >= ?'),

    insertBatch: prepare<
      [number, string | null, string | null, number | null, number, number, number, number, number, number, number, number, number, number]
    >(`INSERT INTO batch (${BATCH_HEAD}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`),
    insertBody: prepare<[number, Uint8Array]>('INSERT OR REPLACE INTO batch_body (id, body) VALUES (?, ?)'),
    batchesAfter: prepare<[string, string, number], BatchRow>(
      `${BATCH_WITH_BODY} WHERE epoch = ? AND lane = ? AND seq > ? ORDER BY seq LIMIT 1`,
    ),
    unassignedAfter: prepare<[number], BatchRow>(`${BATCH_WITH_BODY} WHERE ${UNASSIGNED} AND batch.id > ? ORDER BY batch.id LIMIT 1`),
    /** Sealed so recently that it is live. */
    freshAfter: prepare<[number, number], BatchRow>(
      `${BATCH_WITH_BODY} WHERE ${UNASSIGNED} AND batch.id > ? AND arrival_to_us >= ? ORDER BY batch.id LIMIT 1`,
    ),
    lowestPriority: prepare<[], { priority: number | null }>(`SELECT min(priority) AS priority FROM batch WHERE ${UNASSIGNED}`),
    evictableAfter: prepare<[number, number], BatchRow>(
      `${BATCH_WITH_BODY} WHERE ${UNASSIGNED} AND priority = ? AND batch.id > ? ORDER BY batch.id LIMIT 1`,
    ),
    /** Priorities of which something has not been thinned, the lowest first. */
    thinnable: prepare<[], { priority: number }>(
      `SELECT DISTINCT priority FROM batch WHERE ${UNASSIGNED} AND thinned = 0 ORDER BY priority`,
    ),
    thinnableAfter: prepare<[number, number], BatchRow>(
      `${BATCH_WITH_BODY} WHERE ${UNASSIGNED} AND thinned = 0 AND priority = ? AND batch.id > ? ORDER BY batch.id LIMIT 1`,
    ),
    batchById: prepare<[number], BatchRow>(`${BATCH_WITH_BODY} WHERE batch.id = ?`),
    /** Small ones that are backlog, oldest first: priority, readings below, bytes below, arrived before, limit. */
    smallHeads: prepare<[number, number, number, number, number], { id: number; readings: number; bytes: number }>(
      `SELECT id, readings, bytes FROM batch WHERE ${UNASSIGNED} AND thinned = 0 AND priority = ? AND readings < ? AND bytes < ? AND arrival_to_us < ? ORDER BY id LIMIT ?`,
    ),
    setThinned: prepare<[number]>('UPDATE batch SET thinned = 1 WHERE id = ?'),
    unassignedOldest: prepare<[], BatchHead>(`SELECT ${BATCH_HEAD} FROM batch WHERE ${UNASSIGNED} ORDER BY id LIMIT 1`),
    assign: prepare<[string, string, number, number, number]>('UPDATE batch SET epoch = ?, lane = ?, seq = ?, checksum = ? WHERE id = ?'),
    replaceHead: prepare<[number, number, number, number, number]>(
      'UPDATE batch SET readings = ?, exceptions = ?, bytes = ?, checksum = ? WHERE id = ?',
    ),
    deleteBatch: prepare<[number]>('DELETE FROM batch WHERE id = ?'),
    deleteBody: prepare<[number]>('DELETE FROM batch_body WHERE id = ?'),
    laneFirst: prepare<[string, string], BatchHead>(
      `SELECT ${BATCH_HEAD} FROM batch WHERE epoch = ? AND lane = ? AND seq IS NOT NULL ORDER BY seq LIMIT 1`,
    ),
    laneHighest: prepare<[string, string], { seq: number }>(
      'SELECT seq FROM batch WHERE epoch = ? AND lane = ? AND seq IS NOT NULL ORDER BY seq DESC LIMIT 1',
    ),
    batchAt: prepare<[string, string, number], { id: number }>('SELECT id FROM batch WHERE epoch = ? AND lane = ? AND seq = ?'),
    laneTotals: prepare<[string, string, number], { batches: number; readings: number; exceptions: number; bytes: number }>(
      'SELECT count(*) AS batches, coalesce(sum(readings), 0) AS readings, coalesce(sum(exceptions), 0) AS exceptions, coalesce(sum(bytes), 0) AS bytes FROM batch WHERE epoch = ? AND lane = ? AND seq <= ?',
    ),
    freeBodies: prepare<[string, string, number]>(
      'DELETE FROM batch_body WHERE id IN (SELECT id FROM batch WHERE epoch = ? AND lane = ? AND seq <= ?)',
    ),
    freeLane: prepare<[string, string, number]>('DELETE FROM batch WHERE epoch = ? AND lane = ? AND seq <= ?'),
    batchTotals: prepare<[], { batches: number; readings: number; exceptions: number; bytes: number }>(
      'SELECT count(*) AS batches, coalesce(sum(readings), 0) AS readings, coalesce(sum(exceptions), 0) AS exceptions, coalesce(sum(bytes), 0) AS bytes FROM batch',
    ),
    unassignedTotals: prepare<[], object>(
      `SELECT count(*) AS batches, coalesce(sum(readings), 0) AS readings, coalesce(sum(bytes), 0) AS bytes,
        coalesce(sum(thinned), 0) AS thinnedBatches, min(arrival_from_us) AS oldestUs FROM batch WHERE ${UNASSIGNED}`,
    ),
    batchesByLane: prepare<[], { epoch: string | null; lane: LaneName | null; batches: number }>(
      'SELECT epoch, lane, count(*) AS batches FROM batch GROUP BY epoch, lane',
    ),

    lanes: prepare<[], LaneRow>('SELECT epoch, lane, assigned FROM lane ORDER BY epoch, lane'),
    lane: prepare<[string, string], LaneRow>('SELECT epoch, lane, assigned FROM lane WHERE epoch = ? AND lane = ?'),
    setLane: prepare<[string, string, number]>(
      'INSERT INTO lane (epoch, lane, assigned) VALUES (?, ?, ?) ON CONFLICT (epoch, lane) DO UPDATE SET assigned = excluded.assigned',
    ),
    deleteLane: prepare<[string, string]>('DELETE FROM lane WHERE epoch = ? AND lane = ?'),

    insertKeys: prepare<[number, Uint8Array]>('INSERT OR REPLACE INTO key_log (id, body) VALUES (?, ?)'),
    keysAfter: prepare<[number], { id: number; body: Buffer }>('SELECT id, body FROM key_log WHERE id > ? ORDER BY id LIMIT 1'),
    keyLogBytes: prepare<[], { bytes: number; snapshot: number }>(
      'SELECT coalesce(sum(CASE WHEN id > 0 THEN length(body) END), 0) AS bytes, coalesce(sum(CASE WHEN id = 0 THEN length(body) END), 0) AS snapshot FROM key_log',
    ),
    deleteKeysBetween: prepare<[number, number]>('DELETE FROM key_log WHERE id > ? AND id < ?'),
    deleteKeysFrom: prepare<[number]>('DELETE FROM key_log WHERE id >= ?'),

    setRetained: prepare<[string, number, Uint8Array]>(
      'INSERT INTO retained (topic, qos, payload) VALUES (?, ?, ?) ON CONFLICT (topic) DO UPDATE SET qos = excluded.qos, payload = excluded.payload',
    ),
    deleteRetained: prepare<[string]>('DELETE FROM retained WHERE topic = ?'),
    retained: prepare<[], RetainedRow>('SELECT topic, qos, payload FROM retained'),
    setSubscription: prepare<[string, string, number]>(
      'INSERT INTO subscription (client, filter, qos) VALUES (?, ?, ?) ON CONFLICT (client, filter) DO UPDATE SET qos = excluded.qos',
    ),
    deleteSubscription: prepare<[string, string]>('DELETE FROM subscription WHERE client = ? AND filter = ?'),
    deleteSubscriptions: prepare<[string]>('DELETE FROM subscription WHERE client = ?'),
    subscriptions: prepare<[], SubscriptionRow>('SELECT client, filter, qos FROM subscription'),
    insertOutgoing: prepare<[number, string, string, number, Uint8Array, number | null, number]>(
      'INSERT OR REPLACE INTO outgoing (id, client, topic, qos, payload, message_id, released) VALUES (?, ?, ?, ?, ?, ?, ?)',
    ),
    setOutgoingSent: prepare<[number, number]>('UPDATE outgoing SET message_id = ? WHERE id = ?'),
    setOutgoingReleased: prepare<[number]>('UPDATE outgoing SET released = 1 WHERE id = ?'),
    deleteOutgoing: prepare<[number]>('DELETE FROM outgoing WHERE id = ?'),
    deleteOutgoingOf: prepare<[string]>('DELETE FROM outgoing WHERE client = ?'),
    deleteOutgoingFrom: prepare<[number]>('DELETE FROM outgoing WHERE id >= ?'),
    outgoing: prepare<[], OutgoingRow>(
      'SELECT id, client, topic, qos, payload, message_id AS messageId, released FROM outgoing ORDER BY id',
    ),

    insertOpening: prepare<[number, string, number, number | null, string | null, number | null, number | null]>(
      'INSERT INTO opening (id, epoch, wall_us, offset_us, boot, start_us, alive_us) VALUES (?, ?, ?, ?, ?, ?, ?)',
    ),
    openings: prepare<[], OpeningRow>('SELECT * FROM opening ORDER BY id'),
    /** Also of the earlier openings of the same boot. */
    setOffset: prepare<[number, number, string | null]>('UPDATE opening SET offset_us = ? WHERE id = ? OR boot = ?'),
    setAlive: prepare<[number, number]>('UPDATE opening SET alive_us = ? WHERE id = ?'),
    setEpoch: prepare<[string, number]>('UPDATE opening SET epoch = ? WHERE id = ?'),
    dropOpenings: prepare<[number]>(
      'DELETE FROM opening WHERE id < ? AND id NOT IN (SELECT opening FROM journal UNION SELECT opening FROM exception)',
    ),

    getMeta: prepare<[string], { value: string }>('SELECT value FROM meta WHERE key = ?'),
    setMeta: prepare<[string, string]>(
      'INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
    ),

    addLoss: prepare<[string, number, number]>(
      'INSERT INTO loss (reason, readings, batches) VALUES (?, ?, ?) ON CONFLICT (reason) DO UPDATE SET readings = readings + excluded.readings, batches = batches + excluded.batches',
    ),
    losses: prepare<[], { reason: string; readings: number; batches: number }>(
      'SELECT reason, readings, batches FROM loss ORDER BY reason',
    ),

    nextIds: prepare<[], { journal: number; exception: number; batch: number; keys: number; outgoing: number; opening: number }>(
      `SELECT (SELECT coalesce(max(id), 0) + 1 FROM journal) AS journal, (SELECT coalesce(max(id), 0) + 1 FROM exception) AS exception,
        (SELECT coalesce(max(id), 0) + 1 FROM batch) AS batch, (SELECT coalesce(max(id), 0) + 1 FROM key_log) AS keys,
        (SELECT coalesce(max(id), 0) + 1 FROM outgoing) AS outgoing, (SELECT coalesce(max(id), 0) + 1 FROM opening) AS opening`,
    ),
  };
}
