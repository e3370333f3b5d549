/**
 * One WebSocket to the hub for one lane: carries out what its LaneSender decides. The only file of the gateway that
 * knows ws.
 *
 * Life: connecting → hello sent → (lake pinned or compared) → welcome → batches up, positions down → `onClosed`, once.
 * Nothing is retried here. Journal answers that come after the close are dropped; what they made durable stays so.
 */
import { WebSocket } from 'ws';
import type { Clock } from '../../shared/clock.ts';
import { errorMessage, SluiceError, type ErrorCode } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logging.ts';
import { decodeHubMessage, encodeGatewayMessage, HUB_FRAME_BYTES_MAX, UPLINK_BODY_BYTES_MAX } from '../../shared/uplink-codec.ts';
import {
  UPLINK_SUBPROTOCOL,
  type Heartbeat,
  type Hello,
  type HubMessage,
  type LaneClaim,
  type Refuse,
  type Welcome,
} from '../../shared/uplink.ts';
import type { HubTimeSink } from '../clock.ts';
import type { UplinkJournal } from '../journal/journal-api.ts';
import type { HubAddress } from './hub-address.ts';
import { LaneSender, type CloseReason, type LaneAction, type LaneSenderState } from './lane-sender.ts';
import type { UplinkSettings } from './settings.ts';

export interface LinkClosed {
  readonly reason: CloseReason | 'drained' | 'wrong_lake' | 'refused' | 'unauthorized' | 'stopped';
  readonly error: SluiceError | null;
  readonly retryAfterMs: number;
  readonly committedSomething: boolean;
  /** Since the welcome; 0 without one. */
  readonly openMs: number;
}

/** The network as an argument: answers a socket that is connecting. */
export type OpenSocket = (address: HubAddress) => WebSocket;

export function openWebSocket(address: HubAddress): WebSocket {
  return new WebSocket(address.url, [UPLINK_SUBPROTOCOL], {
    headers: { authorization: `Bearer ${address.token}` },
    // Batches are compressed already.
    perMessageDeflate: false,
    maxPayload: HUB_FRAME_BYTES_MAX,
    followRedirects: false,
    ...(address.ca === null ? {} : { ca: address.ca }),
    ...(needsMask(address.url) ? {} : { generateMask: (mask: Buffer) => mask.fill(0) }),
  });
}

export interface LaneLinkOptions {
  readonly openSocket: OpenSocket;
  readonly address: HubAddress;
  readonly hello: Hello;
  readonly claim: LaneClaim;
  readonly paced: boolean;
  readonly journal: UplinkJournal;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly settings: UplinkSettings;
  readonly hubTime: HubTimeSink | undefined;
  readonly onWelcome: (welcome: Welcome) => void;
  readonly onCommitted: (seq: number) => void;
  readonly onSent: (bytes: number, assigned: number) => void;
  readonly onClosed: (closed: LinkClosed) => void;
}

const CODE_OF_REASON: Partial<Record<CloseReason, ErrorCode>> = {
  closed: 'ERR_UPLINK_CONNECT',
  no_welcome: 'ERR_UPLINK_CONNECT',
  protocol: 'ERR_UPLINK_PROTOCOL',
  base_missing: 'ERR_UPLINK_PROTOCOL',
  stalled: 'ERR_UPLINK_STALLED',
  journal: 'ERR_UPLINK_JOURNAL',
  forked: 'ERR_UPLINK_FORKED',
  upgrade_hub: 'ERR_UPLINK_UPGRADE_HUB',
};

/** Positions that come while the lake id is being pinned. A hub sends one a second. */
const HELD_MESSAGES_MAX = 64;

export class LaneLink {
  readonly #options: LaneLinkOptions;
  readonly #sender: LaneSender;
  readonly #socket: WebSocket;
  #closed = false;
  #committedSomething = false;
  #welcomedUs: number | null = null;
  #heardUs: number;
  #helloUs = 0;
  #idleSinceUs: number | null = null;
  #heartbeatWaits = false;
  /** null: no welcome yet, or it has been handed to the sender. */
  #held: HubMessage[] | null = null;
  #armedUs = Infinity;
  #cancelTimer: (() => void) | null = null;
  #cancelPing: (() => void) | null = null;

