/**
 * The hub's API as this page uses it: one place for the token, errors and limits.
 *
 * The token lives in sessionStorage: gone with the tab, not sent by itself to anybody.
 */
import type { AggregateRow, AggregatesAnswer, ExceptionsAnswer, GatewaysAnswer, SeriesAnswer, WindowsAnswer } from './answers.ts';
import { EventStreamParser, type StreamEvent } from './event-stream.ts';

const TOKEN_KEY = 'sluice-read-token';
const REQUEST_TIMEOUT_MS = 20_000;
/** The stream has a heartbeat; a connection that is silent for so long is dead without having said so. */
const STREAM_SILENCE_MS_MAX = 40_000;
/** Answered from memory: a hub that takes longer for it is as good as away. */
const PROBE_TIMEOUT_MS = 8_000;
const EXCEPTION_ROWS = 100;
const PAGE_ROWS = 10_000;
/** 30 days of 1 h windows of 8 lines is one page; more pages than that no chart can show. */
const PAGES_MAX = 3;

export type Parameters = Readonly<Record<string, string>>;

/** status 0: no answer at all. */
export class ApiError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
  }
}

export function isNoAnswer(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 0 || error.status === 502 || error.status === 503 || error.status === 504);
}

/** A path relative to the page, so that a proxy may put the hub under a folder; a comma inside a name is escaped for the API's lists. */
export function apiPath(path: string, parameters: Parameters = {}): string {
  const query = new URLSearchParams(parameters).toString();
  // Readable where people read it: the command line on the page.
  return query === '' ? path : `${path}?${query.replaceAll('%2C', ',').replaceAll('%3A', ':')}`;
}

export function listOf(names: readonly string[]): string {
  return names.map((name) => name.replaceAll(/[\\,]/g, (character) => `\\${character}`)).join(',');
}

export class Api {
  /** Told about every request's outcome: null is an answer. */
  readonly #onOutcome: (error: ApiError | null) => void;
  #token = sessionStorage.getItem(TOKEN_KEY);

  constructor(onOutcome: (error: ApiError | null) => void) {
    this.#onOutcome = onOutcome;
  }

  get hasToken(): boolean {
    return this.#token !== null;
  }

  setToken(token: string | null): void {
    this.#token = token;
    if (token === null) sessionStorage.removeItem(TOKEN_KEY);
    else sessionStorage.setItem(TOKEN_KEY, token);
  }

  windows(): Promise<WindowsAnswer> {
    return this.#json('v1/windows');
  }

  series(): Promise<SeriesAnswer> {
    return this.#json('v1/series', { limit: String(PAGE_ROWS) });
  }

  gateways(): Promise<GatewaysAnswer> {
    return this.#json('v1/gateways', {}, AbortSignal.timeout(PROBE_TIMEOUT_MS));
  }

  exceptions(): Promise<ExceptionsAnswer> {
    return this.#json('v1/exceptions', { limit: String(EXCEPTION_ROWS) });
  }

  /** All pages, as far as a chart can show them. */
  async aggregates(parameters: Parameters, signal: AbortSignal): Promise<{ rows: AggregateRow[]; waitingFor: string[] }> {
    const rows: AggregateRow[] = [];
    const waitingFor = new Set<string>();
    let cursor: string | null = null;
    for (let page = 0; page < PAGES_MAX; page++) {
      const answer: AggregatesAnswer = await this.#json(
        'v1/aggregates',
        { ...parameters, limit: String(PAGE_ROWS), ...(cursor === null ? {} : { cursor }) },
        signal,
      );
      rows.push(...answer.rows);
      for (const gateway of answer.waiting_for) waitingFor.add(gateway);
      cursor = answer.next_cursor;
      if (cursor === null) break;
    }
    return { rows, waitingFor: [...waitingFor].sort() };
  }

  /** For a file to be saved. */
  async blob(path: string): Promise<Blob> {
    return (await this.#answer(path, AbortSignal.timeout(REQUEST_TIMEOUT_MS))).blob();
  }

  /**
   * Events until the stream ends or `signal` aborts.
   *
   * @throws ApiError when it cannot be opened, breaks or goes silent
   */
  async *stream(parameters: Parameters, signal: AbortSignal): AsyncGenerator<StreamEvent> {
    const silence = new AbortController();
    const either = AbortSignal.any([signal, silence.signal]);
    let timer = setTimeout(() => silence.abort(), STREAM_SILENCE_MS_MAX);
    try {
      const response = await this.#answer(apiPath('v1/stream', parameters), either);
      if (response.body === null) return;
      const parser = new EventStreamParser();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), STREAM_SILENCE_MS_MAX);
        yield* parser.push(value);
      }
    } catch (error) {
      if (error instanceof ApiError || signal.aborted) throw error;
      throw new ApiError(0, 'the live stream broke');
    } finally {
      clearTimeout(timer);
      silence.abort(); // closes the connection when the reader stopped early
    }
  }

  async #json<T>(path: string, parameters: Parameters = {}, signal?: AbortSignal): Promise<T> {
    const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    const either = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
    const response = await this.#answer(apiPath(path, parameters), either);
    try {
      // The hub and this page are of one build: the shape is not checked again.
      return (await response.json()) as T;
    } catch (cause) {
      throw this.#broken(cause);
    }
  }

  async #answer(path: string, signal: AbortSignal): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(path, {
        cache: 'no-store',
        signal,
        headers: this.#token === null ? {} : { authorization: `Bearer ${this.#token}` },
      });
    } catch (cause) {
      throw this.#broken(cause);
    }
    if (!response.ok) {
      const problem = (await response.json().catch(() => ({}))) as { detail?: string };
      throw this.#failed(new ApiError(response.status, problem.detail ?? `HTTP ${response.status}`));
    }
    this.#onOutcome(null);
    return response;
  }

  /** @returns what to throw: an aborted request is nobody's fault */
  #broken(cause: unknown): unknown {
    if (cause instanceof Error && cause.name === 'AbortError') return cause;
    return this.#failed(new ApiError(0, cause instanceof Error ? cause.message : String(cause)));
  }

  #failed(error: ApiError): ApiError {
    this.#onOutcome(error);
    return error;
  }
}
