/**
 * The tail of the windows and what it stands behind: the committed readings that are not in the served `aggregates`.
 *
 * Invariant: the overlay's tail holds exactly the versions (from, served version] of `readings`, and the served files of
 * `aggregates` exactly those up to `from`, for every persisted definition. `from` is remembered here, not asked of the
 * table: the table may be further on, by another hub's flush, and a flush from there would write the tail's rows twice.
 *
 * A flush that loses its race reads everything anew from the winner's position, up to the newest version of `readings`,
 * because the winner may have flushed versions that this hub has not taken in. Old tail and old files answer until then.
 *
 * Crash: all of it is memory; `reread` is also how a hub starts.
 *
 * Bound: a tail that is long, or outgrows its state, is flushed on the way while it is read. So a hub that is killed again
 * before it ever flushes starts no later each time. Otherwise it does not decide when to flush.
 */
import assert from 'node:assert/strict';
import type { Logger } from '../../shared/logging.ts';
import { isSluiceError } from '../../shared/errors.ts';
import type { WindowDefinition } from '../../shared/window/definition.ts';
import type { PartialColumns } from '../../shared/window/partial-columns.ts';
import type { AppliedVersion } from '../lake/delta-table.ts';
import type { Lake } from '../lake/lake.ts';
import { ServedFiles } from '../lake/served-files.ts';
import { inSlices, type Steps } from '../steps.ts';
import { windowAppId, type Flusher } from './flusher.ts';
import { isFull, type GatewayRuns, type Overlay } from './overlay.ts';
import { readVersionRuns } from './readings-source.ts';
import { alignWindows } from './rebuild.ts';
import type { WindowState } from './window-state.ts';

/** Versions that are read before what they hold is flushed: some seconds of reading, and more than commits between two flushes. */
const REREAD_VERSIONS_MAX = 64;

export interface TailParts {
  readonly lake: Lake;
  readonly overlay: Overlay;
  readonly flusher: Flusher;
  /** The files of `readings` up to the last version that the overlay has taken in. */
  readonly readings: ServedFiles;
  readonly logger: Logger;
  readonly breathe: () => Promise<void>;
}

export class Tail {
  readonly aggregates: ServedFiles;
  readonly #parts: TailParts;
  #from = 0;
  /** Versions of `aggregates` that the table has taken in and answers have not. */
  #unserved: AppliedVersion[] = [];

  constructor(parts: TailParts) {
    this.#parts = parts;
    this.aggregates = new ServedFiles(parts.lake, parts.lake.aggregates);
    parts.lake.aggregates.onVersion((version) => {
      this.#unserved.push(version);
      this.#serveNeutral();
    });
  }

  /** The tail holds the versions behind this one. */
  get from(): number {
    return this.#from;
  }

  /**
   * Appends the tail to `aggregates`.
   *
   * @param takeOver as for `reread`, if another hub was first
   * @returns whether something was appended
   * @throws SluiceError of the store: nothing has changed
   */
  async flush(takeOver: () => void): Promise<boolean> {
    const { overlay, flusher, readings, breathe } = this.#parts;
    const { definitions } = flusher;
    const to = readings.version;
    assert(this.#from <= to, 'the windows are never ahead of the readings that answers see');
    if (definitions.length === 0) {
      overlay.clearTail();
      this.#from = to;
      return false;
    }
    if (this.#from === to) {
      // Folding goes on while nothing comes: its inputs are deleted after a while.
      await this.#parts.lake.aggregates.refresh();
      return false;
    }
    const rowsOf = (definition: WindowDefinition): AsyncIterable<PartialColumns> => oneOf(overlay.tailRowsInSteps(definition), breathe);
    const outcome = await flusher.flush(definitions, { from: this.#from, to }, rowsOf);
    if (outcome.status !== 'committed') {
      await this.reread(takeOver);
      return false;
    }
    overlay.clearTail();
    this.#publish(to);
    return true;
  }

  /**
   * Makes the tail anew: the versions of `readings` behind the position that all definitions have in the table.
   *
   * @param takeOver called in the step in which tail and files change: takes in all versions that `readings` has
   */
  async reread(takeOver: () => void): Promise<void> {
    const { lake, overlay, flusher, logger } = this.#parts;
    let isLogLost = false;
    for (;;) {
      const from = await alignWindows(lake, flusher, logger, isLogLost);
      await lake.readings.refresh();
      const tail = overlay.newTail();
      let start: number | null;
      try {
        start = await this.#readInto(tail, from);
      } catch (error) {
        if (isLogLost || !isSluiceError(error, 'ERR_LAKE_LOG_GAP')) throw error;
        isLogLost = true;
        continue;
      }
      if (start === null) continue;
      overlay.swapTail(tail);
      this.#publish(start);
      takeOver();
      return;
    }
  }

  /** @returns the position that the tail is behind in the end; null: another hub flushed in between */
  async #readInto(tail: WindowState, from: number): Promise<number | null> {
    const { lake, overlay, flusher, breathe } = this.#parts;
    let start = from;
    let hasGivenWay = false;
    const flushBehind = async (version: number): Promise<boolean> => {
      const rowsOf = (definition: WindowDefinition): AsyncIterable<PartialColumns> =>
        oneOf(tail.rowsInSteps(tail.definitions.indexOf(definition)), breathe);
      const outcome = await flusher.flush(flusher.definitions, { from: start, to: version - 1 }, rowsOf);
      if (outcome.status !== 'committed') return false;
      start = version - 1;
      tail.clear();
      overlay.forgetUnused();
      return true;
    };
    // To the newest version, also of those that come meanwhile: a file that has to be given up makes one.
    for (let version = from + 1; version <= lake.readings.version; version++) {
      if (version - 1 - start >= REREAD_VERSIONS_MAX && flusher.definitions.length > 0 && !(await flushBehind(version))) return null;
      const runs = await readVersionRuns(lake, await lake.readEntry(lake.readings, version), breathe);
      for (let error = this.#add(tail, runs); error !== null; error = this.#add(tail, runs)) {
        if (tail.readingCount > 0) {
          if (!(await flushBehind(version))) return null;
        } else if (!hasGivenWay) {
          hasGivenWay = true;
          overlay.giveWay();
        } else {
          throw error;
        }
      }
    }
    return start;
  }

  /** Adds a version whole or not at all. @returns the error of a state that is full, else null */
  #add(tail: WindowState, runs: readonly GatewayRuns[]): unknown {
    try {
      this.#parts.overlay.addWhole(tail, runs);
      return null;
    } catch (error) {
      if (!isFull(error)) throw error;
      return error;
    }
  }

  /**
   * Versions that move no position of the served definitions (folding, flushes of others) change no answer: they are served
   * as they come, so that answers do not depend on files that are about to be deleted.
   */
  #serveNeutral(): void {
    const appIds = new Set(this.#parts.flusher.definitions.map(windowAppId));
    for (;;) {
      const version = this.#unserved[0];
      if (version === undefined || version.actions.txns.some((txn) => appIds.has(txn.appId) && txn.version !== this.#from)) return;
      this.aggregates.apply(version);
      this.#unserved.shift();
    }
  }

  #publish(from: number): void {
    this.#from = from;
    for (const version of this.#unserved) this.aggregates.apply(version);
    this.#unserved = [];
  }
}

async function* oneOf(steps: Steps<PartialColumns>, breathe: () => Promise<void>): AsyncGenerator<PartialColumns> {
  yield await inSlices(steps, breathe);
}
