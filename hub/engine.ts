/**
 * The engine of a hub: received batches → pending → lake → windows, in one thread, one step after the other.
 *
 * Purpose: the order in which things happen to the lake and to the windows. Everything that waits for the store runs in
 * one serial loop (`#serially`): opening a lane, a commit, following other hubs, a flush, maintenance. Between awaits only
 * synchronous steps change state, so a capture at any moment sees lake, tail and overlay fit together.
 *
 * Constraints: never refuses one seq for ever (a batch that cannot be applied becomes an exception with its bytes); never
 * exits for an error of the store (it is tried again with a delay, the batches stay, the gateways are held back by
 * `pendingBytes`).
 *
 * Crash: everything here is in memory. The gateways hold what is not in `readings`; tail, watermarks and positions are
 * rebuilt from the lake alone by `open`.
 */
import assert from 'node:assert/strict';
import { decodeBatch } from '../shared/batch/decode.ts';
import type { Clock } from '../shared/clock.ts';
import { errorMessage, isSluiceError } from '../shared/errors.ts';
import { EXCEPTION_PAYLOAD_BYTES_MAX, type ExceptionRecord } from '../shared/exception.ts';
import type { Logger } from '../shared/logging.ts';
import { laneAppId, parseLaneAppId, type LaneClaim, type LaneKey, type WatermarkClaim } from '../shared/uplink.ts';
import { definitionHash, type WindowDefinition } from '../shared/window/definition.ts';
import type { AggregateCapture, AggregateFilter, EngineSettings, EngineStatus, LaneState, SubmittedBatch, TableCapture, TableName, TableRange } from './engine-api.ts';
import { Committer } from './lake/committer.ts';
import type { ActionSet } from './lake/delta-actions.ts';
import { positionOf } from './lake/delta-snapshot.ts';
import type { AppliedVersion } from './lake/delta-table.ts';
import type { Lake } from './lake/lake.ts';
import { ServedFiles } from './lake/served-files.ts';
import { PendingLanes, type PendingBatch } from './lake/pending.ts';
import { SeriesOrder } from './lake/series-order.ts';
import { Flusher, type ProgressRow } from './windows/flusher.ts';
import { GroupRegistry } from './windows/group-registry.ts';
import { isFull, Overlay, type GatewayRuns } from './windows/overlay.ts';
import { readGatewayRuns } from './windows/readings-source.ts';
import { rebuildWindows } from './windows/rebuild.ts';
import { Watermarks } from './windows/watermarks.ts';
import type { WindowState } from './windows/window-state.ts';

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
/** A slice of work after which queries get a turn. */
const SLICE_MS = 5;

