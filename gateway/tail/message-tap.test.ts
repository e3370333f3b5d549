import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../shared/clock.ts';
import { createLogger } from '../../shared/logging.ts';
import { MemoryJournal } from '../broker/memory-journal.ts';
import { PublishGate } from '../broker/publish-gate.ts';
import { Decoder } from '../decode/decoder.ts';
import { DEFAULT_TOPIC_RULES } from '../decode/topic-rules.ts';
import { createIngestCounters } from '../ingest-counters.ts';
import { MessageTap } from './message-tap.ts';
import { renderLive } from './render.ts';
import type { SeenMessage } from './seen-message.ts';
import { topicMatcher } from './topic-filter.ts';

const START_US = 1_700_000_000_000_000;

function bench(): { clock: ManualClock; journal: MemoryJournal; tap: MessageTap; publish: (topic: string, payload: string) => void } {
  const clock = new ManualClock(START_US);
  const journal = new MemoryJournal();
  const tap = new MessageTap(journal.series, clock);
  const decoder = new Decoder(DEFAULT_TOPIC_RULES, journal.series);
  const gate = new PublishGate({ decoder, journal, clock, counters: createIngestCounters(), logger: createLogger('test', 'silent'), tap });
  const publish = (topic: string, payload: string): void => {
    gate.publish(null, { topic, payload: Buffer.from(payload), qos: 0, dup: false, messageId: undefined }, () => undefined);
  };
  return { clock, journal, tap, publish };
}

describe('a viewer', () => {
  test('sees the rule, the readings and the reason of what is not one, and the journal gets the same as without', async () => {
    const { journal, tap, publish } = bench();
    const seen: SeenMessage[] = [];
    tap.open('devices/+/telemetry', { ready: () => true, message: (message) => seen.push(message) });
    publish('devices/d1/telemetry', '{"temperature":21.5,"ts":1700000000000,"bad":1e999}');
    publish('devices/d1/telemetry', '{"temperature":');
    publish('devices/d1/telemetry', '{"t":1,"ts":1800000000000}');
    publish('devices/d1/other', '5');
    publish('elsewhere', '5');
    expect(seen.map((message) => message.outcome)).toEqual(['partly', 'dead_letter', 'taken']);
    expect(seen[0]).toMatchObject({
      rule: 'devices/{device}/telemetry',
      readings: [{ device: 'd1', metric: 'temperature', value: 21.5, time: '2023-11-14T22:13:20.000Z', quarantined: null }],
      problems: [{ code: 'ERR_DECODE_VALUE', device: 'd1', metric: 'bad', advice: expect.stringContaining('finite') }],
    });
    expect(seen[1]).toMatchObject({ reading_count: 0, problems: [{ code: 'ERR_DECODE_SYNTAX' }], payload: '{"temperature":' });
    expect(seen[2].readings[0].quarantined).toContain('future');
    await new Promise((resolve) => setImmediate(resolve));
    expect(journal.readings.map((reading) => reading.value)).toEqual([21.5, 1, 5]);
    expect(journal.exceptions).toHaveLength(2);
  });

  test('of everything sees unmatched topics with a rule that would take them', () => {
    const { tap, publish } = bench();
    const seen: SeenMessage[] = [];
    tap.open('#', { ready: () => true, message: (message) => seen.push(message) });
    publish('plant/line/press/pressure', '5');
    publish('zigbee2mqtt/lamp', '{}');
    expect(seen).toMatchObject([
      { outcome: 'unmatched', rule: null, hint: 'add to topics: { match: "plant/line/{device}/{metric}" }' },
      { outcome: 'unmatched', hint: 'add to topics: { preset: zigbee2mqtt }' },
    ]);
  });

  test('gets a sample under load and is told how many were left out; one that does not read gets none', () => {
    const { clock, tap, publish } = bench();
    let seen = 0;
    const view = tap.open('#', { ready: () => true, message: () => seen++ });
    const slow = tap.open('#', { ready: () => false, message: () => expect.fail('it does not read') });
    for (let index = 0; index < 1_000; index++) publish('devices/d1/a', '1');
    expect(seen).toBe(200);
    expect(view.takeLeftOut()).toBe(800);
    expect(slow.takeLeftOut()).toBe(1_000);
    clock.advance(1_000_000);
    for (let index = 0; index < 1_000; index++) publish('devices/d1/a', '1');
    expect(seen).toBe(300);
    view.close();
    slow.close();
    publish('devices/d1/a', '1');
    expect(seen).toBe(300);
    expect(tap.viewers).toBe(0);
  });

  test('is refused with a filter that is none, and beyond the limit', () => {
    const { tap } = bench();
    const output = { ready: () => true, message: () => undefined };
    for (const filter of ['', 'a/#/b', 'a+', 'x#']) expect(() => tap.open(filter, output), filter).toThrow(/ERR_HTTP_PARAMETER|topic/);
    for (let count = 0; count < 8; count++) tap.open('#', output);
    expect(() => tap.open('#', output)).toThrow(/at most 8/);
  });
});

test('filters match as subscriptions do', () => {
  const matching = (filter: string, ...topics: string[]): boolean[] => topics.map(topicMatcher(filter));
  expect(matching('a/#', 'a', 'a/b/c', 'ab')).toEqual([true, true, false]);
  expect(matching('a/+/c', 'a/b/c', 'a/c', 'a/b/c/d')).toEqual([true, false, false]);
});

test('nothing that a device sends reaches the terminal as a control sequence', () => {
  const { tap, publish } = bench();
  const lines: string[] = [];
  tap.open('#', { ready: () => true, message: (message) => lines.push(renderLive(message)) });
  publish('devices/d1/state', '\u001b]0;owned\u0007 \u009b31m');
  publish('devices/\u001b[2J/state', '\u001b[31m{');
  publish('other/\u001b[2J', '\u001b[31m{');
  expect(lines).toHaveLength(3);
  expect(lines.join('').replaceAll('\n', '')).not.toMatch(/\p{Control}/u);
});
