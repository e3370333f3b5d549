import type { DeviceModel } from './model.ts';
import { decimal, integerAt, ratioAt, walkAt } from './random.ts';

const MODES = ['parked', 'idle', 'driving', 'no fix', 'Werkstatt "Süd"'] as const;
/** A mode lasts so many messages. */
const MODE_MESSAGES = 16;

/** A vehicle: position in six decimals, speed, heading, and its mode as a text (quotes and umlauts included, on purpose). */
export const gpsTracker: DeviceModel = {
  metrics: ['lat', 'lon', 'speed', 'heading', 'mode'],
  durationMs: () => 0,
  samples(seed, messageIndex) {
    const lat = 47 + ratioAt(seed, 1) * 6 + walkAt(seed, 2, messageIndex) * 0.0002;
    const lon = -2 + ratioAt(seed, 3) * 12 + walkAt(seed, 4, messageIndex) * 0.0003;
    const speed = Math.max(0, walkAt(seed, 5, messageIndex) * 1.5 + 12);
    const heading = Math.floor(((((walkAt(seed, 6, messageIndex) * 6) % 360) + 360) % 360) * 10) / 10;
    const mode = MODES[integerAt(MODES.length, seed, 7, Math.floor(messageIndex / MODE_MESSAGES))] as string;
    return [{ offsetMs: 0, values: [decimal(lat, 6), decimal(lon, 6), decimal(speed, 2), decimal(heading, 1), mode] }];
  },
};
