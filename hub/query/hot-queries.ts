/**
 * Hot queries on the main thread: which queries are hot, and their way to the thread that answers them (hot-worker.ts).
 *
 * Those of one turn go in one message: to wake a thread costs more than a hot answer.
 */
import { MessageChannel, Worker } from 'node:worker_threads';
import { slideUsOf } from '../../shared/window/definition.ts';
import { workerUrl } from '../../shared/worker-url.ts';
import { serveCaptures } from '../capture-channel.ts';
import type { QueryEngine } from '../engine-api.ts';
import { isPattern } from '../name-patterns.ts';
import type { HotHello } from './hot-worker.ts';
import type { AggregateAnswer, AggregateDocument, AggregateQuery, HotTask } from './query-api.ts';
import { QueryThread, type OpenedThread } from './query-thread.ts';

/**
 * Messages leave so far apart, and what comes in between goes with the next one: a hot query is four messages between threads,
 * and each one that wakes a thread costs as much as an answer. Who asks alone does not wait.
 */
const TURN_MS = 3;
const DEVICES_MAX = 16;
const WINDOWS_MAX = 360;

interface Asked {
  readonly task: HotTask;
  resolve(answer: unknown): void;
  reject(error: unknown): void;
}

export class HotQueries {
  readonly #engine: QueryEngine;
  readonly #thread: QueryThread<HotTask>;
  /** Those that wait for the next message. */
  #asked: Asked[] = [];
  #sentMs = -Infinity;

  constructor(engine: QueryEngine, warmUpMs: number) {
    this.#engine = engine;
    this.#thread = new QueryThread(() => openHotThread(engine, warmUpMs));
  }

  async start(): Promise<void> {
    await this.#thread.ready();
  }

  /** null: its capture is not small, or may not be. */
  taskOf(query: AggregateQuery, head: string | null): HotTask | null {
    const { window, fromUs, toUs, devices } = query;
    const definition = this.#engine.definitions.find(({ name }) => name === window);
    if (definition === undefined || !definition.persisted || definition.by !== 'series' || devices === null) return null;
    if (devices.length > DEVICES_MAX || devices.some(isPattern)) return null;
    const slideUs = slideUsOf(definition);
    const [first, end] = [Math.ceil(fromUs / slideUs), Math.ceil(toUs / slideUs)];
    if (end - first > WINDOWS_MAX) return null;
    return { query, head, fromUs: first * slideUs, toUs: end * slideUs, cost: Math.max(1, end - first) * devices.length };
  }

  /** @returns null: the files of the query are not small */
  answer(task: HotTask): Promise<AggregateAnswer | AggregateDocument | null> {
    return new Promise((resolve, reject) => {
      this.#asked.push({ task, resolve, reject });
      if (this.#asked.length > 1) return;
      const waitMs = Math.ceil(this.#sentMs + TURN_MS - performance.now());
      if (waitMs > 0) setTimeout(() => this.#send(), waitMs);
      else setImmediate(() => this.#send());
    });
  }

  #send(): void {
    const asked = this.#asked;
    this.#asked = [];
    this.#sentMs = performance.now();
    const answers = this.#thread.ask(asked.map(({ task }) => task));
    answers.forEach((answer, index) => void answer.then(asked[index].resolve, asked[index].reject));
  }

  async stop(): Promise<void> {
    await this.#thread.stop();
  }
}

function openHotThread(engine: QueryEngine, warmUpMs: number): OpenedThread {
  const worker = new Worker(workerUrl(import.meta.url, './hot-worker'));
  let port = engine.captureChannel?.();
  if (port === undefined) {
    const channel = new MessageChannel();
    serveCaptures(channel.port1, (filter) => engine.captureAggregates(filter));
    port = channel.port2;
  }
  return { worker, hello: { message: { engine: port, warmUpMs } satisfies HotHello, transfer: [port] } };
}
