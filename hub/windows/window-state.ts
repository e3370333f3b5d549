/**
 * WindowState: partials of all window definitions over some readings, in memory, merged as they come.
 *
 * Purpose: one state per thing that appears or disappears as a whole: the tail behind the last flush, or one chunk of
 * the overlay. States that share a GroupRegistry merge by id.
 *
 * Constraints: no per-reading object, no per-reading lookup (design: 35 ns per reading at 1 k series, 100 at 100 k).
 * A run of a series is cut where the window of any definition ends; each piece (segment) is summed up once and merged
 * into one slot of each definition, so a definition costs per segment, not per reading.
 *
 * Layout: a SlotTable per definition, in the order of `definitions`; a scratch Segment; the window that the last
 * reading lay in, per definition.
 *
 * A throw from `add` or `merge` leaves the state as it was. It knows nothing of versions, positions and flushes: its
 * owner does. A crash loses it, and restart rebuilds it from the lake.
 */
import assert from 'node:assert/strict';
import { SluiceError } from '../../shared/errors.ts';
import type { SeriesRuns } from '../../shared/reading.ts';
import type { WindowDefinition } from '../../shared/window/definition.ts';
import { bucketCodeOfWords, HIGH_WORD } from '../../shared/window/histogram.ts';
import type { PartialColumns } from '../../shared/window/partial-columns.ts';
import { GONE, type GroupRegistry } from './group-registry.ts';
import { NO_SOURCE, slotRows, type RowFilter, type RowSource } from './slot-rows.ts';
import {
  FIRST,
  FIRST_TS,
  GROUP,
  LAST,
  LAST_TS,
  LATE,
  M2,
  MAX,
  MEAN,
  MIN,
  N,
  NAN,
  Segment,
  SLOT_DOUBLES,
  SLOT_WORDS,
  SlotTable,
  START,
  SUM,
} from './slot-table.ts';

export interface WindowStateOptions {
  readonly registry: GroupRegistry;
  /** Slots of all definitions together; a slot costs about 200 bytes. An empty state takes any batch. */
  readonly slotsMax?: number;
}

/** About 800 MB: 100 k series in the default windows need 0.5 M slots per minute of backlog. */
const SLOTS_MAX_DEFAULT = 4_000_000;
/** Counts of a slot are int32. */
const READINGS_MAX = 2 ** 31 - 1;
/** Longer pieces of a run are cut: keeps the one-pass variance within 1e-11 and the scratch in the cache. */
const SEGMENT_READINGS_MAX = 256;

const LOW_WORD = 1 - HIGH_WORD;

export class WindowState {
  readonly definitions: readonly WindowDefinition[];
  readonly registry: GroupRegistry;
  readonly slotsMax: number;
  readonly #tables: readonly SlotTable[];
  readonly #startUs: Float64Array;
  readonly #windowNumber: Float64Array;
  /** The event times for which #startUs and #windowNumber hold, half-open. */
  #spanFromUs = 0;
  #spanToUs = 0;
  #readingCount = 0;
  #generation = -1;
  #segment = new Segment(SEGMENT_READINGS_MAX);
  #ids = new Uint32Array(64);

  constructor(definitions: readonly WindowDefinition[], options: WindowStateOptions) {
    this.definitions = definitions;
    this.registry = options.registry;
    this.slotsMax = options.slotsMax ?? SLOTS_MAX_DEFAULT;
    this.#tables = definitions.map((definition) => new SlotTable(definition.sizeMs * 1000));
    this.#startUs = new Float64Array(definitions.length);
    this.#windowNumber = new Float64Array(definitions.length);
  }

  /** Pairs of group and window, of all definitions together. */
  get groupCount(): number {
    return this.#tables.reduce((sum, table) => sum + table.count, 0);
  }

  /** Readings taken in, text-only ones included. */
  get readingCount(): number {
    return this.#readingCount;
  }

  /** Memory of the slots and histograms; the registry has its own. */
  get bytes(): number {
    return this.#tables.reduce((sum, table) => sum + table.bytes, 0);
  }

