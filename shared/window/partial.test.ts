import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bucketOf } from './histogram.ts';
import { DEFAULT_FUNCTIONS, EMPTY_PARTIAL, finalise, mergePartials, parseFunction, type WindowPartial } from './partial.ts';
import { partialColumns, partialRows, type PartialRow } from './partial-columns.ts';

interface Point {
  t: number;
  v: number;
  late: boolean;
}

/** One pass over all readings with the textbook formulas: nothing here merges. */
function onePass(points: readonly Point[]): WindowPartial {
  const finite = points.filter((point) => Number.isFinite(point.v)).map((point) => ({ ...point, v: point.v + 0 }));
  const late = points.filter((point) => point.late).length;
  const base = { ...EMPTY_PARTIAL, nan: points.length - finite.length, late, revision: late };
  if (finite.length === 0) return base;
  const ordered = [...finite].sort((a, b) => a.t - b.t || a.v - b.v);
  const values = finite.map((point) => point.v);
  const sumValue = values.reduce((sum, v) => sum + v, 0);
  const mean = sumValue / values.length;
  const hist = (sign: number): Map<number, number> => {
    const map = new Map<number, number>();
    for (const v of values) if (Math.sign(v) === sign) map.set(bucketOf(v), (map.get(bucketOf(v)) ?? 0) + 1);
    return map;
  };
  return {
    ...base,
    n: values.length,
    mean,
    m2: values.reduce((sum, v) => sum + (v - mean) ** 2, 0),
    sumValue,
    minValue: Math.min(...values),
    maxValue: Math.max(...values),
    firstValue: ordered[0].v,
    firstTsUs: ordered[0].t,
    lastValue: ordered[ordered.length - 1].v,
    lastTsUs: ordered[ordered.length - 1].t,
    histPos: hist(1),
    histNeg: hist(-1),
    histZero: values.filter((v) => v === 0).length,
  };
}

/** One pass over each part, then the parts merged; reading number i goes to part `parts[i % parts.length]`. */
function inParts(points: readonly Point[], parts: readonly number[]): WindowPartial {
  const byPart: Point[][] = [];
  points.forEach((point, index) => (byPart[parts[index % parts.length]] ??= []).push(point));
  return byPart
    .filter((part) => part !== undefined)
    .map(onePass)
    .reduce(mergePartials, EMPTY_PARTIAL);
}

/** Subnormal results have no relative precision. */
const TINY = 1e-300;

function expectSame(a: WindowPartial, b: WindowPartial): void {
  const exact = (partial: WindowPartial): unknown => ({ ...partial, mean: 0, m2: 0, sumValue: 0 });
  expect(exact(a)).toEqual(exact(b));
  const scale = a.n === 0 ? 1 : Math.max(Math.abs(a.minValue), Math.abs(a.maxValue));
  expect(Math.abs(a.mean - b.mean)).toBeLessThanOrEqual(1e-9 * scale + TINY);
  expect(Math.abs(a.sumValue - b.sumValue)).toBeLessThanOrEqual(1e-9 * scale * a.n + TINY);
  expect(Math.abs(a.m2 - b.m2)).toBeLessThanOrEqual(1e-9 * scale * scale * a.n + TINY);
}

const point: fc.Arbitrary<Point> = fc.record({
  t: fc.integer({ min: 0, max: 8 }).map((us) => us * 1000),
  v: fc.oneof(
    fc.double({ min: -1e12, max: 1e12, noNaN: true }),
    fc.integer({ min: -2, max: 2 }),
    fc.constantFrom(NaN, Infinity, -Infinity, -0),
  ),
  late: fc.boolean(),
});
const points = fc.array(point, { maxLength: 60 });
const partial = points.map(onePass);

