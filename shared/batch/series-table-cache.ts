/**
 * Series tables that were read before.
 *
 * A gateway's batches mostly name the same series again: the same bytes, which are compared instead of read. Who shares the
 * table shares what others remember of it, too (its ids in a registry).
 *
 * Layout: per key the last table with its bytes. Bounded by the series of all tables: above that all are forgotten, which
 * costs one reading each.
 */
import type { Series } from '../reading.ts';
import type { ByteReader } from './bytes.ts';
import { readSeriesTable } from './series-table.ts';

interface KnownTable {
  readonly bytes: Uint8Array;
  readonly table: readonly Series[];
}

export class SeriesTableCache {
  readonly #seriesMax: number;
  #known = new Map<string, KnownTable>();
  #seriesCount = 0;

  constructor(seriesMax: number) {
    this.#seriesMax = seriesMax;
  }

  /** As readSeriesTable. @param key of what mostly names the same series, like a gateway */
  read(key: string, reader: ByteReader, seriesCount: number): readonly Series[] {
    const known = this.#known.get(key);
    // What is read depends on the bytes and the count alone, and ends where it ended before.
    if (known !== undefined && known.table.length === seriesCount && startsWith(reader, known.bytes)) {
      reader.take(known.bytes.length);
      return known.table;
    }
    const from = reader.offset;
    const table = readSeriesTable(reader, seriesCount);
    this.#keep(key, { bytes: reader.bytes.slice(from, reader.offset), table });
    return table;
  }

  #keep(key: string, table: KnownTable): void {
    this.#seriesCount += table.table.length - (this.#known.get(key)?.table.length ?? 0);
    if (this.#seriesCount > this.#seriesMax) {
      this.#known = new Map();
      this.#seriesCount = table.table.length;
      if (this.#seriesCount > this.#seriesMax) {
        this.#seriesCount = 0;
        return;
      }
    }
    this.#known.set(key, table);
  }
}

function startsWith({ bytes, offset, remaining }: ByteReader, wanted: Uint8Array): boolean {
  if (remaining < wanted.length) return false;
  return Buffer.compare(bytes.subarray(offset, offset + wanted.length), wanted) === 0;
}
