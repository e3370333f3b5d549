import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isSluiceError } from '../../shared/errors.ts';
import { compareSeries, seriesKey, type Series, type SeriesRuns } from '../../shared/reading.ts';
import { DEFAULT_WINDOW_DEFINITIONS, windowStartsUs, type WindowDefinition } from '../../shared/window/definition.ts';
import { bucketOf } from '../../shared/window/histogram.ts';
import { EMPTY_PARTIAL, mergePartials, type WindowPartial } from '../../shared/window/partial.ts';
import { groupKeyText, partialRows, type GroupKey, type PartialColumns } from '../../shared/window/partial-columns.ts';
import { GroupRegistry } from './group-registry.ts';
import type { RowFilter } from './slot-rows.ts';
import { compactGroups, WindowState } from './window-state.ts';

interface Reading {
  gateway: string;
  series: Series;
  eventTimeUs: number;
  value: number;
  text: boolean;
}

const T0 = Date.UTC(2026, 0, 1) * 1000;

function runsOf(readings: readonly Reading[]): SeriesRuns {
  const sorted = readings
    .map((reading, arrival) => ({ ...reading, arrival }))
    .sort((a, b) => compareSeries(a.series, b.series) || a.eventTimeUs - b.eventTimeUs || a.arrival - b.arrival);
  const seriesTable: Series[] = [];
  const runOffsets: number[] = [];
  sorted.forEach((reading, index) => {
    if (index === 0 || compareSeries(reading.series, sorted[index - 1].series) !== 0) {
      seriesTable.push({ ...reading.series });
      runOffsets.push(index);
    }
  });
  return {
    count: sorted.length,
    seriesTable,
    runOffsets: Uint32Array.from([...runOffsets, sorted.length]),
    eventTimeUs: Float64Array.from(sorted, (reading) => reading.eventTimeUs),
    value: Float64Array.from(sorted, (reading) => reading.value),
    text: Uint32Array.from(sorted, (reading) => (reading.text ? 1 : 0)),
    texts: ['a text'],
  };
}

function partialOf(reading: Reading, late: boolean): WindowPartial | null {
  if (Number.isNaN(reading.value) && reading.text) return null;
  const common = { ...EMPTY_PARTIAL, late: late ? 1 : 0, revision: late ? 1 : 0 };
  if (!Number.isFinite(reading.value)) return { ...common, nan: 1 };
  const v = reading.value + 0;
  const t = reading.eventTimeUs;
  const buckets = new Map(v === 0 ? [] : [[bucketOf(v), 1]]);
  return {
    ...common,
    n: 1,
    mean: v,
    m2: 0,
    sumValue: v,
    minValue: v,
    maxValue: v,
    firstValue: v,
    firstTsUs: t,
    lastValue: v,
    lastTsUs: t,
    histPos: v > 0 ? buckets : new Map(),
    histNeg: v < 0 ? buckets : new Map(),
    histZero: v === 0 ? 1 : 0,
  };
}

/** With windows that overlap, windows that share no panes with others, and windows by metric alone. */
const MIXED_DEFINITIONS: readonly WindowDefinition[] = [
  { name: '5m_every_1m', sizeMs: 300_000, slideMs: 60_000, by: 'series', persisted: true },
  { name: '1h_every_20m_by_metric', sizeMs: 3_600_000, slideMs: 1_200_000, by: 'metric', persisted: true },
  { name: '7m', sizeMs: 420_000, by: 'series', persisted: false },
  { name: '30s_by_metric', sizeMs: 30_000, by: 'metric', persisted: true },
];
const definitionSets = fc.constantFrom(DEFAULT_WINDOW_DEFINITIONS, MIXED_DEFINITIONS);

type Model = Map<string, WindowPartial>;

function rowKey(group: GroupKey, startUs: number): string {
  return `${groupKeyText(group)}@${startUs}`;
}

