/** The hub's aggregates as verify needs them: through the package's own client, and checked, since a check believes nobody. */
import { z } from 'zod';
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import { SluiceHub } from '../../shared/hub-client/sluice-hub.ts';
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
const ROWS_MAX = 100_000_000;
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
  readonly #hub: SluiceHub;

  constructor(baseUrl: string, token: string | null) {
    this.#baseUrl = baseUrl;
    this.#hub = new SluiceHub({ url: baseUrl, token, timeoutMs: REQUEST_TIMEOUT_MS });
  }

  /**
   * All rows of one window definition and metric with window starts in [fromUs, toUs).
   *
   * @throws SluiceError ERR_SIM_HUB
   */
  async aggregates(query: { window: string; metric: string; fromUs: number; toUs: number }): Promise<AggregateRow[]> {
    const { window, metric, fromUs, toUs } = query;
    const asked = { window, metric: [metric], from: new Date(fromUs / 1000), to: new Date(toUs / 1000), limit: PAGE_ROWS };
    const rows: AggregateRow[] = [];
    try {
      for await (const row of this.#hub.aggregateRows(asked)) {
        rows.push(toRow(this.#checked(row)));
        if (rows.length > ROWS_MAX) throw new SluiceError('ERR_SIM_HUB', `${window} of ${metric}: still a cursor after ${ROWS_MAX} rows`);
      }
    } catch (cause) {
      if (cause instanceof SluiceError) throw cause;
      throw new SluiceError('ERR_SIM_HUB', `${this.#baseUrl}: ${errorMessage(cause)}`, { cause });
    }
    return rows;
  }

  /** The client believes the hub; a check does not. */
  #checked(row: unknown): z.infer<typeof rowSchema> {
    const parsed = rowSchema.safeParse(row);
    if (parsed.success) return parsed.data;
    const issue = parsed.error.issues[0];
    const place = issue?.path.join('.') ?? '';
    throw new SluiceError('ERR_SIM_HUB', `${this.#baseUrl}: the answer has another shape: rows.${place}: ${issue?.message ?? ''}`);
  }
}
