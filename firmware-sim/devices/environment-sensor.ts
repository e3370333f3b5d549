import type { DeviceModel } from './model.ts';
import { decimal, ratioAt, walkAt } from './random.ts';

/** A room sensor: slow random walks in steps of its resolution, and a battery that runs down. */
export const environmentSensor: DeviceModel = {
  metrics: ['temperature', 'humidity', 'pressure', 'battery'],
  durationMs: () => 0,
  samples(seed, messageIndex) {
    const temperature = 17 + ratioAt(seed, 1) * 8 + walkAt(seed, 2, messageIndex) * 0.02;
    const humidity = 35 + ratioAt(seed, 3) * 30 + walkAt(seed, 4, messageIndex) * 0.04;
    const pressure = 995 + ratioAt(seed, 5) * 30 + walkAt(seed, 6, messageIndex) * 0.02;
    const batteryAtStart = 3.6 + ratioAt(seed, 7) * 0.6;
    const battery = Math.max(3, batteryAtStart - messageIndex * 2e-6);
    return [
      {
        offsetMs: 0,
        values: [decimal(temperature, 2), decimal(Math.min(100, Math.max(0, humidity)), 2), decimal(pressure, 2), decimal(battery, 3)],
      },
    ];
  },
};