  constructor(options: LaneLinkOptions) {
    const { address, clock, settings } = options;
    this.#options = options;
    this.#heardUs = clock.monotonicUs();
    this.#sender = new LaneSender(options.claim, options.paced, settings, clock.monotonicUs());
    this.#socket = options.openSocket(address);
    this.#listen();
    this.#arm();
  }

  /** Carries old data. */
  get paced(): boolean {
    return this.#options.paced;
  }

  get state(): LaneSenderState {
    return this.#sender.state;
  }

  /** The hub has welcomed the lane. */
  get open(): boolean {
    return this.#welcomedUs !== null && !this.#closed;
  }

  /** Monotonic µs since when there has been nothing to do; null while there is. */
  idleSinceUs(nowUs: number): number | null {
    if (!this.#sender.idle) this.#idleSinceUs = null;
    else this.#idleSinceUs ??= nowUs;
    return this.#idleSinceUs;
  }

  sealed(): void {
    this.#run((nowUs) => this.#sender.sealed(nowUs));
  }

  /** A lane of old data: at most so many bytes per second. */
  pace(bytesPerSecond: number): void {
    this.#run((nowUs) => this.#sender.pace(bytesPerSecond, nowUs));
  }

  heartbeat(message: Heartbeat): void {
    // On a slow link one heartbeat waits behind the batches, not a queue of them.
    if (!this.open || this.#heartbeatWaits || this.#socket.readyState !== WebSocket.OPEN) return;
    this.#heartbeatWaits = true;
    this.#socket.send(encodeGatewayMessage(message), () => {
      this.#heartbeatWaits = false;
    });
  }

  close(reason: 'drained' | 'stopped'): void {
    this.#finish(reason, null, 0);
  }

  #listen(): void {
    const socket = this.#socket;
    socket.on('open', () => {
      if (this.#closed) return;
      this.#helloUs = this.#options.clock.monotonicUs();
      this.#write(encodeGatewayMessage(this.#options.hello));
    });
    socket.on('message', (data: Buffer, isBinary: boolean) => this.#onFrame(data, isBinary));
    socket.on('ping', () => this.#heard());
    socket.on('pong', () => this.#heard());
    socket.on('unexpected-response', (request, response) => {
      const status = response.statusCode ?? 0;
      response.resume();
      request.destroy();
      const code = status === 401 || status === 403 ? 'ERR_UPLINK_UNAUTHORIZED' : 'ERR_UPLINK_CONNECT';
      const error = new SluiceError(code, `the hub answered ${status} to the uplink request`);
      this.#finish(code === 'ERR_UPLINK_UNAUTHORIZED' ? 'unauthorized' : 'closed', error, 0);
    });
    socket.on('error', (cause) => this.#finish('closed', new SluiceError('ERR_UPLINK_CONNECT', errorMessage(cause), { cause }), 0));
    socket.on('close', (code, reason) => {
      this.#finish(
        'closed',
        new SluiceError(
          'ERR_UPLINK_CONNECT',
          `the connection was closed (${code}${reason.length === 0 ? '' : `, ${reason.toString('utf8')}`})`,
        ),
        0,
      );
    });
    this.#schedulePing();
  }

  #heard(): void {
    this.#heardUs = this.#options.clock.monotonicUs();
  }

  #schedulePing(): void {
    const { clock, settings } = this.#options;
    this.#cancelPing = clock.after(settings.pingIntervalMs, () => {
      const silentMs = Math.floor((clock.monotonicUs() - this.#heardUs) / 1000);
      if (this.#socket.readyState === WebSocket.OPEN) {
        if (silentMs >= settings.silenceMsMax) {
          this.#finish(
            'stalled',
            new SluiceError('ERR_UPLINK_STALLED', `nothing heard for ${silentMs} ms, allowed ${settings.silenceMsMax}`),
            0,
          );
          return;
        }
        this.#socket.ping();
      }
      this.#schedulePing();
    });
  }

