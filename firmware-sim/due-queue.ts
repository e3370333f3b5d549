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
    return this.#size === 0 ? Infinity : this.#dueMs[0];
  }

  push(dueMs: number, device: number): void {
    let index = this.#size++;
    while (index > 0) {
      const parent = (index - 1) >>> 1;
      if (this.#dueMs[parent] <= dueMs) break;
      this.#dueMs[index] = this.#dueMs[parent];
      this.#device[index] = this.#device[parent];
      index = parent;
    }
    this.#dueMs[index] = dueMs;
    this.#device[index] = device;
  }

  /** The device that is due first; call only when size > 0. */
  pop(): number {
    const first = this.#device[0];
    const dueMs = this.#dueMs[--this.#size];
    const device = this.#device[this.#size];
    let index = 0;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= this.#size) break;
      if (child + 1 < this.#size && this.#dueMs[child + 1] < this.#dueMs[child]) child++;
      if (this.#dueMs[child] >= dueMs) break;
      this.#dueMs[index] = this.#dueMs[child];
      this.#device[index] = this.#device[child];
      index = child;
    }
    this.#dueMs[index] = dueMs;
    this.#device[index] = device;
    return first;
  }
}
