/**
 * The values of a batch (docs/wire.md, "Value columns").
 *
 * Each run follows a model. Decimal models hold values as integers over a power of ten, as they were before a device
 * printed them: `delta` stores the first integer of each run and then the steps, `plain` the integers (booleans, noise).
 * A decimal model is used only where mantissa / 10^exponent gives back the very bits, so never for -0, NaN or an
 * infinity. `xor` and `raw` hold the bits of the doubles, `absent` nothing (readings that have only a text).
 *
 * Runs of one metric share a model where there are enough of them, so that their first values stand together and are
 * stored against their common minimum.
 */
import { malformed, type ByteReader, type ByteWriter } from './bytes.ts';
import { entropyBits, estimateBits, readIntegers, readTransientIntegers, writeIntegers } from './integer-stream.ts';
import { EXPONENT_MAX, MANTISSA_MAX, VALUE_MODELS_MAX } from './limits.ts';

const VALUE_KINDS = ['delta', 'plain', 'xor', 'raw', 'absent'] as const;
type ValueKind = (typeof VALUE_KINDS)[number];

/** A metric has a model of its own from so many runs or readings on: below, the model's own bytes outweigh the gain. */
const OWN_MODEL_RUNS = 8;
const OWN_MODEL_READINGS = 64;
/** Beyond so many models all other runs share one per kind and exponent (at most 18, which stays within a byte). */
const OWN_MODELS_MAX = 192;
/** What the choice between two kinds looks at, in values. */
const SAMPLE_MAX = 4096;

const POWERS_OF_TEN = Array.from({ length: EXPONENT_MAX + 1 }, (_, exponent) => Number(`1e${exponent}`));

/** NaN as JavaScript writes it; a NaN with another sign or payload is kept bit for bit, as `xor` or `raw`. */
const NAN_HIGH = 0x7ff80000;

const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
const LOW = LITTLE_ENDIAN ? 0 : 1;
const HIGH = 1 - LOW;

/** Runs of one model, while encoding. */
interface Group {
  readonly form: 'decimal' | 'bits' | 'absent';
  readonly exponent: number;
  readonly runs: number[];
  count: number;
}

export function writeValues(writer: ByteWriter, runOffsets: Uint32Array, value: Float64Array, metricOf: Uint32Array): void {
  const groups = groupRuns(runOffsets, value, metricOf);
  const modelOf = new Uint32Array(metricOf.length);
  groups.forEach((group, index) => {
    for (const run of group.runs) modelOf[run] = index;
  });
  writer.integer(groups.length);
  const columns = groups.map((group) => encodeGroup(group, runOffsets, value));
  columns.forEach((column, index) => {
    writer.byte(VALUE_KINDS.indexOf(column.kind));
    writer.byte(groups[index].exponent);
  });
  writeIntegers(writer, modelOf);
  for (const column of columns) {
    for (const integers of column.integers) writeIntegers(writer, integers);
    if (column.planes !== null) writer.append(column.planes);
  }
}

function groupRuns(runOffsets: Uint32Array, value: Float64Array, metricOf: Uint32Array): Group[] {
  let metricCount = 0;
  for (const metric of metricOf) metricCount = Math.max(metricCount, metric + 1);
  const { formOf, commonOf } = classify(runOffsets, value, metricOf, metricCount);
  const runsOfMetric = new Uint32Array(metricCount);
  const readingsOfMetric = new Uint32Array(metricCount);
  for (let s = 0; s < metricOf.length; s++) {
    const metric = metricOf[s];
    runsOfMetric[metric] += 1;
    readingsOfMetric[metric] += runOffsets[s + 1] - runOffsets[s];
  }
  const groups = new Map<number, Group>();
  for (let s = 0; s < metricOf.length; s++) {
    const metric = metricOf[s];
    const exponent = formOf[s];
    const many = runsOfMetric[metric] >= OWN_MODEL_RUNS || readingsOfMetric[metric] >= OWN_MODEL_READINGS;
    const own = many && (exponent < 0 || exponent === commonOf[metric]);
    const shared = exponent - ABSENT; // 0..17: the keys below 32 are those of no metric
    const wanted = own ? (metric + 1) * 32 + shared : shared;
    const key = groups.has(wanted) || groups.size < OWN_MODELS_MAX ? wanted : shared;
    let group = groups.get(key);
    if (group === undefined) {
      const form = exponent === ABSENT ? 'absent' : exponent === BITS ? 'bits' : 'decimal';
      group = { form, exponent: form === 'decimal' ? exponent : 0, runs: [], count: 0 };
      groups.set(key, group);
    }
    group.runs.push(s);
    group.count += runOffsets[s + 1] - runOffsets[s];
  }
  return [...groups.values()];
}

