/**
 * A typed client of the hub's HTTP API, for Node and browsers: nothing but `fetch`.
 *
 * ```ts
 * import { SluiceHub } from 'sluice/client';
 * const hub = new SluiceHub({ url: 'http://localhost:8080', token });
 * for await (const row of hub.aggregateRows({ window: '1m', device: 'pump-*', from: 'now-1d' })) console.log(row.mean);
 * for await (const event of hub.live({ metric: 'temperature' })) if (event.name === 'window') console.log(event.data.rows);
 * ```
 *
 * Types are made from the hub's OpenAPI document (answers.ts). Answers are not checked again: client and hub of one
 * version agree. Every method throws HubError, but for an abort by the caller's own signal, whose reason is thrown.
 *
 * It does not retry, but for `live`, and keeps no state.
 */
import type * as api from './answers.ts';
import { EventStreamParser, type StreamEvent } from './event-stream.ts';
import { errorOf, HubError } from './hub-error.ts';

export { HubError, isHubError } from './hub-error.ts';
export type {
  Aggregates,
  AggregatesQuery,
  Alert,
  AlertRule,
  AlertRules,
  AlertRuleStatus,
  Alerts,
  AlertsQuery,
  Device,
  DevicesAnswer,
  DevicesQuery,
  Exception,
  Exceptions,
  ExceptionsQuery,
  Gateway,
  Gateways,
  ListParameter,
  Problem,
  Reading,
  Readings,
  ReadingsQuery,
  Released,
  ReleaseRequest,
  Series,
  SeriesAnswer,
  SeriesQuery,
  SqlAnswer,
  StreamQuery,
  Tables,
  TimeParameter,
  WindowRow,
  Windows,
} from './answers.ts';

const TIMEOUT_MS = 60_000;
/** A stream has a heartbeat every 15 s; one that is silent for so long is dead without having said so. */
const SILENCE_MS_MAX = 40_000;
const RECONNECT_MS_MIN = 500;
const RECONNECT_MS_MAX = 15_000;

export interface SluiceHubOptions {
  /** `http://localhost:8080`, with a path where a proxy has the hub under one; in a browser '' is the page's own folder. */
  readonly url: string;
  /** Of `sluice-hub token create --read`; a function is asked for every request. */
  readonly token?: string | null | (() => string | null);
  readonly fetch?: typeof fetch;
  /** Of a request; streams have none. */
  readonly timeoutMs?: number;
}

export interface RequestOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

/** Rows that changed. */
export interface WindowEvent extends Pick<
  api.Aggregates,
  'window' | 'aggregates_version' | 'readings_version' | 'overlay_complete' | 'waiting_for' | 'rows'
> {
  /** There were more rows than an event may have: ask for all of them. */
  readonly truncated: boolean;
}

export interface GatewaysEvent extends api.Gateways {
  readonly truncated: boolean;
}

/** Alerts as they are now. */
export interface AlertsEvent extends Pick<api.Alerts, 'alerts_version' | 'rows'> {
  readonly time: string;
  /** All that hold, in place of what was known (and, after a break, those that ended meanwhile); otherwise those that changed. */
  readonly whole: boolean;
  readonly truncated: boolean;
}

/** `id` resumes the stream there. */
export type HubEvent =
  | { readonly name: 'window'; readonly id: string; readonly data: WindowEvent }
  | { readonly name: 'gateways'; readonly id: string; readonly data: GatewaysEvent }
  | { readonly name: 'alerts'; readonly id: string; readonly data: AlertsEvent }
  /** The windows cannot be read at the moment. */
  | { readonly name: 'problem'; readonly id: string; readonly data: api.Problem };

/** Parameters as they stand in a URL. */
export type Query = Readonly<Record<string, api.TimeParameter | api.ListParameter | boolean | undefined>>;

/** A comma in a name is escaped for the API's lists. */
export function listOf(names: readonly string[]): string {
  return names.map((name) => name.replaceAll(/[\\,]/g, (character) => `\\${character}`)).join(',');
}

/** Relative, with its parameters; readable where people read it. */
export function pathOf(path: string, query: object = {}): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query as Query)) {
    if (value === undefined) continue;
    if (value instanceof Date) parameters.set(name, value.toISOString());
    else parameters.set(name, typeof value === 'object' ? listOf(value) : String(value));
  }
  const text = parameters.toString();
  return text === '' ? path : `${path}?${text.replaceAll('%2C', ',').replaceAll('%3A', ':')}`;
}

export class SluiceHub {
  readonly #base: string;
  readonly #options: SluiceHubOptions;

  constructor(options: SluiceHubOptions) {
    this.#base = options.url === '' || options.url.endsWith('/') ? options.url : `${options.url}/`;
    this.#options = options;
  }

  // --- answers -------------------------------------------------------------------------------------------------------

  aggregates(query: api.AggregatesQuery = {}, options?: RequestOptions): Promise<api.Aggregates> {
    return this.#json(pathOf('v1/aggregates', query), options);
  }

  readings(query: api.ReadingsQuery = {}, options?: RequestOptions): Promise<api.Readings> {
    return this.#json(pathOf('v1/readings', query), options);
  }

