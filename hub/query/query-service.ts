/**
 * Queries: an engine's capture, then the worker that reads files and merges.
 *
 * Bounds: so many queries waiting, a time each, memory in all; beyond the first the caller is told to come again. One query
 * runs at a time and captures when its turn comes: those that wait hold no rows, and the time-out of one, which interrupts
 * whatever DuckDB is doing, meets no other. Hot queries (a few named devices, few windows) have a thread and bounds of their
 * own (hot-queries.ts), so that none of the others delays them. A file that vanished between capture and read (vacuum,
 * compaction) is met by one more capture; one that cannot be read is reported to the engine, whose next capture leaves it out.
 */
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { SluiceError, isSluiceError } from '../../shared/errors.ts';
import { buffersOf } from '../../shared/window/packed-partials.ts';
import { workerUrl } from '../../shared/worker-url.ts';
import { CaptureClient } from '../capture-channel.ts';
import type { AggregateCapture, AggregateFilter, QueryEngine, TableCapture, TableRange } from '../engine-api.ts';
import type { VerdictAnswer, VerdictQuery } from '../alerts/verdicts.ts';
import type { PromqlAnswer, PromqlRequest } from '../promql/promql-api.ts';
import { answerPromql } from '../promql/service.ts';
import type {
  AggregateAnswer,
  AggregateDocument,
  AggregateQuery,
  ExceptionAnswer,
  ExceptionQuery,
  QuerySettings,
  QueryTask,
  ReadingAnswer,
  ReadingQuery,
  DeviceRow,
  SeriesPage,
  SeriesQuery,
  SeriesRow,
  SeriesSource,
} from './query-api.ts';
import { HotQueries } from './hot-queries.ts';
import { QueryThread } from './query-thread.ts';

/** Running and waiting: more would only wait longer. */
const QUERIES_MAX = 64;
/** A hot one that waits is its parameters; a ms each at most, so that the last waits for a quarter of a second. */
const HOT_QUERIES_MAX = 256;
/** Series that a listing shows. */
const SERIES_ROWS_MAX = 100_000;
/** The list is read from the lake as a whole: pages, and refreshes of pages, within this time share one reading. */
const LIST_AGE_US_MAX = 2_000_000;
/** A query is asked again without the files that it could not read; more of them than this come to light by the next ones. */
const ATTEMPTS_MAX = 4;
/** Captures that later pages may go on from; the oldest is forgotten, and what its next page needs is made from the log again. */
const PINS_MAX = 64;
const PIN_FILES_MAX = 10_000;
/** All of time, as TIMESTAMP has it (years 1 to 9999). */
const ALL_TIME = { fromUs: -62_135_596_800_000_000, toUs: 253_402_300_799_000_000 };

export interface QueryServiceOptions extends QuerySettings {
  readonly engine: QueryEngine;
  /** So long at most the thread of hot queries practises before the first one comes; default 0. */
  readonly hotWarmUpMs?: number;
  /** Default: a thread of query-worker. */
  readonly openThread?: (settings: QuerySettings) => Worker;
}

/** The rows of captures go from the engine's thread to that of the queries without being looked at here. */
function transferOf(task: QueryTask): ArrayBuffer[] {
  if (task.kind === 'aggregates' || task.kind === 'verdicts') return buffersOf(task.capture.tail);
  if (task.kind === 'series') return buffersOf(task.source?.capture?.tail ?? []);
  if (task.kind === 'promql_evaluate') return task.source.kind === 'windows' ? buffersOf(task.source.capture.tail) : [];
  if (task.kind === 'promql_select' || task.kind === 'promql_list') return buffersOf(task.catalogue?.tail ?? []);
  return [];
}

/** The thread that reads files and merges. */
export function openQueryThread(settings: QuerySettings): Worker {
  return new Worker(workerUrl(import.meta.url, './query-worker'), { workerData: settings });
}

export class QueryService {
  readonly #engine: QueryEngine;
  readonly #thread: QueryThread<QueryTask>;
  readonly #hot: HotQueries;
  /** The queries before this one are done. */
  #turn: Promise<unknown> = Promise.resolve();
  readonly #pending = { hot: 0, other: 0 };
  /** The thread that has the list of series, and when it was asked to read it. */
  #list: { readonly worker: Promise<Worker>; readonly readUs: number } | null = null;
  readonly #pins = new Map<string, TableCapture>();
  readonly #captures: CaptureClient | null;

