/**
 * Byte-wise writing and reading for the blobs that never leave this machine (journal rows, the key log).
 *
 * Both kinds of blob are sealed: a CRC-32 of everything behind it stands in the first four bytes, so that a damaged blob
 * is recognised before a byte of it is believed. A longer one is deflated where that makes it shorter: DEFLATED stands then in
 * the place of its first byte, which no blob begins with otherwise.
 */
import { crc32, deflateRawSync, inflateRawSync } from 'node:zlib';
import { SluiceError } from '../../shared/errors.ts';

const textEncoder = new TextEncoder();
const textDecoder = new TextDecoder();

const CHECKSUM_BYTES = 4;
const DEFLATED = 0xff;
/** Below, a commit's pages are the same with it. */
const DEFLATE_BYTES_MIN = 1_024;
/** The fastest: a third less for rows and keys of single readings, at about 80 MB/s. */
const DEFLATE_LEVEL = 1;
/** A group has at most some 32 MiB (readings and bytes that wait). */
const INFLATED_BYTES_MAX = 256 * 1024 * 1024;

export class ByteWriter {
  #bytes: Uint8Array;
  #view: DataView;
  #length = CHECKSUM_BYTES;

  constructor(capacity = 4096) {
    this.#bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.#bytes.buffer);
  }

  #reserve(bytes: number): void {
    if (this.#length + bytes <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + bytes));
    grown.set(this.#bytes);
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }

  byte(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
  }

  /** LEB128 of an integer in 0 … 2^53 - 1: 1 to 8 bytes. */
  varint(value: number): void {
    this.#reserve(8);
    let rest = value;
    while (rest >= 0x80000000) {
      this.#bytes[this.#length++] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    while (rest >= 128) {
      this.#bytes[this.#length++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    this.#bytes[this.#length++] = rest;
  }

  /** A signed integer, |value| < 2^52. */
  zigzag(value: number): void {
    this.varint(value >= 0 ? value * 2 : -value * 2 - 1);
  }

  double(value: number): void {
    this.#reserve(8);
    this.#view.setFloat64(this.#length, value, true);
    this.#length += 8;
  }

  /** 32 bits. */
  word(value: number): void {
    this.#reserve(4);
    this.#view.setUint32(this.#length, value, true);
    this.#length += 4;
  }

  text(value: string): void {
    const encoded = textEncoder.encode(value);
    this.varint(encoded.length);
    this.#reserve(encoded.length);
    this.#bytes.set(encoded, this.#length);
    this.#length += encoded.length;
  }

  /** The blob with its checksum, a view that the next `start` overwrites. */
  finish(): Uint8Array {
    this.#view.setUint32(0, crc32(this.#bytes.subarray(CHECKSUM_BYTES, this.#length)), true);
    return this.#bytes.subarray(0, this.#length);
  }

  /** As `finish`, deflated if that is shorter. */
  finishShort(): Uint8Array {
    if (this.#length < DEFLATE_BYTES_MIN) return this.finish();
    const deflated = deflateRawSync(this.#bytes.subarray(CHECKSUM_BYTES, this.#length), { level: DEFLATE_LEVEL });
    const headBytes = CHECKSUM_BYTES + 1;
    if (headBytes + deflated.length >= this.#length) return this.finish();
    this.#bytes[CHECKSUM_BYTES] = DEFLATED;
    this.#bytes.set(deflated, headBytes);
    this.#length = headBytes + deflated.length;
    return this.finish();
  }

  start(): void {
    this.#length = CHECKSUM_BYTES;
  }
}

function inflate(deflated: Uint8Array): Uint8Array {
  try {
    return inflateRawSync(deflated, { maxOutputLength: INFLATED_BYTES_MAX });
  } catch (cause) {
    throw new SluiceError('ERR_JOURNAL_DAMAGED', `a blob of ${deflated.length} bytes cannot be inflated`, { cause });
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset = CHECKSUM_BYTES;

  /** @throws SluiceError ERR_JOURNAL_DAMAGED when the checksum does not fit. */
  constructor(bytes: Uint8Array) {
    if (bytes.length < CHECKSUM_BYTES || viewOf(bytes).getUint32(0, true) !== crc32(bytes.subarray(CHECKSUM_BYTES))) {
      throw new SluiceError('ERR_JOURNAL_DAMAGED', `a blob of ${bytes.length} bytes does not fit its checksum`);
    }
    const isDeflated = bytes[CHECKSUM_BYTES] === DEFLATED;
    this.#bytes = isDeflated ? inflate(bytes.subarray(CHECKSUM_BYTES + 1)) : bytes;
    if (isDeflated) this.#offset = 0;
    this.#view = viewOf(this.#bytes);
  }

  #take(bytes: number): number {
    const offset = this.#offset;
    if (offset + bytes > this.#bytes.length) {
      throw new SluiceError(
        'ERR_JOURNAL_DAMAGED',
        `a blob of ${this.#bytes.length} bytes ends ${offset + bytes - this.#bytes.length} bytes early`,
      );
    }
    this.#offset = offset + bytes;
    return offset;
  }

  byte(): number {
    return this.#bytes[this.#take(1)];
  }

  varint(): number {
    let value = 0;
    let scale = 1;
    for (let index = 0; index < 8; index++) {
      const byte = this.byte();
      value += (byte & 127) * scale;
      if (byte < 128) return value;
      scale *= 128;
    }
    throw new SluiceError('ERR_JOURNAL_DAMAGED', 'a varint has more than 8 bytes');
  }

  zigzag(): number {
    const value = this.varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  double(): number {
    return this.#view.getFloat64(this.#take(8), true);
  }

  word(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  text(): string {
    const length = this.varint();
    const offset = this.#take(length);
    return textDecoder.decode(this.#bytes.subarray(offset, offset + length));
  }

  /** A count of things that take at least a byte each, so that a wrong one cannot ask for more memory than the blob explains. */
  count(): number {
    const value = this.varint();
    if (value > this.#bytes.length - this.#offset) {
      throw new SluiceError('ERR_JOURNAL_DAMAGED', `a blob of ${this.#bytes.length} bytes claims ${value} elements`);
    }
    return value;
  }
}
