/**
 * The lanes: which batch has which place, durably, before anybody sees it (UplinkJournal has the contract).
 *
 * A crash in `offerBatches` leaves the batches without places or with them; with them they are offered again with the
 * same content. A crash in `freeBatches` leaves them, and the hub says once more that they are committed.
 */
import type { LaneName } from '../../shared/uplink.ts';
import { settle } from './batch-store.ts';
import type { OfferedBatch } from './journal-api.ts';
import type { JournalStore } from './journal-store.ts';
import type { BatchRow } from './statements.ts';

/** How old a sealed batch without a place is when it is not live data any more. */
export interface Age {
  readonly nowUs: number;
  readonly backfillAfterUs: number;
}

export interface LaneRef {
  readonly epoch: string;
  readonly lane: LaneName;
}

/**
 * Batches with a place after `afterSeq`; on a lane of the current epoch, then those that get theirs now: on `live` what is
 * younger than `backfillAfterUs`, on `backfill` the oldest of what is not. So after an outage live data does not wait for the
 * backlog, and what live data could not take in time joins the backlog.
 */
export function offerBatches(
  store: JournalStore,
  { epoch, lane }: LaneRef,
  afterSeq: number,
  bytesMax: number,
  { nowUs, backfillAfterUs }: Age,
): OfferedBatch[] {
  const offered: OfferedBatch[] = [];
  let damaged = 0;
  const { liveAfter } = store;
  const give = (): void => {
    const { sql } = store;
    let bytes = 0;
    const push = (row: ReturnType<typeof settle>): void => {
      const { seq, readings: readingCount, exceptions: exceptionCount, arrival_from_us: arrivalFromUs, body } = row;
      offered.push({ epoch, lane, seq: seq as number, readingCount, exceptionCount, arrivalFromUs, body });
      bytes += body.length;
      if (row.damaged) damaged++;
    };
    for (let last: number | null = afterSeq; last !== null && (bytes < bytesMax || offered.length === 0);) {
      const row = sql.batchesAfter.get(epoch, lane, last);
      if (row !== undefined) push(settle(sql, row, { epoch, lane, seq: row.seq as number }, nowUs));
      last = row?.seq ?? null;
    }
    const before = sql.lane.get(epoch, lane)?.assigned ?? 0;
    // A caller that is ahead of the lane gets nothing: what it claims to have was never here.
    if (epoch !== store.epoch || afterSeq > before) return;
    let assigned = before;
    while (bytes < bytesMax || offered.length === 0) {
      const row = lane === 'live' ? nextLive(store, nowUs - backfillAfterUs) : nextOld(store, nowUs - backfillAfterUs);
      if (row === undefined) break;
      push(settle(sql, row, { epoch, lane, seq: ++assigned }, nowUs));
    }
    if (assigned > before) sql.setLane.run(epoch, lane, assigned);
    if (damaged > 0) sql.addLoss.run('batch_corrupt', 0, damaged);
  };
  try {
    store.writeFromReserve(give);
  } catch (error) {
    store.liveAfter = liveAfter; // none of them has its place
    throw error;
  }
  if (damaged > 0) store.loadTotals();
  return offered;
}

/** The ids of old batches are passed over once, not with each offer: batches only grow older. */
function nextLive(store: JournalStore, sinceUs: number): BatchRow | undefined {
  const row = store.sql.freshAfter.get(store.liveAfter, sinceUs);
  if (row !== undefined) store.liveAfter = row.id;
  return row;
}

function nextOld(store: JournalStore, sinceUs: number): BatchRow | undefined {
  const row = store.sql.unassignedAfter.get(0);
  return row !== undefined && isOld(store, row, sinceUs) ? row : undefined;
}

/** What the live lane has passed over stays old when a clock that is set back makes it look young. */
function isOld(store: JournalStore, { id, arrival_to_us }: Pick<BatchRow, 'id' | 'arrival_to_us'>, sinceUs: number): boolean {
  return arrival_to_us < sinceUs || id <= store.liveAfter;
}

/** Is there something for the backfill lane? */
export function hasOldBatches(store: JournalStore, { nowUs, backfillAfterUs }: Age): boolean {
  const oldest = store.sql.unassignedOldest.get();
  return oldest !== undefined && isOld(store, oldest, nowUs - backfillAfterUs);
}

/** @returns how many batches went */
export function freeBatches(store: JournalStore, { epoch, lane }: LaneRef, seq: number): number {
  const freed = store.writeFromReserve(() => {
    const { sql } = store;
    const known = sql.lane.get(epoch, lane);
    if (known === undefined) return null;
    const to = Math.min(seq, known.assigned);
    const totals = sql.laneTotals.get(epoch, lane, to);
    sql.freeBodies.run(epoch, lane, to);
    sql.freeLane.run(epoch, lane, to);
    if (epoch !== store.epoch && sql.laneFirst.get(epoch, lane) === undefined) sql.deleteLane.run(epoch, lane);
    return totals ?? null;
  });
  if (freed === null) return 0;
  store.totals.batches -= freed.batches;
  store.totals.batchReadings -= freed.readings;
  store.totals.batchExceptions -= freed.exceptions;
  store.totals.batchBytes -= freed.bytes;
  return freed.batches;
}

/** What has no place yet gets it in the new epoch; what has one keeps it, in its old lane, because the hub may have it. */
export function startNewEpoch(store: JournalStore, epoch: string): void {
  store.write(() => {
    const { sql } = store;
    for (const lane of sql.lanes.all()) {
      if (lane.epoch === store.epoch && sql.laneFirst.get(lane.epoch, lane.lane) === undefined) sql.deleteLane.run(lane.epoch, lane.lane);
    }
    sql.setEpoch.run(epoch, store.opening);
  });
  store.epoch = epoch;
}
