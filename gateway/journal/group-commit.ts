/**
 * The group commit on the thread that owns the sockets: gathers messages while the journal commits the group before.
 *
 * Constraints: a commit starts when the previous one is done and something waits for it, at the end of the current turn of
 * the event loop (setImmediate), so that all packets of all sockets that were readable share it. No timer stands between
 * a message and its commit, because stop-and-wait clients would pay it every time, unless the flash budget asks for one
 * (`commitDelayMs`): then a commit starts late enough to share its fsync, and early enough for the ack. QoS 0 rides along, alone at most
 * `quietDelayMsMax`. Callbacks are called in the order of the messages, a whole group at once.
 *
 * Bounded: at most one group is with the journal and one gathers; past `readingsWaitingMax` or `bytesWaitingMax`, or while
 * the journal accepts nothing, messages are not decoded: their callbacks are held for `holdMs` (which slows devices down)
 * and then fail, so that the devices keep the data. What had no callback is counted and becomes a gap.
 *
 * A crash loses what was not acknowledged. It does not talk to SQLite: a `CommitPort` does.
 */
import type { Clock } from '../../shared/clock.ts';
import { SluiceError } from '../../shared/errors.ts';
import {
  KEY_IDEMPOTENCY,
  KEY_POSITION,
  KEY_QOS1,
  KEY_QOS2_OPEN,
  KEY_QOS2_RELEASE,
  OpenGroup,
  allocateGroupArrays,
  type Group,
  type GroupArrays,
} from './group.ts';
import type { JournalWriter, MessageOptions, ReadingSink, RedeliveryKey, SourcePosition } from './journal-api.ts';
import { idempotencyDigest, type RedeliveryKeys } from './redelivery.ts';
import { BoundedSeriesRegistry } from './registry.ts';
import type { SessionChange } from './sessions.ts';

export interface CommitOutcome {
  /** Nothing of the group from message `from` on is stored. */
  readonly error: { readonly from: number; readonly error: SluiceError } | null;
  /** Messages that alone could not be stored. */
  readonly failed: readonly { readonly message: number; readonly error: SluiceError }[];
  /** The arrays of the group, to be filled again. */
  readonly arrays: GroupArrays;
}

export interface CommitPort {
  /** Stores a group and answers once. Groups are stored in the order of the calls. */
  commit(group: Group, answer: (outcome: CommitOutcome) => void): void;
  /** false: the journal would refuse. */
  readonly accepting: boolean;
}

export interface GroupCommitOptions {
  readonly clock: Clock;
  /** What earlier openings knew; this object takes it over. */
  readonly keys: RedeliveryKeys;
  readonly seriesMax: number;
  readonly readingsWaitingMax: number;
  readonly bytesWaitingMax: number;
  /** Held callbacks; more fail at once. */
  readonly heldMax: number;
  readonly holdMs: number;
  readonly quietDelayMsMax: number;
  /** How long the oldest message that waits for an ack may wait before its commit starts, for the sake of the flash; 0: not at all. */
  readonly commitDelayMs: () => number;
  /** Sees each group on its way to the journal; what it is given is valid during the call. */
  readonly onGroup?: (columns: Pick<GroupArrays, 'series' | 'value'>, readings: number) => void;
  /** Runs a callback at the end of this turn of the event loop. */
  readonly defer: (callback: () => void) => void;
}

export const GROUP_COMMIT_DEFAULTS = {
  seriesMax: 100_000,
  // About 8 MB of columns: a second of full load behind a commit that hangs.
  readingsWaitingMax: 262_144,
  bytesWaitingMax: 32 * 1024 * 1024,
  heldMax: 10_000,
  holdMs: 5_000,
  quietDelayMsMax: 5_000,
  commitDelayMs: (): number => 0,
  defer: (callback: () => void): void => void setImmediate(callback),
} as const;

/** Without anybody waiting, a group is committed once it has so much. */
const QUIET_READINGS_MAX = 16_384;
const QUIET_BYTES_MAX = 1024 * 1024;

