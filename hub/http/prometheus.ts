/**
 * Prometheus' query API (prometheus.io/docs/prometheus/latest/querying/api), so that Grafana's built-in data source,
 * promtool and their like read a hub as if it were one. docs/promql.md states the subset.
 *
 * Constraints: parameters come in the query or as a form, unknown ones are ignored as Prometheus does; errors have
 * Prometheus' shape with its types; steps, points, series, time and bodies are bounded.
 */
import type { Context } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { SluiceError } from '../../shared/errors.ts';
import { problemOf } from '../../shared/problem.ts';
import { VERSION } from '../../shared/version.ts';
import { LOOKBACK_US, type PromqlQuery, type PromqlRequest } from '../promql/promql-api.ts';
import { badQuery, parseDurationUs } from '../promql/literals.ts';
import { parseSelector } from '../promql/parse.ts';
import { alertsAnswer, rulesAnswer } from './prometheus-rules.ts';
import type { HubApp, HubEnv, HubServices } from './service.ts';
import { parseTime } from './times.ts';

/** As in Prometheus: a step's points of one series. */
const STEPS_MAX = 11_000;
const BODY_BYTES_MAX = 256 * 1024;
const SELECTORS_MAX = 64;
/** What the data source reads to know which functions it may use: this is the version that the subset follows. */
const PROMETHEUS_VERSION = '3.0.0';
const TIME_US_MAX = 253_402_300_799_000_000;

const ERROR_TYPES: Readonly<Record<number, string>> = {
  400: 'bad_data',
  404: 'not_found',
  422: 'execution',
  503: 'unavailable',
  504: 'timeout',
};

function errorResponse(error: unknown): Response {
  const { status, detail } = problemOf(error);
  // Prometheus answers 503 to what took too long.
  const body = JSON.stringify({ status: 'error', errorType: ERROR_TYPES[status] ?? 'internal', error: detail });
  return new Response(body, { status: status === 504 ? 503 : status, headers: { 'content-type': 'application/json' } });
}

/** Of the query and, where there is one, of the form. */
async function parametersOf(c: Context<HubEnv>): Promise<URLSearchParams> {
  const parameters = new URL(c.req.url).searchParams;
  if (c.req.method !== 'POST') return parameters;
  const type = c.req.header('content-type') ?? '';
  if (!type.toLowerCase().startsWith('application/x-www-form-urlencoded'))
    throw badQuery(`the body is ${JSON.stringify(type.slice(0, 60))}, it has to be application/x-www-form-urlencoded`);
  for (const [name, value] of new URLSearchParams(await c.req.text())) parameters.append(name, value);
  return parameters;
}

/** Seconds since the Unix epoch, or RFC 3339. @returns µs */
function timeUs(parameters: URLSearchParams, name: string, initialUs: number | null): number {
  const text = parameters.get(name);
  if (text === null || text === '') {
    if (initialUs !== null) return initialUs;
    throw badQuery(`invalid parameter ${JSON.stringify(name)}: it is missing; it has to be Unix seconds or RFC 3339`);
  }
  if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) {
    const us = Math.round(Number(text) * 1e6);
    if (Math.abs(us) <= TIME_US_MAX) return us;
  }
  const time = parseTime(text);
  if (time?.kind === 'absolute' && /\D/.test(text.replace('.', ''))) return time.us;
  throw badQuery(`invalid parameter ${JSON.stringify(name)}: cannot parse ${JSON.stringify(text.slice(0, 60))} to a valid timestamp`);
}

function queryText(parameters: URLSearchParams): string {
  const text = parameters.get('query');
  if (text === null) throw badQuery('invalid parameter "query": it is missing');
  return text;
}

/** µs. @returns null: it is not given */
function durationUs(parameters: URLSearchParams, name: string): number | null {
  const text = parameters.get(name);
  if (text === null || text === '') return null;
  const us = parseDurationUs(text);
  if (us !== null) return us;
  throw badQuery(`invalid parameter ${JSON.stringify(name)}: cannot parse ${JSON.stringify(text.slice(0, 60))} to a valid duration`);
}

/** Of the series of an answer; 0: all of them. */
function limitOf(parameters: URLSearchParams): number {
  const limit = parameters.get('limit') || '0';
  // promtool and some versions of Grafana say -1 for "no limit".
  if (!/^-?\d{1,9}$/.test(limit)) throw badQuery(`invalid parameter "limit": ${JSON.stringify(limit.slice(0, 40))} is not a whole number`);
  return Math.max(0, Number(limit));
}

/** What instants and ranges have in common. */
function queryOptions(parameters: URLSearchParams): Omit<PromqlQuery, 'steps' | 'isRange'> {
  const text = queryText(parameters);
  const timeoutUs = durationUs(parameters, 'timeout');
  const lookbackUs = durationUs(parameters, 'lookback_delta') ?? 0;
  return {
    text,
    limit: limitOf(parameters),
    timeoutMs: timeoutUs === null ? null : timeoutUs / 1000,
    lookbackUs: lookbackUs > 0 ? lookbackUs : LOOKBACK_US,
  };
}

