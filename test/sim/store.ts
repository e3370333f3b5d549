/**
 * An object store as a hub meets it: requests travel, take effect, and are answered, or are not.
 *
 * A request that was sent takes effect even if its sender has died meanwhile, and one whose answer was an error may take
 * effect long after it: both are what "ambiguous" means.
 */
import { SluiceError } from '../../shared/errors.ts';
import type { LakePartial } from '../../hub/engine.fixture.ts';
import type { ListOptions, ObjectInfo, ObjectStore } from '../../hub/lake/store.ts';
import type { SimRandom } from './random.ts';
import type { SimProcess } from './scheduler.ts';

export interface StoreConditions {
  latencyMsMax: number;
  /** Of requests that never take effect, of answers that get lost, of writes that take effect after their error. */
  failRatio: number;
  lostAnswerRatio: number;
  lateRatio: number;
}

export const CALM_STORE: Readonly<StoreConditions> = { latencyMsMax: 10, failRatio: 0, lostAnswerRatio: 0, lateRatio: 0 };

/** A write may be held up on its way for so long after its sender was told of an error. */
const LATE_MS_MAX = 5_000;

export interface StoreBacking {
  /** Replaced when an older state of the lake is restored. */
  readonly objects: ObjectStore;
  readonly conditions: StoreConditions;
  created(key: string, bytes: Uint8Array): void;
  /** Files of `aggregates` that a check has read; names are never used twice. */
  readonly partials: Map<string, readonly LakePartial[]>;
}

export class SimStore implements ObjectStore {
  readonly #process: SimProcess;
  readonly #backing: StoreBacking;
  readonly #random: SimRandom;

  constructor(process: SimProcess, backing: StoreBacking, random: SimRandom) {
    this.#process = process;
    this.#backing = backing;
    this.#random = random;
  }

  putIfAbsent(key: string, bytes: Uint8Array): Promise<'created' | 'exists'> {
    return this.#request(key, true, async (objects) => {
      const answer = await objects.putIfAbsent(key, bytes);
      if (answer === 'created' && objects === this.#backing.objects) this.#backing.created(key, bytes);
      return answer;
    });
  }

  put(key: string, bytes: Uint8Array): Promise<void> {
    return this.#request(key, true, (objects) => objects.put(key, bytes));
  }

  get(key: string): Promise<Uint8Array | null> {
    return this.#request(key, false, (objects) => objects.get(key));
  }

  getRange(key: string, start: number, end: number): Promise<Uint8Array | null> {
    return this.#request(key, false, (objects) => objects.getRange(key, start, end));
  }

  stat(key: string): Promise<ObjectInfo | null> {
    return this.#request(key, false, (objects) => objects.stat(key));
  }

  list(prefix: string, options?: ListOptions): Promise<ObjectInfo[]> {
    return this.#request(prefix, false, (objects) => objects.list(prefix, options));
  }

  delete(key: string): Promise<void> {
    // Not late: a delete that comes hours after its error could meet a new object of the same name in no store with unique names.
    return this.#request(key, false, (objects) => objects.delete(key));
  }

  settle(key: string): Promise<void> {
    return this.#request(key, false, (objects) => objects.settle(key));
  }

  #request<T>(key: string, isWrite: boolean, act: (objects: ObjectStore) => Promise<T>): Promise<T> {
    const random = this.#random;
    const { objects, conditions } = this.#backing;
    const { scheduler } = this.#process;
    const wayUs = (): number => random.between(0, (conditions.latencyMsMax * 1000) / 2);
    const drawn = random.next();
    const { failRatio, lostAnswerRatio, lateRatio } = conditions;
    const isFailed = drawn < failRatio;
    const isLost = !isFailed && drawn < failRatio + lostAnswerRatio;
    const isLate = !isFailed && !isLost && isWrite && drawn < failRatio + lostAnswerRatio + lateRatio;
    return new Promise<T>((resolve, reject) => {
      const answer = (settle: () => void): void => void this.#process.deliver(wayUs(), settle);
      const fail = (): void => answer(() => reject(new SluiceError('ERR_STORE_IO', `simulated: ${key}`)));
      if (!this.#process.alive) return;
      scheduler.after(wayUs(), () => {
        if (isFailed) fail();
        else if (isLate) {
          fail();
          scheduler.after(random.between(0, LATE_MS_MAX * 1000), () => void act(objects));
        } else {
          void act(objects).then(
            (value) => (isLost ? fail() : answer(() => resolve(value))),
            (error: unknown) => answer(() => reject(error instanceof Error ? error : new Error(String(error)))),
          );
        }
      });
    });
  }
}
