/**
 * Text → expression: Prometheus' own grammar for Lezer, then our subset of it.
 *
 * Whatever is not in the subset is an error that names it; nothing is parsed and then ignored. Text and nesting are bounded.
 */
import type { SyntaxNode } from '@lezer/common';
import { parser } from '@prometheus-io/lezer-promql';
import type { SluiceError } from '../../shared/errors.ts';
import {
  AGGREGATIONS,
  ARITHMETIC,
  COMPARISONS,
  isOneOf,
  PARAMETER_AGGREGATIONS,
  SET_OPERATORS,
  type Aggregation,
  type Binary,
  type Call,
  type Expression,
  type Grouping,
  type Matcher,
  type MatchOperator,
  type Selector,
  type ValueType,
  type VectorMatching,
} from './expression.ts';
import { badQuery, parseDurationUs, parseNumber, shown, unquote } from './literals.ts';
import { FUNCTIONS } from './signatures.ts';

/** Grafana's longest generated queries (a variable with many values) stay below. */
const TEXT_CHARACTERS_MAX = 32_768;
/** Nesting of the tree, a chain of operators included. */
const DEPTH_MAX = 200;
/** Each selector is a query of the lake. */
const SELECTORS_MAX = 32;
/** The year 9999, after which no sample can be. */
const AT_US_MAX = 253_402_300_799_000_000;

/** @throws SluiceError ERR_PROMQL_INVALID */
export function parseExpression(text: string): Expression {
  return new Parser(text).parse();
}

/** Of `match[]`: a selector without a range. @throws SluiceError ERR_PROMQL_INVALID */
export function parseSelector(text: string): Selector {
  const expression = parseExpression(text);
  if (expression.kind !== 'selector' || expression.rangeUs !== null || expression.offsetUs !== 0 || expression.at !== null)
    throw badQuery(`match[]: ${shown(text)} is not a series selector like cpu_usage{device="pump-1"}`);
  return expression;
}

export function typeOf(expression: Expression): ValueType {
  switch (expression.kind) {
    case 'number':
      return 'scalar';
    case 'string':
      return 'string';
    case 'selector':
      return expression.rangeUs === null ? 'vector' : 'matrix';
    case 'negation':
      return typeOf(expression.operand);
    case 'aggregation':
      return 'vector';
    case 'call':
      return FUNCTIONS[expression.name]?.returns ?? 'vector';
    case 'binary':
      return typeOf(expression.left) === 'scalar' && typeOf(expression.right) === 'scalar' ? 'scalar' : 'vector';
  }
}

/** All selectors, in the order of the text. */
export function selectorsOf(expression: Expression): Selector[] {
  switch (expression.kind) {
    case 'selector':
      return [expression];
    case 'negation':
      return selectorsOf(expression.operand);
    case 'aggregation':
      return [...(expression.parameter === null ? [] : selectorsOf(expression.parameter)), ...selectorsOf(expression.operand)];
    case 'call':
      return expression.args.flatMap(selectorsOf);
    case 'binary':
      return [...selectorsOf(expression.left), ...selectorsOf(expression.right)];
    default:
      return [];
  }
}

/** What `offset` and `@` make of the operand before them. */
type Modifier = (operand: Expression) => Expression;

function unmodified(operand: Expression): Expression {
  return operand;
}

class Parser {
  readonly #text: string;
  #selectors = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): Expression {
    if (this.#text.length > TEXT_CHARACTERS_MAX)
      throw badQuery(`the query has ${this.#text.length} characters, at most ${TEXT_CHARACTERS_MAX} are allowed`);
    if (this.#text.trim() === '') throw badQuery('1:1: parse error: no expression found in input');
    const tree = parser.parse(this.#text);
    tree.iterate({
      enter: (node) => {
        if (node.type.isError) throw this.#syntaxError(node.from, node.to);
      },
    });
    const top = tree.topNode.firstChild;
    if (top === null) throw badQuery('1:1: parse error: no expression found in input');
    return this.#expression(top, 0);
  }

  #syntaxError(from: number, to: number): SluiceError {
    const line = this.#text.slice(0, from).split('\n');
    const place = `${line.length}:${(line.at(-1) ?? '').length + 1}`;
    const found = this.#text.slice(from, Math.max(to, from + 1));
    return badQuery(`${place}: parse error: unexpected ${found === '' ? 'end of input' : shown(found)}`);
  }

  #of(node: SyntaxNode): string {
    return this.#text.slice(node.from, node.to);
  }

