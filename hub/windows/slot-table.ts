/**
 * Partials in columns: one slot per (group, start) that is really present, the start that of a pane or a window.
 *
 * Constraints: about 10 ns per run of readings that hits; memory follows the slots, never groups × windows.
 *
 * Layout. A slot (slot-layout.ts) is SLOT_DOUBLES doubles in one growable array, so that a run touches two cache lines
 * and slots that were made one after the other are read one after the other.
 * Slots are found through an open-addressing table of slot + 1, in which groups with neighbouring ids lie side by side:
 * batches name them in that order. Before it is asked, the slot after the one found last
 * is tried: batches name their series in the same order as the batch that made the slots.
 *
 * A histogram is up to two (code, count) pairs in the slot itself: a window of a steady signal mostly has no more, and
 * asks no other cache line. With a third code it moves into a small open-addressing table of pairs in an arena, count 0 =
 * empty, capacity a power of two (mask = capacity - 1), at most 3/4 full. Codes that lie side by side, as those of a steady signal do, fall side
 * by side. An outgrown table goes to the free list of its capacity, linked through its first word.
 *
 * In memory only. Bounds are the owner's: it asks before it adds (counts are int32).
 */

import { sumUp, type RunColumns, type Segment } from './segment.ts';
import {
  FIRST,
  FIRST_TS,
  GROUP,
  HIST_BASE,
  HIST_MASK,
  HIST_USED,
  LAST,
  LAST_TS,
  LATE,
  M2,
  MAX,
  MEAN,
  MIN,
  N,
  NAN,
  PAIRS,
  PAIRS_IN_SLOT,
  SLOT_DOUBLES,
  SLOT_WORDS,
  SUM,
} from './slot-layout.ts';

const SLOTS_MIN = 16;
const HIST_CAPACITY_MIN = 4;
const HIST_CLASSES = 32;
const HINTS = 4;

export class SlotTable {
  /** Starts are multiples of it. */
  readonly stepUs: number;
  /** Slots in use; slot ids are 0 … count - 1. */
  count = 0;
  /** Of the slots in use; Infinity and -Infinity: there are none. */
  firstStartUs = Infinity;
  lastStartUs = -Infinity;
  doubles = new Float64Array(SLOTS_MIN * SLOT_DOUBLES);
  words = new Int32Array(this.doubles.buffer);
  #index = new Int32Array(SLOTS_MIN * 2);
  /** Slot found last, by the low bits of the start's number: batches straddle borders. */
  readonly #hints = new Int32Array(HINTS).fill(-1);
  #arena = new Int32Array(SLOTS_MIN * HIST_CAPACITY_MIN * 2);
  /** Pairs handed out so far. */
  #arenaUsed = 0;
  /** Base + 1 of the first free table, by log2 of the capacity. */
  readonly #free = new Int32Array(HIST_CLASSES);

  /** @param capacity slots that are expected: growing copies all that is there */
  constructor(stepUs: number, capacity = 0) {
    this.stepUs = stepUs;
    if (capacity <= SLOTS_MIN) return;
    this.doubles = new Float64Array(capacity * SLOT_DOUBLES);
    this.words = new Int32Array(this.doubles.buffer);
    this.#index = new Int32Array(2 ** Math.ceil(Math.log2(capacity * 2)));
  }

  get bytes(): number {
    return this.doubles.byteLength + this.#index.byteLength + this.#arena.byteLength;
  }

  /** Forgets everything; keeps buffers only if they were well used. */
  clear(): void {
    const capacity = this.doubles.length / SLOT_DOUBLES;
    if (capacity > SLOTS_MIN && this.count < capacity / 4) {
      this.doubles = new Float64Array(SLOTS_MIN * SLOT_DOUBLES);
      this.words = new Int32Array(this.doubles.buffer);
      this.#index = new Int32Array(SLOTS_MIN * 2);
      this.#arena = new Int32Array(SLOTS_MIN * HIST_CAPACITY_MIN * 2);
    } else {
      this.#index.fill(0);
      this.#arena.fill(0, 0, this.#arenaUsed * 2);
    }
    this.count = 0;
    this.firstStartUs = Infinity;
    this.lastStartUs = -Infinity;
    this.#hints.fill(-1);
    this.#arenaUsed = 0;
    this.#free.fill(0);
  }

