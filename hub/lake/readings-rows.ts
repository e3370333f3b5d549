/**
 * From the batches of a commit to the rows of `readings`, one sorted table per UTC day.
 *
 * Pure and columnar: runs are counted into their places (a counting sort by series rank), never compared reading by
 * reading; only a series whose runs overlap in time is sorted again. Order in a file: device, metric, tags, gateway, ts.
 */
import type { SeriesRuns } from '../../shared/reading.ts';
import type { SeriesOrder } from './series-order.ts';
import type { PendingBatch } from './pending.ts';
import type { ParquetColumn } from './parquet/encode.ts';

const DAY_US = 86_400_000_000;

export interface DayRows {
  /** UTC day as the partition value: 'YYYY-MM-DD'. */
  readonly day: string;
  readonly rowCount: number;
  readonly columns: ParquetColumn[];
}

/** A part of a run that lies in one day. */
interface Piece {
  readonly batch: number;
  readonly seriesId: number;
  readonly start: number;
  readonly end: number;
}

/** The UTC days, as numbers since the epoch, that the readings touch. */
export function daysOf(runs: SeriesRuns): number[] {
  const days = new Set<number>();
  for (let run = 0; run < runs.seriesTable.length; run++) {
    const end = runs.runOffsets[run + 1];
    const last = Math.floor(runs.eventTimeUs[end - 1] / DAY_US);
    // Times ascend: a run of one day is seen by its ends.
    for (let at = runs.runOffsets[run], day = Number.NaN; at < end; at++) {
      day = Math.floor(runs.eventTimeUs[at] / DAY_US);
      days.add(day);
      if (day === last) break;
    }
  }
  return [...days];
}

export function dayOf(eventTimeUs: number): string {
  return new Date(Math.floor(eventTimeUs / DAY_US) * 86_400_000).toISOString().slice(0, 10);
}

/** @throws SluiceError ERR_WINDOW_GROUPS_FULL from the registry. */
function splitByDay(batches: readonly PendingBatch[], order: SeriesOrder): Map<number, Piece[]> {
  const days = new Map<number, Piece[]>();
  let lastDay = Number.NaN;
  let lastPieces: Piece[] = [];
  const piecesOf = (day: number): Piece[] => {
    if (day === lastDay) return lastPieces;
    let pieces = days.get(day);
    if (pieces === undefined) {
      pieces = [];
      days.set(day, pieces);
    }
    lastDay = day;
    lastPieces = pieces;
    return pieces;
  };
  batches.forEach((batch, batchIndex) => {
    if (batch.runs === null) return;
    const { runOffsets, eventTimeUs, seriesTable } = batch.runs;
    const seriesIds = new Uint32Array(seriesTable.length);
    order.registry.resolve(batch.lane.gateway, seriesTable, seriesIds);
    for (let run = 0; run < seriesTable.length; run++) {
      const seriesId = seriesIds[run];
      const end = runOffsets[run + 1];
      let start = runOffsets[run];
      while (start < end) {
        const day = Math.floor(eventTimeUs[start] / DAY_US);
        let stop = end;
        // Most runs lie in one day; times ascend, so the last reading tells.
        if (Math.floor(eventTimeUs[end - 1] / DAY_US) !== day) {
          stop = start;
          while (stop < end && Math.floor(eventTimeUs[stop] / DAY_US) === day) stop++;
        }
        piecesOf(day).push({ batch: batchIndex, seriesId, start, end: stop });
        start = stop;
      }
    }
  });
  return days;
}

/** A dictionary under construction: index 0 is null. */
class Dictionary {
  readonly values: string[] = [''];
  #indices = new Map<string, number>();
  #last: string | null = null;
  #lastIndex = 0;

