/**
 * The event times of a batch (docs/wire.md, "Time columns").
 *
 * Series with equal times, as the metrics of one device message have, share one column. Each column follows a model
 * that predicts the next time from those before it; what is stored is the difference. The first times of all columns
 * of a model stand together, so do all later differences: a batch of two seconds is half first times.
 *
 * Why three kinds: `delta` suits one period with a phase per device, `dod` (delta of delta) periods of their own, and
 * `grid` devices that all send on the beat of one clock and jitter around it, where any difference of two times would
 * carry the jitter twice.
 */
import { malformed, type ByteReader, type ByteWriter } from './bytes.ts';
import { estimateBits, readIntegers, readTransientIntegers, writeIntegers } from './integer-stream.ts';
import { COLUMN_DISTANCE_MAX, TIME_MODELS_MAX, TIME_US_MAX } from './limits.ts';

const TIME_KINDS = ['delta', 'grid', 'dod'] as const;
type TimeKind = (typeof TIME_KINDS)[number];

interface TimeModel {
  readonly kind: TimeKind;
  /** All times of the model's columns are multiples of it, in µs. */
  readonly unitUs: number;
  /** In units. delta: the expected step; grid: the step of the grid; dod: the expected first step. */
  readonly period: number;
  /** In units. grid: a grid point; delta, dod: 0. */
  readonly origin: number;
}

interface Column {
  readonly start: number;
  readonly count: number;
}

/** What the estimate of a model looks at, in times: enough to choose by, and bounded. */
const SAMPLE_MAX = 4096;

const UNITS_US = [1_000_000, 1000, 1] as const;

/** Periods that devices are set to, in µs; a mean step within a fifth of one is taken for it. */
const NICE_PERIODS_US = [1, 2, 5, 10, 20, 50, 100, 200, 500]
  .flatMap((n) => [n, n * 1000])
  .concat([1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600].map((seconds) => seconds * 1_000_000));

/** Writes all time columns; times ascend in each run and lie in ±TIME_US_MAX. */
export function writeTimes(writer: ByteWriter, runOffsets: Uint32Array, eventTimeUs: Float64Array): void {
  const { columns, references } = findColumns(runOffsets, eventTimeUs);
  writeIntegers(writer, references);
  writer.integer(columns.length);
  writeIntegers(
    writer,
    columns.map((column) => column.count),
  );
  const { models, modelOf } = chooseModels(columns, eventTimeUs);
  writer.integer(models.length);
  for (const model of models) {
    writer.byte(TIME_KINDS.indexOf(model.kind));
    writer.integer(model.unitUs);
    writer.integer(model.period);
    writer.integer(model.origin);
  }
  writeIntegers(writer, modelOf);
  models.forEach((model, index) => {
    const own = columns.filter((_, c) => modelOf[c] === index);
    writeIntegers(
      writer,
      own.map((column) => eventTimeUs[column.start] / model.unitUs - model.origin),
    );
    writeIntegers(writer, differences(model, own, eventTimeUs, Infinity));
  });
}

/** A run takes the column of one of the last COLUMN_DISTANCE_MAX runs with a column of their own, if it has the same times. */
function findColumns(runOffsets: Uint32Array, eventTimeUs: Float64Array): { columns: Column[]; references: Uint32Array } {
  const columns: Column[] = [];
  const references = new Uint32Array(runOffsets.length - 1);
  for (let s = 0; s < references.length; s++) {
    const start = runOffsets[s];
    const count = runOffsets[s + 1] - start;
    const distanceMax = Math.min(COLUMN_DISTANCE_MAX, columns.length);
    for (let distance = 1; distance <= distanceMax; distance++) {
      const column = columns[columns.length - distance];
      if (column.count !== count || !sameTimes(eventTimeUs, column.start, start, count)) continue;
      references[s] = distance;
      break;
    }
    if (references[s] === 0) columns.push({ start, count });
  }
  return { columns, references };
}

function sameTimes(eventTimeUs: Float64Array, a: number, b: number, count: number): boolean {
  for (let i = 0; i < count; i++) if (eventTimeUs[a + i] !== eventTimeUs[b + i]) return false;
  return true;
}

function unitOf(column: Column, eventTimeUs: Float64Array): number {
  let index = 0;
  for (let i = column.start; i < column.start + column.count; i++) {
    while (eventTimeUs[i] % (UNITS_US[index] as number) !== 0) index++;
  }
  return UNITS_US[index];
}

/** The step of a column in µs, as it was probably meant; 0 for a single time. */
function periodOf(column: Column, eventTimeUs: Float64Array): number {
  if (column.count === 1) return 0;
  const spanUs = eventTimeUs[column.start + column.count - 1] - eventTimeUs[column.start];
  const meanUs = Math.round(spanUs / (column.count - 1));
  return NICE_PERIODS_US.find((periodUs) => Math.abs(meanUs - periodUs) <= periodUs / 5) ?? meanUs;
}

