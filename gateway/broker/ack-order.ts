/**
 * Acknowledgements of one connection leave in the order in which their messages arrived [MQTT-4.6.0-2].
 *
 * What a message waits with are four places of a list, and its number is its ticket: an object and a closure for each would
 * live as long as its commit, and be copied by the collector meanwhile (a third of its work under load, measured).
 */

export type Settle = (error: Error | null) => void;

/** Where PUBACKs go that no callback of aedes waits for. */
export interface AckWriter {
  acknowledge(messageId: number, error: Error | null): void;
  /** Hands over what is acknowledged so far: what is written next must not overtake it. */
  flush(): void;
}

// Of each message in the list: its callback or null, its id, the bytes of its payload, its answer.
const STRIDE = 4;
const MESSAGE_ID = 1;
const BYTES = 2;
const ANSWER = 3;
/** The answer that has not come; null and errors have. */
const NO_ANSWER = undefined;

/** Of a connection that waits for nothing: 8 bytes each. */
const PLACES_KEPT_MAX = 64;
/** Answered places in front of those that wait, until the list is cut. */
const PLACES_ANSWERED_MAX = 4096;

/** Bounded by its users: aedes reads on only when all messages of a socket read are settled, DirectIntake has a bound. */
export class AckOrder {
  readonly #writer: AckWriter;
  readonly #onSettled: (bytes: number) => void;
  /** Places from #head to #end; used again from the start when all are answered. */
  #waiting: (Settle | number | Error | null | undefined)[] = [];
  #head = 0;
  #end = 0;
  /** Ticket of the message at #head. */
  #headTicket = 0;

  /** @param onSettled called after each answer was handed on, with what `expect` was told */
  constructor(writer: AckWriter, onSettled: (bytes: number) => void) {
    this.#writer = writer;
    this.#onSettled = onSettled;
  }

  get size(): number {
    return (this.#end - this.#head) / STRIDE;
  }

  /**
   * Takes the next place in the order; the answer is handed on once it and all before it have come.
   *
   * @param callback null: the writer acknowledges `messageId`
   * @param bytes of the message's payload
   * @returns the message's ticket, for `settle`
   */
  expect(callback: Settle | null, messageId: number, bytes: number): number {
    const waiting = this.#waiting;
    const at = this.#end;
    if (at === waiting.length) waiting.push(callback, messageId, bytes, NO_ANSWER);
    else {
      waiting[at] = callback;
      waiting[at + MESSAGE_ID] = messageId;
      waiting[at + BYTES] = bytes;
      waiting[at + ANSWER] = NO_ANSWER;
    }
    this.#end = at + STRIDE;
    return this.#headTicket + (at - this.#head) / STRIDE;
  }

  /** The answer to the message with this ticket; a second one is ignored. */
  readonly settle = (error: Error | null, ticket: number): void => {
    const at = this.#head + (ticket - this.#headTicket) * STRIDE;
    if (at < this.#head || at >= this.#end || this.#waiting[at + ANSWER] !== NO_ANSWER) return;
    this.#waiting[at + ANSWER] = error;
    if (at === this.#head) this.#flush();
  };

  #flush(): void {
    while (this.#head < this.#end) {
      const at = this.#head;
      const error = this.#waiting[at + ANSWER] as Error | null | undefined;
      if (error === NO_ANSWER) break;
      const callback = this.#waiting[at] as Settle | null;
      const messageId = this.#waiting[at + MESSAGE_ID] as number;
      const bytes = this.#waiting[at + BYTES] as number;
      this.#waiting[at] = null;
      this.#waiting[at + ANSWER] = null;
      this.#head = at + STRIDE;
      this.#headTicket++;
      if (callback === null) this.#writer.acknowledge(messageId, error);
      else {
        this.#writer.flush();
        callback(error);
      }
      this.#onSettled(bytes);
    }
    if (this.#head === this.#end) {
      if (this.#end > PLACES_KEPT_MAX) this.#waiting = [];
      this.#head = 0;
      this.#end = 0;
    } else if (this.#head > PLACES_ANSWERED_MAX) {
      this.#waiting = this.#waiting.slice(this.#head, this.#end);
      this.#end = this.#waiting.length;
      this.#head = 0;
    }
  }
}