const BITS = -1;
const ABSENT = -2;

/** So many of a metric's decimal runs take one exponent; the others, with odd values, do not blow up everyone's steps. */
const COMMON_EXPONENT_SHARE = 0.9;

interface Forms {
  /** Per run, the exponent under which all its values are decimal, BITS or ABSENT. */
  readonly formOf: Int8Array;
  /** Per metric, the exponent that most of its runs take. */
  readonly commonOf: Int8Array;
}

function classify(runOffsets: Uint32Array, value: Float64Array, metricOf: Uint32Array, metricCount: number): Forms {
  const formOf = new Int8Array(metricOf.length);
  const words = new Uint32Array(value.buffer, value.byteOffset, value.length * 2);
  const runsByExponent = new Uint32Array(metricCount * (EXPONENT_MAX + 1));
  for (let s = 0; s < formOf.length; s++) {
    const start = runOffsets[s];
    const end = runOffsets[s + 1];
    const exponent = decimalExponent(value, start, end, 0);
    formOf[s] = exponent >= 0 ? exponent : isAbsent(words, start, end) ? ABSENT : BITS;
    if (exponent >= 0) runsByExponent[metricOf[s] * (EXPONENT_MAX + 1) + exponent] += 1;
  }
  const commonOf = new Int8Array(metricCount);
  for (let m = 0; m < metricCount; m++) {
    const runs = runsByExponent.subarray(m * (EXPONENT_MAX + 1), (m + 1) * (EXPONENT_MAX + 1));
    let left = runs.reduce((sum, count) => sum + count, 0) * COMMON_EXPONENT_SHARE;
    for (let exponent = 0; left > 0; exponent++) {
      left -= runs[exponent];
      commonOf[m] = exponent;
    }
  }
  for (let s = 0; s < formOf.length; s++) {
    const common = commonOf[metricOf[s]];
    if (formOf[s] < 0 || formOf[s] >= common) continue;
    if (decimalExponent(value, runOffsets[s], runOffsets[s + 1], common) === common) formOf[s] = common;
  }
  return { formOf, commonOf };
}

/** The smallest exponent from `lowest` on under which all values of a run are decimal; -1 if none is. */
function decimalExponent(value: Float64Array, start: number, end: number, lowest: number): number {
  let exponent = lowest;
  let scale = POWERS_OF_TEN[exponent];
  for (let i = start; i < end; i++) {
    const v = value[i];
    const mantissa = Math.round(v * scale);
    if (mantissa > MANTISSA_MAX || mantissa < -MANTISSA_MAX) return -1;
    if (mantissa / scale === v && (v !== 0 || 1 / v > 0)) continue;
    if (exponent === EXPONENT_MAX || v !== v || v === 0) return -1;
    exponent += 1;
    scale = POWERS_OF_TEN[exponent];
    i = start - 1; // from the start: what was decimal before may be beyond MANTISSA_MAX now
  }
  return exponent;
}

function isAbsent(words: Uint32Array, start: number, end: number): boolean {
  for (let i = start; i < end; i++) if (words[2 * i + HIGH] !== NAN_HIGH || words[2 * i + LOW] !== 0) return false;
  return true;
}

interface EncodedColumn {
  readonly kind: ValueKind;
  readonly integers: readonly Float64Array[];
  readonly planes: Uint8Array | null;
}

