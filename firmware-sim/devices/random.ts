/**
 * Randomness as a function of its place: the same (seed, place) gives the same number, in any order, on any machine.
 *
 * A generator with a state would have to be run from its start to know message 86,400 of a device; here any message can
 * be made alone, which is what lets the ledger hold counts instead of readings. Only integer arithmetic and exactly
 * rounded operations are used (no Math.sin, no Math.pow), so that another Node version regenerates the same doubles.
 */

/** The finaliser of MurmurHash3 (public domain): every input bit reaches every output bit. */
export function mix32(value: number): number {
  let h = value >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** 32 random bits of a place. */
export function bitsAt(seed: number, ...place: readonly number[]): number {
  let h = mix32(seed ^ 0x9e3779b9);
  for (const part of place) h = mix32((Math.imul(h, 5) + 0xe6546b64) ^ mix32(part));
  return h;
}

/** Uniform in [0, 1). */
export function ratioAt(seed: number, ...place: readonly number[]): number {
  return bitsAt(seed, ...place) / 2 ** 32;
}

/** Uniform integer in [0, count). */
export function integerAt(count: number, seed: number, ...place: readonly number[]): number {
  return Math.floor(ratioAt(seed, ...place) * count);
}

/** Octave j turns every 2^j steps; 12 octaves wander for 4,096 steps before they come around. */
const WALK_OCTAVES = 12;
/** 2^(j/2) by exact doublings, because Math.pow may differ in the last bit between engines. */
const OCTAVE_WEIGHT = [1, 2, 4, 8, 16, 32].flatMap((weight) => [weight, weight * Math.SQRT2]);

/**
 * Place `step` of a random walk with steps of about 1, around 0: noise of falling frequency and growing weight, summed.
 *
 * Like a walk, its spread grows with the square root of the distance; unlike a walk, step k needs no step before it.
 */
export function walkAt(seed: number, stream: number, step: number): number {
  let sum = 0;
  for (let octave = 0; octave < WALK_OCTAVES; octave++) {
    const period = 2 ** octave;
    const cell = Math.floor(step / period);
    const share = (step - cell * period) / period;
    const from = ratioAt(seed, stream, octave, cell) - 0.5;
    const to = ratioAt(seed, stream, octave, cell + 1) - 0.5;
    sum += (from + (to - from) * share) * OCTAVE_WEIGHT[octave];
  }
  return sum;
}

/** Rounded to so many decimals: the double nearest to the decimal number, which is what JSON.parse gives back. */
export function decimal(value: number, digits: 0 | 1 | 2 | 3 | 6): number {
  return Number(value.toFixed(digits)) + 0; // + 0 makes -0 a 0: JSON.stringify would do it on the way
}
