/** The engine's thread: opens the lake, answers the main thread's messages. */
import { parentPort, workerData } from 'node:worker_threads';
import { systemClock } from '../shared/clock.ts';
import { errorMessage, isSluiceError } from '../shared/errors.ts';
import { createLogger } from '../shared/logging.ts';
import { lowerThreadPriority } from '../shared/thread-priority.ts';
import type { LaneClaim, LaneKey } from '../shared/uplink.ts';
import { buffersOf } from '../shared/window/packed-partials.ts';
import { serveCaptures } from './capture-channel.ts';
import { Engine } from './engine.ts';
import type {
  AggregateCapture,
  AggregateFilter,
  EngineSettings,
  SnapshotCapture,
  SnapshotRequest,
  TableName,
  TableRange,
} from './engine-api.ts';
import {
  submittedBytesOf,
  type EngineAnswer,
  type EngineCall,
  type EngineMethod,
  type EngineReply,
  type EngineRequest,
} from './engine-client.ts';
import { Lake } from './lake/lake.ts';
import { LocalStore } from './lake/local-store.ts';
import { packed } from './packed-capture.ts';

/** Positions are coalesced for so long: a commit moves a thousand lanes at once, submissions come by the thousand. */
const PENDING_REPORT_MS = 20;
/** Behind the threads that own sockets and answer queries: they want little, and at once. */
const NICE_STEPS = 5;

const settings = workerData as EngineSettings;
const port = parentPort;
if (port === null) throw new Error('engine-worker runs as a worker thread');
const logger = createLogger('hub-engine', settings.logLevel);
lowerThreadPriority(NICE_STEPS, logger);

function reply(message: EngineReply, transfer: readonly ArrayBuffer[] = []): void {
  port?.postMessage(message, transfer);
}

function whenMade<T, U>(value: T | Promise<T>, use: (value: T) => U): U | Promise<U> {
  return value instanceof Promise ? value.then(use) : use(value);
}

/** What an answer hands over. */
function transferOf(method: EngineMethod, value: unknown): ArrayBuffer[] {
  if (method === 'captureAggregates') return buffersOf((value as AggregateCapture).tail);
  if (method === 'captureSnapshot') return (value as SnapshotCapture).aggregates.flatMap(({ tail }) => buffersOf(tail));
  return [];
}

function asError(error: unknown): { code: ReturnType<typeof codeOf>; message: string } {
  return { code: codeOf(error), message: errorMessage(error) };
}

function codeOf(error: unknown) {
  return isSluiceError(error) ? error.code : null;
}

let pendingReport: NodeJS.Timeout | null = null;
let pendingBytes = 0;
let submittedBytes = 0;
/** Of each thread that captures by itself: serves it between two steps. */
const servers = new Set<() => void>();
const serveBetween = (): void => servers.forEach((serve) => serve());

try {
  const store = await LocalStore.open(settings.lakeDir);
  const lake = await Lake.open(store, settings.lakeDir, { clock: systemClock, hubId: settings.hubInstance, logger });
  const engine = await Engine.open(settings, lake, systemClock, logger, {
    committed: (positions) => reply({ kind: 'committed', positions }),
    pending(bytes) {
      pendingBytes = bytes;
      pendingReport ??= setTimeout(() => {
        pendingReport = null;
        reply({ kind: 'pending', bytes: pendingBytes, submittedBytes });
      }, PENDING_REPORT_MS);
    },
    between: serveBetween,
    fatal(error) {
      logger.fatal(
        { err: error },
        'the lake has to be opened again: this hub ends, its supervisor starts it anew, the gateways keep what is not committed',
      );
      // Out of every promise: what nobody catches ends the thread, and that ends the process.
      setImmediate(() => {
        throw error;
      });
    },
  });
  const methods: Record<EngineMethod, (args: readonly unknown[]) => unknown> = {
    openLane: ([lane, claim, isRenamed]) => engine.openLane(lane as LaneKey, claim as LaneClaim, isRenamed as boolean),
    captureAggregates: ([filter]) => whenMade(engine.captureAggregatesInTurn(filter as AggregateFilter), packed),
    captureTable: ([table, range]) => engine.captureTable(table as TableName, range as TableRange),
    captureTableAt: ([table, range, version]) =>
      engine.captureTableAt(table as 'readings' | 'exceptions', range as TableRange, version as number),
    captureSnapshot: ([request]) =>
      whenMade(engine.captureSnapshotInTurn(request as SnapshotRequest), (capture) => ({
        ...capture,
        aggregates: capture.aggregates.map(packed),
      })),
    reportUnreadable: ([paths]) => engine.reportUnreadable(paths as readonly string[]),
    status: () => engine.status(),
    stop: () => engine.stop(),
  };
  port.on('message', (message: EngineRequest) => {
    if (message.kind === 'submit') {
      submittedBytes += submittedBytesOf(message.batch);
      engine.submit(message.lane, message.batch);
      serveBetween();
    } else if (message.kind === 'captures') {
      const { port: captures } = message;
      const serve = serveCaptures(captures, (filter) => engine.captureAggregatesInTurn(filter));
      servers.add(serve);
      captures.on('close', () => servers.delete(serve));
    } else if (message.kind === 'watermark') engine.assertWatermark(message.gateway, message.claim);
    else answerCalls(message.calls, methods);
  });
  reply({ kind: 'ready', lakeId: engine.lakeId });
} catch (error) {
  reply({ kind: 'failed', ...asError(error) });
}

/** What is known at once goes back in one message; what takes its time by itself. */
function answerCalls(calls: readonly EngineCall[], methods: Record<EngineMethod, (args: readonly unknown[]) => unknown>): void {
  const answers: EngineAnswer[] = [];
  const transfer: ArrayBuffer[] = [];
  for (const { id, method, args } of calls) {
    try {
      const value = methods[method](args);
      if (value instanceof Promise) {
        void answerLater(id, method, value);
        continue;
      }
      answers.push({ id, ok: true, value });
      transfer.push(...transferOf(method, value));
    } catch (error) {
      answers.push({ id, ok: false, ...asError(error) });
    }
  }
  if (answers.length > 0) reply({ kind: 'answers', answers }, transfer);
}

async function answerLater(id: number, method: EngineMethod, made: Promise<unknown>): Promise<void> {
  try {
    const value = await made;
    reply({ kind: 'answers', answers: [{ id, ok: true, value }] }, transferOf(method, value));
  } catch (error) {
    reply({ kind: 'answers', answers: [{ id, ok: false, ...asError(error) }] });
  }
}
