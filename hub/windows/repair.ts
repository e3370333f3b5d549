/**
 * Files of `aggregates` that are damaged or gone, made again: they are derived, and `readings` still has what they are of.
 *
 * Found by reading: each run checks the pages of some files, one after another, so that every file is looked at again and
 * again; a query that met one has left it out meanwhile, and said so.
 *
 * A damaged file stands for a definition and, by the statistics in the log, for a span of window starts (one with those of
 * other damaged files that overlap it). All windows of that
 * span are computed from `readings` as of the definition's position P, a UTC day at a time; what other files have of the
 * span is left out of them. So every window of the span has what versions up to P brought, once; later versions come by
 * flushes, which this does not touch.
 *
 * Steps, and what a crash after each leaves:
 *   1. the new files are staged: orphans, which vacuum deletes; the next run begins again
 *   2. one commit removes the damaged file and those that were rewritten, and adds the new ones; refused if another writer
 *      removed one of them meanwhile (folding, another hub's repair), and then the next run begins again
 *
 * Sums and means are those of folding: equal but for their last digit. That a window was revised is not known any more.
 * What `readings` cannot give (rows deleted, a damaged file of its own, a definition that is not configured, too much for one
 * run) stays as it is: answers leave the file out and say so, and a copy from a backup heals it.
 */
import { isSluiceError } from '../../shared/errors.ts';
import { definitionHash, type WindowDefinition } from '../../shared/window/definition.ts';
import type { PartialColumns } from '../../shared/window/partial-columns.ts';
import { commitMerged } from '../lake/compaction.ts';
import { isDamage, isGivenUp, isSetAside } from '../lake/damage.ts';
import { parseFileStats, type AddFile } from '../lake/delta-actions.ts';
import { positionOf } from '../lake/delta-snapshot.ts';
import { AGGREGATE_ROW_GROUP_ROWS, encodeInSlices } from '../lake/encode-slices.ts';
import type { Lake } from '../lake/lake.ts';
import { readParquetColumns } from '../lake/parquet/read.ts';
import { stageFile } from '../lake/stage.ts';
import { inSlices } from '../steps.ts';
import { aggregateColumns } from './aggregate-rows.ts';
import { concatenate, foldOrder, foldRows } from './fold.ts';
import { windowAppId } from './flusher.ts';
import { readGatewayRuns } from './readings-source.ts';
import { rowsOfReadings } from './rows-of-readings.ts';

export interface RepairLimits {
  /** Of files of `aggregates` that one run checks. */
  readonly checkedBytesMax: number;
  /** Of `readings` that one run computes a span from. */
  readonly readingsMax: number;
}

/** Some ten ms of checksums, at a run every ten minutes 2 GB a day; two minutes of windows. */
export const REPAIR_LIMITS: RepairLimits = { checkedBytesMax: 16_000_000, readingsMax: 200_000_000 };

export interface RepairResult {
  readonly repaired: number;
  /** Damaged files that stay. */
  readonly left: readonly string[];
}

const DAY_US = 86_400_000_000;

/** What is to be computed again: windows of `definition` that start in [fromUs, lastUs]. */
interface Span {
  readonly definition: WindowDefinition;
  readonly fromUs: number;
  readonly lastUs: number;
}

interface Work {
  readonly span: Span;
  readonly damaged: readonly AddFile[];
  /** Others of the definition that may have windows of the span: all that there were when its position was this. */
  readonly readable: readonly AddFile[];
  /** Of the definition. What is flushed behind it stays as it is, also where this lake learns of it before the commit. */
  readonly position: number;
}

/** Why a file stays: for the log. */
class Left extends Error {}

export class AggregateRepair {
  readonly #lake: Lake;
  readonly #definitions: ReadonlyMap<string, WindowDefinition>;
  readonly #breathe: () => Promise<void>;
  readonly #limits: RepairLimits;
  /** The file that was checked last. */
  #checked = '';
  readonly #left = new Map<string, string>();

