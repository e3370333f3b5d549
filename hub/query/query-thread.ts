/**
 * A thread that answers queries, as the main thread sees it: tasks go in one message, each has its answer.
 *
 * A thread that ended (memory) fails what it ran; who asks next starts another one.
 */
import type { TransferListItem, Worker } from 'node:worker_threads';
import { SluiceError, type ErrorCode } from '../../shared/errors.ts';

export interface ThreadRequest<Task> {
  readonly id: number;
  readonly task: Task;
}

export type ThreadReply =
  | { readonly id: number; readonly ok: true; readonly value: unknown }
  | {
      readonly id: number;
      readonly ok: false;
      readonly code: ErrorCode | null;
      readonly message: string;
      /** Files of the capture that cannot be read, if that is why. */
      readonly unreadable: readonly string[];
    };

/** A thread, and what its first message is to bring it. */
export interface OpenedThread {
  readonly worker: Worker;
  readonly hello?: { readonly message: unknown; readonly transfer: readonly TransferListItem[] };
}

interface Waiter {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export class QueryThread<Task> {
  readonly #openThread: () => OpenedThread;
  readonly #transferOf: (task: Task) => readonly TransferListItem[];
  /** null: it ended, and nobody has asked since. */
  #worker: Promise<Worker> | null = null;
  #isStopped = false;
  readonly #waiters = new Map<number, Waiter>();
  #nextId = 1;
  /** Files that an error was about. */
  readonly #unreadable = new WeakMap<Error, readonly string[]>();

  /**
   * @param openThread the thread says something once it is open, then arrays of ThreadReply; 'stop' ends it
   * @param transferOf what a task hands over
   */
  constructor(openThread: () => OpenedThread, transferOf: (task: Task) => readonly TransferListItem[] = () => []) {
    this.#openThread = openThread;
    this.#transferOf = transferOf;
  }

  /** The one that runs, as an identity: what a thread remembers is gone with it. */
  get current(): Promise<Worker> | null {
    return this.#worker;
  }

  ready(): Promise<Worker> {
    if (this.#isStopped) return Promise.reject(new SluiceError('ERR_HTTP_UNAVAILABLE', 'the hub is stopping'));
    this.#worker ??= this.#open();
    return this.#worker;
  }

  #open(): Promise<Worker> {
    const { worker, hello } = this.#openThread();
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
        worker.on('message', (replies: readonly ThreadReply[]) => replies.forEach((reply) => this.#onReply(reply)));
        resolve(worker);
      });
      if (hello !== undefined) worker.postMessage(hello.message, hello.transfer);
    });
  }

  /** All in one message, each with an answer of its own. Errors are SluiceError, or what the thread said. */
  ask(tasks: readonly Task[]): Promise<unknown>[] {
    const requests = tasks.map((task): ThreadRequest<Task> => ({ id: this.#nextId++, task }));
    const answers = requests.map(({ id }) => new Promise<unknown>((resolve, reject) => this.#waiters.set(id, { resolve, reject })));
    this.ready().then(
      (worker) => worker.postMessage(requests, tasks.flatMap(this.#transferOf)),
      (error: Error) => requests.forEach(({ id }) => this.#take(id)?.reject(error)),
    );
    return answers;
  }

  unreadableOf(error: unknown): readonly string[] {
    return (error instanceof Error ? this.#unreadable.get(error) : undefined) ?? [];
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

  #onReply(reply: ThreadReply): void {
    const waiter = this.#take(reply.id);
    if (reply.ok) {
      waiter?.resolve(reply.value);
      return;
    }
    const error = reply.code === null ? new Error(reply.message) : new SluiceError(reply.code, reply.message);
    this.#unreadable.set(error, reply.unreadable);
    waiter?.reject(error);
  }

  #take(id: number): Waiter | undefined {
    const waiter = this.#waiters.get(id);
    this.#waiters.delete(id);
    return waiter;
  }

  #failAll(error: Error): void {
    for (const waiter of this.#waiters.values()) waiter.reject(error);
    this.#waiters.clear();
  }
}