  /**
   * Sums up readings of a run that lie in one pane and merges them into the slot of its group and pane.
   *
   * @param startNumber the pane's start divided by the step
   * @returns the index after the last reading taken, at least from + 1
   */
  addRun(group: number, startNumber: number, run: RunColumns, from: number, end: number, segment: Segment): number {
    const slot = this.#find(group, startNumber);
    const at = slot * SLOT_DOUBLES;
    const isNew = this.doubles[at + N] === 0;
    const next = isNew ? sumUp(run, from, end, segment, this.doubles, at) : sumUp(run, from, end, segment, segment.stats, 0);
    if (segment.nan !== 0) this.words[slot * SLOT_WORDS + NAN] += segment.nan;
    if (segment.pairCount === 0) return next;
    if (!isNew) this.#mergeStats(at, segment.stats, 0);
    this.#mergePairs(slot * SLOT_WORDS, segment.pairs, 0, segment.pairCount);
    return next;
  }

  /**
   * Merges a segment into the slot of the group and start.
   *
   * @param startNumber the start divided by the step
   * @param late how many of the segment's readings came after the window was closed
   */
  add(group: number, startNumber: number, segment: Segment, late: number): void {
    const slot = this.#find(group, startNumber);
    const word = slot * SLOT_WORDS;
    if (segment.nan !== 0) this.words[word + NAN] += segment.nan;
    if (late !== 0) this.words[word + LATE] += late;
    if (segment.stats[N] === 0) return;
    this.#mergeStats(slot * SLOT_DOUBLES, segment.stats, 0);
    this.#mergePairs(word, segment.pairs, 0, segment.pairCount);
  }

  /**
   * Merges a slot of another table into the slot of the group and start.
   *
   * @param startNumber the start divided by the step
   */
  addSlot(group: number, startNumber: number, source: SlotTable, sourceSlot: number): void {
    const slot = this.#find(group, startNumber);
    const word = slot * SLOT_WORDS;
    const from = sourceSlot * SLOT_WORDS;
    this.words[word + NAN] += source.words[from + NAN];
    this.words[word + LATE] += source.words[from + LATE];
    if (source.doubles[sourceSlot * SLOT_DOUBLES + N] === 0) return;
    this.#mergeStats(slot * SLOT_DOUBLES, source.doubles, sourceSlot * SLOT_DOUBLES);
    const mask = source.words[from + HIST_MASK];
    if (mask === 0) this.#mergePairs(word, source.words, from + PAIRS, source.words[from + HIST_USED]);
    else this.#mergePairs(word, source.#arena, source.words[from + HIST_BASE] * 2, mask + 1);
  }

