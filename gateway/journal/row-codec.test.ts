import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isSluiceError } from '../../shared/errors.ts';
import { ByteWriter } from './bytes.ts';
import { OpenGroup } from './group.ts';
import { decodeRow, encodeRow } from './row-codec.ts';

const reading = fc.record({
  series: fc.nat(99),
  // An integer has no negative zero.
  eventTimeUs: fc.oneof(fc.constant(NaN), fc.maxSafeInteger(), fc.double(), fc.integer({ min: 1.7e15, max: 1.8e15 })).map((us) => us + 0),
  value: fc.oneof(
    fc.double(),
    fc.integer().map((n) => n / 100),
    fc.constantFrom(0, -0, NaN, Infinity, -Infinity, 2 ** 53, 0.1 + 0.2, 1e300),
  ),
  text: fc.option(fc.string({ unit: 'binary' }), { nil: null }),
});
const messages = fc.array(fc.record({ readings: fc.array(reading, { maxLength: 6 }), waitUs: fc.nat(1e9) }), {
  minLength: 1,
  maxLength: 12,
});

test('a row gives back what went in, bit by bit, whatever part of the group it is', () => {
  const writer = new ByteWriter(16);
  fc.assert(
    fc.property(messages, fc.nat(), fc.nat(), (all, a, b) => {
      const open = new OpenGroup();
      let arrivalUs = 0;
      const arrivals = all.map(({ readings, waitUs }) => {
        for (const { series, eventTimeUs, value, text } of readings) open.add(series, eventTimeUs, value, text);
        open.endMessage((arrivalUs += waitUs));
        return readings.map(() => arrivalUs);
      });
      const from = a % all.length;
      const to = from + 1 + (b % (all.length - from));
      const expected = all.slice(from, to).flatMap(({ readings }) => readings);
      const blob = encodeRow(writer, open.take(0, []), from, to, 100);
      if (blob === null) {
        expect(expected).toEqual([]);
        return;
      }
      const row = decodeRow(blob);
      expect([...row.series]).toEqual(expected.map(({ series }) => series));
      expect([...row.eventTimeUs]).toEqual(expected.map(({ eventTimeUs }) => eventTimeUs));
      expect([...row.value]).toEqual(expected.map(({ value }) => value));
      expect(expected.map((_, at) => (row.text === null || row.text[at] === 0 ? null : row.texts[row.text[at] - 1]))).toEqual(
        expected.map(({ text }) => text),
      );
      expect([...row.arrivalUs]).toEqual(arrivals.slice(from, to).flat());
    }),
    { numRuns: 300 },
  );
});

test('a damaged row is a typed error', () => {
  const open = new OpenGroup();
  for (let at = 0; at < 50; at++) open.add(at % 3, 1.7e15 + at, at / 10, at % 7 === 0 ? 'text' : null);
  open.endMessage(5);
  const blob = encodeRow(new ByteWriter(), open.take(0, []), 0, 1, 100) as Uint8Array;
  fc.assert(
    fc.property(fc.nat(blob.length - 1), fc.integer({ min: 1, max: 255 }), fc.boolean(), (at, flip, cut) => {
      const damaged = cut ? blob.slice(0, at) : blob.slice();
      if (!cut) damaged[at] = damaged[at] ^ flip;
      try {
        decodeRow(damaged);
        expect.unreachable();
      } catch (error) {
        expect(isSluiceError(error, 'ERR_JOURNAL_DAMAGED')).toBe(true);
      }
    }),
  );
});
