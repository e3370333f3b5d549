import fc from 'fast-check';
import { expect, test } from 'vitest';
import { bucketOf } from '../../shared/window/histogram.ts';
import { DEFAULT_FUNCTIONS, EMPTY_PARTIAL, parseFunction, type WindowPartial } from '../../shared/window/partial.ts';
import { partialColumns, partialRows, type PartialRow } from '../../shared/window/partial-columns.ts';
import type { AggregateCapture, PendingException } from '../engine-api.ts';
import { documentText } from './aggregate-document.ts';
import { answerAggregates } from './answer.ts';
import { HotWindows, rowsOfTail, tailRows } from './hot-windows.ts';
import type { AggregateQuery } from './query-api.ts';

const MINUTE_US = 60_000_000;
const WINDOWS = 4;
const FROM_US = 1_700_000_040_000_000;
const TO_US = FROM_US + WINDOWS * MINUTE_US;

/** The state of some readings. */
function partialOf(values: readonly number[], changes: Partial<WindowPartial>): WindowPartial {
  const n = values.length;
  if (n === 0) return { ...EMPTY_PARTIAL, ...changes };
  const sumValue = values.reduce((sum, value) => sum + value, 0);
  const mean = sumValue / n;
  const side = (sign: number): Map<number, number> => {
    const buckets = new Map<number, number>();
    for (const value of values.filter((one) => one * sign > 0)) buckets.set(bucketOf(value), (buckets.get(bucketOf(value)) ?? 0) + 1);
    return buckets;
  };
  return {
    ...EMPTY_PARTIAL,
    n,
    mean,
    m2: values.reduce((sum, value) => sum + (value - mean) ** 2, 0),
    sumValue,
    minValue: Math.min(...values),
    maxValue: Math.max(...values),
    firstValue: values[0],
    firstTsUs: FROM_US + (n % 3),
    lastValue: values[n - 1],
    lastTsUs: FROM_US + 10 + (n % 3),
    histPos: side(1),
    histNeg: side(-1),
    histZero: values.filter((value) => value === 0).length,
    ...changes,
  };
}

const valueArbitrary = fc.oneof(fc.constant(0), fc.double({ min: -1e6, max: 1e6, noNaN: true }), fc.constant(1.7e308)).map((v) => v + 0);

const rowArbitrary = fc.record({
  group: fc.record({
    gateway: fc.constantFrom('gw-1', 'gw-2', 'gw-näher'),
    device: fc.constantFrom('pump-1', 'pump-2', 'pump-3'),
    metric: fc.constantFrom('temperature', 'speed "raw"'),
    tags: fc.constantFrom(null, '{"site":"bonn"}'),
  }),
  windowStartUs: fc.integer({ min: -1, max: WINDOWS }).map((window) => FROM_US + window * MINUTE_US),
  partial: fc
    .tuple(fc.array(valueArbitrary, { maxLength: 6 }), fc.integer({ min: 0, max: 2 }), fc.constantFrom(0, 0, 0, 1))
    .map(([values, late, gen]) => partialOf(values, { late, revision: Math.min(1, late), gen })),
});

/** As a file has them: those of a group side by side. */
const fileArbitrary = fc.array(rowArbitrary, { maxLength: 12 }).map((rows) => partialColumns(sortedByGroup(rows), MINUTE_US));
const tailArbitrary = fc.array(rowArbitrary, { maxLength: 12 }).map((rows) => partialColumns(rows, MINUTE_US));

function sortedByGroup(rows: readonly PartialRow[]): PartialRow[] {
  const text = (row: PartialRow): string => JSON.stringify(row.group);
  return [...rows].sort((a, b) => (text(a) < text(b) ? -1 : text(a) > text(b) ? 1 : 0));
}

const queryArbitrary: fc.Arbitrary<AggregateQuery> = fc.record({
  window: fc.constant('1m'),
  fromUs: fc.constantFrom(FROM_US, FROM_US - 7),
  toUs: fc.constantFrom(TO_US, TO_US - 7),
  gateways: fc.constantFrom(null, ['gw-*']),
  devices: fc.constantFrom(['pump-1'], ['pump-2', 'pump-1']),
  metrics: fc.constantFrom(null, ['temp*', 'other']),
  functions: fc.constantFrom(DEFAULT_FUNCTIONS, ['count', 'variance', 'delta', 'p0', 'p100', 'p99.9'].map(parseFunction)),
  order: fc.constantFrom('asc', 'desc'),
  limit: fc.constant(1_000),
  after: fc.constant(null),
});

