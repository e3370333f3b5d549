/**
 * GET /v1/aggregates in JSON, from the request's socket to the query service and back, past router, middleware and Response
 * objects: those cost the thread of the sockets more than everything else that a hot query is (profile).
 *
 * It answers what the route of aggregates.ts answers, from the same schema, ranges and tags (a test asks both), and only what
 * is plain: a good query of somebody who may read. Everything else — wrong parameters, no or a wrong token, other forms and
 * encodings, pages of other origins — it leaves to that route, which says what is wrong, before it has done anything with the request.
 *
 * It holds what URLs mean: URLS_MAX of URL_CHARACTERS_MAX characters each, the oldest goes first.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { promisify } from 'node:util';
import { constants, gzip } from 'node:zlib';
import { getQueryParams } from 'hono/utils/url';
import { SluiceError } from '../../shared/errors.ts';
import { isLoopback } from '../../shared/listen.ts';
import { documentEnd } from '../query/aggregate-document.ts';
import { FORMAT_TYPES } from '../query/result-formats.ts';
import { bearerToken } from '../ingest/tokens.ts';
import { aggregatesQuerySchema, askedOf, type AggregatesQuery } from './aggregates.ts';
import { answerFormat } from './answer-format.ts';
import { answerProblem } from './problems.ts';
import { entityTag, isKnown, ROWS_CACHE_CONTROL, ROWS_VARY } from './rows-answer.ts';
import type { HubServices } from './service.ts';

const PATH = '/v1/aggregates';
const URLS_MAX = 1_000;
const URL_CHARACTERS_MAX = 1_024;
/** Below, compressing gains nothing (hono/compress has the same). */
const COMPRESSED_BYTES_MIN = 1_024;
/** To copy more costs more than to send two parts. */
const COPIED_BYTES_MAX = 65_536;
const compressed = promisify(gzip);

type Services = Pick<HubServices, 'engine' | 'query' | 'tokens' | 'metrics' | 'clock' | 'logger' | 'corsOrigins'>;

interface KnownUrl {
  readonly query: AggregatesQuery;
  /** As URL has it. */
  readonly search: string;
}

export class DirectAggregates {
  readonly #services: Services;
  readonly #schema: ReturnType<typeof aggregatesQuerySchema>;
  /** A page of a named origin may ask the same, of its route. */
  readonly #vary: string;
  readonly #urls = new Map<string, KnownUrl>();

  constructor(services: Services) {
    this.#services = services;
    this.#vary = (services.corsOrigins ?? []).length === 0 ? ROWS_VARY : `${ROWS_VARY}, Origin`;
    this.#schema = aggregatesQuerySchema(services.engine.definitions);
  }

  /** @param otherwise called, once and before anything is written, where this is not for here */
  answer(request: IncomingMessage, response: ServerResponse, otherwise: () => void): void {
    const { method, url = '', headers } = request;
    const isPlain = method === 'GET' && headers.origin === undefined && url.startsWith(`${PATH}?`);
    const encoding = isPlain ? encodingOf(headers['accept-encoding']) : null;
    const known = encoding === null || !hasPlainHost(headers.host) ? null : this.#known(url);
    if (encoding === null || known === null || answerFormat(known.query.format, headers.accept) !== 'json') otherwise();
    else void this.#answer(request, response, { known, encoding, otherwise });
  }

