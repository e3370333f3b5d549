/**
 * Influx line protocol: `measurement,tag=value field=1.5,other=2i 1465839830100400200`.
 *
 * The metric is `measurement.field`; the first of `deviceTags` that a line has names the device unless topic or request
 * do; the others stay tags. A line is taken or refused as a whole, and a refused line harms no other.
 *
 * Escapes: `\,` and `\ ` in measurements; `\,` `\=` `\ ` in tag keys, tag values and field keys; `\"` and `\\` in
 * strings. A backslash before anything else stands for itself. Strings may hold line breaks.
 */
import { SluiceError, isSluiceError } from '../../shared/errors.ts';
import { fromBigInt, fromNumber, type EventTimeReader, type TimeUnit } from './event-time.ts';
import { ENTRY_FIELDS_MAX } from './limits.ts';
import { checkName, checkedTags } from './names.ts';
import type { ReadingWriter } from './reading-writer.ts';
import type { MetricNode, SeriesScope, SeriesScopes } from './series-scope.ts';
import type { TwoGenerationCache } from './two-generation-cache.ts';

/** What one `measurement,tags` prefix stands for. */
export interface LineSeries {
  readonly scope: SeriesScope;
  readonly measurement: MetricNode;
}

export interface LineContext {
  readonly writer: ReadingWriter;
  readonly scopes: SeriesScopes;
  /** Device and tags from topic or request; null: from the line. */
  readonly scope: SeriesScope | null;
  readonly deviceTags: readonly string[];
  /** Prefixes that were seen: the same line prefix stands in every body of a Telegraf. */
  readonly known: TwoGenerationCache<string, LineSeries>;
  readonly time: EventTimeReader | LinePrecision;
}

/** Minutes and hours exist in the write API of InfluxDB 1. */
export type LinePrecision = TimeUnit | 'm' | 'h';

const COMMA = 44;
const EQUALS = 61;
const SPACE = 32;
const NEWLINE = 10;
const RETURN = 13;
const QUOTE = 34;
const BACKSLASH = 92;
const HASH = 35;
/** Longer prefixes are parsed each time: the cache is bounded in entries, so each must be small. */
const CACHED_PREFIX_CHARS_MAX = 512;

const FLOAT = /^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$/; // linear on hostile input: no digit matches in two ways
const INTEGER = /^-?\d{1,19}$/;
const UNSIGNED = /^\d{1,20}$/;
const TRUE = new Set(['t', 'T', 'true', 'True', 'TRUE']);
const FALSE = new Set(['f', 'F', 'false', 'False', 'FALSE']);
const INT64_MAX = 2n ** 63n - 1n;
const INT64_MIN = -(2n ** 63n);
const UINT64_MAX = 2n ** 64n - 1n;

/** Where to go on in a text of lines. */
export interface LineCursor {
  at: number;
  /** Number of the line at `at`, from 0. */
  line: number;
}

/**
 * Reads lines from the cursor on, until `linesMax` of them or `readingsMax` readings are read, and moves it; a faulty line becomes a problem with its number as entry.
 *
 * @returns false once there are no more lines
 */
export function decodeLines(
  context: LineContext,
  text: string,
  cursor: LineCursor = { at: 0, line: 0 },
  linesMax = Infinity,
  readingsMax = Infinity,
): boolean {
  const reader = new LineReader(context, text, cursor);
  for (let count = 0; count < linesMax && context.writer.readingCount < readingsMax; count++) if (!reader.line()) return false;
  reader.save();
  return true;
}

class LineReader {
  readonly #context: LineContext;
  readonly #text: string;
  readonly #cursor: LineCursor;
  #at: number;
  #lineNumber: number;
  /** Readings of the line at hand are being written: it cannot be refused alone any more. */
  #isWriting = false;
  readonly #keys: string[] = [];
  readonly #values: (number | boolean | string | bigint)[] = [];

  constructor(context: LineContext, text: string, cursor: LineCursor) {
    this.#context = context;
    this.#text = text;
    this.#cursor = cursor;
    this.#at = cursor.at;
    this.#lineNumber = cursor.line;
  }

  save(): void {
    this.#cursor.at = this.#at;
    this.#cursor.line = this.#lineNumber;
  }

