import { expect, test } from 'vitest';
import { DEFAULT_TOPIC_RULES } from '../decode/topic-rules.ts';
import { decodeOffline } from './offline.ts';
import { renderOffline } from './render.ts';

const ARRIVAL_US = 1_700_000_000_000_000;
const offline = (topic: string, payload: string) => decodeOffline(DEFAULT_TOPIC_RULES, topic, Buffer.from(payload), ARRIVAL_US);

test('a payload of which nothing can be used is told with its code and what would help', () => {
  expect(offline('devices/d1/telemetry', '{"a":1,"ts":"soon"}')).toMatchObject({
    outcome: 'dead_letter',
    reading_count: 0,
    problems: [{ code: 'ERR_DECODE_TIME', advice: expect.stringContaining('timeUnit') }],
  });
});

test('an event time that the journal will quarantine is marked', () => {
  const seen = offline('devices/d1/telemetry', '{"a":1,"ts":12345}');
  expect(seen.readings).toMatchObject([{ metric: 'a', quarantined: expect.stringContaining('2015') }]);
  expect(renderOffline(seen)).toContain('quarantined: the event time is before 2015');
});

test('a topic that no rule takes gets a rule', () => {
  expect(renderOffline(offline('nobody/knows', '1'))).toContain('→ add to topics: { match: "{device}/{metric}" }');
});

test('what is shown is bounded, what is counted is not', () => {
  const many = JSON.stringify(Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [`m${index}`, index])));
  const seen = offline('devices/d1/telemetry', many);
  expect(seen).toMatchObject({ reading_count: 1_000, outcome: 'taken' });
  expect(seen.readings).toHaveLength(32);
  expect(renderOffline(seen)).toContain('968 more readings');
});
