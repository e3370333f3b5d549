/** GET /v1/series and /v1/devices: what there is to ask for. */
import { randomUUID } from 'node:crypto';
import { createRoute, z } from '@hono/zod-openapi';
import type { Clock } from '../../shared/clock.ts';
import type { SeriesRow } from '../query/query-api.ts';
import { nameMatcher } from '../name-patterns.ts';
import { tagMatcher } from '../query/tags.ts';
import { answerFormat } from './answer-format.ts';
import { cursorParameter, encodeCursor, formatParameter, limitParameter, listParameter, tagFilter, tagParameter } from './parameters.ts';
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

const LIMIT_DEFAULT = 1_000;
const LIMIT_MAX = 10_000;
/** The list is read from the lake as a whole: pages and pages' refreshes within this time share one reading. */
const LIST_AGE_US_MAX = 2_000_000;

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
        content: rowsContent(z.object({ truncated: truncatedSchema, rows: z.array(row), next_cursor: nextCursorSchema })),
      },
      ...LIST_RESPONSES,
    },
  });
}

const seriesRoute = routeOf('/v1/series', 'All series', seriesSchema);
const devicesRoute = routeOf('/v1/devices', 'All devices, with their metrics', deviceSchema);

interface Keyed<T> {
  /** Sorts as the rows do; a page goes on behind it. U+0000 cannot stand in a name. */
  readonly key: string;
  readonly row: T;
}

interface DeviceRow {
  readonly gateway: string;
  readonly device: string;
  readonly metrics: Set<string>;
  series: number;
  count: number;
  firstTsUs: number | null;
  lastTsUs: number | null;
}

interface SeriesList {
  readonly rows: readonly Keyed<SeriesRow>[];
  readonly truncated: boolean;
  /** When it was read, on this hub's own clock. */
  readonly readUs: string;
}

/** One reading of the list at a time, kept for a moment. */
class SeriesCache {
  readonly #query: HubServices['query'];
  readonly #clock: Clock;
  #list: Promise<SeriesList> | null = null;
  #readUs = 0;
  /** The clock of another start begins anew. */
  readonly #instance = randomUUID();

  constructor(query: HubServices['query'], clock: Clock) {
    this.#query = query;
    this.#clock = clock;
  }

  get(): Promise<SeriesList> {
    const nowUs = this.#clock.monotonicUs();
    if (this.#list === null || nowUs - this.#readUs > LIST_AGE_US_MAX) {
      this.#readUs = nowUs;
      const list = this.#read();
      this.#list = list;
      // A failure is not kept: the next caller tries again.
      list.catch(() => {
        if (this.#list === list) this.#list = null;
      });
    }
    return this.#list;
  }

  async #read(): Promise<SeriesList> {
    const { rows, truncated } = await this.#query.series();
    const keyed = rows.map((row): Keyed<SeriesRow> => ({
      key: `${row.gateway}\u0000${row.device}\u0000${row.metric}\u0000${row.tags ?? ''}`,
      row,
    }));
    return { rows: sortByKey(keyed), truncated, readUs: `${this.#instance} ${this.#readUs}` };
  }
}

function sortByKey<T>(rows: Keyed<T>[]): Keyed<T>[] {
  return rows.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
}

function selected(list: SeriesList, query: Query): Keyed<SeriesRow>[] {
  const [gateway, device, metric] = [query.gateway, query.device, query.metric].map((names) =>
    names === undefined ? () => true : nameMatcher(names),
  );
  const filter = tagFilter(query.tag);
  const tags = filter === null ? () => true : tagMatcher(filter);
  return list.rows.filter(({ row }) => gateway(row.gateway) && device(row.device) && metric(row.metric) && tags(row.tags));
}

/** By gateway and device. */
export function devicesOf(series: readonly Keyed<SeriesRow>[]): Keyed<DeviceRow>[] {
  const devices = new Map<string, DeviceRow>();
  for (const { row } of series) {
    const key = `${row.gateway}\u0000${row.device}`;
    let device = devices.get(key);
    if (device === undefined) {
      device = { gateway: row.gateway, device: row.device, metrics: new Set(), series: 0, count: 0, firstTsUs: null, lastTsUs: null };
      devices.set(key, device);
    }
    device.metrics.add(row.metric);
    device.series++;
    device.count += row.count;
    if (row.firstTsUs !== null) device.firstTsUs = Math.min(device.firstTsUs ?? Infinity, row.firstTsUs);
    if (row.lastTsUs !== null) device.lastTsUs = Math.max(device.lastTsUs ?? -Infinity, row.lastTsUs);
  }
  return sortByKey([...devices].map(([key, row]) => ({ key, row })));
}

function pageOf<T>(keyed: readonly Keyed<T>[], query: Query): { rows: T[]; nextCursor: string | null } {
  const { cursor, limit } = query;
  const behind = cursor === undefined ? keyed : keyed.filter(({ key }) => key > cursor[1]);
  const page = behind.slice(0, limit);
  const last = page.at(-1);
  return {
    rows: page.map(({ row }) => row),
    nextCursor: last === undefined || page.length === behind.length ? null : encodeCursor(['k', last.key]),
  };
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
    metrics: [...row.metrics].sort(),
    series: row.series,
    count: row.count,
    first_ts: formatTimeOrNull(row.firstTsUs),
    last_ts: formatTimeOrNull(row.lastTsUs),
  };
}

export function mountSeries(app: HubApp, { query: service, clock }: HubServices): void {
  const cache = new SeriesCache(service, clock);
  const answer = <T>(
    list: SeriesList,
    keyed: readonly Keyed<T>[],
    query: Query,
    parts: Pick<RowsAnswer<T>, 'render' | 'columns'>,
    request: RowsRequest,
  ): Response =>
    rowsResponse(
      {
        version: list.readUs,
        format: answerFormat(query.format, request.header('accept')),
        head: { truncated: list.truncated },
        ...pageOf(keyed, query),
        ...parts,
      },
      request,
    );
  app.openapi(seriesRoute, async (c) => {
    const query = c.req.valid('query');
    const list = await cache.get();
    return answer(list, selected(list, query), query, { render: renderSeries, columns: columnsOf(seriesSchema) }, c.req);
  });
  app.openapi(devicesRoute, async (c) => {
    const query = c.req.valid('query');
    const list = await cache.get();
    return answer(list, devicesOf(selected(list, query)), query, { render: renderDevice, columns: columnsOf(deviceSchema) }, c.req);
  });
}
