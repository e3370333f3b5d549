/**
 * How fast old data may go beside live data on a link that does not carry both. Pure.
 *
 * Lanes have a TCP connection each, so a full link gives each about the same whatever it needs. Here live data that is not
 * received in time makes old data slower, and old data gets faster again while live data is in time (additive and
 * multiplicative, as TCP does it, over seconds). Old data keeps a fifth of what the link delivers in any case, so that a
 * link that live data fills alone does not let it age for ever; live data keeps the rest.
 */
export const BACKFILL_SHARE_MIN = 0.2;
/** Live data that waits longer for the hub's word is late: many times a usual round trip and the hub's 20 ms. */
const LIVE_WAIT_MS_MAX = 500;
const SHRINK = 0.6;
const GROW = 1.25;
const GROW_BYTES_PER_SECOND = 32 * 1024;
/** A link so slow that this is too much carries no telemetry. */
const BYTES_PER_SECOND_MIN = 1_024;
/** So much is as good as no bound: above it there is nothing to hold back. */
const BYTES_PER_SECOND_MAX = 256 * 1024 * 1024;

export interface LinkSample {
  readonly elapsedMs: number;
  /** Bytes that the hub has received meanwhile, on all lanes. */
  readonly deliveredBytes: number;
  /** Since when the oldest live batch that the hub has not received is on its way; 0: none is. */
  readonly liveWaitMs: number;
}

export class BackfillShare {
  #limit = Infinity;
  #deliveredPerSecond = 0;

  /** Bytes per second for all old lanes together; Infinity: the link is not full. */
  get bytesPerSecond(): number {
    return this.#limit;
  }

  /** To be called about twice a second. @returns `bytesPerSecond` from now on */
  sample({ elapsedMs, deliveredBytes, liveWaitMs }: LinkSample): number {
    const rate = elapsedMs <= 0 ? 0 : (deliveredBytes * 1000) / elapsedMs;
    // Batches are large and come in bursts: a mean over some seconds.
    this.#deliveredPerSecond += (rate - this.#deliveredPerSecond) * Math.min(1, elapsedMs / 4_000);
    const guaranteed = Math.max(BYTES_PER_SECOND_MIN, this.#deliveredPerSecond * BACKFILL_SHARE_MIN);
    if (liveWaitMs > LIVE_WAIT_MS_MAX) {
      this.#limit = Math.max(guaranteed, Math.min(this.#limit, this.#deliveredPerSecond) * SHRINK);
    } else {
      this.#limit = Math.max(guaranteed, this.#limit * GROW + GROW_BYTES_PER_SECOND);
      if (this.#limit > BYTES_PER_SECOND_MAX) this.#limit = Infinity;
    }
    return this.#limit;
  }
}
