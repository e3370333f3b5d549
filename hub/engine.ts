/**
 * The engine of a hub: received batches → pending → lake → windows, in one thread, one step after the other.
 *
 * Purpose: the order in which things happen to the lake and to the windows. Everything that waits for the store runs in
 * one serial loop (`#serially`): opening a lane, a commit, following other hubs, a flush. Between awaits only
 * synchronous steps change state, so a capture at any moment sees lake, tail and overlay fit together.
 *
 * Constraints: never refuses one seq for ever (a batch that cannot be applied becomes an exception with its bytes); never
 * exits for an error of the store (it is tried again with a delay, the batches stay, the gateways are held back by
 * `pendingBytes`), but for one: a log whose entries are gone under a running hub can only be opened again (`fatal`).
 *
 * Crash: everything here is in memory. The gateways hold what is not in `readings`; tail, watermarks and positions are
 * rebuilt from the lake alone by `open`.
 */
import { decodeBatch, inspectBatch } from '../shared/batch/decode.ts';
import { SeriesTableCache } from '../shared/batch/series-table-cache.ts';
import type { Clock } from '../shared/clock.ts';
import { errorMessage, isSluiceError, SluiceError } from '../shared/errors.ts';
import { EXCEPTION_PAYLOAD_BYTES_MAX, type ExceptionRecord } from '../shared/exception.ts';
import type { Logger } from '../shared/logging.ts';
import { laneAppId, parseLaneAppId, type LaneClaim, type LaneKey, type WatermarkClaim } from '../shared/uplink.ts';
import { Captures } from './captures.ts';
import {
  DAYS_PER_COMMIT_MAX,
  type AggregateCapture,
  type AggregateFilter,
  type EngineSettings,
  type EngineStatus,
  type LaneState,
  type SnapshotCapture,
  type SnapshotRequest,
  type SubmittedBatch,
  type TableCapture,
  type TableName,
  type TableRange,
} from './engine-api.ts';
import { Committer } from './lake/committer.ts';
import type { ActionSet } from './lake/delta-actions.ts';
import { positionOf } from './lake/delta-snapshot.ts';
import type { AppliedVersion } from './lake/delta-table.ts';
import type { AcceptedWatermark, Lake } from './lake/lake.ts';
import { ServedFiles } from './lake/served-files.ts';
import { UnreadableFiles, type LakeTable } from './lake/unreadable-files.ts';
import { PendingLanes, type PendingBatch } from './lake/pending.ts';
import { daysOf } from './lake/readings-rows.ts';
import { SeriesOrder } from './lake/series-order.ts';
import { Flusher, type ProgressRow } from './windows/flusher.ts';
import { GroupRegistry } from './windows/group-registry.ts';
import { isFull, Overlay, type GatewayRuns } from './windows/overlay.ts';
import { readVersionRuns } from './windows/readings-source.ts';
import { Tail } from './windows/tail.ts';
import { Watermarks } from './windows/watermarks.ts';

/** How often the loop looks whether something is due. */
const TICK_MS = 50;
/** How often the log is asked for versions of other hubs when this hub commits nothing. */
const FOLLOW_INTERVAL_MS = 1_000;
/** After an error of the store: doubled from the first to the last. */
const RETRY_DELAY_MS_MIN = 250;
const RETRY_DELAY_MS_MAX = 15_000;
/** Lanes at which the commit interval has grown from its least to its most. */
const LANES_AT_INTERVAL_MAX = 1_000;
/** A commit that takes long is not followed by the next at once: at most this share of the time goes into commits. */
const COMMIT_TIME_RATIO_MAX = 0.25;
/** How often files that could not be read are looked at again. */
const RECHECK_INTERVAL_MS = 5_000;
/** A backlog that has arrived, no further batch of it for so long, does not wait for the interval: nothing would join it. */
const BACKLOG_QUIET_MS = 250;
/** So much is worth a commit and a file of its own; a slow backlog's commits are then at least so large. */
const BACKLOG_READINGS_MIN = 100_000;
/** What a window in memory costs at least: bounds a state that a flush could not empty in time. */
const SLOT_BYTES = 128;
/** Positions are kept for 400 days; a lane is opened anew at least with each start of its gateway and of the hub. */
const POSITION_RENEWAL_MS = 30 * 86_400_000;
/** About 60 MB; the registry of the windows knows no more series either. */
const SERIES_CACHED_MAX = 1_000_000;
/** A slice of work after which queries get a turn. */
const SLICE_MS = 5;

