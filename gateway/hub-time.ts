/**
 * The hub's time as the gateway has seen it, as bounds of (hub's time minus our monotonic time).
 *
 * A time that came in an answer to a question lies between the two; one that came unasked is at most as late as its
 * arrival, which bounds it from one side only, so the least delayed of some minutes counts. Bounded: a few numbers.
 */
import type { HubOpinion } from './clock-judgement.ts';

/** A slower answer says too little. */
const ROUND_TRIP_US_MAX = 10_000_000;
/** What came unasked took no longer than this at its best. */
const ONE_WAY_US_MAX = 3_000_000;
/** Opinions older than two of these count no more: crystals drift, and the hub's clock may have been set. */
const WINDOW_US = 300_000_000;

export class HubTime {
  #windowUs = -Infinity;
  /** Largest lower bound of this window and of the one before. */
  #fromUs = -Infinity;
  #fromBeforeUs = -Infinity;
  #asked: { readonly toUs: number; readonly atUs: number } | null = null;

  /** The hub's time in an answer, and when (monotonic) the question left and the answer came. */
  answered(wallUs: number, sentUs: number, receivedUs: number): void {
    if (receivedUs - sentUs > ROUND_TRIP_US_MAX) return;
    // A new answer stands alone: the hub may be another one, with another clock.
    this.forget();
    this.heard(wallUs, receivedUs);
    this.#asked = { toUs: wallUs - sentUs, atUs: receivedUs };
  }

  /** The hub's time in a message that came (monotonic) at `receivedUs`. */
  heard(wallUs: number, receivedUs: number): void {
    if (receivedUs - this.#windowUs > WINDOW_US) {
      this.#fromBeforeUs = receivedUs - this.#windowUs > 2 * WINDOW_US ? -Infinity : this.#fromUs;
      this.#fromUs = -Infinity;
      this.#windowUs = receivedUs;
    }
    this.#fromUs = Math.max(this.#fromUs, wallUs - receivedUs);
  }

  forget(): void {
    this.#windowUs = this.#fromUs = this.#fromBeforeUs = -Infinity;
    this.#asked = null;
  }

  opinion(monotonicUs: number): HubOpinion | null {
    if (monotonicUs - this.#windowUs > 2 * WINDOW_US) return null;
    const offsetFromUs = Math.max(this.#fromUs, this.#fromBeforeUs);
    const isFresh = this.#asked !== null && monotonicUs - this.#asked.atUs <= 2 * WINDOW_US && this.#asked.toUs >= offsetFromUs;
    return { offsetFromUs, offsetToUs: isFresh ? (this.#asked as { toUs: number }).toUs : offsetFromUs + ONE_WAY_US_MAX };
  }
}
