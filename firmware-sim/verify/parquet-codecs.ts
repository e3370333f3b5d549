import { decompress } from '@cloudpss/zstd';
import type { Compressors } from 'hyparquet';

/** hyparquet brings Snappy; the lake is written with zstd. */
export const parquetCompressors: Compressors = { ZSTD: (input) => decompress(input) };
