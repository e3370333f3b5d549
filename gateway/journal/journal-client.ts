/**
 * The journal as the main thread sees it: `writer` takes messages, and this object is what the uplink asks.
 *
 * Constraints: nothing here touches the disk; every answer that the interface calls durable has come back from the
 * journal's thread. What is asked often (backlog, watermark) is answered from the state that came with the last answer.
 * If the journal's thread dies, which only a defect brings about, `onFatal` is called and the process should end.
 */
import { randomBytes } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import type { JournalClock } from '../clock.ts';
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import { WATERMARK_POSITIONS_MAX, type Backlog, type LaneName } from '../../shared/uplink.ts';
import { workerUrl } from '../../shared/worker-url.ts';
import {
  GroupCommit,
  GROUP_COMMIT_DEFAULTS,
  type CommitOutcome,
  type CommitPort,
  type GroupCommitOptions,
  type GroupCommitStats,
} from './group-commit.ts';
import { groupBuffers, type Group } from './group.ts';
import type { JournalLane, OfferedBatch, UplinkJournal } from './journal-api.ts';
import { JOURNAL_DEFAULTS, type JournalOptions } from './journal.ts';
import { fromPlain, stampOf, type Call, type CallResult, type JournalReply, type JournalRequest, type Stamp } from './journal-messages.ts';
import { JournalServer } from './journal-server.ts';
import type { JournalState, JournalStats } from './journal-state.ts';
import { RedeliveryKeys } from './redelivery.ts';
import { NO_SESSIONS, type StoredSessions } from './sessions.ts';

type StorageOptions = Omit<JournalOptions, 'clock' | 'randomHex'>;
export type WorkerOptions = StorageOptions & { readonly stamp: Stamp; readonly boot: string | undefined };

export interface JournalClientOptions extends Partial<StorageOptions>, Partial<Omit<GroupCommitOptions, 'clock' | 'keys'>> {
  readonly directory: string;
  readonly clock: JournalClock;
  readonly sealIntervalMs?: number;
  /** 'worker' is the product; 'inline' runs SQLite on the caller's thread, with the caller's clock and randomness. */
  readonly thread?: 'worker' | 'inline';
  /** Only for 'inline'. */
  readonly randomHex?: (bytes: number) => string;
  /** For the operator: nothing can be stored (at most every TROUBLE_INTERVAL_MS), or the buffer has become full. */
  readonly onTrouble?: (error: SluiceError) => void;
  /** The journal's thread is gone. */
  readonly onFatal?: (error: Error) => void;
}

export const SEAL_INTERVAL_MS = 2_000;
/** A disk that stays full says so with every group. */
const TROUBLE_INTERVAL_MS = 10_000;
/** At the longest delay of acks by default, 1 s, readings are sealed every 10 s. */
const SEAL_DELAY_PER_ACK_DELAY = 8;
/** Columns live outside the heap of the journal's thread: it needs little for new objects, and by default takes 48. */
const WORKER_YOUNG_MB = 6;

interface Transport {
  post(request: JournalRequest, transfer: readonly ArrayBuffer[]): void;
  end(): Promise<void>;
}

export class JournalClient implements UplinkJournal, CommitPort {
  readonly writer: GroupCommit;
  readonly #transport: Transport;
  readonly #options: JournalClientOptions;
  #state: JournalState;
  /** The journal has done something since, and could not say how it stands. */
  #isStateOld = false;
  #sessions: StoredSessions = NO_SESSIONS;
  #commitAnswer: ((outcome: CommitOutcome) => void) | null = null;
  readonly #calls = new Map<number, { resolve: (result: CallResult) => void; reject: (error: Error) => void }>();
  #nextCall = 1;
  #troubleUs = -Infinity;
  readonly #sealedCallbacks: (() => void)[] = [];
  #cancelTick: () => void = () => {};
  #closed: (() => void) | null = null;

  /**
   * Opens the journal: damage is survived, what an earlier opening left is sealed.
   *
   * @throws SluiceError ERR_JOURNAL_VERSION, ERR_JOURNAL_LOCKED, ERR_JOURNAL_UNAVAILABLE
   */
  static open(options: JournalClientOptions): Promise<JournalClient> {
    return new Promise((resolve, reject) => {
      let client: JournalClient | null = null;
      const receive = (reply: JournalReply): void => {
        if (reply.type === 'ready') {
          const keys = new RedeliveryKeys();
          keys.replay(reply.keys);
          client = new JournalClient(options, transport, keys, reply.state);
          client.#sessions = reply.sessions;
          resolve(client);
        } else if (reply.type === 'refused') {
          void transport.end();
          reject(fromPlain(reply.error));
        } else if (client !== null) {
          client.#receive(reply);
        }
      };
      const fail = (error: Error): void => {
        if (client === null) reject(error);
        else client.#failAll(error);
      };
      const transport = options.thread === 'inline' ? inlineTransport(options, receive, reject) : workerTransport(options, receive, fail);
    });
  }

