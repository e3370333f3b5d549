/** POST /v1/exceptions/release: quarantined readings back into the lake, with times that are right. */
import { createRoute, z } from '@hono/zod-openapi';
import { parseExceptionId } from '../release-lane.ts';
import type { TimeCorrection } from '../release.ts';
import { requireAdmin } from './access.ts';
import { shown, wrongParameter } from './parameters.ts';
import { PROBLEM_RESPONSES, problemContent } from './problems.ts';
import { readBody } from './json-body.ts';
import type { HubApp, HubServices } from './service.ts';
import { parseTime, resolveTime, timeFault } from './times.ts';

const BODY_BYTES_MAX = 4_096;
/** A hundred years: what a clock that was never set is wrong by. */
const SHIFT_SECONDS_MAX = 3_155_760_000;

const bodySchema = z
  .strictObject({
    id: z.string().max(256).openapi({ description: 'Of a quarantined exception (GET /v1/exceptions)', example: 'site-1/5f0c…/live/1/0' }),
    shift_seconds: z
      .number()
      .min(-SHIFT_SECONDS_MAX)
      .max(SHIFT_SECONDS_MAX)
      .optional()
      .openapi({ description: 'Every reading is moved by so much', example: 3600 }),
    start: z
      .string()
      .max(64)
      .optional()
      .openapi({ description: 'Or: when the first reading was; the others are as far from it as they were sent' }),
  })
  .openapi('ReleaseRequest');

const answerSchema = z
  .object({
    id: z.string(),
    status: z.enum(['released', 'pending']).openapi({ description: 'pending: received and not yet committed; ask again' }),
    readings: z.int(),
    again: z.boolean().openapi({ description: 'An earlier request has released it: this one changed nothing' }),
  })
  .openapi('Released');

const route = createRoute({
  method: 'post',
  path: '/v1/exceptions/release',
  summary: 'Release quarantined readings with a corrected time',
  description: 'Once and only once, however often it is asked for. Needs a token of kind admin where there are tokens.',
  request: { query: z.strictObject({}), body: { required: true, content: { 'application/json': { schema: bodySchema } } } },
  responses: {
    200: { description: 'The readings are in the lake', content: { 'application/json': { schema: answerSchema } } },
    202: { description: 'They are on their way', content: { 'application/json': { schema: answerSchema } } },
    ...PROBLEM_RESPONSES,
    404: { description: 'No such exception', ...problemContent },
    409: { description: 'It is not quarantined, or its readings are not kept', ...problemContent },
    413: { description: 'The body is too large', ...problemContent },
    415: { description: 'The body is not application/json', ...problemContent },
  },
});

function correctionOf({ shift_seconds: shift, start }: z.output<typeof bodySchema>, nowUs: number): TimeCorrection {
  if ((shift === undefined) === (start === undefined)) throw wrongParameter('shift_seconds', 'either shift_seconds or start, one of them');
  if (shift !== undefined) return { shiftUs: Math.round(shift * 1e6) };
  const time = parseTime(start ?? '');
  if (time === null) throw wrongParameter('start', `${shown(start)} ${timeFault(start ?? '')}`);
  return { startUs: resolveTime(time, nowUs) };
}

export function mountRelease(app: HubApp, { releases, tokens, clock }: HubServices): void {
  app.openAPIRegistry.registerPath(route);
  app.post(route.path, requireAdmin(tokens), async (c) => {
    const body = await readBody(bodySchema, c.req.raw, BODY_BYTES_MAX, '{"id": "…", "shift_seconds": 3600}');
    const id = parseExceptionId(body.id);
    if (id === null) throw wrongParameter('id', `${shown(body.id)} is not an id of an exception: gateway/epoch/lane/seq/index`);
    const answer = await releases.release(id, correctionOf(body, clock.nowUs()));
    return c.json({ id: body.id, ...answer }, answer.status === 'released' ? 200 : 202);
  });
}
