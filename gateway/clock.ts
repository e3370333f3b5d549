/**
 * The gateway's clock: wall time as the monotonic clock plus an offset that somebody vouches for (clock-judgement.ts).
 *
 * Constraints: once known it never jumps with the machine's clock; a step counts only when it is vouched for, is an event
 * and a count, and moves what is stamped from then on. Until known, `nowUs` is the machine's clock, right or not, `known`
 * says so, and nobody may make anything of it that cannot be changed: the journal keeps (boot id, monotonic time).
 *
 * Looks at the two clocks every LOOK_MS, which costs nothing; asks programs only while unknown, after a step, and rarely
 * otherwise. Bounded: the last EVENTS_MAX events. Nothing is kept across a restart: the next process judges anew, and the
 * journal keeps the offset of each boot.
 */
import type { Clock } from '../shared/clock.ts';
import { judgeClock, STEP_US_MIN, type ClockPolicy, type ClockSource } from './clock-judgement.ts';
import type { ClockSources, NtpState } from './clock-sources.ts';
import { HubTime } from './hub-time.ts';

/** A clock that knows how far it can be trusted. */
export interface JudgedClock extends Clock {
  readonly known: boolean;
  /** Clocks of the same boot share their monotonic time. */
  readonly boot: string;
  /** Wall minus monotonic, µs; as long as it does not change, wall times of one boot are exact against one another. */
  readonly offsetUs: number;
}

/** What the journal asks of a clock. One that does not judge itself is known once its date is plausible, and its boot its own. */
export type JournalClock = Clock & Partial<JudgedClock>;

export interface HubTimeSink {
  /** The hub's time in its answer to a question that left at `sentUs` and was answered at `receivedUs` (monotonic). */
  hubAnswered(wallUs: number, sentUs: number, receivedUs: number): void;
  /** The hub's time in a message that came just now. */
  hubHeard(wallUs: number): void;
}

export interface ClockEvent {
  /** By the clock as it was afterwards. */
  readonly atUs: number;
  /** known: nothing vouched for the time before. step: followed. ignored: the machine's clock says something else, and is not followed. */
  readonly kind: 'known' | 'step' | 'ignored';
  readonly source: ClockSource | null;
  /** How far the time moved, µs; forward is positive. */
  readonly stepUs: number;
}

export interface ClockStatus {
  readonly known: boolean;
  readonly source: ClockSource | null;
  readonly boot: string;
  readonly ntp: NtpState;
  /** The machine's clock minus ours, µs: other than 0 while a step is not followed, or the hub's time is used instead. */
  readonly machineAheadUs: number;
  /** The hub's time minus ours, µs, and how far it may be off; null: not heard lately. */
  readonly hub: { readonly aheadUs: number; readonly uncertaintyUs: number } | null;
  readonly stepsForward: number;
  readonly stepsBack: number;
  readonly stepsIgnored: number;
  readonly events: readonly ClockEvent[];
}

/** What earlier openings of the journal left. */
export interface ClockMemory {
  /** Wall minus monotonic clock of this very boot; null: nobody knew it. */
  readonly bootOffsetUs: number | null;
  /** An earlier boot was seen running at this time (wall clock, µs), so no earlier time can be right; 0: none. Does not bind NTP. */
  readonly earlierBootUs: number;
}

export interface GatewayClockOptions {
  readonly clock: Clock;
  readonly sources: ClockSources;
  readonly policy: ClockPolicy;
  readonly hasHub: boolean;
  readonly onEvent: (event: ClockEvent) => void;
}

const LOOK_MS = 1_000;
/** How often programs are asked: while the clock is unknown or its step doubtful, and otherwise. */
const ASK_MS_UNKNOWN = 5_000;
const ASK_MS_KNOWN = 600_000;
const EVENTS_MAX = 32;
/** What an earlier boot had seen may itself have been a little ahead. */
const FLOOR_SLACK_US = 120_000_000;
/** Reads of the two clocks, of which the closest pair counts. */
const PAIR_READS = 4;

export class GatewayClock implements JudgedClock, HubTimeSink {
  readonly #options: GatewayClockOptions;
  readonly #clock: Clock;
  readonly #hubTime = new HubTime();
  #ntp: NtpState = 'unknown';
  #held: { readonly source: ClockSource; readonly offsetUs: number } | null = null;
  #floorUs = 0;
  /** Of the machine's clock when NTP was asked: after a step the answer says nothing. */
  #ntpOffsetUs = 0;
  #asking: Promise<void> | null = null;
  #askedUs = -Infinity;
  /** The offset of the machine's clock that was told of. */
  #ignoredOffsetUs: number | null = null;
  #steps = { forward: 0, back: 0, ignored: 0 };
  readonly #events: ClockEvent[] = [];
  #cancel: () => void = () => {};
  #stopped = false;

  constructor(options: GatewayClockOptions) {
    this.#options = options;
    this.#clock = options.clock;
  }

  /** Judges for the first time; takes as long as the machine's programs do, a few seconds at worst. */
  async start({ bootOffsetUs, earlierBootUs }: ClockMemory): Promise<void> {
    this.#floorUs = earlierBootUs - FLOOR_SLACK_US;
    if (bootOffsetUs !== null) {
      this.#held = { source: 'boot', offsetUs: bootOffsetUs };
      this.#note('known', 'boot', 0);
    }
    await this.#ask();
    this.#watch();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  get known(): boolean {
    return this.#held !== null;
  }

