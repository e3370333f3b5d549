/**
 * From the batches of a commit to the rows of `readings`, one sorted table per UTC day.
 *
 * Pure and columnar: parts of runs are counted into the order of their series (a counting sort by rank) and their readings
 * then copied one part after the other, so that rows are written in order and nothing is compared reading by reading; only
 * a series whose runs overlap in time is sorted again. What is the same for a whole batch or series (names, epoch, lane,
 * seq, arrival) never becomes a row: those columns are runs. Order in a file: device, metric, tags, gateway, ts.
 */
import type { SeriesRuns } from '../../shared/reading.ts';
import { inSlices } from '../steps.ts';
import { ascendingOrder } from './ascending-order.ts';
import type { SeriesOrder } from './series-order.ts';
import type { PendingBatch } from './pending.ts';
import type { FileColumn } from './parquet/encode.ts';
import { RunBuilder, type Runs } from './parquet/runs.ts';

const DAY_US = 86_400_000_000;

export interface DayRows {
  /** UTC day as the partition value: 'YYYY-MM-DD'. */
  readonly day: string;
  readonly rowCount: number;
  readonly columns: FileColumn[];
}

/** The UTC days, as numbers since the epoch, that the readings touch. */
export function daysOf(runs: SeriesRuns): number[] {
  const days = new Set<number>();
  let known = Number.NaN;
  for (let run = 0; run < runs.seriesTable.length; run++) {
    const end = runs.runOffsets[run + 1];
    const last = Math.floor(runs.eventTimeUs[end - 1] / DAY_US);
    // Times ascend: a run of one day is seen by its ends.
    for (let at = runs.runOffsets[run], day = Number.NaN; at < end; at++) {
      day = Math.floor(runs.eventTimeUs[at] / DAY_US);
      if (day !== known) days.add(day);
      known = day;
      if (day === last) break;
    }
  }
  return [...days];
}

export function dayOf(eventTimeUs: number): string {
  return new Date(Math.floor(eventTimeUs / DAY_US) * 86_400_000).toISOString().slice(0, 10);
}

/** Larger ones are not kept: one commit may have let more than usual gather. */
const KEPT_ROWS_MAX = 2_000_000;

/** Twice as much each time it grows: with what each takes, every commit that is the largest so far would allocate anew. */
function capacityOf(count: number): number {
  return count > KEPT_ROWS_MAX ? count : Math.min(KEPT_ROWS_MAX, 2 ** Math.ceil(Math.log2(Math.max(1, count))));
}

/**
 * Memory of the rows of one day, used again for the next: 16 bytes a row, and 90 a part of a run, that are neither cleared
 * nor collected.
 */
export class RowBuffers {
  #ts = new Float64Array(0);
  #value = new Float64Array(0);
  #words = new Map<string, Uint32Array>();
  #pieces: Pieces | null = null;

  /** Of `rowCount` elements of any content each, valid until the next call. */
  take(rowCount: number): { readonly ts: Float64Array; readonly value: Float64Array } {
    const isEnough = this.#ts.length >= rowCount;
    const ts = isEnough ? this.#ts : new Float64Array(capacityOf(rowCount));
    const value = isEnough ? this.#value : new Float64Array(capacityOf(rowCount));
    if (!isEnough && rowCount <= KEPT_ROWS_MAX) {
      this.#ts = ts;
      this.#value = value;
    }
    return { ts: ts.subarray(0, rowCount), value: value.subarray(0, rowCount) };
  }

  /** At least `count` elements of any content, valid until the next call of that name. */
  words(name: string, count: number): Uint32Array {
    const known = this.#words.get(name);
    if (known !== undefined && known.length >= count) return known;
    const words = new Uint32Array(capacityOf(count));
    if (count <= KEPT_ROWS_MAX) this.#words.set(name, words);
    return words;
  }

  /** Empty; whoever does not give it back costs the next day its own. */
  takePieces(): Pieces {
    const pieces = this.#pieces ?? new Pieces();
    this.#pieces = null;
    pieces.count = 0;
    return pieces;
  }

  giveBackPieces(pieces: Pieces): void {
    if (pieces.words.length <= KEPT_ROWS_MAX * PIECE_WORDS) this.#pieces = pieces;
  }
}

/** Parts of runs that lie in one day, PIECE_WORDS each: batch, series id, first reading, behind the last one. */
class Pieces {
  words = new Uint32Array(1024 * PIECE_WORDS);
  count = 0;

