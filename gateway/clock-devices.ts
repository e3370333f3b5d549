/**
 * How far the clocks of devices are off: an estimate for each device, from the event times that it sends and when they arrive.
 *
 * A reading arrives later than it was measured, by what its way took, so of arrival minus event time only the least says
 * something about the clock. Of each WINDOW_MS the least lag is kept, of the last WINDOWS_MAX of them the second least counts:
 * neither one impossible time nor some minutes of stored readings move it. What stays is a bias of the shortest way, some ms, and
 * what cannot be told apart: a device that never sends at once looks like one whose clock is behind.
 *
 * Constraints: one comparison per reading. Bounded: the first DEVICES_MAX devices of a process; more are not tracked, and
 * counted. Nothing is kept across a restart, and what was learnt with another time of the gateway is thrown away.
 */
import type { JudgedClock } from './clock.ts';

export const DEVICES_MAX = 10_000;
export const WINDOW_MS = 30_000;
const WINDOWS_MAX = 8;
const WINDOWS_MIN = 2;
/** Less is the way of a reading as likely as its clock. */
const APPLY_US_MIN = 2_000_000;
/** What is applied stays while the estimate moves by less, so that times of a device do not jitter against one another. */
const APPLY_STEP_US = 1_000_000;

export class DeviceClock {
  readonly device: string;
  /** Of the window that runs. */
  leastLagUs = Infinity;
  /** Device's clock minus ours; null: too few readings with times of their own. */
  aheadUs: number | null = null;
  /** What topics with `deviceClock: apply` take off event times now. */
  appliedUs = 0;
  lags: number[] = [];

  constructor(device: string) {
    this.device = device;
  }
}

export interface DeviceClockStatus {
  readonly device: string;
  readonly aheadUs: number;
  readonly appliedUs: number;
}

export class DeviceClocks {
  readonly #clock: JudgedClock;
  readonly #devices = new Map<string, DeviceClock>();
  #offsetUs: number | null = null;
  #untracked = 0;
  #cancel: () => void = () => {};

  constructor(clock: JudgedClock) {
    this.#clock = clock;
    this.#watch();
  }

  /** Devices met while the table was full. */
  get untracked(): number {
    return this.#untracked;
  }

  /** null: the table is full. Whoever keeps it may do so as long as it wants. */
  of(device: string): DeviceClock | null {
    let known = this.#devices.get(device);
    if (known !== undefined) return known;
    if (this.#devices.size >= DEVICES_MAX) {
      this.#untracked++;
      return null;
    }
    known = new DeviceClock(device);
    this.#devices.set(device, known);
    return known;
  }

  /** Those that are off the most. */
  worst(count: number): DeviceClockStatus[] {
    const known: DeviceClockStatus[] = [];
    for (const { device, aheadUs, appliedUs } of this.#devices.values()) if (aheadUs !== null) known.push({ device, aheadUs, appliedUs });
    return known.sort((a, b) => Math.abs(b.aheadUs) - Math.abs(a.aheadUs)).slice(0, count);
  }

  close(): void {
    this.#cancel();
  }

  #watch(): void {
    this.#cancel = this.#clock.after(WINDOW_MS, () => {
      this.#endWindow();
      this.#watch();
    });
  }

  #endWindow(): void {
    const { known, offsetUs } = this.#clock;
    const isOurs = known && offsetUs === this.#offsetUs;
    this.#offsetUs = known ? offsetUs : null;
    for (const clock of this.#devices.values()) {
      const lagUs = clock.leastLagUs;
      clock.leastLagUs = Infinity;
      if (!isOurs) clock.lags = [];
      else if (lagUs !== Infinity) learn(clock, lagUs);
    }
  }
}

function learn(clock: DeviceClock, lagUs: number): void {
  clock.lags.push(lagUs);
  if (clock.lags.length > WINDOWS_MAX) clock.lags.shift();
  if (clock.lags.length < WINDOWS_MIN) return;
  const aheadUs = 0 - Math.round([...clock.lags].sort((a, b) => a - b)[1]);
  clock.aheadUs = aheadUs;
  if (Math.abs(aheadUs) < APPLY_US_MIN) clock.appliedUs = 0;
  else if (Math.abs(aheadUs - clock.appliedUs) >= APPLY_STEP_US) clock.appliedUs = aheadUs;
}
