/**
 * The Delta log as objects: names, entries, and loading a table from checkpoint and tail.
 *
 * Layout under `<prefix>/_delta_log/`: `%020d.json` one version; `%020d.checkpoint.parquet` the state at a version;
 * `_last_checkpoint` a hint. A checkpoint or hint that cannot be read is passed over with a warning: an older one, or the
 * entries from 0, give the same state. An entry that cannot be read stops the load, as no other object says the same.
 *
 * It does not read multi-part and V2 checkpoints (nobody writes them on a table of this protocol unasked): they are
 * passed over as well.
 */
import { errorMessage, isSluiceError, SluiceError } from '../../shared/errors.ts';
import { parseLogEntry, type ActionSet } from './delta-actions.ts';
import type { CheckpointFormat } from './delta-checkpoint.ts';
import { Replay } from './delta-snapshot.ts';
import { listAll, type ObjectStore } from './store.ts';

/** Log entries fetched at once while a tail is read: hides an object store's latency. */
const TAIL_FETCHES_MAX = 16;

export type LakeWarn = (message: string, cause?: unknown) => void;

export class DeltaLog {
  readonly store: ObjectStore;
  /** Of the table, without a '/' at the end. */
  readonly prefix: string;
  readonly #format: CheckpointFormat;
  readonly #warn: LakeWarn;

  constructor(store: ObjectStore, prefix: string, format: CheckpointFormat, warn: LakeWarn) {
    this.store = store;
    this.prefix = prefix;
    this.#format = format;
    this.#warn = warn;
  }

  get folder(): string {
    return `${this.prefix}/_delta_log/`;
  }

  get hintKey(): string {
    return `${this.folder}_last_checkpoint`;
  }

  entryKey(version: number): string {
    return `${this.folder}${paddedVersion(version)}.json`;
  }

  checkpointKey(version: number): string {
    return `${this.folder}${paddedVersion(version)}.checkpoint.parquet`;
  }

  /** @returns null if the version does not exist (yet, or any more) */
  async readEntry(version: number): Promise<ActionSet | null> {
    const bytes = await this.store.get(this.entryKey(version));
    return bytes === null ? null : parseLogEntry(bytes, this.entryKey(version));
  }

  /** The state of the newest version, or null if there is no table. Cost: a checkpoint and the entries after it. */
  async load(): Promise<Replay | null> {
    const hint = await this.readHint();
    if (hint !== null) {
      const replay = await this.#loadFrom(await this.names(hint));
      if (replay !== null) return replay;
      this.#warn(`${this.prefix}: nothing to start from at or behind version ${hint}, which _last_checkpoint names: listing the whole log`);
    }
    const names = await this.names(0);
    if (names.entries.length === 0 && names.checkpoints.length === 0) return null;
    const replay = await this.#loadFrom(names);
    if (replay !== null) return replay;
    throw new SluiceError('ERR_LAKE_LOG_GAP', `${this.prefix}: the log has neither a readable checkpoint nor all entries from version 0`);
  }

  /** The versions of the entries and classic checkpoints, ascending, from version `from` on. */
  async names(from: number): Promise<LogNames> {
    const names = { entries: [] as number[], entryTimesMs: [] as number[], checkpoints: [] as number[] };
    // The bare number sorts before every name that begins with it.
    const startAfter = this.folder + paddedVersion(from);
    for await (const { key, modifiedMs } of listAll(this.store, this.folder, startAfter)) {
      const match = /^(\d{20})(\.json|\.checkpoint\.parquet)$/.exec(key.slice(this.folder.length));
      if (match === null) continue;
      names[match[2] === '.json' ? 'entries' : 'checkpoints'].push(Number(match[1]));
      if (match[2] === '.json') names.entryTimesMs.push(modifiedMs);
    }
    return names;
  }

  async readHint(): Promise<number | null> {
    const bytes = await this.store.get(this.hintKey);
    if (bytes === null) return null;
    try {
      const hint = JSON.parse(new TextDecoder().decode(bytes)) as { version?: unknown } | null;
      if (Number.isSafeInteger(hint?.version) && (hint?.version as number) >= 0) return hint?.version as number;
      throw new Error('no version in it');
    } catch (error) {
      this.#warn(`${this.hintKey} cannot be read and is ignored: ${errorMessage(error)}`, error);
      return null;
    }
  }

  /** @returns null if it is missing or damaged (warned about) */
  async readCheckpoint(version: number): Promise<ActionSet | null> {
    const key = this.checkpointKey(version);
    const bytes = await this.store.get(key);
    if (bytes === null) return null;
    try {
      return await this.#format.decode(bytes);
    } catch (error) {
      if (isSluiceError(error, 'ERR_LAKE_PROTOCOL')) throw error;
      this.#warn(`${key} cannot be read and is ignored: ${errorMessage(error)}`, error);
      return null;
    }
  }

  /** From the newest readable checkpoint and the entries behind it; null if these names do not give a whole state. */
  async #loadFrom(names: LogNames): Promise<Replay | null> {
    let replay: Replay | null = null;
    for (const version of names.checkpoints.toReversed()) {
      const actions = await this.readCheckpoint(version);
      if (actions === null || actions.metaData === null || actions.protocol === null) continue;
      replay = Replay.fromCheckpoint(version, await this.#timestampMs(version), actions);
      break;
    }
    replay ??= Replay.fromStart();
    const tail = names.entries.filter((version) => version > replay.version);
    if (tail.some((version, index) => version !== replay.version + 1 + index)) return null;
    for (let index = 0; index < tail.length; index += TAIL_FETCHES_MAX) {
      const versions = tail.slice(index, index + TAIL_FETCHES_MAX);
      const entries = await Promise.all(versions.map((version) => this.readEntry(version)));
      for (const [offset, actions] of entries.entries()) {
        // Deleted since it was listed: log clean-up overtook us.
        if (actions === null) return null;
        replay.apply(versions[offset], actions);
      }
    }
    return replay.version < 0 ? null : replay;
  }

  /** The commit time of a checkpoint's version, so that later ones stay above it; its entry outlives clean-up. */
  async #timestampMs(version: number): Promise<number> {
    try {
      return (await this.readEntry(version))?.commitInfo?.timestamp ?? 0;
    } catch (error) {
      if (!isSluiceError(error, 'ERR_LAKE_LOG_CORRUPT')) throw error;
      // The checkpoint says what the entry did; only the time is lost.
      this.#warn(errorMessage(error), error);
      return 0;
    }
  }
}

export interface LogNames {
  readonly entries: readonly number[];
  /** By the store's clock, one for each entry. */
  readonly entryTimesMs: readonly number[];
  readonly checkpoints: readonly number[];
}

function paddedVersion(version: number): string {
  return String(version).padStart(20, '0');
}
