import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../shared/clock.ts';
import type { JournalClock } from '../clock.ts';
import { drain, groupOf, openJournal, START_US, temporaryDirectory } from './journal-fixture.ts';

const SECOND_US = 1_000_000;
const HOUR_US = 3600 * SECOND_US;

/** A machine that boots in 1970: its monotonic clock starts at 0, and what its clock says is not believed until `learn`. */
class Board implements JournalClock {
  readonly #machine = new ManualClock(300 * SECOND_US);
  readonly boot: string;
  known = false;
  #offsetUs = 300 * SECOND_US;

  constructor(boot: string) {
    this.boot = boot;
  }

  get offsetUs(): number {
    return this.#offsetUs;
  }

  learn(bootedUs: number): void {
    this.known = true;
    this.#offsetUs = bootedUs;
  }

  /** A new process of the same boot has yet to learn the time. */
  forget(): void {
    this.known = false;
    this.#offsetUs = 300 * SECOND_US;
  }

  nowUs = (): number => this.monotonicUs() + this.#offsetUs;
  monotonicUs = (): number => this.#machine.monotonicUs();
  after = (delayMs: number, callback: () => void): (() => void) => this.#machine.after(delayMs, callback);
  advance = (us: number): void => this.#machine.advance(us);
}

const store = (journal: ReturnType<typeof openJournal>, clock: Board, value: number): void =>
  void journal.commit(groupOf([[{ series: 0, value }]], clock.monotonicUs()));

describe('readings that came before the time was known', () => {
  test('get their exact times when the same boot learns it, also across kill -9 and further processes', () => {
    const directory = temporaryDirectory();
    const clock = new Board('boot-1');
    for (let life = 0; life < 3; life++) {
      const journal = openJournal(directory, { clock });
      clock.advance(10 * SECOND_US);
      store(journal, clock, life);
      journal.tick();
      expect([journal.state().clockKnown, journal.stats().batches, journal.offer(journal.epoch, 'live', 0, 1e6)]).toEqual([false, 0, []]);
      journal.close();
    }
    const last = openJournal(directory, { clock });
    clock.advance(60 * SECOND_US);
    clock.learn(START_US);
    last.tick();
    expect(drain(last)).toMatchObject({
      readings: ['d0=0', 'd0=1', 'd0=2'],
      times: [START_US + 10 * SECOND_US, START_US + 20 * SECOND_US, START_US + 30 * SECOND_US],
      exceptions: [],
    });
  });

  test('are quarantined with the bounds of the boots around when theirs never learns it', () => {
    const directory = temporaryDirectory();
    const before = new Board('boot-1');
    before.learn(START_US);
    const first = openJournal(directory, { clock: before });
    before.advance(HOUR_US);
    first.tick();
    first.close();
    for (const boot of ['boot-2', 'boot-3']) {
      const unset = new Board(boot);
      const journal = openJournal(directory, { clock: unset });
      unset.advance(HOUR_US);
      store(journal, unset, 7);
      journal.tick();
      journal.close();
    }
    const after = new Board('boot-4');
    after.learn(START_US + 24 * HOUR_US);
    const { readings, exceptions } = drain(openJournal(directory, { clock: after }));
    expect(readings).toEqual([]);
    expect(exceptions.map(({ kind, reason, fromUs, toUs, readingCount }) => [kind, reason, fromUs, toUs, readingCount])).toEqual([
      ['quarantined', 'clock_unknown', START_US + HOUR_US, START_US + 24 * HOUR_US, 2],
    ]);
  });

  test('are not taken for those of another boot that knows the time', () => {
    const directory = temporaryDirectory();
    const clock = new Board('boot-1');
    const journal = openJournal(directory, { clock });
    store(journal, clock, 1);
    journal.close();
    const other = new Board('boot-2');
    other.learn(START_US);
    expect(drain(openJournal(directory, { clock: other })).exceptions.map(({ reason }) => reason)).toEqual(['clock_unknown']);
  });
});

test('a new process of a boot that knew the time is told so, and earlier than an earlier boot it cannot be', () => {
  const directory = temporaryDirectory();
  const early = new Board('boot-1');
  early.learn(START_US);
  const first = openJournal(directory, { clock: early });
  early.advance(HOUR_US);
  first.close();
  const clock = new Board('boot-2');
  clock.learn(START_US + 2 * HOUR_US);
  openJournal(directory, { clock }).close();
  clock.forget();
  const { clockMemory } = openJournal(directory, { clock }).state();
  expect(clockMemory).toEqual({ bootOffsetUs: START_US + 2 * HOUR_US, earlierBootUs: START_US + HOUR_US });
});

test('a step moves what is not sealed yet, and never what is', () => {
  const clock = new Board('boot-1');
  clock.learn(START_US);
  const journal = openJournal(temporaryDirectory(), { clock });
  store(journal, clock, 1);
  journal.tick();
  clock.advance(SECOND_US);
  store(journal, clock, 2);
  clock.learn(START_US + 30 * SECOND_US);
  journal.tick();
  expect(drain(journal).times).toEqual([START_US, START_US + 31 * SECOND_US]);
});
