/** The simulator's payloads through the gateway's decoder: both were written from design.md, neither from the other. */
import { describe, expect, test } from 'vitest';
import { createDevices } from '../../firmware-sim/devices/device.ts';
import { FLEET_DEFAULTS, PAYLOAD_SHAPES, type FleetSpec, type PayloadShape } from '../../firmware-sim/devices/fleet-spec.ts';
import { DEVICE_MODELS, type DeviceModelName } from '../../firmware-sim/devices/model.ts';
import { Decoder } from '../../gateway/decode/decoder.ts';
import { CollectingSink } from '../../gateway/decode/test-sink.ts';
import { DEFAULT_TOPIC_RULES } from '../../gateway/decode/topic-rules.ts';

const MODEL_NAMES = Object.keys(DEVICE_MODELS) as DeviceModelName[];

function spec(model: DeviceModelName, shape: PayloadShape): FleetSpec {
  return {
    ...FLEET_DEFAULTS,
    seed: 7,
    startMs: 1_790_000_000_123,
    devices: 3,
    intervalMs: 1000,
    models: { environment: 0, vibration: 0, energy: 0, gps: 0, [model]: 1 },
    shapes: [shape],
    qos: [0, 1, 0],
  };
}

describe('what the simulator sends is what the gateway decodes', () => {
  test.each(MODEL_NAMES.flatMap((model) => PAYLOAD_SHAPES.map((shape) => ({ model, shape }))))('$model as $shape', ({ model, shape }) => {
    let compared = 0;
    for (const device of createDevices(spec(model, shape))) {
      const sink = new CollectingSink();
      const decoder = new Decoder(DEFAULT_TOPIC_RULES, sink.series);
      const expected = [];
      for (const messageIndex of [0, 1, 2, 63, 64, 86_400]) {
        const plan = decoder.plan(device.topic);
        if (plan === null) throw new Error(`no rule for ${device.topic}`);
        decoder.decode(plan, device.payload(messageIndex), sink, { arrivalUs: device.dueMs(messageIndex) * 1000, onlyDevice: null });
        for (const { metric, eventTimeUs, value, text } of device.readings(messageIndex)) {
          expected.push({
            device: device.name,
            metric,
            tags: device.tags,
            us: eventTimeUs,
            value: Number.isNaN(value) ? null : value,
            text,
          });
        }
      }
      const order = (a: { us: number | null; metric: string }, b: { us: number | null; metric: string }): number =>
        (a.us ?? 0) - (b.us ?? 0) || (a.metric < b.metric ? -1 : 1);
      expect(sink.exceptions).toEqual([]);
      expect(sink.readings.sort(order)).toEqual(expected.sort(order));
      compared += expected.length;
    }
    expect(compared).toBeGreaterThan(0);
  });
});
