/**
 * Keeps the page up to date: the hub's stream where it can be had, polling beside it and instead of it.
 *
 * One loop for what does not depend on the view (gateways, alerts, exceptions, series), one per view (its windows). A view that is
 * left aborts its loop. A page in the background asks for nothing. Every wait is bounded and backs off while the hub is
 * away. It does not draw.
 */
import type { AggregateRow, AlertsAnswer, ExceptionsAnswer, GatewaysAnswer, SeriesAnswer, WindowDefinition } from './answers.ts';
import type { HubEvent } from '../../../shared/hub-client/sluice-hub.ts';
import type { HubClock } from './hub-clock.ts';
import { isNoAnswer, type Api, type Parameters } from './api.ts';

const TICK_MS = 1_000;
const GATEWAYS_INTERVAL_MS = 3_000;
const EXCEPTIONS_INTERVAL_MS = 10_000;
const ALERTS_INTERVAL_MS = 5_000;
const SERIES_INTERVAL_MS_MIN = 10_000;
const EMPTY_INTERVAL_MS = 2_000;
/** One a second for as long as a request may take. */
const EVENTS_KEPT = 20;
const RETRY_MS_MAX = 10_000;
/** The stream tells what changed; that a window was closed, or that a row was missed, shows here. */
const RELOAD_INTERVAL_STREAMING_MS = 30_000;
const RELOAD_INTERVAL_POLLING_MS = 3_000;
const STREAM_GRACE_MS = 4_000;
/** After the hub had no stream for us (too many clients, a proxy that buffers). */
const STREAM_RETRY_MS = 30_000;

export interface FeedListener {
  /** Once, before anything else. */
  definitions(definitions: readonly WindowDefinition[]): void;
  gateways(answer: GatewaysAnswer): void;
  exceptions(answer: ExceptionsAnswer): void;
  alerts(answer: AlertsAnswer): void;
  series(answer: SeriesAnswer): void;
  /** @param isWhole all rows of the view, in place of what was there */
  windows(rows: readonly AggregateRow[], waitingFor: readonly string[], isWhole: boolean): void;
  streaming(isStreaming: boolean): void;
  tick(): void;
}

interface Rows {
  readonly rows: readonly AggregateRow[];
  readonly waiting_for: readonly string[];
}

export interface FeedView {
  /** Filter for aggregates and stream. */
  readonly filter: Parameters;
  /** `now-1h`. */
  readonly from: string;
}

export class Feed {
  readonly #api: Api;
  readonly #listener: FeedListener;
  readonly #clock: HubClock;
  #view = new AbortController();
  #streamGatewaysMs = -Infinity;
  #isStreamOpen = false;
  #streamTimer: ReturnType<typeof setTimeout> | undefined;
  /** What the stream told while all rows were being loaded; null: they are not. */
  #duringLoad: Rows[] | null = null;
  /** The stream is of the view's devices; the list of alerts is of all, and asked for. */
  #hasAlertNews = false;
  #isPaused = false;

  constructor(api: Api, listener: FeedListener, clock: HubClock) {
    this.#api = api;
    this.#listener = listener;
    this.#clock = clock;
  }

  start(): void {
    void this.#fleetLoop();
  }