/** The naive engine: one partial per reading, merged one by one. */
function model(definition: WindowDefinition, readings: readonly Reading[], lateBeforeUs: number): Model {
  const result: Model = new Map();
  for (const reading of readings) {
    for (const startUs of windowStartsUs(definition, reading.eventTimeUs)) {
      const partial = partialOf(reading, startUs + definition.sizeMs * 1000 <= lateBeforeUs);
      if (partial !== null) merge(definition, reading, startUs, partial);
    }
  }
  return result;

  function merge(definition: WindowDefinition, reading: Reading, startUs: number, partial: WindowPartial): void {
    const { device, metric, tags } = reading.series;
    const group =
      definition.by === 'series'
        ? { gateway: reading.gateway, device, metric, tags: tags === '' ? null : tags }
        : { gateway: null, device: null, metric, tags: null };
    const key = rowKey(group, startUs);
    result.set(key, mergePartials(result.get(key) ?? EMPTY_PARTIAL, partial));
  }
}

function rowsOf(columns: PartialColumns): Model {
  const rows = partialRows(columns);
  const result: Model = new Map(rows.map((row) => [rowKey(row.group, row.windowStartUs), row.partial]));
  expect(result.size).toBe(rows.length); // one row per group and window
  return result;
}

const ROUNDED = ['mean', 'm2', 'sumValue'] as const;

/** A state counts the partials that it will write (revision 0 or 1); the model's revision counts readings. */
function expectEqual(actual: Model, expected: Model): void {
  expect([...actual.keys()].sort()).toEqual([...expected.keys()].sort());
  for (const [key, want] of expected) {
    const got = actual.get(key) as WindowPartial;
    expect({ ...got, mean: 0, m2: 0, sumValue: 0 }).toEqual({ ...want, mean: 0, m2: 0, sumValue: 0, revision: want.late > 0 ? 1 : 0 });
    const scale = want.n === 0 ? 1 : Math.max(Math.abs(want.minValue), Math.abs(want.maxValue), 1e-300);
    for (const field of ROUNDED) {
      const allowed = 1e-9 * want.n * (field === 'm2' ? scale * scale : scale) + 1e-300; // squares of tiny values underflow
      expect(Math.abs(got[field] - want[field]), `${field} of ${key}`).toBeLessThanOrEqual(allowed);
    }
  }
}

const value = fc.oneof(
  { weight: 6, arbitrary: fc.double({ min: -1e6, max: 1e6, noNaN: true }) },
  { weight: 3, arbitrary: fc.integer({ min: -3, max: 3 }) },
  { weight: 1, arbitrary: fc.constantFrom(NaN, Infinity, -Infinity, -0, 5e-324, 1e-310) },
);
const reading: fc.Arbitrary<Reading> = fc.record({
  gateway: fc.constantFrom('gw-1', 'gw-2'),
  series: fc.record({ device: fc.constantFrom('a', 'b', 'c'), metric: fc.constantFrom('t', 'h'), tags: fc.constantFrom('', '{"x":"1"}') }),
  // Coarse steps make equal times; the range spans three hours, so every definition has several windows.
  eventTimeUs: fc.integer({ min: 0, max: 1080 }).map((step) => T0 + step * 10_000_000 - (step % 3)),
  value,
  text: fc.boolean(),
});
const batches = fc.array(fc.array(reading, { maxLength: 40 }), { maxLength: 6 });

function addAll(state: WindowState, batch: readonly Reading[], lateBeforeUs: number): void {
  for (const gateway of ['gw-1', 'gw-2']) {
    state.add(gateway, runsOf(batch.filter((one) => one.gateway === gateway)), lateBeforeUs);
  }
}

function batchOf(seriesCount: number, perSeries: number, fromUs: number, stepUs = 1_000_000): SeriesRuns {
  const readings: Reading[] = [];
  for (let s = 0; s < seriesCount; s++) {
    for (let i = 0; i < perSeries; i++) {
      readings.push({
        gateway: 'gw',
        series: { device: `d${String(s).padStart(6, '0')}`, metric: 't', tags: '' },
        eventTimeUs: fromUs + i * stepUs,
        value: s + i,
        text: false,
      });
    }
  }
  return runsOf(readings);
}

