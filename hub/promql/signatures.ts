/** The functions of the subset: what they take, what they give, and how much of the samples they need. */
import type { ValueType } from './expression.ts';

/**
 * What a range function needs to know of the samples in its range:
 * `last` the newest one; `stats` count, sum, extremes and spread; `counter` also what resets took away; `samples` each one.
 */
export type SampleNeed = 'last' | 'stats' | 'counter' | 'samples';

interface Signature {
  readonly args: readonly ValueType[];
  /** Arguments at the end that may be left out. */
  readonly optional: number;
  readonly returns: ValueType;
  /** Only of functions of a range. */
  readonly need?: SampleNeed;
}

function ofRange(need: SampleNeed): Signature {
  return { args: ['matrix'], optional: 0, returns: 'vector', need };
}

const ofVector: Signature = { args: ['vector'], optional: 0, returns: 'vector' };
const ofVectorAndScalar: Signature = { args: ['vector', 'scalar'], optional: 0, returns: 'vector' };

export const FUNCTIONS: Readonly<Record<string, Signature>> = {
  avg_over_time: ofRange('stats'),
  min_over_time: ofRange('stats'),
  max_over_time: ofRange('stats'),
  sum_over_time: ofRange('stats'),
  count_over_time: ofRange('stats'),
  first_over_time: ofRange('stats'),
  last_over_time: ofRange('last'),
  present_over_time: ofRange('last'),
  stddev_over_time: ofRange('stats'),
  stdvar_over_time: ofRange('stats'),
  quantile_over_time: { args: ['scalar', 'matrix'], optional: 0, returns: 'vector', need: 'samples' },
  rate: ofRange('counter'),
  increase: ofRange('counter'),
  delta: ofRange('stats'),
  irate: ofRange('samples'),
  idelta: ofRange('samples'),
  deriv: ofRange('samples'),
  changes: ofRange('samples'),
  resets: ofRange('samples'),
  abs: ofVector,
  ceil: ofVector,
  floor: ofVector,
  exp: ofVector,
  ln: ofVector,
  log2: ofVector,
  log10: ofVector,
  sqrt: ofVector,
  sgn: ofVector,
  sort: ofVector,
  sort_desc: ofVector,
  timestamp: ofVector,
  absent: ofVector,
  round: { args: ['vector', 'scalar'], optional: 1, returns: 'vector' },
  clamp: { args: ['vector', 'scalar', 'scalar'], optional: 0, returns: 'vector' },
  clamp_min: ofVectorAndScalar,
  clamp_max: ofVectorAndScalar,
  scalar: { args: ['vector'], optional: 0, returns: 'scalar' },
  vector: { args: ['scalar'], optional: 0, returns: 'vector' },
  time: { args: [], optional: 0, returns: 'scalar' },
  pi: { args: [], optional: 0, returns: 'scalar' },
};
