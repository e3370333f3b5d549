import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeNestedParquet, type NestedField } from './encode-nested.ts';
import { drain } from './encode.ts';
import { readParquetRows } from './read.ts';

const schema: NestedField[] = [
  {
    name: 'txn',
    type: 'struct',
    fields: [
      { name: 'appId', type: 'string' },
      { name: 'version', type: 'long' },
    ],
  },
  {
    name: 'meta',
    type: 'struct',
    fields: [
      {
        name: 'format',
        type: 'struct',
        fields: [
          { name: 'provider', type: 'string' },
          { name: 'options', type: 'map_string_string' },
        ],
      },
      { name: 'columns', type: 'list_string' },
      { name: 'isNew', type: 'boolean' },
      { name: 'reader', type: 'int' },
    ],
  },
  { name: 'createdUs', type: 'timestamp' },
  { name: 'share', type: 'double' },
];

const text = fc.string({ unit: 'grapheme', maxLength: 8 });
const row = fc.record({
  txn: fc.option(fc.record({ appId: fc.option(text), version: fc.option(fc.maxSafeInteger()) })),
  meta: fc.option(
    fc.record({
      format: fc.option(
        fc.record({
          provider: fc.option(text),
          options: fc.option(
            fc.dictionary(
              text.filter((key) => key !== '__proto__'),
              fc.option(text),
              { maxKeys: 3, noNullPrototype: true },
            ),
          ),
        }),
      ),
      columns: fc.option(fc.array(fc.option(text), { maxLength: 4 })),
      isNew: fc.option(fc.boolean()),
      reader: fc.option(fc.integer()),
    }),
  ),
  createdUs: fc.option(fc.integer({ min: 0, max: 2_000_000_000_000_000 })),
  share: fc.option(fc.double({ noNaN: true })),
});

describe('nested rows', () => {
  test('come back with every null, empty and absent part where it was', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(row, { maxLength: 20 }),
        fc.constantFrom('zstd' as const, 'uncompressed' as const),
        async (rows, compression) => {
          expect(await readParquetRows(drain(encodeNestedParquet(schema, rows, compression)))).toEqual(rows);
        },
      ),
      { numRuns: 150 },
    );
  });

  test('cost the same per row however many there are', () => {
    const steps = (count: number): number => {
      const rows = Array.from({ length: count }, (_, i) => ({ txn: { appId: `gw/${i}`, version: i } }));
      let total = 0;
      for (const generator = encodeNestedParquet(schema, rows); generator.next().done !== true;) total++;
      return total;
    };
    expect(steps(20_000)).toBeGreaterThan(20_000 / 256);
    expect(steps(20_000)).toBeLessThan(2 * (20_000 / 256));
  });

  test('a value of another type than its field is a programmer error', () => {
    expect(() => drain(encodeNestedParquet(schema, [{ txn: { version: 1.5 } }]))).toThrow(/version/);
    expect(() => drain(encodeNestedParquet(schema, [{ txn: { appId: 3 } }]))).toThrow(/appId/);
    expect(() => drain(encodeNestedParquet(schema, [{ meta: { reader: 2 ** 31 } }]))).toThrow(/reader/);
    expect(() => drain(encodeNestedParquet(schema, [{ meta: { columns: 'day' } }]))).toThrow(/columns/);
  });
});
