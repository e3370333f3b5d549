/**
 * WindowState: partials of all window definitions over some readings, in memory, merged as they come.
 *
 * Purpose: one state per thing that appears or disappears as a whole: the tail behind the last flush, or one part of the
 * overlay. States that share a GroupRegistry merge by id.
 *
 * Constraints: no per-reading object, no per-reading lookup (design: 35 ns per reading at 1 k series, 100 at 100 k).
 * A run of a series is cut where a pane ends; each piece (segment) is summed up once and merged into one slot of each base
 * (pane-plan.ts; the default definitions have one base), so definitions cost those who ask for rows, not each reading.
 *
 * Layout: a SlotTable of panes per base; a SlotTable of windows per definition with what came late, which a pane could not
 * say for every window that it is part of; a scratch Segment; the pane that the last reading lay in, per base.
 *
 * A merge may be done in steps. What is merged counts from the start of it: until a slot was merged, `rows` takes it from
 * where it is, so rows between two steps say what those after the last one say. Whatever changes the state otherwise, or
 * renumbers its groups, has the rest merged first. The owner leaves the other states as they are until then.
 *
 * A throw from `add`, `merge` or `startMerge` leaves the state as it was. It knows nothing of versions, positions and flushes: its
 * owner does. A crash loses it, and restart rebuilds it from the lake.
 */
import assert from 'node:assert/strict';
import { SluiceError } from '../../shared/errors.ts';
import type { SeriesRuns } from '../../shared/reading.ts';
import { slideUsOf, type WindowBy, type WindowDefinition } from '../../shared/window/definition.ts';
import type { PartialColumns } from '../../shared/window/partial-columns.ts';
import { GONE, type GroupRegistry } from './group-registry.ts';
import { planPanes, serves, type PaneBase } from './pane-plan.ts';
import { atOnce, type Steps } from '../steps.ts';
import { GroupSelection, namedSlots, NO_SOURCE, REJECTED, slotRows, type RowFilter, type RowSource } from './slot-rows.ts';
import { isTextOnly, Segment, sumUp, type RunColumns } from './segment.ts';
import { GROUP, N, SLOT_DOUBLES, SLOT_WORDS, START } from './slot-layout.ts';
import { SlotTable } from './slot-table.ts';

export interface WindowStateOptions {
  readonly registry: GroupRegistry;
  /** Slots of all tables together; a slot costs about 200 bytes. An empty state takes any batch. */
  readonly slotsMax?: number;
}

/** About 800 MB: 100 k series in panes of 10 s need 0.6 M slots per minute of backlog. */
export const WINDOW_SLOTS_MAX_DEFAULT = 4_000_000;
/** Counts of a slot are int32. */
const READINGS_MAX = 2 ** 31 - 1;
/** Longer pieces of a run are cut: keeps the one-pass variance within 1e-11 and the scratch in the cache. */
const SEGMENT_READINGS_MAX = 256;
/** Slots that are rolled up in one step: some ms. */
export const SLOTS_PER_STEP = 8_192;

/** What a definition's rows are made of. */
interface WindowTable {
  readonly by: WindowBy;
  readonly sizeUs: number;
  readonly slideUs: number;
  /** Index of its base. */
  readonly base: number;
  /** Windows of readings that were late for some window of some definition. */
  readonly late: SlotTable;
}

interface Base extends PaneBase {
  readonly panes: SlotTable;
}

/** A table of another state on its way into one of this state. */
interface MergeSource {
  readonly source: SlotTable;
  readonly by: WindowBy;
  readonly target: SlotTable;
  readonly targetBy: WindowBy;
  /** Of a slot of the target. */
  readonly sizeUs: number;
  /** The slots before it are in the target. */
  next: number;
}

/** Which slots are rolled up, and into what. */
interface RollUpSpan {
  /** Id in the target, or REJECTED. */
  readonly groupOf: (group: number) => number;
  /** Of a slot of the target, which begins at a multiple of the target's step. */
  readonly sizeUs: number;
  readonly fromUs?: number;
  readonly toUs?: number;
  /** Of the source, ascending; null: all. */
  readonly slots?: Int32Array | null;
  /** None before it. */
  readonly firstSlot?: number;
  /** None from it on. */
  readonly endSlot?: number;
}

