/**
 * Long work in steps: a generator that yields every few ms. Who shares its thread with others does it in slices, who is
 * alone at once.
 */
export type Steps<T> = Generator<void, T, void>;

/** @param breathe lets the other work of the thread in */
export async function inSlices<T>(steps: Steps<T>, breathe: () => Promise<void>): Promise<T> {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    await breathe();
  }
}

export function atOnce<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** Sorted, or merged from the shorter side, in one step: some ms where names are compared. */
const SORTED_PER_STEP = 8_192;

/** The numbers of [from, to) by `compare`, which knows no equals. */
export function* sortedInSteps(from: number, to: number, compare: (a: number, b: number) => number): Steps<Uint32Array> {
  let lists: Uint32Array[] = [];
  for (let start = from; start < to; start += SORTED_PER_STEP) {
    // Of an array, not of a typed one: its sort makes use of what is sorted already, as the series of each gateway are.
    const numbers = Array.from({ length: Math.min(SORTED_PER_STEP, to - start) }, (_, index) => start + index);
    lists.push(Uint32Array.from(numbers.sort(compare)));
    yield;
  }
  while (lists.length > 1) {
    const merged: Uint32Array[] = [];
    for (let index = 0; index < lists.length; index += 2)
      merged.push(index + 1 < lists.length ? yield* mergedInSteps(lists[index], lists[index + 1], compare) : lists[index]);
    lists = merged;
  }
  return lists[0] ?? new Uint32Array(0);
}

/**
 * Two sorted lists as one; a list that the other one adds nothing to is given back as it is.
 *
 * Each of the shorter list is looked for in the longer one from where the one before it was found, in steps that double: what
 * is added to a long list costs little.
 */
export function* mergedInSteps(a: Uint32Array, b: Uint32Array, compare: (a: number, b: number) => number): Steps<Uint32Array> {
  const [short, long] = a.length < b.length ? [a, b] : [b, a];
  if (short.length === 0) return long;
  const merged = new Uint32Array(a.length + b.length);
  let at = 0;
  for (let index = 0; index < short.length; index++) {
    const one = short[index];
    let low = at;
    let high = at;
    for (let step = 1; high < long.length && compare(long[high], one) < 0; step *= 2) {
      low = high + 1;
      high += step;
    }
    high = Math.min(high, long.length);
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compare(long[middle], one) < 0) low = middle + 1;
      else high = middle;
    }
    // A loop, not `set`: mostly they are few.
    for (; at < low; at++) merged[at + index] = long[at];
    merged[at + index] = one;
    if (index % SORTED_PER_STEP === SORTED_PER_STEP - 1) yield;
  }
  merged.set(long.subarray(at), at + short.length);
  return merged;
}
