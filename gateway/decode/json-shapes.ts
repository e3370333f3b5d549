/**
 * The shapes of readings in JSON and MessagePack: a flat object, `{"ts": …, "values": {…}}`, arrays of either, SenML,
 * and bare values where the topic names the metric.
 */
import { SluiceError } from '../../shared/errors.ts';
import { checkedTags } from './names.ts';
import { decodeSenml, looksLikeSenml } from './senml.ts';
import type { SeriesScope } from './series-scope.ts';
import { isEntryFault, isFields, type Fields, type ShapeContext } from './shape-context.ts';

/** @throws SluiceError ERR_DECODE_*: nothing of the message can be used */
export function decodeShapes(context: ShapeContext, value: unknown): void {
  if (isFields(value)) return decodeEntry(context, value);
  if (Array.isArray(value)) {
    if (looksLikeSenml(value)) return decodeSenml(context, value);
    if (context.metric === null || value.some(isFields)) return decodeEntries(context, value);
  }
  if (value === null) return;
  const { scope, metric, writer } = context;
  if (scope === null || metric === null)
    throw new SluiceError(
      'ERR_DECODE_SHAPE',
      `a bare ${Array.isArray(value) ? 'array' : typeof value} needs a topic that names device and metric`,
    );
  writer.value(scope, metric, NaN, value, 0);
}

/** A fault of one entry is that entry's problem; a bound that is exceeded is the message's. */
function decodeEntries(context: ShapeContext, entries: readonly unknown[]): void {
  const { writer } = context;
  for (let index = 0; index < entries.length; index++) {
    const entry = entries[index];
    writer.beginEntry(index);
    if (!isFields(entry)) {
      const what = entry === null ? 'null' : Array.isArray(entry) ? 'an array' : `a ${typeof entry}`;
      writer.problem('ERR_DECODE_SHAPE', `entry ${index} is ${what}, not an object`, context.scope?.device ?? null, null, NaN);
      continue;
    }
    try {
      decodeEntry(context, entry);
    } catch (error) {
      if (!isEntryFault(error)) throw error;
      writer.problem(error.code, `entry ${index}: ${error.message}`, context.scope?.device ?? null, null, NaN);
    }
  }
}

function decodeEntry(context: ShapeContext, entry: Fields): void {
  const { writer, timeKeys, metric } = context;
  const values = isFields(entry['values']) ? entry['values'] : null;
  const tags = values !== null && isFields(entry['tags']) ? entry['tags'] : null;
  const scope = entryScope(context, entry, tags);
  let timeKey: string | null = null;
  for (const key of timeKeys) {
    if (entry[key] !== undefined && Object.hasOwn(entry, key)) {
      timeKey = key;
      break;
    }
  }
  const timeUs = timeKey === null ? NaN : context.time.read(entry[timeKey]);
  const parent = metric ?? scope.root;
  for (const key in entry) {
    if (key === timeKey || (context.scope === null && key === context.deviceKey)) continue;
    const value = entry[key];
    if (value === values && values !== null) {
      for (const name of Object.keys(values)) writer.field(scope, parent, name, timeUs, values[name], 1);
    } else if (value === tags && tags !== null) continue;
    // devices/d1/temperature with {"value": 21.5, "ts": …}: the value is the topic's metric itself.
    else if (metric !== null && key === 'value') writer.value(scope, metric, timeUs, value, 1);
    else writer.field(scope, parent, key, timeUs, value, 1);
  }
}

function entryScope(context: ShapeContext, entry: Fields, tags: Fields | null): SeriesScope {
  const { scope, deviceKey, writer } = context;
  if (scope !== null && tags === null) return scope;
  let device: unknown = scope?.device;
  if (device === undefined) {
    device = Object.hasOwn(entry, deviceKey) ? entry[deviceKey] : undefined;
    if (typeof device === 'number') device = String(device);
    if (typeof device !== 'string') throw new SluiceError('ERR_DECODE_DEVICE', `no field "${deviceKey}" with the device's name`);
    writer.permit(device);
  }
  const merged: Record<string, string> = scope === null || scope.tags === '' ? {} : (JSON.parse(scope.tags) as Record<string, string>);
  for (const key of Object.keys(tags ?? {})) {
    const tag = (tags as Fields)[key];
    if (typeof tag !== 'string') throw new SluiceError('ERR_DECODE_SHAPE', `tag ${key.slice(0, 40)} is not a string`);
    Object.defineProperty(merged, key, { value: tag, enumerable: true, configurable: true, writable: true });
  }
  return context.scopes.scope(device as string, checkedTags(merged));
}
