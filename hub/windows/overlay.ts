/**
 * The states of this hub's windows: tail and overlay.
 *
 * Purpose: at every moment the lake's partials, the tail and the overlay together are every reading that this hub knows
 * of, once, so that a capture can take all of them in one synchronous step.
 *
 * Layout
 *   tail:  committed readings that are not yet in `aggregates`, in the persisted definitions
 *   group: the batches of the commit under way, provisional
 *   open:  the batches that wait, provisional
 * Group and open are lists of parts, one state each: mostly of one part, which a commit takes as it is. Where more waits
 * than a commit takes, what comes behind begins parts of its own, so that a commit that leaves batches behind has only
 * the parts made anew that it takes some batches of; in one state all that waits would be summed up again for every commit.
 * A commit takes a batch of each lane in turn, and lanes come in bursts: parts go by the round in which a commit will take a
 * batch, not by when it came (four lanes at full speed, by when they came: every reading was summed up 1.2 times more).
 * All share one registry, so that a commit that wins is a merge of group into tail. It counts at once and is done in steps
 * (`mergeStep`): in one, captures would wait for 10 to 30 ms of it after each large commit.
 *
 * Crash: all is in memory; tail is rebuilt from the lake, group and open by the gateways.
 *
 * Bounds: series of the registry, slots of a state and of all open parts together. What does not fit into the overlay stays out of provisional answers
 * (`complete` is false until the next rotation) and is taken from its columns once it is committed; a full tail throws,
 * and its owner flushes, then lets the overlay give way. An empty tail takes any version: a commit bounds its readings.
 */
import { isSluiceError } from '../../shared/errors.ts';
import type { SeriesRuns } from '../../shared/reading.ts';
import { slideUsOf, type WindowDefinition } from '../../shared/window/definition.ts';
import type { PartialColumns } from '../../shared/window/partial-columns.ts';
import type { Steps } from '../steps.ts';
import type { GroupRegistry } from './group-registry.ts';
import { NO_SOURCE, slotRows, type RowFilter } from './slot-rows.ts';
import { SlotTable } from './slot-table.ts';
import { compactGroups, SLOTS_PER_STEP, WINDOW_SLOTS_MAX_DEFAULT, WindowState } from './window-state.ts';

/** A gateway's readings on their way into windows. */
export interface GatewayRuns {
  readonly gateway: string;
  readonly runs: SeriesRuns;
}

interface Part {
  readonly state: WindowState;
  /** Everything of `batches` is in the state. */
  complete: boolean;
  batches: OpenBatch[];
  /** Of the batches. */
  readings: number;
  /** Of an open part: it is for batches from this round on, up to the first one of the part behind it. */
  fromRound: number;
  /** Who reads its state in steps: nothing is added to it until they are done. */
  readers: number;
}

/** A batch that waits, and the round of lanes in turn in which a commit will take it, about. */
export interface OpenBatch {
  readonly batch: GatewayRuns;
  readonly round: number;
}

/** What is left to do of an overlay that is made anew. */
interface Rebuild {
  readonly part: Part;
  readonly batches: readonly OpenBatch[];
  next: number;
  /** Nothing was left out for want of memory. */
  isWhole: boolean;
}

/** About 5 ms of windows. */
const REBUILD_STEP_READINGS = 50_000;
/** About 2 ms. */
const MERGE_STEP_SLOTS = 4_096;
/** Parts that a commit is to be put together from, where more waits than one takes: on average half of one is made anew on either side. */
const PARTS_PER_COMMIT = 4;

export class Overlay {
  readonly definitions: readonly WindowDefinition[];
  readonly registry: GroupRegistry;
  readonly #lateBeforeUs: (gateway: string) => number;
  readonly #persisted: readonly WindowDefinition[];
  #tail: WindowState;
  #group: Part[] = [];
  /** On their way into the tail, which answers for them. */
  #merging: Part[] = [];
  /** At least one; batches are added to the last. */
  #open: Part[];
  /** Empty ones, for their buffers: at most as many as there are open ones. */
  #spares: Part[] = [];
  #rebuilds: Rebuild[] = [];
  readonly #slotsMax: number;
  readonly #readingsPerCommit: number;

