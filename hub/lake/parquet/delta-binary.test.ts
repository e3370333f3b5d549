import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ByteSink } from './byte-sink.ts';
import { writeDeltaBinary } from './delta-binary.ts';

/** A decoder straight from the specification, in BigInt, that shares nothing with the encoder. */
function decode(bytes: Uint8Array): number[] {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const zigzag = (): bigint => {
    const value = varint();
    return value & 1n ? -(value >> 1n) - 1n : value >> 1n;
  };
  const [block, miniblocks, count] = [Number(varint()), Number(varint()), Number(varint())];
  let value = zigzag();
  const values = count > 0 ? [value] : [];
  while (values.length < count) {
    const min = zigzag();
    const widths = bytes.subarray(at, at + miniblocks);
    at += miniblocks;
    for (const width of widths) {
      if (values.length >= count) {
        expect(width).toBe(0);
        continue;
      }
      let bits = 0n;
      const length = ((block / miniblocks) * width) / 8;
      for (let i = length - 1; i >= 0; i--) bits = (bits << 8n) | BigInt(bytes[at + i]);
      at += length;
      for (let i = 0; i < block / miniblocks && values.length < count; i++) {
        value += min + (bits & ((1n << BigInt(width)) - 1n));
        bits >>= BigInt(width);
        values.push(value);
      }
    }
  }
  expect(at).toBe(bytes.length);
  return values.map(Number);
}

/** null: refused. */
function encode(values: readonly number[], limit = 2 ** 53): number[] | null {
  const sink = new ByteSink(4);
  sink.byte(7);
  const isWritten = writeDeltaBinary(sink, Float64Array.from(values), 0, values.length, limit);
  if (!isWritten && sink.length === 1) return null;
  return decode(sink.view().subarray(1));
}

describe('delta binary packing', () => {
  test('values of every bit width come back', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 51 }),
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 300 }),
        (width, shares) => {
          const values = shares.map((share) => Math.round((share - 0.5) * 2 ** width));
          expect(encode(values)).toEqual(values.map((value) => value + 0));
        },
      ),
    );
  });

  test('blocks with an odd end come back', () => {
    for (const count of [0, 1, 2, 31, 32, 33, 34, 128, 129, 130, 257, 1000]) {
      const values = Array.from({ length: count }, (_, i) => i * i * 1000);
      expect(encode(values)).toEqual(values);
    }
  });

  test('deltas beyond the exact range are refused and leave nothing behind', () => {
    expect(encode([Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER])).toBeNull();
    expect(encode([0, 2 ** 52, 0, 2 ** 52])).toBeNull();
    expect(encode([-(2 ** 31), 2 ** 31 - 1], 2 ** 31)).toBeNull();
    expect(encode([0, 2 ** 31 - 1], 2 ** 31)).toEqual([0, 2 ** 31 - 1]);
  });
});
