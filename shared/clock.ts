/**
 * Time as an argument: everything that waits or stamps takes a Clock, so that years and crashes can be simulated.
 */

export interface Clock {
  /** Wall clock: integer microseconds since the Unix epoch. May jump. */
  nowUs(): number;
  /** Monotonic: integer microseconds since an arbitrary start, on Linux the kernel's boot. Never goes back, stands still while suspended. */
  monotonicUs(): number;
  /** Calls `callback` once after `delayMs` (monotonic); the answer cancels it. Does not keep the process alive. */
  after(delayMs: number, callback: () => void): () => void;
}

// Both are CLOCK_MONOTONIC: performance.now since this thread began, hrtime since the boot, but slower and in two parts.
const [bootSeconds, bootNs] = process.hrtime();
const THREAD_BORN_US = bootSeconds * 1e6 + bootNs / 1000 - performance.now() * 1000;

export const systemClock: Clock = {
  // Date.now has ms resolution; performance.timeOrigin + now drifts from a stepped wall clock, so ms it is.
  nowUs: () => Date.now() * 1000,
  monotonicUs: () => Math.floor(THREAD_BORN_US + performance.now() * 1000),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** A clock that stands until it is moved; timers fire in order while it is moved. */
export class ManualClock implements Clock {
  #nowUs: number;
  #monotonicUs = 0;
  #timers: { dueUs: number; order: number; callback: () => void }[] = [];
  #order = 0;

  constructor(startUs: number) {
    this.#nowUs = startUs;
  }

  nowUs(): number {
    return this.#nowUs;
  }

  monotonicUs(): number {
    return this.#monotonicUs;
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { dueUs: this.#monotonicUs + delayMs * 1000, order: this.#order++, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Moves both clocks forward, firing due timers at their times. */
  advance(us: number): void {
    const targetUs = this.#monotonicUs + us;
    for (;;) {
      const due = this.#timers.filter((timer) => timer.dueUs <= targetUs).sort((a, b) => a.dueUs - b.dueUs || a.order - b.order)[0];
      if (due === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== due);
      this.#move(due.dueUs - this.#monotonicUs);
      due.callback();
    }
    this.#move(targetUs - this.#monotonicUs);
  }

  /** Steps the wall clock alone, as an operator or NTP does. */
  step(us: number): void {
    this.#nowUs += us;
  }

  #move(us: number): void {
    this.#nowUs += us;
    this.#monotonicUs += us;
  }
}
