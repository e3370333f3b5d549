/**
 * The samples of one series in columns, oldest first: of readings each one, of buckets and windows what they sum up.
 *
 * A sample stands at the time of its newest reading. One that is a single reading has n = 1 and its value everywhere.
 */
export interface Samples {
  /** Of the newest reading, µs, ascending. */
  readonly lastTsUs: ArrayLike<number>;
  readonly last: ArrayLike<number>;
  readonly firstTsUs: ArrayLike<number>;
  readonly first: ArrayLike<number>;
  readonly n: ArrayLike<number>;
  readonly sum: ArrayLike<number>;
  readonly min: ArrayLike<number>;
  readonly max: ArrayLike<number>;
  /** Sum of squared differences from the sample's mean. */
  readonly m2: ArrayLike<number>;
  /** What a counter had when it was reset inside the sample. */
  readonly lostToResets: ArrayLike<number>;
}

/** Every sample is one reading. */
export function singleReadings(tsUs: ArrayLike<number>, values: ArrayLike<number>): Samples {
  const ones = new Float64Array(tsUs.length).fill(1);
  const zeros = new Float64Array(tsUs.length);
  return {
    lastTsUs: tsUs,
    last: values,
    firstTsUs: tsUs,
    first: values,
    n: ones,
    sum: values,
    min: values,
    max: values,
    m2: zeros,
    lostToResets: zeros,
  };
}
