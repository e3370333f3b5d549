/**
 * The hub's end of the uplink: takes WebSocket upgrades at UPLINK_PATH on the hub's HTTP server (docs/uplink.md).
 *
 * Constraints: only who has a gateway's token gets a WebSocket; connections, half-done upgrades and frames are bounded;
 * one connection per lane, the newest; above `pendingBytesMax` received and not committed, no socket is read until half
 * of it is committed, so that memory is bounded and the gateways, which have disks, keep the data.
 *
 * It keeps nothing that a restart would miss.
 */
import type { IncomingMessage, Server as HttpServer } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer, type WebSocket } from 'ws';
import type { Clock } from '../../shared/clock.ts';
import { errorMessage, type ErrorCode, SluiceError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logging.ts';
import { problemOf } from '../../shared/problem.ts';
import { UPLINK_FRAME_BYTES_MAX } from '../../shared/uplink-codec.ts';
import { laneAppId, UPLINK_PATH, UPLINK_SUBPROTOCOL, type Admission, type LaneKey } from '../../shared/uplink.ts';
import type { IngestEngine } from '../engine-api.ts';
import type { GatewayRegistry } from './gateways.ts';
import { bearerToken, type TokenRecord } from './tokens.ts';
import { UplinkConnection, type ConnectionHost, type InspectBatch, type UplinkConnectionSettings } from './uplink-connection.ts';

export interface UplinkServerSettings extends UplinkConnectionSettings {
  /** Received and not committed; sockets are read again below half of it. */
  readonly pendingBytesMax: number;
  /** Admission of a lane while nothing is pending. */
  readonly inFlightBytesMax: number;
  readonly backfillBytesPerSecondMax: number;
  readonly frameBytesMax: number;
  readonly connectionsMax: number;
  /** A gateway uses four; the rest is for connections that it knows to be dead and we do not yet. */
  readonly connectionsPerGatewayMax: number;
  readonly tickIntervalMs: number;
}

export const UPLINK_SERVER_DEFAULTS: UplinkServerSettings = {
  helloTimeoutMs: 10_000,
  positionIntervalMs: 20,
  idlePositionIntervalMs: 20_000,
  pingIntervalMs: 20_000,
  silenceMsMax: 90_000,
  pendingBytesMax: 512_000_000,
  // 4 MiB is 100 ms at 300 Mbit/s: enough to fill a long link, little enough to hold for 100 lanes.
  inFlightBytesMax: 4 * 1024 * 1024,
  backfillBytesPerSecondMax: 64 * 1024 * 1024,
  frameBytesMax: UPLINK_FRAME_BYTES_MAX,
  connectionsMax: 2_000,
  connectionsPerGatewayMax: 16,
  tickIntervalMs: 1_000,
};

export interface UplinkServerOptions {
  readonly engine: IngestEngine;
  readonly tokens: { verify(token: string | null): Promise<TokenRecord | null>; isCurrent(id: string): boolean };
  readonly gateways: GatewayRegistry;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly inspect: InspectBatch;
  /** 32 hex digits, new at every start of the hub. */
  readonly hubInstance: string;
  readonly hubVersion: string;
  readonly wireVersions: readonly number[];
  readonly compressions: readonly string[];
  readonly settings?: Partial<UplinkServerSettings>;
}

export interface UplinkServerState {
  readonly connections: number;
  readonly paused: boolean;
  readonly bytesReceivedTotal: number;
  readonly batchesReceivedTotal: number;
  readonly upgradesRefusedTotal: number;
  readonly takeOversTotal: number;
}

/** Upgrades whose token is being looked up. Strangers can fill this, and only this. */
const UPGRADES_PENDING_MAX = 256;
/** The smallest window: below it a lane would stop rather than go slowly. */
const IN_FLIGHT_BYTES_MIN = 64 * 1024;
/** Compressed, waiting for the engine: about 200 ms of its work where batches are well filled; goes on at half of it. */
const WAITING_BYTES_HIGH = 128 * 1024;
const WAITING_BYTES_LOW = 64 * 1024;
/** Of a lane of old data: about twenty times what a gateway of 1 k readings/s makes. Back-pressure bounds what they all send. */
const BACKFILL_BYTES_PER_SECOND_MIN = 32 * 1024;

export class UplinkServer implements ConnectionHost {
  readonly engine: IngestEngine;
  readonly gateways: GatewayRegistry;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly inspect: InspectBatch;
  readonly settings: UplinkServerSettings;
  readonly hubInstance: string;
  readonly hubVersion: string;
  readonly wireVersions: readonly number[];
  readonly compressions: readonly string[];
  #tokens: UplinkServerOptions['tokens'];
  #webSockets: WebSocketServer;
  #connections = new Set<UplinkConnection>();
  /** The connection that speaks for a lane, by laneAppId. */
  #lanes = new Map<string, UplinkConnection>();
  /** The engine's queue is so long that live data would wait. */
  #isBehind = false;
  /** Lanes that carry old data: they share what the hub admits of it. */
  #oldLanes = 0;
  #paused = false;
  #stopping = false;
  #upgradesPending = 0;
  #bytesReceived = 0;
  #batchesReceived = 0;
  #upgradesRefused = 0;
  #takeOvers = 0;
  #cancelTick: () => void;
  #whenEmpty: (() => void) | null = null;
  #detach: (() => void)[] = [];

  constructor(options: UplinkServerOptions) {
    this.engine = options.engine;
    this.gateways = options.gateways;
    this.clock = options.clock;
    this.logger = options.logger;
    this.inspect = options.inspect;
    this.settings = { ...UPLINK_SERVER_DEFAULTS, ...options.settings };
    this.hubInstance = options.hubInstance;
    this.hubVersion = options.hubVersion;
    this.wireVersions = options.wireVersions;
    this.compressions = options.compressions;
    this.#tokens = options.tokens;
    this.#webSockets = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      // Batches are compressed already.
      perMessageDeflate: false,
      maxPayload: this.settings.frameBytesMax,
      handleProtocols: (protocols) => (protocols.has(UPLINK_SUBPROTOCOL) ? UPLINK_SUBPROTOCOL : false),
    });
    this.engine.onCommitted((lane, committed) => this.#lanes.get(laneAppId(lane))?.onCommitted(committed));
    this.engine.onPendingBytes(() => this.#applyBackPressure());
    this.#cancelTick = this.clock.after(this.settings.tickIntervalMs, () => this.#tick());
  }

  get paused(): boolean {
    return this.#paused;
  }

  get state(): UplinkServerState {
    return {
      connections: this.#connections.size,
      paused: this.#paused,
      bytesReceivedTotal: this.#bytesReceived,
      batchesReceivedTotal: this.#batchesReceived,
      upgradesRefusedTotal: this.#upgradesRefused,
      takeOversTotal: this.#takeOvers,
    };
  }

  /** Answers all upgrades of an http or https server; those of other paths with 404. */
  attach(server: Pick<HttpServer, 'on' | 'off'>): void {
    const onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => void this.#onUpgrade(request, socket, head);
    server.on('upgrade', onUpgrade);
    this.#detach.push(() => server.off('upgrade', onUpgrade));
  }

  /** Tells every gateway, then closes; what is still open after `deadlineMs` is cut. Received batches stay with the engine. */
  async stop(deadlineMs: number): Promise<void> {
    this.#stopping = true;
    this.#cancelTick();
    for (const connection of this.#connections) connection.refuse('stopping', 'the hub is stopping', 1_000);
    if (this.#connections.size > 0) {
      await new Promise<void>((resolve) => {
        const cancel = this.clock.after(deadlineMs, () => {
          for (const connection of this.#connections) connection.terminate();
          resolve();
        });
        this.#whenEmpty = () => {
          cancel();
          resolve();
        };
      });
    }
    for (const detach of this.#detach) detach();
  }

  admission(): Admission {
    const { pendingBytesMax, inFlightBytesMax, backfillBytesPerSecondMax } = this.settings;
    const free = Math.max(0, 1 - this.engine.pendingBytes / pendingBytesMax);
    const lanes = Math.max(1, this.#lanes.size);
    const share = Math.floor((free * pendingBytesMax) / lanes);
    // In eighths and powers of two, so that it does not change, and is not announced, with every batch and every gateway.
    const eighths = Math.floor(free * 8) / 8;
    const old = 2 ** Math.ceil(Math.log2(Math.max(1, this.#oldLanes)));
    return {
      inFlightBytesMax: Math.max(IN_FLIGHT_BYTES_MIN, Math.min(inFlightBytesMax, 2 ** Math.floor(Math.log2(Math.max(1, share))))),
      // Live data waits for the old data before it in the engine's queue, so that queue is kept short.
      // Old data makes room first: above half of the bound no more of it than keeps it moving. Each lane gets the same of it.
      backfillBytesPerSecond: Math.max(
        BACKFILL_BYTES_PER_SECOND_MIN,
        this.#isBehind ? 0 : Math.floor((backfillBytesPerSecondMax * Math.max(0, 2 * eighths - 1)) / old),
      ),
    };
  }

  takeLane(connection: UplinkConnection, key: LaneKey): void {
    const id = laneAppId(key);
    const older = this.#lanes.get(id);
    this.#lanes.set(id, connection);
    this.#countOldLanes();
    if (older === undefined || older === connection) return;
    this.#takeOvers++;
    older.refuse('lane_taken_over', 'a newer connection of this gateway carries the lane', 0);
  }

  /** Each gateway has one lane of live data; what else it has connected is old. */
  #countOldLanes(): void {
    const gateways = new Set<string>();
    for (const { key } of this.#lanes.values()) if (key !== null) gateways.add(key.gateway);
    this.#oldLanes = this.#lanes.size - gateways.size;
  }

  isLaneHolder(connection: UplinkConnection): boolean {
    return connection.key !== null && this.#lanes.get(laneAppId(connection.key)) === connection;
  }

  received(bytes: number): void {
    this.#batchesReceived++;
    this.#bytesReceived += bytes;
    // The engine counts what it was given at once, but tells about it later.
    this.#applyBackPressure();
  }

  closed(connection: UplinkConnection): void {
    if (!this.#connections.delete(connection)) return;
    if (connection.key !== null && this.isLaneHolder(connection)) {
      this.#lanes.delete(laneAppId(connection.key));
      this.#countOldLanes();
    }
    if (this.#connections.size === 0) this.#whenEmpty?.();
  }

  #applyBackPressure(): void {
    const { pendingBytes, waitingBytes = 0 } = this.engine;
    const isBehind = waitingBytes > (this.#isBehind ? WAITING_BYTES_LOW : WAITING_BYTES_HIGH);
    if (isBehind !== this.#isBehind) {
      this.#isBehind = isBehind;
      // Lanes that were slowed down would learn of it with their next batch.
      if (this.#oldLanes > 0) for (const connection of this.#lanes.values()) connection.announce();
    }
    const paused = this.#paused ? pendingBytes > this.settings.pendingBytesMax / 2 : pendingBytes > this.settings.pendingBytesMax;
    if (paused === this.#paused) return;
    this.#paused = paused;
    this.logger[paused ? 'warn' : 'info'](
      { pendingBytes, pendingBytesMax: this.settings.pendingBytesMax },
      paused ? 'uplinks paused: the lake does not keep up' : 'uplinks resumed',
    );
    for (const connection of this.#connections) connection.applyPause();
  }

  #tick(): void {
    const nowUs = this.clock.monotonicUs();
    this.#applyBackPressure();
    for (const connection of this.#connections) {
      if (this.#tokens.isCurrent(connection.tokenId)) connection.tick(nowUs);
      else connection.refuse('unavailable', 'the token was revoked', 60_000);
    }
    this.#cancelTick = this.clock.after(this.settings.tickIntervalMs, () => this.#tick());
  }

  async #onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    // Until ws takes the socket over, an error on it would be nobody's.
    const onError = (): void => void socket.destroy();
    socket.on('error', onError);
    try {
      const token = await this.#authenticate(request);
      if (socket.destroyed) return;
      if (this.#stopping) throw new SluiceError('ERR_HTTP_UNAVAILABLE', 'the hub is stopping');
      socket.off('error', onError);
      this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => this.accept(webSocket, token));
    } catch (error) {
      this.#upgradesRefused++;
      if (!(error instanceof SluiceError)) this.logger.error({ error: errorMessage(error) }, 'an uplink upgrade failed');
      refuseUpgrade(socket, error);
    }
  }

  async #authenticate(request: IncomingMessage): Promise<TokenRecord & { gateway: string }> {
    const refuse = (code: ErrorCode, message: string): SluiceError => new SluiceError(code, message);
    if ((request.url ?? '').split('?', 1)[0] !== UPLINK_PATH)
      throw refuse('ERR_HTTP_NOT_FOUND', `WebSockets are served at ${UPLINK_PATH} only`);
    if (this.#stopping) throw refuse('ERR_HTTP_UNAVAILABLE', 'the hub is stopping');
    const protocols = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
    if (!protocols.includes(UPLINK_SUBPROTOCOL)) throw refuse('ERR_HTTP_PARAMETER', `the subprotocol has to be ${UPLINK_SUBPROTOCOL}`);
    if (this.#upgradesPending >= UPGRADES_PENDING_MAX || this.#connections.size >= this.settings.connectionsMax) {
      throw refuse('ERR_HTTP_UNAVAILABLE', `${this.#connections.size} connections, allowed ${this.settings.connectionsMax}`);
    }
    this.#upgradesPending++;
    try {
      const token = await this.#tokens.verify(bearerToken(request.headers.authorization));
      if (token === null) throw refuse('ERR_HTTP_UNAUTHORIZED', 'the bearer token is missing or unknown');
      const { gateway } = token;
      if (gateway === null) throw refuse('ERR_HTTP_FORBIDDEN', `a token of kind ${token.kind} opens no uplink`);
      return { ...token, gateway };
    } finally {
      this.#upgradesPending--;
    }
  }

  /** Takes an open WebSocket of a gateway whose token has been verified. */
  accept(webSocket: WebSocket, token: { readonly id: string; readonly gateway: string }): void {
    const connection = new UplinkConnection(webSocket, token.gateway, token.id, this);
    let ofGateway = 0;
    for (const other of this.#connections) if (other.gateway === token.gateway) ofGateway++;
    this.#connections.add(connection);
    if (ofGateway >= this.settings.connectionsPerGatewayMax) {
      connection.refuse(
        'too_many_connections',
        `${ofGateway} connections of this gateway, allowed ${this.settings.connectionsPerGatewayMax}`,
        10_000,
      );
    } else if (this.#stopping) {
      connection.refuse('stopping', 'the hub is stopping', 1_000);
    }
  }
}

function refuseUpgrade(socket: Duplex, error: unknown): void {
  if (socket.destroyed) return;
  const problem = problemOf(error);
  const body = JSON.stringify(problem);
  const lines = [
    `HTTP/1.1 ${problem.status} ${problem.status === 401 ? 'Unauthorized' : 'Refused'}`,
    'Connection: close',
    'Content-Type: application/problem+json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...(problem.status === 401 ? ['WWW-Authenticate: Bearer'] : []),
    ...(problem.status === 503 ? ['Retry-After: 5'] : []),
  ];
  // A peer that never reads must not keep the socket: it is destroyed as soon as the answer is handed over.
  socket.end(`${lines.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy());
}