describe('WindowState', () => {
  test('gives the same partials as merging reading by reading, for any batches, definitions and lateness', () => {
    fc.assert(
      fc.property(definitionSets, batches, fc.integer({ min: 0, max: 200 }), (definitions, input, minutes) => {
        const lateBeforeUs = T0 + minutes * 60_000_000;
        const state = new WindowState(definitions, { registry: new GroupRegistry() });
        for (const batch of input) addAll(state, batch, lateBeforeUs);
        definitions.forEach((definition, index) => {
          expectEqual(rowsOf(state.rows(index)), model(definition, input.flat(), lateBeforeUs));
        });
      }),
      { numRuns: 150 },
    );
  });

  test('merged states equal one state over all readings, after clear and after compaction too', () => {
    fc.assert(
      fc.property(definitionSets, batches, batches, batches, (definitions, forgotten, left, right) => {
        const registry = new GroupRegistry();
        // As a tail, the one merged into may lack some of the definitions.
        const own = definitions.filter(({ persisted }) => persisted);
        const [a, b] = [new WindowState(own, { registry }), new WindowState(definitions, { registry })];
        for (const batch of forgotten) addAll(a, batch, -Infinity);
        a.clear();
        expect(a.slotCount).toBe(0);
        for (const batch of left) addAll(a, batch, T0);
        for (const batch of right) addAll(b, batch, T0 + 1e10);
        compactGroups(registry, [a, b]);
        const before = rowsOf(b.rows(0));
        a.merge(b);
        expect(rowsOf(b.rows(0))).toEqual(before);
        addAll(a, left[0] ?? [], -Infinity);
        own.forEach((definition, index) => {
          const expected = model(definition, left.flat(), T0);
          for (const more of [model(definition, right.flat(), T0 + 1e10), model(definition, left[0] ?? [], -Infinity)]) {
            for (const [key, partial] of more) expected.set(key, mergePartials(expected.get(key) ?? EMPTY_PARTIAL, partial));
          }
          expectEqual(rowsOf(a.rows(index)), expected);
        });
      }),
      { numRuns: 80 },
    );
  });

  test('a merge in steps says between any two steps what it says when it is done, whatever is asked and whatever interrupts it', () => {
    const filters: RowFilter[] = [
      {},
      { device: 'b' },
      { device: new Set(['a', 'c']), fromUs: T0 + 1_800_000_000, toUs: T0 + 3_600_000_000 },
      { gateway: 'gw-2', metric: 't', fromUs: T0 + 600_000_000 },
    ];
    const steps = fc.array(fc.integer({ min: 1, max: 25 }), { maxLength: 5 });
    const run = fc.record({
      definitions: definitionSets,
      held: batches,
      first: batches,
      second: batches,
      filter: fc.constantFrom(...filters),
      sizes: steps,
      interruption: fc.constantFrom('none', 'add', 'merge', 'compact'),
    });
    fc.assert(
      fc.property(run, ({ definitions, held, first, second, filter, sizes, interruption }) => {
        const registry = new GroupRegistry();
        const own = definitions.filter(({ persisted }) => persisted);
        const [stepped, whole] = [new WindowState(own, { registry }), new WindowState(own, { registry })];
        const others = [new WindowState(definitions, { registry }), new WindowState(definitions, { registry })];
        for (const batch of held) for (const state of [stepped, whole]) addAll(state, batch, T0 + 6e8);
        for (const batch of first) addAll(others[0], batch, T0 + 1e9);
        for (const batch of second) addAll(others[1], batch, T0 + 3e9);
        whole.merge(...others);
        const check = (): void => {
          expect(stepped.readingCount).toBe(whole.readingCount);
          own.forEach((_, index) => expectEqual(rowsOf(stepped.rows(index, filter)), rowsOf(whole.rows(index, filter))));
        };
        stepped.startMerge(...others);
        check();
        for (const size of sizes) {
          stepped.mergeStep(size);
          check();
        }
        const more = new WindowState(definitions, { registry });
        addAll(more, second[0] ?? [], -Infinity);
        if (interruption === 'add') for (const state of [stepped, whole]) addAll(state, first[0] ?? [], T0);
        if (interruption === 'merge') whole.merge(more);
        if (interruption === 'merge') stepped.startMerge(more);
        if (interruption === 'compact') compactGroups(registry, [stepped, whole, ...others, more]);
        check();
        stepped.mergeStep(Infinity);
        check();
        expect(stepped.isMerging).toBe(false);
      }),
      { numRuns: 20 },
    );
  });

  test('takes times in any order, as a hostile batch may have them', () => {
    fc.assert(
      fc.property(fc.array(reading, { minLength: 1, maxLength: 30 }), (readings) => {
        const one = readings.map((r) => ({ ...r, gateway: 'gw-1', series: readings[0].series }));
        const state = new WindowState(DEFAULT_WINDOW_DEFINITIONS, { registry: new GroupRegistry() });
        state.add(
          'gw-1',
          {
            count: one.length,
            seriesTable: [one[0].series],
            runOffsets: Uint32Array.of(0, one.length),
            eventTimeUs: Float64Array.from(one, (r) => r.eventTimeUs),
            value: Float64Array.from(one, (r) => r.value),
            text: Uint32Array.from(one, (r) => Number(r.text)),
            texts: ['x'],
          },
          -Infinity,
        );
        DEFAULT_WINDOW_DEFINITIONS.forEach((definition, index) =>
          expectEqual(rowsOf(state.rows(index)), model(definition, one, -Infinity)),
        );
      }),
      { numRuns: 80 },
    );
  });

  test('counts text-only readings nowhere and makes no window for them', () => {
    const state = new WindowState(DEFAULT_WINDOW_DEFINITIONS, { registry: new GroupRegistry() });
    const series = { device: 'a', metric: 'state', tags: '' };
    state.add('gw', runsOf([{ gateway: 'gw', series, eventTimeUs: T0, value: NaN, text: true }]), T0 + 1e12);
    expect(state.slotCount).toBe(0);
    expect(state.rows(1).count).toBe(0);
  });

  test('counts text without a number nowhere, and a NaN without text as such, amid the numbers of a run', () => {
    const state = new WindowState(DEFAULT_WINDOW_DEFINITIONS, { registry: new GroupRegistry() });
    const series = { device: 'a', metric: 'state', tags: '' };
    const one = (offsetUs: number, value: number, text: boolean): Reading => ({
      gateway: 'gw',
      series,
      eventTimeUs: T0 + offsetUs,
      value,
      text,
    });
    const run = [one(0, 1, false), one(1, NaN, true), one(2, NaN, false), one(3, Infinity, true), one(4, 2, true), one(5, NaN, true)];
    state.add('gw', runsOf(run), -Infinity);
    expect(partialRows(state.rows(1)).map(({ partial: { n, nan, sumValue } }) => [n, nan, sumValue])).toEqual([[2, 2, 3]]);
  });

  test('keeps histograms of many distinct buckets of both signs exact', () => {
    const registry = new GroupRegistry();
    const definition: WindowDefinition = { name: '1h', sizeMs: 3_600_000, by: 'series', persisted: true };
    const readings: Reading[] = Array.from({ length: 3000 }, (_, i) => ({
      gateway: 'gw',
      series: { device: `d${i % 3}`, metric: 'v', tags: '' },
      eventTimeUs: T0 + i,
      value: (i % 2 === 0 ? 1 : -1) * 2 ** ((i % 700) - 350) * (1 + (i % 13) / 13),
      text: false,
    }));
    const state = new WindowState([definition], { registry });
    const other = new WindowState([definition], { registry });
    for (let at = 0; at < readings.length; at += 100)
      (at % 200 === 0 ? state : other).add('gw', runsOf(readings.slice(at, at + 100)), -Infinity);
    state.merge(other);
    const expected = model(definition, readings, -Infinity);
    for (const [key, partial] of rowsOf(state.rows(0))) {
      expect(partial.histPos).toEqual(expected.get(key)?.histPos);
      expect(partial.histNeg).toEqual(expected.get(key)?.histNeg);
      expect([...partial.histPos.keys()]).toEqual([...partial.histPos.keys()].sort((a, b) => a - b));
    }
  });

  test('filters rows by window start and by keys, and numbers only the groups that have rows', () => {
    const state = new WindowState(DEFAULT_WINDOW_DEFINITIONS, { registry: new GroupRegistry() });
    for (const gateway of ['gw-1', 'gw-2']) state.add(gateway, batchOf(5, 3, T0, 60_000_000), -Infinity);
    const rows = state.rows(1, {
      fromUs: T0 + 60_000_000,
      toUs: T0 + 120_000_000,
      gateway: 'gw-2',
      device: new Set(['d000001', 'd000003']),
      metric: (name) => name === 't',
    });
    expect(partialRows(rows).map((row) => [row.group.gateway, row.group.device, row.windowStartUs])).toEqual([
      ['gw-2', 'd000001', T0 + 60_000_000],
      ['gw-2', 'd000003', T0 + 60_000_000],
    ]);
    expect(rows.groups.count).toBe(2);
    expect(state.rows(3, { metric: 't' }).count).toBe(3);
    expect(state.rows(3, { gateway: 'gw-1' }).count).toBe(0); // a definition by metric has no gateway to match
  });

  test('makes hopping windows of panes, also under a filter of their starts', () => {
    const definitions: WindowDefinition[] = [{ name: 'hop', sizeMs: 300_000, slideMs: 60_000, by: 'series', persisted: true }];
    const state = new WindowState(definitions, { registry: new GroupRegistry() });
    state.add('gw', batchOf(1, 10, T0, 60_000_000), -Infinity);
    expect(state.slotCount).toBe(10);
    const rows = partialRows(state.rows(0, { fromUs: T0 - 240_000_000, toUs: T0 + 120_000_000 }));
    expect(rows.map((row) => [(row.windowStartUs - T0) / 60_000_000, row.partial.n]).sort(([a], [b]) => a - b)).toEqual([
      [-4, 1],
      [-3, 2],
      [-2, 3],
      [-1, 4],
      [0, 5],
      [1, 5],
    ]);
  });

  test('stamps rows with the source that the flush names', () => {
    const state = new WindowState(DEFAULT_WINDOW_DEFINITIONS, { registry: new GroupRegistry() });
    state.add('gw', batchOf(2, 2, T0), -Infinity);
    for (const row of partialRows(state.rows(1, {}, { gen: 3, srcFrom: 10, srcTo: 12 }))) {
      expect(row.partial).toMatchObject({ gen: 3, srcFrom: 10, srcTo: 12 });
    }
  });

  test('needs memory for the windows that are present, not for series times windows', () => {
    const registry = new GroupRegistry();
    const state = new WindowState(DEFAULT_WINDOW_DEFINITIONS, { registry });
    state.add('gw', batchOf(2000, 1, T0), -Infinity);
    const before = state.bytes;
    state.add('gw', batchOf(1, 1440, T0, 60_000_000), -Infinity);
    expect(state.slotCount).toBeLessThan(3 * 2000 + 3 * 1440 + 100);
    expect(state.bytes).toBeLessThan(Math.max(4 * before, state.slotCount * 800));
  });

  test('gives its memory back after a backfill has been cleared', () => {
    const state = new WindowState(DEFAULT_WINDOW_DEFINITIONS, { registry: new GroupRegistry() });
    state.add('gw', batchOf(1, 20_000, T0, 60_000_000), -Infinity);
    const peak = state.bytes;
    state.clear();
    state.add('gw', batchOf(1, 10, T0), -Infinity);
    state.clear();
    expect(state.bytes).toBeLessThan(peak / 100);
  });

  test('refuses at its slot bound without a trace, and takes the same batch when empty', () => {
    const state = new WindowState(DEFAULT_WINDOW_DEFINITIONS, { registry: new GroupRegistry(), slotsMax: 40 });
    state.add('gw', batchOf(20, 1, T0), -Infinity);
    const before = [0, 1, 2, 3].map((index) => rowsOf(state.rows(index)));
    let error: unknown;
    try {
      state.add('gw', batchOf(30, 1, T0), -Infinity);
    } catch (thrown) {
      error = thrown;
    }
    expect(isSluiceError(error, 'ERR_WINDOW_STATE_FULL')).toBe(true);
    expect([0, 1, 2, 3].map((index) => rowsOf(state.rows(index)))).toEqual(before);
    state.clear();
    state.add('gw', batchOf(30, 1, T0), -Infinity);
    expect(state.rows(0).count).toBe(30);
  });

  test('refuses to go on with ids of a registry that was compacted without it', () => {
    const registry = new GroupRegistry();
    const state = new WindowState(DEFAULT_WINDOW_DEFINITIONS, { registry });
    state.add('gw', batchOf(2, 2, T0), -Infinity);
    compactGroups(registry, []);
    expect(() => state.rows(0)).toThrow(/compacted/);
    state.clear();
    state.add('gw', batchOf(2, 2, T0), -Infinity);
    expect(state.rows(0).count).toBe(2);
  });
});

