import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DEFAULT_FUNCTIONS } from '../../shared/window/partial.ts';
import { documentHead, documentRows, windowRowTexts } from '../query/aggregate-document.ts';
import { documentBytes } from '../query/document-bytes.ts';
import type { AggregateRow } from '../query/query-api.ts';
import { renderWindowRow } from './window-rows.ts';

const name = fc.option(fc.string({ unit: 'binary', maxLength: 5 }));
const SIZE_US = 60_000_000;
const count = fc.integer({ min: 0, max: 1e9 });
const row: fc.Arbitrary<AggregateRow> = fc.record({
  windowStartUs: fc.oneof(
    fc.integer({ min: 0, max: 4e15 }),
    fc.integer({ min: 0, max: 4e9 }).map((seconds) => seconds * 1_000_000),
  ),
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
      // Rows of an answer are of one length, and those that follow each other have something in common.
      const alike = rows.flatMap((one, index) => {
        const [second, third] = [one.windowStartUs + SIZE_US, one.windowStartUs + 2 * SIZE_US];
        return [
          { ...one, windowEndUs: second },
          { ...one, windowStartUs: second, windowEndUs: third, late: index },
          { ...one, windowStartUs: second, windowEndUs: third, metric: 'x' },
        ];
      });
      const texts = alike.map((one) => JSON.stringify(renderWindowRow(one, DEFAULT_FUNCTIONS)));
      expect(windowRowTexts(alike, DEFAULT_FUNCTIONS)).toEqual(texts);
      const answer = { aggregatesVersion: 1, readingsVersion: 2, overlayComplete: true, waitingFor: ['gw"1'], next: null, rows: alike };
      const document = documentHead(answer, '"window":"é"') + documentRows(texts.join(','), answer.waitingFor);
      expect(Buffer.from(documentBytes(answer, DEFAULT_FUNCTIONS, '"window":"é"').bytes).toString()).toEqual(document);
    }),
  );
});
