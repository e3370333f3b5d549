/**
 * A growing run of bytes, reused from page to page.
 *
 * `bytes` may be replaced by any call that writes or reserves: hold it only between such calls.
 */
export class ByteSink {
  bytes: Buffer;
  length = 0;

  constructor(capacity = 1024) {
    this.bytes = Buffer.allocUnsafeSlow(capacity);
  }

  reset(): void {
    this.length = 0;
  }

  /** Makes room for `extra` more bytes. */
  reserve(extra: number): void {
    const wanted = this.length + extra;
    if (wanted <= this.bytes.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(wanted, this.bytes.length * 2));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
  }

  /** What was written, as a view that the next write may overwrite. */
  view(): Buffer {
    return this.bytes.subarray(0, this.length);
  }

  /** What was written, as bytes of their own. */
  take(): Uint8Array<ArrayBuffer> {
    const taken = new Uint8Array(this.length);
    taken.set(this.view());
    return taken;
  }

  byte(value: number): void {
    this.reserve(1);
    this.bytes[this.length++] = value;
  }

  raw(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  uint32(value: number): void {
    this.reserve(4);
    this.bytes.writeUInt32LE(value, this.length);
    this.length += 4;
  }

  /** Overwrites four bytes written before. */
  uint32At(offset: number, value: number): void {
    this.bytes.writeUInt32LE(value, offset);
  }

  /** Unsigned LEB128 of an integer from 0 to 2^53. */
  varint(value: number): void {
    this.reserve(8);
    let rest = value;
    while (rest >= 0x80) {
      this.bytes[this.length++] = (rest & 0x7f) | 0x80; // & works modulo 2^32, which keeps the low bits
      rest = Math.floor(rest / 128);
    }
    this.bytes[this.length++] = rest;
  }

  /** Zigzag LEB128 of an integer with |value| ≤ 2^53, in 64-bit arithmetic made of two halves. */
  zigzag(value: number): void {
    const high = Math.floor(value / 0x1_0000_0000) | 0;
    const low = value | 0;
    const sign = high >> 31;
    let zigzagLow = ((low << 1) ^ sign) >>> 0;
    let zigzagHigh = (((high << 1) | (low >>> 31)) ^ sign) >>> 0;
    this.reserve(10);
    while (zigzagHigh !== 0 || zigzagLow >= 0x80) {
      this.bytes[this.length++] = (zigzagLow & 0x7f) | 0x80;
      zigzagLow = ((zigzagLow >>> 7) | (zigzagHigh << 25)) >>> 0;
      zigzagHigh >>>= 7;
    }
    this.bytes[this.length++] = zigzagLow;
  }

  /** The text as UTF-8 with its byte length in front, as PLAIN BYTE_ARRAY has it; lone surrogates become U+FFFD. */
  plainString(text: string): void {
    this.reserve(4 + text.length * 3); // a UTF-16 unit takes at most three bytes of UTF-8
    const start = this.length + 4;
    const length = text.length > 64 ? this.bytes.write(text, start, 'utf8') : this.#shortText(text, start);
    this.bytes.writeUInt32LE(length, this.length);
    this.length = start + length;
  }

  /** For short ASCII a loop is several times as fast as the call into C++. */
  #shortText(text: string, start: number): number {
    const bytes = this.bytes;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code >= 0x80) return bytes.write(text, start, 'utf8');
      bytes[start + i] = code;
    }
    return text.length;
  }
}
