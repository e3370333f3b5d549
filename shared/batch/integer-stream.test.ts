import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ByteReader, ByteWriter } from './bytes.ts';
import { readIntegers, writeIntegers } from './integer-stream.ts';

const MAX = Number.MAX_SAFE_INTEGER;

function written(values: ArrayLike<number>): Uint8Array {
  const writer = new ByteWriter();
  writeIntegers(writer, values);
  return writer.view().slice();
}

function read(bytes: ArrayLike<number>, count: number, lowest = -MAX, highest = MAX): number[] {
  const reader = new ByteReader(Uint8Array.from(bytes), 0, 'ERR_BATCH_MALFORMED');
  const values = [...readIntegers(reader, 'number', count, lowest, highest)];
  expect(reader.remaining).toBe(0);
  return values;
}

const malformed = expect.objectContaining({ code: 'ERR_BATCH_MALFORMED' });

describe('integer streams', () => {
  test('give back any integers of any span', () => {
    const width = fc.integer({ min: 0, max: 53 });
    const values = fc.tuple(width, fc.boolean()).chain(([bits, negative]) => {
      const span = bits === 53 ? MAX : 2 ** bits - 1;
      const from = negative ? -Math.floor(span / 2) : 0;
      return fc.array(
        fc.maxSafeNat().map((n) => from + (span === MAX ? n : n % (span + 1))),
        { maxLength: 70 },
      );
    });
    fc.assert(
      fc.property(values, (integers) => {
        expect(read(written(integers), integers.length)).toEqual(integers);
      }),
      { numRuns: 500, examples: [[[0, MAX]], [[-MAX, 0]], [[-(2 ** 52) + 1, 2 ** 52 - 1]], [[]], [[7]], [[7, 7, 7]]] },
    );
  });

  test('every width comes back, evenly spread or not', () => {
    for (let width = 1; width <= 53; width++) {
      const top = 2 ** width - 1;
      const skewed = Array.from({ length: 100 }, (_, i) => (i === 50 ? top : 0));
      const spread = Array.from({ length: 100 }, (_, i) => Math.floor((top * i) / 99));
      for (const integers of [skewed, spread]) expect(read(written(integers), 100)).toEqual(integers);
    }
  });

  test('have the bytes of the specification', () => {
    expect([...written([5, 7, 6, 5])]).toEqual([5, 2, 0x18]);
    expect([...written([])]).toEqual([]);
    expect([...written([-3, -3])]).toEqual([0xfd, 0]);
    expect([...written([0, 0x0102])]).toEqual([0, 0x11, 0, 2, 0b10]);
  });

  test('one device that is out of line costs a fleet little', () => {
    const jitter = Array.from({ length: 1000 }, (_, i) => (i * 17) % 41);
    expect(written(jitter).length).toBeLessThan(760);
    const outlier = jitter.with(500, 1_000_000);
    expect(written(outlier).length).toBeLessThan(3600); // zeros, for the compressor
  });

  test('refuse what is out of range, too wide or not there', () => {
    expect(() => read([5, 2, 0x18], 4, 5, 6)).toThrow(malformed);
    expect(() => read([5, 2, 0x18], 4, 6, 9)).toThrow(malformed);
    expect(() => read([5, 0x08], 4)).toThrow(malformed); // 8 bits are a plane
    expect(() => read([0, 0x67, ...new Uint8Array(7).fill(255)], 1)).toThrow(malformed); // 55 bits
    expect(() => read([0, 0x65, ...new Uint8Array(7).fill(255)], 1, 0, 2 ** 52)).toThrow(malformed);
    expect(() => read([1, 0x65, ...new Uint8Array(6).fill(255), 31], 1)).toThrow(malformed); // 1 + (2^53 - 1)
    expect(() => read([0, 0x10, 1, 2, 3], 4_000_000)).toThrow(malformed);
    expect(() => read([], 1)).toThrow(malformed);
    expect(() => read([0xc0, 0], 1)).toThrow(malformed);
  });
});
