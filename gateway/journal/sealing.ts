/**
 * Sealing, the part that touches SQLite: takes the oldest journal rows and pending exceptions, has them sealed
 * (gateway/seal), and exchanges them for batches in one transaction.
 *
 * A crash leaves the rows or the batches. A damaged row becomes the gap that it is.
 */
import type { Compression } from '../../shared/batch/batch.ts';
import type { JournalClock } from '../clock.ts';
import { sealOrGap, type ResolvedException, type SealRow } from '../seal/seal.ts';
import { encodeContent, insertBatch } from './batch-store.ts';
import type { EventBounds, EventRange } from './event-bounds.ts';
import type { JournalStore } from './journal-store.ts';
import { resolveException } from './pending-exceptions.ts';
import { decodeRow } from './row-codec.ts';
import type { JournalRow } from './statements.ts';

export interface SealingOptions {
  readonly clock: JournalClock;
  /** Estimated size of a sealed batch, compressed. */
  readonly batchBytesMax: number;
  readonly batchReadingsMax: number;
  readonly compression: Compression;
}

/** Journal rows are about so many times as long as what they are in a batch (measured: 5 to 8 bytes a reading against 1 to 2). */
const ROW_BYTES_PER_BATCH_BYTE = 4;
const EXCEPTIONS_PER_BATCH_MAX = 1000;
/** Of texts in rows, which lie deflated in them: a seal holds no more than these and those of one more row. */
const TEXT_CHARACTERS_MAX = 4 * 1024 * 1024;
/** So many openings are remembered, to bound what arrived while the clock was unknown. */
const OPENINGS_MAX = 16;
/** A group gathers at most this long (QoS 0 alone: 5 s), with a margin: how far behind a row's arrival its readings can lie. */
const ROW_SPAN_US_MAX = 10_000_000;

interface Taken {
  readonly rows: SealRow[];
  readonly exceptions: ResolvedException[];
  rowCount: number;
  readings: number;
  bytes: number;
  textCharacters: number;
  lastRow: number;
  lastException: number;
  /** Exceptions that stand for damaged rows, and their readings. */
  made: number;
  damagedReadings: number;
  /** No row is left. */
  drained: boolean;
}

/** Is there enough for a batch before its time? */
export function isSealDue(store: JournalStore, options: SealingOptions): boolean {
  const { journalBytes, journalReadings } = store.totals;
  return journalBytes >= options.batchBytesMax * ROW_BYTES_PER_BATCH_BYTE || journalReadings >= options.batchReadingsMax;
}

/**
 * Seals the oldest rows and exceptions that one batch takes.
 *
 * @returns how many batches that made, and whether they hold all that there was; null: there was nothing to seal, or the clock is
 * unknown
 * @throws SluiceError ERR_JOURNAL_UNAVAILABLE
 */
