import fc from 'fast-check';
import { expect, test } from 'vitest';
import { bucketOf } from '../../shared/window/histogram.ts';
import { DEFAULT_FUNCTIONS, EMPTY_PARTIAL, parseFunction, type WindowPartial } from '../../shared/window/partial.ts';
import { partialColumns, partialRows, type PartialColumns, type PartialRow } from '../../shared/window/partial-columns.ts';
import type { AggregateCapture, PendingException } from '../engine-api.ts';
import { answerAggregates } from './answer.ts';
import { documentBytes } from './document-bytes.ts';
import { JsonBytes } from './json-bytes.ts';
import { rowsOfRun, type PartialRun } from './partial-files.ts';
import type { AggregateQuery } from './query-api.ts';
import { rangeDocument } from './range-windows.ts';

const HOUR_US = 3_600_000_000;
/** Over midnight. */
const FROM_US = Date.parse('2026-03-31T20:00:00Z') * 1000;
const WINDOWS = 8;
const TO_US = FROM_US + WINDOWS * HOUR_US;

function partialOf(values: readonly number[], changes: Partial<WindowPartial>): WindowPartial {
  const n = values.length;
  if (n === 0) return { ...EMPTY_PARTIAL, ...changes };
  const sumValue = values.reduce((sum, value) => sum + value, 0);
  const mean = sumValue / n;
  const positive = values.filter((value) => value > 0);
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
    histPos: new Map(positive.map((value) => [bucketOf(value), positive.filter((other) => bucketOf(other) === bucketOf(value)).length])),
    histZero: n - positive.length,
    ...changes,
  };
}

const valueArbitrary = fc.oneof(
  fc.integer({ min: 0, max: 1_000 }).map((tenths) => tenths / 10),
  fc.double({ min: 0, max: 1e6, noNaN: true }),
  fc.constant(1.7e308),
);

const rowArbitrary: fc.Arbitrary<PartialRow> = fc.record({
  group: fc.record({
    gateway: fc.constantFrom('gw-1', 'gw-näher', null),
    device: fc.constantFrom('pump-1', 'pump-2'),
    metric: fc.constant('speed "raw"'),
    tags: fc.constantFrom(null, '{"site":"bonn"}'),
  }),
  windowStartUs: fc.integer({ min: -1, max: WINDOWS }).map((window) => FROM_US + window * HOUR_US),
  partial: fc
    .tuple(fc.array(valueArbitrary, { maxLength: 4 }), fc.integer({ min: 0, max: 2 }), fc.constantFrom(0, 0, 0, 1))
    .map(([values, late, gen]) => partialOf(values, { late, revision: Math.min(1, late), gen })),
});

function columnsOf(rows: readonly PartialRow[]): PartialColumns {
  return partialColumns(rows, HOUR_US);
}

function runsOf(columns: PartialColumns): PartialRun[] {
  return partialRows(columns).map(({ group }, row) => ({
    windowStartUs: columns.windowStartUs,
    states: columns,
    group,
    from: row,
    to: row + 1,
  }));
}

const queryArbitrary: fc.Arbitrary<AggregateQuery> = fc.record({
  window: fc.constant('1h'),
  fromUs: fc.constantFrom(FROM_US, FROM_US - 7),
  toUs: fc.constantFrom(TO_US, TO_US - 7),
  gateways: fc.constantFrom(null, ['gw-*']),
  devices: fc.constant(null),
  metrics: fc.constant(null),
  functions: fc.constantFrom(
    DEFAULT_FUNCTIONS,
    ['count', 'sum', 'mean', 'min', 'max', 'stddev', 'variance', 'first', 'last', 'delta'].map(parseFunction),
  ),
  order: fc.constantFrom('asc', 'desc'),
  limit: fc.constantFrom(1, 5, 10_000),
  after: fc.constant(null),
});

const exceptionArbitrary: fc.Arbitrary<PendingException> = fc.record({
  gateway: fc.constantFrom('gw-1', null),
  kind: fc.constant('gap'),
  device: fc.constantFrom('pump-1', null),
  metric: fc.constantFrom('speed "raw"', null),
  fromUs: fc.integer({ min: 0, max: WINDOWS }).map((window) => FROM_US + window * HOUR_US),
  toUs: fc.integer({ min: 0, max: WINDOWS }).map((window) => FROM_US + window * HOUR_US + 1_800_000_000),
  readingCount: fc.constantFrom(null, 7),
  reason: fc.constant('evicted'),
});

