/**
 * SQL of strangers: statements wait their turn for one of a few processes, each of which runs one at a time.
 *
 * Bounds: processes, statements waiting, and per statement what SqlSettings say. A process that dies (memory), or does not
 * stop when it is told to, fails the statement that it ran and is replaced; those that wait are run by the next one. A process
 * that nobody needs for a while is ended. A statement waits for the process and then captures, so that those that
 * wait hold nothing; a file that vanished in between (compaction, vacuum) is met by one more capture, and one that cannot be
 * read is reported to the engine, whose next capture leaves it out.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { SluiceError, isSluiceError } from '../../shared/errors.ts';
import { workerUrl } from '../../shared/worker-url.ts';
import type { SnapshotEngine } from '../engine-api.ts';
import { missingFileCount } from './missing-files.ts';
import {
  PROCESS_BYTES,
  type AlertsCapture,
  type SqlOutcome,
  type SqlQuery,
  type SqlReply,
  type SqlRequest,
  type SqlSettings,
} from './sql-api.ts';

/** Waiting; more would only wait longer than their callers do. */
const WAITING_MAX = 16;
const IDLE_MS_MAX = 60_000;
/** After its time is over, or it was cancelled, a statement that DuckDB does not stop is stopped with its process. */
const KILL_GRACE_MS = 1_000;
/** How often a process's memory is looked at: it grows by about 1 GB a second at most. */
const WATCH_INTERVAL_MS = 50;
/** A statement is run again without the files that it could not read; more of them than this come to light by the next ones. */
const ATTEMPTS_MAX = 4;
/** V8's heap of a process: rows of an answer while they are rendered. */
const HEAP_MB = 512;

export interface SqlServiceOptions extends SqlSettings {
  readonly engine: SnapshotEngine;
  readonly captureAlerts: () => AlertsCapture;
  readonly processesMax: number;
}

interface Waiter {
  resolve(worker: SqlWorker): void;
  reject(error: Error): void;
}

/** One process, and the reply that it owes. */
class SqlWorker {
  readonly #process: ChildProcess;
  readonly ready: Promise<void>;
  #owed: { resolve(reply: SqlReply): void; reject(error: Error): void } | null = null;
  #ended: Error | null = null;

  constructor(settings: SqlSettings) {
    const file = fileURLToPath(workerUrl(import.meta.url, './sql-process'));
    this.#process = fork(file, [JSON.stringify(settings)], {
      serialization: 'advanced',
      execArgv: [`--max-old-space-size=${HEAP_MB}`],
      // Nothing of the hub's environment is a statement's business.
      env: {},
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    this.ready = this.#next().then(() => undefined);
    this.ready.catch(() => undefined); // whoever asks for it has the error
    this.#process.on('message', (reply: SqlReply) => {
      const owed = this.#owed;
      this.#owed = null;
      owed?.resolve(reply);
    });
    const end = (error: Error): void => {
      this.#ended ??= error;
      this.#owed?.reject(error);
      this.#owed = null;
    };
    this.#process.on('error', end);
    this.#process.on('exit', (code, signal) => end(new Error(`the process of the statement ended (${signal ?? `code ${code}`})`)));
  }

  get isAlive(): boolean {
    return this.#ended === null;
  }

  #next(): Promise<SqlReply> {
    if (this.#ended !== null) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      this.#owed = { resolve, reject };
    });
  }

  ask(request: SqlRequest): Promise<SqlReply> {
    const reply = this.#next();
    this.tell(request);
    return reply;
  }

  tell(request: SqlRequest): void {
    // A process that is gone says so by its exit.
    if (this.#process.connected) this.#process.send(request, () => undefined);
  }

  /** Resident memory; 0 where the kernel does not say. From outside, since a process that makes a text of 4 GB answers nothing. */
  residentBytes(): number {
    try {
      const status = readFileSync(`/proc/${this.#process.pid}/status`, 'latin1');
      return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
    } catch {
      return 0; // it is gone, or this is not Linux: there the process watches itself
    }
  }

  kill(): void {
    // Nobody else is to be given it in the moment until it is gone.
    this.#ended ??= new Error('the process of the statement was ended');
    this.#process.kill('SIGKILL');
  }
}

export class SqlService {
  readonly #engine: SnapshotEngine;
  readonly #captureAlerts: () => AlertsCapture;
  readonly #settings: SqlSettings;
  readonly #processesMax: number;
  readonly #idle: { worker: SqlWorker; timer: NodeJS.Timeout }[] = [];
  readonly #workers = new Set<SqlWorker>();
  readonly #waiting: Waiter[] = [];
  /** Files that an error may be about. */
  readonly #unreadable = new WeakMap<Error, readonly string[]>();
  #isStopped = false;

  constructor({ engine, captureAlerts, processesMax, ...settings }: SqlServiceOptions) {
    this.#engine = engine;
    this.#captureAlerts = captureAlerts;
    this.#processesMax = processesMax;
    this.#settings = settings;
  }

  /** Statements that run. */
  get running(): number {
    return this.#workers.size - this.#idle.length;
  }