  /** Takes the next line; false at the end. */
  line(): boolean {
    const text = this.#text;
    while (text.charCodeAt(this.#at) === SPACE || text.charCodeAt(this.#at) === RETURN || text.charCodeAt(this.#at) === 9) this.#at++;
    if (this.#at >= text.length) return false;
    const first = text.charCodeAt(this.#at);
    if (first === NEWLINE || first === HASH) {
      this.#skipLine();
      return true;
    }
    const { writer } = this.#context;
    writer.beginEntry(this.#lineNumber);
    try {
      this.#decode();
    } catch (error) {
      if (!isSluiceError(error) || this.#isWriting) throw error;
      writer.problem(error.code, `line ${this.#lineNumber + 1}: ${error.message}`, this.#context.scope?.device ?? null, null, NaN);
      this.#skipLine();
    }
    return true;
  }

  #skipLine(): void {
    const end = this.#text.indexOf('\n', this.#at);
    this.#at = end < 0 ? this.#text.length : end + 1;
    this.#lineNumber++;
  }

  #decode(): void {
    const { writer } = this.#context;
    const prefix = this.#token(SPACE, SPACE);
    if (this.#text.charCodeAt(this.#at) !== SPACE) fault('there are no fields');
    const series = this.#seriesOf(prefix);
    writer.permit(series.scope.device);
    this.#skipSpaces();
    const count = this.#fields();
    const timeUs = this.#time();
    this.#isWriting = true;
    for (let index = 0; index < count; index++) {
      writer.field(series.scope, series.measurement, this.#keys[index], timeUs, this.#values[index], 1);
    }
    this.#isWriting = false;
    this.#skipLine();
  }

  #skipSpaces(): void {
    while (this.#text.charCodeAt(this.#at) === SPACE) this.#at++;
  }

  /** From here to the first of the two unescaped end characters or the end of the line, escapes included. */
  #token(endA: number, endB: number): string {
    const text = this.#text;
    const start = this.#at;
    let at = start;
    for (; at < text.length; at++) {
      const code = text.charCodeAt(at);
      if (code === endA || code === endB || code === NEWLINE) break;
      if (code === BACKSLASH && text.charCodeAt(at + 1) !== NEWLINE) at++;
    }
    this.#at = Math.min(at, text.length);
    return text.slice(start, this.#at);
  }

  #seriesOf(prefix: string): LineSeries {
    const { known } = this.#context;
    const found = known.get(prefix);
    if (found !== undefined) return found;
    const series = parsePrefix(this.#context, prefix);
    if (prefix.length <= CACHED_PREFIX_CHARS_MAX) known.set(prefix, series);
    return series;
  }

  #fields(): number {
    let count = 0;
    for (;;) {
      const key = this.#token(EQUALS, COMMA);
      if (this.#text.charCodeAt(this.#at) !== EQUALS || key === '') fault(`field ${JSON.stringify(key.slice(0, 40))} has no value`);
      this.#at++;
      if (count >= ENTRY_FIELDS_MAX) fault(`more than ${ENTRY_FIELDS_MAX} fields`);
      this.#keys[count] = unescape(key, /\\([,= ])/g);
      this.#values[count] = this.#text.charCodeAt(this.#at) === QUOTE ? this.#string() : scalar(this.#token(COMMA, SPACE));
      count++;
      if (this.#text.charCodeAt(this.#at) !== COMMA) return count;
      this.#at++;
    }
  }

  #string(): string {
    const text = this.#text;
    const start = ++this.#at;
    let escaped = false;
    for (; this.#at < text.length; this.#at++) {
      const code = text.charCodeAt(this.#at);
      if (code === BACKSLASH) {
        escaped = true;
        this.#at++;
      } else if (code === QUOTE) {
        const raw = text.slice(start, this.#at++);
        this.#lineNumber += raw.includes('\n') ? raw.split('\n').length - 1 : 0;
        return escaped ? raw.replace(/\\(["\\])/g, '$1') : raw;
      }
    }
    // The quote never ends: read on after this line, or one bad line would swallow the rest of the body.
    this.#at = start;
    return fault('a string has no closing quote');
  }

  #time(): number {
    this.#skipSpaces();
    const start = this.#at;
    const end = this.#text.indexOf('\n', start);
    this.#at = end < 0 ? this.#text.length : end;
    const digits = this.#text.slice(start, this.#at).trimEnd();
    return digits === '' ? NaN : lineTime(digits, this.#context.time);
  }
}

function fault(message: string): never {
  throw new SluiceError('ERR_DECODE_SYNTAX', message);
}

function unescape(raw: string, pattern: RegExp): string {
  return raw.includes('\\') ? raw.replace(pattern, '$1') : raw;
}

/** Splits at unescaped occurrences of the separator. */
function splitUnescaped(raw: string, separator: number): string[] {
  const parts: string[] = [];
  let start = 0;
  for (let index = 0; index < raw.length; index++) {
    const code = raw.charCodeAt(index);
    if (code === BACKSLASH) index++;
    else if (code === separator) {
      parts.push(raw.slice(start, index));
      start = index + 1;
    }
  }
  parts.push(raw.slice(start));
  return parts;
}

function parsePrefix(context: LineContext, prefix: string): LineSeries {
  const [rawMeasurement, ...pairs] = splitUnescaped(prefix, COMMA);
  const measurement = unescape(rawMeasurement, /\\([, ])/g);
  checkName('metric', measurement);
  const tags = new Map<string, string>();
  for (const pair of pairs) {
    const [key, value, ...rest] = splitUnescaped(pair, EQUALS);
    if (key === undefined || key === '' || value === undefined || value === '' || rest.length > 0)
      fault(`tag ${JSON.stringify(pair.slice(0, 40))} is not key=value`);
    tags.set(unescape(key, /\\([,= ])/g), unescape(value, /\\([,= ])/g));
  }
  const { scope, scopes, deviceTags } = context;
  let device = scope?.device;
  for (const tag of deviceTags) {
    const named = tags.get(tag);
    if (named === undefined || (device !== undefined && named !== device)) continue;
    device = named;
    tags.delete(tag);
    break;
  }
  if (device === undefined)
    throw new SluiceError('ERR_DECODE_DEVICE', `no tag ${deviceTags.map((tag) => `"${tag}"`).join(' or ')} names the device`);
  const own = scope === null || scope.tags === '' ? [] : Object.entries(JSON.parse(scope.tags) as Record<string, string>);
  const inScope = scopes.scope(device, checkedTags(Object.fromEntries([...own, ...tags])));
  return { scope: inScope, measurement: scopes.child(inScope.root, measurement) };
}

function scalar(raw: string): number | boolean | bigint {
  const token = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
  const last = token.charCodeAt(token.length - 1);
  if (last === 105 /* i */ || last === 117 /* u */) {
    const digits = token.slice(0, -1);
    if (!(last === 105 ? INTEGER : UNSIGNED).test(digits)) fault(`${JSON.stringify(token.slice(0, 40))} is not an integer`);
    const value = Number(digits);
    if (Number.isSafeInteger(value)) return value;
    const exact = BigInt(digits);
    if (last === 105 ? exact > INT64_MAX || exact < INT64_MIN : exact > UINT64_MAX) fault(`${token} is outside 64 bits`);
    return exact;
  }
  if (FLOAT.test(token)) {
    const value = Number(token);
    if (!Number.isFinite(value)) fault(`${token.slice(0, 40)} is too large for a double`);
    return value;
  }
  if (TRUE.has(token)) return true;
  if (FALSE.has(token)) return false;
  return fault(`${JSON.stringify(token.slice(0, 40))} is not a number, boolean or quoted string`);
}

function lineTime(digits: string, time: EventTimeReader | LinePrecision): number {
  if (!/^-?\d{1,20}$/.test(digits))
    throw new SluiceError('ERR_DECODE_TIME', `${JSON.stringify(digits.slice(0, 40))} is not an integer timestamp`);
  const number = Number(digits);
  const value = Number.isSafeInteger(number) ? number : null;
  if (typeof time === 'object') return time.read(value ?? BigInt(digits));
  if (time === 'm') return fromNumber(number * 60, 's');
  if (time === 'h') return fromNumber(number * 3600, 's');
  // 19 digits of ns without BigInt: the last three are below a µs. (Negative ones take the exact way.)
  if (time === 'ns' && value === null && digits.charCodeAt(0) !== 45) return fromNumber(Number(digits.slice(0, -3)), 'us');
  return value === null ? fromBigInt(BigInt(digits), time) : fromNumber(value, time);
}
