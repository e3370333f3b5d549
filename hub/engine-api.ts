/**
 * What the main thread of a hub (uplink, HTTP) says to its engine.
 *
 * The engine is one worker thread: decode, windows, the lake's commit loop. It owns no socket, so its work may take its
 * time; it does it in slices of about 5 ms, so that captures for queries get in between.
 */
import type { MessagePort } from 'node:worker_threads';
import type { SentPartials } from '../shared/window/packed-partials.ts';
import type { WindowDefinition } from '../shared/window/definition.ts';
import type { LaneClaim, LaneKey, LaneStatus, WatermarkClaim } from '../shared/uplink.ts';

/** One batch as it came over the wire; checksum and wire version have been checked. */
export interface SubmittedBatch {
  readonly seq: number;
  readonly readingCount: number;
  readonly exceptionCount: number;
  /** Hub wall clock, µs: becomes `ingested_at`. */
  readonly receivedUs: number;
  readonly body: Uint8Array;
}

export interface LaneState {
  /** In the lake. */
  readonly committed: number;
  /** In this hub's memory or the lake: batches after it are wanted. */
  readonly received: number;
  readonly status: LaneStatus;
}

export interface IngestEngine {
  /** metaData.id of `readings`. */
  readonly lakeId: string;
  /**
   * Re-reads the log and says where the lane stands. Where the claim's base is above committed + 1 (the lake was restored,
   * the log lost), the missing seqs become a committed gap first. Forgets batches of the lane that are pending here if the
   * log has passed them. `forked` when the log is above `claim.assigned`.
   *
   * @param isRenamed the lane goes on under a new name: seqs below the claim's base were committed under the old one
   */
  openLane(lane: LaneKey, claim: LaneClaim, isRenamed?: boolean): Promise<LaneState>;
  /** The caller submits seqs of a lane without holes, from received + 1 on. The body is transferred: do not touch it afterwards. */
  submit(lane: LaneKey, batch: SubmittedBatch): void;
  /** The gateway's newest watermark claim; it counts once its positions are committed. */
  assertWatermark(gateway: string, claim: WatermarkClaim): void;
  /** Called whenever a lane's committed position moved (own commit or another hub's). */
  onCommitted(callback: (lane: LaneKey, committed: number) => void): void;
  /** Bytes submitted and not yet committed: the caller pauses its sockets above its bound. */
  readonly pendingBytes: number;
  /** Of them, those that the engine has not looked at: what is submitted now waits behind them. undefined: none. */
  readonly waitingBytes?: number;
  onPendingBytes(callback: (pendingBytes: number) => void): void;
}

/** What an aggregate query selects; null = all. In names `*` stands for any characters. */
export interface AggregateFilter {
  /** Name of the window definition: '1m', '1h', '1m_by_metric', '10s'. */
  readonly window: string;
  /** Window starts in [fromUs, toUs). */
  readonly fromUs: number;
  readonly toUs: number;
  readonly gateways: readonly string[] | null;
  readonly devices: readonly string[] | null;
  readonly metrics: readonly string[] | null;
}

/** A file of the lake that a query has to read. */
export interface LakeFile {
  /** Absolute path on this machine. */
  readonly path: string;
  readonly size: number;
  /** UTC day 'YYYY-MM-DD' of a partitioned table, else null. */
  readonly day: string | null;
}

/**
 * Everything that an answer about windows needs, captured of one moment of the engine: the lake's partials are in
 * `files`, everything newer is in `tail`; nothing is in both, nothing is missing.
 */
export interface AggregateCapture {
  readonly definition: WindowDefinition;
  readonly definitionHash: string;
  readonly aggregatesVersion: number;
  readonly readingsVersion: number;
  /** Of a persisted definition files of `aggregates` (rows of other definitions among them), else of `readings`; pruned by statistics. */
  readonly files: readonly LakeFile[];
  /** Partials that are not in `files`: of the tail and of the overlay, filtered; a window may have a row in each. */
  readonly tail: readonly SentPartials[];
  /** false: memory was short, and some received readings are missing from `tail` until they are committed. */
  readonly overlayComplete: boolean;
  /** Accepted watermark per gateway (µs); gateways without one yet are absent. */
  readonly watermarks: ReadonlyMap<string, number>;
  /** Gateways that hold windows open: known, not timed out. */
  readonly activeGateways: readonly string[];
  /** Exceptions that overlap the range: files of table `exceptions` and rows not yet there. */
  readonly exceptionFiles: readonly LakeFile[];
  readonly pendingExceptions: readonly PendingException[];
  /** Of the lanes of releases (release-lane.ts): their exceptions are not missing any more. */
  readonly releasedEpochs?: readonly string[];
}

