/**
 * Series that have readings without a number: windows know nothing of them, so they are found in `readings`.
 *
 * A data file never changes: what one has is read once and remembered. One listing reads so many new files at most, newest
 * first; until all are read it says that it is not complete. Bound: the files of the lake times the text series of each, and in
 * all ROWS_MAX, beyond which files are left out.
 */
import type { LakeFile } from '../engine-api.ts';
import { readParquet, type LakeReader } from './duckdb.ts';
import type { SeriesRow } from './query-api.ts';

const NEW_FILES_MAX = 500;
const ROWS_MAX = 500_000;

type TextRow = Omit<SeriesRow, 'lastValue' | 'lastText'> & { readonly lastText: string | null };

export class TextSeries {
  readonly #reader: LakeReader;
  #known = new Map<string, TextRow[]>();

  constructor(reader: LakeReader) {
    this.#reader = reader;
  }

  /** @param files of the newest version of `readings`, whole */
  async list(files: readonly LakeFile[]): Promise<{ readonly rows: readonly TextRow[]; readonly complete: boolean }> {
    const current = new Map(files.map((file) => [file.path, this.#known.get(file.path)]));
    const unread = files.filter(({ path }) => current.get(path) === undefined).sort((a, b) => ((a.day ?? '') < (b.day ?? '') ? 1 : -1));
    const batch = unread.slice(0, NEW_FILES_MAX);
    if (batch.length > 0) {
      for (const file of batch) current.set(file.path, []);
      for (const { path, row } of await this.#read(batch)) current.get(path)?.push(row);
    }
    const rows: TextRow[] = [];
    this.#known = new Map();
    for (const [path, own] of current) {
      if (own === undefined || rows.length + own.length > ROWS_MAX) continue;
      this.#known.set(path, own);
      rows.push(...own);
    }
    return { rows, complete: this.#known.size === files.length };
  }

  async #read(files: readonly LakeFile[]): Promise<{ path: string; row: TextRow }[]> {
    const columns = await this.#reader.query(
      `SELECT filename, gateway, device, metric, tags, count(*)::DOUBLE AS n, epoch_us(min(ts))::DOUBLE AS first_us, epoch_us(max(ts))::DOUBLE AS last_us,
         arg_max(left(text, 256), ts) AS last_text
       FROM ${readParquet(files, true)} WHERE value IS NULL AND text IS NOT NULL GROUP BY ALL LIMIT ${ROWS_MAX}`,
      [],
    );
    const at = (name: string, row: number): unknown => columns.get(name)?.[row] ?? null;
    const count = columns.get('filename')?.length ?? 0;
    return Array.from({ length: count }, (_, row) => ({
      path: String(at('filename', row)),
      row: {
        gateway: String(at('gateway', row)),
        device: String(at('device', row)),
        metric: String(at('metric', row)),
        tags: at('tags', row) as string | null,
        count: Number(at('n', row)),
        firstTsUs: at('first_us', row) as number | null,
        lastTsUs: at('last_us', row) as number | null,
        lastText: at('last_text', row) as string | null,
      },
    }));
  }
}

/** Numeric series, with what their texts add; `count` counts both. */
export function withTexts(
  series: readonly SeriesRow[],
  texts: readonly TextRow[],
  keyOf: (row: Omit<SeriesRow, 'lastValue'>) => string,
): SeriesRow[] {
  const all = new Map(series.map((row) => [keyOf(row), row]));
  for (const text of texts) {
    const known = all.get(keyOf(text));
    const isNewer = (text.lastTsUs ?? -Infinity) > (known?.lastTsUs ?? -Infinity);
    all.set(keyOf(text), {
      ...text,
      count: (known?.count ?? 0) + text.count,
      firstTsUs: Math.min(known?.firstTsUs ?? Infinity, text.firstTsUs ?? Infinity),
      lastTsUs: isNewer ? text.lastTsUs : (known?.lastTsUs ?? null),
      lastValue: isNewer ? null : (known?.lastValue ?? null),
      lastText: isNewer ? text.lastText : (known?.lastText ?? null),
    });
  }
  return [...all.values()];
}
