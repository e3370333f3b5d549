import { describe, expect, test } from 'vitest';
import { compareAlerts, expectedAlerts, ToldAlerts, type AlertRow } from './alert-ledger.ts';

const WINDOW_MS = 5_000;
const time = (ms: number): string => new Date(ms).toISOString();

function row(id: string, sinceMs: number, resolvedMs: number | null): AlertRow {
  const state = resolvedMs === null ? 'firing' : 'resolved';
  return { id, device: 'pump', state, since: time(sinceMs), resolved_at: resolvedMs === null ? null : time(resolvedMs) };
}

describe('the truth about alerts', () => {
  const readings = [1, 4, 90, 95, 92, 3, 2, 80].map((level, index) => ({ timeMs: 100_000 + index * 2_500, level }));
  const expected = expectedAlerts(readings, WINDOW_MS, 50);

  test('is a rise over the bound, from the start of its first window to the end of the first one below', () => {
    expect(expected).toEqual([
      { sinceMs: 105_000, resolvedMs: null }, // in each window from here on there is one above
    ]);
    expect(expectedAlerts(readings.slice(0, 7), WINDOW_MS, 93)).toEqual([{ sinceMs: 105_000, resolvedMs: 115_000 }]);
  });

  test('finds alerts that are missing, doubled, of another time or of no reason', () => {
    const two = [
      { sinceMs: 105_000, resolvedMs: 115_000 },
      { sinceMs: 120_000, resolvedMs: null },
    ];
    const sound = [row('1-0', 105_000, 115_000), row('2-0', 120_000, null)];
    expect(compareAlerts('here', 'pump', two, sound)).toMatchObject({ due: 2, found: 2, lost: 0, duplicated: 0, invented: 0 });
    expect(compareAlerts('here', 'pump', two, sound.slice(1))).toMatchObject({ lost: 1 });
    expect(compareAlerts('here', 'pump', two, [...sound, row('3-0', 120_000, null)])).toMatchObject({ duplicated: 1 });
    expect(compareAlerts('here', 'pump', two, [sound[0], row('2-0', 120_000, 130_000)])).toMatchObject({ lost: 0, invented: 1 });
    expect(compareAlerts('here', 'pump', two, [...sound, row('4-0', 140_000, null)])).toMatchObject({ invented: 1 });
  });

  test('may be told again after a break, but not be taken back', () => {
    const told = new ToldAlerts();
    for (const each of [row('1-0', 105_000, null), row('1-0', 105_000, 115_000), row('1-0', 105_000, 115_000)]) told.take(each);
    expect([told.rows().length, told.contradictions]).toEqual([1, []]);
    told.take(row('1-0', 105_000, null));
    expect(told.contradictions).toHaveLength(1);
  });
});
