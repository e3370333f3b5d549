/**
 * Definitions that the lake does not have yet, or has less of than others: brought to one position with them.
 *
 * A definition without a position is computed from all files of one pinned snapshot, a UTC day at a time so that memory
 * follows the largest day (and is cut where even that does not fit); its files are staged as they come and counted by one
 * commit, which is all or nothing. Windows that come in parts have several partials, which merge as any others do. The same
 * commit removes what there is of it from before its position expired.
 * A definition that lags (it was switched off, or a hub with other definitions flushed) is caught up from the log entries
 * behind its position. Where those are gone, or `readings` was restored from an older copy and ends before the position, it
 * is computed anew, and the same commit removes what it had.
 *
 * Crash before the commit: orphan files, and the next start begins again.
 */
import { isSluiceError, SluiceError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logging.ts';
import { definitionHash, type WindowDefinition } from '../../shared/window/definition.ts';
import type { PartialColumns } from '../../shared/window/partial-columns.ts';
import { parseFileStats, type AddFile, type RemoveFile } from '../lake/delta-actions.ts';
import type { Snapshot } from '../lake/delta-snapshot.ts';
import { removeAction } from '../lake/delta-stats.ts';
import type { Lake } from '../lake/lake.ts';
import type { Flusher } from './flusher.ts';
import { readFileRuns } from './readings-source.ts';
import { rowsOfReadings } from './rows-of-readings.ts';

/** Other hubs may move positions meanwhile; each round leaves them closer together. */
const ROUNDS_MAX = 100;

/**
 * Brings all persisted definitions to one position.
 *
 * @param isLogLost the entries behind that position cannot be read: everything is computed anew from the files
 * @returns the position, at most the version of `readings`
 * @throws SluiceError ERR_LAKE_LOG_GAP where neither the entries nor a way to compute a definition anew is left; ERR_STORE_*
 */
export async function alignWindows(lake: Lake, flusher: Flusher, logger: Logger, isLogLost = false): Promise<number> {
  let fromScratch = isLogLost;
  for (let round = 0; round < ROUNDS_MAX; round++) {
    await lake.aggregates.refresh();
    await lake.readings.refresh();
    // It says which files were given up.
    await lake.exceptions.refresh();
    const { snapshot } = lake.readings;
    if (flusher.definitions.length === 0) return snapshot.version;
    const positions = flusher.definitions.map((definition) => flusher.position(definition));
    const isNew = positions.includes(0) && snapshot.files.size > 0;
    const least = Math.min(...positions);
    const isBehind = positions.some((position) => position > snapshot.version);
    const target = isNew || fromScratch || isBehind ? snapshot.version : Math.max(...positions);
    // A position that a restored `readings` does not have: nothing up to it can be right, however far `readings` comes again.
    if (isBehind) {
      logger.error(
        { aggregates: Math.max(...positions), readings: snapshot.version },
        'readings end before the version that the windows have consumed (restored from an older copy?): the windows are computed anew',
      );
      fromScratch = true;
    }
    if (least === target && !isBehind) return target;
    for (const definition of flusher.definitions) {
      const from = flusher.position(definition);
      if (from === target) continue;
      logger.info(
        { window: definition.name, hash: definitionHash(definition), from, to: target },
        'windows are computed from the readings of the lake',
      );
      await bringTo(lake, flusher, definition, { from, to: target }, fromScratch, snapshot);
    }
    fromScratch = false;
  }
  throw new SluiceError('ERR_LAKE_CONTENTION', `definitions were not at one position after ${ROUNDS_MAX} rounds`);
}

async function bringTo(
  lake: Lake,
  flusher: Flusher,
  definition: WindowDefinition,
  versions: { readonly from: number; readonly to: number },
  fromScratch: boolean,
  snapshot: Snapshot,
): Promise<void> {
  if (versions.from > 0 && !fromScratch) {
    try {
      await flusher.flush([definition], versions, () => rowsOfVersions(lake, definition, versions.from, versions.to));
      return;
    } catch (error) {
      if (!isSluiceError(error, 'ERR_LAKE_LOG_GAP')) throw error;
    }
  }
  // All files of a snapshot are its version: nothing else than that can be the new position.
  const whole = { from: versions.from, to: snapshot.version };
  await flusher.flush([definition], whole, () => rowsByDay(lake, definition, snapshot), filesOf(lake, definition, versions.from));
}

/**
 * The files that hold the definition's partials. Without a position there may be some too: positions expire, files do not.
 *
 * @throws SluiceError ERR_LAKE_LOG_GAP if there is a position, and one of them may hold others as well
 */
function filesOf(lake: Lake, definition: WindowDefinition, position: number): RemoveFile[] {
  const hash = definitionHash(definition);
  const { files, timestampMs } = lake.aggregates.snapshot;
  const removes: RemoveFile[] = [];
  for (const file of files.values()) {
    const { minValues, maxValues } = parseFileStats(file.stats);
    const [min, max] = [minValues['def'], maxValues['def']];
    if (min === hash && max === hash) removes.push(removeAction(file, timestampMs, true));
    else if (position > 0 && (typeof min !== 'string' || typeof max !== 'string' || (min <= hash && hash <= max))) {
      throw new SluiceError(
        'ERR_LAKE_LOG_GAP',
        `window ${definition.name} is behind the log of readings, and ${file.path} holds others beside it`,
      );
    }
  }
  return removes;
}

async function* rowsByDay(lake: Lake, definition: WindowDefinition, snapshot: Snapshot): AsyncGenerator<PartialColumns> {
  const days = new Map<string, AddFile[]>();
  for (const file of snapshot.files.values()) {
    const day = file.partitionValues['day'] ?? '';
    const files = days.get(day);
    if (files === undefined) days.set(day, [file]);
    else files.push(file);
  }
  for (const files of days.values()) yield* rowsOfFiles(lake, definition, files);
}

async function* rowsOfVersions(lake: Lake, definition: WindowDefinition, from: number, to: number): AsyncGenerator<PartialColumns> {
  for await (const { actions } of lake.readings.history(from, to)) {
    if (actions.removes.some((remove) => remove.dataChange)) continue;
    const files = actions.adds.filter((add) => add.dataChange);
    yield* rowsOfFiles(lake, definition, files);
  }
}

/** It happens once, before the hub serves. */
const noBreath = (): Promise<void> => Promise.resolve();

function rowsOfFiles(lake: Lake, definition: WindowDefinition, files: readonly AddFile[]): AsyncGenerator<PartialColumns> {
  const paths = files.map(({ path }) => path);
  return rowsOfReadings(paths, definition, (path) => readFileRuns(lake, path, noBreath), noBreath);
}
