/**
 * Field by field what a slot of a SlotTable has: indexes of doubles, or of 32-bit words, behind its first one. A slot is
 * 128 bytes.
 */
export const SLOT_DOUBLES = 16;
export const SLOT_WORDS = SLOT_DOUBLES * 2;

/** Start of the pane or window, µs. */
export const START = 0;
export const N = 1;
export const MEAN = 2;
export const M2 = 3;
export const SUM = 4;
export const MIN = 5;
export const MAX = 6;
export const FIRST = 7;
export const FIRST_TS = 8;
export const LAST = 9;
export const LAST_TS = 10;

/** Words from here on: id of the group. */
export const GROUP = 22;
/** The histogram's table in the arena; while the mask is 0, its pairs are in the slot. */
export const HIST_BASE = 23;
export const HIST_MASK = 24;
/** (code, count) pairs in use. */
export const HIST_USED = 25;
/** Readings that have no finite value. */
export const NAN = 26;
/** Readings that came after the window was closed. */
export const LATE = 27;
/** The pairs that are in the slot: code, count, code, count. */
export const PAIRS = 28;
export const PAIRS_IN_SLOT = 2;
