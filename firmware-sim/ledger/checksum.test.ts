import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { SeriesChecksum } from './checksum.ts';

type Row = [number, number, string | null];

function checksum(rows: readonly Row[], device = 'd', metric = 'm'): string {
  const sum = new SeriesChecksum(device, metric);
  for (const row of rows) sum.add(...row);
  return sum.toString();
}

const row: fc.Arbitrary<Row> = fc.tuple(fc.nat(2 ** 48), fc.double(), fc.option(fc.string()));

test('does not depend on the order, and a reading twice does not cancel itself out', () => {
  fc.assert(
    fc.property(fc.array(row, { minLength: 1, maxLength: 20 }), (rows) => {
      expect(checksum([...rows].reverse())).toBe(checksum(rows));
      expect(checksum([...rows, rows[0]])).not.toBe(checksum(rows));
      expect(checksum([...rows, rows[0], rows[0]])).not.toBe(checksum(rows));
    }),
  );
});

test('depends on device, metric, time, value and text, each alone', () => {
  const base: Row = [1_790_000_000_000_000, 21.5, null];
  const variants = [
    checksum([base]),
    checksum([base], 'e'),
    checksum([base], 'd', 'n'),
    checksum([[base[0] + 1, 21.5, null]]),
    checksum([[base[0] + 2 ** 32, 21.5, null]]),
    checksum([[base[0], 21.500000000000004, null]]),
    checksum([[base[0], -21.5, null]]),
    checksum([[base[0], NaN, 'on']]),
    checksum([[base[0], NaN, 'off']]),
    checksum([[base[0], NaN, '']]),
    checksum([[base[0], NaN, null]]),
  ];
  expect(new Set(variants).size).toBe(variants.length);
});

test('is the documented function', () => {
  expect(checksum([])).toBe('0000000000000000');
  expect(checksum([[1_790_000_000_000_000, 21.5, null]], 'sim-00000', 'temperature')).toBe('6b5401c6cd4f2219');
});
