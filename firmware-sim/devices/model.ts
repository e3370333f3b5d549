/**
 * What a kind of device measures. A model is a pure function of (seed, device, message): no state, no clock.
 */
import { energyMeter } from './energy-meter.ts';
import { environmentSensor } from './environment-sensor.ts';
import { gpsTracker } from './gps-tracker.ts';
import { vibrationSensor } from './vibration-sensor.ts';

export type SampleValue = number | string;

/** One measurement of all metrics of a device, at one time. */
export interface Sample {
  /** After the message's own event time, integer ms; smallest 0, ascending within a message. */
  readonly offsetMs: number;
  /** In the order of the model's metrics. A string is a reading with only a text. */
  readonly values: readonly SampleValue[];
}

export interface DeviceModel {
  readonly metrics: readonly string[];
  /** From the first to the last sample of a message, integer ms. */
  durationMs(intervalMs: number): number;
  /**
   * @param seed of the device
   * @param messageIndex 0, 1, 2, …
   * @param intervalMs between two messages; all offsets are below half of it, so that no two samples share a time
   */
  samples(seed: number, messageIndex: number, intervalMs: number): readonly Sample[];
}

export const DEVICE_MODELS = {
  environment: environmentSensor,
  vibration: vibrationSensor,
  energy: energyMeter,
  gps: gpsTracker,
} as const satisfies Record<string, DeviceModel>;

export type DeviceModelName = keyof typeof DEVICE_MODELS;