  indexOf(value: string | null): number {
    if (value === null) return 0;
    // Neighbours mostly have the same value.
    if (value === this.#last) return this.#lastIndex;
    let index = this.#indices.get(value);
    if (index === undefined) {
      index = this.values.length;
      this.values.push(value);
      this.#indices.set(value, index);
    }
    this.#last = value;
    this.#lastIndex = index;
    return index;
  }

  column(name: string, indices: Uint32Array): ParquetColumn {
    // Nothing but null needs no indices at all.
    return { name, type: 'string', dictionary: this.values.length === 1 ? [] : this.values, indices, nullIndex: 0 };
  }
}

/** @yields between days; a day of n rows costs about 30 ns × n. */
export function* buildDayRows(batches: readonly PendingBatch[], order: SeriesOrder): Generator<DayRows> {
  const days = splitByDay(batches, order);
  for (const [day, pieces] of [...days].sort(([a], [b]) => a - b)) yield buildDay(day, pieces, batches, order);
}

function buildDay(day: number, pieces: readonly Piece[], batches: readonly PendingBatch[], order: SeriesOrder): DayRows {
  const ranks = order.ranks();
  // Count rows per series, then give each series its place in rank order.
  const countOf = new Uint32Array(ranks.length);
  const present: number[] = [];
  let rowCount = 0;
  for (const piece of pieces) {
    if (countOf[piece.seriesId] === 0) present.push(piece.seriesId);
    countOf[piece.seriesId] += piece.end - piece.start;
    rowCount += piece.end - piece.start;
  }
  const seriesIds = Uint32Array.from(present).sort((a, b) => ranks[a] - ranks[b]);
  const slotOf = new Uint32Array(ranks.length);
  const offsets = new Uint32Array(seriesIds.length + 1);
  seriesIds.forEach((id, slot) => {
    slotOf[id] = slot;
    offsets[slot + 1] = offsets[slot] + countOf[id];
  });

  const ts = new Float64Array(rowCount);
  const value = new Float64Array(rowCount);
  const seq = new Float64Array(rowCount);
  const ingested = new Float64Array(rowCount);
  const laneIndex = new Uint32Array(rowCount);
  const epochIndex = new Uint32Array(rowCount);
  const text = new Uint32Array(rowCount);
  const valid = new Uint8Array(rowCount).fill(1);
  const epochs = new Dictionary();
  const lanes = new Dictionary();
  const texts = new Dictionary();
  let hasNull = false;

  const next = offsets.slice(0, seriesIds.length);
  for (const piece of pieces) {
    const batch = batches[piece.batch];
    const { runs } = batch;
    if (runs === null) continue;
    const slot = slotOf[piece.seriesId];
    const at = next[slot];
    const end = at + piece.end - piece.start;
    next[slot] = end;
    const epoch = epochs.indexOf(batch.lane.epoch);
    const lane = lanes.indexOf(batch.lane.lane);
    // A loop, not `set` and `fill`: a run of a two-second batch has two readings, and a view costs more than they do.
    for (let row = at, from = piece.start; row < end; row++, from++) {
      ts[row] = runs.eventTimeUs[from];
      value[row] = runs.value[from];
      seq[row] = batch.seq;
      ingested[row] = batch.receivedUs;
      epochIndex[row] = epoch;
      laneIndex[row] = lane;
    }
    if (runs.text === null) continue;
    for (let row = at, from = piece.start; row < end; row++, from++) {
      const textIndex = runs.text[from];
      if (textIndex === 0) continue;
      text[row] = texts.indexOf(runs.texts[textIndex - 1] ?? null);
      if (Number.isNaN(value[row])) {
        valid[row] = 0;
        hasNull = true;
      }
    }
  }
  sortOverlaps(offsets, { ts, value, seq, ingested }, { epochIndex, laneIndex, text }, valid);
  return { day: dayOf(day * DAY_US), rowCount, columns: columnsOf() };

  function columnsOf(): ParquetColumn[] {
    const gateways = new Dictionary();
    const devices = new Dictionary();
    const metrics = new Dictionary();
    const tags = new Dictionary();
    const gatewayIndex = new Uint32Array(rowCount);
    const deviceIndex = new Uint32Array(rowCount);
    const metricIndex = new Uint32Array(rowCount);
    const tagsIndex = new Uint32Array(rowCount);
    seriesIds.forEach((id, slot) => {
      const from = offsets[slot];
      const to = offsets[slot + 1];
      const series = order.nameOf(id);
      gatewayIndex.fill(gateways.indexOf(series.gateway), from, to);
      deviceIndex.fill(devices.indexOf(series.device), from, to);
      metricIndex.fill(metrics.indexOf(series.metric), from, to);
      if (series.tags !== '') tagsIndex.fill(tags.indexOf(series.tags), from, to);
    });
    return [
      { name: 'ts', type: 'timestamp', values: ts },
      gateways.column('gateway', gatewayIndex),
      devices.column('device', deviceIndex),
      metrics.column('metric', metricIndex),
      tags.column('tags', tagsIndex),
      { name: 'value', type: 'double', values: value, valid: hasNull ? valid : null },
      texts.column('text', text),
      epochs.column('epoch', epochIndex),
      lanes.column('lane', laneIndex),
      { name: 'seq', type: 'long', values: seq },
      { name: 'ingested_at', type: 'timestamp', values: ingested },
    ];
  }
}

/** Sorts by time, stably, the rows of each series whose runs came out of order (late data, two epochs). */
function sortOverlaps(
  offsets: Uint32Array,
  floats: Record<'ts' | 'value' | 'seq' | 'ingested', Float64Array>,
  indices: Record<'epochIndex' | 'laneIndex' | 'text', Uint32Array>,
  valid: Uint8Array,
): void {
  const { ts } = floats;
  for (let slot = 0; slot + 1 < offsets.length; slot++) {
    const from = offsets[slot];
    const to = offsets[slot + 1];
    let ascending = true;
    for (let row = from + 1; row < to && ascending; row++) ascending = ts[row - 1] <= ts[row];
    if (ascending) continue;
    const order = Array.from({ length: to - from }, (_, offset) => from + offset).sort((a, b) => ts[a] - ts[b] || a - b);
    for (const column of [...Object.values(floats), ...Object.values(indices), valid]) {
      const sorted = order.map((row) => column[row]);
      column.set(sorted, from);
    }
  }
}
