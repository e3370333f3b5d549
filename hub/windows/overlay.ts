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
 * All share one registry, so that a commit that wins is one merge of group into tail.
 *
 * Crash: all is in memory; tail is rebuilt from the lake, group and open by the gateways.
 *
 * Bounds: series of the registry, slots of a state. What does not fit into the overlay stays out of provisional answers
 * (`complete` is false until the next rotation) and is taken from its columns once it is committed; a full tail throws,
 * and its owner flushes, then lets the overlay give way. An empty tail takes any version: a commit bounds its readings.
 */
import { isSluiceError } from '../../shared/errors.ts';
import type { SeriesRuns } from '../../shared/reading.ts';
import type { WindowDefinition } from '../../shared/window/definition.ts';
import type { PartialColumns } from '../../shared/window/partial-columns.ts';
import type { GroupRegistry } from './group-registry.ts';
import type { RowFilter } from './slot-rows.ts';
import { compactGroups, WindowState } from './window-state.ts';

/** A gateway's readings on their way into windows. */
export interface GatewayRuns {
  readonly gateway: string;
  readonly runs: SeriesRuns;
}

interface OverlayState {
  state: WindowState;
  complete: boolean;
}

/** What is left to do of an overlay that is made anew. */
interface Rebuild {
  readonly overlay: OverlayState;
  readonly batches: readonly GatewayRuns[];
  next: number;
  /** Nothing was left out for want of memory. */
  isWhole: boolean;
}

/** About 5 ms of windows. */
const REBUILD_STEP_READINGS = 50_000;

export class Overlay {
  readonly definitions: readonly WindowDefinition[];
  readonly registry: GroupRegistry;
  readonly #lateBeforeUs: (gateway: string) => number;
  readonly #persisted: readonly WindowDefinition[];
  #tail: WindowState;
  #group: OverlayState;
  #open: OverlayState;
  #rebuilds: Rebuild[] = [];
  readonly #slotsMax: number | undefined;

  /**
   * @param lateBeforeUs windows of the gateway's readings that end at or before it are closed
   * @param slotsMax of each of the three states
   */
  constructor(
    definitions: readonly WindowDefinition[],
    registry: GroupRegistry,
    lateBeforeUs: (gateway: string) => number,
    slotsMax?: number,
  ) {
    this.definitions = definitions;
    this.#slotsMax = slotsMax;
    this.registry = registry;
    this.#lateBeforeUs = lateBeforeUs;
    this.#persisted = definitions.filter(({ persisted }) => persisted);
    this.#tail = this.newTail();
    this.#group = { state: this.#stateOf(definitions, slotsMax), complete: true };
    this.#open = { state: this.#stateOf(definitions, slotsMax), complete: true };
  }

  /** An empty state of the persisted definitions: what is committed of the others is computed from the lake's readings. */
  newTail(): WindowState {
    return this.#stateOf(this.#persisted, this.#slotsMax);
  }