export function sealOnce(store: JournalStore, options: SealingOptions): { batches: number; isAll: boolean } | null {
  if (!store.clockKnown || store.offsetOf(store.opening) === null) return null;
  if (store.totals.journalRows === 0 && store.totals.exceptions === 0) return null;
  const nowUs = options.clock.nowUs();
  const taken = store.read(() => takeRows(store, options, nowUs));
  if (taken.rowCount === 0 && taken.lastException === 0) {
    store.loadTotals(); // the totals claimed that there was something: count again rather than turn in circles
    return null;
  }
  const sealed = sealOrGap({ sealedUs: nowUs, rows: taken.rows, exceptions: taken.exceptions });
  const next = { ...store.ids };
  const added = { batches: 0, readings: 0, exceptions: 0, bytes: 0 };
  store.writeFromReserve(() => {
    // Deleting first: on a full disk the batch takes the pages that its rows give back.
    store.sql.deleteJournalTo.run(taken.lastRow);
    store.sql.deleteExceptionsTo.run(taken.lastException);
    for (const { content, eventFromUs, eventToUs, priority, body, readings, exceptions } of sealed.flatMap((each) =>
      encodeContent(each, options.compression),
    )) {
      const times = {
        arrival_from_us: content.arrivalFromUs,
        arrival_to_us: content.arrivalToUs,
        event_from_us: eventFromUs,
        event_to_us: eventToUs,
      };
      insertBatch(
        store.sql,
        next.batch++,
        { epoch: null, lane: null, seq: null, readings, exceptions, ...times, priority, thinned: 0 },
        body,
      );
      added.batches++;
      added.readings += readings;
      added.exceptions += exceptions;
      added.bytes += body.length;
    }
    if (taken.damagedReadings > 0) store.sql.addLoss.run('journal_corrupt', taken.damagedReadings, 0);
    if (taken.drained) {
      store.sql.dropSeries.run(store.opening);
      store.sql.dropOpenings.run(store.opening - OPENINGS_MAX);
    }
  });
  store.ids = next;
  store.totals.journalRows -= taken.rowCount;
  store.totals.journalReadings -= taken.readings;
  store.totals.journalBytes -= taken.bytes;
  store.totals.exceptions -= taken.exceptions.length - taken.made;
  store.totals.batches += added.batches;
  store.totals.batchReadings += added.readings;
  store.totals.batchExceptions += added.exceptions;
  store.totals.batchBytes += added.bytes;
  if (taken.drained) store.forgetOlderSeries();
  return { batches: added.batches, isAll: taken.drained && store.totals.exceptions === 0 };
}

function takeRows(store: JournalStore, options: SealingOptions, nowUs: number): Taken {
  const bytesMax = options.batchBytesMax * ROW_BYTES_PER_BATCH_BYTE;
  const taken: Taken = {
    rows: [],
    exceptions: [],
    rowCount: 0,
    readings: 0,
    bytes: 0,
    textCharacters: 0,
    lastRow: 0,
    lastException: 0,
    made: 0,
    damagedReadings: 0,
    drained: false,
  };
  while (taken.bytes < bytesMax && taken.readings < options.batchReadingsMax && taken.textCharacters < TEXT_CHARACTERS_MAX) {
    const row = store.sql.journalFrom.get(taken.lastRow);
    if (row === undefined) {
      taken.drained = true;
      break;
    }
    taken.lastRow = row.id;
    taken.rowCount++;
    taken.readings += row.readings;
    taken.bytes += row.body.length;
    const bounds = store.boundsOf(row.opening);
    const offsetUs = store.offsetOf(row.opening);
    try {
      const { readings, series, eventTimeUs, value, text, texts, arrivalUs } = decodeRow(row.body);
      const { opening } = row;
      const seriesOf = store.seriesLookup(opening);
      taken.rows.push({ readings, series, eventTimeUs, value, text, texts, arrivalUs, offsetUs, opening, seriesOf, bounds });
      taken.textCharacters += texts.reduce((sum, { length }) => sum + length, 0);
    } catch {
      taken.exceptions.push(gapOfRow(row, offsetUs, bounds, nowUs, store.bounds));
      taken.made++;
      taken.damagedReadings += row.readings;
    }
  }
  for (const row of store.sql.exceptionsFirst.all(EXCEPTIONS_PER_BATCH_MAX)) {
    taken.exceptions.push(resolveException(row, store.offsetOf(row.opening), store.boundsOf(row.opening)));
    taken.lastException = row.id;
  }
  return taken;
}

/** When its readings arrived is known, not their event times. */
function gapOfRow(
  row: JournalRow,
  offsetUs: number | null,
  bounds: EventRange,
  nowUs: number,
  eventBounds: EventBounds,
): ResolvedException {
  const arrivalUs = offsetUs === null ? bounds.fromUs : Math.round(row.arrival_us + offsetUs);
  const toUs = offsetUs === null ? bounds.toUs : Math.max(arrivalUs + 1, Math.min(nowUs, arrivalUs + ROW_SPAN_US_MAX));
  return {
    arrivalUs,
    record: {
      kind: 'gap',
      device: null,
      metric: null,
      ...eventBounds.around(arrivalUs, toUs),
      readingCount: row.readings,
      reason: 'journal_corrupt: row',
      payload: null,
    },
  };
}
