/**
 * The uplink protocol: what a gateway and a hub say to each other. docs/uplink.md is its specification.
 *
 * One WebSocket connection per lane (`GET /v1/uplink`, subprotocol `sluice.uplink.1`, `Authorization: Bearer TOKEN`),
 * every message one binary frame: a MessagePack map with `type`. The gateway id comes from the token, never from a
 * message. The gateway speaks first (hello), the hub answers (welcome or refuse), then batches and heartbeats go up,
 * positions come down. Positions are cumulative, so any of them may be lost or repeated.
 */
import { z } from 'zod';

export const UPLINK_PATH = '/v1/uplink';
export const UPLINK_SUBPROTOCOL = 'sluice.uplink.1';

export const LANE_NAMES = ['live', 'backfill'] as const;
export type LaneName = (typeof LANE_NAMES)[number];

/** 16 random bytes as 32 lower-case hex digits: one opening of a journal, or one start of a hub. */
export const EPOCH_PATTERN = /^[0-9a-f]{32}$/;

const epoch = z.string().regex(EPOCH_PATTERN);
const lane = z.enum(LANE_NAMES);
const count = z.int().min(0);
const timeUs = z.int().min(0);

/** A lane as its gateway sees it. `base`: lowest seq still held (assigned + 1 if none); `assigned`: highest ever given, 0 if none. */
export const laneClaimSchema = z.object({ epoch, lane, base: z.int().min(1), assigned: count });
export type LaneClaim = z.infer<typeof laneClaimSchema>;

export const backlogSchema = z.object({
  readings: count,
  bytes: count,
  exceptions: count,
  /** Arrival of the oldest reading not yet committed; null if none. */
  oldestUs: timeUs.nullable(),
});
export type Backlog = z.infer<typeof backlogSchema>;

export const clockStateSchema = z.object({ state: z.enum(['known', 'unknown']), wallUs: timeUs });
export type ClockState = z.infer<typeof clockStateSchema>;

export const helloSchema = z.object({
  type: z.literal('hello'),
  gatewayVersion: z.string().max(64),
  /** Wire versions that this gateway may use in batches. */
  wireVersions: z.array(z.int()).max(16),
  /** The lake that this gateway has pinned; null before its first contact. */
  lakeId: z.string().max(64).nullable(),
  /** The lane that this connection carries. */
  epoch,
  lane,
  /** All lanes that the gateway still holds something of, this one among them. */
  lanes: z.array(laneClaimSchema).max(1024),
  backlog: backlogSchema,
  clock: clockStateSchema,
});

export const batchMessageSchema = z.object({
  type: z.literal('batch'),
  seq: z.int().min(1),
  /** Counts the rewinds of this connection, from 0: the hub ignores batches of an older generation. */
  generation: count,
  /** Readings and exceptions inside, declared for the case that the hub cannot apply the body. */
  readingCount: count,
  exceptionCount: count,
  /** A sealed batch: docs/wire.md. */
  body: z.custom<Uint8Array>((value) => value instanceof Uint8Array),
});

/** A gateway that holds more lanes asserts nothing until some are drained. */
export const WATERMARK_POSITIONS_MAX = 1024;

/**
 * "Everything that arrived before `us` is committed once these positions are." Sent about every second on the live lane
 * of the current epoch; never while the clock is unknown.
 */
export const watermarkSchema = z.object({
  us: timeUs,
  positions: z.array(z.object({ epoch, lane, seq: count })).max(WATERMARK_POSITIONS_MAX),
});
export type WatermarkClaim = z.infer<typeof watermarkSchema>;

export const heartbeatSchema = z.object({
  type: z.literal('heartbeat'),
  watermark: watermarkSchema.nullable(),
  backlog: backlogSchema,
  clock: clockStateSchema,
});

export const gatewayMessageSchema = z.discriminatedUnion('type', [helloSchema, batchMessageSchema, heartbeatSchema]);
export type Hello = z.infer<typeof helloSchema>;
export type BatchMessage = z.infer<typeof batchMessageSchema>;
export type Heartbeat = z.infer<typeof heartbeatSchema>;
export type GatewayMessage = z.infer<typeof gatewayMessageSchema>;

/** How much the hub wants now: at most so many bytes not yet received, and so many bytes per second of backfill. */
export const admissionSchema = z.object({
  inFlightBytesMax: z.int().min(1),
  backfillBytesPerSecond: count,
});
export type Admission = z.infer<typeof admissionSchema>;

export const LANE_STATUSES = [
  /** Goes on from committed + 1. */
  'open',
  /** The hub's position is above what the gateway ever assigned: nothing is freed, the gateway starts a new epoch. */
  'forked',
  /** A batch has a wire version that this hub does not know: the lane waits until the hub is upgraded. */
  'upgrade_hub',
] as const;
export type LaneStatus = (typeof LANE_STATUSES)[number];

export const positionSchema = z.object({
  type: z.literal('position'),
  hubInstance: epoch,
  epoch,
  lane,
  generation: count,
  /** Highest seq received without a hole: in memory, frees nothing. */
  received: count,
  /** Highest seq in the lake: frees the batches at the gateway. */
  committed: count,
  status: z.enum(LANE_STATUSES),
  /** true: the hub expects received + 1 and got something else; answered by one rewind (generation + 1). */
  rewind: z.boolean(),
  admission: admissionSchema,
  /** The hub's wall clock when it sent this; older hubs do not say. */
  wallUs: timeUs.optional(),
});

export const welcomeSchema = z.object({
  type: z.literal('welcome'),
  hubInstance: epoch,
  hubVersion: z.string().max(64),
  lakeId: z.string().max(64),
  /** The name under which the hub knows this gateway, from its token. */
  gateway: z.string(),
  /** Wire versions and compressions ('br', 'zstd') that this hub reads. */
  wireVersions: z.array(z.int()).max(16),
  compressions: z.array(z.string()).max(16),
  /** The hub's wall clock when it answered. */
  wallUs: timeUs,
  /** The position of the connection's lane, re-read from the log for this answer. */
  position: positionSchema,
});

export const REFUSE_CODES = ['wrong_lake', 'bad_message', 'lane_taken_over', 'too_many_connections', 'stopping', 'unavailable'] as const;

export const refuseSchema = z.object({
  type: z.literal('refuse'),
  code: z.enum(REFUSE_CODES),
  message: z.string().max(1024),
  retryAfterMs: count,
});

export const hubMessageSchema = z.discriminatedUnion('type', [welcomeSchema, positionSchema, refuseSchema]);
export type Welcome = z.infer<typeof welcomeSchema>;
export type Position = z.infer<typeof positionSchema>;
export type Refuse = z.infer<typeof refuseSchema>;
export type HubMessage = z.infer<typeof hubMessageSchema>;

/** What identifies a lane at the hub; in Delta logs its position is the `txn` with `laneAppId`. */
export interface LaneKey {
  readonly gateway: string;
  readonly epoch: string;
  readonly lane: LaneName;
}

export function laneAppId(key: LaneKey): string {
  return `gw/${key.gateway}/${key.epoch}/${key.lane}`;
}

/** The inverse of laneAppId; null for an application id that is not a lane's. */
export function parseLaneAppId(appId: string): LaneKey | null {
  const match = /^gw\/([^/]+)\/([0-9a-f]{32})\/(live|backfill)$/.exec(appId);
  if (match === null) return null;
  return { gateway: match[1], epoch: match[2], lane: match[3] as LaneName };
}

/** Gateway ids: what can stand in a file name, a Delta appId and a URL path without escaping. */
export const GATEWAY_ID_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
