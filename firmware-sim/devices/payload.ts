/**
 * The bytes of a message in each shape that devices in the field send (design.md, section 5).
 *
 * Bursts become an array of objects where the shape has no other way to say many times.
 */
import { pack } from 'msgpackr';
import type { Sample, SampleValue } from './model.ts';
import type { PayloadShape } from './fleet-spec.ts';

export interface PayloadContent {
  readonly device: string;
  /** Measurement of line protocol. */
  readonly measurement: string;
  /** A tag, where the shape has tags. */
  readonly site: string;
  readonly metrics: readonly string[];
  readonly timeMs: number;
  readonly samples: readonly Sample[];
}

type Fields = Record<string, SampleValue>;

function fieldsOf(content: PayloadContent, sample: Sample): Fields {
  return Object.fromEntries(content.metrics.map((metric, index) => [metric, sample.values[index]]));
}

function flatObjects(content: PayloadContent): (Fields & { ts: number })[] {
  return content.samples.map((sample) => ({ ...fieldsOf(content, sample), ts: content.timeMs + sample.offsetMs }));
}

function oneOrMany<T>(objects: readonly T[]): T | readonly T[] {
  return objects.length === 1 ? objects[0] : objects;
}

/** SenML (RFC 8428, section 4): a base time in whole seconds, so that base + time is rounded only once. */
function senmlRecords(content: PayloadContent): Record<string, SampleValue>[] {
  const baseSeconds = Math.floor(content.timeMs / 1000);
  const records = content.samples.flatMap((sample) => {
    const seconds = (content.timeMs + sample.offsetMs - baseSeconds * 1000) / 1000;
    return content.metrics.map((metric, index): Record<string, SampleValue> => {
      const value = sample.values[index];
      return { n: metric, t: seconds, ...(typeof value === 'string' ? { vs: value } : { v: value }) };
    });
  });
  return records.map((record, index) => (index === 0 ? { bt: baseSeconds, ...record } : record));
}

function lineField(metric: string, value: SampleValue): string {
  if (typeof value === 'string') return `${metric}="${value.replace(/[\\"]/g, '\\$&')}"`;
  // An integer with the suffix i is exact in line protocol.
  return `${metric}=${value}${Number.isInteger(value) && metric === 'energy_wh' ? 'i' : ''}`;
}

function influxLines(content: PayloadContent): string {
  const lines = content.samples.map((sample) => {
    const fields = content.metrics.map((metric, index) => lineField(metric, sample.values[index]));
    // Nanoseconds: the digits of the milliseconds and six zeros, because the product is beyond 2^53.
    return `${content.measurement},device=${content.device},site=${content.site} ${fields.join(',')} ${content.timeMs + sample.offsetMs}000000`;
  });
  return lines.join('\n');
}

export function encodePayload(shape: PayloadShape, content: PayloadContent): Buffer {
  switch (shape) {
    case 'flat':
      return Buffer.from(JSON.stringify(oneOrMany(flatObjects(content))));
    case 'array':
      return Buffer.from(JSON.stringify(flatObjects(content)));
    case 'values': {
      const objects = content.samples.map((sample) => ({ ts: content.timeMs + sample.offsetMs, values: fieldsOf(content, sample) }));
      return Buffer.from(JSON.stringify(oneOrMany(objects)));
    }
    case 'senml':
      return Buffer.from(JSON.stringify(senmlRecords(content)));
    case 'msgpack':
      return pack(oneOrMany(flatObjects(content)));
    case 'influx':
      return Buffer.from(influxLines(content));
  }
}
