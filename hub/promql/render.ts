/** Values and lists as Prometheus' HTTP API writes them (prometheus.io/docs/prometheus/latest/querying/api). */
import type { SelectedSeries } from './evaluate.ts';
import type { Labels } from './labels.ts';
import { executionError, type Steps, type Value } from './values.ts';

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

export function successJson(data: string, infos: readonly string[] = []): Uint8Array {
  const notes = infos.length === 0 ? '' : `,"infos":${JSON.stringify(infos)}`;
  return new TextEncoder().encode(`{"status":"success","data":${data}${notes}}`);
}

function resultJson(type: string, result: readonly string[] | string): string {
  return `{"resultType":"${type}","result":${typeof result === 'string' ? result : `[${result.join(',')}]`}}`;
}

export function instantJson(value: Value, steps: Steps): string {
  if (value.kind === 'scalar') return resultJson('scalar', point(steps.startUs, value.values[0]));
  const present = value.series.filter((one) => one.present[0] === 1);
  return resultJson(
    'vector',
    present.map(({ labels, values }) => `{"metric":${metricJson(labels)},"value":${point(steps.startUs, values[0])}}`),
  );
}

/** A scalar is a series without labels. */
export function rangeJson(value: Value, steps: Steps): string {
  const series =
    value.kind === 'vector'
      ? value.series
      : [{ labels: new Map<string, string>(), values: value.values, present: new Uint8Array(steps.count).fill(1) }];
  const result: string[] = [];
  let budget = POINTS_MAX;
  for (const { labels, values, present } of series) {
    const points: string[] = [];
    for (let step = 0; step < steps.count; step++)
      if (present[step] === 1) points.push(point(steps.startUs + step * steps.stepUs, values[step]));
    budget -= points.length;
    if (budget < 0) throw executionError(`the answer has more than ${POINTS_MAX} points: choose fewer series or a longer step`);
    if (points.length > 0) result.push(`{"metric":${metricJson(labels)},"values":[${points.join(',')}]}`);
  }
  return resultJson('matrix', result);
}

/** A range selector by itself: the samples as they are. */
export function matrixJson(selected: readonly SelectedSeries[]): string {
  return resultJson(
    'matrix',
    selected
      .filter(({ samples }) => samples.last.length > 0)
      .map(({ labels, samples }) => {
        const points = Array.from(samples.last, (value, index) => point(samples.lastTsUs[index], value));
        return `{"metric":${metricJson(labels)},"values":[${points.join(',')}]}`;
      }),
  );
}