  get boot(): string {
    return this.#options.sources.bootId;
  }

  get offsetUs(): number {
    return this.#held?.offsetUs ?? this.#machineOffsetUs();
  }

  nowUs(): number {
    return this.#held === null ? this.#clock.nowUs() : this.#clock.monotonicUs() + this.#held.offsetUs;
  }

  monotonicUs(): number {
    return this.#clock.monotonicUs();
  }

  after(delayMs: number, callback: () => void): () => void {
    return this.#clock.after(delayMs, callback);
  }

  hubAnswered(wallUs: number, sentUs: number, receivedUs: number): void {
    this.#hubTime.answered(wallUs, sentUs, receivedUs);
    this.#judge();
  }

  hubHeard(wallUs: number): void {
    this.#hubTime.heard(wallUs, this.#clock.monotonicUs());
  }

  status(): ClockStatus {
    const monotonicUs = this.#clock.monotonicUs();
    const hub = this.#hubTime.opinion(monotonicUs);
    return {
      known: this.known,
      source: this.#held?.source ?? null,
      boot: this.boot,
      ntp: this.#ntp,
      machineAheadUs: this.#held === null ? 0 : this.#machineOffsetUs() - this.#held.offsetUs,
      hub:
        hub === null
          ? null
          : {
              aheadUs: Math.round((hub.offsetFromUs + hub.offsetToUs) / 2) - this.offsetUs,
              uncertaintyUs: Math.ceil((hub.offsetToUs - hub.offsetFromUs) / 2),
            },
      stepsForward: this.#steps.forward,
      stepsBack: this.#steps.back,
      stepsIgnored: this.#steps.ignored,
      events: [...this.#events],
    };
  }

  #machineOffsetUs(): number {
    let best = { gapUs: Infinity, offsetUs: 0 };
    for (let read = 0; read < PAIR_READS && best.gapUs > 0; read++) {
      const beforeUs = this.#clock.monotonicUs();
      const wallUs = this.#clock.nowUs();
      const gapUs = this.#clock.monotonicUs() - beforeUs;
      if (gapUs < best.gapUs) best = { gapUs, offsetUs: wallUs - beforeUs - Math.floor(gapUs / 2) };
    }
    return best.offsetUs;
  }

  #watch(): void {
    if (this.#stopped) return;
    this.#cancel = this.#clock.after(LOOK_MS, () => {
      const sinceMs = (this.#clock.monotonicUs() - this.#askedUs) / 1000;
      // Who vouched for the clock before its step vouches for it again, or it is not followed.
      if (sinceMs >= (this.#isDoubtful() ? ASK_MS_UNKNOWN : ASK_MS_KNOWN)) void this.#ask();
      else if (!this.#isDoubtful() || this.#options.policy === 'trusted') this.#judge();
      this.#watch();
    });
  }

  #isDoubtful(): boolean {
    return this.#held === null || Math.abs(this.#machineOffsetUs() - this.#held.offsetUs) >= STEP_US_MIN;
  }

  #ask(): Promise<void> {
    const offsetUs = this.#machineOffsetUs();
    this.#asking ??= this.#options.sources.ntp().then((ntp) => {
      this.#ntp = ntp;
      this.#ntpOffsetUs = offsetUs;
      this.#asking = null;
      this.#askedUs = this.#clock.monotonicUs();
      if (!this.#stopped) this.#judge();
    });
    return this.#asking;
  }

  #judge(): void {
    const { policy, sources, hasHub } = this.#options;
    const monotonicUs = this.#clock.monotonicUs();
    const wallOffsetUs = this.#machineOffsetUs();
    const before = this.#held;
    const after = judgeClock({
      policy,
      monotonicUs,
      wallOffsetUs,
      ntp: Math.abs(wallOffsetUs - this.#ntpOffsetUs) < STEP_US_MIN ? this.#ntp : 'unknown',
      rtcUs: sources.rtcUs(),
      isVirtual: sources.isVirtual,
      hub: this.#hubTime.opinion(monotonicUs),
      hasHub,
      floorUs: this.#floorUs,
      held: before,
    });
    if (after === null) return;
    this.#held = after;
    if (before === null) this.#note('known', after.source, 0);
    else if (after.offsetUs !== before.offsetUs) {
      this.#steps[after.offsetUs > before.offsetUs ? 'forward' : 'back']++;
      this.#note('step', after.source, after.offsetUs - before.offsetUs);
    }
    this.#noteIgnored(wallOffsetUs, after.offsetUs);
  }

  /** Once per step of the machine's clock, not at every look. */
  #noteIgnored(wallOffsetUs: number, offsetUs: number): void {
    if (Math.abs(wallOffsetUs - offsetUs) < STEP_US_MIN) {
      this.#ignoredOffsetUs = null;
      return;
    }
    if (this.#ignoredOffsetUs !== null && Math.abs(this.#ignoredOffsetUs - wallOffsetUs) < STEP_US_MIN) return;
    this.#ignoredOffsetUs = wallOffsetUs;
    this.#steps.ignored++;
    this.#note('ignored', null, wallOffsetUs - offsetUs);
  }

  #note(kind: ClockEvent['kind'], source: ClockSource | null, stepUs: number): void {
    const event: ClockEvent = { atUs: this.nowUs(), kind, source, stepUs };
    this.#events.push(event);
    if (this.#events.length > EVENTS_MAX) this.#events.shift();
    this.#options.onEvent(event);
  }
}