  #onFrame(data: Buffer, isBinary: boolean): void {
    if (this.#closed) return;
    this.#heard();
    let message: HubMessage;
    try {
      if (!isBinary) throw new SluiceError('ERR_UPLINK_MESSAGE', 'a text frame');
      message = decodeHubMessage(data);
    } catch (error) {
      this.#finish(
        'protocol',
        error instanceof SluiceError ? error : new SluiceError('ERR_UPLINK_MESSAGE', errorMessage(error), { cause: error }),
        0,
      );
      return;
    }
    this.#tellTime(message);
    if (message.type === 'refuse') this.#onRefuse(message);
    else if (this.#held !== null) this.#hold(message);
    else if (message.type === 'welcome') void this.#onWelcome(message);
    else this.#run((nowUs) => this.#sender.position(message, nowUs));
  }

  #tellTime(message: HubMessage): void {
    const { hubTime } = this.#options;
    if (message.type === 'welcome') hubTime?.hubAnswered(message.wallUs, this.#helloUs, this.#heardUs);
    else if (message.type === 'position' && message.wallUs !== undefined) hubTime?.hubHeard(message.wallUs);
  }

  #hold(message: HubMessage): void {
    this.#held?.push(message);
    if ((this.#held?.length ?? 0) > HELD_MESSAGES_MAX)
      this.#finish('journal', new SluiceError('ERR_UPLINK_JOURNAL', 'the journal does not answer'), 0);
  }

  #onRefuse({ code, message, retryAfterMs }: Refuse): void {
    if (code === 'wrong_lake') this.#finish('wrong_lake', new SluiceError('ERR_UPLINK_WRONG_LAKE', message), retryAfterMs);
    else this.#finish('refused', new SluiceError('ERR_UPLINK_REFUSED', `${code}: ${message}`), retryAfterMs);
  }

