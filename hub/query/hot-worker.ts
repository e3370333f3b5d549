/**
 * The thread of hot queries: a few named devices, few windows, everything of it in memory or in small files.
 *
 * Purpose: what dashboards ask all the time is answered however long others take: nothing here waits for DuckDB, and the
 * capture comes from the engine's thread directly. Queries that came while a capture was under way share the next one, and
 * those of the same windows are one capture of all their devices: it costs hardly more than one of them.
 *
 * A query whose files are not small is not answered here (null): the caller has another thread for it.
 *
 * It holds no state but small files of the lake, which never change; a crash loses the queries under way.
 */
import { parentPort, type MessagePort } from 'node:worker_threads';
import { errorMessage, isSluiceError } from '../../shared/errors.ts';
import { partialColumnsOf } from '../../shared/window/packed-partials.ts';
import { CaptureClient } from '../capture-channel.ts';
import type { AggregateCapture } from '../engine-api.ts';
import { documentsOf, documentText, type DocumentText } from './aggregate-document.ts';
import { answerAggregates } from './answer.ts';
import { ExceptionFiles } from './exception-files.ts';
import { HotWindows, isPlain, rowsOfTail, tailRows, type TailRows } from './hot-windows.ts';
import { warmUp } from './hot-warm-up.ts';
import { PartialFiles, rowsOfRun } from './partial-files.ts';
import type { AggregateAnswer, HotTask } from './query-api.ts';
import type { ThreadReply, ThreadRequest } from './query-thread.ts';

/** To read and take apart more would keep others waiting: 1 MB is about 10 ms, once. */
const BOUNDS = { readBytesMax: 1_000_000, keptBytesMax: 64_000_000 };
/** Devices times windows of one capture: a step of about a ms for the engine. */
const CAPTURE_COST_MAX = 2_048;
/** Answers wait so long for each other: to wake the main thread costs more than a hot answer. */
const REPLIES_MS_MAX = 3;

type HotRequest = ThreadRequest<HotTask>;

/** The first message. */
export interface HotHello {
  /** Where captures come from. */
  readonly engine: MessagePort;
  /** 0: none. */
  readonly warmUpMs: number;
}

/** Queries that one capture is enough for. */
interface Group {
  readonly window: string;
  readonly fromUs: number;
  readonly toUs: number;
  readonly devices: Set<string>;
  readonly requests: HotRequest[];
  cost: number;
}

/** An answer before its text has become bytes; null: not to be answered here. */
interface Prepared {
  readonly id: number;
  readonly answer: AggregateAnswer | DocumentText | null;
}

const main = parentPort;
if (main === null) throw new Error('hot-worker runs as a worker thread');
const partialFiles = new PartialFiles(BOUNDS);
const exceptionFiles = new ExceptionFiles();
const hotWindows = new HotWindows();
const queue: HotRequest[] = [];
let captures: CaptureClient | null = null;
let isTurning = false;

main.on('message', (message: readonly HotRequest[] | HotHello | 'stop') => {
  if (message === 'stop') {
    captures?.close();
    captures = null;
    main.close();
  } else if ('engine' in message) {
    captures = new CaptureClient(message.engine);
    main.postMessage('open');
    void warmUp(hotWindows, message.warmUpMs, () => captures !== null && !isTurning);
  } else {
    queue.push(...message);
    if (!isTurning) void takeTurns();
  }
});

async function takeTurns(): Promise<void> {
  isTurning = true;
  while (queue.length > 0) {
    // All are asked for at once, and answered one after the other: files are read once.
    const groups = gather(queue.splice(0)).map((group) => ({ group, captured: captureOf(group) }));
    for (const { group, captured } of groups) await answerGroup(group, await captured);
  }
  isTurning = false;
}

