/** Acknowledgements of one connection leave in the order in which their messages arrived [MQTT-4.6.0-2]. */

export type Settle = (error: Error | null) => void;

interface Waiting {
  readonly callback: Settle;
  settled: boolean;
  error: Error | null;
}

/** Bounded by its user: aedes reads on only when all messages of a socket read are settled. */
export class AckOrder {
  #waiting: Waiting[] = [];
  #head = 0;

  get size(): number {
    return this.#waiting.length - this.#head;
  }

  /** Takes the next place in the order; `callback` is called once the answer's call and all before it have come. */
  expect(callback: Settle): Settle {
    const place: Waiting = { callback, settled: false, error: null };
    this.#waiting.push(place);
    return (error) => {
      if (place.settled) return;
      place.settled = true;
      place.error = error;
      if (this.#waiting[this.#head] === place) this.#flush();
    };
  }

  #flush(): void {
    for (;;) {
      const place = this.#waiting[this.#head];
      if (place === undefined || !place.settled) break;
      this.#head++;
      place.callback(place.error);
    }
    if (this.#head === this.#waiting.length) {
      this.#waiting = [];
      this.#head = 0;
    } else if (this.#head > 1024) {
      this.#waiting = this.#waiting.slice(this.#head);
      this.#head = 0;
    }
  }
}
