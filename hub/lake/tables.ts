/**
 * The four tables of the lake. Readers of every kind depend on these names and types: they are the hardest to change.
 *
 * No column is named by a word that DuckDB, Spark, Trino or PostgreSQL reserves. Times are TIMESTAMP in UTC, so Delta's
 * `timestamp` (not `timestamp_ntz`, which needs a table feature).
 */
import type { MetaData } from './delta-actions.ts';
import { intervalMs, type TableSpec } from './table-spec.ts';

/** One reading a row, sorted by device, metric, ts. Its metaData id is the id of the lake. */
export const READINGS: TableSpec = {
  name: 'readings',
  columns: [
    { name: 'ts', type: 'timestamp' },
    { name: 'gateway', type: 'string' },
    { name: 'device', type: 'string' },
    { name: 'metric', type: 'string' },
    /** Canonical JSON, or null for none. */
    { name: 'tags', type: 'string' },
    { name: 'value', type: 'double' },
    { name: 'text', type: 'string' },
    { name: 'epoch', type: 'string' },
    { name: 'lane', type: 'string' },
    { name: 'seq', type: 'long' },
    { name: 'ingested_at', type: 'timestamp' },
    /** UTC day of ts. */
    { name: 'day', type: 'date' },
  ],
  partitionColumns: ['day'],
  configuration: configuration(),
};

/** What is not in `readings`, under the id (gateway, epoch, lane, seq, idx). `index` is reserved in some engines. */
export const EXCEPTIONS: TableSpec = {
  name: 'exceptions',
  columns: [
    { name: 'gateway', type: 'string' },
    { name: 'epoch', type: 'string' },
    { name: 'lane', type: 'string' },
    { name: 'seq', type: 'long' },
    { name: 'idx', type: 'integer' },
    { name: 'kind', type: 'string' },
    { name: 'device', type: 'string' },
    { name: 'metric', type: 'string' },
    { name: 'from_ts', type: 'timestamp' },
    { name: 'to_ts', type: 'timestamp' },
    { name: 'reading_count', type: 'long' },
    { name: 'reason', type: 'string' },
    { name: 'payload', type: 'binary' },
    { name: 'ingested_at', type: 'timestamp' },
  ],
  partitionColumns: [],
  configuration: configuration(),
};

/** One partial a row; merging all of a window and group gives its aggregate. */
export const AGGREGATES: TableSpec = {
  name: 'aggregates',
  columns: [
    /** Hash of the window definition. */
    { name: 'def', type: 'string' },
    { name: 'window_name', type: 'string' },
    { name: 'window_start', type: 'timestamp' },
    { name: 'window_end', type: 'timestamp' },
    /** The group: null where the definition does not group by it. */
    { name: 'gateway', type: 'string' },
    { name: 'device', type: 'string' },
    { name: 'metric', type: 'string' },
    { name: 'tags', type: 'string' },
    { name: 'gen', type: 'long' },
    { name: 'n', type: 'long' },
    { name: 'mean', type: 'double' },
    { name: 'm2', type: 'double' },
    { name: 'min_value', type: 'double' },
    { name: 'max_value', type: 'double' },
    { name: 'sum_value', type: 'double' },
    { name: 'first_value', type: 'double' },
    { name: 'first_ts', type: 'timestamp' },
    { name: 'last_value', type: 'double' },
    { name: 'last_ts', type: 'timestamp' },
    /** Exponential histogram at scale 5: bucket to count. */
    { name: 'hist_pos', type: { key: 'integer', value: 'long' } },
    { name: 'hist_neg', type: { key: 'integer', value: 'long' } },
    { name: 'hist_zero', type: 'long' },
    /** Readings without a number. */
    { name: 'nan', type: 'long' },
    { name: 'late', type: 'long' },
    { name: 'revision', type: 'long' },
    /** The versions of `readings` that the partial covers: (src_from, src_to]. */
    { name: 'src_from', type: 'long' },
    { name: 'src_to', type: 'long' },
  ],
  partitionColumns: [],
  configuration: configuration(),
};

/** Accepted watermarks, append-only: the newest row of a gateway counts. */
export const PROGRESS: TableSpec = {
  name: 'progress',
  columns: [
    { name: 'gateway', type: 'string' },
    { name: 'watermark_ts', type: 'timestamp' },
    { name: 'asserted_ts', type: 'timestamp' },
    { name: 'epoch', type: 'string' },
  ],
  partitionColumns: [],
  configuration: configuration(),
};

export const TABLES: readonly TableSpec[] = [READINGS, EXCEPTIONS, AGGREGATES, PROGRESS];

function configuration(): Record<string, string> {
  return {
    // A 5 s commit interval makes a checkpoint every 8 minutes; replay of 100 entries takes about 10 ms (measured).
    'delta.checkpointInterval': '100',
    // 17,280 commits a day at 5 s: two days are 35,000 entries. Readers need only what came since they last looked.
    'delta.logRetentionDuration': 'interval 2 days',
    // Longer than any query runs; 7 days where a streaming reader is registered.
    'delta.deletedFileRetentionDuration': 'interval 1 days',
    // Positions outlive a gateway that is switched off for a year; the hub renews that of a lane that is opened every 30 days.
    'delta.setTransactionRetentionDuration': 'interval 400 days',
  };
}

/** How long a table keeps what it no longer needs, and how often it checkpoints. */
export interface Retention {
  readonly checkpointInterval: number;
  readonly logMs: number;
  readonly deletedFileMs: number;
  readonly txnMs: number;
}

const DAY_MS = 86_400_000;

/** The table's own settings, which an operator or another engine may have changed; ours where they cannot be read. */
export function retentionOf(metaData: Pick<MetaData, 'configuration'>): Retention {
  const { configuration: own } = metaData;
  const interval = Number(own['delta.checkpointInterval']);
  return {
    checkpointInterval: Number.isSafeInteger(interval) && interval > 0 ? interval : 100,
    logMs: intervalMs(own['delta.logRetentionDuration']) ?? 2 * DAY_MS,
    deletedFileMs: intervalMs(own['delta.deletedFileRetentionDuration']) ?? DAY_MS,
    txnMs: intervalMs(own['delta.setTransactionRetentionDuration']) ?? 400 * DAY_MS,
  };
}
