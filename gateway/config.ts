/** The gateway's settings: names, defaults, ranges and what they mean, once. */
import { z } from 'zod';
import { tlsFilesSchema } from '../shared/listen.ts';
import { LOG_LEVELS } from '../shared/logging.ts';
import { CLOCK_POLICIES } from './clock-judgement.ts';
import { BUFFER_POLICIES } from './journal/buffer-policy.ts';
import { DEFAULT_TOPIC_RULES, topicRuleSchema } from './decode/topic-rules.ts';
import { sourcesSchema } from './sources/sources.ts';
import { uplinkSettingsSchema } from './uplink/settings.ts';

const port = z.int().min(0).max(65_535);
const host = z.string().min(1).max(255).default('127.0.0.1');

export const mqttConfigSchema = z.strictObject({
  host: host.describe('Address that MQTT listens on; other than loopback only with credentials'),
  port: port.default(1883).describe('Port of MQTT over TCP; 0 takes a free one'),
  wsPort: port.nullable().default(8083).describe('Port of MQTT over WebSocket; null: off'),
  tls: tlsFilesSchema,
  packetBytesMax: z
    .int()
    .min(1_024)
    .max(64 * 1024 * 1024)
    .default(1024 * 1024)
    .describe('Largest MQTT packet'),
  connectionsMax: z.int().min(1).max(1_000_000).default(10_000).describe('Connections at a time'),
  connectTimeoutMs: z.int().min(100).max(600_000).default(10_000).describe('A connection that has not said CONNECT by then is closed'),
  subscriberDrainTimeoutMs: z
    .int()
    .min(100)
    .max(600_000)
    .default(10_000)
    .describe('A subscriber that takes nothing for so long is disconnected'),
  topicLevelsMax: z.int().min(1).max(100).default(32).describe('Most levels of a topic'),
});
export type MqttConfig = z.infer<typeof mqttConfigSchema>;

export const accessConfigSchema = z.strictObject({
  anonymous: z
    .boolean()
    .nullable()
    .default(null)
    .describe('Whether clients of this machine may write without a password; null: while no device has a credential'),
  restrictTopics: z
    .boolean()
    .default(true)
    .describe('Whether a device may write readings of itself only (device add --any-device lifts it for one)'),
});
export type AccessConfig = z.infer<typeof accessConfigSchema>;

export const httpConfigSchema = z.strictObject({
  host: host.describe('Address that HTTP listens on; other than loopback only with credentials'),
  port: port.default(8081).describe('Port of HTTP ingest, status and metrics; 0 takes a free one'),
  tls: tlsFilesSchema,
  bodyBytesMax: z
    .int()
    .min(1_024)
    .max(256 * 1024 * 1024)
    .default(8 * 1024 * 1024)
    .describe('Largest body of a request, after decompression'),
  requestsMax: z.int().min(1).max(100_000).default(256).describe('Write requests at a time; more are answered 503'),
  remoteWriteDeviceLabels: z
    .array(z.string().min(1).max(256))
    .min(1)
    .max(8)
    .default(['instance', 'host', 'device', 'job'])
    .describe('Prometheus remote write: the first of these labels that a series has names its device, the others stay tags'),
});
export type HttpConfig = z.infer<typeof httpConfigSchema>;

