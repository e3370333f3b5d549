/** A parsed PromQL expression: the subset that docs/promql.md states. */

export type MatchOperator = '=' | '!=' | '=~' | '!~';

export interface Matcher {
  readonly label: string;
  readonly operator: MatchOperator;
  readonly value: string;
}

export interface Selector {
  readonly kind: 'selector';
  readonly matchers: readonly Matcher[];
  /** Length of a range selector; null: an instant selector. */
  readonly rangeUs: number | null;
  readonly offsetUs: number;
  /** `@`: the time that it is evaluated at whatever the step is, µs, or that of the query's first or last step; null: each step's own. */
  readonly at: number | 'start' | 'end' | null;
}

export interface VectorMatching {
  /** true: `on`, only these labels count; false: `ignoring`, these do not. */
  readonly on: boolean;
  readonly labels: readonly string[];
}

export interface Binary {
  readonly kind: 'binary';
  readonly operator: BinaryOperator;
  readonly left: Expression;
  readonly right: Expression;
  /** A comparison gives 0 or 1 instead of filtering. */
  readonly bool: boolean;
  readonly matching: VectorMatching;
}

export interface Grouping {
  readonly without: boolean;
  readonly labels: readonly string[];
}

export interface Aggregation {
  readonly kind: 'aggregation';
  readonly operator: AggregationOperator;
  readonly grouping: Grouping;
  readonly parameter: Expression | null;
  readonly operand: Expression;
}

export interface Call {
  readonly kind: 'call';
  readonly name: string;
  readonly args: readonly Expression[];
}

export type Expression =
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'string'; readonly text: string }
  | { readonly kind: 'negation'; readonly operand: Expression }
  | Selector
  | Binary
  | Aggregation
  | Call;

export type ValueType = 'scalar' | 'vector' | 'matrix' | 'string';

export const ARITHMETIC = ['+', '-', '*', '/', '%', '^', 'atan2'] as const;
export const COMPARISONS = ['==', '!=', '>', '<', '>=', '<='] as const;
export const SET_OPERATORS = ['and', 'or', 'unless'] as const;
export type BinaryOperator = (typeof ARITHMETIC)[number] | (typeof COMPARISONS)[number] | (typeof SET_OPERATORS)[number];

export const AGGREGATIONS = ['sum', 'avg', 'min', 'max', 'count', 'group', 'stddev', 'stdvar', 'topk', 'bottomk', 'quantile'] as const;
export type AggregationOperator = (typeof AGGREGATIONS)[number];
/** They take a number before the vector. */
export const PARAMETER_AGGREGATIONS: readonly string[] = ['topk', 'bottomk', 'quantile'];

export function isOneOf<T extends string>(choices: readonly T[], text: string): text is T {
  return (choices as readonly string[]).includes(text);
}