  #unsupported(node: SyntaxNode, what: string): SluiceError {
    return badQuery(`${what} (${shown(this.#of(node))}) is not in the subset of PromQL that this hub answers; docs/promql.md lists it`);
  }

  #checkDepth(depth: number): void {
    if (depth > DEPTH_MAX) throw badQuery(`the query is nested deeper than ${DEPTH_MAX}`);
  }

  #expression(node: SyntaxNode, depth: number): Expression {
    this.#checkDepth(depth);
    switch (node.name) {
      case 'NumberDurationLiteral':
        return { kind: 'number', value: parseNumber(this.#of(node)) };
      case 'StringLiteral':
        return { kind: 'string', text: unquote(this.#of(node)) };
      case 'ParenExpr':
        return this.#expression(childExpressions(node)[0], depth + 1);
      case 'UnaryExpr':
        return this.#unary(node, depth, unmodified);
      case 'VectorSelector':
        return this.#selector(node);
      case 'MatrixSelector':
        return this.#matrix(node, depth);
      case 'OffsetExpr':
        return this.#offset(node, depth, unmodified);
      case 'BinaryExpr':
        return this.#binary(node, depth, unmodified);
      case 'AggregateExpr':
        return this.#aggregation(node, depth);
      case 'FunctionCall':
        return this.#call(node, depth);
      case 'SubqueryExpr':
        throw this.#unsupported(node, 'a subquery');
      case 'StepInvariantExpr':
        return this.#at(node, depth, unmodified);
      default:
        throw this.#unsupported(node, node.name);
    }
  }

  #unary(node: SyntaxNode, depth: number, modify: Modifier): Expression {
    const [operandNode] = childExpressions(node);
    const operand = this.#modified(operandNode, depth + 1, modify);
    const type = typeOf(operand);
    if (type !== 'scalar' && type !== 'vector') throw badQuery(`unary expression only allowed on scalar or instant vector, got ${type}`);
    return this.#text[node.from] === '-' ? { kind: 'negation', operand } : operand;
  }

  #selector(node: SyntaxNode): Selector {
    if (++this.#selectors > SELECTORS_MAX) throw badQuery(`the query has more than ${SELECTORS_MAX} selectors`);
    const matchers: Matcher[] = [];
    const name = node.getChild('Identifier');
    if (name !== null) matchers.push({ label: '__name__', operator: '=', value: this.#of(name) });
    const list = node.getChild('LabelMatchers');
    for (let child = list?.firstChild ?? null; child !== null; child = child.nextSibling) {
      if (child.name === 'QuotedLabelName') {
        if (matchers.some(({ label }) => label === '__name__')) throw badQuery('the metric name is given twice');
        matchers.push({ label: '__name__', operator: '=', value: unquote(this.#of(child)) });
      } else if (child.name === 'UnquotedLabelMatcher' || child.name === 'QuotedLabelMatcher') {
        matchers.push(this.#matcher(child));
      }
    }
    return { kind: 'selector', matchers, rangeUs: null, offsetUs: 0, at: null };
  }

  #matcher(node: SyntaxNode): Matcher {
    const label = node.getChild('LabelName') ?? node.getChild('QuotedLabelName');
    const operator = node.getChild('MatchOp');
    const value = node.getChild('StringLiteral');
    if (label === null || operator === null || value === null) throw this.#syntaxError(node.from, node.to);
    return {
      label: label.name === 'LabelName' ? this.#of(label) : unquote(this.#of(label)),
      operator: this.#of(operator) as MatchOperator,
      value: unquote(this.#of(value)),
    };
  }

  #matrix(node: SyntaxNode, depth: number): Expression {
    const [inner] = childExpressions(node);
    const selector = this.#expression(inner, depth + 1);
    if (selector.kind !== 'selector' || selector.rangeUs !== null) throw badQuery('ranges only allowed for vector selectors');
    const duration = node.getChild('DurationExpr');
    const rangeUs = duration === null ? null : this.#duration(duration);
    if (rangeUs === null || rangeUs <= 0) throw badQuery(`the range of ${shown(this.#of(node))} is not a duration above 0`);
    return { ...selector, rangeUs };
  }

  #offset(node: SyntaxNode, depth: number, outer: Modifier): Expression {
    const [inner] = childExpressions(node);
    const duration = node.getChild('OffsetDurationExpr');
    if (duration === null) throw this.#syntaxError(node.from, node.to);
    const offsetUs = this.#duration(duration);
    return this.#modified(inner, depth + 1, (operand) => {
      if (operand.kind !== 'selector' || operand.offsetUs !== 0)
        throw badQuery('offset modifier must be preceded by an instant vector selector or range vector selector');
      return outer({ ...operand, offsetUs });
    });
  }

  #at(node: SyntaxNode, depth: number, outer: Modifier): Expression {
    const [inner] = childExpressions(node);
    const at = this.#atTime(node);
    return this.#modified(inner, depth + 1, (operand) => {
      if (operand.kind !== 'selector') throw badQuery('@ modifier must be preceded by an instant vector selector or range vector selector');
      if (operand.at !== null) throw badQuery('@ <timestamp> may not be set multiple times');
      return outer({ ...operand, at });
    });
  }

  #atTime(node: SyntaxNode): number | 'start' | 'end' {
    const place = node.getChild('AtModifierPreprocessors');
    if (place !== null) return place.getChild('AtStart') === null ? 'end' : 'start';
    const number = node.getChild('NumberDurationLiteral');
    const us = number === null ? NaN : Math.round(parseNumber(this.#of(number)) * 1e6);
    if (!(Math.abs(us) <= AT_US_MAX)) throw badQuery(`timestamp out of bounds for @ modifier: ${shown(this.#of(node))}`);
    return us;
  }

  /** The grammar takes `a - b offset 5m` for `(a - b) offset 5m`; Prometheus' own parser binds modifiers to what stands before them. */
  #modified(node: SyntaxNode, depth: number, modify: Modifier): Expression {
    this.#checkDepth(depth);
    switch (node.name) {
      case 'BinaryExpr':
        return this.#binary(node, depth, modify);
      case 'UnaryExpr':
        return this.#unary(node, depth, modify);
      case 'OffsetExpr':
        return this.#offset(node, depth, modify);
      case 'StepInvariantExpr':
        return this.#at(node, depth, modify);
      default:
        return modify(this.#expression(node, depth));
    }
  }

  /** Literals alone: calculated durations are not in the subset. */
  #duration(node: SyntaxNode): number {
    const match = /^([+-]?)\s*([0-9][0-9a-zA-Z._]*)$/.exec(this.#of(node).trim());
    const us = match === null ? null : parseDurationUs(match[2]);
    if (match === null || us === null) throw this.#unsupported(node, 'a calculated duration');
    return match[1] === '-' ? -us : us;
  }

  #binary(node: SyntaxNode, depth: number, modify: Modifier): Expression {
    const [leftNode, rightNode] = childExpressions(node);
    const operatorNode = leftNode.nextSibling;
    if (operatorNode === null) throw this.#syntaxError(node.from, node.to);
    const operator = this.#of(operatorNode).toLowerCase();
    if (!isOneOf([...ARITHMETIC, ...COMPARISONS, ...SET_OPERATORS], operator)) throw this.#unsupported(operatorNode, 'this operator');
    if (node.getChild('FillModifier') !== null) throw this.#unsupported(node, 'a fill modifier');
    const left = this.#expression(leftNode, depth + 1);
    const right = this.#modified(rightNode, depth + 1, modify);
    const binary: Binary = {
      kind: 'binary',
      operator,
      left,
      right,
      bool: node.getChild('BoolModifier') !== null,
      matching: this.#matching(node),
    };
    this.#checkBinary(binary);
    // The grammar takes -1^2 for (-1)^2; Prometheus says -(1^2).
    if (operator === '^' && left.kind === 'number' && this.#of(leftNode).startsWith('-'))
      return { kind: 'negation', operand: { ...binary, left: { kind: 'number', value: -left.value } } };
    return binary;
  }

  #checkBinary({ operator, left, right, bool }: Binary): void {
    for (const type of [typeOf(left), typeOf(right)]) {
      if (type !== 'scalar' && type !== 'vector')
        throw badQuery(`binary expression must contain only scalar and instant vector types, got ${type}`);
      if (type === 'scalar' && isOneOf(SET_OPERATORS, operator))
        throw badQuery(`set operator ${JSON.stringify(operator)} not allowed in binary scalar expression`);
    }
    const isComparison = isOneOf(COMPARISONS, operator);
    if (bool && !isComparison) throw badQuery('bool modifier can only be used on comparison operators');
    if (isComparison && !bool && typeOf(left) === 'scalar' && typeOf(right) === 'scalar')
      throw badQuery('comparisons between scalars must use BOOL modifier');
  }

  #matching(node: SyntaxNode): VectorMatching {
    const clause = node.getChild('MatchingModifierClause');
    if (clause === null) return { on: false, labels: [] };
    if (clause.getChild('GroupLeft') !== null || clause.getChild('GroupRight') !== null)
      throw this.#unsupported(clause, 'matching of many series to one (group_left, group_right)');
    const labels = clause.getChild('GroupingLabels');
    return { on: clause.getChild('On') !== null, labels: labels === null ? [] : this.#labels(labels) };
  }

  #labels(node: SyntaxNode): string[] {
    return [
      ...node.getChildren('LabelName').map((child) => this.#of(child)),
      ...node.getChildren('QuotedLabelName').map((child) => unquote(this.#of(child))),
    ];
  }

  #aggregation(node: SyntaxNode, depth: number): Aggregation {
    const operatorNode = node.getChild('AggregateOp');
    const body = node.getChild('FunctionCallBody');
    if (operatorNode === null || body === null) throw this.#syntaxError(node.from, node.to);
    const operator = this.#of(operatorNode).toLowerCase();
    if (!isOneOf(AGGREGATIONS, operator)) throw this.#unsupported(operatorNode, 'this aggregation');
    const args = childExpressions(body).map((child) => this.#expression(child, depth + 1));
    const wanted = PARAMETER_AGGREGATIONS.includes(operator) ? 2 : 1;
    if (args.length !== wanted)
      throw badQuery(`wrong number of arguments for aggregate expression ${operator}: expected ${wanted}, got ${args.length}`);
    const operand = args[wanted - 1];
    const parameter = wanted === 2 ? args[0] : null;
    if (parameter !== null && typeOf(parameter) !== 'scalar')
      throw badQuery(`expected type scalar in aggregation parameter of ${operator}`);
    if (typeOf(operand) !== 'vector') throw badQuery(`expected type instant vector in aggregation ${operator}, got ${typeOf(operand)}`);
    return { kind: 'aggregation', operator, grouping: this.#grouping(node), parameter, operand };
  }

  #grouping(node: SyntaxNode): Grouping {
    const modifier = node.getChild('AggregateModifier');
    const labels = modifier?.getChild('GroupingLabels') ?? null;
    return { without: modifier?.getChild('Without') != null, labels: labels === null ? [] : this.#labels(labels) };
  }

  #call(node: SyntaxNode, depth: number): Call {
    const identifier = node.getChild('FunctionIdentifier');
    const body = node.getChild('FunctionCallBody');
    if (identifier === null || body === null) throw this.#syntaxError(node.from, node.to);
    const name = this.#of(identifier);
    const signature = Object.hasOwn(FUNCTIONS, name) ? FUNCTIONS[name] : undefined;
    if (signature === undefined) throw this.#unsupported(identifier, 'this function');
    const args = childExpressions(body).map((child) => this.#expression(child, depth + 1));
    if (args.length > signature.args.length || args.length < signature.args.length - signature.optional)
      throw badQuery(`expected ${signature.args.length} argument(s) in call to ${JSON.stringify(name)}, got ${args.length}`);
    args.forEach((argument, index) => {
      const type = typeOf(argument);
      if (type !== signature.args[index])
        throw badQuery(`expected type ${signature.args[index]} in call to function ${JSON.stringify(name)}, got ${type}`);
    });
    return { kind: 'call', name, args };
  }
}

const EXPRESSION_NODES: ReadonlySet<string> = new Set([
  'AggregateExpr',
  'BinaryExpr',
  'FunctionCall',
  'MatrixSelector',
  'NumberDurationLiteral',
  'OffsetExpr',
  'AnchoredExpr',
  'SmoothedExpr',
  'ParenExpr',
  'StringLiteral',
  'SubqueryExpr',
  'UnaryExpr',
  'VectorSelector',
  'StepInvariantExpr',
]);

function childExpressions(node: SyntaxNode): SyntaxNode[] {
  const found: SyntaxNode[] = [];
  for (let child = node.firstChild; child !== null; child = child.nextSibling) if (EXPRESSION_NODES.has(child.name)) found.push(child);
  return found;
}
