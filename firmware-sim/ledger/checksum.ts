/**
 * An order-independent checksum of readings: the sum of a 64-bit hash of each, modulo 2^64 in two lanes of 32 bits.
 *
 * A sum, not an exclusive or, so that a reading twice does not cancel itself out. Per reading and lane (a = 0, b = 1):
 *
 *     h = fnv1a(utf8(device) 0x00 utf8(metric), basis = LANE_BASIS[lane])
 *     for each word of [ts mod 2^32, ts div 2^32, low and high word of the value's IEEE 754 bits, text]:
 *       h = mix32((h * 5 + 0xe6546b64) xor word)
 *     sum[lane] = (sum[lane] + h) mod 2^32
 *
 * with `text` = 0 without a text, else fnv1a(utf8(text)) | 1, every NaN as 0x7ff8000000000000, and mix32 the finaliser of
 * MurmurHash3. Written as 16 hex digits, lane a first. It guards against faults, not against an adversary.
 */
import { mix32 } from '../devices/random.ts';

const FNV_PRIME = 0x01000193;
const LANE_BASIS = [0x811c9dc5, 0x5bd1e995] as const;

const encoder = new TextEncoder();
const scratch = new DataView(new ArrayBuffer(8));

function fnv1a(text: string, basis: number): number {
  let h = basis;
  for (const byte of encoder.encode(text)) h = Math.imul(h ^ byte, FNV_PRIME);
  return h >>> 0;
}

function step(h: number, word: number): number {
  return mix32((Math.imul(h, 5) + 0xe6546b64) ^ word);
}

/** The checksum of the readings of one device and metric. */
export class SeriesChecksum {
  readonly #seedA: number;
  readonly #seedB: number;
  #sumA = 0;
  #sumB = 0;

  constructor(device: string, metric: string) {
    this.#seedA = fnv1a(`${device}\u0000${metric}`, LANE_BASIS[0]);
    this.#seedB = fnv1a(`${device}\u0000${metric}`, LANE_BASIS[1]);
  }

  /** @param value NaN for a reading with only a text */
  add(eventTimeUs: number, value: number, text: string | null): void {
    scratch.setFloat64(0, Number.isNaN(value) ? NaN : value);
    const valueHigh = Number.isNaN(value) ? 0x7ff80000 : scratch.getUint32(0);
    const valueLow = Number.isNaN(value) ? 0 : scratch.getUint32(4);
    const textWord = text === null ? 0 : fnv1a(text, LANE_BASIS[0]) | 1;
    const words = [eventTimeUs % 2 ** 32, Math.floor(eventTimeUs / 2 ** 32), valueLow, valueHigh, textWord];
    let a = this.#seedA;
    let b = this.#seedB;
    for (const word of words) {
      a = step(a, word);
      b = step(b, word);
    }
    this.#sumA = (this.#sumA + a) >>> 0;
    this.#sumB = (this.#sumB + b) >>> 0;
  }

  toString(): string {
    return this.#sumA.toString(16).padStart(8, '0') + this.#sumB.toString(16).padStart(8, '0');
  }
}
