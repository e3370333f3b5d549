/**
 * Sealed batches in SQLite: their checksums, their lanes, their tombstones. Functions inside a transaction of the caller.
 *
 * A batch gets epoch, lane and seq when it is first offered, in one transaction with the lane's `assigned`, and keeps them.
 * Its checksum covers body, counts, times and position: a flipped bit in any of them makes it a tombstone under its seq.
 */
import { crc32 } from 'node:zlib';
import type { BatchContent, Compression } from '../../shared/batch/batch.ts';
import { encodeBatch } from '../../shared/batch/encode.ts';
import { errorMessage, isSluiceError } from '../../shared/errors.ts';
import type { ExceptionRecord } from '../../shared/exception.ts';
import type { LaneName } from '../../shared/uplink.ts';
import { UPLINK_BODY_BYTES_MAX } from '../../shared/uplink-codec.ts';
import type { SealedContent } from '../seal/seal.ts';
import { splitContent } from '../seal/split.ts';
import type { JournalLane } from './journal-api.ts';
import type { BatchHead, BatchRow, Statements } from './statements.ts';

/** What the checksum of a batch covers beside its body. */
export type CheckedHead = Omit<BatchHead, 'id' | 'checksum' | 'bytes' | 'priority' | 'thinned'>;

export function batchChecksum(head: CheckedHead, body: Uint8Array): number {
  const { epoch, lane, seq, readings, exceptions, arrival_from_us, arrival_to_us, event_from_us, event_to_us } = head;
  return crc32(
    `${epoch}/${lane}/${seq}/${readings}/${exceptions}/${arrival_from_us}/${arrival_to_us}/${event_from_us}/${event_to_us}`,
    crc32(body),
  );
}

export function isWhole(row: BatchRow): row is BatchRow & { readonly body: Buffer } {
  return Buffer.isBuffer(row.body) && row.bytes === row.body.length && batchChecksum(row, row.body) === row.checksum;
}

/** Inserts head and body; the checksum is made here. */
export function insertBatch(
  sql: Statements,
  id: number,
  head: CheckedHead & Pick<BatchHead, 'priority' | 'thinned'>,
  body: Uint8Array,
): void {
  const { epoch, lane, seq, readings, exceptions, priority, thinned } = head;
  sql.insertBatch.run(
    id,
    epoch,
    lane,
    seq,
    readings,
    exceptions,
    head.arrival_from_us,
    head.arrival_to_us,
    head.event_from_us,
    head.event_to_us,
    body.length,
    batchChecksum(head, body),
    priority,
    thinned,
  );
  sql.insertBody.run(id, body);
}

export function deleteBatch(sql: Statements, id: number): void {
  sql.deleteBody.run(id);
  sql.deleteBatch.run(id);
}

export interface EncodedBatch {
  readonly body: Uint8Array;
  readonly readings: number;
  readonly exceptions: number;
}

export type EncodedContent = SealedContent & EncodedBatch;

/**
 * Encodes, as several batches where one would have more bytes than the uplink carries: its lane would stand still for ever.
 * Content that cannot stand in a batch becomes the gap that it is, so that sealing goes on.
 */
export function encodeContent(sealed: SealedContent, compression: Compression, bytesMax = UPLINK_BODY_BYTES_MAX): EncodedContent[] {
  const { content, eventFromUs, eventToUs } = sealed;
  let isTooLarge = true;
  let reason = 'seal_failed: ERR_BATCH_TOO_LARGE';
  try {
    const body = encodeBatch(content, compression);
    if (body.length <= bytesMax) return [{ ...sealed, body, readings: content.runs.count, exceptions: content.exceptions.length }];
  } catch (error) {
    isTooLarge = isSluiceError(error, 'ERR_BATCH_TOO_LARGE');
    reason = `seal_failed: ${isSluiceError(error) ? error.code : errorMessage(error)}`;
  }
  // Of content with a fault the readings or the exceptions may still be without one.
  const isMixed = content.runs.count > 0 && content.exceptions.length > 0;
  const parts = isTooLarge || isMixed ? splitContent(sealed) : null;
  if (parts !== null) return parts.flatMap((part) => encodeContent(part, compression, bytesMax));
  const gap: ExceptionRecord = {
    kind: 'gap',
    device: null,
    metric: null,
    // Its times may be what is wrong with it.
    fromUs: Number.isFinite(eventFromUs) ? Math.floor(eventFromUs) : content.arrivalFromUs,
    toUs: Number.isFinite(eventToUs) ? Math.ceil(eventToUs) : content.arrivalToUs + 1,
    readingCount: content.runs.count > 0 ? content.runs.count : null,
    reason: reason.slice(0, 256),
    payload: null,
  };
  const body = encodeBatch({ ...content, ...emptyRuns(), exceptions: [gap] }, compression);
  return [{ ...sealed, body, readings: 0, exceptions: 1 }];
}

