/**
 * Batch to content (docs/wire.md). Every length, count, index and offset is checked before it is used or allocated.
 */
import type { Series } from '../reading.ts';
import type { BatchContent } from './batch.ts';
import { ByteReader, malformed } from './bytes.ts';
import { decompress } from './compression.ts';
import { readEnvelope, type BatchSummary } from './envelope.ts';
import { readExceptions } from './exception-list.ts';
import { readSeriesTable } from './series-table.ts';
import { readTextColumn } from './text-column.ts';
import { readTimes } from './time-column.ts';
import { readValues } from './value-column.ts';

/**
 * What a batch says about itself, its checksum verified, nothing decompressed.
 *
 * @throws SluiceError as `decodeBatch`, for what the envelope shows.
 */
export function inspectBatch(bytes: Uint8Array): BatchSummary {
  return readEnvelope(bytes).summary;
}

/**
 * Opens a batch. The content shares no memory with `bytes`.
 *
 * @param readTable reads the series, or knows them already (SeriesTableCache)
 *
 * Memory: at most the raw body (RAW_BYTES_MAX) and about 40 bytes per declared reading.
 *
 * @throws SluiceError ERR_BATCH_MAGIC, _TRUNCATED, _CHECKSUM: damage; _VERSION: a newer format with a right checksum;
 * _TOO_LARGE, _MALFORMED: a right checksum, but not what an encoder may write; _COMPRESSION: no zstd here.
 */
export function decodeBatch(
  bytes: Uint8Array,
  readTable: (reader: ByteReader, seriesCount: number) => readonly Series[] = readSeriesTable,
): BatchContent {
  const { summary, body } = readEnvelope(bytes);
  const reader = new ByteReader(decompress(summary.compression, body, summary.rawBytes), 0, 'ERR_BATCH_MALFORMED');
  const seriesTable = readTable(reader, summary.seriesCount);
  const { runOffsets, eventTimeUs } = readTimes(reader, summary.seriesCount, summary.readingCount);
  const value = readValues(reader, runOffsets);
  const { text, texts } = readTextColumn(reader, runOffsets);
  const exceptions = readExceptions(reader, summary.exceptionCount);
  if (reader.remaining > 0) throw malformed(`${reader.remaining} bytes behind the exceptions`);
  return {
    sealedUs: summary.sealedUs,
    arrivalFromUs: summary.arrivalFromUs,
    arrivalToUs: summary.arrivalToUs,
    runs: { count: summary.readingCount, seriesTable, runOffsets, eventTimeUs, value, text, texts },
    exceptions,
  };
}