/** Groups columns by unit and period, and gives each group the kind that stores it best. */
function chooseModels(columns: readonly Column[], eventTimeUs: Float64Array): { models: TimeModel[]; modelOf: Uint32Array } {
  const groups = new Map<string, { unitUs: number; periodUs: number; columns: number[] }>();
  columns.forEach((column, index) => {
    let unitUs = unitOf(column, eventTimeUs);
    let periodUs = periodOf(column, eventTimeUs);
    if (periodUs % unitUs !== 0) periodUs = Math.round(periodUs / unitUs) * unitUs;
    let key = `${unitUs}/${periodUs}`;
    if (!groups.has(key) && groups.size >= TIME_MODELS_MAX - 1) {
      [unitUs, periodUs, key] = [1, 0, 'others'];
    }
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { unitUs, periodUs, columns: [index] });
    else group.columns.push(index);
  });
  const modelOf = new Uint32Array(columns.length);
  const models = [...groups.values()].map((group, index) => {
    for (const column of group.columns) modelOf[column] = index;
    const own = group.columns.map((column) => columns[column]);
    return chooseModel(group.unitUs, group.periodUs / group.unitUs, own, eventTimeUs);
  });
  return { models, modelOf };
}

function chooseModel(unitUs: number, period: number, columns: readonly Column[], eventTimeUs: Float64Array): TimeModel {
  let earliest = Infinity;
  let latest = -Infinity;
  for (const column of columns) {
    earliest = Math.min(earliest, eventTimeUs[column.start] / unitUs);
    latest = Math.max(latest, eventTimeUs[column.start + column.count - 1] / unitUs);
  }
  // Times centuries apart: a prediction might not be a safe integer, plain differences are.
  const reach = Math.max(latest, -earliest) + 2 * (latest - earliest + period);
  if (reach > Number.MAX_SAFE_INTEGER) return { kind: 'delta', unitUs, period: 0, origin: 0 };
  const candidates: TimeModel[] = [
    { kind: 'delta', unitUs, period, origin: 0 },
    { kind: 'dod', unitUs, period, origin: 0 },
  ];
  // A quarter of a period in front, so that a message with less jitter than the earliest one falls into the same cell.
  if (period >= 4)
    candidates.push({
      kind: 'grid',
      unitUs,
      period,
      origin: Math.max(earliest - Math.floor(period / 4), -Math.floor(TIME_US_MAX / unitUs)),
    });
  let best = candidates[0];
  let bestBits = Infinity;
  for (const candidate of candidates) {
    const bits = estimateBits(centred(differences(candidate, columns, eventTimeUs, SAMPLE_MAX)));
    if (bits < bestBits) [best, bestBits] = [candidate, bits];
  }
  return best;
}

/** Non-negative integers with the same spread: zigzag around the first. */
function centred(values: Float64Array): Float64Array {
  const centre = values[0] ?? 0;
  return values.map((value) => (value >= centre ? 2 * (value - centre) : 2 * (centre - value) - 1));
}

/** The stored differences of all columns but their first times, in order, cut after `countMax`. */
function differences(model: TimeModel, columns: readonly Column[], eventTimeUs: Float64Array, countMax: number): Float64Array {
  let total = 0;
  for (const column of columns) total += column.count - 1;
  const out = new Float64Array(Math.min(total, countMax));
  let filled = 0;
  for (const column of columns) {
    let previous = eventTimeUs[column.start] / model.unitUs;
    let step = model.period;
    const end = Math.min(column.start + column.count, column.start + 1 + out.length - filled);
    for (let i = column.start + 1; i < end; i++) {
      const time = eventTimeUs[i] / model.unitUs;
      out[filled++] = time - predict(model, previous, step);
      step = model.kind === 'dod' ? time - previous : step;
      previous = time;
    }
    if (filled === out.length) break;
  }
  return out;
}

/** Floor is exact: a quotient of integers below 2^53 is never rounded up to the next integer. */
function predict(model: TimeModel, previous: number, step: number): number {
  if (model.kind !== 'grid') return previous + step;
  return model.origin + (Math.floor((previous - model.origin) / model.period) + 1) * model.period;
}

export interface Times {
  readonly runOffsets: Uint32Array;
  readonly eventTimeUs: Float64Array;
}

