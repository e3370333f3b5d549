/**
 * A simulated device: its identity and its messages, all a pure function of (fleet spec, device index, message index).
 *
 * That is what makes the ledger small: it says which messages were sent and acknowledged; what was in them is made again.
 */
import { EXACT_INTEGER_MAX, canonicalTags } from '../../shared/reading.ts';
import { DEVICE_MODELS, type DeviceModel, type DeviceModelName } from './model.ts';
import type { FleetSpec, PayloadShape } from './fleet-spec.ts';
import { encodePayload } from './payload.ts';
import { bitsAt, integerAt, ratioAt } from './random.ts';

/** One reading as it must arrive in the lake. */
export interface TrueReading {
  readonly metric: string;
  /** Integer µs. */
  readonly eventTimeUs: number;
  /** NaN: the reading has only a text. */
  readonly value: number;
  readonly text: string | null;
}

/** Streams of the device's own seed; the models use streams of their own seed. */
const STREAM = { model: 1, shape: 2, qos: 3, jitter: 4, values: 5, site: 6, reconnect: 7 } as const;

export class Device {
  readonly index: number;
  readonly name: string;
  readonly topic: string;
  readonly modelName: DeviceModelName;
  readonly shape: PayloadShape;
  readonly qos: 0 | 1 | 2;
  /** Index into the fleet's gateway URLs. */
  readonly gatewayIndex: number;
  readonly intervalMs: number;
  /** Canonical JSON of the tags that its readings carry, '' for none. */
  readonly tags: string;
  /** Names of its metrics as they must arrive: line protocol prefixes the measurement. */
  readonly metrics: readonly string[];
  readonly #spec: FleetSpec;
  readonly #model: DeviceModel;
  readonly #jitterMsMax: number;
  readonly #site: string;

  constructor(spec: FleetSpec, index: number) {
    this.#spec = spec;
    this.index = index;
    this.name = `${spec.namePrefix}-${String(index).padStart(5, '0')}`;
    this.topic = `devices/${this.name}/telemetry`;
    this.modelName = pickByShare(Object.entries(spec.models) as [DeviceModelName, number][], ratioAt(spec.seed, index, STREAM.model));
    this.#model = DEVICE_MODELS[this.modelName];
    this.shape = spec.shapes[integerAt(spec.shapes.length, spec.seed, index, STREAM.shape)];
    this.qos = pickByShare(
      [
        [0, spec.qos[0]],
        [1, spec.qos[1]],
        [2, spec.qos[2]],
      ],
      ratioAt(spec.seed, index, STREAM.qos),
    );
    this.gatewayIndex = index % spec.gatewayCount;
    this.intervalMs = spec.intervalMs;
    // A burst takes less than half of the interval; jitter the other half at most, so event times of a device stay unique.
    this.#jitterMsMax = Math.min(spec.jitterMs, Math.floor(spec.intervalMs / 2));
    this.#site = `site-${integerAt(4, spec.seed, index, STREAM.site)}`;
    this.tags = this.shape === 'influx' ? canonicalTags({ site: this.#site }) : '';
    this.metrics = this.shape === 'influx' ? this.#model.metrics.map((metric) => `${this.modelName}.${metric}`) : this.#model.metrics;
  }

  /** Event time of the message's first sample, integer ms. */
  #messageTimeMs(messageIndex: number): number {
    const jitterMs = this.#jitterMsMax === 0 ? 0 : integerAt(this.#jitterMsMax, this.#spec.seed, this.index, STREAM.jitter, messageIndex);
    return this.#spec.startMs + messageIndex * this.intervalMs + jitterMs;
  }

  #samples(messageIndex: number): ReturnType<DeviceModel['samples']> {
    return this.#model.samples(bitsAt(this.#spec.seed, this.index, STREAM.values), messageIndex, this.intervalMs);
  }

  /** When the message is due on the wire, ms since the epoch: with its last sample taken. */
  dueMs(messageIndex: number): number {
    return this.#messageTimeMs(messageIndex) + this.#model.durationMs(this.intervalMs);
  }

  /** How long after the fleet's start a socket of this device is cut for the n-th time (n from 1), ms: about every so often. */
  reconnectAfterMs(everyMs: number, n: number): number {
    return everyMs * (n - 0.5 + ratioAt(this.#spec.seed, this.index, STREAM.reconnect, n));
  }

  /** What the lake must hold of this message, in the order of samples, then metrics. */
  readings(messageIndex: number): TrueReading[] {
    const timeMs = this.#messageTimeMs(messageIndex);
    const readings: TrueReading[] = [];
    for (const sample of this.#samples(messageIndex)) {
      sample.values.forEach((value, index) => {
        const metric = this.metrics[index];
        const eventTimeUs = (timeMs + sample.offsetMs) * 1000;
        if (typeof value === 'string') readings.push({ metric, eventTimeUs, value: NaN, text: value });
        else
          readings.push({
            metric,
            eventTimeUs,
            value,
            text: Number.isInteger(value) && Math.abs(value) > EXACT_INTEGER_MAX ? BigInt(value).toString() : null,
          });
      });
    }
    return readings;
  }

  payload(messageIndex: number): Buffer {
    return encodePayload(this.shape, {
      device: this.name,
      measurement: this.modelName,
      site: this.#site,
      metrics: this.#model.metrics,
      timeMs: this.#messageTimeMs(messageIndex),
      samples: this.#samples(messageIndex),
    });
  }
}

function pickByShare<T>(shares: readonly (readonly [T, number])[], ratio: number): T {
  const total = shares.reduce((sum, [, share]) => sum + share, 0);
  let left = ratio * total;
  for (const [value, share] of shares) {
    if (left < share) return value;
    left -= share;
  }
  return (shares.findLast(([, share]) => share > 0) as readonly [T, number])[0];
}

/** All devices of a fleet, in order of their index. */
export function createDevices(spec: FleetSpec): Device[] {
  return Array.from({ length: spec.devices }, (_, index) => new Device(spec, index));
}
