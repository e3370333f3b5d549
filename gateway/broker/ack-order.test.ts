import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AckOrder } from './ack-order.ts';

interface Answer {
  readonly messageId: number;
  readonly failed: boolean;
}

describe('the order of acks', () => {
  it('is that of the messages, each answered once with its own answer, in whatever order and how often answers come', () => {
    fc.assert(
      fc.property(
        // Above 0: as many messages arrive. Otherwise the answer to one of all so far comes, perhaps again.
        fc.array(fc.oneof(fc.integer({ min: 1, max: 2 }), fc.integer({ min: -1000, max: 0 })), { maxLength: 300 }),
        (steps) => {
          const answered: Answer[] = [];
          let settledBytes = 0;
          let flushes = 0;
          const answer = (messageId: number, error: Error | null): number => answered.push({ messageId, failed: error !== null });
          const order = new AckOrder({ acknowledge: answer, flush: () => flushes++ }, (bytes) => (settledBytes += bytes));
          const tickets: number[] = [];
          const expected: (boolean | undefined)[] = [];
          const settle = (index: number): void => {
            // Who answers again says the opposite.
            const fails = expected[index] === undefined ? index % 3 === 0 : !expected[index];
            expected[index] ??= fails;
            order.settle(fails ? new Error('disk') : null, tickets[index]);
          };
          for (const step of steps) {
            if (step > 0) {
              for (let count = 0; count < step; count++) {
                const messageId = tickets.length;
                const callback = messageId % 2 === 0 ? null : (error: Error | null) => void answer(messageId, error);
                tickets.push(order.expect(callback, messageId, 1));
                expected.push(undefined);
              }
            } else if (tickets.length > 0) settle(-step % tickets.length);
            const unanswered = expected.indexOf(undefined);
            const due = unanswered < 0 ? expected.length : unanswered;
            expect(answered).toEqual(expected.slice(0, due).map((failed, messageId) => ({ messageId, failed })));
            expect([order.size, settledBytes]).toEqual([expected.length - due, due]);
          }
          for (let index = tickets.length - 1; index >= 0; index--) settle(index);
          expect([answered.length, order.size, flushes]).toEqual([tickets.length, 0, Math.floor(tickets.length / 2)]);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('holds when an answer brings the next message, which is answered at once', () => {
    const answered: number[] = [];
    const order: AckOrder = new AckOrder(
      {
        acknowledge: (messageId) => {
          answered.push(messageId);
          if (messageId < 5000) order.settle(null, order.expect(null, messageId + 2, 0));
        },
        flush: () => undefined,
      },
      () => undefined,
    );
    const [first, second] = [order.expect(null, 0, 0), order.expect(null, 1, 0)];
    order.settle(null, second);
    order.settle(null, first);
    expect(answered).toEqual(Array.from({ length: answered.length }, (_, index) => index));
    expect(answered.length).toBeGreaterThan(5000);
    expect(order.size).toBe(0);
  });

  it('holds over thousands of messages of which the last are never all answered', () => {
    const answered: number[] = [];
    const order = new AckOrder({ acknowledge: (messageId) => answered.push(messageId), flush: () => undefined }, () => undefined);
    const tickets = Array.from({ length: 10 }, (_, messageId) => order.expect(null, messageId, 0));
    for (let messageId = 0; messageId < 5000; messageId++) {
      order.settle(null, tickets[messageId]);
      tickets.push(order.expect(null, messageId + 10, 0));
    }
    expect(answered).toEqual(Array.from({ length: 5000 }, (_, index) => index));
    expect(order.size).toBe(10);
  });
});
