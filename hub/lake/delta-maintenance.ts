/**
 * What keeps a table's folder small: log clean-up and vacuum. Checkpoints, which both rest on, are `DeltaTable.checkpoint`.
 *
 * Constraints: ages are by the store's clock on both sides (the time of the newest log entry is "now", so a table that
 * nobody writes keeps everything); deletion is in ascending order, so that what a crash leaves of the log is a contiguous
 * end of it. Nothing here blocks commits. Several hubs may do it at once: deleting what is gone is no error.
 *
 * It does not decide when, does not compact, and never deletes what an active file or an unexpired tombstone names.
 */
import type { DeltaTable } from './delta-table.ts';
import { listAll } from './store.ts';
import { retentionOf } from './tables.ts';

const CHECKPOINTS_KEPT_MIN = 2;

export interface LogCleanUp {
  /** The older of the two checkpoints that later readers may start from; null: there are none, and nothing was deleted. */
  readonly checkpointVersion: number | null;
  readonly deletedEntries: number;
  readonly deletedCheckpoints: number;
}

/**
 * Deletes log entries and checkpoints older than the table's log retention: only below the two newest checkpoints that can
 * be read (verified now), whose own entries stay, and only what every registered consumer has behind it. Two, so that one
 * that is damaged later leaves another, and the entries from there on.
 *
 * @param consumedVersion the version that the slowest registered consumer has consumed; null: there is none
 */
export async function cleanLog(table: DeltaTable, consumedVersion: number | null): Promise<LogCleanUp> {
  const { log } = table;
  const names = await log.names(0);
  const readable: number[] = [];
  for (const version of names.checkpoints.toReversed()) {
    if ((await log.readCheckpoint(version)) !== null) readable.push(version);
    if (readable.length === CHECKPOINTS_KEPT_MIN) break;
  }
  const checkpointVersion = readable.length === CHECKPOINTS_KEPT_MIN ? (readable.at(-1) ?? null) : null;
  const result = { checkpointVersion, deletedEntries: 0, deletedCheckpoints: 0 };
  const nowMs = await storeNowMs(table);
  if (checkpointVersion === null || nowMs === null) return result;
  const belowVersion = Math.min(checkpointVersion, (consumedVersion ?? checkpointVersion) + 1);
  const beforeMs = nowMs - retentionOf(table.snapshot.metaData).logMs;
  for await (const { key, modifiedMs } of listAll(log.store, log.folder)) {
    const match = /^(\d{20})(\.json|\.checkpoint\.parquet)$/.exec(key.slice(log.folder.length));
    if (match === null) continue;
    // The first one that stays ends it: a hole in the log would be taken for its end.
    if (Number(match[1]) >= belowVersion || modifiedMs >= beforeMs) break;
    await log.store.delete(key);
    if (match[2] === '.json') result.deletedEntries++;
    else result.deletedCheckpoints++;
  }
  return result;
}

export interface Vacuum {
  readonly deletedFiles: number;
  readonly deletedBytes: number;
  /** Unreferenced files that are too young: staged, orphans of late, or removed of late. */
  readonly waitingFiles: number;
}

/**
 * Deletes data files that the table does not name: orphans of crashed or lost commits, and removed files whose tombstone
 * is older than the retention. Folders that begin with '_' or '.' are not looked into. What a registered consumer may still
 * have to read stays: files that were removed, or came to be, after the version that it has consumed.
 *
 * Cost: a listing of the table's folder.
 *
 * @param consumedVersion as for `cleanLog`
 */
export async function vacuum(table: DeltaTable, consumedVersion: number | null): Promise<Vacuum> {
  const { store, prefix } = table.log;
  const result = { deletedFiles: 0, deletedBytes: 0, waitingFiles: 0 };
  // Listed against a snapshot that is newer than every file which may be deleted: those are a retention old.
  await table.refresh();
  const snapshot = table.snapshot;
  const nowMs = await storeNowMs(table);
  if (nowMs === null) return result;
  const { deletedFileMs } = retentionOf(snapshot.metaData);
  const consumed = consumedVersion === null || consumedVersion >= table.version ? null : await versionTimes(table, consumedVersion);
  // A file is staged at most half a retention before the commit that names it (`tryCommit` sees to that).
  const beforeMs = Math.min(nowMs - deletedFileMs, (consumed?.storeMs ?? Infinity) - deletedFileMs / 2);
  // Tombstones carry commit times, files the store's: each is compared in its own time.
  const tombstonesBeforeMs = Math.min(snapshot.timestampMs - deletedFileMs, consumed?.commitMs ?? Infinity);
  for await (const { key, size, modifiedMs } of listAll(store, `${prefix}/`)) {
    const path = key.slice(prefix.length + 1);
    if (path.startsWith('_') || path.startsWith('.') || snapshot.files.has(path)) continue;
    const tombstone = snapshot.tombstones.get(path);
    const isRemovedOfLate = tombstone !== undefined && tombstone.deletionTimestamp >= tombstonesBeforeMs;
    if (modifiedMs >= beforeMs || isRemovedOfLate) {
      result.waitingFiles++;
      continue;
    }
    await store.delete(key);
    result.deletedFiles++;
    result.deletedBytes += size;
  }
  return result;
}

/** When a version was committed, by the writer's and by the store's clock; its entry is there as long as a consumer needs it. */
async function versionTimes(table: DeltaTable, version: number): Promise<{ readonly commitMs: number; readonly storeMs: number }> {
  const entry = await table.log.readEntry(version);
  const info = await table.log.store.stat(table.log.entryKey(version));
  return { commitMs: entry?.commitInfo?.timestamp ?? 0, storeMs: info?.modifiedMs ?? 0 };
}

/** The store's clock when the current version was written: a lower bound of its time now. */
async function storeNowMs(table: DeltaTable): Promise<number | null> {
  return (await table.log.store.stat(table.log.entryKey(table.version)))?.modifiedMs ?? null;
}
