/** GET /v1/exceptions: what is not in `readings`, and why. */
import { createRoute, z } from '@hono/zod-openapi';
import type { ExceptionRow } from '../query/query-api.ts';
import {
  cursorParameter,
  encodeCursor,
  formatParameter,
  limitParameter,
  listParameter,
  shown,
  timeParameter,
  timeRange,
} from './parameters.ts';
import { PROBLEM_RESPONSES } from './problems.ts';
import { answerFormat, nextCursorSchema, rowsResponse, timeSchema, unreadableFilesSchema } from './rows-answer.ts';
import type { HubApp, HubServices } from './service.ts';
import { formatTime } from './times.ts';

const LIMIT_DEFAULT = 100;
const LIMIT_MAX = 1_000;
const RANGE_DEFAULT_US = 30 * 86_400_000_000;
/** DuckDB sorts what it skips. */
const OFFSET_MAX = 1_000_000;
const KINDS: readonly string[] = ['gap', 'dead_letter', 'quarantined'];

const cursorSchema = z.tuple([z.literal('e'), z.int().min(0), z.int().min(0), z.int().min(0).max(OFFSET_MAX)]);

const rowSchema = z
  .object({
    id: z.string().openapi({ description: 'gateway/epoch/lane/seq/index' }),
    kind: z.string(),
    gateway: z.string(),
    device: z.string().nullable().openapi({ description: 'null: several, or unknown' }),
    metric: z.string().nullable().openapi({ description: 'null: several, or unknown' }),
    from_ts: timeSchema,
    to_ts: timeSchema,
    reading_count: z.int().nullable().openapi({ description: 'null: unknown' }),
    reason: z.string(),
    payload: z.string().nullable().openapi({ description: 'What was received, base64; a dead letter has its first 4096 bytes' }),
    ingested_at: timeSchema,
  })
  .openapi('Exception');

const COLUMNS = Object.keys(rowSchema.shape);

const answerSchema = z
  .object({
    from: timeSchema,
    to: timeSchema,
    exceptions_version: z.int(),
    unreadable_files: unreadableFilesSchema,
    rows: z.array(rowSchema),
    next_cursor: nextCursorSchema,
  })
  .openapi('Exceptions');

const route = createRoute({
  method: 'get',
  path: '/v1/exceptions',
  summary: 'Exceptions: gaps, dead letters, quarantined readings; newest first',
  description: 'Those whose time range overlaps [from, to) and that are committed. Without `from`: the last 30 days.',
  request: {
    query: z.strictObject({
      from: timeParameter('Start of the range'),
      to: timeParameter('End of the range; default now, and 5 minutes for devices whose clock is ahead'),
      gateway: listParameter('Only these gateways'),
      device: listParameter('Only these devices'),
      metric: listParameter('Only these metrics'),
      kind: listParameter(`Of ${KINDS.join(', ')}`, (kind) =>
        KINDS.includes(kind) ? null : `${shown(kind)}, there are ${KINDS.join(', ')}`,
      ),
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

function renderException(row: ExceptionRow): Record<string, unknown> {
  return {
    id: `${row.gateway}/${row.epoch}/${row.lane}/${row.seq}/${row.idx}`,
    kind: row.kind,
    gateway: row.gateway,
    device: row.device,
    metric: row.metric,
    from_ts: formatTime(row.fromUs),
    to_ts: formatTime(row.toUs),
    reading_count: row.readingCount,
    reason: row.reason,
    payload: row.payload === null ? null : Buffer.from(row.payload).toString('base64'),
    ingested_at: formatTime(row.ingestedUs),
  };
}

export function mountExceptions(app: HubApp, { query: service, clock }: HubServices): void {
  app.openapi(route, async (c) => {
    const query = c.req.valid('query');
    const { cursor, limit } = query;
    const { fromUs, toUs } =
      cursor === undefined ? timeRange(query, clock.nowUs(), RANGE_DEFAULT_US) : { fromUs: cursor[1], toUs: cursor[2] };
    const offset = cursor?.[3] ?? 0;
    const answer = await service.exceptions({
      fromUs,
      toUs,
      gateways: query.gateway ?? null,
      devices: query.device ?? null,
      metrics: query.metric ?? null,
      kinds: query.kind ?? null,
      limit,
      offset,
    });
    const nextOffset = offset + answer.rows.length;
    return rowsResponse(
      {
        format: answerFormat(query.format, c.req.header('accept')),
        head: {
          from: formatTime(fromUs),
          to: formatTime(toUs),
          exceptions_version: answer.exceptionsVersion,
          unreadable_files: answer.unreadable.length,
        },
        rows: answer.rows,
        render: renderException,
        columns: COLUMNS,
        nextCursor: answer.hasMore && nextOffset <= OFFSET_MAX ? encodeCursor(['e', fromUs, toUs, nextOffset]) : null,
      },
      c.req.url,
    );
  });
}
