import { expect, test } from 'vitest';
import { EXCEPTION_PAYLOAD_BYTES_MAX } from '../../shared/exception.ts';
import { QuarantineNotes } from './quarantine-notes.ts';

test('a quarantined text is kept whole; one that would fill the payload is cut and says so', () => {
  const notes = new QuarantineNotes();
  const texts = ['short', 'y'.repeat(1_000), 'z'.repeat(10_000)];
  for (const [index, text] of texts.entries())
    notes.add('event_time_ahead', { device: 'd', metric: 'm', tags: '' }, index, NaN, text, 5, 6);
  const records = notes.records();
  for (const { payload } of records) expect(payload?.length).toBeLessThanOrEqual(EXCEPTION_PAYLOAD_BYTES_MAX);
  const kept = records.flatMap(({ payload }) => (JSON.parse(String(payload)) as { readings: unknown[] }).readings);
  expect(kept).toEqual([
    { ts: 0, value: null, text: texts[0] },
    { ts: 1, value: null, text: texts[1] },
    { ts: 2, value: null, text: 'z'.repeat(256), cut: true },
  ]);
});
