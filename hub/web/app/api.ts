/**
 * The hub as this page asks it: the package's own client, with one place for the token, its outcomes and the page's limits.
 *
 * The token lives in sessionStorage: gone with the tab, not sent by itself to anybody.
 */
import {
  isHubError,
  listOf,
  pathOf,
  SluiceHub,
  type Aggregates,
  type AggregatesQuery,
  type Alerts,
  type Exceptions,
  type Gateways,
  type HubError,
  type HubEvent,
  type SeriesAnswer,
  type StreamQuery,
  type WindowRow,
  type Windows,
} from '../../../shared/hub-client/sluice-hub.ts';

const TOKEN_KEY = 'sluice-read-token';
const REQUEST_TIMEOUT_MS = 20_000;
/** Answered from memory: a hub that takes longer for it is as good as away. */
const PROBE_TIMEOUT_MS = 8_000;
const EXCEPTION_ROWS = 100;
const ALERT_ROWS = 100;
const PAGE_ROWS = 10_000;
/** 30 days of 1 h windows of 8 lines is one page; more pages than that no chart can show. */
const PAGES_MAX = 3;

export type Parameters = Readonly<Record<string, string>>;

/** The hub could not be reached, or a proxy says so. */
export function isNoAnswer(error: unknown): boolean {
  return isHubError(error) && [0, 502, 503, 504].includes(error.status);
}

/** A path relative to the page, so that a proxy may put the hub under a folder. */
export const apiPath = pathOf;
export { listOf };

export class Api {
  /** Told about every request's outcome: null is an answer. */
  readonly #onOutcome: (error: HubError | null) => void;
  readonly #hub: SluiceHub;
  #token = sessionStorage.getItem(TOKEN_KEY);

  constructor(onOutcome: (error: HubError | null) => void) {
    this.#onOutcome = onOutcome;
    this.#hub = new SluiceHub({ url: '', token: () => this.#token, timeoutMs: REQUEST_TIMEOUT_MS });
  }

  get hasToken(): boolean {
    return this.#token !== null;
  }

  setToken(token: string | null): void {
    this.#token = token;
    if (token === null) sessionStorage.removeItem(TOKEN_KEY);
    else sessionStorage.setItem(TOKEN_KEY, token);
  }

  windows(): Promise<Windows> {
    return this.#told(this.#hub.windows());
  }

  series(): Promise<SeriesAnswer> {
    return this.#told(this.#hub.series({ limit: PAGE_ROWS }));
  }

  gateways(): Promise<Gateways> {
    return this.#told(this.#hub.gateways({ timeoutMs: PROBE_TIMEOUT_MS }));
  }

  /** What is wrong now, or may soon be. */
  alerts(): Promise<Alerts> {
    return this.#told(this.#hub.alerts({ state: ['firing', 'pending'], limit: ALERT_ROWS }));
  }

  exceptions(): Promise<Exceptions> {
    return this.#told(this.#hub.exceptions({ limit: EXCEPTION_ROWS }));
  }

  /** All pages, as far as a chart can show them. */
  async aggregates(query: AggregatesQuery, signal: AbortSignal): Promise<{ rows: WindowRow[]; waitingFor: string[] }> {
    const rows: WindowRow[] = [];
    const waitingFor = new Set<string>();
    let cursor: string | null = null;
    for (let page = 0; page < PAGES_MAX; page++) {
      const asked = { ...query, limit: PAGE_ROWS, ...(cursor === null ? {} : { cursor }) };
      const answer: Aggregates = await this.#told(this.#hub.aggregates(asked, { signal }));
      rows.push(...answer.rows);
      for (const gateway of answer.waiting_for) waitingFor.add(gateway);
      cursor = answer.next_cursor;
      if (cursor === null) break;
    }
    return { rows, waitingFor: [...waitingFor].sort() };
  }

  /** For a file to be saved. */
  async blob(path: string): Promise<Blob> {
    return (await this.#told(this.#hub.request(path))).blob();
  }

  /**
   * Events until the stream ends or `signal` aborts.
   *
   * @param lastId of the last event that was seen; '' for none
   * @throws HubError when it cannot be opened, breaks or goes silent
   */
  async *stream(query: StreamQuery, signal: AbortSignal, lastId: string): AsyncGenerator<HubEvent> {
    try {
      for await (const event of this.#hub.stream(query, { signal, lastId })) {
        this.#onOutcome(null);
        yield event;
      }
    } catch (error) {
      if (isHubError(error)) this.#onOutcome(error);
      throw error;
    }
  }

  /** An aborted request is nobody's fault. */
  async #told<T>(answer: Promise<T>): Promise<T> {
    try {
      const value = await answer;
      this.#onOutcome(null);
      return value;
    } catch (error) {
      if (isHubError(error)) this.#onOutcome(error);
      throw error;
    }
  }
}
