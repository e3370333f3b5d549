/**
 * A set of message indexes as sorted half-open ranges. Messages are acknowledged nearly in order, so a set of millions is a
 * handful of numbers.
 */
export type Range = readonly [from: number, to: number];

export class MessageRanges {
  readonly #from: number[] = [];
  readonly #to: number[] = [];
  #size = 0;

  static of(ranges: readonly Range[]): MessageRanges {
    const set = new MessageRanges();
    for (const [from, to] of ranges) set.addRange(from, to);
    return set;
  }

  get size(): number {
    return this.#size;
  }

  /** Index of the first range that ends at or after `value`. */
  #find(value: number): number {
    let low = 0;
    let high = this.#to.length;
    if (high > 0 && this.#to[high - 1] < value) return high;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#to[middle] < value) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  add(value: number): void {
    this.addRange(value, value + 1);
  }

  addRange(from: number, to: number): void {
    if (to <= from) return;
    const first = this.#find(from);
    let last = first;
    let newFrom = from;
    let newTo = to;
    while (last < this.#from.length && this.#from[last] <= to) {
      newFrom = Math.min(newFrom, this.#from[last]);
      newTo = Math.max(newTo, this.#to[last]);
      this.#size -= this.#to[last] - this.#from[last];
      last++;
    }
    this.#from.splice(first, last - first, newFrom);
    this.#to.splice(first, last - first, newTo);
    this.#size += newTo - newFrom;
  }

  has(value: number): boolean {
    const index = this.#find(value + 1);
    return index < this.#from.length && this.#from[index] <= value;
  }

  toRanges(): Range[] {
    return this.#from.map((from, index): Range => [from, this.#to[index]]);
  }

  /** What of [0, end) is in neither this set nor the other. */
  complement(end: number, other: MessageRanges): Range[] {
    const covered = MessageRanges.of([...this.toRanges(), ...other.toRanges()]).toRanges();
    const gaps: Range[] = [];
    let next = 0;
    for (const [from, to] of covered) {
      if (from >= end) break;
      if (from > next) gaps.push([next, from]);
      next = Math.max(next, to);
    }
    if (next < end) gaps.push([next, end]);
    return gaps;
  }
}
