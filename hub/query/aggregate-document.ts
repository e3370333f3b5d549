/**
 * The JSON of /v1/aggregates, made in the thread that has the rows: the thread of the sockets gets bytes, not objects.
 *
 * Rows are put together as text. An object per row and JSON.stringify cost three times as much, and hot queries are
 * mostly this.
 */
import { createHash } from 'node:crypto';
import type { AggregateFunction } from '../../shared/window/partial.ts';
import { formatTime } from '../http/times.ts';
import type { AggregateAnswer, AggregateCursor, AggregateDocument, AggregateRow } from './query-api.ts';

/** Member names of functions with their commas and colons: the same few in every row. */
function memberNames(functions: readonly AggregateFunction[]): string[] {
  return functions.map((name) => `,${JSON.stringify(name)}:`);
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
  const groupOf = ({ gateway, device, metric, tags }: AggregateRow): string => {
    const key = `${gateway}\0${device}\0${metric}\0${tags}`;
    let text = groups.get(key);
    // Tags are canonical JSON already.
    if (text === undefined)
      groups.set(
        key,
        (text = `"gateway":${JSON.stringify(gateway)},"device":${JSON.stringify(device)},"metric":${JSON.stringify(metric)},"tags":${tags === null || tags === '' ? 'null' : tags}`),
      );
    return text;
  };
  return rows.map((row) => {
    let text = `{"window_start":"${timeOf(row.windowStartUs)}","window_end":"${timeOf(row.windowEndUs)}",${groupOf(row)}`;
    for (let index = 0; index < names.length; index++) text += `${names[index]}${row.values[index] ?? null}`;
    return `${text},"status":"${row.status}","revision":${row.revision},"late":${row.late},"lost":${row.lost},"lost_is_estimate":${row.lostIsEstimate},"complete":${row.complete}}`;
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

/** @param head JSON members before those that the answer brings */
export function documentText(answer: AggregateAnswer, functions: readonly AggregateFunction[], head: string): DocumentText {
  const { aggregatesVersion, readingsVersion, overlayComplete, waitingFor, next } = answer;
  return {
    head: `{${head},"aggregates_version":${aggregatesVersion},"readings_version":${readingsVersion},"overlay_complete":${overlayComplete},`,
    rows: `"rows":[${windowRowTexts(answer.rows, functions).join(',')}],"waiting_for":${JSON.stringify(waitingFor)}`,
    next,
  };
}

/** Documents as bytes, all in one buffer that nothing else is in: it can be handed to another thread. */
export function documentsOf(texts: readonly DocumentText[]): AggregateDocument[] {
  const lengths = texts.map(({ head, rows }) => [Buffer.byteLength(head), Buffer.byteLength(rows)] as const);
  const all = Buffer.allocUnsafeSlow(lengths.reduce((sum, [head, rows]) => sum + head + rows, 0));
  let at = 0;
  return texts.map(({ head, rows, next }, index) => {
    const [headBytes, rowBytes] = lengths[index];
    const [from, rowsFrom, to] = [at, at + headBytes, at + headBytes + rowBytes];
    all.write(head, from);
    all.write(rows, rowsFrom);
    at = to;
    const hash = createHash('sha256').update(all.subarray(rowsFrom, to));
    if (next !== null) hash.update(JSON.stringify(next));
    return { bytes: all.subarray(from, to), rowsVersion: hash.digest('base64url'), next };
  });
}

/** The last member: where the next page begins. */
export function documentEnd(nextCursor: string | null): string {
  return `,"next_cursor":${JSON.stringify(nextCursor)}}`;
}
