/**
 * A capture of a table as it was at an earlier version: what the log's entries since then did, undone.
 *
 * From the newest capture and the entries behind the version, not from a checkpoint before it: later pages of a list are
 * mostly some entries behind. Files that were removed meanwhile lie there until vacuum deletes them, a day at least.
 *
 * Bounds: entries that are read, files that are restored; beyond them, behind log clean-up and vacuum there is no such capture.
 */
import type { LakeFile, TableCapture, TableRange } from '../engine-api.ts';
import type { ActionSet, RemoveFile } from './delta-actions.ts';

/** An hour and a half at the default interval; each is read and parsed. */
const VERSIONS_BACK_MAX = 1_000;
const FILES_RESTORED_MAX = 10_000;
/** Hides a store's latency. */
const FETCHES_MAX = 16;

export interface EarlierSource {
  /** null: there is no such entry, or not any more. */
  readonly readEntry: (version: number) => Promise<ActionSet | null>;
  /** Whether a file that was removed from the table is still there. */
  readonly exists: (path: string) => Promise<boolean>;
  /** Absolute, of a path of the table. */
  readonly localPath: (path: string) => string;
}

/**
 * @param newest as captured for the range
 * @returns null: too far back, or not in the log any more
 * @throws SluiceError ERR_LAKE_LOG_CORRUPT, ERR_STORE_*
 */
export async function captureEarlier(
  newest: TableCapture,
  version: number,
  range: TableRange,
  { readEntry, exists, localPath }: EarlierSource,
): Promise<TableCapture | null> {
  if (version === newest.version) return newest;
  if (version > newest.version || newest.version - version > VERSIONS_BACK_MAX) return null;
  const added = new Set<string>();
  const restored = new Map<string, RemoveFile>();
  for (let from = version + 1; from <= newest.version; from += FETCHES_MAX) {
    const versions = Array.from({ length: Math.min(FETCHES_MAX, newest.version - from + 1) }, (_, index) => from + index);
    for (const actions of await Promise.all(versions.map(readEntry))) {
      if (actions === null || restored.size > FILES_RESTORED_MAX) return null;
      // As in a replay removes come first. What came behind the version was not there.
      for (const remove of actions.removes) if (!added.has(remove.path)) restored.set(remove.path, remove);
      for (const add of actions.adds) added.add(add.path);
    }
  }
  const back = [...restored.values()].filter(({ partitionValues }) => mayHold(partitionValues?.['day'] ?? null, range));
  for (let from = 0; from < back.length; from += FETCHES_MAX) {
    const found = await Promise.all(back.slice(from, from + FETCHES_MAX).map(({ path }) => exists(path)));
    if (found.includes(false)) return null;
  }
  const addedFiles = new Set([...added].map(localPath));
  return {
    version,
    files: [...newest.files.filter(({ path }) => !addedFiles.has(path)), ...back.map((remove) => restoredFile(remove, localPath))],
    unreadable: newest.unreadable.filter(({ path }) => !added.has(path)),
  };
}

function restoredFile(remove: RemoveFile, localPath: EarlierSource['localPath']): LakeFile {
  return { path: localPath(remove.path), size: remove.size ?? 0, day: remove.partitionValues?.['day'] ?? null };
}

/** A removal says no more of its file than its day. */
function mayHold(day: string | null, { fromUs, toUs }: TableRange): boolean {
  if (day === null) return true;
  const dayUs = Date.parse(`${day}T00:00:00Z`) * 1000;
  return Number.isNaN(dayUs) || (dayUs < toUs && dayUs + 86_400_000_000 > fromUs);
}
