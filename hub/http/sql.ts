/** POST /v1/sql: one SELECT over the views of a snapshot. */
import { createRoute, z } from '@hono/zod-openapi';
import type { HonoRequest } from 'hono';
import { ANSWER_FORMATS, type AnswerFormat } from '../query/sql-api.ts';
import { FORMAT_TYPES } from '../query/result-formats.ts';
import { answerFormat } from './answer-format.ts';
import { readBody } from './json-body.ts';
import { formatParameter, parameterError, shown, wrongParameter } from './parameters.ts';
import { PROBLEM_RESPONSES, problemContent } from './problems.ts';
import { rowsContent } from './rows-answer.ts';
import type { HubApp, HubServices } from './service.ts';
import { WARNING_HEADER, WARNING_HEADERS, warningText } from './warnings.ts';

const SQL_CHARACTERS_MAX = 65_536;
const BODY_BYTES_MAX = 262_144;
const PARAMETERS_MAX = 1_000;
const LIMIT_DEFAULT = 10_000;
const LIMIT_MAX = 1_000_000;

const EXAMPLE = {
  sql: "SELECT date_trunc('hour', ts) AS hour, avg(value) FROM readings WHERE ts >= now() - INTERVAL 1 DAY AND metric = $1 GROUP BY ALL",
  parameters: ['temperature'],
};
const BODY_EXAMPLE = '{"sql": "SELECT …"}';
const LIMIT_FAULT = `a whole number from 1 to ${LIMIT_MAX} is allowed`;

const parameterSchema = z.union([z.string(), z.number(), z.boolean(), z.null()]);

const querySchema = z.strictObject({ format: formatParameter });

const bodySchema = z
  .strictObject({
    sql: z
      .string({ error: ({ input }) => (input === undefined ? `is missing: ${BODY_EXAMPLE}` : `has to be a text: ${BODY_EXAMPLE}`) })
      .min(1, `is empty: ${BODY_EXAMPLE}`)
      .max(SQL_CHARACTERS_MAX, `has more than ${SQL_CHARACTERS_MAX} characters: bind long values as parameters`)
      .openapi({
        description:
          'One SELECT, or EXPLAIN [ANALYZE] and a SELECT, in the dialect of DuckDB, over readings, aggregates, exceptions, devices, alerts',
        example: EXAMPLE.sql,
      }),
    parameters: z
      .union([z.array(parameterSchema).max(PARAMETERS_MAX), z.record(z.string().max(64), parameterSchema)], {
        error: `a list of at most ${PARAMETERS_MAX} (for $1, $2 …) or an object (for $name) of texts, numbers, true, false and null is allowed`,
      })
      .optional()
      .openapi({ description: 'Bound to $1, $2 … (a list) or $name (an object)', example: EXAMPLE.parameters }),
    limit: z
      .int(LIMIT_FAULT)
      .min(1, LIMIT_FAULT)
      .max(LIMIT_MAX, LIMIT_FAULT)
      .optional()
      .openapi({ description: `An answer with more rows is refused; default ${LIMIT_DEFAULT}` }),
    format: z
      .enum(ANSWER_FORMATS, { error: ({ input }) => `${shown(input)}, there are ${ANSWER_FORMATS.join(', ')}` })
      .optional()
      .openapi({ description: 'Form of the answer; without it the Accept header decides' }),
  })
  .openapi('SqlQuery');

const answerSchema = z
  .object({
    columns: z.array(
      z.object({
        name: z.string(),
        type: z.enum(['double', 'long', 'decimal', 'boolean', 'text', 'timestamp']),
        precision: z.int().optional().openapi({ description: 'Of a decimal: digits in all' }),
        scale: z.int().optional().openapi({ description: 'Of a decimal: digits behind the point' }),
      }),
    ),
    rows: z.array(z.record(z.string(), z.unknown())).openapi({
      description:
        'Times are RFC 3339 in UTC; integers above 2^53 and decimals of more than 15 digits are texts; NaN and infinities are null',
    }),
    row_count: z.int(),
    versions: z.record(z.string(), z.int()).openapi({ description: 'Versions of the lake tables that the answer is from' }),
  })
  .openapi('SqlAnswer');

const route = createRoute({
  method: 'post',
  path: '/v1/sql',
  summary: 'SQL over the lake',
  description: [
    'Views of one snapshot: `readings` and `exceptions` (what is committed), `aggregates` (merged and finished, open windows included), `devices`, `alerts`.',
    'Times are TIMESTAMP in UTC. Conditions on `ts`, `window_start`, `device` and `metric` that stand directly in the WHERE of a view choose the files that are read.',
    'DuckDB, read-only and locked: no files, no extensions, bounded memory, threads, time, rows.',
  ].join(' '),
  request: { query: querySchema, body: { required: true, content: { 'application/json': { schema: bodySchema, example: EXAMPLE } } } },
  responses: {
    200: {
      description: 'The rows',
      headers: {
        ...WARNING_HEADERS,
        'X-Sluice-Rows': { description: 'How many rows there are', schema: { type: 'integer' } },
      },
      content: rowsContent(answerSchema),
    },
    ...PROBLEM_RESPONSES,
    413: { description: 'The body is too large', ...problemContent },
    415: { description: 'The body is not application/json', ...problemContent },
  },
});

/** As on every other route; `format` in the body is the same. */
function formatOf(request: HonoRequest): AnswerFormat | undefined {
  const parsed = querySchema.safeParse(Object.fromEntries(new URL(request.url).searchParams));
  if (parsed.success) return parsed.data.format;
  throw parameterError(parsed.error, Object.keys(querySchema.shape));
}

export function mountSql(app: HubApp, { sql }: HubServices): void {
  app.openAPIRegistry.registerPath(route);
  app.post(route.path, async (c) => {
    const { format: asked, limit, parameters = [], sql: statement } = await readBody(bodySchema, c.req.raw, BODY_BYTES_MAX, BODY_EXAMPLE);
    const inUrl = formatOf(c.req);
    if (inUrl !== undefined && asked !== undefined && inUrl !== asked)
      throw wrongParameter('format', `it is ${asked} in the body and ${inUrl} in the URL: one of them is enough`);
    const format: AnswerFormat = answerFormat(asked ?? inUrl, c.req.header('accept'));
    // Aborted when the caller hangs up.
    const answer = await sql.query({ sql: statement, parameters, format, rowsMax: limit ?? LIMIT_DEFAULT }, c.req.raw.signal);
    const warning = warningText({ unreadableFiles: answer.unreadableFiles });
    return c.body(new Uint8Array(answer.body), 200, {
      'content-type': FORMAT_TYPES[format],
      'cache-control': 'no-store',
      vary: 'Accept',
      'x-sluice-rows': String(answer.rowCount),
      ...(warning === null ? {} : { [WARNING_HEADER]: warning }),
    });
  });
}
