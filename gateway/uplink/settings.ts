import { z } from 'zod';

/** The `uplink` part of the gateway's configuration that concerns the connection, without address and token. */
export const uplinkSettingsSchema = z.strictObject({
  acceptLakeId: z
    .string()
    .max(64)
    .nullable()
    .default(null)
    .describe(
      'Operator\'s word after "wrong lake": the id of the lake that this gateway may send to from now on; it replaces the pinned one',
    ),
  heartbeatIntervalMs: z.int().min(100).max(60_000).default(1_000).describe('How often watermark, backlog and clock are reported'),
  handshakeTimeoutMs: z
    .int()
    .min(100)
    .max(300_000)
    .default(30_000)
    .describe('From the connection attempt to the welcome, which waits for the hub to read its log'),
  pingIntervalMs: z.int().min(50).max(300_000).default(20_000).describe('How often an open connection is probed'),
  silenceMsMax: z.int().min(100).max(600_000).default(60_000).describe('A connection on which nothing came for so long is dropped'),
  watchdogMs: z
    .int()
    .min(100)
    .max(3_600_000)
    .default(60_000)
    .describe(
      'Batches in flight, nothing committed and no position heard for so long: reconnect. A hub repeats its position every second while something waits, every 20 s otherwise',
    ),
  watchdogSlowMsMax: z
    .int()
    .min(100)
    .max(86_400_000)
    .default(600_000)
    .describe('Batches in flight and nothing committed for so long, though the hub answers: reconnect'),
  backoffMsMin: z
    .int()
    .min(10)
    .max(60_000)
    .default(1_000)
    .describe('Upper bound of the first random wait before a reconnect; doubles with each failure'),
  backoffMsMax: z.int().min(10).max(3_600_000).default(60_000).describe('Upper bound of the random wait before a reconnect'),
  stableMs: z
    .int()
    .min(10)
    .max(3_600_000)
    .default(60_000)
    .describe('A connection that lived so long, or committed something, resets the wait'),
  laneRetryMs: z
    .int()
    .min(10)
    .max(86_400_000)
    .default(300_000)
    .describe('How often a lane asks again that waits for a newer hub, has forked, or found the wrong lake'),
  drainIdleMs: z
    .int()
    .min(10)
    .max(3_600_000)
    .default(30_000)
    .describe('A connection for old data closes when it has had nothing to send for so long'),
  connectionsMax: z
    .int()
    .min(1)
    .max(8)
    .default(4)
    .describe('Connections to the hub at a time: live data, its backfill, lanes of earlier starts'),
});
export type UplinkSettings = z.infer<typeof uplinkSettingsSchema>;
