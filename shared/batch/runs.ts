/**
 * Readings in arrival order to runs per series, as they stand in a batch.
 */
import assert from 'node:assert/strict';
import { compareSeries, type ReadingColumns, type Series, type SeriesRuns } from '../reading.ts';

/**
 * Groups by series (in the order of `compareSeries`), then by event time; equal times keep their arrival order.
 *
 * Series of the table without a reading are left out, equal series become one, and only texts that are used remain, in
 * the order of their first use. Cost: linear where times ascend per series and the table is in order, as is usual.
 */
export function sortIntoRuns(columns: ReadingColumns, table: readonly Series[]): SeriesRuns {
  const { count, series } = columns;
  const counts = new Uint32Array(table.length);
  for (let i = 0; i < count; i++) {
    const id = series[i];
    assert(id < table.length, 'a reading points behind the series table');
    counts[id] += 1;
  }
  const { seriesTable, rankOf } = rankSeries(table, counts);
  const runOffsets = new Uint32Array(seriesTable.length + 1);
  for (let id = 0; id < table.length; id++) if (counts[id] > 0) runOffsets[rankOf[id] + 1] += counts[id];
  for (let s = 0; s < seriesTable.length; s++) runOffsets[s + 1] += runOffsets[s];
  const order = new Uint32Array(count);
  const next = runOffsets.slice(0, seriesTable.length);
  for (let i = 0; i < count; i++) {
    const rank = rankOf[series[i]];
    order[next[rank]++] = i;
  }
  sortByTime(order, runOffsets, columns.eventTimeUs);
  const eventTimeUs = new Float64Array(count);
  const value = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const from = order[i];
    eventTimeUs[i] = columns.eventTimeUs[from];
    value[i] = columns.value[from];
  }
  return { count, seriesTable, runOffsets, eventTimeUs, value, ...compactTexts(columns, order) };
}

/** The used series in order, without equals, and the rank of each entry of the table. */
function rankSeries(table: readonly Series[], counts: Uint32Array): { seriesTable: Series[]; rankOf: Uint32Array } {
  const used: number[] = [];
  let inOrder = true;
  for (let id = 0; id < table.length; id++) {
    if (counts[id] === 0) continue;
    const before = used[used.length - 1];
    if (before !== undefined && compareSeries(table[before], table[id]) >= 0) inOrder = false;
    used.push(id);
  }
  if (!inOrder) used.sort((a, b) => compareSeries(table[a], table[b]));
  const seriesTable: Series[] = [];
  const rankOf = new Uint32Array(table.length);
  for (const id of used) {
    const entry = table[id];
    const before = seriesTable[seriesTable.length - 1];
    if (before === undefined || compareSeries(before, entry) !== 0) seriesTable.push(entry);
    rankOf[id] = seriesTable.length - 1;
  }
  return { seriesTable, rankOf };
}

/** Sorts the runs that are not in ascending time already (the sort of typed arrays is stable). */
function sortByTime(order: Uint32Array, runOffsets: Uint32Array, eventTimeUs: Float64Array): void {
  for (let s = 0; s + 1 < runOffsets.length; s++) {
    const start = runOffsets[s];
    const end = runOffsets[s + 1];
    let ascending = true;
    for (let i = start + 1; i < end && ascending; i++) {
      ascending = eventTimeUs[order[i - 1]] <= eventTimeUs[order[i]];
    }
    if (!ascending) order.subarray(start, end).sort((a, b) => eventTimeUs[a] - eventTimeUs[b]);
  }
}

function compactTexts(columns: ReadingColumns, order: Uint32Array): { text: Uint32Array | null; texts: string[] } {
  if (columns.text === null) return { text: null, texts: [] };
  const text = new Uint32Array(order.length);
  const texts: string[] = [];
  const indexOf = new Map<string, number>();
  for (let i = 0; i < order.length; i++) {
    const old = columns.text[order[i]];
    if (old === 0) continue;
    const content = columns.texts[old - 1];
    assert(content !== undefined, 'a reading points behind the texts');
    let index = indexOf.get(content);
    if (index === undefined) {
      index = texts.push(content);
      indexOf.set(content, index);
    }
    text[i] = index;
  }
  return texts.length === 0 ? { text: null, texts: [] } : { text, texts };
}
