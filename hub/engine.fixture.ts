/** A hub engine over a temporary lake, and batches as a gateway seals them; for tests. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { encodeBatch } from '../shared/batch/encode.ts';
import { systemClock, type Clock } from '../shared/clock.ts';
import type { ExceptionRecord } from '../shared/exception.ts';
import { createLogger } from '../shared/logging.ts';
import type { LaneKey } from '../shared/uplink.ts';
import { DEFAULT_WINDOW_DEFINITIONS } from '../shared/window/definition.ts';
import { mergePartials, type WindowPartial } from '../shared/window/partial.ts';
import { partialColumnsOf } from '../shared/window/packed-partials.ts';
import { groupKeyText, partialRows, type PartialColumns } from '../shared/window/partial-columns.ts';
import { Engine } from './engine.ts';
import type { AggregateCapture, EngineSettings, SubmittedBatch } from './engine-api.ts';
import { Lake } from './lake/lake.ts';
import { LocalStore } from './lake/local-store.ts';
import { readParquetRows } from './lake/parquet/read.ts';
import { readFileSync } from 'node:fs';

export const EPOCH = '0'.repeat(31) + '1';

export function engineSettings(lakeDir: string, changes: Partial<EngineSettings> = {}): EngineSettings {
  return {
    lakeDir,
    hubInstance: 'f'.repeat(32),
    commitIntervalMsMin: 50,
    commitIntervalMsMax: 1_000,
    commitReadingsMax: 1_000_000,
    commitBytesMax: 256_000_000,
    flushIntervalMs: 3_600_000,
    windowBytesMax: 512_000_000,
    allowedLatenessMs: 0,
    gatewayIdleTimeoutMs: 600_000,
    definitions: DEFAULT_WINDOW_DEFINITIONS,
    logLevel: 'silent',
    ...changes,
  };
}

export interface TestHub {
  readonly definitions: EngineSettings['definitions'];
  readonly engine: Engine;
  readonly lake: Lake;
  /** Positions in the order in which they were published. */
  readonly committed: Map<string, number>;
  /** What the engine could not go on after. */
  readonly fatal: readonly Error[];
  waitCommitted(appId: string, seq: number): Promise<void>;
}

/** @param clock a ManualClock that nobody moves makes a hub that follows, commits and flushes only when it is told to; `between`: as EngineEvents has it */
export async function startHub(
  lakeDir: string,
  changes: Partial<EngineSettings> = {},
  clock: Clock = systemClock,
  between: () => void = () => undefined,
): Promise<TestHub> {
  const settings = engineSettings(lakeDir, changes);
  const logger = createLogger('test', 'silent');
  const lake = await Lake.open(await LocalStore.open(lakeDir), lakeDir, { clock, hubId: settings.hubInstance, logger });
  const committed = new Map<string, number>();
  const fatal: Error[] = [];
  const waiters = new Set<() => void>();
  const engine = await Engine.open(settings, lake, clock, logger, {
    committed(positions) {
      for (const { appId, committed: position } of positions) committed.set(appId, position);
      for (const waiter of waiters) waiter();
    },
    pending: () => undefined,
    between,
    fatal: (error) => fatal.push(error),
  });
  const waitCommitted = (appId: string, seq: number): Promise<void> =>
    new Promise((resolve) => {
      const check = (): void => {
        if ((committed.get(appId) ?? 0) < seq) return;
        waiters.delete(check);
        resolve();
      };
      waiters.add(check);
      check();
    });
  return { definitions: settings.definitions, engine, lake, committed, fatal, waitCommitted };
}

export function temporaryLake(): { directory: string; remove(): void } {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-lake-'));
  return { directory, remove: () => rmSync(directory, { recursive: true, force: true }) };
}

export function laneOf(gateway: string, epoch = EPOCH): LaneKey {
  return { gateway, epoch, lane: 'live' };
}