  /** Nothing is asked until resume: a token is needed first. */
  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
  }

  watch(view: FeedView): void {
    this.#view.abort();
    this.#view = new AbortController();
    this.#opened(false);
    const { signal } = this.#view;
    void this.#windowsLoop(view, signal);
    void this.#streamLoop(view, signal);
  }

  async #fleetLoop(): Promise<void> {
    const dueMs = { gateways: 0, alerts: 0, exceptions: 0, series: 0 };
    let hasDefinitions = false;
    for (;;) {
      this.#listener.tick();
      const nowMs = performance.now();
      if (!this.#isIdle()) {
        await this.#attempt(async () => {
          if (!hasDefinitions) {
            this.#listener.definitions((await this.#api.windows()).rows);
            hasDefinitions = true;
          }
          if (nowMs >= dueMs.gateways && nowMs - this.#streamGatewaysMs > GATEWAYS_INTERVAL_MS) {
            dueMs.gateways = nowMs + GATEWAYS_INTERVAL_MS;
            const answer = await this.#api.gateways();
            this.#clock.set(answer.time);
            this.#listener.gateways(answer);
          }
          if (nowMs >= dueMs.alerts || this.#hasAlertNews) {
            this.#hasAlertNews = false;
            dueMs.alerts = nowMs + ALERTS_INTERVAL_MS;
            this.#listener.alerts(await this.#api.alerts());
          }
          if (nowMs >= dueMs.series) {
            const answer = await this.#api.series();
            this.#listener.series(answer);
            // The first reading of a fleet is waited for.
            dueMs.series = nowMs + (answer.rows.length === 0 ? EMPTY_INTERVAL_MS : seriesIntervalMs(answer.rows.length));
          }
          if (nowMs >= dueMs.exceptions) {
            this.#listener.exceptions(await this.#api.exceptions());
            dueMs.exceptions = nowMs + EXCEPTIONS_INTERVAL_MS;
          }
        });
      }
      await sleep(TICK_MS);
    }
  }

  #isIdle(): boolean {
    return this.#isPaused || document.hidden;
  }

  async #windowsLoop({ filter, from }: FeedView, signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      if (!this.#isIdle()) {
        const isOk = await this.#attempt(async () => {
          const newer: Rows[] = [];
          this.#duringLoad = newer;
          const { rows, waitingFor } = await this.#api.aggregates({ ...filter, from }, signal);
          if (signal.aborted) return;
          this.#duringLoad = null;
          this.#listener.windows(rows, waitingFor, true);
          // The answer may have been on its way while the stream told something newer.
          for (const event of newer) this.#listener.windows(event.rows, event.waiting_for, false);
        });
        failures = isOk ? 0 : failures + 1;
      }
      const usualMs = this.#isStreamOpen ? RELOAD_INTERVAL_STREAMING_MS : RELOAD_INTERVAL_POLLING_MS;
      await sleep(failures === 0 ? usualMs : retryMs(failures), signal);
    }
  }

  async #streamLoop({ filter }: FeedView, signal: AbortSignal): Promise<void> {
    let failures = 0;
    let lastId = '';
    while (!signal.aborted) {
      let hasNoStream = false;
      if (!this.#isIdle()) {
        try {
          for await (const event of this.#api.stream(filter, signal, lastId)) {
            if (signal.aborted) return;
            failures = 0;
            lastId = event.id;
            this.#opened(true);
            this.#event(event);
            // A page in the background gives its place at the hub to others.
            if (this.#isIdle()) break;
          }
        } catch (error) {
          if (signal.aborted) return;
          hasNoStream = !isNoAnswer(error);
        }
        this.#opened(false);
        failures++;
      }
      await sleep(hasNoStream ? STREAM_RETRY_MS : this.#isIdle() ? TICK_MS : retryMs(failures), signal);
    }
  }

  #opened(isOpen: boolean): void {
    if (isOpen === this.#isStreamOpen) return;
    this.#isStreamOpen = isOpen;
    clearTimeout(this.#streamTimer);
    // Another view and the hub's ten minutes end a stream too; the next one follows at once and nobody need know.
    this.#streamTimer = setTimeout(() => this.#listener.streaming(isOpen), isOpen ? 0 : STREAM_GRACE_MS);
  }

  #event(event: HubEvent): void {
    if (event.name === 'gateways') {
      // A part of the gateways is for the poll to complete.
      if (event.data.truncated) return;
      this.#streamGatewaysMs = performance.now();
      this.#clock.set(event.data.time);
      this.#listener.gateways(event.data);
    } else if (event.name === 'alerts') {
      this.#hasAlertNews = true;
    } else if (event.name === 'window') {
      this.#duringLoad?.splice(0, this.#duringLoad.length - EVENTS_KEPT + 1);
      this.#duringLoad?.push(event.data);
      this.#listener.windows(event.data.rows, event.data.waiting_for, false);
    }
  }

  /** The API has told the connection's state already; what is due is tried again in its time. */
  async #attempt(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if ((error as Error).name !== 'HubError' && (error as Error).name !== 'AbortError') console.error(error);
      return false;
    }
  }
}

/** The list is as long as the fleet is large, and changes seldom: 10,000 series are asked for every 100 s. */
function seriesIntervalMs(rows: number): number {
  return Math.max(SERIES_INTERVAL_MS_MIN, rows * 10);
}

function retryMs(failures: number): number {
  const ms = Math.min(RETRY_MS_MAX, 1000 * 2 ** Math.min(failures - 1, 5));
  // Jitter: when a hub comes back, its pages do not come as one.
  return ms * (0.75 + Math.random() / 2);
}

/** Until the time is over, the signal aborts, or the reader comes back to the page. */
function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) return resolve();
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      document.removeEventListener('visibilitychange', onVisibility);
      resolve();
    };
    const onVisibility = (): void => {
      if (!document.hidden) done();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done);
    document.addEventListener('visibilitychange', onVisibility);
  });
}
