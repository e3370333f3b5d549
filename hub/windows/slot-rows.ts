/**
 * Slots of a SlotTable as PartialColumns, filtered.
 */
import { CODE_OFFSET } from '../../shared/window/histogram.ts';
import type { WindowBy } from '../../shared/window/definition.ts';
import {
  scalarColumns,
  type GroupKey,
  type HistogramColumn,
  type PartialColumns,
  type ScalarColumns,
} from '../../shared/window/partial-columns.ts';
import type { Steps } from '../steps.ts';
import type { GroupRegistry } from './group-registry.ts';
import { FIRST, FIRST_TS, GROUP, LAST, LAST_TS, LATE, M2, MAX, MEAN, MIN, N, NAN, SLOT_DOUBLES, SLOT_WORDS, SUM } from './slot-layout.ts';
import type { SlotTable } from './slot-table.ts';

/** The names that a key may have. A key that the definition does not group by matches no filter. */
export type KeyFilter = string | ReadonlySet<string> | ((name: string) => boolean);

export interface RowFilter {
  /** Window starts, half-open [fromUs, toUs) in µs. */
  readonly fromUs?: number;
  readonly toUs?: number;
  readonly gateway?: KeyFilter;
  readonly device?: KeyFilter;
  readonly metric?: KeyFilter;
}

/** What every row of one flush has in common; WindowPartial explains the fields. */
export interface RowSource {
  readonly gen: number;
  readonly srcFrom: number;
  readonly srcTo: number;
}

export const NO_SOURCE: RowSource = { gen: 0, srcFrom: Infinity, srcTo: -Infinity };

function keyMatches(filter: KeyFilter | undefined, name: string | null): boolean {
  if (filter === undefined) return true;
  if (name === null) return false;
  if (typeof filter === 'string') return filter === name;
  return typeof filter === 'function' ? filter(name) : filter.has(name);
}

const UNDECIDED = -1;
export const REJECTED = -2;

/** Decides about each group once and numbers those that have rows. */
export class GroupSelection {
  readonly keys: GroupKey[] = [];
  /** By group; a map where so few are asked for that an array of all groups would be most of the work. */
  readonly #index: Int32Array | Map<number, number>;
  readonly #registry: GroupRegistry;
  readonly #by: WindowBy;
  readonly #filter: RowFilter;

  constructor(registry: GroupRegistry, by: WindowBy, filter: RowFilter) {
    const isNamed = by === 'series' && filter.device !== undefined && typeof filter.device !== 'function';
    this.#index = isNamed ? new Map<number, number>() : new Int32Array(registry.groupCount(by)).fill(UNDECIDED);
    this.#registry = registry;
    this.#by = by;
    this.#filter = filter;
  }

  /** Row of the group table, or REJECTED. */
  select(group: number): number {
    const index = this.#index;
    const known = index instanceof Map ? (index.get(group) ?? UNDECIDED) : index[group];
    if (known !== UNDECIDED) return known;
    const key = this.#registry.groupKey(this.#by, group);
    const { gateway, device, metric } = this.#filter;
    const wanted = keyMatches(gateway, key.gateway) && keyMatches(device, key.device) && keyMatches(metric, key.metric);
    const row = wanted ? this.keys.push(key) - 1 : REJECTED;
    if (index instanceof Map) index.set(group, row);
    else index[group] = row;
    return row;
  }
}

/** Writes one slot's pairs after another, negative and positive buckets ascending, zero apart. */
class HistogramWriter {
  readonly #codes: Int32Array;
  readonly #counts: Int32Array;
  readonly #positive: Int32Array;
  readonly #positiveCounts: Float64Array;
  readonly #positiveOffsets: Uint32Array;
  #positiveNext = 0;
  readonly #negative: Int32Array;
  readonly #negativeCounts: Float64Array;
  readonly #negativeOffsets: Uint32Array;
  #negativeNext = 0;

  constructor(rows: number, pairs: number, pairsPerRowMax: number) {
    this.#codes = new Int32Array(pairsPerRowMax);
    this.#counts = new Int32Array(this.#codes.length);
    this.#positive = new Int32Array(pairs);
    this.#positiveCounts = new Float64Array(pairs);
    this.#positiveOffsets = new Uint32Array(rows + 1);
    this.#negative = new Int32Array(pairs);
    this.#negativeCounts = new Float64Array(pairs);
    this.#negativeOffsets = new Uint32Array(rows + 1);
  }

