/**
 * Rows of /v1/aggregates as bytes: what the rows of a group have in common is made once, and copied.
 *
 * Member by member what aggregate-document.ts has as text (tests compare the two).
 */
import type { AggregateFunction } from '../../shared/window/partial.ts';
import type { GroupKey } from '../../shared/window/partial-columns.ts';
import { formatTime } from '../http/times.ts';
import { groupText, memberNames, statusMembers, windowText, type RowStatus } from './aggregate-document.ts';
import type { JsonBytes } from './json-bytes.ts';

const DAY_SECONDS = 86_400;
const ZERO = 0x30;
/** 2026-01-02T03:04:05Z */
const TIME_TEXT = 'YYYY-MM-DDT00:00:00Z';
const DAY_BYTES = 11;
const WHOLE_US_MAX = Date.UTC(9999, 11, 31) * 1000;

/** A time of whole seconds at its place in other bytes; of neighbours, mostly of one day, only the digits that differ are written. */
class TimeAt {
  readonly #bytes: Buffer;
  readonly #at: number;
  #day = NaN;
  #hour = 0;
  #minute = 0;
  #second = 0;

  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes;
    this.#at = at;
  }

  /** As formatTime. @param us one that `isWhole` */
  set(us: number): void {
    const seconds = us / 1_000_000;
    const day = Math.floor(seconds / DAY_SECONDS);
    if (day !== this.#day) this.#bytes.write(formatTime(day * DAY_SECONDS * 1_000_000), this.#at, DAY_BYTES, 'latin1');
    this.#day = day;
    const left = seconds - day * DAY_SECONDS;
    const hour = Math.floor(left / 3600);
    const minute = Math.floor(left / 60) % 60;
    const second = left % 60;
    if (hour !== this.#hour) this.#digits(11, (this.#hour = hour));
    if (minute !== this.#minute) this.#digits(14, (this.#minute = minute));
    if (second !== this.#second) this.#digits(17, (this.#second = second));
  }

  #digits(at: number, value: number): void {
    const tens = Math.floor(value / 10);
    this.#bytes[this.#at + at] = ZERO + tens;
    this.#bytes[this.#at + at + 1] = ZERO + value - tens * 10;
  }
}

/** Other times have a fraction, or a year of other digits. */
function isWhole(us: number): boolean {
  return us >= 0 && us <= WHOLE_US_MAX && us % 1_000_000 === 0;
}

/** How the rows of one group begin: their window and their group. */
export class RowHead {
  readonly #bytes: Buffer;
  readonly #group: Buffer;
  readonly #start: TimeAt;
  readonly #end: TimeAt;

  constructor(group: GroupKey) {
    const text = `{${windowText(TIME_TEXT, TIME_TEXT)},`;
    this.#group = Buffer.from(groupText(group));
    this.#bytes = Buffer.concat([Buffer.from(text), this.#group]);
    this.#start = new TimeAt(this.#bytes, text.indexOf(TIME_TEXT));
    this.#end = new TimeAt(this.#bytes, text.lastIndexOf(TIME_TEXT));
  }

  write(out: JsonBytes, startUs: number, endUs: number): void {
    if (isWhole(startUs) && isWhole(endUs)) {
      this.#start.set(startUs);
      this.#end.set(endUs);
      out.bytes(this.#bytes);
    } else {
      out.text(`{${windowText(formatTime(startUs), formatTime(endUs))},`);
      out.bytes(this.#group);
    }
  }
}

const COMMA = Buffer.from(',');

/** Rows one after the other, with commas in between. */
export class RowBytes {
  readonly #out: JsonBytes;
  readonly #names: readonly Uint8Array[];
  #count = 0;
  #status: RowStatus | null = null;
  #statusBytes: Uint8Array = Buffer.alloc(0);

  constructor(out: JsonBytes, functions: readonly AggregateFunction[]) {
    this.#out = out;
    this.#names = memberNames(functions).map((name) => Buffer.from(name));
  }

  /** Then a value for each function, then `end`. */
  begin(head: RowHead, startUs: number, endUs: number): void {
    if (this.#count++ > 0) this.#out.bytes(COMMA);
    head.write(this.#out, startUs, endUs);
  }

  /** @param value NaN and the infinities are null: they are no JSON */
  value(index: number, value: number | null): void {
    this.#out.bytes(this.#names[index]);
    this.#out.number(value !== null && value - value === 0 ? value : null);
  }

  end(status: RowStatus): void {
    if (this.#status === null || !isSame(status, this.#status)) {
      this.#statusBytes = Buffer.from(statusMembers(status));
      this.#status = status;
    }
    this.#out.bytes(this.#statusBytes);
  }
}

function isSame(a: RowStatus, b: RowStatus): boolean {
  return (
    a.status === b.status &&
    a.revision === b.revision &&
    a.late === b.late &&
    a.lost === b.lost &&
    a.lostIsEstimate === b.lostIsEstimate &&
    a.complete === b.complete
  );
}