  private constructor(engine: QueryEngine, settings: QuerySettings, openThread: (settings: QuerySettings) => Worker, hotWarmUpMs: number) {
    this.#engine = engine;
    this.#thread = new QueryThread(() => ({ worker: openThread(settings) }), transferOf);
    this.#hot = new HotQueries(engine, hotWarmUpMs);
    const channel = engine.captureChannel?.();
    this.#captures = channel === undefined ? null : new CaptureClient(channel);
  }

  static async start({ engine, openThread, hotWarmUpMs = 0, ...settings }: QueryServiceOptions): Promise<QueryService> {
    const absolute = { ...settings, lakeDir: path.resolve(settings.lakeDir) };
    const service = new QueryService(engine, absolute, openThread ?? openQueryThread, hotWarmUpMs);
    await Promise.all([service.#thread.ready(), service.#hot.start()]);
    return service;
  }

  /** Queries that are running or waiting. */
  get pending(): number {
    return this.#pending.hot + this.#pending.other;
  }

  /** @throws SluiceError ERR_HTTP_UNAVAILABLE, ERR_QUERY_* */
  aggregates(query: AggregateQuery): Promise<AggregateAnswer> {
    return this.#windows<AggregateAnswer>(query, null);
  }

  /**
   * The same as the text of a JSON object, made away from the thread of the sockets.
   *
   * @param head its members before those that the answer brings, without braces: `"window":"1m"`
   * @throws SluiceError as aggregates
   */
  aggregatesDocument(query: AggregateQuery, head: string): Promise<AggregateDocument> {
    return this.#windows<AggregateDocument>(query, head);
  }

  async #windows<T extends AggregateAnswer | AggregateDocument>(query: AggregateQuery, head: string | null): Promise<T> {
    const task = this.#hot.taskOf(query, head);
    const answer = task === null ? null : await this.#counted('hot', HOT_QUERIES_MAX, () => this.#hot.answer(task));
    // The files of the query are not small: it takes its turn with the others.
    return (answer as T | null) ?? this.#withCapture(() => this.#aggregateTask(query, head));
  }

  async #aggregateTask(query: AggregateQuery, head: string | null): Promise<QueryTask> {
    const { window, fromUs, toUs, gateways, devices, metrics } = query;
    const capture = await this.#capture({ window, fromUs, toUs, gateways, devices, metrics });
    return { kind: 'aggregates', query, head, capture };
  }

