/** GET /v1/series and /v1/devices: what there is to ask for. */
import { createRoute, z } from '@hono/zod-openapi';
import type { DeviceRow, SeriesPage, SeriesQuery, SeriesRow } from '../query/query-api.ts';
import { answerFormat } from './answer-format.ts';
import { cursorParameter, encodeCursor, formatParameter, limitParameter, listParameter, tagParameter } from './parameters.ts';
import { LIST_RESPONSES } from './problems.ts';
import {
  columnsOf,
  nextCursorSchema,
  rowsContent,
  rowsResponse,
  tagsOf,
  tagsSchema,
  timeSchema,
  type RowsAnswer,
  type RowsRequest,
} from './rows-answer.ts';
import type { HubApp, HubServices } from './service.ts';
import { formatTimeOrNull } from './times.ts';
import { PAGE_HEADERS } from './warnings.ts';
import { tagFilter } from '../query/tags.ts';

const LIMIT_DEFAULT = 1_000;
const LIMIT_MAX = 10_000;

const cursorSchema = z.tuple([z.literal('k'), z.string().max(8_192)]);

const filterParameters = {
  gateway: listParameter('Only these gateways'),
  device: listParameter('Only these devices'),
  metric: listParameter('Only these metrics'),
  tag: tagParameter,
};
const querySchema = z.strictObject({
  ...filterParameters,
  limit: limitParameter(LIMIT_DEFAULT, LIMIT_MAX),
  cursor: cursorParameter(cursorSchema),
  format: formatParameter,
});
type Query = z.output<typeof querySchema>;

const timeOrNull = timeSchema.nullable();
const truncatedSchema = z.boolean().openapi({ description: 'true: there are more series than the hub lists' });

const seriesSchema = z
  .object({
    gateway: z.string(),
    device: z.string(),
    metric: z.string(),
    tags: tagsSchema,
    count: z.int().openapi({ description: 'Readings: numbers in the lake and in memory, texts in the lake' }),
    first_ts: timeOrNull,
    last_ts: timeOrNull,
    last_value: z.number().nullable(),
    last_text: z.string().nullable().openapi({ description: 'Where the newest reading is a text: its first 256 characters' }),
  })
  .openapi('Series');

const deviceSchema = z
  .object({
    gateway: z.string(),
    device: z.string(),
    metrics: z.array(z.string()),
    series: z.int(),
    count: z.int(),
    first_ts: timeOrNull,
    last_ts: timeOrNull,
  })
  .openapi('Device');

function routeOf(path: '/v1/series' | '/v1/devices', summary: string, row: z.ZodType) {
  return createRoute({
    method: 'get',
    path,
    summary,
    description: 'Everything that ever had a reading, by name.',
    request: { query: querySchema },
    responses: {
      200: {
        description: 'A page of rows',
        headers: PAGE_HEADERS,
        content: rowsContent(z.object({ truncated: truncatedSchema, rows: z.array(row), next_cursor: nextCursorSchema })),
      },
      ...LIST_RESPONSES,
    },
  });
}

const seriesRoute = routeOf('/v1/series', 'All series', seriesSchema);
const devicesRoute = routeOf('/v1/devices', 'All devices, with their metrics', deviceSchema);

function seriesQueryOf(query: Query): SeriesQuery {
  const { gateway = null, device = null, metric = null, limit, cursor } = query;
  return { gateways: gateway, devices: device, metrics: metric, tags: tagFilter(query.tag), limit, after: cursor?.[1] ?? null };
}

function renderSeries(row: SeriesRow): Record<string, unknown> {
  return {
    gateway: row.gateway,
    device: row.device,
    metric: row.metric,
    tags: tagsOf(row.tags),
    count: row.count,
    first_ts: formatTimeOrNull(row.firstTsUs),
    last_ts: formatTimeOrNull(row.lastTsUs),
    last_value: row.lastValue,
    last_text: row.lastText ?? null,
  };
}

function renderDevice(row: DeviceRow): Record<string, unknown> {
  return {
    gateway: row.gateway,
    device: row.device,
    metrics: row.metrics,
    series: row.series,
    count: row.count,
    first_ts: formatTimeOrNull(row.firstTsUs),
    last_ts: formatTimeOrNull(row.lastTsUs),
  };
}

export function mountSeries(app: HubApp, { query: service, clock }: HubServices): void {
  const answer = <T>(
    { version, rows, next, truncated }: SeriesPage<T>,
    query: Query,
    parts: Pick<RowsAnswer<T>, 'render' | 'columns'>,
    request: RowsRequest,
  ): Response =>
    rowsResponse(
      {
        version,
        format: answerFormat(query.format, request.header('accept')),
        head: { truncated },
        rows,
        warnings: { isTruncated: truncated },
        nextCursor: next === null ? null : encodeCursor(['k', next]),
        ...parts,
      },
      request,
    );
  app.openapi(seriesRoute, async (c) => {
    const query = c.req.valid('query');
    const page = await service.series(seriesQueryOf(query), clock.monotonicUs());
    return answer(page, query, { render: renderSeries, columns: columnsOf(seriesSchema) }, c.req);
  });
  app.openapi(devicesRoute, async (c) => {
    const query = c.req.valid('query');
    const page = await service.devices(seriesQueryOf(query), clock.monotonicUs());
    return answer(page, query, { render: renderDevice, columns: columnsOf(deviceSchema) }, c.req);
  });
}