  private constructor(options: JournalClientOptions, transport: Transport, keys: RedeliveryKeys, state: JournalState) {
    this.#options = options;
    this.#transport = transport;
    this.#state = state;
    this.writer = new GroupCommit(this, { ...GROUP_COMMIT_DEFAULTS, ...definedOnly(options), clock: options.clock, keys });
    this.#scheduleTick();
  }

  get epoch(): string {
    return this.#state.epoch;
  }

  get lakeId(): string | null {
    return this.#state.lakeId;
  }

  /** What was stored of retained messages and persistent sessions before this opening; once. */
  takeSessions(): StoredSessions {
    const sessions = this.#sessions;
    this.#sessions = NO_SESSIONS;
    return sessions;
  }

  get accepting(): boolean {
    return this.#state.accepting;
  }

  /** What the journal knows of the wall clock from before this opening. */
  get clockMemory(): JournalState['clockMemory'] {
    return this.#state.clockMemory;
  }

  get clockKnown(): boolean {
    return this.#state.clockKnown;
  }

  commit(group: Group, answer: (outcome: CommitOutcome) => void): void {
    this.#commitAnswer = answer;
    this.#transport.post({ type: 'commit', stamp: stampOf(this.#options.clock), group }, groupBuffers(group.arrays));
  }

  async pinLake(lakeId: string): Promise<void> {
    await this.#call({ method: 'pinLake', lakeId });
  }

