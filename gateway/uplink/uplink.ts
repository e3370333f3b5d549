/**
 * The gateway's end of the uplink: which lanes are connected when (docs/uplink.md).
 *
 * Constraints
 * - The live lane of the current epoch goes first: no other lane connects before the hub has welcomed it, so the lake is
 *   pinned by one connection, and a hub that is away is asked by one connection, not by four.
 * - At most `connectionsMax` connections; lanes of earlier openings wait their turn, and a lane that is drained leaves.
 * - A wait after a failure is random up to a bound that doubles (Backoff) and is reset by committed progress or a stable
 *   connection only. A lane that has forked or waits for a newer hub asks again every `laneRetryMs`, and so does the
 *   uplink as a whole while the hub serves the wrong lake: nothing is sent or freed until the ids agree.
 * - Lanes of old data share what the link bears beside live data (backfill-share.ts).
 * - `free` goes to the journal one at a time per lane, the highest position last.
 *
 * Crash: nothing is kept here. What was sent and not committed is in the journal; what was committed and not yet freed is
 * freed again after the next welcome.
 */
import { z } from 'zod';
import { errorMessage, SluiceError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logging.ts';
import type { ClockState, Hello, LaneClaim, LaneName, Welcome } from '../../shared/uplink.ts';
import { VERSION } from '../../shared/version.ts';
import { WIRE_VERSION } from '../../shared/batch/batch.ts';
import type { HubTimeSink, JournalClock } from '../clock.ts';
import type { JournalLane, UplinkJournal } from '../journal/journal-api.ts';
import { BackfillShare } from './backfill-share.ts';
import { Backoff } from './backoff.ts';
import { hubAddress, type HubAddress } from './hub-address.ts';
import { LaneLink, openWebSocket, type LinkClosed, type OpenSocket } from './lane-link.ts';
import { uplinkSettingsSchema, type UplinkSettings } from './settings.ts';
import { laneState, type UplinkState } from './uplink-state.ts';

export interface UplinkOptions {
  /** http(s):// or ws(s):// address of the hub; a path is a prefix of UPLINK_PATH. */
  readonly url: string;
  readonly token: string;
  /** PEM file with the only authorities that the hub's certificate may come from; null: those of the system. */
  readonly caFile: string | null;
  readonly journal: UplinkJournal;
  readonly clock: JournalClock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  readonly logger: Logger;
  readonly settings?: Partial<UplinkSettings>;
  /** Is told what the hub's clock says. */
  readonly hubTime?: HubTimeSink;
  /** Default: a WebSocket of this machine. */
  readonly openSocket?: OpenSocket;
}

interface Lane {
  readonly epoch: string;
  readonly lane: LaneName;
  readonly backoff: Backoff;
  /** The hub instance that last welcomed it. */
  welcomedBy: string | null;
  link: LaneLink | null;
  parked: 'upgrade_hub' | 'forked' | null;
  /** Monotonic µs before which it does not connect. */
  retryUs: number;
  /** Highest seq offered in this process: a claim may have been read before the last offer was. */
  assigned: number;
  received: number | null;
  committed: number | null;
  /** 0: nothing to free. */
  freeTo: number;
  freeing: boolean;
}

function asClaim({ epoch, lane, base, assigned }: JournalLane): LaneClaim {
  return { epoch, lane, base, assigned };
}

/** A backfill lane that was drained is opened again at the earliest after so long. */
const BACKFILL_PAUSE_MS = 5_000;
/** How often the share of old data is looked at. */
const SHARE_INTERVAL_MS = 500;
/** Lanes are looked at again at least so often, for what no event tells. */
const PLAN_INTERVAL_MS = 5_000;
/** Bound of a hello; a gateway that opens its journal this often without draining has other troubles. */
const CLAIMS_MAX = 1_024;

/** @throws SluiceError ERR_UPLINK_URL */
export function startUplink(options: UplinkOptions): Uplink {
  return new Uplink(options, hubAddress(options.url, options.token, options.caFile));
}

export class Uplink {
  readonly #options: UplinkOptions;
  readonly #address: HubAddress;
  readonly #settings: UplinkSettings;
  #lanes = new Map<string, Lane>();
  #planning = false;
  #planAgain = false;
  #cancelPlan: (() => void) | null = null;
  #cancelHeartbeat: (() => void) | null = null;
  #cancelShare: (() => void) | null = null;
  readonly #share = new BackfillShare();
  /** Of the last look at the share: bytes received by then on the links of then. */
  #shared = { us: 0, bytes: new Map<LaneLink, number>() };
  #stopped = false;
  #wrongLake = false;
  #welcome: Welcome | null = null;
  #lastError: UplinkState['lastError'] = null;
  #reconnects = 0;
  #bytesSent = 0;
  #batchesSent = 0;
  #lastCommittedUs: number | null = null;
  #whenQuiet: (() => void) | null = null;

  constructor(options: UplinkOptions, address: HubAddress) {
    this.#options = options;
    this.#address = address;
    // Keys beside ours (the whole `uplink` section of the configuration, say) are not our concern.
    this.#settings = z.object(uplinkSettingsSchema.shape).parse(options.settings ?? {});
    options.journal.onSealed(() => this.#onSealed());
    this.#heartbeat();
    this.#shareOut();
    this.#plan();
  }

  state(): UplinkState {
    const nowUs = this.#options.clock.monotonicUs();
    const primary = this.#lanes.get(this.#primaryId());
    const connected = primary?.link?.open ?? false;
    const retryInMs = primary === undefined || primary.link !== null ? null : Math.max(0, Math.ceil((primary.retryUs - nowUs) / 1000));
    return {
      status: this.#stopped
        ? 'stopped'
        : this.#wrongLake
          ? 'wrong_lake'
          : connected
            ? 'connected'
            : primary?.link !== null
              ? 'connecting'
              : 'waiting',
      connected,
      hubInstance: connected ? (this.#welcome?.hubInstance ?? null) : null,
      hubVersion: this.#welcome?.hubVersion ?? null,
      gateway: this.#welcome?.gateway ?? null,
      lakeId: this.#options.journal.lakeId,
      lanes: [...this.#lanes.values()].map((lane) => laneState(lane, nowUs)),
      lastError: this.#lastError,
      reconnectsTotal: this.#reconnects,
      bytesSentTotal: this.#bytesSent,
      batchesSentTotal: this.#batchesSent,
      lastCommittedUs: this.#lastCommittedUs,
      retryInMs,
      backfillBytesPerSecondMax: Number.isFinite(this.#share.bytesPerSecond) ? this.#share.bytesPerSecond : null,
    };
  }

  /** Closes the connections, then waits for frees that the journal is doing. What is in flight stays in the journal. */
  async stop(deadlineMs: number): Promise<void> {
    this.#stopped = true;
    this.#cancelPlan?.();
    this.#cancelHeartbeat?.();
    this.#cancelShare?.();
    for (const lane of this.#lanes.values()) lane.link?.close('stopped');
    if (![...this.#lanes.values()].some((lane) => lane.freeing)) return;
    await new Promise<void>((resolve) => {
      const cancel = this.#options.clock.after(deadlineMs, resolve);
      this.#whenQuiet = () => {
        cancel();
        resolve();
      };
    });
  }

  /** A clock that does not judge itself is one that somebody set. */
  #clockState(): ClockState {
    const { clock } = this.#options;
    return { state: clock.known === false ? 'unknown' : 'known', wallUs: Math.max(0, clock.nowUs()) };
  }

  #primaryId(): string {
    return laneId(this.#options.journal.epoch, 'live');
  }

  #onSealed(): void {
    for (const lane of this.#lanes.values()) lane.link?.sealed();
  }

  #heartbeat(): void {
    const { clock, journal } = this.#options;
    this.#cancelHeartbeat = clock.after(this.#settings.heartbeatIntervalMs, () => {
      const link = this.#lanes.get(this.#primaryId())?.link;
      if (link?.open === true) {
        const clockState = this.#clockState();
        link.heartbeat({
          type: 'heartbeat',
          watermark: clockState.state === 'known' ? journal.watermark() : null,
          backlog: journal.backlog(),
          clock: clockState,
        });
      }
      this.#heartbeat();
    });
  }

  /** Live data first: sets the pace of the lanes of old data. */
  #shareOut(): void {
    const { clock } = this.#options;
    this.#cancelShare = clock.after(SHARE_INTERVAL_MS, () => {
      const nowUs = clock.monotonicUs();
      const bytes = new Map<LaneLink, number>();
      let deliveredBytes = 0;
      const old: LaneLink[] = [];
      for (const lane of this.#lanes.values()) {
        if (lane.link?.open !== true) continue;
        const { receivedBytes } = lane.link.state;
        bytes.set(lane.link, receivedBytes);
        deliveredBytes += receivedBytes - (this.#shared.bytes.get(lane.link) ?? 0);
        if (lane.link.paced) old.push(lane.link);
      }
      const oldestSentUs = this.#lanes.get(this.#primaryId())?.link?.state.oldestSentUs ?? null;
      const liveWaitMs = oldestSentUs === null ? 0 : (nowUs - oldestSentUs) / 1000;
      const limit = this.#share.sample({ elapsedMs: (nowUs - this.#shared.us) / 1000, deliveredBytes, liveWaitMs });
      this.#shared = { us: nowUs, bytes };
      for (const link of old) link.pace(limit / old.length);
      this.#shareOut();
    });
  }

  /** Looks at what should be connected, now or after the pass that is under way. */
  #plan(): void {
    if (this.#stopped) return;
    if (this.#planning) {
      this.#planAgain = true;
      return;
    }
    this.#planning = true;
    this.#cancelPlan?.();
    void this.#planOnce().finally(() => {
      this.#planning = false;
      if (this.#stopped) return;
      if (this.#planAgain) {
        this.#planAgain = false;
        this.#plan();
        return;
      }
      this.#cancelPlan = this.#options.clock.after(this.#nextPlanMs(), () => this.#plan());
    });
  }

  #nextPlanMs(): number {
    const nowUs = this.#options.clock.monotonicUs();
    let waitMs = Math.min(PLAN_INTERVAL_MS, this.#settings.drainIdleMs);
    for (const lane of this.#lanes.values()) {
      if (lane.link === null && lane.retryUs > nowUs) waitMs = Math.min(waitMs, Math.ceil((lane.retryUs - nowUs) / 1000));
    }
    return Math.max(1, waitMs);
  }

  async #planOnce(): Promise<void> {
    const { journal, clock } = this.#options;
    let claims: JournalLane[];
    try {
      claims = (await journal.lanes()).slice(0, CLAIMS_MAX);
    } catch (cause) {
      this.#failed(new SluiceError('ERR_UPLINK_JOURNAL', `the journal does not tell its lanes: ${errorMessage(cause)}`, { cause }));
      return;
    }
    if (this.#stopped) return;
    const nowUs = clock.monotonicUs();
    if (!claims.some((claim) => claim.epoch === journal.epoch && claim.lane === 'live'))
      claims.push({ epoch: journal.epoch, lane: 'live', base: 1, assigned: 0, isDue: false });
    this.#forgetDrained(claims);
    this.#closeIdle(claims, nowUs);
    const primary = this.#laneOf(journal.epoch, 'live');
    if (primary.link === null && nowUs >= primary.retryUs) this.#connect(primary, claims);
    if (primary.link?.open !== true) return;
    for (const claim of claims) {
      const lane = this.#laneOf(claim.epoch, claim.lane);
      if (lane === primary || lane.link !== null || nowUs < lane.retryUs || !this.#isWanted(lane, claim)) continue;
      if ([...this.#lanes.values()].filter((other) => other.link !== null).length >= this.#settings.connectionsMax) return;
      this.#connect(lane, claims);
    }
  }

  /** It has something to send; or another hub than before answers, which may have a lake that lost what this lane delivered. */
  #isWanted(lane: Lane, claim: JournalLane): boolean {
    return claim.isDue || lane.welcomedBy !== this.#welcome?.hubInstance;
  }

  #forgetDrained(claims: readonly LaneClaim[]): void {
    const held = new Set(claims.map((claim) => laneId(claim.epoch, claim.lane)));
    for (const [id, lane] of this.#lanes) if (lane.link === null && !lane.freeing && !held.has(id)) this.#lanes.delete(id);
  }

  #closeIdle(claims: readonly LaneClaim[], nowUs: number): void {
    const { journal } = this.#options;
    for (const lane of this.#lanes.values()) {
      if (lane.link === null || (lane.epoch === journal.epoch && lane.lane === 'live')) continue;
      const idleSinceUs = lane.link.idleSinceUs(nowUs);
      if (idleSinceUs === null || lane.freeing) continue;
      const mayGrow = lane.epoch === journal.epoch;
      const empty = !claims.some((claim) => claim.epoch === lane.epoch && claim.lane === lane.lane && claim.base <= claim.assigned);
      if (empty && (!mayGrow || nowUs - idleSinceUs >= this.#settings.drainIdleMs * 1000)) lane.link.close('drained');
    }
  }

  #laneOf(epoch: string, name: LaneName): Lane {
    const id = laneId(epoch, name);
    let lane = this.#lanes.get(id);
    if (lane === undefined) {
      const backoff = new Backoff(this.#settings.backoffMsMin, this.#settings.backoffMsMax, this.#options.random);
      lane = {
        epoch,
        lane: name,
        backoff,
        welcomedBy: null,
        link: null,
        parked: null,
        retryUs: 0,
        assigned: 0,
        received: null,
        committed: null,
        freeTo: 0,
        freeing: false,
      };
      this.#lanes.set(id, lane);
    }
    return lane;
  }

  #connect(lane: Lane, claims: readonly JournalLane[]): void {
    const { journal, clock, logger } = this.#options;
    const known = claims.find((claim) => claim.epoch === lane.epoch && claim.lane === lane.lane) as JournalLane;
    const claim: LaneClaim = { ...asClaim(known), assigned: Math.max(known.assigned, lane.assigned) };
    const hello: Hello = {
      type: 'hello',
      gatewayVersion: VERSION,
      wireVersions: [WIRE_VERSION],
      lakeId: this.#settings.acceptLakeId ?? journal.lakeId,
      epoch: lane.epoch,
      lane: lane.lane,
      lanes: [claim, ...claims.filter((other) => other !== known).map(asClaim)].slice(0, CLAIMS_MAX),
      backlog: journal.backlog(),
      clock: this.#clockState(),
    };
    lane.link = new LaneLink({
      openSocket: this.#options.openSocket ?? openWebSocket,
      address: this.#address,
      hello,
      claim,
      paced: lane.lane === 'backfill' || lane.epoch !== journal.epoch,
      journal,
      clock,
      logger,
      settings: this.#settings,
      hubTime: this.#options.hubTime,
      onWelcome: (welcome) => this.#onWelcome(lane, welcome),
      onCommitted: (seq) => this.#onCommitted(lane, seq),
      onSent: (bytes, assigned) => {
        this.#bytesSent += bytes;
        this.#batchesSent++;
        lane.assigned = Math.max(lane.assigned, assigned);
      },
      onClosed: (closed) => this.#onClosed(lane, closed),
    });
  }

  #onWelcome(lane: Lane, welcome: Welcome): void {
    this.#wrongLake = false;
    this.#welcome = welcome;
    lane.welcomedBy = welcome.hubInstance;
    if (welcome.position.status !== 'upgrade_hub') lane.parked = null;
    // After an outage there is a backlog: no reason to wait for the next look.
    const backfill = this.#lanes.get(laneId(this.#options.journal.epoch, 'backfill'));
    if (lane.lane === 'live' && backfill?.backoff.failures === 0) backfill.retryUs = 0;
    this.#options.logger.info(
      {
        epoch: lane.epoch,
        lane: lane.lane,
        hubInstance: welcome.hubInstance,
        received: welcome.position.received,
        committed: welcome.position.committed,
      },
      'uplink lane open',
    );
    this.#plan();
  }

  #onCommitted(lane: Lane, seq: number): void {
    this.#lastCommittedUs = this.#options.clock.nowUs();
    lane.committed = seq;
    lane.backoff.reset();
    lane.freeTo = Math.max(lane.freeTo, seq);
    if (!lane.freeing) void this.#free(lane);
  }

  async #free(lane: Lane): Promise<void> {
    lane.freeing = true;
    while (lane.freeTo > 0) {
      const seq = lane.freeTo;
      lane.freeTo = 0;
      try {
        await this.#options.journal.free(lane.epoch, lane.lane, seq);
      } catch (cause) {
        // Still held, and still committed: the next position or the next welcome frees it.
        this.#failed(new SluiceError('ERR_UPLINK_JOURNAL', `the journal cannot free: ${errorMessage(cause)}`, { cause }));
      }
    }
    lane.freeing = false;
    if (![...this.#lanes.values()].some((other) => other.freeing)) this.#whenQuiet?.();
  }

  #onClosed(lane: Lane, closed: LinkClosed): void {
    const { logger, clock, journal } = this.#options;
    const nowUs = clock.monotonicUs();
    const last = lane.link?.state;
    lane.link = null;
    if (last !== undefined) {
      lane.assigned = Math.max(lane.assigned, last.assigned);
      lane.received = last.received;
    }
    if (closed.reason === 'stopped' || this.#stopped) return;
    if (closed.reason === 'drained') {
      lane.retryUs = nowUs + BACKFILL_PAUSE_MS * 1000;
      return;
    }
    if (closed.committedSomething || closed.openMs >= this.#settings.stableMs) lane.backoff.reset();
    const waitMs = Math.max(lane.backoff.nextMs(), closed.retryAfterMs);
    lane.retryUs = nowUs + waitMs * 1000;
    this.#reconnects++;
    const slowUs = nowUs + this.#settings.laneRetryMs * 1000;
    if (closed.reason === 'forked') {
      lane.retryUs = slowUs;
      this.#onForked(lane, closed);
    } else if (closed.reason === 'wrong_lake') {
      this.#wrongLake = true;
      // One lane asks again, and only slowly: the ids have to agree before anything is sent.
      for (const other of this.#lanes.values()) other.retryUs = slowUs;
      logger.error(
        { error: closed.error?.message, lakeId: journal.lakeId },
        'WRONG LAKE: this gateway sends nothing until the hub serves the pinned lake again, or uplink.acceptLakeId names the new one',
      );
    } else if (closed.reason === 'upgrade_hub') {
      lane.parked = 'upgrade_hub';
      lane.retryUs = nowUs;
    } else {
      logger.warn(
        { epoch: lane.epoch, lane: lane.lane, reason: closed.reason, error: closed.error?.message, waitMs },
        'uplink lane closed',
      );
    }
    if (closed.error !== null) this.#failed(closed.error);
    this.#plan();
  }

  #onForked(lane: Lane, closed: LinkClosed): void {
    const { logger, journal } = this.#options;
    const first = lane.parked !== 'forked';
    lane.parked = 'forked';
    if (first) {
      logger.error(
        { epoch: lane.epoch, lane: lane.lane, error: closed.error?.message },
        'LANE FORKED: the hub has batches of this lane that this journal never numbered (a restored image or snapshot?); what the journal holds of it stays there, new data goes on in a new epoch',
      );
    }
    // A lane of an earlier opening gets no new batches anyway.
    if (lane.epoch !== journal.epoch) return;
    journal.startNewEpoch(`lane ${lane.epoch}/${lane.lane} has forked`).then(
      () => {
        // The other lane of the old epoch goes on as an old lane; its link keeps its pace until it reconnects.
        this.#plan();
      },
      (cause: unknown) => this.#failed(new SluiceError('ERR_UPLINK_JOURNAL', `no new epoch: ${errorMessage(cause)}`, { cause })),
    );
  }

  #failed(error: SluiceError): void {
    this.#lastError = { code: error.code, message: error.message, atUs: this.#options.clock.nowUs() };
  }
}

function laneId(epoch: string, lane: LaneName): string {
  return `${epoch}/${lane}`;
}
