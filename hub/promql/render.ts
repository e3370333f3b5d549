/** Values and lists as Prometheus' HTTP API writes them (prometheus.io/docs/prometheus/latest/querying/api). */
import type { SelectedSeries } from './evaluate.ts';
import type { Labels } from './labels.ts';
import { executionError, timeOfStep, type Steps, type Value } from './values.ts';

/** Of one answer: about 25 bytes of JSON each. */
const POINTS_MAX = 2_000_000;

function numberText(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? '+Inf' : '-Inf';
  return String(value);
}

function point(us: number, value: number): string {
  return `[${us / 1e6},"${numberText(value)}"]`;
}

export function metricJson(labels: Labels): string {
  return JSON.stringify(Object.fromEntries(labels));
}

/** Beside the data. */
export interface Notes {
  readonly infos: readonly string[];
  readonly warnings: readonly string[];
}

const NO_NOTES: Notes = { infos: [], warnings: [] };

export function successJson(data: string, { infos, warnings } = NO_NOTES): Uint8Array {
  const member = (name: string, texts: readonly string[]): string => (texts.length === 0 ? '' : `,"${name}":${JSON.stringify(texts)}`);
  return new TextEncoder().encode(`{"status":"success","data":${data}${member('warnings', warnings)}${member('infos', infos)}}`);
}

/** As Prometheus words it. */
const TRUNCATED = ['results truncated due to limit'];

/** @param limit 0: all of them */
function limited(items: readonly string[], limit: number): { readonly list: string; readonly warnings: readonly string[] } {
  const isTruncated = limit > 0 && items.length > limit;
  return { list: `[${(isTruncated ? items.slice(0, limit) : items).join(',')}]`, warnings: isTruncated ? TRUNCATED : [] };
}

/** @param items JSON each @param limit 0: all of them */
export function limitedList(items: readonly string[], limit: number): Uint8Array {
  const { list, warnings } = limited(items, limit);
  return successJson(list, { infos: [], warnings });
}

/** @param series JSON each @param limit 0: all of them */
export function resultJson(type: 'vector' | 'matrix', series: readonly string[], limit: number, notes: Notes): Uint8Array {
  const { list, warnings } = limited(series, limit);
  return successJson(`{"resultType":"${type}","result":${list}}`, { infos: notes.infos, warnings: [...notes.warnings, ...warnings] });
}

export function scalarJson(value: number, steps: Steps, notes: Notes): Uint8Array {
  return successJson(`{"resultType":"scalar","result":${point(steps.startUs, value)}}`, notes);
}

export function instantSeries({ series }: Extract<Value, { kind: 'vector' }>, steps: Steps): string[] {
  return series
    .filter((one) => one.present[0] === 1)
    .map(({ labels, values }) => `{"metric":${metricJson(labels)},"value":${point(steps.startUs, values[0])}}`);
}

/** A scalar is a series without labels. */
export function rangeSeries(value: Value, steps: Steps): string[] {
  const series =
    value.kind === 'vector'
      ? value.series
      : [{ labels: new Map<string, string>(), values: value.values, present: new Uint8Array(steps.count).fill(1) }];
  const result: string[] = [];
  let budget = POINTS_MAX;
  for (const { labels, values, present } of series) {
    const points: string[] = [];
    for (let step = 0; step < steps.count; step++) if (present[step] === 1) points.push(point(timeOfStep(steps, step), values[step]));
    budget -= points.length;
    if (budget < 0) throw executionError(`the answer has more than ${POINTS_MAX} points: choose fewer series or a longer step`);
    if (points.length > 0) result.push(`{"metric":${metricJson(labels)},"values":[${points.join(',')}]}`);
  }
  return result;
}

/** A range selector by itself: the samples as they are. */
export function matrixSeries(selected: readonly SelectedSeries[]): string[] {
  return selected
    .filter(({ samples }) => samples.last.length > 0)
    .map(({ labels, samples }) => {
      const points = Array.from(samples.last, (value, index) => point(samples.lastTsUs[index], value));
      return `{"metric":${metricJson(labels)},"values":[${points.join(',')}]}`;
    });
}
