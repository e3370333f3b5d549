/**
 * An object store in memory: for simulation and tests. It keeps the contract of every store, and can be told to fail.
 *
 * The hook sees every operation before it runs, and may wait (latency, an interleaving) and answer a fault:
 * 'fail-before' throws and nothing happened, 'fail-after' does it and throws all the same, as a lost answer does.
 */
import { SluiceError } from '../../shared/errors.ts';
import type { Clock } from '../../shared/clock.ts';
import { listLimit, validateKey, validatePrefix, validateRange, type ListOptions, type ObjectInfo, type ObjectStore } from './store.ts';

export type StoreOperation = 'putIfAbsent' | 'put' | 'get' | 'getRange' | 'stat' | 'list' | 'delete' | 'settle';
export type StoreFault = 'fail-before' | 'fail-after';
export type StoreHook = (operation: StoreOperation, key: string) => Promise<StoreFault | null> | StoreFault | null;

interface StoredObject {
  readonly bytes: Uint8Array;
  readonly modifiedMs: number;
}

export class MemoryStore implements ObjectStore {
  readonly #clock: Pick<Clock, 'nowUs'>;
  #objects: Map<string, StoredObject>;
  /** Set or replaced at any time. */
  hook: StoreHook | null = null;

  constructor(clock: Pick<Clock, 'nowUs'>) {
    this.#clock = clock;
    this.#objects = new Map();
  }

  /** Another client of the same objects, with a hook of its own. */
  client(hook: StoreHook | null = null): MemoryStore {
    const other = new MemoryStore(this.#clock);
    // A private field of the same class: the objects are shared, the hook is not.
    other.#objects = this.#objects;
    other.hook = hook;
    return other;
  }

  putIfAbsent(key: string, bytes: Uint8Array): Promise<'created' | 'exists'> {
    return this.#run('putIfAbsent', key, () => {
      if (this.#objects.has(key)) return 'exists';
      this.#set(key, bytes);
      return 'created';
    });
  }

  put(key: string, bytes: Uint8Array): Promise<void> {
    return this.#run('put', key, () => this.#set(key, bytes));
  }

  get(key: string): Promise<Uint8Array | null> {
    return this.#run('get', key, () => this.#objects.get(key)?.bytes.slice() ?? null);
  }

  async getRange(key: string, start: number, end: number): Promise<Uint8Array | null> {
    validateRange(start, end);
    return this.#run('getRange', key, () => this.#objects.get(key)?.bytes.slice(start, end) ?? null);
  }

  stat(key: string): Promise<ObjectInfo | null> {
    return this.#run('stat', key, () => {
      const object = this.#objects.get(key);
      return object === undefined ? null : { key, size: object.bytes.length, modifiedMs: object.modifiedMs };
    });
  }

  async list(prefix: string, options?: ListOptions): Promise<ObjectInfo[]> {
    validatePrefix(prefix);
    return this.#run('list', prefix, () => {
      const after = options?.startAfter;
      const keys = [...this.#objects.keys()].filter((key) => key.startsWith(prefix) && (after === undefined || key > after)).sort();
      return keys.slice(0, listLimit(options)).map((key) => {
        const object = this.#objects.get(key) as StoredObject;
        return { key, size: object.bytes.length, modifiedMs: object.modifiedMs };
      });
    });
  }

  delete(key: string): Promise<void> {
    return this.#run('delete', key, () => void this.#objects.delete(key));
  }

  settle(key: string): Promise<void> {
    return this.#run('settle', key, () => undefined);
  }

  #set(key: string, bytes: Uint8Array): void {
    this.#objects.set(key, { bytes: bytes.slice(), modifiedMs: Math.floor(this.#clock.nowUs() / 1000) });
  }

  async #run<T>(operation: StoreOperation, key: string, act: () => T): Promise<T> {
    if (operation !== 'list') validateKey(key);
    const fault = (await this.hook?.(operation, key)) ?? null;
    if (fault === 'fail-before') throw injected(operation, key);
    const answer = act();
    if (fault === 'fail-after') throw injected(operation, key);
    return answer;
  }
}

function injected(operation: StoreOperation, key: string): SluiceError {
  return new SluiceError('ERR_STORE_IO', `injected fault: ${operation} of ${key}`);
}
