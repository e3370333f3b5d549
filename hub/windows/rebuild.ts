/**
 * Definitions that the lake does not have yet, or has less of than others: brought to the newest version at start.
 *
 * A definition without a position is computed from all files of one pinned snapshot, a UTC day at a time so that memory
 * follows the largest day; its files are staged as they come and counted by one commit, which is all or nothing.
 * Windows longer than a day have one partial per day, which merge as any others do.
 * A definition that lags (it was switched off for a while) is caught up from the log entries behind its position.
 *
 * Crash before the commit: orphan files, and the next start begins again.
 */
import type { Logger } from '../../shared/logging.ts';
import { definitionHash, type WindowDefinition } from '../../shared/window/definition.ts';
import type { PartialColumns } from '../../shared/window/partial-columns.ts';
import type { AddFile } from '../lake/delta-actions.ts';
import type { Lake } from '../lake/lake.ts';
import type { Flusher } from './flusher.ts';
import { GroupRegistry } from './group-registry.ts';
import { readGatewayRuns } from './readings-source.ts';
import { WindowState } from './window-state.ts';

export async function rebuildWindows(lake: Lake, flusher: Flusher, logger: Logger): Promise<void> {
  const { version } = lake.readings.snapshot;
  const positions = new Set(flusher.definitions.map((definition) => flusher.position(definition)));
  // The usual start: all at one position, and the versions behind it are read into the tail.
  if (positions.size <= 1 && !positions.has(0)) return;
  if (lake.readings.snapshot.files.size === 0) return;
  for (const definition of flusher.definitions) {
    const from = flusher.position(definition);
    if (from === version) continue;
    logger.info({ window: definition.name, hash: definitionHash(definition), from, to: version }, 'windows are computed from the readings of the lake');
    const rows = from === 0 ? rowsByDay(lake, definition) : rowsOfVersions(lake, definition, from, version);
    await flusher.flush([definition], { from, to: version }, () => rows);
  }
}

async function* rowsByDay(lake: Lake, definition: WindowDefinition): AsyncGenerator<PartialColumns> {
  const days = new Map<string, AddFile[]>();
  for (const file of lake.readings.snapshot.files.values()) {
    const day = file.partitionValues['day'] ?? '';
    days.set(day, [...(days.get(day) ?? []), file]);
  }
  for (const files of days.values()) yield await rowsOfFiles(lake, definition, files);
}

async function* rowsOfVersions(lake: Lake, definition: WindowDefinition, from: number, to: number): AsyncGenerator<PartialColumns> {
  for await (const { actions } of lake.readings.history(from, to)) {
    if (actions.removes.some((remove) => remove.dataChange)) continue;
    yield await rowsOfFiles(
      lake,
      definition,
      actions.adds.filter((add) => add.dataChange),
    );
  }
}

async function rowsOfFiles(lake: Lake, definition: WindowDefinition, files: readonly AddFile[]): Promise<PartialColumns> {
  const state = new WindowState([definition], { registry: new GroupRegistry() });
  for (const file of files) {
    for (const { gateway, runs } of await readGatewayRuns(lake.store, `${lake.readings.spec.name}/${file.path}`)) state.add(gateway, runs, -Infinity);
  }
  return state.rows(0);
}
