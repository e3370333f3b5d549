import fc from 'fast-check';
import { expect, test } from 'vitest';
import { filterMatches, SubscriptionTree } from './subscription-tree.ts';

test.each([
  ['a/b', 'a/b', true],
  ['a/b', 'a/b/c', false],
  ['a/+', 'a/b', true],
  ['a/+', 'a', false],
  ['a/+', 'a/', true],
  ['a/#', 'a', true],
  ['a/#', 'a/b/c', true],
  ['+/b', '/b', true],
  ['#', 'a/b', true],
  ['#', '$SYS/a', false],
  ['+/a', '$SYS/a', false],
  ['$SYS/#', '$SYS/a', true],
])('filter %s and topic %s: %s', (filter, topic, expected) => {
  expect(filterMatches(filter, topic)).toBe(expected);
});

const level = fc.constantFrom('a', 'b', '', '$x');
const topics = fc.array(level, { minLength: 1, maxLength: 4 }).map((levels) => levels.join('/'));
const filters = fc
  .tuple(fc.array(fc.oneof(level, fc.constant('+')), { minLength: 1, maxLength: 4 }), fc.boolean())
  .map(([levels, open]) => (open ? [...levels, '#'] : levels).join('/'));

test('the tree finds whom the filters one by one would find, also after some have gone', () => {
  const step = fc.record({
    filter: filters,
    client: fc.constantFrom('c1', 'c2', 'c3'),
    qos: fc.integer({ min: 0, max: 2 }),
    gone: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), fc.array(topics, { minLength: 1, maxLength: 5 }), (steps, asked) => {
      const tree = new SubscriptionTree();
      const model = new Map<string, { filter: string; client: string; qos: number }>();
      for (const { filter, client, qos, gone } of steps) {
        if (gone) {
          tree.delete(filter, client);
          model.delete(`${client} ${filter}`);
        } else {
          tree.set(filter, client, qos);
          model.set(`${client} ${filter}`, { filter, client, qos });
        }
      }
      for (const topic of asked) {
        const expected = new Map<string, number>();
        for (const { filter, client, qos } of model.values())
          if (filterMatches(filter, topic)) expected.set(client, Math.max(qos, expected.get(client) ?? 0));
        expect(new Map(tree.match(topic).map(({ clientId, qos }) => [clientId, qos]))).toEqual(expected);
      }
    }),
  );
});
