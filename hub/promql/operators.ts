/** Binary operators over scalars and vectors (one to one), as Prometheus defines them. */
import { COMPARISONS, isOneOf, SET_OPERATORS, type Binary, type BinaryOperator, type VectorMatching } from './expression.ts';
import { dropLabels, keepLabels, labelsKey, withoutName, type Labels } from './labels.ts';
import { emptySeries, executionError, mergeEqual, type Value, type VectorSeries } from './values.ts';

/** Of a comparison 1 or 0. */
function calculate(operator: BinaryOperator, a: number, b: number): number {
  switch (operator) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '/':
      return a / b;
    case '%':
      return a % b;
    case '^':
      // JavaScript says NaN for 1^NaN and 1^±Inf, IEEE 754 and Go say 1.
      return a === 1 ? 1 : a ** b;
    case 'atan2':
      return Math.atan2(a, b);
    case '==':
      return Number(a === b);
    case '!=':
      return Number(a !== b);
    case '>':
      return Number(a > b);
    case '<':
      return Number(a < b);
    case '>=':
      return Number(a >= b);
    case '<=':
      return Number(a <= b);
    default:
      throw new Error(`${operator} is not between numbers`);
  }
}

export function applyBinary(binary: Binary, left: Value, right: Value): Value {
  if (left.kind === 'scalar' && right.kind === 'scalar')
    return { kind: 'scalar', values: left.values.map((value, step) => calculate(binary.operator, value, right.values[step])) };
  if (left.kind === 'vector' && right.kind === 'vector') {
    if (isOneOf(SET_OPERATORS, binary.operator)) return { kind: 'vector', series: combineSets(binary, left.series, right.series) };
    return { kind: 'vector', series: matchOneToOne(binary, left.series, right.series) };
  }
  if (left.kind === 'vector') {
    const { values } = right as { values: Float64Array };
    return { kind: 'vector', series: withScalar(binary, left.series, (value, step) => [value, values[step]]) };
  }
  const series = (right as { series: readonly VectorSeries[] }).series;
  return { kind: 'vector', series: withScalar(binary, series, (value, step) => [left.values[step], value]) };
}

function withScalar(
  { operator, bool }: Binary,
  series: readonly VectorSeries[],
  sides: (value: number, step: number) => readonly [number, number],
): readonly VectorSeries[] {
  const isFilter = isOneOf(COMPARISONS, operator) && !bool;
  const results = series.map((one) => {
    const result = emptySeries(isFilter ? one.labels : withoutName(one.labels), one.values.length);
    one.present.forEach((isPresent, step) => {
      if (isPresent === 0) return;
      const calculated = calculate(operator, ...sides(one.values[step], step));
      result.present[step] = isFilter ? calculated : 1;
      result.values[step] = isFilter ? one.values[step] : calculated;
    });
    return result;
  });
  return isFilter ? results : mergeEqual(results);
}

function matchLabels(labels: Labels, { on, labels: names }: VectorMatching): Labels {
  return on ? keepLabels(labels, names) : dropLabels(labels, ['__name__', ...names]);
}

function groupByMatch(series: readonly VectorSeries[], matching: VectorMatching): Map<string, VectorSeries[]> {
  const groups = new Map<string, VectorSeries[]>();
  for (const one of series) {
    const key = labelsKey(matchLabels(one.labels, matching));
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [one]);
    else group.push(one);
  }
  return groups;
}

/** The one that has a value at the step. @throws SluiceError when two have */
function onlyOneAt(group: readonly VectorSeries[], step: number, side: string): VectorSeries | null {
  let found: VectorSeries | null = null;
  for (const one of group) {
    if (one.present[step] === 0) continue;
    if (found !== null)
      throw executionError(
        `found duplicate series for the match group on the ${side} hand-side of the operation; many-to-one matching is not in the subset (docs/promql.md)`,
      );
    found = one;
  }
  return found;
}

function matchOneToOne(binary: Binary, left: readonly VectorSeries[], right: readonly VectorSeries[]): readonly VectorSeries[] {
  const { operator, bool, matching } = binary;
  const isFilter = isOneOf(COMPARISONS, operator) && !bool;
  const rightGroups = groupByMatch(right, matching);
  const results: VectorSeries[] = [];
  for (const [key, group] of groupByMatch(left, matching)) {
    const partners = rightGroups.get(key);
    if (partners === undefined) continue;
    const bySeries = new Map<VectorSeries, VectorSeries>();
    for (let step = 0; step < group[0].values.length; step++) {
      const a = onlyOneAt(group, step, 'left');
      const b = onlyOneAt(partners, step, 'right');
      if (a === null || b === null) continue;
      const result =
        bySeries.get(a) ?? emptySeries(isFilter && !matching.on ? a.labels : resultLabels(a.labels, matching, isFilter), a.values.length);
      bySeries.set(a, result);
      const calculated = calculate(operator, a.values[step], b.values[step]);
      result.present[step] = isFilter ? calculated : 1;
      result.values[step] = isFilter ? a.values[step] : calculated;
    }
    results.push(...bySeries.values());
  }
  return mergeEqual(results);
}

function resultLabels(labels: Labels, { on, labels: names }: VectorMatching, isFilter: boolean): Labels {
  const named = isFilter ? labels : withoutName(labels);
  return on ? keepLabels(named, names) : dropLabels(named, names);
}

function combineSets(
  { operator, matching }: Binary,
  left: readonly VectorSeries[],
  right: readonly VectorSeries[],
): readonly VectorSeries[] {
  const own = operator === 'or' ? right : left;
  const others = groupByMatch(operator === 'or' ? left : right, matching);
  const wantsPartner = operator === 'and';
  const kept = own.map((one) => {
    const partners = others.get(labelsKey(matchLabels(one.labels, matching))) ?? [];
    const present = one.present.map((isPresent, step) =>
      isPresent === 1 && partners.some((partner) => partner.present[step] === 1) === wantsPartner ? 1 : 0,
    );
    return { ...one, present };
  });
  return operator === 'or' ? mergeEqual([...left, ...kept]) : kept;
}
