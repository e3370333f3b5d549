/**
 * Everything that determines what a fleet sends. It stands in the ledger, so its schema is a file format.
 */
import { z } from 'zod';

/** How a device writes its messages (design.md, section 5); samples of one message share the shape. */
export const PAYLOAD_SHAPES = ['flat', 'values', 'array', 'senml', 'msgpack', 'influx'] as const;
export type PayloadShape = (typeof PAYLOAD_SHAPES)[number];

const share = z.number().min(0).max(1_000_000);

export const fleetSpecSchema = z.strictObject({
  /** Raised when the same spec would give other messages: a ledger of another generator is refused, not misread. */
  generator: z.literal(1),
  seed: z.int().min(0).max(0xffffffff),
  /** Event time of message 0 without jitter, integer ms since the epoch. */
  startMs: z.int().min(0),
  devices: z.int().min(1).max(100_000),
  namePrefix: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'letters, digits, - and _ only: it stands in topics and user names'),
  /** Messages per device: every so many ms. */
  intervalMs: z.int().min(4).max(86_400_000),
  /** Uniform in [0, jitterMs), at most half of the interval. */
  jitterMs: z.int().min(0).max(86_400_000),
  /** Shares of the device models; need not add up to anything. */
  models: z
    .strictObject({ environment: share, vibration: share, energy: share, gps: share })
    .refine((models) => Object.values(models).some((value) => value > 0), 'at least one share above 0'),
  shapes: z.array(z.enum(PAYLOAD_SHAPES)).min(1).max(64),
  /** Shares of QoS 0, 1 and 2; a device keeps its QoS. */
  qos: z.tuple([share, share, share]).refine((shares) => shares.some((value) => value > 0), 'at least one share above 0'),
  gatewayCount: z.int().min(1).max(1000),
});
export type FleetSpec = z.infer<typeof fleetSpecSchema>;

export const FLEET_DEFAULTS = {
  generator: 1,
  namePrefix: 'sim',
  jitterMs: 40,
  models: { environment: 5, vibration: 1, energy: 2, gps: 2 },
  shapes: ['flat', 'flat', 'values', 'array', 'senml', 'msgpack', 'influx'],
  qos: [0, 9, 1],
  gatewayCount: 1,
} as const satisfies Partial<FleetSpec>;
