/** The thread of the queries: DuckDB's rows and an engine's capture become answers here, away from the sockets. */
import { parentPort, workerData } from 'node:worker_threads';
import { errorMessage, isSluiceError, SluiceError } from '../../shared/errors.ts';
import { slideUsOf } from '../../shared/window/definition.ts';
import { partialColumnsOf } from '../../shared/window/packed-partials.ts';
import { groupKeyText, partialRows, type PartialRow } from '../../shared/window/partial-columns.ts';
import type { AggregateCapture, LakeFile, PendingException } from '../engine-api.ts';
import { judgeWindows, type VerdictAnswer, type VerdictQuery } from '../alerts/verdicts.ts';
import { documentBytes } from './document-bytes.ts';
import { answerAggregates, mergeWindows } from './answer.ts';
import { PromqlRunner } from '../promql/runner.ts';
import { LakeReader } from './duckdb.ts';
import { ExceptionFiles } from './exception-files.ts';
import { isPlain } from './hot-windows.ts';
import { PartialFiles, rowsOfRun } from './partial-files.ts';
import type {
  AggregateAnswer,
  AggregateDocument,
  AggregateQuery,
  ExceptionAnswer,
  QuerySettings,
  QueryTask,
  ReadingAnswer,
  ReadingCursor,
  ReadingQuery,
  ReadingRow,
  SeriesRow,
  SeriesSource,
} from './query-api.ts';
import type { ThreadReply, ThreadRequest } from './query-thread.ts';
import { rangeDocument } from './range-windows.ts';
import { SeriesList } from './series-list.ts';
import { TextSeries, withTexts } from './text-series.ts';
import { computedPartials, lakeExceptionRows, lakeExceptions, isReadable, lakePartials, lakeReadings, lakeSeries } from './statements.ts';

/** Partials that one answer may be merged from: about 1 GB of objects at most. */
const PARTIALS_MAX = 1_000_000;
/** Exceptions that one answer is joined with; beyond it `lost` is an underestimate of what is an estimate anyway. */
const EXCEPTIONS_MAX = 100_000;

/** Series that PromQL selects from: the newest. */
const CATALOGUE_MAX = 200_000;

/** So long a failed query looks for the files that it failed over; the next one goes on with those that are left. */
const UNREADABLE_SEARCH_MS_MAX = 20_000;

type QueryRequest = ThreadRequest<QueryTask>;

const port = parentPort;
if (port === null) throw new Error('query-worker runs as a worker thread');
const reader = await LakeReader.open(workerData as QuerySettings);
const partialFiles = new PartialFiles();
const exceptionFiles = new ExceptionFiles();
const textSeries = new TextSeries(reader);
let seriesList: SeriesList | null = null;
const promql = new PromqlRunner({
  reader,
  timeoutMs: (workerData as QuerySettings).timeoutMs,
  listSeries: async (capture) => seriesOf(capture, await lakeSeries(reader, capture, CATALOGUE_MAX), CATALOGUE_MAX).rows,
});

type FoundRuns = Awaited<ReturnType<PartialFiles['runs']>>;

function runsOf(query: AggregateQuery, capture: AggregateCapture): Promise<FoundRuns> | null {
  return capture.definition.persisted ? partialFiles.runs(capture.files, capture.definitionHash, query, query.functions) : null;
}

async function partialsOf(query: AggregateQuery, capture: AggregateCapture, found: FoundRuns | null): Promise<PartialRow[]> {
  if (found === null) return computedPartials(reader, capture, query, PARTIALS_MAX);
  const rows = found.runs.flatMap((run) => rowsOfRun(run, query));
  return found.rest.length === 0
    ? rows
    : [...rows, ...(await lakePartials(reader, { ...capture, files: found.rest }, query, PARTIALS_MAX))];
}

async function exceptionsOf(capture: AggregateCapture, fromUs: number, toUs: number): Promise<PendingException[]> {
  const released = new Set(capture.releasedEpochs);
  const { rows, rest } = await exceptionFiles.read(capture.exceptionFiles, fromUs, toUs, released);
  return rest.length === 0 ? rows : [...rows, ...(await lakeExceptions(reader, rest, fromUs, toUs, EXCEPTIONS_MAX, released))];
}

