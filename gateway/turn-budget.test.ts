import { describe, expect, test } from 'vitest';
import { ManualClock } from '../shared/clock.ts';
import { TurnBudget } from './turn-budget.ts';

function loop() {
  const clock = new ManualClock(0);
  const deferred: (() => void)[] = [];
  const turns = new TurnBudget(clock, (callback) => void deferred.push(callback));
  /** The end of a turn of the event loop. */
  const endTurn = (): void => {
    for (const callback of deferred.splice(0)) callback();
  };
  return { clock, turns, endTurn, deferred };
}

describe('TurnBudget', () => {
  test('work that comes at once is done in several turns, in the order in which it came, and all of it', () => {
    const { clock, turns, endTurn, deferred } = loop();
    const done: number[] = [];
    for (let index = 0; index < 100; index++) {
      turns.later(() => {
        done.push(index);
        clock.advance(1_000);
      });
    }
    const perTurn: number[] = [];
    for (let before = 0; deferred.length > 0; before = done.length) {
      endTurn();
      perTurn.push(done.length - before);
    }
    expect(done).toEqual(Array.from({ length: 100 }, (_, index) => index));
    expect(Math.max(...perTurn)).toBeLessThanOrEqual(5);
    expect(Math.min(...perTurn)).toBeGreaterThan(0);
  });

  test('a turn is spent after some milliseconds, not after the idle time before it', () => {
    const { clock, turns, endTurn } = loop();
    expect(turns.isSpent).toBe(false);
    clock.advance(10_000);
    expect(turns.isSpent).toBe(true);
    endTurn();
    clock.advance(3_600_000_000);
    expect(turns.isSpent).toBe(false);
  });

  test('while work waits, what comes new is behind it', () => {
    const { clock, turns, endTurn } = loop();
    const slow = (): void => clock.advance(10_000);
    turns.later(slow);
    turns.later(slow);
    endTurn();
    expect(turns.isSpent).toBe(true);
    endTurn();
    expect(turns.isSpent).toBe(false);
  });

  test('a callback that asks to be called later again does not keep the others from their turn', () => {
    const { clock, turns, endTurn } = loop();
    let greedy = 0;
    let other = 0;
    const again = (): void => {
      greedy++;
      clock.advance(10_000);
      turns.later(again);
    };
    turns.later(again);
    turns.later(() => other++);
    for (let turn = 0; turn < 4; turn++) endTurn();
    expect(other).toBe(1);
    expect(greedy).toBeGreaterThan(1);
  });
});
