import { unpack } from 'msgpackr';
import { describe, expect, test } from 'vitest';
import { SeriesChecksum } from '../ledger/checksum.ts';
import { createDevices, type Device } from './device.ts';
import { FLEET_DEFAULTS, type FleetSpec } from './fleet-spec.ts';

const START_MS = 1_790_000_000_000;

function fleet(overrides: Partial<FleetSpec> = {}): FleetSpec {
  return {
    generator: 1,
    seed: 1,
    startMs: START_MS,
    devices: 40,
    namePrefix: 'sim',
    intervalMs: 1000,
    jitterMs: FLEET_DEFAULTS.jitterMs,
    models: FLEET_DEFAULTS.models,
    shapes: [...FLEET_DEFAULTS.shapes],
    qos: [...FLEET_DEFAULTS.qos],
    gatewayCount: 1,
    ...overrides,
  };
}

function allReadings(device: Device, messages: number): ReturnType<Device['readings']> {
  return Array.from({ length: messages }, (_, index) => device.readings(index)).flat();
}

describe('a simulated device', () => {
  test('gives the same message whenever and in whatever order it is asked', () => {
    const forward = createDevices(fleet()).map((device) =>
      [0, 1, 2, 50].map((index) => [device.readings(index), device.payload(index).toString('hex')]),
    );
    const backward = createDevices(fleet()).map((device) =>
      [50, 2, 1, 0].map((index) => [device.readings(index), device.payload(index).toString('hex')]).reverse(),
    );
    expect(backward).toEqual(forward);
  });

  test('depends on the seed', () => {
    const one = createDevices(fleet({ seed: 1 })).map((device) => device.readings(3));
    const two = createDevices(fleet({ seed: 2 })).map((device) => device.readings(3));
    expect(two).not.toEqual(one);
  });

  test('sends today what it sent when the generator got its number: a change here needs a new `generator`', () => {
    const checksum = new SeriesChecksum('fleet', 'all');
    for (const device of createDevices(fleet())) {
      for (const reading of allReadings(device, 20))
        checksum.add(reading.eventTimeUs, reading.value, `${device.name}/${reading.metric}/${reading.text}`);
    }
    expect(checksum.toString()).toBe('59fd2267171e879a');
  });

  test.each([
    { intervalMs: 1000, jitterMs: 40 },
    { intervalMs: 1000, jitterMs: 100_000 },
    { intervalMs: 4, jitterMs: 4 },
    { intervalMs: 60_000, jitterMs: 0 },
  ])('never uses an event time twice: $intervalMs ms with $jitterMs ms jitter', (timing) => {
    for (const device of createDevices(fleet(timing))) {
      const lastUs = new Map<string, number>();
      const wrong = allReadings(device, 60).filter(({ metric, eventTimeUs }) => {
        const previousUs = lastUs.get(metric) ?? -1;
        lastUs.set(metric, eventTimeUs);
        return !Number.isSafeInteger(eventTimeUs) || eventTimeUs % 1000 !== 0 || eventTimeUs <= previousUs;
      });
      expect(lastUs.size).toBe(device.metrics.length);
      expect(wrong).toEqual([]);
    }
  });

  test('is due when its last sample was taken, never before, and in ascending order', () => {
    for (const device of createDevices(fleet())) {
      for (let index = 0; index < 60; index++) {
        const times = device.readings(index).map((reading) => reading.eventTimeUs);
        expect(device.dueMs(index) * 1000).toBe(Math.max(...times));
        expect(device.dueMs(index + 1)).toBeGreaterThan(device.dueMs(index));
      }
    }
  });

  test('an energy counter rises strictly, in whole numbers that a double holds exactly', () => {
    for (const device of createDevices(fleet({ models: { environment: 0, vibration: 0, energy: 1, gps: 0 }, shapes: ['flat'] }))) {
      const counter = allReadings(device, 500).filter((reading) => reading.metric === 'energy_wh');
      expect(counter).toHaveLength(500);
      expect(
        counter.every(({ value, text }, index) => Number.isSafeInteger(value) && text === null && value > (counter[index - 1]?.value ?? 0)),
      ).toBe(true);
    }
  });

  test('a flat payload is an object of its readings and ts in ms; MessagePack says the same', () => {
    for (const shape of ['flat', 'msgpack'] as const) {
      for (const device of createDevices(fleet({ models: { environment: 1, vibration: 0, energy: 1, gps: 1 }, shapes: [shape] }))) {
        const payload = device.payload(5);
        const parsed = (shape === 'flat' ? JSON.parse(payload.toString()) : unpack(payload)) as Record<string, unknown>;
        const readings = device.readings(5);
        expect(parsed).toEqual({
          ...Object.fromEntries(readings.map(({ metric, value, text }) => [metric, text ?? value])),
          ts: (readings[0]?.eventTimeUs ?? 0) / 1000,
        });
      }
    }
  });

  test('a fleet has every model, shape and QoS that it is told to have, about in their shares', () => {
    const devices = createDevices(fleet({ devices: 2000, qos: [1, 8, 1] }));
    const share = (of: (device: Device) => boolean): number => devices.filter(of).length / devices.length;
    expect(share((device) => device.modelName === 'environment')).toBeCloseTo(0.5, 1);
    expect(share((device) => device.modelName === 'vibration')).toBeCloseTo(0.1, 1);
    expect(share((device) => device.qos === 1)).toBeCloseTo(0.8, 1);
    expect(share((device) => device.qos === 2)).toBeCloseTo(0.1, 1);
    expect(share((device) => device.shape === 'influx')).toBeCloseTo(1 / 7, 1);
  });
});
