/**
 * An exception: a durable record of readings that are not in `readings` (invariant 4).
 *
 * Exceptions are few, so they are objects. They ride in batches from the gateway and end in the lake's table
 * `exceptions` under the id (gateway, epoch, lane, seq, index).
 */

export type ExceptionKind = 'gap' | 'dead_letter' | 'quarantined';

export interface ExceptionRecord {
  readonly kind: ExceptionKind;
  /** null: several devices, or unknown. */
  readonly device: string | null;
  /** null: several metrics, or unknown. */
  readonly metric: string | null;
  /** Event-time range of the readings, half-open [fromUs, toUs) in µs; arrival time where event time is unknown. */
  readonly fromUs: number;
  readonly toUs: number;
  /** How many readings; null if unknown. */
  readonly readingCount: number | null;
  /** A stable snake_case word, then optionally `: ` and detail. */
  readonly reason: string;
  /** What was received, where there is something (cut to EXCEPTION_PAYLOAD_BYTES_MAX). */
  readonly payload: Uint8Array | null;
}

/** A dead letter keeps so many bytes of what was received. */
export const EXCEPTION_PAYLOAD_BYTES_MAX = 4096;
