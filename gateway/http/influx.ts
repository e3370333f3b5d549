/**
 * The write API of InfluxDB 1 and 2, as much of it as a Telegraf or a client library needs to write to this gateway.
 *
 * A body with faulty lines is answered 400 after its good lines are durable, as InfluxDB does ("partial write"): Telegraf
 * drops the faulty ones and goes on.
 */
import { SluiceError } from '../../shared/errors.ts';
import { problemOf } from '../../shared/problem.ts';
import { VERSION } from '../../shared/version.ts';
import type { LinePrecision } from '../decode/line-protocol.ts';
import type { IngestAnswer } from './ingest.ts';

const PRECISIONS: Readonly<Record<string, LinePrecision>> = { ns: 'ns', n: 'ns', us: 'us', u: 'us', ms: 'ms', s: 's', m: 'm', h: 'h' };

/** @throws SluiceError ERR_HTTP_PARAMETER */
export function linePrecision(parameter: string | undefined): LinePrecision {
  if (parameter === undefined || parameter === '') return 'ns';
  const precision = Object.hasOwn(PRECISIONS, parameter) ? PRECISIONS[parameter] : undefined;
  if (precision === undefined)
    throw new SluiceError(
      'ERR_HTTP_PARAMETER',
      `precision ${JSON.stringify(parameter.slice(0, 20))}; ns, us, ms, s (and n, u, m, h) are understood`,
    );
  return precision;
}

/** Telegraf and the client libraries read one of the two version headers to know that somebody is there. */
export const INFLUX_HEADERS: Readonly<Record<string, string>> = { 'x-influxdb-version': `sluice-${VERSION}`, 'x-influxdb-build': 'OSS' };

const CODES: Readonly<Record<number, string>> = {
  400: 'invalid',
  401: 'unauthorized',
  403: 'forbidden',
  413: 'request too large',
  415: 'invalid',
  429: 'too many requests',
  503: 'unavailable',
  507: 'unavailable',
};

function answer(status: number, message: string): Response {
  const retryAfter: Record<string, string> = status === 503 ? { 'retry-after': '1' } : {};
  // `code` and `message` are version 2, `error` is version 1: clients of both read this.
  return Response.json(
    { code: CODES[status] ?? 'internal error', message, error: message },
    { status, headers: { ...INFLUX_HEADERS, ...retryAfter, 'x-influxdb-error': message.replace(/[^\x20-\x7e]/g, '?').slice(0, 500) } },
  );
}

export function influxError(error: unknown): Response {
  const { status, detail } = problemOf(error);
  return answer(status, detail);
}

export function influxAnswer(result: IngestAnswer): Response {
  if (result.rejectedCount === 0) return new Response(null, { status: 204, headers: INFLUX_HEADERS });
  const shown = result.rejected.slice(0, 16).map((problem) => problem.message);
  const more = result.rejectedCount > shown.length ? `; and ${result.rejectedCount - shown.length} more` : '';
  const what = result.accepted === 0 ? 'unable to parse' : 'partial write: unable to parse';
  const forbidden = result.accepted === 0 && result.rejected.every((problem) => problem.code === 'ERR_BROKER_FORBIDDEN');
  return answer(forbidden ? 403 : 400, `${what}: ${shown.join('; ')}${more} dropped=${result.rejectedCount}`);
}