/** A batch with one reading per second of one series, values counting up from `first`. */
export function batchOf(
  seq: number,
  fromUs: number,
  count: number,
  first: number,
  exceptions: readonly ExceptionRecord[] = [],
): SubmittedBatch {
  const body = encodeBatch(
    {
      sealedUs: fromUs,
      arrivalFromUs: fromUs,
      arrivalToUs: fromUs + count * 1_000_000,
      runs: {
        count,
        seriesTable: count === 0 ? [] : [{ device: 'pump-1', metric: 'temperature', tags: '' }],
        runOffsets: count === 0 ? new Uint32Array(1) : Uint32Array.of(0, count),
        eventTimeUs: Float64Array.from({ length: count }, (_, index) => fromUs + index * 1_000_000),
        value: Float64Array.from({ length: count }, (_, index) => first + index),
        text: null,
        texts: [],
      },
      exceptions,
    },
    'br',
  );
  return { seq, readingCount: count, exceptionCount: exceptions.length, receivedUs: fromUs + 5_000_000, body };
}

/** A batch with one reading of each of many devices, values counting up from `first`. */
export function wideBatch(seq: number, eventTimeUs: number, devices: number, first: number): SubmittedBatch {
  const runs = {
    count: devices,
    seriesTable: Array.from({ length: devices }, (_, index) => ({
      device: `d-${String(index).padStart(6, '0')}`,
      metric: 'temperature',
      tags: '',
    })),
    runOffsets: Uint32Array.from({ length: devices + 1 }, (_, index) => index),
    eventTimeUs: new Float64Array(devices).fill(eventTimeUs),
    value: Float64Array.from({ length: devices }, (_, index) => first + index),
    text: null,
    texts: [],
  };
  const body = encodeBatch({ sealedUs: eventTimeUs, arrivalFromUs: eventTimeUs, arrivalToUs: eventTimeUs, runs, exceptions: [] }, 'br');
  return { seq, readingCount: devices, exceptionCount: 0, receivedUs: eventTimeUs, body };
}

export interface LakePartial {
  /** Hash of its definition; of a partial in memory ''. */
  readonly def: string;
  readonly group: string;
  readonly windowStartUs: number;
  readonly partial: WindowPartial;
}

/** The rows of a file of `aggregates`. */
export async function lakePartials(bytes: Uint8Array): Promise<LakePartial[]> {
  return (await readParquetRows(bytes)).map(lakeRow);
}

/** What an answer would say: lake and tail merged, keyed by group and window start. `partialsOf` reads a file. */
export async function mergedCapture(
  capture: AggregateCapture,
  partialsOf: (path: string) => Promise<readonly LakePartial[]> = (path) => lakePartials(readFileSync(path)),
): Promise<Map<string, WindowPartial>> {
  const merged = new Map<string, WindowPartial>();
  const add = ({ group, windowStartUs, partial }: LakePartial): void => {
    const key = `${group}@${windowStartUs}`;
    const known = merged.get(key);
    merged.set(key, known === undefined ? partial : mergePartials(known, partial));
  };
  for (const sent of capture.tail) addColumns(partialColumnsOf(sent), add);
  for (const file of capture.files) {
    for (const row of await partialsOf(file.path)) if (row.def === capture.definitionHash) add(row);
  }
  return merged;
}

function addColumns(columns: PartialColumns, add: (row: LakePartial) => void): void {
  for (const { group, windowStartUs, partial } of partialRows(columns))
    add({ def: '', group: groupKeyText(group), windowStartUs, partial });
}

function lakeRow(row: Record<string, unknown>): LakePartial {
  const text = (name: string): string | null => (row[name] as string | null | undefined) ?? null;
  const number = (name: string): number => Number(row[name] ?? NaN);
  const buckets = (name: string): Map<number, number> =>
    new Map(Object.entries(row[name] ?? {}).map(([bucket, count]) => [Number(bucket), Number(count)]));
  return {
    def: text('def') ?? '',
    group: groupKeyText({ gateway: text('gateway'), device: text('device'), metric: text('metric'), tags: text('tags') }),
    windowStartUs: number('window_start'),
    partial: {
      n: number('n'),
      mean: number('mean'),
      m2: number('m2'),
      sumValue: number('sum_value'),
      minValue: number('min_value'),
      maxValue: number('max_value'),
      firstValue: number('first_value'),
      firstTsUs: number('first_ts'),
      lastValue: number('last_value'),
      lastTsUs: number('last_ts'),
      histPos: buckets('hist_pos'),
      histNeg: buckets('hist_neg'),
      histZero: number('hist_zero'),
      nan: number('nan'),
      late: number('late'),
      revision: number('revision'),
      gen: number('gen'),
      srcFrom: number('src_from'),
      srcTo: number('src_to'),
    },
  };
}
