import { expect, test } from 'vitest';
import { Backoff } from './backoff.ts';

test('the bound doubles up to the maximum, the wait is uniform below it, and a reset starts over', () => {
  const highest = new Backoff(1_000, 60_000, () => 0.999_999);
  expect([1, 2, 3, 4, 5, 6, 7, 8].map(() => highest.nextMs())).toEqual([999, 1_999, 3_999, 7_999, 15_999, 31_999, 59_999, 59_999]);
  highest.reset();
  expect(highest.nextMs()).toBe(999);
  const lowest = new Backoff(1_000, 60_000, () => 0);
  for (let i = 0; i < 100; i++) expect(lowest.nextMs()).toBe(0);
});
