/** Text that is made of many short parts, written as bytes: no string of its own for a part, nothing for the collector. */

/** A loop over so few bytes is cheaper than a call. */
const LOOP_BYTES_MAX = 32;
/** Of a double as text. */
const NUMBER_BYTES_MAX = 32;
/** Nine digits before the point and four behind it are 13 of the 15 that a double keeps. */
const WHOLE_MAX = 1e9;
const PLACES_MAX = 4;
const ZERO = 0x30;
const MINUS = 0x2d;
const POINT = 0x2e;

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
    const count = part.length;
    this.#reserve(count);
    const at = this.#length;
    if (count > LOOP_BYTES_MAX) this.#bytes.set(part, at);
    else {
      const bytes = this.#bytes;
      for (let index = 0; index < count; index++) bytes[at + index] = part[index];
    }
    this.#length = at + count;
  }

  /** As JSON has it. @param value finite */
  number(value: number | null): void {
    this.#reserve(NUMBER_BYTES_MAX);
    if (value !== null && this.#decimal(value)) return;
    const text = value === null ? 'null' : String(value);
    const bytes = this.#bytes;
    const at = this.#length;
    for (let index = 0; index < text.length; index++) bytes[at + index] = text.charCodeAt(index);
    this.#length = at + text.length;
  }

  /**
   * Of a few digits, as what is counted and most of what is measured: a third of what String takes.
   *
   * The same text. A decimal of up to 15 digits and its double are one to one (IEEE 754, DBL_DIG), and the quotient of two integers
   * below 2^53 is the double next to it: so no other text of as few digits is this number, and that is the one that String has.
   *
   * @returns false: it is of more digits
   */
  #decimal(value: number): boolean {
    const size = Math.abs(value);
    if (!(size < WHOLE_MAX)) return false;
    let scale = 1;
    let places = 0;
    let digits = Math.round(size);
    while (digits / scale !== size) {
      if (++places > PLACES_MAX) return false;
      scale *= 10;
      digits = Math.round(size * scale);
    }
    const bytes = this.#bytes;
    let at = this.#length;
    if (value < 0) bytes[at++] = MINUS;
    const whole = Math.floor(digits / scale);
    at = writeDigits(bytes, at, whole, digitsOf(whole));
    if (places > 0) {
      bytes[at++] = POINT;
      at = writeDigits(bytes, at, digits - whole * scale, places);
    }
    this.#length = at;
    return true;
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

/** @param value an integer of [0, 2^31) */
function digitsOf(value: number): number {
  let count = 1;
  for (let limit = 10; value >= limit; limit *= 10) count++;
  return count;
}

/** @returns where they end */
function writeDigits(bytes: Uint8Array, from: number, value: number, count: number): number {
  let left = value | 0;
  for (let at = from + count - 1; at >= from; at--) {
    const tenth = (left / 10) | 0;
    bytes[at] = ZERO + left - tenth * 10;
    left = tenth;
  }
  return from + count;
}