const exceptionArbitrary: fc.Arbitrary<PendingException> = fc.record({
  gateway: fc.constantFrom('gw-1', null),
  kind: fc.constant('gap'),
  device: fc.constantFrom('pump-1', null),
  metric: fc.constantFrom('temperature', null),
  fromUs: fc.integer({ min: 0, max: WINDOWS }).map((window) => FROM_US + window * MINUTE_US),
  toUs: fc.integer({ min: 0, max: WINDOWS }).map((window) => FROM_US + window * MINUTE_US + 30_000_000),
  readingCount: fc.constantFrom(null, 7),
  reason: fc.constant('evicted'),
});

const watermarksArbitrary = fc.dictionary(
  fc.constantFrom('gw-1', 'gw-2'),
  fc.integer({ min: 0, max: WINDOWS }).map((window) => FROM_US + window * MINUTE_US),
);

test('a hot answer is the general one, byte for byte', () => {
  const hot = new HotWindows();
  const inputs = [
    queryArbitrary,
    fc.array(fileArbitrary, { maxLength: 2 }),
    fc.array(tailArbitrary, { maxLength: 3 }),
    fc.array(exceptionArbitrary, { maxLength: 2 }),
    watermarksArbitrary,
  ] as const;
  fc.assert(
    fc.property(...inputs, (query, files, tail, exceptions, watermarks) => {
      const capture: AggregateCapture = {
        definition: { name: '1m', sizeMs: 60_000, by: 'series', persisted: true },
        definitionHash: '',
        aggregatesVersion: 3,
        readingsVersion: 4,
        files: [],
        tail,
        overlayComplete: true,
        watermarks: new Map(Object.entries(watermarks)),
        activeGateways: ['gw-1', 'gw-2'],
        exceptionFiles: [],
        pendingExceptions: exceptions.slice(1),
        releasedEpochs: [],
      };
      const isAsked = ({ group }: PartialRow): boolean =>
        query.devices?.includes(group.device ?? '') === true && (query.metrics === null || group.metric === 'temperature');
      const runs = files.flatMap((columns) =>
        partialRows(columns).flatMap((row, index) =>
          isAsked(row) ? [{ windowStartUs: columns.windowStartUs, states: columns, group: row.group, from: index, to: index + 1 }] : [],
        ),
      );
      const lakeRows = files.flatMap((columns) => partialRows(columns).filter(isAsked).filter(inRange));
      // What is captured is of the range: of a file, whose rows are kept, it is only some.
      const inTail = tail.map((columns) => partialColumns(partialRows(columns).filter(inRange), MINUTE_US));
      const rows = [...lakeRows, ...inTail.flatMap((columns) => rowsOfTail(tailRows([columns])[0], query))];
      const expected = documentText(
        answerAggregates(query, { ...capture, tail: [] }, rows, exceptions.slice(0, 1)),
        query.functions,
        '"window":"1m"',
      );
      const task = { query, head: '"window":"1m"', fromUs: FROM_US, toUs: TO_US, cost: 1 };
      const openFromUs = new Map(capture.activeGateways.map((gateway) => [gateway, capture.watermarks.get(gateway) ?? -Infinity]));
      const actual = hot.text(task, { capture, runs, tail: tailRows(inTail), exceptions: exceptions.slice(0, 1), openFromUs });
      expect(actual).toEqual(expected);
    }),
    { numRuns: 120 },
  );
});

function inRange({ windowStartUs }: PartialRow): boolean {
  return windowStartUs >= FROM_US && windowStartUs < TO_US;
}

test('what is more than a page is left to the general way', () => {
  const rows = [0, 1].map((window) => ({
    group: { gateway: 'gw-1', device: 'pump-1', metric: 'speed', tags: null },
    windowStartUs: FROM_US + window * MINUTE_US,
    partial: partialOf([1], {}),
  }));
  const [query] = fc.sample(queryArbitrary, 1);
  const capture = { definition: { name: '1m', sizeMs: 60_000, by: 'series', persisted: true }, pendingExceptions: [] };
  const sources = {
    capture: capture as unknown as AggregateCapture,
    runs: [],
    tail: tailRows([partialColumns(rows, MINUTE_US)]),
    exceptions: [],
    openFromUs: new Map(),
  };
  const task = { query: { ...query, devices: ['pump-1'], metrics: null }, head: '', fromUs: FROM_US, toUs: TO_US, cost: 1 };
  const hot = new HotWindows();
  expect(hot.text({ ...task, query: { ...task.query, limit: 1 } }, sources)).toBeNull();
  expect(hot.text({ ...task, query: { ...task.query, limit: 2 } }, sources)?.rows).toContain('"count":1');
});
