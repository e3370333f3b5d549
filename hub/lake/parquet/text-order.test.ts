import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { compareUtf8, TextBounds } from './text-order.ts';

test('texts compare as their UTF-8 bytes do', () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 6 }),
    fc.string({ unit: fc.constantFrom('a', 'é', '\ud7ff', '\ue000', '\uffff', '\u{10000}', '\u{10ffff}'), maxLength: 4 }),
  );
  fc.assert(
    fc.property(text, text, (a, b) => {
      expect(Math.sign(compareUtf8(a, b))).toBe(Buffer.compare(Buffer.from(a), Buffer.from(b)));
    }),
  );
});

test('bounds of 256 bytes are kept, longer ones are not', () => {
  for (const [text, isKept] of [
    ['x'.repeat(256), true],
    ['x'.repeat(257), false],
  ] as const) {
    const bounds = new TextBounds();
    bounds.add(text);
    expect(bounds.bounds() !== null).toBe(isKept);
  }
});