  push(batch: number, seriesId: number, start: number, end: number): void {
    let at = this.count++ * PIECE_WORDS;
    if (at === this.words.length) {
      const larger = new Uint32Array(this.words.length * 2);
      larger.set(this.words);
      this.words = larger;
    }
    this.words[at++] = batch;
    this.words[at++] = seriesId;
    this.words[at++] = start;
    this.words[at] = end;
  }
}
const PIECE_WORDS = 4;

/** @throws SluiceError ERR_WINDOW_GROUPS_FULL from the registry. */
async function splitByDay(
  batches: readonly PendingBatch[],
  order: SeriesOrder,
  buffers: RowBuffers,
  breathe: () => Promise<void>,
): Promise<Map<number, Pieces>> {
  const days = new Map<number, Pieces>();
  const piecesOf = (day: number): Pieces => {
    let pieces = days.get(day);
    if (pieces === undefined) {
      pieces = buffers.takePieces();
      days.set(day, pieces);
    }
    return pieces;
  };
  let day = Number.NaN;
  let pieces: Pieces | null = null;
  for (const [batchIndex, batch] of batches.entries()) {
    if (batch.runs === null) continue;
    const { runOffsets, eventTimeUs, seriesTable } = batch.runs;
    const seriesIds = order.registry.idsOf(batch.lane.gateway, seriesTable);
    for (let run = 0; run < seriesTable.length; run++) {
      const end = runOffsets[run + 1];
      let start = runOffsets[run];
      while (start < end) {
        if (pieces === null || Math.floor(eventTimeUs[start] / DAY_US) !== day) {
          day = Math.floor(eventTimeUs[start] / DAY_US);
          pieces = piecesOf(day);
        }
        let stop = end;
        // Most runs lie in one day; times ascend, so the last reading tells.
        if (Math.floor(eventTimeUs[end - 1] / DAY_US) !== day) {
          stop = start;
          while (stop < end && Math.floor(eventTimeUs[stop] / DAY_US) === day) stop++;
        }
        pieces.push(batchIndex, seriesIds[run], start, stop);
        start = stop;
      }
    }
    await breathe();
  }
  return days;
}

/** A dictionary under construction: index 0 is null. Filled by one of indexOf and nextOf. */
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

  /** As `indexOf`, of values in an order that has equal ones side by side: none of them is looked up. */
  nextOf(value: string): number {
    if (value === this.#last) return this.#lastIndex;
    this.#last = value;
    this.#lastIndex = this.values.push(value) - 1;
    return this.#lastIndex;
  }

  column(name: string, indices: Uint32Array): FileColumn {
    // Nothing but null needs no indices at all.
    return { name, type: 'string', dictionary: this.values.length === 1 ? [] : this.values, indices, nullIndex: 0 };
  }

  runColumn(name: string, runs: Runs): FileColumn {
    return { name, type: 'string_runs', dictionary: this.values, runs, nullIndex: 0 };
  }
}

/**
 * @param buffers hold the rows: a day's are valid until the next day is asked for
 * @param breathe called every few ms; series may be added meanwhile, and keep their ids
 * @yields a day of n rows costs 50 to 100 ns × n.
 */
export async function* buildDayRows(
  batches: readonly PendingBatch[],
  order: SeriesOrder,
  buffers: RowBuffers,
  breathe: () => Promise<void>,
): AsyncGenerator<DayRows> {
  const days = await splitByDay(batches, order, buffers, breathe);
  for (const [day, pieces] of [...days].sort(([a], [b]) => a - b)) {
    yield await new DayBuilder(batches, order, pieces, buffers).build(dayOf(day * DAY_US), breathe);
    buffers.giveBackPieces(pieces);
  }
}

/** Rows that are copied before the thread breathes: 1 to 3 ms. */
const ROWS_PER_SLICE = 32_768;

class DayBuilder {
  readonly #batches: readonly PendingBatch[];
  readonly #order: SeriesOrder;
  readonly #pieces: Pieces;
  readonly #buffers: RowBuffers;
  readonly #rowCount: number;
  /** Of each batch. */
  readonly #times: readonly Float64Array[];
  readonly #values: readonly Float64Array[];
  readonly #ts: Float64Array;
  readonly #value: Float64Array;
  readonly #texts = new Dictionary();
  readonly #text: Uint32Array | null;
  readonly #valid: Uint8Array | null;
  /** Which batch each row is of. */
  readonly #batchRuns: RunBuilder;
  /** Per series of the day, in the order of the file: its id, and the row behind its last one. */
  #seriesIds: Uint32Array = new Uint32Array(0);
  #seriesEnds: Uint32Array = new Uint32Array(0);

