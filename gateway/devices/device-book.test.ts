import { describe, expect, test } from 'vitest';
import { BoundedSeriesRegistry } from '../journal/registry.ts';
import { DeviceBook } from './device-book.ts';
import { RecentProblems } from './recent-problems.ts';

function columns(...readings: readonly (readonly [id: number, value: number])[]): { series: Uint32Array; value: Float64Array } {
  return { series: Uint32Array.from(readings.map(([id]) => id)), value: Float64Array.from(readings.map(([, value]) => value)) };
}

describe('the book of devices', () => {
  test('counts per device and keeps the last value of each series', () => {
    const series = new BoundedSeriesRegistry();
    const [a1, a2, b] = [series.idOf('a', 'x', ''), series.idOf('a', 'y', '{"k":"v"}'), series.idOf('b', 'x', '')];
    series.idOf('silent', 'x', '');
    const book = new DeviceBook();
    book.add(columns([a1, 1], [a2, 2], [b, 3]), 3, 100);
    book.add(columns([a1, 4], [b, 99]), 1, 200);
    expect(book.devices(series, 10)).toEqual({
      count: 2,
      devices: [
        { device: 'a', series: 2, readings: 3, lastUs: 200 },
        { device: 'b', series: 1, readings: 1, lastUs: 100 },
      ],
    });
    expect(book.devices(series, 1)).toMatchObject({ count: 2, devices: [{ device: 'a' }] });
    expect(book.series(series, 'a', 10)).toEqual([
      { metric: 'x', tags: null, readings: 2, lastUs: 200, lastValue: 4 },
      { metric: 'y', tags: { k: 'v' }, readings: 1, lastUs: 100, lastValue: 2 },
    ]);
    expect(book.series(series, 'nobody', 10)).toEqual([]);
  });

  test('grows with the series', () => {
    const series = new BoundedSeriesRegistry();
    const ids = Array.from({ length: 5_000 }, (_, index) => series.idOf(`d${index % 50}`, `m${index}`, ''));
    const book = new DeviceBook();
    book.add(columns(...ids.map((id): [number, number] => [id, id])), ids.length, 1);
    expect(book.devices(series, 3)).toMatchObject({ count: 50, devices: [{ series: 100, readings: 100 }, {}, {}] });
    expect(book.series(series, 'd7', 1_000)).toHaveLength(100);
  });
});

test('problems of one topic and kind are one line, the latest first, and bounded', () => {
  const problems = new RecentProblems();
  for (let index = 0; index < 1_000; index++) problems.note(`t${index % 60}`, 'ERR_DECODE_TIME', `m${index}`, 2, index);
  const list = problems.list();
  expect(list).toHaveLength(50);
  expect(list[0]).toEqual({ code: 'ERR_DECODE_TIME', topic: 't39', message: 'm999', count: 2, lastUs: 999 });
});
