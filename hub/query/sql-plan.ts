/**
 * What a statement reads, from DuckDB's own syntax tree: which views, and which part of them by time and name. Pure.
 *
 * The tree decides what is refused: a table function outside TABLE_FUNCTIONS reads files or the engine's insides. DuckDB
 * refuses files on its own (external access is off); this is the second lock, and it says what would be right.
 *
 * A range is taken from the top-level conditions (joined by AND) of a SELECT whose FROM is the view alone, since only
 * there does every row that the statement can see satisfy them. Everything else asks for the whole view; a view that is named several times
 * asks for the union. So the range may be too wide, which costs time, and never too narrow.
 */
import { SluiceError } from '../../shared/errors.ts';
import type { SqlQuery, SqlValue } from './sql-api.ts';

export const SQL_VIEWS = ['readings', 'aggregates', 'exceptions', 'devices', 'alerts'] as const;
export type SqlView = (typeof SQL_VIEWS)[number];

export const TABLE_FUNCTIONS: readonly string[] = ['range', 'generate_series', 'unnest', 'repeat', 'repeat_row', 'json_each', 'json_tree'];

/** A node of the tree that json_serialize_sql makes. */
export type SqlNode = Readonly<Record<string, unknown>>;

/** A comparison of a view's column with something that names no column. */
export interface SqlCondition {
  readonly column: string;
  readonly operator: '>=' | '<=' | 'in';
  /** Bound values are in their places. Several for `in`. */
  readonly constants: readonly SqlNode[];
}

/** Of one mention of a view; null: no condition is known. */
export type SqlMention = readonly SqlCondition[];

export type SqlMentions = ReadonlyMap<SqlView, readonly SqlMention[]>;

