import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DEFAULT_FUNCTIONS } from '../../shared/window/partial.ts';
import { windowRowTexts } from '../query/aggregate-document.ts';
import type { AggregateRow } from '../query/query-api.ts';
import { renderWindowRow } from './window-rows.ts';

const name = fc.option(fc.string({ unit: 'binary', maxLength: 5 }));
const count = fc.integer({ min: 0, max: 1e9 });
const row: fc.Arbitrary<AggregateRow> = fc.record({
  windowStartUs: fc.integer({ min: 0, max: 4e15 }),
  windowEndUs: fc.integer({ min: 0, max: 4e15 }),
  gateway: name,
  device: name,
  metric: name,
  tags: fc.option(
    fc.dictionary(fc.string(), fc.string({ unit: 'binary' }), { maxKeys: 2, noNullPrototype: true }).map((tags) => JSON.stringify(tags)),
  ),
  values: fc.array(fc.option(fc.oneof(fc.double({ noNaN: true, noDefaultInfinity: true }), fc.constant(-0))), {
    minLength: 11,
    maxLength: 11,
  }),
  status: fc.constantFrom('final', 'revised', 'provisional'),
  revision: count,
  late: count,
  lost: fc.option(count),
  lostIsEstimate: fc.boolean(),
  complete: fc.boolean(),
});

test('a row is the same text, member by member, whichever way it is made', () => {
  fc.assert(
    fc.property(fc.array(row, { maxLength: 20 }), (rows) => {
      expect(windowRowTexts(rows, DEFAULT_FUNCTIONS)).toEqual(rows.map((one) => JSON.stringify(renderWindowRow(one, DEFAULT_FUNCTIONS))));
    }),
  );
});