async function boundedPartials(query: AggregateQuery, capture: AggregateCapture, found: FoundRuns | null): Promise<PartialRow[]> {
  const rows = await partialsOf(query, capture, found);
  if (rows.length <= PARTIALS_MAX) return rows;
  throw new SluiceError(
    'ERR_QUERY_TOO_LARGE',
    `the range holds more than ${PARTIALS_MAX} partial results: ask for a shorter range, fewer series or a coarser window`,
  );
}

async function verdictsOf(query: VerdictQuery, capture: AggregateCapture): Promise<VerdictAnswer> {
  const windows = mergeWindows(query.windows, capture, await boundedPartials(query.windows, capture, await runsOf(query.windows, capture)));
  const watermarks = capture.activeGateways.map((gateway) => capture.watermarks.get(gateway) ?? -Infinity);
  // Nobody is left who could hold a window open: all that there is is closed.
  const ownUs = Math.min(...(watermarks.length > 0 ? watermarks : [Math.max(-Infinity, ...capture.watermarks.values())]));
  const slideUs = slideUsOf(capture.definition);
  const closedUs = query.closedUs ?? Math.floor(ownUs / slideUs) * slideUs;
  return {
    readingsVersion: capture.readingsVersion,
    whole: capture.overlayComplete && !capture.pendingExceptions.some(({ reason }) => reason.startsWith('lake_file_unreadable')),
    closedUs,
    rules: judgeWindows(windows, query, capture.definition.sizeMs * 1000, closedUs),
  };
}

async function aggregatesOf({
  query,
  head,
  capture,
}: Extract<QueryTask, { kind: 'aggregates' }>): Promise<AggregateAnswer | AggregateDocument> {
  const found = await runsOf(query, capture);
  const exceptions = await exceptionsOf(capture, query.fromUs, query.toUs + capture.definition.sizeMs * 1000);
  if (head !== null && found?.rest.length === 0 && isPlain(query)) {
    const document = rangeDocument(query, head, { capture, runs: found.runs, exceptions }, PARTIALS_MAX);
    if (document !== null) return document;
  }
  const answer = answerAggregates(query, capture, await boundedPartials(query, capture, found), exceptions);
  return head === null ? answer : documentBytes(answer, query.functions, head);
}

async function run(task: QueryTask): Promise<unknown> {
  if (task.kind === 'verdicts') return verdictsOf(task.query, task.capture);
  if (task.kind === 'aggregates') return aggregatesOf(task);
  if (task.kind === 'readings') {
    const rows = await lakeReadings(reader, task.capture.files, task.query);
    const page = rows.slice(0, task.query.limit);
    const answer: ReadingAnswer = {
      readingsVersion: task.capture.version,
      unreadable: task.capture.unreadable,
      rows: page,
      next: rows.length > page.length ? readingCursor(page, task.query) : null,
    };
    return answer;
  }
  if (task.kind === 'exceptions') {
    const rows = await lakeExceptionRows(reader, task.capture.files, task.query);
    const answer: ExceptionAnswer = {
      exceptionsVersion: task.capture.version,
      unreadable: task.capture.unreadable,
      rows: rows.slice(0, task.query.limit),
      next: rows.length > task.query.limit ? (rows[task.query.limit - 1] ?? null) : null,
    };
    return answer;
  }
  if (task.kind === 'series') {
    if (task.source !== null) seriesList = await readSeries(task.source);
    if (seriesList === null) throw new SluiceError('ERR_QUERY_FAILED', 'the list of series is gone with the thread that had it; try again');
    return task.by === 'series' ? seriesList.series(task.query) : seriesList.devices(task.query);
  }
  return promql.run(task);
}

async function readSeries({ capture, readings, rowsMax }: SeriesSource): Promise<SeriesList> {
  if (capture === null) return new SeriesList([], false);
  const numeric = seriesOf(capture, await lakeSeries(reader, capture, rowsMax), rowsMax);
  const texts = await textSeries.list(readings.files);
  const rows = withTexts(numeric.rows, texts.rows, groupKeyText);
  return new SeriesList(rows.slice(0, rowsMax), numeric.truncated || !texts.complete || rows.length > rowsMax);
}

