/** Devices that publish over QoS 1 (some over QoS 0), keep what is not acknowledged and send it again with DUP. */
import { messageHash } from '../../gateway/journal/message-hash.ts';
import type { Ledger, LedgerEntry } from './ledger.ts';
import type { SimRandom } from './random.ts';
import { SIM_START_US, type Scheduler } from './scheduler.ts';

export interface Packet {
  readonly messageId: number;
  readonly hash: number;
  readonly readings: readonly LedgerEntry[];
}

/** A connection of a device, at the gateway. */
export interface Session {
  readonly device: string;
  readonly isOpen: boolean;
  /** Acks that are on their way get lost. */
  readonly isCut: boolean;
  publish(packet: Packet, isDup: boolean): void;
  close(): void;
}

/** What a device connects to. */
export interface Broker {
  readonly name: string;
  /** null: nobody listens. */
  connect(device: string, events: { acked(messageId: number): void; closed(): void }): Session | null;
}

export interface DeviceProfile {
  readonly name: string;
  readonly intervalMs: number;
  readonly readingsPerMessageMax: number;
  readonly qos: 0 | 1;
  readonly hasOwnTime: boolean;
  /** Of the device's clock. */
  readonly skewUs: number;
  /** Length of the text that goes along with a value; 0: none. */
  readonly textLength: number;
}

const IN_FLIGHT_MAX = 10;
const QUEUE_MAX = 500;
const METRICS = ['temperature', 'pressure', 'vibration'];

export class SimDevice {
  readonly profile: DeviceProfile;
  readonly #scheduler: Scheduler;
  readonly #random: SimRandom;
  readonly #broker: Broker;
  readonly #ledger: Ledger;
  readonly #delayUs: number;
  #session: Session | null = null;
  #queue: Packet[] = [];
  /** Sent on some connection and not acknowledged, in order. */
  #inFlight: Packet[] = [];
  #messageId = 0;
  #isPublishing = true;
  #reconnects = false;

  constructor(profile: DeviceProfile, parts: { scheduler: Scheduler; random: SimRandom; broker: Broker; ledger: Ledger }) {
    this.profile = profile;
    this.#scheduler = parts.scheduler;
    this.#random = parts.random;
    this.#broker = parts.broker;
    this.#ledger = parts.ledger;
    this.#delayUs = parts.random.between(500, 20_000);
    this.#reconnectIn(parts.random.between(0, 500));
    this.#publishIn(parts.random.between(0, profile.intervalMs));
  }

  get gateway(): string {
    return this.#broker.name;
  }

  /** Everything that was published is acknowledged (QoS 0: sent). */
  get isDrained(): boolean {
    return this.#queue.length === 0 && this.#inFlight.length === 0;
  }

  stop(): void {
    this.#isPublishing = false;
  }

  /** @param hasOwnTime overrides the profile's */
  publish(readingCount: number, ageUs = 0, hasOwnTime = this.profile.hasOwnTime): LedgerEntry[] {
    const { name, qos, skewUs, textLength } = this.profile;
    const readings = Array.from({ length: readingCount }, (_, index) =>
      this.#ledger.add({
        gateway: this.#broker.name,
        device: name,
        metric: METRICS[index % METRICS.length],
        eventTimeUs: hasOwnTime ? SIM_START_US + this.#scheduler.nowUs - ageUs + skewUs + index : NaN,
        text: textLength === 0 ? null : this.#random.hex(8).repeat(textLength / 16),
        qos,
        sentUs: this.#scheduler.nowUs,
      }),
    );
    if (this.#queue.length >= QUEUE_MAX) return readings; // the device's own loss: never acknowledged
    const messageId = (this.#messageId++ % 65_535) + 1;
    const payload = Buffer.from(JSON.stringify(readings.map(({ metric, value, eventTimeUs }) => [metric, value, eventTimeUs])));
    this.#queue.push({ messageId, hash: messageHash(`t/${name}`, payload), readings });
    this.#pump();
    return readings;
  }

  disconnect(): void {
    this.#session?.close();
  }

  #publishIn(delayMs: number): void {
    this.#scheduler.after(delayMs * 1000, () => {
      if (!this.#isPublishing) return;
      const { readingsPerMessageMax, intervalMs } = this.profile;
      // Now and then something old: a device that was out of reach.
      const ageUs = this.#random.chance(0.03) ? this.#random.between(60, 3 * 86_400) * 1_000_000 : 0;
      this.publish(this.#random.between(1, readingsPerMessageMax), ageUs);
      this.#publishIn(this.#random.between(intervalMs / 2, intervalMs * 1.5));
    });
  }

  #reconnectIn(delayMs: number): void {
    if (this.#reconnects) return;
    this.#reconnects = true;
    this.#scheduler.after(delayMs * 1000, () => {
      this.#reconnects = false;
      this.#connect();
    });
  }

  #connect(): void {
    const mine: { session: Session | null } = { session: null };
    const isCurrent = (): boolean => mine.session !== null && this.#session === mine.session;
    mine.session = this.#broker.connect(this.profile.name, {
      acked: (messageId) =>
        void this.#scheduler.after(this.#delayUs, () => {
          if (isCurrent() && mine.session?.isCut === false) this.#onAck(messageId);
        }),
      closed: () =>
        void this.#scheduler.after(this.#delayUs, () => {
          if (!isCurrent()) return;
          this.#session = null;
          this.#reconnectIn(this.#random.between(200, 2_000));
        }),
    });
    this.#session = mine.session;
    if (this.#session === null) {
      this.#reconnectIn(this.#random.between(500, 2_000));
      return;
    }
    for (const packet of this.#inFlight) this.#transmit(packet, true);
    this.#pump();
  }

  #pump(): void {
    while (this.#session !== null && this.#queue.length > 0 && this.#inFlight.length < IN_FLIGHT_MAX) {
      const packet = this.#queue.shift() as Packet;
      if (this.profile.qos === 1) this.#inFlight.push(packet);
      this.#transmit(packet, false);
    }
  }

  #transmit(packet: Packet, isDup: boolean): void {
    const session = this.#session;
    this.#scheduler.after(this.#delayUs, () => {
      if (session?.isOpen === true) session.publish(packet, isDup);
    });
  }

  #onAck(messageId: number): void {
    const index = this.#inFlight.findIndex((packet) => packet.messageId === messageId);
    if (index < 0) return;
    for (const reading of this.#inFlight[index].readings) reading.isAcked = true;
    this.#inFlight.splice(index, 1);
    this.#pump();
  }
}
