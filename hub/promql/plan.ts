/** Which samples a query needs, and whether they come from readings or from windows. Pure. */
import { slideUsOf, type WindowDefinition } from '../../shared/window/definition.ts';
import { evaluationTime } from './evaluate.ts';
import type { Expression, Selector } from './expression.ts';
import { selectorsOf } from './parse.ts';
import { FUNCTIONS, type SampleNeed } from './signatures.ts';
import type { Steps } from './values.ts';

/**
 * Up to so long a time is answered from readings, exactly; beyond it from the coarsest windows that the step and every
 * range are at least as long as, if there are any. Chosen: two hours are a dashboard's usual range, and a DuckDB scan of
 * them stays below a second for a fleet of a hundred devices.
 */
const READINGS_SPAN_US_MAX = 2 * 3_600_000_000;

export interface SelectorPlan {
  readonly selector: Selector;
  readonly need: SampleNeed;
  /** Samples in (fromUs, toUs]. */
  readonly fromUs: number;
  readonly toUs: number;
  /** Of readings: they may be summed up in steps of so long that end at `toUs`, without changing the answer. */
  readonly bucketUs: number;
}

export interface Plan {
  readonly selectors: readonly SelectorPlan[];
  /** null: readings. */
  readonly definition: WindowDefinition | null;
  readonly fromUs: number;
  readonly toUs: number;
}

/** @param lookbackUs how old the newest sample of an instant selector may be */
export function planQuery(expression: Expression, steps: Steps, lookbackUs: number, definitions: readonly WindowDefinition[]): Plan {
  const needs = new Map<Selector, SampleNeed>();
  collectNeeds(expression, needs);
  const selectors = selectorsOf(expression).map((selector) => planSelector(selector, needs.get(selector) ?? 'samples', steps, lookbackUs));
  const fromUs = Math.min(...selectors.map((plan) => plan.fromUs));
  const toUs = Math.max(...selectors.map((plan) => plan.toUs));
  return { selectors, definition: chooseDefinition(selectors, steps, lookbackUs, definitions), fromUs, toUs };
}

/** A range selector that no function stands around is wanted sample by sample. */
function collectNeeds(expression: Expression, needs: Map<Selector, SampleNeed>): void {
  switch (expression.kind) {
    case 'selector':
      if (!needs.has(expression)) needs.set(expression, expression.rangeUs === null ? 'last' : 'samples');
      return;
    case 'negation':
      return collectNeeds(expression.operand, needs);
    case 'aggregation':
      if (expression.parameter !== null) collectNeeds(expression.parameter, needs);
      return collectNeeds(expression.operand, needs);
    case 'binary':
      collectNeeds(expression.left, needs);
      return collectNeeds(expression.right, needs);
    case 'call':
      for (const argument of expression.args) {
        if (argument.kind === 'selector' && argument.rangeUs !== null) needs.set(argument, FUNCTIONS[expression.name]?.need ?? 'samples');
        else collectNeeds(argument, needs);
      }
      return;
    default:
  }
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

function planSelector(selector: Selector, need: SampleNeed, steps: Steps, lookbackUs: number): SelectorPlan {
  const firstUs = evaluationTime(selector, steps, 0);
  const toUs = evaluationTime(selector, steps, steps.count - 1);
  const spanUs = selector.rangeUs ?? lookbackUs;
  // Buckets that end at every step and begin where every range begins; an instant selector wants the newest of each step.
  const isOne = steps.count === 1 || selector.at !== null;
  const bucketUs = isOne ? spanUs : selector.rangeUs === null ? steps.stepUs : greatestCommonDivisor(steps.stepUs, spanUs);
  return { selector, need, fromUs: firstUs - spanUs, toUs, bucketUs };
}

function chooseDefinition(
  selectors: readonly SelectorPlan[],
  steps: Steps,
  lookbackUs: number,
  definitions: readonly WindowDefinition[],
): WindowDefinition | null {
  const needsReadings = selectors.some(({ need }) => need === 'samples');
  const isShort = selectors.every(({ fromUs, toUs }) => toUs - fromUs <= READINGS_SPAN_US_MAX);
  if (needsReadings || isShort) return null;
  const finestUs = Math.min(
    steps.count === 1 ? Infinity : steps.stepUs,
    ...selectors.map(({ selector }) => selector.rangeUs ?? lookbackUs),
  );
  const [coarsest] = definitions
    // Windows that overlap have every reading more than once.
    .filter((one) => one.by === 'series' && one.persisted && slideUsOf(one) === one.sizeMs * 1000 && one.sizeMs * 1000 <= finestUs)
    .sort((a, b) => b.sizeMs - a.sizeMs);
  return coarsest ?? null;
}
