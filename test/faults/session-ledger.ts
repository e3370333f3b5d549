/**
 * What publishers sent, what was acknowledged to them, and what reached whom: numbers per topic, so that an hour of it is a few MB.
 *
 * One topic has one publisher and one QoS; its messages are numbered from 0 and carry their number.
 */
import type { Finding } from './finding.ts';

export interface Topic {
  readonly name: string;
  readonly qos: 1 | 2;
  /** Messages begun, 0 … sent - 1. */
  sent: number;
  readonly acknowledged: Set<number>;
  /** At QoS 2 the broker passes on what is acknowledged only when it is released. */
  readonly completed: Set<number>;
}

/** What a session was owed of a topic that it had subscribed to only now and then. */
export interface Spans {
  /** Begun after SUBACK and completed before UNSUBSCRIBE. */
  readonly owed: Set<number>;
  /** Begun after UNSUBACK and acknowledged before the next SUBSCRIBE: a message that comes all the same is nobody's wish. */
  readonly unwanted: Set<number>;
}

/** How often each number was seen. */
export class Tally {
  readonly #times: number[] = [];

  add(number: number): void {
    this.#times[number] = (this.#times[number] ?? 0) + 1;
  }

  times(number: number): number {
    return this.#times[number] ?? 0;
  }

  get length(): number {
    return this.#times.length;
  }
}

const EXAMPLES_MAX = 5;

/**
 * @param isOnce each message exactly once; else at least once
 * @param spans of a subscription that was not there all the time
 */
export function compareTally(where: string, topic: Topic, tally: Tally, isOnce: boolean, spans: Spans | null = null): Finding {
  const result = { due: 0, found: 0, lost: 0, duplicated: 0, again: 0, invented: 0 };
  const examples: string[] = [];
  const example = (what: string, number: number): void => {
    if (examples.length < EXAMPLES_MAX) examples.push(`${what}: ${topic.name} ${number} (QoS ${topic.qos}) ${where}`);
  };
  for (let number = 0; number < Math.max(topic.sent, tally.length); number++) {
    const times = tally.times(number);
    if (topic.acknowledged.has(number) && (spans === null || spans.owed.has(number))) {
      result.due++;
      if (times > 0) result.found++;
      else {
        result.lost++;
        example('lost', number);
      }
    }
    if (times > 0 && (number >= topic.sent || spans?.unwanted.has(number) === true)) {
      result.invented++;
      example(number >= topic.sent ? 'never sent' : 'after UNSUBACK', number);
    }
    if (times <= 1) continue;
    if (isOnce) {
      result.duplicated += times - 1;
      example(`duplicated, ${times} times`, number);
    } else result.again += times - 1;
  }
  return { ...result, examples };
}
