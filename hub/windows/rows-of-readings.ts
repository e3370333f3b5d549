/** The windows of files of `readings`, summed up one file after the other: in parts where they do not fit into memory together. */
import type { WindowDefinition } from '../../shared/window/definition.ts';
import type { PartialColumns } from '../../shared/window/partial-columns.ts';
import { GroupRegistry } from './group-registry.ts';
import { isFull, type GatewayRuns } from './overlay.ts';
import { compactGroups, WindowState } from './window-state.ts';

/** Of what is in memory at once. */
export interface RowsLimits {
  readonly slotsMax?: number;
  readonly seriesMax?: number;
}

/**
 * @param read the runs of one file
 * @param breathe called between two files
 * @param limits default: those of a window state and of a registry
 * @throws SluiceError as `read`, and where not even the runs of one gateway fit
 */
export async function* rowsOfReadings(
  paths: Iterable<string>,
  definition: WindowDefinition,
  read: (path: string) => Promise<readonly GatewayRuns[]>,
  breathe: () => Promise<void>,
  { slotsMax, seriesMax }: RowsLimits = {},
): AsyncGenerator<PartialColumns> {
  const registry = new GroupRegistry(seriesMax === undefined ? {} : { seriesMax });
  const state = new WindowState([definition], { registry, ...(slotsMax === undefined ? {} : { slotsMax }) });
  for (const path of paths) {
    for (const { gateway, runs } of await read(path)) {
      try {
        state.add(gateway, runs, -Infinity);
      } catch (error) {
        if (!isFull(error) || state.readingCount === 0) throw error;
        yield state.rows(0);
        state.clear();
        compactGroups(registry, []);
        state.add(gateway, runs, -Infinity);
      }
    }
    await breathe();
  }
  if (state.readingCount > 0) yield state.rows(0);
}
