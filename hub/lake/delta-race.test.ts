/**
 * Exactly once, under everything at once: several hubs over one store, lost, late and doubled answers, crashes at any
 * store operation, clocks that jump by days, checkpoints, log clean-up and vacuum. One seed is one history.
 */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { isSluiceError, SluiceError } from '../../shared/errors.ts';
import type { ActionSet, AddFile } from './delta-actions.ts';
import type { CheckpointFormat } from './delta-checkpoint.ts';
import { positionOf } from './delta-snapshot.ts';
import { DeltaTable, type TxnMove } from './delta-table.ts';
import { HOUR_US, PatientClock, request, stage, START_US } from './delta.fixture.ts';
import { cleanLog, vacuum } from './delta-maintenance.ts';
import { MemoryStore, type StoreFault } from './memory-store.ts';
import type { ObjectStore } from './store.ts';
import { READINGS } from './tables.ts';

const LANES = [
  'gw/g1/0123456789abcdef0123456789abcdef/live',
  'gw/g1/0123456789abcdef0123456789abcdef/backfill',
  'gw/g2/0123456789abcdef0123456789abcdef/live',
];
const HUB_COUNT = 3;
const TURNS_PER_HUB = 12;

/** Small, seeded, good enough to choose interleavings (mulberry32). */
function makeRandom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** Parquet would bring real asynchrony, and a seed would not be a history. */
const jsonCheckpoints: CheckpointFormat = {
  encode: (actions) => new TextEncoder().encode(JSON.stringify(actions)),
  decode: (bytes) => JSON.parse(new TextDecoder().decode(bytes)) as ActionSet,
};

interface Life {
  isDead: boolean;
}

/** A store operation that waits for its turn. */
interface Waiting {
  readonly life: Life;
  readonly isWrite: boolean;
  release(fault: StoreFault | 'late' | 'dead' | null): void;
}

class History {
  readonly clock = new PatientClock(START_US);
  readonly store = new MemoryStore(this.clock);
  readonly random: (below: number) => number;
  readonly waiting: Waiting[] = [];
  /** Puts whose callers were told an error, and that may still arrive. */
  late: (() => Promise<unknown>)[] = [];
  /** How often each rare thing happened, so that the test knows that it tested. */
  readonly seen = new Map<string, number>();
  #uuid = 0;
  /** Operations that the store still fails, while it is down. */
  #outage = 0;
  /** A hub that a suspended machine holds up, and for how many operations of the others. */
  #suspended: Life | null = null;
  #suspendedSteps = 0;

  constructor(seed: number) {
    this.random = makeRandom(seed);
  }

  saw(what: string): void {
    this.seen.set(what, (this.seen.get(what) ?? 0) + 1);
  }

  uuid(): string {
    return `00000000-0000-4000-8000-${String(this.#uuid++).padStart(12, '0')}`;
  }

  /** A store for one life of one hub. */
  client(life: Life): ObjectStore {
    const inner = this.store.client((operation) => this.#turn(operation, life));
    const putIfAbsent = inner.putIfAbsent.bind(inner);
    inner.putIfAbsent = async (key, bytes) => {
      try {
        return await putIfAbsent(key, bytes);
      } catch (error) {
        if (isSluiceError(error, 'ERR_STORE_IO') && error.cause === 'late') {
          const copy = bytes.slice();
          this.late.push(() => this.store.putIfAbsent(key, copy));
        }
        throw error;
      }
    };
    return inner;
  }

  #turn(operation: string, life: Life): Promise<StoreFault | null> {
    return new Promise((resolve, reject) => {
      if (life.isDead) return;
      this.waiting.push({
        life,
        isWrite: operation === 'putIfAbsent',
        release: (fault) => {
          if (fault === 'dead') life.isDead = true;
          else if (fault === 'late') reject(new SluiceError('ERR_STORE_IO', 'the answer is late', { cause: 'late' }));
          else resolve(fault);
        },
      });
    });
  }

