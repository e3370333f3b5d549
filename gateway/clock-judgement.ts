/**
 * Which wall clock to believe: pure, from what is known now to the offset (wall minus monotonic) that counts.
 *
 * In this order:
 * 1. `trusted` (configuration): the machine's clock, whatever anybody says.
 * 2. The kernel says that NTP has synchronised it: the machine's clock.
 * 3. The hub has told the time: the machine's clock where the two agree, else the hub's, whose error is at most half of
 *    the round trip. A gateway whose only peer is the hub gets the time there.
 * 4. A clock that counts already goes on, on the monotonic clock: a step of the wall clock that nobody vouches for is not
 *    followed (a hub or the hardware clock may do so later; where there is neither, the operator's step is).
 * 5. A hardware clock that agrees with the machine's, or a hypervisor that set it at boot, if the time is plausible.
 * 6. Otherwise unknown. A plausible date alone is not enough: a Pi without a battery boots with the time at which it was
 *    switched off.
 */
import type { NtpState } from './clock-sources.ts';

export const CLOCK_POLICIES = ['auto', 'trusted'] as const;
export type ClockPolicy = (typeof CLOCK_POLICIES)[number];

/** boot: an earlier process of this boot knew it. operator: a step that there was nobody to ask about. */
export type ClockSource = 'trusted' | 'ntp' | 'hub' | 'rtc' | 'hypervisor' | 'boot' | 'operator';

/** This program is younger: earlier wall clocks are a machine's without a battery, or with a dead one. */
export const CLOCK_PLAUSIBLE_US = Date.UTC(2024, 0, 1) * 1000;
/** Smaller differences are the two reads of two clocks, or less than what anybody's devices are right by. */
export const STEP_US_MIN = 100_000;
/** A hardware clock runs off by some minutes in a year without power. */
const RTC_TOLERANCE_US = 120_000_000;
/** Beyond the uncertainty of the hub's time. */
const HUB_TOLERANCE_US = 2_000_000;

/** The hub's time minus our monotonic time lies between these. */
export interface HubOpinion {
  readonly offsetFromUs: number;
  readonly offsetToUs: number;
}

export interface ClockEvidence {
  readonly policy: ClockPolicy;
  readonly monotonicUs: number;
  /** Of the machine's clock now. */
  readonly wallOffsetUs: number;
  readonly ntp: NtpState;
  readonly rtcUs: number | null;
  readonly isVirtual: boolean;
  readonly hub: HubOpinion | null;
  /** Somebody can still vouch for a step. */
  readonly hasHub: boolean;
  /** No earlier time can be right: what earlier boots have seen. */
  readonly floorUs: number;
  /** The offset that counts so far. */
  readonly held: { readonly source: ClockSource; readonly offsetUs: number } | null;
}

export interface ClockVerdict {
  readonly source: ClockSource;
  readonly offsetUs: number;
}

function agrees(offsetUs: number, { offsetFromUs, offsetToUs }: HubOpinion): boolean {
  return offsetUs >= offsetFromUs - HUB_TOLERANCE_US && offsetUs <= offsetToUs + HUB_TOLERANCE_US;
}

/** null: the clock is unknown. */
export function judgeClock(evidence: ClockEvidence): ClockVerdict | null {
  const { policy, monotonicUs, wallOffsetUs, ntp, rtcUs, isVirtual, hub, hasHub, floorUs, held } = evidence;
  const wall = (source: ClockSource): ClockVerdict => ({ source, offsetUs: wallOffsetUs });
  const wallUs = monotonicUs + wallOffsetUs;
  const isPlausible = wallUs >= Math.max(CLOCK_PLAUSIBLE_US, floorUs);
  const agreesWithRtc = rtcUs !== null && isPlausible && Math.abs(rtcUs - wallUs) <= RTC_TOLERANCE_US;
  const isStep = held !== null && Math.abs(wallOffsetUs - held.offsetUs) >= STEP_US_MIN;
  if (policy === 'trusted') return isStep || held === null ? wall('trusted') : held;
  // What NTP has set may be before what a wrong clock once recorded.
  if (ntp === 'synchronised' && wallUs >= CLOCK_PLAUSIBLE_US) return isStep || held?.source !== 'ntp' ? wall('ntp') : held;
  if (hub !== null && monotonicUs + hub.offsetToUs >= CLOCK_PLAUSIBLE_US) {
    if (held !== null && agrees(held.offsetUs, hub)) return held;
    if (agrees(wallOffsetUs, hub)) return wall('hub');
    // What NTP once set in this boot is still better by the crystal alone than a hub that nobody confirms.
    if (held?.source === 'ntp') return held;
    return { source: 'hub', offsetUs: Math.round((hub.offsetFromUs + hub.offsetToUs) / 2) };
  }
  if (held !== null) {
    if (!isStep || held.source === 'hub') return held;
    if (agreesWithRtc) return wall('rtc');
    return hasHub || rtcUs !== null || !isPlausible ? held : wall('operator');
  }
  if (agreesWithRtc) return wall('rtc');
  return isVirtual && isPlausible ? wall('hypervisor') : null;
}
