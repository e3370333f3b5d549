/** Sealed batches of the reference fleet, as one gateway after the other would offer them. */
import { encodeBatch } from '../../shared/batch/encode.ts';
import { sortIntoRuns } from '../../shared/batch/runs.ts';
import type { ReadingColumns } from '../../shared/reading.ts';
import { REFERENCE_START_US, referenceFleet, type ReferenceFleet } from './reference-fleet.ts';
import type { SealedBody } from './uplink-client.ts';

export interface SealedFleet {
  readonly fleet: ReferenceFleet;
  readonly batches: readonly SealedBody[];
  readonly readings: number;
}

export interface SealedFleetOptions {
  readonly devices: number;
  readonly secondsPerBatch: number;
  readonly batchCount: number;
  readonly seed: number;
  /** The first event time; default: the reference's own. */
  readonly startUs?: number;
  readonly compression?: 'br' | 'zstd' | 'none';
}

function slice(columns: ReadingColumns, from: number, to: number, shiftUs: number): ReadingColumns {
  return {
    count: to - from,
    series: columns.series.subarray(from, to),
    eventTimeUs: columns.eventTimeUs.slice(from, to).map((us) => us + shiftUs),
    value: columns.value.subarray(from, to),
    text: null,
    texts: [],
  };
}

/** Consecutive spans of the fleet's life. */
export function sealFleet({ devices, secondsPerBatch, batchCount, seed, startUs, compression }: SealedFleetOptions): SealedFleet {
  const fleet = referenceFleet({ devices, seconds: secondsPerBatch * batchCount, seed });
  const readingsPerBatch = fleet.columns.count / batchCount;
  const shiftUs = startUs === undefined ? 0 : startUs - REFERENCE_START_US;
  const batches = Array.from({ length: batchCount }, (_, index): SealedBody => {
    const columns = slice(fleet.columns, index * readingsPerBatch, (index + 1) * readingsPerBatch, shiftUs);
    const arrivalFromUs = columns.eventTimeUs[0];
    const sealedUs = columns.eventTimeUs[columns.count - 1] + 100_000;
    const runs = sortIntoRuns(columns, fleet.table);
    return {
      body: encodeBatch({ sealedUs, arrivalFromUs, arrivalToUs: sealedUs, runs, exceptions: [] }, compression ?? 'br'),
      readingCount: readingsPerBatch,
    };
  });
  return { fleet, batches, readings: fleet.columns.count };
}
