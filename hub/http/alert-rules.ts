/** /v1/alerts/rules: what is watched, set and deleted by operators. */
import { createRoute, z } from '@hono/zod-openapi';
import { SluiceError } from '../../shared/errors.ts';
import type { RuleStatus } from '../alerts/alerts.ts';
import { alertRuleSchema, RULE_NAME_PATTERN, ruleProblems } from '../alerts/rule.ts';
import { requireAdmin } from './access.ts';
import { readBody } from './json-body.ts';
import { ParameterError, shown, wrongParameter } from './parameters.ts';
import { PROBLEM_RESPONSES, problemContent } from './problems.ts';
import { timeSchema } from './rows-answer.ts';
import type { HubApp, HubServices } from './service.ts';
import { formatTime } from './times.ts';

const BODY_BYTES_MAX = 65_536;
const EXAMPLE = '{"kind": "threshold", "window": "1m", "function": "mean", "metric": ["temperature"], "above": 80}';

const ruleSchema = z
  .discriminatedUnion('kind', alertRuleSchema.options)
  .openapi('AlertRule', { description: 'threshold: windows beyond a bound; absence: nothing is heard; gateway: the state of a gateway' });

const statusSchema = z
  .object({
    name: z.string(),
    rule: ruleSchema,
    updated_at: timeSchema,
    pending: z.int().openapi({ description: 'Alerts whose condition has not held for long enough' }),
    firing: z.int(),
    surplus: z.int().openapi({ description: 'Alerts that there would be beyond the most that a rule may have; one alert says so' }),
  })
  .openapi('AlertRuleStatus');

const listSchema = z.object({ version: z.int(), rows: z.array(statusSchema) }).openapi('AlertRules');

const nameSchema = z
  .string()
  .regex(RULE_NAME_PATTERN, 'a name of a rule is 1 to 64 letters, digits, ., _ or -, and begins with a letter or digit')
  .openapi({ param: { name: 'name', in: 'path' }, example: 'hot-bearing' });
const path = '/v1/alerts/rules/{name}';
const request = { params: z.object({ name: nameSchema }), query: z.strictObject({}) };
const unknown = { 404: { description: 'No such rule', ...problemContent } };
const change = { 409: { description: 'There are as many rules as are allowed', ...problemContent } };
const status = { content: { 'application/json': { schema: statusSchema } } };

const listRoute = createRoute({
  method: 'get',
  path: '/v1/alerts/rules',
  summary: 'Rules of alerts',
  request: { query: z.strictObject({}) },
  responses: {
    200: { description: 'All of them, by name', content: { 'application/json': { schema: listSchema } } },
    ...PROBLEM_RESPONSES,
  },
});

const getRoute = createRoute({
  method: 'get',
  path,
  summary: 'A rule of alerts',
  request,
  responses: { 200: { description: 'The rule', ...status }, ...PROBLEM_RESPONSES, ...unknown },
});

const putRoute = createRoute({
  method: 'put',
  path,
  summary: 'Set a rule of alerts',
  description:
    'Durable, and known to all hubs of the lake, when it is answered. A rule that watches something else than before resolves its alerts and begins anew. Needs a token of kind admin where there are tokens.',
  request: {
    ...request,
    body: { required: true, content: { 'application/json': { schema: ruleSchema, example: JSON.parse(EXAMPLE) as unknown } } },
  },
  responses: {
    200: { description: 'The rule was changed', ...status },
    201: { description: 'The rule is new', ...status },
    ...PROBLEM_RESPONSES,
    ...change,
    413: { description: 'The body is too large', ...problemContent },
    415: { description: 'The body is not application/json', ...problemContent },
  },
});

const deleteRoute = createRoute({
  method: 'delete',
  path,
  summary: 'Delete a rule of alerts; its alerts are resolved',
  request,
  responses: { 204: { description: 'It is gone' }, ...PROBLEM_RESPONSES, ...unknown },
});

function render({ name, rule, updatedUs, pending, firing, surplus }: RuleStatus): z.output<typeof statusSchema> {
  return { name, rule, updated_at: formatTime(updatedUs), pending, firing, surplus };
}

function checkedName(name: string): string {
  if (RULE_NAME_PATTERN.test(name)) return name;
  throw wrongParameter('name', `${shown(name)} cannot name a rule: a letter or digit, then letters, digits, '.', '_', '-', at most 64`);
}

export function mountAlertRules(app: HubApp, { alerts, engine, tokens }: HubServices): void {
  const statusOf = (name: string): RuleStatus => {
    const found = alerts.rule(name);
    if (found !== null) return found;
    throw new SluiceError('ERR_ALERT_RULE_UNKNOWN', `no rule has the name ${shown(name)} (GET /v1/alerts/rules)`);
  };
  app.openapi(listRoute, (c) => c.json({ version: alerts.book.version, rows: alerts.rules().map(render) }, 200));
  app.openapi(getRoute, (c) => c.json(render(statusOf(c.req.valid('param').name)), 200));
  for (const route of [putRoute, deleteRoute]) app.openAPIRegistry.registerPath(route);
  app.put('/v1/alerts/rules/:name', requireAdmin(tokens), async (c) => {
    const name = checkedName(c.req.param('name'));
    const rule = await readBody(ruleSchema, c.req.raw, BODY_BYTES_MAX, EXAMPLE);
    const problems = ruleProblems(rule, engine.definitions);
    if (problems.length > 0) throw new ParameterError(problems.map(({ member, detail }) => ({ parameter: member, detail })));
    const isNew = await alerts.putRule(name, rule);
    return c.json(render(statusOf(name)), isNew ? 201 : 200);
  });
  app.delete('/v1/alerts/rules/:name', requireAdmin(tokens), async (c) => {
    await alerts.deleteRule(checkedName(c.req.param('name')));
    return c.body(null, 204);
  });
}
