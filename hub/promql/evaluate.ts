/**
 * Expression and samples → value. Pure, over all steps of the query at once.
 *
 * Bounds: series × steps of every intermediate value, and a deadline that is looked at between series.
 */
import { aggregate } from './aggregations.ts';
import type { Call, Expression, Selector } from './expression.ts';
import { sortedLabels, withoutName, type Labels } from './labels.ts';
import { applyBinary } from './operators.ts';
import { RANGE_FUNCTIONS } from './range-functions.ts';
import type { Samples } from './samples.ts';
import { emptySeries, executionError, mergeEqual, timeOfStep, type Steps, type Value, type VectorSeries } from './values.ts';

/** Of one value: 9 bytes each. */
const CELLS_MAX = 10_000_000;

export interface SelectedSeries {
  readonly labels: Labels;
  readonly samples: Samples;
}

export interface Evaluation {
  readonly steps: Steps;
  /** How old the newest sample of an instant selector may be. */
  readonly lookbackUs: number;
  readonly data: ReadonlyMap<Selector, readonly SelectedSeries[]>;
  /** Throws when the query has taken too long. */
  readonly checkTime: () => void;
}

export function evaluate(expression: Expression, evaluation: Evaluation): Value {
  const { steps } = evaluation;
  switch (expression.kind) {
    case 'number':
      return { kind: 'scalar', values: new Float64Array(steps.count).fill(expression.value) };
    case 'string':
      throw executionError('a string has no value over time');
    case 'negation': {
      const value = evaluate(expression.operand, evaluation);
      if (value.kind === 'scalar') return { kind: 'scalar', values: value.values.map((one) => -one) };
      return { kind: 'vector', series: mapValues(value.series, (one) => -one) };
    }
    case 'selector':
      return { kind: 'vector', series: instantVector(expression, evaluation) };
    case 'aggregation': {
      const { parameter, operand } = expression;
      const ratios = parameter === null ? null : scalarOf(parameter, evaluation);
      return { kind: 'vector', series: aggregate(expression, vectorOf(operand, evaluation), ratios, steps.count) };
    }
    case 'call':
      return call(expression, evaluation);
    case 'binary': {
      const value = applyBinary(expression, evaluate(expression.left, evaluation), evaluate(expression.right, evaluation));
      evaluation.checkTime();
      return value;
    }
  }
}

function vectorOf(expression: Expression, evaluation: Evaluation): readonly VectorSeries[] {
  const value = evaluate(expression, evaluation);
  return value.kind === 'vector' ? value.series : [];
}

function scalarOf(expression: Expression, evaluation: Evaluation): Float64Array {
  const value = evaluate(expression, evaluation);
  return value.kind === 'scalar' ? value.values : new Float64Array(evaluation.steps.count).fill(NaN);
}

function mapValues(series: readonly VectorSeries[], change: (value: number, step: number) => number): readonly VectorSeries[] {
  return mergeEqual(series.map(({ labels, values, present }) => ({ labels: withoutName(labels), values: values.map(change), present })));
}

function checkSize(series: number, steps: Steps): void {
  if (series * steps.count > CELLS_MAX)
    throw executionError(
      `${series} series at ${steps.count} steps are more than ${CELLS_MAX} points: choose fewer series or a longer step`,
    );
}

// --- selectors -------------------------------------------------------------------------------------------------------

/** At which a selector looks for its samples, `@` and `offset` counted. */
export function evaluationTime({ at, offsetUs }: Selector, steps: Steps, step: number): number {
  const placeUs = at === 'start' ? steps.startUs : at === 'end' ? timeOfStep(steps, steps.count - 1) : at;
  return (placeUs ?? timeOfStep(steps, step)) - offsetUs;
}

function instantVector(
  selector: Selector,
  evaluation: Evaluation,
  valueOf = (samples: Samples, at: number) => samples.last[at],
): VectorSeries[] {
  const { steps, lookbackUs, data, checkTime } = evaluation;
  const selected = data.get(selector) ?? [];
  checkSize(selected.length, steps);
  return selected.map(({ labels, samples }) => {
    checkTime();
    const result = emptySeries(labels, steps.count);
    let next = 0;
    for (let step = 0; step < steps.count; step++) {
      const tUs = evaluationTime(selector, steps, step);
      while (next < samples.lastTsUs.length && samples.lastTsUs[next] <= tUs) next++;
      if (next === 0 || samples.lastTsUs[next - 1] <= tUs - lookbackUs) continue;
      result.present[step] = 1;
      result.values[step] = valueOf(samples, next - 1);
    }
    return result;
  });
}

function overRange({ name, args }: Call, selector: Selector, evaluation: Evaluation): readonly VectorSeries[] {
  const { steps, data, checkTime } = evaluation;
  const compute = RANGE_FUNCTIONS[name];
  const rangeUs = selector.rangeUs ?? 0;
  const parameters = args.length > 1 ? scalarOf(args[0], evaluation) : null;
  const selected = data.get(selector) ?? [];
  checkSize(selected.length, steps);
  const keepsName = name === 'last_over_time' || name === 'first_over_time';
  const results = selected.map(({ labels, samples }) => {
    const result = emptySeries(keepsName ? labels : withoutName(labels), steps.count);
    let [from, to] = [0, 0];
    for (let step = 0; step < steps.count; step++) {
      if (step % 64 === 0) checkTime();
      const endUs = evaluationTime(selector, steps, step);
      const startUs = endUs - rangeUs;
      while (to < samples.lastTsUs.length && samples.lastTsUs[to] <= endUs) to++;
      while (from < to && samples.lastTsUs[from] <= startUs) from++;
      if (from === to) continue;
      const value = compute({ samples, from, to, startUs, endUs }, parameters?.[step] ?? NaN);
      if (value === null) continue;
      result.present[step] = 1;
      result.values[step] = value;
    }
    return result;
  });
  return mergeEqual(results);
}

