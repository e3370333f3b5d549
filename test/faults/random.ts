/** Randomness of the lab: a seed repeats the faults and their order; the timing of real processes stays their own. */

export class SeededRandom {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** mulberry32: uniform in [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  between(from: number, to: number): number {
    return from + this.next() * (to - from);
  }

  /** In [0, count). */
  index(count: number): number {
    return Math.floor(this.next() * count);
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.index(choices.length)];
  }
}

/**
 * Faults in an order where each comes up before any comes a second time: a short run still meets them all, or as many as
 * it has time for.
 */
export class Rounds<T> {
  readonly #choices: readonly T[];
  readonly #random: SeededRandom;
  #left: T[] = [];

  constructor(choices: readonly T[], random: SeededRandom) {
    this.#choices = choices;
    this.#random = random;
  }

  next(): T {
    if (this.#left.length === 0) this.#left = [...this.#choices];
    return this.#left.splice(this.#random.index(this.#left.length), 1)[0];
  }
}
