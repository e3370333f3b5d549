/**
 * Bytes in order: a growing writer and a bounded reader, with the scalars of MessagePack that batches use
 * (integers, nil, str, bin, array headers; https://github.com/msgpack/msgpack/blob/master/spec.md).
 *
 * Written by hand rather than with msgpackr for three reasons: a batch must be encoded to the same bytes everywhere
 * (test vectors), a hostile length must be checked before it is allocated, and most of a batch is raw columns.
 */
import { SluiceError, type ErrorCode } from '../errors.ts';

const TWO_32 = 2 ** 32;

export class ByteWriter {
  #bytes = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);
  length = 0;

  /** Room for `size` bytes; answers the array and where the room starts. The array is valid until the next call. */
  reserve(size: number): { bytes: Uint8Array; offset: number } {
    const offset = this.length;
    this.#room(size);
    this.length += size;
    return { bytes: this.#bytes, offset };
  }

  append(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  byte(value: number): void {
    this.#room(1);
    this.#bytes[this.length++] = value;
  }

  /** A safe integer in its shortest MessagePack form. */
  integer(value: number): void {
    this.#room(9);
    if (value >= 0) {
      if (value < 0x80) this.byte(value);
      else if (value <= 0xff) this.#tagged(0xcc, 1, value);
      else if (value <= 0xffff) this.#tagged(0xcd, 2, value);
      else if (value < TWO_32) this.#tagged(0xce, 4, value);
      else this.#wide(0xcf, value);
    } else if (value >= -32) this.byte(value & 0xff);
    else if (value >= -0x80) this.#tagged(0xd0, 1, value);
    else if (value >= -0x8000) this.#tagged(0xd1, 2, value);
    else if (value >= -0x80000000) this.#tagged(0xd2, 4, value);
    else this.#wide(0xd3, value);
  }

  /** Four bytes, most significant first, without a type byte. */
  uint32(value: number): void {
    this.#room(4);
    this.#view.setUint32(this.length, value);
    this.length += 4;
  }

  nil(): void {
    this.byte(0xc0);
  }

  arrayHeader(length: number): void {
    this.#room(5);
    if (length < 16) this.byte(0x90 | length);
    else if (length <= 0xffff) this.#tagged(0xdc, 2, length);
    else this.#tagged(0xdd, 4, length);
  }

  string(utf8: Uint8Array): void {
    this.#room(5);
    if (utf8.length < 32) this.byte(0xa0 | utf8.length);
    else if (utf8.length <= 0xff) this.#tagged(0xd9, 1, utf8.length);
    else if (utf8.length <= 0xffff) this.#tagged(0xda, 2, utf8.length);
    else this.#tagged(0xdb, 4, utf8.length);
    this.append(utf8);
  }

  binary(bytes: Uint8Array): void {
    this.#room(5);
    if (bytes.length <= 0xff) this.#tagged(0xc4, 1, bytes.length);
    else if (bytes.length <= 0xffff) this.#tagged(0xc5, 2, bytes.length);
    else this.#tagged(0xc6, 4, bytes.length);
    this.append(bytes);
  }

  /** What was written so far, without a copy: valid until the next write. */
  view(): Uint8Array {
    return this.#bytes.subarray(0, this.length);
  }

  #room(size: number): void {
    if (this.length + size <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.length + size));
    grown.set(this.view());
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }

  #tagged(tag: number, size: 1 | 2 | 4, value: number): void {
    this.#bytes[this.length] = tag;
    if (size === 1) this.#view.setUint8(this.length + 1, value);
    else if (size === 2) this.#view.setUint16(this.length + 1, value);
    else this.#view.setUint32(this.length + 1, value);
    this.length += 1 + size;
  }

  #wide(tag: number, value: number): void {
    this.#bytes[this.length] = tag;
    this.#view.setInt32(this.length + 1, Math.floor(value / TWO_32));
    this.#view.setUint32(this.length + 5, value >>> 0);
    this.length += 9;
  }
}

export class ByteReader {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  readonly #endCode: ErrorCode;
  offset: number;