  /** @param stats fields as a slot has them, at `from` */
  #mergeStats(at: number, stats: Float64Array, from: number): void {
    const doubles = this.doubles;
    const na = doubles[at + N];
    if (na === 0) {
      for (let field = N; field <= LAST_TS; field++) doubles[at + field] = stats[from + field];
      return;
    }
    const nb = stats[from + N];
    const n = na + nb;
    const delta = stats[from + MEAN] - doubles[at + MEAN];
    const share = delta * (nb / n);
    doubles[at + N] = n;
    doubles[at + MEAN] += share;
    doubles[at + M2] += stats[from + M2] + delta * share * na;
    doubles[at + SUM] += stats[from + SUM];
    if (stats[from + MIN] < doubles[at + MIN]) doubles[at + MIN] = stats[from + MIN];
    if (stats[from + MAX] > doubles[at + MAX]) doubles[at + MAX] = stats[from + MAX];
    const firstTs = stats[from + FIRST_TS];
    const ownFirstTs = doubles[at + FIRST_TS];
    if (firstTs < ownFirstTs || (firstTs === ownFirstTs && stats[from + FIRST] < doubles[at + FIRST])) {
      doubles[at + FIRST_TS] = firstTs;
      doubles[at + FIRST] = stats[from + FIRST];
    }
    const lastTs = stats[from + LAST_TS];
    const ownLastTs = doubles[at + LAST_TS];
    if (lastTs > ownLastTs || (lastTs === ownLastTs && stats[from + LAST] > doubles[at + LAST])) {
      doubles[at + LAST_TS] = lastTs;
      doubles[at + LAST] = stats[from + LAST];
    }
  }

  /** @param from where the (code, count) pairs begin; those that count nothing are not there */
  #mergePairs(word: number, pairs: Int32Array, from: number, pairCount: number): void {
    const words = this.words;
    const end = from + pairCount * 2;
    let pair = from;
    if (words[word + HIST_MASK] === 0) {
      const own = word + PAIRS;
      let used = words[word + HIST_USED];
      for (; pair < end; pair += 2) {
        const code = pairs[pair];
        const count = pairs[pair + 1];
        if (count === 0) continue;
        if (used > 0 && words[own] === code) words[own + 1] += count;
        else if (used > 1 && words[own + 2] === code) words[own + 3] += count;
        else if (used < PAIRS_IN_SLOT) {
          words[own + used * 2] = code;
          words[own + used * 2 + 1] = count;
          used++;
        } else break;
      }
      words[word + HIST_USED] = used;
    }
    for (; pair < end; pair += 2) if (pairs[pair + 1] !== 0) this.#countInArena(word, pairs[pair], pairs[pair + 1]);
  }

  #countInArena(word: number, code: number, count: number): void {
    for (;;) {
      const mask = this.words[word + HIST_MASK];
      if (mask !== 0) {
        const arena = this.#arena;
        const base = this.words[word + HIST_BASE];
        let entry = placeOfCode(code, mask);
        while (arena[(base + entry) * 2 + 1] !== 0 && arena[(base + entry) * 2] !== code) entry = (entry + 1) & mask;
        const at = (base + entry) * 2;
        if (arena[at + 1] !== 0) {
          arena[at + 1] += count;
          return;
        }
        const used = this.words[word + HIST_USED];
        if (used < ((mask + 1) * 3) / 4) {
          arena[at] = code;
          arena[at + 1] = count;
          this.words[word + HIST_USED] = used + 1;
          return;
        }
      }
      this.#growHistogram(word);
    }
  }

  /** Moves a slot's histogram into a table of twice the capacity, or out of the slot into its first one. */
  #growHistogram(word: number): void {
    if (this.words[word + HIST_MASK] === 0) {
      this.#moveOut(word);
      return;
    }
    const oldBase = this.words[word + HIST_BASE];
    const oldCapacity = this.words[word + HIST_MASK] + 1;
    const capacity = oldCapacity * 2;
    const base = this.#allocate(capacity);
    const arena = this.#arena;
    const mask = capacity - 1;
    for (let old = oldBase; old < oldBase + oldCapacity; old++) {
      const count = arena[old * 2 + 1];
      if (count === 0) continue;
      const code = arena[old * 2];
      let entry = placeOfCode(code, mask);
      while (arena[(base + entry) * 2 + 1] !== 0) entry = (entry + 1) & mask;
      arena[(base + entry) * 2] = code;
      arena[(base + entry) * 2 + 1] = count;
    }
    this.words[word + HIST_BASE] = base;
    this.words[word + HIST_MASK] = mask;
    const sizeClass = 31 - Math.clz32(oldCapacity);
    arena.fill(0, oldBase * 2, (oldBase + oldCapacity) * 2);
    arena[oldBase * 2] = this.#free[sizeClass];
    this.#free[sizeClass] = oldBase + 1;
  }

  #moveOut(word: number): void {
    const base = this.#allocate(HIST_CAPACITY_MIN);
    const mask = HIST_CAPACITY_MIN - 1;
    const arena = this.#arena;
    for (let pair = word + PAIRS; pair < word + PAIRS + PAIRS_IN_SLOT * 2; pair += 2) {
      const code = this.words[pair];
      let entry = placeOfCode(code, mask);
      while (arena[(base + entry) * 2 + 1] !== 0) entry = (entry + 1) & mask;
      arena[(base + entry) * 2] = code;
      arena[(base + entry) * 2 + 1] = this.words[pair + 1];
    }
    this.words[word + HIST_BASE] = base;
    this.words[word + HIST_MASK] = mask;
  }

  /** Base of an empty table of so many pairs. */
  #allocate(capacity: number): number {
    const sizeClass = 31 - Math.clz32(capacity);
    const free = this.#free[sizeClass];
    if (free !== 0) {
      const base = free - 1;
      this.#free[sizeClass] = this.#arena[base * 2];
      return base;
    }
    const base = this.#arenaUsed;
    this.#arenaUsed += capacity;
    if (this.#arenaUsed * 2 > this.#arena.length) {
      const larger = new Int32Array(Math.max(this.#arena.length * 2, this.#arenaUsed * 2));
      larger.set(this.#arena);
      this.#arena = larger;
    }
    return base;
  }

  #find(group: number, startNumber: number): number {
    const startUs = startNumber * this.stepUs;
    const lane = startNumber & (HINTS - 1);
    const hint = this.#hints[lane] + 1;
    if (hint < this.count && this.words[hint * SLOT_WORDS + GROUP] === group && this.doubles[hint * SLOT_DOUBLES] === startUs) {
      this.#hints[lane] = hint;
      return hint;
    }
    const index = this.#index;
    const mask = index.length - 1;
    let at = placeOf(group, startNumber, mask);
    for (;;) {
      const slot = index[at] - 1;
      if (slot < 0) break;
      if (this.words[slot * SLOT_WORDS + GROUP] === group && this.doubles[slot * SLOT_DOUBLES] === startUs) {
        this.#hints[lane] = slot;
        return slot;
      }
      at = (at + PROBE_STEP) & mask;
    }
    const slot = this.#create(group, startUs);
    if (this.#index === index) index[at] = slot + 1;
    this.#hints[lane] = slot;
    return slot;
  }

  /** The slot of the group and start; -1: there is none. */
  slotOf(group: number, startUs: number): number {
    const mask = this.#index.length - 1;
    let at = placeOf(group, startUs / this.stepUs, mask);
    for (;;) {
      const slot = this.#index[at] - 1;
      if (slot < 0 || (this.words[slot * SLOT_WORDS + GROUP] === group && this.doubles[slot * SLOT_DOUBLES] === startUs)) return slot;
      at = (at + PROBE_STEP) & mask;
    }
  }

  #create(group: number, startUs: number): number {
    const slot = this.count++;
    if (this.count * SLOT_DOUBLES > this.doubles.length) {
      const larger = new Float64Array(this.doubles.length * 2);
      larger.set(this.doubles);
      this.doubles = larger;
      this.words = new Int32Array(larger.buffer);
    }
    if (startUs < this.firstStartUs) this.firstStartUs = startUs;
    if (startUs > this.lastStartUs) this.lastStartUs = startUs;
    // A cleared table has old slots here. Field by field: fill() of 14 doubles takes longer than all the rest of a slot.
    this.doubles[slot * SLOT_DOUBLES] = startUs;
    this.doubles[slot * SLOT_DOUBLES + N] = 0;
    this.doubles[slot * SLOT_DOUBLES + MEAN] = 0;
    this.doubles[slot * SLOT_DOUBLES + M2] = 0;
    this.doubles[slot * SLOT_DOUBLES + SUM] = 0;
    const word = slot * SLOT_WORDS;
    this.words[word + GROUP] = group;
    this.words[word + HIST_MASK] = 0;
    this.words[word + HIST_USED] = 0;
    this.words[word + NAN] = 0;
    this.words[word + LATE] = 0;
    // At most half full: probes stay short without tombstones, because slots are never removed one by one.
    if (this.count * 2 > this.#index.length) this.#reindex(this.#index.length * 2);
    return slot;
  }

  #reindex(length: number): void {
    const index = new Int32Array(length);
    for (let slot = 0; slot < this.count; slot++) {
      let at = placeOf(this.words[slot * SLOT_WORDS + GROUP], this.doubles[slot * SLOT_DOUBLES] / this.stepUs, length - 1);
      while (index[at] !== 0) at = (at + PROBE_STEP) & (length - 1);
      index[at] = slot + 1;
    }
    this.#index = index;
  }

  /** Gives every slot the new id of its group. */
  renumber(newIds: Uint32Array): void {
    for (let slot = 0; slot < this.count; slot++) this.words[slot * SLOT_WORDS + GROUP] = newIds[this.words[slot * SLOT_WORDS + GROUP]];
    this.#hints.fill(-1);
    this.#reindex(this.#index.length);
  }

  /** How many (code, count) pairs a slot has. */
  codeCount(slot: number): number {
    return this.words[slot * SLOT_WORDS + HIST_USED];
  }

  /**
   * Copies a slot's (code, count) pairs into the two arrays, from 0, in no order.
   *
   * @returns how many
   */
  readCodes(slot: number, codes: Int32Array, counts: Int32Array): number {
    const word = slot * SLOT_WORDS;
    const base = this.words[word + HIST_BASE];
    const mask = this.words[word + HIST_MASK];
    let next = 0;
    if (mask === 0) {
      for (const used = this.words[word + HIST_USED]; next < used; next++) {
        codes[next] = this.words[word + PAIRS + next * 2];
        counts[next] = this.words[word + PAIRS + next * 2 + 1];
      }
      return next;
    }
    for (let pair = base; pair <= base + mask; pair++) {
      const count = this.#arena[pair * 2 + 1];
      if (count === 0) continue;
      codes[next] = this.#arena[pair * 2];
      counts[next++] = count;
    }
    return next;
  }
}

/** Codes that lie side by side fall side by side, those of a doubling apart do not. */
function placeOfCode(code: number, mask: number): number {
  return (code + (code >> 5)) & mask;
}

/** Neighbouring groups lie in one cache line of the index. */
const LINE_BITS = 4;
/** To another line, at another place in it; odd, so that it meets every place of a table whose length is a power of two. */
const PROBE_STEP = (1 << LINE_BITS) + 1;

/** Where the search for a slot begins: the line by mixing both numbers (the finaliser of MurmurHash3, shortened). */
function placeOf(group: number, startNumber: number, mask: number): number {
  let h = Math.imul(group >>> LINE_BITS, 0x9e3779b1) ^ Math.imul(startNumber | 0, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 15), 0xc2b2ae35);
  h ^= h >>> 13;
  return ((h << LINE_BITS) | (group & ((1 << LINE_BITS) - 1))) & mask;
}
