/**
 * Replay: from actions in version order to the state of a table. Pure, no I/O. (Delta PROTOCOL.md, "Action Reconciliation".)
 *
 * A snapshot never changes. The replay clones a map only when a snapshot that was handed out still shows it, so that
 * catching up over many versions costs one clone, and a commit that nobody looks at costs none.
 */
import assert from 'node:assert/strict';
import { SluiceError } from '../../shared/errors.ts';
import {
  READER_VERSION_MAX,
  WRITER_VERSION_MAX,
  type ActionSet,
  type AddFile,
  type MetaData,
  type Protocol,
  type RemoveFile,
  type Txn,
} from './delta-actions.ts';

export interface Snapshot {
  readonly version: number;
  /** Commit time of the version: ms since the Unix epoch, above that of every version before. */
  readonly timestampMs: number;
  readonly protocol: Protocol;
  readonly metaData: MetaData;
  /** The version that last changed metaData or protocol, or of the checkpoint that this replay began with. */
  readonly metaDataVersion: number;
  /** The active data files by path. */
  readonly files: ReadonlyMap<string, AddFile>;
  /** Removed data files by path; expired ones leave when a checkpoint is written. */
  readonly tombstones: ReadonlyMap<string, RemoveFile>;
  /** Positions by appId. */
  readonly txns: ReadonlyMap<string, Txn>;
}

/** The position of an application in a snapshot; 0 if it has none. */
export function positionOf(snapshot: Snapshot, appId: string): number {
  return snapshot.txns.get(appId)?.version ?? 0;
}

export class Replay {
  #version = -1;
  #timestampMs = 0;
  #protocol: Protocol | null = null;
  #metaData: MetaData | null = null;
  #metaDataVersion = -1;
  #files = new Map<string, AddFile>();
  #tombstones = new Map<string, RemoveFile>();
  #txns = new Map<string, Txn>();
  /** The snapshot of the current version, once someone asked for it. */
  #snapshot: Snapshot | null = null;
  /** Maps that a handed-out snapshot shows. */
  readonly #shown = new Set<ReadonlyMap<string, unknown>>();

  /** The version of the checkpoint that the replay began with; -1 if it began with the table. */
  readonly baseVersion: number;

  private constructor(baseVersion: number) {
    this.baseVersion = baseVersion;
  }

  static fromStart(): Replay {
    return new Replay(-1);
  }

  get version(): number {
    return this.#version;
  }

  get timestampMs(): number {
    return this.#timestampMs;
  }

  /** The state that a checkpoint holds; the log goes on from `version` + 1. */
  static fromCheckpoint(version: number, timestampMs: number, actions: ActionSet): Replay {
    const replay = new Replay(version);
    replay.#version = version - 1;
    replay.apply(version, actions);
    replay.#timestampMs = timestampMs;
    replay.#snapshot = null;
    return replay;
  }

  /**
   * Applies the next version.
   *
   * @throws SluiceError ERR_LAKE_PROTOCOL, ERR_LAKE_LOG_CORRUPT (a table without metaData); nothing is applied then
   */
  apply(version: number, actions: ActionSet): void {
    assert.equal(version, this.#version + 1, 'versions are applied in order');
    const protocol = actions.protocol ?? this.#protocol;
    const metaData = actions.metaData ?? this.#metaData;
    if (protocol === null || metaData === null) {
      throw new SluiceError('ERR_LAKE_LOG_CORRUPT', `version ${version}: the table has no ${protocol === null ? 'protocol' : 'metaData'}`);
    }
    if (protocol.minReaderVersion > READER_VERSION_MAX || protocol.minWriterVersion > WRITER_VERSION_MAX) {
      const asked = `reader ${protocol.minReaderVersion}, writer ${protocol.minWriterVersion}`;
      throw new SluiceError(
        'ERR_LAKE_PROTOCOL',
        `version ${version} demands ${asked}; this hub does reader ${READER_VERSION_MAX}, writer ${WRITER_VERSION_MAX}`,
      );
    }
    if (actions.metaData !== null || actions.protocol !== null) this.#metaDataVersion = version;
    this.#protocol = protocol;
    this.#metaData = metaData;
    this.#applyFiles(actions);
    if (actions.txns.length > 0) {
      this.#txns = this.#writable(this.#txns);
      for (const txn of actions.txns) this.#txns.set(txn.appId, txn);
    }
    this.#version = version;
    // Foreign clocks may stand behind ours: our order is that of the versions.
    this.#timestampMs = Math.max(actions.commitInfo?.timestamp ?? 0, this.#timestampMs + 1);
    this.#snapshot = null;
  }

  #applyFiles(actions: ActionSet): void {
    if (actions.adds.length === 0 && actions.removes.length === 0) return;
    this.#files = this.#writable(this.#files);
    const tombstonesChange = actions.removes.length > 0 || actions.adds.some((add) => this.#tombstones.has(add.path));
    if (tombstonesChange) this.#tombstones = this.#writable(this.#tombstones);
    // Removes first: a path both removed and added in one version (legal with dataChange=false) is active.
    for (const remove of actions.removes) {
      this.#files.delete(remove.path);
      this.#tombstones.set(remove.path, remove);
    }
    for (const add of actions.adds) {
      if (tombstonesChange) this.#tombstones.delete(add.path);
      this.#files.set(add.path, add);
    }
  }

  /** Forgets tombstones older than `beforeMs`; the table's content does not change. */
  expireTombstones(beforeMs: number): void {
    const expired = [...this.#tombstones.values()].filter((remove) => remove.deletionTimestamp < beforeMs);
    if (expired.length === 0) return;
    this.#tombstones = this.#writable(this.#tombstones);
    for (const remove of expired) this.#tombstones.delete(remove.path);
    this.#snapshot = null;
  }

  snapshot(): Snapshot {
    if (this.#snapshot !== null) return this.#snapshot;
    assert(this.#protocol !== null && this.#metaData !== null, 'a version has been applied');
    for (const map of [this.#files, this.#tombstones, this.#txns]) this.#shown.add(map);
    this.#snapshot = {
      version: this.#version,
      timestampMs: this.#timestampMs,
      protocol: this.#protocol,
      metaData: this.#metaData,
      metaDataVersion: this.#metaDataVersion,
      files: this.#files,
      tombstones: this.#tombstones,
      txns: this.#txns,
    };
    return this.#snapshot;
  }

  #writable<V>(map: Map<string, V>): Map<string, V> {
    // Forgotten here, so that #shown never holds more than the three current maps.
    return this.#shown.delete(map) ? new Map(map) : map;
  }
}
