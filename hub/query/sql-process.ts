/**
 * The process of SQL: runs one statement of a stranger at a time and may die of it.
 *
 * A process and not a thread: DuckDB's bound does not cover what is allocated outside its buffers (a text of 4 GB), and V8
 * ends the process when such a text reaches it. Here that costs this statement; its parent starts another process. It runs
 * at a lower priority than the hub, so that ingest has the CPU first, watches its own memory, and ends when its parent does.
 */
import os from 'node:os';
import { writeFileSync } from 'node:fs';
import { SluiceError } from '../../shared/errors.ts';
import type { SnapshotCapture, SnapshotRequest } from '../engine-api.ts';
import {
  PROCESS_BYTES,
  type AlertsCapture,
  type SqlAnswer,
  type SqlQuery,
  type SqlReply,
  type SqlRequest,
  type SqlSettings,
} from './sql-api.ts';
import { SqlDatabase, translateSqlError } from './sql-database.ts';
import { findUnreadable, lakeFilesOf, mayBeDamage } from './sql-damage.ts';
import type { SqlView } from './sql-plan.ts';
import { renderResult } from './sql-rows.ts';
import { StreamBrokenError } from './streamed-chunks.ts';

const WATCH_INTERVAL_MS = 25;
const INTERRUPT_INTERVAL_MS = 20;
const PRIORITY = 10;
const EXIT_MEMORY = 77;

const settings = JSON.parse(process.argv[2] ?? '{}') as SqlSettings;
let database: SqlDatabase | null = null;
let current: { query: SqlQuery; views: ReadonlySet<SqlView>; request: SnapshotRequest; hasViews: boolean } | null = null;
let stopped: SluiceError | null = null;
let interrupting: NodeJS.Timeout | null = null;

// Before DuckDB makes its threads: they inherit it.
os.setPriority(PRIORITY);
try {
  // The kernel, too, is to take this process and not the hub.
  writeFileSync('/proc/self/oom_score_adj', '1000');
} catch {
  // not Linux, or not allowed: the watch below is the bound
}
setInterval(() => {
  if (process.memoryUsage.rss() > settings.memoryBytesMax + PROCESS_BYTES) process.exit(EXIT_MEMORY);
}, WATCH_INTERVAL_MS).unref();

function reply(message: SqlReply): void {
  process.send?.(message);
}

/** What runs is interrupted until it has ended: an interrupt that comes too early is lost. */
function stop(error: SluiceError): void {
  stopped ??= error;
  interrupting ??= setInterval(() => database?.interrupt(), INTERRUPT_INTERVAL_MS);
}

function end(): void {
  if (interrupting !== null) clearInterval(interrupting);
  interrupting = null;
  stopped = null;
  current = null;
  database?.close();
  database = null;
}

async function plan(query: SqlQuery): Promise<void> {
  // Of a statement that was planned and never run, for want of a capture.
  end();
  database = await SqlDatabase.open(settings);
  const { views, request } = await database.plan(query);
  current = { query, views, request, hasViews: false };
  reply({ kind: 'planned', request, readsAlerts: views.has('alerts') });
}

async function run(capture: SnapshotCapture, alerts: AlertsCapture | null): Promise<SqlAnswer> {
  if (database === null || current === null) throw new Error('a statement is planned before it is run');
  const { query, views, request } = current;
  await database.makeViews(views, request, capture, alerts);
  current.hasViews = true;
  const result = await database.run(query);
  const versions = {
    ...(alerts === null ? {} : { alerts: alerts.version }),
    ...(capture.readings === null ? {} : { readings: capture.readings.version }),
    ...(capture.exceptions === null ? {} : { exceptions: capture.exceptions.version }),
    ...(capture.aggregates.length === 0
      ? {}
      : { aggregates: capture.aggregates[0].aggregatesVersion, readings: capture.aggregates[0].readingsVersion }),
  };
  try {
    return { ...(await renderResult(result, query, settings.answerBytesMax, versions)), versions };
  } catch (cause) {
    throw cause instanceof StreamBrokenError && stopped === null ? await database.whyBroken(query) : cause;
  }
}

/** Within the time of the statement; what is found until then is worth to be told. */
async function unreadableFiles(cause: unknown, capture: SnapshotCapture): Promise<string[]> {
  const files = lakeFilesOf(capture);
  if (files.length === 0 || stopped !== null || !mayBeDamage(cause, current?.hasViews === true)) return [];
  database?.close();
  database = null;
  database = await SqlDatabase.open(settings);
  return findUnreadable(database, files, () => stopped !== null);
}

async function handle(request: SqlRequest): Promise<void> {
  if (request.kind === 'cancel') {
    if (database !== null) stop(new SluiceError('ERR_QUERY_CANCELLED', 'the caller went away'));
    return;
  }
  if (request.kind === 'run') {
    const timer = setTimeout(
      () => stop(new SluiceError('ERR_QUERY_TIMEOUT', `the statement took longer than ${settings.timeoutMs} ms; read a shorter range`)),
      settings.timeoutMs,
    );
    try {
      const answer = await run(request.capture, request.alerts);
      end();
      reply({ kind: 'done', answer });
    } catch (cause) {
      const { code, message } = stopped ?? translateSqlError(cause);
      const unreadable = await unreadableFiles(cause, request.capture);
      end();
      reply({ kind: 'failed', code, message, unreadable });
    } finally {
      clearTimeout(timer);
    }
    return;
  }
  await plan(request.query);
}

process.on('message', (request: SqlRequest) => {
  handle(request).catch((cause: unknown) => {
    const error = stopped ?? translateSqlError(cause);
    end();
    reply({ kind: 'failed', code: error.code, message: error.message, unreadable: [] });
  });
});
process.on('disconnect', () => process.exit(0));
reply({ kind: 'ready' });
