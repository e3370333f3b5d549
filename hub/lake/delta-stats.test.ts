import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseFileStats, parseLogEntry } from './delta-actions.ts';
import { fileStats } from './delta-stats.ts';
import { isSluiceError } from '../../shared/errors.ts';
import type { ColumnStatistics } from './parquet/encode.ts';
import type { TableSpec } from './table-spec.ts';
import { READINGS } from './tables.ts';

const column = (min: ColumnStatistics['min'], max: ColumnStatistics['max'], more: Partial<ColumnStatistics> = {}): ColumnStatistics => ({
  min,
  max,
  nullCount: 0,
  hasNan: false,
  ...more,
});

function statsOf(columns: Record<string, ColumnStatistics>, spec: TableSpec = READINGS) {
  return parseFileStats(fileStats(spec, { rowCount: 7, stats: new Map(Object.entries(columns)) }));
}

const utf8Order = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

describe('file statistics', () => {
  test('have counts, bounds and null counts of the stored columns', () => {
    const stats = statsOf({
      ts: column(1_795_338_578_000_123, 1_795_338_578_999_001),
      device: column('a', 'b', { nullCount: 2 }),
      value: column(-1.5, 3),
      seq: column(1, 9),
      day: column('x', 'y'),
      unknown: column(1, 2),
    });
    expect(stats).toEqual({
      numRecords: 7,
      // The largest time is cut upwards: a reader that does not widen it must not skip the last microseconds.
      minValues: { ts: '2026-11-22T09:09:38.000Z', device: 'a', value: -1.5, seq: 1 },
      maxValues: { ts: '2026-11-22T09:09:39.000Z', device: 'b', value: 3, seq: 9 },
      nullCount: { ts: 0, device: 2, value: 0, seq: 0 },
    });
  });

  test.each([
    ['a NaN', { value: column(1, 2, { hasNan: true }) }],
    ['an infinity', { value: column(-Infinity, 2) }],
    ['only nulls', { value: column(null, null) }],
    ['a time outside of the calendar', { ts: column(-1e20, 1e20) }],
  ])('have no bounds for a column with %s', (_what, columns) => {
    const { minValues, maxValues } = statsOf(columns);
    expect({ minValues, maxValues }).toEqual({ minValues: {}, maxValues: {} });
  });

  test('have no statistics of maps, and of the first 32 columns only', () => {
    const columns = Array.from({ length: 40 }, (_, index) => ({
      name: `c${index}`,
      type: index === 0 ? ({ key: 'integer', value: 'long' } as const) : ('long' as const),
    }));
    const spec = { ...READINGS, columns, partitionColumns: [] };
    const stats = statsOf(Object.fromEntries(columns.map(({ name }) => [name, column(1, 2)])), spec);
    expect(Object.keys(stats.nullCount)).toEqual(columns.slice(1, 32).map(({ name }) => name));
  });

  test('bound every text from both sides, however long and whatever is in it', () => {
    const text = fc.string({ unit: 'binary', minLength: 0, maxLength: 40 });
    fc.assert(
      fc.property(text, (value) => {
        const { minValues, maxValues } = statsOf({ device: column(value, value) });
        const [min, max] = [minValues['device'] as string, maxValues['device'] as string | undefined];
        expect(utf8Order(min, value)).toBeLessThanOrEqual(0);
        expect([...min].length).toBeLessThanOrEqual(32);
        if (max !== undefined) expect(utf8Order(max, value)).toBeGreaterThanOrEqual(0);
      }),
    );
    const long = '\u{10ffff}'.repeat(40);
    expect(statsOf({ device: column(long, long) }).maxValues).toEqual({});
    expect(statsOf({ device: column('a', 'x'.repeat(40)) }).maxValues).toEqual({ device: `${'x'.repeat(32)}\u007f` });
  });
});

describe('reading foreign entries', () => {
  test('statistics that cannot be understood are not known, and never an error', () => {
    for (const stats of [null, '', '{', '[]', '"x"', '{"stats_json":"{"}', '{"minValues":3}'])
      expect(parseFileStats(stats).minValues).toEqual({});
    expect(parseFileStats('{"stats_json":"{\\"numRecords\\":3}"}').numRecords).toBe(3);
  });

  test('any JSON lines give actions or a typed error', () => {
    const names = fc.constantFrom('add', 'remove', 'txn', 'metaData', 'protocol', 'commitInfo', 'cdc', '__proto__');
    const fields = fc.constantFrom(
      'path',
      'appId',
      'version',
      'partitionValues',
      'size',
      'stats',
      'id',
      'schemaString',
      'minReaderVersion',
      'configuration',
    );
    const action = fc.dictionary(names, fc.oneof(fc.jsonValue(), fc.dictionary(fields, fc.jsonValue())));
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            action.map((value) => JSON.stringify(value)),
            fc.string(),
          ),
        ),
        (lines) => {
          try {
            parseLogEntry(new TextEncoder().encode(lines.join('\n')), 'entry');
          } catch (error) {
            expect(isSluiceError(error)).toBe(true);
          }
        },
      ),
    );
  });

  test('bytes that are not UTF-8 are corrupt', () => {
    expect(() => parseLogEntry(Uint8Array.of(0x7b, 0xff, 0x7d), 'entry')).toThrow(
      expect.objectContaining({ code: 'ERR_LAKE_LOG_CORRUPT' }),
    );
  });

  test('an add with a deletion vector is refused: its rows would come back', () => {
    const line = JSON.stringify({ add: { path: 'x', deletionVector: { storageType: 'u' } } });
    expect(() => parseLogEntry(new TextEncoder().encode(line), 'entry')).toThrow(expect.objectContaining({ code: 'ERR_LAKE_PROTOCOL' }));
  });
});
