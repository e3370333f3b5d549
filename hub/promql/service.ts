/** A PromQL request → tasks for the thread of the queries, each with what it has to read. */
import { performance } from 'node:perf_hooks';
import { SluiceError } from '../../shared/errors.ts';
import type { AggregateCapture, QueryEngine } from '../engine-api.ts';
import { parseExpression } from './parse.ts';
import { planQuery, type Plan } from './plan.ts';
import type { PromqlAnswer, PromqlQuery, PromqlRequest, PromqlSelection, PromqlTask, SampleSource } from './promql-api.ts';
import { executionError } from './values.ts';

/** All of time, as TIMESTAMP has it (years 1 to 9999). */
const ALL_TIME = { fromUs: -62_135_596_800_000_000, toUs: 253_402_300_799_000_000 };

/** Captures when its turn comes, sends, answers. */
export type SendTask = (makeTask: () => Promise<PromqlTask>) => Promise<unknown>;

/** @throws SluiceError ERR_PROMQL_*, ERR_QUERY_*, ERR_HTTP_UNAVAILABLE */
export async function answerPromql(request: PromqlRequest, engine: QueryEngine, send: SendTask): Promise<PromqlAnswer> {
  if (request.kind === 'list')
    return (await withCatalogue(engine, send, (catalogue) => ({ kind: 'promql_list', request, catalogue }))) as PromqlAnswer;
  const { query } = request;
  const leftMs = deadlineOf(query);
  const plan = planQuery(parseExpression(query.text), query.steps, query.lookbackUs, engine.definitions);
  const evaluate = (source: SampleSource): PromqlTask => ({ kind: 'promql_evaluate', query: { ...query, timeoutMs: leftMs() }, source });
  if (plan.selectors.length === 0)
    return (await send(() =>
      Promise.resolve(evaluate({ kind: 'readings', capture: { version: 0, files: [], unreadable: [] } })),
    )) as PromqlAnswer;
  const selectors = plan.selectors.map(({ selector }) => selector.matchers);
  const selection = (await withCatalogue(engine, send, (catalogue) => ({
    kind: 'promql_select',
    selectors,
    catalogue,
  }))) as PromqlSelection;
  return (await send(async () => evaluate(await capture(engine, plan, selection)))) as PromqlAnswer;
}

/** @returns what is left of the time that the caller gives; throws when nothing is */
function deadlineOf({ timeoutMs }: PromqlQuery): () => number | null {
  if (timeoutMs === null) return () => null;
  const endMs = performance.now() + timeoutMs;
  return () => {
    const leftMs = endMs - performance.now();
    if (leftMs > 0) return leftMs;
    throw new SluiceError('ERR_QUERY_TIMEOUT', `the query took longer than the ${timeoutMs} ms of its parameter timeout`);
  };
}

/** The thread keeps the list of series for a while: it is captured only when the thread says that it wants it. */
async function withCatalogue(
  engine: QueryEngine,
  send: SendTask,
  taskOf: (catalogue: AggregateCapture | null) => PromqlTask,
): Promise<unknown> {
  const answer = await send(() => Promise.resolve(taskOf(null)));
  if (answer !== null) return answer;
  // The coarsest has the fewest rows.
  const [coarsest] = engine.definitions.filter(({ by, persisted }) => by === 'series' && persisted).sort((a, b) => b.sizeMs - a.sizeMs);
  if (coarsest === undefined)
    throw executionError('PromQL needs a persisted window by series, which says what series there are: this hub has none (windows)');
  const filter = { window: coarsest.name, ...ALL_TIME, gateways: null, devices: null, metrics: null };
  return send(async () => taskOf(await engine.captureAggregates(filter)));
}

async function capture(engine: QueryEngine, plan: Plan, { metrics, devices }: PromqlSelection): Promise<SampleSource> {
  const { definition } = plan;
  // Ranges of captures are half-open, ours have their end inside.
  const range = { fromUs: plan.fromUs, toUs: plan.toUs + 1, metrics, devices };
  if (definition === null) return { kind: 'readings', capture: await engine.captureTable('readings', range) };
  const fromUs = plan.fromUs - definition.sizeMs * 1000;
  return { kind: 'windows', capture: await engine.captureAggregates({ ...range, fromUs, window: definition.name, gateways: null }) };
}
