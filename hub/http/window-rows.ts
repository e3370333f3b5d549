/** A window's row as every answer has it: /v1/aggregates and /v1/stream. */
import { z } from '@hono/zod-openapi';
import type { WindowDefinition } from '../../shared/window/definition.ts';
import { DEFAULT_FUNCTIONS, NAMED_FUNCTIONS, parseFunction, type AggregateFunction } from '../../shared/window/partial.ts';
import { errorMessage } from '../../shared/errors.ts';
import type { AggregateRow } from '../query/query-api.ts';
import { listParameter, tagParameter, wrongParameter } from './parameters.ts';
import { columnsOf, tagsOf, tagsSchema, timeSchema, type RowColumn } from './rows-answer.ts';
import { formatTime } from './times.ts';
import { tagFilter } from '../query/tags.ts';

/** Each costs a pass over the histogram of every row. */
const FUNCTIONS_MAX = 32;

const value = z.number().nullable();

export const windowRowSchema = z
  .object({
    window_start: timeSchema,
    window_end: timeSchema,
    gateway: z.string().nullable(),
    device: z.string().nullable(),
    metric: z.string().nullable(),
    tags: tagsSchema,
    count: z.int(),
    ...Object.fromEntries(DEFAULT_FUNCTIONS.filter((name) => name !== 'count').map((name) => [name, value.optional()])),
    status: z
      .enum(['final', 'revised', 'provisional'])
      .openapi({ description: 'closed and nothing late; closed and something late; not closed' }),
    revision: z.int().openapi({ description: 'How often something late was merged in' }),
    late: z.int().openapi({ description: 'Readings that arrived after the window was closed; they are in the values' }),
    lost: z
      .int()
      .nullable()
      .openapi({ description: 'Readings of the window that exceptions say are missing; null: some are, and nobody knows how many' }),
    lost_is_estimate: z.boolean(),
    complete: z.boolean().openapi({ description: 'Closed, and no exception overlaps it' }),
  })
  .catchall(value)
  .openapi('WindowRow', { description: 'Keys that the window is not grouped by are null. One member per asked function.' });

function checkFunction(name: string): string | null {
  try {
    parseFunction(name);
    return null;
  } catch (error) {
    return errorMessage(error); // the message lists the functions
  }
}

/** What aggregates and stream have in common. */
export const windowFilterParameters = {
  gateway: listParameter('Only these gateways'),
  device: listParameter('Only these devices'),
  metric: listParameter('Only these metrics'),
  tag: tagParameter,
  functions: listParameter(
    `Of ${NAMED_FUNCTIONS.join(', ')}, p0 … p100; default ${DEFAULT_FUNCTIONS.join(',')}; count is always there`,
    checkFunction,
  ),
};

export interface WindowFilter {
  readonly gateways: readonly string[] | null;
  readonly devices: readonly string[] | null;
  readonly metrics: readonly string[] | null;
  readonly tags: Readonly<Record<string, readonly string[]>> | null;
  readonly functions: readonly AggregateFunction[];
}

/** @throws ParameterError for keys that the window does not have, and too many functions */
export function windowFilter(
  query: {
    readonly gateway?: readonly string[];
    readonly device?: readonly string[];
    readonly metric?: readonly string[];
    readonly tag?: readonly string[];
    readonly functions?: readonly string[];
  },
  definition: WindowDefinition,
): WindowFilter {
  for (const key of ['gateway', 'device', 'tag'] as const) {
    if (definition.by === 'metric' && query[key] !== undefined) {
      throw wrongParameter(
        key,
        `the window ${definition.name} is by metric over all gateways and devices; choose a window by series (GET /v1/windows)`,
      );
    }
  }
  const functions = [...new Set<AggregateFunction>(['count', ...(query.functions?.map(parseFunction) ?? DEFAULT_FUNCTIONS)])];
  if (functions.length > FUNCTIONS_MAX)
    throw wrongParameter('functions', `${functions.length} functions, at most ${FUNCTIONS_MAX} are allowed`);
  return {
    gateways: query.gateway ?? null,
    devices: query.device ?? null,
    metrics: query.metric ?? null,
    tags: tagFilter(query.tag),
    functions,
  };
}

/** @throws ParameterError when there is no window of the name */
export function definitionNamed(definitions: readonly WindowDefinition[], name: string): WindowDefinition {
  const definition = definitions.find((candidate) => candidate.name === name);
  if (definition === undefined)
    throw wrongParameter(
      'window',
      `no window ${JSON.stringify(name.slice(0, 64))}, there are ${definitions.map((candidate) => candidate.name).join(', ')}`,
    );
  return definition;
}

const SCHEMA_COLUMNS = columnsOf(windowRowSchema);

export function windowRowColumns(functions: readonly AggregateFunction[]): RowColumn[] {
  const places = ['window_start', 'window_end', 'gateway', 'device', 'metric', 'tags'];
  const trust = ['status', 'revision', 'late', 'lost', 'lost_is_estimate', 'complete'];
  const named = (name: string): RowColumn => ({ name, type: SCHEMA_COLUMNS.find((column) => column.name === name)?.type ?? 'text' });
  const values = functions.map((name): RowColumn => ({ name, type: name === 'count' ? 'long' : 'double' }));
  return [...places.map(named), ...values, ...trust.map(named)];
}

export function renderWindowRow(row: AggregateRow, functions: readonly AggregateFunction[]): Record<string, unknown> {
  const rendered: Record<string, unknown> = {
    window_start: formatTime(row.windowStartUs),
    window_end: formatTime(row.windowEndUs),
    gateway: row.gateway,
    device: row.device,
    metric: row.metric,
    tags: tagsOf(row.tags),
  };
  functions.forEach((name, index) => {
    rendered[name] = row.values[index] ?? null;
  });
  rendered['status'] = row.status;
  rendered['revision'] = row.revision;
  rendered['late'] = row.late;
  rendered['lost'] = row.lost;
  rendered['lost_is_estimate'] = row.lostIsEstimate;
  rendered['complete'] = row.complete;
  return rendered;
}
