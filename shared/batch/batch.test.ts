import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { referenceFleet } from '../../test/bench/reference-fleet.ts';
import type { ExceptionRecord } from '../exception.ts';
import { canonicalTags, compareSeries, EXACT_INTEGER_MAX, type ReadingColumns, type Series } from '../reading.ts';
import { COMPRESSIONS, type BatchContent, type Compression } from './batch.ts';
import { availableCompressions } from './compression.ts';
import { decodeBatch, inspectBatch } from './decode.ts';
import { encodeBatch } from './encode.ts';
import { TIME_US_MAX } from './limits.ts';
import { sortIntoRuns } from './runs.ts';

const available = COMPRESSIONS.filter((compression) => availableCompressions().includes(compression));

/** The bits of doubles: -0 is not 0, and one NaN is not another. */
function bitsOf(values: Float64Array): BigUint64Array {
  return new BigUint64Array(values.buffer, values.byteOffset, values.length);
}

/** Content as `toEqual` compares it exactly: values by their bits. */
function exact(content: BatchContent): unknown {
  return { ...content, runs: { ...content.runs, value: bitsOf(content.runs.value) } };
}

function contentOf(columns: ReadingColumns, table: readonly Series[], exceptions: readonly ExceptionRecord[] = []): BatchContent {
  return {
    sealedUs: 1_767_225_605_000_000,
    arrivalFromUs: 1_767_225_600_000_000,
    arrivalToUs: 1_767_225_604_999_000,
    runs: sortIntoRuns(columns, table),
    exceptions,
  };
}

const name = fc
  .oneof(
    fc.constantFrom('a', 'b', 'temperature', 'sensor-01', 'sensor-02', 'größe', '温度', '🌡'),
    fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }),
  )
  .filter(
    // eslint-disable-next-line no-control-regex
    (text) => !/[\u0000-\u001f]|\p{Surrogate}/u.test(text),
  );
const tags = fc.dictionary(name, fc.oneof(name, fc.constant('')), { maxKeys: 3, noNullPrototype: true }).map(canonicalTags);
const series = fc.record({ device: name, metric: name, tags: fc.oneof({ weight: 3, arbitrary: fc.constant('') }, tags) });
const anyDouble = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((bits) => new Float64Array(new BigUint64Array([bits]).buffer));
const decimal = fc
  .tuple(fc.integer({ min: -100_000, max: 100_000 }), fc.integer({ min: 0, max: 6 }))
  .map(([m, e]) => new Float64Array([m / 10 ** e]));
const special = fc
  .constantFrom(
    0,
    -0,
    NaN,
    Infinity,
    -Infinity,
    Number.MIN_VALUE,
    Number.MAX_VALUE,
    EXACT_INTEGER_MAX,
    -EXACT_INTEGER_MAX,
    2 ** 51,
    2 ** 51 + 1,
    0.1 + 0.2,
    1e300,
    1e-300,
    1,
  )
  .map((value) => new Float64Array([value]));
const value = fc.oneof({ weight: 4, arbitrary: decimal }, special, anyDouble);
const timeUs = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 100 }).map((second) => 1_767_225_600_000_000 + second * 1_000_000) },
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 100_000 }).map((ms) => 1_767_225_600_000_000 + ms * 1000) },
  fc.integer({ min: -TIME_US_MAX, max: TIME_US_MAX }),
);

const columnsAndTable = fc.array(series, { minLength: 1, maxLength: 12 }).chain((table) =>
  fc.array(fc.tuple(fc.nat(table.length - 1), timeUs, value, fc.option(fc.string(), { freq: 3 })), { maxLength: 200 }).map((readings) => {
    const texts = readings.flatMap(([, , , text]) => (text === null ? [] : [text]));
    let next = 0;
    const columns: ReadingColumns = {
      count: readings.length,
      series: Uint32Array.from(readings, ([s]) => s),
      eventTimeUs: Float64Array.from(readings, ([, us]) => us),
      value: new Float64Array(readings.length),
      text: texts.length === 0 ? null : Uint32Array.from(readings, ([, , , text]) => (text === null ? 0 : ++next)),
      texts,
    };
    readings.forEach(([, , v], i) => bitsOf(columns.value).set(bitsOf(v), i));
    return { columns, table };
  }),
);

const exception: fc.Arbitrary<ExceptionRecord> = fc.record({
  kind: fc.constantFrom('gap', 'dead_letter', 'quarantined'),
  device: fc.option(name),
  metric: fc.option(name),
  fromUs: fc.maxSafeInteger(),
  toUs: fc.maxSafeInteger(),
  readingCount: fc.option(fc.maxSafeNat()),
  reason: fc.string({ maxLength: 300, unit: 'grapheme-ascii' }),
  payload: fc.option(fc.uint8Array({ maxLength: 4096 })),
});