/** @param readingCount what the envelope declared, at most READINGS_MAX. */
export function readTimes(reader: ByteReader, seriesCount: number, readingCount: number): Times {
  const references = readIntegers(reader, 'time column reference', seriesCount, 0, COLUMN_DISTANCE_MAX);
  const columnCount = reader.integer('time columns', 0, seriesCount);
  const counts = readIntegers(reader, 'times in a column', columnCount, 1, readingCount);
  const modelCount = reader.integer('time models', columnCount === 0 ? 0 : 1, columnCount === 0 ? 0 : TIME_MODELS_MAX);
  const models: TimeModel[] = [];
  for (let m = 0; m < modelCount; m++) models.push(readModel(reader));
  const modelOf = readIntegers(reader, 'time model index', columnCount, 0, modelCount - 1);
  const runs = layOut(references, counts, readingCount);
  const columnsOf = new Uint32Array(modelCount);
  const differencesOf = new Float64Array(modelCount);
  for (let c = 0; c < columnCount; c++) {
    columnsOf[modelOf[c]] += 1;
    differencesOf[modelOf[c]] += counts[c] - 1;
  }
  const eventTimeUs = new Float64Array(readingCount);
  for (let m = 0; m < modelCount; m++) {
    const model = models[m];
    const limit = Math.floor(TIME_US_MAX / model.unitUs);
    const firsts = readIntegers(reader, 'first time', columnsOf[m], -2 * limit, 2 * limit);
    const rest = readTransientIntegers(reader, 'time difference', differencesOf[m], -Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
    let column = 0;
    let next = 0;
    for (let c = 0; c < columnCount; c++) {
      if (modelOf[c] !== m) continue;
      const start = runs.columnStarts[c];
      const count = counts[c];
      unfold(model, limit, firsts[column++] + model.origin, rest, next, eventTimeUs, start, count);
      next += count - 1;
    }
  }
  copyShared(runs, eventTimeUs);
  return { runOffsets: runs.runOffsets, eventTimeUs };
}

function readModel(reader: ByteReader): TimeModel {
  const kind = TIME_KINDS[reader.byte()];
  if (kind === undefined) throw malformed('unknown kind of time model');
  const unitUs = reader.integer('time unit', 1, 1_000_000_000);
  const limit = Math.floor(TIME_US_MAX / unitUs);
  const period = reader.integer('period', kind === 'grid' ? 1 : 0, 2 * limit);
  const origin = reader.integer('grid origin', kind === 'grid' ? -limit : 0, kind === 'grid' ? limit : 0);
  return { kind, unitUs, period, origin };
}

interface RunLayout {
  readonly runOffsets: Uint32Array;
  /** Where the first run with each column starts. */
  readonly columnStarts: Uint32Array;
  /** Per run, the column that it takes. */
  readonly columnOf: Uint32Array;
}

function layOut(references: Float64Array, counts: Float64Array, readingCount: number): RunLayout {
  const runOffsets = new Uint32Array(references.length + 1);
  const columnStarts = new Uint32Array(counts.length);
  const columnOf = new Uint32Array(references.length);
  let columns = 0;
  let offset = 0;
  for (let s = 0; s < references.length; s++) {
    const distance = references[s];
    if (distance > columns) throw malformed(`series ${s} takes a time column before the first`);
    if (distance === 0 && columns === counts.length) throw malformed(`more than ${counts.length} time columns`);
    const column = distance === 0 ? columns++ : columns - distance;
    if (distance === 0) columnStarts[column] = offset;
    columnOf[s] = column;
    offset += counts[column];
    runOffsets[s + 1] = offset; // wraps around only where the sum is refused below
  }
  if (offset !== readingCount) throw malformed(`runs have ${offset} readings, the envelope says ${readingCount}`);
  if (columns !== counts.length) throw malformed(`${columns} time columns are used, ${counts.length} are there`);
  return { runOffsets, columnStarts, columnOf };
}

function unfold(
  model: TimeModel,
  limit: number,
  first: number,
  rest: Float64Array,
  from: number,
  out: Float64Array,
  start: number,
  count: number,
): void {
  const { kind, unitUs, period, origin } = model;
  if (first > limit || first < -limit) throw malformed(`event time ${first} × ${unitUs} µs is out of range`);
  out[start] = first * unitUs;
  let previous = first;
  let step = period;
  for (let i = 1; i < count; i++) {
    const predicted = kind === 'grid' ? origin + (Math.floor((previous - origin) / period) + 1) * period : previous + step;
    const time = predicted + rest[from + i - 1];
    if (time < previous || time > limit) throw malformed(`event time ${time} × ${unitUs} µs is below the one before or out of range`);
    out[start + i] = time * unitUs;
    if (kind === 'dod') step = time - previous;
    previous = time;
  }
}

function copyShared(runs: RunLayout, eventTimeUs: Float64Array): void {
  for (let s = 0; s < runs.columnOf.length; s++) {
    const start = runs.runOffsets[s];
    const from = runs.columnStarts[runs.columnOf[s]];
    if (from === start) continue;
    const end = runs.runOffsets[s + 1];
    for (let i = start, k = from; i < end; i++, k++) eventTimeUs[i] = eventTimeUs[k];
  }
}
