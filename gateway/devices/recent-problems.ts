/** What could not be used lately, summed up by topic and code, so that a device that sends nonsense at 1 kHz is one line. */

export interface RecentProblem {
  readonly code: string;
  /** Topic, path or file. */
  readonly topic: string;
  readonly message: string;
  readonly count: number;
  /** Arrival, wall clock µs. */
  readonly lastUs: number;
}

const PROBLEMS_MAX = 50;
const MESSAGE_CHARS_MAX = 300;

export class RecentProblems {
  /** In the order of their last time. */
  readonly #problems = new Map<string, RecentProblem>();

  note(topic: string, code: string, message: string, count: number, nowUs: number): void {
    const key = `${code} ${topic.slice(0, 256)}`;
    const known = this.#problems.get(key);
    this.#problems.delete(key);
    this.#problems.set(key, {
      code,
      topic: topic.slice(0, 256),
      message: message.slice(0, MESSAGE_CHARS_MAX),
      count: count + (known?.count ?? 0),
      lastUs: nowUs,
    });
    if (this.#problems.size > PROBLEMS_MAX) this.#problems.delete(this.#problems.keys().next().value as string);
  }

  /** Latest first. */
  list(): RecentProblem[] {
    return [...this.#problems.values()].reverse();
  }
}
