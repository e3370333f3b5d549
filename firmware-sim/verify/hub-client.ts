/**
 * The hub's `GET /v1/aggregates`, as verify needs it: the one place that knows the shape of its answers.
 */
import { z } from 'zod';
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import { canonicalTags } from '../../shared/reading.ts';

const numberOrNull = z.number().nullish();
const nameOrNull = z.string().nullish();

const rowSchema = z.object({
  window_start: z.string(),
  window_end: z.string(),
  gateway: nameOrNull,
  device: nameOrNull,
  metric: z.string(),
  tags: z.union([z.string(), z.record(z.string(), z.string())]).nullish(),
  count: z.number(),
  sum: numberOrNull,
  mean: numberOrNull,
  min: numberOrNull,
  max: numberOrNull,
  first: numberOrNull,
  last: numberOrNull,
  stddev: numberOrNull,
  p50: numberOrNull,
  p95: numberOrNull,
  p99: numberOrNull,
  status: z.string().nullish(),
});

const pageSchema = z.object({ rows: z.array(rowSchema), next_cursor: z.string().nullish() });

export interface AggregateRow {
  /** µs. */
  readonly windowStartUs: number;
  readonly windowEndUs: number;
  readonly gateway: string | null;
  readonly device: string | null;
  readonly metric: string;
  /** '' for none. */
  readonly tags: string;
  readonly status: string | null;
  readonly values: Readonly<Record<AggregateName, number | null>>;
}

export const AGGREGATE_NAMES = ['count', 'sum', 'mean', 'min', 'max', 'first', 'last', 'stddev', 'p50', 'p95', 'p99'] as const;
export type AggregateName = (typeof AGGREGATE_NAMES)[number];

const PAGE_ROWS = 1000;
/** A cursor that never ends is a fault of the hub, not a reason to hang. */
const PAGES_MAX = 100_000;
const REQUEST_TIMEOUT_MS = 30_000;

function toRow(row: z.infer<typeof rowSchema>): AggregateRow {
  const tags = row.tags ?? '';
  return {
    windowStartUs: Date.parse(row.window_start) * 1000,
    windowEndUs: Date.parse(row.window_end) * 1000,
    gateway: row.gateway ?? null,
    device: row.device ?? null,
    metric: row.metric,
    tags: typeof tags === 'string' ? tags : canonicalTags(tags),
    status: row.status ?? null,
    values: Object.fromEntries(AGGREGATE_NAMES.map((name) => [name, row[name] ?? null])) as Record<AggregateName, number | null>,
  };
}

export class HubClient {
  readonly #baseUrl: string;
  readonly #token: string | null;

  constructor(baseUrl: string, token: string | null) {
    this.#baseUrl = baseUrl.replace(/\/+$/, '');
    this.#token = token;
  }

  /**
   * All rows of one window definition and metric with window starts in [fromUs, toUs).
   *
   * @throws SluiceError ERR_SIM_HUB
   */
  async aggregates(query: { window: string; metric: string; fromUs: number; toUs: number }): Promise<AggregateRow[]> {
    const rows: AggregateRow[] = [];
    let cursor: string | null = null;
    for (let page = 0; page < PAGES_MAX; page++) {
      const url = new URL(`${this.#baseUrl}/v1/aggregates`);
      url.searchParams.set('window', query.window);
      url.searchParams.set('metric', query.metric);
      url.searchParams.set('from', new Date(query.fromUs / 1000).toISOString());
      url.searchParams.set('to', new Date(query.toUs / 1000).toISOString());
      url.searchParams.set('limit', String(PAGE_ROWS));
      if (cursor !== null) url.searchParams.set('cursor', cursor);
      const answer = await this.#get(url);
      for (const row of answer.rows) rows.push(toRow(row));
      cursor = answer.next_cursor ?? null;
      if (cursor === null) return rows;
    }
    throw new SluiceError('ERR_SIM_HUB', `${query.window} of ${query.metric}: still a cursor after ${PAGES_MAX} pages`);
  }

  async #get(url: URL): Promise<z.infer<typeof pageSchema>> {
    let body: unknown;
    try {
      const response = await fetch(url, {
        headers: { accept: 'application/json', ...(this.#token === null ? {} : { authorization: `Bearer ${this.#token}` }) },
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      });
      const text = await response.text();
      if (!response.ok) throw new SluiceError('ERR_SIM_HUB', `${url.href} answered ${response.status}: ${text.slice(0, 500)}`);
      body = JSON.parse(text);
    } catch (cause) {
      if (cause instanceof SluiceError) throw cause;
      const reason = cause instanceof Error && cause.cause instanceof Error ? cause.cause.message : errorMessage(cause);
      throw new SluiceError('ERR_SIM_HUB', `${url.href}: ${reason}`, { cause });
    }
    const parsed = pageSchema.safeParse(body);
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      throw new SluiceError(
        'ERR_SIM_HUB',
        `${url.href}: the answer has another shape: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`,
      );
    }
    return parsed.data;
  }
}