  async #answer(
    request: IncomingMessage,
    response: ServerResponse,
    { known, encoding, otherwise }: { readonly known: KnownUrl; readonly encoding: 'gzip' | 'identity'; readonly otherwise: () => void },
  ): Promise<void> {
    const { clock, metrics } = this.#services;
    const startUs = clock.monotonicUs();
    if (!(await this.#mayRead(request))) {
      otherwise();
      return;
    }
    try {
      await this.#send(request, response, known, encoding);
    } catch (error) {
      await this.#sendProblem(response, error);
    }
    metrics.observeRequest(PATH, response.statusCode, (clock.monotonicUs() - startUs) / 1e6);
  }

  /** As access.ts, which answers those who may not. */
  async #mayRead({ headers, socket }: IncomingMessage): Promise<boolean> {
    const { tokens } = this.#services;
    if (!tokens.hasReaders) return isLoopback(socket.remoteAddress ?? '') && isLoopback(hostNameOf(headers.host ?? ''));
    const record = await tokens.verify(bearerToken(headers.authorization));
    return record !== null && record.kind !== 'gateway';
  }

  /** null: it is not right, or not known to be. */
  #known(url: string): KnownUrl | null {
    const known = this.#urls.get(url);
    if (known !== undefined) return known;
    const parameters = Object.entries(getQueryParams(url) as Record<string, string[]>);
    const parsed = this.#schema.safeParse(
      Object.fromEntries(parameters.map(([name, values]) => [name, values.length === 1 ? values[0] : values])),
    );
    if (!parsed.success) return null;
    const made = { query: parsed.data, search: new URL(url, 'http://localhost').search };
    if (url.length <= URL_CHARACTERS_MAX) {
      if (this.#urls.size >= URLS_MAX) this.#urls.delete(this.#urls.keys().next().value as string);
      this.#urls.set(url, made);
    }
    return made;
  }

  /** @throws SluiceError */
  async #send(
    { headers }: IncomingMessage,
    response: ServerResponse,
    { query, search }: KnownUrl,
    encoding: 'gzip' | 'identity',
  ): Promise<void> {
    const { engine, query: service, clock } = this.#services;
    const { asked, head, cursorOf, versionOf } = askedOf(query, engine.definitions, clock.nowUs());
    const { bytes, next, rowsVersion } = await service.aggregatesDocument(asked, head);
    const nextCursor = cursorOf(next);
    const tag = entityTag(versionOf(rowsVersion), 'json', search);
    const common = { 'x-content-type-options': 'nosniff', etag: tag, 'cache-control': ROWS_CACHE_CONTROL, vary: this.#vary };
    if (isKnown(tag, headers['if-none-match'])) {
      response.writeHead(304, common).end();
      return;
    }
    const end = Buffer.from(documentEnd(nextCursor));
    const length = bytes.length + end.length;
    const isCompressed = encoding === 'gzip' && length >= COMPRESSED_BYTES_MIN;
    const isInParts = !isCompressed && length >= COPIED_BYTES_MAX;
    const plain = isInParts ? end : Buffer.concat([bytes, end]);
    const body = isCompressed ? await compressed(plain, { level: constants.Z_BEST_SPEED }) : plain;
    response.writeHead(200, {
      ...common,
      'content-type': FORMAT_TYPES.json,
      'content-length': isInParts ? length : body.length,
      ...(isCompressed ? { 'content-encoding': 'gzip' } : {}),
      ...(nextCursor === null ? {} : { link: linkTo(search, nextCursor) }),
    });
    if (isInParts) {
      response.cork();
      response.write(bytes);
    }
    response.end(body);
  }

  async #sendProblem(response: ServerResponse, error: unknown): Promise<void> {
    if (!(error instanceof SluiceError)) this.#services.logger.error({ err: error }, 'an HTTP request failed unexpectedly');
    const problem = answerProblem(error);
    const body = Buffer.from(await problem.arrayBuffer());
    if (response.headersSent) return;
    response.writeHead(problem.status, {
      ...Object.fromEntries(problem.headers),
      'x-content-type-options': 'nosniff',
      vary: 'Accept-Encoding',
      'content-length': body.length,
    });
    response.end(body);
  }
}

function linkTo(search: string, cursor: string): string {
  const parameters = new URLSearchParams(search);
  parameters.set('cursor', cursor);
  return `<?${parameters.toString()}>; rel="next"`;
}

/** null: with qualities or unknown encodings, which hono/compress knows how to weigh. */
function encodingOf(accepted: string | string[] | undefined): 'gzip' | 'identity' | null {
  if (accepted === undefined || accepted === 'identity') return 'identity';
  if (typeof accepted !== 'string' || !/^[a-z, -]+$/.test(accepted)) return null;
  return /(?:^|, ?)gzip(?:,|$)/.test(accepted) ? 'gzip' : null;
}

/** A name or an address, and perhaps a port; what else there may be is refused elsewhere. */
function hasPlainHost(host: string | undefined): boolean {
  return host !== undefined && /^(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?$/i.test(host);
}

function hostNameOf(host: string): string {
  return host
    .replace(/:[0-9]{1,5}$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .toLowerCase();
}
