/**
 * The rows of the lake, read with hyparquet from the files that the log names, as columns per series.
 *
 * A file is read once: data files are never changed, so a second look at the lake reads only what is new.
 */
import path from 'node:path';
import { asyncBufferFromFile, parquetMetadataAsync, parquetRead, parquetReadObjects, type ParquetParsers } from 'hyparquet';
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import { readTable, type TableFile } from './delta-log.ts';
import { parquetCompressors } from './parquet-codecs.ts';

/** Exact µs as a number; the default is a Date, which has only ms. */
const parsers: Partial<ParquetParsers> = { timestampFromMicroseconds: (us) => Number(us) };

export interface LakeRow {
  readonly eventTimeUs: number;
  /** NaN for null. */
  readonly value: number;
  readonly text: string | null;
}

/** One series as the lake has it; rows in no order. */
export interface LakeSeries {
  readonly gateway: string;
  readonly device: string;
  readonly metric: string;
  /** '' for null. */
  readonly tags: string;
  readonly rows: LakeRow[];
}

export interface LakeException {
  /** Unique in the table: gateway, epoch, lane, seq, idx. */
  readonly id: string;
  /** null: several, or none. */
  readonly gateway: string | null;
  readonly kind: string;
  readonly device: string | null;
  readonly metric: string | null;
  readonly fromUs: number;
  readonly toUs: number;
  readonly readingCount: number | null;
  readonly reason: string;
  /** Of quarantined readings that are named one by one; null: all in the range. */
  readonly eventTimesUs: ReadonlySet<number> | null;
}

export interface LakeContent {
  readonly readingsVersion: number;
  readonly exceptionsVersion: number | null;
  readonly fileCount: number;
  readonly rowCount: number;
  readonly series: readonly LakeSeries[];
  readonly exceptions: readonly LakeException[];
  /** Rows whose day does not fit their ts, rows without ts, exceptions that stand twice, and the like. */
  readonly defects: readonly string[];
}

const READING_COLUMNS = ['ts', 'gateway', 'device', 'metric', 'tags', 'value', 'text'] as const;
type ReadingColumn = (typeof READING_COLUMNS)[number];

interface FileContent {
  readonly series: readonly LakeSeries[];
  readonly rowCount: number;
  readonly defects: readonly string[];
}

const DAY_US = 86_400_000_000;

async function readColumns(file: TableFile): Promise<{ rowCount: number; columns: Record<ReadingColumn, unknown[]> }> {
  const buffer = await asyncBufferFromFile(file.path);
  if (buffer.byteLength !== file.size)
    throw new SluiceError('ERR_SIM_LAKE', `${file.path} has ${buffer.byteLength} bytes, the log says ${file.size}`);
  const metadata = await parquetMetadataAsync(buffer);
  const rowCount = Number(metadata.num_rows);
  const columns = Object.fromEntries(READING_COLUMNS.map((name) => [name, Array.from({ length: rowCount }, () => null)])) as Record<
    ReadingColumn,
    unknown[]
  >;
  await parquetRead({
    file: buffer,
    metadata,
    columns: [...READING_COLUMNS],
    compressors: parquetCompressors,
    parsers,
    onChunk: ({ columnName, columnData, rowStart }) => {
      const target = columns[columnName as ReadingColumn];
      for (let index = 0; index < columnData.length; index++) target[rowStart + index] = columnData[index];
    },
  });
  return { rowCount, columns };
}

async function readDataFile(file: TableFile): Promise<FileContent> {
  const { rowCount, columns } = await readColumns(file);
  const dayStartUs = Date.parse(`${file.partitionValues['day'] ?? ''}T00:00:00Z`) * 1000;
  const series = new Map<string, LakeSeries>();
  let misplaced = 0;
  for (let row = 0; row < rowCount; row++) {
    const eventTimeUs = Number(columns.ts[row] ?? NaN);
    if (!(eventTimeUs >= dayStartUs && eventTimeUs < dayStartUs + DAY_US)) misplaced++;
    const gateway = String(columns.gateway[row]);
    const device = String(columns.device[row]);
    const metric = String(columns.metric[row]);
    const tags = (columns.tags[row] ?? '') as string;
    const key = `${gateway}\u0000${device}\u0000${metric}\u0000${tags}`;
    let entry = series.get(key);
    if (entry === undefined) {
      entry = { gateway, device, metric, tags, rows: [] };
      series.set(key, entry);
    }
    entry.rows.push({ eventTimeUs, value: (columns.value[row] ?? NaN) as number, text: (columns.text[row] ?? null) as string | null });
  }
  const defects =
    misplaced === 0 ? [] : [`${file.path}: ${misplaced} rows have a ts outside the partition day ${String(file.partitionValues['day'])}`];
  return { series: [...series.values()], rowCount, defects };
}

