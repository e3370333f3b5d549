/**
 * The JSON of /v1/aggregates, made in the thread that has the rows: the thread of the sockets gets bytes, not objects.
 *
 * Rows are put together as text. An object per row and JSON.stringify cost three times as much, and hot queries are
 * mostly this. Those of a long answer are written as bytes at once (json-bytes.ts): their texts would be work for the collector.
 */
import { createHash, hash } from 'node:crypto';
import type { AggregateFunction } from '../../shared/window/partial.ts';
import type { GroupKey } from '../../shared/window/partial-columns.ts';
import { formatTime } from '../http/times.ts';
import { JsonBytes } from './json-bytes.ts';
import type { AggregateAnswer, AggregateCursor, AggregateDocument, AggregateRow } from './query-api.ts';

/** Member names of functions with their commas and colons: the same few in every row. */
function memberNames(functions: readonly AggregateFunction[]): string[] {
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

function statusMembers({ status, revision, late, lost, lostIsEstimate, complete }: AggregateRow): string {
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

/** @param head JSON members before those that the answer brings */
export function documentHead(
  {
    aggregatesVersion,
    readingsVersion,
    overlayComplete,
  }: Pick<AggregateAnswer, 'aggregatesVersion' | 'readingsVersion' | 'overlayComplete'>,
  head: string,
): string {
  return `{${head},"aggregates_version":${aggregatesVersion},"readings_version":${readingsVersion},"overlay_complete":${overlayComplete},`;
}

/** @param rows JSON objects, with commas in between */
export function documentRows(rows: string, waitingFor: readonly string[]): string {
  const [before, after] = rowsFrame(waitingFor);
  return before + rows + after;
}

/** What stands before and behind the rows. */
function rowsFrame(waitingFor: readonly string[]): readonly [string, string] {
  return ['"rows":[', `],"waiting_for":${JSON.stringify(waitingFor)}`];
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

function versionOf(rows: Uint8Array, next: AggregateCursor | null): string {
  if (next === null) return hash('sha256', rows, 'base64url');
  return createHash('sha256').update(rows).update(JSON.stringify(next)).digest('base64url');
}

/** A whole document of its own, for answers of many rows: its text never exists as one. */
export function documentBytes(answer: AggregateAnswer, functions: readonly AggregateFunction[], head: string): AggregateDocument {
  const out = new JsonBytes(head.length + answer.rows.length * ROW_BYTES_GUESS);
  out.text(documentHead(answer, head));
  const rowsFrom = out.length;
  const [before, after] = rowsFrame(answer.waitingFor);
  out.text(before);
  writeRows(out, answer.rows, functions);
  out.text(after);
  const bytes = out.take();
  return { bytes, rowsVersion: versionOf(bytes.subarray(rowsFrom), answer.next), next: answer.next };
}

/** The same rows with commas between them, as bytes. What neighbours have in common is made once. */
function writeRows(out: JsonBytes, rows: readonly AggregateRow[], functions: readonly AggregateFunction[]): void {
  const names = memberNames(functions).map((name) => Buffer.from(name));
  const [start, end] = [new TimeText(), new TimeText()];
  let previous: AggregateRow | null = null;
  let groupBytes: Uint8Array = Buffer.alloc(0);
  let statusBytes: Uint8Array = Buffer.alloc(0);
  for (const row of rows) {
    if (previous === null || !isSameGroup(row, previous)) groupBytes = Buffer.from(groupText(row));
    if (previous === null || !isSameStatus(row, previous)) statusBytes = Buffer.from(statusMembers(row));
    if (previous !== null) out.bytes(COMMA);
    previous = row;
    out.bytes(START);
    out.bytes(start.of(row.windowStartUs));
    out.bytes(END);
    out.bytes(end.of(row.windowEndUs));
    out.bytes(BEFORE_GROUP);
    out.bytes(groupBytes);
    for (let index = 0; index < names.length; index++) {
      out.bytes(names[index]);
      out.number(row.values[index] ?? null);
    }
    out.bytes(statusBytes);
  }
}

const [COMMA, START, END, BEFORE_GROUP] = [',', '{"window_start":"', '","window_end":"', '",'].map((text) => Buffer.from(text));
/** With six functions; it grows where that is too little. */
const ROW_BYTES_GUESS = 360;

function isSameGroup(a: AggregateRow, b: AggregateRow): boolean {
  return a.device === b.device && a.metric === b.metric && a.tags === b.tags && a.gateway === b.gateway;
}

function isSameStatus(a: AggregateRow, b: AggregateRow): boolean {
  return (
    a.status === b.status &&
    a.revision === b.revision &&
    a.late === b.late &&
    a.lost === b.lost &&
    a.lostIsEstimate === b.lostIsEstimate &&
    a.complete === b.complete
  );
}

const DAY_SECONDS = 86_400;
const ZERO = 0x30;
/** 2026-01-02T03:04:05Z */
const TIME_BYTES = 20;
const DAY_BYTES = 11;

/** Times as text, for neighbours that mostly are of one day: the calendar is asked once for each. */
class TimeText {
  #us = NaN;
  #day = NaN;
  readonly #whole = Buffer.alloc(TIME_BYTES, 'YYYY-MM-DDT00:00:00Z');
  #text: Uint8Array = this.#whole;

  /** As formatTime. @returns valid until the next call */
  of(us: number): Uint8Array {
    if (us === this.#us) return this.#text;
    this.#us = us;
    const seconds = us / 1_000_000;
    // Other times have a fraction, or a year of other digits.
    if (!Number.isInteger(seconds) || seconds < 0 || us > WHOLE_US_MAX) return (this.#text = Buffer.from(formatTime(us)));
    const day = Math.floor(seconds / DAY_SECONDS);
    if (day !== this.#day) this.#whole.write(formatTime(day * DAY_SECONDS * 1_000_000), 0, DAY_BYTES, 'latin1');
    this.#day = day;
    const left = seconds - day * DAY_SECONDS;
    this.#digits(11, Math.floor(left / 3600));
    this.#digits(14, Math.floor(left / 60) % 60);
    this.#digits(17, left % 60);
    return (this.#text = this.#whole);
  }

  #digits(at: number, value: number): void {
    const tens = Math.floor(value / 10);
    this.#whole[at] = ZERO + tens;
    this.#whole[at + 1] = ZERO + value - tens * 10;
  }
}

const WHOLE_US_MAX = Date.UTC(9999, 11, 31) * 1000;

/** The last member: where the next page begins. */
export function documentEnd(nextCursor: string | null): string {
  return `,"next_cursor":${JSON.stringify(nextCursor)}}`;
}
