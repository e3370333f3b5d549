/**
 * The files that a query of this hub could not read, by table: captures leave them out and say so.
 *
 * In memory: they are found again by the first query that meets them. A file leaves the list when it can be read again
 * (put back from a backup), or when its table no longer names it. Bounded: beyond the bound a query over one more file
 * fails, with the engine's words.
 */
import type { Lake } from './lake.ts';
import { readParquetColumns } from './parquet/read.ts';
import { isDamage } from './damage.ts';

const FILES_MAX = 10_000;

/** Files looked at in one round. */
const CHECKS_MAX = 16;

interface Unreadable {
  readonly table: LakeTable;
  readonly path: string;
  readonly sinceMs: number;
  /** By the store, when it was found; null: it was missing. */
  modifiedMs: number | null;
}

export type LakeTable = 'readings' | 'exceptions' | 'aggregates';

export class UnreadableFiles {
  readonly #lake: Lake;
  readonly #files = new Map<string, Unreadable>();
  /** Of each table, so that captures look only where something is wrong. */
  readonly #paths: Record<LakeTable, Set<string>> = { readings: new Set(), exceptions: new Set(), aggregates: new Set() };

  constructor(lake: Lake) {
    this.#lake = lake;
  }

  get size(): number {
    return this.#files.size;
  }

  /** Paths relative to the table. */
  paths(table: LakeTable): ReadonlySet<string> {
    return this.#paths[table];
  }

  /** @returns whether something was not known before */
  async add(table: LakeTable, paths: readonly string[]): Promise<boolean> {
    let isNew = false;
    for (const path of paths) {
      const key = `${table}/${path}`;
      if (this.#files.has(key) || this.#files.size >= FILES_MAX || !this.#lake[table].snapshot.files.has(path)) continue;
      const modifiedMs = (await this.#lake.store.stat(key))?.modifiedMs ?? null;
      this.#files.set(key, { table, path, sinceMs: this.#lake.clock.monotonicUs() / 1000, modifiedMs });
      this.#paths[table].add(path);
      isNew = true;
      this.#lake.logger.error({ file: key }, 'a file of the lake cannot be read: answers leave it out and say so');
    }
    return isNew;
  }

  /**
   * Looks whether files can be read again.
   *
   * @param isThorough also those that have not changed: what the disk could not read may be readable later
   */
  async recheck(isThorough: boolean): Promise<void> {
    let checks = 0;
    for (const [key, file] of this.#files) {
      if (!this.#lake[file.table].snapshot.files.has(file.path)) {
        this.#forget(key, file);
        continue;
      }
      const modifiedMs = (await this.#lake.store.stat(key))?.modifiedMs ?? null;
      if (modifiedMs === null || (modifiedMs === file.modifiedMs && !isThorough)) continue;
      if (checks++ >= CHECKS_MAX) return;
      file.modifiedMs = modifiedMs;
      if (!(await this.#isReadable(key))) continue;
      this.#lake.logger.info({ file: key }, 'a file of the lake can be read again');
      this.#forget(key, file);
    }
  }

  /** Files of a table that have been so for at least this long. */
  lasting(table: LakeTable, ageMs: number): string[] {
    const beforeMs = this.#lake.clock.monotonicUs() / 1000 - ageMs;
    return [...this.#files.values()].filter((file) => file.table === table && file.sinceMs <= beforeMs).map((file) => file.path);
  }

  async #isReadable(key: string): Promise<boolean> {
    try {
      const bytes = await this.#lake.store.get(key);
      if (bytes === null) return false;
      await readParquetColumns(bytes);
      return true;
    } catch (error) {
      if (!isDamage(error)) throw error;
      return false;
    }
  }

  #forget(key: string, file: Unreadable): void {
    this.#files.delete(key);
    this.#paths[file.table].delete(file.path);
  }
}