export const gatewayConfigSchema = z.strictObject({
  dataDir: z.string().min(1).default('./data/gateway').describe('Directory of journal and credentials'),
  logLevel: z.enum(LOG_LEVELS).default('info').describe('Least severe level that is logged'),
  shutdownDeadlineMs: z
    .int()
    .min(100)
    .max(600_000)
    .default(10_000)
    .describe('SIGTERM: a stop that takes longer is cut short; nothing acknowledged is lost by it'),
  clock: z
    .enum(CLOCK_POLICIES)
    .default('auto')
    .describe(
      'When the clock of this machine is believed; auto: once NTP, the hub, a hardware clock or a hypervisor vouches for it, readings wait until then; trusted: always',
    ),
  seriesMax: z
    .int()
    .min(1)
    .max(200_000)
    .default(100_000)
    .describe('Series (device, metric, tags) that this gateway keeps apart; readings of more become exceptions'),
  topics: z
    .array(topicRuleSchema)
    .max(256)
    .default([...DEFAULT_TOPIC_RULES])
    .describe('Topic rules, the first match wins; topics that none matches are delivered to subscribers and not stored'),
  access: accessConfigSchema.prefault({}),
  mqtt: mqttConfigSchema.prefault({}),
  http: httpConfigSchema.prefault({}),
  sources: sourcesSchema,
  journal: z
    .strictObject({
      sealIntervalMs: z
        .int()
        .min(100)
        .max(600_000)
        .default(2_000)
        .describe('Readings are sealed into a batch so often (10,000 suits a metered link)'),
      batchBytesMax: z
        .int()
        .min(4_096)
        .max(16 * 1024 * 1024)
        .default(256 * 1024)
        .describe('A batch is sealed earlier at about so many compressed bytes'),
      backfillAfterMs: z
        .int()
        .min(1_000)
        .max(86_400_000)
        .default(30_000)
        .describe('Sealed readings that the hub has not been offered for so long are backlog: they go beside live data, not before it'),
      bufferBytesMax: z
        .int()
        .min(8 * 1024 * 1024)
        .max(2 ** 46)
        .default(1024 ** 3)
        .describe('Largest journal on disk: database, WAL and ballast'),
      bufferPolicy: z
        .enum(BUFFER_POLICIES)
        .default('thin')
        .describe(
          'At that size: thin keeps first, last, smallest and largest of each series and minute of the oldest unsent readings; drop-oldest drops them; both record what went as gaps. reject takes nothing more, so that devices keep their data',
        ),
      freeSpaceReserveBytes: z
        .int()
        .min(0)
        .max(2 ** 46)
        .default(64 * 1024 * 1024)
        .describe('Free space of the disk that is left to others'),
      flashBytesPerDayMax: z
        .int()
        .min(0)
        .max(2 ** 46)
        .nullable()
        .default(null)
        .describe(
          'Bytes that may reach the disk in a day before commits are delayed to share their writes; 0: no limit; null: 2,000,000,000 on SD cards and eMMC (mmcblk), no limit elsewhere',
        ),
      ackLatencyMsMax: z
        .int()
        .min(1)
        .max(60_000)
        .default(1_000)
        .describe('An acknowledgement is delayed by at most so much for the sake of flashBytesPerDayMax'),
      flashEnduranceBytes: z
        .int()
        .min(1)
        .max(2 ** 53 - 1)
        .nullable()
        .default(null)
        .describe("Bytes that the disk can take in its life (TBW), from which its life is estimated; null: 300 times the disk's capacity"),
    })
    .prefault({}),
  uplink: z
    .strictObject({
      url: z.string().max(2_048).nullable().default(null).describe('Address of the hub: http(s)://host:port; null: buffer only'),
      token: z.string().max(1_024).nullable().default(null).describe('Token of this gateway at the hub (better in a file: tokenFile)'),
      tokenFile: z.string().max(4_096).nullable().default(null).describe('File with the token of this gateway at the hub'),
      caFile: z.string().max(4_096).nullable().default(null).describe("PEM file: the hub's certificate must come from it"),
      ...uplinkSettingsSchema.shape,
    })
    .prefault({}),
  hostMetrics: z
    .strictObject({
      enabled: z.boolean().default(true).describe("Whether the machine's own cpu, memory, disk, network and temperature are readings"),
      intervalMs: z.int().min(1_000).max(3_600_000).default(10_000).describe('How often they are measured'),
      device: z.string().min(1).max(256).nullable().default(null).describe('Device name of these readings; null: the host name'),
    })
    .prefault({}),
});

export type GatewayConfig = z.infer<typeof gatewayConfigSchema>;
