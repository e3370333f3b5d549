/** The truth of a simulation: every reading that a device sent, what became of it on the way, and what a fault excuses. */

import type { ExceptionRecord } from '../../shared/exception.ts';
import type { LaneName } from '../../shared/uplink.ts';

export interface Place {
  readonly epoch: string;
  readonly lane: LaneName;
  readonly seq: number;
}

export interface LedgerEntry {
  /** Unique in the simulation: what a reading is recognised by. */
  readonly value: number;
  readonly gateway: string;
  readonly device: string;
  readonly metric: string;
  /** NaN: the device sent none. */
  readonly eventTimeUs: number;
  readonly text: string | null;
  readonly qos: 0 | 1;
  /** Simulated time of the first sending. */
  readonly sentUs: number;
  isAcked: boolean;
  /** Simulated time at which the journal called back; null: not, or not heard of. */
  journalledUs: number | null;
  /** Of the first offer with a seq that was seen. */
  placedUs: number | null;
  readonly places: Place[];
  /** How many times the lake may have it. */
  copiesMax: number;
  /** Why it may be missing although it was acknowledged; null: it may not. */
  excuse: string | null;
}

/** An exception without values, as its gateway offered it. */
export interface OfferedGap {
  readonly gateway: string;
  readonly place: Place;
  readonly readingCount: number | null;
}

/** As gateway/journal/wal-repair.ts explains. */
const UNTOLD_COMMITS = 2;

export class Ledger {
  readonly entries = new Map<number, LedgerEntry>();
  /** By the id that they get in the lake. */
  readonly gaps = new Map<string, OfferedGap>();
  #next = 1;

  add(reading: Pick<LedgerEntry, 'gateway' | 'device' | 'metric' | 'eventTimeUs' | 'text' | 'qos' | 'sentUs'>): LedgerEntry {
    const entry: LedgerEntry = {
      ...reading,
      value: this.#next++,
      isAcked: false,
      journalledUs: null,
      placedUs: null,
      places: [],
      copiesMax: 1,
      excuse: null,
    };
    this.entries.set(entry.value, entry);
    return entry;
  }

  of(gateway: string): LedgerEntry[] {
    return [...this.entries.values()].filter((entry) => entry.gateway === gateway);
  }

  placed(value: number, place: Place, nowUs: number): void {
    const entry = this.entries.get(value);
    if (entry === undefined) return; // a value that nobody sent: the verdict finds it in the lake
    entry.placedUs ??= nowUs;
    const isKnown = entry.places.some(({ epoch, lane, seq }) => epoch === place.epoch && lane === place.lane && seq === place.seq);
    if (!isKnown) entry.places.push(place);
  }

  offered(gateway: string, place: Place, exceptions: readonly ExceptionRecord[], nowUs: number): void {
    exceptions.forEach((exception, idx) => {
      const values = quarantinedValues(exception);
      for (const value of values) this.placed(value, place, nowUs);
      const id = `${gateway}/${place.epoch}/${place.lane}/${place.seq}/${idx}`;
      if (values.length === 0) this.gaps.set(id, { gateway, place, readingCount: exception.readingCount });
    });
  }

  /**
   * The gateway goes on from an image of its disk.
   *
   * What the image has without a seq may have been sent under one since, so it may come twice; what came after the image
   * is gone where it is not in the lake, and comes again where its device has no ack.
   */
  restored(gateway: string, imageUs: number, isCommitted: (place: Place) => boolean): void {
    for (const entry of this.of(gateway)) {
      const { journalledUs, placedUs } = entry;
      const isInImage = journalledUs !== null && journalledUs <= imageUs;
      if (isInImage && placedUs !== null && placedUs <= imageUs) continue;
      if (isInImage) {
        if (placedUs !== null) entry.copiesMax++;
      } else {
        if (!entry.places.some(isCommitted)) entry.excuse ??= 'its gateway was restored from an image of before';
        if (!entry.isAcked) entry.copiesMax++;
      }
    }
  }

  /**
   * The gateway's files were damaged: what was sent since the part that is lost is sent again, because nothing can tell that
   * it was. Damage to the last two commits of a WAL cannot be told from the commit that a power cut interrupts: they may be
   * gone without a word (docs/guarantees.md, 8).
   */
  damaged(gateway: string): void {
    const commits = new Set<number>();
    for (const { journalledUs } of this.of(gateway)) if (journalledUs !== null) commits.add(journalledUs);
    const untold = new Set([...commits].sort((a, b) => b - a).slice(0, UNTOLD_COMMITS));
    for (const entry of this.of(gateway)) {
      const { journalledUs } = entry;
      if (journalledUs !== null && untold.has(journalledUs)) entry.excuse ??= 'it was in the last commits of a WAL that was damaged there';
      if (journalledUs !== null || entry.qos === 0) entry.copiesMax++;
    }
  }
}

/** The values of the readings that a quarantine's payload holds. */
export function quarantinedValues({ kind, payload }: Pick<ExceptionRecord, 'payload'> & { readonly kind: string }): number[] {
  if (kind !== 'quarantined' || payload === null) return [];
  return (JSON.parse(Buffer.from(payload).toString('utf8')) as { readings: { value: number }[] }).readings.map(({ value }) => value);
}
