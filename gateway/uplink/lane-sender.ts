/**
 * One lane on one connection: what to send, what to free, when to give up. Pure: it owns no socket, timer or journal; it
 * is told what happened and answers what to do (`LaneAction`s, to be done in order).
 *
 * Constraints
 * - Frees only what the hub said is committed, and never above what the journal ever assigned.
 * - Asks the journal for batches only after the hub's welcome, because an offer gives batches their seqs: a lane whose
 *   fork shows in the welcome gives out no seq that the other branch may have used.
 * - At most `admission.inFlightBytesMax` bytes sent and not yet received, but always at least one batch, or a batch above
 *   the bound would never leave. Batches offered and not sent are at most one offer of that size.
 * - One rewind per generation: a position that says `rewind` for another generation than the present one is an echo.
 *
 * Layout: `#received` and `#committed` are the hub's cumulative positions, `#sentTo` the last seq given to the socket,
 * `#inFlight` the sizes of (#received, #sentTo], `#ready` the batches after `#sentTo` that the journal has offered.
 *
 * Crash: nothing here is durable and nothing needs to be. A new connection starts from the hub's welcome; what was sent
 * and not received is offered again by the journal under the same seq.
 *
 * It does not reconnect, back off, or choose lanes: uplink.ts does.
 */
import type { Admission, LaneName, Position, Welcome } from '../../shared/uplink.ts';
import type { OfferedBatch } from '../journal/journal-api.ts';

export type CloseReason =
  /** The other end closed or the socket broke. */
  | 'closed'
  /** No welcome within the handshake time. */
  | 'no_welcome'
  /** An answer that no hub of this protocol gives. */
  | 'protocol'
  /** Nothing committed for too long: half-open link, hung hub. */
  | 'stalled'
  /** The hub wants a seq that the journal no longer has; the next hello's `base` tells it. */
  | 'base_missing'
  | 'journal'
  | 'forked'
  | 'upgrade_hub';

export type LaneAction =
  | { readonly type: 'offer'; readonly id: number; readonly afterSeq: number; readonly bytesMax: number }
  | { readonly type: 'send'; readonly batch: OfferedBatch; readonly generation: number }
  | { readonly type: 'free'; readonly seq: number }
  | { readonly type: 'rewound'; readonly afterSeq: number; readonly generation: number }
  | { readonly type: 'close'; readonly reason: CloseReason; readonly detail: string };

export interface LaneSenderSettings {
  readonly handshakeTimeoutMs: number;
  /** In flight, nothing committed and nothing heard for so long: close. */
  readonly watchdogMs: number;
  /** In flight and nothing committed for so long, whatever is heard: close. */
  readonly watchdogSlowMsMax: number;
  /** How long a lane waits after `upgrade_hub` before it asks again on a new connection. */
  readonly laneRetryMs: number;
}

export type LanePhase = 'hello' | 'open' | 'waiting' | 'closed';

export interface LaneSenderState {
  readonly phase: LanePhase;
  readonly assigned: number;
  readonly received: number;
  readonly committed: number;
  readonly sentTo: number;
  readonly inFlightBytes: number;
  readonly generation: number;
  /** Bytes that the hub has received on this connection. */
  readonly receivedBytes: number;
  /** Monotonic µs when the oldest batch went that it has not received; null: none. */
  readonly oldestSentUs: number | null;
}

/** A hub that answers each generation with another rewind is broken; at eight the back-off takes over. */
const REWINDS_WITHOUT_PROGRESS_MAX = 8;

