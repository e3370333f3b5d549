/**
 * The engine as the main thread sees it: calls become messages to the worker, batches are transferred, not copied. The
 * calls of one turn of the event loop go in one message and come back in one: to wake a thread costs more than to answer.
 *
 * A worker that dies takes the process with it (`onFatal`): the gateways hold everything that is not committed, and a
 * supervisor's restart is the one recovery path that is tested all the time.
 */
import { MessageChannel, Worker, type MessagePort } from 'node:worker_threads';
import { SluiceError, type ErrorCode } from '../shared/errors.ts';
import { parseLaneAppId, type LaneClaim, type LaneKey, type WatermarkClaim } from '../shared/uplink.ts';
import { workerUrl } from '../shared/worker-url.ts';
import type {
  AggregateCapture,
  AggregateFilter,
  EngineSettings,
  EngineStatus,
  IngestEngine,
  LaneState,
  QueryEngine,
  SnapshotCapture,
  SnapshotEngine,
  SnapshotRequest,
  SubmittedBatch,
  TableCapture,
  TableName,
  TableRange,
} from './engine-api.ts';

export interface EngineCall {
  readonly id: number;
  readonly method: EngineMethod;
  readonly args: readonly unknown[];
}

/** Main → worker. Calls carry an id and are answered; casts are not. */
export type EngineRequest =
  | { readonly kind: 'calls'; readonly calls: readonly EngineCall[] }
  /** Captures are asked for over the port as well (capture-channel.ts). */
  | { readonly kind: 'captures'; readonly port: MessagePort }
  | { readonly kind: 'submit'; readonly lane: LaneKey; readonly batch: SubmittedBatch }
  | { readonly kind: 'watermark'; readonly gateway: string; readonly claim: WatermarkClaim };

export const ENGINE_METHODS = [
  'openLane',
  'captureAggregates',
  'captureTable',
  'captureTableAt',
  'captureSnapshot',
  'reportUnreadable',
  'status',
  'stop',
] as const;
export type EngineMethod = (typeof ENGINE_METHODS)[number];

export type EngineAnswer =
  | { readonly id: number; readonly ok: true; readonly value: unknown }
  | { readonly id: number; readonly ok: false; readonly code: ErrorCode | null; readonly message: string };

/** Worker → main. */
export type EngineReply =
  | { readonly kind: 'ready'; readonly lakeId: string }
  | { readonly kind: 'failed'; readonly code: ErrorCode | null; readonly message: string }
  | { readonly kind: 'answers'; readonly answers: readonly EngineAnswer[] }
  | { readonly kind: 'committed'; readonly positions: readonly { readonly appId: string; readonly committed: number }[] }
  /** `submittedBytes`: of all submissions that the worker has taken in so far, as `submittedBytesOf` counts them. */
  | { readonly kind: 'pending'; readonly bytes: number; readonly submittedBytes: number };

/** What a batch will take in the engine's memory, about: its columns, since its compressed body tells little about them. */
export function submittedBytesOf(batch: SubmittedBatch): number {
  return batch.body.byteLength + batch.readingCount * READING_BYTES;
}

const READING_BYTES = 20;

interface Waiter {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export class EngineClient implements IngestEngine, QueryEngine, SnapshotEngine {
  readonly lakeId: string;
  readonly definitions: EngineSettings['definitions'];
  #worker: Worker;
  #waiters = new Map<number, Waiter>();
  #nextId = 1;
  /** Calls of this turn. */
  #calls: EngineCall[] = [];
  #committedCallbacks: ((lane: LaneKey, committed: number) => void)[] = [];
  #pendingCallbacks: ((pendingBytes: number) => void)[] = [];
  /** Of all submissions of this process; and of those that the worker had taken in when it told `#pendingBytes`. */
  #submittedBytes = 0;
  #takenBytes = 0;
  #pendingBytes = 0;
  /** The worker is gone: calls would wait for ever. */
  #failure: Error | null = null;
  #onFatal: (error: Error) => void;

