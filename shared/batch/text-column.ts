/**
 * The texts of a batch (docs/wire.md, "Texts"): a dictionary and, for the runs that have any, an index per reading.
 */
import { badContent, malformed, type ByteReader, type ByteWriter } from './bytes.ts';
import { readIntegers, writeIntegers } from './integer-stream.ts';
import { readTexts, writeTexts } from './string-table.ts';

export function writeTextColumn(writer: ByteWriter, runOffsets: Uint32Array, text: Uint32Array | null, texts: readonly string[]): void {
  if (text === null) {
    if (texts.length > 0) throw badContent(`${texts.length} texts without a text column`);
    writer.byte(0);
    return;
  }
  writer.byte(1);
  writeTexts(writer, texts);
  const runCount = runOffsets.length - 1;
  const hasText = new Uint8Array(runCount);
  const indexes: number[] = [];
  for (let s = 0; s < runCount; s++) {
    const start = runOffsets[s];
    const end = runOffsets[s + 1];
    for (let i = start; i < end; i++) {
      if (text[i] > texts.length) throw badContent(`text ${text[i]} of ${texts.length}`);
      if (text[i] !== 0) hasText[s] = 1;
    }
    if (hasText[s] === 1) for (let i = start; i < end; i++) indexes.push(text[i]);
  }
  writeIntegers(writer, hasText);
  writeIntegers(writer, indexes);
}

export function readTextColumn(reader: ByteReader, runOffsets: Uint32Array): { text: Uint32Array | null; texts: string[] } {
  const present = reader.byte();
  if (present === 0) return { text: null, texts: [] };
  if (present !== 1) throw malformed(`text column flag ${present}`);
  const runCount = runOffsets.length - 1;
  const readingCount = runOffsets[runCount];
  const texts = readTexts(reader, readingCount);
  const hasText = readIntegers(reader, 'text flag', runCount, 0, 1);
  let count = 0;
  for (let s = 0; s < runCount; s++) if (hasText[s] === 1) count += runOffsets[s + 1] - runOffsets[s];
  const indexes = readIntegers(reader, 'text index', count, 0, texts.length);
  const text = new Uint32Array(readingCount);
  let next = 0;
  for (let s = 0; s < runCount; s++) {
    if (hasText[s] === 0) continue;
    const end = runOffsets[s + 1];
    for (let i = runOffsets[s]; i < end; i++) text[i] = indexes[next++];
  }
  return { text, texts };
}
