/** The newest exceptions: what is not in the lake's readings, and why. */
import type { ExceptionsAnswer, ExceptionRow } from './answers.ts';
import { badge, byId, make, setRows, setText, tableRow } from './dom.ts';
import { formatCount, formatDuration, formatTime } from './format.ts';

const EXCEPTIONS_SHOWN = 20;

const KINDS: Readonly<Record<string, { words: string; tone: 'bad' | 'warn' }>> = {
  gap: { words: 'gap', tone: 'bad' },
  dead_letter: { words: 'dead letter', tone: 'warn' },
  quarantined: { words: 'quarantined', tone: 'warn' },
};
const PAYLOAD_CHARACTERS_MAX = 120;

export function showExceptions({ rows, next_cursor }: ExceptionsAnswer, nowMs: number): void {
  const shown = rows.slice(0, EXCEPTIONS_SHOWN);
  byId('exceptions-scroll').hidden = rows.length === 0;
  byId('exceptions-none').hidden = rows.length > 0;
  setText(byId('exceptions-note'), next_cursor !== null || shown.length < rows.length ? `the newest ${shown.length}` : '');
  setRows(
    byId('exceptions-rows'),
    shown.map((row) => exceptionRow(row, nowMs)),
  );
}

function exceptionRow(row: ExceptionRow, nowMs: number): HTMLTableRowElement {
  const fromMs = Date.parse(row.from_ts);
  const spanMs = Date.parse(row.to_ts) - fromMs;
  const kind = KINDS[row.kind] ?? { words: row.kind, tone: 'warn' };
  const payload = payloadText(row.payload);
  return tableRow([
    { label: 'When', content: [formatTime(fromMs, nowMs), spanMs >= 1000 ? make('small', {}, `over ${formatDuration(spanMs)}`) : null] },
    { label: 'Kind', content: row.released ? badge(`${kind.words}, released`, 'good') : badge(kind.words, kind.tone) },
    { label: 'Gateway', content: row.gateway },
    { label: 'Device, metric', content: [row.device, row.metric].filter((name) => name !== null).join(', ') || 'several, or unknown' },
    { label: 'Readings', number: true, content: row.reading_count === null ? 'unknown' : formatCount(row.reading_count) },
    {
      label: 'Reason',
      content: [
        make('span', { class: 'reason' }, reasonText(row.reason)),
        payload === null ? null : make('small', {}, make('code', { class: 'reason' }, payload)),
      ],
    },
  ]);
}

/** `decode_syntax: not JSON`: the first word is a name for programs, the rest is for people. */
function reasonText(reason: string): string {
  const colon = reason.indexOf(':');
  const word = colon < 0 ? reason : reason.slice(0, colon);
  return `${word.replaceAll('_', ' ')}${reason.slice(word.length)}`;
}

/** The start of what was received, if it is text. */
function payloadText(base64: string | null): string | null {
  if (base64 === null || base64 === '') return null;
  try {
    const bytes = Uint8Array.from(atob(base64.slice(0, 2048)), (character) => character.charCodeAt(0));
    const text = new TextDecoder('utf-8').decode(bytes);
    // Control and replacement characters: binary, which helps nobody here.
    if (/(?![\t\r\n])\p{Cc}|\ufffd/u.test(text.slice(0, PAYLOAD_CHARACTERS_MAX))) return `${bytes.length} bytes, not text`;
    return text.length > PAYLOAD_CHARACTERS_MAX ? `${text.slice(0, PAYLOAD_CHARACTERS_MAX)}…` : text;
  } catch {
    return null; // not base64 after all: the reason stands alone
  }
}