  private constructor(worker: Worker, lakeId: string, settings: EngineSettings, onFatal: (error: Error) => void) {
    this.#worker = worker;
    this.lakeId = lakeId;
    this.definitions = settings.definitions;
    this.#onFatal = onFatal;
    worker.on('message', (reply: EngineReply) => this.#onReply(reply));
    worker.on('error', (error) => this.#fail(error));
    worker.on('exit', (code) => this.#fail(new Error(`the engine's thread ended with code ${code}`)));
  }

  /** @throws SluiceError of the lake: not a table of ours, not a usable directory. */
  static async start(settings: EngineSettings, onFatal: (error: Error) => void): Promise<EngineClient> {
    const worker = new Worker(workerUrl(import.meta.url, './engine-worker'), { workerData: settings });
    const first = await new Promise<EngineReply>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
      worker.once('exit', (code) => reject(new Error(`the engine's thread ended with code ${code} before it was ready`)));
    });
    if (first.kind === 'ready') return new EngineClient(worker, first.lakeId, settings, onFatal);
    await worker.terminate();
    throw first.kind === 'failed' ? rebuildError(first.code, first.message) : new Error(`unexpected first message ${first.kind}`);
  }

  get pendingBytes(): number {
    return this.#pendingBytes + this.#submittedBytes - this.#takenBytes;
  }

  get waitingBytes(): number {
    return this.#submittedBytes - this.#takenBytes;
  }

  openLane(lane: LaneKey, claim: LaneClaim, isRenamed = false): Promise<LaneState> {
    return this.#call('openLane', lane, claim, isRenamed);
  }

  submit(lane: LaneKey, batch: SubmittedBatch): void {
    this.#sendCalls();
    this.#submittedBytes += submittedBytesOf(batch);
    const { buffer } = batch.body;
    // A body that is a view of a larger (pooled) buffer must not take its neighbours along: structured clone copies it.
    const owned = buffer instanceof ArrayBuffer && buffer.byteLength === batch.body.byteLength;
    this.#worker.postMessage({ kind: 'submit', lane, batch } satisfies EngineRequest, owned ? [buffer] : []);
  }

  assertWatermark(gateway: string, claim: WatermarkClaim): void {
    this.#sendCalls();
    this.#worker.postMessage({ kind: 'watermark', gateway, claim } satisfies EngineRequest);
  }

  onCommitted(callback: (lane: LaneKey, committed: number) => void): void {
    this.#committedCallbacks.push(callback);
  }

  onPendingBytes(callback: (pendingBytes: number) => void): void {
    this.#pendingCallbacks.push(callback);
  }

  captureAggregates(filter: AggregateFilter): Promise<AggregateCapture> {
    return this.#call('captureAggregates', filter);
  }

  captureChannel(): MessagePort {
    const { port1, port2 } = new MessageChannel();
    this.#worker.postMessage({ kind: 'captures', port: port1 } satisfies EngineRequest, [port1]);
    return port2;
  }

  captureTable(table: TableName, range: TableRange): Promise<TableCapture> {
    return this.#call('captureTable', table, range);
  }

  captureTableAt(table: 'readings' | 'exceptions', range: TableRange, version: number): Promise<TableCapture | null> {
    return this.#call('captureTableAt', table, range, version);
  }

  captureSnapshot(request: SnapshotRequest): Promise<SnapshotCapture> {
    return this.#call('captureSnapshot', request);
  }

  reportUnreadable(paths: readonly string[]): Promise<boolean> {
    return this.#call('reportUnreadable', paths);
  }

  status(): Promise<EngineStatus> {
    return this.#call('status');
  }

  /** Commits and flushes what is there, then ends the worker. */
  async stop(): Promise<void> {
    this.#onFatal = () => undefined;
    await this.#call('stop');
    await this.#worker.terminate();
  }

  #call<T>(method: EngineMethod, ...args: unknown[]): Promise<T> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    const id = this.#nextId++;
    return new Promise<T>((resolve, reject) => {
      this.#waiters.set(id, { resolve, reject });
      this.#calls.push({ id, method, args });
      if (this.#calls.length === 1) queueMicrotask(() => this.#sendCalls());
    });
  }

  #sendCalls(): void {
    if (this.#calls.length === 0) return;
    this.#worker.postMessage({ kind: 'calls', calls: this.#calls } satisfies EngineRequest);
    this.#calls = [];
  }

  #onReply(reply: EngineReply): void {
    if (reply.kind === 'answers') {
      for (const answer of reply.answers) {
        const waiter = this.#waiters.get(answer.id);
        this.#waiters.delete(answer.id);
        if (answer.ok) waiter?.resolve(answer.value);
        else waiter?.reject(rebuildError(answer.code, answer.message));
      }
    } else if (reply.kind === 'committed') {
      for (const { appId, committed } of reply.positions) {
        const lane = parseLaneAppId(appId);
        if (lane !== null) for (const callback of this.#committedCallbacks) callback(lane, committed);
      }
    } else if (reply.kind === 'pending') {
      this.#pendingBytes = reply.bytes;
      this.#takenBytes = reply.submittedBytes;
      for (const callback of this.#pendingCallbacks) callback(this.pendingBytes);
    }
  }

  #fail(error: Error): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    for (const waiter of this.#waiters.values()) waiter.reject(error);
    this.#waiters.clear();
    this.#onFatal(error);
  }
}

function rebuildError(code: ErrorCode | null, message: string): Error {
  return code === null ? new Error(message) : new SluiceError(code, message);
}
