/**
 * What keeps the lake fit for years: compaction, folding, repair, log clean-up and vacuum, one run after another; and how the
 * tables are.
 *
 * It has a view of the lake of its own, beside the engine's: to the tables it is one more writer, whose commits race with
 * those of ingest as those of another hub do. So it never holds ingest up, and may run in a thread or process of its own,
 * in any number. Every step is safe to be cut off (see compaction, fold, repair, delta-maintenance); the next run begins again.
 *
 * Order: rewrites first, then what deletes; a failed step fails the run, and the next run tries all of it again.
 */
import type { Clock } from '../shared/clock.ts';
import { errorMessage } from '../shared/errors.ts';
import { compactTable, COMPACTION_DEFAULTS, noCompaction, type CompactionResult, type CompactionSettings } from './lake/compaction.ts';
import { isFull } from './lake/compaction-plan.ts';
import { parseFileStats } from './lake/delta-actions.ts';
import { cleanLog, vacuum } from './lake/delta-maintenance.ts';
import type { DeltaTable } from './lake/delta-table.ts';
import type { Lake } from './lake/lake.ts';
import { foldProgress } from './lake/progress-fold.ts';
import type { WindowDefinition } from '../shared/window/definition.ts';
import { foldAggregates } from './windows/fold.ts';
import { AggregateRepair } from './windows/repair.ts';

/** Of one table, by its log. */
export interface TableReport {
  readonly name: string;
  readonly version: number;
  readonly files: number;
  /** Files that compaction would still merge. */
  readonly smallFiles: number;
  /** null: a file has no statistics. */
  readonly rows: number | null;
  readonly bytes: number;
  /** Removed files that vacuum has not deleted yet, as far as checkpoints remember them. */
  readonly tombstones: number;
  readonly checkpoints: number;
  readonly newestCheckpoint: number | null;
  readonly oldestLogVersion: number | null;
  /** Hub wall clock, µs; null: not since this hub's start. */
  readonly lastCompactionUs: number | null;
  readonly lastVacuumUs: number | null;
  /** Whoever reads the table version by version, with the version that it has behind it. */
  readonly consumers: readonly { readonly id: string; readonly version: number; readonly lag: number }[];
}

export interface MaintenanceStatus {
  readonly runs: number;
  /** Runs that failed in a row; 0 after a good one. */
  readonly failures: number;
  readonly lastError: string | null;
  /** End of the last good run, hub wall clock, µs. */
  readonly lastRunUs: number | null;
  readonly lastRunMs: number;
  readonly filesMergedTotal: number;
  readonly filesWrittenTotal: number;
  readonly bytesWrittenTotal: number;
  readonly conflictsTotal: number;
  readonly unreadableFiles: number;
  /** Damaged files of `aggregates` that were made again from `readings`. */
  readonly repairedFilesTotal: number;
  readonly logEntriesDeletedTotal: number;
  readonly filesVacuumedTotal: number;
  readonly bytesVacuumedTotal: number;
  readonly tables: readonly TableReport[];
}

type Totals = { -readonly [K in Exclude<keyof MaintenanceStatus, 'tables'>]: MaintenanceStatus[K] };

