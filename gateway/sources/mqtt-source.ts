/**
 * Takes messages from an MQTT broker that exists already, as one of its clients.
 *
 * Purpose: what the broker has delivered to this source and been acknowledged for is durable here.
 * Constraints: a persistent session, QoS 1; a PUBACK leaves after the group commit, in order. MQTT.js acknowledges when
 * `handleMessage` calls back and reads nothing until then, which would be one message per fsync; so the callback comes at
 * once and the PUBACK is held back here (`_sendPacket` of the one client object: MQTT.js is pinned) until the journal has
 * the message. At most IN_FLIGHT_MAX messages and IN_FLIGHT_BYTES_MAX bytes wait, then the connection is not read.
 * Whatever cannot be stored now ends the connection: the broker keeps it and sends it again, after a back-off. A message that
 * can never be stored becomes a dead letter and is acknowledged, or it would stand in front of all others for ever.
 * A crash before the commit: no ack, the broker sends it again. Between commit and ack: it comes again with DUP, and the
 * journal knows its key (design: redelivery).
 * Retained messages are states of long ago: they count only with an event time of their own that is newer than what the
 * source has had, or on topics that it was not subscribed to before.
 * Not here: what a topic means (the topic rules do), QoS 2 (brokers deliver it to a QoS 1 subscription as QoS 1).
 */