  /** Forgets everything. */
  clear(): void {
    for (const table of this.#tables) table.clear();
    this.#readingCount = 0;
  }

  /**
   * Merges a gateway's readings into their windows.
   *
   * @param runs as a batch has them; any order of times is right, ascending is fast
   * @param lateBeforeUs windows that end at or before it are closed: what still comes for them counts as late; -Infinity for none
   * @throws SluiceError ERR_WINDOW_GROUPS_FULL or ERR_WINDOW_STATE_FULL: flush, clear, compactGroups, then again.
   */
  add(gateway: string, runs: SeriesRuns, lateBeforeUs: number): void {
    this.#reserve(runs.count, runs.count * this.definitions.length);
    const seriesCount = runs.seriesTable.length;
    if (this.#ids.length < seriesCount) this.#ids = new Uint32Array(seriesCount * 2);
    this.registry.resolve(gateway, runs.seriesTable, this.#ids);
    this.#readingCount += runs.count;
    const { eventTimeUs, value, text, runOffsets } = runs;
    const words = new Int32Array(value.buffer, value.byteOffset, value.length * 2);
    const segment = this.#segment;
    for (let series = 0; series < seriesCount; series++) {
      const id = this.#ids[series];
      const end = runOffsets[series + 1];
      let from = runOffsets[series];
      while (from < end) {
        const to = this.#scan(eventTimeUs, value, words, text, from, Math.min(end, from + SEGMENT_READINGS_MAX));
        from = to;
        const counted = segment.stats[N] + segment.nan;
        if (counted !== 0) this.#apply(id, counted, lateBeforeUs);
      }
    }
  }

  #apply(seriesId: number, counted: number, lateBeforeUs: number): void {
    for (let index = 0; index < this.#tables.length; index++) {
      const table = this.#tables[index];
      const group = this.definitions[index].by === 'series' ? seriesId : this.registry.metricIdOf(seriesId);
      const startUs = this.#startUs[index];
      const late = startUs + table.sizeUs <= lateBeforeUs ? counted : 0;
      table.add(group, startUs, this.#windowNumber[index], this.#segment, late);
    }
  }

  /**
   * Sums up readings from `from` on, up to `end` or the first one outside the windows of `from`, into #segment.
   *
   * @returns the index after the last reading taken, at least from + 1
   */
  #scan(times: Float64Array, values: Float64Array, words: Int32Array, text: Uint32Array | null, from: number, end: number): number {
    const origin = times[from];
    if (!(origin >= this.#spanFromUs && origin < this.#spanToUs)) this.#moveTo(origin);
    const fromUs = this.#spanFromUs;
    const toUs = this.#spanToUs;
    const segment = this.#segment;
    const { codes, counts } = segment;
    let pair = -1;
    let code = 0;
    let n = 0;
    let nan = 0;
    let shift = 0;
    let sum = 0;
    let shiftedSum = 0;
    let shiftedSquares = 0;
    let min = Infinity;
    let max = -Infinity;
    let firstTs = Infinity;
    let first = 0;
    let lastTs = -Infinity;
    let last = 0;
    let i = from;
    do {
      const t = times[i];
      if (!(t >= fromUs && t < toUs)) break; // NaN too: the next call refuses it
      const v = values[i] + 0; // -0 becomes 0
      if (v - v !== 0) {
        if (text === null || text[i] === 0 || v === v) nan++;
        continue;
      }
      const own = v === 0 ? 0 : bucketCodeOfWords(words[i * 2 + HIGH_WORD], words[i * 2 + LOW_WORD]);
      if (own === code && pair >= 0) counts[pair]++;
      else {
        code = own;
        codes[++pair] = own;
        counts[pair] = 1;
      }
      if (n++ === 0) shift = v;
      sum += v;
      // Shifted by one of the values the squares exceed m2 at most (n + 1) times: no cancellation to speak of.
      const distance = v - shift;
      shiftedSum += distance;
      shiftedSquares += distance * distance;
      if (v < min) min = v;
      if (v > max) max = v;
      if (t < firstTs || (t === firstTs && v < first)) {
        firstTs = t;
        first = v;
      }
      if (t > lastTs || (t === lastTs && v > last)) {
        lastTs = t;
        last = v;
      }
    } while (++i < end);
    segment.codeCount = pair + 1;
    segment.nan = nan;
    const stats = segment.stats;
    stats[N] = n;
    stats[MEAN] = sum / n;
    stats[M2] = Math.max(0, shiftedSquares - (shiftedSum * shiftedSum) / n);
    stats[SUM] = sum;
    stats[MIN] = min;
    stats[MAX] = max;
    stats[FIRST] = first;
    stats[FIRST_TS] = firstTs;
    stats[LAST] = last;
    stats[LAST_TS] = lastTs;
    return i;
  }

  /** Finds the windows that a time lies in and the span for which all of them hold. */
  #moveTo(us: number): void {
    assert(Number.isSafeInteger(us), `event time ${us} is not an integer`);
    let fromUs = -Infinity;
    let toUs = Infinity;
    for (let index = 0; index < this.#tables.length; index++) {
      const { sizeUs } = this.#tables[index];
      const windowNumber = Math.floor(us / sizeUs);
      const startUs = windowNumber * sizeUs;
      this.#windowNumber[index] = windowNumber;
      this.#startUs[index] = startUs;
      fromUs = Math.max(fromUs, startUs);
      toUs = Math.min(toUs, startUs + sizeUs);
    }
    this.#spanFromUs = fromUs;
    this.#spanToUs = toUs;
  }

  /**
   * Merges another state of the same definitions and registry; the other one stays as it is.
   *
   * @throws SluiceError ERR_WINDOW_STATE_FULL
   */
  merge(other: WindowState): void {
    assert(other !== this && other.registry === this.registry, 'states of two registries');
    assert(other.definitions.length === this.definitions.length, 'states of different definitions');
    if (other.#readingCount === 0) return;
    other.#checkGeneration();
    this.#reserve(other.#readingCount, other.groupCount);
    this.#readingCount += other.#readingCount;
    let segment = new Segment(SEGMENT_READINGS_MAX);
    this.#tables.forEach((table, index) => {
      const source = other.#tables[index];
      assert(
        source.sizeUs === table.sizeUs && other.definitions[index].by === this.definitions[index].by,
        'states of different definitions',
      );
      for (let slot = 0; slot < source.count; slot++) {
        const pairs = source.codeCount(slot);
        if (pairs > segment.codes.length) segment = new Segment(pairs * 2);
        segment.codeCount = source.readCodes(slot, segment.codes, segment.counts);
        const at = slot * SLOT_DOUBLES;
        for (let field = N; field <= LAST_TS; field++) segment.stats[field] = source.doubles[at + field];
        segment.nan = source.words[slot * SLOT_WORDS + NAN];
        const startUs = source.doubles[at + START];
        table.add(
          source.words[slot * SLOT_WORDS + GROUP],
          startUs,
          startUs / table.sizeUs,
          segment,
          source.words[slot * SLOT_WORDS + LATE],
        );
      }
    });
  }

  /** Partials of one definition, in no order that means anything, one row per (group, window). */
  rows(definitionIndex: number, filter: RowFilter = {}, source: RowSource = NO_SOURCE): PartialColumns {
    if (this.#readingCount > 0) this.#checkGeneration();
    return slotRows(this.#tables[definitionIndex], this.registry, this.definitions[definitionIndex].by, filter, source);
  }

  #reserve(readings: number, slots: number): void {
    if (this.#readingCount === 0) {
      this.#generation = this.registry.generation;
      return;
    }
    this.#checkGeneration();
    if (this.#readingCount + readings > READINGS_MAX) {
      throw new SluiceError(
        'ERR_WINDOW_STATE_FULL',
        `${this.#readingCount} + ${readings} readings are more than the ${READINGS_MAX} that one state counts`,
      );
    }
    if (this.groupCount + slots > this.slotsMax) {
      throw new SluiceError(
        'ERR_WINDOW_STATE_FULL',
        `${this.groupCount} windows and up to ${slots} new ones are more than the ${this.slotsMax} allowed`,
      );
    }
  }

  #checkGeneration(): void {
    assert(this.#generation === this.registry.generation, 'the registry was compacted without this state');
  }

  /** Marks the groups that have slots; for compactGroups. */
  markGroups(seriesMarks: Uint8Array, metricMarks: Uint8Array): void {
    if (this.#readingCount === 0) return;
    this.#checkGeneration();
    this.#tables.forEach((table, index) => {
      const marks = this.definitions[index].by === 'series' ? seriesMarks : metricMarks;
      for (let slot = 0; slot < table.count; slot++) marks[table.words[slot * SLOT_WORDS + GROUP]] = 1;
    });
  }

  /** Takes the new ids of its groups over; for compactGroups. */
  renumberGroups(series: Uint32Array, metric: Uint32Array): void {
    this.#tables.forEach((table, index) => {
      const newIds = this.definitions[index].by === 'series' ? series : metric;
      for (let slot = 0; slot < table.count; slot++)
        assert(newIds[table.words[slot * SLOT_WORDS + GROUP]] !== GONE, 'a group in use is gone');
      table.renumber(newIds);
    });
    this.#generation = this.registry.generation;
  }
}

/**
 * Forgets all series that none of the states uses. `states` must be all that share the registry and hold something: any
 * other one fails its next call. With none, it empties the registry.
 */
export function compactGroups(registry: GroupRegistry, states: readonly WindowState[]): void {
  const seriesMarks = new Uint8Array(registry.seriesCount);
  const metricMarks = new Uint8Array(registry.metricCount);
  for (const state of states) state.markGroups(seriesMarks, metricMarks);
  const { series, metric } = registry.keep(seriesMarks, metricMarks);
  for (const state of states) state.renumberGroups(series, metric);
}
