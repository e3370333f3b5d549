/**
 * The hub's answers against the expected windows.
 */
import type { CountedSeries } from './compare-readings.ts';
import { COMPARED_WINDOWS, expectedWindows, windowKey, wrongValues, type ComparedWindow } from './expected-windows.ts';
import type { AggregateRow, HubClient } from './hub-client.ts';

export interface WindowResult {
  readonly window: string;
  readonly expected: number;
  /** Expected windows that the hub answered. */
  readonly answered: number;
  /** Missing, wrong in any function, answered twice, or not expected at all. */
  readonly wrong: number;
  readonly statuses: Readonly<Record<string, number>>;
}

export interface WindowsResult {
  readonly windows: readonly WindowResult[];
  readonly examples: readonly string[];
}

const EXAMPLES_MAX = 20;

function timeOf(us: number): string {
  return new Date(us / 1000).toISOString();
}

/** Half-open range of window starts that holds every reading of the simulated devices. */
function windowRange(counted: readonly CountedSeries[], sizeUs: number): { fromUs: number; toUs: number } | null {
  let min = Infinity;
  let max = -Infinity;
  for (const series of counted) {
    if (!series.simulated) continue;
    for (const row of series.rows) {
      min = Math.min(min, row.eventTimeUs);
      max = Math.max(max, row.eventTimeUs);
    }
  }
  if (min === Infinity) return null;
  return { fromUs: min - (min % sizeUs), toUs: max - (max % sizeUs) + sizeUs };
}

async function compareWindow(
  hub: HubClient,
  definition: ComparedWindow,
  counted: readonly CountedSeries[],
  examples: string[],
): Promise<WindowResult> {
  const range = windowRange(counted, definition.sizeUs);
  const simulated = counted.filter((series) => series.simulated);
  const metrics = new Set(simulated.map((series) => series.metric));
  const devices = new Set(simulated.map((series) => series.device));
  const statuses: Record<string, number> = {};
  if (range === null) return { window: definition.name, expected: 0, answered: 0, wrong: 0, statuses };
  const expected = expectedWindows(definition, counted, range, metrics);
  const open = new Set(expected.keys());
  let wrong = 0;
  const report = (text: string): void => {
    wrong++;
    if (examples.length < EXAMPLES_MAX) examples.push(`wrong aggregate: ${definition.name} ${text}`);
  };
  const judge = (row: AggregateRow): void => {
    const label = `${row.device === null ? '' : `${row.device}/`}${row.metric} at ${timeOf(row.windowStartUs)}`;
    const key = windowKey(definition.by, row, row.windowStartUs);
    const window = expected.get(key);
    if (row.status !== null) statuses[row.status] = (statuses[row.status] ?? 0) + 1;
    if (window === undefined) {
      if (row.values.count !== 0) report(`${label}: ${row.values.count} readings were not expected`); // a window of texts only may say 0
      return;
    }
    if (!open.delete(key)) return report(`${label}: answered twice`);
    const differences = wrongValues(window, row.values);
    if (row.windowEndUs - row.windowStartUs !== definition.sizeUs)
      differences.push(`the window is ${(row.windowEndUs - row.windowStartUs) / 1e6} s long`);
    if (differences.length > 0) report(`${label}: ${differences.join(', ')}`);
  };
  for (const metric of [...metrics].sort()) {
    for (const row of await hub.aggregates({ window: definition.name, metric, ...range })) {
      if (definition.by === 'series' && (row.device === null || !devices.has(row.device))) continue; // not of this fleet
      judge(row);
    }
  }
  for (const key of open) {
    const window = expected.get(key);
    if (window !== undefined)
      report(`${window.label} at ${timeOf(window.windowStartUs)}: missing, ${window.sorted.length} readings expected`);
  }
  return { window: definition.name, expected: expected.size, answered: expected.size - open.size, wrong, statuses };
}

/** @throws SluiceError ERR_SIM_HUB */
export async function compareWindows(hub: HubClient, counted: readonly CountedSeries[]): Promise<WindowsResult> {
  const examples: string[] = [];
  const windows: WindowResult[] = [];
  for (const definition of COMPARED_WINDOWS) windows.push(await compareWindow(hub, definition, counted, examples));
  return { windows, examples };
}
