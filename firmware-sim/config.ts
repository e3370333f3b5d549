/**
 * Settings of `sluice-sim run`: YAML, SLUICE_SIM_… and flags (shared/config.ts).
 */
import { z } from 'zod';
import { SluiceError } from '../shared/errors.ts';
import { FLEET_DEFAULTS, PAYLOAD_SHAPES, fleetSpecSchema, type FleetSpec } from './devices/fleet-spec.ts';

export const simConfigSchema = z.strictObject({
  devices: z.int().min(1).max(100_000).default(100).describe('How many devices, one MQTT connection each'),
  duration: z
    .number()
    .min(0)
    .max(10_000_000)
    .default(20)
    .describe('Seconds until no message becomes due any more; 0 runs until it is stopped'),
  rate: z.number().min(0.0001).max(250).default(1).describe('Messages per second and device'),
  url: z.string().default('mqtt://127.0.0.1:1883').describe('The gateway: mqtt://, mqtts://, ws:// or wss://'),
  urls: z
    .array(z.string())
    .max(1000)
    .default([])
    .describe('Several gateways instead of url: device n sends to number n modulo their count'),
  seed: z.int().min(0).max(0xffffffff).default(1).describe('The same seed gives the same fleet'),
  ledger: z.string().default('./data/sim-ledger.json').describe('Where the ledger is written'),
  name: z.string().default(FLEET_DEFAULTS.namePrefix).describe('Devices are called NAME-00000, NAME-00001, …'),
  qos: z.string().default('0,9,1').describe('Shares of devices that use QoS 0, 1 and 2'),
  models: z
    .strictObject({
      environment: z.number().min(0).default(FLEET_DEFAULTS.models.environment).describe('Share of room sensors'),
      vibration: z.number().min(0).default(FLEET_DEFAULTS.models.vibration).describe('Share of accelerometers that send bursts'),
      energy: z.number().min(0).default(FLEET_DEFAULTS.models.energy).describe('Share of energy meters'),
      gps: z.number().min(0).default(FLEET_DEFAULTS.models.gps).describe('Share of vehicle trackers'),
    })
    .prefault({}),
  shapes: z
    .string()
    .default('mixed')
    .describe(`Payload shapes: mixed, or some of ${PAYLOAD_SHAPES.join(',')}`),
  jitterMs: z
    .int()
    .min(0)
    .default(FLEET_DEFAULTS.jitterMs)
    .describe('Event times are late by 0 to so many ms, at most half of the interval'),
  reconnectEvery: z.number().min(1).nullable().default(null).describe('Cut the socket of each device about every so many seconds'),
  drainTimeout: z.number().min(0).max(86_400).default(30).describe('Seconds to wait for outstanding acknowledgements at the end'),
  queueMessagesMax: z
    .int()
    .min(1)
    .max(100_000_000)
    .default(100_000)
    .describe('Per device: due messages that may wait for a connection; the oldest is given up'),
  inFlightMessagesMax: z.int().min(1).max(10_000).default(64).describe('Per device: sent and unacknowledged messages'),
  connectsPerSecondMax: z.number().min(1).max(100_000).default(500).describe('New connections per second at the start'),
  keepaliveSeconds: z.int().min(1).max(65_535).default(30).describe('MQTT keep-alive: a silent connection is given up after 1.5 times it'),
  username: z.string().nullable().default(null).describe('MQTT user; {device} stands for the device name'),
  passwordPattern: z.string().nullable().default(null).describe('MQTT password; {device} stands for the device name'),
  ledgerIntervalMs: z.int().min(100).max(600_000).default(2000).describe('How often the ledger is written while running'),
});
export type SimConfig = z.infer<typeof simConfigSchema>;

export function gatewayUrls(config: SimConfig): readonly string[] {
  return config.urls.length > 0 ? config.urls : [config.url];
}

/**
 * The fleet that the settings describe.
 *
 * @throws SluiceError ERR_CONFIG_INVALID
 */
export function fleetSpecOf(config: SimConfig, startMs: number): FleetSpec {
  const result = fleetSpecSchema.safeParse({
    generator: FLEET_DEFAULTS.generator,
    seed: config.seed,
    startMs,
    devices: config.devices,
    namePrefix: config.name,
    intervalMs: Math.round(1000 / config.rate),
    jitterMs: config.jitterMs,
    models: config.models,
    shapes: config.shapes === 'mixed' ? [...FLEET_DEFAULTS.shapes] : config.shapes.split(',').map((shape) => shape.trim()),
    qos: config.qos.split(',').map(Number),
    gatewayCount: gatewayUrls(config).length,
  });
  if (!result.success) {
    throw new SluiceError('ERR_CONFIG_INVALID', result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('\n'));
  }
  return result.data;
}
