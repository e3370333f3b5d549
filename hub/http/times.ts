/**
 * Times as people and programs write them in a query, and as answers write them.
 *
 * Taken: RFC 3339 with its zone (`2026-01-02T03:04:05.123456Z`), a UTC day (`2026-01-02`), the Unix epoch in s, ms, µs or ns
 * (told apart by size), `now`, `now-1h`, `-1h30m`, `now+5m`. Given: RFC 3339 in UTC with as many digits as there are.
 */

/** What stands in the query; it becomes a time against one `now` per request. */
export type TimeExpression = { readonly kind: 'absolute'; readonly us: number } | { readonly kind: 'relative'; readonly offsetUs: number };

export const TIME_HELP =
  'RFC 3339 with a zone (2026-01-02T03:04:05Z), a day (2026-01-02), Unix epoch in s, ms, µs or ns, or now-7d (ms, s, m, h, d, w, y)';

/** 2200-01-01: later than any reading, and with room to add to below 2^53. */
const TIME_MAX_US = 7_258_118_400_000_000;
/** Below, a number is seconds (year 5138), then milliseconds: no reading is older than 2015. */
const SECONDS_BELOW = 1e11;
const MILLISECONDS_BELOW = 1e14;
/** Above, nanoseconds (1973): no microseconds reach it before the year 5138. */
const MICROSECONDS_BELOW = 1e17;

// A '+' that was not escaped reaches us as a space.
// Seconds may be left out, as ISO 8601 has it.
const RFC3339 = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?:([Zz])|([+\- ])(\d\d):?(\d\d))$/;
const DAY = /^\d{4}-\d\d-\d\d$/;
const RELATIVE = /^(?:now(?:([+\- ])([0-9][0-9a-z]*))?|([+-])([0-9][0-9a-z]*))$/;
const WITHOUT_ZONE = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?$/;

/** A week is seven days and a year 365, as in PromQL. */
const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 7 * 86_400_000,
  y: 365 * 86_400_000,
};

/** `30s`, `1h30m`, `7d`, `2w`, `1y`; null: not a duration, or none that can be counted in ms. */
export function parseDuration(text: string): number | null {
  if (!/^(?:[1-9][0-9]{0,14}(?:ms|[smhdwy]))+$/.test(text)) return null;
  let ms = 0;
  for (const [, count, unit] of text.matchAll(/([0-9]+)(ms|[smhdwy])/g)) ms += Number(count) * UNIT_MS[unit];
  return Number.isSafeInteger(ms) ? ms : null;
}

function bounded(us: number): TimeExpression | null {
  return Number.isFinite(us) && us >= 0 && us <= TIME_MAX_US ? { kind: 'absolute', us } : null;
}

function fromNumber(text: string): TimeExpression | null {
  const value = Number(text);
  if (value < SECONDS_BELOW) return bounded(Math.round(value * 1e6));
  if (value < MILLISECONDS_BELOW) return bounded(Math.round(value * 1000));
  return bounded(Math.round(value < MICROSECONDS_BELOW ? value : value / 1000));
}

function fromRfc3339(match: RegExpExecArray): TimeExpression | null {
  const [, day, clock, seconds = '00', digits = '', zulu, sign, hours, minutes] = match;
  // A leap second is the second before it, as Unix time and the gateway have it.
  const secondsMs = Date.parse(`${day}T${clock}:${seconds === '60' ? '59' : seconds}Z`);
  // Date.parse takes 31 February for 3 March.
  if (Number.isNaN(secondsMs) || new Date(secondsMs).toISOString().slice(0, 10) !== day) return null;
  const offsetMinutes = zulu === undefined ? Number(hours) * 60 + Number(minutes) : 0;
  if (offsetMinutes > 24 * 60) return null;
  const zoneUs = (sign === '-' ? -1 : 1) * offsetMinutes * 60_000_000;
  return bounded(secondsMs * 1000 + Number(digits.padEnd(6, '0').slice(0, 6)) - zoneUs);
}

/** null: not a time of any of the forms, or outside 1970 to 2200. */
export function parseTime(text: string): TimeExpression | null {
  if (text.length > 64) return null;
  if (/^[0-9]+(?:\.[0-9]+)?$/.test(text)) return fromNumber(text);
  const relative = RELATIVE.exec(text);
  if (relative !== null) {
    const duration = relative[2] ?? relative[4];
    if (duration === undefined) return { kind: 'relative', offsetUs: 0 };
    const ms = parseDuration(duration);
    if (ms === null) return null;
    return { kind: 'relative', offsetUs: ((relative[1] ?? relative[3]) === '-' ? -1 : 1) * ms * 1000 };
  }
  if (DAY.test(text)) return parseTime(`${text}T00:00:00Z`);
  const absolute = RFC3339.exec(text);
  return absolute === null ? null : fromRfc3339(absolute);
}

/** Of RFC 3339 or a day: 31 February and 25 o'clock are not. */
function isOfCalendar(text: string): boolean {
  const [day, clock = '00:00'] = text.split(/[Tt ]/);
  const ms = Date.parse(`${day}T${clock.slice(0, 5)}Z`);
  return !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(day);
}

/** What is wrong with a text that parseTime does not take, and what would be right. */
export function timeFault(text: string): string {
  const fault = (): string => {
    if (WITHOUT_ZONE.test(text)) return 'has no time zone, append Z for UTC';
    if (parseDuration(text) !== null) return `is how long, not when, did you mean now-${text}?`;
    if (/^[0-9]+(?:\.[0-9]+)?$/.test(text)) return 'is no time from 1970 to 2200';
    if (!RFC3339.test(text) && !DAY.test(text)) return 'is not a time';
    return isOfCalendar(text) ? 'is no time from 1970 to 2200' : 'is not in the calendar';
  };
  return `${fault()}: ${TIME_HELP}`;
}

/** @returns µs, inside 1970 to 2200 */
export function resolveTime(expression: TimeExpression, nowUs: number): number {
  if (expression.kind === 'absolute') return expression.us;
  return Math.min(TIME_MAX_US, Math.max(0, nowUs + expression.offsetUs));
}

/** The years that RFC 3339 can write: a stamp from elsewhere may lie outside. */
const WRITABLE_US_MIN = Date.parse('0001-01-01T00:00:00Z') * 1000;
const WRITABLE_US_MAX = Date.parse('9999-12-31T23:59:59Z') * 1000;

/** RFC 3339 in UTC, fraction only where there is one: `2026-01-02T03:04:05Z`, `….123Z`, `….123456Z`. */
export function formatTime(stampUs: number): string {
  const us = Math.min(WRITABLE_US_MAX, Math.max(WRITABLE_US_MIN, stampUs));
  const text = new Date(Math.floor(us / 1000)).toISOString();
  const micros = ((us % 1000) + 1000) % 1000;
  if (micros !== 0) return `${text.slice(0, -1)}${String(micros).padStart(3, '0')}Z`;
  return text.endsWith('.000Z') ? `${text.slice(0, -5)}Z` : text;
}

export function formatTimeOrNull(us: number | null): string | null {
  return us === null ? null : formatTime(us);
}
