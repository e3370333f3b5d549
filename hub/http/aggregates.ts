/** GET /v1/aggregates. */
import { createRoute, z } from '@hono/zod-openapi';
import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { slideUsOf, usualDefinitions, type WindowDefinition } from '../../shared/window/definition.ts';
import { FILL_MODES } from '../query/fill.ts';
import type { AggregateFunction } from '../../shared/window/partial.ts';
import { documentEnd, windowRowTexts } from '../query/aggregate-document.ts';
import type { AggregateAnswer, AggregateCursor, AggregateQuery } from '../query/query-api.ts';
import { answerFormat } from './answer-format.ts';
import {
  choiceParameter,
  cursorParameter,
  durationParameter,
  encodeCursor,
  formatParameter,
  integerParameter,
  limitParameter,
  listParameter,
  timeParameter,
  wrongParameter,
} from './parameters.ts';
import { LIST_RESPONSES } from './problems.ts';
import { documentResponse, nextCursorSchema, rowsContent, rowsResponse, SLICE_ROWS, timeSchema } from './rows-answer.ts';
import type { HubApp, HubServices } from './service.ts';
import { formatTime, resolveTime } from './times.ts';
import { PAGE_HEADERS } from './warnings.ts';
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

/** A chart has no more pixels; the rows are merged in memory. */
const POINTS_MAX = 10_000;

/** Window, range, step, then the last row: all that must not move while the caller pages. */
const cursorSchema = z.tuple([
  z.literal('w'),
  z.string().max(64),
  z.int().min(0),
  z.int().min(0),
  z.int().min(0),
  z.int().min(0),
  z.string().max(GROUP_CHARACTERS_MAX),
]);

const GROUP_BY = ['gateway', 'device', 'metric', 'tags'];

function checkGroupKey(key: string): string | null {
  return GROUP_BY.includes(key) || /^tag:.+/s.test(key)
    ? null
    : `no key ${JSON.stringify(key.slice(0, 64))}, there are ${GROUP_BY.join(', ')} and tag:<key>`;
}

const answerSchema = z
  .object({
    window: z.string(),
    from: timeSchema,
    to: timeSchema,
    step_seconds: z.number().nullable().openapi({ description: 'Length of a row where windows are merged; null: a window a row' }),
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

/** Of the query's parameters. */
export function aggregatesQuerySchema(definitions: readonly WindowDefinition[]) {
  const names = definitions.map(({ name }) => name) as [string, ...string[]];
  return z.strictObject({
    window: choiceParameter(names, 'Name of a window (GET /v1/windows)', '; `step=5m` makes rows of any multiple of a window'),
    from: timeParameter('First window start'),
    to: timeParameter('Window starts before this; default now', 'now'),
    ...windowFilterParameters,
    group_by: listParameter(`Windows of several series as one: keys that are kept, of ${GROUP_BY.join(', ')}, tag:<key>`, checkGroupKey),
    step: durationParameter('Windows merged into rows of so long, a multiple of the window'),
    points: integerParameter(POINTS_MAX, 'About so many rows per series: chooses window and step'),
    fill: choiceParameter(['none', ...FILL_MODES], 'What windows without a reading show; default none: no row'),
    order: choiceParameter(['asc', 'desc'], 'By window start; default asc'),
    limit: limitParameter(LIMIT_DEFAULT, LIMIT_MAX),
    cursor: cursorParameter(cursorSchema),
    format: formatParameter,
  });
}

function route(definitions: readonly WindowDefinition[]) {
  return createRoute({
    method: 'get',
    path: '/v1/aggregates',
    summary: 'Windowed aggregates, by window start, then group',
    description: `Windows whose start is in [from, to). Without \`window\`: the coarsest that gives ${POINTS} points. Without \`from\`: the last hour, or ${POINTS} windows of the asked one. Fresh: readings that are received and not yet committed are in it.`,
    request: {
      query: aggregatesQuerySchema(definitions),
    },
    responses: {
      200: { description: 'A page of rows', headers: PAGE_HEADERS, content: rowsContent(answerSchema) },
      ...LIST_RESPONSES,
    },
  });
}

/** The coarsest window by series that gives enough points, the finest if none does. */
export function windowForRange(definitions: readonly WindowDefinition[], rangeUs: number, points = POINTS): WindowDefinition {
  const candidates = [...usualDefinitions(definitions)].sort((a, b) => b.sizeMs - a.sizeMs);
  return (candidates.find(({ sizeMs }) => sizeMs * 1000 * points <= rangeUs) ?? candidates.at(-1)) as WindowDefinition;
}

interface Range {
  readonly definition: WindowDefinition;
  readonly fromUs: number;
  readonly toUs: number;
  /** null: the windows as they are. */
  readonly stepUs: number | null;
  readonly after: AggregateCursor | null;
}

export type AggregatesQuery = z.output<ReturnType<typeof aggregatesQuerySchema>>;

/** @throws ParameterError */
function rangeOf(query: AggregatesQuery, definitions: readonly WindowDefinition[], nowUs: number): Range {
  const { cursor } = query;
  if (cursor !== undefined) {
    const [, name, fromUs, toUs, stepUs, windowStartUs, group] = cursor;
    if (query.window !== undefined && query.window !== name)
      throw wrongParameter('cursor', `it belongs to the window ${JSON.stringify(name)}, not to ${query.window}`);
    return {
      definition: definitionNamed(definitions, name),
      fromUs,
      toUs,
      stepUs: stepUs === 0 ? null : stepUs,
      after: { windowStartUs, group },
    };
  }
  const toUs = query.to === undefined ? nowUs : resolveTime(query.to, nowUs);
  const named = query.window === undefined ? null : definitionNamed(definitions, query.window);
  const defaultUs = named === null ? RANGE_DEFAULT_US : POINTS * named.sizeMs * 1000;
  const fromUs = query.from === undefined ? Math.max(0, toUs - defaultUs) : resolveTime(query.from, nowUs);
  if (fromUs >= toUs) throw wrongParameter('from', `${formatTime(fromUs)} is not before to, ${formatTime(toUs)}`);
  const definition = named ?? windowForStep(query, definitions, toUs - fromUs);
  const stepUs = stepOf(query, definition, toUs - fromUs);
  if (stepUs === null) return { definition, fromUs, toUs, stepUs, after: null };
  // Every row is of a whole step.
  return { definition, fromUs: Math.floor(fromUs / stepUs) * stepUs, toUs: Math.ceil(toUs / stepUs) * stepUs, stepUs, after: null };
}

/** The coarsest that the step is a multiple of, or that gives as many points. */
function windowForStep({ step, points }: AggregatesQuery, definitions: readonly WindowDefinition[], rangeUs: number): WindowDefinition {
  if (step === undefined) return windowForRange(definitions, rangeUs, points);
  const fitting = usualDefinitions(definitions).filter(({ sizeMs }) => step % (sizeMs * 1000) === 0);
  return [...fitting].sort((a, b) => b.sizeMs - a.sizeMs)[0] ?? windowForRange(definitions, 0);
}

/** @throws ParameterError where windows cannot be merged into the step */
function stepOf({ step, points }: AggregatesQuery, definition: WindowDefinition, rangeUs: number): number | null {
  if (step === undefined && points === undefined) return null;
  if (step !== undefined && points !== undefined) throw wrongParameter('points', 'either step or points, not both');
  const sizeUs = definition.sizeMs * 1000;
  if (slideUsOf(definition) !== sizeUs)
    throw wrongParameter(step === undefined ? 'points' : 'step', `windows of ${definition.name} overlap, and are not merged into steps`);
  if (step !== undefined && step % sizeUs !== 0)
    throw wrongParameter('step', `${step / 1e6} s is not a multiple of the window ${definition.name}, ${sizeUs / 1e6} s`);
  const stepUs = step ?? Math.max(1, Math.ceil(rangeUs / (points as number) / sizeUs)) * sizeUs;
  return stepUs === sizeUs ? null : stepUs;
}

/** As a document's, in slices: of the forms that are made on this thread. */
async function rowsVersion({ rows, waitingFor, next }: AggregateAnswer, functions: readonly AggregateFunction[]): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify([waitingFor, next]));
  for (let from = 0; from < rows.length; from += SLICE_ROWS) {
    if (from > 0) await nextTurn();
    for (const text of windowRowTexts(rows.slice(from, from + SLICE_ROWS), functions)) hash.update(text);
  }
  return hash.digest('base64url');
}