  constructor(batches: readonly PendingBatch[], order: SeriesOrder, pieces: Pieces, buffers: RowBuffers) {
    this.#batches = batches;
    this.#order = order;
    this.#pieces = pieces;
    this.#buffers = buffers;
    let rowCount = 0;
    for (let at = 0; at < pieces.count * PIECE_WORDS; at += PIECE_WORDS) rowCount += pieces.words[at + 3] - pieces.words[at + 2];
    this.#rowCount = rowCount;
    const { ts, value } = buffers.take(rowCount);
    this.#ts = ts;
    this.#value = value;
    const hasText = batches.some(({ runs }) => runs !== null && runs.text !== null);
    this.#text = hasText ? new Uint32Array(rowCount) : null;
    this.#valid = hasText ? new Uint8Array(rowCount).fill(1) : null;
    this.#batchRuns = new RunBuilder(this.#runWords('rows', pieces.count));
    const none = new Float64Array(0);
    this.#times = batches.map(({ runs }) => runs?.eventTimeUs ?? none);
    this.#values = batches.map(({ runs }) => runs?.value ?? none);
  }

  #runWords(name: string, count: number): { ends: Uint32Array; indices: Uint32Array } {
    return { ends: this.#buffers.words(`${name}: ends`, count), indices: this.#buffers.words(`${name}: indices`, count) };
  }

