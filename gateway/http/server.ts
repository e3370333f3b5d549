/**
 * The gateway's HTTP server: ingest, status, metrics, page.
 *
 * Bounded: requests at a time, bytes of bodies at a time, time for headers and bodies. Reading status and metrics is free
 * for this machine; from elsewhere it takes a credential, as writing does.
 */
import { createServer as createHttpServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { getRequestListener, type HttpBindings } from '@hono/node-server';
import { Hono, type Context } from 'hono';
import type { Clock } from '../../shared/clock.ts';
import { SluiceError } from '../../shared/errors.ts';
import { isLoopback, listen, readTls } from '../../shared/listen.ts';
import type { Logger } from '../../shared/logging.ts';
import { problemResponse } from '../../shared/problem.ts';
import { CREDENTIALS_HINT, type Access, type AccessDecision, type Grant } from '../access.ts';
import type { HttpConfig } from '../config.ts';
import type { DocumentOptions } from '../decode/decoder.ts';
import type { MessageTap } from '../tail/message-tap.ts';
import { BodyBudget, withBody } from './body.ts';
import { INFLUX_HEADERS, influxAnswer, influxError, linePrecision } from './influx.ts';
import { MessageStreams } from './messages.ts';
import { RejectedError, type Ingest, type IngestAnswer, type IngestRequest } from './ingest.ts';
import { remoteWriteAnswer, remoteWriteError, requireRemoteWrite } from './remote-write.ts';
import { PAGE, PAGE_HEADERS } from './page/page.ts';

export interface HttpOptions {
  readonly config: HttpConfig;
  readonly access: Access;
  readonly ingest: Ingest;
  readonly logger: Logger;
  /** The document of `/v1/status`. */
  readonly status: () => Promise<Record<string, unknown>>;
  /** The document of `/v1/devices`, or of one device; null: nothing came from it. */
  readonly devices: (device: string | null) => Record<string, unknown> | null;
  /** The text of `/metrics`. */
  readonly metrics: () => Promise<string>;
  /** null: ready; otherwise why not. */
  readonly notReady: () => string | null;
  readonly clock: Clock;
  readonly tap: MessageTap;
}

export interface HttpServer {
  readonly address: AddressInfo;
  stop(deadlineMs: number): Promise<void>;
}

type GatewayContext = Context<{ Bindings: HttpBindings }>;

const BODIES_BYTES_MAX = 64 * 1024 * 1024;
const HEADERS_TIMEOUT_MS = 15_000;
const REQUEST_TIMEOUT_MS = 60_000;
const KEEP_ALIVE_MS = 75_000; // longer than the 60 s of common proxies, so that they close first

function documentFormat(contentType: string | undefined): DocumentOptions['format'] {
  const type = (contentType ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
  switch (type) {
    case 'application/senml+json':
      return 'senml';
    case 'application/msgpack':
    case 'application/x-msgpack':
    case 'application/vnd.msgpack':
      return 'msgpack';
    // What curl -d and simple clients send without saying what it is.
    case '':
    case 'text/plain':
    case 'application/x-www-form-urlencoded':
    case 'application/json':
      return 'json';
    default:
      throw new SluiceError(
        'ERR_HTTP_UNSUPPORTED_MEDIA',
        `content type ${JSON.stringify(type.slice(0, 60))}; application/json, application/senml+json and application/msgpack are understood`,
      );
  }
}

function decide(access: Access, incoming: IncomingMessage, query: (name: string) => string | undefined): AccessDecision {
  const remote = incoming.socket.remoteAddress ?? '';
  const [scheme, value] = (incoming.headers.authorization ?? '').split(/\s+/, 2);
  const kind = scheme?.toLowerCase();
  if (value !== undefined && (kind === 'bearer' || kind === 'token')) return access.checkToken(remote, value); // token: InfluxDB 2
  if (value !== undefined && kind === 'basic') {
    const text = Buffer.from(value, 'base64').toString('utf8');
    const colon = text.indexOf(':');
    return colon < 0 ? 'wrong' : access.check(remote, text.slice(0, colon), text.slice(colon + 1));
  }
  const user = query('u'); // InfluxDB 1
  return user === undefined ? access.check(remote, null, '') : access.check(remote, user, query('p') ?? '');
}

class GatewayHttp {
  readonly #options: HttpOptions;
  readonly #bodies = new BodyBudget(BODIES_BYTES_MAX);
  readonly #messages: MessageStreams;
  #writing = 0;

  constructor(options: HttpOptions) {
    this.#options = options;
    this.#messages = new MessageStreams(options.tap, options.clock);
  }

  endStreams(): void {
    this.#messages.stop();
  }

  app(): Hono<{ Bindings: HttpBindings }> {
    const { status, metrics, notReady, logger } = this.#options;
    const app = new Hono<{ Bindings: HttpBindings }>();
    app.post('/v1/readings', (c) => this.#write(c, (body, grant) => this.#readings(c, body, grant), problemOfRequest));
    for (const path of ['/api/v2/write', '/write']) {
      app.post(path, (c) => this.#write(c, (body, grant) => this.#lines(c, body, grant), influxError));
    }
    app.post('/api/v1/write', (c) => this.#write(c, (body, grant) => this.#remoteWrite(c, body, grant), remoteWriteError));
    app.on(['GET', 'HEAD'], '/ping', () => new Response(null, { status: 204, headers: INFLUX_HEADERS }));
    // Telegraf's InfluxDB 1 output asks for its database at the start; here there is nothing to create.
    app.post('/query', () => Response.json({ results: [{ statement_id: 0 }] }, { headers: INFLUX_HEADERS }));
    app.get('/healthz', (c) => c.json({ status: 'ok' }));
    app.get('/readyz', (c) => {
      const reason = notReady();
      return reason === null ? c.json({ status: 'ready' }) : problemResponse(new SluiceError('ERR_HTTP_UNAVAILABLE', reason));
    });
    app.get('/v1/status', async (c) => this.#forReaders(c) ?? c.json(await status(), 200, { 'cache-control': 'no-store' }));
    app.get('/v1/devices', (c) => this.#forWatchers(c) ?? this.#devices(c.req.query('device') ?? null));
    app.get('/v1/messages', (c) => this.#forWatchers(c) ?? this.#messages.response(c.req.query('topic') ?? '#'));
    app.get(
      '/metrics',
      async (c) => this.#forReaders(c) ?? c.text(await metrics(), 200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }),
    );
    app.get('/', (c) => this.#forReaders(c) ?? c.html(PAGE, 200, PAGE_HEADERS));
    app.notFound((c) => notFound(c.req.method, c.req.path));
    app.onError((error) => {
      if (!(error instanceof SluiceError)) logger.error({ err: error }, 'HTTP request failed unexpectedly');
      return problemResponse(error);
    });
    return app;
  }

  /** null: may read. */
  #forReaders(c: GatewayContext): Response | null {
    const { incoming } = c.env;
    if (isLoopback(incoming.socket.remoteAddress ?? '')) return null;
    const decision = decide(this.#options.access, incoming, (name) => c.req.query(name));
    return typeof decision === 'object' ? null : unauthorized(problemResponse, decision);
  }

  /** What devices send is more than how the gateway does: a credential of one device does not see the others' messages. */
  #forWatchers(c: GatewayContext): Response | null {
    const { incoming } = c.env;
    refuseForeignPage(incoming);
    if (isLoopback(incoming.socket.remoteAddress ?? '')) return null;
    const decision = decide(this.#options.access, incoming, (name) => c.req.query(name));
    if (typeof decision === 'string') return unauthorized(problemResponse, decision);
    if (decision.onlyDevice === null) return null;
    throw new SluiceError('ERR_HTTP_FORBIDDEN', `the credential of device ${decision.onlyDevice} may not see the messages of all devices`);
  }

  async #write(
    c: GatewayContext,
    take: (body: Buffer, grant: Grant) => Promise<Response>,
    refuse: (error: unknown) => Response,
  ): Promise<Response> {
    const { config, access, logger } = this.#options;
    const { incoming } = c.env;
    const decision = decide(access, incoming, (name) => c.req.query(name));
    if (typeof decision === 'string') return unauthorized(refuse, decision);
    if (this.#writing >= config.requestsMax)
      return refuse(
        new SluiceError('ERR_HTTP_UNAVAILABLE', `${this.#writing} requests are being written, at most ${config.requestsMax} may`),
      );
    this.#writing++;
    try {
      refuseForeignPage(incoming);
      return await withBody(incoming, config.bodyBytesMax, this.#bodies, (body) => take(body, decision));
    } catch (error) {
      if (!(error instanceof SluiceError)) logger.error({ err: error, path: c.req.path }, 'HTTP write failed unexpectedly');
      const response = refuse(error);
      // Whatever of the body is still on its way is not read: the connection cannot be used again.
      if (!incoming.complete) response.headers.set('connection', 'close');
      return response;
    } finally {
      this.#writing--;
    }
  }

  #devices(device: string | null): Response {
    const document = this.#options.devices(device);
    if (document === null)
      throw new SluiceError('ERR_HTTP_NOT_FOUND', `nothing came from device ${JSON.stringify(device?.slice(0, 100))} since the start`);
    return Response.json(document, { headers: { 'cache-control': 'no-store' } });
  }

  async #readings(c: GatewayContext, body: Buffer, grant: Grant): Promise<Response> {
    const document: DocumentOptions = {
      format: documentFormat(c.env.incoming.headers['content-type']),
      device: c.req.query('device') ?? null,
    };
    const key = c.env.incoming.headers['idempotency-key'];
    // Told apart by credential: two devices that count their requests from 1 must not swallow each other's.
    const idempotencyKey = typeof key === 'string' ? `${grant.name ?? ''}:${key}` : null;
    const answer = await this.#options.ingest.document(requestOf(c, body, grant), document, idempotencyKey);
    return Response.json(answerDocument(answer), answer.replayed ? { headers: { 'idempotent-replayed': 'true' } } : {});
  }

  async #lines(c: GatewayContext, body: Buffer, grant: Grant): Promise<Response> {
    const precision = linePrecision(c.req.query('precision'));
    return influxAnswer(await this.#options.ingest.lines(requestOf(c, body, grant), c.req.query('device') ?? null, precision));
  }

  async #remoteWrite(c: GatewayContext, body: Buffer, grant: Grant): Promise<Response> {
    requireRemoteWrite(c.env.incoming.headers['content-type']);
    const { ingest, config } = this.#options;
    return remoteWriteAnswer(await ingest.remoteWrite(requestOf(c, body, grant), config.remoteWriteDeviceLabels));
  }
}

function requestOf(c: GatewayContext, body: Buffer, grant: Grant): IngestRequest {
  const remoteAddress = c.env.incoming.socket.remoteAddress ?? '';
  return { path: c.req.path, body, onlyDevice: grant.onlyDevice, sender: grant.name, remoteAddress };
}

function answerDocument(answer: IngestAnswer): Record<string, unknown> {
  return { accepted: answer.accepted, rejected: answer.rejectedCount, errors: answer.rejected.map(problemRow) };
}

function problemRow(problem: IngestAnswer['rejected'][number]): Record<string, unknown> {
  return { entry: problem.entry, device: problem.device, metric: problem.metric, code: problem.code, detail: problem.message };
}

function problemOfRequest(error: unknown): Response {
  if (error instanceof RejectedError)
    return problemResponse(error, { rejected: error.problemCount, errors: error.problems.map(problemRow) });
  return problemResponse(error);
}

function unauthorized(refuse: (error: unknown) => Response, decision: 'wrong' | 'missing'): Response {
  const why = decision === 'wrong' ? 'the name or secret is wrong' : 'a credential is needed: Basic NAME:SECRET, or Bearer SECRET';
  const response = refuse(new SluiceError('ERR_HTTP_UNAUTHORIZED', why));
  response.headers.set('www-authenticate', 'Basic realm="sluice", charset="UTF-8"');
  return response;
}

/** A web page of another site must not write through the browser of somebody who sits at this machine. */
function refuseForeignPage(incoming: IncomingMessage): void {
  const { origin, host } = incoming.headers;
  if (origin === undefined || origin === `http://${host}` || origin === `https://${host}`) return;
  throw new SluiceError('ERR_HTTP_FORBIDDEN', `a page of ${origin.slice(0, 100)} may not write here`);
}

const PATHS = new Set([
  '/v1/devices',
  '/v1/messages',
  '/v1/readings',
  '/api/v2/write',
  '/write',
  '/ping',
  '/query',
  '/healthz',
  '/readyz',
  '/v1/status',
  '/metrics',
  '/',
]);

function notFound(method: string, path: string): Response {
  return problemResponse(
    PATHS.has(path)
      ? new SluiceError('ERR_HTTP_METHOD', `${method.slice(0, 20)} is not served at ${path}`)
      : new SluiceError('ERR_HTTP_NOT_FOUND', `nothing is served at ${path.slice(0, 200)}`),
  );
}

/** @throws SluiceError ERR_LISTEN_*, ERR_CONFIG_FILE */
export async function startHttp(options: HttpOptions): Promise<HttpServer> {
  const { config, access } = options;
  const gateway = new GatewayHttp(options);
  const listener = getRequestListener(gateway.app().fetch, { overrideGlobalObjects: false });
  const tls = readTls(config.tls);
  const limits = {
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    maxHeaderSize: 16_384,
  };
  const handle = (incoming: IncomingMessage, outgoing: ServerResponse): void => void listener(incoming, outgoing);
  const server: Server =
    tls === null ? createHttpServer(limits, handle) : createHttpsServer({ ...limits, ...tls, minVersion: 'TLSv1.2' }, handle);
  const address = await listen({
    server,
    host: config.host,
    port: config.port,
    credentialsConfigured: access.configured,
    credentialsHint: CREDENTIALS_HINT,
    flagName: '--http-port',
    what: 'HTTP',
  });
  return {
    address,
    stop: (deadlineMs) =>
      new Promise((resolve) => {
        const timer = setTimeout(() => server.closeAllConnections(), deadlineMs);
        server.close(() => {
          clearTimeout(timer);
          resolve();
        });
        gateway.endStreams();
        server.closeIdleConnections();
      }),
  };
}
