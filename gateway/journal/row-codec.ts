/**
 * One journal row: the readings of one group commit as a packed column blob.
 *
 * Written once and read once, by the same machine, within seconds: it is made to be short (flash wears by the byte) and
 * cheap, not to be small like a batch. Layout before bytes.ts deflates it, all integers LEB128 varints unless said otherwise:
 *
 *     crc32 (4 bytes), version (1 byte), flags (1 byte: 1 = texts), readings, messages, arrival of the first message
 *     per message: readings, arrival delta to the message before
 *     per reading: zigzag delta of the series id
 *     per reading: event time: 0 absent, 1 a double follows, else 2 + zigzag delta to the last present one
 *     per reading: value: m * 8 + e for m / 10^e (m zigzag, e 0..6), 7 a double follows, 15 NaN
 *     with texts, per reading: 0 none, or 1, the length of the UTF-8 of the text, and it
 */
import { SluiceError } from '../../shared/errors.ts';
import { ByteReader, type ByteWriter } from './bytes.ts';
import type { Group } from './group.ts';

const VERSION = 1;
const FLAG_TEXTS = 1;

const EVENT_ABSENT = 0;
const EVENT_DOUBLE = 1;
/** Deltas of 2^50 µs (35 years) and more are written as doubles. */
const EVENT_DELTA_MAX = 2 ** 50;

const VALUE_DOUBLE = 7;
const VALUE_NAN = 15;
/** Scaled values stay below 2^45, so that m * 16 + 7 is exact in a double. */
const SCALED_MAX = 2 ** 45;
const POWERS = [1, 10, 100, 1e3, 1e4, 1e5, 1e6];

/** The readings of a row, decoded. `arrivalUs` is monotonic time of the opening that wrote the row. */
export interface RowColumns {
  readonly readings: number;
  readonly series: Uint32Array;
  readonly eventTimeUs: Float64Array;
  readonly value: Float64Array;
  /** 0 = no text, k = texts[k - 1]; null when there is none. */
  readonly text: Uint32Array | null;
  readonly texts: readonly string[];
  readonly arrivalUs: Float64Array;
}

function writeValue(writer: ByteWriter, value: number, scale: number): number {
  if (Number.isNaN(value)) {
    writer.varint(VALUE_NAN);
    return scale;
  }
  // The scale of the last value first: neighbours are mostly of one sensor family.
  for (let tried = -1; tried < POWERS.length; tried++) {
    const exponent = tried < 0 ? scale : tried;
    const power = POWERS[exponent];
    const scaled = Math.round(value * power);
    if (scaled / power === value && Math.abs(scaled) < SCALED_MAX) {
      if (scaled === 0 && Object.is(value, -0)) break;
      writer.varint((scaled >= 0 ? scaled * 2 : -scaled * 2 - 1) * 8 + exponent);
      return exponent;
    }
  }
  writer.varint(VALUE_DOUBLE);
  writer.double(value);
  return scale;
}

/**
 * Encodes the readings of the group's messages [from, to) into the writer, from its start.
 *
 * @param seriesCount registry ids must be below it
 * @returns the blob, a view into the writer; null when the messages have no readings
 * @throws SluiceError ERR_JOURNAL_MESSAGE
 */
