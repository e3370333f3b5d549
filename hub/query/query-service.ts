/**
 * Queries: an engine's capture, then the worker that reads files and merges.
 *
 * Bounds: so many queries waiting, a time each, memory in all; beyond the first the caller is told to come again. One query
 * runs at a time and captures when its turn comes: those that wait hold no rows, and the time-out of one, which interrupts
 * whatever DuckDB is doing, meets no other. Hot queries (a few named devices, few windows) that wait share a turn: their
 * captures are of one step of the engine, and their messages cross the threads together, which is most of what they cost. A file that vanished between capture and read (vacuum, compaction) is met by
 * one more capture; one that cannot be read is reported to the engine, whose next capture leaves it out. A thread that ended (memory) fails what it ran; the next query starts another one.
 */
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { SluiceError, isSluiceError } from '../../shared/errors.ts';
import { slideUsOf } from '../../shared/window/definition.ts';
import { workerUrl } from '../../shared/worker-url.ts';
import { isPattern } from '../name-patterns.ts';
import type { QueryEngine, TableCapture, TableRange } from '../engine-api.ts';
import type { VerdictAnswer, VerdictQuery } from '../alerts/verdicts.ts';
import type { PromqlAnswer, PromqlRequest } from '../promql/promql-api.ts';
import { answerPromql } from '../promql/service.ts';
import type {
  AggregateAnswer,
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
import type { QueryReply, QueryRequest } from './query-worker.ts';

/** Running and waiting: more would only wait longer. */
const QUERIES_MAX = 64;
/** Series that a listing shows. */
const SERIES_ROWS_MAX = 100_000;
/** The list is read from the lake as a whole: pages, and refreshes of pages, within this time share one reading. */
const LIST_AGE_US_MAX = 2_000_000;
/** A query is asked again without the files that it could not read; more of them than this come to light by the next ones. */
const ATTEMPTS_MAX = 4;
/** Queries that share a turn, and how far apart such turns begin: what comes in between waits for the next. */
const HOT_MAX = 16;
const HOT_INTERVAL_MS = 5;
const HOT_DEVICES_MAX = 16;
const HOT_WINDOWS_MAX = 360;
/** Captures that later pages may go on from; the oldest is forgotten, and its next page is of the newest version. */
const PINS_MAX = 64;
const PIN_FILES_MAX = 10_000;
/** All of time, as TIMESTAMP has it (years 1 to 9999). */
const ALL_TIME = { fromUs: -62_135_596_800_000_000, toUs: 253_402_300_799_000_000 };

/** A hot query that waits for its turn. */
interface Hot {
  readonly query: AggregateQuery;
  resolve(answer: AggregateAnswer): void;
  reject(error: unknown): void;
}

export interface QueryServiceOptions extends QuerySettings {
  readonly engine: QueryEngine;
  /** Default: a thread of query-worker. */
  readonly openThread?: (settings: QuerySettings) => Worker;
}

/** The thread that reads files and merges. */
export function openQueryThread(settings: QuerySettings): Worker {
  return new Worker(workerUrl(import.meta.url, './query-worker'), { workerData: settings });
}

export class QueryService {
  readonly #engine: QueryEngine;
  readonly #settings: QuerySettings;
  readonly #openThread: (settings: QuerySettings) => Worker;
  /** null: it ended, and nobody has asked since. */
  #worker: Promise<Worker> | null = null;
  #isStopped = false;
  /** The queries before this one are done. */
  #turn: Promise<unknown> = Promise.resolve();
  #pending = 0;
  #hot: Hot[] = [];
  #hotTurnMs = -Infinity;
  /** The thread that has the list of series, and when it was asked to read it. */
  #list: { readonly worker: Promise<Worker>; readonly readUs: number } | null = null;
  readonly #pins = new Map<string, TableCapture>();
  #waiters = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  #nextId = 1;
  /** Files that an error was about. */
  readonly #unreadable = new WeakMap<Error, readonly string[]>();

  private constructor(engine: QueryEngine, settings: QuerySettings, openThread: (settings: QuerySettings) => Worker) {
    this.#engine = engine;
    this.#settings = settings;
    this.#openThread = openThread;
  }

  static async start({ engine, openThread, ...settings }: QueryServiceOptions): Promise<QueryService> {
    const absolute = { ...settings, lakeDir: path.resolve(settings.lakeDir) };
    const service = new QueryService(engine, absolute, openThread ?? openQueryThread);
    await service.#ready();
    return service;
  }

  #ready(): Promise<Worker> {
    if (this.#isStopped) return Promise.reject(new SluiceError('ERR_HTTP_UNAVAILABLE', 'the hub is stopping'));
    this.#worker ??= this.#open();
    return this.#worker;
  }

  #open(): Promise<Worker> {
    const worker = this.#openThread(this.#settings);
    return new Promise<Worker>((resolve, reject) => {
      const onEnd = (error: Error): void => {
        reject(error);
        if (this.#isStopped) return;
        this.#worker = null;
        this.#failAll(new SluiceError('ERR_QUERY_FAILED', `the thread of the queries ended: ${error.message}`, { cause: error }));
      };
      worker.once('error', onEnd);
      worker.once('exit', (code) => onEnd(new Error(`code ${code}`)));
      worker.once('message', () => {
        // DuckDB is open: a thread that is ended while it opens takes the process with it.
        worker.on('message', (replies: readonly QueryReply[]) => replies.forEach((reply) => this.#onReply(reply)));
        resolve(worker);
      });
    });
  }

  /** Queries that are running or waiting. */
  get pending(): number {
    return this.#pending;
  }

  /** @throws SluiceError ERR_HTTP_UNAVAILABLE, ERR_QUERY_* */
  aggregates(query: AggregateQuery): Promise<AggregateAnswer> {
    if (!this.#isHot(query)) return this.#withCapture(() => this.#aggregateTask(query));
    return this.#counted(
      () =>
        new Promise((resolve, reject) => {
          this.#hot.push({ query, resolve, reject });
          if (this.#hot.length === 1) this.#takeTurn(() => this.#answerHot());
        }),
    );
  }

  /** Its capture is small whatever the lake holds. */
  #isHot({ window, fromUs, toUs, devices }: AggregateQuery): boolean {
    const definition = this.#engine.definitions.find(({ name }) => name === window);
    if (definition === undefined || !definition.persisted || devices === null) return false;
    return devices.length <= HOT_DEVICES_MAX && !devices.some(isPattern) && (toUs - fromUs) / slideUsOf(definition) <= HOT_WINDOWS_MAX;
  }

  async #aggregateTask(query: AggregateQuery): Promise<QueryTask> {
    return { kind: 'aggregates', query, capture: await this.#engine.captureAggregates(query) };
  }

  async #answerHot(): Promise<void> {
    const waitMs = this.#hotTurnMs + HOT_INTERVAL_MS - performance.now();
    if (waitMs > 0) await pause(waitMs);
    this.#hotTurnMs = performance.now();
    const hot = this.#hot.splice(0, HOT_MAX);
    // Whoever is left, or comes from now on, has the next turn.
    if (this.#hot.length > 0) this.#takeTurn(() => this.#answerHot());
    const makers = hot.map(
      ({ query }) =>
        () =>
          this.#aggregateTask(query),
    );
    const answers = await this.#attempts(makers);
    answers.forEach((answer, index) => {
      if (answer.status === 'fulfilled') hot[index].resolve(answer.value as AggregateAnswer);
      else hot[index].reject(answer.reason);
    });
  }

  readings(query: ReadingQuery): Promise<ReadingAnswer> {
    return this.#pages('readings', query, query, (capture) => ({ kind: 'readings', query, capture }));
  }

  exceptions(query: ExceptionQuery): Promise<ExceptionAnswer> {
    // The table's statistics are about all rows of a file; names may be null in it, so only time prunes.
    const range = { ...query, devices: null, metrics: null };
    return this.#pages('exceptions', query, range, (capture) => ({ kind: 'exceptions', query, capture }));
  }

  /** A page that is not the first is read from the files of the first, if they are still known. */
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
      const capture = pinned ?? (await this.#engine.captureTable(table, range));
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
        const isFresh = this.#list !== null && this.#list.worker === this.#worker && nowUs - this.#list.readUs <= LIST_AGE_US_MAX;
        if (isFresh) return { kind: 'series', by, query, source: null };
        // Known only once it is read: the next one's turn comes after that, and a failure is not kept.
        this.#list = null;
        const source = await this.#seriesSource();
        return { kind: 'series', by, query, source };
      },
      () => {
        if (this.#list === null && this.#worker !== null) this.#list = { worker: this.#worker, readUs: nowUs };
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
    this.#isStopped = true;
    this.#failAll(new SluiceError('ERR_HTTP_UNAVAILABLE', 'the hub is stopping'));
    const worker = await this.#worker?.catch(() => null);
    if (worker === null || worker === undefined) return;
    const ended = new Promise((resolve) => worker.once('exit', resolve));
    worker.postMessage('stop');
    await ended;
  }

  /** @param onAnswer called before the next query's turn */
  #withCapture<T>(makeTask: () => Promise<QueryTask>, onAnswer: () => void = () => undefined): Promise<T> {
    return this.#counted(
      () =>
        new Promise<T>((resolve, reject) => {
          this.#takeTurn(async () => {
            const [answer] = await this.#attempts([makeTask]);
            if (answer.status === 'rejected') return reject(answer.reason);
            onAnswer();
            resolve(answer.value as T);
          });
        }),
    );
  }

  /** @throws SluiceError where too many wait already */
  async #counted<T>(ask: () => Promise<T>): Promise<T> {
    if (this.#pending >= QUERIES_MAX) {
      throw new SluiceError(
        'ERR_HTTP_UNAVAILABLE',
        `${this.#pending} queries are running or waiting, at most ${QUERIES_MAX} may; try again`,
      );
    }
    this.#pending++;
    try {
      return await ask();
    } finally {
      this.#pending--;
    }
  }

  /** After all that were taken before; it does not throw. */
  #takeTurn(run: () => Promise<void>): void {
    this.#turn = this.#turn.then(run);
  }

  /** All at once, then those alone that are worth another attempt. */
  async #attempts(makers: readonly (() => Promise<QueryTask>)[]): Promise<PromiseSettledResult<unknown>[]> {
    const answers = await this.#sendAll(makers);
    for (const [index, makeTask] of makers.entries()) {
      for (let attempt = 1; attempt < ATTEMPTS_MAX; attempt++) {
        const answer = answers[index];
        if (answer.status === 'fulfilled' || !(await this.#isWorthAnother(answer.reason, attempt).catch(() => false))) break;
        [answers[index]] = await this.#sendAll([makeTask]);
      }
    }
    return answers;
  }

  /** A file may have been compacted away under the query; one that cannot be read is left out by the next capture. */
  async #isWorthAnother(error: unknown, attempt: number): Promise<boolean> {
    if (isSluiceError(error, 'ERR_QUERY_FILE_GONE') && attempt === 1) return true;
    const unreadable = error instanceof Error ? this.#unreadable.get(error) : undefined;
    return unreadable !== undefined && unreadable.length > 0 && (await this.#engine.reportUnreadable(unreadable));
  }

  /** The tasks that could be made, in one message. */
  async #sendAll(makers: readonly (() => Promise<QueryTask>)[]): Promise<PromiseSettledResult<unknown>[]> {
    const tasks = await Promise.allSettled(makers.map((makeTask) => makeTask()));
    const [worker] = await Promise.allSettled([this.#ready()]);
    const requests: QueryRequest[] = [];
    const answers = tasks.map((task) => {
      if (task.status === 'rejected') return Promise.reject<unknown>(task.reason);
      if (worker.status === 'rejected') return Promise.reject<unknown>(worker.reason);
      const id = this.#nextId++;
      requests.push({ id, task: task.value });
      return new Promise<unknown>((resolve, reject) => this.#waiters.set(id, { resolve, reject }));
    });
    if (requests.length > 0 && worker.status === 'fulfilled') worker.value.postMessage(requests);
    return Promise.allSettled(answers);
  }

  #onReply(reply: QueryReply): void {
    const waiter = this.#waiters.get(reply.id);
    this.#waiters.delete(reply.id);
    if (reply.ok) {
      waiter?.resolve(reply.value);
      return;
    }
    const error = reply.code === null ? new Error(reply.message) : new SluiceError(reply.code, reply.message);
    this.#unreadable.set(error, reply.unreadable);
    waiter?.reject(error);
  }

  #failAll(error: Error): void {
    for (const waiter of this.#waiters.values()) waiter.reject(error);
    this.#waiters.clear();
  }
}
