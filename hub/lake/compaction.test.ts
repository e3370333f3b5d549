import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createLogger } from '../../shared/logging.ts';
import { compactTable, COMPACTION_DEFAULTS, type CompactionResult } from './compaction.ts';
import { vacuum } from './delta-maintenance.ts';
import { PatientClock, request, START_US } from './delta.fixture.ts';
import { encodeInSlices } from './encode-slices.ts';
import { Lake } from './lake.ts';
import { MemoryStore } from './memory-store.ts';
import { readParquetRows } from './parquet/read.ts';
import type { ParquetColumn } from './parquet/encode.ts';
import { stageFile } from './stage.ts';
import type { ObjectStore } from './store.ts';

const DAY = '2026-11-22';
const breathe = (): Promise<void> => Promise.resolve();
const SETTINGS = { ...COMPACTION_DEFAULTS, fanIn: 4 };

interface Row {
  readonly ts: number;
  readonly gateway: string;
  readonly device: string;
  readonly metric: string;
  readonly tags: string | null;
  readonly value: number | null;
  readonly text: string | null;
  readonly seq: number;
}

class World {
  readonly clock = new PatientClock(START_US);
  readonly store = new MemoryStore(this.clock);

  open(store: ObjectStore = this.store): Promise<Lake> {
    return Lake.open(store, '/lake', { clock: this.clock, hubId: 'hub', logger: createLogger('test', 'silent') });
  }

  /** One commit of one file. */
  async commit(lake: Lake, rows: readonly Row[], day = DAY): Promise<void> {
    this.clock.advance(5_000_000);
    const add = await stageFile(lake.readings, { day }, await encodeInSlices(rows.length, columnsOf(rows), breathe));
    await lake.readings.tryCommit(request([add], []));
  }

  /** Every row of the table as the log has it now, in an order of their own. */
  async rows(): Promise<string[]> {
    const lake = await this.open();
    const files = [...lake.readings.snapshot.files.values()];
    const all = await Promise.all(
      files.map(async ({ path }) => readParquetRows((await this.store.get(`readings/${path}`)) ?? new Uint8Array())),
    );
    return all
      .flat()
      .map((row) => JSON.stringify(Object.entries(row).sort(([a], [b]) => (a < b ? -1 : 1))))
      .sort();
  }
}

function columnsOf(rows: readonly Row[]): ParquetColumn[] {
  const texts = (name: string, of: (row: Row) => string | null): ParquetColumn => {
    const dictionary = [...new Set(rows.map(of).filter((text) => text !== null))];
    return {
      name,
      type: 'string',
      dictionary,
      indices: Uint32Array.from(rows, (row) => dictionary.indexOf(of(row) ?? '\u0000') >>> 0),
      nullIndex: 0xffff_ffff,
    };
  };
  return [
    { name: 'ts', type: 'timestamp', values: Float64Array.from(rows, (row) => row.ts) },
    texts('gateway', (row) => row.gateway),
    texts('device', (row) => row.device),
    texts('metric', (row) => row.metric),
    texts('tags', (row) => row.tags),
    {
      name: 'value',
      type: 'double',
      values: Float64Array.from(rows, (row) => row.value ?? 0),
      valid: Uint8Array.from(rows, (row) => (row.value === null ? 0 : 1)),
    },
    texts('text', (row) => row.text),
    texts('epoch', () => 'e'.repeat(32)),
    texts('lane', () => 'live'),
    { name: 'seq', type: 'long', values: Float64Array.from(rows, (row) => row.seq) },
    { name: 'ingested_at', type: 'timestamp', values: Float64Array.from(rows, (row) => row.ts + 1) },
  ];
}

function row(device: string, second: number, changes: Partial<Row> = {}): Row {
  return {
    ts: START_US + second * 1_000_000,
    gateway: 'gw-1',
    device,
    metric: 'm',
    tags: null,
    value: second,
    text: null,
    seq: 1,
    ...changes,
  };
}

async function fill(world: World, lake: Lake, commits: number): Promise<void> {
  for (let commit = 0; commit < commits; commit++) {
    await world.commit(
      lake,
      ['a', 'b'].flatMap((device) => [row(device, commit * 2), row(device, commit * 2 + 1)]),
    );
  }
}

function compact(lake: Lake): Promise<CompactionResult> {
  return compactTable(lake, lake.readings, SETTINGS, breathe);
}

