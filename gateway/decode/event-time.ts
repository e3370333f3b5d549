/**
 * Event times as devices write them: numbers in s, ms, µs or ns since the Unix epoch, or RFC 3339 strings.
 *
 * A rule names the unit, or the first plausible number does ('auto') and then it stands for that topic: a unit that was
 * guessed anew for each message would let a wrong time pass as a right one of another unit.
 */
import { SluiceError } from '../../shared/errors.ts';
import { EVENT_TIME_MIN_US } from '../../shared/reading.ts';

export const TIME_UNITS = ['s', 'ms', 'us', 'ns'] as const;
export type TimeUnit = (typeof TIME_UNITS)[number];

/** What the wire format carries (years 1827 to 2112). */
const TIME_US_MAX = 2 ** 52 - 1;

const US_PER_UNIT: Readonly<Record<TimeUnit, number>> = { s: 1_000_000, ms: 1_000, us: 1, ns: 0.001 };

/** Between plausible times of neighbouring units lie three orders of magnitude; these bounds lie in the middle. */
function unitByMagnitude(value: number): TimeUnit {
  const size = Math.abs(value);
  return size < 1e11 ? 's' : size < 1e14 ? 'ms' : size < 1e17 ? 'us' : 'ns';
}

function refuse(value: unknown, why: string): never {
  throw new SluiceError('ERR_DECODE_TIME', `time ${String(value).slice(0, 64)}: ${why}`);
}

function inRange(us: number, value: unknown): number {
  if (!(Math.abs(us) <= TIME_US_MAX)) refuse(value, 'it is outside the years 1827 to 2112');
  return us;
}

/** @returns integer µs since the epoch */
export function fromNumber(value: number, unit: TimeUnit): number {
  // Dividing by 1000 is exact to the last bit where multiplying by 0.001 is not.
  return inRange(unit === 'ns' ? Math.floor(value / 1000) : Math.round(value * US_PER_UNIT[unit]), value);
}

/** Exact for every integer: nanoseconds have more digits than a double. */
export function fromBigInt(value: bigint, unit: TimeUnit): number {
  const us = unit === 'ns' ? (value - (((value % 1000n) + 1000n) % 1000n)) / 1000n : value * BigInt(US_PER_UNIT[unit]);
  return inRange(Number(us), value);
}

const RFC3339 = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,12}))?([Zz]|[+-]\d\d:?\d\d)?$/;

/** An RFC 3339 date-time with up to µs kept (further digits are cut). */
export function fromRfc3339(text: string): number {
  const match = RFC3339.exec(text);
  if (match === null) refuse(JSON.stringify(text), 'neither a number nor an RFC 3339 string');
  const [, year, month, day, hour, minute, second, fraction, zone] = match as unknown as string[];
  if (zone === undefined) refuse(JSON.stringify(text), 'the zone is missing (Z or +01:00)');
  const seconds = Math.min(Number(second), 59); // a leap second counts as the second before it
  const ms = Date.UTC(Number(year), Number(month) - 1, Number(day), Number(hour), Number(minute), seconds);
  const date = new Date(ms);
  const fits =
    date.getUTCMonth() === Number(month) - 1 &&
    date.getUTCDate() === Number(day) &&
    Number(hour) < 24 &&
    Number(minute) < 60 &&
    Number(second) <= 60;
  if (!fits) refuse(JSON.stringify(text), 'there is no such date or time of day');
  let offsetMinutes = 0;
  if (zone !== 'Z' && zone !== 'z') {
    const digits = zone.replace(':', '');
    offsetMinutes = (digits[0] === '-' ? -1 : 1) * (Number(digits.slice(1, 3)) * 60 + Number(digits.slice(3, 5)));
  }
  const us = fraction === undefined ? 0 : Number(fraction.slice(0, 6).padEnd(6, '0'));
  return inRange((ms - offsetMinutes * 60_000) * 1000 + us, text);
}

export class EventTimeReader {
  #unit: TimeUnit | null;

  constructor(unit: TimeUnit | 'auto') {
    this.#unit = unit === 'auto' ? null : unit;
  }

  /**
   * @param value as it stands in the payload; undefined and null: the device sent none
   * @returns integer µs, NaN for none
   * @throws SluiceError ERR_DECODE_TIME
   */
  read(value: unknown): number {
    if (typeof value === 'number') {
      if (!Number.isFinite(value)) refuse(value, 'it is not finite');
      return fromNumber(value, this.#unitFor(value));
    }
    if (value === undefined || value === null) return NaN;
    if (typeof value === 'bigint') return fromBigInt(value, this.#unitFor(Number(value)));
    if (typeof value === 'string') {
      if (/^-?\d{16,22}$/.test(value)) return this.read(BigInt(value));
      if (/^-?\d{1,15}(\.\d+)?$/.test(value)) return this.read(Number(value));
      return fromRfc3339(value);
    }
    if (value instanceof WireTime) return inRange(value.us, value.us);
    return refuse(typeof value, 'neither a number nor a string');
  }

  #unitFor(value: number): TimeUnit {
    if (this.#unit !== null) return this.#unit;
    const unit = unitByMagnitude(value);
    // A counter from boot is not a clock: it is read by its size, but teaches nothing.
    if (value * US_PER_UNIT[unit] >= EVENT_TIME_MIN_US) this.#unit = unit;
    return unit;
  }
}

/** A time that its format marks as one (MessagePack's timestamp extension). */
export class WireTime {
  readonly us: number;

  constructor(us: number) {
    this.us = us;
  }
}
