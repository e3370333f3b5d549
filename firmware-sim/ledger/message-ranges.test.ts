import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { MessageRanges } from './message-ranges.ts';

const pairs = fc.array(fc.tuple(fc.nat(60), fc.nat(8)), { maxLength: 40 });

test('is the set of what was added, in as few ranges as possible', () => {
  fc.assert(
    fc.property(pairs, (added) => {
      const ranges = new MessageRanges();
      const model = new Set<number>();
      for (const [from, length] of added) {
        ranges.addRange(from, from + length);
        for (let value = from; value < from + length; value++) model.add(value);
      }
      expect(ranges.size).toBe(model.size);
      for (let value = 0; value < 80; value++) expect(ranges.has(value)).toBe(model.has(value));
      const list = ranges.toRanges();
      list.forEach(([from, to], index) => {
        expect(from).toBeLessThan(to);
        expect(from).toBeGreaterThan(list[index - 1]?.[1] ?? -1); // a gap of at least one between neighbours
      });
      expect(MessageRanges.of(list).toRanges()).toEqual(list);
    }),
  );
});

test('the complement is what is in neither set, up to the end', () => {
  fc.assert(
    fc.property(pairs, pairs, fc.nat(80), (a, b, end) => {
      const one = MessageRanges.of(a.map(([from, length]) => [from, from + length]));
      const other = MessageRanges.of(b.map(([from, length]) => [from, from + length]));
      const complement = MessageRanges.of(one.complement(end, other));
      for (let value = 0; value < 100; value++) expect(complement.has(value)).toBe(value < end && !one.has(value) && !other.has(value));
    }),
  );
});