import path from 'node:path';
import { connect, type IPublishPacket, type MqttClient } from 'mqtt';
import type { Clock } from '../../shared/clock.ts';
import { SluiceError, errorMessage, isSluiceError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logging.ts';
import type { AckOrder } from '../broker/ack-order.ts';
import { PacketGuard } from '../broker/packet-guard.ts';
import { PublishGate } from '../broker/publish-gate.ts';
import type { Decoder } from '../decode/decoder.ts';
import type { IngestCounters } from '../ingest-counters.ts';
import type { JournalWriter, ReadingSink } from '../journal/journal-api.ts';
import type { MessageTap } from '../tail/message-tap.ts';
import { topicMatcher } from '../tail/topic-filter.ts';
import { Backoff } from '../uplink/backoff.ts';
import { readSession, writeSession, type MqttSession } from './mqtt-session.ts';
import { readCredentials, type MqttSourceSettings } from './mqtt-settings.ts';

export interface SourceOptions {
  readonly decoder: Decoder;
  readonly journal: JournalWriter;
  readonly clock: Clock;
  readonly random: () => number;
  readonly counters: IngestCounters;
  readonly logger: Logger;
  readonly tap: MessageTap;
  /** Sources keep their state below it. */
  readonly dataDir: string;
}

export interface MqttSourceOptions extends SourceOptions {
  readonly settings: MqttSourceSettings;
  readonly packetBytesMax: number;
}

export interface MqttSourceStatus {
  readonly kind: 'mqtt';
  readonly name: string;
  readonly state: 'connecting' | 'connected' | 'waiting' | 'stopped';
  /** Wall clock, µs. */
  readonly sinceUs: number;
  readonly messages: number;
  readonly retainedIgnored: number;
  readonly inFlight: number;
  readonly connections: number;
  readonly lastError: string | null;
}

const IN_FLIGHT_MAX = 512;
const IN_FLIGHT_BYTES_MAX = 8 * 1024 * 1024;
const CONNECT_TIMEOUT_MS = 10_000;
/** How often the session's file learns that the source is still connected: flash does not like more. */
const SESSION_SAVE_INTERVAL_MS = 10 * 60_000;
/** A connection that held so long was one: the next back-off begins anew. */
const STEADY_MS = 30_000;

/** The part of a client of MQTT.js 5.16 that its types leave out. */
interface AckingClient {
  _sendPacket(packet: { cmd: string; messageId?: number }, done?: (error?: Error) => void): void;
}

/** Looks at a message's event times and keeps nothing. */
class NewestTime implements ReadingSink {
  newestUs = -Infinity;
  stampless = false;

  add(_seriesId: number, eventTimeUs: number): void {
    if (Number.isNaN(eventTimeUs)) this.stampless = true;
    else this.newestUs = Math.max(this.newestUs, eventTimeUs);
  }

  exception(): void {
    // A part that is no reading says nothing about the time of the others.
  }
}

export class MqttSource {
  readonly #options: MqttSourceOptions;
  readonly #gate: PublishGate;
  readonly #backoff: Backoff;
  readonly #logger: Logger;
  readonly #sessionFile: string;
  readonly #clientId: string;
  #session: MqttSession | null;
  #connection: Connection | null = null;
  #cancelRetry = (): void => undefined;
  #cancelSave = (): void => undefined;
  #state: MqttSourceStatus['state'] = 'waiting';
  #sinceUs: number;
  #messages = 0;
  #retainedIgnored = 0;
  #connections = 0;
  #lastError: string | null = null;

  constructor(options: MqttSourceOptions) {
    const { settings, clock, random, logger, dataDir } = options;
    this.#options = options;
    this.#logger = logger;
    this.#gate = new PublishGate({ ...options, source: settings.name });
    this.#backoff = new Backoff(settings.retryDelayMsMin, settings.retryDelayMsMax, random);
    this.#sessionFile = path.join(dataDir, 'sources', `mqtt-${settings.name}.json`);
    this.#clientId = settings.clientId ?? `sluice-${settings.name}`;
    const known = readSession(this.#sessionFile);
    // Another broker or client id is another session: what the old one had says nothing.
    this.#session = known?.url === settings.url && known.clientId === this.#clientId ? known : null;
    this.#sinceUs = clock.nowUs();
    this.#connect();
  }

  status(): MqttSourceStatus {
    return {
      kind: 'mqtt',
      name: this.#options.settings.name,
      state: this.#state,
      sinceUs: this.#sinceUs,
      messages: this.#messages,
      retainedIgnored: this.#retainedIgnored,
      inFlight: this.#connection?.inFlight ?? 0,
      connections: this.#connections,
      lastError: this.#lastError,
    };
  }

  /** Takes nothing more; the acks that are due leave first. */
  async stop(deadlineMs: number): Promise<void> {
    this.#setState('stopped');
    this.#cancelRetry();
    this.#cancelSave();
    this.#connection?.stopReading();
    await this.#gate.drain(deadlineMs);
    if (this.#connection?.established === true) this.#saveSession();
    await this.#connection?.end(deadlineMs);
    this.#connection = null;
  }

  #setState(state: MqttSourceStatus['state']): void {
    this.#state = state;
    this.#sinceUs = this.#options.clock.nowUs();
  }

  #connect(): void {
    this.#setState('connecting');
    const { clock, settings } = this.#options;
    let connection: Connection;
    try {
      connection = new Connection(this.#options, this.#clientId, {
        gate: this.#gate,
        connected: (client, sessionPresent) => this.#subscribe(connection, client, sessionPresent),
        accepts: (packet) => this.#accepts(connection, packet),
        ended: (error) => {
          if (this.#connection !== connection) return;
          this.#connection = null;
          if (connection.established) {
            this.#saveSession();
            if (clock.monotonicUs() - connection.openedUs >= STEADY_MS * 1000) this.#backoff.reset();
          }
          this.#retry(error);
        },
      });
    } catch (error) {
      this.#retry(error);
      return;
    }
    this.#connection = connection;
    this.#logger.debug({ source: settings.name, url: settings.url }, 'connecting to the broker');
  }

  #retry(error: unknown): void {
    if (this.#state === 'stopped') return;
    const { settings, clock } = this.#options;
    this.#lastError = error === null ? 'the broker closed the connection' : errorMessage(error);
    const delayMs = this.#backoff.nextMs();
    this.#setState('waiting');
    this.#logger.warn({ source: settings.name, url: settings.url, err: error, delayMs }, 'no connection to the broker');
    this.#cancelSave();
    this.#cancelRetry = clock.after(delayMs, () => this.#connect());
  }

  #subscribe(connection: Connection, client: MqttClient, sessionPresent: boolean): void {
    const { settings, clock } = this.#options;
    const before = sessionPresent ? (this.#session?.topics ?? []) : [];
    const known = new Set(before);
    const added = settings.topics.filter((topic) => !known.has(topic));
    const removed = before.filter((topic) => !settings.topics.includes(topic));
    // Only what was never subscribed before may hold retained messages that this source has not seen.
    const subscribedBefore = (this.#session?.topics ?? []).map(topicMatcher);
    connection.isNewTopic = (topic) => !subscribedBefore.some((matches) => matches(topic));
    const ready = (error?: Error | null): void => {
      if (error !== undefined && error !== null) return connection.fail(error);
      if (this.#connection !== connection || this.#state === 'stopped') return;
      connection.established = true;
      this.#connections++;
      this.#setState('connected');
      this.#logger.info({ source: settings.name, url: settings.url, sessionPresent }, 'connected to the broker');
      this.#saveSession();
      const saveLater = (): void => {
        this.#cancelSave = clock.after(SESSION_SAVE_INTERVAL_MS, () => {
          this.#saveSession();
          saveLater();
        });
      };
      saveLater();
    };
    if (removed.length > 0) client.unsubscribe(removed);
    if (added.length === 0) return ready();
    client.subscribe(added, { qos: 1 }, (error, granted) => {
      const refused = granted?.filter(({ qos }) => (qos as number) === 128).map(({ topic }) => topic) ?? [];
      if (refused.length > 0) ready(new SluiceError('ERR_SOURCE_CONNECT', `the broker refuses the subscription to ${refused.join(', ')}`));
      else ready(error);
    });
  }

  /** @returns false: the message is acknowledged and not taken */
  #accepts(connection: Connection, { topic, payload, retain }: IPublishPacket): boolean {
    this.#messages++;
    // What brokers tell about themselves is no device's; an empty payload clears a retained message.
    if (topic.startsWith('$') || payload.length === 0) return false;
    if (!retain) return true;
    if (this.#isNews(connection, topic, payload)) return true;
    this.#retainedIgnored++;
    return false;
  }

  #isNews(connection: Connection, topic: string, payload: string | Buffer): boolean {
    const { decoder, clock } = this.#options;
    const plan = decoder.plan(topic);
    if (plan === null) return false;
    const probe = new NewestTime();
    try {
      decoder.decode(plan, Buffer.from(payload), probe, { arrivalUs: clock.nowUs(), onlyDevice: null });
    } catch {
      return false; // a message of old that was never usable
    }
    if (probe.stampless || probe.newestUs === -Infinity) return false;
    return probe.newestUs > (this.#session?.connectedUntilUs ?? -Infinity) || connection.isNewTopic(topic);
  }

  #saveSession(): void {
    const { settings, clock } = this.#options;
    this.#session = { url: settings.url, clientId: this.#clientId, topics: [...settings.topics], connectedUntilUs: clock.nowUs() };
    try {
      writeSession(this.#sessionFile, this.#session);
    } catch (error) {
      this.#logger.warn({ err: error, source: settings.name }, 'the state of the session was not stored');
    }
  }
}

interface ConnectionHandlers {
  readonly gate: PublishGate;
  readonly connected: (client: MqttClient, sessionPresent: boolean) => void;
  readonly accepts: (packet: IPublishPacket) => boolean;
  /** Called once. */
  readonly ended: (error: Error | null) => void;
}

/** One connection, with a client object of its own: nothing of it can leak into the next one. */
class Connection {
  readonly openedUs: number;
  established = false;
  isNewTopic: (topic: string) => boolean = () => false;
  readonly #options: MqttSourceOptions;
  readonly #handlers: ConnectionHandlers;
  readonly #client: MqttClient;
  readonly #sendPacket: AckingClient['_sendPacket'];
  readonly #order: AckOrder;
  readonly #sender: { clientId: string; onlyDevice: null; order: AckOrder };
  /** Payload bytes of the messages in flight, by message id and together. */
  readonly #sizes = new Map<number, number>();
  #bytes = 0;
  #resume: (() => void) | null = null;
  #reading = true;
  #error: Error | null = null;
  #ended = false;

  /** @throws SluiceError ERR_CONFIG_FILE */
  constructor(options: MqttSourceOptions, clientId: string, handlers: ConnectionHandlers) {
    const { settings, clock } = options;
    this.#options = options;
    this.#handlers = handlers;
    this.openedUs = clock.monotonicUs();
    const { password, ...tls } = readCredentials(settings);
    this.#order = handlers.gate.openOrder({ acknowledge: (messageId, error) => this.#settled(messageId, error), flush: () => undefined });
    this.#sender = { clientId: `source/mqtt/${settings.name}`, onlyDevice: null, order: this.#order };
    const client = connect(settings.url, {
      clientId,
      clean: false,
      protocolVersion: 4,
      reconnectPeriod: 0,
      resubscribe: false,
      connectTimeout: CONNECT_TIMEOUT_MS,
      keepalive: Math.ceil(settings.keepAliveMs / 1000), // MQTT counts seconds
      ...(settings.username === null ? {} : { username: settings.username }),
      ...(password === undefined ? {} : { password }),
      ...Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined)),
    });
    this.#client = client;
    const guard = new PacketGuard(options.packetBytesMax);
    client.stream.on('data', (chunk: Buffer) => {
      const fault = guard.scan(chunk);
      if (fault !== null) this.fail(fault);
    });
    const acking = client as unknown as AckingClient;
    this.#sendPacket = acking._sendPacket.bind(client);
    acking._sendPacket = (packet, done) => {
      if (packet.cmd === 'puback') done?.();
      else this.#sendPacket(packet, done);
    };
    client.handleMessage = (packet, callback) => this.#take(packet, callback);
    client.on('connect', ({ sessionPresent }) => handlers.connected(client, sessionPresent));
    client.on('error', (error) => this.fail(error));
    client.on('close', () => this.#end());
  }

  get inFlight(): number {
    return this.#order.size;
  }

  fail(error: Error): void {
    this.#error ??= error;
    this.#client.end(true);
    this.#end();
  }

  /** Says good-bye; a broker that does not close its side in time is not waited for. */
  end(deadlineMs: number): Promise<void> {
    this.#ended = true;
    return new Promise((resolve) => {
      const cancel = this.#options.clock.after(deadlineMs, () => {
        this.#client.stream.destroy();
        resolve();
      });
      this.#client.end(false, {}, () => {
        cancel();
        resolve();
      });
    });
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#client.end(true);
    this.#handlers.ended(this.#error);
  }

  /** What comes from now on is neither taken nor acknowledged. */
  stopReading(): void {
    this.#reading = false;
  }

  #take(packet: IPublishPacket, callback: (error?: Error) => void): void {
    if (this.#ended || !this.#reading) return; // not acknowledged: the broker sends it again
    const payload = typeof packet.payload === 'string' ? Buffer.from(packet.payload) : packet.payload;
    const { messageId, topic, dup } = packet;
    const qos = packet.qos === 0 ? 0 : 1;
    if (qos === 1 && messageId !== undefined) {
      this.#sizes.set(messageId, payload.length);
      this.#bytes += payload.length;
    }
    this.#resume = callback;
    if (this.#handlers.accepts(packet)) {
      const refused = (error: Error | null): void => {
        if (error !== null) this.fail(error);
      };
      this.#handlers.gate.publish(this.#sender, { topic, payload, qos, dup, messageId }, refused, true);
    } else if (qos === 1 && messageId !== undefined) this.#order.settle(null, this.#order.expect(null, messageId, 0));
    this.#readOn();
  }

  #readOn(): void {
    if (this.#resume === null || this.#order.size >= IN_FLIGHT_MAX || this.#bytes >= IN_FLIGHT_BYTES_MAX) return;
    const resume = this.#resume;
    this.#resume = null;
    resume();
  }

  #settled(messageId: number, error: Error | null): void {
    if (isSluiceError(error, 'ERR_JOURNAL_MESSAGE')) this.#bury(messageId, error);
    else if (error === null) this.#acknowledge(messageId);
    else if (!this.#ended) this.fail(error);
  }

  #acknowledge(messageId: number): void {
    this.#bytes -= this.#sizes.get(messageId) ?? 0;
    this.#sizes.delete(messageId);
    // After the end nobody is acknowledged: what is durable is known as a redelivery when it comes again.
    if (this.#ended) return;
    this.#sendPacket({ cmd: 'puback', messageId });
    this.#readOn();
  }

  #bury(messageId: number, error: SluiceError): void {
    const { journal, clock } = this.#options;
    const nowUs = clock.nowUs();
    const reason = `source_message: ${error.message}`.slice(0, 300);
    const record = { kind: 'dead_letter', device: null, metric: null, fromUs: nowUs, toUs: nowUs + 1, readingCount: null, reason } as const;
    const done = (failure: Error | null): void => (failure === null ? this.#acknowledge(messageId) : this.fail(failure));
    journal.message((sink) => sink.exception({ ...record, payload: null }), { redelivery: null, idempotencyKey: null, done });
  }
}
