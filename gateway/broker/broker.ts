/**
 * The MQTT 3.1.1 broker: aedes over TCP and WebSocket, with or without TLS.
 *
 * Readings become durable in PublishGate before anything is acknowledged, retained messages and persistent sessions beside them
 * (SessionStore); the rest is as aedes has it. All bounds of a connection are set here.
 */
import type { EventEmitter } from 'node:events';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { Socket, createServer as createTcpServer, type AddressInfo, type Server } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket, createServer as createTlsServer } from 'node:tls';
import { Aedes, type AuthenticateError, type Client } from 'aedes';
import { WebSocketServer, createWebSocketStream } from 'ws';
import type { Clock } from '../../shared/clock.ts';
import { SluiceError } from '../../shared/errors.ts';
import { listen, readTls } from '../../shared/listen.ts';
import type { Logger } from '../../shared/logging.ts';
import { CREDENTIALS_HINT, type Access } from '../access.ts';
import type { MqttConfig } from '../config.ts';
import type { Decoder } from '../decode/decoder.ts';
import type { IngestCounters } from '../ingest-counters.ts';
import type { JournalWriter } from '../journal/journal-api.ts';
import { NO_SESSIONS, type StoredSessions } from '../journal/sessions.ts';
import type { MessageTap } from '../tail/message-tap.ts';
import { TurnBudget } from '../turn-budget.ts';
import { aedesCodec } from './aedes-codec.ts';
import { DirectIntake, type BrokerClient, type DirectIntakeOptions } from './direct-intake.ts';
import { skipIdsUnderWay, type IdCounter } from './message-ids.ts';
import { skipWithoutSubscribers, type PublishingBroker } from './no-subscribers.ts';
import { PublishGate, type PublishedMessage, type Sender } from './publish-gate.ts';
import type { Persistence } from './persistence.ts';
import { keepQos2Ids } from './qos2-ids.ts';
import { SessionStore, sessionLimits, type SessionLimits, type SessionStats } from './session-store.ts';

export interface BrokerOptions {
  readonly config: MqttConfig;
  readonly decoder: Decoder;
  readonly journal: JournalWriter;
  readonly access: Access;
  readonly clock: Clock;
  readonly counters: IngestCounters;
  readonly logger: Logger;
  readonly tap?: MessageTap;
  /** What the journal had of sessions and retained messages when it was opened. */
  readonly stored?: StoredSessions;
  readonly sessionLimits?: SessionLimits;
  /** Default: one of its own. */
  readonly turns?: TurnBudget;
}

export interface BrokerStats extends SessionStats {
  readonly connections: number;
  readonly connectionsRefused: number;
  readonly authenticationsFailed: number;
  readonly connectionErrors: number;
  /** Messages that wait for their commit. */
  readonly acksPending: number;
}

export interface Broker {
  readonly address: AddressInfo;
  /** null: MQTT over WebSocket is off. */
  readonly webSocketAddress: AddressInfo | null;
  stats(): BrokerStats;
  /** Takes no more messages, hands out the acks that are due, ends all connections. */
  stop(deadlineMs: number): Promise<void>;
}

const CLIENT_ID_BYTES_MAX = 256; // it stands in redelivery keys, which are kept
const RETURN_IDENTIFIER_REJECTED = 2;
const RETURN_BAD_USER_OR_PASSWORD = 4;
const RETURN_NOT_AUTHORIZED = 5;
/** A peer that vanished is noticed by the system even where the client wants no keep-alive of MQTT. */
const TCP_KEEP_ALIVE_MS = 60_000;
/** Packets that a client may send before its CONNACK; real ones send none or few. */
const EARLY_PACKETS_MAX = 1_000;
const ACK_TURNS = 10;
const QOS2_IN_FLIGHT_MAX = 4_096;

/**
 * aedes' codec makes 65,536 buffers of two bytes at the first packet it writes, 8 MB, to save allocating one for each ack:
 * most acks are DirectIntake's.
 */
function dropNumberCache(): void {
  aedesCodec.writeToStream.cacheNumbers = false;
}

function refuseConnect(returnCode: number, code: 'ERR_BROKER_UNAUTHORIZED' | 'ERR_BROKER_MALFORMED', message: string): AuthenticateError {
  return Object.assign(new SluiceError(code, message), { returnCode });
}

function remoteAddress(client: Client): string {
  return client.req?.socket.remoteAddress ?? (client.conn as Socket).remoteAddress ?? '';
}

class MqttBroker implements Broker {
  readonly #options: BrokerOptions;
  readonly #gate: PublishGate;
  readonly #aedes: Aedes;
  readonly #senders = new WeakMap<Client, Sender>();
  readonly #redelivered = new WeakSet<object>();
  readonly #failed = new WeakSet<Client>();
  readonly #sessions: SessionStore;
  readonly #servers: Server[] = [];
  readonly #streams = new Map<Duplex, DirectIntake>();
  /** Of all connections. */
  readonly #intake: DirectIntakeOptions;
  #hasSubscribers = (): boolean => true;
  #webSockets: WebSocketServer | null = null;
  #connectionsRefused = 0;
  #authenticationsFailed = 0;
  #connectionErrors = 0;
  address!: AddressInfo;
  webSocketAddress: AddressInfo | null = null;