export class LaneSender {
  readonly #epoch: string;
  readonly #lane: LaneName;
  readonly #base: number;
  /** false: `admission.backfillBytesPerSecond` does not apply. */
  readonly #paced: boolean;
  readonly #settings: LaneSenderSettings;
  readonly #startedUs: number;
  #phase: LanePhase = 'hello';
  #hubInstance = '';
  #admission: Admission = { inFlightBytesMax: 1, backfillBytesPerSecond: 0 };
  #assigned: number;
  #received = 0;
  #committed = 0;
  #sentTo = 0;
  #generation = 0;
  #rewindsWithoutProgress = 0;
  #inFlight: { readonly seq: number; readonly bytes: number; readonly sentUs: number }[] = [];
  #receivedBytes = 0;
  /** Of a paced lane, beside what the hub admits. */
  #bytesPerSecondMax = Infinity;
  #inFlightBytes = 0;
  #ready: OfferedBatch[] = [];
  /** Id of the offer that is under way, 0 if none. An answer with another id is of before a rewind. */
  #offering = 0;
  #offers = 0;
  /** Something may have been sealed since the journal last answered that there is nothing. */
  #mayHaveMore = true;
  /** When the last paced batch went, and its size: the wait follows from the rate of now, not of then. */
  #pacedUs = 0;
  #pacedBytes = 0;
  /** When the committed position last moved, or the in-flight window last became non-empty. */
  #progressUs = 0;
  /** When the last position came: pings prove a socket, a position proves a hub that works on the lane. */
  #heardUs = 0;
  #waitUntilUs = 0;

  constructor(
    claim: { epoch: string; lane: LaneName; base: number; assigned: number },
    paced: boolean,
    settings: LaneSenderSettings,
    nowUs: number,
  ) {
    this.#epoch = claim.epoch;
    this.#lane = claim.lane;
    this.#base = claim.base;
    this.#assigned = claim.assigned;
    this.#paced = paced;
    this.#settings = settings;
    this.#startedUs = nowUs;
  }

  get state(): LaneSenderState {
    return {
      phase: this.#phase,
      assigned: this.#assigned,
      received: this.#received,
      committed: this.#committed,
      sentTo: this.#sentTo,
      inFlightBytes: this.#inFlightBytes,
      generation: this.#generation,
      receivedBytes: this.#receivedBytes,
      oldestSentUs: this.#inFlight[0]?.sentUs ?? null,
    };
  }

  /** Nothing sent that is not committed, nothing ready, and the journal has said that there is nothing more. */
  get idle(): boolean {
    return (
      this.#phase === 'open' && this.#sentTo === this.#committed && this.#ready.length === 0 && this.#offering === 0 && !this.#mayHaveMore
    );
  }

