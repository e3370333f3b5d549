import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatTime, parseTime, resolveTime, timeFault } from './times.ts';

const NOW_US = Date.UTC(2026, 10, 22, 12) * 1000;

function read(text: string): number | null {
  const time = parseTime(text);
  return time === null ? null : resolveTime(time, NOW_US);
}

test.each([
  ['2026-01-02T03:04:05Z', Date.UTC(2026, 0, 2, 3, 4, 5) * 1000],
  ['2026-01-02T03:04:05.123456Z', Date.UTC(2026, 0, 2, 3, 4, 5, 123) * 1000 + 456],
  ['2026-01-02T03:04:05,5z', Date.UTC(2026, 0, 2, 3, 4, 5, 500) * 1000],
  ['2026-01-02 03:04:05+02:00', Date.UTC(2026, 0, 2, 1, 4, 5) * 1000],
  ['2026-01-02T03:04:05 02:00', Date.UTC(2026, 0, 2, 1, 4, 5) * 1000],
  ['2026-01-02T03:04:05-0130', Date.UTC(2026, 0, 2, 4, 34, 5) * 1000],
  ['2026-01-02T03:04Z', Date.UTC(2026, 0, 2, 3, 4) * 1000],
  ['2026-01-02 03:04+02:00', Date.UTC(2026, 0, 2, 1, 4) * 1000],
  ['2026-01-02', Date.UTC(2026, 0, 2) * 1000],
  ['1767225600', Date.UTC(2026, 0, 1) * 1000],
  ['1767225600.25', Date.UTC(2026, 0, 1) * 1000 + 250_000],
  ['1767225600000', Date.UTC(2026, 0, 1) * 1000],
  ['1767225600000001', Date.UTC(2026, 0, 1) * 1000 + 1],
  ['1767225600000001000', Date.UTC(2026, 0, 1) * 1000 + 1],
  ['0', 0],
  ['now', NOW_US],
  ['now-1h', NOW_US - 3_600_000_000],
  ['-15m', NOW_US - 900_000_000],
  ['now+5m', NOW_US + 300_000_000],
  ['now 5m', NOW_US + 300_000_000],
  ['now-1h30m', NOW_US - 5_400_000_000],
  ['now-2w', NOW_US - 14 * 86_400_000_000],
  ['now-1y', NOW_US - 365 * 86_400_000_000],
  ['2016-12-31T23:59:60Z', Date.UTC(2016, 11, 31, 23, 59, 59) * 1000],
  ['now-9000d', NOW_US - 9_000 * 86_400_000_000],
  ['now-90000d', 0],
])('%s is a time', (text, us) => {
  expect(read(text)).toBe(us);
});

test.each([
  '',
  'yesterday',
  '2026-02-31',
  '2026-01-02T03:04:05',
  '2026-13-01T00:00:00Z',
  '2026-01-02T25:00:00Z',
  '-5',
  'now-',
  'now-1',
  'now-1M',
  'now-1h30',
  'now/d',
  '2016-12-31T23:59:61Z',
  '2016-12-31T23:60Z',
  '2016-12-31T23:59.5Z',
  '1e9',
  '0x10',
  '9'.repeat(30),
  'x'.repeat(1_000),
  '2201-01-01',
  '1969-12-31T23:59:59Z',
  '2026-01-02T03:04:05+99:00',
])('%j is not a time', (text) => {
  expect(parseTime(text)).toBe(null);
});

test.each([
  ['2026-01-02T03:04:05', 'append Z'],
  ['2026-01-02 03:04', 'append Z'],
  ['9999999999999999', '1970 to 2200'],
  ['2201-01-01T00:00:00Z', '1970 to 2200'],
  ['yesterday', 'not a time'],
  ['7d', 'did you mean now-7d?'],
  ['2026-02-31', 'not in the calendar'],
  ['2026-13-01T00:00:00Z', 'not in the calendar'],
  ['2026-01-02T25:00Z', 'not in the calendar'],
  ['1969-12-31', '1970 to 2200'],
  ['now-1M', 'now-7d (ms, s, m, h, d, w, y)'],
])('%s is refused with what would be right', (text, hint) => {
  expect(timeFault(text)).toContain(hint);
});

test('what an answer writes is read back to the same microsecond', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 7_258_118_400_000_000 }), (us) => {
      expect(read(formatTime(us))).toBe(us);
    }),
  );
});

test('a stamp that no calendar has is written as the nearest year that RFC 3339 has', () => {
  expect(formatTime(Infinity)).toBe('9999-12-31T23:59:59Z');
  expect(formatTime(-9e18)).toBe('0001-01-01T00:00:00Z');
});
