/** GET /v1/tables: how the lake is. */
import { createRoute, z } from '@hono/zod-openapi';
import type { TableReport } from '../maintenance.ts';
import { answerFormat } from './answer-format.ts';
import { formatParameter } from './parameters.ts';
import { PROBLEM_RESPONSES } from './problems.ts';
import { columnsOf, rowsContent, timeSchema, wholeAnswer } from './rows-answer.ts';
import type { HubApp, HubServices } from './service.ts';
import { formatTime, formatTimeOrNull } from './times.ts';

const timeOrNull = timeSchema.nullable();

const tableSchema = z
  .object({
    name: z.string(),
    version: z.int(),
    files: z.int(),
    small_files: z.int().openapi({ description: 'Files that compaction would still merge' }),
    rows: z.int().nullable().openapi({ description: 'null: a file has no statistics' }),
    bytes: z.int(),
    tombstones: z.int().openapi({ description: 'Removed files that are not yet deleted' }),
    checkpoints: z.int(),
    newest_checkpoint: z.int().nullable(),
    oldest_log_version: z.int().nullable(),
    last_compaction: timeOrNull,
    last_vacuum: timeOrNull,
    consumers: z
      .array(z.object({ id: z.string(), version: z.int(), lag: z.int() }))
      .openapi({ description: 'Who reads the table version by version' }),
  })
  .openapi('Table');

const COLUMNS = columnsOf(tableSchema);

const answerSchema = z
  .object({
    time: timeSchema,
    maintenance: z.object({
      runs: z.int(),
      failures: z.int().openapi({ description: 'In a row; 0 after a good run' }),
      last_error: z.string().nullable(),
      last_run: timeOrNull,
      last_run_seconds: z.number(),
    }),
    rows: z.array(tableSchema),
  })
  .openapi('Tables');

const route = createRoute({
  method: 'get',
  path: '/v1/tables',
  summary: 'The tables of the lake: version, files, rows, consumers, maintenance',
  request: { query: z.strictObject({ format: formatParameter }) },
  responses: { 200: { description: 'All of them', content: rowsContent(answerSchema) }, ...PROBLEM_RESPONSES },
});

function render(table: TableReport): z.input<typeof tableSchema> {
  return {
    name: table.name,
    version: table.version,
    files: table.files,
    small_files: table.smallFiles,
    rows: table.rows,
    bytes: table.bytes,
    tombstones: table.tombstones,
    checkpoints: table.checkpoints,
    newest_checkpoint: table.newestCheckpoint,
    oldest_log_version: table.oldestLogVersion,
    last_compaction: formatTimeOrNull(table.lastCompactionUs),
    last_vacuum: formatTimeOrNull(table.lastVacuumUs),
    consumers: table.consumers.map(({ id, version, lag }) => ({ id, version, lag })),
  };
}

export function mountTables(app: HubApp, { maintenance, clock }: HubServices): void {
  app.openapi(route, async (c) => {
    const { runs, failures, lastError, lastRunUs, lastRunMs, tables } = await maintenance.status();
    return wholeAnswer(
      {
        time: formatTime(clock.nowUs()),
        maintenance: { runs, failures, last_error: lastError, last_run: formatTimeOrNull(lastRunUs), last_run_seconds: lastRunMs / 1000 },
        rows: tables.map(render),
      },
      COLUMNS,
      answerFormat(c.req.valid('query').format, c.req.header('accept')),
      c.req,
    );
  });
}
