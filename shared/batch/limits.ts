/**
 * The bounds of the wire format (docs/wire.md, "Limits"). Each is checked before anything of that size is allocated.
 *
 * They are part of the format: an encoder refuses content above them, a decoder refuses batches above them.
 */

/** Bytes of a batch before compression; what decompression may yield. */
export const RAW_BYTES_MAX = 64 * 1024 * 1024;
/** Bytes of a whole batch: a body that did not shrink, plus the envelope (at most 72 bytes). */
export const BATCH_BYTES_MAX = RAW_BYTES_MAX + 128;
export const READINGS_MAX = 4_000_000;
/** Twice the default bound of series per gateway. */
export const SERIES_MAX = 200_000;
export const EXCEPTIONS_MAX = 100_000;
/** UTF-8 bytes of the tags of one series, as canonical JSON. */
export const TAGS_BYTES_MAX = 8192;
/** UTF-8 bytes of the reason of an exception. */
export const REASON_BYTES_MAX = 1024;
/**
 * UTF-8 bytes of all names in one string table, once unfolded. Front coding repeats bytes at the cost of almost none,
 * so the table's stored size does not bound what it unfolds to.
 */
export const STRING_TABLE_BYTES_MAX = 64 * 1024 * 1024;
/** Event times lie in ±TIME_US_MAX (years 1827 to 2112), so that the difference of any two is a safe integer. */
export const TIME_US_MAX = 2 ** 52 - 1;
/** Decimal mantissas lie in ±MANTISSA_MAX, so that differences and their spans are safe integers. */
export const MANTISSA_MAX = 2 ** 51;
/** 10^22 is the last power of ten that a double holds exactly; a mantissa below 2^51 has no use for more than 15. */
export const EXPONENT_MAX = 15;
export const TIME_MODELS_MAX = 64;
export const VALUE_MODELS_MAX = 256;
/** A time column may be shared with a series that is at most so many columns later. */
export const COLUMN_DISTANCE_MAX = 16;
