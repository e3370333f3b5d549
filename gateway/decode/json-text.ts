/**
 * JSON with exact integers: literals beyond 2^53 come as BigInt, so that a counter or a serial number keeps its digits.
 */
import { isUtf8 } from 'node:buffer';
import { randomUUID } from 'node:crypto';
import { SluiceError, errorMessage } from '../../shared/errors.ts';

/** Fewer digits are always exact. */
const DIGITS_EXACT = 15;
/** A double ends at 309 digits; longer literals are left to become Infinity, which is no value. */
const DIGITS_MAX = 309;
const LONG_DIGITS = 16;
const QUOTE = 34;
const BACKSLASH = 92;

// Unguessable per process: no payload can carry a string that is taken for a marked integer.
const MARK = `\u0001${randomUUID()}:`;

/**
 * @returns null, boolean, number, bigint, string, array or object
 * @throws SluiceError ERR_DECODE_SYNTAX
 */
export function parseJson(payload: Buffer): unknown {
  const text = payload.toString('utf8');
  if (text.includes('\ufffd') && !isUtf8(payload)) throw new SluiceError('ERR_DECODE_SYNTAX', 'the JSON text is not UTF-8');
  try {
    if (!hasLongDigits(payload)) return JSON.parse(text);
    const marked = markLongIntegers(text);
    if (marked === text) return JSON.parse(text);
    return JSON.parse(marked, (_key, value: unknown) =>
      typeof value === 'string' && value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value,
    );
  } catch (cause) {
    throw new SluiceError('ERR_DECODE_SYNTAX', `not JSON: ${errorMessage(cause).slice(0, 200)}`, { cause });
  }
}

function isDigit(code: number): boolean {
  return code >= 48 && code <= 57;
}

/** Looks at every 16th byte: a run of 16 digits covers one of them. */
function hasLongDigits(bytes: Uint8Array): boolean {
  for (let probe = LONG_DIGITS - 1; probe < bytes.length; probe += LONG_DIGITS) {
    if (!isDigit(bytes[probe])) continue;
    let from = probe;
    while (from > 0 && isDigit(bytes[from - 1])) from--;
    let to = probe + 1;
    while (to - from < LONG_DIGITS && isDigit(bytes[to] ?? 0)) to++;
    if (to - from >= LONG_DIGITS) return true;
  }
  return false;
}

/** Puts integer literals that a double would round into marked strings. Scans by hand: a regular expression over strings of any length would recurse. */
function markLongIntegers(text: string): string {
  let marked = '';
  let copied = 0;
  let index = 0;
  while (index < text.length) {
    const code = text.charCodeAt(index);
    if (code === QUOTE) {
      index = endOfString(text, index);
      continue;
    }
    if (code !== 45 && !isDigit(code)) {
      index++;
      continue;
    }
    const start = index++;
    while (isDigit(text.charCodeAt(index))) index++;
    const next = text[index];
    if (next === '.' || next === 'e' || next === 'E') {
      while (/[\d.eE+-]/.test(text[index] ?? '')) index++;
      continue;
    }
    const digits = text.slice(start, index);
    // '0123' is not JSON: left as it stands, JSON.parse refuses it.
    if (index - start > DIGITS_EXACT && index - start <= DIGITS_MAX && !/^-?0/.test(digits) && !Number.isSafeInteger(Number(digits))) {
      marked += `${text.slice(copied, start)}${JSON.stringify(MARK + digits)}`;
      copied = index;
    }
  }
  return copied === 0 ? text : marked + text.slice(copied);
}

function endOfString(text: string, start: number): number {
  for (let index = start + 1; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code === BACKSLASH) index++;
    else if (code === QUOTE) return index + 1;
  }
  return text.length;
}