  /** The batches of the rows, each with a number of its own as `map` says; valid as the row buffers are. */
  #mapped(name: string, map: Uint32Array): Runs {
    return this.#batchRuns.runs(map, this.#runWords(name, this.#batchRuns.count));
  }

  async build(day: string, breathe: () => Promise<void>): Promise<DayRows> {
    const sorted = await this.#sortPieces(breathe);
    await breathe();
    const cursor = { series: 0, piece: 0, row: 0 };
    while (cursor.series < this.#seriesIds.length) {
      this.#copySlice(sorted, cursor);
      await breathe();
    }
    return { day, rowCount: this.#rowCount, columns: await this.#columns(breathe) };
  }

  /** Places of the pieces by series, those of a series in order of their arrival. */
  async #sortPieces(breathe: () => Promise<void>): Promise<Uint32Array> {
    const { words, count } = this.#pieces;
    const order = await inSlices(this.#order.update(), breathe);
    // Per series first how many pieces it has, then where its next one goes.
    const next = this.#buffers.words('pieces of series', order.length).fill(0, 0, order.length);
    for (let at = 0; at < count * PIECE_WORDS; at += PIECE_WORDS) next[words[at + 1]]++;
    await breathe();
    const seriesIds = this.#buffers.words('series', Math.min(order.length, count));
    let seriesCount = 0;
    let place = 0;
    for (let index = 0; index < order.length; index++) {
      const id = order[index];
      const pieces = next[id];
      if (pieces === 0) continue;
      seriesIds[seriesCount++] = id;
      next[id] = place;
      place += pieces;
    }
    this.#seriesIds = seriesIds.subarray(0, seriesCount);
    this.#seriesEnds = this.#buffers.words('ends of series', seriesCount).subarray(0, seriesCount);
    await breathe();
    const sorted = this.#buffers.words('sorted pieces', count).subarray(0, count);
    for (let piece = 0; piece < count; piece++) sorted[next[words[piece * PIECE_WORDS + 1]]++] = piece * PIECE_WORDS;
    return sorted;
  }

  /** Copies whole series until a slice is full, and moves the cursor behind them. */
  #copySlice(sorted: Uint32Array, cursor: { series: number; piece: number; row: number }): void {
    const { words } = this.#pieces;
    const ts = this.#ts;
    const value = this.#value;
    let { series, piece, row } = cursor;
    for (const endRow = row + ROWS_PER_SLICE; series < this.#seriesIds.length && row < endRow; series++) {
      const id = this.#seriesIds[series];
      const firstPiece = piece;
      const firstRow = row;
      let isAscending = true;
      let last = -Infinity;
      for (; piece < sorted.length && words[sorted[piece] + 1] === id; piece++) {
        const at = sorted[piece];
        const batch = words[at];
        const to = words[at + 3];
        const batchTimes = this.#times[batch];
        const batchValues = this.#values[batch];
        if (batchTimes[words[at + 2]] < last) isAscending = false;
        // A loop, not `set`: a run of a two-second batch has two readings, and a view costs more than they do.
        for (let from = words[at + 2]; from < to; from++, row++) {
          ts[row] = batchTimes[from];
          value[row] = batchValues[from];
        }
        last = ts[row - 1];
        if (this.#text !== null) this.#copyTexts(batch, words[at + 2], to, row);
        this.#batchRuns.add(batch, to - words[at + 2]);
      }
      if (!isAscending) this.#sortByTime(sorted, firstPiece, piece, firstRow, row);
      this.#seriesEnds[series] = row;
    }
    cursor.series = series;
    cursor.piece = piece;
    cursor.row = row;
  }

  #copyTexts(batch: number, from: number, to: number, endRow: number): void {
    const { runs } = this.#batches[batch];
    if (runs === null || runs.text === null || this.#text === null || this.#valid === null) return;
    for (let at = from, row = endRow - (to - from); at < to; at++, row++) {
      if (runs.text[at] === 0) continue;
      this.#text[row] = this.#texts.indexOf(runs.texts[runs.text[at] - 1] ?? null);
      if (Number.isNaN(this.#value[row])) this.#valid[row] = 0;
    }
  }

  /** Sorts the rows of a series whose runs came out of order (late data, two epochs), equal times by arrival. */
  #sortByTime(sorted: Uint32Array, pieceFrom: number, pieceTo: number, from: number, to: number): void {
    const { words } = this.#pieces;
    const batchOf = new Uint32Array(to - from);
    for (let piece = pieceFrom, row = 0; piece < pieceTo; piece++) {
      const length = words[sorted[piece] + 3] - words[sorted[piece] + 2];
      batchOf.fill(words[sorted[piece]], row, row + length);
      row += length;
    }
    const rows = ascendingOrder(this.#ts, from, to);
    for (const column of [this.#ts, this.#value, this.#text, this.#valid]) {
      if (column === null) continue;
      const unsorted = column.slice(from, to);
      for (let row = from; row < to; row++) column[row] = unsorted[rows[row - from] - from];
    }
    this.#batchRuns.truncate(from);
    for (const row of rows) this.#batchRuns.add(batchOf[row - from], 1);
  }

  async #columns(breathe: () => Promise<void>): Promise<FileColumn[]> {
    const valid = this.#valid?.includes(0) === true ? this.#valid : null;
    const columns: FileColumn[] = [{ name: 'ts', type: 'timestamp', values: this.#ts }];
    for (const name of ['gateway', 'device', 'metric', 'tags'] as const) {
      columns.push(this.#seriesColumn(name));
      await breathe();
    }
    columns.push({ name: 'value', type: 'double', values: this.#value, valid });
    columns.push(this.#texts.column('text', this.#text ?? new Uint32Array(0)));
    const ofBatches = [
      () => this.#batchTexts('epoch', ({ lane }) => lane.epoch),
      () => this.#batchTexts('lane', ({ lane }) => lane.lane),
      () => this.#batchNumbers('seq', 'long_runs', ({ seq }) => seq),
      () => this.#batchNumbers('ingested_at', 'timestamp_runs', ({ receivedUs }) => receivedUs),
    ];
    // Each goes over the runs of all batches: about a ms per 100,000 of them.
    for (const make of ofBatches) {
      await breathe();
      columns.push(make());
    }
    return columns;
  }

  #seriesColumn(name: 'gateway' | 'device' | 'metric' | 'tags'): FileColumn {
    const texts = this.#order.registry.names[name];
    const dictionary = new Dictionary();
    const runs = new RunBuilder(this.#runWords(name, this.#seriesIds.length));
    let from = 0;
    for (let series = 0; series < this.#seriesIds.length; series++) {
      const text = texts[this.#seriesIds[series]];
      const end = this.#seriesEnds[series];
      // Devices are what the order begins with.
      runs.add(name === 'device' ? dictionary.nextOf(text) : dictionary.indexOf(text === '' ? null : text), end - from);
      from = end;
    }
    return dictionary.runColumn(name, runs.runs());
  }

  #batchTexts(name: string, textOf: (batch: PendingBatch) => string): FileColumn {
    const dictionary = new Dictionary();
    const indices = Uint32Array.from(this.#batches, (batch) => dictionary.indexOf(textOf(batch)));
    return dictionary.runColumn(name, this.#mapped(name, indices));
  }

  #batchNumbers(name: string, type: 'long_runs' | 'timestamp_runs', numberOf: (batch: PendingBatch) => number): FileColumn {
    const places = new Map<number, number>();
    const indices = Uint32Array.from(this.#batches, (batch) => {
      const number = numberOf(batch);
      const place = places.get(number) ?? places.size;
      places.set(number, place);
      return place;
    });
    return { name, type, values: Float64Array.from(places.keys()), runs: this.#mapped(name, indices) };
  }
}