function instantRequest(parameters: URLSearchParams, nowUs: number): PromqlRequest {
  const startUs = timeUs(parameters, 'time', nowUs);
  return { kind: 'query', query: { ...queryOptions(parameters), steps: { startUs, stepUs: 1, count: 1 }, isRange: false } };
}

function rangeRequest(parameters: URLSearchParams): PromqlRequest {
  const startUs = timeUs(parameters, 'start', null);
  const endUs = timeUs(parameters, 'end', null);
  if (endUs < startUs) throw badQuery('invalid parameter "end": end timestamp must not be before start time');
  const stepUs = parseDurationUs(parameters.get('step') ?? '');
  if (stepUs === null) throw badQuery('invalid parameter "step": it has to be a duration (15s) or a number of seconds');
  if (stepUs <= 0)
    throw badQuery('invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer');
  const count = Math.floor((endUs - startUs) / stepUs) + 1;
  if (count > STEPS_MAX)
    throw badQuery(
      `exceeded maximum resolution of ${STEPS_MAX} points per timeseries (${count} asked). Try decreasing the query resolution (?step=XX)`,
    );
  return { kind: 'query', query: { ...queryOptions(parameters), steps: { startUs, stepUs, count }, isRange: true } };
}

function listRequest(parameters: URLSearchParams, what: 'series' | 'labels' | 'values' | 'metadata', name = ''): PromqlRequest {
  const selectors = parameters.getAll('match[]');
  if (what === 'series' && selectors.length === 0) throw badQuery('no match[] parameter provided');
  if (selectors.length > SELECTORS_MAX) throw badQuery(`${selectors.length} match[] parameters, at most ${SELECTORS_MAX} are allowed`);
  return {
    kind: 'list',
    what,
    name,
    selectors: selectors.map((text) => parseSelector(text).matchers),
    fromUs: timeUs(parameters, 'start', -TIME_US_MAX),
    toUs: timeUs(parameters, 'end', TIME_US_MAX),
    limit: limitOf(parameters),
  };
}

const BUILD_INFO = {
  status: 'success',
  // A feature-poor build: Grafana offers what a plain Prometheus has.
  data: { version: PROMETHEUS_VERSION, revision: `sluice-${VERSION}`, branch: '', buildUser: '', buildDate: '', goVersion: '' },
};

/** Of what there is to look at here, and of what a data source asks a plain Prometheus for and this has none of. */
function mountStatus(app: HubApp, alerts: HubServices['alerts']): void {
  const answer = (path: string, render: (parameters: URLSearchParams) => Readonly<Record<string, unknown>>): void => {
    app.get(path, (c) => {
      try {
        return c.json(render(new URL(c.req.url).searchParams));
      } catch (error) {
        return errorResponse(error);
      }
    });
  };
  answer('/api/v1/status/buildinfo', () => BUILD_INFO);
  answer('/api/v1/alerts', () => alertsAnswer(alerts));
  answer('/api/v1/rules', (parameters) => rulesAnswer(alerts, parameters));
  app.on(['GET', 'POST'], '/api/v1/query_exemplars', (c) => c.json({ status: 'success', data: [] }));
  app.all('/api/*', (c) =>
    errorResponse(new SluiceError('ERR_HTTP_NOT_FOUND', `${c.req.path.slice(0, 100)} is not one of the routes that docs/promql.md lists`)),
  );
}

export function mountPrometheus(app: HubApp, { query, clock, logger, alerts }: HubServices): void {
  const serve = (
    path: string,
    methods: readonly ('GET' | 'POST')[],
    request: (parameters: URLSearchParams, c: Context<HubEnv>) => PromqlRequest,
  ): void => {
    app.on([...methods], [path], async (c) => {
      try {
        const { body } = await query.promql(request(await parametersOf(c), c));
        return new Response(body as Uint8Array<ArrayBuffer>, {
          headers: { 'content-type': 'application/json', 'cache-control': 'no-store' },
        });
      } catch (error) {
        if (!(error instanceof SluiceError)) logger.error({ err: error }, 'a PromQL query failed unexpectedly');
        return errorResponse(error);
      }
    });
  };
  const tooLarge = (): Response => errorResponse(badQuery(`the form is longer than ${BODY_BYTES_MAX} bytes`));
  app.use('/api/v1/*', bodyLimit({ maxSize: BODY_BYTES_MAX, onError: tooLarge }));
  const both = ['GET', 'POST'] as const;
  serve('/api/v1/query', both, (parameters) => instantRequest(parameters, clock.nowUs()));
  serve('/api/v1/query_range', both, rangeRequest);
  serve('/api/v1/series', both, (parameters) => listRequest(parameters, 'series'));
  serve('/api/v1/labels', both, (parameters) => listRequest(parameters, 'labels'));
  serve('/api/v1/label/:name/values', ['GET'], (parameters, c) => listRequest(parameters, 'values', c.req.param('name') ?? ''));
  serve('/api/v1/metadata', ['GET'], (parameters) => listRequest(parameters, 'metadata', parameters.get('metric') ?? ''));
  mountStatus(app, alerts);
}
