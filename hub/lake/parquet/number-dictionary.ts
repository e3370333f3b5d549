/**
 * The distinct values of a column chunk, found by hashing the bits of doubles.
 *
 * By bits, so that NaN payloads and the sign of zero survive. Gives up where a dictionary cannot pay.
 */

import type { Scratch } from './column-chunk.ts';

/** More distinct values than this make a dictionary page above 512 KiB; readers keep it whole in memory. */
const DISTINCT_MAX = 65_536;
/** Values hashed between two yields: about half a millisecond. */
const SLICE_VALUES = 16_384;

/** Both in the caller's buffers. */
export interface NumberDictionary {
  /** The distinct values, in the order of their first appearance. */
  readonly values: Float64Array;
  /** The id of every value of the chunk. */
  readonly ids: Uint32Array;
}

/** Too many distinct among those seen so far to hope that the rest repeats them. */
function isHopeless(distinct: number, seen: number): boolean {
  return seen >= 4 * SLICE_VALUES ? distinct * 2 > seen : distinct * 10 > seen * 9;
}

/**
 * Answers null where there are too many distinct values. Linear; yields between slices.
 *
 */
export function* buildNumberDictionary(values: Float64Array, scratch: Scratch): Generator<void, NumberDictionary | null> {
  const count = values.length;
  const ids = scratch.ids(count);
  const limit = Math.min(DISTINCT_MAX, count);
  const slotBits = Math.max(4, 32 - Math.clz32(limit * 2));
  const slots = scratch.zeros(2 ** slotBits); // id + 1, 0 = free; at most half full
  const distinct = scratch.distinct(limit);
  const state = { size: 0 };
  for (let from = 0; from < count; from += SLICE_VALUES) {
    const to = Math.min(count, from + SLICE_VALUES);
    if (!hashSlice(values, from, to, ids, distinct, slots, 32 - slotBits, state)) return null;
    if (to < count && isHopeless(state.size, to)) return null;
    yield;
  }
  return { values: distinct.subarray(0, state.size), ids };
}

function hashSlice(
  values: Float64Array,
  from: number,
  to: number,
  ids: Uint32Array,
  distinct: Float64Array,
  slots: Uint32Array,
  shift: number,
  state: { size: number },
): boolean {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length * 2);
  const keys = new Uint32Array(distinct.buffer, distinct.byteOffset, distinct.length * 2);
  const mask = slots.length - 1;
  let size = state.size;
  let last = NaN;
  let lastId = 0;
  for (let i = from; i < to; i++) {
    const value = values[i];
    if (value === last) {
      ids[i] = lastId; // long runs cost a comparison
      continue;
    }
    const a = words[2 * i];
    const b = words[2 * i + 1];
    let slot = Math.imul(a ^ Math.imul(b, 0x85eb_ca6b), 0x9e37_79b1) >>> shift;
    let id = slots[slot] - 1;
    while (id >= 0 && (keys[2 * id] !== a || keys[2 * id + 1] !== b)) {
      slot = (slot + 1) & mask;
      id = slots[slot] - 1;
    }
    if (id < 0) {
      if (size === distinct.length) return false;
      id = size++;
      slots[slot] = size;
      keys[2 * id] = a;
      keys[2 * id + 1] = b;
    }
    ids[i] = id;
    last = value === 0 ? NaN : value; // -0 equals +0, but is another value here
    lastId = id;
  }
  state.size = size;
  return true;
}