/** Half of a long commit is forgotten after about seven. */
const COMMIT_MS_DECAY = 0.9;

type Done = (error: Error | null, ticket: number) => void;

/** A callback of a group and the message it waits for; ANY_MESSAGE: a failure of any of them is one for the caller. */
const ANY_MESSAGE = -1;

/** Room that a list keeps for the callbacks of its next group: 24 bytes each. */
const WAITING_KEPT_MAX = 8192;

/**
 * Who waits for a group. As lists that are filled again: an object for each would live as long as its commit, and be copied
 * by the collector meanwhile.
 */
class WaitingList {
  #messages: number[] = [];
  #callbacks: (Done | null)[] = [];
  #tickets: number[] = [];
  #length = 0;

  get length(): number {
    return this.#length;
  }

  add(message: number, done: Done, ticket: number): void {
    const at = this.#length++;
    if (at === this.#callbacks.length) {
      this.#messages.push(message);
      this.#callbacks.push(done);
      this.#tickets.push(ticket);
    } else {
      this.#messages[at] = message;
      this.#callbacks[at] = done;
      this.#tickets[at] = ticket;
    }
  }

  /** Calls back in order; then it is empty. @param errorOf null: nothing failed */
  answer(errorOf: ((message: number) => Error | null) | null): void {
    for (let at = 0; at < this.#length; at++) {
      const done = this.#callbacks[at] as Done;
      this.#callbacks[at] = null;
      done(errorOf === null ? null : errorOf(this.#messages[at]), this.#tickets[at]);
    }
    this.#length = 0;
    if (this.#callbacks.length <= WAITING_KEPT_MAX) return;
    this.#messages = [];
    this.#callbacks = [];
    this.#tickets = [];
  }
}

interface InFlight {
  readonly group: Group;
  readonly waiting: WaitingList;
  readonly sentUs: number;
  readonly arrivalUs: number | null;
  readonly bytes: number;
}

export interface GroupCommitStats {
  readonly series: number;
  readonly waitingReadings: number;
  readonly waitingBytes: number;
  readonly held: number;
  readonly groups: number;
  readonly groupMessagesMax: number;
  /** From the hand-over of a group to its answer. */
  readonly commitUs: number;
  readonly commitUsMax: number;
  readonly refusedMessages: number;
}

export class GroupCommit implements JournalWriter {
  readonly series: BoundedSeriesRegistry;
  readonly #port: CommitPort;
  readonly #options: GroupCommitOptions;
  readonly #keys: RedeliveryKeys;
  #open = new OpenGroup();
  /** Number of the open group; those below `#durable` + 1 are durable. */
  #number = 1;
  #durable = 0;
  #waiting = new WaitingList();
  #spareWaiting: WaitingList | null = null;
  #inFlight: InFlight | null = null;
  #spare: GroupArrays | null = allocateGroupArrays();
  #seriesSent = 0;
  #scheduled = false;
  #cancelQuiet: (() => void) | null = null;
  /** A commit that waits for the sake of the flash. */
  #cancelDelay: (() => void) | null = null;
  /** The longest commit, the older the less. */
  #commitMsLately = 0;
  #held = 0;
  /** Messages without a callback that were refused since the last gap. */
  #dropped = 0;
  #droppedSinceUs = 0;
  #closed = false;
  #drained: (() => void)[] = [];
  readonly #counters = { groups: 0, groupMessagesMax: 0, commitUs: 0, commitUsMax: 0, refusedMessages: 0 };

  constructor(port: CommitPort, options: GroupCommitOptions) {
    this.#port = port;
    this.#options = options;
    this.#keys = options.keys;
    this.series = new BoundedSeriesRegistry(options.seriesMax);
  }

  message(decode: (sink: ReadingSink) => void, options: MessageOptions): void {
    const { redelivery, idempotencyKey, position, changes, done, ticket = 0 } = options;
    const refusal = this.#refusal();
    if (refusal !== null) return this.#hold(refusal, done, ticket);
    const open = this.#open;
    open.mark();
    try {
      decode(open);
    } catch (error) {
      open.rollback();
      throw error;
    }
    const digest = idempotencyKey === null ? null : idempotencyDigest(idempotencyKey);
    if (redelivery !== null) this.#addKey(redelivery);
    if (digest !== null) {
      const takenUs = this.#options.clock.nowUs();
      this.#keys.addIdempotency(digest, takenUs, this.#number, this.#options.clock.monotonicUs());
      open.key(KEY_IDEMPOTENCY, open.addClient(digest), 0, takenUs);
    }
    if (changes !== undefined) for (const change of changes) open.change(change);
    this.#endMessage(position === undefined ? done : this.#atPosition(position, done), ticket);
  }

  /** Here and not in `message`: what a closure captures is allocated wherever the function is entered. */
  #atPosition({ source, at }: SourcePosition, done: Done | null): Done {
    this.#open.key(KEY_POSITION, this.#open.addClient(source), 0, at);
    return (error, ticket) => {
      if (error === null) this.#keys.setPosition(source, at);
      done?.(error, ticket);
    };
  }

  sourcePosition(source: string): number | null {
    return this.#keys.positionOf(source);
  }

  isRedelivery(key: RedeliveryKey, whenDurable: Done): boolean {
    const { clientId, messageId, hash, qos } = key;
    return this.#whenDurable(
      qos === 2 ? this.#keys.qos2GroupOf(clientId, messageId, hash) : this.#keys.groupOf(clientId, messageId, hash),
      whenDurable,
    );
  }

  qos2Open(clientId: string, messageId: number): boolean {
    return this.#keys.isQos2Open(clientId, messageId);
  }

  qos2Release(clientId: string, messageId: number, done: Done): void {
    if (!this.#keys.isQos2Open(clientId, messageId)) {
      queueMicrotask(() => done(null, 0));
      return;
    }
    const refusal = this.#refusal();
    if (refusal !== null) return this.#hold(refusal, done, 0);
    this.#keys.releaseQos2(clientId, messageId);
    this.#open.key(KEY_QOS2_RELEASE, this.#open.addClient(clientId), messageId, 0);
    this.#endMessage(done, 0);
  }

  sessionChanges(changes: readonly SessionChange[], done: Done | null): void {
    const refusal = this.#refusal();
    if (refusal !== null) {
      if (done !== null) this.#hold(refusal, done, 0);
      return;
    }
    for (const change of changes) this.#open.change(change);
    this.#endMessage(done, 0);
  }

  isIdempotent(key: string, whenDurable: Done): boolean {
    const { clock } = this.#options;
    return this.#whenDurable(this.#keys.idempotencyGroupOf(idempotencyDigest(key), clock.nowUs(), clock.monotonicUs()), whenDurable);
  }

  /** Monotonic arrival of the oldest message that the journal has not confirmed; null: none. */
  get oldestArrivalUs(): number | null {
    return this.#inFlight?.arrivalUs ?? this.#open.arrivalUs;
  }

  get unconfirmedReadings(): number {
    return (this.#inFlight?.group.readings ?? 0) + this.#open.readings;
  }

  stats(): GroupCommitStats {
    return {
      series: this.series.size,
      waitingReadings: this.unconfirmedReadings,
      waitingBytes: this.#open.bytes + (this.#inFlight?.bytes ?? 0),
      held: this.#held,
      ...this.#counters,
    };
  }

  /** Commits what is there and calls back; afterwards messages are refused. */
  close(): Promise<void> {
    this.#closed = true;
    return new Promise((resolve) => {
      this.#drained.push(resolve);
      this.#send();
      this.#settleDrained();
    });
  }

  #addKey({ clientId, messageId, hash, qos }: RedeliveryKey): void {
    const open = this.#open;
    if (qos === 2) {
      this.#keys.openQos2(clientId, messageId, hash, this.#number);
      open.key(KEY_QOS2_OPEN, open.addClient(clientId), messageId, hash);
    } else {
      const client = this.#keys.add(clientId, messageId, hash, this.#number, (id) => open.addClient(id));
      open.key(KEY_QOS1, client, messageId, hash);
    }
  }

  #endMessage(done: Done | null, ticket: number): void {
    const message = this.#open.endMessage(this.#options.clock.monotonicUs());
    if (done !== null) this.#waiting.add(message, done, ticket);
    if (done !== null || this.#isLarge()) this.#schedule();
    else this.#cancelQuiet ??= this.#options.clock.after(this.#options.quietDelayMsMax, () => this.#schedule());
  }

  #whenDurable(group: number | null, whenDurable: Done): boolean {
    if (group === null) return false;
    if (group <= this.#durable) queueMicrotask(() => whenDurable(null, 0));
    else if (group === this.#number) {
      this.#waiting.add(ANY_MESSAGE, whenDurable, 0);
      this.#schedule();
    } else this.#inFlight?.waiting.add(ANY_MESSAGE, whenDurable, 0);
    return true;
  }

  #refusal(): SluiceError | null {
    if (this.#closed) return new SluiceError('ERR_JOURNAL_CLOSED', 'the gateway is stopping');
    if (!this.#port.accepting) return new SluiceError('ERR_JOURNAL_FULL', 'the buffer is full and nothing in it may be dropped');
    const { readingsWaitingMax, bytesWaitingMax } = this.#options;
    const bytes = this.#open.bytes + (this.#inFlight?.bytes ?? 0);
    if (this.unconfirmedReadings < readingsWaitingMax && bytes < bytesWaitingMax) return null;
    return new SluiceError(
      'ERR_JOURNAL_BUSY',
      `${this.unconfirmedReadings} readings, ${bytes} bytes wait for the journal; ${readingsWaitingMax}, ${bytesWaitingMax} are allowed`,
    );
  }

  #hold(refusal: SluiceError, done: Done | null, ticket: number): void {
    this.#counters.refusedMessages++;
    if (done === null) {
      if (this.#dropped++ === 0) this.#droppedSinceUs = this.#options.clock.nowUs();
    } else if (this.#closed || this.#held >= this.#options.heldMax) {
      queueMicrotask(() => done(refusal, ticket));
    } else {
      this.#held++;
      this.#options.clock.after(this.#options.holdMs, () => {
        this.#held--;
        done(refusal, ticket);
      });
    }
  }