  /** Lets one waiting operation happen, well or badly. */
  async step(): Promise<void> {
    if (this.#suspendedSteps-- <= 0) this.#suspended = null;
    const awake = this.waiting.filter((waiting) => waiting.life !== this.#suspended);
    const choice = awake.length > 0 ? awake : this.waiting;
    const next = choice[this.random(choice.length)];
    this.waiting.splice(this.waiting.indexOf(next), 1);
    const dice = this.random(100);
    let fault: Parameters<Waiting['release']>[0] = null;
    if (this.random(200) === 0) this.#outage = 20;
    if (this.#outage > 0) {
      this.#outage--;
      fault = dice < 50 || !next.isWrite ? 'fail-before' : dice < 75 ? 'fail-after' : 'late';
    } else if (dice < 2) fault = 'dead';
    else if (dice < 6) fault = 'fail-before';
    else if (dice < 12 && next.isWrite) fault = 'fail-after';
    else if (dice < 18 && next.isWrite) fault = 'late';
    if (fault !== null) this.saw(fault);
    next.release(fault);
    if (this.late.length > 0 && this.random(4) === 0) await this.late.splice(this.random(this.late.length), 1)[0]();
    if (this.random(60) === 0) {
      // No put is under way for days.
      this.late = [];
      this.saw('jump');
      if (this.#suspended === null && this.waiting.length > 0) {
        this.#suspended = this.waiting[this.random(this.waiting.length)].life;
        this.#suspendedSteps = 150;
      }
      this.clock[this.random(2) === 0 ? 'step' : 'advance']((1 + this.random(60)) * HOUR_US);
    }
  }
}

interface Build {
  readonly adds: AddFile[];
  readonly txns: TxnMove[];
}

/** One hub for TURNS_PER_HUB turns, through as many lives as it takes. */
async function runHub(history: History): Promise<void> {
  for (let turn = 0; turn < TURNS_PER_HUB; turn++) {
    const life = { isDead: false };
    let isOver = false;
    // A dead life's promises never settle; the poll below is what notices.
    const living = live(history, life, () => turn++ < TURNS_PER_HUB).then(
      () => (isOver = true),
      (error: unknown) => {
        if (!isSluiceError(error)) throw error;
        history.saw(error.code);
        isOver = true;
      },
    );
    while (!life.isDead && !isOver) await Promise.race([living, new Promise((resolve) => setImmediate(resolve))]);
    if (life.isDead) history.saw('crash');
  }
}

async function live(history: History, life: Life, hasTurn: () => boolean): Promise<void> {
  const { random } = history;
  const store = history.client(life);
  const table = await DeltaTable.open(store, 'readings', READINGS, {
    clock: history.clock,
    hubId: 'hub',
    uuid: () => history.uuid(),
    checkpointFormat: jsonCheckpoints,
  });
  let doubt: Build | null = null;
  while (!life.isDead && hasTurn()) {
    const dice = random(20);
    if (dice < 2) await table.checkpoint();
    if (dice < 4) await cleanLog(table, null);
    if (dice < 6) await vacuum(table, null);
    if (dice === 6) await table.refresh();
    // After a commit in doubt: sometimes the same again, sometimes a new one.
    const again: Build | null = random(2) === 0 ? doubt : null;
    const { adds, txns }: Build = again ?? (await build(table, random));
    doubt = { adds, txns };
    try {
      const outcome = await table.tryCommit(request(adds, txns));
      history.saw(outcome.status);
      doubt = null;
      if (outcome.status !== 'committed') await table.discardStaged(adds.map((add) => add.path));
    } catch (error) {
      if (!isSluiceError(error) || error.code === 'ERR_LAKE_LOG_GAP') throw error;
      history.saw(error.code);
      if (random(2) === 0) await table.discardStaged(adds.map((add) => add.path));
      else continue;
      doubt = null;
    }
  }
}

/** A file with the next seqs of some lanes, as this hub believes them. */
async function build(table: DeltaTable, random: (below: number) => number): Promise<Build> {
  const txns: TxnMove[] = [];
  const rows: string[] = [];
  for (const appId of LANES) {
    if (random(2) === 0) continue;
    const from = positionOf(table.snapshot, appId);
    const to = from + 1 + random(3);
    for (let seq = from + 1; seq <= to; seq++) rows.push(`${appId} ${seq}`);
    txns.push({ appId, from, to });
  }
  return { adds: rows.length === 0 ? [] : [await stage(table, rows.join('\n'))], txns };
}

async function runHistory(seed: number): Promise<Map<string, number>> {
  const history = new History(seed);
  let isOver = false;
  let failure: unknown = null;
  void Promise.all(Array.from({ length: HUB_COUNT }, () => runHub(history)))
    .catch((error: unknown) => (failure = error))
    .finally(() => (isOver = true));
  while (!isOver) {
    await new Promise((resolve) => setImmediate(resolve));
    if (history.waiting.length > 0) await history.step();
  }
  if (failure !== null) throw failure;
  for (const put of history.late) await put();
  await checkConservation(history);
  return history.seen;
}

/** Every lane's seqs are in the table's files once each, without a hole, up to its position; and every file is there. */
async function checkConservation(history: History): Promise<void> {
  const table = await DeltaTable.open(history.store, 'readings', READINGS, {
    clock: history.clock,
    hubId: 'judge',
    checkpointFormat: jsonCheckpoints,
  });
  const seqs = new Map<string, number[]>(LANES.map((lane) => [lane, []]));
  for (const path of table.snapshot.files.keys()) {
    const bytes = await history.store.get(`readings/${path}`);
    expect(bytes, `${path} is in version ${table.version} and not in the store`).not.toBeNull();
    for (const row of new TextDecoder().decode(bytes).split('\n')) {
      const [lane, seq] = row.split(' ') as [string, string];
      seqs.get(lane)?.push(Number(seq));
    }
  }
  for (const [lane, found] of seqs) {
    const expected = Array.from({ length: positionOf(table.snapshot, lane) }, (_, index) => index + 1);
    expect(found.sort((a, b) => a - b)).toEqual(expected);
  }
}

test('whatever happens to hubs, answers, clocks and the log, every seq of a lane is in the table once', async () => {
  const totals = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 2 ** 31 - 1 }), async (seed) => {
      for (const [what, count] of await runHistory(seed)) totals.set(what, (totals.get(what) ?? 0) + count);
    }),
    { numRuns: 200 },
  );
  // A run in which nothing went wrong proves nothing.
  const often = ['committed', 'moved', 'crash', 'late', 'fail-after', 'jump'];
  for (const what of often) expect(totals.get(what) ?? 0, what).toBeGreaterThan(50);
  expect(totals.get('ERR_LAKE_COMMIT_UNKNOWN') ?? 0).toBeGreaterThan(0);
  if (process.env['SLUICE_TEST_VERBOSE'] !== undefined) process.stderr.write(`${JSON.stringify(Object.fromEntries(totals))}\n`);
}, 60_000);
