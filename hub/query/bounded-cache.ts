interface Kept<T> {
  readonly value: T;
  readonly bytes: number;
}

/** Values by key within a number of bytes; what is used least goes first. */
export class BoundedCache<T> {
  readonly #bytesMax: number;
  readonly #kept = new Map<string, Kept<T>>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get isFull(): boolean {
    return this.#bytes >= this.#bytesMax;
  }

  get(key: string): T | undefined {
    const kept = this.#kept.get(key);
    if (kept === undefined) return undefined;
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    return kept.value;
  }

  set(key: string, kept: Kept<T>): void {
    this.#bytes += kept.bytes - (this.#kept.get(key)?.bytes ?? 0);
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    for (const [oldest, { bytes }] of this.#kept) {
      if (this.#bytes <= this.#bytesMax || oldest === key) break;
      this.#kept.delete(oldest);
      this.#bytes -= bytes;
    }
  }
}
