/** Columns as runs of equal values, for what is the same over many rows: never one element per row. */
import assert from 'node:assert/strict';

/** Rows [ends[r - 1], ends[r]) have the index indices[r]; every run has rows. Behind `count` nothing is read. */
export interface Runs {
  readonly count: number;
  readonly ends: Uint32Array;
  readonly indices: Uint32Array;
}

export function rowCountOf({ count, ends }: Runs): number {
  return count === 0 ? 0 : ends[count - 1];
}

/** Runs in the making; neighbours of one index become one run. */
export class RunBuilder {
  #ends: Uint32Array;
  #indices: Uint32Array;
  #count = 0;

  /** @param memory of any content, of equal lengths; given away as soon as it is too small */
  constructor(memory: { readonly ends: Uint32Array; readonly indices: Uint32Array } | null = null) {
    this.#ends = memory?.ends ?? new Uint32Array(16);
    this.#indices = memory?.indices ?? new Uint32Array(16);
  }

  get count(): number {
    return this.#count;
  }

  add(index: number, rows: number): void {
    if (rows === 0) return;
    const count = this.#count;
    if (count > 0 && this.#indices[count - 1] === index) {
      this.#ends[count - 1] += rows;
      return;
    }
    if (count >= Math.min(this.#ends.length, this.#indices.length)) this.#grow();
    this.#indices[count] = index;
    this.#ends[count] = (count === 0 ? 0 : this.#ends[count - 1]) + rows;
    this.#count = count + 1;
  }

  #grow(): void {
    const length = Math.max(16, this.#count * 2);
    const [ends, indices] = [new Uint32Array(length), new Uint32Array(length)];
    ends.set(this.#ends.subarray(0, this.#count));
    indices.set(this.#indices.subarray(0, this.#count));
    this.#ends = ends;
    this.#indices = indices;
  }

  /** Forgets the rows from `row` on. */
  truncate(row: number): void {
    while (this.#count > 0 && (this.#count === 1 ? 0 : this.#ends[this.#count - 2]) >= row) this.#count--;
    if (this.#count > 0 && this.#ends[this.#count - 1] > row) this.#ends[this.#count - 1] = row;
  }

  /**
   * @param map gives each index another one; neighbours that become equal are one run
   * @param memory for them, of at least `count` elements each
   */
  runs(map?: Uint32Array, memory: { readonly ends: Uint32Array; readonly indices: Uint32Array } | null = null): Runs {
    if (map === undefined) return { count: this.#count, ends: this.#ends, indices: this.#indices };
    const ends = memory?.ends ?? new Uint32Array(this.#count);
    const indices = memory?.indices ?? new Uint32Array(this.#count);
    let count = 0;
    for (let run = 0; run < this.#count; run++) {
      const index = map[this.#indices[run]];
      if (count > 0 && indices[count - 1] === index) count--;
      indices[count] = index;
      ends[count++] = this.#ends[run];
    }
    return { count, ends, indices };
  }
}

/** The run that a row lies in. */
export function runAt({ count, ends }: Runs, row: number): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ends[middle] <= row) low = middle + 1;
    else high = middle;
  }
  assert(low < count, `row ${row} is behind the last run`);
  return low;
}

/** The index of every row of [rowStart, rowEnd). */
export function expandRuns(runs: Runs, rowStart: number, rowEnd: number): Uint32Array {
  const rows = new Uint32Array(rowEnd - rowStart);
  if (rows.length === 0) return rows;
  let from = rowStart;
  for (let run = runAt(runs, rowStart); from < rowEnd; run++) {
    const to = Math.min(rowEnd, runs.ends[run]);
    rows.fill(runs.indices[run], from - rowStart, to - rowStart);
    from = to;
  }
  return rows;
}
