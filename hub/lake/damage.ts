/**
 * Data files that cannot be read: damaged on disk, or gone.
 *
 * Two cases, because windows cannot wait and queries can. A query that meets such a file goes on without it and says so;
 * the file stays in its table, and a copy put back from a backup heals everything. Windows that need the rows of such a
 * file of `readings` would stand still for ever: there the rows are given up, once and for all hubs alike (`giveUp`).
 *
 * Order of `giveUp`, and what a crash after each step leaves:
 *   1. one row of `exceptions`, a gap with the count and range that the log's statistics say, with the position
 *      `damage/readings/<path>` 0 → 1: whoever meets the file again, or has it back from a backup, leaves it out
 *   2. the file leaves `readings` in a version that removes data: other engines read the table again
 * Between the two, readers see a gap for a file that is still named. The bytes stay until vacuum, at
 * `deletedFileRetentionDuration`: time for an operator to copy them.
 *
 * A third case is a file that is whole, written by another program, and made in a way that this hub does not read. Windows go
 * on without it, and a gap with the position `unread/readings/<path>` says so, once; the file stays in its table (`setAside`).
 *
 * It does not repair Parquet, and knows nothing of windows.
 */
import { createHash } from 'node:crypto';
import { errorMessage, isSluiceError, SluiceError } from '../../shared/errors.ts';
import { encodeInSlices } from './encode-slices.ts';
import { parseFileStats, type AddFile } from './delta-actions.ts';
import { removeAction } from './delta-stats.ts';
import { positionOf } from './delta-snapshot.ts';
import { exceptionColumns } from './exception-rows.ts';
import type { Lake } from './lake.ts';
import { stageFile } from './stage.ts';

/** The lane of exceptions that the lake itself reports: no gateway has it. */
export const DAMAGE_LANE = 'damage';

/** What is known of a file without reading it. */
export interface FileExtent {
  readonly rows: number | null;
  /** Event times in [fromUs, toUs); all of time where nothing is known. */
  readonly fromUs: number;
  readonly toUs: number;
  /** null: several, or unknown. */
  readonly gateway: string | null;
  readonly device: string | null;
  readonly metric: string | null;
}

const DAY_US = 86_400_000_000;
/** Years 1970 to 9999. */
const ALL_TIME = { fromUs: 0, toUs: 253_402_300_799_000_000 };

export function damageAppId(path: string): string {
  return `damage/readings/${path}`;
}

function unreadAppId(path: string): string {
  return `unread/readings/${path}`;
}

/** Does the error say that this file, and nothing else, is unreadable, here (ERR_PARQUET_UNSUPPORTED) or everywhere? */
export function isDamage(error: unknown): boolean {
  return (
    isSluiceError(error, 'ERR_PARQUET_INVALID') ||
    isSluiceError(error, 'ERR_LAKE_FILE_MISSING') ||
    isSluiceError(error, 'ERR_PARQUET_UNSUPPORTED')
  );
}

/** @param times columns that bound a row's time, first and last */
export function extentOf(file: AddFile, times: readonly [from: string, to: string]): FileExtent {
  const { numRecords, minValues, maxValues } = parseFileStats(file.stats);
  const only = (column: string): string | null => {
    const [min, max] = [minValues[column], maxValues[column]];
    return typeof min === 'string' && min === max ? min : null;
  };
  const { fromUs, toUs } = timesOf(file, minValues[times[0]], maxValues[times[1]]);
  return { rows: numRecords, fromUs, toUs, gateway: only('gateway'), device: only('device'), metric: only('metric') };
}

function timesOf(file: AddFile, min: unknown, max: unknown): { readonly fromUs: number; readonly toUs: number } {
  const dayUs = Date.parse(`${file.partitionValues['day'] ?? ''}T00:00:00Z`) * 1000;
  const isDay = Number.isFinite(dayUs);
  const minUs = typeof min === 'string' ? Date.parse(min) * 1000 : NaN;
  // Statistics are in ms: a maximum may be almost one too small.
  const maxUs = typeof max === 'string' ? Date.parse(max) * 1000 + 1000 : NaN;
  return {
    fromUs: Number.isFinite(minUs) ? minUs : isDay ? dayUs : ALL_TIME.fromUs,
    toUs: Number.isFinite(maxUs) ? maxUs : isDay ? dayUs + DAY_US : ALL_TIME.toUs,
  };
}

