/**
 * One uplink connection at the hub: hello, then batches and heartbeats of one lane.
 *
 * Constraints: runs on the thread that owns the sockets, so a batch costs a checksum and one copy of its compressed bytes
 * (the frame is a view of what the socket read, the engine's worker needs a buffer of its own to take over). Answers are
 * positions, cumulative, so they are coalesced (`positionIntervalMs`) and left out while the peer does not read.
 *
 * States: hello (connected, silent) → opening (the engine re-reads the log) → open → closed. A crash of the hub loses only
 * what was received and not committed; the gateway sends that again to the next hub instance.
 */
import type { WebSocket } from 'ws';
import type { Clock } from '../../shared/clock.ts';
import { errorMessage, isSluiceError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logging.ts';
import { decodeGatewayMessage, encodeHubMessage } from '../../shared/uplink-codec.ts';
import type {
  Admission,
  BatchMessage,
  GatewayMessage,
  Hello,
  HubMessage,
  LaneKey,
  Position,
  Refuse,
  Welcome,
} from '../../shared/uplink.ts';
import type { IngestEngine } from '../engine-api.ts';
import type { GatewayRegistry } from './gateways.ts';
import { LaneReceiver } from './lane-receiver.ts';

/** Readings and exceptions in a batch whose checksum and wire version are right. @throws SluiceError ERR_BATCH_* */
export type InspectBatch = (body: Uint8Array) => { readonly readingCount: number; readonly exceptionCount: number };

export interface UplinkConnectionSettings {
  readonly helloTimeoutMs: number;
  /** Positions of a lane are gathered for so long; a hole and a commit answer at once. */
  readonly positionIntervalMs: number;
  /** A lane with nothing to say says its position every so often: well below every gateway's watchdog. */
  readonly idlePositionIntervalMs: number;
  readonly pingIntervalMs: number;
  /** Nothing heard for so long, though we read: the peer is gone. */
  readonly silenceMsMax: number;
}

/** What a connection needs of the server that it belongs to. */
export interface ConnectionHost {
  readonly engine: IngestEngine;
  readonly gateways: GatewayRegistry;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly inspect: InspectBatch;
  readonly settings: UplinkConnectionSettings;
  readonly hubInstance: string;
  readonly hubVersion: string;
  readonly wireVersions: readonly number[];
  readonly compressions: readonly string[];
  /** Too much is pending: nothing is to be read. */
  readonly paused: boolean;
  admission(): Admission;
  /** The connection now speaks for the lane; an older one of the same lane is replaced. */
  takeLane(connection: UplinkConnection, key: LaneKey): void;
  isLaneHolder(connection: UplinkConnection): boolean;
  received(bytes: number): void;
  closed(connection: UplinkConnection): void;
}

/** A peer that does not read gets no more positions; the newest says all that the older ones said. */
const UNSENT_BYTES_MAX = 256 * 1024;

export class UplinkConnection {
  readonly gateway: string;
  readonly tokenId: string;
  key: LaneKey | null = null;
  #socket: WebSocket;
  #host: ConnectionHost;
  #state: 'hello' | 'opening' | 'open' | 'closed' = 'hello';
  #receiver: LaneReceiver | null = null;
  /** Commits that the engine reported between our question and its answer. */
  #committedWhileOpening = 0;
  #openedUs: number;
  #heardUs: number;
  #pingedUs: number;
  #positionUs = 0;
  #sentAdmission: Admission | null = null;
  #cancelPosition: (() => void) | null = null;

  constructor(socket: WebSocket, gateway: string, tokenId: string, host: ConnectionHost) {
    this.#socket = socket;
    this.gateway = gateway;
    this.tokenId = tokenId;
    this.#host = host;
    this.#openedUs = this.#heardUs = this.#pingedUs = host.clock.monotonicUs();
    socket.on('message', (data: Buffer, isBinary: boolean) => this.#onFrame(data, isBinary));
    socket.on('pong', () => this.#heard());
    socket.on('ping', () => this.#heard());
    socket.on('error', (error) => host.logger.info({ gateway, error: error.message }, 'uplink connection broke'));
    socket.on('close', () => this.#onClose());
  }

  /** Stops or goes on reading. A paused peer is not asked for signs of life: we would not see them. */
  applyPause(): void {
    if (this.#state !== 'open') return;
    if (this.#host.paused) this.#socket.pause();
    else if (this.#socket.isPaused) {
      this.#socket.resume();
      this.#heardUs = this.#host.clock.monotonicUs();
    }
    this.#sendPosition();
  }

  onCommitted(committed: number): void {
    if (this.#receiver === null) this.#committedWhileOpening = Math.max(this.#committedWhileOpening, committed);
    else if (this.#receiver.commit(committed)) this.#sendPosition();
  }

  refuse(code: Refuse['code'], message: string, retryAfterMs: number): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#send({ type: 'refuse', code, message: message.slice(0, 1024), retryAfterMs });
    // A paused socket would never read the peer's close frame.
    this.#socket.resume();
    this.#socket.close(code === 'stopping' ? 1001 : 1008);
    this.#host.clock.after(2_000, () => this.#socket.terminate());
  }

  terminate(): void {
    this.#state = 'closed';
    this.#socket.terminate();
  }

  /** About every second. */
  tick(nowUs: number): void {
    const { settings, paused } = this.#host;
    if (this.#state === 'hello' && nowUs - this.#openedUs > settings.helloTimeoutMs * 1000) {
      this.refuse('bad_message', `no hello in ${settings.helloTimeoutMs} ms`, 0);
      return;
    }
    if (this.#state === 'closed') return;
    if (!paused && nowUs - this.#heardUs > settings.silenceMsMax * 1000) {
      this.#host.logger.info(
        { gateway: this.gateway, silentMs: Math.floor((nowUs - this.#heardUs) / 1000) },
        'uplink connection silent, dropped',
      );
      this.terminate();
      return;
    }
    if (nowUs - this.#pingedUs > settings.pingIntervalMs * 1000) {
      this.#pingedUs = nowUs;
      this.#socket.ping();
    }
    if (this.#state === 'open' && this.#wantsPosition(nowUs)) this.#sendPosition();
  }

  #wantsPosition(nowUs: number): boolean {
    const receiver = this.#receiver as LaneReceiver;
    if (receiver.received > receiver.committed || receiver.rewind || this.#host.paused) return true;
    const admission = this.#host.admission();
    const sent = this.#sentAdmission;
    if (
      sent === null ||
      sent.inFlightBytesMax !== admission.inFlightBytesMax ||
      sent.backfillBytesPerSecond !== admission.backfillBytesPerSecond
    )
      return true;
    return nowUs - this.#positionUs > this.#host.settings.idlePositionIntervalMs * 1000;
  }

  #heard(): void {
    this.#heardUs = this.#host.clock.monotonicUs();
  }

  #onClose(): void {
    this.#state = 'closed';
    this.#cancelPosition?.();
    if (this.#receiver !== null && this.key !== null) this.#host.gateways.laneDisconnected(this.key, !this.#host.isLaneHolder(this));
    this.#host.closed(this);
  }

  #onFrame(data: Buffer, isBinary: boolean): void {
    // A socket that was refused or replaced may still have frames buffered.
    if (this.#state === 'closed') return;
    this.#heard();
    let message: GatewayMessage;
    try {
      if (!isBinary) throw new Error('a text frame');
      message = decodeGatewayMessage(data);
    } catch (error) {
      this.refuse('bad_message', errorMessage(error), 1_000);
      return;
    }
    if (message.type === 'hello') {
      if (this.#state === 'hello') void this.#onHello(message);
      else this.refuse('bad_message', 'a second hello', 1_000);
    } else if (this.#state !== 'open') {
      this.refuse('bad_message', `a ${message.type} before the welcome`, 1_000);
    } else if (message.type === 'batch') {
      this.#onBatch(message);
    } else {
      this.#host.gateways.heartbeat(this.gateway, message, this.#host.clock.nowUs());
      if (message.watermark !== null) this.#host.engine.assertWatermark(this.gateway, message.watermark);
    }
  }

  async #onHello(hello: Hello): Promise<void> {
    const { engine, gateways, clock, logger } = this.#host;
    const { lakeId } = engine;
    if (hello.lakeId !== null && hello.lakeId !== lakeId) {
      logger.error({ gateway: this.gateway, pinned: hello.lakeId, lakeId }, 'a gateway belongs to another lake; refused');
      this.refuse('wrong_lake', `this hub serves lake ${lakeId}, the gateway is pinned to ${hello.lakeId}`, 60_000);
      return;
    }
    const claim = hello.lanes.find((candidate) => candidate.epoch === hello.epoch && candidate.lane === hello.lane);
    if (claim === undefined || claim.base > claim.assigned + 1) {
      this.refuse(
        'bad_message',
        claim === undefined
          ? 'the lane of the connection is not among its lanes'
          : `base ${claim.base} above assigned ${claim.assigned} + 1`,
        1_000,
      );
      return;
    }
    this.#state = 'opening';
    const key: LaneKey = { gateway: this.gateway, epoch: hello.epoch, lane: hello.lane };
    this.key = key;
    // Before the question to the engine: nothing of the older connection may be submitted behind it.
    this.#host.takeLane(this, key);
    gateways.hello(this.gateway, hello, clock.nowUs());
    let receiver: LaneReceiver;
    try {
      receiver = new LaneReceiver(await engine.openLane(key, claim));
    } catch (error) {
      logger.error(
        { gateway: this.gateway, epoch: hello.epoch, lane: hello.lane, error: errorMessage(error) },
        'the lane cannot be opened',
      );
      this.refuse('unavailable', 'the lake cannot be read now', 5_000);
      return;
    }
    // Closed or replaced in the meantime.
    if ((this.#state as string) !== 'opening' || !this.#host.isLaneHolder(this)) return;
    receiver.commit(this.#committedWhileOpening);
    this.#receiver = receiver;
    this.#state = 'open';
    if (receiver.status === 'forked')
      logger.error(
        { gateway: this.gateway, epoch: hello.epoch, lane: hello.lane, assigned: claim.assigned, committed: receiver.committed },
        'a lane has forked: the lake has more than its gateway assigned',
      );
    gateways.laneConnected(key, receiver, clock.nowUs());
    this.#send({
      type: 'welcome',
      hubInstance: this.#host.hubInstance,
      hubVersion: this.#host.hubVersion,
      lakeId,
      gateway: this.gateway,
      wireVersions: [...this.#host.wireVersions],
      compressions: [...this.#host.compressions],
      wallUs: clock.nowUs(),
      position: this.#position(receiver, key),
    });
    if (this.#host.paused) this.applyPause();
  }

  #onBatch(message: BatchMessage): void {
    const receiver = this.#receiver as LaneReceiver;
    this.#host.received(message.body.length);
    const verdict = receiver.judge(message.seq, message.generation);
    if (verdict === 'hole') this.#sendPosition();
    else if (verdict === 'next') this.#take(message, receiver);
    else this.#schedulePosition();
  }

  #take(message: BatchMessage, receiver: LaneReceiver): void {
    const { engine, gateways, clock, logger, inspect } = this.#host;
    const key = this.key as LaneKey;
    let counts: { readonly readingCount: number; readonly exceptionCount: number } = message;
    try {
      counts = inspect(message.body);
    } catch (error) {
      const place = { ...key, seq: message.seq, error: errorMessage(error) };
      if (isSluiceError(error, 'ERR_BATCH_VERSION') || isSluiceError(error, 'ERR_BATCH_COMPRESSION')) {
        logger.error(place, 'a batch that this hub is too old to read; its lane waits');
        receiver.waitForUpgrade();
        this.#sendPosition();
        return;
      }
      if (!isSluiceError(error, 'ERR_BATCH_MALFORMED') && !isSluiceError(error, 'ERR_BATCH_TOO_LARGE')) {
        logger.warn(place, 'a batch arrived damaged');
        this.refuse('bad_message', `batch ${message.seq}: ${errorMessage(error)}`, 1_000);
        return;
      }
      // Its checksum is right, so sending it again will not change it: the engine keeps its raw bytes as an exception.
    }
    if (counts.readingCount !== message.readingCount || counts.exceptionCount !== message.exceptionCount) {
      // The checksummed body decides. Refusing would refuse this seq for ever.
      logger.error(
        { ...key, seq: message.seq, declared: message.readingCount, found: counts.readingCount },
        'a batch has other counts than declared',
      );
    }
    const receivedUs = clock.nowUs();
    // A buffer of its own: the frame is a view of the socket's, which must not move to the worker.
    const body = new Uint8Array(message.body);
    engine.submit(key, { seq: message.seq, readingCount: counts.readingCount, exceptionCount: counts.exceptionCount, receivedUs, body });
    receiver.taken();
    gateways.batch(this.gateway, message.body.length, receivedUs);
    this.#schedulePosition();
  }

  /** The admission has changed. */
  announce(): void {
    if (this.#state === 'open') this.#sendPosition();
  }

  #schedulePosition(): void {
    this.#cancelPosition ??= this.#host.clock.after(this.#host.settings.positionIntervalMs, () => this.#sendPosition());
  }

  #sendPosition(): void {
    this.#cancelPosition?.();
    this.#cancelPosition = null;
    if (this.#state !== 'open' || this.#receiver === null || this.key === null) return;
    this.#host.gateways.lanePosition(this.key, this.#receiver);
    if (this.#socket.bufferedAmount > UNSENT_BYTES_MAX) return;
    this.#send(this.#position(this.#receiver, this.key));
  }

  #position(receiver: LaneReceiver, key: LaneKey): Position {
    this.#positionUs = this.#host.clock.monotonicUs();
    this.#sentAdmission = this.#host.admission();
    return {
      type: 'position',
      hubInstance: this.#host.hubInstance,
      epoch: key.epoch,
      lane: key.lane,
      generation: receiver.generation,
      received: receiver.received,
      committed: receiver.committed,
      status: receiver.status,
      rewind: receiver.rewind,
      admission: this.#sentAdmission,
      wallUs: this.#host.clock.nowUs(),
    };
  }

  #send(message: HubMessage | Welcome): void {
    // The answer to a peer that has gone is of no use; 'close' tells what there is to do.
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.send(encodeHubMessage(message), () => undefined);
  }
}
