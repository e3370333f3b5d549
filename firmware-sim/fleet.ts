/**
 * N devices sending on schedule, whatever the other end does (open loop).
 *
 * A message is due at its time whether or not the one before was acknowledged. What is due and cannot be sent (no
 * connection, window of unacknowledged messages full) waits; because a message is a function of its index, what waits is
 * a pair of indexes, not bytes. One timer drives all devices from a heap.
 *
 * Per device, indexes: acknowledged and skipped are sets; [0, nextToSend) has been handed to MQTT or skipped;
 * [nextToSend, nextDue) is due and waits. Bounds: `queueMessagesMax` waiting (policy: the oldest is skipped and recorded
 * as never sent), `inFlightMessagesMax` handed over and unacknowledged.
 *
 * Nothing is sent that the ledger does not cover: messages due at or after `horizonMs` wait until it is raised. So a
 * ledger that was written before a crash names everything that may be in the lake.
 */
import type { Clock } from '../shared/clock.ts';
import type { Device, TrueReading } from './devices/device.ts';
import { DueQueue } from './due-queue.ts';
import { LatencyHistogram } from './latency.ts';
import { SeriesChecksum } from './ledger/checksum.ts';
import { MessageRanges } from './ledger/message-ranges.ts';
import type { DeviceLink } from './transport.ts';

/** What is known of the readings of one metric of one device that were acknowledged. */
export interface MetricTotals {
  count: number;
  fromUs: number;
  toUs: number;
  readonly checksum: SeriesChecksum;
}

export class DeviceProgress {
  readonly device: Device;
  readonly acked = new MessageRanges();
  /** Never handed to MQTT: fell out of the full queue, or was still waiting at the end. */
  readonly skipped = new MessageRanges();
  readonly metrics: ReadonlyMap<string, MetricTotals>;
  nextDue = 0;
  nextToSend = 0;
  inFlight = 0;
  reconnects = 0;
  link: DeviceLink | null = null;

  constructor(device: Device) {
    this.device = device;
    this.metrics = new Map(
      device.metrics.map((metric) => [
        metric,
        { count: 0, fromUs: Infinity, toUs: -Infinity, checksum: new SeriesChecksum(device.name, metric) },
      ]),
    );
  }

  acknowledge(messageIndex: number, readings: readonly TrueReading[]): void {
    this.acked.add(messageIndex);
    for (const reading of readings) {
      const totals = this.metrics.get(reading.metric) as MetricTotals;
      totals.count++;
      totals.fromUs = Math.min(totals.fromUs, reading.eventTimeUs);
      totals.toUs = Math.max(totals.toUs, reading.eventTimeUs);
      totals.checksum.add(reading.eventTimeUs, reading.value, reading.text);
    }
  }
}

export interface FleetCounts {
  messagesDue: number;
  messagesSent: number;
  messagesAcked: number;
  messagesSkipped: number;
  messagesFailed: number;
  readingsSent: number;
  readingsAcked: number;
  bytesSent: number;
}

export interface FleetOptions {
  readonly devices: readonly Device[];
  readonly clock: Clock;
  /** Event time from which on no message is due any more, ms since the epoch. */
  readonly endMs: number;
  readonly queueMessagesMax: number;
  readonly inFlightMessagesMax: number;
  /** Cut each device's socket about every so many ms; null: never. */
  readonly reconnectEveryMs: number | null;
  readonly connectsPerSecondMax: number;
  /** `onReady` is called whenever the link came up. */
  readonly openLink: (device: Device, onReady: () => void) => DeviceLink;
}

/** Timers are late by so much anyway; several messages a wake-up cost less than a wake-up each. */
const TICK_MS_MIN = 2;
/** Long enough to cost nothing, short enough that a stop is prompt. */
const TICK_MS_MAX = 100;
/** How often all devices are looked at: cuts and the end of the run are that exact. */
const SURVEY_MS = 50;
/** After so many messages the loop goes around, so that sockets are served. */
const MESSAGES_PER_TICK_MAX = 2000;

const CONNECTS_PER_TICK_MAX = 8;

export class Fleet {
  readonly progress: readonly DeviceProgress[];
  readonly counts: FleetCounts = {
    messagesDue: 0,
    messagesSent: 0,
    messagesAcked: 0,
    messagesSkipped: 0,
    messagesFailed: 0,
    readingsSent: 0,
    readingsAcked: 0,
    bytesSent: 0,
  };
  /** From when a message was due until it was acknowledged (QoS 1 and 2). */
  readonly ackLatency = new LatencyHistogram();
  readonly #options: FleetOptions;
  readonly #due: DueQueue;
  #endMs: number;
  #horizonMs = -Infinity;
  #opened = 0;
  #startedMs = 0;
  #cancelTick: (() => void) | null = null;
  #closed = false;
  #connected = 0;
  #lastSurveyMs = -Infinity;
  #finish: { drainTimeoutMs: number; resolve: (drained: boolean) => void } | null = null;

  constructor(options: FleetOptions) {
    this.#options = options;
    this.#endMs = options.endMs;
    this.progress = options.devices.map((device) => new DeviceProgress(device));
    this.#due = new DueQueue(options.devices.length);
    for (const device of options.devices) this.#due.push(device.dueMs(0), device.index);
  }

  get connectedDevices(): number {
    return this.#connected;
  }

  get inFlightMessages(): number {
    return this.progress.reduce((sum, progress) => sum + progress.inFlight, 0);
  }

  get waitingMessages(): number {
    return this.progress.reduce((sum, progress) => sum + progress.nextDue - progress.nextToSend, 0);
  }

