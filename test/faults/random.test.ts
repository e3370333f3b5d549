import { describe, expect, test } from 'vitest';
import { Rounds, SeededRandom } from './random.ts';

describe('the randomness of the lab', () => {
  test('is repeated by its seed and changed by another', () => {
    const draw = (seed: number): number[] => {
      const random = new SeededRandom(seed);
      return Array.from({ length: 20 }, () => random.next());
    };
    expect(draw(7)).toEqual(draw(7));
    expect(draw(7)).not.toEqual(draw(8));
    for (const value of draw(7)) expect(value >= 0 && value < 1).toBe(true);
  });

  test('brings every fault before it brings one again', () => {
    const rounds = new Rounds(['a', 'b', 'c'], new SeededRandom(1));
    for (let round = 0; round < 5; round++) expect([rounds.next(), rounds.next(), rounds.next()].sort()).toEqual(['a', 'b', 'c']);
  });
});
