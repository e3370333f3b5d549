import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { compareSeries, seriesKey, type Series } from '../reading.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import { SeriesTableCache } from './series-table-cache.ts';
import { readSeriesTable, writeSeriesTable } from './series-table.ts';

const name = fc.constantFrom('a', 'b', 'c', 'd');
const table = fc
  .uniqueArray(fc.record({ device: name, metric: name, tags: fc.constantFrom('', '{"k":"v"}') }), { selector: seriesKey, maxLength: 12 })
  .map((series): readonly Series[] => series.sort(compareSeries));

/** The table with something behind it, as the times stand behind it in a batch. */
function readerOf(series: readonly Series[], behind: Uint8Array): ByteReader {
  const writer = new ByteWriter();
  writer.byte(7);
  writeSeriesTable(writer, series);
  writer.append(behind);
  return new ByteReader(writer.view().slice(), 1, 'ERR_BATCH_MALFORMED');
}

test('a cache reads what the table says and stops where it ends, whatever it has read before', () => {
  const call = fc.tuple(fc.constantFrom('gw-1', 'gw-2', 'gw-3'), table, fc.uint8Array({ maxLength: 20 }));
  fc.assert(
    fc.property(fc.array(call, { maxLength: 30 }), fc.integer({ min: 0, max: 30 }), (calls, seriesMax) => {
      const cache = new SeriesTableCache(seriesMax);
      for (const [key, series, behind] of calls) {
        const [reader, plain] = [readerOf(series, behind), readerOf(series, behind)];
        expect(cache.read(key, reader, series.length)).toEqual(readSeriesTable(plain, series.length));
        expect(reader.offset).toBe(plain.offset);
      }
    }),
  );
});

test('the same table of a key is the same object, so that what is remembered of it is found again', () => {
  const cache = new SeriesTableCache(10);
  const series = ['a', 'b'].map((device) => ({ device, metric: 'm', tags: '' }));
  const read = (): readonly Series[] => cache.read('gw', readerOf(series, new Uint8Array(3)), 2);
  expect(read()).toBe(read());
});
