/**
 * Checkpoints: the state of a version in one object, so that a reader needs no older entry. (PROTOCOL.md, "Checkpoints",
 * "V1 Spec".)
 *
 * Writing is: `<version>.checkpoint.parquet`, then `_last_checkpoint`. A crash between them leaves a checkpoint that
 * listings find. Two hubs may write the same version at once: what stands and can be read is left alone; what stands
 * and is damaged is replaced.
 */
import type { ActionSet } from './delta-actions.ts';
import type { DeltaLog } from './delta-log.ts';
import type { Snapshot } from './delta-snapshot.ts';
import { retentionOf } from './tables.ts';

/** How actions become the bytes of a checkpoint. */
export interface CheckpointFormat {
  encode(actions: ActionSet): Uint8Array | Promise<Uint8Array>;
  /** @throws if the bytes are not a whole checkpoint */
  decode(bytes: Uint8Array): ActionSet | Promise<ActionSet>;
}

export interface CheckpointResult {
  readonly version: number;
  /** Actions in it, and bytes. */
  readonly size: number;
  readonly sizeInBytes: number;
  /** false: another hub had written it. */
  readonly isOwn: boolean;
}

/**
 * What a checkpoint of the snapshot holds: every active file as `dataChange: false`, tombstones and positions whose
 * retention is not over.
 *
 * @param nowMs wall clock. The older of it and the snapshot's commit time counts: one clock that is ahead expires nothing.
 */
export function checkpointActions(snapshot: Snapshot, nowMs: number): ActionSet {
  const retention = retentionOf(snapshot.metaData);
  const now = Math.min(nowMs, snapshot.timestampMs);
  return {
    commitInfo: null,
    protocol: snapshot.protocol,
    metaData: snapshot.metaData,
    txns: [...snapshot.txns.values()].filter((txn) => txn.lastUpdated === null || txn.lastUpdated >= now - retention.txnMs),
    adds: [...snapshot.files.values()].map((add) => (add.dataChange ? { ...add, dataChange: false } : add)),
    removes: [...snapshot.tombstones.values()]
      .filter((remove) => remove.deletionTimestamp >= now - retention.deletedFileMs)
      .map((remove) => (remove.dataChange ? { ...remove, dataChange: false } : remove)),
  };
}

export async function writeCheckpoint(
  log: DeltaLog,
  format: CheckpointFormat,
  snapshot: Snapshot,
  nowMs: number,
): Promise<CheckpointResult> {
  const { version } = snapshot;
  const key = log.checkpointKey(version);
  let actions = checkpointActions(snapshot, nowMs);
  let bytes = await format.encode(actions);
  let isOwn = (await log.store.putIfAbsent(key, bytes)) === 'created';
  if (!isOwn) {
    const theirBytes = await log.store.get(key);
    const theirs = theirBytes === null ? null : await log.readCheckpoint(version);
    if (theirBytes !== null && theirs !== null) {
      actions = theirs;
      bytes = theirBytes;
    } else {
      await log.store.put(key, bytes);
      isOwn = true;
    }
  }
  const result = { version, size: actions.txns.length + actions.adds.length + actions.removes.length + 2, sizeInBytes: bytes.length };
  // Only forwards; two hubs in the same instant may still swap, and a reader lists from the hint on anyway.
  const hint = await log.readHint();
  if (hint === null || hint < version) {
    await log.store.put(log.hintKey, new TextEncoder().encode(JSON.stringify({ ...result, numOfAddFiles: actions.adds.length })));
  }
  return { ...result, isOwn };
}
