/**
 * What a batch says: a self-contained run of readings with the exceptions that belong to it (docs/wire.md).
 *
 * A batch carries no gateway, epoch, lane or seq: it is sealed before it gets a seq, and is immutable afterwards.
 */
import type { ExceptionRecord } from '../exception.ts';
import type { SeriesRuns } from '../reading.ts';

export interface BatchContent {
  /** When it was sealed, gateway wall clock, µs. */
  readonly sealedUs: number;
  /** Arrival of the oldest and the newest reading or exception inside, resolved to wall clock, µs, both inclusive. */
  readonly arrivalFromUs: number;
  readonly arrivalToUs: number;
  readonly runs: SeriesRuns;
  readonly exceptions: readonly ExceptionRecord[];
}

/** 'none' exists for tests and for content that does not shrink. */
export const COMPRESSIONS = ['none', 'br', 'zstd'] as const;
export type Compression = (typeof COMPRESSIONS)[number];

export const WIRE_VERSION = 1;
