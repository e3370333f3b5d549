import { expect, test } from 'vitest';
import { nearestName } from './nearest-name.ts';

const NAMES = [
  'window',
  'from',
  'to',
  'gateway',
  'device',
  'metric',
  'tag',
  'group_by',
  'functions',
  'step',
  'points',
  'limit',
  'cursor',
  'format',
];

test.each([
  ['devcie', 'device'],
  ['devices', 'device'],
  ['groupBy', 'group_by'],
  ['group-by', 'group_by'],
  ['function', 'functions'],
  ['form', 'from'],
  ['Limit', 'limit'],
  ['metrics', 'metric'],
  ['gatway', 'gateway'],
])('%s means %s', (given, meant) => expect(nearestName(given, NAMES)).toBe(meant));

test.each(['colour', 'q', 'x'.repeat(100_000), '', 'aggregate'])('%# means none of them', (given) =>
  expect(nearestName(given, NAMES)).toBeNull(),
);
