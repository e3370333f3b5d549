/**
 * Reading Parquet files back as columns or as plain rows: the home of hyparquet.
 *
 * For restart and for files that others wrote (Spark: snappy, other column order, missing columns). Whole row groups at
 * a time; a chunk is decoded in one step, tens of ms for a million rows, so it belongs on the lake's thread.
 * Whatever hyparquet throws over a damaged file comes out as ERR_PARQUET_INVALID; over a whole one that is made in a way that
 * nobody here reads as ERR_PARQUET_UNSUPPORTED: what follows from the two must not be the same (damage.ts).
 */
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { parquetMetadataAsync, parquetRead, parquetReadObjects, parquetSchema } from 'hyparquet';
import type { AsyncBuffer, Compressors, DecodedArray, FileMetaData, ParquetParsers, SchemaTree } from 'hyparquet';
import { SluiceError, errorMessage, isSluiceError } from '../../../shared/errors.ts';
import type { ParquetColumn } from './encode.ts';
import { checkPageChecksums } from './page-checksums.ts';
import { zstdDecompressPage } from './page-codec.ts';

export type { AsyncBuffer } from 'hyparquet';

export interface ParquetColumns {
  readonly rowCount: number;
  /** By name, in the file's order; a column that the file does not have is not here, which means null. */
  readonly columns: ReadonlyMap<string, ParquetColumn>;
}

export interface ReadOptions {
  /** Default: all columns of a kind that ParquetColumn has. */
  readonly columns?: readonly string[];
  /** A file of more rows is refused. Default 20 million: about 2 GB of columns. */
  readonly rowsMax?: number;
}

const ROWS_MAX_DEFAULT = 20_000_000;
const NULL_INDEX = 0xffff_ffff;

export const PARSERS: Partial<ParquetParsers> = {
  timestampFromMilliseconds: (millis: bigint) => Number(millis) * 1000,
  timestampFromMicroseconds: (micros: bigint) => Number(micros),
  timestampFromNanoseconds: (nanos: bigint) => Number(nanos / 1000n),
  dateFromDays: (days: number) => days,
};

const COMPRESSORS: Compressors = {
  ZSTD: zstdDecompressPage,
  GZIP: (page, bytes) => gunzipSync(page, { maxOutputLength: Math.max(1, bytes) }),
  BROTLI: (page, bytes) => brotliDecompressSync(page, { maxOutputLength: Math.max(1, bytes) }),
};
/** Of hyparquet, about what it does not know, and of V8, where there is no room for what is asked. */
const NOT_READ = /\bunsupported\b|allocation failed/i;

function asBuffer(file: Uint8Array | AsyncBuffer): AsyncBuffer {
  if (!(file instanceof Uint8Array)) return file;
  return { byteLength: file.length, slice: (start, end) => new Uint8Array(file.subarray(start, end)).buffer };
}

/** @throws SluiceError ERR_PARQUET_INVALID, ERR_PARQUET_UNSUPPORTED for whatever `work` throws */
export async function guarded<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (isSluiceError(cause, 'ERR_PARQUET_INVALID') || isSluiceError(cause, 'ERR_PARQUET_UNSUPPORTED')) throw cause;
    const code = NOT_READ.test(errorMessage(cause)) ? 'ERR_PARQUET_UNSUPPORTED' : 'ERR_PARQUET_INVALID';
    throw new SluiceError(code, `cannot read the Parquet file: ${errorMessage(cause)}`, { cause });
  }
}

/** @param file in memory as a whole, its pages are checked against their checksums */
async function readMetadata(file: Uint8Array | AsyncBuffer, buffer: AsyncBuffer, rowsMax: number): Promise<FileMetaData> {
  const bytes = file instanceof Uint8Array ? file : null;
  const metadata = await parquetMetadataAsync(buffer, { parsers: PARSERS });
  const rowCount = metadata.row_groups.reduce((total, group) => total + Number(group.num_rows), 0);
  if (!(rowCount <= rowsMax)) throw new SluiceError('ERR_PARQUET_UNSUPPORTED', `a file of ${rowCount} rows, at most ${rowsMax} are read`);
  if (bytes !== null) checkPageChecksums(bytes, metadata);
  return { ...metadata, num_rows: BigInt(rowCount) };
}

/** Takes the pages of one column as they come and puts them at their rows. */
interface Collector {
  add(leaf: string, data: DecodedArray, rowStart: number): void;
  finish(): ParquetColumn;
}

class NumberCollector implements Collector {
  readonly #name: string;
  readonly #type: 'timestamp' | 'double' | 'long' | 'int' | 'boolean';
  readonly #values: Float64Array | Int32Array | Uint8Array;
  /** Rows that no page covers stay null. */
  readonly #valid: Uint8Array;

  constructor(name: string, type: 'timestamp' | 'double' | 'long' | 'int' | 'boolean', rowCount: number) {
    this.#name = name;
    this.#type = type;
    this.#values = type === 'int' ? new Int32Array(rowCount) : type === 'boolean' ? new Uint8Array(rowCount) : new Float64Array(rowCount);
    this.#valid = new Uint8Array(rowCount);
  }

