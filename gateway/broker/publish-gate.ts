/**
 * Where a message becomes durable: called from aedes' `authorizePublish`, the only hook that runs before the PUBACK
 * (QoS 1) or PUBREC (QoS 2) is written. Its callback waits for the group commit.
 *
 * Constraints: the order of the journal is taken synchronously on entry, since aedes runs the hook for all packets of a
 * socket read at once; acks of a connection leave in arrival order; a message is decoded once, a redelivery twice.
 * A crash before the commit: no ack was sent, the device sends again with DUP=1, the key is not known, it is new. A crash
 * after it: the key is known, nothing is stored twice. (A message without an event time of its own is stored again: its
 * id and payload may be those of another one, and a duplicate is better than a loss.)
 * aedes stops reading a connection only now and then while its hooks run, so what waits is bounded here.
 * Not here: delivery to subscribers, sessions, limits of connections.
 */
import type { Clock } from '../../shared/clock.ts';
import { SluiceError, isSluiceError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logging.ts';
import type { Decoder, TopicPlan } from '../decode/decoder.ts';
import type { IngestCounters } from '../ingest-counters.ts';
import type { JournalWriter, MessageOptions, ReadingSink, RedeliveryKey } from '../journal/journal-api.ts';
import { messageHash } from '../journal/message-hash.ts';
import type { MessageTap, Watch } from '../tail/message-tap.ts';
import { unmatchedHint, type SeenOutcome } from '../tail/seen-message.ts';
import { AckOrder, type AckWriter, type Settle } from './ack-order.ts';
import type { MessageState, SessionStore } from './session-store.ts';

/** Who publishes; null for the will of a client that is gone. */
export interface Sender {
  readonly clientId: string;
  /** The one device that it may write as; null: any. */
  readonly onlyDevice: string | null;
  readonly order: AckOrder;
  /** Has its connection ended? Absent: it has not. */
  readonly isGone?: () => boolean;
}

export interface PublishedMessage {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: 0 | 1 | 2;
  readonly dup: boolean;
  readonly retain?: boolean;
  /** Wills have none, whatever their QoS. */
  readonly messageId: number | undefined;
}

export interface PublishGateOptions {
  readonly decoder: Decoder;
  readonly journal: JournalWriter;
  readonly clock: Clock;
  readonly counters: IngestCounters;
  readonly logger: Logger;
  readonly tap?: MessageTap;
  /** Where subscribers are, and retained messages are kept. */
  readonly sessions?: SessionStore;
  /** How the messages are named to who looks at them; a broker's own are `mqtt`. */
  readonly source?: string;
}

const SYSTEM_TOPICS = '$SYS/';
/** A client has no more message ids than this [MQTT-2.3.1]: more unanswered messages are no client's need. */
const ACKS_PER_CLIENT_MAX = 65_535;
/** Payloads of all messages that wait for an answer. The journal bounds what it holds; this bounds what waits behind it. */
const PENDING_BYTES_MAX = 64 * 1024 * 1024;

const NOT_GONE = (): boolean => false;
const NO_READINGS = (): void => {};

/** Counts readings without a time of their own, and keeps nothing. */
class StampProbe implements ReadingSink {
  readings = 0;
  stampless = 0;

  add(_seriesId: number, eventTimeUs: number): void {
    this.readings++;
    if (Number.isNaN(eventTimeUs)) this.stampless++;
  }

  exception(): void {
    // A part that is no reading does not decide whether the readings beside it are a redelivery.
  }
}

export class PublishGate {
  readonly #decoder: Decoder;
  readonly #journal: JournalWriter;
  readonly #clock: Clock;
  readonly #counters: IngestCounters;
  readonly #logger: Logger;
  readonly #tap: MessageTap | null;
  readonly #sessions: SessionStore | null;
  readonly #source: string;
  #stopping = false;
  #pending = 0;
  #pendingBytes = 0;
  #onDrained: (() => void) | null = null;
  // The message at hand: one closure for all messages instead of one each.
  #plan: TopicPlan | null = null;
  #payload: Buffer = Buffer.alloc(0);
  #onlyDevice: string | null = null;
  #decodeFailed = false;
  #watch: Watch | null = null;
  #decoded = false;
  readonly #decodeCurrent = (sink: ReadingSink): void => {
    this.#decodeFailed = true;
    this.#decoded = true;
    const options = { arrivalUs: this.#clock.nowUs(), onlyDevice: this.#onlyDevice };
    const watched = this.#watch === null ? sink : this.#watch.before(sink);
    const result = this.#decoder.decode(this.#plan as TopicPlan, this.#payload, watched, options);
    this.#decodeFailed = false;
    this.#counters.readings += result.readingCount;
    this.#counters.problems += result.problemCount;
  };

  readonly #onSettled = (bytes: number): void => {
    this.#pending--;
    this.#pendingBytes -= bytes;
    if (this.#pending === 0) this.#onDrained?.();
  };

  constructor(options: PublishGateOptions) {
    this.#decoder = options.decoder;
    this.#journal = options.journal;
    this.#clock = options.clock;
    this.#counters = options.counters;
    this.#logger = options.logger;
    this.#tap = options.tap ?? null;
    this.#sessions = options.sessions ?? null;
    this.#source = options.source ?? 'mqtt';
  }

  /** The order of the acks of a new connection. */
  openOrder(writer: AckWriter): AckOrder {
    return new AckOrder(writer, this.#onSettled);
  }

  /** Messages that wait for their commit. */
  get pending(): number {
    return this.#pending;
  }

  /**
   * Takes a message and calls back once: null when it is durable (QoS 0: taken), an error when the connection must end.
   *
   * @param direct the connection's AckWriter is told what is durable; the callback is called for what is not even tried
   * @returns true for a redelivery of a message that is, or is about to be, durable
   */
  publish(sender: Sender | null, message: PublishedMessage, callback: Settle, direct = false): boolean {
    if (this.#stopping) {
      callback(new SluiceError('ERR_BROKER_STOPPING', 'the gateway is stopping'));
      return false;
    }
    if (message.topic.startsWith(SYSTEM_TOPICS)) {
      callback(new SluiceError('ERR_BROKER_FORBIDDEN', `${SYSTEM_TOPICS} belongs to the broker`));
      return false;
    }
    const { messageId } = message;
    const waits = sender !== null && message.qos > 0 && messageId !== undefined;
    const plan = this.#decoder.plan(message.topic);
    if (!waits) {
      const state = this.#stateOf(message, sender);
      if (plan !== null) this.#take(plan, message, sender, null, state, callback, 0);
      else {
        this.#noRule(message, sender);
        if (state !== null) this.#journal.sessionChanges(state.changes, null);
        state?.taken();
        callback(null);
      }
      return false;
    }
    if (sender.order.size >= ACKS_PER_CLIENT_MAX || this.#pendingBytes + message.payload.length > PENDING_BYTES_MAX) {
      const waiting = `${sender.order.size} messages of this client and ${this.#pendingBytes} bytes of all wait for their answer`;
      this.#refuse(
        new SluiceError('ERR_BROKER_TOO_MANY', `${waiting}; ${ACKS_PER_CLIENT_MAX} and ${PENDING_BYTES_MAX} are allowed`),
        callback,
        0,
      );
      return false;
    }
    this.#pending++;
    this.#pendingBytes += message.payload.length;
    const { order } = sender;
    const ticket = order.expect(direct ? null : callback, messageId, message.payload.length);
    const key: RedeliveryKey = {
      clientId: sender.clientId,
      messageId,
      hash: messageHash(message.topic, message.payload),
      qos: message.qos === 2 ? 2 : 1,
    };
    if (message.dup && this.#mayBeRedelivery(plan, message, key) && this.#isRedelivery(key, order, ticket)) {
      this.#counters.redeliveries++;
      this.#show(message, sender, plan)?.done('redelivery');
      return true;
    }
    // What nobody subscribes to does not come here (`direct`), and is not looked up.
    const state = direct ? null : this.#stateOf(message, sender);
    const settle = state === null ? order.settle : settleWith(state, order);
    if (plan === null) this.#takeWithoutRule(message, sender, key, state, settle, ticket);
    else this.#take(plan, message, sender, key, state, settle, ticket);
    return false;
  }

  /** Takes no more messages; resolves when all acks have been handed out, or after the deadline. */
  drain(deadlineMs: number): Promise<void> {
    this.#stopping = true;
    if (this.#pending === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#clock.after(deadlineMs, resolve);
      this.#onDrained = () => {
        cancel();
        resolve();
      };
    });
  }

  #isRedelivery(key: RedeliveryKey, order: AckOrder, ticket: number): boolean {
    return this.#journal.isRedelivery(key, (error) => order.settle(error, ticket));
  }

  #mayBeRedelivery(plan: TopicPlan | null, message: PublishedMessage, key: RedeliveryKey): boolean {
    if (key.qos === 2) return this.#journal.qos2Open(key.clientId, key.messageId);
    if (plan === null) return false;
    const probe = new StampProbe();
    try {
      this.#decoder.decode(plan, message.payload, probe, { arrivalUs: this.#clock.nowUs(), onlyDevice: null });
    } catch {
      return false; // a dead letter: `#take` decodes it again and says why
    }
    return probe.readings > 0 && probe.stampless === 0;
  }

  #stateOf(message: PublishedMessage, sender: Sender | null): MessageState | null {
    return this.#sessions?.take(message, sender?.isGone ?? NOT_GONE) ?? null;
  }

  /** No reading, but what it is to subscribers, and its QoS 2 id, are to be durable before its ack. */
  #takeWithoutRule(
    message: PublishedMessage,
    sender: Sender,
    key: RedeliveryKey,
    state: MessageState | null,
    settle: AckOrder['settle'],
    ticket: number,
  ): void {
    this.#noRule(message, sender);
    if (state === null && key.qos === 1) return settle(null, ticket);
    const options = { redelivery: key.qos === 2 ? key : null, idempotencyKey: null, changes: state?.changes, done: settle, ticket };
    try {
      this.#journal.message(NO_READINGS, options);
      state?.taken();
    } catch (error) {
      this.#refuse(error, settle, ticket);
    }
  }

  #take(
    plan: TopicPlan,
    message: PublishedMessage,
    sender: Sender | null,
    key: RedeliveryKey | null,
    state: MessageState | null,
    settle: AckOrder['settle'],
    ticket: number,
  ): void {
    const options = { redelivery: key, idempotencyKey: null, changes: state?.changes, done: key === null ? null : settle, ticket };
    this.#plan = plan;
    this.#payload = message.payload;
    this.#onlyDevice = sender?.onlyDevice ?? null;
    const watch = this.#show(message, sender, plan);
    this.#watch = watch;
    this.#decoded = false;
    this.#counters.messages++;
    this.#counters.payloadBytes += message.payload.length;
    try {
      this.#journal.message(this.#decodeCurrent, options);
      watch?.done(this.#outcome(plan), null, plan.ignored);
    } catch (error) {
      const decodeFailed = this.#decodeFailed;
      this.#decodeFailed = false;
      const refused = !decodeFailed || isSluiceError(error, 'ERR_BROKER_FORBIDDEN');
      watch?.done(refused ? 'refused' : 'dead_letter', error);
      if (refused) return this.#refuse(error, settle, ticket);
      if (!this.#bury(plan, message, error, options, settle)) return;
    }
    state?.taken();
    if (key === null) settle(null, ticket);
  }

  #noRule(message: PublishedMessage, sender: Sender | null): void {
    this.#counters.unmatched++;
    if (this.#tap !== null && this.#tap.viewers > 0)
      this.#show(message, sender, null)?.done('unmatched', null, unmatchedHint(message.topic));
  }

  #show({ topic, payload }: PublishedMessage, sender: Sender | null, plan: TopicPlan | null): Watch | null {
    if (this.#tap === null || this.#tap.viewers === 0) return null;
    const [client, rule] = [sender?.clientId ?? null, plan?.match ?? null];
    return this.#tap.watch({ source: this.#source, topic, client, payload, rule, arrivalUs: this.#clock.nowUs() });
  }

  /** null: as its readings and exceptions say. */
  #outcome(plan: TopicPlan): SeenOutcome | null {
    return this.#decoded ? (plan.ignored === null ? null : 'ignored') : 'held';
  }

  /** @returns false: not even the dead letter could be stored, and the sender was told */
  #bury(plan: TopicPlan, message: PublishedMessage, error: unknown, options: MessageOptions, settle: AckOrder['settle']): boolean {
    if (!isSluiceError(error))
      this.#logger.error({ err: error, topic: message.topic }, 'decoding failed unexpectedly; the message is a dead letter');
    const record = this.#decoder.deadLetter(plan, message.payload, error, this.#clock.nowUs());
    try {
      this.#journal.message((sink) => sink.exception(record), options);
      this.#counters.deadLetters++;
      return true;
    } catch (journalError) {
      this.#refuse(journalError, settle, options.ticket ?? 0);
      return false;
    }
  }

  #refuse(error: unknown, settle: AckOrder['settle'], ticket: number): void {
    this.#counters.refused++;
    settle(error instanceof Error ? error : new SluiceError('ERR_JOURNAL_UNAVAILABLE', String(error)), ticket);
  }
}

/** What is settled with the message's answer; functions of their own, because most messages need no closure. */
function settleWith(state: MessageState, order: AckOrder): AckOrder['settle'] {
  return (error, ticket) => {
    state.settled(error);
    order.settle(error, ticket);
  };
}
