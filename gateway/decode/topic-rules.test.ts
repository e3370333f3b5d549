import { describe, expect, test } from 'vitest';
import { BoundedSeriesRegistry } from '../journal/registry.ts';
import { Decoder } from './decoder.ts';
import { DEFAULT_TOPIC_RULES, TopicRules, UnmatchedTopicCounts, suggestMatch, topicRuleSchema } from './topic-rules.ts';

const rules = (...matches: string[]): TopicRules => new TopicRules(matches.map((match) => topicRuleSchema.parse({ match })));

describe('topic rules', () => {
  test.each([
    ['devices/d1/telemetry', { device: 'd1', metric: null, tags: {} }],
    ['devices/d1/temperature', { device: 'd1', metric: 'temperature', tags: {} }],
    ['devices//telemetry', null],
    ['devices/d1', null],
    ['devices/d1/a/b', null],
    ['other/d1/telemetry', null],
  ])('%s by the default rules', (topic, expected) => {
    const match = new TopicRules(DEFAULT_TOPIC_RULES).match(topic);
    expect(match === null ? null : { device: match.device, metric: match.metric, tags: match.tags }).toEqual(expected);
  });

  test('levels may name tags, + takes one level, # takes the rest and its parent', () => {
    expect(rules('plant/{tag:plant}/+/{device}/#').match('plant/north/x/d1/a/b')).toMatchObject({ device: 'd1', tags: { plant: 'north' } });
    expect(rules('plant/{device}/#').match('plant/d1')).toMatchObject({ device: 'd1' });
    expect(rules('#').match('anything/at/all')).toMatchObject({ device: null });
  });

  test('the first match wins', () => {
    expect(rules('a/{device}/x', 'a/{device}/{metric}').match('a/d/x')?.rule.match).toBe('a/{device}/x');
  });

  test.each(['a/{device', 'a/{unknown}', 'a/#/b', '{device}/{device}', 'a/{metric}', 'x{device}', ''])('%j is no rule', (match) => {
    expect(topicRuleSchema.safeParse({ match }).success).toBe(false);
  });
});

describe('topics that no rule takes', () => {
  test.each([
    ['home/kitchen/temperature', 'home/{device}/{metric}'],
    ['zigbee2mqtt/0x00158d0001a2b3c4', '{device}/{metric}'],
    ['tele/plug1/STATE', 'tele/{device}/STATE'],
    ['site/4711/pump/flow', 'site/+/{device}/{metric}'],
    ['lonely', 'lonely'],
  ])('%s suggests %s', (topic, suggested) => {
    expect(suggestMatch(topic)).toBe(suggested);
  });

  test('a suggested rule is a rule and takes its topic', () => {
    for (const topic of ['a/b/c', 'a/{x}/b/c', 'a/123456/x/state', '//', 'x/']) {
      const match = suggestMatch(topic);
      expect(topicRuleSchema.safeParse({ match }).success).toBe(true);
    }
  });

  test('are counted within bounds, most frequent first', () => {
    const counts = new UnmatchedTopicCounts();
    for (let index = 0; index < 5_000; index++)
      counts.count(`kind${index % 1_000 < 500 ? 'a' : String.fromCharCode(98 + (index % 20))}${'x'.repeat(index % 150)}/d/m`);
    const list = counts.list();
    expect(list.length).toBeLessThanOrEqual(101);
    expect(list.reduce((sum, entry) => sum + entry.messageCount, 0)).toBe(5_000);
    expect(list[0]?.messageCount).toBeGreaterThanOrEqual(list[1]?.messageCount ?? 0);
  });
});

test('plans stay bounded however many topics and names devices invent', () => {
  const registry = new BoundedSeriesRegistry(100);
  const decoder = new Decoder(DEFAULT_TOPIC_RULES, registry);
  const sink = { add: () => undefined, exception: () => undefined };
  let readings = 0;
  for (let index = 0; index < 60_000; index++) {
    const plan = decoder.plan(`devices/d${index}/telemetry`);
    if (plan !== null) readings += decoder.decode(plan, Buffer.from('{"a":1}'), sink, { arrivalUs: 0, onlyDevice: null }).readingCount;
  }
  expect(readings).toBe(100);
  expect(registry.size).toBe(100);
});
