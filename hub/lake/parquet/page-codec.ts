/** Compression of pages, as Parquet names it. */
import { decompress, zstdCompressSync } from '../../../shared/batch/compression.ts';
import { SluiceError } from '../../../shared/errors.ts';
import { CODEC } from './format.ts';

/** 'zstd' needs a machine that has it: `availableCompressions` of shared/batch/compression.ts. */
export type Compression = 'zstd' | 'uncompressed';

export interface PageCodec {
  /** Parquet's CompressionCodec. */
  readonly id: number;
  /** Answers bytes of its own: the page's buffer is used again. */
  compress(page: Uint8Array): Uint8Array;
}

/** 13 to 45 ns per reading (measured); higher levels gain a few per cent at twice the time. */
const ZSTD_LEVEL = 1;

export const PAGE_CODECS: Readonly<Record<Compression, PageCodec>> = {
  zstd: { id: CODEC.zstd, compress: (page) => zstdCompressSync(page, ZSTD_LEVEL) },
  uncompressed: { id: CODEC.uncompressed, compress: (page) => new Uint8Array(page) }, // Buffer.slice would be a view
};

/** A page that says to be larger is taken for damage. Our own pages end near 1 MiB but for single large values. */
const PAGE_BYTES_MAX = 256 * 1024 * 1024;

/** @throws SluiceError ERR_PARQUET_INVALID, or the codec's own error for a damaged frame */
export function zstdDecompressPage(page: Uint8Array, pageBytes: number): Uint8Array {
  if (!(pageBytes >= 0 && pageBytes <= PAGE_BYTES_MAX))
    throw new SluiceError('ERR_PARQUET_INVALID', `a page of ${pageBytes} bytes, at most ${PAGE_BYTES_MAX} are read`);
  return decompress('zstd', page, pageBytes);
}