export interface EngineEvents {
  committed(positions: readonly { readonly appId: string; readonly committed: number }[]): void;
  pending(bytes: number): void;
  /** Between two steps of work: captures are possible now. */
  between?(): void;
  /** This engine cannot go on; a new one, from the lake, can. */
  fatal(error: Error): void;
}

export class Engine {
  readonly #settings: EngineSettings;
  readonly #lake: Lake;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #events: EngineEvents;
  readonly #pending = new PendingLanes();
  readonly #watermarks: Watermarks;
  readonly #registry = new GroupRegistry();
  readonly #tables = new SeriesTableCache(SERIES_CACHED_MAX);
  readonly #overlay: Overlay;
  readonly #committer: Committer;
  readonly #flusher: Flusher;
  /** The files of `readings` up to the last applied version. */
  readonly #readings: ServedFiles;
  /** All of `exceptions`: rows of a commit come before the readings that they go with. */
  readonly #exceptions: ServedFiles;
  readonly #unreadable: UnreadableFiles;
  readonly #tail: Tail;
  readonly #captures: Captures;
  readonly #openedLanes = new Set<string>();
  /** When the last batch of a backlog came that no commit has begun with; null: none. */
  #backlogMs: number | null = null;
  /** Versions that the tables have taken in and the windows have not, in order. */
  #incoming: AppliedVersion[] = [];
  #incomingProgress: AppliedVersion[] = [];
  #serial: Promise<unknown> = Promise.resolve();
  #isTurnQueued = false;
  #isFatal = false;
  #stopTick: () => void = () => undefined;
  #sliceStartMs = 0;
  #nextCommitMs = 0;
  #nextFollowMs = 0;
  #nextFlushMs = 0;
  #nextRecheckMs = 0;
  #retryDelayMs = 0;
  #retryAtMs = 0;
  /** Attempts in a row that found the windows full. */
  #fullTurns = 0;
  #progressWritten = new Map<string, number>();
  #totals = { readings: 0, batches: 0, exceptions: 0, commits: 0, conflicts: 0, flushes: 0, durationMs: 0 };
  #lastCommitUs: number | null = null;
  #lastError: string | null = null;

