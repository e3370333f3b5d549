/**
 * History from a file into the lake, exactly once per content.
 *
 * Purpose: the file is a gateway that has all of its batches at once. Its rows are cut into batches (batcher.ts), numbered
 * in a lane of their own whose epoch is the hash of the content, and handed to an engine of this process. So everything
 * that holds for a lane holds here: positions in the same log entry as the data, compare-and-set against every other hub,
 * windows, exceptions. A hub that runs beside follows the log, as it follows any other hub of its lake.
 *
 * Why not through the hub's API: history would compete with live gateways for its memory and its thread, and need a hub.
 *
 * Crash: what was committed is in the log, the rest is cut again in the same places and goes on behind it. Two imports of
 * the same file at once are two hubs with the same lane: each batch is committed by one of them.
 *
 * Bounds: one chunk of rows, and PENDING_BYTES_MAX in the engine; reading waits for commits.
 */
import { statSync } from 'node:fs';
import path from 'node:path';
import { encodeBatch } from '../../shared/batch/encode.ts';
import type { BatchContent } from '../../shared/batch/batch.ts';
import type { Clock } from '../../shared/clock.ts';
import { SluiceError } from '../../shared/errors.ts';
import type { LaneKey } from '../../shared/uplink.ts';
import type { IngestEngine } from '../engine-api.ts';
import type { ObjectStore } from '../lake/store.ts';
import { Batcher } from './batcher.ts';
import { checkPlan, importIdOf, readDone, readRecord, writeDone, writeRecord, type ImportDone, type ImportPlan } from './import-record.ts';
import { columnsOf, RowError, RowMapper, type Row } from './mapping.ts';
import { Progress, type ProgressOutput } from './progress.ts';
import { checkWhole, openRows, type FileRow, type Format } from './rows.ts';

const PENDING_BYTES_MAX = 64_000_000;
/** A file whose first rows are all wrong is read with wrong flags, not full of wrong rows. */
const TRIAL_ROWS = 1_000;
/** Gateways of imports only: nothing else is going to come from them, so they need not hold windows open. */
const IMPORT_GATEWAY = /^import/;

export interface ImportContext {
  readonly engine: IngestEngine;
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly output: ProgressOutput;
}

export interface ImportResult extends ImportDone {
  /** It was all there before: nothing was done. */
  readonly wasDone: boolean;
}

/** @throws SluiceError ERR_IMPORT_*, of the store, of the lake */
export async function importFile(file: string, plan: ImportPlan, context: ImportContext): Promise<ImportResult> {
  const { store, clock } = context;
  const before = fingerprint(file);
  const id = await importIdOf(file);
  const done = await readDone(store, id);
  if (done !== null) return { ...done, wasDone: true };
  const record = await readRecord(store, id);
  if (record === null) await checkWhole(file);
  else checkPlan(record, plan);
  // What is compared with it has to come out the same when the import is resumed.
  const startedUs = record?.startedUs ?? clock.nowUs();
  const lane = await openLane(context, { gateway: plan.gateway, epoch: id, lane: 'backfill' });
  const batcher = new Batcher(path.basename(file), startedUs);
  const progress = new Progress(context.output, clock, path.basename(file));
  const { size } = statSync(file);
  const source = openRows(file, plan.format as Format, plan.delimiter, columnsOf(plan.mapping), plan.mapping.time);
  let isRecorded = record !== null;
  const flush = async (): Promise<void> => {
    if (fingerprint(file) !== before)
      throw new SluiceError('ERR_IMPORT_FILE', `${file} was changed while it was being imported; run again when it is complete`);
    if (!isRecorded) await writeRecord(store, id, { plan: JSON.stringify(plan), file: path.basename(file), startedUs });
    isRecorded = true;
    for (const content of batcher.take()) await lane.send(content);
  };
  const report = (): void => {
    const bytes = source.bytesRead();
    const ratio = bytes === null || size === 0 ? null : bytes / size;
    progress.update({ ratio, ...batcher.totals, committed: Math.min(lane.committed, lane.seq), batches: lane.seq });
  };
  const mapper = new RowMapper(plan.mapping, startedUs);
  const columns = new ColumnCheck(plan);
  for await (const row of source.rows) {
    if ('row' in row) columns.see(row.row);
    takeRow(row, mapper, batcher);
    if (batcher.totals.rows === TRIAL_ROWS) checkTrial(batcher, file, columns);
    if (batcher.isFull) await flush();
    if (batcher.totals.rows % 1_000 === 0) report();
  }
  checkTrial(batcher, file, columns);
  await flush();
  await lane.allCommitted(report);
  progress.end();
  if (IMPORT_GATEWAY.test(plan.gateway)) {
    const positions = lane.seq === 0 ? [] : [{ epoch: id, lane: 'backfill' as const, seq: lane.seq }];
    context.engine.assertWatermark(plan.gateway, { us: clock.nowUs(), positions });
  }
  const { rows, readings, rejected } = batcher.totals;
  const result: ImportDone = { finishedUs: clock.nowUs(), rows, readings, rejected, batches: lane.seq };
  await writeDone(store, id, result);
  return { ...result, wasDone: false };
}

