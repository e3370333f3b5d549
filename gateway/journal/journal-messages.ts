/** What the main thread and the journal's thread say to each other. Every request carries the clocks of the main thread. */
import type { Clock } from '../../shared/clock.ts';
import type { JournalClock } from '../clock.ts';
import { SluiceError, type ErrorCode } from '../../shared/errors.ts';
import type { LaneName } from '../../shared/uplink.ts';
import type { Group, GroupArrays } from './group.ts';
import type { JournalLane, OfferedBatch } from './journal-api.ts';
import type { JournalState, JournalStats } from './journal-state.ts';
import type { StoredSessions } from './sessions.ts';

/** The main thread's clocks when it sent a message: arrival stamps are its monotonic time, which no other thread has. */
export interface Stamp {
  readonly nowUs: number;
  readonly monotonicUs: number;
  /** undefined: the clock does not judge itself. */
  readonly known: boolean | undefined;
}

export type Call =
  | { readonly method: 'lanes' }
  | { readonly method: 'offer'; readonly epoch: string; readonly lane: LaneName; readonly afterSeq: number; readonly bytesMax: number }
  | { readonly method: 'free'; readonly epoch: string; readonly lane: LaneName; readonly seq: number }
  | { readonly method: 'startNewEpoch' }
  | { readonly method: 'pinLake'; readonly lakeId: string }
  | { readonly method: 'stats' }
  | { readonly method: 'seal' };

export type JournalRequest =
  | { readonly type: 'commit'; readonly stamp: Stamp; readonly group: Group }
  | { readonly type: 'call'; readonly stamp: Stamp; readonly id: number; readonly call: Call }
  | { readonly type: 'tick'; readonly stamp: Stamp }
  /** From the server to itself: seal what the last tick left. */
  | { readonly type: 'continue'; readonly stamp: null }
  | { readonly type: 'close'; readonly stamp: Stamp };

/** Errors lose their class between threads; code and message are what they are. */
export interface PlainError {
  readonly code: ErrorCode;
  readonly message: string;
}

export type CallResult = JournalLane[] | OfferedBatch[] | JournalStats | null;

export type JournalReply =
  | { readonly type: 'ready'; readonly keys: Uint8Array; readonly sessions: StoredSessions; readonly state: JournalState }
  | { readonly type: 'refused'; readonly error: PlainError }
  | {
      readonly type: 'committed';
      readonly error: { readonly from: number; readonly error: PlainError } | null;
      readonly failed: readonly { readonly message: number; readonly error: PlainError }[];
      readonly arrays: GroupArrays;
      readonly state: JournalState | null;
    }
  | {
      readonly type: 'answer';
      readonly id: number;
      readonly result: CallResult;
      readonly error: PlainError | null;
      readonly state: JournalState | null;
    }
  | { readonly type: 'state'; readonly state: JournalState | null; readonly error: PlainError | null }
  | { readonly type: 'closed' };

export function toPlain(error: SluiceError): PlainError {
  return { code: error.code, message: error.message };
}

export function fromPlain(error: PlainError): SluiceError {
  return new SluiceError(error.code, error.message);
}

export function stampOf(clock: JournalClock): Stamp {
  const monotonicUs = clock.monotonicUs();
  // From one read: a second one would make their difference, which arrival stamps are resolved by, run to and fro.
  const nowUs = clock.offsetUs === undefined ? clock.nowUs() : monotonicUs + clock.offsetUs;
  return { nowUs, monotonicUs, known: clock.known };
}

/** The main thread's clocks in another thread: its last stamp and what has passed here since. */
export class StampedClock implements Clock {
  readonly boot: string | undefined;
  readonly #local: Clock;
  #stamp: Stamp;
  #stampedUs: number;

  constructor(local: Clock, stamp: Stamp, boot: string | undefined) {
    this.boot = boot;
    this.#local = local;
    this.#stamp = stamp;
    this.#stampedUs = local.monotonicUs();
  }

  set(stamp: Stamp): void {
    this.#stamp = stamp;
    this.#stampedUs = this.#local.monotonicUs();
  }

  get known(): boolean | undefined {
    return this.#stamp.known;
  }

  get offsetUs(): number {
    return this.#stamp.nowUs - this.#stamp.monotonicUs;
  }

  nowUs(): number {
    return this.#stamp.nowUs + this.#local.monotonicUs() - this.#stampedUs;
  }

  monotonicUs(): number {
    return this.#stamp.monotonicUs + this.#local.monotonicUs() - this.#stampedUs;
  }

  after(delayMs: number, callback: () => void): () => void {
    return this.#local.after(delayMs, callback);
  }
}
