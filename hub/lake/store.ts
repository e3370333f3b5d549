/**
 * The one interface to wherever the lake lies: a local directory, memory, S3, Azure.
 *
 * Keys are '/'-separated relative paths of printable ASCII (see `validateKey`). Objects are written whole and become
 * visible whole. What a store answers as done is durable: fsynced, or acknowledged by the object store.
 *
 * Errors are SluiceErrors with codes ERR_STORE_*; `cause` is the adapter's error. A write that throws is **ambiguous**:
 * it may have happened, or may happen yet. The caller reads back before it concludes anything.
 */
import { SluiceError } from '../../shared/errors.ts';

export interface ObjectInfo {
  readonly key: string;
  /** Bytes. */
  readonly size: number;
  /** By the store's clock: milliseconds since the Unix epoch. */
  readonly modifiedMs: number;
}

export interface ListOptions {
  /** Only keys that sort behind this one; it need not exist. */
  readonly startAfter?: string;
  /** At most so many, 1 .. LIST_LIMIT_MAX (the default). */
  readonly limit?: number;
}

export interface ObjectStore {
  /** Creates the object, or leaves an existing one alone. 'exists' is answered only for what is durable. */
  putIfAbsent(key: string, bytes: Uint8Array): Promise<'created' | 'exists'>;
  /** Creates or replaces the object; readers see the old bytes or the new, whole. */
  put(key: string, bytes: Uint8Array): Promise<void>;
  get(key: string): Promise<Uint8Array | null>;
  /** Bytes [start, end), cut at the object's end; null if there is no object. */
  getRange(key: string, start: number, end: number): Promise<Uint8Array | null>;
  stat(key: string): Promise<ObjectInfo | null>;
  /** Objects whose key begins with `prefix` (a string prefix, not a folder), sorted by key. */
  list(prefix: string, options?: ListOptions): Promise<ObjectInfo[]>;
  /** Deletes the object; no object is no error. */
  delete(key: string): Promise<void>;
  /**
   * Returns when the object under `key`, which the caller has just read, survives a crash, and so does every object of
   * the same folder that could be read before. A local directory shows a name before its directory is fsynced, by this
   * process or another; object stores have nothing to do here.
   */
  settle(key: string): Promise<void>;
}

/** A page of a listing: about 1 MB of names; S3 and Azure page at 1,000 and 5,000 underneath. */
export const LIST_LIMIT_MAX = 10_000;

/** S3's and Azure's bound of a key, in bytes. */
const KEY_BYTES_MAX = 1024;

/** @throws SluiceError ERR_STORE_KEY: absolute, empty segment, '.' or '..', a backslash, not printable ASCII, or too long. */
export function validateKey(key: string): void {
  if (!isValidKey(key)) throw new SluiceError('ERR_STORE_KEY', `the object key ${JSON.stringify(key.slice(0, 200))} is not valid`);
}

export function isValidKey(key: string): boolean {
  if (key.length === 0 || key.length > KEY_BYTES_MAX || !/^[\x20-\x7e]+$/.test(key) || key.includes('\\')) return false;
  return key.split('/').every((segment) => segment !== '' && segment !== '.' && segment !== '..');
}

/** @throws SluiceError ERR_STORE_KEY: a prefix that no valid key can begin with. */
export function validatePrefix(prefix: string): void {
  validateKey(prefix === '' || prefix.endsWith('/') ? `${prefix}x` : prefix);
}

/** @throws SluiceError ERR_STORE_RANGE */
export function validateRange(start: number, end: number): void {
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start < 0 || end < start) {
    throw new SluiceError('ERR_STORE_RANGE', `the byte range [${start}, ${end}) is not valid`);
  }
}

export function listLimit(options: ListOptions | undefined): number {
  return Math.max(1, Math.min(options?.limit ?? LIST_LIMIT_MAX, LIST_LIMIT_MAX));
}

/** All objects under `prefix`, page by page. */
export async function* listAll(store: ObjectStore, prefix: string, startAfter?: string): AsyncGenerator<ObjectInfo> {
  let after = startAfter;
  for (;;) {
    const page = await store.list(prefix, after === undefined ? {} : { startAfter: after });
    yield* page;
    const last = page.at(-1);
    if (last === undefined) return;
    after = last.key;
  }
}
