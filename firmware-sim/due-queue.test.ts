import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { DueQueue } from './due-queue.ts';

test('gives devices in the order of their times', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(50), { maxLength: 60 }), (times) => {
      const queue = new DueQueue(times.length);
      times.forEach((dueMs, device) => queue.push(dueMs, device));
      const popped: number[] = [];
      while (queue.size > 0) {
        const dueMs = queue.nextDueMs;
        const device = queue.pop();
        expect(times[device]).toBe(dueMs);
        popped.push(dueMs);
      }
      expect(popped).toEqual([...times].sort((a, b) => a - b));
      expect(queue.nextDueMs).toBe(Infinity);
    }),
  );
});
