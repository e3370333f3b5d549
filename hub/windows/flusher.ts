/**
 * From the tail of the windows into the table `aggregates`, and back at start.
 *
 * A flush writes all of the tail, never a part of it: every definition's partials for exactly the versions
 * (position, to] of `readings`, one file each, one commit, by compare-and-set on `win/<definition hash>`.
 *
 * Crash: before the log entry, orphan files; after it, nothing is left to do. The loser of a race ('moved') has written
 * nothing; its owner reads the versions behind the winner's position again.
 *
 * A position goes back only together with all that it stood for: where `readings` was restored from an older copy.
 */
import type { WindowDefinition } from '../../shared/window/definition.ts';
import { definitionHash } from '../../shared/window/definition.ts';
import type { PartialColumns } from '../../shared/window/partial-columns.ts';
import { AGGREGATE_ROW_GROUP_ROWS, encodeInSlices } from '../lake/encode-slices.ts';
import type { AddFile, RemoveFile } from '../lake/delta-actions.ts';
import { positionOf } from '../lake/delta-snapshot.ts';
import type { CommitOutcome, DeltaTable } from '../lake/delta-table.ts';
import type { ParquetColumn } from '../lake/parquet/encode.ts';
import { progressColumns } from '../lake/progress-fold.ts';
import { stageFile } from '../lake/stage.ts';
import { inSlices } from '../steps.ts';
import { aggregateColumns } from './aggregate-rows.ts';

export interface ProgressRow {
  readonly gateway: string;
  readonly watermarkUs: number;
  readonly assertedUs: number;
}

export interface FlusherTables {
  readonly aggregates: DeltaTable;
  readonly progress: DeltaTable;
}

export class Flusher {
  readonly definitions: readonly WindowDefinition[];
  readonly #tables: FlusherTables;
  readonly #breathe: () => Promise<void>;

  /** @param definitions the persisted ones */
  constructor(tables: FlusherTables, definitions: readonly WindowDefinition[], breathe: () => Promise<void>) {
    this.definitions = definitions;
    this.#tables = tables;
    this.#breathe = breathe;
  }

  /** Up to which version of `readings` the table has the definition's partials; 0 if it has none. */
  position(definition: WindowDefinition): number {
    return positionOf(this.#tables.aggregates.snapshot, windowAppId(definition));
  }

  /**
   * @param definitions all with the same position `from`
   * @param rowsOf partials of one definition, possibly several sets (days of a backfill)
   * @param removes files whose rows the new ones replace
   * @returns 'moved': another hub was first; nothing was written. `applied`: what happened to the table meanwhile.
   */
  async flush(
    definitions: readonly WindowDefinition[],
    versions: { readonly from: number; readonly to: number },
    rowsOf: (definition: WindowDefinition) => Iterable<PartialColumns> | AsyncIterable<PartialColumns>,
    removes: readonly RemoveFile[] = [],
  ): Promise<CommitOutcome> {
    const adds: AddFile[] = [];
    for (const definition of definitions) {
      for await (const rows of rowsOf(definition)) {
        if (rows.count === 0) continue;
        const columns = await inSlices(aggregateColumns(definition, definitionHash(definition), rows, versions), this.#breathe);
        adds.push(await this.#stage(this.#tables.aggregates, rows.count, columns));
      }
    }
    const outcome = await this.#tables.aggregates.tryCommit({
      operation: 'STREAMING UPDATE',
      operationParameters: { outputMode: 'Append' },
      adds,
      removes,
      txns: definitions.map((definition) => ({ appId: windowAppId(definition), ...versions, isReset: versions.to < versions.from })),
    });
    if (outcome.status !== 'committed') await this.#tables.aggregates.discardStaged(adds.map((add) => add.path));
    return outcome;
  }

  /** Appends the watermarks that were accepted. Best effort: they are asserted again every second. */
  async writeProgress(rows: readonly ProgressRow[], epoch: string): Promise<void> {
    if (rows.length === 0) return;
    const add = await this.#stage(this.#tables.progress, rows.length, progressColumns(rows, epoch));
    await this.#tables.progress.tryCommit({
      operation: 'STREAMING UPDATE',
      operationParameters: { outputMode: 'Append' },
      adds: [add],
      removes: [],
      txns: [],
    });
  }

  async #stage(table: DeltaTable, rowCount: number, columns: ParquetColumn[]): Promise<AddFile> {
    return stageFile(table, {}, await encodeInSlices(rowCount, columns, this.#breathe, AGGREGATE_ROW_GROUP_ROWS));
  }
}

/** The application whose position in `aggregates` says up to which version of `readings` a definition is whole. */
export function windowAppId(definition: WindowDefinition): string {
  return `win/${definitionHash(definition)}`;
}