  async lanes(): Promise<JournalLane[]> {
    return (await this.#call({ method: 'lanes' })) as JournalLane[];
  }

  async offer(epoch: string, lane: LaneName, afterSeq: number, bytesMax: number): Promise<OfferedBatch[]> {
    return (await this.#call({ method: 'offer', epoch, lane, afterSeq, bytesMax })) as OfferedBatch[];
  }

  async free(epoch: string, lane: LaneName, seq: number): Promise<void> {
    await this.#call({ method: 'free', epoch, lane, seq });
  }

  async startNewEpoch(reason: string): Promise<void> {
    this.#options.onTrouble?.(new SluiceError('ERR_JOURNAL_UNAVAILABLE', `epoch ${this.epoch} is given up: ${reason}`));
    await this.#call({ method: 'startNewEpoch' });
    this.#announce();
  }

  backlog(): Backlog {
    const { readings, oldestUs, ...others } = this.#state.backlog;
    const oldestOpenUs = this.#oldestOpenUs();
    const oldest = oldestOpenUs === null ? oldestUs : Math.min(oldestUs ?? Infinity, oldestOpenUs);
    return { ...others, readings: readings + this.writer.unconfirmedReadings, oldestUs: oldest === null ? null : Math.max(0, oldest) };
  }

  watermark(): ReturnType<UplinkJournal['watermark']> {
    // Nothing may be asserted about rows that are stored and of which no state has told yet.
    if (!this.#state.clockKnown || this.#isStateOld || this.#state.positions.length > WATERMARK_POSITIONS_MAX) return null;
    const us = Math.min(this.#state.unsentUs ?? Infinity, this.#oldestOpenUs() ?? Infinity, this.#options.clock.nowUs());
    return { us: Math.max(0, us), positions: [...this.#state.positions] };
  }

  onSealed(callback: () => void): void {
    this.#sealedCallbacks.push(callback);
  }

  /** Seals what is there now, without waiting for the interval. */
  async seal(): Promise<void> {
    await this.#call({ method: 'seal' });
  }

  async stats(): Promise<{ journal: JournalStats; writer: GroupCommitStats }> {
    return { journal: (await this.#call({ method: 'stats' })) as JournalStats, writer: this.writer.stats() };
  }

  /** Commits what waits, calls back, closes the database. */
  async close(): Promise<void> {
    this.#cancelTick();
    await this.writer.close();
    await new Promise<void>((resolve) => {
      this.#closed = resolve;
      this.#transport.post({ type: 'close', stamp: stampOf(this.#options.clock) }, []);
    });
    await this.#transport.end();
    this.#failAll(new SluiceError('ERR_JOURNAL_CLOSED', 'the gateway is stopping'), false);
  }

  #oldestOpenUs(): number | null {
    const arrivalUs = this.writer.oldestArrivalUs;
    return arrivalUs === null ? null : arrivalUs + this.#options.clock.nowUs() - this.#options.clock.monotonicUs();
  }

  #call(call: Call): Promise<CallResult> {
    return new Promise((resolve, reject) => {
      const id = this.#nextCall++;
      this.#calls.set(id, { resolve, reject });
      this.#transport.post({ type: 'call', stamp: stampOf(this.#options.clock), id, call }, []);
    });
  }

  #receive(reply: Exclude<JournalReply, { type: 'ready' | 'refused' }>): void {
    if (reply.type === 'closed') {
      this.#closed?.();
      return;
    }
    // The state first: the watermark must know the group's rows before the group stops counting as unconfirmed.
    const sealedBefore = this.#state.sealed;
    const epochBefore = this.#state.epoch;
    const acceptingBefore = this.#state.accepting;
    if (reply.state !== null) this.#state = reply.state;
    if (acceptingBefore && !this.#state.accepting)
      this.#options.onTrouble?.(
        new SluiceError('ERR_JOURNAL_FULL', 'the buffer is full: nothing is taken until the hub has taken some of it'),
      );
    this.#isStateOld = reply.state === null;
    if (reply.type === 'committed') {
      const error = reply.error === null ? null : { from: reply.error.from, error: fromPlain(reply.error.error) };
      const failed = reply.failed.map(({ message, error: cause }) => ({ message, error: fromPlain(cause) }));
      if (error !== null) this.#trouble(error.error);
      this.#commitAnswer?.({ error, failed, arrays: reply.arrays });
    } else if (reply.type === 'answer') {
      const call = this.#calls.get(reply.id);
      this.#calls.delete(reply.id);
      if (reply.error === null) call?.resolve(reply.result);
      else call?.reject(fromPlain(reply.error));
    } else if (reply.error !== null) {
      this.#trouble(fromPlain(reply.error));
    }
    if (this.#state.sealed > sealedBefore || this.#state.epoch !== epochBefore) this.#announce();
  }

  #trouble(error: SluiceError): void {
    const nowUs = this.#options.clock.monotonicUs();
    if (nowUs - this.#troubleUs < TROUBLE_INTERVAL_MS * 1000) return;
    this.#troubleUs = nowUs;
    this.#options.onTrouble?.(error);
  }

  #announce(): void {
    for (const callback of this.#sealedCallbacks) callback();
  }

  #scheduleTick(): void {
    // A seal writes as much as a commit or two of few readings: where acks wait for the sake of the flash, it waits too.
    const delayMs = SEAL_DELAY_PER_ACK_DELAY * (this.#options.commitDelayMs?.() ?? 0);
    this.#cancelTick = this.#options.clock.after((this.#options.sealIntervalMs ?? SEAL_INTERVAL_MS) + delayMs, () => {
      this.#transport.post({ type: 'tick', stamp: stampOf(this.#options.clock) }, []);
      this.#scheduleTick();
    });
  }

  #failAll(error: Error, fatal = true): void {
    this.#cancelTick();
    for (const { reject } of this.#calls.values()) reject(error);
    this.#calls.clear();
    if (fatal) this.#options.onFatal?.(error);
  }
}

function storageOptions(options: JournalClientOptions): StorageOptions {
  return {
    directory: options.directory,
    bufferBytesMax: options.bufferBytesMax ?? JOURNAL_DEFAULTS.bufferBytesMax,
    bufferPolicy: options.bufferPolicy ?? JOURNAL_DEFAULTS.bufferPolicy,
    backfillAfterMs: options.backfillAfterMs ?? JOURNAL_DEFAULTS.backfillAfterMs,
    freeSpaceReserveBytes: options.freeSpaceReserveBytes ?? JOURNAL_DEFAULTS.freeSpaceReserveBytes,
    growWal: options.growWal ?? JOURNAL_DEFAULTS.growWal,
    batchBytesMax: options.batchBytesMax ?? JOURNAL_DEFAULTS.batchBytesMax,
    batchReadingsMax: options.batchReadingsMax ?? JOURNAL_DEFAULTS.batchReadingsMax,
    compression: options.compression ?? JOURNAL_DEFAULTS.compression,
  };
}

/** Spreading an option that is given as undefined would hide its default. */
function definedOnly<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;
}

function workerTransport(options: JournalClientOptions, receive: (reply: JournalReply) => void, fail: (error: Error) => void): Transport {
  const workerOptions: WorkerOptions = { ...storageOptions(options), stamp: stampOf(options.clock), boot: options.clock.boot };
  const worker = new Worker(workerUrl(import.meta.url, './journal-worker'), {
    workerData: workerOptions,
    name: 'journal',
    resourceLimits: { maxYoungGenerationSizeMb: WORKER_YOUNG_MB },
  });
  let ending = false;
  worker.on('message', receive);
  worker.on('error', (error: unknown) => fail(error instanceof Error ? error : new Error(errorMessage(error))));
  worker.on('exit', (code) => {
    if (!ending) fail(new Error(`the journal's thread ended with code ${code}`));
  });
  return {
    post: (request, transfer) => {
      ending ||= request.type === 'close';
      worker.postMessage(request, transfer);
    },
    end: async () => {
      ending = true;
      await worker.terminate();
    },
  };
}

function inlineTransport(options: JournalClientOptions, receive: (reply: JournalReply) => void, refuse: (error: Error) => void): Transport {
  const { clock } = options;
  const randomHex = options.randomHex ?? ((bytes: number) => randomBytes(bytes).toString('hex'));
  let server: JournalServer | null = null;
  queueMicrotask(() => {
    try {
      // Replies arrive later than the call that caused them, as they do from a thread.
      server = new JournalServer(
        { ...storageOptions(options), clock, randomHex },
        () => {},
        (reply) => queueMicrotask(() => receive(reply)),
      );
    } catch (error) {
      refuse(error instanceof Error ? error : new Error(errorMessage(error)));
    }
  });
  return { post: (request) => queueMicrotask(() => server?.request(request)), end: () => Promise.resolve() };
}
