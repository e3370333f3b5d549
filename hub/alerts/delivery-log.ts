/**
 * How far a receiver has been told, in the lake, and which hub tells it.
 *
 * Layout, n in ten digits: `_sluice/alerts/receivers/<name>/<n>.json`, put if absent; the one with the highest n counts. It
 * names the hub that wrote it, the holder, the place that everything is delivered up to, and the time of the last repeats.
 * The newest KEPT stay: a hub that has read a list and is slower than so many writes of the others could create a number
 * that was deleted again. It would see at its next look that it holds nothing, and what it sent meanwhile was sent twice.
 *
 * Crash: before a put the alerts of the request are delivered and not noted, so they are delivered again; behind it they are
 * noted. Between a put and the deletions more is kept than is needed; the next put deletes it.
 *
 * Damage: a record that cannot be read is passed over for the one before it: what came between is delivered twice. Without any
 * the receiver is new: what fires is told, what has ended is not.
 */
import { z } from 'zod';
import type { AlertStore } from './alert-log.ts';
import type { Delivered } from './notification.ts';

const FOLDER = '_sluice/alerts/receivers/';
const KEPT = 8;

const recordSchema = z.object({
  format: z.literal(1),
  /** '': nobody holds it. */
  hub: z.string(),
  version: z.int().min(0),
  rule: z.string(),
  id: z.string(),
  createdUs: z.number(),
  repeatedUs: z.number(),
});

export class DeliveryLog {
  readonly #store: AlertStore;
  readonly #folder: string;
  readonly #hub: string;
  #number = 0;
  #holder = '';
  #delivered: Delivered | null = null;

  constructor(store: AlertStore, receiver: string, hub: string) {
    this.#store = store;
    this.#folder = `${FOLDER}${receiver}/`;
    this.#hub = hub;
  }

  /** Of the newest record that this hub has read; 0: none. */
  get number(): number {
    return this.#number;
  }

  /** null: the receiver is new. */
  get delivered(): Delivered | null {
    return this.#delivered;
  }

  get isOwn(): boolean {
    return this.#holder === this.#hub;
  }

  get isFree(): boolean {
    return this.#holder === '';
  }

  /** The receiver counts as new from now on, for this hub until it reads another record. */
  forget(): void {
    this.#delivered = null;
  }

  /** @throws SluiceError ERR_STORE_* */
  async refresh(): Promise<void> {
    const numbers = await this.#numbers();
    const newest = numbers.at(-1) ?? 0;
    if (newest === this.#number) return;
    this.#number = newest;
    for (const number of numbers.reverse()) {
      const bytes = await this.#store.get(this.#key(number));
      const record = bytes === null ? null : parse(bytes);
      if (record === null) continue;
      const { hub, version, rule, id, createdUs, repeatedUs } = record;
      this.#holder = hub;
      this.#delivered = { version, rule, id, createdUs, repeatedUs };
      return;
    }
    this.#holder = '';
    this.#delivered = null;
  }

  /**
   * @param holder this hub, or '' to let others go on at once
   * @returns whether it was noted; false: another hub was first
   * @throws SluiceError ERR_STORE_*: it may have been noted; the next refresh tells
   */
  async note({ version, rule, id, createdUs, repeatedUs }: Delivered, holder = this.#hub): Promise<boolean> {
    const record = { format: 1, hub: holder, version, rule, id, createdUs, repeatedUs };
    const number = this.#number + 1;
    if ((await this.#store.putIfAbsent(this.#key(number), Buffer.from(JSON.stringify(record)))) === 'exists') return false;
    this.#number = number;
    this.#holder = holder;
    this.#delivered = { version, rule, id, createdUs, repeatedUs };
    for (const old of (await this.#numbers()).slice(0, -KEPT)) await this.#store.delete(this.#key(old));
    return true;
  }

  #key(number: number): string {
    return `${this.#folder}${String(number).padStart(10, '0')}.json`;
  }

  /** Ascending. */
  async #numbers(): Promise<number[]> {
    const numbers = (await this.#store.list(this.#folder)).map(({ key }) => /^([0-9]{10})\.json$/.exec(key.slice(this.#folder.length)));
    return numbers.flatMap((match) => (match === null ? [] : [Number(match[1])]));
  }
}

function parse(bytes: Uint8Array): z.output<typeof recordSchema> | null {
  try {
    return recordSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
  } catch {
    return null; // the caller goes on with the one before it
  }
}