  /** @param definitions those that the hub has; of others nobody knows how they are computed */
  constructor(lake: Lake, definitions: readonly WindowDefinition[], breathe: () => Promise<void>, limits: RepairLimits = REPAIR_LIMITS) {
    this.#lake = lake;
    this.#definitions = new Map(definitions.map((definition) => [definitionHash(definition), definition]));
    this.#breathe = breathe;
    this.#limits = limits;
  }

  /**
   * One run: at most one span is computed.
   *
   * @param suspected files that somebody could not read
   * @throws SluiceError ERR_STORE_*, ERR_LAKE_*
   */
  async run(suspected: readonly string[] = []): Promise<RepairResult> {
    await this.#lake.aggregates.refresh();
    const { files } = this.#lake.aggregates.snapshot;
    const damaged = [...new Set([...suspected, ...this.#left.keys(), ...(await this.#check())])].filter((path) => files.has(path));
    let repaired = 0;
    for (const path of damaged) {
      const file = files.get(path);
      if (file === undefined || !(await this.#isDamaged(file))) {
        this.#left.delete(path);
        continue;
      }
      try {
        repaired = await this.#repair(file);
        break;
      } catch (error) {
        if (!(error instanceof Left)) throw error;
        if (this.#left.get(path) !== error.message)
          this.#lake.logger.error({ path, why: error.message }, 'a damaged file of aggregates stays');
        this.#left.set(path, error.message);
      }
    }
    const { files: now } = this.#lake.aggregates.snapshot;
    for (const path of this.#left.keys()) if (!now.has(path)) this.#left.delete(path);
    return { repaired, left: [...this.#left.keys()] };
  }

  /** The next files in the order of their paths. @returns those that are damaged */
  async #check(): Promise<string[]> {
    const paths = [...this.#lake.aggregates.snapshot.files.keys()].sort();
    const first = paths.findIndex((path) => path > this.#checked);
    const order = first <= 0 ? paths : [...paths.slice(first), ...paths.slice(0, first)];
    const damaged: string[] = [];
    let bytes = 0;
    for (const path of order) {
      const file = this.#lake.aggregates.snapshot.files.get(path);
      if (file === undefined) continue;
      bytes += file.size;
      if (bytes > this.#limits.checkedBytesMax && path !== order[0]) break;
      this.#checked = path;
      if (await this.#isDamaged(file)) damaged.push(path);
      await this.#breathe();
    }
    return damaged;
  }

  async #isDamaged(file: AddFile): Promise<boolean> {
    const { log } = this.#lake.aggregates;
    const bytes = await log.store.get(`${log.prefix}/${file.path}`);
    if (bytes === null) return true;
    try {
      const { rowCount } = await readParquetColumns(bytes, { columns: ['def'] });
      return rowCount !== (parseFileStats(file.stats).numRecords ?? rowCount);
    } catch (error) {
      if (!isDamage(error)) throw error;
      return true;
    }
  }

  /** @returns damaged files that were replaced; 0: another writer was faster. @throws Left */
  async #repair(file: AddFile): Promise<number> {
    const { aggregates, logger } = this.#lake;
    const readVersion = aggregates.version;
    const work = await this.#workOf(file);
    if (work === null) return 0;
    const { span, damaged } = work;
    const adds: AddFile[] = [];
    try {
      const inputs = await this.#rewriteOthers(work, adds);
      await this.#stageComputed(work, adds);
      const outcome = await commitMerged(aggregates, [...damaged, ...inputs], adds, readVersion, true);
      // It has discarded them if it was refused.
      adds.length = 0;
      if (outcome.status === 'conflict') return 0;
      logger.warn(
        {
          paths: damaged.map(({ path }) => path),
          window: span.definition.name,
          fromUs: span.fromUs,
          lastUs: span.lastUs,
          rows: outcome.rows,
        },
        'damaged files of aggregates were made again from readings',
      );
      return damaged.length;
    } catch (error) {
      await aggregates.discardStaged(adds.map(({ path }) => path));
      throw error;
    }
  }

  /**
   * The span of a damaged file and of those damaged ones that overlap it: nobody knows which of its windows they have. The
   * others that do are read.
   *
   * @returns null: the snapshot is old
   */
  async #workOf(file: AddFile): Promise<Work | null> {
    const damaged = [file];
    const readable = new Set<AddFile>();
    let span = this.#spanOf(file);
    for (;;) {
      const next = this.#overlapping(span).find((other) => !damaged.includes(other) && !readable.has(other));
      if (next === undefined) {
        const position = positionOf(this.#lake.aggregates.snapshot, windowAppId(span.definition));
        return { span, damaged, readable: [...readable], position };
      }
      if (await this.#isDamaged(next)) {
        // Vacuum may have taken what folding replaced.
        if (!(await this.#isStillNamed(next))) return null;
        damaged.push(next);
        const own = this.#spanOf(next);
        span = { ...span, fromUs: Math.min(span.fromUs, own.fromUs), lastUs: Math.max(span.lastUs, own.lastUs) };
      } else readable.add(next);
      await this.#breathe();
    }
  }

  #overlapping({ definition, fromUs, lastUs }: Span): AddFile[] {
    const hash = definitionHash(definition);
    return [...this.#lake.aggregates.snapshot.files.values()].filter((file) => {
      const { minValues, maxValues } = parseFileStats(file.stats);
      const [min, max] = [minValues['def'], maxValues['def']];
      const isOther = typeof min === 'string' && typeof max === 'string' && (hash < min || max < hash);
      const bounds = startsOf(file);
      const isApart = bounds !== null && (bounds.lastUs < fromUs || bounds.fromUs > lastUs);
      if (isOther || isApart) return false;
      if (min === max && bounds !== null) return true;
      throw new Left(`${file.path} may have windows of its span and is not of this hub`);
    });
  }

  #spanOf(file: AddFile): Span {
    const { minValues, maxValues } = parseFileStats(file.stats);
    const [hash, lastHash] = [minValues['def'], maxValues['def']];
    const definition = typeof hash === 'string' && hash === lastHash ? this.#definitions.get(hash) : undefined;
    if (definition === undefined) throw new Left('it is of no definition that this hub has');
    const bounds = startsOf(file);
    if (bounds === null) throw new Left('its statistics do not say which windows it has');
    return { definition, ...bounds };
  }

  /** Files that have windows of the span, without those windows. @returns those that had some */
  async #rewriteOthers({ span, readable }: Work, adds: AddFile[]): Promise<AddFile[]> {
    const { log } = this.#lake.aggregates;
    const inputs: AddFile[] = [];
    for (const file of readable) {
      const bytes = await log.store.get(`${log.prefix}/${file.path}`);
      if (bytes === null) throw new Left(`${file.path}, which has windows of its span, went away`);
      const all = concatenate([await readParquetColumns(bytes)]);
      const kept = [...foldOrder(all)].filter((row) => !isInside(all.windowStartUs[row], span));
      if (kept.length === all.count) continue;
      inputs.push(file);
      if (kept.length > 0) adds.push(await this.#stage(span.definition, foldRows(all, kept), null));
      await this.#breathe();
    }
    return inputs;
  }

  async #isStillNamed(file: AddFile): Promise<boolean> {
    await this.#lake.aggregates.refresh();
    return this.#lake.aggregates.snapshot.files.has(file.path);
  }

  async #stageComputed({ span, damaged, position }: Work, adds: AddFile[]): Promise<void> {
    const { definition, fromUs, lastUs } = span;
    const days = await this.#filesByDay(position);
    const found = { rows: 0, fromUs: Infinity, lastUs: -Infinity };
    let isDayMissing = false;
    let readings = 0;
    for (let dayUs = Math.floor(fromUs / DAY_US) * DAY_US; dayUs <= lastUs + definition.sizeMs * 1000 - 1; dayUs += DAY_US) {
      const files = days.get(dayUs) ?? [];
      isDayMissing ||= files.length === 0;
      for await (const rows of rowsOfReadings(files, definition, (path) => this.#runsOf(path), this.#breathe)) {
        readings += rows.n.reduce((sum, n) => sum + n, 0);
        if (readings > this.#limits.readingsMax * (definition.sizeMs / (definition.slideMs ?? definition.sizeMs)))
          throw new Left(`its span has more than the ${this.#limits.readingsMax} readings that one run computes from`);
        const inside = [...foldOrder(rows)].filter((row) => isInside(rows.windowStartUs[row], span));
        if (inside.length === 0) continue;
        const computed = foldRows(rows, inside);
        found.rows += computed.count;
        for (const startUs of computed.windowStartUs) {
          found.fromUs = Math.min(found.fromUs, startUs);
          found.lastUs = Math.max(found.lastUs, startUs);
        }
        adds.push(await this.#stage(definition, computed, { from: 0, to: position }));
      }
      await this.#breathe();
    }
    // Windows at both ends are known to have been there.
    const isShort = isDayMissing && damaged.some(({ stats }) => found.rows < (parseFileStats(stats).numRecords ?? 0));
    if (found.fromUs !== fromUs || found.lastUs !== lastUs || isShort)
      throw new Left('the readings that it was computed from are not there any more');
  }

  /** Files of `readings` as they were named at a version, by the start of their UTC day. */
  async #filesByDay(version: number): Promise<ReadonlyMap<number, readonly string[]>> {
    const { readings, exceptions } = this.#lake;
    await readings.refresh();
    // It says which files were given up.
    await exceptions.refresh();
    const named = new Map([...readings.snapshot.files.values()].map(({ path, partitionValues }) => [path, partitionValues['day']]));
    const later = [];
    try {
      for await (const { actions } of readings.history(version, readings.version)) later.push(actions);
    } catch (error) {
      if (isSluiceError(error, 'ERR_LAKE_LOG_GAP'))
        throw new Left('the log of readings does not reach back to its position', { cause: error });
      throw error;
    }
    for (const { adds, removes } of later.reverse()) {
      for (const { path } of adds) named.delete(path);
      for (const { path, partitionValues } of removes) named.set(path, partitionValues?.['day'] ?? null);
    }
    const days = new Map<number, string[]>();
    for (const [path, day] of named) {
      if (isGivenUp(this.#lake, path) || isSetAside(this.#lake, path)) continue;
      const dayUs = Date.parse(`${day ?? ''}T00:00:00Z`) * 1000;
      if (Number.isNaN(dayUs)) throw new Left(`${path} of readings is of no day`);
      const files = days.get(dayUs);
      if (files === undefined) days.set(dayUs, [path]);
      else files.push(path);
    }
    return days;
  }

  /** Readings that are damaged themselves are not given up for this: other windows still have them. */
  async #runsOf(path: string): ReturnType<typeof readGatewayRuns> {
    try {
      return await readGatewayRuns(this.#lake.store, `${this.#lake.readings.spec.name}/${path}`);
    } catch (error) {
      if (isDamage(error)) throw new Left(`${path} of readings cannot be read`, { cause: error });
      throw error;
    }
  }

  async #stage(definition: WindowDefinition, rows: PartialColumns, source: { from: number; to: number } | null): Promise<AddFile> {
    const columns = await inSlices(aggregateColumns(definition, definitionHash(definition), rows, source), this.#breathe);
    const encoded = await encodeInSlices(rows.count, columns, this.#breathe, AGGREGATE_ROW_GROUP_ROWS);
    return stageFile(this.#lake.aggregates, {}, encoded);
  }
}

function isInside(startUs: number, { fromUs, lastUs }: Span): boolean {
  return startUs >= fromUs && startUs <= lastUs;
}

/** Windows start at whole ms, as statistics have them. */
function startsOf(file: AddFile): { readonly fromUs: number; readonly lastUs: number } | null {
  const { minValues, maxValues } = parseFileStats(file.stats);
  const [min, max] = [minValues['window_start'], maxValues['window_start']];
  if (typeof min !== 'string' || typeof max !== 'string') return null;
  return { fromUs: Date.parse(min) * 1000, lastUs: Date.parse(max) * 1000 };
}
