/**
 * One lane on one connection, at the hub: which batches to take, and what to answer. Pure: the server inspects bodies,
 * hands them to the engine and writes to the socket.
 *
 * Constraints
 * - Batches are taken in order without holes, from `received + 1` on; what was taken before is ignored, not refused.
 * - A hole is answered by `rewind` for the generation that it came in. The flag stays up until a batch of a later
 *   generation comes, so that an answer may be lost, and the sender obeys once per generation, so that it may be repeated.
 * - Positions only grow on a connection. Where a hub has to forget what it received, it closes the connection.
 *
 * Crash: the state is gone with the connection; the next welcome re-reads the log.
 */
import type { LaneStatus } from '../../shared/uplink.ts';
import type { LaneState } from '../engine-api.ts';

export type BatchVerdict =
  /** It is the next one: inspect it, then say `taken`, `waitForUpgrade` or close. */
  | 'next'
  /** Already taken, of an older generation, or after the lane stopped: nothing happens. */
  | 'ignore'
  /** Behind a hole: `rewind` is up, answer now. */
  | 'hole';

export class LaneReceiver {
  #received: number;
  #committed: number;
  #status: LaneStatus;
  #generation = 0;
  #rewind = false;

  constructor(state: LaneState) {
    this.#committed = state.committed;
    this.#received = Math.max(state.received, state.committed);
    this.#status = state.status;
  }

  get received(): number {
    return this.#received;
  }

  get committed(): number {
    return this.#committed;
  }

  get generation(): number {
    return this.#generation;
  }

  get status(): LaneStatus {
    return this.#status;
  }

  /** The sender has to go back to received + 1 and has not yet. */
  get rewind(): boolean {
    return this.#rewind;
  }

  judge(seq: number, generation: number): BatchVerdict {
    if (this.#status !== 'open' || generation < this.#generation) return 'ignore';
    if (generation > this.#generation) {
      this.#generation = generation;
      this.#rewind = false;
    }
    // Of a generation that has been told to rewind, nothing counts any more: what fits by chance comes again anyway.
    if (this.#rewind || seq <= this.#received) return 'ignore';
    if (seq === this.#received + 1) return 'next';
    this.#rewind = true;
    return 'hole';
  }

  /** The batch that was `next` is with the engine. */
  taken(): void {
    this.#received++;
  }

  /** The batch that was `next` has a wire version that this hub cannot read: it and all behind it wait at the gateway. */
  waitForUpgrade(): void {
    this.#status = 'upgrade_hub';
  }

  /** @returns whether the position moved */
  commit(committed: number): boolean {
    if (committed <= this.#committed) return false;
    this.#committed = committed;
    // Another hub may have committed more than this one received.
    this.#received = Math.max(this.#received, committed);
    return true;
  }
}