describe('mergePartials', () => {
  test('over any split in any order equals one pass over all readings', () => {
    fc.assert(
      fc.property(
        points.chain((list) => fc.tuple(fc.constant(list), fc.shuffledSubarray(list, { minLength: list.length }))),
        fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 12 }),
        ([list, shuffled], parts) => expectSame(inParts(shuffled, parts), onePass(list)),
      ),
      { numRuns: 500 },
    );
  });

  test('is associative and commutative', () => {
    fc.assert(
      fc.property(partial, partial, partial, (a, b, c) => {
        expectSame(mergePartials(a, b), mergePartials(b, a));
        expectSame(mergePartials(mergePartials(a, b), c), mergePartials(a, mergePartials(b, c)));
      }),
    );
  });

  test('leaves its operands as they were', () => {
    fc.assert(
      fc.property(partial, partial, (a, b) => {
        const before = structuredClone([a, b]);
        mergePartials(a, b);
        expect([a, b]).toEqual(before);
      }),
    );
  });

  test('keeps only the highest generation, in any order', () => {
    const low = { ...onePass([{ t: 1, v: 1, late: false }]), gen: 1 };
    const high = { ...onePass([{ t: 2, v: 2, late: false }]), gen: 2 };
    expect(mergePartials(low, high)).toEqual(high);
    expect(mergePartials(mergePartials(high, low), high).sumValue).toBe(4);
  });

  test('keeps the variance of a small spread on a large offset', () => {
    const list = Array.from({ length: 1000 }, (_, i) => ({ t: i, v: 1e9 + (i % 2), late: false }));
    const merged = list.map((one) => onePass([one])).reduce(mergePartials, EMPTY_PARTIAL);
    expect(merged.m2).toBeCloseTo(250, 6);
  });
});

describe('finalise', () => {
  test('gives the values that one computes by hand', () => {
    const state = onePass([2, 4, 4, 4, 5, 5, 7, 9].map((v, index) => ({ t: index, v, late: false })));
    const functions = ['count', 'sum', 'mean', 'min', 'max', 'first', 'last', 'variance', 'delta', 'p100'] as const;
    expect(finalise(state, functions)).toEqual([8, 40, 5, 2, 9, 2, 9, 32 / 7, 7, 9]);
    expect(finalise(state, ['stddev'])[0]).toBeCloseTo(Math.sqrt(32 / 7), 12);
    expect(Math.abs((finalise(state, ['p50'])[0] as number) / 4 - 1)).toBeLessThan(0.011);
  });

  test('is null where there is no value: nothing at all, a variance of one, a sum out of range', () => {
    expect(finalise(EMPTY_PARTIAL, DEFAULT_FUNCTIONS)).toEqual([0, ...DEFAULT_FUNCTIONS.slice(1).map(() => null)]);
    expect(finalise(onePass([{ t: 0, v: 5, late: false }]), ['count', 'stddev', 'variance', 'p50', 'delta'])).toEqual([
      1,
      null,
      null,
      5,
      0,
    ]);
    const huge = [1, 2].map((t) => ({ t, v: Number.MAX_VALUE, late: false }));
    expect(finalise(onePass(huge), ['sum', 'max'])).toEqual([null, Number.MAX_VALUE]);
  });

  test('knows percentiles with decimals and refuses other names', () => {
    expect(['count', 'p0', 'p50', 'p99.9', 'p100'].map(parseFunction)).toEqual(['count', 'p0', 'p50', 'p99.9', 'p100']);
    for (const name of ['', 'p', 'p101', 'p-1', 'p1e1', 'median', 'toString', 'P50']) {
      expect(() => parseFunction(name), name).toThrow(expect.objectContaining({ code: 'ERR_WINDOW_FUNCTION' }));
    }
  });
});

test('columns and rows convert into each other without a change', () => {
  const name = fc.constantFrom('a', 'b', 'c');
  const row: fc.Arbitrary<PartialRow> = fc.record({
    group: fc.record({
      gateway: fc.option(name),
      device: fc.option(name),
      metric: fc.option(name),
      tags: fc.constantFrom(null, '{"k":"v"}'),
    }),
    windowStartUs: fc.integer({ min: 0, max: 5 }).map((number) => number * 60_000_000),
    partial: fc.tuple(partial, fc.nat(5)).map(([state, gen]) => ({ ...state, gen, srcFrom: gen, srcTo: gen + 1 })),
  });
  fc.assert(
    fc.property(fc.array(row, { maxLength: 12 }), (rows) => {
      const columns = partialColumns(rows, 60_000_000);
      expect(partialRows(columns)).toEqual(rows);
      expect(columns.groups.count).toBeLessThanOrEqual(rows.length);
    }),
  );
});
