/**
 * The commit loop's one turn: the group of pending batches becomes rows of `exceptions` and `readings`, exactly once.
 *
 * Order, and what a crash after each step leaves:
 *   1. exceptions staged: an orphan file, which vacuum deletes
 *   2. `exceptions` committed with its own lane positions: the next try finds its rows at or below them and leaves them out.
 *      What comes under a seq may have become something else meanwhile: a tombstone (the gateway found the batch damaged), a
 *      gap for seqs that nobody holds, bytes that this hub cannot apply. Such a substitute has a position of its own,
 *      `substitute/<lane>`, so that it is recorded once even where exceptions of the batch proper are in the table already
 *   3. one file per UTC day staged: orphans
 *   4. the `readings` log entry put if absent: this alone makes the batches committed; gateways resend the rest
 *
 * Rows of a lane in a commit are exactly the seqs from + 1 … to, valid only while the table says `from`. After a lost race
 * the winner's versions are applied first (which drops what they cover from the group), then the files are built again.
 * Staged files are deleted only after a different commit was read at every version tried ('moved', 'conflict'); after an
 * error they stay for vacuum.
 *
 * It does not decide when to commit, holds no timer and knows no windows.
 */
import type { FileColumn } from './parquet/encode.ts';
import { encodeInSlices } from './encode-slices.ts';
import type { AddFile } from './delta-actions.ts';
import type { DeltaTable } from './delta-table.ts';
import { positionOf } from './delta-snapshot.ts';
import { exceptionColumns, type ExceptionRow } from './exception-rows.ts';
import type { GroupLane, PendingBatch, PendingLanes } from './pending.ts';
import { buildDayRows, RowBuffers } from './readings-rows.ts';
import type { SeriesOrder } from './series-order.ts';
import { stageFile } from './stage.ts';

export interface CommitterTables {
  readonly readings: DeltaTable;
  readonly exceptions: DeltaTable;
}

export interface CommitterHooks {
  /** Takes in what happened to `readings` meanwhile, own and foreign versions: settles the lanes that they move. */
  applyReadings(): Promise<void>;
  /** Lets other work of the thread in; called at least every few ms of encoding. */
  breathe(): Promise<void>;
}

export interface CommitResult {
  readonly readings: number;
  readonly batches: number;
  readonly exceptions: number;
  readonly conflicts: number;
}

/** Behind every index that the batch proper can have used: its exceptions are at most its readings. */
const SUBSTITUTE_IDX = 2_000_000_000;

/** Gaps instead of a batch: encodeTombstone of the gateway, and the engine's own two. */
function isSubstitute({ runs, exceptions }: PendingBatch): boolean {
  return (
    (runs === null || runs.count === 0) &&
    exceptions.length > 0 &&
    exceptions.every(({ device, reason }) => device === null && /^(batch_corrupt|batch_not_applicable|lake_behind_gateway)\b/.test(reason))
  );
}

export class Committer {
  readonly #tables: CommitterTables;
  readonly #pending: PendingLanes;
  readonly #order: SeriesOrder;
  readonly #hooks: CommitterHooks;
  readonly #buffers = new RowBuffers();

  constructor(tables: CommitterTables, pending: PendingLanes, order: SeriesOrder, hooks: CommitterHooks) {
    this.#tables = tables;
    this.#pending = pending;
    this.#order = order;
    this.#hooks = hooks;
  }

  /**
   * Commits the group that `pending` has; returns when it is in the lake or turned out to be there already.
   *
   * @throws SluiceError of the store: the group stays, and the same call later goes on.
   */
  async commitGroup(): Promise<CommitResult> {
    let conflicts = 0;
    for (;;) {
      const group = this.#pending.group();
      if (group.length === 0) return { readings: 0, batches: 0, exceptions: 0, conflicts };
      const exceptions = await this.#commitExceptions(group);
      const batches = group.flatMap((lane) => lane.batches);
      const adds: AddFile[] = [];
      let readings = 0;
      for await (const day of buildDayRows(batches, this.#order, this.#buffers, () => this.#hooks.breathe())) {
        readings += day.rowCount;
        adds.push(await this.#stage(this.#tables.readings, { day: day.day }, day.rowCount, day.columns));
      }
      const outcome = await this.#tables.readings.tryCommit({
        operation: 'STREAMING UPDATE',
        operationParameters: { outputMode: 'Append' },
        adds,
        removes: [],
        txns: group.map(({ appId, from, to }) => ({ appId, from, to })),
      });
      await this.#hooks.applyReadings();
      if (outcome.status === 'committed') return { readings, batches: batches.length, exceptions, conflicts };
      conflicts++;
      await this.#tables.readings.discardStaged(adds.map((add) => add.path));
    }
  }

  /** @returns how many rows were added */
  async #commitExceptions(group: readonly GroupLane[]): Promise<number> {
    const table = this.#tables.exceptions;
    for (;;) {
      const rows: ExceptionRow[] = [];
      const txns: { appId: string; from: number; to: number }[] = [];
      for (const lane of group) {
        const from = positionOf(table.snapshot, lane.appId);
        const before = rows.length;
        const substitutes = { appId: `substitute/${lane.appId}`, from: positionOf(table.snapshot, `substitute/${lane.appId}`) };
        let substituteTo = substitutes.from;
        for (const batch of lane.batches) {
          const isMissing = isSubstitute(batch) ? batch.seq > substitutes.from : batch.seq > from;
          if (!isMissing) continue;
          const firstIdx = batch.seq > from ? 0 : SUBSTITUTE_IDX;
          batch.exceptions.forEach((record, idx) => rows.push({ batch, idx: firstIdx + idx, record }));
          if (isSubstitute(batch)) substituteTo = batch.seq;
        }
        if (rows.length > before && lane.to > from) txns.push({ appId: lane.appId, from, to: lane.to });
        if (substituteTo > substitutes.from) txns.push({ ...substitutes, to: substituteTo });
      }
      if (rows.length === 0) return 0;
      const add = await this.#stage(table, {}, rows.length, exceptionColumns(rows));
      const outcome = await table.tryCommit({
        operation: 'STREAMING UPDATE',
        operationParameters: { outputMode: 'Append' },
        adds: [add],
        removes: [],
        txns,
      });
      if (outcome.status === 'committed') return rows.length;
      await table.discardStaged([add.path]);
    }
  }

  async #stage(table: DeltaTable, partition: Record<string, string>, rowCount: number, columns: FileColumn[]): Promise<AddFile> {
    const encoded = await encodeInSlices(rowCount, columns, () => this.#hooks.breathe());
    return stageFile(table, partition, encoded);
  }
}
