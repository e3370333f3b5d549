/** GET /v1/exceptions: what is not in `readings`, and why. */
import { createRoute, z } from '@hono/zod-openapi';
import type { ExceptionCursor, ExceptionRow } from '../query/query-api.ts';
import { answerFormat } from './answer-format.ts';
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
import { LIST_RESPONSES } from './problems.ts';
import { columnsOf, nextCursorSchema, rowsContent, rowsResponse, timeSchema, unreadableFilesSchema } from './rows-answer.ts';
import { exceptionIdText, releaseEpoch } from '../release-lane.ts';
import type { HubApp, HubServices } from './service.ts';
import { formatTime } from './times.ts';
import { PAGE_HEADERS } from './warnings.ts';

const LIMIT_DEFAULT = 100;
const LIMIT_MAX = 1_000;
const RANGE_DEFAULT_US = 30 * 86_400_000_000;
const KINDS: readonly string[] = ['gap', 'dead_letter', 'quarantined'];

const name = z.string().max(8_192);
/** The table's version, the range, then the last row: when it was received, and its id. */
const cursorSchema = z.tuple([z.literal('e'), z.int().min(0), z.int().min(0), z.int().min(0), z.int(), name, name, name, z.int(), z.int()]);

function placeOf([, , , , ingestedUs, gateway, epoch, lane, seq, idx]: z.output<typeof cursorSchema>): ExceptionCursor {
  return { ingestedUs, gateway, epoch, lane, seq, idx };
}

const rowSchema = z
  .object({
    id: z.string().openapi({ description: 'gateway/epoch/lane/seq/index' }),
    kind: z.string(),
    gateway: z.string().openapi({ description: 'Empty: several, or unknown' }),
    device: z.string().nullable().openapi({ description: 'null: several, or unknown' }),
    metric: z.string().nullable().openapi({ description: 'null: several, or unknown' }),
    from_ts: timeSchema,
    to_ts: timeSchema,
    reading_count: z.int().nullable().openapi({ description: 'null: unknown' }),
    reason: z.string(),
    payload: z.string().nullable().openapi({ description: 'What was received, base64; a dead letter has its first 4096 bytes' }),
    ingested_at: timeSchema,
    released: z.boolean().openapi({ description: 'Its readings are in `readings` by now (POST /v1/exceptions/release)' }),
  })
  .openapi('Exception');

const COLUMNS = columnsOf(rowSchema);

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
      to: timeParameter('End of the range; default now, and 5 minutes for devices whose clock is ahead', 'now'),
      gateway: listParameter('Only these gateways, and what may be of any: damage to a file of the lake'),
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
    200: { description: 'A page of rows', headers: PAGE_HEADERS, content: rowsContent(answerSchema) },
    ...LIST_RESPONSES,
  },
});

function renderException(row: ExceptionRow, released: ReadonlySet<string>): Record<string, unknown> {
  return {
    id: exceptionIdText(row),
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
    released: row.kind === 'quarantined' && released.has(releaseEpoch(row)),
  };
}

export function mountExceptions(app: HubApp, { query: service, engine, clock }: HubServices): void {
  app.openapi(route, async (c) => {
    const query = c.req.valid('query');
    const { cursor, limit } = query;
    const { fromUs, toUs } =
      cursor === undefined ? timeRange(query, clock.nowUs(), RANGE_DEFAULT_US) : { fromUs: cursor[2], toUs: cursor[3] };
    const answer = await service.exceptions({
      fromUs,
      toUs,
      gateways: query.gateway ?? null,
      devices: query.device ?? null,
      metrics: query.metric ?? null,
      kinds: query.kind ?? null,
      limit,
      after: cursor === undefined ? null : placeOf(cursor),
      version: cursor?.[1] ?? null,
    });
    const { next } = answer;
    const epochs = (await engine.status()).releasedEpochs ?? [];
    const released = new Set(epochs);
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
        render: (row) => renderException(row, released),
        columns: COLUMNS,
        nextCursor:
          next === null
            ? null
            : encodeCursor([
                'e',
                answer.exceptionsVersion,
                fromUs,
                toUs,
                next.ingestedUs,
                next.gateway,
                next.epoch,
                next.lane,
                next.seq,
                next.idx,
              ]),
        version: [answer.exceptionsVersion, epochs.length, fromUs, toUs],
        warnings: {
          unreadableFiles: answer.unreadable.length,
          isVersionMoved: cursor !== undefined && cursor[1] !== answer.exceptionsVersion,
        },
      },
      c.req,
    );
  });
}
