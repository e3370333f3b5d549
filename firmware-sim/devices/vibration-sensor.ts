import type { DeviceModel, Sample } from './model.ts';
import { decimal, integerAt, ratioAt } from './random.ts';

/** Samples in a burst: at the usual 1 message/s, 32 readings of each axis at 100 Hz. */
const BURST_SAMPLES_MAX = 32;
const SPACING_MS_MAX = 10;

/** The spacing that fits a burst into less than half of the interval, at least 1 ms; fewer samples where even that is too long. */
function burst(intervalMs: number): { samples: number; spacingMs: number } {
  const roomMs = Math.floor((intervalMs - 1) / 2);
  const spacingMs = Math.max(1, Math.min(SPACING_MS_MAX, Math.floor(roomMs / BURST_SAMPLES_MAX)));
  return { samples: Math.max(1, Math.min(BURST_SAMPLES_MAX, Math.floor(roomMs / spacingMs))), spacingMs };
}

/** A machine's accelerometer that sends bursts: many samples in one message. The wave is a triangle, exact without Math.sin. */
export const vibrationSensor: DeviceModel = {
  metrics: ['vibration_x', 'vibration_y'],
  durationMs(intervalMs) {
    const { samples, spacingMs } = burst(intervalMs);
    return (samples - 1) * spacingMs;
  },
  samples(seed, messageIndex, intervalMs) {
    const { samples, spacingMs } = burst(intervalMs);
    const amplitude = 0.5 + ratioAt(seed, 1) * 4;
    const period = 5 + integerAt(9, seed, 2);
    const result: Sample[] = [];
    for (let index = 0; index < samples; index++) {
      const step = messageIndex * samples + index;
      const phase = (step % period) / period;
      const wave = (phase < 0.5 ? 4 * phase - 1 : 3 - 4 * phase) * amplitude;
      const x = wave + (ratioAt(seed, 3, step) - 0.5) * 0.2;
      const y = wave * 0.4 + (ratioAt(seed, 4, step) - 0.5) * 0.2;
      result.push({ offsetMs: index * spacingMs, values: [decimal(x, 3), decimal(y, 3)] });
    }
    return result;
  },
};