  /** @param endCode the error of a read behind the end: truncated for an envelope, malformed inside a checked body. */
  constructor(bytes: Uint8Array, offset: number, endCode: ErrorCode) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.offset = offset;
    this.#endCode = endCode;
  }

  get remaining(): number {
    return this.bytes.length - this.offset;
  }

  /** Moves over `size` bytes that must be there; answers where they start. */
  take(size: number): number {
    if (size > this.remaining) {
      throw new SluiceError(this.#endCode, `batch: ${size} bytes wanted at ${this.offset}, ${this.remaining} are left`);
    }
    const start = this.offset;
    this.offset += size;
    return start;
  }

  byte(): number {
    return this.bytes[this.take(1)];
  }

  /** An integer in any MessagePack form, in [lowest, highest] (safe integers both). */
  integer(what: string, lowest: number, highest: number): number {
    const value = this.#anyInteger(what);
    if (value < lowest || value > highest) throw malformed(`${what} is ${value}, allowed is ${lowest}..${highest}`);
    return value;
  }

  arrayHeader(what: string): number {
    const tag = this.byte();
    if ((tag & 0xf0) === 0x90) return tag & 0x0f;
    if (tag === 0xdc) return this.#view.getUint16(this.take(2));
    if (tag === 0xdd) return this.#view.getUint32(this.take(4));
    throw malformed(`${what}: an array is wanted, got type byte ${hex(tag)}`);
  }

  /** True, and moves on, if nil stands here. */
  nil(): boolean {
    if (this.remaining === 0 || this.bytes[this.offset] !== 0xc0) return false;
    this.offset += 1;
    return true;
  }

  /** The UTF-8 bytes of a str of at most `bytesMax`; a view. */
  string(what: string, bytesMax: number): Uint8Array {
    const tag = this.byte();
    if ((tag & 0xe0) === 0xa0) return this.#sized(what, tag & 0x1f, bytesMax);
    if (tag >= 0xd9 && tag <= 0xdb) return this.#sized(what, this.#length(tag - 0xd9), bytesMax);
    throw malformed(`${what}: a string is wanted, got type byte ${hex(tag)}`);
  }

  /** The bytes of a bin of at most `bytesMax`; a view. */
  binary(what: string, bytesMax: number): Uint8Array {
    const tag = this.byte();
    if (tag >= 0xc4 && tag <= 0xc6) return this.#sized(what, this.#length(tag - 0xc4), bytesMax);
    throw malformed(`${what}: bytes are wanted, got type byte ${hex(tag)}`);
  }

  #length(sizeLog2: number): number {
    if (sizeLog2 === 0) return this.byte();
    return sizeLog2 === 1 ? this.#view.getUint16(this.take(2)) : this.#view.getUint32(this.take(4));
  }

  #sized(what: string, length: number, bytesMax: number): Uint8Array {
    if (length > bytesMax) throw tooLarge(`${what} has ${length} bytes, allowed are ${bytesMax}`);
    const start = this.take(length);
    return this.bytes.subarray(start, start + length);
  }

  #anyInteger(what: string): number {
    const tag = this.byte();
    if (tag < 0x80) return tag;
    if (tag >= 0xe0) return tag - 0x100;
    switch (tag) {
      case 0xcc:
        return this.byte();
      case 0xcd:
        return this.#view.getUint16(this.take(2));
      case 0xce:
        return this.#view.getUint32(this.take(4));
      case 0xd0:
        return this.#view.getInt8(this.take(1));
      case 0xd1:
        return this.#view.getInt16(this.take(2));
      case 0xd2:
        return this.#view.getInt32(this.take(4));
      case 0xcf:
      case 0xd3: {
        const start = this.take(8);
        const high = tag === 0xcf ? this.#view.getUint32(start) : this.#view.getInt32(start);
        const value = high * TWO_32 + this.#view.getUint32(start + 4);
        if (!Number.isSafeInteger(value)) throw malformed(`${what} is beyond 2^53`);
        return value;
      }
      default:
        throw malformed(`${what}: an integer is wanted, got type byte ${hex(tag)}`);
    }
  }
}

export function malformed(what: string, cause?: unknown): SluiceError {
  return new SluiceError('ERR_BATCH_MALFORMED', `batch: ${what}`, cause === undefined ? undefined : { cause });
}

export function tooLarge(what: string): SluiceError {
  return new SluiceError('ERR_BATCH_TOO_LARGE', `batch: ${what}`);
}

/** For encoders: content that the format cannot say. */
export function badContent(what: string): SluiceError {
  return new SluiceError('ERR_BATCH_CONTENT', `batch: ${what}`);
}

function hex(byte: number): string {
  return `0x${byte.toString(16).padStart(2, '0')}`;
}
