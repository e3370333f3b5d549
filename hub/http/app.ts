/**
 * The hub's HTTP API and page, as one Hono app.
 *
 * Constraints: parameters are validated by the schemas that /openapi.json is made of, unknown ones are refused, all wrong
 * ones are named at once; every list has a limit and a cursor; queries run in their worker and are bounded there, answers
 * are written in slices. Whatever a caller sends, the answer is a 4xx with problem+json, never a 5xx.
 *
 * It keeps no state but the subscribers of /v1/stream.
 */
import { OpenAPIHono } from '@hono/zod-openapi';
import { compress } from 'hono/compress';
import { COMPRESSIBLE_CONTENT_TYPE_REGEX } from 'hono/utils/compress';
import { SluiceError } from '../../shared/errors.ts';
import { VERSION } from '../../shared/version.ts';
import { FORMAT_TYPES } from '../query/result-formats.ts';
import { requireReader } from './access.ts';
import { mountAlertReceivers } from './alert-receivers.ts';
import { mountAlertRules } from './alert-rules.ts';
import { mountAlerts } from './alerts.ts';
import { mountAggregates } from './aggregates.ts';
import { mountCrossOrigin } from './cross-origin.ts';
import { mountEnroll } from './enroll.ts';
import { mountExceptions } from './exceptions.ts';
import { mountGateways } from './gateways.ts';
import { nearestName } from './nearest-name.ts';
import { parameterError } from './parameters.ts';
import { answerProblem } from './problems.ts';
import { mountPrometheus } from './prometheus.ts';
import { mountReadings } from './readings.ts';
import { mountReference } from './reference.ts';
import { mountRelease } from './release.ts';
import { mountSeries } from './series.ts';
import type { HubApp, HubEnv, HubServices } from './service.ts';
import { mountSql } from './sql.ts';
import { mountTables } from './tables.ts';
import { mountStream } from './stream.ts';
import { mountWebFiles } from './web-files.ts';
import { mountWindows } from './windows.ts';

export type { HubServices } from './service.ts';

/** Those of Hono, and the forms of ours that it does not know; Parquet is compressed inside. */
function isCompressible(type: string): boolean {
  return COMPRESSIBLE_CONTENT_TYPE_REGEX.test(type) || type === FORMAT_TYPES.ndjson || type === FORMAT_TYPES.arrow;
}

const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

export function createHubApp(services: HubServices): HubApp {
  const { metrics, clock, tokens, logger } = services;
  const app: HubApp = new OpenAPIHono<HubEnv>({
    defaultHook: (result, c) => {
      if (result.success) return undefined;
      const known = knownParameters(app, c.req.routePath);
      return answerProblem(parameterError(result.error, known));
    },
  });
  app.use(async (c, next) => {
    const startUs = clock.monotonicUs();
    await next();
    metrics.observeRequest(c.req.routePath, c.res.status, (clock.monotonicUs() - startUs) / 1e6);
    c.res.headers.set('x-content-type-options', 'nosniff');
  });
  mountCrossOrigin(app, services.corsOrigins ?? []);
  app.use(compress({ contentTypeFilter: isCompressible }));
  mountEnroll(app, services);
  app.use('/v1/*', requireReader(tokens));
  app.use('/api/*', requireReader(tokens));
  app.use('/metrics', requireReader(tokens, true));
  mountAggregates(app, services);
  mountReadings(app, services);
  mountExceptions(app, services);
  mountSeries(app, services);
  mountGateways(app, services);
  mountWindows(app, services);
  mountRelease(app, services);
  mountAlerts(app, services);
  mountAlertRules(app, services);
  mountAlertReceivers(app, services);
  mountTables(app, services);
  mountSql(app, services);
  mountStream(app, services);
  mountPrometheus(app, services);
  mountProbes(app, services);
  mountReference(app);
  mountWebFiles(app, services.webDir);
  app.notFound((c) => notFound(app, c.req.method, c.req.path));
  app.onError((error) => {
    if (!(error instanceof SluiceError)) logger.error({ err: error }, 'an HTTP request failed unexpectedly');
    return answerProblem(error);
  });
  return app;
}

function mountProbes(app: HubApp, { engine, metrics, isReady }: HubServices): void {
  app.get('/healthz', (c) => c.json({ status: 'ok', version: VERSION }));
  app.get('/readyz', async (c) => {
    if (!isReady()) return answerProblem(new SluiceError('ERR_HTTP_UNAVAILABLE', 'the hub is stopping'));
    const { lakeId, lastError } = await engine.status();
    // Who balances load sends gateways to another hub; queries and uplinks that come all the same are answered.
    if (lastError !== null) return answerProblem(new SluiceError('ERR_HTTP_UNAVAILABLE', `the lake cannot be written: ${lastError}`));
    return c.json({ status: 'ready', lake_id: lakeId, lake_error: null });
  });
  app.get('/metrics', async (c) => c.text(await metrics.scrape(), 200, { 'content-type': METRICS_TYPE }));
}

function knownParameters(app: HubApp, path: string): string[] {
  for (const definition of app.openAPIRegistry.definitions) {
    if (definition.type !== 'route' || definition.route.path !== path) continue;
    const { query } = definition.route.request ?? {};
    return query !== undefined && 'shape' in query ? Object.keys(query.shape) : [];
  }
  return [];
}

function notFound(app: HubApp, method: string, path: string): Response {
  const methods = new Set(app.routes.filter((route) => route.path === path && route.method !== 'ALL').map((route) => route.method));
  if (methods.size === 0)
    return answerProblem(new SluiceError('ERR_HTTP_NOT_FOUND', `nothing is served at ${path.slice(0, 200)}; ${servedPaths(app, path)}`));
  const allowed = [...methods, ...(methods.has('GET') ? ['HEAD'] : [])].join(', ');
  const response = answerProblem(new SluiceError('ERR_HTTP_METHOD', `${method.slice(0, 20)} is not served at ${path}, ${allowed} is`));
  response.headers.set('allow', allowed);
  return response;
}

/** Of the API, for whoever has mistyped one. */
function servedPaths(app: HubApp, asked: string): string {
  const paths = app.openAPIRegistry.definitions.flatMap((definition) => (definition.type === 'route' ? [definition.route.path] : []));
  const meant = nearestName(asked, paths);
  return `${meant === null ? '' : `did you mean ${meant}? `}There are ${[...new Set(paths)].join(', ')}; /docs describes them`;
}
