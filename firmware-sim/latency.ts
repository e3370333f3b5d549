/**
 * Latencies in logarithmic buckets, 32 to a doubling: any percentile within 2.2 %, in constant memory.
 */
const BUCKETS_PER_OCTAVE = 32;
const OCTAVES = 36; // 2^-6 ms … 2^30 ms: 16 µs to twelve days
const MS_MIN = 2 ** -6;

export class LatencyHistogram {
  readonly #counts = new Float64Array(BUCKETS_PER_OCTAVE * OCTAVES);
  #total = 0;
  #maxMs = 0;

  add(ms: number): void {
    const bucket = Math.floor(Math.log2(Math.max(ms, MS_MIN) / MS_MIN) * BUCKETS_PER_OCTAVE);
    const index = Math.min(bucket, this.#counts.length - 1);
    this.#counts[index] = this.#counts[index] + 1;
    this.#total++;
    if (ms > this.#maxMs) this.#maxMs = ms;
  }

  get count(): number {
    return this.#total;
  }

  get maxMs(): number {
    return this.#maxMs;
  }

  /** By nearest rank, the upper end of its bucket; null without a value. */
  percentileMs(ratio: number): number | null {
    if (this.#total === 0) return null;
    const rank = Math.max(1, Math.ceil(ratio * this.#total));
    let seen = 0;
    for (let index = 0; index < this.#counts.length; index++) {
      seen += this.#counts[index];
      if (seen >= rank) return Math.min(this.#maxMs, MS_MIN * 2 ** ((index + 1) / BUCKETS_PER_OCTAVE));
    }
    return this.#maxMs;
  }
}