function encodeGroup(group: Group, runOffsets: Uint32Array, value: Float64Array): EncodedColumn {
  if (group.form === 'absent') return { kind: 'absent', integers: [], planes: null };
  if (group.form === 'bits') return encodeBits(group, runOffsets, value);
  const scale = POWERS_OF_TEN[group.exponent];
  const plain = new Float64Array(group.count);
  const firsts = new Float64Array(group.runs.length);
  const steps = new Float64Array(group.count - group.runs.length);
  let filled = 0;
  let stepped = 0;
  for (let r = 0; r < group.runs.length; r++) {
    const run = group.runs[r];
    let previous = 0;
    for (let i = runOffsets[run]; i < runOffsets[run + 1]; i++) {
      const mantissa = Math.round(value[i] * scale);
      plain[filled++] = mantissa;
      if (i === runOffsets[run]) firsts[r] = mantissa;
      else steps[stepped++] = mantissa - previous;
      previous = mantissa;
    }
  }
  const asPlain = sampledBits(plain);
  const asDelta = (sampledBits(firsts) * firsts.length + sampledBits(steps) * steps.length) / group.count;
  return asPlain < asDelta
    ? { kind: 'plain', integers: [plain], planes: null }
    : { kind: 'delta', integers: [firsts, steps], planes: null };
}

/** Estimated bits per number, as an integer stream stores them: against their minimum. */
function sampledBits(values: Float64Array): number {
  if (values.length === 0) return 0;
  const sample = values.subarray(0, SAMPLE_MAX);
  let minimum = Infinity;
  for (const value of sample) if (value < minimum) minimum = value;
  return estimateBits(sample.map((value) => value - minimum)) / sample.length;
}

/** Eight byte planes, lowest bytes first: the doubles, or each one XOR the one before it in the model. */
function encodeBits(group: Group, runOffsets: Uint32Array, value: Float64Array): EncodedColumn {
  const words = new Uint32Array(value.buffer, value.byteOffset, value.length * 2);
  const raw = new Uint8Array(group.count * 8);
  const xor = new Uint8Array(group.count * 8);
  let filled = 0;
  let lowBefore = 0;
  let highBefore = 0;
  for (const run of group.runs) {
    for (let i = runOffsets[run]; i < runOffsets[run + 1]; i++) {
      const low = words[2 * i + LOW];
      const high = words[2 * i + HIGH];
      spread(raw, group.count, filled, low, high);
      spread(xor, group.count, filled, low ^ lowBefore, high ^ highBefore);
      lowBefore = low;
      highBefore = high;
      filled++;
    }
  }
  return planesBits(raw, group.count) < planesBits(xor, group.count)
    ? { kind: 'raw', integers: [], planes: raw }
    : { kind: 'xor', integers: [], planes: xor };
}

function spread(planes: Uint8Array, count: number, index: number, low: number, high: number): void {
  for (let k = 0; k < 4; k++) {
    planes[k * count + index] = low >>> (8 * k);
    planes[(k + 4) * count + index] = high >>> (8 * k);
  }
}

function planesBits(planes: Uint8Array, count: number): number {
  let bits = 0;
  for (let k = 0; k < 8; k++) {
    const counts = new Uint32Array(256);
    const end = k * count + Math.min(count, SAMPLE_MAX);
    for (let i = k * count; i < end; i++) counts[planes[i]] += 1;
    bits += entropyBits(counts, end - k * count);
  }
  return bits;
}

interface Model {
  readonly kind: ValueKind;
  readonly exponent: number;
}

