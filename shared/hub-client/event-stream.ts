/**
 * Server-sent events out of a byte stream (WHATWG HTML, 9.2.6).
 *
 * Not EventSource: that cannot send the token's header, and Node 20 has none.
 */

export interface StreamEvent {
  readonly name: string;
  readonly data: string;
  /** Of this event or the newest before it that had one; '' as long as none had. */
  readonly id: string;
}

/** An event is a page of rows; a line that never ends is not one. */
const BUFFER_CHARACTERS_MAX = 8_000_000;

export class EventStreamParser {
  #rest = '';
  #name = '';
  #id = '';
  #data: string[] = [];
  #dataCharacters = 0;

  /**
   * @returns the events that are complete now
   * @throws Error if an event is larger than allowed
   */
  push(text: string): StreamEvent[] {
    // A CR at the end may be half of a CRLF: it waits for what follows.
    const all = this.#rest + text;
    const lines = all.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? '';
    const events: StreamEvent[] = [];
    for (const line of lines) {
      const event = this.#line(line);
      if (event !== null) events.push(event);
    }
    if (this.#rest.length + this.#dataCharacters > BUFFER_CHARACTERS_MAX) {
      throw new Error(`an event of the stream has more than ${BUFFER_CHARACTERS_MAX} characters`);
    }
    return events;
  }

  #line(line: string): StreamEvent | null {
    if (line === '') {
      const name = this.#name === '' ? 'message' : this.#name;
      const event = this.#data.length === 0 ? null : { name, data: this.#data.join('\n'), id: this.#id };
      this.#name = '';
      this.#data = [];
      this.#dataCharacters = 0;
      return event;
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') this.#name = value;
    if (field === 'id' && !value.includes('\u0000')) this.#id = value;
    if (field === 'data') {
      this.#data.push(value);
      this.#dataCharacters += value.length;
    }
    return null;
  }
}
