/** Acknowledgements of one connection leave in the order in which their messages arrived [MQTT-4.6.0-2]. */

export type Settle = (error: Error | null) => void;

/** Where PUBACKs go that no callback of aedes waits for. */
export interface AckWriter {
  acknowledge(messageId: number, error: Error | null): void;
  /** Hands over what is acknowledged so far: what is written next must not overtake it. */
  flush(): void;
}

interface Waiting {
  readonly callback: Settle | null;
  readonly messageId: number;
  readonly bytes: number;
  settled: boolean;
  error: Error | null;
}

/** Of a connection that waits for nothing: 8 bytes each. */
const PLACES_KEPT_MAX = 64;

/** Bounded by its users: aedes reads on only when all messages of a socket read are settled, DirectIntake has a bound. */
export class AckOrder {
  readonly #writer: AckWriter;
  readonly #onSettled: (bytes: number) => void;
  /** Places from #head to #end; used again from the start when all are answered, since a new list costs 150 bytes a message. */
  #waiting: (Waiting | null)[] = [];
  #head = 0;
  #end = 0;

  /** @param onSettled called after each answer was handed on, with what `expect` was told */
  constructor(writer: AckWriter, onSettled: (bytes: number) => void) {
    this.#writer = writer;
    this.#onSettled = onSettled;
  }

  get size(): number {
    return this.#end - this.#head;
  }

  /**
   * Takes the next place in the order; the answer is handed on once it and all before it have come.
   *
   * @param callback null: the writer acknowledges `messageId`
   * @param bytes of the message's payload
   */
  expect(callback: Settle | null, messageId: number, bytes: number): Settle {
    const place: Waiting = { callback, messageId, bytes, settled: false, error: null };
    if (this.#end === this.#waiting.length) this.#waiting.push(place);
    else this.#waiting[this.#end] = place;
    this.#end++;
    return (error) => {
      if (place.settled) return;
      place.settled = true;
      place.error = error;
      if (this.#waiting[this.#head] === place) this.#flush();
    };
  }

  #flush(): void {
    while (this.#head < this.#end) {
      const place = this.#waiting[this.#head] as Waiting;
      if (!place.settled) break;
      this.#waiting[this.#head++] = null;
      if (place.callback === null) this.#writer.acknowledge(place.messageId, place.error);
      else {
        this.#writer.flush();
        place.callback(place.error);
      }
      this.#onSettled(place.bytes);
    }
    if (this.#head === this.#end) {
      if (this.#end > PLACES_KEPT_MAX) this.#waiting = [];
      this.#head = 0;
      this.#end = 0;
    } else if (this.#head > 1024) {
      this.#waiting = this.#waiting.slice(this.#head, this.#end);
      this.#end = this.#waiting.length;
      this.#head = 0;
    }
  }
}
