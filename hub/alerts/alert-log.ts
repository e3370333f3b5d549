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
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { z } from 'zod';
import { SluiceError } from '../../shared/errors.ts';
import type { ObjectStore } from '../lake/store.ts';
import { entrySchema, snapshotSchema, type Draft, type Entry, type Snapshot } from './alert.ts';
import { AlertBook } from './alert-book.ts';

const LOG = '_sluice/alerts/log/';
const SNAPSHOTS = '_sluice/alerts/snapshot/';
/** Entries that a start has to read at most, about: each is a file. */
const SNAPSHOT_EVERY = 64;
const SLICE_ALERTS = 512;

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
    await log.#load(0);
    await log.refresh();
    return log;
  }

  get book(): AlertBook {
    return this.#book;
  }

  /** The newest snapshot behind a version that can be read. @returns whether there is one */
  async #load(behind: number): Promise<boolean> {
    for (const version of (await versions(this.#store, SNAPSHOTS)).reverse()) {
      if (version <= behind) break;
      const snapshot = await this.#readSnapshot(version);
      if (snapshot === null) continue;
      this.#book = AlertBook.fromSnapshot(snapshot);
      this.#snapshotVersion = version;
      return true;
    }
    return false;
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
    await this.#checkGap(this.#book.version);
    return this.#book.version !== before;
  }

  /** Entries behind this hub's version that others have deleted meanwhile: it was away for long. */
  async #checkGap(version: number): Promise<void> {
    const [later] = await this.#store.list(LOG, { startAfter: keyOf(LOG, version + 1), limit: 1 });
    if (later === undefined) return;
    if ((await this.#store.get(keyOf(LOG, version + 1))) !== null) return; // it came in between
    if (!(await this.#load(version)))
      throw new SluiceError('ERR_ALERT_LOG', `${keyOf(LOG, version + 1)} is missing in the lake, and ${later.key} is there: restore it`);
    await this.refresh();
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
    const entry: Entry = {
      ...{ format: 1, version, committedUs, hub: this.#hub, rules: { ...draft.rules }, frontiers: { ...draft.frontiers } },
      ...{ bases: (draft.bases ?? {}) as Entry['bases'], alerts: [...(draft.alerts ?? [])] },
    };
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
    await this.#store.putIfAbsent(keyOf(SNAPSHOTS, version), await snapshotBytes(this.#book));
    const snapshots = await versions(this.#store, SNAPSHOTS);
    const kept = snapshots.at(-2);
    if (kept === undefined) return;
    for (const own of await versions(this.#store, LOG)) if (own <= kept) await this.#store.delete(keyOf(LOG, own));
    for (const older of snapshots.slice(0, -2)) await this.#store.delete(keyOf(SNAPSHOTS, older));
  }
}

/** In slices of about 2 ms: the thread owns sockets. Nothing changes the book meanwhile but its own log. */
async function snapshotBytes(book: AlertBook): Promise<Buffer> {
  const { active, history, ...rest } = book.toSnapshot();
  const parts = [JSON.stringify(rest).slice(0, -1)];
  for (const [name, alerts] of Object.entries({ active, history })) {
    parts.push(`,"${name}":[`);
    for (let from = 0; from < alerts.length; from += SLICE_ALERTS) {
      const slice = JSON.stringify(alerts.slice(from, from + SLICE_ALERTS)).slice(1, -1);
      parts.push(from === 0 ? slice : `,${slice}`);
      await nextTurn();
    }
    parts.push(']');
  }
  return Buffer.from(`${parts.join('')}}`);
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
