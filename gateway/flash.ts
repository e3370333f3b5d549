/**
 * The flash budget: how much is written to the card, and how long commits wait for it.
 *
 * Constraints: bytes are counted where wear happens, at the block device (flash-device.ts), every SAMPLE_MS, whoever wrote
 * them. The budget is a token bucket that fills by `bytesPerDayMax` and that the device's writes empty; the emptier it is,
 * the longer a group commit waits, up to `ackLatencyMsMax`: in proportion, so that the delay settles where the spending
 * meets the budget instead of swinging between none and all. It never refuses or drops anything: where even the longest
 * delay writes more than the budget, the budget is overdrawn and says so.
 *
 * Bounded: samples of 24 hours, one an hour. A crash forgets the bucket and the samples: the next start begins with a full
 * bucket, BURST_MS of budget.
 */
import type { Clock } from '../shared/clock.ts';
import { flashDeviceOf, processWrittenBytes, type FlashDevice } from './flash-device.ts';

const SAMPLE_MS = 1_000;
/** So much of the budget may be spent at once: what a busy minute needs. */
const BURST_MS = 600_000;
const DAY_MS = 86_400_000;
const SLOT_US = 3_600_000_000;
const SLOTS_MAX = 24;
/** Without a number on the card: cautious for the cheap TLC cells of consumer cards, which are rated a few hundred to a thousand. */
export const FULL_WRITES_DEFAULT = 300;
/** On SD cards and eMMC, unless configured: a 32 GB card then lasts 13 years by the number above. */
export const CARD_BYTES_PER_DAY_MAX = 2_000_000_000;

export interface FlashOptions {
  readonly dataDir: string;
  readonly clock: Clock;
  /** null: the default for cards, off elsewhere. 0: off. */
  readonly bytesPerDayMax: number | null;
  readonly ackLatencyMsMax: number;
  /** Bytes that may be written over the card's life; null: FULL_WRITES_DEFAULT times its capacity. */
  readonly enduranceBytes: number | null;
  /** Readings taken so far. */
  readonly readings: () => number;
  /** Default: found from `dataDir`. */
  readonly device?: FlashDevice | null;
}

interface Sample {
  readonly atUs: number;
  readonly bytes: number;
  readonly diskBytes: number;
  readonly readings: number;
}

export interface FlashFigures {
  readonly device: string;
  readonly disk: string;
  readonly isCard: boolean;
  readonly wornShare: number | null;
  /** To the device of the file system since this process started. */
  readonly writtenBytes: number;
  /** Of them and of what is still in memory, by this process; null: the kernel does not count it. */
  readonly processBytes: number | null;
  /** Over the last day, or since the start. null: too early to tell. */
  readonly bytesPerReading: number | null;
  readonly bytesPerDay: number | null;
  /** Of the whole disk: what its life depends on. */
  readonly diskBytesPerDay: number | null;
  readonly enduranceBytes: number;
  /** How long a new card would last at this rate; null: too early to tell. */
  readonly lifeYears: number | null;
  /** 0: no budget. */
  readonly bytesPerDayMax: number;
  /** Negative: overdrawn. */
  readonly budgetBytes: number;
  readonly delayMs: number;
}

export class Flash {
  readonly #options: FlashOptions;
  readonly #device: FlashDevice | null;
  readonly #bytesPerDayMax: number;
  readonly #samples: Sample[] = [];
  readonly #first: Sample | null;
  #last: Sample | null;
  #budgetBytes: number;
  #cancel: () => void = () => {};

  constructor(options: FlashOptions) {
    this.#options = options;
    this.#device = options.device === undefined ? flashDeviceOf(options.dataDir) : options.device;
    this.#bytesPerDayMax = this.#device === null ? 0 : (options.bytesPerDayMax ?? (this.#device.isCard ? CARD_BYTES_PER_DAY_MAX : 0));
    this.#budgetBytes = this.#burstBytes;
    this.#first = this.#last = this.#sample();
    if (this.#first !== null) this.#samples.push(this.#first);
    this.#watch();
  }

  /** How long the oldest message that waits may wait for its commit; 0: no longer than it must. */
  get delayMs(): number {
    if (this.#bytesPerDayMax === 0) return 0;
    const emptiness = 1 - this.#budgetBytes / this.#burstBytes;
    return this.#options.ackLatencyMsMax * Math.max(0, Math.min(1, emptiness));
  }

  /** null: no block device shows. */
  figures(): FlashFigures | null {
    const device = this.#device;
    this.#look();
    const last = this.#last;
    if (device === null || last === null || this.#first === null) return null;
    const from = this.#samples[0];
    const seconds = (last.atUs - from.atUs) / 1e6;
    const perDay = (bytes: number): number | null => (seconds < 10 ? null : (bytes / seconds) * 86_400);
    const readings = last.readings - from.readings;
    const diskBytesPerDay = perDay(last.diskBytes - from.diskBytes);
    const enduranceBytes = this.#options.enduranceBytes ?? device.capacityBytes * FULL_WRITES_DEFAULT;
    return {
      device: device.name,
      disk: device.disk,
      isCard: device.isCard,
      wornShare: device.wornShare(),
      writtenBytes: last.bytes - this.#first.bytes,
      processBytes: processWrittenBytes(),
      bytesPerReading: readings === 0 ? null : (last.bytes - from.bytes) / readings,
      bytesPerDay: perDay(last.bytes - from.bytes),
      diskBytesPerDay,
      enduranceBytes,
      lifeYears: diskBytesPerDay === null || diskBytesPerDay === 0 ? null : enduranceBytes / diskBytesPerDay / 365.25,
      bytesPerDayMax: this.#bytesPerDayMax,
      budgetBytes: this.#budgetBytes,
      delayMs: this.delayMs,
    };
  }

  close(): void {
    this.#cancel();
  }

  get #burstBytes(): number {
    return (this.#bytesPerDayMax * BURST_MS) / DAY_MS;
  }

  #sample(): Sample | null {
    if (this.#device === null) return null;
    const { clock, readings } = this.#options;
    return {
      atUs: clock.monotonicUs(),
      bytes: this.#device.writtenBytes(),
      diskBytes: this.#device.diskWrittenBytes(),
      readings: readings(),
    };
  }

  #watch(): void {
    if (this.#device === null) return;
    this.#cancel = this.#options.clock.after(SAMPLE_MS, () => {
      this.#look();
      this.#watch();
    });
  }

  #look(): void {
    const before = this.#last;
    const now = this.#sample();
    // A device that is gone shows nothing: what was known of it stays.
    if (before === null || now === null || Number.isNaN(now.bytes)) return;
    this.#last = now;
    const earnedBytes = (this.#bytesPerDayMax * (now.atUs - before.atUs)) / 1000 / DAY_MS;
    const left = this.#budgetBytes + earnedBytes - (now.bytes - before.bytes);
    // Debt is bounded as credit is: a burst of somebody else's writes must not delay acks for days.
    this.#budgetBytes = Math.max(-this.#burstBytes, Math.min(this.#burstBytes, left));
    const slot = this.#samples.at(-1);
    if (slot !== undefined && now.atUs - slot.atUs >= SLOT_US) this.#samples.push(now);
    if (this.#samples.length > SLOTS_MAX + 1) this.#samples.shift();
  }
}
