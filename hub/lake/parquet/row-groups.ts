/**
 * A Parquet file by its row groups: the footer once, then only those groups and columns that are wanted.
 *
 * What a file of hundreds of series has to give for one of them is a few row groups. Pages are checked against their
 * checksums as far as they are read. It keeps no file open and holds nothing but the footer, whose statistics are reduced to
 * the asked columns.
 */
import { parquetMetadata } from 'hyparquet';
import type { ColumnChunk, ColumnMetaData, FileMetaData, RowGroup } from 'hyparquet';
import { SluiceError } from '../../../shared/errors.ts';
import { chunkRange, decodeChunk, flatTypes, type ByteRange, type FlatType } from './decode-chunk.ts';
import type { ParquetColumn } from './encode.ts';
import { checkPageChecksums } from './page-checksums.ts';
import { collectColumns, guarded, PARSERS, type ParquetColumns } from './read.ts';

/** Bytes [start, end) of the file. */
export type ReadBytes = (start: number, end: number) => Uint8Array;

/** Of the values that are not null, exact or wider. Texts and numbers; timestamps in µs. */
export interface Bounds {
  readonly min: unknown;
  readonly max: unknown;
}

/** null: of texts, none in any row. */
type Constant = number | bigint | string | null;

export interface RowGroupExtent {
  readonly rowCount: number;
  /** As stored: what it costs to read all of it. */
  readonly bytes: number;
  /** By column; one without statistics is not here. */
  readonly bounds: ReadonlyMap<string, Bounds>;
  /** Integers, times (numbers, µs) and texts that are the same in every row, by their statistics: they are not decoded. */
  readonly constants: ReadonlyMap<string, Constant>;
}

/** Length of the footer, then the magic. */
const TRAILER_BYTES = 8;
/** Most footers; a longer one takes a second read. */
const FOOTER_BYTES_GUESS = 64 * 1024;
/** A damaged length must not allocate what it says: at 4,096 rows a group this is a file of 20 million rows. */
const FOOTER_BYTES_MAX = 32_000_000;
const GROUP_BYTES_MAX = 256_000_000;
const ROWS_MAX = 20_000_000;
/** Columns that nobody asked for are read over where they are shorter than another read costs. */
const GAP_BYTES_MAX = 4_096;

export class RowGroups {
  readonly #metadata: FileMetaData;
  readonly #size: number;
  readonly #groups: readonly RowGroup[];
  readonly #types: ReadonlyMap<string, FlatType>;
  readonly extents: readonly RowGroupExtent[];
  /** Of the footer in the file. */
  readonly footerBytes: number;