  /** Nothing is offered and nothing freed before the lake is known to be ours, durably. */
  async #onWelcome(welcome: Welcome): Promise<void> {
    const { journal, settings, logger } = this.#options;
    if (this.#welcomedUs === null && journal.lakeId !== welcome.lakeId) {
      if (journal.lakeId !== null && settings.acceptLakeId !== welcome.lakeId) {
        this.#finish(
          'wrong_lake',
          new SluiceError('ERR_UPLINK_WRONG_LAKE', `the hub serves lake ${welcome.lakeId}, pinned is ${journal.lakeId}`),
          0,
        );
        return;
      }
      this.#held = [];
      try {
        await journal.pinLake(welcome.lakeId);
      } catch (cause) {
        this.#finish(
          'journal',
          new SluiceError('ERR_UPLINK_JOURNAL', `the lake id cannot be pinned: ${errorMessage(cause)}`, { cause }),
          0,
        );
        return;
      }
      if (this.#closed) return;
      logger.info({ lakeId: welcome.lakeId }, 'lake pinned');
    }
    const held = this.#held ?? [];
    this.#held = null;
    this.#welcomedUs ??= this.#options.clock.monotonicUs();
    this.#run((nowUs) => this.#sender.welcome(welcome, nowUs));
    if (this.#closed) return;
    this.#options.onWelcome(welcome);
    for (const message of held) {
      if (message.type === 'position') this.#run((nowUs) => this.#sender.position(message, nowUs));
    }
  }

  #run(step: (nowUs: number) => LaneAction[]): void {
    if (this.#closed) return;
    for (const action of step(this.#options.clock.monotonicUs())) {
      this.#do(action);
      if (this.#closed) return;
    }
    this.#arm();
  }

  #do(action: LaneAction): void {
    const { claim, logger, onSent, onCommitted } = this.#options;
    switch (action.type) {
      case 'send': {
        const { batch, generation } = action;
        if (batch.body.length > UPLINK_BODY_BYTES_MAX) {
          // No hub reads it, so sending would only end the connection with a worse message.
          const detail = `batch ${batch.seq} has ${batch.body.length} bytes, the uplink carries ${UPLINK_BODY_BYTES_MAX}`;
          this.#finish('journal', new SluiceError('ERR_UPLINK_JOURNAL', detail), 0);
          return;
        }
        const frame = encodeGatewayMessage({
          type: 'batch',
          seq: batch.seq,
          generation,
          readingCount: batch.readingCount,
          exceptionCount: batch.exceptionCount,
          body: batch.body,
        });
        this.#write(frame);
        onSent(frame.length, this.#sender.state.assigned);
        return;
      }
      case 'offer':
        void this.#offer(action.id, action.afterSeq, action.bytesMax);
        return;
      case 'free':
        this.#committedSomething = true;
        onCommitted(action.seq);
        return;
      case 'rewound':
        logger.info(
          { epoch: claim.epoch, lane: claim.lane, afterSeq: action.afterSeq, generation: action.generation },
          'the hub missed a batch; sending again',
        );
        return;
      case 'close':
        this.#finish(action.reason, new SluiceError(CODE_OF_REASON[action.reason] ?? 'ERR_UPLINK_CONNECT', action.detail), 0);
        return;
    }
  }

  async #offer(id: number, afterSeq: number, bytesMax: number): Promise<void> {
    const { claim, journal } = this.#options;
    try {
      const batches = await journal.offer(claim.epoch, claim.lane, afterSeq, bytesMax);
      this.#run((nowUs) => this.#sender.offered(id, batches, nowUs));
    } catch (cause) {
      this.#run(() => this.#sender.offerFailed(id, `the journal cannot offer: ${errorMessage(cause)}`));
    }
  }

  #write(frame: Uint8Array): void {
    // An error here is followed by 'error' or 'close', which say what there is to do.
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(frame, () => undefined);
  }

  /** One timer for the sender's deadline: it is armed anew only for an earlier one, a late one is found on firing. */
  #arm(): void {
    const dueUs = this.#sender.deadlineUs();
    if (dueUs >= this.#armedUs) return;
    this.#cancelTimer?.();
    this.#armedUs = dueUs;
    const delayMs = Math.max(0, Math.ceil((dueUs - this.#options.clock.monotonicUs()) / 1000));
    this.#cancelTimer = this.#options.clock.after(delayMs, () => {
      this.#armedUs = Infinity;
      this.#run((nowUs) => this.#sender.tick(nowUs));
    });
  }

  #finish(reason: LinkClosed['reason'], error: SluiceError | null, retryAfterMs: number): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#sender.closed();
    this.#cancelTimer?.();
    this.#cancelPing?.();
    // A peer that is fine gets a close frame; one that may be half-open is not waited for.
    if ((reason === 'drained' || reason === 'stopped') && this.#socket.readyState === WebSocket.OPEN) {
      this.#socket.close(1000);
      this.#options.clock.after(1_000, () => this.#socket.terminate());
    } else {
      this.#socket.terminate();
    }
    const openMs = this.#welcomedUs === null ? 0 : Math.floor((this.#options.clock.monotonicUs() - this.#welcomedUs) / 1000);
    this.#options.onClosed({ reason, error, retryAfterMs, committedSomething: this.#committedSomething, openMs });
  }
}

/**
 * Masking keeps what somebody else chose to send from looking like HTTP to a proxy on the way [RFC 6455, 10.3]. Inside
 * TLS and on loopback there is none, and a mask of zeros, which ws does not apply, saves both ends 5 ns per byte.
 */
function needsMask(url: string): boolean {
  return !url.startsWith('wss:') && !/^ws:\/\/(127\.\d+\.\d+\.\d+|\[::1\]|localhost)(:|\/)/.test(url);
}
