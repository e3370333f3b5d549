/**
 * The exceptions of a batch (docs/wire.md, "Exceptions"): few, so plain MessagePack, one array per exception.
 */
import { EXCEPTION_PAYLOAD_BYTES_MAX, type ExceptionKind, type ExceptionRecord } from '../exception.ts';
import { NAME_BYTES_MAX } from '../reading.ts';
import { badContent, malformed, type ByteReader, type ByteWriter } from './bytes.ts';
import { REASON_BYTES_MAX } from './limits.ts';
import { decodeText, encodeText } from './string-table.ts';

/** By their numbers in the format: append only. */
const EXCEPTION_KINDS = ['gap', 'dead_letter', 'quarantined'] as const satisfies readonly ExceptionKind[];

const FIELDS = 8;

export function writeExceptions(writer: ByteWriter, exceptions: readonly ExceptionRecord[]): void {
  for (const exception of exceptions) {
    writer.arrayHeader(FIELDS);
    writer.integer(EXCEPTION_KINDS.indexOf(exception.kind));
    writeOptionalName(writer, 'device', exception.device);
    writeOptionalName(writer, 'metric', exception.metric);
    writeSafeInteger(writer, 'fromUs', exception.fromUs, -Number.MAX_SAFE_INTEGER);
    writeSafeInteger(writer, 'toUs', exception.toUs, -Number.MAX_SAFE_INTEGER);
    if (exception.readingCount === null) writer.nil();
    else writeSafeInteger(writer, 'readingCount', exception.readingCount, 0);
    writeString(writer, 'reason', exception.reason, REASON_BYTES_MAX);
    if (exception.payload === null) writer.nil();
    else if (exception.payload.length > EXCEPTION_PAYLOAD_BYTES_MAX) {
      throw badContent(`payload of an exception has ${exception.payload.length} bytes, allowed are ${EXCEPTION_PAYLOAD_BYTES_MAX}`);
    } else writer.binary(exception.payload);
  }
}

function writeOptionalName(writer: ByteWriter, what: string, name: string | null): void {
  if (name === null) writer.nil();
  else writeString(writer, `${what} of an exception`, name, NAME_BYTES_MAX);
}

function writeString(writer: ByteWriter, what: string, text: string, bytesMax: number): void {
  const utf8 = encodeText(text);
  if (utf8.length > bytesMax) throw badContent(`${what} has ${utf8.length} bytes, allowed are ${bytesMax}`);
  writer.string(utf8);
}

function writeSafeInteger(writer: ByteWriter, what: string, value: number, lowest: number): void {
  if (!Number.isSafeInteger(value) || value < lowest) throw badContent(`${what} of an exception is ${value}`);
  writer.integer(value);
}

/** @param count what the envelope declared, at most EXCEPTIONS_MAX; each one takes bytes, so it allocates nothing by itself. */
export function readExceptions(reader: ByteReader, count: number): ExceptionRecord[] {
  const exceptions: ExceptionRecord[] = [];
  for (let i = 0; i < count; i++) {
    const fields = reader.arrayHeader('exception');
    if (fields !== FIELDS) throw malformed(`an exception has ${fields} fields, not ${FIELDS}`);
    const kind = EXCEPTION_KINDS[reader.integer('kind of an exception', 0, EXCEPTION_KINDS.length - 1)];
    const device = readOptionalName(reader, 'device of an exception');
    const metric = readOptionalName(reader, 'metric of an exception');
    const fromUs = reader.integer('fromUs of an exception', -Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
    const toUs = reader.integer('toUs of an exception', -Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
    const readingCount = reader.nil() ? null : reader.integer('count of an exception', 0, Number.MAX_SAFE_INTEGER);
    const reason = decodeText(reader.string('reason', REASON_BYTES_MAX), 'reason');
    // Not slice: that of a Buffer is a view, and would keep the whole batch in memory.
    const payload = reader.nil() ? null : new Uint8Array(reader.binary('payload', EXCEPTION_PAYLOAD_BYTES_MAX));
    exceptions.push({ kind, device, metric, fromUs, toUs, readingCount, reason, payload });
  }
  return exceptions;
}

function readOptionalName(reader: ByteReader, what: string): string | null {
  return reader.nil() ? null : decodeText(reader.string(what, NAME_BYTES_MAX), what);
}
