/**
 * What the rest of the gateway says to the journal. The journal itself (SQLite and its fsync) lives in a worker thread;
 * these are the shapes that cross to it, columns transferred, not copied.
 */
import type { ExceptionRecord } from '../../shared/exception.ts';
import type { Series } from '../../shared/reading.ts';
import type { Backlog, LaneClaim, LaneName } from '../../shared/uplink.ts';
import type { SessionChange } from './sessions.ts';

/**
 * Where a decoder puts readings: straight into the columns of the open group, no object per reading.
 */
export interface ReadingSink {
  /**
   * @param seriesId from SeriesRegistry.idOf
   * @param eventTimeUs integer µs, or NaN: the device sent no time, arrival counts
   * @param value NaN where the reading has only a text
   * @param text null for a plain number
   */
  add(seriesId: number, eventTimeUs: number, value: number, text: string | null): void;
  /** A part of the message that cannot become a reading (one metric that is not a number, say). */
  exception(record: ExceptionRecord): void;
}

/** A series with the priority of the topic rule that first brought it: the highest is thinned and dropped last. */
export interface RegisteredSeries extends Series {
  readonly priority: number;
}

/** Series of this process, bounded by `seriesMax`; ids are dense from 0 and valid until the process ends. */
export interface SeriesRegistry {
  /**
   * @param priority of a new series; a known one keeps its own. Default 0
   * @throws SluiceError for a new series: ERR_SERIES_LIMIT when the registry is full, ERR_SERIES_NAME when a name cannot stand in a batch.
   */
  idOf(device: string, metric: string, tags: string, priority?: number): number;
  readonly size: number;
  seriesOf(id: number): Series;
}

/** What makes a QoS 1 or 2 message recognisable when it comes again after a crash (design.md, section 5). */
export interface RedeliveryKey {
  readonly clientId: string;
  readonly messageId: number;
  /** 53-bit hash of topic and payload: `messageHash`. */
  readonly hash: number;
  readonly qos: 1 | 2;
}

/** How far a source that can be read again has been read; durable in the same transaction as what was read. */
export interface SourcePosition {
  /** Name of the source, for a file its content: at most 256 characters. */
  readonly source: string;
  /** Integer from 0; what it counts is the source's own affair. */
  readonly at: number;
}

/** How one message enters the journal. */
export interface MessageOptions {
  /** null: QoS 0, HTTP without key, host metrics. */
  readonly redelivery: RedeliveryKey | null;
  /** null: none. A known key means that the message is already durable. */
  readonly idempotencyKey: string | null;
  /** Replaces the position of that source. Needs `done`. */
  readonly position?: SourcePosition;
  /** What it changes of sessions and retained messages, durable with it. */
  readonly changes?: readonly SessionChange[];
  /** Called once after the group commit (error null) or when it could not be stored. null: nobody waits (QoS 0). */
  readonly done: ((error: Error | null, ticket: number) => void) | null;
  /** What `done` is to be told beside it, so that one function can serve all messages of a connection. Default 0. */
  readonly ticket?: number;
}

/**
 * The group commit, on the thread that owns the sockets. Order is the order of the `message` calls, which are synchronous.
 */
export interface JournalWriter {
  readonly series: SeriesRegistry;
  /**
   * Takes one message. `decode` is called at once and may throw: then nothing of the message stays in the group, and the
   * error is rethrown (the caller turns it into a dead letter by a further `message` call).
   *
   * A commit starts when the previous one is done and something with `done` waits; without, after at most 5 s.
   *
   * While the journal is over its bound, full or closed, `decode` is not called: `done` fails after 5 s with
   * ERR_JOURNAL_BUSY, _FULL or _CLOSED (all retryable), and what has no `done` is counted in a gap. Otherwise `done` fails with
   * ERR_JOURNAL_UNAVAILABLE (retryable) or ERR_JOURNAL_MESSAGE (this message alone can never be stored).
   */
  message(decode: (sink: ReadingSink) => void, options: MessageOptions): void;
  /** Is this DUP=1 message the redelivery of one that is, or is about to be, durable? `whenDurable` is then called once it is. */
  isRedelivery(key: RedeliveryKey, whenDurable: (error: Error | null) => void): boolean;
  /**
   * Is a QoS 2 message with this id between its PUBLISH and its PUBREL (also across a restart)? true also while its commit is
   * under way: to acknowledge, ask `isRedelivery`, which waits.
   */
  qos2Open(clientId: string, messageId: number): boolean;
  /** PUBREL: forgets the QoS 2 id, durably, then calls back. */
  qos2Release(clientId: string, messageId: number, done: (error: Error | null) => void): void;
  /**
   * Changes of sessions and retained messages that come with no reading. Without `done` they ride along (at most 5 s), and
   * what a full journal refuses of them is forgotten: only what may happen twice is written so.
   */
  sessionChanges(changes: readonly SessionChange[], done: ((error: Error | null) => void) | null): void;
  /** Was an HTTP request with this key taken before (24 h)? `whenDurable` as above. */
  isIdempotent(key: string, whenDurable: (error: Error | null) => void): boolean;
  /** The last durable position of a source; null: none, or too many others (POSITIONS_MAX) moved since. */
  sourcePosition(source: string): number | null;
}

/** A sealed batch with its durable place in a lane, ready to be offered. */
export interface OfferedBatch {
  readonly epoch: string;
  readonly lane: LaneName;
  readonly seq: number;
  readonly readingCount: number;
  readonly exceptionCount: number;
  readonly arrivalFromUs: number;
  readonly body: Uint8Array;
}

/** A lane as the journal has it. */
export interface JournalLane extends LaneClaim {
  /** Something is held, or there is something for it that only an offer places. */
  readonly isDue: boolean;
}

/** What the uplink asks of the journal. All answers are durable when they resolve. */
export interface UplinkJournal {
  /** This opening's epoch: 32 hex digits. */
  readonly epoch: string;
  /** The pinned lake id; null before the first contact. */
  readonly lakeId: string | null;
  pinLake(lakeId: string): Promise<void>;
  /** All lanes of which something is held, and those of the current epoch that are live or were ever assigned to. */
  lanes(): Promise<JournalLane[]>;
  /**
   * Batches of the lane after `afterSeq`, in order, at most `bytesMax` (but at least one): those that have a seq already,
   * then, on a lane of the current epoch, sealed ones that get theirs now, durably, before this resolves.
   */
  offer(epoch: string, lane: LaneName, afterSeq: number, bytesMax: number): Promise<OfferedBatch[]>;
  /** The hub says committed: frees batches up to and including `seq`, never above what was assigned. */
  free(epoch: string, lane: LaneName, seq: number): Promise<void>;
  /**
   * The hub's position is above what was ever assigned: batches without a seq get theirs in a new epoch, those with one keep
   * it in the old lane. Nothing is freed.
   */
  startNewEpoch(reason: string): Promise<void>;
  backlog(): Backlog;
  /** Arrival (wall clock, µs) of the oldest reading that is neither committed nor covered by `positions`; null if none. */
  watermark(): { us: number; positions: { epoch: string; lane: LaneName; seq: number }[] } | null;
  /** Called when something new may be offered. */
  onSealed(callback: () => void): void;
}
