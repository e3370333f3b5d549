/** GET /v1/alerts: what fires, what may soon, and what has. */
import { createRoute, z } from '@hono/zod-openapi';
import { ALERT_CAUSES, ALERT_STATES, type Alert } from '../alerts/alert.ts';
import { compareAlerts } from '../alerts/alerts.ts';
import { SEVERITIES } from '../alerts/rule.ts';
import { answerFormat } from './answer-format.ts';
import {
  cursorParameter,
  encodeCursor,
  formatParameter,
  limitParameter,
  listParameter,
  shown,
  timeParameter,
  timeRange,
} from './parameters.ts';
import { LIST_RESPONSES } from './problems.ts';
import { columnsOf, nextCursorSchema, rowsContent, rowsResponse, tagsOf, tagsSchema, timeSchema } from './rows-answer.ts';
import type { HubApp, HubServices } from './service.ts';
import { formatTime, formatTimeOrNull } from './times.ts';

const LIMIT_DEFAULT = 100;
const LIMIT_MAX = 1_000;
const RANGE_DEFAULT_US = 30 * 86_400_000_000;

/** The range, then the last row's place. */
const cursorSchema = z.tuple([z.literal('l'), z.int().min(0), z.int().min(0), z.int().min(0), z.string().max(64)]);

export const alertRowSchema = z
  .object({
    id: z.string(),
    rule: z.string(),
    state: z.enum(ALERT_STATES),
    severity: z.enum(SEVERITIES),
    summary: z.string(),
    condition: z
      .string()
      .openapi({ description: "The rule's, in words; '' of alerts from before there were such", example: 'mean of 1m above 80 for 5m' }),
    labels: z.record(z.string(), z.string()),
    gateway: z.string().nullable().openapi({ description: 'null: the alert is not about one' }),
    device: z.string().nullable(),
    metric: z.string().nullable(),
    tags: tagsSchema,
    value: z.number().nullable().openapi({ description: 'That of the last change: of the window, seconds of silence, or of the gateway' }),
    window: z.string().nullable(),
    window_start: timeSchema.nullable().openapi({ description: 'Of the window that changed it last' }),
    window_end: timeSchema.nullable(),
    since: timeSchema.openapi({ description: 'The condition has held since; event time' }),
    fired_at: timeSchema.nullable().openapi({ description: 'End of the window by which it fired; null: it has not' }),
    resolved_at: timeSchema.nullable(),
    updated_at: timeSchema.openapi({ description: 'When the last change became durable, by the clock of the hub' }),
    cause: z.enum(ALERT_CAUSES).openapi({
      description:
        'Of the last change. late: late readings changed a window that had been evaluated; early: by an open window; rule: the rule was changed or deleted; surplus: stands for alerts beyond the most that a rule may have',
    }),
  })
  .openapi('Alert');

const COLUMNS = columnsOf(alertRowSchema);

const answerSchema = z
  .object({
    from: timeSchema,
    to: timeSchema,
    alerts_version: z.int().openapi({ description: 'Entries of the log of alerts that the answer is made from' }),
    rows: z.array(alertRowSchema),
    next_cursor: nextCursorSchema,
  })
  .openapi('Alerts');

function choiceList<const T extends readonly string[]>(choices: T, description: string) {
  return listParameter(`${description}: ${choices.join(', ')}`, (given) =>
    choices.includes(given) ? null : `${shown(given)}, there are ${choices.join(', ')}`,
  );
}

const route = createRoute({
  method: 'get',
  path: '/v1/alerts',
  summary: 'Alerts: firing, pending, resolved; newest change first',
  description:
    'Those that held at some time of [from, to). Without `from`: the last 30 days, and whatever has held since before. `state=firing` is what is wrong now.',
  request: {
    query: z.strictObject({
      from: timeParameter('Start of the range'),
      to: timeParameter('End of the range; default now, and 5 minutes for devices whose clock is ahead', 'now'),
      state: choiceList(ALERT_STATES, 'Only these'),
      rule: listParameter('Only of these rules'),
      severity: choiceList(SEVERITIES, 'Only these'),
      gateway: listParameter('Only these gateways'),
      device: listParameter('Only these devices'),
      metric: listParameter('Only these metrics'),
      limit: limitParameter(LIMIT_DEFAULT, LIMIT_MAX),
      cursor: cursorParameter(cursorSchema),
      format: formatParameter,
    }),
  },
  responses: { 200: { description: 'A page of rows', content: rowsContent(answerSchema) }, ...LIST_RESPONSES },
});

export function renderAlert(alert: Alert): Record<string, unknown> {
  return {
    id: alert.id,
    rule: alert.rule,
    state: alert.state,
    severity: alert.severity,
    summary: alert.summary,
    condition: alert.condition,
    labels: alert.labels,
    gateway: alert.gateway,
    device: alert.device,
    metric: alert.metric,
    tags: tagsOf(alert.tags),
    value: alert.value,
    window: alert.window,
    window_start: formatTimeOrNull(alert.windowStartUs),
    window_end: formatTimeOrNull(alert.windowEndUs),
    since: formatTime(alert.sinceUs),
    fired_at: formatTimeOrNull(alert.firedUs),
    resolved_at: formatTimeOrNull(alert.resolvedUs),
    updated_at: formatTime(alert.updatedUs),
    cause: alert.cause,
  };
}

export function mountAlerts(app: HubApp, { alerts, clock }: HubServices): void {
  app.openapi(route, (c) => {
    const query = c.req.valid('query');
    const { cursor, limit } = query;
    const { fromUs, toUs } =
      cursor === undefined ? timeRange(query, clock.nowUs(), RANGE_DEFAULT_US) : { fromUs: cursor[1], toUs: cursor[2] };
    const found = alerts.list({
      states: (query.state as Alert['state'][] | undefined) ?? null,
      rules: query.rule ?? null,
      severities: (query.severity as Alert['severity'][] | undefined) ?? null,
      gateways: query.gateway ?? null,
      devices: query.device ?? null,
      metrics: query.metric ?? null,
      fromUs,
      toUs,
    });
    const behind =
      cursor === undefined ? found : found.filter((alert) => compareAlerts(alert, { updatedUs: cursor[3], id: cursor[4] }) > 0);
    const rows = behind.slice(0, limit);
    const last = rows.at(-1);
    const isWhole = last === undefined || rows.length === behind.length;
    return rowsResponse(
      {
        format: answerFormat(query.format, c.req.header('accept')),
        head: { from: formatTime(fromUs), to: formatTime(toUs), alerts_version: alerts.book.version },
        rows,
        render: renderAlert,
        columns: COLUMNS,
        nextCursor: isWhole ? null : encodeCursor(['l', fromUs, toUs, last.updatedUs, last.id]),
        version: [alerts.book.version, fromUs, toUs],
      },
      c.req,
    );
  });
}