  /**
   * @param signal its caller has gone: the statement is stopped
   * @throws SluiceError ERR_SQL_*, ERR_QUERY_*, ERR_HTTP_UNAVAILABLE (too many, or stopping)
   */
  async query(query: SqlQuery, signal?: AbortSignal): Promise<SqlOutcome> {
    const worker = await this.#acquire();
    try {
      await worker.ready;
      for (let attempt = 1; ; attempt++) {
        try {
          return await this.#run(worker, query, signal);
        } catch (error) {
          if (attempt >= ATTEMPTS_MAX || !(await this.#isWorthAnother(error, attempt).catch(() => false))) throw error;
        }
      }
    } catch (error) {
      if (isSluiceError(error)) throw error;
      if (this.#isStopped) throw new SluiceError('ERR_HTTP_UNAVAILABLE', 'the hub is stopping', { cause: error });
      throw tooMuchMemory(error);
    } finally {
      this.#release(worker);
    }
  }

  async #isWorthAnother(error: unknown, attempt: number): Promise<boolean> {
    const unreadable = error instanceof Error ? (this.#unreadable.get(error) ?? []) : [];
    // What vanished under the statement is not damage: it is looked for where the newest files are.
    if (isSluiceError(error, 'ERR_QUERY_FILE_GONE') && attempt === 1) return true;
    return unreadable.length > 0 && (await this.#engine.reportUnreadable(unreadable));
  }

  async #run(worker: SqlWorker, query: SqlQuery, signal: AbortSignal | undefined): Promise<SqlOutcome> {
    let killTimer: NodeJS.Timeout | null = null;
    let outcome: SluiceError | null = null;
    const killAfter = (ms: number, error: SluiceError): void => {
      if (killTimer !== null) clearTimeout(killTimer);
      killTimer = setTimeout(() => {
        outcome = error;
        worker.kill();
      }, ms);
    };
    const cancel = (): void => {
      worker.tell({ kind: 'cancel' });
      killAfter(KILL_GRACE_MS, new SluiceError('ERR_QUERY_CANCELLED', 'the caller went away'));
    };
    const bytesMax = this.#settings.memoryBytesMax + PROCESS_BYTES;
    const watch = setInterval(() => {
      if (worker.residentBytes() <= bytesMax) return;
      outcome = tooMuchMemory();
      worker.kill();
    }, WATCH_INTERVAL_MS);
    try {
      if (signal?.aborted === true) throw new SluiceError('ERR_QUERY_CANCELLED', 'the caller went away');
      signal?.addEventListener('abort', cancel);
      const { timeoutMs } = this.#settings;
      killAfter(
        timeoutMs + KILL_GRACE_MS,
        new SluiceError(
          'ERR_QUERY_TIMEOUT',
          `the statement took longer than ${timeoutMs} ms and could not be stopped but with its process`,
        ),
      );
      const planned = await worker.ask({ kind: 'plan', query });
      if (planned.kind !== 'planned') throw this.#failure(planned);
      const capture = await this.#engine.captureSnapshot(planned.request);
      const done = await worker.ask({ kind: 'run', capture, alerts: planned.readsAlerts ? this.#captureAlerts() : null });
      if (done.kind !== 'done') throw this.#failure(done);
      return { ...done.answer, unreadableFiles: missingFileCount(capture) };
    } catch (error) {
      throw outcome ?? error;
    } finally {
      signal?.removeEventListener('abort', cancel);
      clearInterval(watch);
      if (killTimer !== null) clearTimeout(killTimer);
    }
  }

  #failure(reply: SqlReply): Error {
    if (reply.kind !== 'failed') return new Error(`unexpected reply ${reply.kind}`);
    const error = reply.code === null ? new Error(reply.message) : new SluiceError(reply.code, reply.message);
    this.#unreadable.set(error, reply.unreadable);
    return error;
  }

  #acquire(): Promise<SqlWorker> {
    if (this.#isStopped) return Promise.reject(new SluiceError('ERR_HTTP_UNAVAILABLE', 'the hub is stopping'));
    for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) {
      clearTimeout(idle.timer);
      if (idle.worker.isAlive) return Promise.resolve(idle.worker);
      // The kernel takes these processes first where memory is short, idle ones too.
      this.#workers.delete(idle.worker);
    }
    if (this.#workers.size < this.#processesMax) return Promise.resolve(this.#start());
    if (this.#waiting.length >= WAITING_MAX) {
      return Promise.reject(
        new SluiceError(
          'ERR_HTTP_UNAVAILABLE',
          `${this.#workers.size} statements run and ${this.#waiting.length} wait, at most ${WAITING_MAX} may; try again`,
        ),
      );
    }
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  #start(): SqlWorker {
    const worker = new SqlWorker(this.#settings);
    this.#workers.add(worker);
    return worker;
  }

  #release(worker: SqlWorker): void {
    if (!worker.isAlive) this.#workers.delete(worker);
    if (this.#isStopped) return;
    const waiter = this.#waiting.shift();
    if (waiter !== undefined) {
      waiter.resolve(worker.isAlive ? worker : this.#start());
    } else if (worker.isAlive) {
      const timer = setTimeout(() => {
        this.#idle.splice(
          this.#idle.findIndex((entry) => entry.worker === worker),
          1,
        );
        this.#workers.delete(worker);
        worker.kill();
      }, IDLE_MS_MAX);
      timer.unref();
      this.#idle.push({ worker, timer });
    }
  }

  stop(): void {
    this.#isStopped = true;
    for (const { timer } of this.#idle) clearTimeout(timer);
    for (const waiter of this.#waiting.splice(0)) waiter.reject(new SluiceError('ERR_HTTP_UNAVAILABLE', 'the hub is stopping'));
    for (const worker of this.#workers) worker.kill();
    this.#workers.clear();
    this.#idle.length = 0;
  }
}

/** What else ends a process: it is looked at from outside, and V8 ends itself. */
function tooMuchMemory(cause?: unknown): SluiceError {
  return new SluiceError(
    'ERR_QUERY_MEMORY',
    'the process of the statement ended: it needed more memory than it may have; read a shorter range, or make shorter texts and lists',
    { cause },
  );
}