  add(_leaf: string, data: DecodedArray, rowStart: number): void {
    const end = Math.min(data.length, this.#values.length - rowStart);
    for (let i = 0; i < end; i++) {
      const value: unknown = data[i];
      if (value === null || value === undefined) continue;
      this.#values[rowStart + i] = Number(value);
      this.#valid[rowStart + i] = 1;
    }
  }

  finish(): ParquetColumn {
    const valid = this.#valid.includes(0) ? this.#valid : null;
    return { name: this.#name, type: this.#type, values: this.#values, valid } as ParquetColumn;
  }
}

class TextCollector implements Collector {
  readonly #name: string;
  readonly #dictionary: string[] = [];
  readonly #positions = new Map<string, number>();
  readonly #indices: Uint32Array;

  constructor(name: string, rowCount: number) {
    this.#name = name;
    this.#indices = new Uint32Array(rowCount).fill(NULL_INDEX);
  }

  add(_leaf: string, data: DecodedArray, rowStart: number): void {
    const end = Math.min(data.length, this.#indices.length - rowStart);
    let lastText: unknown = null;
    let lastIndex = NULL_INDEX;
    for (let i = 0; i < end; i++) {
      const text: unknown = data[i];
      if (text !== lastText) {
        lastText = text;
        lastIndex = typeof text === 'string' ? this.#position(text) : NULL_INDEX;
      }
      this.#indices[rowStart + i] = lastIndex;
    }
  }

  #position(text: string): number {
    const known = this.#positions.get(text);
    if (known !== undefined) return known;
    this.#positions.set(text, this.#dictionary.length);
    this.#dictionary.push(text);
    return this.#dictionary.length - 1;
  }

  finish(): ParquetColumn {
    const column = { name: this.#name, type: 'string', dictionary: this.#dictionary, indices: this.#indices } as const;
    return this.#indices.includes(NULL_INDEX) ? { ...column, nullIndex: NULL_INDEX } : column;
  }
}

class BinaryCollector implements Collector {
  readonly #name: string;
  readonly #values: (Uint8Array | null)[];

  constructor(name: string, rowCount: number) {
    this.#name = name;
    this.#values = Array.from({ length: rowCount }, () => null);
  }

  add(_leaf: string, data: DecodedArray, rowStart: number): void {
    for (let i = 0; i < Math.min(data.length, this.#values.length - rowStart); i++) {
      const value: unknown = data[i];
      if (value instanceof Uint8Array) this.#values[rowStart + i] = value;
    }
  }

  finish(): ParquetColumn {
    return { name: this.#name, type: 'binary', values: this.#values };
  }
}

/**
 * MAP<INT, LONG>. hyparquet hands a leaf's rows as nested lists, one level per optional or repeated group above it;
 * a null map and an empty one are told apart by the outer list where the map is optional.
 */
class MapCollector implements Collector {
  readonly #name: string;
  readonly #keyName: string;
  readonly #isOptional: boolean;
  readonly #keys: (readonly unknown[] | null)[];
  readonly #counts: (readonly unknown[] | null)[];

  constructor(name: string, keyName: string, isOptional: boolean, rowCount: number) {
    this.#name = name;
    this.#keyName = keyName;
    this.#isOptional = isOptional;
    this.#keys = Array.from({ length: rowCount }, () => null);
    this.#counts = Array.from({ length: rowCount }, () => null);
  }

  add(leaf: string, data: DecodedArray, rowStart: number): void {
    const target = leaf === this.#keyName ? this.#keys : this.#counts;
    for (let i = 0; i < Math.min(data.length, target.length - rowStart); i++) {
      const row = data[i] as readonly unknown[];
      target[rowStart + i] = this.#isOptional ? ((row[0] as readonly unknown[] | undefined) ?? null) : row;
    }
  }

  finish(): ParquetColumn {
    const rowCount = this.#keys.length;
    const offsets = new Uint32Array(rowCount + 1);
    const valid = new Uint8Array(rowCount);
    for (let row = 0; row < rowCount; row++) {
      const entries = this.#keys[row] ?? null;
      if (entries !== null) valid[row] = 1;
      offsets[row + 1] = offsets[row] + (entries?.length ?? 0);
    }
    const keys = new Int32Array(offsets[rowCount]);
    const counts = new Float64Array(keys.length);
    for (let row = 0; row < rowCount; row++) {
      const at = offsets[row];
      const length = offsets[row + 1] - at;
      for (let i = 0; i < length; i++) {
        keys[at + i] = Number(this.#keys[row]?.[i]);
        counts[at + i] = Number(this.#counts[row]?.[i] ?? 0); // a null count counts nothing
      }
    }
    return { name: this.#name, type: 'map_int_long', offsets, keys, counts, valid: valid.includes(0) ? valid : null };
  }
}

/** null for a kind of column that ParquetColumn does not have. */
function createCollector({ element, children }: SchemaTree, rowCount: number): Collector | null {
  const { name, type, converted_type: converted, logical_type: logical } = element;
  if (children.length > 0) {
    const entry = children[0];
    const [key, value] = entry?.children ?? [];
    const isMap = (converted === 'MAP' || logical?.type === 'MAP') && children.length === 1 && entry?.children.length === 2;
    if (!isMap || key?.element.type !== 'INT32' || value?.element.type !== 'INT64') return null;
    return new MapCollector(name, key.element.name, element.repetition_type === 'OPTIONAL', rowCount);
  }
  if (element.repetition_type === 'REPEATED' || converted === 'DECIMAL') return null;
  switch (type) {
    case 'BOOLEAN':
      return new NumberCollector(name, 'boolean', rowCount);
    case 'INT32':
      return new NumberCollector(name, 'int', rowCount);
    case 'INT96':
      return new NumberCollector(name, 'timestamp', rowCount);
    case 'INT64':
      return new NumberCollector(
        name,
        logical?.type === 'TIMESTAMP' || converted?.startsWith('TIMESTAMP') === true ? 'timestamp' : 'long',
        rowCount,
      );
    case 'FLOAT':
    case 'DOUBLE':
      return new NumberCollector(name, 'double', rowCount);
    case 'BYTE_ARRAY':
      return converted === 'UTF8' || logical?.type === 'STRING' ? new TextCollector(name, rowCount) : new BinaryCollector(name, rowCount);
    default:
      return null;
  }
}

/**
 * Reads a file as columns that `encodeParquet` would take again: timestamps in µs, texts with their dictionary.
 *
 * Integers above 2^53 lose digits; dates are days since the epoch in an `int` column.
 *
 * @throws SluiceError ERR_PARQUET_INVALID for a damaged file; ERR_PARQUET_UNSUPPORTED for too many rows, or a named column of another kind
 */
export async function readParquetColumns(file: Uint8Array | AsyncBuffer, options: ReadOptions = {}): Promise<ParquetColumns> {
  return await guarded(async () => {
    const buffer = asBuffer(file);
    const metadata = await readMetadata(file, buffer, options.rowsMax ?? ROWS_MAX_DEFAULT);
    return await collectColumns(buffer, metadata, options.columns);
  });
}

/** @param columns default: all of a kind that ParquetColumn has. @throws SluiceError and whatever hyparquet throws */
export async function collectColumns(
  buffer: AsyncBuffer,
  metadata: FileMetaData,
  columns: readonly string[] | undefined,
): Promise<ParquetColumns> {
  const rowCount = Number(metadata.num_rows);
  const wanted = columns === undefined ? null : new Set(columns);
  const collectors = new Map<string, Collector>();
  for (const child of parquetSchema(metadata).children) {
    const name = child.element.name;
    if (wanted !== null && !wanted.has(name)) continue;
    const collector = createCollector(child, rowCount);
    if (collector !== null) collectors.set(name, collector);
    else if (wanted !== null) throw new SluiceError('ERR_PARQUET_UNSUPPORTED', `column ${name} is of a kind that is not read`);
  }
  if (collectors.size > 0 && rowCount > 0) {
    await parquetRead({
      file: buffer,
      metadata,
      columns: [...collectors.keys()],
      compressors: COMPRESSORS,
      parsers: PARSERS,
      utf8: false,
      geoparquet: false,
      onPage: ({ pathInSchema, columnData, rowStart }) => {
        collectors.get(pathInSchema[0])?.add(pathInSchema[pathInSchema.length - 1], columnData, rowStart);
      },
    });
  }
  return { rowCount, columns: new Map([...collectors].map(([name, collector]) => [name, collector.finish()])) };
}

/** 64-bit integers become numbers, what is absent becomes null. */
function plainValue(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (value === undefined || value === null) return null;
  if (Array.isArray(value)) return value.map(plainValue);
  if (typeof value === 'object' && !(value instanceof Uint8Array)) {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plainValue(inner)]));
  }
  return value;
}

/**
 * Reads a file as plain rows, for checkpoints: structs and maps as objects, lists as arrays, timestamps in µs.
 *
 * @throws SluiceError ERR_PARQUET_INVALID
 */
export async function readParquetRows(file: Uint8Array | AsyncBuffer, options: ReadOptions = {}): Promise<Record<string, unknown>[]> {
  return await guarded(async () => {
    const buffer = asBuffer(file);
    const metadata = await readMetadata(file, buffer, options.rowsMax ?? ROWS_MAX_DEFAULT);
    const present = parquetSchema(metadata).children.map((child) => child.element.name);
    const columns = options.columns === undefined ? present : present.filter((name) => options.columns?.includes(name) === true);
    if (columns.length === 0) return Array.from({ length: Number(metadata.num_rows) }, () => ({}));
    const rows = await parquetReadObjects({
      file: buffer,
      metadata,
      columns,
      compressors: COMPRESSORS,
      parsers: PARSERS,
      utf8: false,
      geoparquet: false,
    });
    return rows.map((row) => plainValue(row) as Record<string, unknown>);
  });
}