  constructor(options: BrokerOptions) {
    this.#options = options;
    const limits = options.sessionLimits ?? sessionLimits(Infinity);
    this.#sessions = new SessionStore(options.journal, limits, options.stored ?? NO_SESSIONS);
    this.#gate = new PublishGate({ ...options, sessions: this.#sessions });
    const { config } = options;
    this.#intake = {
      gate: this.#gate,
      turns: options.turns ?? new TurnBudget(options.clock),
      packetBytesMax: config.packetBytesMax,
      topicLevelsMax: config.topicLevelsMax,
      hasSubscribers: () => this.#hasSubscribers(),
    };
    this.#aedes = new Aedes({
      connectTimeout: config.connectTimeoutMs,
      drainTimeout: config.subscriberDrainTimeoutMs,
      queueLimit: EARLY_PACKETS_MAX,
      maxInflightInbound: QOS2_IN_FLIGHT_MAX,
      maxTopicLevels: config.topicLevelsMax,
      authenticate: (client, username, password, done) => this.#authenticate(client, username, password, done),
      authorizePublish: (client, packet, callback) => {
        const sender = client === null ? null : (this.#senders.get(client) ?? null);
        // From the wire and from wills payloads are Buffers; a string could only come from a program inside.
        const message = packet as unknown as PublishedMessage;
        if (this.#gate.publish(sender, message, callback)) this.#redelivered.add(packet);
      },
    });
    const failed = (client: Client, error: Error): void => {
      // A connection that ends with a thousand messages in flight has one trouble, not a thousand.
      if (this.#failed.has(client)) return;
      this.#failed.add(client);
      this.#connectionErrors++;
      options.logger.info(
        {
          clientId: client.id,
          remoteAddress: remoteAddress(client),
          err: { message: error.message, code: (error as { code?: string }).code },
        },
        'MQTT connection ended with an error',
      );
    };
    this.#aedes.on('clientError', failed);
    this.#aedes.on('connectionError', failed);
    // Its types leave out the one event that would end the process if nobody listened.
    (this.#aedes as EventEmitter).on('error', (error: Error) => options.logger.error({ err: error }, 'MQTT broker error'));
  }

  async start(): Promise<void> {
    const { config, access, journal } = this.#options;
    dropNumberCache();
    await this.#aedes.listen();
    const { persistence } = this.#aedes as unknown as { persistence: Persistence };
    this.#sessions.install(persistence);
    keepQos2Ids(persistence, journal, (packet) => this.#redelivered.has(packet));
    this.#hasSubscribers = skipWithoutSubscribers(this.#aedes as unknown as PublishingBroker, () => this.#sessions.hasSubscriptions);
    const tls = readTls(config.tls);
    const bind = (server: Server, port: number, flagName: string, what: string): Promise<AddressInfo> => {
      this.#servers.push(server);
      return listen({
        server,
        host: config.host,
        port,
        credentialsConfigured: access.configured,
        credentialsHint: CREDENTIALS_HINT,
        flagName,
        what,
      });
    };
    try {
      const accept = (socket: Socket): void => {
        socket.setNoDelay(true);
        socket.setKeepAlive(true, TCP_KEEP_ALIVE_MS);
        this.#handle(socket);
      };
      const tcp: Server = tls === null ? createTcpServer(accept) : createTlsServer({ ...tls, minVersion: 'TLSv1.2' }, accept);
      tcp.on('tlsClientError', () => void this.#connectionErrors++);
      this.address = await bind(tcp, config.port, '--mqtt-port', 'MQTT');
      if (config.wsPort === null) return;
      const http =
        tls === null
          ? createHttpServer(answerUpgradeRequired)
          : createHttpsServer({ ...tls, minVersion: 'TLSv1.2' }, answerUpgradeRequired);
      this.#webSockets = new WebSocketServer({
        server: http,
        // [MQTT-6.0.0-3] asks for the subprotocol mqtt; old clients say mqttv3.1.
        handleProtocols: (protocols) => (protocols.has('mqtt') ? 'mqtt' : protocols.has('mqttv3.1') ? 'mqttv3.1' : false),
        // A frame may hold several packets or a part of one; what is larger than the largest packet is neither.
        maxPayload: Math.max(config.packetBytesMax + 5, 65_536),
        perMessageDeflate: false,
      });
      this.#webSockets.on('connection', (socket, request) => {
        const stream = createWebSocketStream(socket);
        stream.on('error', () => undefined); // aedes listens too, but only until it has closed the client
        this.#handle(stream, request);
      });
      this.#webSockets.on('error', () => undefined); // the server's own error is answered by listen()
      this.webSocketAddress = await bind(http, config.wsPort, '--mqtt-ws-port', 'MQTT over WebSocket');
    } catch (error) {
      await this.stop(0);
      throw error;
    }
  }

  #handle(stream: Duplex, request?: IncomingMessage): void {
    const { config } = this.#options;
    if (this.#streams.size >= config.connectionsMax) {
      this.#connectionsRefused++;
      stream.on('error', () => undefined);
      stream.destroy();
      return;
    }
    const intake = new DirectIntake(stream, this.#intake);
    this.#streams.set(stream, intake);
    stream.once('close', () => this.#streams.delete(stream));
    intake.attach(this.#aedes.handle(stream, request) as unknown as BrokerClient);
    if (stream instanceof Socket && !(stream instanceof TLSSocket)) intake.readDirectly(stream);
  }

  #authenticate(
    client: Client,
    username: string | undefined,
    password: Buffer | undefined,
    done: (error: AuthenticateError | null, success: boolean | null) => void,
  ): void {
    const refuse = (returnCode: number, message: string): void => {
      this.#authenticationsFailed++;
      done(refuseConnect(returnCode, 'ERR_BROKER_UNAUTHORIZED', message), false);
    };
    const { access } = this.#options;
    if (Buffer.byteLength(client.id) > CLIENT_ID_BYTES_MAX) {
      return refuse(
        RETURN_IDENTIFIER_REJECTED,
        `the client id has ${Buffer.byteLength(client.id)} bytes, at most ${CLIENT_ID_BYTES_MAX} are allowed`,
      );
    }
    const grant = access.check(remoteAddress(client), username ?? null, password ?? '');
    if (grant === 'wrong') return refuse(RETURN_BAD_USER_OR_PASSWORD, `user ${username?.slice(0, 64)}: wrong name or password`);
    if (grant === 'missing') return refuse(RETURN_NOT_AUTHORIZED, 'anonymous clients are not allowed');
    const { onlyDevice } = grant;
    const other = (this.#aedes as unknown as { clients: Record<string, Client> }).clients[client.id];
    const otherSender = other === undefined ? undefined : this.#senders.get(other);
    if (otherSender !== undefined && otherSender.onlyDevice !== onlyDevice) {
      return refuse(RETURN_IDENTIFIER_REJECTED, `client id ${client.id.slice(0, 64)} is connected with another credential`);
    }
    const intake = this.#streams.get(client.conn);
    if (intake === undefined) return done(null, false); // it is gone already
    const sender = { clientId: client.id, onlyDevice, order: this.#gate.openOrder(intake), isGone: isGone(client) };
    this.#senders.set(client, sender);
    if (!client.clean) skipIdsUnderWay(client as unknown as IdCounter, isUnderWay(this.#sessions, client.id));
    intake.open(sender);
    done(null, true);
  }

  stats(): BrokerStats {
    return {
      connections: this.#streams.size,
      connectionsRefused: this.#connectionsRefused,
      authenticationsFailed: this.#authenticationsFailed,
      connectionErrors: this.#connectionErrors,
      acksPending: this.#gate.pending,
      ...this.#sessions.stats(),
    };
  }

  async stop(deadlineMs: number): Promise<void> {
    const closed = this.#servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve())));
    await this.#gate.drain(deadlineMs);
    // aedes writes an ack a few turns after the gate lets it (QoS 2: after its store and the subscribers), and its close
    // cuts the connections. An ack that is late all the same costs a redelivery, never a reading.
    for (let turn = 0; turn < ACK_TURNS; turn++) await new Promise((resolve) => setImmediate(resolve));
    await new Promise<void>((resolve) => this.#aedes.close(resolve));
    this.#webSockets?.close();
    // Who has not answered the close by now is not asked again: unacknowledged messages come again by themselves.
    for (const stream of this.#streams.keys()) stream.destroy();
    await Promise.all(closed);
  }
}

// Not where a connection is authenticated: such a function would hold all that was there for as long as the connection lasts.

function isGone(client: Client): () => boolean {
  return () => client.closed;
}

function isUnderWay(sessions: SessionStore, clientId: string): (messageId: number) => boolean {
  return (messageId) => sessions.isUnderWay(clientId, messageId);
}

function answerUpgradeRequired(_request: IncomingMessage, response: ServerResponse): void {
  response
    .writeHead(426, { 'content-type': 'text/plain', upgrade: 'websocket' })
    .end('MQTT over WebSocket: connect with the subprotocol mqtt\n');
}

/** @throws SluiceError ERR_LISTEN_*, ERR_CONFIG_FILE */
export async function startBroker(options: BrokerOptions): Promise<Broker> {
  const broker = new MqttBroker(options);
  await broker.start();
  return broker;
}
