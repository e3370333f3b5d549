/**
 * Answers that nobody asked for, so that V8 has seen what makes them before somebody does: the first 50 answers of a new
 * thread take 1 to 3 ms each, those after 100 ms of this 0.2 to 0.4.
 *
 * Made of windows that are made up, through the functions that real ones go through; nothing of them is kept but what V8
 * compiles, and texts in HotWindows' caches.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { WindowDefinition } from '../../shared/window/definition.ts';
import { packPartials, unpackPartials } from '../../shared/window/packed-partials.ts';
import { DEFAULT_FUNCTIONS, EMPTY_PARTIAL } from '../../shared/window/partial.ts';
import { partialColumns, type PartialColumns } from '../../shared/window/partial-columns.ts';
import { documentsOf } from './aggregate-document.ts';
import { tailRows, type HotWindows } from './hot-windows.ts';
import type { HotTask } from './query-api.ts';

/** In one go: a query that comes waits for it. */
const SLICE_MS = 2;
const MINUTE_US = 60_000_000;
const WINDOWS = 5;
const FROM_US = Date.parse('2020-01-01T00:00:00Z') * 1000;
const TO_US = FROM_US + WINDOWS * MINUTE_US;
const DEVICE = 'warm-up';
const DEFINITION: WindowDefinition = { name: '1m', sizeMs: 60_000, by: 'series', persisted: true };

/** @param isWanted asked every few ms; the first query ends it */
export async function warmUp(hot: HotWindows, ms: number, isWanted: () => boolean): Promise<void> {
  const tail = [1, 2, 3].map(statesOf);
  for (const endMs = performance.now() + ms; performance.now() < endMs && isWanted(); await nextTurn()) {
    for (const sliceEndMs = performance.now() + SLICE_MS; performance.now() < sliceEndMs;) answer(hot, tail);
  }
}

function answer(hot: HotWindows, tail: readonly PartialColumns[]): void {
  const capture = {
    definition: DEFINITION,
    definitionHash: '',
    aggregatesVersion: 0,
    readingsVersion: 0,
    files: [],
    tail: [],
    overlayComplete: true,
    watermarks: new Map<string, number>(),
    activeGateways: [],
    exceptionFiles: [],
    pendingExceptions: [],
    releasedEpochs: [],
  };
  const sources = { capture, runs: [], exceptions: [], openFromUs: new Map([['', TO_US]]) };
  const text = hot.text(TASK, { ...sources, tail: tailRows(tail.map((columns) => unpackPartials(packPartials(columns)))) });
  if (text !== null) documentsOf([text]);
}

const TASK: HotTask = {
  query: {
    window: DEFINITION.name,
    fromUs: FROM_US,
    toUs: TO_US,
    gateways: null,
    devices: [DEVICE],
    metrics: null,
    functions: DEFAULT_FUNCTIONS,
    limit: 1_000,
    after: null,
  },
  head: '"window":"1m"',
  fromUs: FROM_US,
  toUs: TO_US,
  cost: WINDOWS,
};

function statesOf(seed: number): PartialColumns {
  const rows = ['a', 'b', 'c', 'd'].flatMap((metric, series) =>
    Array.from({ length: WINDOWS }, (_, window) => ({
      group: { gateway: '', device: DEVICE, metric, tags: null },
      windowStartUs: FROM_US + window * MINUTE_US,
      partial: {
        ...EMPTY_PARTIAL,
        n: 8,
        mean: series + seed / 7,
        m2: window + seed / 3,
        sumValue: 8 * (series + seed / 7),
        minValue: -seed / 9,
        maxValue: 20 + seed / 11,
        firstValue: seed,
        firstTsUs: FROM_US + seed,
        lastValue: seed / 13,
        lastTsUs: FROM_US + 1_000 + seed,
        histPos: new Map([1, 2, 3, 5].map((bucket) => [bucket * seed, 2])),
      },
    })),
  );
  return partialColumns(rows, MINUTE_US);
}
