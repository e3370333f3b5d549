import { describe, expect, test } from 'vitest';
import type { SeriesRow, WindowDefinition } from './answers.ts';
import { apiPath, listOf } from './api.ts';
import { catalogueOf, firstView } from './catalogue.ts';
import { formatBytes, formatCount, formatDuration, formatValue } from './format.ts';
import { defaultRange, rangesOf, readView, sinceExpression, writeView } from './view.ts';

const DEFINITIONS: WindowDefinition[] = [
  { name: '10s', size_ms: 10_000, slide_ms: 10_000, by: 'series' },
  { name: '1m', size_ms: 60_000, slide_ms: 60_000, by: 'series' },
  { name: '1h', size_ms: 3_600_000, slide_ms: 3_600_000, by: 'series' },
  { name: '1m_by_metric', size_ms: 60_000, slide_ms: 60_000, by: 'metric' },
];
const NOW_MS = Date.UTC(2026, 0, 2);

function series(metric: string, device: string, firstMs: number, lastMs = NOW_MS): SeriesRow {
  return { gateway: 'g', device, metric, tags: null, first_ts: new Date(firstMs).toISOString(), last_ts: new Date(lastMs).toISOString() };
}

function catalogue(...rows: SeriesRow[]) {
  return catalogueOf({ rows, truncated: false, next_cursor: null });
}

describe('the first view', () => {
  const hourAgo = NOW_MS - 3_600_000;

  test('of a young fleet shows devices in fine windows, of an older one all devices by the minute', () => {
    const young = firstView(catalogue(series('t', 'a', NOW_MS - 30_000)), DEFINITIONS, {}, NOW_MS);
    expect(young).toEqual({ metric: 't', window: '10s', rangeMs: 900_000, device: null });
    const older = firstView(catalogue(series('t', 'a', hourAgo)), DEFINITIONS, {}, NOW_MS);
    expect(older).toEqual({ metric: 't', window: '1m_by_metric', rangeMs: 3_600_000, device: null });
  });

  test('is of the metric that most devices have and that still comes', () => {
    const dead = [series('old', 'a', 0, hourAgo), series('old', 'b', 0, hourAgo), series('old', 'c', 0, hourAgo)];
    const alive = [series('cpu', 'host', hourAgo), series('t', 'a', hourAgo), series('t', 'b', hourAgo)];
    expect(firstView(catalogue(...dead, ...alive), DEFINITIONS, {}, NOW_MS)?.metric).toBe('t');
  });

  test('is what the address says, also where nothing is known of it', () => {
    const wanted = readView('#metric=a%26b&window=1h&range=604800&device=x');
    expect(firstView(catalogue(series('t', 'a', hourAgo)), DEFINITIONS, wanted, NOW_MS)).toEqual({
      metric: 'a&b',
      window: '1h',
      rangeMs: 604_800_000,
      device: 'x',
    });
  });

  test('is none without series', () => {
    expect(firstView(catalogue(), DEFINITIONS, {}, NOW_MS)).toBeNull();
  });
});

test('an address comes back as it was, and nonsense in it is passed over', () => {
  const view = { metric: 'a b&c#d', window: '1m', rangeMs: 3_600_000, device: 'ü,x' };
  expect(readView(writeView(view))).toEqual(view);
  expect(readView('#range=-5&window=')).toEqual({ window: '' });
  expect(readView('#main')).toEqual({});
});

test('every window has ranges that draw, and one of about sixty points', () => {
  for (const definition of DEFINITIONS) {
    for (const rangeMs of rangesOf(definition)) expect(rangeMs / definition.size_ms).toBeLessThanOrEqual(1_500);
    expect(defaultRange(definition) / definition.size_ms).toBeGreaterThanOrEqual(60);
    expect(defaultRange(definition) / definition.size_ms).toBeLessThanOrEqual(200);
  }
  const long = { name: '30d', size_ms: 30 * 86_400_000, slide_ms: 30 * 86_400_000, by: 'series' } as const;
  expect(rangesOf(long)).toEqual([20 * long.size_ms]);
  expect(sinceExpression(defaultRange(long))).toBe('now-600d');
  expect([300_000, 3_600_000, 90_000, 100].map(sinceExpression)).toEqual(['now-5m', 'now-1h', 'now-90s', 'now-0s']);
});

test('names with commas stay one name, and addresses stay readable', () => {
  expect(listOf(['a,b', 'c\\d', 'e'])).toBe('a\\,b,c\\\\d,e');
  expect(apiPath('v1/x', { device: 'a,b', q: "it's & co" })).toBe('v1/x?device=a,b&q=it%27s+%26+co');
});

test('numbers keep what matters and lose what does not', () => {
  expect([0, 21.5, 1234.5678, 4_294_967_296, 0.00001234, null].map(formatValue)).toEqual([
    '0',
    '21.5',
    '1,234.6',
    '4,294,967,296',
    '1.234e-5',
    '–',
  ]);
  expect([0, 9_999, 12_345, 1_234_567].map(formatCount)).toEqual(['0', '9,999', '12.3K', '1.2M']);
  expect([0, 999, 1_000, 999_600, 5e9].map(formatBytes)).toEqual(['0 B', '999 B', '1.00 kB', '1.00 MB', '5.00 GB']);
  expect([0, 12, 1_500, 45_000, 120_000, 7_200_000, 864_000_000].map(formatDuration)).toEqual([
    '0 ms',
    '12 ms',
    '1.5 s',
    '45 s',
    '2 min',
    '2.0 h',
    '10.0 d',
  ]);
});