function gather(requests: readonly HotRequest[]): Group[] {
  const open = new Map<string, Group>();
  const groups: Group[] = [];
  for (const request of requests) {
    const { query, fromUs, toUs, cost } = request.task;
    const key = `${query.window} ${fromUs} ${toUs}`;
    let group = open.get(key);
    if (group === undefined || group.cost + cost > CAPTURE_COST_MAX) {
      group = { window: query.window, fromUs, toUs, devices: new Set(), requests: [], cost: 0 };
      open.set(key, group);
      groups.push(group);
    }
    group.cost += cost;
    group.requests.push(request);
    for (const device of query.devices ?? []) group.devices.add(device);
  }
  return groups;
}

/** @returns an error is told to whoever asked, and nowhere thrown */
async function captureOf({ window, fromUs, toUs, devices }: Group): Promise<AggregateCapture | Error> {
  if (captures === null) return new Error('there is nothing to capture from');
  return captures.capture({ window, fromUs, toUs, gateways: null, devices: [...devices], metrics: null }).catch((error: Error) => error);
}

async function answerGroup({ requests }: Group, capture: AggregateCapture | Error): Promise<void> {
  if (capture instanceof Error) {
    post(requests.map(({ id }) => failure(id, capture)));
    return;
  }
  const shared = sharedOf(capture);
  let prepared: Prepared[] = [];
  let sinceMs = performance.now();
  for (const [index, { id, task }] of requests.entries()) {
    try {
      prepared.push(await prepare(id, task, shared));
    } catch (error) {
      post([failure(id, error)]);
    }
    if (index < requests.length - 1 && performance.now() - sinceMs < REPLIES_MS_MAX) continue;
    postPrepared(prepared);
    prepared = [];
    sinceMs = performance.now();
  }
}

/** What the queries of one capture have in common. */
interface Shared {
  readonly capture: AggregateCapture;
  readonly tail: readonly TailRows[];
  readonly openFromUs: ReadonlyMap<string, number>;
  readonly released: ReadonlySet<string>;
}

function sharedOf(capture: AggregateCapture): Shared {
  return {
    capture,
    tail: tailRows(capture.tail.map(partialColumnsOf)),
    openFromUs: new Map(capture.activeGateways.map((gateway) => [gateway, capture.watermarks.get(gateway) ?? -Infinity])),
    released: new Set(capture.releasedEpochs),
  };
}

async function prepare(id: number, task: HotTask, shared: Shared): Promise<Prepared> {
  const { query, head } = task;
  const { capture, tail, released, openFromUs } = shared;
  const { runs, rest } = await partialFiles.runs(capture.files, capture.definitionHash, query, query.functions);
  const exceptionToUs = query.toUs + capture.definition.sizeMs * 1000;
  const exceptions = await exceptionFiles.read(capture.exceptionFiles, query.fromUs, exceptionToUs, released);
  if (rest.length > 0 || exceptions.rest.length > 0) return { id, answer: null };
  if (head !== null && isPlain(query)) {
    const text = hotWindows.text(task, { capture, runs, tail, exceptions: exceptions.rows, openFromUs });
    if (text !== null) return { id, answer: text };
  }
  const rows = [...runs.flatMap((run) => rowsOfRun(run, query)), ...tail.flatMap((own) => rowsOfTail(own, query))];
  const answer = answerAggregates(query, { ...capture, tail: [] }, rows, exceptions.rows);
  return { id, answer: head === null ? answer : documentText(answer, query.functions, head) };
}

function postPrepared(prepared: readonly Prepared[]): void {
  const isText = (answer: Prepared['answer']): answer is DocumentText => answer !== null && 'head' in answer;
  const documents = documentsOf(prepared.map(({ answer }) => answer).filter(isText));
  let next = 0;
  const replies = prepared.map(({ id, answer }): ThreadReply => ({ id, ok: true, value: isText(answer) ? documents[next++] : answer }));
  post(replies, documents.length === 0 ? [] : [documents[0].bytes.buffer as ArrayBuffer]);
}

function failure(id: number, error: unknown): ThreadReply {
  return { id, ok: false, code: isSluiceError(error) ? error.code : null, message: errorMessage(error), unreadable: [] };
}

function post(replies: readonly ThreadReply[], transfer: readonly ArrayBuffer[] = []): void {
  if (replies.length > 0) main?.postMessage(replies, transfer);
}
