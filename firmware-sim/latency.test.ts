import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { LatencyHistogram } from './latency.ts';

test('a percentile is at or up to 2.2 % above the value of its rank', () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0.1, max: 100_000, noNaN: true }), { minLength: 1, maxLength: 200 }),
      fc.constantFrom(0.5, 0.99, 0.999),
      (values, ratio) => {
        const histogram = new LatencyHistogram();
        for (const value of values) histogram.add(value);
        const exact = [...values].sort((a, b) => a - b)[Math.ceil(ratio * values.length) - 1];
        const percentile = histogram.percentileMs(ratio) as number;
        expect(percentile).toBeGreaterThanOrEqual(exact * (1 - 1e-12));
        expect(percentile).toBeLessThanOrEqual(exact * 1.022);
      },
    ),
  );
});

test('without a value there is no percentile, and a negative latency (a stepped clock) does no harm', () => {
  const histogram = new LatencyHistogram();
  expect(histogram.percentileMs(0.5)).toBeNull();
  histogram.add(-5);
  expect(histogram.count).toBe(1);
});
