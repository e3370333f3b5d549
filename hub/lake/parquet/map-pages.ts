/** Pages of the two leaves of a MAP column: levels from offsets, whole rows only. */
import assert from 'node:assert/strict';
import { writeLevels, type PagePlan } from './column-chunk.ts';
import type { Validity } from './flat-pages.ts';

/** A page ends behind the row that reaches so many levels; rows and entries both count. */
const PAGE_LEVELS = 32_768;

interface MapRows {
  /** Row i has the entries [offsets[i], offsets[i + 1]). */
  readonly offsets: Uint32Array;
  readonly valid: Validity;
  readonly rowStart: number;
  readonly rowEnd: number;
}

/** Definition levels: 0 null map, 1 empty map, `definitionMax` an entry (entries have no null keys, counts are all there). */
function pageLevels(
  { offsets, valid }: MapRows,
  from: number,
  to: number,
  levelCount: number,
  definitionMax: number,
): { repetition: Uint32Array; definition: Uint32Array } {
  const repetition = new Uint32Array(levelCount);
  const definition = new Uint32Array(levelCount);
  let at = 0;
  for (let row = from; row < to; row++) {
    const entries = offsets[row + 1] - offsets[row];
    if (entries === 0) {
      definition[at++] = valid != null && valid[row] === 0 ? 0 : 1;
      continue;
    }
    definition.fill(definitionMax, at, at + entries);
    repetition.fill(1, at + 1, at + entries);
    at += entries;
  }
  return { repetition, definition };
}

/** Plans the pages of one leaf. Value positions count from the first entry of `rowStart`. */
export function planMapPages(rows: MapRows, definitionMax: number): PagePlan[] {
  const { offsets, valid, rowStart, rowEnd } = rows;
  const base = offsets[rowStart];
  const pages: PagePlan[] = [];
  let from = rowStart;
  let levelCount = 0;
  for (let row = rowStart; row < rowEnd; row++) {
    const entries = offsets[row + 1] - offsets[row];
    assert(entries >= 0, `map offsets go back at row ${row}`);
    assert(entries === 0 || valid == null || valid[row] !== 0, `a null map with ${entries} entries at row ${row}`);
    levelCount += Math.max(1, entries);
    if (levelCount < PAGE_LEVELS && row + 1 < rowEnd) continue;
    const pageFrom = from;
    const pageTo = row + 1;
    const pageLevelCount = levelCount;
    pages.push({
      levelCount,
      valueStart: offsets[pageFrom] - base,
      valueEnd: offsets[pageTo] - base,
      writeLevels: (sink) => {
        const { repetition, definition } = pageLevels(rows, pageFrom, pageTo, pageLevelCount, definitionMax);
        writeLevels(sink, repetition, pageLevelCount, 1);
        writeLevels(sink, definition, pageLevelCount, definitionMax);
      },
    });
    from = pageTo;
    levelCount = 0;
  }
  return pages;
}
