/**
 * Queries: an engine's capture, then the worker that reads files and merges.
 *
 * Bounds: so many queries at once, a time each, memory in all; beyond the first the caller is told to come again. A file
 * that vanished between capture and read (vacuum, compaction) is met by one more capture.
 */
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { SluiceError, isSluiceError } from '../../shared/errors.ts';
import { workerUrl } from '../../shared/worker-url.ts';
import type { QueryEngine } from '../engine-api.ts';
import type {
  AggregateAnswer,
  AggregateQuery,
  ExceptionAnswer,
  ExceptionQuery,
  QuerySettings,
  QueryTask,
  ReadingAnswer,
  ReadingQuery,
  SeriesRow,
} from './query-api.ts';
import type { QueryReply, QueryRequest } from './query-worker.ts';

/** One runs, the others wait: more would only wait longer. */
const QUERIES_MAX = 64;
/** Series that a listing shows. */
const SERIES_ROWS_MAX = 100_000;
/** All of time, as TIMESTAMP has it (years 1 to 9999). */
const ALL_TIME = { fromUs: -62_135_596_800_000_000, toUs: 253_402_300_799_000_000 };

export interface QueryServiceOptions extends QuerySettings {
  readonly engine: QueryEngine;
}

export class QueryService {
  readonly #engine: QueryEngine;
  readonly #worker: Worker;
  #waiters = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  #nextId = 1;

  private constructor(engine: QueryEngine, worker: Worker) {
    this.#engine = engine;
    this.#worker = worker;
    worker.on('message', (reply: QueryReply) => this.#onReply(reply));
    worker.on('error', (error) => this.#failAll(error));
  }

  static async start({ engine, ...settings }: QueryServiceOptions): Promise<QueryService> {
    const workerData: QuerySettings = { ...settings, lakeDir: path.resolve(settings.lakeDir) };
    const worker = new Worker(workerUrl(import.meta.url, './query-worker'), { workerData });
    await new Promise<void>((resolve, reject) => {
      // DuckDB is open: a thread that is ended while it opens takes the process with it.
      worker.once('message', () => resolve());
      worker.once('error', reject);
    });
    return new QueryService(engine, worker);
  }

  /** Queries that are running or waiting. */
  get pending(): number {
    return this.#waiters.size;
  }

  /** @throws SluiceError ERR_HTTP_UNAVAILABLE, ERR_QUERY_* */
  aggregates(query: AggregateQuery): Promise<AggregateAnswer> {
    return this.#withCapture(async () => ({ kind: 'aggregates', query, capture: await this.#engine.captureAggregates(query) }));
  }

  readings(query: ReadingQuery): Promise<ReadingAnswer> {
    return this.#withCapture(async () => ({ kind: 'readings', query, capture: await this.#engine.captureTable('readings', query) }));
  }

  exceptions(query: ExceptionQuery): Promise<ExceptionAnswer> {
    // The table's statistics are about all rows of a file; names may be null in it, so only time prunes.
    const range = { ...query, devices: null, metrics: null };
    return this.#withCapture(async () => ({ kind: 'exceptions', query, capture: await this.#engine.captureTable('exceptions', range) }));
  }

  /** All series that ever had a number, newest first. `truncated`: there are more than are listed. */
  async series(): Promise<{ rows: SeriesRow[]; truncated: boolean }> {
    const bySeries = this.#engine.definitions.filter((definition) => definition.by === 'series' && definition.persisted);
    // The coarsest has the fewest rows.
    const [definition] = [...bySeries].sort((a, b) => b.sizeMs - a.sizeMs);
    if (definition === undefined) return { rows: [], truncated: false };
    const filter = { window: definition.name, ...ALL_TIME, gateways: null, devices: null, metrics: null };
    return this.#withCapture(async () => ({
      kind: 'series',
      capture: await this.#engine.captureAggregates(filter),
      rowsMax: SERIES_ROWS_MAX,
    }));
  }

  async stop(): Promise<void> {
    this.#failAll(new SluiceError('ERR_HTTP_UNAVAILABLE', 'the hub is stopping'));
    await this.#worker.terminate();
  }

  async #withCapture<T>(makeTask: () => Promise<QueryTask>): Promise<T> {
    if (this.#waiters.size >= QUERIES_MAX) {
      throw new SluiceError(
        'ERR_HTTP_UNAVAILABLE',
        `${this.#waiters.size} queries are running or waiting, at most ${QUERIES_MAX} may; try again`,
      );
    }
    try {
      return (await this.#send(await makeTask())) as T;
    } catch (error) {
      if (!isSluiceError(error, 'ERR_QUERY_FILE_GONE')) throw error;
      return (await this.#send(await makeTask())) as T;
    }
  }

  #send(task: QueryTask): Promise<unknown> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiters.set(id, { resolve, reject });
      this.#worker.postMessage({ id, task } satisfies QueryRequest);
    });
  }

  #onReply(reply: QueryReply): void {
    const waiter = this.#waiters.get(reply.id);
    this.#waiters.delete(reply.id);
    if (reply.ok) waiter?.resolve(reply.value);
    else waiter?.reject(reply.code === null ? new Error(reply.message) : new SluiceError(reply.code, reply.message));
  }

  #failAll(error: Error): void {
    for (const waiter of this.#waiters.values()) waiter.reject(error);
    this.#waiters.clear();
  }
}