/** Was the file given up, by this hub or another? */
export function isGivenUp(lake: Lake, path: string): boolean {
  return positionOf(lake.exceptions.snapshot, damageAppId(path)) > 0;
}

/** Do windows go on without the file, by this hub's word or another's? */
export function isSetAside(lake: Lake, path: string): boolean {
  return positionOf(lake.exceptions.snapshot, unreadAppId(path)) > 0;
}

/**
 * Windows go on without the rows of a file of `readings` that this hub does not read. Any number of hubs may do so at once.
 *
 * @throws as `giveUp`
 */
export async function setAside(lake: Lake, path: string, cause: unknown, breathe: () => Promise<void>): Promise<void> {
  await lake.readings.refresh();
  await lake.exceptions.refresh();
  if (isSetAside(lake, path)) return;
  const file = lake.readings.snapshot.files.get(path);
  if (file === undefined)
    throw new SluiceError('ERR_LAKE_LOG_GAP', `${path} is not read here and is no longer part of readings: ${errorMessage(cause)}`, {
      cause,
    });
  const extent = extentOf(file, ['ts', 'ts']);
  lake.logger.error(
    { path, ...extent, err: cause },
    'a file of readings is not read by this hub: windows go on without its rows, a gap says so',
  );
  await recordGap(lake, { path, appId: unreadAppId(path), idx: 1, reason: 'lake_file_unsupported' }, extent, cause, breathe);
}

/**
 * Gives up the rows of a file of `readings` that cannot be read. Any number of hubs may do so at once.
 *
 * @throws SluiceError ERR_LAKE_LOG_GAP where the file is no longer named: its rows are in others, which windows that are
 *   computed anew read; ERR_STORE_*
 */
export async function giveUp(lake: Lake, path: string, cause: unknown, breathe: () => Promise<void>): Promise<void> {
  await lake.readings.refresh();
  await lake.exceptions.refresh();
  const file = lake.readings.snapshot.files.get(path);
  if (file === undefined) {
    if (isGivenUp(lake, path)) return;
    throw new SluiceError('ERR_LAKE_LOG_GAP', `${path} cannot be read and is no longer part of readings: ${errorMessage(cause)}`, {
      cause,
    });
  }
  if (!isGivenUp(lake, path)) {
    const extent = extentOf(file, ['ts', 'ts']);
    lake.logger.error({ path, ...extent, err: cause }, 'a file of readings cannot be read: its rows are recorded as a gap');
    await recordGap(lake, { path, appId: damageAppId(path), idx: 0, reason: 'lake_file_damaged' }, extent, cause, breathe);
  }
  const outcome = await lake.readings.tryCommit({
    operation: 'DELETE',
    operationParameters: { predicate: `["damaged file ${path}"]` },
    adds: [],
    removes: [removeAction(file, Math.floor(lake.clock.nowUs() / 1000), true)],
    txns: [],
  });
  if (outcome.status === 'conflict' && outcome.reason === 'metadata') {
    throw new SluiceError('ERR_LAKE_CONTENTION', `the schema of readings changed while ${path} was removed`);
  }
}

async function recordGap(
  lake: Lake,
  { path, appId, idx, reason }: { readonly path: string; readonly appId: string; readonly idx: number; readonly reason: string },
  extent: FileExtent,
  cause: unknown,
  breathe: () => Promise<void>,
): Promise<void> {
  const table = lake.exceptions;
  const columns = exceptionColumns([
    {
      batch: {
        // The id of the row: there is no gateway's lane behind it.
        lane: { gateway: extent.gateway, epoch: createHash('sha256').update(path).digest('hex').slice(0, 32), lane: DAMAGE_LANE },
        seq: 1,
        receivedUs: lake.clock.nowUs(),
      },
      idx,
      record: {
        kind: 'gap',
        device: extent.device,
        metric: extent.metric,
        fromUs: extent.fromUs,
        toUs: extent.toUs,
        readingCount: extent.rows,
        reason: `${reason}: readings/${path}: ${errorMessage(cause)}`.slice(0, 1_000),
        payload: null,
      },
    },
  ]);
  const add = await stageFile(table, {}, await encodeInSlices(1, columns, breathe));
  const outcome = await table.tryCommit({
    operation: 'STREAMING UPDATE',
    operationParameters: { outputMode: 'Append' },
    adds: [add],
    removes: [],
    txns: [{ appId, from: 0, to: 1 }],
  });
  // 'moved': another hub has recorded it.
  if (outcome.status !== 'committed') await table.discardStaged([add.path]);
}
