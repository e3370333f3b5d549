/**
 * The active files of a table as this hub's answers see them: moved on version by version, in the same synchronous step in
 * which the windows take the version in. The table's own snapshot may be ahead of it in between.
 *
 * Layout: one entry per file, parsed once; entries by UTC day of what they hold, those of many days in a list of their
 * own. A capture looks at the days that it asks for: its cost follows them, not the age of the lake.
 */
import { extentOf } from './damage.ts';
import { parseFileStats, type AddFile } from './delta-actions.ts';
import type { AppliedVersion, DeltaTable } from './delta-table.ts';
import type { Lake } from './lake.ts';
import { mayHoldNames } from '../name-patterns.ts';
import type { LakeFile, TableRange } from '../engine-api.ts';

/** Names of the columns that bound a row's event time, first and last. */
export const TIME_COLUMNS: Readonly<Record<string, readonly [from: string, to: string]>> = {
  readings: ['ts', 'ts'],
  exceptions: ['from_ts', 'to_ts'],
  aggregates: ['window_start', 'window_start'],
  progress: ['asserted_ts', 'asserted_ts'],
};

const DAY_US = 86_400_000_000;
/** A file of more days is looked at by every capture: a backlog's flush, a gap of unknown age. */
const DAYS_PER_FILE_MAX = 32;

interface Entry {
  readonly file: LakeFile;
  /** Relative to the table. */
  readonly path: string;
  readonly fromUs: number;
  readonly toUs: number;
  readonly minDevice: unknown;
  readonly maxDevice: unknown;
  readonly minMetric: unknown;
  readonly maxMetric: unknown;
  /** Of aggregates: hashes of definitions. */
  readonly minDef: unknown;
  readonly maxDef: unknown;
  /** The capture that has seen it. */
  seenBy: number;
}

/** Parsed once per file, whoever serves it. */
const entryOf = new WeakMap<AddFile, Omit<Entry, 'seenBy' | 'file'>>();

function parsed(file: AddFile, table: string): Omit<Entry, 'seenBy' | 'file'> {
  const known = entryOf.get(file);
  if (known !== undefined) return known;
  const { minValues, maxValues } = parseFileStats(file.stats);
  const { fromUs, toUs } = extentOf(file, TIME_COLUMNS[table]);
  const entry = {
    path: file.path,
    fromUs,
    toUs,
    minDevice: minValues['device'],
    maxDevice: maxValues['device'],
    minMetric: minValues['metric'],
    maxMetric: maxValues['metric'],
    minDef: minValues['def'],
    maxDef: maxValues['def'],
  };
  entryOf.set(file, entry);
  return entry;
}

export class ServedFiles {
  readonly #lake: Lake;
  readonly #table: DeltaTable;
  #version = -1;
  readonly #entries = new Map<string, Entry>();
  readonly #byDay = new Map<number, Set<Entry>>();
  readonly #wide = new Set<Entry>();
  #captures = 0;

  constructor(lake: Lake, table: DeltaTable) {
    this.#lake = lake;
    this.#table = table;
    this.reset();
  }

  get version(): number {
    return this.#version;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Takes the table's snapshot over. */
  reset(): void {
    const { snapshot } = this.#table;
    this.#version = snapshot.version;
    this.#entries.clear();
    this.#byDay.clear();
    this.#wide.clear();
    for (const file of snapshot.files.values()) this.#add(file);
  }

  /** Versions come in order; one that was seen already changes nothing. */
  apply({ version, actions }: AppliedVersion): void {
    if (version <= this.#version) return;
    for (const remove of actions.removes) this.#remove(remove.path);
    for (const add of actions.adds) this.#add(add);
    this.#version = version;
  }

  #add(add: AddFile): void {
    this.#remove(add.path);
    const file = { path: this.#lake.localPath(this.#table, add.path), size: add.size, day: add.partitionValues['day'] ?? null };
    const entry: Entry = { ...parsed(add, this.#table.spec.name), file, seenBy: 0 };
    this.#entries.set(add.path, entry);
    const days = daysOf(entry);
    if (days === null) {
      this.#wide.add(entry);
      return;
    }
    for (let day = days.from; day <= days.to; day++) {
      const bucket = this.#byDay.get(day);
      if (bucket === undefined) this.#byDay.set(day, new Set([entry]));
      else bucket.add(entry);
    }
  }

  #remove(path: string): void {
    const entry = this.#entries.get(path);
    if (entry === undefined) return;
    this.#entries.delete(path);
    this.#wide.delete(entry);
    const days = daysOf(entry);
    if (days === null) return;
    for (let day = days.from; day <= days.to; day++) {
      const bucket = this.#byDay.get(day);
      bucket?.delete(entry);
      if (bucket?.size === 0) this.#byDay.delete(day);
    }
  }

  /**
   * The files that may hold rows of the range. What the statistics do not say is taken for yes.
   *
   * @param unreadable paths to leave out; `onUnreadable` hears of each that would have been selected
   */
  select(range: TableRange, unreadable?: ReadonlySet<string>, onUnreadable?: (path: string) => void): LakeFile[] {
    const selected: LakeFile[] = [];
    const capture = ++this.#captures;
    const look = (entry: Entry): void => {
      if (entry.seenBy === capture || entry.toUs <= range.fromUs || entry.fromUs >= range.toUs) return;
      entry.seenBy = capture;
      if (!mayHoldNames(entry.minDef, entry.maxDef, range.definitions ?? null)) return;
      if (!mayHoldNames(entry.minDevice, entry.maxDevice, range.devices)) return;
      if (!mayHoldNames(entry.minMetric, entry.maxMetric, range.metrics)) return;
      if (unreadable?.has(entry.path) === true) onUnreadable?.(entry.path);
      else selected.push(entry.file);
    };
    for (const entry of this.#wide) look(entry);
    const [from, to] = [Math.floor(range.fromUs / DAY_US), Math.floor((range.toUs - 1) / DAY_US)];
    if (to - from < this.#byDay.size) {
      for (let day = from; day <= to; day++) this.#byDay.get(day)?.forEach(look);
    } else {
      for (const entry of this.#entries.values()) look(entry);
    }
    return selected;
  }
}

/** The UTC days, first and last, under which an entry is found; null: too many. */
function daysOf({ fromUs, toUs }: Entry): { readonly from: number; readonly to: number } | null {
  const [from, to] = [Math.floor(fromUs / DAY_US), Math.floor((toUs - 1) / DAY_US)];
  return to - from < DAYS_PER_FILE_MAX ? { from, to } : null;
}