  /** Messages due before this time may be sent. Never goes back. */
  raiseHorizon(horizonMs: number): void {
    this.#horizonMs = Math.max(this.#horizonMs, horizonMs);
  }

  start(): void {
    this.#startedMs = this.#nowMs();
    this.#tick();
  }

  /** No message becomes due from now on; what is due is still sent. */
  stop(): void {
    this.#endMs = Math.min(this.#endMs, this.#nowMs());
  }

  /** Resolves once the run is over and everything due was sent and acknowledged (true) or `drainTimeoutMs` more has passed (false). */
  finished(drainTimeoutMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      this.#finish = { drainTimeoutMs, resolve };
    });
  }

  /** Records what never left as skipped, then closes all connections. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelTick?.();
    for (const progress of this.progress) {
      this.#skip(progress, progress.nextDue);
    }
    await Promise.all(this.progress.flatMap(({ link }) => (link === null ? [] : [link.close()])));
  }

  #nowMs(): number {
    return this.#options.clock.nowUs() / 1000;
  }

  #skip(progress: DeviceProgress, to: number): void {
    if (to <= progress.nextToSend) return;
    progress.skipped.addRange(progress.nextToSend, to);
    this.counts.messagesSkipped += to - progress.nextToSend;
    progress.nextToSend = to;
  }

  #tick(): void {
    if (this.#closed) return;
    const nowMs = this.#nowMs();
    this.#openLinks(nowMs);
    let budget = MESSAGES_PER_TICK_MAX;
    while (budget > 0 && this.#due.nextDueMs <= nowMs && this.#due.nextDueMs < this.#horizonMs) {
      const progress = this.progress[this.#due.pop()];
      const dueMs = progress.device.dueMs(progress.nextDue);
      if (dueMs >= this.#endMs) continue; // this device is done; it does not return to the heap
      progress.nextDue++;
      this.counts.messagesDue++;
      this.#due.push(progress.device.dueMs(progress.nextDue), progress.device.index);
      if (progress.nextDue - progress.nextToSend > this.#options.queueMessagesMax)
        this.#skip(progress, progress.nextDue - this.#options.queueMessagesMax);
      this.#send(progress);
      budget--;
    }
    if (nowMs - this.#lastSurveyMs >= SURVEY_MS) {
      this.#lastSurveyMs = nowMs;
      this.#survey(nowMs);
    }
    const waitMs = budget === 0 ? 0 : Math.min(TICK_MS_MAX, Math.max(TICK_MS_MIN, this.#due.nextDueMs - this.#nowMs()));
    this.#cancelTick = this.#options.clock.after(waitMs, () => this.#tick());
  }

  #openLinks(nowMs: number): void {
    const byRate = 1 + Math.floor(((nowMs - this.#startedMs) / 1000) * this.#options.connectsPerSecondMax);
    // What a late tick has to catch up it does in small steps: hundreds of new sockets at once would make the next tick late too.
    const allowed = Math.min(this.progress.length, byRate, this.#opened + CONNECTS_PER_TICK_MAX);
    for (; this.#opened < allowed; this.#opened++) {
      const progress = this.progress[this.#opened];
      progress.link = this.#options.openLink(progress.device, () => this.#send(progress));
    }
  }

  /** What looks at every device: too dear for every tick. */
  #survey(nowMs: number): void {
    const everyMs = this.#options.reconnectEveryMs;
    let connected = 0;
    for (const progress of this.progress) {
      if (progress.link?.ready !== true) continue;
      connected++;
      if (everyMs === null || nowMs >= this.#endMs) continue;
      if (nowMs - this.#startedMs < progress.device.reconnectAfterMs(everyMs, progress.reconnects + 1)) continue;
      progress.reconnects++;
      progress.link.cut();
    }
    this.#connected = connected;
    this.#checkFinished(nowMs);
  }

  #send(progress: DeviceProgress): void {
    const { device, link } = progress;
    if (link === null) return;
    while (!this.#closed && progress.nextToSend < progress.nextDue && progress.inFlight < this.#options.inFlightMessagesMax && link.ready) {
      const messageIndex = progress.nextToSend++;
      const readings = device.readings(messageIndex);
      const payload = device.payload(messageIndex);
      progress.inFlight++;
      this.counts.messagesSent++;
      this.counts.readingsSent += readings.length;
      this.counts.bytesSent += payload.length;
      link.publish(device.topic, payload, device.qos, (error) => this.#settled(progress, messageIndex, readings, error));
    }
  }

  #settled(progress: DeviceProgress, messageIndex: number, readings: readonly TrueReading[], error: Error | null): void {
    progress.inFlight--;
    if (error !== null) {
      // It may or may not have arrived: it is neither acknowledged nor skipped, which makes it in doubt.
      this.counts.messagesFailed++;
    } else if (progress.device.qos > 0) {
      progress.acknowledge(messageIndex, readings);
      this.counts.messagesAcked++;
      this.counts.readingsAcked += readings.length;
      this.ackLatency.add(this.#nowMs() - progress.device.dueMs(messageIndex));
    }
    this.#send(progress);
  }

  #checkFinished(nowMs: number): void {
    if (this.#finish === null || nowMs < this.#endMs) return;
    const idle = this.#due.nextDueMs >= this.#endMs && this.waitingMessages === 0 && this.inFlightMessages === 0;
    if (idle || nowMs >= this.#endMs + this.#finish.drainTimeoutMs) {
      this.#finish.resolve(idle);
      this.#finish = null;
    }
  }
}
