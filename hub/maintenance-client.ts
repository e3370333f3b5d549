/**
 * The maintenance thread as the main thread sees it. Whatever ends it (memory, a defect) ends neither the hub nor ingest:
 * it is started again, after a while.
 */
import { Worker } from 'node:worker_threads';
import { SluiceError, type ErrorCode } from '../shared/errors.ts';
import type { Logger } from '../shared/logging.ts';
import type { WindowDefinition } from '../shared/window/definition.ts';
import { workerUrl } from '../shared/worker-url.ts';
import type { MaintenanceStatus } from './maintenance.ts';

export interface MaintenanceSettings {
  readonly lakeDir: string;
  readonly hubInstance: string;
  /** Cron expression. */
  readonly schedule: string;
  readonly compactionRowsMax: number;
  readonly definitions: readonly WindowDefinition[];
  readonly logLevel: string;
}

export interface MaintenanceRequest {
  readonly id: number;
  readonly method: 'run' | 'status';
}

export type MaintenanceReply =
  | { readonly id: number; readonly ok: true; readonly status: MaintenanceStatus }
  | { readonly id: number; readonly ok: false; readonly code: ErrorCode | null; readonly message: string };

/** A status costs listings of the logs: so long one is good for all that ask. */
const STATUS_AGE_MS_MAX = 5_000;
const RESTART_DELAY_MS = 10_000;

export class MaintenanceClient {
  readonly #settings: MaintenanceSettings;
  readonly #logger: Logger;
  #worker: Worker;
  #isStopped = false;
  /** The thread has ended: what it is asked nobody would answer. */
  #isGone = false;
  #restart: NodeJS.Timeout | null = null;
  #nextId = 1;
  readonly #waiters = new Map<number, { resolve(status: MaintenanceStatus): void; reject(error: Error): void }>();
  #status: { readonly atMs: number; readonly answer: Promise<MaintenanceStatus> } | null = null;

  constructor(settings: MaintenanceSettings, logger: Logger) {
    this.#settings = settings;
    this.#logger = logger;
    this.#worker = this.#start();
  }

  #start(): Worker {
    const worker = new Worker(workerUrl(import.meta.url, './maintenance-worker'), { workerData: this.#settings });
    this.#isGone = false;
    worker.on('message', (reply: MaintenanceReply) => {
      const waiter = this.#waiters.get(reply.id);
      this.#waiters.delete(reply.id);
      if (reply.ok) waiter?.resolve(reply.status);
      else waiter?.reject(reply.code === null ? new Error(reply.message) : new SluiceError(reply.code, reply.message));
    });
    worker.once('error', (error) => this.#logger.error({ err: error }, 'the thread of the maintenance failed'));
    worker.once('exit', () => {
      this.#isGone = true;
      for (const waiter of this.#waiters.values()) waiter.reject(new SluiceError('ERR_HTTP_UNAVAILABLE', 'the maintenance starts again'));
      this.#waiters.clear();
      if (!this.#isStopped) this.#restart = setTimeout(() => (this.#worker = this.#start()), RESTART_DELAY_MS);
    });
    return worker;
  }

  /** How the tables and the last runs are. @throws SluiceError ERR_STORE_*, ERR_LAKE_*, ERR_HTTP_UNAVAILABLE */
  status(): Promise<MaintenanceStatus> {
    const nowMs = performance.now();
    if (this.#status === null || nowMs - this.#status.atMs > STATUS_AGE_MS_MAX) {
      this.#status = { atMs: nowMs, answer: this.#call('status') };
    }
    return this.#status.answer;
  }

  /** One run now; its failure is in the status. */
  run(): Promise<MaintenanceStatus> {
    return this.#call('run');
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    if (this.#restart !== null) clearTimeout(this.#restart);
    // A rewrite that is cut off leaves an orphan: no reason to wait for it.
    await this.#worker.terminate();
  }

  #call(method: 'run' | 'status'): Promise<MaintenanceStatus> {
    if (this.#isStopped) return Promise.reject(new SluiceError('ERR_HTTP_UNAVAILABLE', 'the hub is stopping'));
    if (this.#isGone) return Promise.reject(new SluiceError('ERR_HTTP_UNAVAILABLE', 'the maintenance starts again'));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiters.set(id, { resolve, reject });
      this.#worker.postMessage({ id, method } satisfies MaintenanceRequest);
    });
  }
}
