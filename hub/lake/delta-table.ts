/**
 * A Delta table as one hub sees it: the current snapshot, following the log, and the compare-and-set commit.
 *
 * Constraints: any number of hubs and processes write the same table; the store's put-if-absent of the next log entry is
 * the only thing that decides. The snapshot changes only by applying versions in order, each in one synchronous step
 * that ends with the listeners. Calls on one object run one after the other.
 *
 * A crash: before the put, staged files are orphans (vacuum takes them); after it, the commit counts and whoever reads
 * the log next learns it. An answer that was lost is found out by reading the entry back: its `txnId`, or one of the
 * staged paths in it, says that it is ours. While that cannot be read either, the commit is in doubt: the call throws
 * ERR_LAKE_COMMIT_UNKNOWN, the staged files are kept, and the next commit meets the truth at the same version.
 *
 * Log clean-up deletes entries older than days. A snapshot confirmed within the last hour cannot miss one; an older
 * snapshot (by the wall or the monotonic clock: one of them sees a suspended machine) is checked against a listing
 * before a commit, and after it if the hour passed during the put.
 *
 * It does not decide when to commit, checkpoint or clean, and does not delete data files except `discardStaged`.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type { Clock } from '../../shared/clock.ts';
import { SluiceError } from '../../shared/errors.ts';
import { encodeLogEntry, type ActionSet, type AddFile, type PartitionValues, type RemoveFile } from './delta-actions.ts';
import { createTable, ENGINE_INFO, instant, putEntry, type Instant } from './delta-commit.ts';
import { writeCheckpoint, type CheckpointFormat, type CheckpointResult } from './delta-checkpoint.ts';
import { DeltaLog, type LakeWarn } from './delta-log.ts';
import { positionOf, type Replay, type Snapshot } from './delta-snapshot.ts';
import { parquetCheckpointFormat } from './parquet-checkpoint.ts';
import type { ObjectStore } from './store.ts';
import { checkTable, type TableSpec } from './table-spec.ts';
import { retentionOf } from './tables.ts';

/** A snapshot so old is confirmed again before a commit counts; far below any log retention. */
const SNAPSHOT_AGE_MAX_US = 60 * 60 * 1_000_000;

/** Races lost in a row before a commit gives up; with n hubs that commit all the time it takes about n. */
const COMMIT_ATTEMPTS_MAX = 100;

/** Entries read before they are applied together. */
const CATCH_UP_ENTRIES_MAX = 64;

/** Versions applied and not yet answered. The log of two days at 5 s has 35,000; who is further behind opens again. */
const UNDELIVERED_MAX = 50_000;

/** Staged paths in doubt; at the limit none is deleted until a version is applied: vacuum takes them. */
const DOUBTFUL_MAX = 10_000;

export interface DeltaTableOptions {
  readonly clock: Clock;
  /** Stands in commitInfo, for people. */
  readonly hubId: string;
  readonly warn?: LakeWarn;
  readonly uuid?: () => string;
  readonly checkpointFormat?: CheckpointFormat;
}

/** A version that this object has applied. */
export interface AppliedVersion {
  readonly version: number;
  /** Commit time, ms since the Unix epoch, ascending with the version. */
  readonly timestampMs: number;
  /** Committed by this object. */
  readonly isOwn: boolean;
  readonly actions: ActionSet;
}

/** An application's position moves from `from` to `to` (>= from): valid only while the table says `from` (absent: 0). */
export interface TxnMove {
  readonly appId: string;
  readonly from: number;
  readonly to: number;
  /** The position may go back: the same commit replaces what it stood for. */
  readonly isReset?: boolean;
}

export interface CommitRequest {
  readonly operation: string;
  readonly operationParameters: Readonly<Record<string, unknown>>;
  /** Staged files, by `addAction`. */
  readonly adds: readonly AddFile[];
  /** By `removeAction`; every path must be active. */
  readonly removes: readonly RemoveFile[];
  /** No appId twice. */
  readonly txns: readonly TxnMove[];
  /** The version by which the request was planned; a metaData or protocol change after it is a conflict. Default: current. */
  readonly readVersion?: number;
}

/** `applied`: every version applied since the last answer, foreign and own, in order. */
export type CommitOutcome =
  | { readonly status: 'committed'; readonly version: number; readonly timestampMs: number; readonly applied: AppliedVersion[] }
  /** Positions are not at `from` any more: rebuild without what the winner covered. */
  | { readonly status: 'moved'; readonly appIds: string[]; readonly snapshot: Snapshot; readonly applied: AppliedVersion[] }
  | {
      readonly status: 'conflict';
      readonly reason: 'removed' | 'metadata';
      readonly snapshot: Snapshot;
      readonly applied: AppliedVersion[];
    };

