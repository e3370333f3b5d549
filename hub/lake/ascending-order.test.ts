import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ascendingOrder } from './ascending-order.ts';

test('readings of overlapping runs come out by time, equal times in order of arrival', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 60 }), fc.nat(3), (times, skipped) => {
      const from = Math.min(skipped, times.length);
      const expected = times.map((_, index) => index).slice(from);
      expected.sort((a, b) => times[a] - times[b] || a - b);
      expect([...ascendingOrder(Float64Array.from(times), from, times.length)]).toEqual(expected);
    }),
  );
});