describe('compaction of readings', () => {
  test('keeps every row of any files, sorted as the files of a commit are', async () => {
    const rowArbitrary = fc.record({
      ts: fc.integer({ min: START_US, max: START_US + 30 }),
      gateway: fc.constantFrom('gw-1', 'gw-2'),
      device: fc.constantFrom('a', 'b', 'ü'),
      metric: fc.constantFrom('m', 'n'),
      tags: fc.constantFrom(null, '{"x":"1"}'),
      value: fc.option(fc.double()),
      text: fc.option(fc.string()),
      seq: fc.integer({ min: 0, max: 9 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(rowArbitrary, { minLength: 1, maxLength: 20 }), { minLength: 4, maxLength: 7 }), async (files) => {
        const world = new World();
        const lake = await world.open();
        for (const rows of files) await world.commit(lake, rows);
        const before = await world.rows();
        world.clock.advance(3 * 86_400_000_000);
        await world.commit(lake, [row('later', 0)], '2026-11-25');
        const result = await compact(lake);
        expect(result).toMatchObject({ jobs: 1, filesIn: files.length, rows: files.flat().length });
        expect((await world.rows()).filter((text) => !text.includes('"later"'))).toEqual(before);
        const [merged] = [...lake.readings.snapshot.files.values()].filter((file) => file.partitionValues['day'] === DAY);
        const rows = (await readParquetRows((await world.store.get(`readings/${merged.path}`)) ?? new Uint8Array())) as unknown as Row[];
        const keys = rows.map(({ device, metric, tags, gateway, ts }) => [device, metric, tags ?? '', gateway, ts]);
        expect(keys).toEqual([...keys].sort((a, b) => compareKeys(a, b)));
      }),
      { numRuns: 10 },
    );
  });

  test('is invisible to consumers: nothing that it adds or removes is a change of data', async () => {
    const world = new World();
    const lake = await world.open();
    await fill(world, lake, 8);
    const { version } = lake.readings;
    await compact(lake);
    expect(lake.readings.version).toBe(version + 1);
    for await (const { actions } of lake.readings.history(version, version + 1)) {
      expect(actions.removes).toHaveLength(8);
      expect([...actions.adds, ...actions.removes].some(({ dataChange }) => dataChange)).toBe(false);
    }
  });

  test('gives way when a winner has removed one of its inputs, and leaves no file behind', async () => {
    const world = new World();
    const [lake, other] = [await world.open(), await world.open()];
    await fill(world, lake, 8);
    await other.readings.refresh();
    const before = await world.rows();
    const client = world.store.client(() => null);
    const slow = await world.open(client);
    let isDone = false;
    const results = await compactTable(slow, slow.readings, SETTINGS, async () => {
      if (isDone) return;
      isDone = true;
      await compact(other);
    });
    expect(results).toMatchObject({ jobs: 0, conflicts: 1 });
    expect(await world.rows()).toEqual(before);
    const named = new Set([...other.readings.snapshot.files.keys(), ...other.readings.snapshot.tombstones.keys()]);
    const stored = (await world.store.list('readings/day=')).map(({ key }) => key.slice('readings/'.length));
    expect(stored.every((path) => named.has(path))).toBe(true);
  });

  test('does not hold up commits that come meanwhile', async () => {
    const world = new World();
    const [lake, ingest] = [await world.open(), await world.open()];
    await fill(world, lake, 8);
    const commits: Promise<void>[] = [];
    await compactTable(lake, lake.readings, SETTINGS, async () => {
      if (commits.length < 5) commits.push(world.commit(ingest, [row('c', 100 + commits.length)]));
      await commits.at(-1);
    });
    expect((await world.rows()).length).toBe(8 * 4 + 5);
    expect(commits).toHaveLength(5);
    expect((await world.open()).readings.snapshot.files.size).toBe(2);
  });

  test('stopped at any of its steps leaves every row there once', async () => {
    for (let stopAfter = 0; stopAfter < 12; stopAfter += 3) {
      for (const mode of ['fail-before', 'fail-after'] as const) {
        const world = new World();
        await fill(world, await world.open(), 8);
        const before = await world.rows();
        let calls = 0;
        let isArmed = false;
        const client = world.store.client(() => (isArmed && calls++ >= stopAfter ? mode : null));
        const lake = await world.open(client);
        isArmed = true;
        await compact(lake).catch((error: unknown) =>
          expect(error).toMatchObject({ code: expect.stringMatching(/^ERR_(STORE|LAKE)/) as string }),
        );
        expect(await world.rows()).toEqual(before);
        await compact(await world.open());
        expect(await world.rows()).toEqual(before);
      }
    }
  });

  test('of a table that nobody wrote for days leaves the old files to readers for the whole retention', async () => {
    const world = new World();
    const lake = await world.open();
    await fill(world, lake, 8);
    const inputs = [...lake.readings.snapshot.files.keys()];
    world.clock.advance(3 * 86_400_000_000);
    await compact(lake);
    await vacuum(lake.readings, null);
    await lake.readings.checkpoint();
    const other = await world.open();
    await vacuum(other.readings, null);
    for (const path of inputs) expect(await world.store.stat(`readings/${path}`)).not.toBeNull();
    world.clock.advance(2 * 86_400_000_000);
    await world.commit(other, [row('later', 0)], '2026-11-27');
    expect(await vacuum(other.readings, null)).toMatchObject({ deletedFiles: 8 });
  });

  test('leaves a damaged input where it is and merges the others', async () => {
    const world = new World();
    const lake = await world.open();
    await fill(world, lake, 8);
    const [first] = lake.readings.snapshot.files.keys();
    await world.store.put(`readings/${first}`, new Uint8Array(50));
    const result = await compact(lake);
    expect(result).toMatchObject({ jobs: 1, filesIn: 7, unreadable: [first] });
    expect(lake.readings.snapshot.files.has(first)).toBe(true);
  });
});

function compareKeys(a: readonly (string | number)[], b: readonly (string | number)[]): number {
  const index = a.findIndex((part, place) => part !== b[place]);
  return index < 0 ? 0 : a[index] < b[index] ? -1 : 1;
}