export interface Asked {
  readonly asked: AggregateQuery;
  /** Members of the answer before those that the rows bring, without braces. */
  readonly head: string;
  cursorOf(next: AggregateCursor | null): string | null;
  /** Everything that the rows were made from. */
  versionOf(rowsVersion: string): unknown;
}

/** @throws ParameterError */
export function askedOf(query: AggregatesQuery, definitions: readonly WindowDefinition[], nowUs: number): Asked {
  const { definition, fromUs, toUs, stepUs, after } = rangeOf(query, definitions, nowUs);
  const head = {
    window: definition.name,
    from: formatTime(fromUs),
    to: formatTime(toUs),
    step_seconds: stepUs === null ? null : stepUs / 1e6,
  };
  const everyUs = slideUsOf(definition);
  return {
    asked: {
      window: definition.name,
      fromUs,
      toUs,
      ...windowFilter(query, definition),
      groupBy: query.group_by ?? null,
      stepUs,
      fill: query.fill === undefined || query.fill === 'none' ? null : query.fill,
      order: query.order ?? 'asc',
      limit: query.limit,
      after,
    },
    head: JSON.stringify(head).slice(1, -1),
    cursorOf: (next) =>
      next === null ? null : encodeCursor(['w', definition.name, fromUs, toUs, stepUs ?? 0, next.windowStartUs, next.group]),
    versionOf: (rowsVersion) => [definition.name, Math.ceil(fromUs / everyUs), Math.ceil(toUs / everyUs), rowsVersion],
  };
}

export function mountAggregates(app: HubApp, { query: service, engine, clock }: HubServices): void {
  app.openapi(route(engine.definitions), async (c) => {
    const query = c.req.valid('query');
    const { asked, head, cursorOf, versionOf } = askedOf(query, engine.definitions, clock.nowUs());
    const { functions } = asked;
    const format = answerFormat(query.format, c.req.header('accept'));
    if (format === 'json') {
      const { bytes, next, rowsVersion } = await service.aggregatesDocument(asked, head);
      const nextCursor = cursorOf(next);
      return documentResponse({ parts: [bytes, Buffer.from(documentEnd(nextCursor))], nextCursor, version: versionOf(rowsVersion) }, c.req);
    }
    const answer = await service.aggregates(asked);
    return rowsResponse(
      {
        format,
        head: {
          ...(JSON.parse(`{${head}}`) as Record<string, unknown>),
          aggregates_version: answer.aggregatesVersion,
          readings_version: answer.readingsVersion,
          overlay_complete: answer.overlayComplete,
        },
        rows: answer.rows,
        render: (row) => renderWindowRow(row, functions),
        columns: windowRowColumns(functions),
        tail: { waiting_for: answer.waitingFor },
        nextCursor: cursorOf(answer.next),
        version: versionOf(await rowsVersion(answer, functions)),
        warnings: { isOverlayIncomplete: !answer.overlayComplete },
      },
      c.req,
    );
  });
}
