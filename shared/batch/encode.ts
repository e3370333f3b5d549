/**
 * Content to batch (docs/wire.md). Pure: the same content gives the same raw body on every machine.
 */
import type { SeriesRuns } from '../reading.ts';
import { type BatchContent, type Compression, WIRE_VERSION } from './batch.ts';
import { badContent, ByteWriter, tooLarge } from './bytes.ts';
import { compress } from './compression.ts';
import { writeEnvelope } from './envelope.ts';
import { writeExceptions } from './exception-list.ts';
import { EXCEPTIONS_MAX, RAW_BYTES_MAX, READINGS_MAX, SERIES_MAX, TIME_US_MAX } from './limits.ts';
import { writeSeriesTable } from './series-table.ts';
import { writeTextColumn } from './text-column.ts';
import { writeTimes } from './time-column.ts';
import { writeValues } from './value-column.ts';

/**
 * Seals `content`. A body that the compression does not make smaller is stored with 'none'.
 *
 * Cost: about 140 ns per reading in runs of 5, 300 in runs of 2 (measured).
 *
 * @throws SluiceError ERR_BATCH_TOO_LARGE above a limit (limits.ts), ERR_BATCH_CONTENT for content that breaks the
 * contract of BatchContent (order, names, times), ERR_BATCH_COMPRESSION.
 */
export function encodeBatch(content: BatchContent, compression: Compression): Uint8Array {
  const { runs, exceptions } = content;
  checkSize('readings', runs.count, READINGS_MAX);
  checkSize('series', runs.seriesTable.length, SERIES_MAX);
  checkSize('exceptions', exceptions.length, EXCEPTIONS_MAX);
  checkRuns(runs);
  const writer = new ByteWriter();
  const metricOf = writeSeriesTable(writer, runs.seriesTable);
  writeTimes(writer, runs.runOffsets, runs.eventTimeUs);
  writeValues(writer, runs.runOffsets, runs.value, metricOf);
  writeTextColumn(writer, runs.runOffsets, runs.text, runs.texts);
  writeExceptions(writer, exceptions);
  const raw = writer.view();
  checkSize('raw bytes', raw.length, RAW_BYTES_MAX);
  const compressed = compress(compression, raw);
  const shrank = compressed.length < raw.length;
  return writeEnvelope(
    {
      wireVersion: WIRE_VERSION,
      compression: shrank ? compression : 'none',
      rawBytes: raw.length,
      readingCount: runs.count,
      seriesCount: runs.seriesTable.length,
      exceptionCount: exceptions.length,
      sealedUs: content.sealedUs,
      arrivalFromUs: content.arrivalFromUs,
      arrivalToUs: content.arrivalToUs,
    },
    shrank ? compressed : raw,
  );
}

function checkSize(what: string, size: number, max: number): void {
  if (size > max) throw tooLarge(`${size} ${what}, allowed are ${max}`);
}

function checkRuns(runs: SeriesRuns): void {
  const { count, runOffsets, eventTimeUs } = runs;
  const runCount = runs.seriesTable.length;
  if (runOffsets.length !== runCount + 1 || runOffsets[0] !== 0 || runOffsets[runCount] !== count)
    throw badContent('run offsets do not fit the series');
  for (let s = 0; s < runCount; s++) {
    const start = runOffsets[s];
    const end = runOffsets[s + 1];
    if (end <= start) throw badContent(`run ${s} is empty`);
    let previous = -TIME_US_MAX;
    for (let i = start; i < end; i++) {
      const timeUs = eventTimeUs[i];
      if (!(timeUs >= previous && timeUs <= TIME_US_MAX) || !Number.isInteger(timeUs))
        throw badContent(`event time ${timeUs} in run ${s} is below the one before or out of range`);
      previous = timeUs;
    }
  }
}
