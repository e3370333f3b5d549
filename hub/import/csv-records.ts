/**
 * CSV (RFC 4180) from lines: a record spans lines where its quotes say so.
 *
 * A quote that is never closed would swallow the rest of the file in any CSV parser; here its first line is the fault, and
 * reading goes on at the next one, so that a bad byte costs a row.
 */

/** Lines of one record: a text with line breaks. */
const RECORD_LINES_MAX = 100;

export interface Line {
  readonly text: string;
  readonly line: number;
}

export type CsvRecord =
  { readonly line: number; readonly fields: readonly string[] } | { readonly line: number; readonly fault: string; readonly text: string };

function hasOddQuotes(text: string): boolean {
  let odd = false;
  for (let at = text.indexOf('"'); at >= 0; at = text.indexOf('"', at + 1)) odd = !odd;
  return odd;
}

/** Fields of a record whose quotes are even; null: a quote stands where none may. */
export function fieldsOf(text: string, delimiter: string): string[] | null {
  if (!text.includes('"')) return text.split(delimiter);
  const fields: string[] = [];
  for (let at = 0; ;) {
    if (text[at] !== '"') {
      const end = text.indexOf(delimiter, at);
      const field = text.slice(at, end < 0 ? undefined : end);
      if (field.includes('"')) return null;
      fields.push(field);
      if (end < 0) return fields;
      at = end + delimiter.length;
      continue;
    }
    let end = at + 1;
    while (text[end] !== '"' || text[end + 1] === '"') {
      if (end >= text.length) return null;
      end += text[end] === '"' ? 2 : 1;
    }
    fields.push(text.slice(at + 1, end).replaceAll('""', '"'));
    if (end + 1 === text.length) return fields;
    if (!text.startsWith(delimiter, end + 1)) return null;
    at = end + 1 + delimiter.length;
  }
}

export async function* csvRecords(lines: AsyncIterable<Line>, delimiter: string): AsyncGenerator<CsvRecord> {
  let open: Line[] = [];
  /** Of the first record, the header. */
  let width: number | null = null;
  const next = (isEnd: boolean): CsvRecord | null | undefined => {
    const taken = takeRecord(open, delimiter, isEnd, width);
    if (taken === null) return undefined;
    open = open.slice(taken.lines);
    if (taken.record !== null && 'fields' in taken.record) width ??= taken.record.fields.length;
    return taken.record;
  };
  for await (const line of lines) {
    open.push(line);
    while (open.length > 0) {
      const record = next(open.length >= RECORD_LINES_MAX);
      if (record === undefined) break;
      if (record !== null) yield record;
    }
  }
  while (open.length > 0) {
    const record = next(true);
    if (record !== undefined && record !== null) yield record;
  }
}

/**
 * The first record of the lines, and how many they are; null: it goes on behind them. A blank line is none.
 *
 * @param width fields that a record of several lines must have: another number of them comes from a stray quote
 */
function takeRecord(
  lines: readonly Line[],
  delimiter: string,
  isEnd: boolean,
  width: number | null,
): { lines: number; record: CsvRecord | null } | null {
  const [{ text, line }] = lines;
  if (text.trim() === '') return { lines: 1, record: null };
  let record = '';
  let isOpen = false;
  for (let count = 1; count <= lines.length; count++) {
    const next = lines[count - 1].text;
    record = count === 1 ? next : `${record}\n${next}`;
    if (hasOddQuotes(next)) isOpen = !isOpen;
    if (isOpen) continue;
    const fields = fieldsOf(record, delimiter);
    if (fields !== null && (count === 1 || width === null || fields.length === width)) return { lines: count, record: { line, fields } };
    break;
  }
  if (isOpen && !isEnd) return null;
  const fault = isOpen ? 'a quote is not closed' : 'a quote stands inside of a field';
  return { lines: 1, record: { line, fault, text } };
}
