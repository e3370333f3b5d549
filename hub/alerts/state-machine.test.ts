import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { evaluate, INACTIVE, replay, step, type Known, type Phase, type Progress } from './state-machine.ts';
import { judge, type Verdict, type VerdictRow } from './verdicts.ts';

const SLIDE = 60;
const LATE = 5;

function row(index: number, verdict: Verdict, closed = true): VerdictRow {
  return { key: 'k', startUs: index * SLIDE, endUs: (index + 1) * SLIDE, value: null, verdict, closed };
}

interface Told {
  readonly from: Phase;
  readonly to: Phase;
  readonly endUs: number;
}

/** What an evaluator keeps of one group from round to round. */
class Group {
  base: Progress = INACTIVE;
  known: Known | null = null;
  seen = 0;
  readonly told: Told[] = [];
  readonly #fired = new Set<number>();
  readonly #forUs: number;

  constructor(forUs: number) {
    this.#forUs = forUs;
  }

  /** Evaluates up to so many windows; windows before the base are not there any more. */
  round(rows: readonly VerdictRow[], closed: number): void {
    const horizon = {
      baseUs: (this.seen - LATE) * SLIDE,
      seenUs: this.seen * SLIDE,
      closedUs: closed * SLIDE,
      nextBaseUs: (closed - LATE) * SLIDE,
    };
    const kept = rows.filter(({ endUs }) => endUs > horizon.baseUs);
    const { transitions, nextBase } = evaluate(this.base, this.known, kept, horizon, this.#forUs, (endUs) => this.#fired.has(endUs));
    for (const {
      from,
      to,
      row: { endUs },
    } of transitions) {
      this.told.push({ from, to: to.phase, endUs });
      if (to.phase === 'firing') this.#fired.add(endUs);
      this.known = to.phase === 'inactive' ? null : { ...to, endUs };
    }
    this.base = nextBase;
    this.seen = closed;
  }

  get phase(): Phase {
    return this.known?.phase ?? 'inactive';
  }
}

const verdicts = fc.array(fc.constantFrom<Verdict>('fire', 'fire', 'hold', 'clear'), { minLength: 1, maxLength: 40 });
const forUs = fc.constantFrom(0, SLIDE, 2 * SLIDE, 3 * SLIDE + 1, 20 * SLIDE);
const strides = fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 60 });

describe('the states of an alert', () => {
  test('a pending one needs to fire without a break, a firing one stays on hold', () => {
    const phases = (given: readonly Verdict[], time: number): Phase[] => {
      let progress = INACTIVE;
      return given.map((verdict, index) => (progress = step(progress, row(index, verdict), time)).phase);
    };
    expect(phases(['fire', 'hold', 'fire', 'fire', 'hold', 'clear'], 2 * SLIDE)).toEqual([
      'pending',
      'inactive',
      'pending',
      'firing',
      'firing',
      'inactive',
    ]);
    expect(phases(['fire', 'clear'], 0)).toEqual(['firing', 'inactive']);
  });

  test('bounds are not beyond themselves, and hysteresis lies between the two', () => {
    const bounds = { above: 80, clear_below: 70, below: 10, clear_above: 20 };
    expect([81, 80, 71, 70, 45, 20, 19, 10, 9].map((value) => judge(value, bounds))).toEqual(
      'fire hold hold clear clear clear hold hold fire'.split(' '),
    );
  });

  test('however windows are divided into rounds, and repeated, the same is told once', () => {
    fc.assert(
      fc.property(verdicts, forUs, strides, (given, time, steps) => {
        const rows = given.map((verdict, index) => row(index, verdict));
        const group = new Group(time);
        let closed = 0;
        for (const stride of [...steps, rows.length]) {
          closed = Math.min(rows.length, closed + stride);
          group.round(rows.slice(0, closed), closed);
        }
        const expected = replay(INACTIVE, rows, time).changes.map(({ from, to, row: { endUs } }) => ({ from, to: to.phase, endUs }));
        expect(group.told).toEqual(expected);
      }),
    );
  });

  test('late readings within the last windows end in what the windows say, each transition following the one before', () => {
    const late = fc.array(
      fc.record({ back: fc.integer({ min: 1, max: LATE }), verdict: fc.constantFrom<Verdict>('fire', 'hold', 'clear') }),
      { maxLength: 3 },
    );
    fc.assert(
      fc.property(verdicts, forUs, fc.array(late, { minLength: 40, maxLength: 40 }), (given, time, changes) => {
        const rows = given.map((verdict, index) => row(index, verdict));
        const group = new Group(time);
        for (let closed = 1; closed <= rows.length; closed++) {
          for (const { back, verdict } of changes[closed - 1])
            if (closed - 1 - back >= 0) rows[closed - 1 - back] = row(closed - 1 - back, verdict);
          group.round(rows.slice(0, closed), closed);
          group.round(rows.slice(0, closed), closed);
          // Everything that is still looked at, from a base that no later reading changes.
          expect(group.phase).toBe(replay(INACTIVE, rows.slice(0, closed), time).progress.phase);
        }
        let phase: Phase = 'inactive';
        for (const { from, to } of group.told) {
          expect(from).toBe(phase);
          expect(to).not.toBe(from);
          phase = to;
        }
      }),
      { numRuns: 50 },
    );
  });

  test('a spike that came late is told as fired and resolved, once', () => {
    const group = new Group(0);
    const rows = ['clear', 'clear', 'clear'].map((verdict, index) => row(index, verdict as Verdict));
    group.round(rows, 3);
    rows[1] = row(1, 'fire');
    for (let times = 0; times < 3; times++) group.round(rows, 3);
    expect(group.told).toEqual([
      { from: 'inactive', to: 'firing', endUs: 2 * SLIDE },
      { from: 'firing', to: 'inactive', endUs: 3 * SLIDE },
    ]);
  });

  test('windows that cannot be found any more resolve nothing', () => {
    const group = new Group(0);
    group.round([row(0, 'fire')], 1);
    group.round([], 2);
    expect(group.phase).toBe('firing');
  });

  test('an open window fires, and only a closed one clears', () => {
    const group = new Group(0);
    group.round([row(0, 'clear'), row(1, 'fire', false)], 1);
    expect(group.phase).toBe('firing');
    group.round([row(0, 'clear'), row(1, 'clear', false)], 1);
    expect(group.phase).toBe('firing');
    group.round([row(0, 'clear'), row(1, 'clear')], 2);
    expect(group.phase).toBe('inactive');
  });
});
