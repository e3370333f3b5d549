/**
 * The active files of a table as this hub's answers see them: moved on version by version, in the same synchronous step in
 * which the windows take the version in. The table's own snapshot may be ahead of it in between.
 */
import { parseFileStats, type AddFile, type FileStats } from './delta-actions.ts';
import type { AppliedVersion, DeltaTable } from './delta-table.ts';
import type { Lake } from './lake.ts';
import { compareUtf8 } from './parquet/text-order.ts';
import type { LakeFile, TableRange } from '../engine-api.ts';

/** Parsed once per file: captures come hundreds of times a second. */
const statsOf = new WeakMap<AddFile, FileStats>();

function fileStats(file: AddFile): FileStats {
  let stats = statsOf.get(file);
  if (stats === undefined) {
    stats = parseFileStats(file.stats);
    statsOf.set(file, stats);
  }
  return stats;
}

/** Names of the columns that bound a row's event time, first and last. */
const TIME_COLUMNS: Readonly<Record<string, readonly [from: string, to: string]>> = {
  readings: ['ts', 'ts'],
  exceptions: ['from_ts', 'to_ts'],
  aggregates: ['window_start', 'window_start'],
  progress: ['asserted_ts', 'asserted_ts'],
};

export class ServedFiles {
  readonly #lake: Lake;
  readonly #table: DeltaTable;
  #version = -1;
  #files = new Map<string, AddFile>();

  constructor(lake: Lake, table: DeltaTable) {
    this.#lake = lake;
    this.#table = table;
    this.reset();
  }

  get version(): number {
    return this.#version;
  }

  /** Takes the table's snapshot over. */
  reset(): void {
    const { snapshot } = this.#table;
    this.#version = snapshot.version;
    this.#files = new Map(snapshot.files);
  }

  /** Versions come in order; one that was seen already changes nothing. */
  apply({ version, actions }: AppliedVersion): void {
    if (version <= this.#version) return;
    for (const remove of actions.removes) this.#files.delete(remove.path);
    for (const add of actions.adds) this.#files.set(add.path, add);
    this.#version = version;
  }

  /** The files that may hold rows of the range. What the statistics do not say is taken for yes. */
  select(range: TableRange): LakeFile[] {
    const selected: LakeFile[] = [];
    const [fromColumn, toColumn] = TIME_COLUMNS[this.#table.spec.name];
    for (const file of this.#files.values()) {
      const { minValues, maxValues } = fileStats(file);
      if (!mayOverlap(minValues[fromColumn], maxValues[toColumn], range)) continue;
      if (!mayHoldNames(minValues['device'], maxValues['device'], range.devices)) continue;
      if (!mayHoldNames(minValues['metric'], maxValues['metric'], range.metrics)) continue;
      selected.push({ path: this.#lake.localPath(this.#table, file.path), size: file.size, day: file.partitionValues['day'] ?? null });
    }
    return selected;
  }
}

function mayOverlap(min: unknown, max: unknown, range: TableRange): boolean {
  // Statistics are floored to ms: a maximum may be almost one ms too small.
  if (typeof max === 'string' && Date.parse(max) * 1000 + 1000 <= range.fromUs) return false;
  return !(typeof min === 'string' && Date.parse(min) * 1000 >= range.toUs);
}

function mayHoldNames(min: unknown, max: unknown, names: readonly string[] | null): boolean {
  if (names === null) return true;
  return names.some(
    (name) => !(typeof min === 'string' && compareUtf8(name, min) < 0) && !(typeof max === 'string' && compareUtf8(name, max) > 0),
  );
}