export interface EngineEvents {
  committed(positions: readonly { readonly appId: string; readonly committed: number }[]): void;
  pending(bytes: number): void;
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
  readonly #overlay: Overlay;
  readonly #committer: Committer;
  readonly #flusher: Flusher;
  /** The files of `readings` up to the last applied version, and of `aggregates` as they fit to the tail. */
  readonly #readings: ServedFiles;
  readonly #aggregates: ServedFiles;
  readonly #openedLanes = new Set<string>();
  /** Versions that the tables have taken in and the windows have not, in order. */
  #incoming: AppliedVersion[] = [];
  #incomingAggregates: AppliedVersion[] = [];
  #serial: Promise<unknown> = Promise.resolve();
  #busy = 0;
  #stopTick: () => void = () => undefined;
  #sliceStartMs = performance.now();
  #nextCommitMs = 0;
  #nextFollowMs = 0;
  #nextFlushMs = 0;
  #retryDelayMs = 0;
  #retryAtMs = 0;
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
    this.#aggregates = new ServedFiles(lake, lake.aggregates);
    this.#watermarks = new Watermarks(settings.allowedLatenessMs);
    this.#overlay = new Overlay(settings.definitions, this.#registry, (gateway) => this.#watermarks.acceptedUs(gateway) ?? -Infinity);
    this.#flusher = new Flusher(
      lake,
      settings.definitions.filter((definition) => definition.persisted),
      () => this.#breathe(),
    );
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
    for (const { gateway, watermarkUs, assertedUs } of await lake.readProgress()) engine.#watermarks.restore(gateway, watermarkUs, assertedUs);
    await engine.#restoreWindows();
    for (const appId of lake.readings.snapshot.txns.keys()) {
      const lane = parseLaneAppId(appId);
      if (lane !== null) engine.#watermarks.seen(lane.gateway, (lake.readings.snapshot.txns.get(appId)?.lastUpdated ?? 0) * 1000);
    }
    lake.readings.onVersion((version) => engine.#incoming.push(version));
    lake.aggregates.onVersion((version) => engine.#incomingAggregates.push(version));
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

  openLane(lane: LaneKey, claim: LaneClaim): Promise<LaneState> {
    return this.#serially(async () => {
      await this.#follow();
      const appId = laneAppId(lane);
      this.#openedLanes.add(appId);
      const committed = positionOf(this.#lake.readings.snapshot, appId);
      this.#settleLane(lane, committed);
      this.#watermarks.seen(lane.gateway, this.#clock.nowUs());
      if (committed > claim.assigned) return { committed, received: committed, status: 'forked' };
      const received = this.#pending.received(appId) ?? committed;
      if (claim.base > received + 1) this.#addLostSeqs(lane, received + 1, claim.base - 1);
      return { committed, received: this.#pending.received(appId) ?? committed, status: 'open' };
    });
  }

  /** Seqs that nobody holds any more: the lake was restored from before they were freed, or its log was lost. */
  #addLostSeqs(lane: LaneKey, firstSeq: number, lastSeq: number): void {
    const nowUs = this.#clock.nowUs();
    this.#logger.error({ lane, firstSeq, lastSeq }, 'the gateway no longer holds batches that the lake does not have: they are recorded as a gap');
    const record: ExceptionRecord = {
      kind: 'gap',
      device: null,
      metric: null,
      fromUs: 0,
      toUs: nowUs,
      readingCount: null,
      reason: `lake_behind_gateway: batches ${firstSeq} to ${lastSeq} were freed by the gateway and are not in the lake`,
      payload: null,
    };
    this.#add({ lane, appId: laneAppId(lane), firstSeq, seq: lastSeq, receivedUs: nowUs, runs: null, exceptions: [record], bytes: 512 });
  }

  submit(lane: LaneKey, batch: SubmittedBatch): void {
    this.#add(this.#decode(lane, batch));
  }

  #decode(lane: LaneKey, batch: SubmittedBatch): PendingBatch {
    const common = { lane, appId: laneAppId(lane), firstSeq: batch.seq, seq: batch.seq, receivedUs: batch.receivedUs };
    try {
      const { runs, exceptions } = decodeBatch(batch.body);
      const payloadBytes = exceptions.reduce((sum, exception) => sum + 256 + (exception.payload?.byteLength ?? 0), 0);
      return { ...common, runs, exceptions, bytes: runs.count * 20 + runs.seriesTable.length * 64 + payloadBytes + 1024 };
    } catch (error) {
      // Its checksum was right: sending it again would bring the same bytes. It is kept as it is, and the lane goes on.
      this.#logger.error({ lane, seq: batch.seq, error: errorMessage(error) }, 'a batch cannot be applied and goes to exceptions');
      const record: ExceptionRecord = {
        kind: 'dead_letter',
        device: null,
        metric: null,
        fromUs: 0,
        toUs: batch.receivedUs,
        readingCount: batch.readingCount,
        reason: `batch_not_applicable: ${isSluiceError(error) ? error.code : errorMessage(error)}`,
        payload: batch.body,
      };
      return { ...common, runs: null, exceptions: [record], bytes: batch.body.byteLength + EXCEPTION_PAYLOAD_BYTES_MAX };
    }
  }

  #add(batch: PendingBatch): void {
    this.#pending.add(batch);
    if (batch.runs !== null) this.#overlay.addOpen({ gateway: batch.lane.gateway, runs: batch.runs });
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

  #rebuildOverlay(): void {
    this.#overlay.rebuild(
      this.#pending.group().flatMap((lane) => lane.batches.flatMap(runsOf)),
      [...this.#pending.waitingInOrder()].flatMap(runsOf),
    );
  }

  // --- the serial loop ---------------------------------------------------------------------------------------------

  #serially<T>(task: () => Promise<T>): Promise<T> {
    this.#busy++;
    const result = this.#serial.then(task).finally(() => this.#busy--);
    this.#serial = result.catch(() => undefined); // the caller has the error; the next task does not depend on it
    return result;
  }

  #scheduleTick(): void {
    this.#stopTick = this.#clock.after(TICK_MS, () => {
      if (this.#busy === 0 && this.#nowMs() >= this.#retryAtMs) void this.#serially(() => this.#turn()).catch(() => undefined);
      this.#scheduleTick();
    });
  }

  /** Whatever is due. */
  async #turn(): Promise<void> {
    try {
      if (this.#commitDue()) await this.#commit();
      if (this.#nowMs() >= this.#nextFollowMs) await this.#follow();
      if (this.#nowMs() >= this.#nextFlushMs || this.#overlay.tailBytes > this.#settings.windowBytesMax) await this.#flush();
      this.#retryDelayMs = 0;
      this.#lastError = null;
    } catch (caught) {
      const error = await this.#makeRoom(caught);
      if (error === null) return;
      this.#retryDelayMs = Math.min(RETRY_DELAY_MS_MAX, Math.max(RETRY_DELAY_MS_MIN, this.#retryDelayMs * 2));
      this.#retryAtMs = this.#nowMs() + this.#retryDelayMs;
      this.#lastError = errorMessage(error);
      this.#logger.error({ err: error, retryDelayMs: this.#retryDelayMs }, 'the lake cannot be written; nothing is lost, it is tried again');
    }
  }

  /** Series ran out while sorting a commit: what the flush frees is room. @returns the error that is left, null for none. */
  async #makeRoom(error: unknown): Promise<unknown> {
    if (!isFull(error)) return error;
    try {
      await this.#flush();
      return null;
    } catch (flushError) {
      return flushError;
    }
  }

  #commitDue(): boolean {
    if (this.#pending.hasGroup) return true;
    const { waitingBatches, waitingReadings, bytes } = this.#pending;
    if (waitingBatches === 0) return false;
    return this.#nowMs() >= this.#nextCommitMs || waitingReadings >= this.#settings.commitReadingsMax || bytes >= this.#settings.commitBytesMax;
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
      this.#pending.takeGroup({ readingsMax: this.#settings.commitReadingsMax, bytesMax: this.#settings.commitBytesMax });
      this.#overlay.rotate();
      // What did not fit into the group waits on: it belongs to the open state again.
      if (this.#pending.waitingBatches > 0) this.#rebuildOverlay();
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

  /** Applies what other hubs have committed since. */
  async #follow(): Promise<void> {
    this.#nextFollowMs = this.#nowMs() + FOLLOW_INTERVAL_MS;
    await this.#lake.readings.refresh();
    await this.#applyReadings();
  }

  async #applyReadings(): Promise<void> {
    for (;;) {
      const version = this.#incoming[0];
      if (version === undefined) return;
      if (version.isOwn && this.#isGroup(version.actions)) await this.#applyGroup(version);
      else await this.#applyForeign(version);
      // Only now: what throws before is met again by the next call.
      this.#incoming.shift();
      this.#publishPositions(version.actions);
    }
  }

  /** Is this version the commit of the group under way? (An answer that was lost may deliver it late.) */
  #isGroup(actions: ActionSet): boolean {
    const group = this.#pending.group();
    const moved = new Map(actions.txns.map((txn) => [txn.appId, txn.version]));
    return group.length > 0 && group.length === moved.size && group.every((lane) => moved.get(lane.appId) === lane.to);
  }

  async #applyGroup(version: AppliedVersion): Promise<void> {
    const group = this.#pending.group();
    const batches = group.flatMap((lane) => lane.batches.flatMap(runsOf));
    await this.#withRoom(() => {
      this.#overlay.commitGroup(batches);
      for (const lane of group) {
        this.#pending.settle(lane.key, lane.to);
        this.#watermarks.accept(lane.key.gateway, (appId) => this.#pending.committed(appId));
      }
      this.#readings.apply(version);
    });
  }

  async #applyForeign(version: AppliedVersion): Promise<void> {
    const runs = await this.#readAdds(version.actions);
    await this.#withRoom(() => {
      this.#overlay.addTail(runs);
      let dropped = 0;
      for (const txn of version.actions.txns) {
        const lane = parseLaneAppId(txn.appId);
        if (lane === null) continue;
        const { fromGroup, fromWaiting } = this.#pending.settle(lane, txn.version);
        dropped += fromGroup + fromWaiting;
        this.#watermarks.seen(lane.gateway, version.timestampMs * 1000);
        this.#watermarks.accept(lane.gateway, (appId) => this.#pending.committed(appId));
      }
      if (dropped > 0) this.#rebuildOverlay();
      this.#readings.apply(version);
    });
  }

  async #readAdds(actions: ActionSet): Promise<GatewayRuns[]> {
    // Compaction and deletion rewrite rows that were consumed when they were added (design: 4, Windows).
    if (actions.removes.some((remove) => remove.dataChange)) return [];
    const runs: GatewayRuns[] = [];
    for (const add of actions.adds) {
      if (!add.dataChange) continue;
      runs.push(...(await readGatewayRuns(this.#lake.store, `${this.#lake.readings.spec.name}/${add.path}`)));
      await this.#breathe();
    }
    return runs;
  }

  /** One synchronous step that may find the windows full: then the tail is flushed first. */
  async #withRoom(step: () => void): Promise<void> {
    try {
      step();
    } catch (error) {
      if (!isFull(error)) throw error;
      await this.#flush();
      step();
    }
  }

  #publishPositions(actions: ActionSet): void {
    const positions = actions.txns.filter((txn) => parseLaneAppId(txn.appId) !== null).map((txn) => ({ appId: txn.appId, committed: txn.version }));
    if (positions.length > 0) this.#events.committed(positions);
    this.#events.pending(this.#pending.bytes);
  }

  async #breathe(): Promise<void> {
    if (performance.now() - this.#sliceStartMs < SLICE_MS) return;
    await new Promise((resolve) => setImmediate(resolve));
    this.#sliceStartMs = performance.now();
  }

  // --- windows -----------------------------------------------------------------------------------------------------

  /** Brings all definitions to one position, then reads the versions behind it into the tail. */
  async #restoreWindows(): Promise<void> {
    const { snapshot } = this.#lake.readings;
    await rebuildWindows(this.#lake, this.#flusher, this.#logger);
    this.#overlay.swapTail(await this.#readTail(this.#tailPosition(), snapshot.version));
    this.#aggregates.reset();
    for (const [appId, txn] of snapshot.txns) {
      const lane = parseLaneAppId(appId);
      if (lane !== null) this.#pending.settle(lane, txn.version);
    }
  }

  /** Up to where `aggregates` is whole for every persisted definition; with none, nothing is ever in a tail. */
  #tailPosition(): number {
    const positions = this.#flusher.definitions.map((definition) => this.#flusher.position(definition));
    return positions.length === 0 ? this.#readings.version : Math.min(...positions);
  }

  /** The windows of the versions (from, to], read from the lake. */
  async #readTail(from: number, to: number): Promise<WindowState> {
    const tail = this.#overlay.newState();
    for (let version = from + 1; version <= to; version++) {
      for (const { gateway, runs } of await this.#readAdds(await this.#lake.readEntry(this.#lake.readings, version))) {
        tail.add(gateway, runs, this.#watermarks.acceptedUs(gateway) ?? -Infinity);
      }
    }
    return tail;
  }

  async #flush(): Promise<void> {
    this.#nextFlushMs = this.#nowMs() + this.#settings.flushIntervalMs;
    const to = this.#readings.version;
    const from = this.#tailPosition();
    if (to > from) {
      const { definitions } = this.#flusher;
      const outcome = await this.#flusher.flush(definitions, { from, to }, (definition) => [this.#overlay.tailRows(this.#definitionIndex(definition))]);
      if (outcome.status === 'committed') {
        this.#totals.flushes++;
        this.#overlay.clearTail();
      } else {
        // Another hub flushed first: its rows are in the lake, what is behind them is read again.
        this.#overlay.swapTail(await this.#readTail(this.#tailPosition(), to));
      }
      this.#incomingAggregates.forEach((version) => this.#aggregates.apply(version));
      this.#incomingAggregates = [];
    } else if (this.#flusher.definitions.length === 0) {
      this.#overlay.clearTail();
    }
    await this.#writeProgress();
  }

  #definitionIndex(definition: WindowDefinition): number {
    return this.#settings.definitions.indexOf(definition);
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
    const index = this.#settings.definitions.findIndex((definition) => definition.name === filter.window);
    assert(index >= 0, 'the caller has checked the name of the window');
    const definition = this.#settings.definitions[index];
    const rowFilter = {
      fromUs: filter.fromUs,
      toUs: filter.toUs,
      ...(filter.gateways !== null && definition.by === 'series' ? { gateway: new Set(filter.gateways) } : {}),
      ...(filter.devices !== null && definition.by === 'series' ? { device: new Set(filter.devices) } : {}),
      ...(filter.metrics !== null ? { metric: new Set(filter.metrics) } : {}),
    };
    const range: TableRange = { ...filter, toUs: filter.toUs + definition.sizeMs * 1000 };
    const tail = this.#overlay.overlayRows(index, rowFilter);
    if (definition.persisted) tail.push(this.#overlay.tailRows(index, rowFilter));
    return {
      definition,
      definitionHash: definitionHash(definition),
      aggregatesVersion: this.#aggregates.version,
      readingsVersion: this.#readings.version,
      files: definition.persisted ? this.#aggregates.select(filter) : this.#readings.select(range),
      tail,
      overlayComplete: this.#overlay.complete,
      watermarks: this.#watermarks.all(),
      activeGateways: this.#watermarks.active(this.#clock.nowUs(), this.#settings.gatewayIdleTimeoutMs),
      exceptionFiles: this.captureTable('exceptions', { ...range, devices: null, metrics: null }).files,
      pendingExceptions: this.#pendingExceptions(range),
    };
  }

  captureTable(table: TableName, range: TableRange): TableCapture {
    const files = new ServedFiles(this.#lake, this.#lake[table]);
    return { version: files.version, files: files.select(range) };
  }

  #pendingExceptions(range: TableRange): AggregateCapture['pendingExceptions'] {
    const known = this.#lake.exceptions.snapshot;
    const pending: AggregateCapture['pendingExceptions'][number][] = [];
    const collect = (batch: PendingBatch): void => {
      if (batch.exceptions.length === 0 || batch.seq <= positionOf(known, batch.appId)) return;
      for (const { kind, device, metric, fromUs, toUs, readingCount, reason } of batch.exceptions) {
        if (fromUs < range.toUs && toUs > range.fromUs) pending.push({ gateway: batch.lane.gateway, kind, device, metric, fromUs, toUs, readingCount, reason });
      }
    };
    for (const lane of this.#pending.group()) lane.batches.forEach(collect);
    for (const batch of this.#pending.waitingInOrder()) collect(batch);
    return pending;
  }

  status(): EngineStatus {
    const lanes = [...this.#pending.lanes()]
      .filter(({ key }) => this.#openedLanes.has(laneAppId(key)))
      .map(({ key, committed }) => ({ ...key, committed, received: this.#pending.received(laneAppId(key)) ?? committed }));
    return {
      lakeId: this.lakeId,
      readingsVersion: this.#readings.version,
      aggregatesVersion: this.#aggregates.version,
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
      windowGroups: this.#overlay.groupCount,
      windowBytes: this.#overlay.bytes,
      flushesTotal: this.#totals.flushes,
      lanes,
      watermarks: this.#watermarks.all(),
    };
  }

  /** Runs log clean-up and vacuum in the serial loop. */
  maintain(): Promise<void> {
    return this.#serially(() => this.#lake.maintain(this.#tailPosition()));
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

function runsOf(batch: PendingBatch): GatewayRuns[] {
  return batch.runs === null ? [] : [{ gateway: batch.lane.gateway, runs: batch.runs }];
}
