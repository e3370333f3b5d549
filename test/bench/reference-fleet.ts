/**
 * The reference fleet: the load that byte and speed figures of batches refer to.
 *
 * Every device has four metrics and sends one message per second, 0 to 40 ms late (uniform, whole ms, one delay per
 * message, so its four readings have one event time). Values start uniformly in a range that is usual for the metric
 * and walk by -0.01, 0 or +0.01, each equally likely. The same seed gives the same readings on every machine.
 */
import type { ReadingColumns, Series } from '../../shared/reading.ts';

export interface ReferenceFleetOptions {
  readonly devices: number;
  readonly seconds: number;
  readonly seed: number;
  /** Each device sends at a point of the second of its own instead of all on the beat; not part of the reference. */
  readonly phases?: boolean;
}

export interface ReferenceFleet {
  readonly table: readonly Series[];
  /** In arrival order. */
  readonly columns: ReadingColumns;
}

/** Start ranges in hundredths: °C, %, hPa, V. */
const METRICS = [
  { name: 'battery_voltage', lowest: 300, highest: 420 },
  { name: 'humidity', lowest: 3000, highest: 7000 },
  { name: 'pressure', lowest: 98_000, highest: 103_000 },
  { name: 'temperature', lowest: 1500, highest: 3000 },
] as const;

export const REFERENCE_START_US = Date.UTC(2026, 0, 1) * 1000;
const JITTER_MS_MAX = 40;

export function referenceFleet(options: ReferenceFleetOptions): ReferenceFleet {
  const random = mulberry32(options.seed);
  const below = (n: number): number => Math.floor(random() * n);
  const width = Math.max(4, String(options.devices).length);
  const table: Series[] = [];
  const walks: number[] = [];
  const phasesMs: number[] = [];
  for (let d = 0; d < options.devices; d++) {
    phasesMs.push(options.phases === true ? below(1000) : 0);
    for (const metric of METRICS) {
      table.push({ device: `sensor-${String(d + 1).padStart(width, '0')}`, metric: metric.name, tags: '' });
      walks.push(metric.lowest + below(metric.highest - metric.lowest));
    }
  }
  const messages: { timeUs: number; device: number; walks: number[] }[] = [];
  for (let second = 0; second < options.seconds; second++) {
    for (let d = 0; d < options.devices; d++) {
      const delayMs = phasesMs[d] + below(JITTER_MS_MAX + 1);
      const own: number[] = [];
      for (let m = 0; m < METRICS.length; m++) {
        const s = d * METRICS.length + m;
        if (second > 0) walks[s] += below(3) - 1;
        own.push(walks[s]);
      }
      messages.push({ timeUs: REFERENCE_START_US + (second * 1000 + delayMs) * 1000, device: d, walks: own });
    }
  }
  messages.sort((a, b) => a.timeUs - b.timeUs);
  return { table, columns: columnsOf(messages) };
}

function columnsOf(messages: readonly { timeUs: number; device: number; walks: number[] }[]): ReadingColumns {
  const count = messages.length * METRICS.length;
  const series = new Uint32Array(count);
  const eventTimeUs = new Float64Array(count);
  const value = new Float64Array(count);
  let i = 0;
  for (const message of messages) {
    for (let m = 0; m < METRICS.length; m++, i++) {
      series[i] = message.device * METRICS.length + m;
      eventTimeUs[i] = message.timeUs;
      value[i] = message.walks[m] / 100;
    }
  }
  return { count, series, eventTimeUs, value, text: null, texts: [] };
}

/** A generator of numbers in [0, 1) with 32 bits of state: small, and the same everywhere. */
export function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
