/** A journal in memory whose commits happen when a test says so, or by themselves. For tests. */
import type { ExceptionRecord } from '../../shared/exception.ts';
import { CollectingSink, type CollectedReading } from '../decode/test-sink.ts';
import type { JournalWriter, MessageOptions, ReadingSink, RedeliveryKey } from '../journal/journal-api.ts';
import { BoundedSeriesRegistry } from '../journal/registry.ts';
import type { SessionChange } from '../journal/sessions.ts';

type Done = (error: Error | null) => void;

interface Uncommitted {
  readonly readings: readonly CollectedReading[];
  readonly exceptions: readonly ExceptionRecord[];
  readonly options: MessageOptions;
}

export class MemoryJournal implements JournalWriter {
  readonly series = new BoundedSeriesRegistry();
  /** Durable, in order. */
  readonly readings: CollectedReading[] = [];
  readonly exceptions: ExceptionRecord[] = [];
  /** false: commits wait for `commit()`. */
  automatic = true;
  /** Thrown by the next `message` calls. */
  refuse: Error | null = null;
  #group: Uncommitted[] = [];
  #waiters: Done[] = [];
  readonly #keys = new Map<string, { hash: number; durable: boolean }>();
  readonly #open = new Set<string>();
  readonly #idempotent = new Set<string>();
  readonly #positions = new Map<string, number>();
  #scheduled = false;

  get uncommitted(): number {
    return this.#group.length;
  }

  message(decode: (sink: ReadingSink) => void, options: MessageOptions): void {
    if (this.refuse !== null) throw this.refuse;
    const sink = new CollectingSink(this.series);
    decode(sink);
    this.#group.push({ readings: sink.readings, exceptions: sink.exceptions, options });
    const { redelivery, idempotencyKey } = options;
    if (redelivery?.qos === 1) this.#keys.set(keyOf(redelivery), { hash: redelivery.hash, durable: false });
    if (redelivery?.qos === 2) this.#open.add(openKey(redelivery.clientId, redelivery.messageId));
    if (idempotencyKey !== null) this.#idempotent.add(idempotencyKey);
    this.#schedule();
  }

  commit(error: Error | null = null): void {
    const group = this.#group;
    const waiters = this.#waiters;
    this.#group = [];
    this.#waiters = [];
    for (const message of group) {
      if (error === null) {
        this.readings.push(...message.readings);
        this.exceptions.push(...message.exceptions);
        this.changes.push(...(message.options.changes ?? []));
      } else if (message.options.redelivery !== null) this.#keys.delete(keyOf(message.options.redelivery));
      const { position } = message.options;
      if (error === null && position !== undefined) this.#positions.set(position.source, position.at);
      message.options.done?.(error, message.options.ticket ?? 0);
    }
    for (const waiter of waiters) waiter(error);
  }

  isRedelivery(key: RedeliveryKey, whenDurable: Done): boolean {
    const known = key.qos === 2 ? this.qos2Open(key.clientId, key.messageId) : this.#keys.get(keyOf(key))?.hash === key.hash;
    if (known) this.#wait(whenDurable);
    return known;
  }

  qos2Open(clientId: string, messageId: number): boolean {
    return this.#open.has(openKey(clientId, messageId));
  }

  qos2Release(clientId: string, messageId: number, done: Done): void {
    this.#open.delete(openKey(clientId, messageId));
    this.#wait(done);
  }

  /** Durable changes, in order. */
  readonly changes: SessionChange[] = [];

  sessionChanges(changes: readonly SessionChange[], done: Done | null): void {
    this.#group.push({ readings: [], exceptions: [], options: { redelivery: null, idempotencyKey: null, changes, done } });
    this.#schedule();
  }

  isIdempotent(key: string, whenDurable: Done): boolean {
    const known = this.#idempotent.has(key);
    if (known) this.#wait(whenDurable);
    return known;
  }

  sourcePosition(source: string): number | null {
    return this.#positions.get(source) ?? null;
  }

  #wait(done: Done): void {
    this.#waiters.push(done);
    this.#schedule();
  }

  #schedule(): void {
    if (!this.automatic || this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (this.automatic) this.commit();
    });
  }
}

function openKey(clientId: string, messageId: number): string {
  return `${clientId} ${messageId}`;
}

function keyOf(key: RedeliveryKey): string {
  return openKey(key.clientId, key.messageId);
}
