/**
 * A batch's content in two, where it takes more bytes than one batch may have. Pure.
 *
 * How many bytes content takes is known once it is encoded: texts and payloads decide it, and how well they compress. Nothing is
 * lost and nothing comes twice: each reading and each exception is in one of the parts.
 */
import type { BatchContent } from '../../shared/batch/batch.ts';
import type { SeriesRuns } from '../../shared/reading.ts';
import type { SealedContent } from './seal.ts';

/** @returns null: it holds one reading, or one exception */
export function splitContent({ content, priority }: SealedContent): [SealedContent, SealedContent] | null {
  const { runs, exceptions } = content;
  const part = (from: number, to: number, own: BatchContent['exceptions']): SealedContent =>
    sealedOf({ ...content, runs: sliceRuns(runs, from, to), exceptions: own }, priority);
  if (runs.count > 0 && exceptions.length > 0) return [part(0, runs.count, []), part(0, 0, exceptions)];
  if (runs.count > 1) {
    const middle = runs.count >>> 1;
    return [part(0, middle, []), part(middle, runs.count, [])];
  }
  if (exceptions.length < 2) return null;
  const middle = exceptions.length >>> 1;
  return [part(0, 0, exceptions.slice(0, middle)), part(0, 0, exceptions.slice(middle))];
}

function sealedOf(content: BatchContent, priority: number): SealedContent {
  const { count, eventTimeUs } = content.runs;
  if (count === 0) return { content, eventFromUs: content.arrivalFromUs, eventToUs: content.arrivalFromUs, priority };
  let [eventFromUs, eventLastUs] = [Infinity, -Infinity];
  for (const timeUs of eventTimeUs) {
    if (timeUs < eventFromUs) eventFromUs = timeUs;
    if (timeUs > eventLastUs) eventLastUs = timeUs;
  }
  return { content, eventFromUs, eventToUs: eventLastUs + 1, priority };
}

/** The readings [from, to), their series and their texts alone. */
function sliceRuns(runs: SeriesRuns, from: number, to: number): SeriesRuns {
  const seriesTable: SeriesRuns['seriesTable'][number][] = [];
  const offsets = [0];
  for (const [index, series] of runs.seriesTable.entries()) {
    const start = Math.max(runs.runOffsets[index], from);
    const end = Math.min(runs.runOffsets[index + 1], to);
    if (start >= end) continue;
    seriesTable.push(series);
    offsets.push(end - from);
  }
  return {
    count: to - from,
    seriesTable,
    runOffsets: Uint32Array.from(offsets),
    eventTimeUs: runs.eventTimeUs.slice(from, to),
    value: runs.value.slice(from, to),
    ...sliceTexts(runs, from, to),
  };
}

function sliceTexts(runs: SeriesRuns, from: number, to: number): { text: Uint32Array | null; texts: string[] } {
  const texts: string[] = [];
  if (runs.text === null) return { text: null, texts };
  const indexOf = new Map<number, number>();
  const text = runs.text.slice(from, to).map((old) => {
    if (old === 0) return 0;
    const index = indexOf.get(old) ?? texts.push(runs.texts[old - 1]);
    indexOf.set(old, index);
    return index;
  });
  return texts.length === 0 ? { text: null, texts } : { text, texts };
}