function emptyRuns(): Pick<BatchContent, 'runs'> {
  return {
    runs: {
      count: 0,
      seriesTable: [],
      runOffsets: new Uint32Array(1),
      eventTimeUs: new Float64Array(0),
      value: new Float64Array(0),
      text: null,
      texts: [],
    },
  };
}

/**
 * A batch that says only that something is missing: a gap of its readings, and one of unknown count for what its exceptions
 * had, since the head counts records and not the readings in them. Times that damage made impossible are replaced by `nowUs`.
 */
export function encodeTombstone(head: Partial<BatchHead>, reason: string, nowUs: number): EncodedBatch {
  const sane = (us: number | undefined): number => (us !== undefined && Number.isSafeInteger(us) && us > 0 && us < 2 ** 52 ? us : nowUs);
  const arrivalFromUs = Math.min(sane(head.arrival_from_us), nowUs);
  const fromUs = sane(head.event_from_us ?? head.arrival_from_us);
  const gap: ExceptionRecord = {
    kind: 'gap',
    device: null,
    metric: null,
    fromUs,
    toUs: Math.max(fromUs + 1, sane(head.event_to_us)),
    readingCount: Number.isSafeInteger(head.readings) && (head.readings as number) >= 0 ? (head.readings as number) : null,
    reason,
    payload: null,
  };
  const ofExceptions: ExceptionRecord = { ...gap, readingCount: null, reason: `${reason}: ${head.exceptions} exceptions` };
  const exceptions = (head.exceptions ?? 0) > 0 ? [gap, ofExceptions] : [gap];
  const body = encodeBatch({ sealedUs: nowUs, arrivalFromUs, arrivalToUs: nowUs, ...emptyRuns(), exceptions }, 'none');
  return { body, readings: 0, exceptions: exceptions.length };
}

export interface LanePosition {
  readonly epoch: string;
  readonly lane: LaneName;
  readonly seq: number;
}

/** Gives a batch its position and returns it as stored, or its tombstone where it is damaged. `row` may hold a position already. */
export function settle(
  sql: Statements,
  row: BatchRow,
  position: LanePosition,
  nowUs: number,
): BatchRow & { readonly body: Buffer; readonly damaged: boolean } {
  if (isWhole(row)) {
    if (row.seq !== null) return { ...row, damaged: false };
    const placed = { ...row, ...position };
    const checksum = batchChecksum(placed, row.body);
    sql.assign.run(position.epoch, position.lane, position.seq, checksum, row.id);
    return { ...placed, checksum, damaged: false };
  }
  const tombstone = encodeTombstone(row, 'batch_corrupt', nowUs);
  const replaced = { ...row, ...position, ...tombstone, bytes: tombstone.body.length, body: Buffer.from(tombstone.body) };
  const checksum = batchChecksum(replaced, replaced.body);
  sql.insertBody.run(row.id, replaced.body);
  sql.replaceHead.run(replaced.readings, replaced.exceptions, replaced.bytes, checksum, row.id);
  sql.assign.run(position.epoch, position.lane, position.seq, checksum, row.id);
  return { ...replaced, checksum, damaged: true };
}

/**
 * All lanes of older epochs with something held, then the current epoch's live lane, and its backfill lane where it was ever
 * assigned to or `hasOld` says that there is something for it.
 */
export function laneClaims(sql: Statements, currentEpoch: string, hasOld: boolean): JournalLane[] {
  const claims: JournalLane[] = [];
  for (const { epoch, lane, assigned } of sql.lanes.all()) {
    const first = sql.laneFirst.get(epoch, lane);
    if (first !== undefined && epoch !== currentEpoch) claims.push({ epoch, lane, base: first.seq as number, assigned, isDue: true });
  }
  for (const lane of ['live', 'backfill'] as const) {
    const assigned = sql.lane.get(currentEpoch, lane)?.assigned ?? 0;
    const base = sql.laneFirst.get(currentEpoch, lane)?.seq ?? assigned + 1;
    const isDue = base <= assigned || (lane === 'backfill' && hasOld);
    if (lane === 'live' || assigned > 0 || isDue) claims.push({ epoch: currentEpoch, lane, base, assigned, isDue });
  }
  return claims;
}
