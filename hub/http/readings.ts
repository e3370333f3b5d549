/** GET /v1/readings: raw readings, as they are in the lake. */
import { createRoute, z } from '@hono/zod-openapi';
import type { ReadingCursor, ReadingRow } from '../query/query-api.ts';
import {
  choiceParameter,
  cursorParameter,
  encodeCursor,
  formatParameter,
  limitParameter,
  listParameter,
  timeParameter,
  timeRange,
} from './parameters.ts';
import { PROBLEM_RESPONSES } from './problems.ts';
import { answerFormat, nextCursorSchema, rowsResponse, tagsOf, tagsSchema, timeSchema, unreadableFilesSchema } from './rows-answer.ts';
import type { HubApp, HubServices } from './service.ts';
import { formatTime } from './times.ts';

const LIMIT_DEFAULT = 1_000;
const LIMIT_MAX = 10_000;
const RANGE_DEFAULT_US = 3_600_000_000;

const name = z.string().max(8_192);
/** The range, then the last row's place in the total order. */
const cursorSchema = z.tuple([
  z.literal('r'),
  z.int().min(0),
  z.int().min(0),
  z.int(),
  name,
  name,
  name,
  name,
  name,
  name,
  z.int().min(0),
  z.int().min(0).max(1e9),
]);

const rowSchema = z
  .object({
    ts: timeSchema,
    gateway: z.string(),
    device: z.string(),
    metric: z.string(),
    tags: tagsSchema,
    value: z.number().nullable(),
    text: z.string().nullable().openapi({ description: 'Of a text reading, or the exact digits of an integer above 2^53' }),
    epoch: z.string(),
    lane: z.string(),
    seq: z.int(),
    ingested_at: timeSchema,
  })
  .openapi('Reading');

const COLUMNS = Object.keys(rowSchema.shape);

const answerSchema = z
  .object({
    from: timeSchema,
    to: timeSchema,
    readings_version: z.int().openapi({ description: 'Version of the lake table that the answer is from' }),
    unreadable_files: unreadableFilesSchema,
    rows: z.array(rowSchema),
    next_cursor: nextCursorSchema,
  })
  .openapi('Readings');

const route = createRoute({
  method: 'get',
  path: '/v1/readings',
  summary: 'Raw readings',
  description:
    'What is committed: a received reading is here one commit interval later (aggregates do not wait for it). Without `from`: the last hour.',
  request: {
    query: z.strictObject({
      from: timeParameter('First event time'),
      to: timeParameter('Event times before this; default now, and 5 minutes for devices whose clock is ahead'),
      gateway: listParameter('Only these gateways'),
      device: listParameter('Only these devices'),
      metric: listParameter('Only these metrics'),
      order: choiceParameter(['asc', 'desc'], 'By event time; default asc'),
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

function cursorOf(fromUs: number, toUs: number, next: ReadingCursor): string {
  return encodeCursor([
    'r',
    fromUs,
    toUs,
    next.tsUs,
    next.gateway,
    next.device,
    next.metric,
    next.tags,
    next.epoch,
    next.lane,
    next.seq,
    next.skip,
  ]);
}

function placeOf(cursor: z.output<typeof cursorSchema>): ReadingCursor {
  const [, , , tsUs, gateway, device, metric, tags, epoch, lane, seq, skip] = cursor;
  return { tsUs, gateway, device, metric, tags, epoch, lane, seq, skip };
}

function renderReading(row: ReadingRow): Record<string, unknown> {
  return {
    ts: formatTime(row.tsUs),
    gateway: row.gateway,
    device: row.device,
    metric: row.metric,
    tags: tagsOf(row.tags),
    value: row.value,
    text: row.text,
    epoch: row.epoch,
    lane: row.lane,
    seq: row.seq,
    ingested_at: formatTime(row.ingestedUs),
  };
}

export function mountReadings(app: HubApp, { query: service, clock }: HubServices): void {
  app.openapi(route, async (c) => {
    const query = c.req.valid('query');
    const { cursor } = query;
    const { fromUs, toUs } =
      cursor === undefined ? timeRange(query, clock.nowUs(), RANGE_DEFAULT_US) : { fromUs: cursor[1], toUs: cursor[2] };
    const answer = await service.readings({
      fromUs,
      toUs,
      gateways: query.gateway ?? null,
      devices: query.device ?? null,
      metrics: query.metric ?? null,
      order: query.order ?? 'asc',
      limit: query.limit,
      after: cursor === undefined ? null : placeOf(cursor),
    });
    return rowsResponse(
      {
        format: answerFormat(query.format, c.req.header('accept')),
        head: {
          from: formatTime(fromUs),
          to: formatTime(toUs),
          readings_version: answer.readingsVersion,
          unreadable_files: answer.unreadable.length,
        },
        rows: answer.rows,
        render: renderReading,
        columns: COLUMNS,
        nextCursor: answer.next === null ? null : cursorOf(fromUs, toUs, answer.next),
      },
      c.req.url,
    );
  });
}