  /** @returns the count of zeros */
  write(table: SlotTable, slot: number, row: number): number {
    const count = table.readCodes(slot, this.#codes, this.#counts);
    sortByCode(this.#codes, this.#counts, count);
    let zero = 0;
    for (let i = count - 1; i >= 0; i--) {
      if (this.#codes[i] >= 0) continue;
      this.#negative[this.#negativeNext] = -this.#codes[i] - CODE_OFFSET;
      this.#negativeCounts[this.#negativeNext++] = this.#counts[i];
    }
    for (let i = 0; i < count; i++) {
      if (this.#codes[i] === 0) zero = this.#counts[i];
      if (this.#codes[i] <= 0) continue;
      this.#positive[this.#positiveNext] = this.#codes[i] - CODE_OFFSET;
      this.#positiveCounts[this.#positiveNext++] = this.#counts[i];
    }
    this.#positiveOffsets[row + 1] = this.#positiveNext;
    this.#negativeOffsets[row + 1] = this.#negativeNext;
    return zero;
  }

  positive(): HistogramColumn {
    const end = this.#positiveNext;
    return { offsets: this.#positiveOffsets, buckets: this.#positive.slice(0, end), counts: this.#positiveCounts.slice(0, end) };
  }

  negative(): HistogramColumn {
    const end = this.#negativeNext;
    return { offsets: this.#negativeOffsets, buckets: this.#negative.slice(0, end), counts: this.#negativeCounts.slice(0, end) };
  }
}

/** By insertion up to this length; a histogram of one window mostly has a handful of buckets. */
const INSERTION_SORT_MAX = 48;

function sortByCode(codes: Int32Array, counts: Int32Array, length: number): void {
  if (length > INSERTION_SORT_MAX) {
    const order = Array.from(codes.subarray(0, length), (code, index) => ({ code, count: counts[index] })).sort((a, b) => a.code - b.code);
    order.forEach(({ code, count }, index) => {
      codes[index] = code;
      counts[index] = count;
    });
    return;
  }
  for (let i = 1; i < length; i++) {
    const code = codes[i];
    const count = counts[i];
    let at = i - 1;
    for (; at >= 0 && codes[at] > code; at--) {
      codes[at + 1] = codes[at];
      counts[at + 1] = counts[at];
    }
    codes[at + 1] = code;
    counts[at + 1] = count;
  }
}

function copyScalars(table: SlotTable, slot: number, row: number, columns: ScalarColumns): void {
  const { doubles, words } = table;
  const at = slot * SLOT_DOUBLES;
  const n = doubles[at + N];
  columns.n[row] = n;
  columns.mean[row] = doubles[at + MEAN];
  columns.m2[row] = doubles[at + M2];
  columns.sumValue[row] = doubles[at + SUM];
  columns.minValue[row] = n === 0 ? NaN : doubles[at + MIN];
  columns.maxValue[row] = n === 0 ? NaN : doubles[at + MAX];
  columns.firstValue[row] = n === 0 ? NaN : doubles[at + FIRST];
  columns.firstTsUs[row] = n === 0 ? NaN : doubles[at + FIRST_TS];
  columns.lastValue[row] = n === 0 ? NaN : doubles[at + LAST];
  columns.lastTsUs[row] = n === 0 ? NaN : doubles[at + LAST_TS];
  columns.nan[row] = words[slot * SLOT_WORDS + NAN];
  const late = words[slot * SLOT_WORDS + LATE];
  columns.late[row] = late;
  columns.revision[row] = late > 0 ? 1 : 0;
}

/**
 * Slots of the series and starts that a filter names one by one, in the order of their creation: a hot query asks for one
 * device, and the table has a slot of every series in every window.
 *
 * @returns null: it names none, or so many that a look at every slot is cheaper
 */
export function namedSlots(table: SlotTable, registry: GroupRegistry, by: WindowBy, filter: RowFilter): Int32Array | null {
  const { fromUs = -Infinity, toUs = Infinity, device } = filter;
  if (by !== 'series' || device === undefined || typeof device === 'function') return null;
  // A part of the overlay mostly holds some seconds: what is asked for before and behind them need not be looked for.
  const firstUs = Math.max(table.firstStartUs, Math.ceil(fromUs / table.stepUs) * table.stepUs);
  const endUs = Math.min(table.lastStartUs + table.stepUs, toUs);
  const starts = Math.max(0, Math.ceil((endUs - firstUs) / table.stepUs));
  const devices = typeof device === 'string' ? [device] : [...device];
  if (!(starts * devices.length < table.count)) return null;
  const groups = devices.flatMap((name) => registry.seriesOfDevice(name));
  if (groups.length * starts >= table.count) return null;
  const slots: number[] = [];
  for (const group of groups) {
    for (let start = 0; start < starts; start++) {
      const slot = table.slotOf(group, firstUs + start * table.stepUs);
      if (slot >= 0) slots.push(slot);
    }
  }
  return Int32Array.from(slots).sort();
}

/** Rows in the making: the slots that pass the filter are selected, then copied; both may be done in parts. */
class RowsOfSlots {
  readonly #table: SlotTable;
  readonly #fromUs: number;
  readonly #toUs: number;
  readonly #selection: GroupSelection;
  readonly #named: Int32Array | null;
  readonly candidates: number;
  /** The first `count` are selected. */
  readonly #slots: Int32Array;
  count = 0;
  #pairs = 0;
  #pairsPerRowMax = 0;

  constructor(table: SlotTable, registry: GroupRegistry, by: WindowBy, filter: RowFilter) {
    this.#table = table;
    this.#fromUs = filter.fromUs ?? -Infinity;
    this.#toUs = filter.toUs ?? Infinity;
    this.#selection = new GroupSelection(registry, by, filter);
    this.#named = namedSlots(table, registry, by, filter);
    this.candidates = this.#named?.length ?? table.count;
    this.#slots = new Int32Array(this.candidates);
  }

  select(from: number, to: number): void {
    const table = this.#table;
    for (let index = from; index < to; index++) {
      const slot = this.#named === null ? index : this.#named[index];
      const startUs = table.doubles[slot * SLOT_DOUBLES];
      if (startUs < this.#fromUs || startUs >= this.#toUs) continue;
      if (this.#selection.select(table.words[slot * SLOT_WORDS + GROUP]) === REJECTED) continue;
      this.#slots[this.count++] = slot;
      const slotPairs = table.codeCount(slot);
      this.#pairs += slotPairs;
      if (slotPairs > this.#pairsPerRowMax) this.#pairsPerRowMax = slotPairs;
    }
  }

  *copied(windowSizeUs: number, source: RowSource, rowsPerStep: number): Steps<PartialColumns> {
    const table = this.#table;
    const { count } = this;
    const scalars = scalarColumns(count);
    const group = new Uint32Array(count);
    const windowStartUs = new Float64Array(count);
    const histograms = new HistogramWriter(count, this.#pairs, this.#pairsPerRowMax);
    for (let from = 0; from < count; from += rowsPerStep) {
      const to = Math.min(count, from + rowsPerStep);
      for (let row = from; row < to; row++) {
        const slot = this.#slots[row];
        group[row] = this.#selection.select(table.words[slot * SLOT_WORDS + GROUP]);
        windowStartUs[row] = table.doubles[slot * SLOT_DOUBLES];
        copyScalars(table, slot, row, scalars);
        scalars.histZero[row] = histograms.write(table, slot, row);
      }
      if (to < count) yield;
    }
    scalars.gen.fill(source.gen);
    scalars.srcFrom.fill(source.srcFrom);
    scalars.srcTo.fill(source.srcTo);
    const { keys } = this.#selection;
    return {
      count,
      groups: {
        count: keys.length,
        gateway: keys.map((key) => key.gateway),
        device: keys.map((key) => key.device),
        metric: keys.map((key) => key.metric),
        tags: keys.map((key) => key.tags),
      },
      group,
      windowSizeUs,
      windowStartUs,
      ...scalars,
      histPos: histograms.positive(),
      histNeg: histograms.negative(),
    };
  }
}

/**
 * The slots that pass the filter, in the order of their creation; each is the partial of one window. The table stays as it is
 * until the last step.
 *
 * @param perStep slots that are looked at, or copied, in one step; Infinity: all
 */
export function* slotRows(
  table: SlotTable,
  windowSizeUs: number,
  registry: GroupRegistry,
  by: WindowBy,
  filter: RowFilter,
  source: RowSource,
  perStep: number,
): Steps<PartialColumns> {
  const rows = new RowsOfSlots(table, registry, by, filter);
  for (let from = 0; from < rows.candidates; from += perStep) {
    rows.select(from, Math.min(rows.candidates, from + perStep));
    if (from + perStep < rows.candidates) yield;
  }
  return yield* rows.copied(windowSizeUs, source, perStep);
}
