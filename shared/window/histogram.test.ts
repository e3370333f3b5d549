import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BUCKET_MAX, BUCKET_MIN, bucketCode, bucketMiddle, bucketOf, HISTOGRAM_RELATIVE_ERROR, quantiles } from './histogram.ts';

/** The definition, word for word. */
function byLogarithm(value: number): number {
  return Math.ceil(Math.log2(Math.abs(value)) * 32) - 1;
}

const finite = fc.double({ noNaN: true, noDefaultInfinity: true }).filter((value) => value !== 0);

describe('bucketOf', () => {
  test('is ceil(log2(|x|) * 32) - 1 for any finite value, one beside it only at a boundary', () => {
    fc.assert(
      fc.property(finite, (value) => {
        const exact = Math.log2(Math.abs(value)) * 32;
        const atBoundary = Math.abs(exact - Math.round(exact)) < 1e-9;
        expect(Math.abs(bucketOf(value) - byLogarithm(value))).toBeLessThanOrEqual(atBoundary ? 1 : 0);
      }),
      { numRuns: 20_000 },
    );
  });

  test('agrees with the logarithm on a walk through every cell of the mantissa table', () => {
    for (let i = 1; i < 64 * 97; i++) {
      const value = 1 + i / (64 * 97);
      expect(bucketOf(value)).toBe(byLogarithm(value));
      expect(bucketOf(-value * 2 ** 40)).toBe(byLogarithm(value) + 40 * 32);
    }
  });

  test('puts each boundary into the bucket below it and the next double into the one above', () => {
    for (let k = 0; k < 32; k++) {
      const boundary = 2 ** (k / 32);
      expect(bucketOf(boundary)).toBe(k - 1);
      expect(bucketOf(boundary * (1 + Number.EPSILON))).toBe(k);
    }
  });

  test('is exact for powers of two down to the smallest subnormal and up to the largest double', () => {
    for (let exponent = -1074; exponent < 1024; exponent++) expect(bucketOf(2 ** exponent)).toBe(exponent * 32 - 1);
    expect(bucketOf(Number.MIN_VALUE)).toBe(BUCKET_MIN);
    expect(bucketOf(Number.MAX_VALUE)).toBe(BUCKET_MAX);
    expect(bucketOf(3 * 2 ** -1074)).toBe(byLogarithm(3) - 1074 * 32);
  });
});

describe('bucketCode', () => {
  test('keeps the order of the values across both signs and zero', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), fc.double({ noNaN: true, noDefaultInfinity: true }), (a, b) => {
        expect(Math.sign(bucketCode(a) + 0)).toBe(Math.sign(a + 0));
        if (a < b) expect(bucketCode(a)).toBeLessThanOrEqual(bucketCode(b));
      }),
      { numRuns: 5000 },
    );
  });
});

function histogramOf(values: readonly number[]): Parameters<typeof quantiles>[0] {
  const histPos = new Map<number, number>();
  const histNeg = new Map<number, number>();
  let histZero = 0;
  for (const value of values) {
    if (value === 0) histZero++;
    else {
      const map = value > 0 ? histPos : histNeg;
      map.set(bucketOf(value), (map.get(bucketOf(value)) ?? 0) + 1);
    }
  }
  return { histPos, histNeg, histZero, minValue: Math.min(...values), maxValue: Math.max(...values) };
}

describe('quantiles', () => {
  test('are within the stated relative error of the nearest-rank quantile, negative values and zeros included', () => {
    const value = fc.oneof(fc.double({ min: -1e9, max: 1e9, noNaN: true }), fc.integer({ min: -5, max: 5 }));
    fc.assert(
      fc.property(fc.array(value, { minLength: 1, maxLength: 200 }), fc.integer({ min: 0, max: 100 }), (values, percent) => {
        const rank = Math.max(1, Math.ceil((percent * values.length) / 100));
        const exact = [...values].sort((a, b) => a - b)[rank - 1] + 0;
        const [got] = quantiles(histogramOf(values), [percent / 100]) as [number];
        expect(Math.abs(got - exact)).toBeLessThanOrEqual(Math.abs(exact) * (HISTOGRAM_RELATIVE_ERROR + 1e-9) + 1e-300);
      }),
      { numRuns: 2000 },
    );
  });

  test('of one value are that value, of none null', () => {
    expect(quantiles(histogramOf([21.5]), [0, 0.5, 1])).toEqual([21.5, 21.5, 21.5]);
    expect(quantiles({ histPos: new Map(), histNeg: new Map(), histZero: 0, minValue: NaN, maxValue: NaN }, [0.5])).toEqual([null]);
  });

  test('state an error of about 1.1 %', () => {
    expect(HISTOGRAM_RELATIVE_ERROR).toBeCloseTo(0.0109, 4);
    expect(bucketMiddle(-1)).toBeCloseTo(0.9892, 4);
  });
});
