/**
 * The CRC-32 of Parquet pages, checked: what a reader that does not look at them would take for values. (parquet.thrift,
 * PageHeader field 4: over the page as it is stored, without its header.)
 *
 * A byte that changed inside a compressed page mostly still decompresses. Pages without a CRC (other writers leave it out)
 * pass; so do the footer and the page headers, which have none and mostly fail to parse.
 */
import { crc32 } from 'node:zlib';
import type { FileMetaData } from 'hyparquet';
import { SluiceError } from '../../../shared/errors.ts';
import { readPageHead } from './page-header.ts';

/**
 * @param file its bytes, or those from `fileStart` on that hold the pages
 * @throws SluiceError ERR_PARQUET_INVALID: a page's bytes are not those that were written, or its header is none
 */
export function checkPageChecksums(file: Uint8Array, metadata: Pick<FileMetaData, 'row_groups'>, fileStart = 0): void {
  for (const { columns } of metadata.row_groups) {
    for (const { meta_data: chunk } of columns) {
      if (chunk === undefined) continue;
      const { dictionary_page_offset: dictionary, data_page_offset: data } = chunk;
      const start = Number(dictionary !== undefined && dictionary > 0n && dictionary < data ? dictionary : data) - fileStart;
      checkPages(file, start, start + Number(chunk.total_compressed_size), chunk.path_in_schema.join('.'));
    }
  }
}

function checkPages(file: Uint8Array, start: number, end: number, column: string): void {
  if (!(start >= 0 && start <= end && end <= file.length)) throw invalid(`column ${column} lies outside of the file`);
  for (let at = start; at < end;) {
    const { compressedBytes, crc, bodyStart } = readPageHead(file, at, end);
    const body = file.subarray(bodyStart, bodyStart + compressedBytes);
    if (compressedBytes < 0 || body.length !== compressedBytes) throw invalid(`a page of column ${column} ends behind the file`);
    if (crc !== null && crc32(body) !== crc >>> 0) throw invalid(`a page of column ${column} at byte ${at} has another checksum`);
    at = bodyStart + compressedBytes;
  }
}

function invalid(what: string): SluiceError {
  return new SluiceError('ERR_PARQUET_INVALID', what);
}
