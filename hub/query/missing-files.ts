/** Which files a capture had to leave out: answers say how many. */
import type { AggregateCapture, SnapshotCapture, TableCapture } from '../engine-api.ts';

const REASON = 'lake_file_unreadable: ';

/** As `table/path`. */
export function missingOfWindows({ pendingExceptions }: AggregateCapture): string[] {
  return pendingExceptions.flatMap(({ reason }) => (reason.startsWith(REASON) ? [reason.slice(REASON.length)] : []));
}

function missingOfTable(table: string, capture: TableCapture | null): string[] {
  return (capture?.unreadable ?? []).map(({ path }) => `${table}/${path}`);
}

/** Of a snapshot: each file once, though several windows miss it. */
export function missingFileCount({ readings, exceptions, aggregates }: SnapshotCapture): number {
  const missing = [
    ...missingOfTable('readings', readings),
    ...missingOfTable('exceptions', exceptions),
    ...aggregates.flatMap(missingOfWindows),
  ];
  return new Set(missing).size;
}
