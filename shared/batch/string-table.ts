/**
 * Tables of strings in a batch (docs/wire.md, "String tables").
 *
 * Names are sorted and front coded: each one stores how many bytes it shares with the name before, and the rest. Texts
 * keep their order and are stored whole, so that what they unfold to is bounded by what is stored.
 */
import { NAME_BYTES_MAX } from '../reading.ts';
import { badContent, malformed, tooLarge, type ByteReader, type ByteWriter } from './bytes.ts';
import { readIntegers, writeIntegers } from './integer-stream.ts';
import { RAW_BYTES_MAX, STRING_TABLE_BYTES_MAX } from './limits.ts';

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

// eslint-disable-next-line no-control-regex
const FORBIDDEN_IN_NAMES = /[\u0000-\u001f]|\p{Surrogate}/u;

/** What a device, metric or gateway may be called: not empty, no control characters, no lone surrogates, at most NAME_BYTES_MAX bytes of UTF-8. */
export function isValidName(name: string): boolean {
  if (name.length === 0 || name.length > NAME_BYTES_MAX || FORBIDDEN_IN_NAMES.test(name)) return false;
  return name.length * 3 <= NAME_BYTES_MAX || Buffer.byteLength(name) <= NAME_BYTES_MAX;
}

export function encodeText(text: string): Uint8Array {
  return encoder.encode(text);
}

/** @throws SluiceError ERR_BATCH_MALFORMED for bytes that are not UTF-8. */
export function decodeText(bytes: Uint8Array, what: string): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw malformed(`${what} is not UTF-8`, cause);
  }
}

/** Writes strings that ascend strictly (by UTF-16 code units), each at most `bytesMax` bytes. */
export function writeNames(writer: ByteWriter, what: string, names: readonly string[], bytesMax: number): void {
  const prefixes = new Uint32Array(names.length);
  const suffixes = new Uint32Array(names.length);
  const parts: Uint8Array[] = [];
  let total = 0;
  let previous = new Uint8Array(0);
  for (let i = 0; i < names.length; i++) {
    const bytes = encoder.encode(names[i]);
    if (bytes.length > bytesMax) throw badContent(`${what} has ${bytes.length} bytes, allowed are ${bytesMax}`);
    total += bytes.length;
    const shared = Math.min(previous.length, bytes.length);
    let prefix = 0;
    while (prefix < shared && previous[prefix] === bytes[prefix]) prefix++;
    prefixes[i] = prefix;
    suffixes[i] = bytes.length - prefix;
    parts.push(bytes.subarray(prefix));
    previous = bytes;
  }
  if (total > STRING_TABLE_BYTES_MAX) throw tooLarge(`${what}: ${total} bytes of names, allowed are ${STRING_TABLE_BYTES_MAX}`);
  writer.integer(names.length);
  writeIntegers(writer, prefixes);
  writeIntegers(writer, suffixes);
  for (const part of parts) writer.append(part);
}

/** Reads at most `countMax` strictly ascending strings of at most `bytesMax` bytes each. */
export function readNames(reader: ByteReader, what: string, countMax: number, bytesMax: number): string[] {
  const count = reader.integer(`${what}: count`, 0, countMax);
  const prefixes = readIntegers(reader, `${what}: shared bytes`, count, 0, bytesMax);
  const suffixes = readIntegers(reader, `${what}: own bytes`, count, 0, bytesMax);
  let total = 0;
  let stored = 0;
  for (let i = 0; i < count; i++) {
    const length = prefixes[i] + suffixes[i];
    if (length > bytesMax) throw malformed(`${what} has ${length} bytes, allowed are ${bytesMax}`);
    if (prefixes[i] > (i === 0 ? 0 : prefixes[i - 1] + suffixes[i - 1])) throw malformed(`${what} shares more than there is`);
    total += length;
    stored += suffixes[i];
  }
  if (total > STRING_TABLE_BYTES_MAX) throw tooLarge(`${what}: ${total} bytes of names, allowed are ${STRING_TABLE_BYTES_MAX}`);
  let from = reader.take(stored);
  const ascii = isAscii(reader.bytes, from, from + stored);
  const current = Buffer.alloc(bytesMax);
  const names: string[] = [];
  for (let i = 0; i < count; i++) {
    const end = prefixes[i] + suffixes[i];
    for (let k = prefixes[i]; k < end; k++) current[k] = reader.bytes[from++];
    const name = ascii ? current.toString('latin1', 0, end) : decodeText(current.subarray(0, end), what);
    if (i > 0 && !(names[i - 1] < name)) throw malformed(`${what} "${name}" is not above the one before`);
    names.push(name);
  }
  return names;
}

/** Writes texts in their order. Lone surrogates become U+FFFD, as everywhere where UTF-16 becomes UTF-8. */
export function writeTexts(writer: ByteWriter, texts: readonly string[]): void {
  const parts = texts.map((text) => encoder.encode(text));
  writer.integer(texts.length);
  writeIntegers(
    writer,
    parts.map((part) => part.length),
  );
  for (const part of parts) writer.append(part);
}

export function readTexts(reader: ByteReader, countMax: number): string[] {
  const count = reader.integer('texts: count', 0, countMax);
  const lengths = readIntegers(reader, 'text: bytes', count, 0, RAW_BYTES_MAX);
  const texts: string[] = [];
  for (const length of lengths) {
    const start = reader.take(length);
    texts.push(decodeText(reader.bytes.subarray(start, start + length), 'text'));
  }
  return texts;
}

function isAscii(bytes: Uint8Array, from: number, to: number): boolean {
  let seen = 0;
  for (let i = from; i < to; i++) seen |= bytes[i];
  return seen < 0x80;
}
