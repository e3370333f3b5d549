/**
 * Watermarks: up to when each gateway asserts that what it had is committed.
 *
 * A claim counts once all positions that it depends on are committed; only the newest such claim of a gateway matters.
 * Waiting claims are bounded by keeping fewer of them, evenly over their time: a lake that stands still for long makes a
 * watermark coarser and never starves it. Accepted watermarks never go back. Nothing that a device says gets here.
 * In memory; what was accepted goes to the table `progress` with every flush, and comes back from there at start.
 */
import { laneAppId, type WatermarkClaim } from '../../shared/uplink.ts';

/** Heartbeats come every second and commits at most a minute apart. */
const WAITING_CLAIMS_MAX = 128;

interface GatewayWatermark {
  acceptedUs: number | null;
  waiting: WatermarkClaim[];
  /** Claims closer together than this are not all kept. */
  spacingUs: number;
  lastSeenUs: number;
}

export class Watermarks {
  #gateways = new Map<string, GatewayWatermark>();
  readonly #allowedLatenessUs: number;

  /** @param allowedLatenessMs how long a reading may take from its event time to the gateway without being late */
  constructor(allowedLatenessMs: number) {
    this.#allowedLatenessUs = allowedLatenessMs * 1000;
  }

  #of(gateway: string, nowUs: number): GatewayWatermark {
    let state = this.#gateways.get(gateway);
    if (state === undefined) {
      state = { acceptedUs: null, waiting: [], spacingUs: 0, lastSeenUs: nowUs };
      this.#gateways.set(gateway, state);
    }
    return state;
  }

  /** The gateway exists and may hold windows open. */
  seen(gateway: string, nowUs: number): void {
    const state = this.#of(gateway, nowUs);
    state.lastSeenUs = Math.max(state.lastSeenUs, nowUs);
  }

  restore(gateway: string, acceptedUs: number, seenUs: number): void {
    const state = this.#of(gateway, seenUs);
    if (state.acceptedUs === null || state.acceptedUs < acceptedUs) state.acceptedUs = acceptedUs;
  }

  claim(gateway: string, claim: WatermarkClaim, nowUs: number, committed: (appId: string) => number): void {
    this.seen(gateway, nowUs);
    const state = this.#of(gateway, nowUs);
    const { waiting } = state;
    // A gateway whose clock runs ahead must not close windows that have not begun: nothing takes a watermark back.
    if (claim.us > nowUs) claim = { ...claim, us: nowUs };
    // The newest claim takes the place of the one before it while that is close to its own predecessor.
    const isClose = waiting.length > 1 && (waiting.at(-1)?.us ?? 0) - (waiting.at(-2)?.us ?? 0) < state.spacingUs;
    if (isClose) waiting[waiting.length - 1] = claim;
    else waiting.push(claim);
    this.accept(gateway, committed);
    if (state.waiting.length <= WAITING_CLAIMS_MAX) return;
    const spanUs = claim.us - (state.waiting[0]?.us ?? claim.us);
    state.spacingUs = (2 * spanUs) / WAITING_CLAIMS_MAX;
    state.waiting = state.waiting.filter((_, index) => index % 2 === 0);
  }

  /** Some lane of the gateway moved: accepts the newest claim whose positions are committed. */
  accept(gateway: string, committed: (appId: string) => number): void {
    const state = this.#gateways.get(gateway);
    if (state === undefined) return;
    for (let index = state.waiting.length - 1; index >= 0; index--) {
      const claim = state.waiting[index];
      const covered = claim.positions.every(({ epoch, lane, seq }) => committed(laneAppId({ gateway, epoch, lane })) >= seq);
      if (!covered) continue;
      state.acceptedUs = Math.max(state.acceptedUs ?? 0, claim.us - this.#allowedLatenessUs);
      state.waiting.splice(0, index + 1);
      if (state.waiting.length === 0) state.spacingUs = 0;
      return;
    }
  }

  /** null: nothing was asserted yet. */
  acceptedUs(gateway: string): number | null {
    return this.#gateways.get(gateway)?.acceptedUs ?? null;
  }

  all(): Map<string, number> {
    const accepted = new Map<string, number>();
    for (const [gateway, state] of this.#gateways) if (state.acceptedUs !== null) accepted.set(gateway, state.acceptedUs);
    return accepted;
  }

  /** Gateways seen within the idle time-out: those that hold windows open. */
  active(nowUs: number, idleTimeoutMs: number): string[] {
    return [...this.#gateways].filter(([, state]) => nowUs - state.lastSeenUs <= idleTimeoutMs * 1000).map(([gateway]) => gateway);
  }
}
