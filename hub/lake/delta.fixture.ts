/** What the tests of the Delta log share: a small table, a clock whose timers do not wait, and requests. */
import { ManualClock, type Clock } from '../../shared/clock.ts';
import type { AddFile } from './delta-actions.ts';
import { addAction } from './delta-stats.ts';
import { DeltaTable, type CommitRequest, type DeltaTableOptions, type TxnMove } from './delta-table.ts';
import { MemoryStore } from './memory-store.ts';
import type { ObjectStore } from './store.ts';
import { READINGS } from './tables.ts';

export const START_US = Date.UTC(2026, 10, 22, 12) * 1000;
export const HOUR_US = 3_600_000_000;
export const DAY_US = 24 * HOUR_US;

/** Stands until moved; but a wait is over at once, its time having passed. */
export class PatientClock extends ManualClock implements Clock {
  override after(delayMs: number, callback: () => void): () => void {
    let isCancelled = false;
    setImmediate(() => {
      if (isCancelled) return;
      this.advance(delayMs * 1000);
      callback();
    });
    return () => void (isCancelled = true);
  }
}

export interface Bench {
  readonly clock: PatientClock;
  readonly store: MemoryStore;
  readonly warnings: string[];
  open(options?: { store?: ObjectStore; options?: Partial<DeltaTableOptions> }): Promise<DeltaTable>;
}

export function makeBench(): Bench {
  const clock = new PatientClock(START_US);
  const store = new MemoryStore(clock);
  const warnings: string[] = [];
  return {
    clock,
    store,
    warnings,
    open: ({ store: other, options } = {}) =>
      DeltaTable.open(other ?? store, 'readings', READINGS, {
        clock,
        hubId: 'hub-a',
        warn: (message) => warnings.push(message),
        ...options,
      }),
  };
}

/** Stages a file whose bytes are `text`, for tests that never read it as Parquet. */
export async function stage(table: DeltaTable, text = 'data'): Promise<AddFile> {
  const staged = await table.stageFile({ day: '2026-11-22' }, new TextEncoder().encode(text));
  return addAction(staged.path, staged.partitionValues, staged.size, staged.modificationMs, null);
}

export function request(adds: readonly AddFile[], txns: readonly TxnMove[], more: Partial<CommitRequest> = {}): CommitRequest {
  return { operation: 'WRITE', operationParameters: { mode: 'Append' }, adds, removes: [], txns, ...more };
}

export async function putText(store: ObjectStore, key: string, lines: readonly unknown[]): Promise<void> {
  await store.put(key, new TextEncoder().encode(lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n')));
}

export async function getLines(store: ObjectStore, key: string): Promise<Record<string, Record<string, unknown>>[]> {
  const text = new TextDecoder().decode((await store.get(key)) ?? undefined).trim();
  return text.split('\n').map((line) => JSON.parse(line) as Record<string, Record<string, unknown>>);
}

export async function keysOf(store: ObjectStore, prefix = ''): Promise<string[]> {
  return (await store.list(prefix)).map((entry) => entry.key);
}