describe('GroupRegistry', () => {
  test('gives a series the same id wherever it stands in a table, and never one id to two', () => {
    const names = fc.constantFrom('a', 'b', 'c', 'd', 'e');
    const table = fc.array(fc.record({ device: names, metric: names, tags: fc.constantFrom('', '{"k":"v"}') }), { maxLength: 20 });
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom('gw-1', 'gw-2'), table), { maxLength: 20 }), (calls) => {
        const registry = new GroupRegistry();
        const expected = new Map<string, number>();
        for (const [gateway, series] of calls) {
          const ids = new Uint32Array(series.length);
          registry.resolve(gateway, series, ids);
          series.forEach((one, index) => {
            const key = `${gateway} ${seriesKey(one)}`;
            expect(ids[index]).toBe(expected.get(key) ?? expected.size);
            expected.set(key, ids[index]);
            expect(registry.groupKey('series', ids[index])).toEqual({
              gateway,
              device: one.device,
              metric: one.metric,
              tags: one.tags || null,
            });
            expect(registry.groupKey('metric', registry.metricIdOf(ids[index])).metric).toBe(one.metric);
          });
        }
        expect(registry.seriesCount).toBe(expected.size);
      }),
    );
  });

  test('refuses series above its bound, and has room again once unused ones are compacted away', () => {
    const registry = new GroupRegistry({ seriesMax: 10 });
    const state = new WindowState(DEFAULT_WINDOW_DEFINITIONS, { registry });
    state.add('gw', batchOf(8, 1, T0), -Infinity);
    expect(() => state.add('other', batchOf(8, 1, T0), -Infinity)).toThrow(expect.objectContaining({ code: 'ERR_WINDOW_GROUPS_FULL' }));
    expect(state.rows(0).count).toBe(8);
    state.clear();
    compactGroups(registry, [state]);
    state.add('other', batchOf(8, 1, T0), -Infinity);
    expect(registry.seriesCount).toBe(8);
  });
});