describe('batch codec', () => {
  test('decode(encode(x)) is x bit for bit, for any content and compression', () => {
    fc.assert(
      fc.property(
        columnsAndTable,
        fc.array(exception, { maxLength: 5 }),
        fc.constantFrom(...available),
        ({ columns, table }, exceptions, compression) => {
          const content = contentOf(columns, table, exceptions);
          expect(exact(decodeBatch(encodeBatch(content, compression)))).toEqual(exact(content));
        },
      ),
      { numRuns: 300 },
    );
  });

  test.each(available)('the reference fleet survives %s and stays within its byte targets', (compression: Compression) => {
    for (const [seconds, bytesMax] of [
      [2, 1.4],
      [5, 1.0],
    ] as const) {
      const { columns, table } = referenceFleet({ devices: 250, seconds, seed: 7 });
      const content = contentOf(columns, table);
      const batch = encodeBatch(content, compression);
      expect(exact(decodeBatch(batch))).toEqual(exact(content));
      expect(batch.length / columns.count).toBeLessThanOrEqual(compression === 'none' ? 2.5 : bytesMax);
      expect(inspectBatch(batch)).toMatchObject({ compression, readingCount: 1000 * seconds, seriesCount: 1000, exceptionCount: 0 });
    }
  });
});

describe('models', () => {
  const table = (count: number): Series[] =>
    Array.from({ length: count }, (_, s) => ({
      device: `d${String(s >>> 9).padStart(4, '0')}`,
      metric: `m${String(s & 511).padStart(4, '0')}`,
      tags: '',
    }));

  /** `readings` per series, each series with a rhythm and an exponent of its own. */
  function motley(seriesCount: number, readings: number): BatchContent {
    const count = seriesCount * readings;
    const at = (i: number): { s: number; k: number } => ({ s: Math.floor(i / readings), k: i % readings });
    return contentOf(
      {
        count,
        series: Uint32Array.from({ length: count }, (_, i) => at(i).s),
        eventTimeUs: Float64Array.from({ length: count }, (_, i) => 1_767_225_600_000_000 + at(i).k * (7919 * (at(i).s + 1) + 3)),
        value: Float64Array.from({ length: count }, (_, i) => (at(i).s % 3 === 0 ? Math.sin(i) : i / 10 ** (at(i).s % 7))),
        text: null,
        texts: [],
      },
      table(seriesCount),
    );
  }

  test('more metrics, exponents and rhythms than there may be models still fit', () => {
    for (const readings of [2, 70]) {
      const content = motley(600, readings);
      expect(exact(decodeBatch(encodeBatch(content, 'none')))).toEqual(exact(content));
    }
  });

  test('one value that is no decimal does not spoil those of the other devices', () => {
    const { columns, table: fleet } = referenceFleet({ devices: 50, seconds: 5, seed: 1 });
    const plain = encodeBatch(contentOf(columns, fleet), 'none').length;
    const spoilt = columns.value.with(100, Math.PI).with(333, 1e-12);
    expect(encodeBatch(contentOf({ ...columns, value: spoilt }, fleet), 'none').length).toBeLessThan(plain + 200);
  });

  test('a fleet with a phase per device costs at most a tenth of a byte more', () => {
    const size = (phases: boolean): number => {
      const { columns, table: fleet } = referenceFleet({ devices: 250, seconds: 5, seed: 1, phases });
      return encodeBatch(contentOf(columns, fleet), 'br').length / columns.count;
    };
    expect(size(true)).toBeLessThan(size(false) + 0.1);
  });
});

describe('sortIntoRuns', () => {
  test('gives what a stable sort by series and time gives', () => {
    fc.assert(
      fc.property(columnsAndTable, ({ columns, table }) => {
        const order = Array.from({ length: columns.count }, (_, i) => i).sort(
          (a, b) =>
            compareSeries(table[columns.series[a]], table[columns.series[b]]) || columns.eventTimeUs[a] - columns.eventTimeUs[b] || a - b,
        );
        const runs = sortIntoRuns(columns, table);
        expect([...runs.eventTimeUs]).toEqual(order.map((i) => columns.eventTimeUs[i]));
        expect(bitsOf(runs.value)).toEqual(BigUint64Array.from(order, (i) => bitsOf(columns.value)[i]));
        expect(order.map((_, i) => (runs.text?.[i] ? runs.texts[runs.text[i] - 1] : null))).toEqual(
          order.map((i) => (columns.text?.[i] ? columns.texts[columns.text[i] - 1] : null)),
        );
        const perReading = runs.seriesTable.flatMap((entry, s) =>
          Array.from({ length: runs.runOffsets[s + 1] - runs.runOffsets[s] }, () => entry),
        );
        expect(perReading).toEqual(order.map((i) => table[columns.series[i]]));
        for (let s = 1; s < runs.seriesTable.length; s++)
          expect(compareSeries(runs.seriesTable[s - 1], runs.seriesTable[s])).toBeLessThan(0);
      }),
    );
  });
});
