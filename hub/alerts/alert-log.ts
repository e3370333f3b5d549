/**
 * Where rules and alerts are kept: a log of small JSON objects in the lake, one compare-and-set each.
 *
 * Purpose: alerts survive every hub, and with several hubs each transition is made once: whoever creates entry n + 1 first
 * has decided; the others take it in and evaluate again from there. The hub's own disk has nothing.
 *
 * Layout, n in ten digits:
 *   `_sluice/alerts/log/<n>.json`       entry n (alert.ts), put if absent: 1, 2, 3, … without holes
 *   `_sluice/alerts/snapshot/<n>.json`  what entries 1 … n add up to; of several hubs whoever is first writes it
 * Entries up to the snapshot before the newest are deleted, and older snapshots.
 *
 * Crash: before the put of an entry nothing has happened, and the windows are evaluated again; behind it the transition is
 * there, once. Between a snapshot and the deletions more is kept than is needed; the next snapshot deletes it. Snapshots go
 * before the entries that they stand for: who starts meanwhile finds one of them whole.
 *
 * Damage: a damaged snapshot is passed over for the one before it, whose entries are still there; a damaged entry ends what
 * can be known, and the log refuses to go on (ERR_ALERT_LOG) rather than to forget that something fires.
 *
 * It does not evaluate anything.
 */
import type { z } from 'zod';
import { SluiceError } from '../../shared/errors.ts';
import type { ObjectStore } from '../lake/store.ts';
import { entrySchema, snapshotSchema, type Draft, type Entry, type Snapshot } from './alert.ts';
import { AlertBook } from './alert-book.ts';

const LOG = '_sluice/alerts/log/';
const SNAPSHOTS = '_sluice/alerts/snapshot/';
/** Entries that a start has to read at most, about: each is a file. */
const SNAPSHOT_EVERY = 64;

export type AlertStore = Pick<ObjectStore, 'putIfAbsent' | 'get' | 'list' | 'delete'>;

function keyOf(folder: string, version: number): string {
  return `${folder}${String(version).padStart(10, '0')}.json`;
}

function versionOf(folder: string, key: string): number | null {
  const match = /^([0-9]{10})\.json$/.exec(key.slice(folder.length));
  return match === null ? null : Number(match[1]);
}

export class AlertLog {
  readonly #store: AlertStore;
  readonly #hub: string;
  /** The entry is there all the same. */
  readonly #warn: (error: unknown) => void;
  #book = new AlertBook();
  /** Of the newest that this hub knows, or has tried to write. */
  #snapshotVersion = 0;

  private constructor(store: AlertStore, hub: string, warn: (error: unknown) => void) {
    this.#store = store;
    this.#hub = hub;
    this.#warn = warn;
  }

  /**
   * @param warn told of a snapshot that could not be written
   * @throws SluiceError ERR_ALERT_LOG, ERR_STORE_*
   */
  static async open(store: AlertStore, hub: string, warn: (error: unknown) => void): Promise<AlertLog> {
    const log = new AlertLog(store, hub, warn);
    await log.#load();
    return log;
  }

  get book(): AlertBook {
    return this.#book;
  }

  async #load(): Promise<void> {
    const snapshots = await versions(this.#store, SNAPSHOTS);
    for (const version of snapshots.reverse()) {
      const snapshot = await this.#readSnapshot(version);
      if (snapshot === null) continue;
      this.#book = AlertBook.fromSnapshot(snapshot);
      this.#snapshotVersion = version;
      break;
    }
    await this.refresh();
  }

  async #readSnapshot(version: number): Promise<Snapshot | null> {
    const bytes = await this.#store.get(keyOf(SNAPSHOTS, version));
    return bytes === null ? null : parse(bytes, snapshotSchema);
  }

  /**
   * Takes in what other hubs have added.
   *
   * @returns whether there was something
   * @throws SluiceError ERR_ALERT_LOG, ERR_STORE_*
   */
  async refresh(): Promise<boolean> {
    const before = this.#book.version;
    for (;;) {
      const next = this.#book.version + 1;
      const bytes = await this.#store.get(keyOf(LOG, next));
      if (bytes === null) break;
      const entry = parse(bytes, entrySchema);
      if (entry === null || entry.version !== next)
        throw new SluiceError(
          'ERR_ALERT_LOG',
          `${keyOf(LOG, next)} in the lake is damaged: restore it, or delete _sluice/alerts to start anew`,
        );
      this.#book.apply(entry);
    }
    if (this.#book.version === before) await this.#checkGap(before);
    return this.#book.version !== before;
  }

  /** Entries behind this hub's version that others have deleted meanwhile: it was away for long. */
  async #checkGap(version: number): Promise<void> {
    const [later] = await this.#store.list(LOG, { startAfter: keyOf(LOG, version + 1), limit: 1 });
    if (later === undefined) return;
    if ((await this.#store.get(keyOf(LOG, version + 1))) !== null) return; // it came in between
    const newest = (await versions(this.#store, SNAPSHOTS)).at(-1) ?? 0;
    if (newest <= version)
      throw new SluiceError('ERR_ALERT_LOG', `${keyOf(LOG, version + 1)} is missing in the lake, and ${later.key} is there: restore it`);
    await this.#load();
  }

  /**
   * Adds an entry behind the version that the draft was made from.
   *
   * @param nowUs hub wall clock
   * @returns the entry; null: another hub was first, and its entries have been taken in
   * @throws SluiceError ERR_ALERT_LOG, ERR_STORE_*: it may have been added; the next refresh tells
   */
  async append(draft: Draft, nowUs: number): Promise<Entry | null> {
    const version = this.#book.version + 1;
    const committedUs = this.nextUs(nowUs);
    const entry = entrySchema.parse({ format: 1, version, committedUs, hub: this.#hub, ...draft });
    if ((await this.#store.putIfAbsent(keyOf(LOG, version), Buffer.from(JSON.stringify(entry)))) === 'exists') {
      await this.refresh();
      return null;
    }
    this.#book.apply(entry);
    if (version - this.#snapshotVersion >= SNAPSHOT_EVERY) {
      this.#snapshotVersion = version;
      await this.#snapshot().catch((error: unknown) => this.#warn(error));
    }
    return entry;
  }

  /** What an entry made now says about its time: the order of entries is the order of their times. */
  nextUs(nowUs: number): number {
    return Math.max(nowUs, this.#book.committedUs + 1);
  }

  async #snapshot(): Promise<void> {
    const { version } = this.#book;
    await this.#store.putIfAbsent(keyOf(SNAPSHOTS, version), Buffer.from(JSON.stringify(this.#book.toSnapshot())));
    const snapshots = await versions(this.#store, SNAPSHOTS);
    const kept = snapshots.at(-2);
    if (kept === undefined) return;
    for (const own of await versions(this.#store, LOG)) if (own <= kept) await this.#store.delete(keyOf(LOG, own));
    for (const older of snapshots.slice(0, -2)) await this.#store.delete(keyOf(SNAPSHOTS, older));
  }
}

/** Ascending. */
async function versions(store: AlertStore, folder: string): Promise<number[]> {
  return (await store.list(folder)).map(({ key }) => versionOf(folder, key)).filter((version) => version !== null);
}

function parse<T>(bytes: Uint8Array, schema: z.ZodType<T>): T | null {
  try {
    return schema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
  } catch {
    return null; // the caller says what it goes on with
  }
}
