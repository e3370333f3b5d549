/**
 * Which device is due next: a binary heap of (time, device) in two flat arrays, so that ten thousand devices need one timer.
 */
export class DueQueue {
  readonly #dueMs: Float64Array;
  readonly #device: Uint32Array;
  #size = 0;

  constructor(capacity: number) {
    this.#dueMs = new Float64Array(capacity);
    this.#device = new Uint32Array(capacity);
  }

  get size(): number {
    return this.#size;
  }

  /** Infinity when empty. */
  get nextDueMs(): number {
    return this.#size === 0 ? Infinity : (this.#dueMs[0] as number);
  }

  push(dueMs: number, device: number): void {
    let index = this.#size++;
    while (index > 0) {
      const parent = (index - 1) >>> 1;
      if ((this.#dueMs[parent] as number) <= dueMs) break;
      this.#dueMs[index] = this.#dueMs[parent] as number;
      this.#device[index] = this.#device[parent] as number;
      index = parent;
    }
    this.#dueMs[index] = dueMs;
    this.#device[index] = device;
  }

  /** The device that is due first; call only when size > 0. */
  pop(): number {
    const first = this.#device[0] as number;
    const dueMs = this.#dueMs[--this.#size] as number;
    const device = this.#device[this.#size] as number;
    let index = 0;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= this.#size) break;
      if (child + 1 < this.#size && (this.#dueMs[child + 1] as number) < (this.#dueMs[child] as number)) child++;
      if ((this.#dueMs[child] as number) >= dueMs) break;
      this.#dueMs[index] = this.#dueMs[child] as number;
      this.#device[index] = this.#device[child] as number;
      index = child;
    }
    this.#dueMs[index] = dueMs;
    this.#device[index] = device;
    return first;
  }
}
