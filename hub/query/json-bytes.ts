/** Text that is made of many short parts, written as bytes: no string of its own for a part, nothing for the collector. */

/** A loop over so few bytes is cheaper than a call. */
const LOOP_BYTES_MAX = 48;
/** Of a double as text. */
const NUMBER_BYTES_MAX = 32;

export class JsonBytes {
  #bytes: Uint8Array;
  #length = 0;

  /** @param bytesGuess what it may become; it grows */
  constructor(bytesGuess: number) {
    this.#bytes = Buffer.allocUnsafeSlow(Math.max(64, bytesGuess));
  }

  get length(): number {
    return this.#length;
  }

  text(text: string): void {
    this.bytes(Buffer.from(text));
  }

  bytes(part: Uint8Array): void {
    this.#reserve(part.length);
    if (part.length > LOOP_BYTES_MAX) this.#bytes.set(part, this.#length);
    else for (let index = 0; index < part.length; index++) this.#bytes[this.#length + index] = part[index];
    this.#length += part.length;
  }

  /** As JSON has it. @param value finite */
  number(value: number | null): void {
    const text = value === null ? 'null' : String(value);
    this.#reserve(NUMBER_BYTES_MAX);
    for (let index = 0; index < text.length; index++) this.#bytes[this.#length + index] = text.charCodeAt(index);
    this.#length += text.length;
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#length + count));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
  }

  /** What was written; write no more. */
  take(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }
}
