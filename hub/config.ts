import cron from 'node-cron';
import { z } from 'zod';
import { tlsFilesSchema } from '../shared/listen.ts';
import { LOG_LEVELS } from '../shared/logging.ts';
import { receiversSchema } from './alerts/receiver.ts';
import { windowDefinitionsSchema } from '../shared/window/definition.ts';

/** Chosen: dashboards of a site, not of a hosting service. */
const ORIGINS_MAX = 32;

function isOrigin(text: string): boolean {
  if (!/^https?:\/\/[^*]+$/.test(text)) return false;
  try {
    return new URL(text).origin === text;
  } catch {
    return false; // what is no URL is no origin
  }
}

const originSchema = z
  .string()
  .refine(isOrigin, { error: 'not an origin like https://dashboard.example:3000: scheme, host, port, nothing behind it, no *' });

export const hubConfigSchema = z.strictObject({
  lakeDir: z
    .string()
    .min(1)
    .default('./data/hub/lake')
    .describe('Directory of the lake: the four Delta tables and `_sluice/`; on a file system with hard links'),
  http: z
    .strictObject({
      host: z
        .string()
        .min(1)
        .default('127.0.0.1')
        .describe('Address of the HTTP API and the uplink; other than loopback only with a read token'),
      port: z.int().min(0).max(65535).default(8080).describe('Port of the HTTP API and the uplink; 0 takes a free one'),
      tls: tlsFilesSchema.nullable().default(null).describe('Certificate and key of the listener; null: no TLS'),
      corsOrigins: z
        .array(originSchema)
        .max(ORIGINS_MAX)
        .default([])
        .describe(
          'Origins whose pages may ask this hub from a browser (`https://dashboard.example:3000`), with a bearer token of their own; none by default',
        ),
    })
    .prefault({}),
  commit: z
    .strictObject({
      intervalMsMin: z.int().min(50).max(60_000).default(5_000).describe('Shortest time between two commits of the lake (few lanes)'),
      intervalMsMax: z
        .int()
        .min(1_000)
        .max(300_000)
        .default(60_000)
        .describe('Longest time between two commits of the lake (many lanes, slow store)'),
      readingsMax: z.int().min(1_000).max(10_000_000).default(1_000_000).describe('A commit starts earlier once so many readings wait'),
      bytesMax: z
        .int()
        .min(1_000_000)
        .max(4_000_000_000)
        .default(256_000_000)
        .describe('A commit starts earlier once so much memory waits'),
    })
    .prefault({}),
  pendingBytesMax: z
    .int()
    .min(1_000_000)
    .max(16_000_000_000)
    .default(512_000_000)
    .describe('Received and not yet committed: above it the hub stops reading from its gateways, which keep their data'),
  windows: windowDefinitionsSchema
    .prefault([
      { name: '10s', size: '10s', persisted: false },
      { name: '1m', size: '1m' },
      { name: '1h', size: '1h' },
      { name: '1m_by_metric', size: '1m', by: 'metric' },
    ])
    .describe('Window definitions: name, size, slide (for hopping windows), by (series | metric), persisted'),
  flushIntervalMs: z
    .int()
    .min(100)
    .max(600_000)
    .default(60_000)
    .describe('Every so often the aggregates since the last time go to the lake'),
  windowBytesMax: z.int().min(1_000_000).max(16_000_000_000).default(512_000_000).describe('They go earlier once they take so much memory'),
  allowedLatenessMs: z
    .int()
    .min(0)
    .max(86_400_000)
    .default(2_000)
    .describe("A gateway's watermark lags its oldest uncommitted arrival by so much"),
  gatewayIdleTimeoutMs: z
    .int()
    .min(1_000)
    .max(86_400_000)
    .default(600_000)
    .describe('A gateway silent for so long no longer keeps windows open'),
  maintenance: z
    .strictObject({
      schedule: z
        .string()
        .refine((schedule) => cron.validate(schedule), { error: 'not a cron schedule of five or six fields, like */10 * * * *' })
        .default('*/10 * * * *')
        .describe('When the lake is maintained: compaction, folding, log clean-up, vacuum (cron)'),
      compactionRowsMax: z
        .int()
        .min(10_000)
        .max(20_000_000)
        .default(1_000_000)
        .describe('Compaction makes files of at most so many readings; one costs about 80 bytes of memory meanwhile'),
    })
    .prefault({}),
  query: z
    .strictObject({
      memoryBytesMax: z.int().min(64_000_000).max(64_000_000_000).default(1_000_000_000).describe('Memory of the query engine'),
      timeoutMs: z.int().min(100).max(600_000).default(30_000).describe('A query that takes longer is cancelled'),
      sql: z
        .strictObject({
          processesMax: z.int().min(1).max(16).default(2).describe('Statements of /v1/sql that run at once, a process each'),
          memoryBytesMax: z.int().min(64_000_000).max(64_000_000_000).default(1_000_000_000).describe('Memory of one statement'),
          threads: z.int().min(1).max(64).default(2).describe('Threads of one statement; they yield to ingest'),
          timeoutMs: z.int().min(100).max(600_000).default(30_000).describe('A statement that takes longer is cancelled'),
          answerBytesMax: z.int().min(1_000).max(500_000_000).default(100_000_000).describe('A larger answer is refused'),
        })
        .prefault({}),
    })
    .prefault({}),
  alerts: z
    .strictObject({
      externalUrl: z
        .url({ protocol: /^https?$/, error: 'has to be a URL with http:// or https://' })
        .nullable()
        .default(null)
        .describe("Address at which people reach the hub's page, for links in notifications; null: no links"),
      receivers: receiversSchema
        .prefault([])
        .describe('Who is told of alerts: name, kind (alertmanager | webhook), url, headers …; docs/alerts.md has all keys'),
    })
    .prefault({}),
  shutdownDeadlineMs: z.int().min(100).max(600_000).default(15_000).describe('SIGTERM: what is not done by then is left to the gateways'),
  logLevel: z.enum(LOG_LEVELS).default('info').describe('Least severe level that is logged'),
});

export type HubConfig = z.infer<typeof hubConfigSchema>;
