/**
 * Thinning, the part that touches SQLite: takes the oldest batches without a place of the lowest priority, has them thinned
 * (seal/thin.ts), and puts what stays in their place, in one transaction. What was thinned is not thinned again.
 *
 * A batch is seconds long and a minute is what is thinned, so batches are taken together: as many as make GROUP_US of arrival, or
 * GROUP_READINGS. Fewer are left alone; they are young, and will be more.
 *
 * A crash leaves the batches or what stays of them.
 */
import type { BatchContent, Compression } from '../../shared/batch/batch.ts';
import { decodeBatch } from '../../shared/batch/decode.ts';
import { THINNED, thin } from '../seal/thin.ts';
import { encodeContent, isWhole } from './batch-store.ts';
import type { JournalStore } from './journal-store.ts';
import { replaceBatches, type WholeRow } from './merging.ts';
import type { BatchRow } from './statements.ts';

/** Arrival that is worth a step: two minutes lose more than one does at its borders. */
const GROUP_US = 120_000_000;
/** Enough for a step whatever time they took. */
const GROUP_READINGS = 98_304;
/** In one step, during which no group commits: about 150 ms on a 2-core x86. */
const STEP_READINGS_MAX = 131_072;
const STEP_BATCHES_MAX = 1_024;
/** Compressed; what texts decompress to is bounded by the batch format, one batch at a time. */
const STEP_BYTES_MAX = 2 * 1024 * 1024;
/** Thinning that leaves more than this of the bytes is not worth its writes. */
const KEPT_RATIO_MAX = 0.9;

/**
 * @returns bytes that the step gave back, 0 where it found that there is nothing to gain; null: no batches are left to thin
 * @throws SluiceError ERR_JOURNAL_UNAVAILABLE
 */
export function thinOnce(store: JournalStore, compression: Compression): number | null {
  const rows = store.read(() => takeGroup(store));
  if (rows === null) return null;
  const contents: BatchContent[] = [];
  for (const { body } of rows.whole) contents.push(decodeBatch(body));
  const before = rows.whole.reduce((sum, { bytes }) => sum + bytes, 0);
  const { contents: sealed, lostReadings } = contents.length === 0 ? { contents: [], lostReadings: 0 } : thin(contents);
  const encoded = sealed.flatMap((each) => encodeContent(each, compression));
  const after = encoded.reduce((sum, { body }) => sum + body.length, 0);
  if (contents.length === 0 || lostReadings === 0 || after > before * KEPT_RATIO_MAX || encoded.length > rows.whole.length) {
    store.write(() => {
      for (const { id } of rows.all) store.sql.setThinned.run(id);
    });
    return 0;
  }
  replaceBatches(store, rows.whole, encoded, 1, () => {
    for (const { id } of rows.all) store.sql.setThinned.run(id);
    store.sql.addLoss.run(THINNED, lostReadings, 0);
  });
  return before - after;
}

interface Group {
  /** Damaged ones among them: they become tombstones when they are offered. */
  readonly all: readonly BatchRow[];
  readonly whole: readonly WholeRow[];
}

/** The oldest batches of the lowest priority of which there are enough. */
function takeGroup({ sql }: JournalStore): Group | null {
  for (const { priority } of sql.thinnable.all()) {
    const all: BatchRow[] = [];
    let readings = 0;
    let bytes = 0;
    let row = sql.thinnableAfter.get(priority, 0);
    while (row !== undefined && all.length < STEP_BATCHES_MAX) {
      if (all.length > 0 && (readings + row.readings > STEP_READINGS_MAX || bytes + row.bytes > STEP_BYTES_MAX)) break;
      all.push(row);
      readings += row.readings;
      bytes += row.bytes;
      if (readings >= GROUP_READINGS) break;
      row = sql.thinnableAfter.get(priority, row.id);
    }
    const spanUs = (all.at(-1)?.arrival_to_us ?? 0) - (all[0]?.arrival_from_us ?? 0);
    if (row !== undefined || readings >= GROUP_READINGS || spanUs >= GROUP_US) return { all, whole: all.filter(isWhole) };
  }
  return null;
}
