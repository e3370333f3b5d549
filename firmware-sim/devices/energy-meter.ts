import type { DeviceModel } from './model.ts';
import { bitsAt, decimal, integerAt, ratioAt, walkAt } from './random.ts';

/**
 * An energy meter: a counter that only rises, in whole watt-hours, with power and voltage.
 *
 * The counter is `base + k * mean + noise below mean`, so that it rises strictly and message k needs no message before it.
 * It starts above 2^32: what loses an integer's digits beyond 32 bits shows.
 */
export const energyMeter: DeviceModel = {
  metrics: ['energy_wh', 'power', 'voltage'],
  durationMs: () => 0,
  samples(seed, messageIndex) {
    const base = 2 ** 32 + integerAt(1_000_000_000, seed, 1);
    const meanPerMessage = 3 + integerAt(40, seed, 2);
    const energy = base + messageIndex * meanPerMessage + (bitsAt(seed, 3, messageIndex) % meanPerMessage);
    const power = Math.max(0, 200 + ratioAt(seed, 4) * 3000 + walkAt(seed, 5, messageIndex) * 15);
    const voltage = 230 + walkAt(seed, 6, messageIndex) * 0.1;
    return [{ offsetMs: 0, values: [energy, decimal(power, 1), decimal(voltage, 1)] }];
  },
};
