/**
 * The JSON of /v1/aggregates, made in the thread that has the rows: the thread of the sockets gets bytes, not objects.
 *
 * Rows are put together as text. An object per row and JSON.stringify cost three times as much, and hot queries are
 * mostly this. Those of a long answer are written as bytes at once (document-bytes.ts).
 */
import { createHash, hash } from 'node:crypto';
import type { AggregateFunction } from '../../shared/window/partial.ts';
import type { GroupKey } from '../../shared/window/partial-columns.ts';
import { formatTime } from '../http/times.ts';
import type { AggregateAnswer, AggregateCursor, AggregateDocument, AggregateRow } from './query-api.ts';

/** Member names of functions with their commas and colons: the same few in every row. */
export function memberNames(functions: readonly AggregateFunction[]): string[] {
  return functions.map((name) => `,${JSON.stringify(name)}:`);
}

/** Members of a row that say which window it is of. */
export function windowText(start: string, end: string): string {
  return `"window_start":"${start}","window_end":"${end}"`;
}

/** Members of a row that say which group it is of. */
export function groupText({ gateway, device, metric, tags }: GroupKey): string {
  // Tags are canonical JSON already.
  const tagText = tags === null || tags === '' ? 'null' : tags;
  return `"gateway":${JSON.stringify(gateway)},"device":${JSON.stringify(device)},"metric":${JSON.stringify(metric)},"tags":${tagText}`;
}

/** What a row says about how far it can be trusted. */
export type RowStatus = Pick<AggregateRow, 'status' | 'revision' | 'late' | 'lost' | 'lostIsEstimate' | 'complete'>;

export function statusMembers({ status, revision, late, lost, lostIsEstimate, complete }: RowStatus): string {
  return `,"status":"${status}","revision":${revision},"late":${late},"lost":${lost},"lost_is_estimate":${lostIsEstimate},"complete":${complete}}`;
}

/** Rows as JSON objects, member by member as http/window-rows.ts shows them (a test compares the two). */
export function windowRowTexts(rows: readonly AggregateRow[], functions: readonly AggregateFunction[]): string[] {
  const names = memberNames(functions);
  const times = new Map<number, string>();
  const timeOf = (us: number): string => {
    let text = times.get(us);
    if (text === undefined) times.set(us, (text = formatTime(us)));
    return text;
  };
  const groups = new Map<string, string>();
  const groupOf = (row: AggregateRow): string => {
    const key = `${row.gateway}\0${row.device}\0${row.metric}\0${row.tags}`;
    let text = groups.get(key);
    if (text === undefined) groups.set(key, (text = groupText(row)));
    return text;
  };
  return rows.map((row) => {
    let text = `{${windowText(timeOf(row.windowStartUs), timeOf(row.windowEndUs))},${groupOf(row)}`;
    for (let index = 0; index < names.length; index++) text += `${names[index]}${row.values[index] ?? null}`;
    return text + statusMembers(row);
  });
}

/** A document as text, in the two parts that it has for its version. */
export interface DocumentText {
  /** Members that differ though the rows are equal. */
  readonly head: string;
  /** All of the rest but `next_cursor` and the last brace, which are for whoever knows how cursors look. */
  readonly rows: string;
  readonly next: AggregateCursor | null;
}

/** What is known of an answer before its rows are looked at. */
export type AnswerVersions = Pick<AggregateAnswer, 'aggregatesVersion' | 'readingsVersion' | 'overlayComplete'>;

/** @param head JSON members before those that the answer brings */
export function documentHead({ aggregatesVersion, readingsVersion, overlayComplete }: AnswerVersions, head: string): string {
  return `{${head},"aggregates_version":${aggregatesVersion},"readings_version":${readingsVersion},"overlay_complete":${overlayComplete},`;
}

/** @param rows JSON objects, with commas in between */
export function documentRows(rows: string, waitingFor: readonly string[]): string {
  return ROWS_BEGIN + rows + rowsEnd(waitingFor);
}

export const ROWS_BEGIN = '"rows":[';

export function rowsEnd(waitingFor: readonly string[]): string {
  return `],"waiting_for":${JSON.stringify(waitingFor)}`;
}

export function documentText(answer: AggregateAnswer, functions: readonly AggregateFunction[], head: string): DocumentText {
  return {
    head: documentHead(answer, head),
    rows: documentRows(windowRowTexts(answer.rows, functions).join(','), answer.waitingFor),
    next: answer.next,
  };
}

/** For the bytes of texts whose length is not known before: at most three for each of their units. */
let scratch = Buffer.allocUnsafeSlow(65_536);

/** Documents as bytes, all in one buffer that nothing else is in: it can be handed to another thread. */
export function documentsOf(texts: readonly DocumentText[]): AggregateDocument[] {
  const bytesMax = texts.reduce((sum, { head, rows }) => sum + (head.length + rows.length) * 3, 0);
  if (scratch.length < bytesMax) scratch = Buffer.allocUnsafeSlow(bytesMax);
  let at = 0;
  const made = texts.map(({ head, rows, next }) => {
    const from = at;
    const rowsFrom = from + scratch.write(head, from);
    at = rowsFrom + scratch.write(rows, rowsFrom);
    return { from, to: at, rowsVersion: versionOf(scratch.subarray(rowsFrom, at), next), next };
  });
  const all = Buffer.allocUnsafeSlow(at);
  scratch.copy(all, 0, 0, at);
  if (scratch.length > SCRATCH_BYTES_KEPT) scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES_KEPT);
  return made.map(({ from, to, rowsVersion, next }) => ({ bytes: all.subarray(from, to), rowsVersion, next }));
}

const SCRATCH_BYTES_KEPT = 4_000_000;

/** Equal for pages with equal rows. @param rows as documentRows */
export function versionOf(rows: Uint8Array, next: AggregateCursor | null): string {
  if (next === null) return hash('sha256', rows, 'base64url');
  return createHash('sha256').update(rows).update(JSON.stringify(next)).digest('base64url');
}

/** The last member: where the next page begins. */
export function documentEnd(nextCursor: string | null): string {
  return `,"next_cursor":${JSON.stringify(nextCursor)}}`;
}