type Refusal = { status: 'moved'; appIds: string[] } | { status: 'conflict'; reason: 'removed' | 'metadata' };

export class DeltaTable {
  readonly spec: TableSpec;
  readonly log: DeltaLog;
  readonly #clock: Clock;
  readonly #hubId: string;
  readonly #uuid: () => string;
  readonly #checkpointFormat: CheckpointFormat;
  readonly #replay: Replay;
  /** When the store last proved that the snapshot was the newest version. */
  #confirmed: Instant;
  #undelivered: AppliedVersion[] = [];
  readonly #listeners = new Set<(applied: AppliedVersion) => void>();
  /** Staged paths of commits in doubt, with the version that will tell. */
  readonly #doubtful = new Map<string, number>();
  #checkpointVersion: number;
  #tail: Promise<unknown> = Promise.resolve();

  private constructor(spec: TableSpec, log: DeltaLog, replay: Replay, options: DeltaTableOptions, confirmed: Instant) {
    this.spec = spec;
    this.log = log;
    this.#replay = replay;
    this.#clock = options.clock;
    this.#hubId = options.hubId;
    this.#uuid = options.uuid ?? randomUUID;
    this.#checkpointFormat = options.checkpointFormat ?? parquetCheckpointFormat;
    this.#confirmed = confirmed;
    this.#checkpointVersion = replay.baseVersion;
  }

  /**
   * Opens the table under `prefix`, creating it if there is none: of hubs that create at once, all get the winner's.
   *
   * @throws SluiceError ERR_LAKE_PROTOCOL, ERR_LAKE_SCHEMA, ERR_LAKE_LOG_CORRUPT, ERR_LAKE_LOG_GAP, ERR_STORE_*
   */
  static async open(store: ObjectStore, prefix: string, spec: TableSpec, options: DeltaTableOptions): Promise<DeltaTable> {
    const log = new DeltaLog(store, prefix, options.checkpointFormat ?? parquetCheckpointFormat, options.warn ?? (() => undefined));
    const confirmed = instant(options.clock);
    let replay = await log.load();
    if (replay === null) {
      await createTable(log, spec, { clock: options.clock, hubId: options.hubId, uuid: options.uuid ?? randomUUID });
      replay = await log.load();
      if (replay === null) throw new SluiceError('ERR_LAKE_LOG_GAP', `${prefix}: version 0 is gone right after it was created`);
    }
    checkTable(spec, replay.snapshot().metaData);
    await store.settle(log.entryKey(replay.version));
    const table = new DeltaTable(spec, log, replay, options, confirmed);
    await table.refresh();
    // The hint names a checkpoint that this replay could not begin with: it is damaged or gone, and readers that trust the hint fail.
    const hint = await log.readHint();
    if (hint !== null && hint > replay.baseVersion && hint <= table.version) await table.checkpoint();
    return table;
  }

  get version(): number {
    return this.#replay.version;
  }

  /** The current state; it stays as it is while the table moves on. */
  get snapshot(): Snapshot {
    return this.#replay.snapshot();
  }

