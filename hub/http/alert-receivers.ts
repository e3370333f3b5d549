/** GET /v1/alerts/receivers: whether people are told. */
import { createRoute, z } from '@hono/zod-openapi';
import type { DeliveryFigures } from '../alerts/notifier.ts';
import { PROBLEM_RESPONSES } from './problems.ts';
import { timeSchema } from './rows-answer.ts';
import type { HubApp, HubServices } from './service.ts';
import { formatTimeOrNull } from './times.ts';

const receiverSchema = z
  .object({
    receiver: z.string(),
    delivered: z.int().openapi({ description: 'Alerts that it was told, each as often, since the start of this hub' }),
    refused: z.int().openapi({ description: 'Alerts that it would not take' }),
    failed: z.int().openapi({ description: 'Requests that failed; they are tried again' }),
    waiting: z.int().openapi({ description: 'Changes of alerts that it has yet to be told' }),
    waiting_since: timeSchema.nullable().openapi({ description: 'When the oldest of them became durable; null: nothing waits' }),
    last_error: z.string().nullable().openapi({ description: 'Why the last request failed; null: it did not' }),
  })
  .openapi('AlertReceiver');

const listSchema = z.object({ rows: z.array(receiverSchema) }).openapi('AlertReceivers');

const route = createRoute({
  method: 'get',
  path: '/v1/alerts/receivers',
  summary: 'Who is told of alerts, and how that goes',
  description: 'As the configuration of this hub has them. Of several hubs over one lake one tells: the figures of the others stand still.',
  request: { query: z.strictObject({}) },
  responses: {
    200: { description: 'All of them', content: { 'application/json': { schema: listSchema } } },
    ...PROBLEM_RESPONSES,
  },
});

function render({ waitingSinceUs, lastError, ...figures }: DeliveryFigures): z.output<typeof receiverSchema> {
  return { ...figures, waiting_since: formatTimeOrNull(waitingSinceUs), last_error: lastError };
}

export function mountAlertReceivers(app: HubApp, { notifier }: HubServices): void {
  app.openapi(route, (c) => c.json({ rows: notifier.figures.map(render) }, 200));
}