  /**
   * @param lateBeforeUs windows of the gateway's readings that end at or before it are closed
   * @param slotsMax of the tail, of the group's parts each, and of the open parts together
   * @param readingsPerCommit what a commit takes at most, about
   */
  constructor(
    definitions: readonly WindowDefinition[],
    registry: GroupRegistry,
    lateBeforeUs: (gateway: string) => number,
    slotsMax: number = WINDOW_SLOTS_MAX_DEFAULT,
    readingsPerCommit: number = Infinity,
  ) {
    this.definitions = definitions;
    this.#slotsMax = slotsMax;
    this.#readingsPerCommit = readingsPerCommit;
    this.registry = registry;
    this.#lateBeforeUs = lateBeforeUs;
    this.#persisted = definitions.filter(({ persisted }) => persisted);
    this.#tail = this.newTail();
    this.#open = [this.#emptyPart()];
  }

  /** An empty state of the persisted definitions: what is committed of the others is computed from the lake's readings. */
  newTail(): WindowState {
    return this.#stateOf(this.#persisted, this.#slotsMax);
  }

  #stateOf(definitions: readonly WindowDefinition[], slotsMax: number): WindowState {
    return new WindowState(definitions, { registry: this.registry, slotsMax });
  }

  #emptyPart(): Part {
    return (
      this.#spares.pop() ?? {
        state: this.#stateOf(this.definitions, this.#slotsMax),
        complete: true,
        batches: [],
        readings: 0,
        fromRound: 0,
        readers: 0,
      }
    );
  }

  get #parts(): Part[] {
    return [...this.#group, ...this.#open];
  }

  get bytes(): number {
    const spareBytes = [...this.#spares, ...this.#merging].reduce((sum, { state }) => sum + state.bytes, 0);
    return this.#parts.reduce((sum, { state }) => sum + state.bytes, this.#tail.bytes + this.registry.bytes + spareBytes);
  }

  get tailBytes(): number {
    return this.#tail.bytes;
  }

  /** Slots of all states; those on their way into the tail are not counted before they are there. */
  get slotCount(): number {
    return this.#parts.reduce((sum, { state }) => sum + state.slotCount, this.#tail.slotCount);
  }

  /** false: some received readings are not in the provisional states (they are in their batches all the same). */
  get complete(): boolean {
    return this.#parts.every(({ complete }) => complete);
  }

  /** @param round as OpenBatch has it: how parts are put together, never what is in them */
  addOpen(batch: GatewayRuns, round: number): void {
    const part = this.#partFor(round);
    part.batches.push({ batch, round });
    part.readings += batch.runs.count;
    const isFullOfParts = this.#open.length > 1 && this.#open.reduce((sum, { state }) => sum + state.slotCount, 0) >= this.#slotsMax;
    if (!isFullOfParts && this.#add(part, batch)) return;
    part.complete = false;
    // A rebuild under way does not know the batch, and would say at its end that nothing is missing.
    for (const rebuild of this.#rebuilds) if (rebuild.part === part) rebuild.isWhole = false;
  }

  /** The first part may hold what one commit takes: as long as that is all, a commit finds one state. */
  #partFor(round: number): Part {
    const index = Math.max(
      0,
      this.#open.findLastIndex(({ fromRound }) => fromRound <= round),
    );
    const readingsMax = this.#open.length === 1 ? this.#readingsPerCommit : this.#readingsPerCommit / PARTS_PER_COMMIT;
    const last = this.#open[index];
    if (last.readings < readingsMax && last.readers === 0) return last;
    const part = this.#emptyPart();
    part.fromRound = round;
    this.#open.splice(index + 1, 0, part);
    return part;
  }

  /** @returns whether it found room */
  #add({ state }: Part, { gateway, runs }: GatewayRuns): boolean {
    try {
      state.add(gateway, runs, this.#lateBeforeUs(gateway));
      return true;
    } catch (error) {
      if (!isFull(error)) throw error;
      return false;
    }
  }

  /**
   * A commit starts: what was open becomes its group.
   *
   * @param taken the batches that it takes, by the identity of their runs; null: all. Parts of which it takes some are made
   *   anew, by `rebuildStep`
   */
  rotate(taken: Iterable<GatewayRuns> | null = null): void {
    for (const part of this.#group) this.#release(part);
    const takenRuns = taken === null ? null : new Set(Array.from(taken, ({ runs }) => runs));
    const open = this.#open;
    this.#group = [];
    this.#open = [];
    for (const part of open) {
      const left = takenRuns === null ? [] : part.batches.filter(({ batch }) => !takenRuns.has(batch.runs));
      if (left.length === 0) this.#group.push(part);
      else if (left.length === part.batches.length) this.#open.push(part);
      else {
        const own = part.batches.filter(({ batch }) => takenRuns?.has(batch.runs) === true);
        this.#group.push(this.#remake(part, own));
        this.#open.push(...this.#remakeInParts(left, this.#readingsPerCommit / PARTS_PER_COMMIT));
      }
    }
    this.#open.sort((a, b) => a.fromRound - b.fromRound);
    if (this.#open.length === 0) this.#open.push(this.#emptyPart());
    if (this.isRebuilding) this.rebuildStep();
  }

  /** Has a part hold these batches instead of what it held. */
  #remake(part: Part, batches: readonly OpenBatch[]): Part {
    this.#empty(part);
    part.complete = false;
    part.batches = [...batches];
    part.readings = batches.reduce((sum, { batch }) => sum + batch.runs.count, 0);
    this.#rebuilds.push({ part, batches, next: 0, isWhole: true });
    return part;
  }

  /** @param firstReadings after how many the second part begins; the others are parts of a commit */
  #remakeInParts(batches: OpenBatch[], firstReadings: number): Part[] {
    const parts: Part[] = [];
    let own: OpenBatch[] = [];
    let readings = 0;
    const endPart = (): void => {
      const part = this.#remake(this.#emptyPart(), own);
      part.fromRound = own[0].round;
      parts.push(part);
      own = [];
      readings = 0;
    };
    for (const one of batches.sort((a, b) => a.round - b.round)) {
      if (readings >= (parts.length === 0 ? firstReadings : this.#readingsPerCommit / PARTS_PER_COMMIT)) endPart();
      own.push(one);
      readings += one.batch.runs.count;
    }
    if (own.length > 0) endPart();
    return parts;
  }

  #empty(part: Part): void {
    this.#rebuilds = this.#rebuilds.filter((rebuild) => rebuild.part !== part);
    // A state that is cleared twice gives its buffers up, to grow them again from nothing.
    if (part.state.readingCount > 0) part.state.clear();
    part.complete = true;
    part.batches = [];
    part.readings = 0;
    part.fromRound = 0;
  }

  #release(part: Part): void {
    this.#empty(part);
    this.#spares.length = Math.min(this.#spares.length, this.#open.length);
    if (this.#spares.length < this.#open.length) this.#spares.push(part);
  }

  /**
   * Some batches left the overlay without this hub's doing: makes it anew from what is left. What does not fit into one
   * step is done by `rebuildStep`; until then provisional answers are not complete.
   */
  rebuild(group: Iterable<GatewayRuns>, open: Iterable<OpenBatch>): void {
    const spent = this.#parts;
    this.#group = [];
    for (const part of spent) this.#release(part);
    const taken = Array.from(group, (batch) => ({ batch, round: 0 }));
    if (taken.length > 0) this.#group.push(this.#remake(this.#emptyPart(), taken));
    this.#open = this.#remakeInParts([...open], this.#readingsPerCommit);
    if (this.#open.length === 0) this.#open.push(this.#emptyPart());
    this.rebuildStep();
  }

  get isRebuilding(): boolean {
    return this.#rebuilds.length > 0;
  }

  /** A step of some ms. The batches of a rebuild are those of its beginning: whoever drops one begins another rebuild. */
  rebuildStep(): void {
    for (let readings = 0; readings < REBUILD_STEP_READINGS;) {
      const rebuild = this.#rebuilds[0];
      if (rebuild === undefined) return;
      const one = rebuild.batches[rebuild.next++];
      if (one === undefined) {
        rebuild.part.complete = rebuild.isWhole;
        this.#rebuilds.shift();
        continue;
      }
      readings += one.batch.runs.count;
      if (!this.#add(rebuild.part, one.batch)) rebuild.isWhole = false;
    }
  }

  /**
   * The group's commit won: its readings are in the tail and no more in the overlay. `mergeStep` does the work that is left.
   *
   * @param batches the same readings as columns, for a group that did not fit into memory
   * @throws SluiceError ERR_WINDOW_STATE_FULL, ERR_WINDOW_GROUPS_FULL: nothing has changed; flush, then again.
   */
  commitGroup(batches: Iterable<GatewayRuns>): void {
    this.#finishMerge();
    if (this.#group.every(({ complete }) => complete)) {
      this.#tail.startMerge(...this.#group.map(({ state }) => state));
      this.#merging = this.#group;
      this.#group = [];
      this.mergeStep(0);
      return;
    }
    this.addTail(batches);
    for (const part of this.#group) this.#release(part);
    this.#group = [];
  }

  get isMerging(): boolean {
    return this.#merging.length > 0;
  }

  /** A step of some ms of what `commitGroup` left to do. */
  mergeStep(slotsMax: number = MERGE_STEP_SLOTS): void {
    this.#tail.mergeStep(slotsMax);
    if (this.#tail.isMerging) return;
    for (const part of this.#merging) this.#release(part);
    this.#merging = [];
  }

  /** Before the tail becomes another one, and before ids change that the parts of a merge have. */
  #finishMerge(): void {
    this.mergeStep(Infinity);
  }

  /**
   * Committed readings from a file.
   *
   * @throws SluiceError ERR_WINDOW_STATE_FULL, ERR_WINDOW_GROUPS_FULL: the tail is as before; flush, then again.
   */
  addTail(batches: Iterable<GatewayRuns>): void {
    this.#finishMerge();
    this.addWhole(this.#tail, batches);
  }

  /** Adds all batches to a state, or none of them. @throws as addTail */
  addWhole(state: WindowState, batches: Iterable<GatewayRuns>): void {
    // Not bounded by slots: before it is known how many there are, a state reckons with one for each reading.
    const whole = this.#stateOf(state.definitions, Infinity);
    for (const { gateway, runs } of batches) whole.add(gateway, runs, this.#lateBeforeUs(gateway));
    state.merge(whole);
  }

  /** @param definition a persisted one */
  tailRows(definition: WindowDefinition, filter: RowFilter = {}): PartialColumns {
    return this.#tail.rows(this.#tail.definitions.indexOf(definition), filter);
  }

  /** As tailRows, all of them; the tail stays as it is until the last step. */
  tailRowsInSteps(definition: WindowDefinition): Steps<PartialColumns> {
    return this.#tail.rowsInSteps(this.#tail.definitions.indexOf(definition));
  }

  /** Provisional partials: of the group and of the open batches. */
  overlayRows(definitionIndex: number, filter: RowFilter = {}): PartialColumns[] {
    return this.#parts.map(({ state }) => state.rows(definitionIndex, filter)).filter((rows) => rows.count > 0);
  }

  /**
   * Per ask the rows of overlayRows and tailRows, merged, of one moment, the first step's: what is added until the last one
   * comes into parts of its own. Nothing else happens to the windows meanwhile.
   */
  *rowsInSteps(asks: readonly { readonly definitionIndex: number; readonly filter: RowFilter }[]): Steps<PartialColumns[]> {
    const parts = this.#parts;
    for (const part of parts) part.readers++;
    try {
      const all: PartialColumns[] = [];
      for (const { definitionIndex, filter } of asks) {
        const definition = this.definitions[definitionIndex];
        const windows = new SlotTable(slideUsOf(definition), this.registry.groupCount(definition.by));
        for (const { state } of parts) yield* state.rollUpInSteps(definitionIndex, filter, windows);
        if (definition.persisted) yield* this.#tail.rollUpInSteps(this.#tail.definitions.indexOf(definition), filter, windows);
        all.push(yield* slotRows(windows, definition.sizeMs * 1000, this.registry, definition.by, filter, NO_SOURCE, SLOTS_PER_STEP));
      }
      return all;
    } finally {
      for (const part of parts) part.readers--;
    }
  }

  /** Takes a tail that was read from the lake. */
  swapTail(tail: WindowState): void {
    this.#finishMerge();
    this.#tail = tail;
  }

  /** The tail is in the lake: empties it, and forgets series that nothing uses. */
  clearTail(): void {
    this.#finishMerge();
    this.#tail.clear();
    this.forgetUnused();
  }

  /** Forgets series that no state uses, once they are many. States that are made by `newTail` and hold something must not be around. */
  forgetUnused(): void {
    if (this.registry.seriesCount > this.registry.seriesMax / 2) this.#compact();
  }

  /** What is committed needs the room: provisional answers do without the batches that are here until they are committed. */
  giveWay(): void {
    for (const part of this.#parts) {
      this.#rebuilds = this.#rebuilds.filter((rebuild) => rebuild.part !== part);
      if (part.state.readingCount === 0) continue;
      part.state.clear();
      part.complete = false;
    }
    this.#compact();
  }

  #compact(): void {
    this.#finishMerge();
    const states = [this.#tail, ...this.#parts.map(({ state }) => state)].filter((state) => state.readingCount > 0);
    compactGroups(this.registry, states);
  }
}

export function isFull(error: unknown): boolean {
  return isSluiceError(error, 'ERR_WINDOW_STATE_FULL') || isSluiceError(error, 'ERR_WINDOW_GROUPS_FULL');
}
