/**
 * The series of a batch: three sorted name tables and, per series, which entries it takes (docs/wire.md, "Series").
 *
 * The order of the table is the order of `compareSeries`, so of the device only the number of its series is stored.
 */
import { canonicalTags, NAME_BYTES_MAX, type Series } from '../reading.ts';
import { badContent, malformed, type ByteReader, type ByteWriter } from './bytes.ts';
import { readIntegers, writeIntegers } from './integer-stream.ts';
import { SERIES_MAX, TAGS_BYTES_MAX } from './limits.ts';
import { isValidName, readNames, writeNames } from './string-table.ts';

/** Writes the table; answers the metric index of each series, for grouping values by metric. */
export function writeSeriesTable(writer: ByteWriter, table: readonly Series[]): Uint32Array {
  const devices: string[] = [];
  const perDevice: number[] = [];
  const metrics = indexOfSorted(table, (series) => series.metric);
  const tags = indexOfSorted(table, (series) => series.tags);
  const metricOf = new Uint32Array(table.length);
  const tagsOf = new Uint32Array(table.length);
  for (let s = 0; s < table.length; s++) {
    const series = table[s];
    const last = devices.length - 1;
    if (last >= 0 && devices[last] === series.device) perDevice[last] += 1;
    else {
      if (last >= 0 && devices[last] > series.device) throw badContent(`device "${series.device}" is out of order`);
      devices.push(series.device);
      perDevice.push(1);
    }
    metricOf[s] = metrics.get(series.metric)!;
    tagsOf[s] = tags.get(series.tags)!;
    const again = s > 0 && series.device === table[s - 1].device;
    if (again && !ascends(metricOf, tagsOf, s)) throw badContent(`series ${s} of device "${series.device}" is out of order`);
  }
  for (const name of devices) if (!isValidName(name)) throw badContent(`${JSON.stringify(name)} is no name of a device`);
  for (const name of metrics.keys()) if (!isValidName(name)) throw badContent(`${JSON.stringify(name)} is no name of a metric`);
  for (const name of tags.keys()) if (!isCanonicalTags(name)) throw badContent(`${JSON.stringify(name)} are no canonical tags`);
  writeNames(writer, 'device', devices, NAME_BYTES_MAX);
  writeNames(writer, 'metric', [...metrics.keys()], NAME_BYTES_MAX);
  writeNames(writer, 'tags', [...tags.keys()], TAGS_BYTES_MAX);
  writeIntegers(writer, perDevice);
  writeIntegers(writer, metricOf);
  writeIntegers(writer, tagsOf);
  return metricOf;
}

/** @param seriesCount what the envelope declared, at most SERIES_MAX. */
export function readSeriesTable(reader: ByteReader, seriesCount: number): Series[] {
  const devices = readNames(reader, 'device', seriesCount, NAME_BYTES_MAX);
  const metrics = readNames(reader, 'metric', seriesCount, NAME_BYTES_MAX);
  const tags = readNames(reader, 'tags', seriesCount, TAGS_BYTES_MAX);
  for (const name of devices) if (!isValidName(name)) throw malformed(`${JSON.stringify(name)} is no name of a device`);
  for (const name of metrics) if (!isValidName(name)) throw malformed(`${JSON.stringify(name)} is no name of a metric`);
  for (const name of tags) if (!isCanonicalTags(name)) throw malformed(`${JSON.stringify(name)} are no canonical tags`);
  const perDevice = readIntegers(reader, 'series per device', devices.length, 1, SERIES_MAX);
  const metricOf = readIntegers(reader, 'metric index', seriesCount, 0, metrics.length - 1);
  const tagsOf = readIntegers(reader, 'tags index', seriesCount, 0, tags.length - 1);
  const table: Series[] = [];
  for (let d = 0; d < devices.length; d++) {
    const end = table.length + perDevice[d];
    if (end > seriesCount) throw malformed(`devices have more than the ${seriesCount} series of the envelope`);
    for (let s = table.length; s < end; s++) {
      if (s > end - perDevice[d] && !ascends(metricOf, tagsOf, s)) throw malformed(`series ${s} is not above the one before`);
      table.push({
        device: devices[d],
        metric: metrics[metricOf[s]],
        tags: tags[tagsOf[s]],
      });
    }
  }
  if (table.length !== seriesCount) throw malformed(`devices have ${table.length} series, the envelope says ${seriesCount}`);
  return table;
}

function ascends(metricOf: ArrayLike<number>, tagsOf: ArrayLike<number>, s: number): boolean {
  const metric = metricOf[s];
  const before = metricOf[s - 1];
  return metric > before || (metric === before && tagsOf[s] > tagsOf[s - 1]);
}

/** Distinct strings in ascending order, each with its position. */
function indexOfSorted(table: readonly Series[], pick: (series: Series) => string): Map<string, number> {
  const distinct = new Set<string>();
  for (const series of table) distinct.add(pick(series));
  return new Map([...distinct].sort().map((name, index) => [name, index]));
}

function isCanonicalTags(tags: string): boolean {
  if (tags === '') return true;
  if (/\p{Surrogate}/u.test(tags)) return false;
  let parsed: unknown;
  try {
    parsed = JSON.parse(tags);
  } catch {
    return false; // what is no JSON is no tags: the answer says all there is to say
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return false;
  const checked: [string, string][] = [];
  for (const [key, value] of Object.entries(parsed)) {
    if (typeof value !== 'string' || Buffer.byteLength(value) > NAME_BYTES_MAX || !isValidName(key)) return false;
    checked.push([key, value]);
  }
  return canonicalTags(Object.fromEntries(checked)) === tags;
}