  exceptions(query: api.ExceptionsQuery = {}, options?: RequestOptions): Promise<api.Exceptions> {
    return this.#json(pathOf('v1/exceptions', query), options);
  }

  series(query: api.SeriesQuery = {}, options?: RequestOptions): Promise<api.SeriesAnswer> {
    return this.#json(pathOf('v1/series', query), options);
  }

  devices(query: api.DevicesQuery = {}, options?: RequestOptions): Promise<api.DevicesAnswer> {
    return this.#json(pathOf('v1/devices', query), options);
  }

  gateways(options?: RequestOptions): Promise<api.Gateways> {
    return this.#json('v1/gateways', options);
  }

  windows(options?: RequestOptions): Promise<api.Windows> {
    return this.#json('v1/windows', options);
  }

  /** @example hub.alerts({ state: 'firing' }) */
  alerts(query: api.AlertsQuery = {}, options?: RequestOptions): Promise<api.Alerts> {
    return this.#json(pathOf('v1/alerts', query), options);
  }

  alertRules(options?: RequestOptions): Promise<api.AlertRules> {
    return this.#json('v1/alerts/rules', options);
  }

  /** Who is told of alerts, and how that goes. */
  alertReceivers(options?: RequestOptions): Promise<api.AlertReceivers> {
    return this.#json('v1/alerts/receivers', options);
  }

  /** Durable when it resolves. Needs an admin token where there are tokens. */
  putAlertRule(name: string, rule: api.AlertRule, options?: RequestOptions): Promise<api.AlertRuleStatus> {
    return this.#send('PUT', rulePath(name), rule, options);
  }

  /** Its alerts are resolved. Needs an admin token where there are tokens. */
  async deleteAlertRule(name: string, options: RequestOptions = {}): Promise<void> {
    await this.#fetch(rulePath(name), this.#signal(options), { method: 'DELETE' });
  }

  /** Health of the lake's tables. */
  tables(options?: RequestOptions): Promise<api.Tables> {
    return this.#json('v1/tables', options);
  }

  /** @param parameters of `$1`, … by place, or of `$name` by name */
  sql(
    statement: string,
    parameters?: readonly SqlParameter[] | Readonly<Record<string, SqlParameter>>,
    options?: RequestOptions,
  ): Promise<api.SqlAnswer> {
    const query: api.SqlQuery = { sql: statement, ...(parameters === undefined ? {} : { parameters }) };
    return this.#post('v1/sql', query, options);
  }

  /** Any path of the API, in any format that it has: the answer as it comes. */
  request(path: string, options: RequestOptions & { readonly accept?: string } = {}): Promise<Response> {
    return this.#fetch(path, this.#signal(options), { headers: options.accept === undefined ? {} : { accept: options.accept } });
  }

  /** Puts the readings of a quarantined exception into the lake with a corrected time, once. Needs an admin token. */
  release(request: api.ReleaseRequest, options?: RequestOptions): Promise<api.Released> {
    return this.#post('v1/exceptions/release', request, options);
  }

  // --- pages ---------------------------------------------------------------------------------------------------------

  /** Page by page as the caller goes on; the first page's versions and range hold for all. */
  aggregateRows(query: api.AggregatesQuery = {}, options?: RequestOptions): AsyncGenerator<api.WindowRow, void, undefined> {
    return rowsOf((cursor) => this.aggregates({ ...query, ...cursor }, options));
  }

  readingRows(query: api.ReadingsQuery = {}, options?: RequestOptions): AsyncGenerator<api.Reading, void, undefined> {
    return rowsOf((cursor) => this.readings({ ...query, ...cursor }, options));
  }

  exceptionRows(query: api.ExceptionsQuery = {}, options?: RequestOptions): AsyncGenerator<api.Exception, void, undefined> {
    return rowsOf((cursor) => this.exceptions({ ...query, ...cursor }, options));
  }

  alertRows(query: api.AlertsQuery = {}, options?: RequestOptions): AsyncGenerator<api.Alert, void, undefined> {
    return rowsOf((cursor) => this.alerts({ ...query, ...cursor }, options));
  }

  seriesRows(query: api.SeriesQuery = {}, options?: RequestOptions): AsyncGenerator<api.SeriesAnswer['rows'][number], void, undefined> {
    return rowsOf((cursor) => this.series({ ...query, ...cursor }, options));
  }

  deviceRows(query: api.DevicesQuery = {}, options?: RequestOptions): AsyncGenerator<api.DevicesAnswer['rows'][number], void, undefined> {
    return rowsOf((cursor) => this.devices({ ...query, ...cursor }, options));
  }

  // --- streams -------------------------------------------------------------------------------------------------------