function isNode(value: unknown): value is SqlNode {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function childrenOf(value: unknown): unknown[] {
  if (Array.isArray(value)) return value as unknown[];
  return isNode(value) ? Object.values(value) : [];
}

/** @throws SluiceError ERR_SQL_REFUSED for table functions and schemas outside the views */
export function mentionsOf(tree: SqlNode, parameters: SqlQuery['parameters']): SqlMentions {
  const mentions = new Map<SqlView, SqlMention[]>();
  const visit = (value: unknown, conditionsFor: (view: SqlNode) => SqlMention): void => {
    if (isNode(value)) {
      if (value['type'] === 'TABLE_FUNCTION') checkTableFunction(value);
      if (value['type'] === 'BASE_TABLE' || value['type'] === 'SHOW_REF') {
        const view = viewOf(value);
        if (view !== null) mentions.set(view, [...(mentions.get(view) ?? []), conditionsFor(value)]);
        if (isCatalogue(value)) for (const each of SQL_VIEWS) mentions.set(each, [...(mentions.get(each) ?? []), NO_ROWS]);
      }
      if (value['type'] === 'SELECT_NODE') {
        for (const [key, child] of Object.entries(value)) {
          visit(child, key === 'from_table' ? (table) => (table === child ? conditionsOf(value, table, parameters) : []) : () => []);
        }
        return;
      }
    }
    for (const child of childrenOf(value)) visit(child, conditionsFor);
  };
  visit(tree, () => []);
  return mentions;
}

function checkTableFunction(node: SqlNode): void {
  const name = isNode(node['function']) ? String(node['function']['function_name']).toLowerCase() : '';
  if (TABLE_FUNCTIONS.includes(name)) return;
  throw new SluiceError(
    'ERR_SQL_REFUSED',
    `the table function ${name.slice(0, 64)} is not allowed; there are the views ${SQL_VIEWS.join(', ')} and the functions ${TABLE_FUNCTIONS.join(', ')}`,
  );
}

function viewOf(node: SqlNode): SqlView | null {
  const name = String(node['table_name']).toLowerCase();
  return SQL_VIEWS.find((view) => view === name) ?? null;
}

/** `SHOW TABLES` and the tables about tables: they list what was made, so every view has to be. */
function isCatalogue(node: SqlNode): boolean {
  if (node['type'] === 'SHOW_REF') return node['query'] === null;
  const schema = String(node['schema_name']).toLowerCase();
  return schema === 'information_schema' || schema === 'pg_catalog' || /^(?:duckdb|pg|sqlite)_/i.test(String(node['table_name']));
}

function conditionsOf(select: SqlNode, table: SqlNode, parameters: SqlQuery['parameters']): SqlMention {
  // Renamed columns are not followed.
  if (Array.isArray(table['column_name_alias']) && table['column_name_alias'].length > 0) return [];
  const alias = String(table['alias'] === '' ? table['table_name'] : table['alias']).toLowerCase();
  return conjuncts(select['where_clause']).flatMap((condition) => comparisonsOf(condition, alias, parameters));
}

function conjuncts(condition: unknown): SqlNode[] {
  if (!isNode(condition)) return [];
  if (condition['type'] === 'CONJUNCTION_AND') return (condition['children'] as unknown[]).flatMap(conjuncts);
  return [condition];
}

const COMPARISONS: Readonly<Record<string, { readonly operator: SqlCondition['operator']; readonly flipped: SqlCondition['operator'] }>> = {
  COMPARE_EQUAL: { operator: 'in', flipped: 'in' },
  COMPARE_GREATERTHAN: { operator: '>=', flipped: '<=' },
  COMPARE_GREATERTHANOREQUALTO: { operator: '>=', flipped: '<=' },
  COMPARE_LESSTHAN: { operator: '<=', flipped: '>=' },
  COMPARE_LESSTHANOREQUALTO: { operator: '<=', flipped: '>=' },
};

function comparisonsOf(node: SqlNode, alias: string, parameters: SqlQuery['parameters']): SqlCondition[] {
  const condition = (column: unknown, operator: SqlCondition['operator'], given: readonly unknown[]): SqlCondition[] => {
    const name = columnOf(column, alias);
    const constants = given.map((constant) => constantOf(constant, parameters));
    return name === null || constants.includes(null) ? [] : [{ column: name, operator, constants: constants as SqlNode[] }];
  };
  if (node['class'] === 'COMPARISON') {
    const kind = COMPARISONS[String(node['type'])];
    if (kind === undefined) return [];
    return [...condition(node['left'], kind.operator, [node['right']]), ...condition(node['right'], kind.flipped, [node['left']])];
  }
  if (node['type'] === 'COMPARE_BETWEEN')
    return [...condition(node['input'], '>=', [node['lower']]), ...condition(node['input'], '<=', [node['upper']])];
  if (node['type'] === 'COMPARE_IN') {
    const [column, ...list] = node['children'] as unknown[];
    return condition(column, 'in', list);
  }
  return [];
}

function columnOf(node: unknown, alias: string): string | null {
  if (!isNode(node) || node['class'] !== 'COLUMN_REF') return null;
  const names = (node['column_names'] as string[]).map((name) => name.toLowerCase());
  if (names.length === 1) return names[0];
  return names.length === 2 && names[0] === alias ? names[1] : null;
}

/** Whatever else a constant is made with, it is not looked at: the whole view is read then. */
const CONSTANT_FUNCTIONS = new Set(
  '+ - * now get_current_timestamp today trunc date_trunc make_timestamp make_date epoch_ms to_timestamp to_microseconds to_milliseconds to_seconds to_minutes to_hours to_days to_weeks to_months to_years'.split(
    ' ',
  ),
);

/** The expression with bound values in their places; null: it is not a constant that is known to be harmless. */
function constantOf(node: unknown, parameters: SqlQuery['parameters']): SqlNode | null {
  if (!isNode(node)) return null;
  if (node['class'] === 'CONSTANT') return node;
  if (node['class'] === 'PARAMETER') {
    const name = String(node['identifier']);
    const value = Array.isArray(parameters)
      ? (parameters as readonly SqlValue[])[Number(name) - 1]
      : (parameters as Record<string, SqlValue>)[name];
    return typeof value === 'string' ? constantNode('VARCHAR', value) : null;
  }
  if (node['class'] === 'COLUMN_REF') {
    // DuckDB reads the word as a column first, and as the function where there is none: the views have no such column.
    const names = node['column_names'] as string[];
    return names.length === 1 && names[0].toLowerCase() === 'current_timestamp' ? nowNode(node) : null;
  }
  if (node['class'] === 'CAST') {
    const child = constantOf(node['child'], parameters);
    return child === null ? null : { ...node, child };
  }
  if (node['class'] === 'FUNCTION' && CONSTANT_FUNCTIONS.has(String(node['function_name']))) {
    const children = (node['children'] as unknown[]).map((child) => constantOf(child, parameters));
    return children.includes(null) ? null : { ...node, children };
  }
  return null;
}

function constantNode(type: string, value: string): SqlNode {
  return { class: 'CONSTANT', type: 'VALUE_CONSTANT', alias: '', value: { type: { id: type, type_info: null }, is_null: false, value } };
}

/** Of a view of which only the columns are wanted. */
const NO_ROWS: SqlMention = ['ts', 'window_start'].map((column) => ({
  column,
  operator: '<=',
  constants: [constantNode('VARCHAR', '0001-01-01')],
}));

function nowNode(node: SqlNode): SqlNode {
  return {
    class: 'FUNCTION',
    type: 'FUNCTION',
    alias: '',
    query_location: node['query_location'],
    function_name: 'now',
    schema: '',
    children: [],
    filter: null,
    order_bys: { type: 'ORDER_MODIFIER', orders: [] },
    distinct: false,
    is_operator: false,
    export_state: false,
    catalog: '',
  };
}

/** `EXPLAIN`, `EXPLAIN ANALYZE` and the rest; comments in front are skipped. */
export function splitExplain(sql: string): { readonly explain: '' | 'EXPLAIN' | 'EXPLAIN ANALYZE'; readonly select: string } {
  const match = /^(?:\s|--[^\n]*\n|\/\*(?:[^*]|\*(?!\/))*\*\/)*explain\b(?:\s+(analyze)\b)?/i.exec(sql);
  if (match === null) return { explain: '', select: sql };
  return { explain: match[1] === undefined ? 'EXPLAIN' : 'EXPLAIN ANALYZE', select: sql.slice(match[0].length) };
}
