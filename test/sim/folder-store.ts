/**
 * An object store of plain files, on the simulation's clock: what is stored takes no memory of the process whose memory is
 * measured. Every call is done when it returns, as the simulated store's requests need it.
 *
 * It is no store for a product: nothing is synced, and a crash of the process may leave a part of an object.
 */
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { listLimit, type ListOptions, type ObjectInfo, type ObjectStore } from '../../hub/lake/store.ts';
import type { Clock } from '../../shared/clock.ts';

export class FolderStore implements ObjectStore {
  readonly #root: string;
  readonly #clock: Pick<Clock, 'nowUs'>;
  readonly #folders = new Set<string>();

  /** @param root empty or absent; better in memory */
  constructor(root: string, clock: Pick<Clock, 'nowUs'>) {
    this.#root = root;
    this.#clock = clock;
  }

  async putIfAbsent(key: string, bytes: Uint8Array): Promise<'created' | 'exists'> {
    if (existsSync(this.#file(key))) return 'exists';
    await this.put(key, bytes);
    return 'created';
  }

  put(key: string, bytes: Uint8Array): Promise<void> {
    const file = this.#file(key);
    const folder = path.dirname(file);
    if (!this.#folders.has(folder)) mkdirSync(folder, { recursive: true });
    this.#folders.add(folder);
    writeFileSync(file, bytes);
    const seconds = this.#clock.nowUs() / 1e6;
    utimesSync(file, seconds, seconds);
    return Promise.resolve();
  }

  get(key: string): Promise<Uint8Array | null> {
    const file = this.#file(key);
    return Promise.resolve(existsSync(file) ? new Uint8Array(readFileSync(file)) : null);
  }

  async getRange(key: string, start: number, end: number): Promise<Uint8Array | null> {
    return (await this.get(key))?.slice(start, end) ?? null;
  }

  stat(key: string): Promise<ObjectInfo | null> {
    return Promise.resolve(existsSync(this.#file(key)) ? this.#info(key) : null);
  }

  list(prefix: string, options?: ListOptions): Promise<ObjectInfo[]> {
    const folder = this.#file(prefix.slice(0, prefix.lastIndexOf('/') + 1));
    if (!existsSync(folder)) return Promise.resolve([]);
    const after = options?.startAfter ?? '';
    const keys = readdirSync(folder, { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isFile())
      .map((entry) => path.relative(this.#root, path.join(entry.parentPath, entry.name)))
      .filter((key) => key.startsWith(prefix) && key > after)
      .sort();
    return Promise.resolve(keys.slice(0, listLimit(options)).map((key) => this.#info(key)));
  }

  delete(key: string): Promise<void> {
    rmSync(this.#file(key), { force: true });
    return Promise.resolve();
  }

  settle(): Promise<void> {
    return Promise.resolve();
  }

  #file(key: string): string {
    return path.join(this.#root, key);
  }

  #info(key: string): ObjectInfo {
    const { size, mtimeMs } = statSync(this.#file(key));
    return { key, size, modifiedMs: Math.round(mtimeMs) };
  }
}
