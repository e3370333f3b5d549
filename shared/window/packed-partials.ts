/**
 * PartialColumns in one buffer, for messages between threads: to clone dozens of small arrays takes longer than to copy
 * what is in them. A thread that passes one on hands the buffers over and looks at nothing.
 *
 * Layout: doubles windowStartUs, SCALAR_COLUMNS, counts of histPos, counts of histNeg; then 32-bit words group, offsets of
 * histPos, offsets of histNeg, buckets of histPos, buckets of histNeg. The keys of many groups are packed, too: per column
 * the different texts, and a number for each group.
 */
import { SCALAR_COLUMNS, type GroupTable, type HistogramColumn, type PartialColumns, type ScalarColumns } from './partial-columns.ts';

const KEY_COLUMNS = ['gateway', 'device', 'metric', 'tags'] as const;
/** Keys of more groups are packed: cloning a text costs a µs on either side, packing it a tenth. */
const PLAIN_GROUPS_MAX = 256;

interface PackedGroups {
  readonly count: number;
  /** UTF-8 of JSON: the different keys of each of KEY_COLUMNS. */
  readonly texts: Uint8Array<ArrayBuffer>;
  /** Places in them, `count` per column. */
  readonly places: Uint32Array<ArrayBuffer>;
}

export interface PackedPartials {
  readonly count: number;
  readonly groups: GroupTable | PackedGroups;
  readonly windowSizeUs: number;
  /** Pairs of histPos and histNeg. */
  readonly positivePairs: number;
  readonly negativePairs: number;
  readonly buffer: ArrayBuffer;
}

export function packPartials(columns: PartialColumns): PackedPartials {
  const steps = packPartialsInSteps(columns);
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** As packPartials; a step copies a column or two. */
export function* packPartialsInSteps(columns: PartialColumns): Generator<void, PackedPartials, void> {
  const { count, groups, windowSizeUs, histPos, histNeg } = columns;
  const positivePairs = histPos.offsets[count];
  const negativePairs = histNeg.offsets[count];
  const doubles = count * (1 + SCALAR_COLUMNS.length) + positivePairs + negativePairs;
  const words = count + 2 * (count + 1) + positivePairs + negativePairs;
  const buffer = new ArrayBuffer(doubles * 8 + words * 4);
  const double = new Float64Array(buffer, 0, doubles);
  const word = new Int32Array(buffer, doubles * 8);
  let at = 0;
  for (const column of [columns.windowStartUs, ...SCALAR_COLUMNS.map((name) => columns[name])]) {
    double.set(column, at);
    at += count;
    yield;
  }
  double.set(histPos.counts.subarray(0, positivePairs), at);
  double.set(histNeg.counts.subarray(0, negativePairs), at + positivePairs);
  yield;
  at = 0;
  for (const column of [
    columns.group,
    histPos.offsets,
    histNeg.offsets,
    histPos.buckets.subarray(0, positivePairs),
    histNeg.buckets.subarray(0, negativePairs),
  ]) {
    word.set(column, at);
    at += column.length;
  }
  yield;
  const packedGroups = yield* packGroups(groups);
  return { count, groups: packedGroups, windowSizeUs, positivePairs, negativePairs, buffer };
}

/** Columns are views of the buffer. */
export function unpackPartials({ count, groups, windowSizeUs, positivePairs, negativePairs, buffer }: PackedPartials): PartialColumns {
  let at = 0;
  const doubles = (length: number): Float64Array<ArrayBuffer> => {
    const column = new Float64Array(buffer, at, length);
    at += length * 8;
    return column;
  };
  const unsigned = (length: number): Uint32Array => {
    const column = new Uint32Array(buffer, at, length);
    at += length * 4;
    return column;
  };
  const windowStartUs = doubles(count);
  const scalars = Object.fromEntries(SCALAR_COLUMNS.map((name) => [name, doubles(count)])) as ScalarColumns;
  const [positiveCounts, negativeCounts] = [doubles(positivePairs), doubles(negativePairs)];
  const group = unsigned(count);
  const [positiveOffsets, negativeOffsets] = [unsigned(count + 1), unsigned(count + 1)];
  const histogram = (offsets: Uint32Array, pairs: number, counts: Float64Array): HistogramColumn => {
    const buckets = new Int32Array(buffer, at, pairs);
    at += pairs * 4;
    return { offsets, buckets, counts };
  };
  const histPos = histogram(positiveOffsets, positivePairs, positiveCounts);
  const histNeg = histogram(negativeOffsets, negativePairs, negativeCounts);
  return { count, groups: unpackGroups(groups), group, windowSizeUs, windowStartUs, ...scalars, histPos, histNeg };
}

function* packGroups(groups: GroupTable): Generator<void, GroupTable | PackedGroups, void> {
  const { count } = groups;
  if (count <= PLAIN_GROUPS_MAX) return groups;
  const places = new Uint32Array(count * KEY_COLUMNS.length);
  const texts: (string | null)[][] = [];
  for (const [index, column] of KEY_COLUMNS.entries()) {
    const keys = groups[column];
    const known = new Map<string | null, number>();
    let last: string | null | undefined;
    let place = 0;
    for (let group = 0; group < count; group++) {
      const key = keys[group];
      // Neighbours mostly have the same one.
      if (key !== last) {
        last = key;
        place = known.get(key) ?? known.size;
        known.set(key, place);
      }
      places[index * count + group] = place;
    }
    texts.push([...known.keys()]);
    yield;
  }
  return { count, texts: new TextEncoder().encode(JSON.stringify(texts)), places };
}

function unpackGroups(groups: GroupTable | PackedGroups): GroupTable {
  if (!('places' in groups)) return groups;
  const { count, places } = groups;
  const texts = JSON.parse(new TextDecoder().decode(groups.texts)) as (string | null)[][];
  const [gateway, device, metric, tags] = texts.map((keys, index) =>
    Array.from({ length: count }, (_, group) => keys[places[index * count + group]]),
  );
  return { count, gateway, device, metric, tags };
}

/** As they are in the thread that made them, or as they came from another one. */
export type SentPartials = PartialColumns | PackedPartials;

export function partialColumnsOf(sent: SentPartials): PartialColumns {
  return 'buffer' in sent ? unpackPartials(sent) : sent;
}

/** What a message hands over of them; whoever sends it must not look at them afterwards. */
export function buffersOf(sent: readonly SentPartials[]): ArrayBuffer[] {
  return sent.flatMap((one) => {
    if (!('buffer' in one)) return [];
    return 'places' in one.groups ? [one.buffer, one.groups.texts.buffer, one.groups.places.buffer] : [one.buffer];
  });
}
