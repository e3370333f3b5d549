/** The API over a real engine and the real query worker on a temporary lake; for tests. */
import { randomBytes } from 'node:crypto';
import { encodeBatch } from '../../shared/batch/encode.ts';
import type { SeriesRuns } from '../../shared/reading.ts';
import { ManualClock, systemClock } from '../../shared/clock.ts';
import { SluiceError } from '../../shared/errors.ts';
import type { ExceptionRecord } from '../../shared/exception.ts';
import { createLogger } from '../../shared/logging.ts';
import { laneAppId, type LaneKey } from '../../shared/uplink.ts';
import { batchOf, EPOCH, laneOf, startHub, temporaryLake, type TestHub } from '../engine.fixture.ts';
import { Alerts } from '../alerts/alerts.ts';
import type { DeliveryFigures } from '../alerts/notifier.ts';
import { Maintenance } from '../maintenance.ts';
import type { QueryEngine } from '../engine-api.ts';
import { GatewayRegistry } from '../ingest/gateways.ts';
import { Enrolments } from '../ingest/enrolments.ts';
import { createToken, revokeToken, TokenRegistry, type TokenKind } from '../ingest/tokens.ts';
import { MemoryStore } from '../lake/memory-store.ts';
import { createHubMetrics } from '../metrics.ts';
import { QueryService } from '../query/query-service.ts';
import { Releases } from '../release.ts';
import { SqlService } from '../query/sql-service.ts';
import { createHubApp } from './app.ts';
import type { HubApp, HubServices } from './service.ts';

export const START_US = Date.UTC(2026, 10, 22, 12) * 1000;
const MINUTE_US = 60_000_000;
/** What the API's clock says: an hour after the first reading. */
export const NOW_US = START_US + 3_600_000_000;

const UPLINK_STATE = {
  connections: 0,
  paused: false,
  bytesReceivedTotal: 0,
  batchesReceivedTotal: 0,
  upgradesRefusedTotal: 0,
  takeOversTotal: 0,
};

export class ApiFixture {
  readonly #lake = temporaryLake();
  readonly gateways = new GatewayRegistry();
  readonly clock = new ManualClock(NOW_US);
  readonly tokenStore = new MemoryStore(systemClock);
  readonly notifier: { figures: readonly DeliveryFigures[] } = { figures: [] };
  ready = true;
  /** Aggregates are answered with a time-out: stands for a query engine that does not keep up. */
  failQueries = false;
  app!: HubApp;
  services!: HubServices;
  alerts!: Alerts;
  #hub!: TestHub;
  #query!: QueryService;
  #sql!: SqlService;
  #tokens!: TokenRegistry;
  #seqs = new Map<string, number>();

  #settings: Pick<HubServices, 'corsOrigins'> = {};

  static async start(settings: Pick<HubServices, 'corsOrigins'> = {}): Promise<ApiFixture> {
    const fixture = new ApiFixture();
    fixture.#settings = settings;
    await fixture.#open();
    return fixture;
  }

