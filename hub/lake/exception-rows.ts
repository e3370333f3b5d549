/** From the exceptions of a commit's batches to the rows of the table `exceptions`. */
import type { ExceptionRecord } from '../../shared/exception.ts';
import type { ParquetColumn } from './parquet/encode.ts';

export interface ExceptionRow {
  /** Where it comes from; a gateway of null: several, or none. */
  readonly batch: {
    readonly lane: { readonly gateway: string | null; readonly epoch: string; readonly lane: string };
    readonly seq: number;
    readonly receivedUs: number;
  };
  /** Place within the batch: the last part of the id (gateway, epoch, lane, seq, idx). */
  readonly idx: number;
  readonly record: ExceptionRecord;
}

export function exceptionColumns(rows: readonly ExceptionRow[]): ParquetColumn[] {
  const strings = (name: string, of: (row: ExceptionRow) => string | null): ParquetColumn => {
    const dictionary = [''];
    const places = new Map<string, number>();
    const indices = Uint32Array.from(rows, (row) => {
      const value = of(row);
      if (value === null) return 0;
      let place = places.get(value);
      if (place === undefined) {
        place = dictionary.length;
        dictionary.push(value);
        places.set(value, place);
      }
      return place;
    });
    return { name, type: 'string', dictionary, indices, nullIndex: 0 };
  };
  const numbers = (of: (row: ExceptionRow) => number): Float64Array => Float64Array.from(rows, of);
  return [
    strings('gateway', (row) => row.batch.lane.gateway),
    strings('epoch', (row) => row.batch.lane.epoch),
    strings('lane', (row) => row.batch.lane.lane),
    { name: 'seq', type: 'long', values: numbers((row) => row.batch.seq) },
    { name: 'idx', type: 'int', values: Int32Array.from(rows, (row) => row.idx) },
    strings('kind', (row) => row.record.kind),
    strings('device', (row) => row.record.device),
    strings('metric', (row) => row.record.metric),
    { name: 'from_ts', type: 'timestamp', values: numbers((row) => row.record.fromUs) },
    { name: 'to_ts', type: 'timestamp', values: numbers((row) => row.record.toUs) },
    {
      name: 'reading_count',
      type: 'long',
      values: numbers((row) => row.record.readingCount ?? 0),
      valid: Uint8Array.from(rows, (row) => (row.record.readingCount === null ? 0 : 1)),
    },
    strings('reason', (row) => row.record.reason),
    { name: 'payload', type: 'binary', values: rows.map((row) => row.record.payload) },
    { name: 'ingested_at', type: 'timestamp', values: numbers((row) => row.batch.receivedUs) },
  ];
}
