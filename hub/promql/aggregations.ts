/** Aggregation operators: series of a group become one, or (topk, bottomk) few of them stay. */
import type { Aggregation, AggregationOperator, Grouping } from './expression.ts';
import { dropLabels, keepLabels, labelsKey, type Labels } from './labels.ts';
import { quantileOf } from './range-functions.ts';
import { emptySeries, executionError, type VectorSeries } from './values.ts';

function groupLabels(labels: Labels, { without, labels: names }: Grouping): Labels {
  return without ? dropLabels(labels, ['__name__', ...names]) : keepLabels(labels, names);
}

function varianceOf(values: readonly number[]): number {
  let mean = 0;
  let m2 = 0;
  values.forEach((value, index) => {
    const delta = value - mean;
    mean += delta / (index + 1);
    m2 += delta * (value - mean);
  });
  return m2 / values.length;
}

/** NaN only where there is nothing else, as Prometheus has it. */
function extreme(values: readonly number[], isBetter: (value: number, best: number) => boolean): number {
  let best = values[0];
  for (const value of values) if (isBetter(value, best) || Number.isNaN(best)) best = value;
  return best;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function combine(operator: AggregationOperator, values: readonly number[], parameter: number): number {
  switch (operator) {
    case 'sum':
      return sum(values);
    case 'avg':
      return sum(values) / values.length;
    case 'min':
      return extreme(values, (value, best) => value < best);
    case 'max':
      return extreme(values, (value, best) => value > best);
    case 'count':
      return values.length;
    case 'group':
      return 1;
    case 'stddev':
      return Math.sqrt(varianceOf(values));
    case 'stdvar':
      return varianceOf(values);
    case 'quantile':
      return quantileOf(
        [...values].sort((a, b) => a - b),
        parameter,
      );
    default:
      throw new Error(`${operator} keeps series`);
  }
}

interface Group {
  readonly labels: Labels;
  readonly members: VectorSeries[];
}

export function aggregate(
  { operator, grouping }: Aggregation,
  series: readonly VectorSeries[],
  parameter: Float64Array | null,
  steps: number,
): readonly VectorSeries[] {
  const groups = new Map<string, Group>();
  for (const one of series) {
    const labels = groupLabels(one.labels, grouping);
    const key = labelsKey(labels);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { labels, members: [one] });
    else group.members.push(one);
  }
  if (operator === 'topk' || operator === 'bottomk')
    return [...groups.values()].flatMap(({ members }) => selectExtremes(operator, members, parameter, steps));
  return [...groups.values()].map(({ labels, members }) => {
    const result = emptySeries(labels, steps);
    for (let step = 0; step < steps; step++) {
      const values = members.filter(({ present }) => present[step] === 1).map((one) => one.values[step]);
      if (values.length === 0) continue;
      result.present[step] = 1;
      result.values[step] = combine(operator, values, parameter?.[step] ?? NaN);
    }
    return result;
  });
}

function selectExtremes(
  operator: 'topk' | 'bottomk',
  members: readonly VectorSeries[],
  parameter: Float64Array | null,
  steps: number,
): readonly VectorSeries[] {
  const kept = members.map(({ labels, values }) => ({ labels, values, present: new Uint8Array(steps) }));
  const sign = operator === 'topk' ? -1 : 1;
  for (let step = 0; step < steps; step++) {
    const wanted = parameter?.[step] ?? NaN;
    if (Number.isNaN(wanted)) throw executionError(`parameter value of ${operator} is NaN`);
    members
      .map((one, index) => ({ value: one.values[step], index, isPresent: one.present[step] === 1 }))
      .filter(({ isPresent }) => isPresent)
      // NaN comes last in both.
      .sort((a, b) => Number(Number.isNaN(a.value)) - Number(Number.isNaN(b.value)) || sign * (a.value - b.value))
      .slice(0, Math.max(0, Math.floor(wanted)))
      .forEach(({ index }) => {
        kept[index].present[step] = 1;
      });
  }
  const best = (one: VectorSeries): number => (one.present[steps - 1] === 1 ? one.values[steps - 1] : -sign * Infinity);
  return kept.sort((a, b) => sign * (best(a) - best(b)) || 0);
}