  /** Called for every version in the same synchronous step that applies it, own ones too. Must not throw. */
  onVersion(listener: (applied: AppliedVersion) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Applies what others have committed.
   *
   * @returns every version applied since the last answer of `refresh` or `tryCommit`, in order
   * @throws SluiceError ERR_LAKE_LOG_GAP: entries between are gone, open the table again; and as `open`
   */
  refresh(): Promise<AppliedVersion[]> {
    return this.#serial(async () => {
      await this.#catchUp(null);
      return this.#drain();
    });
  }

  /**
   * Commits if every `from` is where the table says, and answers what the table says if not. After a lost race that
   * touches nothing of the request the same staged files are committed at the next version.
   *
   * 'moved' and 'conflict' mean that this request is in no version. After an error it may be: commit again (the same
   * files or rebuilt ones), or refresh, and the table knows.
   *
   * @throws SluiceError ERR_LAKE_COMMIT_UNKNOWN, ERR_LAKE_CONTENTION, ERR_LAKE_STAGED_EXPIRED, ERR_STORE_*, and as `refresh`
   */
  tryCommit(request: CommitRequest): Promise<CommitOutcome> {
    const appIds = new Set(request.txns.map((txn) => txn.appId));
    assert.equal(appIds.size, request.txns.length, 'an appId stands once in a commit');
    for (const { from, to, isReset = false } of request.txns) {
      assert(
        Number.isSafeInteger(from) && Number.isSafeInteger(to) && from >= 0 && to >= (isReset ? 0 : from),
        `a position moves forwards: ${from} to ${to}`,
      );
    }
    return this.#serial(() => this.#commit(request));
  }

  /** The versions (from, to] as they were committed. @throws SluiceError ERR_LAKE_LOG_GAP if one is gone */
  async *history(from: number, to: number): AsyncGenerator<Omit<AppliedVersion, 'isOwn'>> {
    for (let version = from + 1; version <= to; version++) {
      const actions = await this.log.readEntry(version);
      if (actions === null) throw this.#gap(version);
      yield { version, timestampMs: actions.commitInfo?.timestamp ?? 0, actions };
    }
  }

  /** Writes a data file that no commit names yet. @returns what `addAction` wants to know */
  async stageFile(partitionValues: PartitionValues, bytes: Uint8Array): Promise<StagedFile> {
    const folders = this.spec.partitionColumns.map((column) => `${column}=${partitionValues[column] ?? '__HIVE_DEFAULT_PARTITION__'}/`);
    const path = `${folders.join('')}part-00000-${this.#uuid()}.c000.zstd.parquet`;
    const answer = await this.log.store.putIfAbsent(`${this.log.prefix}/${path}`, bytes);
    assert.equal(answer, 'created', 'a random name is new');
    return { path, partitionValues, size: bytes.length, modificationMs: instant(this.#clock).wallMs };
  }

  /** Deletes staged files that are in no version and in no commit in doubt; the others stay. */
  async discardStaged(paths: readonly string[]): Promise<void> {
    const { files, tombstones } = this.snapshot;
    for (const path of paths) {
      const isInDoubt = this.#doubtful.has(path) || this.#doubtful.size >= DOUBTFUL_MAX;
      const isKept = files.has(path) || tombstones.has(path) || isInDoubt;
      if (!isKept) await this.log.store.delete(`${this.log.prefix}/${path}`);
    }
  }

  /** Writes a checkpoint of the current version. Commits go on meanwhile. */
  async checkpoint(): Promise<CheckpointResult> {
    const snapshot = this.snapshot;
    const { wallMs } = instant(this.#clock);
    const result = await writeCheckpoint(this.log, this.#checkpointFormat, snapshot, wallMs);
    this.#checkpointVersion = Math.max(this.#checkpointVersion, result.version);
    this.#expireTombstones(snapshot);
    return result;
  }

  #expireTombstones({ timestampMs, metaData }: Snapshot): void {
    this.#replay.expireTombstones(Math.min(instant(this.#clock).wallMs, timestampMs) - retentionOf(metaData).deletedFileMs);
  }

  /** Writes a checkpoint if the table's interval has passed since the last one, whoever wrote that; null if not. */
  async checkpointIfDue(): Promise<CheckpointResult | null> {
    const { checkpointInterval } = retentionOf(this.snapshot.metaData);
    if (this.version - this.#checkpointVersion < checkpointInterval) return null;
    this.#checkpointVersion = Math.max(this.#checkpointVersion, (await this.log.readHint()) ?? -1);
    if (this.version - this.#checkpointVersion >= checkpointInterval) return this.checkpoint();
    // Another hub writes the checkpoints: what they forget is forgotten here too.
    this.#expireTombstones(this.snapshot);
    return null;
  }

  async #commit(request: CommitRequest): Promise<CommitOutcome> {
    const txnId = this.#uuid();
    const paths = new Set(request.adds.map((add) => add.path));
    const readVersion = request.readVersion ?? this.version;
    const isOurs = (actions: ActionSet): boolean => actions.commitInfo?.txnId === txnId || actions.adds.some((add) => paths.has(add.path));
    for (let attempt = 0; attempt < COMMIT_ATTEMPTS_MAX; attempt++) {
      if (this.#isStale()) {
        const own = await this.#catchUp(isOurs);
        if (own !== null) return this.#committed(own);
      }
      const refusal = this.#refusal(request, readVersion);
      if (refusal !== null) return { ...refusal, snapshot: this.snapshot, applied: this.#drain() };
      this.#checkStaged(request.adds);
      const version = this.version + 1;
      const header = this.#header(request, txnId);
      const actions = commitActions(request, header.timestampMs);
      const before = instant(this.#clock);
      // Until a version has been applied there, whoever's it is: an error anywhere in between leaves the truth open.
      for (const path of paths) if (this.#doubtful.size < DOUBTFUL_MAX) this.#doubtful.set(path, version);
      if ((await putEntry(this.log, this.#clock, version, encodeLogEntry(header, actions))) === 'created') {
        if (this.#isStale()) await this.#proveCommit(version, request);
        this.#confirmed = before;
        const { timestampMs: timestamp, ...info } = header;
        const own: AppliedVersion = {
          version,
          timestampMs: timestamp,
          isOwn: true,
          actions: { ...actions, commitInfo: { timestamp, ...info } },
        };
        this.#apply(own);
        return this.#committed(own);
      }
      const from = this.version;
      const own = await this.#catchUp(isOurs);
      if (own !== null) return this.#committed(own);
      // The entry was there a moment ago: to commit in its place now would be a commit that nobody reads.
      if (this.version === from) throw this.#gap(version);
    }
    throw new SluiceError(
      'ERR_LAKE_CONTENTION',
      `${this.log.prefix}: a commit lost ${COMMIT_ATTEMPTS_MAX} races, allowed are ${COMMIT_ATTEMPTS_MAX}`,
    );
  }

  #committed(own: AppliedVersion): CommitOutcome {
    return { status: 'committed', version: own.version, timestampMs: own.timestampMs, applied: this.#drain() };
  }

  /** Why the request is not valid on the current snapshot; null if it is. */
  #refusal(request: CommitRequest, readVersion: number): Refusal | null {
    const snapshot = this.snapshot;
    const appIds = request.txns.filter((txn) => positionOf(snapshot, txn.appId) !== txn.from).map((txn) => txn.appId);
    if (appIds.length > 0) return { status: 'moved', appIds };
    if (snapshot.metaDataVersion > readVersion) return { status: 'conflict', reason: 'metadata' };
    if (request.removes.some((remove) => !snapshot.files.has(remove.path))) return { status: 'conflict', reason: 'removed' };
    const isAppendOnly = snapshot.metaData.configuration['delta.appendOnly'] === 'true';
    if (isAppendOnly && request.removes.some((remove) => remove.dataChange)) {
      throw new SluiceError('ERR_LAKE_PROTOCOL', `${this.log.prefix} is append-only (delta.appendOnly): rows cannot be removed`);
    }
    return null;
  }

  /** Vacuum takes unreferenced files after the retention; a file half as old must not become referenced any more. */
  #checkStaged(adds: readonly AddFile[]): void {
    const ageMsMax = retentionOf(this.snapshot.metaData).deletedFileMs / 2;
    const { wallMs } = instant(this.#clock);
    for (const add of adds) {
      const ageMs = wallMs - add.modificationTime;
      if (ageMs > ageMsMax)
        throw new SluiceError('ERR_LAKE_STAGED_EXPIRED', `${add.path} was staged ${ageMs} ms ago, allowed are ${ageMsMax}`);
    }
  }

  #header(request: CommitRequest, txnId: string): Parameters<typeof encodeLogEntry>[0] {
    return {
      timestampMs: Math.max(instant(this.#clock).wallMs, this.snapshot.timestampMs + 1),
      operation: request.operation,
      operationParameters: request.operationParameters,
      engineInfo: ENGINE_INFO,
      txnId,
      hubId: this.#hubId,
    };
  }

  /**
   * Reads and applies the entries behind the current version until there is none.
   *
   * @returns the one that `isOurs` recognised
   */
  async #catchUp(isOurs: ((actions: ActionSet) => boolean) | null): Promise<AppliedVersion | null> {
    let own: AppliedVersion | null = null;
    const wasStale = this.#isStale();
    if (wasStale) await this.#checkContinuity();
    for (;;) {
      if (this.#undelivered.length >= UNDELIVERED_MAX) {
        throw new SluiceError(
          'ERR_LAKE_LOG_GAP',
          `${this.log.prefix} is ${this.#undelivered.length} versions behind, at most ${UNDELIVERED_MAX} are caught up with`,
        );
      }
      const before = instant(this.#clock);
      const entries: ActionSet[] = [];
      while (entries.length < CATCH_UP_ENTRIES_MAX) {
        const actions = await this.log.readEntry(this.version + 1 + entries.length);
        if (actions === null) break;
        entries.push(actions);
      }
      // What is applied is answered as committed: it must survive a crash of whoever wrote it and of us.
      if (entries.length > 0) await this.log.store.settle(this.log.entryKey(this.version + entries.length));
      for (const actions of entries) {
        if (actions.metaData !== null) checkTable(this.spec, actions.metaData);
        const isOwn = isOurs?.(actions) === true;
        const applied = { version: this.version + 1, timestampMs: 0, isOwn, actions };
        const delivered = this.#apply(applied);
        if (isOwn) own = delivered;
      }
      if (entries.length === CATCH_UP_ENTRIES_MAX) continue;
      if (wasStale && !(await this.#isNewest())) continue;
      this.#confirmed = before;
      return own;
    }
  }

  /**
   * Before an old snapshot takes a version in: do the entries go on from it without a hole, in the order of their times?
   * A put that was held up for days may have left an entry in the place of one that clean-up deleted.
   */
  async #checkContinuity(): Promise<void> {
    const next = this.version + 1;
    const { entries, entryTimesMs, checkpoints } = await this.log.names(next);
    const isOrdered = entries.every((version, index) => version === next + index && entryTimesMs[index] >= (entryTimesMs[index - 1] ?? 0));
    if (!isOrdered || (entries.length === 0 && checkpoints.length > 0)) throw this.#gap(next);
  }

  /** Does the log end here? false: an entry has just come. @throws SluiceError ERR_LAKE_LOG_GAP: clean-up was here */
  async #isNewest(): Promise<boolean> {
    const next = this.version + 1;
    const names = await this.log.names(next);
    if (names.entries[0] === next) return false;
    if (names.entries.length > 0 || names.checkpoints.length > 0) throw this.#gap(next);
    return true;
  }

  /**
   * The put took so long that clean-up may have deleted the version under it: then the entry is one that nobody reads.
   * Clean-up deletes only below a checkpoint, so without one at or behind the version it counts. With one, the staged
   * files tell; without files nothing does for sure, and opening again finds the positions as they are.
   */
  async #proveCommit(version: number, request: CommitRequest): Promise<void> {
    if ((await this.log.names(version)).checkpoints.length === 0) return;
    const fresh = (await this.log.load())?.snapshot();
    const isKnown = (add: AddFile): boolean => fresh !== undefined && (fresh.files.has(add.path) || fresh.tombstones.has(add.path));
    if (request.adds.length > 0) {
      if (request.adds.every(isKnown)) return;
      await this.log.store.delete(this.log.entryKey(version));
    }
    throw this.#gap(version);
  }

  #apply(applied: AppliedVersion): AppliedVersion {
    this.#replay.apply(applied.version, applied.actions);
    const delivered = { ...applied, timestampMs: this.#replay.timestampMs };
    for (const [path, version] of this.#doubtful) if (version <= applied.version) this.#doubtful.delete(path);
    this.#undelivered.push(delivered);
    for (const listener of this.#listeners) listener(delivered);
    return delivered;
  }

  #drain(): AppliedVersion[] {
    const applied = this.#undelivered;
    this.#undelivered = [];
    return applied;
  }

  #isStale(): boolean {
    const now = instant(this.#clock);
    const wallUs = Math.abs(now.wallUs - this.#confirmed.wallUs);
    return Math.max(wallUs, now.monotonicUs - this.#confirmed.monotonicUs) > SNAPSHOT_AGE_MAX_US;
  }

  #gap(version: number): SluiceError {
    return new SluiceError('ERR_LAKE_LOG_GAP', `${this.log.entryKey(version)} is gone; the table must be opened again`);
  }

  #serial<T>(act: () => Promise<T>): Promise<T> {
    const run = this.#tail.then(act);
    // The failure is the caller's; the next call goes on from the state as it is.
    this.#tail = run.catch(() => undefined);
    return run;
  }
}

export interface StagedFile {
  /** Relative to the table's prefix. */
  readonly path: string;
  readonly partitionValues: PartitionValues;
  /** Bytes. */
  readonly size: number;
  readonly modificationMs: number;
}

function commitActions(request: CommitRequest, timestampMs: number): Omit<ActionSet, 'commitInfo'> {
  const txns = request.txns.map(({ appId, to }) => ({ appId, version: to, lastUpdated: timestampMs }));
  // Readers of older versions have the removed files for a retention from now on, whatever time the request was planned at.
  const removes = request.removes.map((remove) => ({ ...remove, deletionTimestamp: Math.max(remove.deletionTimestamp, timestampMs) }));
  return { protocol: null, metaData: null, txns, adds: request.adds, removes };
}
