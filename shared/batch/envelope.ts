/**
 * The envelope of a batch (docs/wire.md, "Envelope"): what may be known of a batch without decompressing it.
 *
 * `53 4c 42`, the wire version, a MessagePack array of ten (compression, raw length, counts, times, body, checksum).
 * The last four bytes of a batch of any version are the CRC-32 of all bytes before them, so a flipped bit in the
 * version byte is damage, and never makes a lane wait for an upgrade that does not exist.
 */
import zlib from 'node:zlib';
import { SluiceError } from '../errors.ts';
import { COMPRESSIONS, WIRE_VERSION, type Compression } from './batch.ts';
import { badContent, ByteReader, ByteWriter, malformed, tooLarge } from './bytes.ts';
import { BATCH_BYTES_MAX, EXCEPTIONS_MAX, RAW_BYTES_MAX, READINGS_MAX, SERIES_MAX } from './limits.ts';

/** 'SLB' */
const MAGIC = [0x53, 0x4c, 0x42] as const;
const FIELDS = 10;
const CHECKSUM_BYTES = 4;

export interface BatchSummary {
  readonly wireVersion: number;
  readonly compression: Compression;
  /** Bytes of the body before compression. */
  readonly rawBytes: number;
  readonly readingCount: number;
  readonly seriesCount: number;
  readonly exceptionCount: number;
  readonly sealedUs: number;
  readonly arrivalFromUs: number;
  readonly arrivalToUs: number;
}

export interface Envelope {
  readonly summary: BatchSummary;
  /** Compressed; a view into the batch. */
  readonly body: Uint8Array;
}

export function writeEnvelope(summary: BatchSummary, body: Uint8Array): Uint8Array {
  const writer = new ByteWriter();
  for (const byte of MAGIC) writer.byte(byte);
  writer.byte(WIRE_VERSION);
  writer.arrayHeader(FIELDS);
  writer.integer(COMPRESSIONS.indexOf(summary.compression));
  writer.integer(summary.rawBytes);
  writer.integer(summary.readingCount);
  writer.integer(summary.seriesCount);
  writer.integer(summary.exceptionCount);
  for (const timeUs of [summary.sealedUs, summary.arrivalFromUs, summary.arrivalToUs]) {
    if (!Number.isSafeInteger(timeUs) || timeUs < 0) throw badContent(`${timeUs} is no wall-clock time in µs`);
    writer.integer(timeUs);
  }
  writer.binary(body);
  writer.byte(0xce); // the type byte of the checksum is covered by it, so that the checksum is all that is not
  writer.uint32(zlib.crc32(writer.view()));
  return writer.view().slice();
}

/**
 * Checks and takes apart everything but the body. Cost: one CRC-32 over the batch, no allocation that its bytes choose.
 *
 * @throws SluiceError ERR_BATCH_MAGIC, _TRUNCATED, _CHECKSUM, _VERSION (with a right checksum only), _TOO_LARGE,
 * _MALFORMED.
 */
export function readEnvelope(bytes: Uint8Array): Envelope {
  if (bytes.length > BATCH_BYTES_MAX) throw tooLarge(`${bytes.length} bytes, allowed are ${BATCH_BYTES_MAX}`);
  for (let i = 0; i < Math.min(MAGIC.length, bytes.length); i++) {
    if (bytes[i] !== MAGIC[i]) throw new SluiceError('ERR_BATCH_MAGIC', 'batch: the bytes do not begin with 53 4c 42');
  }
  const checksumAt = bytes.length - CHECKSUM_BYTES;
  if (checksumAt <= MAGIC.length) throw new SluiceError('ERR_BATCH_TRUNCATED', `batch: ${bytes.length} bytes are too few`);
  const stored = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(checksumAt);
  const actual = zlib.crc32(bytes.subarray(0, checksumAt));
  const wireVersion = bytes[MAGIC.length];
  if (stored === actual && wireVersion !== WIRE_VERSION) {
    throw new SluiceError('ERR_BATCH_VERSION', `batch: wire version ${wireVersion}, this program knows ${WIRE_VERSION}`);
  }
  if (stored === actual) return readFields(bytes);
  // Damaged for certain; a batch that ends before the end that it announces gets the more telling answer.
  if (wireVersion === WIRE_VERSION) throwIfTruncated(bytes);
  throw new SluiceError('ERR_BATCH_CHECKSUM', `batch: CRC-32 is ${actual}, the batch says ${stored}`);
}

function throwIfTruncated(bytes: Uint8Array): void {
  try {
    readFields(bytes);
  } catch (error) {
    if (error instanceof SluiceError && error.code === 'ERR_BATCH_TRUNCATED') throw error;
    // Any other finding in damaged bytes is a consequence: the caller reports the checksum.
  }
}

function readFields(bytes: Uint8Array): Envelope {
  const reader = new ByteReader(bytes, MAGIC.length + 1, 'ERR_BATCH_TRUNCATED');
  const fields = reader.arrayHeader('envelope');
  if (fields !== FIELDS) throw malformed(`the envelope has ${fields} fields, not ${FIELDS}`);
  const compression = COMPRESSIONS[reader.integer('compression', 0, COMPRESSIONS.length - 1)];
  const rawBytes = bounded(reader, 'raw bytes', RAW_BYTES_MAX);
  const readingCount = bounded(reader, 'readings', READINGS_MAX);
  const seriesCount = bounded(reader, 'series', SERIES_MAX);
  const exceptionCount = bounded(reader, 'exceptions', EXCEPTIONS_MAX);
  const sealedUs = reader.integer('sealedUs', 0, Number.MAX_SAFE_INTEGER);
  const arrivalFromUs = reader.integer('arrivalFromUs', 0, Number.MAX_SAFE_INTEGER);
  const arrivalToUs = reader.integer('arrivalToUs', 0, Number.MAX_SAFE_INTEGER);
  const body = reader.binary('body', RAW_BYTES_MAX);
  if (reader.byte() !== 0xce) throw malformed('no checksum behind the body');
  reader.take(CHECKSUM_BYTES);
  if (reader.remaining > 0) throw malformed(`${reader.remaining} bytes behind the checksum`);
  if (seriesCount > readingCount) throw malformed(`${seriesCount} series with ${readingCount} readings`);
  const summary = {
    wireVersion: WIRE_VERSION,
    compression,
    rawBytes,
    readingCount,
    seriesCount,
    exceptionCount,
    sealedUs,
    arrivalFromUs,
    arrivalToUs,
  };
  return { summary, body };
}

function bounded(reader: ByteReader, what: string, max: number): number {
  const value = reader.integer(what, 0, Number.MAX_SAFE_INTEGER);
  if (value > max) throw tooLarge(`${value} ${what}, allowed are ${max}`);
  return value;
}