  /** Between two steps of the engine, where there is such a way, and not behind all the batches that wait there. */
  #capture(filter: AggregateFilter): Promise<AggregateCapture> {
    return this.#captures?.capture(filter) ?? this.#engine.captureAggregates(filter);
  }

  readings(query: ReadingQuery): Promise<ReadingAnswer> {
    return this.#pages('readings', query, query, (capture) => ({ kind: 'readings', query, capture }));
  }

  exceptions(query: ExceptionQuery): Promise<ExceptionAnswer> {
    // The table's statistics are about all rows of a file; names may be null in it, so only time prunes.
    const range = { ...query, devices: null, metrics: null };
    return this.#pages('exceptions', query, range, (capture) => ({ kind: 'exceptions', query, capture }));
  }

  /** A page that is not the first is read from the version of the first, while its files are there. */
  #pages<T>(
    table: 'readings' | 'exceptions',
    { version = null }: { readonly version?: number | null },
    range: TableRange,
    makeTask: (capture: TableCapture) => QueryTask,
  ): Promise<T> {
    const keyOf = (pinned: number): string => JSON.stringify([table, pinned, range.fromUs, range.toUs, range.devices, range.metrics]);
    let isFirstTry = true;
    return this.#withCapture<T>(async () => {
      const pinned = version !== null && isFirstTry ? this.#pins.get(keyOf(version)) : undefined;
      isFirstTry = false;
      // What this hub does not remember the log says, whichever hub the first page came from.
      const earlier = pinned ?? (version === null ? null : await this.#engine.captureTableAt?.(table, range, version));
      const capture = earlier ?? (await this.#engine.captureTable(table, range));
      if (capture.files.length <= PIN_FILES_MAX) {
        const key = keyOf(capture.version);
        this.#pins.delete(key);
        this.#pins.set(key, capture);
        if (this.#pins.size > PINS_MAX) this.#pins.delete(this.#pins.keys().next().value as string);
      }
      return makeTask(capture);
    });
  }

  /**
   * Series by name; those that have texts only from committed readings.
   *
   * @param nowUs this hub's monotonic clock: pages within LIST_AGE_US_MAX are from one reading of the list
   */
  series(query: SeriesQuery, nowUs: number): Promise<SeriesPage<SeriesRow>> {
    return this.#listed('series', query, nowUs);
  }

  devices(query: SeriesQuery, nowUs: number): Promise<SeriesPage<DeviceRow>> {
    return this.#listed('device', query, nowUs);
  }

  #listed<T>(by: 'series' | 'device', query: SeriesQuery, nowUs: number): Promise<SeriesPage<T>> {
    return this.#withCapture<SeriesPage<T>>(
      async () => {
        const isFresh = this.#list !== null && this.#list.worker === this.#thread.current && nowUs - this.#list.readUs <= LIST_AGE_US_MAX;
        if (isFresh) return { kind: 'series', by, query, source: null };
        // Known only once it is read: the next one's turn comes after that, and a failure is not kept.
        this.#list = null;
        const source = await this.#seriesSource();
        return { kind: 'series', by, query, source };
      },
      () => {
        const worker = this.#thread.current;
        if (this.#list === null && worker !== null) this.#list = { worker, readUs: nowUs };
      },
    );
  }

  async #seriesSource(): Promise<SeriesSource> {
    const bySeries = this.#engine.definitions.filter(({ by, persisted, slideMs }) => by === 'series' && persisted && slideMs === undefined);
    // The coarsest has the fewest rows; windows that overlap would count readings twice.
    const [definition] = [...bySeries].sort((a, b) => b.sizeMs - a.sizeMs);
    const all = { ...ALL_TIME, gateways: null, devices: null, metrics: null };
    return {
      capture: definition === undefined ? null : await this.#engine.captureAggregates({ ...all, window: definition.name }),
      readings: await this.#engine.captureTable('readings', all),
      rowsMax: SERIES_ROWS_MAX,
    };
  }

  /** What windows say to rules of alerts. @throws SluiceError ERR_HTTP_UNAVAILABLE, ERR_QUERY_* */
  verdicts(query: VerdictQuery): Promise<VerdictAnswer> {
    return this.#withCapture(async () => ({ kind: 'verdicts', query, capture: await this.#engine.captureAggregates(query.windows) }));
  }

  /** @throws SluiceError ERR_PROMQL_*, ERR_HTTP_UNAVAILABLE, ERR_QUERY_* */
  promql(request: PromqlRequest): Promise<PromqlAnswer> {
    return answerPromql(request, this.#engine, (makeTask) => this.#withCapture(makeTask));
  }

  async stop(): Promise<void> {
    this.#captures?.close();
    await Promise.all([this.#thread.stop(), this.#hot.stop()]);
  }

  /** @param onAnswer called before the next query's turn */
  #withCapture<T>(makeTask: () => Promise<QueryTask>, onAnswer: () => void = () => undefined): Promise<T> {
    return this.#counted('other', QUERIES_MAX, () => {
      const answer = this.#turn.then(async () => {
        const value = (await this.#attempts(makeTask)) as T;
        onAnswer();
        return value;
      });
      this.#turn = answer.catch(() => undefined); // its caller has the error; the next turn does not depend on it
      return answer;
    });
  }

  /** @throws SluiceError where too many wait already */
  async #counted<T>(kind: 'hot' | 'other', max: number, ask: () => Promise<T>): Promise<T> {
    const pending = this.#pending[kind];
    if (pending >= max)
      throw new SluiceError('ERR_HTTP_UNAVAILABLE', `${pending} queries are running or waiting, at most ${max} may; try again`);
    this.#pending[kind]++;
    try {
      return await ask();
    } finally {
      this.#pending[kind]--;
    }
  }

  async #attempts(makeTask: () => Promise<QueryTask>): Promise<unknown> {
    for (let attempt = 1; ; attempt++) {
      try {
        const task = await makeTask();
        return await this.#thread.ask([task])[0];
      } catch (error) {
        if (attempt >= ATTEMPTS_MAX || !(await this.#isWorthAnother(error, attempt).catch(() => false))) throw error;
      }
    }
  }

  /** A file may have been compacted away under the query; one that cannot be read is left out by the next capture. */
  async #isWorthAnother(error: unknown, attempt: number): Promise<boolean> {
    if (isSluiceError(error, 'ERR_QUERY_FILE_GONE') && attempt === 1) return true;
    const unreadable = this.#thread.unreadableOf(error);
    return unreadable.length > 0 && (await this.#engine.reportUnreadable(unreadable));
  }
}
