/**
 * Simulated time: one queue of events, one event at a time, each run to its end before the next.
 *
 * Constraint: what happens between two events must not depend on real time. Promises are allowed, because microtasks (and
 * setImmediate, which the journal's server uses) run in the order in which they were queued; threads, timers and files
 * that are read asynchronously are not.
 */
import type { Clock } from '../../shared/clock.ts';

interface Event {
  readonly dueUs: number;
  readonly order: number;
  readonly callback: () => void;
  cancelled: boolean;
}

/** Wall clock at which every simulation begins: a few minutes before a UTC midnight, so that commits touch two days. */
export const SIM_START_US = Date.UTC(2026, 2, 14, 23, 58) * 1000;

export class Scheduler {
  #nowUs = 0;
  #order = 0;
  /** Binary heap by (dueUs, order). */
  readonly #heap: Event[] = [];
  #events = 0;

  /** Since the simulation began. */
  get nowUs(): number {
    return this.#nowUs;
  }

  get events(): number {
    return this.#events;
  }

  after(delayUs: number, callback: () => void): () => void {
    const event: Event = { dueUs: this.#nowUs + Math.max(0, Math.round(delayUs)), order: this.#order++, callback, cancelled: false };
    this.#push(event);
    return () => {
      event.cancelled = true;
    };
  }

  /** Runs everything that is due until then, and ends at that time. */
  async runUntil(us: number): Promise<void> {
    for (let event = this.#heap[0]; event !== undefined && event.dueUs <= us; event = this.#heap[0]) {
      this.#pop();
      if (event.cancelled) continue;
      this.#nowUs = event.dueUs;
      this.#events++;
      event.callback();
      await settled();
    }
    this.#nowUs = Math.max(this.#nowUs, us);
  }

  /** Drops everything that is still to come. */
  clear(): void {
    this.#heap.length = 0;
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent])) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1], heap[child])) child++;
      if (!isBefore(heap[child], last)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = last;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.dueUs < b.dueUs || (a.dueUs === b.dueUs && a.order < b.order);
}

/** All promises that can go on without further events have. */
export function settled(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

/**
 * The clock of one process, and its life: what is due after its death does not happen, what is due while it is frozen
 * happens when it thaws.
 */
export class SimProcess implements Clock {
  readonly name: string;
  readonly scheduler: Scheduler;
  readonly #bornUs: number;
  readonly #wallOffsetUs: () => number;
  #alive = true;
  #frozenUntilUs = 0;
  readonly #deathCallbacks = new Set<() => void>();

  /** @param wallOffsetUs how wrong the machine's wall clock is, now */
  constructor(scheduler: Scheduler, name: string, wallOffsetUs: () => number = () => 0) {
    this.scheduler = scheduler;
    this.name = name;
    this.#bornUs = scheduler.nowUs;
    this.#wallOffsetUs = wallOffsetUs;
  }

  get alive(): boolean {
    return this.#alive;
  }

  nowUs(): number {
    return SIM_START_US + this.scheduler.nowUs + this.#wallOffsetUs();
  }

  monotonicUs(): number {
    return this.scheduler.nowUs - this.#bornUs;
  }

  after(delayMs: number, callback: () => void): () => void {
    return this.deliver(delayMs * 1000, callback);
  }

  /** Something reaches the process from outside. */
  deliver(delayUs: number, callback: () => void): () => void {
    let isCancelled = false;
    const run = (): void => {
      if (!this.#alive || isCancelled) return;
      const { nowUs } = this.scheduler;
      // In the order in which it was due: events of one process that wait for its thaw keep their turn.
      if (nowUs < this.#frozenUntilUs) this.scheduler.after(this.#frozenUntilUs - nowUs, run);
      else callback();
    };
    if (this.#alive) this.scheduler.after(delayUs, run);
    return () => {
      isCancelled = true;
    };
  }

  freeze(us: number): void {
    this.#frozenUntilUs = Math.max(this.#frozenUntilUs, this.scheduler.nowUs + us);
  }

  /** @returns forgets the callback */
  onDeath(callback: () => void): () => void {
    this.#deathCallbacks.add(callback);
    return () => void this.#deathCallbacks.delete(callback);
  }

  kill(): void {
    if (!this.#alive) return;
    this.#alive = false;
    for (const callback of this.#deathCallbacks) callback();
  }
}