  #stateOf(definitions: readonly WindowDefinition[], slotsMax: number | undefined): WindowState {
    const { registry } = this;
    return new WindowState(definitions, slotsMax === undefined ? { registry } : { registry, slotsMax });
  }

  get bytes(): number {
    return this.#tail.bytes + this.#group.state.bytes + this.#open.state.bytes + this.registry.bytes;
  }

  get tailBytes(): number {
    return this.#tail.bytes;
  }

  /** Slots of all three states. */
  get slotCount(): number {
    return this.#tail.slotCount + this.#group.state.slotCount + this.#open.state.slotCount;
  }

  /** false: some received readings are not in the provisional state (they are in their batches all the same). */
  get complete(): boolean {
    return this.#group.complete && this.#open.complete;
  }

  addOpen(batch: GatewayRuns): void {
    this.#addTo(this.#open, batch);
  }

  #addTo(overlay: OverlayState, { gateway, runs }: GatewayRuns): void {
    try {
      overlay.state.add(gateway, runs, this.#lateBeforeUs(gateway));
    } catch (error) {
      if (!isFull(error)) throw error;
      overlay.complete = false;
      // A rebuild under way does not know the batch, and would say at its end that nothing is missing.
      for (const rebuild of this.#rebuilds) if (rebuild.overlay === overlay) rebuild.isWhole = false;
    }
  }

  /** A commit starts: what was open becomes its group. */
  rotate(): void {
    const spent = this.#group;
    this.#endRebuild(spent);
    // Mostly its commit has cleared it already. A state that is cleared twice gives its buffers up, to grow them again from
    // nothing with every commit: three quarters of the garbage of a hub under load (profile).
    if (spent.state.readingCount > 0) spent.state.clear();
    spent.complete = true;
    this.#group = this.#open;
    this.#open = spent;
  }

  /**
   * Some batches left the overlay without this hub's doing: makes it anew from what is left. What does not fit into one
   * step is done by `rebuildStep`; until then provisional answers are not complete.
   */
  rebuild(group: Iterable<GatewayRuns>, open: Iterable<GatewayRuns>): void {
    this.#rebuilds = [];
    for (const [overlay, batches] of [
      [this.#group, group],
      [this.#open, open],
    ] as const) {
      overlay.state.clear();
      overlay.complete = false;
      this.#rebuilds.push({ overlay, batches: [...batches], next: 0, isWhole: true });
    }
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
      const batch = rebuild.batches[rebuild.next++];
      if (batch === undefined) {
        rebuild.overlay.complete = rebuild.isWhole;
        this.#rebuilds.shift();
        continue;
      }
      readings += batch.runs.count;
      try {
        rebuild.overlay.state.add(batch.gateway, batch.runs, this.#lateBeforeUs(batch.gateway));
      } catch (error) {
        if (!isFull(error)) throw error;
        rebuild.isWhole = false;
      }
    }
  }

  #endRebuild(overlay: OverlayState): void {
    this.#rebuilds = this.#rebuilds.filter((rebuild) => rebuild.overlay !== overlay);
  }

  /**
   * The group's commit won: its readings are in the tail and no more in the overlay.
   *
   * @param batches the same readings as columns, for a group that did not fit into memory
   * @throws SluiceError ERR_WINDOW_STATE_FULL, ERR_WINDOW_GROUPS_FULL: nothing has changed; flush, then again.
   */
  commitGroup(batches: Iterable<GatewayRuns>): void {
    if (this.#group.complete) this.#tail.merge(this.#group.state);
    else this.addTail(batches);
    this.#endRebuild(this.#group);
    this.#group.state.clear();
    this.#group.complete = true;
  }

  /**
   * Committed readings from a file.
   *
   * @throws SluiceError ERR_WINDOW_STATE_FULL, ERR_WINDOW_GROUPS_FULL: the tail is as before; flush, then again.
   */
  addTail(batches: Iterable<GatewayRuns>): void {
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

  /** Provisional partials: of the group and of the open batches. */
  overlayRows(definitionIndex: number, filter: RowFilter = {}): PartialColumns[] {
    return [this.#group.state.rows(definitionIndex, filter), this.#open.state.rows(definitionIndex, filter)].filter(
      (rows) => rows.count > 0,
    );
  }

  /** Takes a tail that was read from the lake. */
  swapTail(tail: WindowState): void {
    this.#tail = tail;
  }

  /** The tail is in the lake: empties it, and forgets series that nothing uses. */
  clearTail(): void {
    this.#tail.clear();
    this.forgetUnused();
  }

  /** Forgets series that no state uses, once they are many. States that are made by `newTail` and hold something must not be around. */
  forgetUnused(): void {
    if (this.registry.seriesCount > this.registry.seriesMax / 2) this.#compact();
  }

  /** What is committed needs the room: provisional answers do without the batches that are here until they are committed. */
  giveWay(): void {
    for (const overlay of [this.#group, this.#open]) {
      this.#endRebuild(overlay);
      if (overlay.state.readingCount === 0) continue;
      overlay.state.clear();
      overlay.complete = false;
    }
    this.#compact();
  }

  #compact(): void {
    const states = [this.#tail, this.#group.state, this.#open.state].filter((state) => state.readingCount > 0);
    compactGroups(this.registry, states);
  }
}

export function isFull(error: unknown): boolean {
  return isSluiceError(error, 'ERR_WINDOW_STATE_FULL') || isSluiceError(error, 'ERR_WINDOW_GROUPS_FULL');
}
