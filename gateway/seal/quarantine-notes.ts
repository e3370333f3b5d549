/**
 * Collects readings that are quarantined while a batch is sealed: one exception per reason and series, holding the
 * readings themselves, as many as its payload takes; then the next exception.
 *
 * Payload: JSON `{"device","metric","tags","readings":[{"ts","value","text"}, …]}`; `ts` is what the device sent (µs, null:
 * none), `value` null where the reading has only a text, `tags` the canonical JSON or ''. A text that alone would fill the payload is
 * cut, and `cut` says so: such a reading can be looked at, not released. Its time range is that of the
 * arrival, because the event time is what is not believed. Bounded: past QUARANTINED_MAX exceptions the rest is only counted.
 */
import { EXCEPTION_PAYLOAD_BYTES_MAX, type ExceptionRecord } from '../../shared/exception.ts';
import { seriesKey, type Series } from '../../shared/reading.ts';

/** Exceptions of quarantined readings in one batch: with full payloads 2 MiB before compression. */
export const QUARANTINED_MAX = 512;

/** With the longest names, and tags of usual length, it still fits beside them. */
const ITEM_BYTES_MAX = EXCEPTION_PAYLOAD_BYTES_MAX / 2;
const CUT_CHARACTERS = 256;

interface Note {
  readonly reason: string;
  readonly series: Series;
  readonly items: string[];
  bytes: number;
  fromUs: number;
  toUs: number;
}

interface Count {
  readings: number;
  fromUs: number;
  toUs: number;
}

function widen(range: { fromUs: number; toUs: number }, fromUs: number, toUs: number): void {
  range.fromUs = Math.min(range.fromUs, fromUs);
  range.toUs = Math.max(range.toUs, toUs);
}

export class QuarantineNotes {
  readonly #open = new Map<string, Note>();
  readonly #full: Note[] = [];
  readonly #uncounted = new Map<string, Count>();
  #lost: Count | null = null;

  add(reason: string, series: Series, sentUs: number, value: number, text: string | null, fromUs: number, toUs: number): void {
    // JSON knows no NaN: null.
    const reading = { ts: Number.isFinite(sentUs) ? sentUs : null, value: Number.isFinite(value) ? value : null, text };
    let item = JSON.stringify(reading);
    if (text !== null && Buffer.byteLength(item) > ITEM_BYTES_MAX)
      item = JSON.stringify({ ...reading, text: text.slice(0, CUT_CHARACTERS), cut: true });
    const itemBytes = Buffer.byteLength(item) + 1;
    const key = `${reason}\u0000${seriesKey(series)}`;
    let note = this.#open.get(key);
    if (note !== undefined && note.bytes + itemBytes > EXCEPTION_PAYLOAD_BYTES_MAX) {
      this.#full.push(note);
      this.#open.delete(key);
      note = undefined;
    }
    if (note === undefined) {
      const head = Buffer.byteLength(JSON.stringify({ ...series, readings: [] }));
      if (this.#open.size + this.#full.length >= QUARANTINED_MAX || head + itemBytes > EXCEPTION_PAYLOAD_BYTES_MAX) {
        const count = this.#uncounted.get(reason) ?? { readings: 0, fromUs, toUs };
        count.readings++;
        widen(count, fromUs, toUs);
        this.#uncounted.set(reason, count);
        return;
      }
      note = { reason, series, items: [], bytes: head, fromUs, toUs };
      this.#open.set(key, note);
    }
    note.items.push(item);
    note.bytes += itemBytes;
    widen(note, fromUs, toUs);
  }

  /** A reading whose series damage took away. */
  lost(range: { readonly fromUs: number; readonly toUs: number }): void {
    this.#lost ??= { readings: 0, ...range };
    this.#lost.readings++;
    widen(this.#lost, range.fromUs, range.toUs);
  }

  records(): ExceptionRecord[] {
    const records: ExceptionRecord[] = [...this.#full, ...this.#open.values()].map(({ reason, series, items, fromUs, toUs }) => ({
      kind: 'quarantined',
      device: series.device,
      metric: series.metric,
      fromUs,
      toUs,
      readingCount: items.length,
      reason,
      payload: Buffer.from(`${JSON.stringify({ ...series, readings: [] }).slice(0, -2)}${items.join(',')}]}`),
    }));
    for (const [reason, { readings, fromUs, toUs }] of this.#uncounted) {
      records.push({
        kind: 'quarantined',
        device: null,
        metric: null,
        fromUs,
        toUs,
        readingCount: readings,
        reason: `${reason}: too many to keep`,
        payload: null,
      });
    }
    if (this.#lost !== null) {
      const { readings, fromUs, toUs } = this.#lost;
      records.push({
        kind: 'gap',
        device: null,
        metric: null,
        fromUs,
        toUs,
        readingCount: readings,
        reason: 'journal_corrupt: series lost',
        payload: null,
      });
    }
    return records;
  }
}