// --- functions -------------------------------------------------------------------------------------------------------

/** Half away from zero is up, as Prometheus rounds. */
function roundTo(value: number, to: number): number {
  const inverse = 1 / to;
  return Math.floor(value * inverse + 0.5) / inverse;
}

const NUMBER_FUNCTIONS: Readonly<Record<string, (value: number, a: number, b: number) => number>> = {
  abs: Math.abs,
  ceil: Math.ceil,
  floor: Math.floor,
  exp: Math.exp,
  ln: Math.log,
  log2: Math.log2,
  log10: Math.log10,
  sqrt: Math.sqrt,
  sgn: Math.sign,
  round: (value, to) => roundTo(value, Number.isNaN(to) ? 1 : to),
  clamp: (value, min, max) => Math.max(min, Math.min(max, value)),
  clamp_min: (value, min) => Math.max(min, value),
  clamp_max: (value, max) => Math.min(max, value),
};

function call(expression: Call, evaluation: Evaluation): Value {
  const { name, args } = expression;
  const { steps } = evaluation;
  const range = args.at(-1);
  if (Object.hasOwn(RANGE_FUNCTIONS, name) && range?.kind === 'selector')
    return { kind: 'vector', series: overRange(expression, range, evaluation) };
  const [first] = args;
  if (name === 'time') return { kind: 'scalar', values: new Float64Array(steps.count).map((_, step) => timeOf(steps, step)) };
  if (name === 'pi') return { kind: 'scalar', values: new Float64Array(steps.count).fill(Math.PI) };
  if (name === 'vector') {
    return {
      kind: 'vector',
      series: [{ labels: new Map(), values: scalarOf(first, evaluation), present: new Uint8Array(steps.count).fill(1) }],
    };
  }
  if (name === 'timestamp' && first.kind === 'selector') {
    const stamps = instantVector(first, evaluation, (samples, at) => samples.lastTsUs[at] / 1e6);
    return { kind: 'vector', series: mapValues(stamps, (value) => value) };
  }
  const series = vectorOf(first, evaluation);
  if (name === 'timestamp') return { kind: 'vector', series: mapValues(series, (_, step) => timeOf(steps, step)) };
  if (name === 'scalar') return { kind: 'scalar', values: onlyValues(series, steps.count) };
  if (name === 'absent') return { kind: 'vector', series: absent(first, series, steps.count) };
  if (name === 'sort' || name === 'sort_desc') return { kind: 'vector', series: sorted(series, name === 'sort' ? 1 : -1) };
  const [a, b] = [args[1], args[2]].map((argument) => (argument === undefined ? null : scalarOf(argument, evaluation)));
  const change = NUMBER_FUNCTIONS[name];
  // Between bounds that have nothing between them nothing is.
  const some = name === 'clamp' ? presentWhere(series, (step) => !((b?.[step] ?? NaN) < (a?.[step] ?? NaN))) : series;
  return { kind: 'vector', series: mapValues(some, (value, step) => change(value, a?.[step] ?? NaN, b?.[step] ?? NaN)) };
}

function presentWhere(series: readonly VectorSeries[], isPresent: (step: number) => boolean): readonly VectorSeries[] {
  return series.map((one) => ({ ...one, present: one.present.map((present, step) => (isPresent(step) ? present : 0)) }));
}

function timeOf(steps: Steps, step: number): number {
  return timeOfStep(steps, step) / 1e6;
}

/** Of a vector with one element its value, otherwise NaN. */
function onlyValues(series: readonly VectorSeries[], count: number): Float64Array {
  return new Float64Array(count).map((_, step) => {
    const present = series.filter((one) => one.present[step] === 1);
    return present.length === 1 ? present[0].values[step] : NaN;
  });
}

function absent(argument: Expression, series: readonly VectorSeries[], count: number): VectorSeries[] {
  const matchers = argument.kind === 'selector' ? argument.matchers : [];
  const equal = matchers.filter(({ label, operator }) => operator === '=' && label !== '__name__');
  const labels = sortedLabels(
    equal
      .filter(({ label }) => matchers.filter((other) => other.label === label).length === 1)
      .map(({ label, value }) => [label, value] as const),
  );
  const present = new Uint8Array(count).map((_, step) => (series.some((one) => one.present[step] === 1) ? 0 : 1));
  return [{ labels, values: new Float64Array(count).fill(1), present }];
}

/** By the value of the last step: sorting means something in instant queries alone. */
function sorted(series: readonly VectorSeries[], sign: number): readonly VectorSeries[] {
  const last = ({ values }: VectorSeries): number => values[values.length - 1];
  return [...series].sort((x, y) => {
    const nan = Number(Number.isNaN(last(x))) - Number(Number.isNaN(last(y)));
    return nan || sign * (last(x) - last(y));
  });
}
