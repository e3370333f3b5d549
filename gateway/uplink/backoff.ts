/**
 * Exponential back-off with full jitter: the n-th wait is uniform in [0, min · 2ⁿ), at most max. Full jitter spreads a
 * fleet that lost its hub in one moment over the whole interval.
 */
export class Backoff {
  readonly #msMin: number;
  readonly #msMax: number;
  readonly #random: () => number;
  #failures = 0;

  /** @param random uniform in [0, 1) */
  constructor(msMin: number, msMax: number, random: () => number) {
    this.#msMin = msMin;
    this.#msMax = Math.max(msMin, msMax);
    this.#random = random;
  }

  get failures(): number {
    return this.#failures;
  }

  nextMs(): number {
    const boundMs = Math.min(this.#msMax, this.#msMin * 2 ** Math.min(this.#failures, 30));
    this.#failures++;
    return Math.floor(this.#random() * boundMs);
  }

  /** Only for proven progress: a hub that accepts and drops must not be hammered. */
  reset(): void {
    this.#failures = 0;
  }
}