  #isLarge(): boolean {
    return this.#open.readings >= QUIET_READINGS_MAX || this.#open.bytes >= QUIET_BYTES_MAX;
  }

  #schedule(): void {
    if (this.#scheduled || this.#inFlight !== null) return;
    const delayMs = this.#closed || this.#isLarge() ? 0 : this.#delayMs();
    if (delayMs >= 1) {
      this.#cancelDelay ??= this.#options.clock.after(delayMs, () => this.#send());
      return;
    }
    this.#scheduled = true;
    this.#options.defer(() => {
      this.#scheduled = false;
      this.#send();
    });
  }

  /** So that the ack of the oldest message leaves in time: what it has waited and what commits take lately counts. */
  #delayMs(): number {
    const delayMs = this.#options.commitDelayMs();
    const { arrivalUs } = this.#open;
    if (delayMs === 0 || arrivalUs === null) return 0;
    const waitedMs = (this.#options.clock.monotonicUs() - arrivalUs) / 1000;
    return delayMs - waitedMs - Math.min(delayMs / 2, this.#commitMsLately);
  }

  /** Refused messages without a callback are in no group: one gap of the next group tells of them. */
  #recordDropped(): void {
    if (this.#dropped === 0) return;
    const reason = `journal_overload: ${this.#dropped} messages without acknowledgement refused`;
    const toUs = Math.max(this.#options.clock.nowUs(), this.#droppedSinceUs + 1);
    this.#open.exception({
      kind: 'gap',
      device: null,
      metric: null,
      fromUs: this.#droppedSinceUs,
      toUs,
      readingCount: null,
      reason,
      payload: null,
    });
    this.#open.endMessage(this.#options.clock.monotonicUs());
    this.#dropped = 0;
  }

  #send(): void {
    if (this.#inFlight !== null) return;
    this.#recordDropped();
    if (this.#open.messages === 0) return;
    this.#cancelQuiet?.();
    this.#cancelQuiet = null;
    this.#cancelDelay?.();
    this.#cancelDelay = null;
    const { arrivalUs, bytes } = this.#open;
    const group = this.#open.take(this.#seriesSent, this.series.since(this.#seriesSent));
    this.#inFlight = {
      group,
      waiting: this.#waiting,
      sentUs: this.#options.clock.monotonicUs(),
      arrivalUs,
      bytes,
    };
    this.#seriesSent = this.series.size;
    this.#waiting = this.#spareWaiting ?? new WaitingList();
    this.#spareWaiting = null;
    this.#open = new OpenGroup(this.#spare ?? allocateGroupArrays());
    this.#spare = null;
    this.#number++;
    this.#counters.groups++;
    this.#counters.groupMessagesMax = Math.max(this.#counters.groupMessagesMax, group.messages);
    this.#options.onGroup?.(group.arrays, group.readings);
    this.#port.commit(group, (outcome) => this.#answered(outcome));
  }

  #answered({ error, failed, arrays }: CommitOutcome): void {
    const sent = this.#inFlight as InFlight;
    this.#inFlight = null;
    this.#spare = arrays;
    this.#durable++;
    const tookUs = this.#options.clock.monotonicUs() - sent.sentUs;
    this.#counters.commitUs += tookUs;
    this.#counters.commitUsMax = Math.max(this.#counters.commitUsMax, tookUs);
    this.#commitMsLately = Math.max(tookUs / 1000, this.#commitMsLately * COMMIT_MS_DECAY);
    const failures = new Map(failed.map(({ message, error: cause }) => [message, cause]));
    const errorOf = (message: number): SluiceError | null => {
      if (message === ANY_MESSAGE) return error?.error ?? failed[0]?.error ?? null;
      return failures.get(message) ?? (error !== null && message >= error.from ? error.error : null);
    };
    const failedAny = failures.size > 0 || error !== null;
    if (failedAny) this.#forgetFailed({ ...sent.group, arrays }, errorOf);
    // The next group starts before the callbacks run: the journal works while the acks are written.
    if (this.#waiting.length > 0 || this.#isLarge() || this.#closed) this.#schedule();
    sent.waiting.answer(failedAny ? errorOf : null);
    this.#spareWaiting = sent.waiting;
    this.#settleDrained();
  }

  /** Takes back the keys of messages that are not stored. The arrays are those that came back: the group's own were handed over. */
  #forgetFailed({ arrays, clients, messages }: Group, errorOf: (message: number) => SluiceError | null): void {
    const { messageKeyEnd, keyKind, keyClient, keyMessageId, keyHash } = arrays;
    for (let message = 0, at = 0; message < messages; message++) {
      const failed = errorOf(message) !== null;
      for (; at < messageKeyEnd[message]; at++) {
        if (!failed) continue;
        const client = clients[keyClient[at]];
        const messageId = keyMessageId[at];
        if (keyKind[at] === KEY_QOS1) this.#keys.forget(client, messageId, keyHash[at]);
        else if (keyKind[at] === KEY_QOS2_OPEN) this.#keys.releaseQos2(client, messageId);
        else if (keyKind[at] === KEY_IDEMPOTENCY) this.#keys.forgetIdempotency(client);
      }
    }
  }

  #settleDrained(): void {
    if (this.#drained.length === 0 || this.#inFlight !== null || this.#open.messages > 0) return;
    for (const resolve of this.#drained.splice(0)) resolve();
  }
}
