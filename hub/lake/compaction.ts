/**
 * Compaction: small files of `readings` and `exceptions` become few, with the same rows.
 *
 * Purpose: a table of 17,280 commits a day stays one that engines open at once. Rows of `readings` are sorted anew (device,
 * metric, tags, gateway, ts), which also makes them smaller.
 *
 * Steps, and what a crash after each leaves:
 *   1. the inputs are read, the merged file is staged: an orphan, which vacuum deletes
 *   2. one commit removes the inputs and adds the file, `dataChange: false`: consumers of the table have had these rows and
 *      skip it; readers of older versions have the inputs until vacuum
 * The commit is refused when another writer removed an input meanwhile: then the staged file is deleted and the next run
 * plans anew. It never holds up ingest: commits of others go in between, and the same file is committed behind them.
 *
 * Memory: the sorted columns of one job, and one column of its inputs (about 80 bytes a row).
 *
 * It does not compact what it cannot read whole, and no table with columns that this hub does not know.
 */
import { isSluiceError } from '../../shared/errors.ts';
import { isDamage } from './damage.ts';
import { planCompaction, type PlanFile, type PlanLimits } from './compaction-plan.ts';
import { parseFileStats, type AddFile } from './delta-actions.ts';
import { removeAction } from './delta-stats.ts';
import type { DeltaTable } from './delta-table.ts';
import { encodeInSlices } from './encode-slices.ts';
import { gatherColumn, readingsOrder, type ColumnPart } from './gather-columns.ts';
import type { Lake } from './lake.ts';
import type { AsyncBuffer, ParquetColumns } from './parquet/read.ts';
import { readParquetColumns } from './parquet/read.ts';
import type { ParquetColumn } from './parquet/encode.ts';
import { stageFile } from './stage.ts';
import { storedColumns } from './table-spec.ts';

const DAY_MS = 86_400_000;
/** After the end of a day, or of a backlog that was drained into an old one. */
const QUIET_MS = 3_600_000;

export interface CompactionSettings extends PlanLimits {
  /** A run ends after so long; the next one goes on. */
  readonly runMsMax: number;
}

export const COMPACTION_DEFAULTS: CompactionSettings = {
  // Fewer and larger steps write less and leave more files; with 8 a day at 5 s has at most about 40.
  fanIn: 8,
  // The encoder's row group, and 80 MB of memory. At 3 bytes a reading it is a file of 3 MB.
  rowsMax: 1_000_000,
  // Exceptions carry payloads.
  bytesMax: 64_000_000,
  filesMax: 64,
  runMsMax: 300_000,
};

export interface CompactionResult {
  readonly jobs: number;
  readonly filesIn: number;
  readonly filesOut: number;
  readonly rows: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Jobs that another writer was in the way of: planned anew by the next run. */
  readonly conflicts: number;
  /** Files that could not be read and stay as they are. */
  readonly unreadable: readonly string[];
}

export type MutableCompactionResult = { -readonly [K in keyof CompactionResult]: CompactionResult[K] } & { unreadable: string[] };

export function noCompaction(): MutableCompactionResult {
  return { jobs: 0, filesIn: 0, filesOut: 0, rows: 0, bytesIn: 0, bytesOut: 0, conflicts: 0, unreadable: [] };
}

/** Merges what there is to merge of one table. @throws SluiceError ERR_STORE_*, ERR_LAKE_* */
export async function compactTable(
  lake: Lake,
  table: DeltaTable,
  settings: CompactionSettings,
  breathe: () => Promise<void>,
): Promise<CompactionResult> {
  const result = noCompaction();
  if (!hasOnlyOwnColumns(table)) return result;
  const untilMs = lake.clock.monotonicUs() / 1000 + settings.runMsMax;
  const bad = new Set<string>();
  for (;;) {
    await table.refresh();
    const jobs = planOf(table, settings, bad, lake.clock.nowUs() / 1000);
    const job = jobs[0];
    if (job === undefined || lake.clock.monotonicUs() / 1000 >= untilMs) return result;
    const outcome = await runJob(
      table,
      job.map(({ file }) => file),
      breathe,
    );
    if (outcome.status === 'unreadable') {
      bad.add(outcome.path);
      result.unreadable.push(outcome.path);
      continue;
    }
    if (outcome.status === 'conflict') {
      result.conflicts++;
      continue;
    }
    result.jobs++;
    result.filesIn += job.length;
    result.filesOut++;
    result.rows += outcome.rows;
    result.bytesIn += job.reduce((sum, { bytes }) => sum + bytes, 0);
    result.bytesOut += outcome.bytes;
  }
}