export interface PendingException {
  /** null: several, or unknown. */
  readonly gateway: string | null;
  readonly kind: string;
  readonly device: string | null;
  readonly metric: string | null;
  readonly fromUs: number;
  readonly toUs: number;
  readonly readingCount: number | null;
  readonly reason: string;
}

export type TableName = 'readings' | 'exceptions' | 'aggregates' | 'progress';

/** null = all. In names `*` stands for any characters. */
export interface TableRange {
  /** Of `aggregates`: hashes of definitions. */
  readonly definitions?: readonly string[] | null;
  /** Event times in [fromUs, toUs): ts, window_start, or the range from_ts .. to_ts of an exception. */
  readonly fromUs: number;
  readonly toUs: number;
  readonly devices: readonly string[] | null;
  readonly metrics: readonly string[] | null;
}

export interface TableCapture {
  readonly version: number;
  readonly files: readonly LakeFile[];
  /** Files of the range that cannot be read: their rows are missing from the answer, which has to say so. */
  readonly unreadable: readonly UnreadableFile[];
}

export interface UnreadableFile {
  /** Relative to the table. */
  readonly path: string;
  /** null: unknown. */
  readonly rows: number | null;
  /** Event times in [fromUs, toUs). */
  readonly fromUs: number;
  readonly toUs: number;
}

/** Which parts of the tables a statement reads; null: the table is not read. */
export interface SnapshotRequest {
  readonly readings: TableRange | null;
  readonly exceptions: TableRange | null;
  /** Window starts. */
  readonly aggregates: TableRange | null;
}

/** All of it captured of one moment. */
export interface SnapshotCapture {
  readonly readings: TableCapture | null;
  readonly exceptions: TableCapture | null;
  /** One per persisted definition. Empty where aggregates are not read. */
  readonly aggregates: readonly AggregateCapture[];
}

export interface EngineStatus {
  readonly lakeId: string;
  readonly readingsVersion: number;
  readonly aggregatesVersion: number;
  readonly readingsCommittedTotal: number;
  readonly batchesCommittedTotal: number;
  readonly exceptionsCommittedTotal: number;
  readonly commitsTotal: number;
  readonly commitConflictsTotal: number;
  readonly commitDurationMsLast: number;
  readonly commitIntervalMs: number;
  readonly lastCommitUs: number | null;
  readonly lastError: string | null;
  readonly pendingReadings: number;
  readonly pendingBytes: number;
  readonly windowGroups: number;
  readonly windowBytes: number;
  readonly flushesTotal: number;
  /** Files of the lake that queries could not read. */
  readonly unreadableFiles: number;
  readonly lanes: readonly { gateway: string; epoch: string; lane: string; committed: number; received: number }[];
  readonly watermarks: ReadonlyMap<string, number>;
  /** Of the lanes of releases (release-lane.ts). */
  readonly releasedEpochs?: readonly string[];
}

export interface QueryEngine {
  readonly definitions: readonly WindowDefinition[];
  captureAggregates(filter: AggregateFilter): Promise<AggregateCapture>;
  /** For another thread: it captures over the port (capture-channel.ts). Absent: over the thread that asks. */
  captureChannel?(): MessagePort;
  /** Active files of a table, pruned by statistics to those that may hold rows of the range. */
  captureTable(table: TableName, range: TableRange): Promise<TableCapture>;
  /** As it was at an earlier version; null: too far back, or not in the log any more. Absent: never. */
  captureTableAt?(table: 'readings' | 'exceptions', range: TableRange, version: number): Promise<TableCapture | null>;
  /**
   * These files of a capture could not be read: later captures leave them out and say so, until they can be read again.
   *
   * @returns whether one of them was not known: then it is worth to capture again
   */
  reportUnreadable(paths: readonly string[]): Promise<boolean>;
  status(): Promise<EngineStatus>;
}

/** What statements of others (SQL) are run over. */
export interface SnapshotEngine {
  captureSnapshot(request: SnapshotRequest): Promise<SnapshotCapture>;
  /** As QueryEngine has it. */
  reportUnreadable(paths: readonly string[]): Promise<boolean>;
}

/** Settings of the engine, part of the hub's configuration. */
export interface EngineSettings {
  readonly lakeDir: string;
  /** Random identity of this start of the hub. */
  readonly hubInstance: string;
  readonly commitIntervalMsMin: number;
  readonly commitIntervalMsMax: number;
  readonly commitReadingsMax: number;
  readonly commitBytesMax: number;
  readonly flushIntervalMs: number;
  readonly windowBytesMax: number;
  readonly allowedLatenessMs: number;
  readonly gatewayIdleTimeoutMs: number;
  readonly definitions: readonly WindowDefinition[];
  readonly logLevel: string;
}

/** One file a day and commit: a fleet that drains years of backlog must not open thousands at once (design: invariant 7). */
export const DAYS_PER_COMMIT_MAX = 64;
