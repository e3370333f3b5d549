/**
 * The vocabulary of readings, in columns.
 *
 * After decode no object per reading exists (invariant 8): a run of readings is a set of typed arrays of equal
 * length, and what repeats (device, metric, tags, texts) stands once in a table that the columns point into.
 */

/** What readings belong to, within one gateway. Two readings with equal fields are of the same series. */
export interface Series {
  readonly device: string;
  readonly metric: string;
  /** Canonical JSON of the tags (keys sorted, string values, no white space), or '' for no tags. */
  readonly tags: string;
}

/**
 * Readings in arrival order.
 *
 * Every column has at least `count` elements; what stands behind `count` is meaningless.
 */
export interface ReadingColumns {
  readonly count: number;
  /** Index into the series table that travels with the columns, or a registry id; the holder says which. */
  readonly series: Uint32Array;
  /** Event time: integer microseconds since the Unix epoch, UTC. */
  readonly eventTimeUs: Float64Array;
  /** The value; NaN where the reading has only a text. */
  readonly value: Float64Array;
  /** 0 = no text, k = texts[k - 1]; null when no reading of the run has a text. */
  readonly text: Uint32Array | null;
  readonly texts: readonly string[];
}

/**
 * Readings grouped into one run per series, as they stand in a batch.
 *
 * `seriesTable` is sorted by `compareSeries` without equals; the readings of series s are
 * [runOffsets[s], runOffsets[s + 1]), never empty, in ascending event time, equal times in arrival order.
 */
export interface SeriesRuns {
  readonly count: number;
  readonly seriesTable: readonly Series[];
  /** seriesTable.length + 1 offsets; the last one is `count`. */
  readonly runOffsets: Uint32Array;
  /** Event time: integer microseconds since the Unix epoch, UTC. */
  readonly eventTimeUs: Float64Array;
  /** The value; NaN where the reading has only a text. */
  readonly value: Float64Array;
  /** 0 = no text, k = texts[k - 1]; null when no reading of the run has a text. */
  readonly text: Uint32Array | null;
  readonly texts: readonly string[];
}

/**
 * Total order of series: device, then metric, then tags, each by UTF-16 code units (plain `<`).
 *
 * The Parquet files of the lake are sorted by the same order, so runs are merged, never sorted again.
 */
export function compareSeries(a: Series, b: Series): number {
  if (a.device !== b.device) return a.device < b.device ? -1 : 1;
  if (a.metric !== b.metric) return a.metric < b.metric ? -1 : 1;
  if (a.tags !== b.tags) return a.tags < b.tags ? -1 : 1;
  return 0;
}

/** One string per series, for maps. U+0000 cannot stand in a name (names are validated at decode). */
export function seriesKey(series: Series): string {
  return `${series.device}\u0000${series.metric}\u0000${series.tags}`;
}

/** The tags as `Series.tags` wants them: sorted keys, canonical JSON, '' when there is none. */
export function canonicalTags(tags: Readonly<Record<string, string>>): string {
  const keys = Object.keys(tags).sort();
  if (keys.length === 0) return '';
  // Not by way of an object: that would put keys that look like array indexes first, in numeric order.
  return `{${keys.map((key) => `${JSON.stringify(key)}:${JSON.stringify(tags[key])}`).join(',')}}`;
}

/** A name of a device, metric, tag or gateway may have so many bytes of UTF-8 (invariant 7). */
export const NAME_BYTES_MAX = 256;

/** Integers above this lose digits in a DOUBLE; their exact digits stand in `text` as well. */
export const EXACT_INTEGER_MAX = Number.MAX_SAFE_INTEGER;

/** Event times before 2015 are quarantined: no device of this product existed (design: invariant 6). */
export const EVENT_TIME_MIN_US = Date.UTC(2015, 0, 1) * 1000;

/** Event times so far ahead of the arrival are quarantined: 5 min (invariant 6). */
export const EVENT_TIME_AHEAD_MAX_US = 5 * 60 * 1_000_000;
