/**
 * Payloads of a simulated device, made once and patched in place: event time and values change with every message, so that
 * nothing behind the broker gets easier data than a fleet would send, and the generator stays cheap.
 */

const METRICS = ['temperature', 'humidity', 'pressure', 'battery_voltage'] as const;
const TIME_DIGITS = 13; // ms since the epoch, until the year 2286

/**
 * One reading: `{"ts":…,"temperature":20.51}`; n × 4 readings: an array of n objects with four metrics, a second apart.
 *
 * @param readings 1, or a multiple of 4
 */
export class Payload {
  readonly bytes: Buffer;
  readonly #timesAt: readonly number[];
  readonly #valuesAt: readonly number[];
  readonly #walks: Int32Array;
  #random: number;

  constructor(readings: number, seed: number) {
    const metrics = readings === 1 ? METRICS.slice(0, 1) : METRICS;
    const fields = metrics.map((metric) => `"${metric}":VV.VV`).join(',');
    const objects = Array.from({ length: readings / metrics.length }, () => `{"ts":${'T'.repeat(TIME_DIGITS)},${fields}}`);
    const text = objects.length === 1 ? objects[0] : `[${objects.join(',')}]`;
    this.bytes = Buffer.from(text);
    this.#timesAt = [...text.matchAll(/T{13}/g)].map(({ index }) => index);
    this.#valuesAt = [...text.matchAll(/VV\.VV/g)].map(({ index }) => index);
    this.#walks = new Int32Array(readings);
    this.#random = (seed * 2654435761 + 1) >>> 0;
    for (let i = 0; i < readings; i++) this.#walks[i] = 2000 + (this.#next() % 6000);
  }

  /** Writes the payload of a message that is sent now. */
  writeTo(out: Buffer, at: number, nowMs: number): void {
    this.bytes.copy(out, at);
    const count = this.#timesAt.length;
    for (let i = 0; i < count; i++) writeDigits(out, at + this.#timesAt[i], TIME_DIGITS, nowMs - (count - 1 - i) * 1000);
    for (let i = 0; i < this.#valuesAt.length; i++) {
      const walk = Math.min(9999, Math.max(1000, this.#walks[i] + (this.#next() % 3) - 1));
      this.#walks[i] = walk;
      const place = at + this.#valuesAt[i];
      writeDigits(out, place, 2, Math.floor(walk / 100));
      writeDigits(out, place + 3, 2, walk % 100);
    }
  }

  /** xorshift32. */
  #next(): number {
    let x = this.#random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#random = x >>> 0;
    return this.#random;
  }
}

/** Decimal digits with leading zeros, without making a string. */
export function writeDigits(out: Buffer, at: number, width: number, value: number): void {
  let rest = value;
  for (let place = at + width - 1; place >= at; place--) {
    const tenth = Math.floor(rest / 10);
    out[place] = 0x30 + (rest - tenth * 10);
    rest = tenth;
  }
}