test('windows of named devices are those that a look at all slots finds, late ones and overlapping ones too', () => {
  for (const definitions of [DEFAULT_WINDOW_DEFINITIONS, MIXED_DEFINITIONS]) {
    const state = new WindowState(definitions, { registry: new GroupRegistry() });
    const readings = Array.from({ length: 4_000 }, (_, index): Reading => ({
      gateway: 'gw',
      series: { device: `d${index % 20}`, metric: `m${index % 3}`, tags: '' },
      eventTimeUs: T0 + ((index * 7_919) % 3_600) * 1_000_000,
      value: index,
      text: false,
    }));
    state.add('gw', runsOf(readings), T0 + 1_200_000_000);
    definitions.forEach((definition, index) => {
      if (definition.by !== 'series') return;
      const range = { fromUs: definition.sizeMs === 3_600_000 ? T0 : T0 + 630_000_000, toUs: T0 + 1_590_000_000 };
      const named = partialRows(state.rows(index, { ...range, device: new Set(['d3', 'd17', 'absent']) }));
      const looked = partialRows(state.rows(index, { ...range, device: (name) => name === 'd3' || name === 'd17' }));
      const byPlace = (rows: typeof named): typeof named =>
        rows.toSorted((a, b) => a.windowStartUs - b.windowStartUs || (groupKeyText(a.group) < groupKeyText(b.group) ? -1 : 1));
      expect(looked.length).toBeGreaterThan(0);
      expect(byPlace(named)).toEqual(byPlace(looked));
    });
  }
});

test('rows that are read in steps are those that are read at once, of late windows and of a merge under way too', () => {
  let count = 0;
  for (const definitions of [DEFAULT_WINDOW_DEFINITIONS, MIXED_DEFINITIONS]) {
    const registry = new GroupRegistry();
    const [state, other] = [new WindowState(definitions, { registry }), new WindowState(definitions, { registry })];
    state.add('gw', batchOf(1_100, 8, T0, 10_000_000), T0 + 30_000_000);
    other.add('gw', batchOf(200, 4, T0 + 60_000_000, 10_000_000), -Infinity);
    for (const isMerging of [false, true]) {
      if (isMerging) state.startMerge(other);
      for (const filter of isMerging ? [{}] : [{ metric: 't', fromUs: T0 + 20_000_000, toUs: T0 + 70_000_000 }]) {
        definitions.forEach((_, index) => {
          const steps = state.rowsInSteps(index, filter);
          let step = steps.next();
          for (; step.done !== true; step = steps.next()) count++;
          expectEqual(rowsOf(step.value), rowsOf(state.rows(index, filter)));
        });
      }
    }
  }
  expect(count).toBeGreaterThan(1);
});
