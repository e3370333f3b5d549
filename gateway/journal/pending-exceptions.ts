/**
 * Exceptions that no batch carries yet, and how their number stays bounded.
 *
 * Those of messages (dead letters above all) pass a token bucket; what finds no token is merged into one exception with a
 * count, so that a flood of garbage costs a few kilobytes a second of disk at most. Losses of the buffer bound are always
 * merged. A merged exception is open for more until a batch takes it.
 */
import type { Clock } from '../../shared/clock.ts';
import { EXCEPTION_PAYLOAD_BYTES_MAX, type ExceptionRecord } from '../../shared/exception.ts';
import { isValidName } from '../../shared/batch/string-table.ts';
import { EVENT_TIME_MIN_US } from '../../shared/reading.ts';
import type { ResolvedException } from '../seal/seal.ts';
import type { ExceptionRow, Statements } from './statements.ts';

/** A misconfigured fleet's first dead letters are all kept: enough to see what is wrong. */
const TOKENS_MAX = 256;
/** One more every 5 s: with full payloads 70 MB a day at worst, a few with compression. */
const TOKEN_US = 5_000_000;
/** Marks exceptions that found no token. */
export const FLOOD = 'flood';
const REASON_CHARACTERS_MAX = 256;
/** Event times beyond 2^52 µs (year 2112) cannot stand in a batch. */
const TIME_US_MAX = 2 ** 52 - 1;

function timeOrNull(us: number): number | null {
  const whole = Math.round(us);
  return whole >= EVENT_TIME_MIN_US && whole <= TIME_US_MAX ? whole : null;
}

function nameOrNull(name: string | null): string | null {
  return name !== null && isValidName(name) ? name : null;
}

function countOrNull(count: number | null): number | null {
  return count !== null && Number.isSafeInteger(count) && count >= 0 ? count : null;
}

function added(a: number | null, b: number | null): number | null {
  return a === null || b === null ? null : a + b;
}

function lower(a: number | null, b: number | null): number | null {
  return a === null || b === null ? (a ?? b) : Math.min(a, b);
}

function higher(a: number | null, b: number | null): number | null {
  return a === null || b === null ? (a ?? b) : Math.max(a, b);
}

/** Decides which exceptions of messages are kept one by one. */
export class ExceptionBudget {
  #tokens = TOKENS_MAX;
  #filledUs: number;
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#filledUs = clock.monotonicUs();
  }

  take(): boolean {
    const nowUs = this.#clock.monotonicUs();
    const fresh = Math.floor((nowUs - this.#filledUs) / TOKEN_US);
    if (fresh > 0) {
      this.#tokens = Math.min(TOKENS_MAX, this.#tokens + fresh);
      this.#filledUs += fresh * TOKEN_US;
    }
    if (this.#tokens === 0) return false;
    this.#tokens--;
    return true;
  }
}

/** @param merge what further exceptions of the same key are added to, null: stands alone */
export function insertException(
  sql: Statements,
  id: number,
  opening: number,
  arrivalUs: number,
  record: ExceptionRecord,
  merge: string | null,
): void {
  const reason = record.reason.slice(0, REASON_CHARACTERS_MAX);
  const payload = record.payload === null || merge !== null ? null : record.payload.subarray(0, EXCEPTION_PAYLOAD_BYTES_MAX);
  sql.insertException.run(
    id,
    opening,
    arrivalUs,
    record.kind,
    nameOrNull(record.device),
    nameOrNull(record.metric),
    timeOrNull(record.fromUs),
    timeOrNull(record.toUs),
    countOrNull(record.readingCount),
    reason,
    payload,
    merge,
    1,
  );
}

/** Adds to the open exception of this key. @returns false when there is none: insert one. */
function mergeException(sql: Statements, record: ExceptionRecord, merge: string): boolean {
  const target = sql.mergeTarget.get(merge);
  if (target === undefined) return false;
  sql.updateMerged.run(
    target.device === nameOrNull(record.device) ? target.device : null,
    target.metric === nameOrNull(record.metric) ? target.metric : null,
    lower(target.from_us, timeOrNull(record.fromUs)),
    higher(target.to_us, timeOrNull(record.toUs)),
    added(target.readings, countOrNull(record.readingCount)),
    target.merged + 1,
    target.id,
  );
  return true;
}

/** What a flood of one kind is merged into. */
function mergedRecord(record: ExceptionRecord): ExceptionRecord {
  return { ...record, reason: record.kind === 'dead_letter' ? 'dead_letters_merged' : `${record.kind}_merged`, payload: null };
}

/**
 * Adds an exception, or adds it to an open one.
 *
 * @param ids the next id, moved on when a row is added
 * @param merge null: stands alone; FLOOD: with the others of its kind; else with those of this key
 * @returns 1 when a row was added, 0 when it was merged into one
 */
export function addException(
  sql: Statements,
  ids: { exception: number },
  opening: number,
  record: ExceptionRecord,
  arrivalUs: number,
  merge: string | null,
): 0 | 1 {
  const stored = merge === FLOOD ? mergedRecord(record) : record;
  const key = merge === FLOOD ? stored.reason : merge;
  if (key !== null && mergeException(sql, stored, key)) return 0;
  insertException(sql, ids.exception++, opening, arrivalUs, stored, key);
  return 1;
}

/** @param offsetUs of the row's opening, null: never known; then the bounds of the openings around it stand in */
export function resolveException(
  row: ExceptionRow,
  offsetUs: number | null,
  bounds: { readonly fromUs: number; readonly toUs: number },
): ResolvedException {
  const arrivalUs = offsetUs === null ? bounds.toUs : Math.round(row.arrival_us + offsetUs);
  const fromUs = row.from_us ?? (offsetUs === null ? bounds.fromUs : arrivalUs);
  const toUs = Math.max(row.to_us ?? arrivalUs, fromUs + 1);
  return {
    arrivalUs,
    record: {
      kind: row.kind,
      device: row.device,
      metric: row.metric,
      fromUs,
      toUs,
      readingCount: row.readings,
      reason: row.reason.endsWith('_merged') ? `${row.reason}: ${row.merged}` : row.reason,
      payload: row.payload,
    },
  };
}
