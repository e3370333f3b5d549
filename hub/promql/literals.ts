/** Literals of PromQL: numbers, durations, strings with Go's escapes. */
import { SluiceError } from '../../shared/errors.ts';

const SHOWN_CHARACTERS = 60;

export function badQuery(detail: string): SluiceError {
  return new SluiceError('ERR_PROMQL_INVALID', detail);
}

export function shown(text: string): string {
  return JSON.stringify(text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text);
}

const UNIT_US: Readonly<Record<string, number>> = {
  y: 365 * 86_400_000_000,
  w: 7 * 86_400_000_000,
  d: 86_400_000_000,
  h: 3_600_000_000,
  m: 60_000_000,
  s: 1_000_000,
  ms: 1_000,
};

/** `1h30m`, or a number of seconds; null: neither. In µs. */
export function parseDurationUs(text: string): number | null {
  if (/^(?:\d+(?:y|w|d|h|ms|m|s))+$/.test(text)) {
    let us = 0;
    for (const [, count, unit] of text.matchAll(/(\d+)(ms|[ywdhms])/g)) us += Number(count) * UNIT_US[unit];
    return Number.isSafeInteger(us) ? us : null;
  }
  const plain = text.replaceAll('_', '').trim();
  const seconds = plain === '' ? NaN : Number(plain);
  const us = Math.round(seconds * 1e6);
  return Number.isSafeInteger(us) ? us : null;
}

export function parseNumber(text: string): number {
  const compact = text.replaceAll('_', '').toLowerCase();
  const sign = compact.startsWith('-') ? -1 : 1;
  const digits = compact.replace(/^[+-]/, '');
  if (digits === 'inf') return sign * Infinity;
  if (digits === 'nan') return NaN;
  const value = Number(digits);
  return sign * (Number.isNaN(value) ? (parseDurationUs(digits) ?? NaN) / 1e6 : value);
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', a: '\x07', b: '\b', f: '\f', v: '\v' };

/** A literal of the grammar, with Go's escapes. */
export function unquote(literal: string): string {
  const quote = literal[0] ?? '';
  if (literal.length < 2 || !literal.endsWith(quote)) throw badQuery(`the string ${shown(literal)} has no end`);
  const body = literal.slice(1, -1);
  if (quote === '`') return body;
  return body.replace(
    /\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|([\s\S]))/g,
    (whole, x, u, big, octal, one) => {
      const hex: string | undefined = x ?? u ?? big;
      if (hex !== undefined || octal !== undefined) {
        const point = hex === undefined ? Number.parseInt(octal as string, 8) : Number.parseInt(hex, 16);
        if (point > 0x10ffff) throw badQuery(`the string ${shown(literal)} has an escape beyond Unicode: ${whole}`);
        return String.fromCodePoint(point);
      }
      const escaped = one as string;
      if (escaped === '\\' || escaped === '"' || escaped === "'") return escaped;
      const control = ESCAPES[escaped];
      if (control === undefined) throw badQuery(`the string ${shown(literal)} has an unknown escape: \\${escaped}`);
      return control;
    },
  );
}