export class Maintenance {
  readonly #lake: Lake;
  readonly #clock: Clock;
  readonly #settings: CompactionSettings;
  readonly #breathe: () => Promise<void>;
  readonly #repair: AggregateRepair;
  readonly #lastCompactionUs = new Map<string, number>();
  readonly #lastVacuumUs = new Map<string, number>();
  #running: Promise<void> = Promise.resolve();
  #totals: Totals = {
    runs: 0,
    failures: 0,
    lastError: null,
    lastRunUs: null,
    lastRunMs: 0,
    filesMergedTotal: 0,
    filesWrittenTotal: 0,
    bytesWrittenTotal: 0,
    conflictsTotal: 0,
    unreadableFiles: 0,
    repairedFilesTotal: 0,
    logEntriesDeletedTotal: 0,
    filesVacuumedTotal: 0,
    bytesVacuumedTotal: 0,
  };

  /**
   * @param lake opened for this alone
   * @param definitions whose damaged files can be made again
   */
  constructor(
    lake: Lake,
    settings: Partial<CompactionSettings> = {},
    breathe: () => Promise<void> = () => Promise.resolve(),
    definitions: readonly WindowDefinition[] = [],
  ) {
    this.#lake = lake;
    this.#clock = lake.clock;
    this.#settings = { ...COMPACTION_DEFAULTS, ...settings };
    this.#breathe = breathe;
    this.#repair = new AggregateRepair(lake, definitions, breathe);
  }

  /** One run; a second one waits for the first. @throws SluiceError ERR_STORE_*, ERR_LAKE_*: nothing is lost, run again */
  run(): Promise<void> {
    const run = this.#running.then(() => this.#run());
    // Its caller has the error.
    this.#running = run.catch(() => undefined);
    return run;
  }

  async #run(): Promise<void> {
    const startMs = this.#clock.monotonicUs() / 1000;
    this.#totals.runs++;
    try {
      await this.#rewrite();
      await this.#delete();
      this.#totals.failures = 0;
      this.#totals.lastError = null;
      this.#totals.lastRunUs = this.#clock.nowUs();
    } catch (error) {
      this.#totals.failures++;
      this.#totals.lastError = errorMessage(error);
      throw error;
    } finally {
      this.#totals.lastRunMs = this.#clock.monotonicUs() / 1000 - startMs;
    }
  }

  async #rewrite(): Promise<void> {
    const { readings, exceptions, aggregates, progress } = this.#lake;
    const unreadable = new Set<string>();
    const note = (table: DeltaTable, result: CompactionResult): void => {
      this.#lastCompactionUs.set(table.spec.name, this.#clock.nowUs());
      this.#totals.filesMergedTotal += result.filesIn;
      this.#totals.filesWrittenTotal += result.filesOut;
      this.#totals.bytesWrittenTotal += result.bytesOut;
      this.#totals.conflictsTotal += result.conflicts;
      for (const path of result.unreadable) {
        unreadable.add(`${table.spec.name}/${path}`);
        this.#lake.logger.error({ table: table.spec.name, path }, 'a file cannot be read: compaction leaves it as it is');
      }
    };
    for (const table of [readings, exceptions]) note(table, await compactTable(this.#lake, table, this.#settings, this.#breathe));
    const folding = await foldAggregates(this.#lake, this.#settings, this.#breathe);
    note(aggregates, folding);
    const { repaired, left } = await this.#repair.run(folding.unreadable);
    this.#totals.repairedFilesTotal += repaired;
    for (const path of left) unreadable.add(`aggregates/${path}`);
    for (const path of folding.unreadable) if (!aggregates.snapshot.files.has(path)) unreadable.delete(`aggregates/${path}`);
    const folded = await foldProgress(this.#lake, this.#breathe);
    note(progress, { ...noCompaction(), filesIn: folded, filesOut: folded > 0 ? 1 : 0 });
    this.#totals.unreadableFiles = unreadable.size;
  }

  async #delete(): Promise<void> {
    await this.#lake.readings.refresh();
    await this.#lake.aggregates.refresh();
    const consumed = this.#lake.consumedVersion();
    for (const table of this.#tables()) {
      await table.checkpointIfDue();
      const consumedVersion = table === this.#lake.readings ? consumed : null;
      const log = await cleanLog(table, consumedVersion);
      const { deletedFiles, deletedBytes } = await vacuum(table, consumedVersion);
      this.#totals.logEntriesDeletedTotal += log.deletedEntries;
      this.#totals.filesVacuumedTotal += deletedFiles;
      this.#totals.bytesVacuumedTotal += deletedBytes;
      this.#lastVacuumUs.set(table.spec.name, this.#clock.nowUs());
      await this.#breathe();
    }
  }

  #tables(): DeltaTable[] {
    const { readings, exceptions, aggregates, progress } = this.#lake;
    return [readings, exceptions, aggregates, progress];
  }

  /** Cost: a listing of each log, and a look at each active file. @throws SluiceError ERR_STORE_*, ERR_LAKE_* */
  async status(): Promise<MaintenanceStatus> {
    await this.#lake.aggregates.refresh();
    const tables: TableReport[] = [];
    for (const table of this.#tables()) tables.push(await this.#report(table));
    return { ...this.#totals, tables };
  }

  async #report(table: DeltaTable): Promise<TableReport> {
    await table.refresh();
    const { entries, checkpoints } = await table.log.names(0);
    const { files, tombstones, version } = table.snapshot;
    let rows: number | null = 0;
    let bytes = 0;
    let smallFiles = 0;
    for (const file of files.values()) {
      const fileRows = parseFileStats(file.stats).numRecords;
      rows = rows === null || fileRows === null ? null : rows + fileRows;
      bytes += file.size;
      if (!isFull({ rows: fileRows ?? 0, bytes: file.size }, this.#settings)) smallFiles++;
    }
    const { name } = table.spec;
    return {
      name,
      version,
      files: files.size,
      smallFiles,
      rows,
      bytes,
      tombstones: tombstones.size,
      checkpoints: checkpoints.length,
      newestCheckpoint: checkpoints.at(-1) ?? null,
      oldestLogVersion: entries[0] ?? null,
      lastCompactionUs: this.#lastCompactionUs.get(name) ?? null,
      lastVacuumUs: this.#lastVacuumUs.get(name) ?? null,
      consumers: table === this.#lake.readings ? this.#consumers(version) : [],
    };
  }

  #consumers(version: number): TableReport['consumers'] {
    const consumers = [...this.#lake.aggregates.snapshot.txns.values()].filter(({ appId }) => appId.startsWith('win/'));
    return consumers.map(({ appId, version: position }) => ({ id: appId, version: position, lag: Math.max(0, version - position) }));
  }
}
