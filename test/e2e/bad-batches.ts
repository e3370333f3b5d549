/** Batches as a gateway that went wrong would seal them. */
import zlib from 'node:zlib';
import type { BatchContent } from '../../shared/batch/batch.ts';
import { sortIntoRuns } from '../../shared/batch/runs.ts';

/** Readings of one series at the given times. */
export function contentOf(device: string, eventTimesUs: readonly number[]): BatchContent {
  const count = eventTimesUs.length;
  const nowUs = Date.now() * 1000;
  const columns = {
    count,
    series: new Uint32Array(count),
    eventTimeUs: Float64Array.from(eventTimesUs),
    value: new Float64Array(count).fill(1),
    text: null,
    texts: [],
  };
  return {
    sealedUs: nowUs,
    arrivalFromUs: nowUs,
    arrivalToUs: nowUs,
    runs: sortIntoRuns(columns, [{ device, metric: 'm', tags: '' }]),
    exceptions: [],
  };
}

/** A right checksum over whatever stands before it. */
export function resealed(bytes: Uint8Array): Uint8Array {
  const out = Uint8Array.from(bytes);
  new DataView(out.buffer).setUint32(out.length - 4, zlib.crc32(out.subarray(0, out.length - 4)));
  return out;
}