async function readExceptions(file: TableFile): Promise<LakeException[]> {
  const rows = await parquetReadObjects({
    file: await asyncBufferFromFile(file.path),
    columns: [
      'gateway',
      'epoch',
      'lane',
      'seq',
      'idx',
      'kind',
      'device',
      'metric',
      'from_ts',
      'to_ts',
      'reading_count',
      'reason',
      'payload',
    ],
    compressors: parquetCompressors,
    parsers,
  });
  return rows.map((row) => ({
    id: ['gateway', 'epoch', 'lane', 'seq', 'idx'].map((column) => String(row[column])).join('/'),
    gateway: (row['gateway'] ?? null) as string | null,
    kind: String(row['kind']),
    device: (row['device'] ?? null) as string | null,
    metric: (row['metric'] ?? null) as string | null,
    fromUs: Number(row['from_ts']),
    toUs: Number(row['to_ts']),
    readingCount: row['reading_count'] === null || row['reading_count'] === undefined ? null : Number(row['reading_count']),
    reason: String(row['reason']),
    eventTimesUs: row['kind'] === 'quarantined' ? namedTimes(row['payload']) : null,
  }));
}

/** The event times that a quarantined exception's payload names; null where it has none. */
function namedTimes(payload: unknown): ReadonlySet<number> | null {
  if (typeof payload !== 'string') return null; // hyparquet's default for bytes
  try {
    const { readings } = JSON.parse(payload) as { readings: readonly { ts: number | null }[] };
    return new Set(readings.flatMap(({ ts }) => (ts === null ? [] : [ts])));
  } catch {
    return null; // then the count alone is believed
  }
}

/** One that stands twice would account for twice as many missing readings. */
function doubledExceptions(exceptions: readonly LakeException[]): string[] {
  const seen = new Set<string>();
  const doubled = exceptions.filter(({ id }) => seen.size === seen.add(id).size);
  return doubled.length === 0 ? [] : [`exceptions: ${doubled.length} rows stand there twice, the first is ${doubled[0].id}`];
}

export class LakeReader {
  readonly #lakeDir: string;
  readonly #dataFiles = new Map<string, FileContent>();
  readonly #exceptionFiles = new Map<string, readonly LakeException[]>();

  constructor(lakeDir: string) {
    this.#lakeDir = lakeDir;
  }

  /** @throws SluiceError ERR_SIM_LAKE where a log or a file that it names cannot be read. */
  async read(): Promise<LakeContent> {
    // Exceptions are committed before the readings of the same batches, so this order never misses one that explains a hole.
    const readings = await readTable(path.join(this.#lakeDir, 'readings'));
    const exceptions = await readTable(path.join(this.#lakeDir, 'exceptions'));
    if (readings === null) throw new SluiceError('ERR_SIM_LAKE', `${this.#lakeDir} has no Delta table readings`);
    const dataFiles = await this.#readAll(readings.files, this.#dataFiles, readDataFile);
    const exceptionFiles = await this.#readAll(exceptions?.files ?? [], this.#exceptionFiles, readExceptions);
    const merged = new Map<string, LakeSeries>();
    for (const file of dataFiles) {
      for (const series of file.series) {
        const key = `${series.gateway}\u0000${series.device}\u0000${series.metric}\u0000${series.tags}`;
        const entry = merged.get(key);
        if (entry === undefined) merged.set(key, { ...series, rows: [...series.rows] });
        else for (const row of series.rows) entry.rows.push(row);
      }
    }
    const allExceptions = exceptionFiles.flat();
    return {
      readingsVersion: readings.version,
      exceptionsVersion: exceptions?.version ?? null,
      fileCount: readings.files.length,
      rowCount: dataFiles.reduce((sum, file) => sum + file.rowCount, 0),
      series: [...merged.values()],
      exceptions: allExceptions,
      defects: [...dataFiles.flatMap((file) => file.defects), ...doubledExceptions(allExceptions)],
    };
  }

  async #readAll<T>(files: readonly TableFile[], known: Map<string, T>, read: (file: TableFile) => Promise<T>): Promise<T[]> {
    const current = new Set(files.map((file) => file.path));
    for (const file of known.keys()) if (!current.has(file)) known.delete(file);
    const contents: T[] = [];
    for (const file of files) {
      let content = known.get(file.path);
      if (content === undefined) {
        try {
          content = await read(file);
        } catch (cause) {
          if (cause instanceof SluiceError) throw cause;
          throw new SluiceError('ERR_SIM_LAKE', `cannot read ${file.path}: ${errorMessage(cause)}`, { cause });
        }
        known.set(file.path, content);
      }
      contents.push(content);
    }
    return contents;
  }
}
