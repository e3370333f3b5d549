/**
 * The JSON of /v1/aggregates where it is long: written as bytes at once, since the texts of its rows would be work for the
 * collector. Byte for byte what aggregate-document.ts makes.
 */
import type { AggregateFunction } from '../../shared/window/partial.ts';
import { documentHead, rowsEnd, ROWS_BEGIN, versionOf, type AnswerVersions } from './aggregate-document.ts';
import { JsonBytes } from './json-bytes.ts';
import type { AggregateAnswer, AggregateDocument, AggregateRow } from './query-api.ts';
import { RowBytes, RowHead } from './row-bytes.ts';

/** A whole document of its own, for answers of many rows: its text never exists as one. */
export function documentBytes(answer: AggregateAnswer, functions: readonly AggregateFunction[], head: string): AggregateDocument {
  return writtenDocument(answer, head, answer.rows.length, (out) => {
    writeRows(out, answer.rows, functions);
    return answer;
  });
}

/**
 * The same of rows that only exist as what is written.
 *
 * @param rowCountGuess how many they may be
 */
export function writtenDocument(
  versions: AnswerVersions,
  head: string,
  rowCountGuess: number,
  write: (out: JsonBytes) => Pick<AggregateAnswer, 'waitingFor' | 'next'>,
): AggregateDocument {
  const out = new JsonBytes(head.length + rowCountGuess * ROW_BYTES_GUESS);
  out.text(documentHead(versions, head));
  const rowsFrom = out.length;
  out.text(ROWS_BEGIN);
  const { waitingFor, next } = write(out);
  out.text(rowsEnd(waitingFor));
  const bytes = out.take();
  return { bytes, rowsVersion: versionOf(bytes.subarray(rowsFrom), next), next };
}

/** The same rows with commas between them, as bytes. */
function writeRows(out: JsonBytes, rows: readonly AggregateRow[], functions: readonly AggregateFunction[]): void {
  const bytes = new RowBytes(out, functions);
  let previous: AggregateRow | null = null;
  let head: RowHead | null = null;
  for (const row of rows) {
    if (head === null || previous === null || !isSameGroup(row, previous)) head = new RowHead(row);
    previous = row;
    bytes.begin(head, row.windowStartUs, row.windowEndUs);
    for (let index = 0; index < functions.length; index++) bytes.value(index, row.values[index] ?? null);
    bytes.end(row);
  }
}

/** With six functions; it grows where that is too little. */
const ROW_BYTES_GUESS = 360;

function isSameGroup(a: AggregateRow, b: AggregateRow): boolean {
  return a.device === b.device && a.metric === b.metric && a.tags === b.tags && a.gateway === b.gateway;
}
