import { describe, expect, test } from 'vitest';
import { compareReadings, type ReadingsResult } from './compare-readings.ts';
import type { FakeRow } from './fake-hub.fixture.ts';
import type { LakeException } from './lake-reader.ts';
import { DOUBT, MESSAGES, SPEC, deviceAt, lakeContent, rowsOf, sceneLedger, sceneRows, victim } from './scene.fixture.ts';
import { regenerateTruth } from './truth.ts';

const truth = regenerateTruth(sceneLedger());
const ACKED = sceneLedger().totals.readingsAcked;
const RIGHT = { found: ACKED, lost: 0, accountedFor: 0, duplicated: 0, altered: 0 };

/** Compares a lake that is right but for what `plant` does to it. */
function compare(plant: (rows: FakeRow[], exceptions: LakeException[]) => void, otherRuns = false): ReadingsResult {
  const rows = sceneRows();
  const exceptions: LakeException[] = [];
  plant(rows, exceptions);
  return compareReadings(truth, lakeContent(rows, exceptions), otherRuns);
}

describe('the comparison of the lake with the truth', () => {
  test('finds nothing wrong where nothing is wrong', () => {
    const result = compare(() => {});
    expect(result).toMatchObject({ ...RIGHT, foreign: 2, inDoubtArrived: rowsOf(DOUBT.device, DOUBT.message).length });
    expect(result.examples).toEqual([]);
  });

  test('does not depend on the order of the rows', () => {
    expect(compare((rows) => rows.reverse())).toMatchObject(RIGHT);
  });

  test('takes a reading in doubt that is missing for right', () => {
    const gone = new Set(rowsOf(DOUBT.device, DOUBT.message).map((row) => row.eventTimeUs));
    const result = compare((rows) =>
      rows.splice(0, Infinity, ...rows.filter((row) => row.device !== deviceAt(DOUBT.device).name || !gone.has(row.eventTimeUs))),
    );
    expect(result).toMatchObject({ ...RIGHT, inDoubtArrived: 0, inDoubt: gone.size * deviceAt(DOUBT.device).metrics.length });
  });

  test('finds a reading in doubt that arrived twice', () => {
    expect(compare((rows) => rows.push(rowsOf(DOUBT.device, DOUBT.message)[0]))).toMatchObject({ ...RIGHT, duplicated: 1 });
  });

  test('finds a lost number and a lost text, and counts them in what windows must say', () => {
    for (const index of [victim(sceneRows()), sceneRows().findIndex((row) => row.text !== null)]) {
      const result = compare((rows) => rows.splice(index, 1));
      expect(result).toMatchObject({ ...RIGHT, found: ACKED - 1, lost: 1 });
      expect(result.examples).toHaveLength(1);
      expect(result.counted.reduce((sum, series) => sum + series.rows.length, 0)).toBe(sceneRows().length);
    }
  });

  test('finds a doubled reading, also under another gateway', () => {
    for (const gateway of ['gw-0', 'gw-9']) {
      const result = compare((rows) => rows.push({ ...rows[victim(rows)], gateway }));
      expect(result).toMatchObject({ ...RIGHT, duplicated: 1 });
    }
  });

  test.each<[string, (row: FakeRow) => FakeRow]>([
    ['its value', (row) => ({ ...row, value: (row.value as number) + 0.01 })],
    ['its value in the last bits', (row) => ({ ...row, value: (row.value as number) * (1 + 2 ** -51) })],
    ['its value is null', (row) => ({ ...row, value: null })],
    ['a text that was never sent', (row) => ({ ...row, text: 'x' })],
    ['its time by 1 µs', (row) => ({ ...row, eventTimeUs: row.eventTimeUs + 1 })],
    ['its tags', (row) => ({ ...row, tags: '{"site":"elsewhere"}' })],
    ['its metric', (row) => ({ ...row, metric: 'temperatur' })],
  ])('finds an altered reading: %s', (_what, alter) => {
    const result = compare((rows) => {
      const index = victim(rows);
      rows[index] = alter(rows[index]);
    });
    expect(result).toMatchObject({ ...RIGHT, found: ACKED - 1, altered: 1, lost: 1 });
  });

  test('finds an altered copy beside the right row', () => {
    const result = compare((rows) => rows.push({ ...rows[victim(rows)], value: 99 }));
    expect(result).toMatchObject({ ...RIGHT, altered: 1 });
  });

  test('finds rows that were never sent', () => {
    const result = compare((rows) => rows.push(...rowsOf(0, MESSAGES)));
    expect(result).toMatchObject({ ...RIGHT, altered: rowsOf(0, MESSAGES).length });
  });

  test('takes rows outside the run for another run only when told so', () => {
    const later = rowsOf(0, MESSAGES + 100);
    expect(compare((rows) => rows.push(...later), true)).toMatchObject({ ...RIGHT, foreign: 2 + later.length });
    expect(compare((rows) => rows.push(...later), false)).toMatchObject({ ...RIGHT, altered: later.length });
    expect(compare((rows) => rows.push({ ...rows[victim(rows)], value: 99 }), true)).toMatchObject({ altered: 1 });
  });

  test('finds a reading that came under another gateway than the others of its broker', () => {
    const result = compare((rows) => {
      const index = victim(rows);
      rows[index] = { ...rows[index], gateway: 'gw-9' };
    });
    expect(result).toMatchObject({ ...RIGHT, altered: 1 });
    expect(result.examples[0]).toMatch(/is of gateway gw-9, its device sends to gw-[01]$/);
  });

  const gap = {
    id: 'gw/e/live/1/0',
    kind: 'gap',
    gateway: null,
    reason: 'test',
    metric: 'temperature',
    fromUs: SPEC.startMs * 1000,
    toUs: (SPEC.startMs + 3_600_000) * 1000,
    eventTimesUs: null,
  };
  /** Quarantined readings are named one by one; the range is that of their arrival. */
  const quarantined = { kind: 'quarantined', fromUs: 0, toUs: 1, readingCount: 2 };
  test.each<[string, Partial<LakeException>, number]>([
    ['both', { readingCount: 2 }, 0],
    ['all, when it names no device, metric or count', { device: null, metric: null, readingCount: null }, 0],
    ['no more than its count', { readingCount: 1 }, 1],
    ['none of another device', { device: 'sim-99999', readingCount: 2 }, 2],
    ['none of another metric', { metric: 'humidity', readingCount: 2 }, 2],
    ['none of another gateway', { gateway: 'gw-9', device: null, readingCount: null }, 2],
    ['none outside its range', { toUs: gap.fromUs + 1000, readingCount: 2 }, 2],
    ['both, quarantined at any time of arrival', quarantined, 0],
    ['none, when it names other quarantined readings', { ...quarantined, eventTimesUs: new Set([gap.fromUs - 1]) }, 2],
  ])('of two missing readings, an exception accounts for %s', (_what, exception, lost) => {
    const result = compare((rows, exceptions) => {
      const index = victim(rows);
      const [row] = rows.splice(index, 1) as [FakeRow];
      const next = rows.findIndex((other, at) => at >= index && other.device === row.device && other.metric === row.metric);
      rows.splice(next, 1);
      exceptions.push({ ...gap, device: row.device, readingCount: null, ...exception });
    });
    expect(result).toMatchObject({ ...RIGHT, found: ACKED - 2, lost, accountedFor: 2 - lost });
  });

  test('a narrow exception is spent before a broad one, so that both are of use', () => {
    const result = compare((rows, exceptions) => {
      const index = victim(rows);
      const [row] = rows.splice(index, 1) as [FakeRow];
      exceptions.push({ ...gap, device: null, metric: null, readingCount: 1 }, { ...gap, device: row.device, readingCount: 1 });
      rows.splice(
        rows.findIndex((other) => other.metric === 'humidity' && other.device === row.device),
        1,
      );
    });
    expect(result).toMatchObject({ lost: 0, accountedFor: 2 });
  });
});
