/**
 * A reader of Delta logs that shares no code with the hub: what verify trusts must not be wrong in the same way.
 *
 * Protocol: PROTOCOL.md of delta-io/delta, "Action Reconciliation": the newest checkpoint, then the JSON commits after it
 * in order; an `add` puts a path in, a `remove` takes it out. Only what reader version 1 may use is understood.
 */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import { parquetCompressors } from './parquet-codecs.ts';

export interface TableFile {
  /** Absolute. */
  readonly path: string;
  readonly size: number;
  readonly partitionValues: Readonly<Record<string, string | null>>;
}

export interface TableSnapshot {
  readonly version: number;
  readonly tableId: string;
  readonly files: readonly TableFile[];
}

interface AddAction {
  readonly path: string;
  readonly size: number | bigint;
  readonly partitionValues: Record<string, string | null> | null;
}

interface Action {
  readonly add?: AddAction | null;
  readonly remove?: { readonly path: string } | null;
  readonly metaData?: { readonly id: string } | null;
  readonly protocol?: { readonly minReaderVersion: number } | null;
}

const COMMIT_NAME = /^(\d{20})\.json$/;
const CHECKPOINT_NAME = /^(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet$/;

/** Files of the newest checkpoint that is complete (all its parts are there). */
function newestCheckpoint(names: readonly string[]): { version: number; names: string[] } | null {
  const parts = new Map<string, { version: number; total: number; names: string[] }>();
  for (const name of names) {
    const match = CHECKPOINT_NAME.exec(name);
    if (match === null) continue;
    const key = `${match[1]}/${match[3] ?? '1'}`;
    const entry = parts.get(key) ?? { version: Number(match[1]), total: Number(match[3] ?? 1), names: [] };
    entry.names.push(name);
    parts.set(key, entry);
  }
  const complete = [...parts.values()].filter((entry) => entry.names.length === entry.total);
  return complete.sort((a, b) => b.version - a.version)[0] ?? null;
}

async function checkpointActions(file: string): Promise<Action[]> {
  return (await parquetReadObjects({ file: await asyncBufferFromFile(file), compressors: parquetCompressors })) as Action[];
}

async function commitActions(file: string): Promise<Action[]> {
  const lines = (await readFile(file, 'utf8')).split('\n').filter((line) => line.trim() !== '');
  return lines.map((line) => JSON.parse(line) as Action);
}

/**
 * The table as its newest version has it; null where there is no log at all.
 *
 * @param tableDir the directory that holds `_delta_log`
 * @throws SluiceError ERR_SIM_LAKE
 */
export async function readTable(tableDir: string): Promise<TableSnapshot | null> {
  const logDir = path.join(tableDir, '_delta_log');
  let names: string[];
  try {
    names = await readdir(logDir);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new SluiceError('ERR_SIM_LAKE', `cannot list ${logDir}: ${errorMessage(cause)}`, { cause });
  }
  try {
    return await replay(tableDir, logDir, names);
  } catch (cause) {
    if (cause instanceof SluiceError) throw cause;
    throw new SluiceError('ERR_SIM_LAKE', `cannot read the log ${logDir}: ${errorMessage(cause)}`, { cause });
  }
}

async function replay(tableDir: string, logDir: string, names: readonly string[]): Promise<TableSnapshot | null> {
  const commits = names.flatMap((name) => (COMMIT_NAME.test(name) ? [Number(name.slice(0, 20))] : [])).sort((a, b) => a - b);
  const checkpoint = newestCheckpoint(names);
  await checkLastCheckpoint(logDir, names, checkpoint?.version ?? -1);
  const files = new Map<string, AddAction>();
  let tableId: string | null = null;
  const apply = (actions: readonly Action[]): void => {
    // Within one commit removes concern the versions before it, so their order to the adds does not matter.
    for (const { remove } of actions) if (remove) files.delete(remove.path);
    for (const { add, metaData, protocol } of actions) {
      if (add) files.set(add.path, add);
      if (metaData) tableId = metaData.id;
      if (protocol && protocol.minReaderVersion > 1) {
        throw new SluiceError('ERR_SIM_LAKE', `${logDir} demands reader version ${protocol.minReaderVersion}, 1 is understood`);
      }
    }
  };
  for (const name of checkpoint?.names ?? []) apply(await checkpointActions(path.join(logDir, name)));
  let version = checkpoint?.version ?? -1;
  for (const commit of commits) {
    if (commit <= version) continue;
    if (commit !== version + 1) throw new SluiceError('ERR_SIM_LAKE', `${logDir}: version ${version + 1} is missing, ${commit} is there`);
    apply(await commitActions(path.join(logDir, `${String(commit).padStart(20, '0')}.json`)));
    version = commit;
  }
  if (version < 0) return null;
  if (tableId === null) throw new SluiceError('ERR_SIM_LAKE', `${logDir} has no metaData action`);
  return {
    version,
    tableId,
    files: [...files.values()].map((add) => ({
      path: path.join(tableDir, decodeURIComponent(add.path)),
      size: Number(add.size),
      partitionValues: add.partitionValues ?? {},
    })),
  };
}

/** Other readers start from `_last_checkpoint`; one that points at nothing, or behind a newer one by much, would mislead them. */
async function checkLastCheckpoint(logDir: string, names: readonly string[], newestVersion: number): Promise<void> {
  if (!names.includes('_last_checkpoint')) return;
  const last = JSON.parse(await readFile(path.join(logDir, '_last_checkpoint'), 'utf8')) as { version?: unknown };
  if (typeof last.version !== 'number' || last.version > newestVersion) {
    throw new SluiceError(
      'ERR_SIM_LAKE',
      `${logDir}/_last_checkpoint names version ${String(last.version)}, the newest whole checkpoint is ${newestVersion}`,
    );
  }
}
