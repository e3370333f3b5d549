/** Bounds of one message (invariant 7). A message beyond them is a dead letter as a whole, so that nothing of it counts twice. */

/** Readings of one message: a day of one metric at 1 Hz fits. */
export const MESSAGE_READINGS_MAX = 65_536;
/** Fields of one entry of a message, nested ones included. */
export const ENTRY_FIELDS_MAX = 4_096;
/** Nesting below an entry: `{"a":{"b":1}}` is 2. */
export const NESTING_MAX = 8;
/** UTF-8 bytes of one text value. */
export const TEXT_BYTES_MAX = 65_536;
/** UTF-8 bytes of all tags of a series as canonical JSON; the wire format takes no more. */
export const TAGS_BYTES_MAX = 8_192;
/** Single exceptions of one message; what is beyond them is summed up in one more. */
export const MESSAGE_PROBLEMS_MAX = 16;
