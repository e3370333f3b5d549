import { describe, expect, test } from 'vitest';
import { compareTally, Tally, type Topic } from './session-ledger.ts';

function tallyOf(...numbers: readonly number[]): Tally {
  const tally = new Tally();
  for (const number of numbers) tally.add(number);
  return tally;
}

describe('what sessions are owed', () => {
  // 2 was sent and never acknowledged: it may be there or not.
  const topic: Topic = { name: 'commands/pump', qos: 2, sent: 4, acknowledged: new Set([0, 1, 3]), completed: new Set([0, 1]) };

  test('is met by every acknowledged message, with or without those in doubt', () => {
    for (const tally of [tallyOf(3, 1, 0), tallyOf(0, 1, 2, 3)])
      expect(compareTally('here', topic, tally, true)).toMatchObject({
        due: 3,
        found: 3,
        lost: 0,
        duplicated: 0,
        invented: 0,
        examples: [],
      });
  });

  test('is not met by what is missing, comes twice where once was promised, or was never sent', () => {
    const finding = compareTally('here', topic, tallyOf(0, 0, 2, 2, 2, 1, 7), true);
    expect(finding).toMatchObject({ due: 3, found: 2, lost: 1, duplicated: 3, again: 0, invented: 1 });
    expect(finding.examples).toHaveLength(4);
  });

  test('of a subscription that comes and goes is what was sent while it was there, and nothing from when it was not', () => {
    const spans = { owed: new Set([0, 1]), unwanted: new Set([3]) };
    expect(compareTally('here', topic, tallyOf(0, 1), true, spans)).toMatchObject({ due: 2, found: 2, lost: 0, invented: 0 });
    expect(compareTally('here', topic, tallyOf(0, 3), true, spans)).toMatchObject({ due: 2, lost: 1, invented: 1 });
  });

  test('at least once leaves room for repetitions, which are counted', () => {
    expect(compareTally('here', topic, tallyOf(0, 0, 1, 3), false)).toMatchObject({ lost: 0, duplicated: 0, again: 1 });
  });
});