  welcome(message: Welcome, nowUs: number): LaneAction[] {
    if (this.#phase === 'closed') return [];
    if (this.#phase !== 'hello') return this.#close('protocol', 'a second welcome');
    const { received, committed } = message.position;
    this.#phase = 'open';
    this.#hubInstance = message.hubInstance;
    this.#progressUs = nowUs;
    // Before the first send there is nothing to compare with: the hub's word is where this connection starts.
    this.#sentTo = Math.max(received, committed);
    const actions = this.#position(message.position, nowUs);
    // #position may have found a fork and closed.
    if ((this.#phase as LanePhase) === 'open' && this.#received + 1 < this.#base) {
      actions.push(...this.#close('base_missing', `the hub is at ${this.#received}, the journal holds ${this.#base} and later`));
      return actions;
    }
    actions.push(...this.#pump(nowUs));
    return actions;
  }

  position(message: Position, nowUs: number): LaneAction[] {
    if (this.#phase === 'closed') return [];
    if (this.#phase === 'hello') return this.#close('protocol', 'a position before the welcome');
    const actions = this.#position(message, nowUs);
    actions.push(...this.#pump(nowUs));
    return actions;
  }

  /** The journal's answer to the offer with this id. */
  offered(id: number, batches: readonly OfferedBatch[], nowUs: number): LaneAction[] {
    for (const batch of batches) this.#assigned = Math.max(this.#assigned, batch.seq);
    if (this.#phase !== 'open' || id !== this.#offering) return [];
    this.#offering = 0;
    if (batches.length === 0) return this.#pump(nowUs);
    this.#mayHaveMore = true;
    for (const batch of batches) {
      // The hub may have moved on, by another hub's commit, while the journal was reading.
      if (batch.seq <= this.#sentTo) continue;
      const expected = (this.#ready.at(-1)?.seq ?? this.#sentTo) + 1;
      if (batch.seq !== expected) return this.#close('base_missing', `the journal offered ${batch.seq}, the hub needs ${expected}`);
      this.#ready.push(batch);
    }
    return this.#pump(nowUs);
  }

  offerFailed(id: number, detail: string): LaneAction[] {
    return this.#phase === 'closed' || id !== this.#offering ? [] : this.#close('journal', detail);
  }

  /** Something was sealed. */
  sealed(nowUs: number): LaneAction[] {
    this.#mayHaveMore = true;
    return this.#pump(nowUs);
  }

  /** To be called at least at `deadlineUs()`. */
  tick(nowUs: number): LaneAction[] {
    if (this.#phase === 'closed') return [];
    if (nowUs < this.deadlineUs()) return [];
    if (this.#phase === 'hello') return this.#close('no_welcome', `no welcome in ${this.#settings.handshakeTimeoutMs} ms`);
    if (this.#phase === 'waiting') return this.#close('upgrade_hub', 'asking again');
    if (this.#sentTo > this.#committed && nowUs >= this.#stalledUs()) {
      const waitedMs = Math.floor((nowUs - this.#progressUs) / 1000);
      return this.#close('stalled', `${this.#sentTo - this.#committed} batches in flight, nothing committed for ${waitedMs} ms`);
    }
    return this.#pump(nowUs);
  }

  /** Monotonic µs at which `tick` has something to do; Infinity if nothing but an event will change anything. */
  deadlineUs(): number {
    switch (this.#phase) {
      case 'closed':
        return Infinity;
      case 'hello':
        return this.#startedUs + this.#settings.handshakeTimeoutMs * 1000;
      case 'waiting':
        return this.#waitUntilUs;
      default: {
        const paced = this.#ready.length > 0 && this.#hasRoom() ? this.#paceUs() : Infinity;
        return Math.min(paced, this.#sentTo > this.#committed ? this.#stalledUs() : Infinity);
      }
    }
  }

  /** What the link bears of old data, beside what the hub admits. */
  pace(bytesPerSecond: number, nowUs: number): LaneAction[] {
    this.#bytesPerSecondMax = bytesPerSecond;
    return this.#pump(nowUs);
  }

  /** The connection is gone. */
  closed(): void {
    this.#phase = 'closed';
    this.#ready = [];
    this.#inFlight = [];
    this.#inFlightBytes = 0;
  }

  #stalledUs(): number {
    const silentUs = Math.max(this.#progressUs, this.#heardUs) + this.#settings.watchdogMs * 1000;
    return Math.min(silentUs, this.#progressUs + this.#settings.watchdogSlowMsMax * 1000);
  }

  #close(reason: CloseReason, detail: string): LaneAction[] {
    this.closed();
    return [{ type: 'close', reason, detail }];
  }

  #position(message: Position, nowUs: number): LaneAction[] {
    if (message.hubInstance !== this.#hubInstance || message.epoch !== this.#epoch || message.lane !== this.#lane) {
      return this.#close('protocol', 'a position of another hub instance or lane');
    }
    if (message.generation > this.#generation)
      return this.#close('protocol', `position of generation ${message.generation}, here is ${this.#generation}`);
    this.#heardUs = nowUs;
    const { committed } = message;
    const received = Math.max(message.received, committed);
    if (message.status === 'forked' || received > this.#assigned) {
      return this.#close('forked', `the hub is at ${received}, the journal assigned ${this.#assigned}`);
    }
    this.#admission = message.admission;
    const actions = this.#advance(received, committed, nowUs);
    if (message.status === 'upgrade_hub') {
      if (this.#phase === 'open') {
        this.#phase = 'waiting';
        this.#waitUntilUs = nowUs + this.#settings.laneRetryMs * 1000;
      }
    } else if (message.rewind && message.generation === this.#generation) {
      actions.push(...this.#rewind());
    }
    return actions;
  }

  #advance(received: number, committed: number, nowUs: number): LaneAction[] {
    const actions: LaneAction[] = [];
    if (committed > this.#committed) {
      this.#committed = committed;
      this.#progressUs = nowUs;
      actions.push({ type: 'free', seq: committed });
    }
    if (received > this.#received) {
      this.#received = received;
      this.#rewindsWithoutProgress = 0;
      while ((this.#inFlight[0]?.seq ?? Infinity) <= received) {
        const { bytes = 0 } = this.#inFlight.shift() ?? {};
        this.#inFlightBytes -= bytes;
        this.#receivedBytes += bytes;
      }
      // After a rewind the hub may turn out to have had more: those need not go twice.
      this.#sentTo = Math.max(this.#sentTo, received);
      while ((this.#ready[0]?.seq ?? Infinity) <= received) this.#ready.shift();
    }
    return actions;
  }

  #rewind(): LaneAction[] {
    if (++this.#rewindsWithoutProgress > REWINDS_WITHOUT_PROGRESS_MAX) {
      return this.#close('protocol', `${REWINDS_WITHOUT_PROGRESS_MAX} rewinds to ${this.#received + 1} in a row`);
    }
    this.#generation++;
    this.#sentTo = this.#received;
    this.#inFlight = [];
    this.#inFlightBytes = 0;
    this.#ready = [];
    this.#offering = 0;
    this.#mayHaveMore = true;
    return [{ type: 'rewound', afterSeq: this.#sentTo, generation: this.#generation }];
  }

  #hasRoom(): boolean {
    const next = this.#ready[0];
    return next === undefined || this.#inFlight.length === 0 || this.#inFlightBytes + next.body.length <= this.#admission.inFlightBytesMax;
  }

  /** Sends what may be sent, then asks the journal for more if there is room. */
  #pump(nowUs: number): LaneAction[] {
    if (this.#phase !== 'open') return [];
    const actions: LaneAction[] = [];
    while (this.#ready.length > 0 && this.#hasRoom() && this.#paceAllows(nowUs)) {
      const batch = this.#ready.shift() as OfferedBatch;
      if (this.#sentTo === this.#committed) this.#progressUs = nowUs;
      this.#sentTo = batch.seq;
      this.#inFlight.push({ seq: batch.seq, bytes: batch.body.length, sentUs: nowUs });
      this.#inFlightBytes += batch.body.length;
      actions.push({ type: 'send', batch, generation: this.#generation });
    }
    const room = this.#admission.inFlightBytesMax - this.#inFlightBytes;
    if (this.#ready.length === 0 && this.#offering === 0 && this.#mayHaveMore && (room > 0 || this.#inFlight.length === 0)) {
      this.#offering = ++this.#offers;
      // An answer without batches leaves it so; `sealed` in the meantime sets it again.
      this.#mayHaveMore = false;
      actions.push({ type: 'offer', id: this.#offering, afterSeq: this.#sentTo, bytesMax: Math.max(1, room) });
    }
    return actions;
  }

  /**
   * Backfill goes at the rate that the hub admits and the link bears, one batch at a time: after B bytes the next one waits
   * B / rate. While the hub admits nothing only a position can start it again.
   */
  #paceUs(): number {
    if (!this.#paced) return 0;
    const bytesPerSecond = Math.min(this.#admission.backfillBytesPerSecond, this.#bytesPerSecondMax);
    if (bytesPerSecond === 0) return Infinity;
    return this.#pacedUs + Math.ceil((this.#pacedBytes / bytesPerSecond) * 1_000_000);
  }

  #paceAllows(nowUs: number): boolean {
    if (!this.#paced) return true;
    if (this.#admission.backfillBytesPerSecond === 0 || nowUs < this.#paceUs()) return false;
    this.#pacedUs = nowUs;
    this.#pacedBytes = this.#ready[0].body.length;
    return true;
  }
}
