/** GET /v1/aggregates. */
import { createRoute, z } from '@hono/zod-openapi';
import { usualDefinitions, type WindowDefinition } from '../../shared/window/definition.ts';
import type { AggregateCursor } from '../query/query-api.ts';
import {
  choiceParameter,
  cursorParameter,
  encodeCursor,
  formatParameter,
  limitParameter,
  timeParameter,
  wrongParameter,
} from './parameters.ts';
import { PROBLEM_RESPONSES } from './problems.ts';
import { answerFormat, nextCursorSchema, rowsResponse, timeSchema } from './rows-answer.ts';
import type { HubApp, HubServices } from './service.ts';
import { formatTime, resolveTime } from './times.ts';
import {
  definitionNamed,
  renderWindowRow,
  windowFilter,
  windowFilterParameters,
  windowRowColumns,
  windowRowSchema,
} from './window-rows.ts';

const LIMIT_DEFAULT = 1_000;
const LIMIT_MAX = 10_000;
/** A chart wants so many points. */
const POINTS = 60;
const RANGE_DEFAULT_US = 3_600_000_000;
/** The four keys of a group, each at most a name or a tag set of a few names. */
const GROUP_CHARACTERS_MAX = 8_192;

/** Window, end of the range, then the last row: all that must not move while the caller pages. */
const cursorSchema = z.tuple([z.literal('w'), z.string().max(64), z.int().min(0), z.int().min(0), z.string().max(GROUP_CHARACTERS_MAX)]);

const answerSchema = z
  .object({
    window: z.string(),
    from: timeSchema,
    to: timeSchema,
    aggregates_version: z.int().openapi({ description: 'Version of the lake table `aggregates` behind the answer' }),
    readings_version: z.int().openapi({
      description: 'Version of the lake table `readings` behind the answer; what is received and not yet committed is in it too',
    }),
    overlay_complete: z
      .boolean()
      .openapi({ description: 'false: memory was short, some received readings show only once they are committed' }),
    rows: z.array(windowRowSchema),
    waiting_for: z.array(z.string()).openapi({ description: 'Gateways that keep a window of this page open' }),
    next_cursor: nextCursorSchema,
  })
  .openapi('Aggregates');

function route(definitions: readonly WindowDefinition[]) {
  const names = definitions.map(({ name }) => name) as [string, ...string[]];
  return createRoute({
    method: 'get',
    path: '/v1/aggregates',
    summary: 'Windowed aggregates, by window start, then group',
    description: `Windows whose start is in [from, to). Without \`window\`: the coarsest that gives ${POINTS} points. Without \`from\`: the last hour, or ${POINTS} windows of the asked one. Fresh: readings that are received and not yet committed are in it.`,
    request: {
      query: z.strictObject({
        window: choiceParameter(names, 'Name of a window (GET /v1/windows)'),
        from: timeParameter('First window start'),
        to: timeParameter('Window starts before this; default now'),
        ...windowFilterParameters,
        limit: limitParameter(LIMIT_DEFAULT, LIMIT_MAX),
        cursor: cursorParameter(cursorSchema),
        format: formatParameter,
      }),
    },
    responses: {
      200: { description: 'A page of rows', content: { 'application/json': { schema: answerSchema }, 'text/csv': { schema: z.string() } } },
      ...PROBLEM_RESPONSES,
    },
  });
}

/** The coarsest window by series that gives enough points, the finest if none does. */
export function windowForRange(definitions: readonly WindowDefinition[], rangeUs: number): WindowDefinition {
  const candidates = [...usualDefinitions(definitions)].sort((a, b) => b.sizeMs - a.sizeMs);
  return (candidates.find(({ sizeMs }) => sizeMs * 1000 * POINTS <= rangeUs) ?? candidates.at(-1)) as WindowDefinition;
}

interface Range {
  readonly definition: WindowDefinition;
  readonly fromUs: number;
  readonly toUs: number;
  readonly after: AggregateCursor | null;
}

type Query = z.output<ReturnType<typeof route>['request']['query']>;

/** @throws ParameterError */
function rangeOf(query: Query, definitions: readonly WindowDefinition[], nowUs: number): Range {
  const { cursor } = query;
  if (cursor !== undefined && query.window !== undefined && query.window !== cursor[1]) {
    throw wrongParameter('cursor', `it belongs to the window ${JSON.stringify(cursor[1])}, not to ${query.window}`);
  }
  const toUs = cursor?.[2] ?? (query.to === undefined ? nowUs : resolveTime(query.to, nowUs));
  const name = query.window ?? cursor?.[1];
  const named = name === undefined ? null : definitionNamed(definitions, name);
  const defaultUs = query.window === undefined || named === null ? RANGE_DEFAULT_US : POINTS * named.sizeMs * 1000;
  const fromUs = query.from === undefined ? Math.max(0, toUs - defaultUs) : resolveTime(query.from, nowUs);
  if (fromUs >= toUs) throw wrongParameter('from', `${formatTime(fromUs)} is not before to, ${formatTime(toUs)}`);
  const definition = named ?? windowForRange(definitions, toUs - fromUs);
  return { definition, fromUs, toUs, after: cursor === undefined ? null : { windowStartUs: cursor[3], group: cursor[4] } };
}

export function mountAggregates(app: HubApp, { query: service, engine, clock }: HubServices): void {
  app.openapi(route(engine.definitions), async (c) => {
    const query = c.req.valid('query');
    const { definition, fromUs, toUs, after } = rangeOf(query, engine.definitions, clock.nowUs());
    const filter = windowFilter(query, definition);
    const answer = await service.aggregates({ window: definition.name, fromUs, toUs, ...filter, limit: query.limit, after });
    return rowsResponse(
      {
        format: answerFormat(query.format, c.req.header('accept')),
        head: {
          window: definition.name,
          from: formatTime(fromUs),
          to: formatTime(toUs),
          aggregates_version: answer.aggregatesVersion,
          readings_version: answer.readingsVersion,
          overlay_complete: answer.overlayComplete,
        },
        rows: answer.rows,
        render: (row) => renderWindowRow(row, filter.functions),
        columns: windowRowColumns(filter.functions),
        tail: { waiting_for: answer.waitingFor },
        nextCursor: answer.next === null ? null : encodeCursor(['w', definition.name, toUs, answer.next.windowStartUs, answer.next.group]),
      },
      c.req.url,
    );
  });
}
