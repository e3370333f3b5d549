import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compareSeries } from '../../shared/reading.ts';
import { GroupRegistry } from '../windows/group-registry.ts';
import { atOnce } from '../steps.ts';
import { SeriesOrder } from './series-order.ts';

function sorted(registry: GroupRegistry): number[] {
  const { device, metric, tags, gateway } = registry.names;
  const series = (id: number) => ({ device: device[id], metric: metric[id], tags: tags[id] });
  return device.map((_, id) => id).sort((a, b) => compareSeries(series(a), series(b)) || (gateway[a] < gateway[b] ? -1 : 1));
}

test('series that come bit by bit are in the order of the lake, as if they had been sorted together', () => {
  const name = fc.constantFrom('', 'a', 'b', 'ab', 'é', 'z');
  const table = fc.uniqueArray(fc.record({ device: name, metric: name, tags: name }), {
    selector: (series) => JSON.stringify(series),
    maxLength: 30,
  });
  fc.assert(
    fc.property(fc.array(fc.record({ gateway: name, table }), { maxLength: 8 }), fc.nat(8), (added, keepAt) => {
      const registry = new GroupRegistry();
      const order = new SeriesOrder(registry);
      for (const [index, one] of added.entries()) {
        registry.idsOf(one.gateway, one.table);
        if (index === keepAt) {
          const marks = Uint8Array.from({ length: registry.seriesCount }, (_, id) => id % 2);
          registry.keep(marks, new Uint8Array(registry.metricCount));
        }
        expect(Array.from(atOnce(order.update()))).toEqual(sorted(registry));
      }
    }),
    { numRuns: 200 },
  );
});

test('a fleet of several slices is sorted in steps, and what comes while it is sorted waits for the next time', () => {
  const registry = new GroupRegistry();
  const order = new SeriesOrder(registry);
  const add = (gateway: string, devices: number): Uint32Array =>
    registry.idsOf(
      gateway,
      Array.from({ length: devices }, (_, index) => ({ device: `d-${(index * 7919) % devices}`, metric: 'n', tags: '' })),
    );
  add('a', 20_000);
  add('b', 5_000);
  const known = sorted(registry);
  const steps = order.update();
  let count = 0;
  let step = steps.next();
  for (; step.done !== true; step = steps.next()) if (count++ === 0) add('c', 100);
  const ids = step.value;
  expect(Array.from(ids)).toEqual(known);
  expect(count).toBeGreaterThan(4);
  expect(Array.from(atOnce(order.update()))).toEqual(sorted(registry));
});