/** Changes whenever somebody writes to the file. */
function fingerprint(file: string): string {
  try {
    const { size, mtimeMs, ino } = statSync(file);
    return `${size} ${mtimeMs} ${ino}`;
  } catch (cause) {
    throw new SluiceError('ERR_IMPORT_FILE', `${file} cannot be read`, { cause });
  }
}

/** Are the columns there that the flags name? */
class ColumnCheck {
  readonly #plan: ImportPlan;
  readonly #values: readonly string[];
  #isFirst = true;
  #hasValues = false;

  constructor(plan: ImportPlan) {
    const { values } = plan.mapping;
    this.#plan = plan;
    this.#values = values.form === 'long' ? [values.value] : values.columns.map(({ column }) => column);
  }

  /** @throws SluiceError ERR_IMPORT_MAPPING: every row of the file is without a column */
  see(row: Row): void {
    if (!this.#hasValues) this.#hasValues = this.#values.some((column) => Object.hasOwn(row, column));
    if (!this.#isFirst || this.#plan.format !== 'csv') return;
    this.#isFirst = false;
    const missing = columnsOf(this.#plan.mapping).filter((column) => !Object.hasOwn(row, column));
    if (missing.length === 0) return;
    throw new SluiceError(
      'ERR_IMPORT_MAPPING',
      `there is no column ${missing.join(', ')}; the first line has ${Object.keys(row).join(', ')}`,
    );
  }

  /** Of values, where no row that was seen has one of them; null: some has. */
  get missing(): string | null {
    return this.#hasValues ? null : this.#values.join(', ');
  }
}

function takeRow(item: FileRow, mapper: RowMapper, batcher: Batcher): void {
  if ('fault' in item) {
    batcher.reject(item.line, item.fault, item.text);
    return;
  }
  try {
    batcher.add(mapper.map(item.row));
  } catch (error) {
    if (!(error instanceof RowError)) throw error;
    batcher.reject(item.line, error.message, JSON.stringify(item.row));
  }
}

function checkTrial(batcher: Batcher, file: string, { missing }: ColumnCheck): void {
  const { rows, rejected } = batcher.totals;
  if (rows === 0 || rows > TRIAL_ROWS) return;
  const refuse = (why: string): SluiceError => new SluiceError('ERR_IMPORT_MAPPING', `${why}, nothing was imported`);
  if (rejected === rows) {
    const [first] = batcher.take().flatMap(({ exceptions }) => exceptions);
    throw refuse(`all of the first ${rows} rows of ${file} are wrong: ${first?.reason ?? ''}`);
  }
  // A row may do without a column in the formats without a header: it brings no reading, and nobody would be told.
  if (missing !== null) throw refuse(`none of the first ${rows} rows of ${file} has ${missing}`);
}

interface ImportLane {
  /** Batches that were cut. */
  readonly seq: number;
  readonly committed: number;
  /** Waits while too much is pending. Batches that the lake has are passed over. */
  send(content: BatchContent): Promise<void>;
  allCommitted(onProgress: () => void): Promise<void>;
}

async function openLane({ engine, clock }: ImportContext, key: LaneKey): Promise<ImportLane> {
  const state = await engine.openLane(key, { epoch: key.epoch, lane: key.lane, base: 1, assigned: Number.MAX_SAFE_INTEGER });
  let { committed } = state;
  let seq = 0;
  let wake: () => void = () => undefined;
  engine.onCommitted((lane, position) => {
    if (lane.gateway === key.gateway && lane.epoch === key.epoch && lane.lane === key.lane) committed = Math.max(committed, position);
    wake();
  });
  engine.onPendingBytes(() => wake());
  const changed = (): Promise<void> =>
    new Promise((resolve) => {
      // Keeps the process alive while the engine's thread works, and looks again should nothing be told.
      const timer = setTimeout(resolve, 200);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  return {
    get seq() {
      return seq;
    },
    get committed() {
      return committed;
    },
    async send(content) {
      seq++;
      if (seq <= state.received) return;
      while (engine.pendingBytes > PENDING_BYTES_MAX) await changed();
      const body = encodeBatch(content, 'br');
      const { count } = content.runs;
      engine.submit(key, { seq, readingCount: count, exceptionCount: content.exceptions.length, receivedUs: clock.nowUs(), body });
    },
    async allCommitted(onProgress) {
      while (committed < seq) {
        await changed();
        onProgress();
      }
    },
  };
}