export function encodeRow(writer: ByteWriter, group: Group, from: number, to: number, seriesCount: number): Uint8Array | null {
  const { series, eventTimeUs, value, text, messageReadingEnd, messageArrivalUs } = group.arrays;
  const start = from === 0 ? 0 : messageReadingEnd[from - 1];
  const end = messageReadingEnd[to - 1];
  if (start === end) return null;
  writer.start();
  writer.byte(VERSION);
  writer.byte(group.hasTexts ? FLAG_TEXTS : 0);
  writer.varint(end - start);
  writer.varint(to - from);
  let arrival = messageArrivalUs[from];
  writer.varint(arrival);
  for (let message = from, done = start; message < to; message++) {
    const readingEnd = messageReadingEnd[message];
    writer.varint(readingEnd - done);
    writer.zigzag(messageArrivalUs[message] - arrival);
    done = readingEnd;
    arrival = messageArrivalUs[message];
  }
  let id = 0;
  for (let index = start; index < end; index++) {
    const next = series[index];
    if (next >= seriesCount) throw new SluiceError('ERR_JOURNAL_MESSAGE', `series id ${next} of ${seriesCount}`);
    writer.zigzag(next - id);
    id = next;
  }
  let time = 0;
  for (let index = start; index < end; index++) {
    const next = eventTimeUs[index];
    const delta = next - time;
    if (Number.isNaN(next)) {
      writer.byte(EVENT_ABSENT);
    } else if (Number.isSafeInteger(next) && Math.abs(delta) < EVENT_DELTA_MAX) {
      writer.varint((delta >= 0 ? delta * 2 : -delta * 2 - 1) + 2);
      time = next;
    } else {
      writer.byte(EVENT_DOUBLE);
      writer.double(next);
      if (Number.isSafeInteger(next)) time = next;
    }
  }
  let scale = 2;
  for (let index = start; index < end; index++) scale = writeValue(writer, value[index], scale);
  if (group.hasTexts) {
    for (let index = start; index < end; index++) {
      const at = text[index];
      writer.byte(at === 0 ? 0 : 1);
      if (at !== 0) writer.text(group.texts[at - 1]);
    }
  }
  return writer.finishShort();
}

/** @throws SluiceError ERR_JOURNAL_DAMAGED */
export function decodeRow(blob: Uint8Array): RowColumns {
  const reader = new ByteReader(blob);
  const version = reader.byte();
  if (version !== VERSION)
    throw new SluiceError('ERR_JOURNAL_DAMAGED', `a journal row of version ${version}; this program reads ${VERSION}`);
  const flags = reader.byte();
  const readings = reader.count();
  const messages = reader.count();
  const arrivalUs = new Float64Array(readings);
  let arrival = reader.varint();
  let filled = 0;
  for (let message = 0; message < messages; message++) {
    const count = reader.varint();
    arrival += reader.zigzag();
    arrivalUs.fill(arrival, filled, filled + count);
    filled += count;
  }
  if (filled !== readings) throw new SluiceError('ERR_JOURNAL_DAMAGED', `a journal row has ${readings} readings, its messages ${filled}`);
  const series = new Uint32Array(readings);
  for (let index = 0, id = 0; index < readings; index++) series[index] = id += reader.zigzag();
  const eventTimeUs = new Float64Array(readings);
  for (let index = 0, time = 0; index < readings; index++) {
    const code = reader.varint();
    if (code === EVENT_ABSENT) {
      eventTimeUs[index] = NaN;
    } else if (code === EVENT_DOUBLE) {
      const next = reader.double();
      eventTimeUs[index] = next;
      if (Number.isSafeInteger(next)) time = next;
    } else {
      time += code % 2 === 0 ? (code - 2) / 2 : -(code - 1) / 2;
      eventTimeUs[index] = time;
    }
  }
  const value = new Float64Array(readings);
  for (let index = 0; index < readings; index++) {
    const code = reader.varint();
    const exponent = code % 8;
    if (exponent === 7) {
      value[index] = code === VALUE_NAN ? NaN : reader.double();
    } else {
      const zigzag = (code - exponent) / 8;
      value[index] = (zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2) / POWERS[exponent];
    }
  }
  let text: Uint32Array | null = null;
  const texts: string[] = [];
  if ((flags & FLAG_TEXTS) !== 0) {
    text = new Uint32Array(readings);
    for (let index = 0; index < readings; index++) {
      if (reader.byte() === 1) text[index] = texts.push(reader.text());
    }
  }
  return { readings, series, eventTimeUs, value, text, texts, arrivalUs };
}