  private constructor(settings: EngineSettings, lake: Lake, clock: Clock, logger: Logger, events: EngineEvents) {
    this.#settings = settings;
    this.#lake = lake;
    this.#clock = clock;
    this.#logger = logger;
    this.#events = events;
    this.#readings = new ServedFiles(lake, lake.readings);
    this.#exceptions = new ServedFiles(lake, lake.exceptions);
    lake.exceptions.onVersion((version) => this.#exceptions.apply(version));
    this.#unreadable = new UnreadableFiles(lake);
    this.#watermarks = new Watermarks(settings.allowedLatenessMs);
    const lateBeforeUs = (gateway: string): number => this.#watermarks.acceptedUs(gateway) ?? -Infinity;
    const slotsMax = Math.floor(settings.windowBytesMax / SLOT_BYTES);
    this.#overlay = new Overlay(settings.definitions, this.#registry, lateBeforeUs, slotsMax, settings.commitReadingsMax);
    this.#flusher = new Flusher(
      lake,
      settings.definitions.filter((definition) => definition.persisted),
      () => this.#breathe(),
    );
    this.#tail = new Tail({
      lake,
      overlay: this.#overlay,
      flusher: this.#flusher,
      readings: this.#readings,
      logger,
      breathe: () => this.#breathe(),
    });
    this.#captures = new Captures({
      definitions: settings.definitions,
      gatewayIdleTimeoutMs: settings.gatewayIdleTimeoutMs,
      clock,
      lake,
      pending: this.#pending,
      watermarks: this.#watermarks,
      overlay: this.#overlay,
      tail: this.#tail,
      readings: this.#readings,
      exceptions: this.#exceptions,
      unreadable: this.#unreadable,
    });
    this.#committer = new Committer(lake, this.#pending, new SeriesOrder(this.#registry), {
      applyReadings: () => this.#applyReadings(),
      breathe: () => this.#breathe(),
    });
  }

  /**
   * Starts from the lake alone.
   *
   * Cost: the log, and the readings behind the position of the last flush; a definition that the lake has never seen costs
   * one pass over all readings.
   */
  static async open(settings: EngineSettings, lake: Lake, clock: Clock, logger: Logger, events: EngineEvents): Promise<Engine> {
    const engine = new Engine(settings, lake, clock, logger, events);
    engine.#restoreWatermarks(await lake.readProgress());
    lake.progress.onVersion((version) => {
      if (!version.isOwn) engine.#incomingProgress.push(version);
    });
    await engine.#tail.reread(() => engine.#readings.reset());
    for (const [appId, txn] of lake.readings.snapshot.txns) {
      const lane = parseLaneAppId(appId);
      if (lane === null) continue;
      engine.#pending.settle(lane, txn.version);
      engine.#watermarks.seen(lane.gateway, (txn.lastUpdated ?? 0) * 1000);
    }
    lake.readings.onVersion((version) => engine.#incoming.push(version));
    engine.#nextFlushMs = engine.#nowMs() + settings.flushIntervalMs;
    engine.#scheduleTick();
    return engine;
  }

  get lakeId(): string {
    return this.#lake.readings.snapshot.metaData.id;
  }

  #nowMs(): number {
    return this.#clock.monotonicUs() / 1000;
  }

  // --- lanes and batches -------------------------------------------------------------------------------------------

  openLane(lane: LaneKey, claim: LaneClaim, isRenamed = false): Promise<LaneState> {
    return this.#serially(async () => {
      await this.#follow();
      const appId = laneAppId(lane);
      await this.#renewPosition(appId);
      this.#openedLanes.add(appId);
      const committed = positionOf(this.#lake.readings.snapshot, appId);
      this.#settleLane(lane, committed);
      this.#watermarks.seen(lane.gateway, this.#clock.nowUs());
      if (committed > claim.assigned) return { committed, received: committed, status: 'forked' };
      const received = this.#pending.received(appId) ?? committed;
      if (claim.base > received + 1) this.#addLostSeqs(lane, received + 1, claim.base - 1, isRenamed);
      return { committed, received: this.#pending.received(appId) ?? committed, status: 'open' };
    });
  }

  /** A lane that its gateway still lists must not expire with those that nobody knows any more: the same position, once more. */
  async #renewPosition(appId: string): Promise<void> {
    const position = this.#lake.readings.snapshot.txns.get(appId);
    if (position === undefined || this.#clock.nowUs() / 1000 - (position.lastUpdated ?? Infinity) < POSITION_RENEWAL_MS) return;
    try {
      await this.#lake.readings.tryCommit({
        operation: 'STREAMING UPDATE',
        operationParameters: { outputMode: 'Append' },
        adds: [],
        removes: [],
        txns: [{ appId, from: position.version, to: position.version }],
      });
      await this.#applyReadings();
    } catch (error) {
      if (isSluiceError(error, 'ERR_LAKE_LOG_GAP')) throw error;
      this.#logger.warn({ err: error, lane: appId }, 'the position of a lane could not be renewed: its next opening tries again');
    }
  }

  /** Seqs that nobody holds any more: the lake was restored from before they were freed, or its log was lost. */
  #addLostSeqs(lane: LaneKey, firstSeq: number, lastSeq: number, isRenamed: boolean): void {
    const nowUs = this.#clock.nowUs();
    if (!isRenamed)
      this.#logger.error(
        { lane, firstSeq, lastSeq },
        'the gateway no longer holds batches that the lake does not have: they are recorded as a gap',
      );
    const record: ExceptionRecord = {
      kind: 'gap',
      device: null,
      metric: null,
      // A backlog may have been of any age when it was committed: what is not known to be whole is not said to be.
      fromUs: 0,
      toUs: nowUs,
      readingCount: null,
      reason: `lake_behind_gateway: batches ${firstSeq} to ${lastSeq} were freed by the gateway and are not in the lake`,
      payload: null,
    };
    this.#add({
      lane,
      appId: laneAppId(lane),
      firstSeq,
      seq: lastSeq,
      receivedUs: nowUs,
      runs: null,
      exceptions: isRenamed ? [] : [record],
      days: [],
      bytes: 512,
    });
  }

  submit(lane: LaneKey, batch: SubmittedBatch): void {
    // Another hub may have committed it while it was on its way from the thread of the sockets.
    if (batch.seq <= (this.#pending.received(laneAppId(lane)) ?? 0)) {
      this.#events.pending(this.#pending.bytes);
      return;
    }
    this.#watermarks.seen(lane.gateway, this.#clock.nowUs());
    const decoded = this.#decode(lane, batch);
    // Two steps of a few ms each: who waits for a capture waits for one of them.
    this.#events.between?.();
    this.#add(decoded);
  }

  #decode(lane: LaneKey, batch: SubmittedBatch): PendingBatch {
    const common = { lane, appId: laneAppId(lane), firstSeq: batch.seq, seq: batch.seq, receivedUs: batch.receivedUs };
    try {
      const { runs, exceptions } = decodeBatch(batch.body, (reader, count) => this.#tables.read(lane.gateway, reader, count));
      const days = daysOf(runs);
      if (days.length > DAYS_PER_COMMIT_MAX) {
        throw new SluiceError('ERR_BATCH_CONTENT', `the batch touches ${days.length} days, a commit at most ${DAYS_PER_COMMIT_MAX}`);
      }
      const payloadBytes = exceptions.reduce((sum, exception) => sum + 256 + (exception.payload?.byteLength ?? 0), 0);
      return { ...common, runs, exceptions, days, bytes: runs.count * 20 + runs.seriesTable.length * 64 + payloadBytes + 1024 };
    } catch (error) {
      // Its checksum was right: sending it again would bring the same bytes. It is kept as it is, and the lane goes on.
      this.#logger.error({ lane, seq: batch.seq, error: errorMessage(error) }, 'a batch cannot be applied and goes to exceptions');
      const record: ExceptionRecord = {
        kind: 'dead_letter',
        device: null,
        metric: null,
        ...arrivalOf(batch),
        readingCount: batch.readingCount,
        reason: `batch_not_applicable: ${isSluiceError(error) ? error.code : errorMessage(error)}`,
        payload: batch.body,
      };
      return { ...common, runs: null, exceptions: [record], days: [], bytes: batch.body.byteLength + EXCEPTION_PAYLOAD_BYTES_MAX };
    }
  }

  #add(batch: PendingBatch): void {
    const round = this.#pending.add(batch);
    if (batch.lane.lane === 'backfill') this.#backlogMs = this.#nowMs();
    if (batch.runs !== null) this.#overlay.addOpen({ gateway: batch.lane.gateway, runs: batch.runs }, round);
    this.#events.pending(this.#pending.bytes);
  }

  assertWatermark(gateway: string, claim: WatermarkClaim): void {
    this.#watermarks.claim(gateway, claim, this.#clock.nowUs(), (appId) => this.#pending.committed(appId));
  }

  /** Takes over what the log says about a lane; the overlay follows in the same step. */
  #settleLane(lane: LaneKey, committed: number): void {
    const dropped = this.#pending.settle(lane, committed);
    if (dropped.fromGroup > 0 || dropped.fromWaiting > 0) this.#rebuildOverlay();
    this.#watermarks.accept(lane.gateway, (appId) => this.#pending.committed(appId));
  }

  /** Queries get a turn between the steps. */
  async #finishOverlay(): Promise<void> {
    while (this.#overlay.isRebuilding) {
      await this.#breathe();
      this.#overlay.rebuildStep();
    }
  }

  #rebuildOverlay(): void {
    this.#overlay.rebuild(
      this.#pending.group().flatMap((lane) => lane.batches.flatMap(runsOf)),
      this.#pending.waitingWithRounds().flatMap(({ batch, round }) => runsOf(batch).map((runs) => ({ batch: runs, round }))),
    );
  }

  // --- the serial loop ---------------------------------------------------------------------------------------------

  #serially<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#serial.then(task);
    // The caller has the error; the next task does not depend on it.
    this.#serial = result.catch((error: unknown) => this.#checkFatal(error));
    return result;
  }

  /** Entries between the snapshot and the end of the log are gone: no retry brings them back, opening again starts behind them. */
  #checkFatal(error: unknown): void {
    if (this.#isFatal || !isSluiceError(error, 'ERR_LAKE_LOG_GAP')) return;
    this.#isFatal = true;
    this.#stopTick();
    this.#events.fatal(error);
  }

  #scheduleTick(): void {
    this.#stopTick = this.#clock.after(TICK_MS, () => {
      if (!this.#isTurnQueued && this.#nowMs() >= this.#retryAtMs) {
        this.#isTurnQueued = true;
        void this.#serially(() => this.#turn()).then(
          () => (this.#isTurnQueued = false),
          // Only what is fatal gets out of a turn: no further one is wanted.
          () => undefined,
        );
      }
      if (!this.#isFatal) this.#scheduleTick();
    });
  }

  /** Whatever is due. */
  async #turn(): Promise<void> {
    try {
      await this.#finishOverlay();
      if (this.#commitDue()) await this.#commit();
      if (this.#nowMs() >= this.#nextFollowMs) await this.#follow();
      if (this.#nowMs() >= this.#nextRecheckMs) await this.#recheckUnreadable();
      if (this.#nowMs() >= this.#nextFlushMs || this.#overlay.tailBytes > this.#settings.windowBytesMax) await this.#flush();
      this.#retryDelayMs = 0;
      this.#lastError = null;
      this.#fullTurns = 0;
    } catch (caught) {
      if (isSluiceError(caught, 'ERR_LAKE_LOG_GAP')) throw caught;
      const error = isFull(caught) ? await this.#makeRoom(caught) : caught;
      if (error === null) return;
      this.#retryDelayMs = Math.min(RETRY_DELAY_MS_MAX, Math.max(RETRY_DELAY_MS_MIN, this.#retryDelayMs * 2));
      this.#retryAtMs = this.#nowMs() + this.#retryDelayMs;
      this.#lastError = errorMessage(error);
      this.#logger.error(
        { err: error, retryDelayMs: this.#retryDelayMs },
        'the lake cannot be written; nothing is lost, it is tried again',
      );
    }
  }

  /**
   * The windows or their series are full: first the tail goes to the lake, then provisional answers give way.
   *
   * @returns the error that is left, null: try again
   */
  async #makeRoom(error: unknown): Promise<unknown> {
    this.#fullTurns++;
    try {
      if (this.#fullTurns === 1) await this.#flush();
      else if (this.#fullTurns === 2) this.#overlay.giveWay();
      else return error;
      return null;
    } catch (flushError) {
      return flushError;
    }
  }

  #commitDue(): boolean {
    if (this.#pending.hasGroup) return true;
    const { waitingBatches, waitingReadings, bytes } = this.#pending;
    if (waitingBatches === 0) return false;
    const { commitReadingsMax, commitBytesMax } = this.#settings;
    if (this.#nowMs() >= this.#nextCommitMs || waitingReadings >= commitReadingsMax || bytes >= commitBytesMax) return true;
    const quietMs = this.#backlogMs === null ? 0 : this.#nowMs() - this.#backlogMs;
    return quietMs >= BACKLOG_QUIET_MS && waitingReadings >= BACKLOG_READINGS_MIN;
  }

  /** Few lanes: the shortest interval; many lanes or slow commits: longer, so that the log grows more slowly. */
  commitIntervalMs(): number {
    const { commitIntervalMsMin: min, commitIntervalMsMax: max } = this.#settings;
    const byLanes = min + (max - min) * Math.min(1, this.#openedLanes.size / LANES_AT_INTERVAL_MAX);
    return Math.min(max, Math.max(byLanes, this.#totals.durationMs / COMMIT_TIME_RATIO_MAX));
  }

  async #commit(): Promise<void> {
    const startMs = this.#nowMs();
    if (!this.#pending.hasGroup) {
      this.#pending.takeGroup({
        readingsMax: this.#settings.commitReadingsMax,
        bytesMax: this.#settings.commitBytesMax,
        daysMax: DAYS_PER_COMMIT_MAX,
      });
      this.#overlay.rotate(
        this.#pending.waitingBatches === 0 ? null : this.#pending.group().flatMap((lane) => lane.batches.flatMap(runsOf)),
      );
      if (this.#pending.waitingBatches === 0) this.#backlogMs = null;
      await this.#finishOverlay();
    }
    const result = await this.#committer.commitGroup();
    this.#totals.readings += result.readings;
    this.#totals.batches += result.batches;
    this.#totals.exceptions += result.exceptions;
    this.#totals.conflicts += result.conflicts;
    this.#totals.commits++;
    this.#totals.durationMs = this.#nowMs() - startMs;
    this.#lastCommitUs = this.#clock.nowUs();
    this.#nextCommitMs = startMs + this.commitIntervalMs();
    this.#nextFollowMs = this.#nowMs() + FOLLOW_INTERVAL_MS;
    await this.#lake.checkpointIfDue();
  }

  /**
   * Applies what other hubs have committed since. Watermarks of others count only once the readings are here that they
   * depend on: those are older than the row of `progress`, so readings are asked for after it.
   */
  async #follow(): Promise<void> {
    this.#nextFollowMs = this.#nowMs() + FOLLOW_INTERVAL_MS;
    await this.#lake.progress.refresh();
    const progress = this.#incomingProgress.length;
    await this.#lake.readings.refresh();
    await this.#applyReadings();
    for (const version of this.#incomingProgress.splice(0, progress)) {
      this.#restoreWatermarks(await this.#lake.readProgressOf(version.actions.adds));
    }
  }

  #restoreWatermarks(rows: readonly AcceptedWatermark[]): void {
    for (const { gateway, watermarkUs, assertedUs } of rows) {
      this.#watermarks.restore(gateway, watermarkUs, assertedUs);
      this.#progressWritten.set(gateway, watermarkUs);
    }
  }

  async #applyReadings(): Promise<void> {
    let isFollowed = false;
    for (;;) {
      const version = this.#incoming[0];
      if (version === undefined) return;
      const isGroup = version.isOwn && this.#isGroup(version.actions);
      // A hub commits exceptions before the readings that they go with: who sees these must see those.
      if (!version.isOwn && !isFollowed) {
        await this.#lake.exceptions.refresh();
        isFollowed = true;
      }
      const runs = isGroup ? [] : await readVersionRuns(this.#lake, version.actions, () => this.#breathe());
      try {
        if (isGroup) this.#applyGroup(version);
        else this.#applyForeign(version, runs);
      } catch (error) {
        // What throws here has changed nothing.
        if (!isFull(error)) throw error;
        const rest = await this.#makeRoom(error);
        if (rest !== null) throw rest;
        // Where the flush was lost to another hub it took this version in: look again.
        continue;
      }
      this.#fullTurns = 0;
      this.#incoming.shift();
      this.#publishPositions(version.actions);
      while (this.#overlay.isMerging) {
        await this.#breathe();
        this.#overlay.mergeStep();
      }
    }
  }

  /** Is this version the commit of the group under way? (An answer that was lost may deliver it late.) */
  #isGroup(actions: ActionSet): boolean {
    const group = this.#pending.group();
    const moved = new Map(actions.txns.map((txn) => [txn.appId, txn.version]));
    return group.length > 0 && group.length === moved.size && group.every((lane) => moved.get(lane.appId) === lane.to);
  }

  #applyGroup(version: AppliedVersion): void {
    const group = this.#pending.group();
    this.#overlay.commitGroup(group.flatMap((lane) => lane.batches.flatMap(runsOf)));
    for (const lane of group) {
      this.#pending.settle(lane.key, lane.to);
      this.#watermarks.accept(lane.key.gateway, (appId) => this.#pending.committed(appId));
    }
    this.#readings.apply(version);
  }

  #applyForeign(version: AppliedVersion, runs: readonly GatewayRuns[]): void {
    this.#overlay.addTail(runs);
    if (this.#settleVersion(version)) this.#rebuildOverlay();
    this.#readings.apply(version);
  }

  /** @returns whether batches were dropped that the version covers */
  #settleVersion(version: AppliedVersion): boolean {
    let dropped = 0;
    for (const txn of version.actions.txns) {
      const lane = parseLaneAppId(txn.appId);
      if (lane === null) continue;
      const { fromGroup, fromWaiting } = this.#pending.settle(lane, txn.version);
      dropped += fromGroup + fromWaiting;
      this.#watermarks.seen(lane.gateway, version.timestampMs * 1000);
      this.#watermarks.accept(lane.gateway, (appId) => this.#pending.committed(appId));
    }
    return dropped > 0;
  }

  /** The tail was read anew from the lake, with all versions that wait here: they are taken in without being read again. */
  #takeOver(): void {
    const versions = this.#incoming;
    this.#incoming = [];
    let isDropped = false;
    for (const version of versions) {
      isDropped = this.#settleVersion(version) || isDropped;
      this.#readings.apply(version);
    }
    if (isDropped) this.#rebuildOverlay();
    for (const version of versions) this.#publishPositions(version.actions);
  }

  #publishPositions(actions: ActionSet): void {
    const positions = actions.txns
      .filter((txn) => parseLaneAppId(txn.appId) !== null)
      .map((txn) => ({ appId: txn.appId, committed: txn.version }));
    if (positions.length > 0) this.#events.committed(positions);
    this.#events.pending(this.#pending.bytes);
  }

  async #breathe(): Promise<void> {
    this.#events.between?.();
    if (this.#nowMs() - this.#sliceStartMs < SLICE_MS) return;
    await new Promise((resolve) => setImmediate(resolve));
    this.#sliceStartMs = this.#nowMs();
  }

  // --- windows -----------------------------------------------------------------------------------------------------

  async #flush(): Promise<void> {
    this.#nextFlushMs = this.#nowMs() + this.#settings.flushIntervalMs;
    if (await this.#tail.flush(() => this.#takeOver())) this.#totals.flushes++;
    await this.#writeProgress();
  }

  async #writeProgress(): Promise<void> {
    const assertedUs = this.#clock.nowUs();
    const rows: ProgressRow[] = [];
    for (const [gateway, watermarkUs] of this.#watermarks.all()) {
      if (this.#progressWritten.get(gateway) !== watermarkUs) rows.push({ gateway, watermarkUs, assertedUs });
    }
    await this.#flusher.writeProgress(rows, this.#settings.hubInstance);
    for (const row of rows) this.#progressWritten.set(row.gateway, row.watermarkUs);
  }

  // --- captures ----------------------------------------------------------------------------------------------------

  captureAggregates(filter: AggregateFilter): AggregateCapture {
    return this.#captures.aggregates(filter);
  }

  captureTable(table: TableName, range: TableRange): TableCapture {
    return this.#captures.table(table, range);
  }

  /** As it was at an earlier version; null: too far back, or not in the log any more. */
  captureTableAt(table: LakeTable, range: TableRange, version: number): Promise<TableCapture | null> {
    return this.#captures.tableAt(table, range, version);
  }

  captureSnapshot(request: SnapshotRequest): SnapshotCapture {
    return this.#captures.snapshot(request);
  }

  /** As captureAggregates; one that takes long is made in steps: batches come in meanwhile, commits wait, but for one that is due. */
  captureAggregatesInTurn(filter: AggregateFilter): AggregateCapture | Promise<AggregateCapture> {
    if (!this.#captures.isWide(filter)) return this.captureAggregates(filter);
    return this.#inTurn(() => this.#captures.aggregatesInSteps(filter, () => this.#breathe()));
  }

  /** As captureSnapshot, in steps as captureAggregatesInTurn. */
  captureSnapshotInTurn(request: SnapshotRequest): SnapshotCapture | Promise<SnapshotCapture> {
    if (!this.#captures.isWideSnapshot(request)) return this.captureSnapshot(request);
    return this.#inTurn(() => this.#captures.snapshotInSteps(request, () => this.#breathe()));
  }

  #inTurn<T>(capture: () => Promise<T>): Promise<T> {
    return this.#serially(async () => {
      if (this.#commitDue() && this.#nowMs() >= this.#retryAtMs) await this.#turn();
      return capture();
    });
  }

  /**
   * Queries could not read these files: captures leave them out from now on, until they can be read again.
   *
   * @param paths as captures gave them
   * @returns whether that is news: then a new capture may be answered
   */
  async reportUnreadable(paths: readonly string[]): Promise<boolean> {
    let isNew = false;
    for (const table of ['readings', 'exceptions', 'aggregates'] as const) {
      const root = `${this.#lake.localPath(this.#lake[table], '')}/`;
      const own = paths.filter((path) => path.startsWith(root)).map((path) => path.slice(root.length));
      isNew = (await this.#unreadable.add(table, own)) || isNew;
    }
    return isNew;
  }

  async #recheckUnreadable(): Promise<void> {
    this.#nextRecheckMs = this.#nowMs() + RECHECK_INTERVAL_MS;
    if (this.#unreadable.size > 0) await this.#unreadable.recheck(false);
  }

  status(): EngineStatus {
    const lanes = [...this.#pending.lanes()]
      .filter(({ key }) => this.#openedLanes.has(laneAppId(key)))
      .map(({ key, committed }) => ({ ...key, committed, received: this.#pending.received(laneAppId(key)) ?? committed }));
    return {
      lakeId: this.lakeId,
      readingsVersion: this.#readings.version,
      aggregatesVersion: this.#tail.aggregates.version,
      readingsCommittedTotal: this.#totals.readings,
      batchesCommittedTotal: this.#totals.batches,
      exceptionsCommittedTotal: this.#totals.exceptions,
      commitsTotal: this.#totals.commits,
      commitConflictsTotal: this.#totals.conflicts,
      commitDurationMsLast: this.#totals.durationMs,
      commitIntervalMs: this.commitIntervalMs(),
      lastCommitUs: this.#lastCommitUs,
      lastError: this.#lastError,
      pendingReadings: this.#pending.readings,
      pendingBytes: this.#pending.bytes,
      windowGroups: this.#overlay.slotCount,
      windowBytes: this.#overlay.bytes,
      flushesTotal: this.#totals.flushes,
      unreadableFiles: this.#unreadable.size,
      lanes,
      watermarks: this.#watermarks.all(),
      releasedEpochs: this.#captures.releasedEpochs(),
    };
  }

  /** Resolves when all that was asked for until now is done. */
  idle(): Promise<void> {
    return this.#serially(() => Promise.resolve());
  }

  /** Flushes the windows now. @throws SluiceError of the store: tried again when it is due */
  flush(): Promise<void> {
    return this.#serially(() => this.#flush());
  }

  /** Commits and flushes what is there. What fails stays with the gateways and in the log. */
  async stop(): Promise<void> {
    this.#stopTick();
    await this.#serially(async () => {
      if (this.#pending.hasGroup || this.#pending.waitingBatches > 0) await this.#commit();
      if (this.#pending.waitingBatches > 0) await this.#commit();
      await this.#flush();
    });
  }
}

/** When the content of a batch that cannot be decoded arrived at its gateway, from its envelope if that can be read. */
function arrivalOf(batch: SubmittedBatch): { readonly fromUs: number; readonly toUs: number } {
  try {
    const { arrivalFromUs, arrivalToUs } = inspectBatch(batch.body);
    return { fromUs: arrivalFromUs, toUs: arrivalToUs + 1 };
  } catch {
    return { fromUs: 0, toUs: batch.receivedUs }; // not even that: it may be of any time
  }
}

function runsOf(batch: PendingBatch): GatewayRuns[] {
  return batch.runs === null ? [] : [{ gateway: batch.lane.gateway, runs: batch.runs }];
}
