/** GET /v1/readings: raw readings, as they are in the lake. */
import { createRoute, z } from '@hono/zod-openapi';
import type { ReadingAnswer, ReadingCursor, ReadingQuery, ReadingRow } from '../query/query-api.ts';
import { answerFormat } from './answer-format.ts';
import {
  choiceParameter,
  cursorParameter,
  encodeCursor,
  formatParameter,
  limitParameter,
  listParameter,
  tagParameter,
  timeParameter,
  timeRange,
  wrongParameter,
} from './parameters.ts';
import { LIST_RESPONSES } from './problems.ts';
import {
  columnsOf,
  entityTag,
  isKnown,
  nextCursorSchema,
  notModified,
  rowsContent,
  rowsResponse,
  tagsOf,
  tagsSchema,
  timeSchema,
  unreadableFilesSchema,
} from './rows-answer.ts';
import type { HubApp, HubServices } from './service.ts';
import { formatTime } from './times.ts';
import { PAGE_HEADERS } from './warnings.ts';
import { tagFilter } from '../query/tags.ts';

const LIMIT_DEFAULT = 1_000;
/** Rows of a page. */
const LIMIT_MAX = 10_000;
/** Rows of a stream of lines, read page by page from one version. */
const STREAM_LIMIT_MAX = 1_000_000;
const RANGE_DEFAULT_US = 3_600_000_000;

const name = z.string().max(8_192);
/** The table's version, the range, then the last row's place in the total order. */
const cursorSchema = z.tuple([
  z.literal('r'),
  z.int().min(0),
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

const COLUMNS = columnsOf(rowSchema);

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
    'What is committed: a received reading is here one commit interval later (aggregates do not wait for it). Without `from`: the last hour. Pages are of one version of the table, on every hub of the lake, for a day (docs/http-api.md). JSON, Arrow and Parquet have at most 10,000 rows; NDJSON and CSV are streamed, up to 1,000,000.',
  request: {
    query: z.strictObject({
      from: timeParameter('First event time'),
      to: timeParameter('Event times before this; default now, and 5 minutes for devices whose clock is ahead', 'now'),
      gateway: listParameter('Only these gateways'),
      device: listParameter('Only these devices'),
      metric: listParameter('Only these metrics'),
      tag: tagParameter,
      order: choiceParameter(['asc', 'desc'], 'By event time; default asc'),
      limit: limitParameter(LIMIT_DEFAULT, STREAM_LIMIT_MAX),
      cursor: cursorParameter(cursorSchema),
      format: formatParameter,
    }),
  },
  responses: {
    200: { description: 'A page of rows', headers: PAGE_HEADERS, content: rowsContent(answerSchema) },
    ...LIST_RESPONSES,
  },
});

function cursorOf(version: number, fromUs: number, toUs: number, next: ReadingCursor): string {
  return encodeCursor([
    'r',
    version,
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
  const [, , , , tsUs, gateway, device, metric, tags, epoch, lane, seq, skip] = cursor;
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

export function mountReadings(app: HubApp, { query: service, engine, clock }: HubServices): void {
  app.openapi(route, async (c) => {
    const query = c.req.valid('query');
    const { cursor, limit } = query;
    const { fromUs, toUs } =
      cursor === undefined ? timeRange(query, clock.nowUs(), RANGE_DEFAULT_US) : { fromUs: cursor[2], toUs: cursor[3] };
    const format = answerFormat(query.format, c.req.header('accept'));
    const isStream = format === 'ndjson' || format === 'csv';
    if (limit > LIMIT_MAX && !isStream)
      throw wrongParameter(
        'limit',
        `${limit}, in ${format} at most ${LIMIT_MAX} are allowed; ndjson and csv have up to ${STREAM_LIMIT_MAX}`,
      );
    const known = c.req.header('if-none-match');
    if (known !== undefined) {
      const tag = entityTag([(await engine.status()).readingsVersion, fromUs, toUs], format, new URL(c.req.url).search);
      if (isKnown(tag, known)) return notModified(tag);
    }
    const asked: ReadingQuery = {
      fromUs,
      toUs,
      gateways: query.gateway ?? null,
      devices: query.device ?? null,
      metrics: query.metric ?? null,
      tags: tagFilter(query.tag),
      order: query.order ?? 'asc',
      limit: Math.min(limit, LIMIT_MAX),
      after: cursor === undefined ? null : placeOf(cursor),
      version: cursor?.[1] ?? null,
    };
    const answer = await service.readings(asked);
    const isWhole = limit <= LIMIT_MAX || answer.next === null;
    return rowsResponse(
      {
        format,
        head: {
          from: formatTime(fromUs),
          to: formatTime(toUs),
          readings_version: answer.readingsVersion,
          unreadable_files: answer.unreadable.length,
        },
        rows: answer.rows,
        render: renderReading,
        columns: COLUMNS,
        nextCursor: answer.next === null || !isWhole ? null : cursorOf(answer.readingsVersion, fromUs, toUs, answer.next),
        ...(isWhole ? {} : { more: pagesBehind(answer, asked, limit, service) }),
        version: [answer.readingsVersion, fromUs, toUs],
        warnings: {
          unreadableFiles: answer.unreadable.length,
          isVersionMoved: cursor !== undefined && cursor[1] !== answer.readingsVersion,
        },
      },
      c.req,
    );
  });
}

/** The pages of a stream behind its first, of the same version. */
function pagesBehind(
  first: ReadingAnswer,
  query: ReadingQuery,
  limit: number,
  service: HubServices['query'],
): () => Promise<readonly ReadingRow[] | null> {
  let { next } = first;
  let left = limit - first.rows.length;
  return async () => {
    if (next === null || left <= 0) return null;
    const page = await service.readings({ ...query, after: next, limit: Math.min(left, LIMIT_MAX), version: first.readingsVersion });
    next = page.next;
    left -= page.rows.length;
    return page.rows;
  };
}