function planOf(table: DeltaTable, settings: CompactionSettings, bad: ReadonlySet<string>, nowMs: number): PlanFile<AddFile>[][] {
  const { snapshot } = table;
  const files: PlanFile<AddFile>[] = [];
  const newestMs = new Map<string, number>();
  for (const file of snapshot.files.values()) {
    if (bad.has(file.path)) continue;
    const rows = parseFileStats(file.stats).numRecords;
    // A foreign file without statistics: nobody knows how large a job it would be.
    if (rows === null) continue;
    const group = file.partitionValues['day'] ?? '';
    files.push({ file, group, rows, bytes: file.size, createdMs: file.modificationTime });
    newestMs.set(group, Math.max(newestMs.get(group) ?? 0, file.modificationTime));
  }
  const isOver = (group: string): boolean => {
    const endMs = Date.parse(`${group}T00:00:00Z`) + DAY_MS;
    return endMs + QUIET_MS <= nowMs && (newestMs.get(group) ?? 0) + QUIET_MS <= nowMs;
  };
  return planCompaction(files, settings, isOver);
}

type JobOutcome =
  | { readonly status: 'committed'; readonly rows: number; readonly bytes: number }
  | { readonly status: 'conflict' }
  | { readonly status: 'unreadable'; readonly path: string };

async function runJob(table: DeltaTable, inputs: readonly AddFile[], breathe: () => Promise<void>): Promise<JobOutcome> {
  const readVersion = table.version;
  const buffers: AsyncBuffer[] = [];
  const keys: ParquetColumns[] = [];
  for (const file of inputs) {
    const read = await readWhole(table, file);
    if (read === null) return { status: 'unreadable', path: file.path };
    buffers.push(read.buffer);
    keys.push(read.keys);
    await breathe();
  }
  const rowCount = keys.reduce((sum, part) => sum + part.rowCount, 0);
  const order = table.spec.name === 'readings' ? readingsOrder(keys) : null;
  const columns: ParquetColumn[] = [];
  for (const column of storedColumns(table.spec)) {
    const parts: ColumnPart[] = [];
    for (const [index, buffer] of buffers.entries()) {
      const { columns: read } = await readParquetColumns(buffer, { columns: [column.name] });
      parts.push({ rowCount: keys[index].rowCount, column: read.get(column.name) });
      await breathe();
    }
    columns.push(gatherColumn(column, parts, order));
    await breathe();
  }
  const add = await stageFile(table, inputs[0].partitionValues, await encodeInSlices(rowCount, columns, breathe), false);
  return commitMerged(table, inputs, [add], readVersion, false);
}

/** The commit of a rewrite; staged files that lost are deleted. */
export async function commitMerged(
  table: DeltaTable,
  inputs: readonly AddFile[],
  adds: readonly AddFile[],
  readVersion: number,
  dataChange: boolean,
): Promise<Extract<JobOutcome, { status: 'committed' | 'conflict' }>> {
  const outcome = await table.tryCommit({
    operation: 'OPTIMIZE',
    operationParameters: { predicate: '[]', zOrderBy: '[]', auto: true },
    adds,
    removes: inputs.map((file) => removeAction(file, table.snapshot.timestampMs, dataChange)),
    txns: [],
    readVersion,
  });
  if (outcome.status === 'committed') {
    const rows = adds.reduce((sum, add) => sum + (parseFileStats(add.stats).numRecords ?? 0), 0);
    return { status: 'committed', rows, bytes: adds.reduce((sum, add) => sum + add.size, 0) };
  }
  await table.discardStaged(adds.map((add) => add.path));
  return { status: 'conflict' };
}

const KEY_COLUMNS = ['device', 'metric', 'tags', 'gateway', 'ts'];

/** The file in memory, its pages checked, with the columns that order it; null: it is damaged, or not what the log says. */
async function readWhole(table: DeltaTable, file: AddFile): Promise<{ buffer: AsyncBuffer; keys: ParquetColumns } | null> {
  try {
    const bytes = await table.log.store.get(`${table.log.prefix}/${file.path}`);
    if (bytes === null) return null;
    const keys = await readParquetColumns(bytes, { columns: table.spec.name === 'readings' ? KEY_COLUMNS : ['kind'] });
    if (keys.rowCount !== parseFileStats(file.stats).numRecords) return null;
    const slice = (start: number, end?: number): ArrayBuffer => new Uint8Array(bytes.subarray(start, end)).buffer;
    return { buffer: { byteLength: bytes.length, slice }, keys };
  } catch (error) {
    if (!isDamage(error) || !isSluiceError(error)) throw error;
    return null;
  }
}

/** Columns that someone added would be lost by a rewrite. */
export function hasOnlyOwnColumns(table: DeltaTable): boolean {
  const { fields } = JSON.parse(table.snapshot.metaData.schemaString) as { readonly fields: readonly unknown[] };
  return fields.length === table.spec.columns.length;
}
