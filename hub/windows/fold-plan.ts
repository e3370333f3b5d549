/**
 * Which files of `aggregates` are folded with which, and where a file is cut. Pure.
 *
 * A file holds one definition and one span of time. The span follows the size of the windows, so that a series has some
 * hundreds of rows in a file: days of minutes, months of hours, years of days. With days for all of them a year of one
 * series by the hour would be 365 files of 24 rows each, and opening them most of the work.
 *
 * While a span goes on its files are merged by size (compaction-plan.ts); once it is over, and nothing late has come for a
 * while, whatever there is of it. What comes late afterwards waits the same while and is merged into what is not full.
 */
import { planCompaction, type PlanFile, type PlanLimits } from '../lake/compaction-plan.ts';
import { parseFileStats, type AddFile } from '../lake/delta-actions.ts';

const DAY_US = 86_400_000_000;
const MINUTE_MS = 60_000;
/** A day has 144 windows of this size, a month more than 4,000. */
const MONTHS_FROM_MS = 10 * MINUTE_MS;
/** A month has 124 of them. */
const YEARS_FROM_MS = 6 * 60 * MINUTE_MS;
/** After the end of a span, and after what came late. */
const QUIET_MS = 3_600_000;

/** Length of an ISO time's beginning that names the span: '2026-11-22', '2026-11' or '2026'. */
type SpanLength = 10 | 7 | 4;

function spanLength(windowMs: number): SpanLength {
  if (windowMs >= YEARS_FROM_MS) return 4;
  return windowMs >= MONTHS_FROM_MS ? 7 : 10;
}

/** UTC. @returns milliseconds since the Unix epoch */
function endOf(span: string): number {
  const [year, month = 12, day] = span.split('-').map(Number);
  return day === undefined ? Date.UTC(year, month) : Date.UTC(year, month - 1, day + 1);
}

/** Names the span of each window start, for windows of one size; spans that differ have different names. */
export function spanNames(windowMs: number): (windowStartUs: number) => string {
  const length = spanLength(windowMs);
  const names = new Map<number, string>();
  return (windowStartUs) => {
    const day = Math.floor(windowStartUs / DAY_US);
    let name = names.get(day);
    if (name === undefined) names.set(day, (name = new Date((day * DAY_US) / 1000).toISOString().slice(0, length)));
    return name;
  };
}

/**
 * @param files active ones; those without statistics, or of several definitions, are left alone
 * @returns as planCompaction
 */
export function planFolds(files: Iterable<AddFile>, limits: PlanLimits, nowMs: number): PlanFile<AddFile>[][] {
  const candidates: PlanFile<AddFile>[] = [];
  const newestMs = new Map<string, number>();
  for (const file of files) {
    const { numRecords: rows, minValues, maxValues } = parseFileStats(file.stats);
    const [def, start, end] = [minValues['def'], minValues['window_start'], minValues['window_end']];
    const isOneDefinition = typeof def === 'string' && def === maxValues['def'];
    if (rows === null || !isOneDefinition || typeof start !== 'string') continue;
    // Windows of a definition are of one size, so the least end is that of the least start.
    const windowMs = typeof end === 'string' ? Date.parse(end) - Date.parse(start) : 0;
    const group = `${def} ${start.slice(0, spanLength(windowMs))}`;
    candidates.push({ file, group, rows, bytes: file.size, createdMs: file.modificationTime });
    newestMs.set(group, Math.max(newestMs.get(group) ?? 0, file.modificationTime));
  }
  const isOver = (group: string): boolean =>
    endOf(group.slice(group.lastIndexOf(' ') + 1)) + QUIET_MS <= nowMs && (newestMs.get(group) ?? 0) + QUIET_MS <= nowMs;
  return planCompaction(candidates, limits, isOver);
}
