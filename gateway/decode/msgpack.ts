/**
 * MessagePack (github.com/msgpack/msgpack/blob/master/spec.md) from strangers, into the values that parseJson gives.
 *
 * Why not the library that our own batches use: a length of 2^25 in five hostile bytes makes it allocate 256 MB before
 * it looks at what follows. Here every length is compared with the bytes that are left, and depth is bounded.
 */
import { isUtf8 } from 'node:buffer';
import { SluiceError } from '../../shared/errors.ts';
import { WireTime } from './event-time.ts';

/** Containers inside each other; entries and values are bounded again when they are flattened. */
const DEPTH_MAX = 16;

/**
 * @returns null, boolean, number, bigint (beyond 2^53), string, Uint8Array, WireTime, array or object
 * @throws SluiceError ERR_DECODE_SYNTAX, ERR_DECODE_TOO_DEEP
 */
export function parseMsgpack(payload: Buffer): unknown {
  const reader = new MsgpackReader(payload);
  const value = reader.value(0);
  reader.end();
  return value;
}

class MsgpackReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  end(): void {
    if (this.#at !== this.#bytes.length)
      throw new SluiceError('ERR_DECODE_SYNTAX', `MessagePack ends at byte ${this.#at} of ${this.#bytes.length}`);
  }

  value(depth: number): unknown {
    const tag = this.#bytes[this.#take(1)];
    if (tag < 0x80) return tag;
    if (tag < 0x90) return this.#map(tag & 0x0f, depth);
    if (tag < 0xa0) return this.#array(tag & 0x0f, depth);
    if (tag < 0xc0) return this.#string(tag & 0x1f);
    if (tag >= 0xe0) return tag - 0x100;
    return this.#tagged(tag, depth);
  }

  #tagged(tag: number, depth: number): unknown {
    const bytes = this.#bytes;
    switch (tag) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
        return this.#binary(this.#unsigned(1));
      case 0xc5:
        return this.#binary(this.#unsigned(2));
      case 0xc6:
        return this.#binary(this.#unsigned(4));
      case 0xc7:
        return this.#extension(this.#unsigned(1));
      case 0xc8:
        return this.#extension(this.#unsigned(2));
      case 0xc9:
        return this.#extension(this.#unsigned(4));
      case 0xca:
        return bytes.readFloatBE(this.#take(4));
      case 0xcb:
        return bytes.readDoubleBE(this.#take(8));
      case 0xcc:
        return this.#unsigned(1);
      case 0xcd:
        return this.#unsigned(2);
      case 0xce:
        return this.#unsigned(4);
      case 0xcf:
        return exact(bytes.readBigUInt64BE(this.#take(8)));
      case 0xd0:
        return bytes.readInt8(this.#take(1));
      case 0xd1:
        return bytes.readInt16BE(this.#take(2));
      case 0xd2:
        return bytes.readInt32BE(this.#take(4));
      case 0xd3:
        return exact(bytes.readBigInt64BE(this.#take(8)));
      case 0xd4:
        return this.#extension(1);
      case 0xd5:
        return this.#extension(2);
      case 0xd6:
        return this.#extension(4);
      case 0xd7:
        return this.#extension(8);
      case 0xd8:
        return this.#extension(16);
      case 0xd9:
        return this.#string(this.#unsigned(1));
      case 0xda:
        return this.#string(this.#unsigned(2));
      case 0xdb:
        return this.#string(this.#unsigned(4));
      case 0xdc:
        return this.#array(this.#unsigned(2), depth);
      case 0xdd:
        return this.#array(this.#unsigned(4), depth);
      case 0xde:
        return this.#map(this.#unsigned(2), depth);
      case 0xdf:
        return this.#map(this.#unsigned(4), depth);
      default:
        throw new SluiceError('ERR_DECODE_SYNTAX', `MessagePack has no type 0x${tag.toString(16)} (byte ${this.#at - 1})`);
    }
  }

  /** Moves on by `length` and gives where it was. */
  #take(length: number): number {
    const from = this.#at;
    if (length > this.#bytes.length - from) {
      throw new SluiceError(
        'ERR_DECODE_SYNTAX',
        `MessagePack is cut: ${length} bytes wanted at byte ${from}, ${this.#bytes.length - from} left`,
      );
    }
    this.#at = from + length;
    return from;
  }

  #unsigned(size: number): number {
    return this.#bytes.readUIntBE(this.#take(size), size);
  }

  #string(length: number): string {
    const from = this.#take(length);
    const text = this.#bytes.toString('utf8', from, from + length);
    if (text.includes('\ufffd') && !isUtf8(this.#bytes.subarray(from, from + length)))
      throw new SluiceError('ERR_DECODE_SYNTAX', `the MessagePack string at byte ${from} is not UTF-8`);
    return text;
  }

  #binary(length: number): Uint8Array {
    const from = this.#take(length);
    return this.#bytes.subarray(from, from + length);
  }

  #enter(count: number, bytesEach: number, depth: number): void {
    if (depth >= DEPTH_MAX) throw new SluiceError('ERR_DECODE_TOO_DEEP', `MessagePack is nested deeper than ${DEPTH_MAX}`);
    const left = this.#bytes.length - this.#at;
    if (count * bytesEach > left)
      throw new SluiceError('ERR_DECODE_SYNTAX', `MessagePack announces ${count} items where ${left} bytes are left`);
  }

  #array(count: number, depth: number): unknown[] {
    this.#enter(count, 1, depth);
    const array: unknown[] = [];
    for (let index = 0; index < count; index++) array.push(this.value(depth + 1));
    return array;
  }

  #map(count: number, depth: number): Record<string, unknown> {
    this.#enter(count, 2, depth);
    const map: Record<string, unknown> = {};
    for (let index = 0; index < count; index++) {
      const key = this.value(depth + 1);
      if (typeof key !== 'string' && typeof key !== 'number')
        throw new SluiceError('ERR_DECODE_SHAPE', 'a MessagePack map has a key that is neither a string nor a number');
      const value = this.value(depth + 1);
      // Assigning to __proto__ would change the prototype instead of adding a field.
      if (key === '__proto__') Object.defineProperty(map, key, { value, enumerable: true, configurable: true, writable: true });
      else map[key] = value;
    }
    return map;
  }

  /** Type -1 is a timestamp of 32, 64 or 96 bits; what else devices may define is not a reading. */
  #extension(length: number): WireTime {
    const bytes = this.#bytes;
    const type = bytes.readInt8(this.#take(1));
    const from = this.#take(length);
    if (type === -1 && length === 4) return new WireTime(bytes.readUInt32BE(from) * 1_000_000);
    if (type === -1 && length === 8) {
      const high = bytes.readUInt32BE(from);
      const seconds = (high & 3) * 2 ** 32 + bytes.readUInt32BE(from + 4);
      return new WireTime(seconds * 1_000_000 + Math.floor((high >>> 2) / 1000));
    }
    if (type === -1 && length === 12)
      return new WireTime(Number(bytes.readBigInt64BE(from + 4)) * 1_000_000 + Math.floor(bytes.readUInt32BE(from) / 1000));
    throw new SluiceError('ERR_DECODE_SHAPE', `MessagePack extension ${type} of ${length} bytes is not known`);
  }
}

function exact(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