  async #open(): Promise<void> {
    this.#hub = await startHub(this.#lake.directory);
    const { engine } = this.#hub;
    const queryEngine: QueryEngine = {
      definitions: this.#hub.definitions,
      captureAggregates: async (filter) => engine.captureAggregates(filter),
      captureTable: async (table, range) => engine.captureTable(table, range),
      captureTableAt: (table, range, version) => engine.captureTableAt(table, range, version),
      reportUnreadable: (paths) => engine.reportUnreadable(paths),
      status: async () => engine.status(),
    };
    this.#query = await QueryService.start({
      engine: queryEngine,
      lakeDir: this.#lake.directory,
      memoryBytesMax: 256_000_000,
      timeoutMs: 10_000,
    });
    const logger = createLogger('test', 'silent');
    this.#tokens?.stop();
    const tokens = await TokenRegistry.open(this.tokenStore, this.clock, logger);
    this.#tokens = tokens;
    const query = this.#query;
    const failing = <T>(ask: () => Promise<T>): Promise<T> =>
      this.failQueries ? Promise.reject(new SluiceError('ERR_QUERY_TIMEOUT', 'planted')) : ask();
    const queries: HubServices['query'] = {
      aggregates: (asked) => failing(() => query.aggregates(asked)),
      aggregatesDocument: (asked, head) => failing(() => query.aggregatesDocument(asked, head)),
      readings: (asked) => query.readings(asked),
      exceptions: (asked) => query.exceptions(asked),
      series: (asked, nowUs) => query.series(asked, nowUs),
      devices: (asked, nowUs) => query.devices(asked, nowUs),
      promql: (asked) => query.promql(asked),
    };
    this.#sql = new SqlService({
      engine: {
        captureSnapshot: async (request) => engine.captureSnapshot(request),
        reportUnreadable: (paths) => engine.reportUnreadable(paths),
      },
      captureAlerts: () => this.alerts.capture(),
      processesMax: 1,
      memoryBytesMax: 256_000_000,
      timeoutMs: 10_000,
      threads: 2,
      answerBytesMax: 10_000_000,
    });
    const onCommitted: ((lane: LaneKey, seq: number) => void)[] = [];
    const uplink = { state: UPLINK_STATE };
    const maintenance = new Maintenance(this.#hub.lake);
    const alerts = await Alerts.start({
      store: this.tokenStore,
      hubInstance: 'f'.repeat(32),
      engine: queryEngine,
      query: this.#query,
      gateways: this.gateways,
      clock: this.clock,
      logger,
    });
    this.alerts = alerts;
    const metrics = createHubMetrics({
      engine: queryEngine,
      uplink,
      gateways: this.gateways,
      maintenance,
      alerts,
      notifier: this.notifier,
      logger,
    });
    this.services = {
      ...this.#settings,
      engine: queryEngine,
      query: queries,
      sql: this.#sql,
      alerts,
      notifier: this.notifier,
      releases: new Releases({
        engine: {
          openLane: (lane, claim) => engine.openLane(lane, claim),
          submit: (lane, batch) => {
            engine.submit(lane, batch);
            void this.#hub
              .waitCommitted(laneAppId(lane), batch.seq)
              .then(() => onCommitted.forEach((callback) => callback(lane, batch.seq)));
          },
          onCommitted: (callback) => void onCommitted.push(callback),
        },
        query,
        clock: systemClock,
      }),
      gateways: this.gateways,
      uplink,
      tokens,
      enrolments: new Enrolments(this.tokenStore, this.clock),
      maintenance,
      metrics,
      clock: this.clock,
      logger,
      isReady: () => this.ready,
    };
    this.app = createHubApp(this.services);
  }

  /** Receives one batch, a reading per second; it is in memory only until `committed`. */
  async submit(
    gateway: string,
    fromUs: number,
    count: number,
    first: number,
    exceptions: readonly ExceptionRecord[] = [],
  ): Promise<number> {
    const lane = laneOf(gateway);
    const seq = (this.#seqs.get(gateway) ?? 0) + 1;
    this.#seqs.set(gateway, seq);
    await this.#hub.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: seq });
    this.#hub.engine.submit(lane, batchOf(seq, fromUs, count, first, exceptions));
    return seq;
  }

  async commit(gateway: string, fromUs: number, count: number, first: number, exceptions: readonly ExceptionRecord[] = []): Promise<void> {
    const seq = await this.submit(gateway, fromUs, count, first, exceptions);
    await this.#hub.waitCommitted(laneAppId(laneOf(gateway)), seq);
  }

  /** Series of the caller's own. */
  async commitRuns(gateway: string, runs: SeriesRuns): Promise<void> {
    const lane = laneOf(gateway);
    const seq = (this.#seqs.get(gateway) ?? 0) + 1;
    this.#seqs.set(gateway, seq);
    const [arrivalUs] = runs.eventTimeUs;
    const body = encodeBatch({ sealedUs: arrivalUs, arrivalFromUs: arrivalUs, arrivalToUs: arrivalUs, runs, exceptions: [] }, 'br');
    await this.#hub.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: seq });
    this.#hub.engine.submit(lane, { seq, readingCount: runs.count, exceptionCount: 0, receivedUs: arrivalUs, body });
    await this.#hub.waitCommitted(laneAppId(lane), seq);
  }

  /** Readings of two gateways, in the lake as partials, committed behind them, and received only; a gap and a dead letter. */
  async fill(): Promise<void> {
    await this.commit('gw-1', START_US, 120, 0);
    await this.restart();
    await this.commit('gw-1', START_US + 90_000_000, 60, 100);
    await this.commit('gw-2', START_US, 60, 7, [
      {
        kind: 'gap',
        device: 'pump-1',
        metric: 'temperature',
        fromUs: START_US + 2 * MINUTE_US,
        toUs: START_US + 3 * MINUTE_US,
        readingCount: 42,
        reason: 'buffer_full',
        payload: null,
      },
      {
        kind: 'dead_letter',
        device: null,
        metric: null,
        fromUs: START_US,
        toUs: START_US + 1,
        readingCount: null,
        reason: 'decode: ERR_DECODE_SYNTAX',
        payload: Buffer.from('{"a":'),
      },
    ]);
    await this.submit('gw-1', START_US + 100_000_000, 100, 200);
  }

  watermark(gateway: string, us: number): void {
    this.#hub.engine.assertWatermark(gateway, { us, positions: [{ epoch: EPOCH, lane: 'live', seq: this.#seqs.get(gateway) ?? 0 }] });
  }

  /** Files with readings, absolute. */
  readingsFiles(): string[] {
    const all = { fromUs: 0, toUs: Number.MAX_SAFE_INTEGER, devices: null, metrics: null };
    return this.#hub.engine.captureTable('readings', all).files.map(({ path }) => path);
  }

  /** Commits, flushes, and starts again from the lake alone. */
  async restart(): Promise<void> {
    await this.#close();
    await this.#open();
  }

  async token(kind: TokenKind, gateway: string | null = null): Promise<string> {
    const { token } = await createToken(this.tokenStore, kind, gateway, this.clock, randomBytes);
    await this.#tokens.reload();
    return token;
  }

  async clearTokens(): Promise<void> {
    for (const { id } of this.#tokens.list()) await revokeToken(this.tokenStore, id);
    await this.#tokens.reload();
  }

  async get(path: string, headers: Record<string, string> = {}): Promise<Response> {
    return this.app.request(path, { headers });
  }

  async json<T = Record<string, unknown>>(path: string, headers: Record<string, string> = {}): Promise<T> {
    const response = await this.get(path, headers);
    const text = await response.text();
    if (response.status !== 200) throw new Error(`${path} answered ${response.status}: ${text}`);
    return JSON.parse(text) as T;
  }

  async stop(): Promise<void> {
    await this.#close();
    this.#lake.remove();
  }

  async #close(): Promise<void> {
    this.services.metrics.close();
    await this.alerts.stop();
    await this.#hub.engine.stop();
    await this.#query.stop();
    this.#sql.stop();
  }
}

export async function problemOf(
  response: Response,
): Promise<{ status: number; code: string; detail: string; errors?: { parameter: string; detail: string }[] }> {
  return (await response.json()) as { status: number; code: string; detail: string };
}
