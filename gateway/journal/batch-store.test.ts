import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeBatch } from '../../shared/batch/decode.ts';
import { sortIntoRuns } from '../../shared/batch/runs.ts';
import type { ExceptionRecord } from '../../shared/exception.ts';
import type { SealedContent } from '../seal/seal.ts';
import { encodeContent } from './batch-store.ts';
import { START_US } from './journal-fixture.ts';

interface Item {
  readonly device: number;
  readonly offsetUs: number;
  readonly text: string | null;
}

function contentOf(items: readonly Item[], exceptions: readonly ExceptionRecord[]): SealedContent {
  const texts = items.flatMap(({ text }) => (text === null ? [] : [text]));
  let next = 0;
  const columns = {
    count: items.length,
    series: Uint32Array.from(items, ({ device }) => device),
    eventTimeUs: Float64Array.from(items, ({ offsetUs }) => START_US + offsetUs),
    value: Float64Array.from(items, ({ text }, index) => (text === null ? index : NaN)),
    text: texts.length === 0 ? null : Uint32Array.from(items, ({ text }) => (text === null ? 0 : ++next)),
    texts,
  };
  const table = [0, 1, 2].map((id) => ({ device: `d${id}`, metric: 'm', tags: '' }));
  const content = {
    sealedUs: START_US,
    arrivalFromUs: START_US,
    arrivalToUs: START_US,
    runs: sortIntoRuns(columns, table),
    exceptions,
  };
  return { content, eventFromUs: START_US, eventToUs: START_US + 1_001, priority: 3 };
}

function letter(bytes: number): ExceptionRecord {
  const [fromUs, toUs] = [START_US, START_US + 1];
  return { kind: 'dead_letter', device: null, metric: null, fromUs, toUs, readingCount: null, reason: 'r', payload: new Uint8Array(bytes) };
}

/** One line each of what a batch holds. */
function linesOf(body: Uint8Array): string[] {
  const { runs, exceptions } = decodeBatch(body);
  const lines = exceptions.map(({ kind, reason, payload }) => `${kind} ${reason} ${payload?.length}`);
  for (const [index, { device }] of runs.seriesTable.entries()) {
    for (let at = runs.runOffsets[index]; at < runs.runOffsets[index + 1]; at++) {
      const text = runs.text === null || runs.text[at] === 0 ? null : runs.texts[runs.text[at] - 1];
      lines.push(`${device} ${runs.eventTimeUs[at]} ${runs.value[at]} ${text}`);
    }
  }
  return lines;
}

const item: fc.Arbitrary<Item> = fc.record({
  device: fc.nat(2),
  offsetUs: fc.nat(1_000),
  text: fc.option(fc.string({ maxLength: 80 })),
});

test('content that takes more bytes than the uplink carries becomes several batches with the same readings and exceptions', () => {
  const cut: number[] = [];
  fc.assert(
    fc.property(fc.array(item, { minLength: 1, maxLength: 60 }), fc.array(fc.nat(300), { maxLength: 6 }), (items, payloads) => {
      const sealed = contentOf(items, payloads.map(letter));
      const [whole] = encodeContent(sealed, 'none', Infinity);
      const parts = encodeContent(sealed, 'none', 900);
      cut.push(parts.length);
      expect(parts.flatMap(({ body }) => linesOf(body)).toSorted()).toEqual(linesOf(whole.body).toSorted());
      for (const { body, readings, exceptions, content, eventFromUs, eventToUs, priority } of parts) {
        expect(body.length).toBeLessThanOrEqual(900);
        expect([readings, exceptions, priority]).toEqual([content.runs.count, content.exceptions.length, 3]);
        for (const timeUs of content.runs.eventTimeUs) expect(timeUs >= eventFromUs && timeUs < eventToUs).toBe(true);
      }
    }),
    { numRuns: 60 },
  );
  expect(Math.max(...cut)).toBeGreaterThan(2);
});

test('content that the format cannot say becomes a gap, and does not take the exceptions beside it along', () => {
  const sealed = contentOf([{ device: 0, offsetUs: 5, text: null }], [letter(10)]);
  sealed.content.runs.eventTimeUs[0] = 0.5;
  const lines = encodeContent(sealed, 'none').flatMap(({ body }) => decodeBatch(body).exceptions);
  expect(lines.map(({ kind, reason, readingCount }) => [kind, reason, readingCount])).toEqual([
    ['gap', 'seal_failed: ERR_BATCH_CONTENT', 1],
    ['dead_letter', 'r', null],
  ]);
});
