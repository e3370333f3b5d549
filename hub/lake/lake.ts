/**
 * The lake of one hub: its store and the four tables, opened together.
 */
import path from 'node:path';
import type { Clock } from '../../shared/clock.ts';
import type { Logger } from '../../shared/logging.ts';
import { isDamage } from './damage.ts';
import type { ActionSet, AddFile } from './delta-actions.ts';
import { DeltaTable } from './delta-table.ts';
import { readParquetColumns, type ParquetColumns } from './parquet/read.ts';
import type { ObjectStore } from './store.ts';
import { AGGREGATES, EXCEPTIONS, PROGRESS, READINGS } from './tables.ts';

/** Watermarks only ever rise, so the newest files have them; older ones are of gateways long gone. */
const PROGRESS_FILES_READ_MAX = 500;

/** A definition that was switched off, say, may come back within this time without being computed anew. */
const CONSUMER_SILENT_MS_MAX = 30 * 86_400_000;

export interface LakeOptions {
  readonly clock: Clock;
  /** Stands in commits, for people. */
  readonly hubId: string;
  readonly logger: Logger;
  /** Names of data files and commits; default: random. */
  readonly uuid?: () => string;
}

export interface AcceptedWatermark {
  readonly gateway: string;
  readonly watermarkUs: number;
  readonly assertedUs: number;
}

export class Lake {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly readings: DeltaTable;
  readonly exceptions: DeltaTable;
  readonly aggregates: DeltaTable;
  readonly progress: DeltaTable;
  readonly #root: string;

  private constructor(
    root: string,
    store: ObjectStore,
    { clock, logger }: LakeOptions,
    tables: readonly [DeltaTable, DeltaTable, DeltaTable, DeltaTable],
  ) {
    this.#root = path.resolve(root);
    this.store = store;
    this.clock = clock;
    this.logger = logger;
    [this.readings, this.exceptions, this.aggregates, this.progress] = tables;
  }

  /**
   * @param root where the store's objects lie as files, if they do: only `localPath` needs it
   * @throws SluiceError ERR_STORE_*, ERR_LAKE_*
   */
  static async open(store: ObjectStore, root: string, lakeOptions: LakeOptions): Promise<Lake> {
    const { clock, hubId, logger, uuid } = lakeOptions;
    const options = { clock, hubId, warn: (message: string) => logger.warn(message), ...(uuid === undefined ? {} : { uuid }) };
    const open = (spec: typeof READINGS): Promise<DeltaTable> => DeltaTable.open(store, spec.name, spec, options);
    return new Lake(root, store, lakeOptions, [await open(READINGS), await open(EXCEPTIONS), await open(AGGREGATES), await open(PROGRESS)]);
  }

  /** Where a data file of a table lies on this machine, for programs that read files (DuckDB). */
  localPath(table: DeltaTable, file: string): string {
    return path.join(this.#root, table.spec.name, file);
  }

  /** The actions of one version of a table. @throws SluiceError ERR_LAKE_LOG_GAP */
  async readEntry(table: DeltaTable, version: number): Promise<ActionSet> {
    for await (const { actions } of table.history(version - 1, version)) return actions;
    throw new Error('a history of one version has one');
  }

  /** The newest watermark of each gateway. */
  readProgress(): Promise<AcceptedWatermark[]> {
    // A checkpoint keeps no order.
    const files = [...this.progress.snapshot.files.values()].sort((a, b) => a.modificationTime - b.modificationTime);
    return this.readProgressOf(files.slice(-PROGRESS_FILES_READ_MAX));
  }

  /** As readProgress, of these files alone. */
  async readProgressOf(files: readonly AddFile[]): Promise<AcceptedWatermark[]> {
    const newest = new Map<string, AcceptedWatermark>();
    for (const file of files) {
      const read = await this.#readProgressFile(file);
      if (read === null) continue;
      const { rowCount, columns } = read;
      const gateway = columns.get('gateway');
      const watermark = columns.get('watermark_ts');
      const asserted = columns.get('asserted_ts');
      if (gateway?.type !== 'string' || watermark?.type !== 'timestamp' || asserted?.type !== 'timestamp') continue;
      for (let row = 0; row < rowCount; row++) {
        const name = gateway.dictionary[gateway.indices[row]];
        const known = newest.get(name);
        if (known === undefined || known.watermarkUs < watermark.values[row]) {
          newest.set(name, { gateway: name, watermarkUs: watermark.values[row], assertedUs: asserted.values[row] });
        }
      }
    }
    return [...newest.values()];
  }

  /** null: it cannot be read. Its watermarks are asserted again every second by gateways that live. */
  async #readProgressFile(file: AddFile): Promise<ParquetColumns | null> {
    try {
      const bytes = await this.store.get(`${PROGRESS.name}/${file.path}`);
      return bytes === null ? null : await readParquetColumns(bytes);
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.logger.warn({ err: error, path: file.path }, 'a file of progress cannot be read: its watermarks are left out');
      return null;
    }
  }

  /** Up to where all consumers of `readings` have it; those that have not moved for long count as broken and are made anew. */
  consumedVersion(): number {
    const { version, timestampMs } = this.readings.snapshot;
    let consumed = version;
    for (const { appId, version: position, lastUpdated } of this.aggregates.snapshot.txns.values()) {
      const isAlive = timestampMs - (lastUpdated ?? 0) < CONSUMER_SILENT_MS_MAX;
      if (appId.startsWith('win/') && isAlive) consumed = Math.min(consumed, position);
    }
    return consumed;
  }

  /** Checkpoints of all tables whose interval has passed. */
  async checkpointIfDue(): Promise<void> {
    for (const table of this.#tables()) await table.checkpointIfDue();
  }

  #tables(): DeltaTable[] {
    return [this.readings, this.exceptions, this.aggregates, this.progress];
  }
}