  /**
   * One connection: events until the hub ends it (ten minutes at the latest) or the signal aborts.
   *
   * @param options.lastId goes on behind the event that had it
   */
  async *stream(
    query: api.StreamQuery = {},
    options: { signal?: AbortSignal; lastId?: string } = {},
  ): AsyncGenerator<HubEvent, void, undefined> {
    const silence = new AbortController();
    const { signal, lastId } = options;
    const either = signal === undefined ? silence.signal : AbortSignal.any([signal, silence.signal]);
    let timer = setTimeout(() => silence.abort(), SILENCE_MS_MAX);
    try {
      const headers: Record<string, string> = lastId === undefined || lastId === '' ? {} : { 'last-event-id': lastId };
      const response = await this.#fetch(pathOf('v1/stream', query), either, { headers });
      const parser = new EventStreamParser();
      const decoder = new TextDecoder();
      const reader = response.body?.getReader();
      for (;;) {
        const chunk = await reader?.read();
        if (chunk?.value === undefined) return;
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), SILENCE_MS_MAX);
        for (const event of parser.push(decoder.decode(chunk.value, { stream: true }))) {
          const known = eventOf(event);
          if (known !== null) yield known;
        }
      }
    } catch (cause) {
      if (cause instanceof HubError) throw cause;
      signal?.throwIfAborted();
      throw new HubError(0, 'the live stream broke', { cause });
    } finally {
      clearTimeout(timer);
      silence.abort(); // closes the connection when the reader stopped early
    }
  }

  /**
   * Streams without end: reconnects with growing delays and goes on where it was.
   *
   * @throws HubError that no retry would change (a wrong parameter, a missing token)
   */
  async *live(query: api.StreamQuery = {}, { signal }: { signal?: AbortSignal } = {}): AsyncGenerator<HubEvent, void, undefined> {
    let lastId = '';
    let delayMs = 0;
    for (;;) {
      try {
        for await (const event of this.stream(query, { lastId, ...(signal === undefined ? {} : { signal }) })) {
          lastId = event.id;
          delayMs = 0;
          yield event;
        }
      } catch (error) {
        if (!(error instanceof HubError) || !error.retryable) throw error;
      }
      delayMs = Math.min(RECONNECT_MS_MAX, Math.max(RECONNECT_MS_MIN, delayMs * 2));
      // Jitter: when a hub comes back, its clients do not come as one.
      await sleep(delayMs * (0.5 + Math.random()), signal);
    }
  }

  // --- requests ------------------------------------------------------------------------------------------------------

  #signal({ signal, timeoutMs = this.#options.timeoutMs ?? TIMEOUT_MS }: RequestOptions): AbortSignal {
    const timeout = AbortSignal.timeout(timeoutMs);
    return signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
  }

  #post<T>(path: string, body: object, options?: RequestOptions): Promise<T> {
    return this.#send('POST', path, body, options);
  }

  #send<T>(method: string, path: string, body: object, options?: RequestOptions): Promise<T> {
    return this.#json(path, options, { method, body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });
  }

  async #json<T>(path: string, options: RequestOptions = {}, init: RequestInit = {}): Promise<T> {
    const response = await this.#fetch(path, this.#signal(options), { ...init, headers: { accept: 'application/json', ...init.headers } });
    try {
      return (await response.json()) as T;
    } catch (cause) {
      options.signal?.throwIfAborted();
      throw new HubError(0, `the answer of ${path.slice(0, 200)} broke off`, { cause });
    }
  }

  async #fetch(path: string, signal: AbortSignal, init: RequestInit): Promise<Response> {
    const { token = null, fetch: ask = fetch } = this.#options;
    const secret = typeof token === 'function' ? token() : token;
    const authorization: Record<string, string> = secret === null ? {} : { authorization: `Bearer ${secret}` };
    let response: Response;
    try {
      response = await ask(`${this.#base}${path}`, { ...init, signal, headers: { ...authorization, ...init.headers } });
    } catch (cause) {
      if (cause instanceof Error && cause.name === 'AbortError') throw cause;
      const reason = cause instanceof Error && cause.cause instanceof Error ? cause.cause.message : String(cause);
      throw new HubError(0, `no answer from ${this.#base}${path.slice(0, 200)}: ${reason}`, { cause });
    }
    if (!response.ok) throw await errorOf(response);
    return response;
  }
}

function rulePath(name: string): string {
  return `v1/alerts/rules/${encodeURIComponent(name)}`;
}

export type SqlParameter = string | number | boolean | null;

interface Page<T> {
  readonly rows: readonly T[];
  readonly next_cursor: string | null;
}

async function* rowsOf<T>(ask: (cursor: { cursor?: string }) => Promise<Page<T>>): AsyncGenerator<T, void, undefined> {
  let page = await ask({});
  for (;;) {
    yield* page.rows;
    if (page.next_cursor === null) return;
    page = await ask({ cursor: page.next_cursor });
  }
}

/** null: of a newer hub. */
function eventOf({ name, data, id }: StreamEvent): HubEvent | null {
  if (name === 'window') return { name, id, data: JSON.parse(data) as WindowEvent };
  if (name === 'gateways') return { name, id, data: JSON.parse(data) as GatewaysEvent };
  if (name === 'alerts') return { name, id, data: JSON.parse(data) as AlertsEvent };
  return name === 'problem' ? { name, id, data: JSON.parse(data) as api.Problem } : null;
}

function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort);
      resolve();
    }, ms);
    if (signal?.aborted === true) abort();
    else signal?.addEventListener('abort', abort, { once: true });
  });
}
