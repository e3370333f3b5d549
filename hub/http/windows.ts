/** GET /v1/windows: what can be asked for. */
import { createRoute, z } from '@hono/zod-openapi';
import { definitionHash, formatDurationMs, GROUP_KEYS } from '../../shared/window/definition.ts';
import { DEFAULT_FUNCTIONS, NAMED_FUNCTIONS } from '../../shared/window/partial.ts';
import { answerFormat } from './answer-format.ts';
import { formatParameter } from './parameters.ts';
import { PROBLEM_RESPONSES } from './problems.ts';
import { columnsOf, rowsContent, wholeAnswer } from './rows-answer.ts';
import type { HubApp, HubServices } from './service.ts';

const rowSchema = z.object({
  name: z.string(),
  size: z.string(),
  size_ms: z.int(),
  slide_ms: z.int().openapi({ description: 'Time between two starts; less than the size for a hopping window' }),
  by: z.enum(['series', 'metric']),
  group_keys: z.array(z.string()),
  persisted: z.boolean().openapi({ description: 'false: recent windows from memory, older ones computed from readings' }),
  def: z.string().openapi({ description: 'Value of the column `def` of the lake table `aggregates`' }),
});

const COLUMNS = columnsOf(rowSchema);

const answerSchema = z
  .object({
    rows: z.array(rowSchema),
    functions: z.array(z.string()).openapi({ description: 'Besides percentiles p0 to p100, p99.9 too' }),
    default_functions: z.array(z.string()),
  })
  .openapi('Windows');

const route = createRoute({
  method: 'get',
  path: '/v1/windows',
  summary: 'The window definitions of this hub',
  request: { query: z.strictObject({ format: formatParameter }) },
  responses: { 200: { description: 'All of them', content: rowsContent(answerSchema) }, ...PROBLEM_RESPONSES },
});

export function mountWindows(app: HubApp, { engine }: HubServices): void {
  const rows = engine.definitions.map((definition) => ({
    name: definition.name,
    size: formatDurationMs(definition.sizeMs),
    size_ms: definition.sizeMs,
    slide_ms: definition.slideMs ?? definition.sizeMs,
    by: definition.by,
    group_keys: [...GROUP_KEYS[definition.by]],
    persisted: definition.persisted,
    def: definitionHash(definition),
  }));
  const answer = { rows, functions: [...NAMED_FUNCTIONS], default_functions: [...DEFAULT_FUNCTIONS] };
  app.openapi(route, (c) => wholeAnswer(answer, COLUMNS, answerFormat(c.req.valid('query').format, c.req.header('accept')), c.req));
}