function captureOf(changes: Partial<AggregateCapture>): AggregateCapture {
  return {
    definition: { name: '1h', sizeMs: 3_600_000, by: 'series', persisted: true },
    definitionHash: '',
    aggregatesVersion: 3,
    readingsVersion: 4,
    files: [],
    tail: [],
    overlayComplete: true,
    watermarks: new Map(),
    activeGateways: [],
    exceptionFiles: [],
    pendingExceptions: [],
    ...changes,
  };
}

test('a long answer is the general one, byte for byte, with its version and where the next page begins', () => {
  const inputs = [
    queryArbitrary,
    fc.array(fc.array(rowArbitrary, { maxLength: 12 }).map(columnsOf), { maxLength: 2 }),
    fc.array(rowArbitrary, { maxLength: 6 }).map(columnsOf),
    fc.array(exceptionArbitrary, { maxLength: 2 }),
    fc.dictionary(
      fc.constantFrom('gw-1', 'gw-2'),
      fc.integer({ min: 0, max: WINDOWS }).map((window) => FROM_US + window * HOUR_US),
    ),
  ] as const;
  fc.assert(
    fc.property(...inputs, (query, files, tail, exceptions, watermarks) => {
      const inRange = ({ windowStartUs }: PartialRow): boolean => windowStartUs >= query.fromUs && windowStartUs < query.toUs;
      const capture = captureOf({
        tail: [columnsOf(partialRows(tail).filter(inRange))],
        watermarks: new Map(Object.entries(watermarks)),
        activeGateways: Object.keys(watermarks).slice(0, 1).concat('gw-2'),
        pendingExceptions: exceptions.slice(1),
      });
      const runs = files.flatMap(runsOf);
      const rows = runs.flatMap((run) => rowsOfRun(run, query));
      const head = '"window":"1h"';
      const expected = documentBytes(answerAggregates(query, capture, rows, exceptions.slice(0, 1)), query.functions, head);
      const actual = rangeDocument(query, head, { capture, runs, exceptions: exceptions.slice(0, 1) }, 1_000);
      expect(Buffer.from(actual?.bytes ?? []).toString()).toBe(Buffer.from(expected.bytes).toString());
      expect({ ...actual, bytes: null }).toEqual({ ...expected, bytes: null });
    }),
    { numRuns: 150 },
  );
});

test('what is too much, or of windows that are none of the definition, is left to the general way', () => {
  const row = (startUs: number): PartialRow => ({
    group: { gateway: 'gw-1', device: 'pump-1', metric: 'speed', tags: null },
    windowStartUs: startUs,
    partial: partialOf([1], {}),
  });
  const [base] = fc.sample(queryArbitrary, 1);
  const query: AggregateQuery = { ...base, fromUs: FROM_US, toUs: TO_US, limit: 10 };
  const documentOf = (asked: AggregateQuery, rows: readonly PartialRow[], rowsMax: number): unknown =>
    rangeDocument(asked, '', { capture: captureOf({ tail: [columnsOf(rows)] }), runs: [], exceptions: [] }, rowsMax);
  const two = [row(FROM_US), row(FROM_US + HOUR_US)];
  expect(documentOf(query, two, 2)).not.toBeNull();
  expect(documentOf(query, two, 1)).toBeNull();
  expect(documentOf(query, [row(FROM_US + 1)], 2)).toBeNull();
  expect(documentOf({ ...query, fromUs: 0 }, two, 2)).not.toBeNull();
  expect(documentOf({ ...query, fromUs: -5e6 * HOUR_US }, two, 2)).toBeNull();
});

test('a number is written as JSON.stringify has it', () => {
  const decimal = fc.tuple(fc.integer(), fc.integer({ min: 0, max: 7 })).map(([digits, places]) => digits / 10 ** places);
  const nearDecimal = decimal.map((value) => value * (1 + Number.EPSILON));
  const any = fc.oneof(decimal, nearDecimal, fc.maxSafeInteger(), fc.double({ noNaN: true, noDefaultInfinity: true }));
  fc.assert(
    fc.property(fc.array(any), (values) => {
      const out = new JsonBytes(1);
      for (const value of [...values, 0, -0, 1e9, 999_999_999.9999, -0.0001, 0.00005]) {
        out.number(value);
        out.text(',');
      }
      out.number(null);
      const expected = [...values, 0, -0, 1e9, 999_999_999.9999, -0.0001, 0.00005, null].map((value) => JSON.stringify(value)).join(',');
      expect(Buffer.from(out.take()).toString()).toBe(expected);
    }),
    { numRuns: 1_000 },
  );
});