/** @param runOffsets from the time columns, which were checked against the reading count. */
export function readValues(reader: ByteReader, runOffsets: Uint32Array): Float64Array {
  const seriesCount = runOffsets.length - 1;
  const modelCount = reader.integer('value models', seriesCount === 0 ? 0 : 1, seriesCount === 0 ? 0 : VALUE_MODELS_MAX);
  const models: Model[] = [];
  for (let m = 0; m < modelCount; m++) {
    const kind = VALUE_KINDS[reader.byte()];
    const exponent = reader.byte();
    if (kind === undefined) throw malformed('unknown kind of value model');
    if (exponent > EXPONENT_MAX) throw malformed(`exponent ${exponent}, allowed is 0..${EXPONENT_MAX}`);
    models.push({ kind, exponent });
  }
  const modelOf = readIntegers(reader, 'value model index', seriesCount, 0, modelCount - 1);
  const runsOf: number[][] = models.map(() => []);
  for (let s = 0; s < seriesCount; s++) runsOf[modelOf[s]].push(s);
  const value = new Float64Array(runOffsets[seriesCount]);
  for (let m = 0; m < modelCount; m++) {
    const model = models[m];
    const runs = runsOf[m];
    if (model.kind === 'delta') readDelta(reader, model.exponent, runs, runOffsets, value);
    else if (model.kind === 'plain') readPlain(reader, model.exponent, runs, runOffsets, value);
    else if (model.kind === 'absent') for (const run of runs) value.fill(NaN, runOffsets[run], runOffsets[run + 1]);
    else readBits(reader, model.kind, runs, runOffsets, value);
  }
  return value;
}

function countOf(runs: readonly number[], runOffsets: Uint32Array): number {
  let count = 0;
  for (const run of runs) count += runOffsets[run + 1] - runOffsets[run];
  return count;
}

function readDelta(reader: ByteReader, exponent: number, runs: readonly number[], runOffsets: Uint32Array, value: Float64Array): void {
  const scale = POWERS_OF_TEN[exponent];
  const firsts = readIntegers(reader, 'first value', runs.length, -MANTISSA_MAX, MANTISSA_MAX);
  const steps = readTransientIntegers(reader, 'value step', countOf(runs, runOffsets) - runs.length, -2 * MANTISSA_MAX, 2 * MANTISSA_MAX);
  let next = 0;
  for (let r = 0; r < runs.length; r++) {
    const start = runOffsets[runs[r]];
    const end = runOffsets[runs[r] + 1];
    let mantissa = firsts[r];
    value[start] = mantissa / scale;
    for (let i = start + 1; i < end; i++) {
      mantissa += steps[next++];
      if (mantissa > MANTISSA_MAX || mantissa < -MANTISSA_MAX) throw malformed(`mantissa ${mantissa} is beyond 2^51`);
      value[i] = mantissa / scale;
    }
  }
}

function readPlain(reader: ByteReader, exponent: number, runs: readonly number[], runOffsets: Uint32Array, value: Float64Array): void {
  const scale = POWERS_OF_TEN[exponent];
  const mantissas = readTransientIntegers(reader, 'value', countOf(runs, runOffsets), -MANTISSA_MAX, MANTISSA_MAX);
  let next = 0;
  for (const run of runs) {
    const end = runOffsets[run + 1];
    for (let i = runOffsets[run]; i < end; i++) value[i] = mantissas[next++] / scale;
  }
}

function readBits(reader: ByteReader, kind: 'xor' | 'raw', runs: readonly number[], runOffsets: Uint32Array, value: Float64Array): void {
  const words = new Uint32Array(value.buffer);
  const count = countOf(runs, runOffsets);
  const start = reader.take(count * 8);
  const bytes = reader.bytes;
  let index = start;
  let lowBefore = 0;
  let highBefore = 0;
  for (const run of runs) {
    const end = runOffsets[run + 1];
    for (let i = runOffsets[run]; i < end; i++) {
      let low = gather(bytes, index, count);
      let high = gather(bytes, index + 4 * count, count);
      index += 1;
      if (kind === 'xor') {
        low ^= lowBefore;
        high ^= highBefore;
        lowBefore = low;
        highBefore = high;
      }
      words[2 * i + LOW] = low;
      words[2 * i + HIGH] = high;
    }
  }
}

/** The word whose bytes stand in four planes, `distance` bytes apart. */
function gather(bytes: Uint8Array, at: number, distance: number): number {
  return bytes[at] | (bytes[at + distance] << 8) | (bytes[at + 2 * distance] << 16) | (bytes[at + 3 * distance] << 24);
}
