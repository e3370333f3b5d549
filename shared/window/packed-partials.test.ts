import { expect, test } from 'vitest';
import { EMPTY_PARTIAL } from './partial.ts';
import { buffersOf, packPartials, unpackPartials } from './packed-partials.ts';
import { partialColumns, partialRows, type PartialRow } from './partial-columns.ts';

const group = { gateway: 'gw', device: 'pump', metric: 'temperature', tags: null };

function row(index: number, histPos: [number, number][], histNeg: [number, number][]): PartialRow {
  const partial = {
    ...EMPTY_PARTIAL,
    n: index,
    mean: index / 3,
    lastTsUs: 1e15 + index,
    histPos: new Map(histPos),
    histNeg: new Map(histNeg),
    histZero: index,
    late: 2,
    revision: 1,
  };
  return { group: { ...group, metric: `m${index % 2}` }, windowStartUs: index * 60_000_000, partial };
}

test.each([
  [[]],
  [[row(0, [], [])]],
  [
    [
      row(1, [[3, 1]], []),
      row(
        2,
        [],
        [
          [-4, 7],
          [9, 1],
        ],
      ),
      row(
        3,
        [
          [-80, 2],
          [5, 2 ** 40],
        ],
        [[1, 1]],
      ),
    ],
  ],
])('partials come out of a buffer as they went in', (rows) => {
  const columns = partialColumns(rows, 60_000_000);
  const unpacked = unpackPartials(structuredClone(packPartials(columns)));
  expect(partialRows(unpacked)).toEqual(rows);
  expect(unpacked).toEqual(columns);
});

test('the keys of many groups come through threads that pass them on', () => {
  const rows = Array.from({ length: 1_000 }, (_, index): PartialRow => {
    const group = {
      gateway: `gw-${index % 3}`,
      device: `pümp-${index >> 2}`,
      metric: `m${index % 4}`,
      tags: index % 5 === 0 ? null : `{"n":"${index % 5}"}`,
    };
    return { ...row(index, [[index, 1]], []), group };
  });
  const columns = partialColumns(rows, 60_000_000);
  let sent = packPartials(columns);
  for (let thread = 0; thread < 2; thread++) sent = structuredClone(sent, { transfer: buffersOf([sent]) });
  expect(unpackPartials(sent)).toEqual(columns);
});