/** Where the page ends; rows that are equal in every part of the order are counted, so that the next page skips them. */
function readingCursor(page: readonly ReadingRow[], query: ReadingQuery): ReadingCursor | null {
  const last = page.at(-1);
  if (last === undefined) return null;
  const { tsUs, gateway, device, metric, epoch, lane, seq } = last;
  const place = { tsUs, gateway, device, metric, tags: last.tags ?? '', epoch, lane, seq };
  const isSamePlace = (row: {
    tsUs: number;
    gateway: string;
    device: string;
    metric: string;
    tags: string | null;
    epoch: string;
    lane: string;
    seq: number;
  }): boolean =>
    row.tsUs === tsUs &&
    row.gateway === gateway &&
    row.device === device &&
    row.metric === metric &&
    (row.tags ?? '') === place.tags &&
    row.epoch === epoch &&
    row.lane === lane &&
    row.seq === seq;
  const skip = page.filter(isSamePlace).length + (query.after !== null && isSamePlace(query.after) ? query.after.skip : 0);
  return { ...place, skip };
}

function seriesOf(capture: AggregateCapture, lakeRows: readonly PartialRow[], rowsMax: number): { rows: SeriesRow[]; truncated: boolean } {
  const series = new Map<string, SeriesRow>();
  const add = ({ group, partial }: PartialRow): void => {
    const key = groupKeyText(group);
    const known = series.get(key);
    const isNewer = known?.lastTsUs == null || partial.lastTsUs > known.lastTsUs;
    series.set(key, {
      gateway: group.gateway ?? '',
      device: group.device ?? '',
      metric: group.metric ?? '',
      tags: group.tags,
      count: (known?.count ?? 0) + partial.n,
      firstTsUs: least(known?.firstTsUs ?? null, partial.firstTsUs),
      lastTsUs: isNewer ? finite(partial.lastTsUs) : known.lastTsUs,
      lastValue: isNewer ? finite(partial.lastValue) : known.lastValue,
    });
  };
  for (const row of lakeRows) add(row);
  for (const sent of capture.tail) for (const row of partialRows(partialColumnsOf(sent))) add(row);
  const rows = [...series.values()].sort((a, b) => (b.lastTsUs ?? 0) - (a.lastTsUs ?? 0));
  return { rows: rows.slice(0, rowsMax), truncated: rows.length > rowsMax };
}

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

function least(a: number | null, b: number): number | null {
  if (a === null) return finite(b);
  return Number.isFinite(b) ? Math.min(a, b) : a;
}

function filesOf(task: QueryTask): readonly LakeFile[] {
  if (task.kind === 'aggregates') return [...task.capture.files, ...task.capture.exceptionFiles];
  if (task.kind === 'promql_evaluate') return task.source.capture.files;
  if (task.kind === 'promql_select' || task.kind === 'promql_list') return task.catalogue?.files ?? [];
  if (task.kind === 'series') return [...(task.source?.capture?.files ?? []), ...(task.source?.readings.files ?? [])];
  return task.capture.files;
}

/** Asked one by one, whole: the engine does not say which file it stumbled over. */
async function unreadableFiles(error: unknown, task: QueryTask): Promise<string[]> {
  if (!isSluiceError(error, 'ERR_QUERY_FAILED') && !isSluiceError(error, 'ERR_QUERY_FILE_GONE')) return [];
  const files = filesOf(task);
  const untilMs = performance.now() + UNREADABLE_SEARCH_MS_MAX;
  const unreadable: string[] = [];
  for (const { path } of files) {
    if (performance.now() > untilMs) break;
    if (!(await isReadable(reader, path))) unreadable.push(path);
  }
  return unreadable;
}

async function answer({ id, task }: QueryRequest): Promise<ThreadReply> {
  try {
    return { id, ok: true, value: await run(task) };
  } catch (error) {
    return {
      id,
      ok: false,
      code: isSluiceError(error) ? error.code : null,
      message: errorMessage(error),
      unreadable: await unreadableFiles(error, task),
    };
  }
}

/** Bytes are handed over, not copied. */
function buffersOf(reply: ThreadReply): ArrayBuffer[] {
  const bytes = reply.ok && typeof reply.value === 'object' && reply.value !== null && 'bytes' in reply.value ? reply.value.bytes : null;
  return bytes instanceof Uint8Array && bytes.buffer instanceof ArrayBuffer ? [bytes.buffer] : [];
}

/** One after the other. */
async function answerAll(requests: readonly QueryRequest[]): Promise<void> {
  for (const request of requests) {
    const reply = await answer(request);
    port?.postMessage([reply], buffersOf(reply));
  }
}

let turn = Promise.resolve();
port.on('message', (requests: readonly QueryRequest[] | 'stop') => {
  // A thread that is terminated while DuckDB works does not end: it is asked to.
  if (requests === 'stop') void reader.close().then(() => port.close());
  else turn = turn.then(() => answerAll(requests));
});
port.postMessage('open');