export class WindowState {
  readonly definitions: readonly WindowDefinition[];
  readonly registry: GroupRegistry;
  readonly slotsMax: number;
  readonly #bases: readonly Base[];
  readonly #windows: readonly WindowTable[];
  /** All of them, the panes of each base first. */
  readonly #tables: readonly SlotTable[];
  /** Number of the current pane, per base. */
  readonly #paneNumber: Float64Array;
  /** The event times for which #paneNumber and #firstEndUs hold, half-open: from, to. */
  readonly #spanUs = new Float64Array(2);
  /** The first end of the windows that the span lies in: once it is behind the watermark, some window is closed. */
  #firstEndUs = 0;
  #readingCount = 0;
  #generation = -1;
  /** Of the merge under way, those that are not done. */
  #merging: MergeSource[] = [];
  readonly #segment = new Segment(SEGMENT_READINGS_MAX);

  constructor(definitions: readonly WindowDefinition[], options: WindowStateOptions) {
    this.definitions = definitions;
    this.registry = options.registry;
    this.slotsMax = options.slotsMax ?? WINDOW_SLOTS_MAX_DEFAULT;
    const { bases, baseOf } = planPanes(definitions);
    this.#bases = bases.map((base) => ({ ...base, panes: new SlotTable(base.paneUs) }));
    this.#windows = definitions.map((definition, index) => {
      const slideUs = slideUsOf(definition);
      return { by: definition.by, sizeUs: definition.sizeMs * 1000, slideUs, base: baseOf[index], late: new SlotTable(slideUs) };
    });
    this.#tables = [...this.#bases.map(({ panes }) => panes), ...this.#windows.map(({ late }) => late)];
    this.#paneNumber = new Float64Array(bases.length);
  }

  /** Slots: pairs of group and pane, and those of late windows. */
  get slotCount(): number {
    return this.#tables.reduce((sum, { count }) => sum + count, 0);
  }

  /** Readings taken in, text-only ones included. */
  get readingCount(): number {
    return this.#readingCount;
  }

  /** Memory of the slots and histograms; the registry has its own. */
  get bytes(): number {
    return this.#tables.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Forgets everything. */
  clear(): void {
    this.#merging = [];
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
    this.#finishMerge();
    this.#reserve(runs.count, runs.count * this.#slotsPerReading(lateBeforeUs));
    const seriesCount = runs.seriesTable.length;
    const ids = this.registry.idsOf(gateway, runs.seriesTable);
    this.#readingCount += runs.count;
    const run = {
      times: runs.eventTimeUs,
      values: runs.value,
      words: new Int32Array(runs.value.buffer, runs.value.byteOffset, runs.value.length * 2),
      text: runs.text,
      spanUs: this.#spanUs,
    };
    const { runOffsets } = runs;
    for (let series = 0; series < seriesCount; series++)
      this.#addRun(ids[series], run, runOffsets[series], runOffsets[series + 1], lateBeforeUs);
  }

  #addRun(seriesId: number, run: RunColumns, start: number, end: number, lateBeforeUs: number): void {
    const spanUs = this.#spanUs;
    let from = start;
    while (from < end) {
      const origin = run.times[from];
      if (!(origin >= spanUs[0] && origin < spanUs[1])) this.#moveTo(origin);
      if (run.text !== null && isTextOnly(run, from)) {
        from++;
        continue;
      }
      const to = Math.min(end, from + SEGMENT_READINGS_MAX);
      from =
        this.#bases.length === 1 && this.#firstEndUs > lateBeforeUs
          ? this.#addToPane(seriesId, run, from, to)
          : this.#addToAll(seriesId, run, from, to, lateBeforeUs);
    }
  }

  #addToPane(seriesId: number, run: RunColumns, from: number, to: number): number {
    const { by, panes } = this.#bases[0];
    return panes.addRun(by === 'series' ? seriesId : this.registry.metricIdOf(seriesId), this.#paneNumber[0], run, from, to, this.#segment);
  }

  #addToAll(seriesId: number, run: RunColumns, from: number, to: number, lateBeforeUs: number): number {
    const segment = this.#segment;
    const next = sumUp(run, from, to, segment, segment.stats, 0);
    if (this.#firstEndUs <= lateBeforeUs) {
      this.#addLate(seriesId, run.times[from], segment.stats[N] + segment.nan, lateBeforeUs);
      return next;
    }
    this.#bases.forEach(({ by, panes }, index) => {
      panes.add(by === 'series' ? seriesId : this.registry.metricIdOf(seriesId), this.#paneNumber[index], segment, 0);
    });
    return next;
  }

  /** How many slots a reading may need at most. */
  #slotsPerReading(lateBeforeUs: number): number {
    if (lateBeforeUs === -Infinity) return this.#bases.length;
    const windows = this.#windows.reduce((sum, { sizeUs, slideUs }) => sum + sizeUs / slideUs, 0);
    return Math.max(this.#bases.length, windows);
  }

  /** Each window says for itself whether it was closed. */
  #addLate(seriesId: number, us: number, counted: number, lateBeforeUs: number): void {
    for (const { by, sizeUs, slideUs, late } of this.#windows) {
      const group = by === 'series' ? seriesId : this.registry.metricIdOf(seriesId);
      const last = Math.floor(us / slideUs);
      for (let number = last; number * slideUs + sizeUs > us; number--) {
        late.add(group, number, this.#segment, number * slideUs + sizeUs <= lateBeforeUs ? counted : 0);
      }
    }
  }

  /** Finds the panes that a time lies in and the span for which all of them hold. */
  #moveTo(us: number): void {
    assert(Number.isSafeInteger(us), `event time ${us} is not an integer`);
    let fromUs = -Infinity;
    let toUs = Infinity;
    for (let index = 0; index < this.#bases.length; index++) {
      const { paneUs } = this.#bases[index];
      const number = Math.floor(us / paneUs);
      this.#paneNumber[index] = number;
      fromUs = Math.max(fromUs, number * paneUs);
      toUs = Math.min(toUs, (number + 1) * paneUs);
    }
    this.#spanUs[0] = fromUs;
    this.#spanUs[1] = toUs;
    this.#firstEndUs = Infinity;
    // The first window that ends behind a time ends at the next multiple of the slide: the size is one, too.
    for (const { slideUs } of this.#windows) this.#firstEndUs = Math.min(this.#firstEndUs, (Math.floor(us / slideUs) + 1) * slideUs);
  }

  /**
   * Merges other states of the same registry that have all definitions of this one, all of them or none; they stay as they are.
   *
   * @throws SluiceError ERR_WINDOW_STATE_FULL
   */
  merge(...others: readonly WindowState[]): void {
    this.startMerge(...others);
    this.#finishMerge();
  }

  /**
   * As `merge`, done by `mergeStep`; rows say from now on what they will say when it is done.
   *
   * @throws SluiceError ERR_WINDOW_STATE_FULL: nothing has changed
   */
  startMerge(...others: readonly WindowState[]): void {
    this.#finishMerge();
    const held = others.filter((other) => other.#readingCount > 0);
    if (held.length === 0) return;
    for (const other of held) {
      assert(other !== this && other.registry === this.registry, 'states of two registries');
      other.#checkGeneration();
    }
    const readings = held.reduce((sum, other) => sum + other.#readingCount, 0);
    this.#reserve(
      readings,
      held.reduce((sum, other) => sum + other.slotCount, 0),
    );
    this.#readingCount += readings;
    this.#merging = held.flatMap((other) => this.#sourcesOf(other)).filter(({ source }) => source.count > 0);
  }

  #sourcesOf(other: WindowState): MergeSource[] {
    const panes = this.#bases.map((base): MergeSource => {
      const source = other.#bases.findLast((one) => serves(one, base));
      assert(source !== undefined, 'a state with fewer definitions');
      return { source: source.panes, by: source.by, target: base.panes, targetBy: base.by, sizeUs: base.paneUs, next: 0 };
    });
    const late = this.#windows.map((window, index): MergeSource => {
      const source = other.#windows[other.definitions.indexOf(this.definitions[index])];
      assert(source !== undefined, 'a state with other definitions');
      return { source: source.late, by: source.by, target: window.late, targetBy: window.by, sizeUs: window.slideUs, next: 0 };
    });
    return [...panes, ...late];
  }

  /** A merge was started and is not done. */
  get isMerging(): boolean {
    return this.#merging.length > 0;
  }

  /** @param slotsMax that it takes into their places at most: some tenths of a µs each, more where their values differ much */
  mergeStep(slotsMax: number): void {
    let left = slotsMax;
    while (left > 0 && this.#merging.length > 0) {
      const one = this.#merging[0];
      const end = Math.min(one.source.count, one.next + left);
      this.#rollUp(one.source, one.target, {
        groupOf: this.#groupOf(one.by, one.targetBy),
        sizeUs: one.sizeUs,
        firstSlot: one.next,
        endSlot: end,
      });
      left -= end - one.next;
      one.next = end;
      if (end === one.source.count) this.#merging.shift();
    }
  }

  #finishMerge(): void {
    this.mergeStep(Infinity);
  }

  #groupOf(from: WindowBy, to: WindowBy): (group: number) => number {
    return from === to ? (group) => group : (group) => this.registry.metricIdOf(group);
  }

  /** Merges slots into all that their start lies in. */
  #rollUp(source: SlotTable, target: SlotTable, span: RollUpSpan): void {
    const { groupOf, sizeUs, fromUs = -Infinity, toUs = Infinity, slots = null, firstSlot = 0, endSlot = source.count } = span;
    const end = slots?.length ?? endSlot;
    for (let index = slots === null ? firstSlot : 0; index < end; index++) {
      const slot = slots === null ? index : slots[index];
      if (slot < firstSlot || slot >= endSlot) continue;
      const paneUs = source.doubles[slot * SLOT_DOUBLES + START];
      const last = Math.floor(paneUs / target.stepUs);
      if (last * target.stepUs < fromUs || paneUs - sizeUs >= toUs) continue;
      const group = groupOf(source.words[slot * SLOT_WORDS + GROUP]);
      if (group === REJECTED) continue;
      for (let number = last; ; number--) {
        const startUs = number * target.stepUs;
        if (startUs + sizeUs <= paneUs || startUs < fromUs) break;
        if (startUs < toUs) target.addSlot(group, number, source, slot);
      }
    }
  }

  /**
   * Partials of one definition, in no order that means anything, one row per (group, window).
   *
   * Cost: a look at every pane, and putting together those of the rows.
   */
  rows(definitionIndex: number, filter: RowFilter = {}, source: RowSource = NO_SOURCE): PartialColumns {
    return atOnce(this.#rows(definitionIndex, filter, source, Infinity));
  }

  /** As `rows`; the state stays as it is until the last step. */
  *rowsInSteps(definitionIndex: number, filter: RowFilter = {}, source: RowSource = NO_SOURCE): Steps<PartialColumns> {
    const { readingCount } = this;
    const rows = yield* this.#rows(definitionIndex, filter, source, SLOTS_PER_STEP);
    assert(this.#readingCount === readingCount, 'the state changed while its rows were read');
    return rows;
  }

  /** Merges the windows that pass the filter, and perhaps others, into a table of the definition's windows. As rowsInSteps. */
  *rollUpInSteps(definitionIndex: number, filter: RowFilter, windows: SlotTable): Steps<void> {
    const { readingCount } = this;
    if (readingCount > 0) this.#checkGeneration();
    yield* this.#rollUpAll(this.#windows[definitionIndex], filter, windows, SLOTS_PER_STEP);
    assert(this.#readingCount === readingCount, 'the state changed while its rows were read');
  }

  *#rows(definitionIndex: number, filter: RowFilter, source: RowSource, perStep: number): Steps<PartialColumns> {
    if (this.#readingCount > 0) this.#checkGeneration();
    const window = this.#windows[definitionIndex];
    const windows = yield* this.#windowsOf(window, filter, perStep);
    return yield* slotRows(windows, window.sizeUs, this.registry, window.by, filter, source, perStep);
  }

  /** At least the windows that pass the filter. */
  *#windowsOf(window: WindowTable, filter: RowFilter, perStep: number): Steps<SlotTable> {
    const { by, sizeUs, slideUs, base, late } = window;
    const panes = this.#bases[base];
    const isMerging = this.#merging.some(({ target }) => target === panes.panes || target === late);
    if (late.count === 0 && panes.by === by && panes.paneUs === sizeUs && !isMerging) return panes.panes;
    // What is done in steps is large.
    const windows = new SlotTable(slideUs, perStep === Infinity ? 0 : Math.floor((panes.panes.count * panes.paneUs) / slideUs));
    yield* this.#rollUpAll(window, filter, windows, perStep);
    return windows;
  }

  *#rollUpAll({ by, sizeUs, slideUs, base, late }: WindowTable, filter: RowFilter, windows: SlotTable, perStep: number): Steps<void> {
    const panes = this.#bases[base];
    const merging = this.#merging.filter(({ target }) => target === panes.panes || target === late);
    const selection = new GroupSelection(this.registry, by, filter);
    const toGroup = this.#groupOf(panes.by, by);
    const times = { fromUs: filter.fromUs ?? -Infinity, toUs: filter.toUs ?? Infinity };
    // A window begins up to its size before the last of its panes.
    const around = { ...filter, toUs: times.toUs + sizeUs };
    const slotsOf = (table: SlotTable, tableBy: WindowBy): Int32Array | null => namedSlots(table, this.registry, tableBy, around);
    const wanted = (group: number): number => (selection.select(group) === REJECTED ? REJECTED : group);
    const panesSpan = { groupOf: (group: number) => wanted(toGroup(group)), sizeUs, slots: slotsOf(panes.panes, panes.by), ...times };
    yield* this.#rollUpInSteps(panes.panes, windows, panesSpan, perStep);
    yield* this.#rollUpInSteps(late, windows, { groupOf: wanted, sizeUs: slideUs, slots: slotsOf(late, by), ...times }, perStep);
    for (const one of merging) {
      const ownGroup = this.#groupOf(one.by, by);
      const span = {
        groupOf: (group: number) => wanted(ownGroup(group)),
        // A late window is one window; a pane is part of all that it lies in.
        sizeUs: one.target === late ? slideUs : sizeUs,
        slots: slotsOf(one.source, one.by),
        firstSlot: one.next,
        ...times,
      };
      yield* this.#rollUpInSteps(one.source, windows, span, perStep);
    }
  }

  *#rollUpInSteps(source: SlotTable, target: SlotTable, span: RollUpSpan, perStep: number): Steps<void> {
    // Named slots are few.
    const slots = span.slots === undefined || span.slots === null ? perStep : Infinity;
    for (let firstSlot = span.firstSlot ?? 0; firstSlot < source.count; firstSlot += slots) {
      this.#rollUp(source, target, { ...span, firstSlot, endSlot: Math.min(source.count, firstSlot + slots) });
      if (firstSlot + slots < source.count) yield;
    }
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
    const { slotCount } = this;
    if (slotCount + slots > this.slotsMax) {
      throw new SluiceError(
        'ERR_WINDOW_STATE_FULL',
        `${slotCount} slots and up to ${slots} new ones are more than the ${this.slotsMax} allowed`,
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
    this.#finishMerge();
    for (const { by, table } of this.#tablesBy()) {
      const marks = by === 'series' ? seriesMarks : metricMarks;
      for (let slot = 0; slot < table.count; slot++) marks[table.words[slot * SLOT_WORDS + GROUP]] = 1;
    }
  }

  #tablesBy(): { by: WindowBy; table: SlotTable }[] {
    return [...this.#bases.map(({ by, panes }) => ({ by, table: panes })), ...this.#windows.map(({ by, late }) => ({ by, table: late }))];
  }

  /** Takes the new ids of its groups over; for compactGroups. */
  renumberGroups(series: Uint32Array, metric: Uint32Array): void {
    for (const { by, table } of this.#tablesBy()) {
      const newIds = by === 'series' ? series : metric;
      for (let slot = 0; slot < table.count; slot++) {
        assert(newIds[table.words[slot * SLOT_WORDS + GROUP]] !== GONE, 'a group in use is gone');
      }
      table.renumber(newIds);
    }
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
