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

export interface RowGroupExtent {
  readonly rowCount: number;
  /** As stored: what it costs to read all of it. */
  readonly bytes: number;
  /** By column; one without statistics is not here. */
  readonly bounds: ReadonlyMap<string, Bounds>;
  /** Integers and times (numbers, µs) that are the same in every row, by their statistics: they are not decoded. */
  readonly constants: ReadonlyMap<string, number | bigint>;
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
    this.extents = metadata.row_groups.map((group) => extentOf(group, columns));
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
      const metadata = parquetMetadata(copyOf(tail.subarray(tail.length - footerBytes)), { parsers: PARSERS });
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
        if (constants.has(name)) found.set(name, constantColumn(name, constants.get(name), rowCount));
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

function constantColumn(name: string, value: number | bigint | undefined, rowCount: number): ParquetColumn {
  const values = new Float64Array(rowCount).fill(Number(value));
  return { name, type: typeof value === 'bigint' ? 'long' : 'timestamp', values };
}

function extentOf(group: RowGroup, columns: readonly string[]): RowGroupExtent {
  const bounds = new Map<string, Bounds>();
  const constants = new Map<string, number | bigint>();
  let bytes = 0;
  for (const { meta_data: chunk } of group.columns) {
    if (chunk === undefined) continue;
    bytes += Number(chunk.total_compressed_size);
    const name = chunk.path_in_schema.join('.');
    const { min_value: min, max_value: max, null_count: nullCount } = chunk.statistics ?? {};
    if (columns.includes(name) && min !== undefined && max !== undefined) bounds.set(name, { min, max });
    // Doubles may have NaN beside what their statistics say.
    const isInteger = chunk.type === 'INT64' && (typeof min === 'bigint' || typeof min === 'number');
    if (isInteger && min === max && chunk.path_in_schema.length === 1 && Number(nullCount ?? 1) === 0) constants.set(name, min);
  }
  return { rowCount: Number(group.num_rows), bytes, bounds, constants };
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
