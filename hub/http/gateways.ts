/** GET /v1/gateways: the fleet, and how the hub itself does. */
import { createRoute, z } from '@hono/zod-openapi';
import type { EngineStatus } from '../engine-api.ts';
import type { GatewayInfo } from '../ingest/gateways.ts';
import { nameMatcher } from '../name-patterns.ts';
import { answerFormat } from './answer-format.ts';
import { formatParameter, listParameter } from './parameters.ts';
import { PROBLEM_RESPONSES } from './problems.ts';
import { columnsOf, rowsContent, timeSchema, wholeAnswer } from './rows-answer.ts';
import type { HubApp, HubServices } from './service.ts';
import { formatTime, formatTimeOrNull } from './times.ts';

const timeOrNull = timeSchema.nullable();

const gatewaySchema = z
  .object({
    gateway: z.string(),
    version: z
      .string()
      .nullable()
      .openapi({ description: 'This and what follows is null for a gateway that this hub has not heard since its start' }),
    connected: z.boolean(),
    connections: z.int(),
    first_contact: timeOrNull,
    last_contact: timeOrNull,
    lag_seconds: z
      .number()
      .nullable()
      .openapi({ description: 'Age of the oldest reading that the gateway holds and the lake does not have; 0: none' }),
    backlog: z.object({ readings: z.int(), bytes: z.int(), exceptions: z.int(), oldest: timeOrNull }).nullable(),
    clock: z.object({ state: z.enum(['known', 'unknown']), offset_seconds: z.number().nullable() }).nullable(),
    watermark: timeOrNull.openapi({
      description: 'What arrived at the gateway before it is in the lake: its windows that end before it are closed',
    }),
    received_bytes: z.int(),
    received_batches: z.int(),
    lanes: z.array(
      z.object({
        epoch: z.string(),
        lane: z.enum(['live', 'backfill']),
        base: z.int().openapi({ description: 'Lowest seq that the gateway still holds' }),
        assigned: z.int().openapi({ description: 'Highest seq that it has given' }),
        received: z.int().nullable(),
        committed: z.int().nullable(),
        status: z.enum(['open', 'forked', 'upgrade_hub']).nullable(),
        connected: z.boolean(),
      }),
    ),
  })
  .openapi('Gateway');

const COLUMNS = columnsOf(gatewaySchema);

const hubSchema = z
  .object({
    lake_id: z.string(),
    readings_version: z.int(),
    aggregates_version: z.int(),
    readings_committed: z.int().openapi({ description: 'By this hub since its start' }),
    last_commit: timeOrNull,
    commit_interval_seconds: z.number(),
    pending_readings: z.int(),
    pending_bytes: z.int(),
    uplinks_paused: z.boolean().openapi({ description: 'The lake does not keep up: gateways are held back and keep their data' }),
    lake_error: z.string().nullable(),
  })
  .openapi('Hub');

const answerSchema = z.object({ time: timeSchema, hub: hubSchema, rows: z.array(gatewaySchema) }).openapi('Gateways');
export type GatewaysAnswer = z.infer<typeof answerSchema>;

const route = createRoute({
  method: 'get',
  path: '/v1/gateways',
  summary: 'Gateways with lag, backlog and lanes, and the state of the hub',
  request: { query: z.strictObject({ gateway: listParameter('Only these gateways'), format: formatParameter }) },
  responses: {
    200: { description: 'All of them, by name', content: rowsContent(answerSchema) },
    ...PROBLEM_RESPONSES,
  },
});

type Row = GatewaysAnswer['rows'][number];

function knownRow(info: GatewayInfo, watermarkUs: number | undefined): Row {
  return {
    gateway: info.gateway,
    version: info.version,
    connected: info.connections > 0,
    connections: info.connections,
    first_contact: formatTime(info.firstContactUs),
    last_contact: formatTime(info.lastContactUs),
    lag_seconds: info.lagUs / 1e6,
    backlog: {
      readings: info.backlog.readings,
      bytes: info.backlog.bytes,
      exceptions: info.backlog.exceptions,
      oldest: formatTimeOrNull(info.backlog.oldestUs),
    },
    clock: { state: info.clock.state, offset_seconds: info.clockOffsetUs === null ? null : info.clockOffsetUs / 1e6 },
    watermark: formatTimeOrNull(watermarkUs ?? null),
    received_bytes: info.bytesReceived,
    received_batches: info.batchesReceived,
    lanes: info.lanes.map(({ epoch, lane, base, assigned, received, committed, status, connected }) => ({
      epoch,
      lane,
      base,
      assigned,
      received,
      committed,
      status,
      connected,
    })),
  };
}

/** Known from the lake alone: its hub was another one, or this one before a restart. */
function silentRow(gateway: string, watermarkUs: number): Row {
  return {
    gateway,
    version: null,
    connected: false,
    connections: 0,
    first_contact: null,
    last_contact: null,
    lag_seconds: null,
    backlog: null,
    clock: null,
    watermark: formatTimeOrNull(watermarkUs),
    received_bytes: 0,
    received_batches: 0,
    lanes: [],
  };
}

export function gatewaysAnswer(
  status: EngineStatus,
  { gateways, uplink, clock }: Pick<HubServices, 'gateways' | 'uplink' | 'clock'>,
): GatewaysAnswer {
  const nowUs = clock.nowUs();
  const known = gateways.list(nowUs);
  const names = new Set(known.map(({ gateway }) => gateway));
  const rows = known.map((info) => knownRow(info, status.watermarks.get(info.gateway)));
  for (const [gateway, watermarkUs] of status.watermarks) if (!names.has(gateway)) rows.push(silentRow(gateway, watermarkUs));
  return {
    time: formatTime(nowUs),
    hub: {
      lake_id: status.lakeId,
      readings_version: status.readingsVersion,
      aggregates_version: status.aggregatesVersion,
      readings_committed: status.readingsCommittedTotal,
      last_commit: formatTimeOrNull(status.lastCommitUs),
      commit_interval_seconds: status.commitIntervalMs / 1000,
      pending_readings: status.pendingReadings,
      pending_bytes: status.pendingBytes,
      uplinks_paused: uplink.state.paused,
      lake_error: status.lastError,
    },
    rows: rows.sort((a, b) => (a.gateway < b.gateway ? -1 : 1)),
  };
}

export function mountGateways(app: HubApp, services: HubServices): void {
  app.openapi(route, async (c) => {
    const { gateway, format } = c.req.valid('query');
    const answer = gatewaysAnswer(await services.engine.status(), services);
    const matches = gateway === undefined ? (): boolean => true : nameMatcher(gateway);
    const rows = answer.rows.filter((row) => matches(row.gateway));
    return wholeAnswer({ ...answer, rows }, COLUMNS, answerFormat(format, c.req.header('accept')), c.req);
  });
}
