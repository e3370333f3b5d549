import { expect, test } from 'vitest';
import { isSluiceError } from '../../shared/errors.ts';
import { mappingOf, RowError, RowMapper, type MappingFlags, type Row } from './mapping.ts';

const NOW_US = Date.UTC(2026, 0, 1) * 1000;
const TIME_US = Date.UTC(2024, 1, 3, 4, 5, 6) * 1000;

function map(flags: MappingFlags, row: Row): unknown[] {
  return new RowMapper(mappingOf(flags), NOW_US)
    .map(row)
    .map(({ series, tsUs, value }) => [series.device, series.metric, series.tags, tsUs, value]);
}

test('a row per metric: device, metric and value by their columns, tags from others', () => {
  expect(
    map({ tags: 'site,floor' }, { time: '2024-02-03T04:05:06Z', device: 'd1', metric: 't', value: '21.5', site: 'b', floor: '' }),
  ).toEqual([['d1', 't', '{"site":"b"}', TIME_US, 21.5]]);
});

test('a column per metric: empty ones are no readings, a column may have another name as metric', () => {
  const flags = { values: 'temp=temperature,hum,door', deviceName: 'd1' };
  expect(map(flags, { time: String(TIME_US / 1e6), temp: '1e-3', hum: '', door: 'true' })).toEqual([
    ['d1', 'temperature', '', TIME_US, 0.001],
    ['d1', 'door', '', TIME_US, 1],
  ]);
});

test.each([
  [undefined, '2024-02-03 04:05:06'],
  [undefined, '2024-02-03T06:05:06+02:00'],
  [undefined, TIME_US / 1000],
  ['s', TIME_US / 1e6],
  ['ms', String(TIME_US / 1e3)],
  ['us', String(TIME_US)],
  ['ns', `${TIME_US}789`],
])('time unit %s: %s is understood', (timeUnit, time) => {
  const flags = timeUnit === undefined ? {} : { timeUnit };
  expect(map(flags, { time, device: 'd', metric: 'm', value: 1 })).toEqual([['d', 'm', '', TIME_US, 1]]);
});

test.each([
  [{ time: 'soon' }, /column time: "soon" is not RFC 3339/],
  [{ time: '2031-01-01' }, /is --time-unit right/],
  [{ time: 'now-1h' }, /not RFC 3339/],
  [{ value: '21,5' }, /column value: "21,5" is not a finite number/],
  [{ value: 'Infinity' }, /not a finite number/],
  [{ device: '' }, /column device: .* is empty/],
  [{ metric: 'a\u0007' }, /control characters/],
  [{ device: 'x'.repeat(300) }, /300 bytes, at most 256/],
  [{ device: 'K\ufffdhler' }, /is not UTF-8/], // what is read for a byte of another encoding
])('%j is refused, and the message says why', (wrong, why) => {
  const row = { time: '2024-01-01', device: 'd', metric: 'm', value: '1', ...wrong };
  expect(() => map({}, row)).toThrow(why);
  expect(() => map({}, row)).toThrow(RowError);
});

test.each([{ values: 'a', value: 'b' }, { device: 'a', deviceName: 'b' }, { timeUnit: 'h' }, { metricName: '' }])(
  'the flags %j contradict',
  (flags) => {
    expect(() => mappingOf(flags)).toThrow(expect.toSatisfy((error) => isSluiceError(error, 'ERR_IMPORT_MAPPING')));
  },
);

test('a row with more tags than a series may have is refused alone', () => {
  const columns = Array.from({ length: 40 }, (_, index) => `c${index}`);
  const row = { time: '2024-01-01', device: 'd', metric: 'm', value: '1' };
  const tagged = { ...row, ...Object.fromEntries(columns.map((column) => [column, 'x'.repeat(250)])) };
  expect(() => map({ tags: columns.join() }, tagged)).toThrow(RowError);
  expect(map({ tags: columns.join() }, row)).toHaveLength(1);
});
