/**
 * Merging: while the hub is away, the small batches of the backlog become larger ones, without loss.
 *
 * A batch of two seconds has two readings of each series and says the series' name, start and scale for them: 1.2 bytes a reading
 * where thirty seconds take 0.45 (measured, reference fleet of 1 k readings/s). A day of backlog thus fits into a third of the room,
 * and drains in fewer and better compressed batches.
 *
 * Only batches without a place that are backlog already, of one priority, neighbours in the order of their sealing. What is merged
 * is merged again only while it is still small, so a reading is rewritten once, at low rates twice or three times.
 *
 * A crash leaves the batches or the merged one.
 */
import type { Compression } from '../../shared/batch/batch.ts';
import { decodeBatch } from '../../shared/batch/decode.ts';
import { mergeContents } from '../seal/thin.ts';
import { deleteBatch, encodeContent, insertBatch, isWhole, type EncodedContent } from './batch-store.ts';
import type { JournalStore } from './journal-store.ts';
import type { BatchRow } from './statements.ts';

/** So many batches are worth a step, whatever is in them. */
const STEP_BATCHES = 64;
/** In one step, during which no group commits: about 40 ms on a 2-core x86. */
const STEP_READINGS_MAX = 32_768;
const STEP_BYTES_MAX = 256 * 1024;
/** Larger ones stay as they are. */
const SMALL_READINGS = 16_384;
const SMALL_BYTES = 128 * 1024;

export type WholeRow = BatchRow & { readonly body: Buffer };

/**
 * Merges the oldest small batches if there are enough of them.
 *
 * @param beforeUs batches that arrived later are not backlog yet
 * @returns whether it did
 * @throws SluiceError ERR_JOURNAL_UNAVAILABLE
 */
export function mergeOnce(store: JournalStore, compression: Compression, beforeUs: number): boolean {
  const rows = store.read(() => takeSmall(store, beforeUs));
  if (rows === null) return false;
  const encoded = mergeContents(rows.map(({ body }) => decodeBatch(body))).flatMap((each) => encodeContent(each, compression));
  const readings = rows.reduce((sum, row) => sum + row.readings, 0);
  if (encoded.length > rows.length || encoded.reduce((sum, each) => sum + each.readings, 0) !== readings) {
    // What does not fit into one batch after all stays as it is, and is not tried again.
    store.write(() => {
      for (const { id } of rows) store.sql.setThinned.run(id);
    });
    return false;
  }
  replaceBatches(store, rows, encoded, 0);
  return true;
}

/** Puts what `encoded` says in the place of `rows`, in one transaction. Totals follow. @param note written along */
export function replaceBatches(
  store: JournalStore,
  rows: readonly WholeRow[],
  encoded: readonly EncodedContent[],
  thinned: 0 | 1,
  note: () => void = () => {},
): void {
  store.writeFromReserve(() => {
    for (const { id } of rows) deleteBatch(store.sql, id);
    for (const [index, { content, eventFromUs, eventToUs, body, readings, exceptions }] of encoded.entries()) {
      const { id, priority } = rows[index];
      const times = {
        arrival_from_us: content.arrivalFromUs,
        arrival_to_us: content.arrivalToUs,
        event_from_us: eventFromUs,
        event_to_us: eventToUs,
      };
      insertBatch(store.sql, id, { epoch: null, lane: null, seq: null, readings, exceptions, ...times, priority, thinned }, body);
    }
    note();
  });
  const sum = (list: readonly { readonly readings: number; readonly exceptions: number }[], what: 'readings' | 'exceptions'): number =>
    list.reduce((total, each) => total + each[what], 0);
  store.totals.batches += encoded.length - rows.length;
  store.totals.batchReadings += sum(encoded, 'readings') - sum(rows, 'readings');
  store.totals.batchExceptions += sum(encoded, 'exceptions') - sum(rows, 'exceptions');
  store.totals.batchBytes +=
    encoded.reduce((total, { body }) => total + body.length, 0) - rows.reduce((total, { bytes }) => total + bytes, 0);
}

/** A damaged batch ends a group: it stays what it is until it is offered. */
function takeSmall({ sql }: JournalStore, beforeUs: number): WholeRow[] | null {
  for (const { priority } of sql.thinnable.all()) {
    let rows: WholeRow[] = [];
    let readings = 0;
    let bytes = 0;
    for (const head of sql.smallHeads.all(priority, SMALL_READINGS, SMALL_BYTES, beforeUs, 4 * STEP_BATCHES)) {
      if (rows.length === STEP_BATCHES || readings + head.readings > STEP_READINGS_MAX || bytes + head.bytes > STEP_BYTES_MAX) break;
      const row = sql.batchById.get(head.id);
      if (row === undefined || !isWhole(row)) {
        rows = [];
        readings = bytes = 0;
        continue;
      }
      rows.push(row);
      readings += row.readings;
      bytes += row.bytes;
    }
    // Half of a step and no more to come would be merged again soon.
    if (rows.length >= 2 && (rows.length === STEP_BATCHES || readings > STEP_READINGS_MAX / 2 || bytes > STEP_BYTES_MAX / 2)) return rows;
  }
  return null;
}