  private constructor(metadata: FileMetaData, size: number, footerBytes: number, columns: readonly string[]) {
    this.#metadata = { ...metadata, row_groups: [] };
    this.#types = flatTypes(metadata);
    this.#size = size;
    this.footerBytes = footerBytes;
    this.extents = metadata.row_groups.map((group) => extentOf(group, columns, this.#types));
    this.#groups = metadata.row_groups.map(withoutStatistics);
  }

  /**
   * @param columns whose bounds are wanted
   * @throws SluiceError ERR_PARQUET_INVALID, and whatever `read` throws
   */
  static open(read: ReadBytes, size: number, columns: readonly string[]): Promise<RowGroups> {
    return guarded(() => {
      let tail = read(Math.max(0, size - FOOTER_BYTES_GUESS), size);
      if (tail.length < TRAILER_BYTES) throw invalid(`a file of ${size} bytes is too short for Parquet`);
      const footerBytes = TRAILER_BYTES + new DataView(tail.buffer, tail.byteOffset).getUint32(tail.length - TRAILER_BYTES, true);
      if (footerBytes > Math.min(size, FOOTER_BYTES_MAX)) throw invalid(`a footer of ${footerBytes} bytes in a file of ${size}`);
      if (footerBytes > tail.length) tail = read(size - footerBytes, size);
      const metadata = parquetMetadata(copyOf(tail.subarray(tail.length - footerBytes)), { parsers: BOUND_PARSERS });
      const rowCount = metadata.row_groups.reduce((sum, group) => sum + Number(group.num_rows), 0);
      if (!(rowCount <= ROWS_MAX)) throw invalid(`a file of ${rowCount} rows, at most ${ROWS_MAX} are read`);
      return Promise.resolve(new RowGroups(metadata, size, footerBytes, columns));
    });
  }

  /** What it costs to read these columns of a row group, as stored. */
  bytesOf(index: number, columns: readonly string[]): number {
    return this.#chunks(index, columns).reduce((sum, chunk) => sum + Number(chunk.total_compressed_size), 0);
  }

  #chunks(index: number, columns: readonly string[]): ColumnMetaData[] {
    const { constants } = this.extents[index];
    return this.#groups[index].columns.flatMap(({ meta_data: chunk }) => {
      const name = chunk?.path_in_schema[0] ?? '';
      return chunk !== undefined && columns.includes(name) && !constants.has(name) ? [chunk] : [];
    });
  }

  /** @throws SluiceError ERR_PARQUET_INVALID, and whatever `read` throws */
  read(index: number, read: ReadBytes, columns: readonly string[]): Promise<ParquetColumns> {
    return guarded(async () => {
      const { rowCount, constants } = this.extents[index];
      const bytes = new ChunkBytes(this.#chunks(index, columns).map(chunkRange), this.#size, read);
      const found = new Map<string, ParquetColumn>();
      const others: string[] = [];
      for (const name of columns) {
        const constant = constants.get(name);
        if (constant !== undefined) found.set(name, constantColumn(name, constant, rowCount));
        else {
          const column = this.#decode(index, name, bytes);
          if (column === null) others.push(name);
          else found.set(name, column);
        }
      }
      for (const [name, column] of others.length === 0 ? [] : await this.#collect(index, others, bytes)) found.set(name, column);
      return { rowCount, columns: found };
    });
  }

  /** null: of a kind, or made in a way, that is left to hyparquet; so is a column that is not there. */
  #decode(index: number, name: string, bytes: ChunkBytes): ParquetColumn | null {
    const type = this.#types.get(name);
    const chunk = this.#groups[index].columns.find(({ meta_data: meta }) => meta?.path_in_schema[0] === name)?.meta_data;
    return type === undefined || chunk === undefined
      ? null
      : decodeChunk(bytes.of(chunkRange(chunk)), chunk, type, this.extents[index].rowCount);
  }

  async #collect(index: number, names: readonly string[], bytes: ChunkBytes): Promise<ReadonlyMap<string, ParquetColumn>> {
    const { num_rows, columns: all, ...rest } = this.#groups[index];
    for (const chunk of this.#chunks(index, names)) {
      const range = chunkRange(chunk);
      checkPageChecksums(
        bytes.of(range),
        { row_groups: [{ ...rest, num_rows, columns: [{ meta_data: chunk }] as ColumnChunk[] }] },
        range.start,
      );
    }
    const slice = (start: number, end = this.#size): ArrayBuffer => copyOf(bytes.of({ start, end }));
    const metadata = { ...this.#metadata, num_rows, row_groups: [{ ...rest, num_rows, columns: all }] };
    return (await collectColumns({ byteLength: this.#size, slice }, metadata, names)).columns;
  }
}

/** The bytes of some chunks, each read once; those that lie close together in one go. */
class ChunkBytes {
  readonly #parts: readonly { readonly start: number; readonly bytes: Uint8Array }[];

  constructor(ranges: readonly ByteRange[], size: number, read: ReadBytes) {
    const spans: { start: number; end: number }[] = [];
    for (const { start, end } of ranges.toSorted((a, b) => a.start - b.start)) {
      const last = spans.at(-1);
      if (last !== undefined && start - last.end <= GAP_BYTES_MAX) last.end = Math.max(last.end, end);
      else spans.push({ start, end });
    }
    this.#parts = spans.map(({ start, end }) => {
      if (!(start >= 0 && start <= end && end <= size && end - start <= GROUP_BYTES_MAX))
        throw invalid(`columns of a row group at bytes ${start} to ${end} of ${size}`);
      const bytes = read(start, end);
      if (bytes.length !== end - start) throw invalid(`the file ends at byte ${start + bytes.length}, a row group at ${end}`);
      return { start, bytes };
    });
  }

  of({ start, end }: ByteRange): Uint8Array {
    const part = this.#parts.find(({ start: from, bytes }) => from <= start && end <= from + bytes.length);
    if (part === undefined) throw invalid(`bytes ${start} to ${end} are of no column`);
    return part.bytes.subarray(start - part.start, end - part.start);
  }
}

/** Every text is told apart from every other, also by a byte order mark. */
const BOUND_PARSERS = { ...PARSERS, stringFromBytes: (bytes: Uint8Array): string => Buffer.from(bytes).toString('utf8') };
/** What stands for bytes that are no UTF-8: different ones look alike. */
const NO_TEXT = '\uFFFD';

/** Columns of the same value share their array: nobody writes into what was read. */
const equalValues = new Map<string, Float64Array>();
const EQUAL_VALUES_MAX = 16;
/** Larger row groups are of others, and rare. */
const SHARED_ROWS_MAX = 65_536;
const ZEROS = new Uint32Array(SHARED_ROWS_MAX);

function constantColumn(name: string, value: Constant, rowCount: number): ParquetColumn {
  if (typeof value === 'string' || value === null) {
    const indices = rowCount <= SHARED_ROWS_MAX ? ZEROS.subarray(0, rowCount) : new Uint32Array(rowCount);
    return { name, type: 'string', dictionary: value === null ? [] : [value], indices, ...(value === null ? { nullIndex: 0 } : {}) };
  }
  const values = rowCount <= SHARED_ROWS_MAX ? sharedValues(Number(value), rowCount) : new Float64Array(rowCount).fill(Number(value));
  return { name, type: typeof value === 'bigint' ? 'long' : 'timestamp', values };
}

function sharedValues(value: number, rowCount: number): Float64Array {
  const key = `${value} ${rowCount}`;
  let values = equalValues.get(key);
  if (values === undefined) {
    values = new Float64Array(rowCount).fill(value);
    if (equalValues.size >= EQUAL_VALUES_MAX) equalValues.delete(equalValues.keys().next().value as string);
    equalValues.set(key, values);
  }
  return values;
}

function extentOf(group: RowGroup, columns: readonly string[], types: ReadonlyMap<string, FlatType>): RowGroupExtent {
  const bounds = new Map<string, Bounds>();
  const constants = new Map<string, Constant>();
  const rowCount = Number(group.num_rows);
  let bytes = 0;
  for (const { meta_data: chunk } of group.columns) {
    if (chunk === undefined) continue;
    bytes += Number(chunk.total_compressed_size);
    const name = chunk.path_in_schema.join('.');
    const { min_value: min, max_value: max } = chunk.statistics ?? {};
    if (columns.includes(name) && min !== undefined && max !== undefined) bounds.set(name, { min, max });
    const constant = chunk.path_in_schema.length === 1 ? constantOf(chunk, types.get(name), rowCount) : undefined;
    if (constant !== undefined) constants.set(name, constant);
  }
  return { rowCount, bytes, bounds, constants };
}

/** undefined: it is none, or not known to be. Doubles may have NaN beside what their statistics say. */
function constantOf({ type, statistics }: ColumnMetaData, flat: FlatType | undefined, rowCount: number): Constant | undefined {
  const { min_value: min, max_value: max, null_count: nulls, is_min_value_exact: isMin, is_max_value_exact: isMax } = statistics ?? {};
  const nullCount = Number(nulls ?? -1);
  if (flat === 'string' && nullCount === rowCount) return null;
  if (nullCount !== 0 || min !== max || isMin === false || isMax === false) return undefined;
  if (flat === 'string') return typeof min === 'string' && !min.includes(NO_TEXT) ? min : undefined;
  return type === 'INT64' && (typeof min === 'bigint' || typeof min === 'number') ? min : undefined;
}

/** They are most of a footer in memory. */
function withoutStatistics(group: RowGroup): RowGroup {
  const strip = (column: ColumnChunk): ColumnChunk => {
    if (column.meta_data === undefined) return column;
    const { statistics: _, encoding_stats: __, key_value_metadata: ___, ...chunk } = column.meta_data;
    return { ...column, meta_data: chunk };
  };
  return { ...group, columns: group.columns.map(strip) };
}

function copyOf(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer;
}

function invalid(what: string): SluiceError {
  return new SluiceError('ERR_PARQUET_INVALID', what);
}
