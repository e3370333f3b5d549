/**
 * A hub, wired: gateways → uplink → engine (lake, windows) → queries → HTTP and the page.
 */
import { randomBytes } from 'node:crypto';
import { createServer as createHttpServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { availableCompressions } from '../shared/batch/compression.ts';
import { WIRE_VERSION } from '../shared/batch/batch.ts';
import { inspectBatch } from '../shared/batch/decode.ts';
import type { Clock } from '../shared/clock.ts';
import { listen, readTls } from '../shared/listen.ts';
import type { Logger } from '../shared/logging.ts';
import { VERSION } from '../shared/version.ts';
import type { HubConfig } from './config.ts';
import { Alerts } from './alerts/alerts.ts';
import { Notifier } from './alerts/notifier.ts';
import { postJson } from './alerts/post-json.ts';
import { EngineClient } from './engine-client.ts';
import { createHubApp, type HubServices } from './http/app.ts';
import { DirectAggregates } from './http/direct-aggregates.ts';
import { ForkedLanes } from './ingest/forked-lanes.ts';
import { GatewayRegistry } from './ingest/gateways.ts';
import { Enrolments } from './ingest/enrolments.ts';
import { TokenRegistry } from './ingest/tokens.ts';
import { UplinkServer } from './ingest/uplink-server.ts';
import { LocalStore } from './lake/local-store.ts';
import { MaintenanceClient } from './maintenance-client.ts';
import { createHubMetrics } from './metrics.ts';
import { QueryService } from './query/query-service.ts';
import { Releases } from './release.ts';
import { SqlService } from './query/sql-service.ts';

/** A caller that is slower than this holds a socket for nothing; uplinks are upgraded and no requests any more. */
const HTTP_LIMITS = { headersTimeout: 10_000, requestTimeout: 30_000, keepAliveTimeout: 30_000, maxHeaderSize: 16_384 };

/** Most of what V8 has to see of a hot answer to compile it; the hub serves meanwhile. */
const HOT_WARM_UP_MS = 100;

/** A gateway that does not close its socket is cut: it resends to whoever comes next. */
const UPLINK_STOP_DEADLINE_MS = 1_000;

export interface RunningHub {
  readonly address: AddressInfo;
  /** Settles when the engine's thread has answered. */
  askEngine(): Promise<unknown>;
  /** Refuses new work, commits and flushes what is there, closes. */
  stop(): Promise<void>;
}

/** @throws SluiceError ERR_LISTEN_*, ERR_STORE_*, ERR_LAKE_*, ERR_CONFIG_* */
export async function startHub(
  config: HubConfig,
  clock: Clock,
  logger: Logger,
  onFatal: (error: Error) => void,
  env: Readonly<Record<string, string | undefined>> = {},
): Promise<RunningHub> {
  const hubInstance = randomBytes(16).toString('hex');
  const tls = readTls(config.http.tls);
  const store = await LocalStore.open(config.lakeDir);
  const running: (() => Promise<void> | void)[] = [];
  const stop = async (): Promise<void> => {
    for (const part of running.splice(0).reverse()) await part();
  };
  try {
    const tokens = await TokenRegistry.open(store, clock, logger);
    running.push(() => tokens.stop());
    const engine = await EngineClient.start({ ...engineSettings(config), hubInstance }, onFatal);
    running.push(() => engine.stop());
    const { memoryBytesMax, timeoutMs } = config.query;
    const query = await QueryService.start({ engine, lakeDir: config.lakeDir, memoryBytesMax, timeoutMs, hotWarmUpMs: HOT_WARM_UP_MS });
    running.push(() => query.stop());
    const maintenance = new MaintenanceClient({ ...maintenanceSettings(config), hubInstance }, logger);
    running.push(() => maintenance.stop());
    const gateways = new GatewayRegistry();
    const uplink = new UplinkServer({
      engine: new ForkedLanes({ engine, store, clock, logger }),
      tokens,
      gateways,
      clock,
      logger,
      inspect: inspectBatch,
      hubInstance,
      hubVersion: VERSION,
      wireVersions: [WIRE_VERSION],
      compressions: availableCompressions(),
      settings: { pendingBytesMax: config.pendingBytesMax },
    });
    const alerts = await Alerts.start({ store, hubInstance, engine, query, gateways, clock, logger });
    running.push(() => alerts.stop());
    const notifier = new Notifier({
      alerts,
      store,
      hubInstance,
      clock,
      logger,
      env,
      random: Math.random,
      post: postJson,
      ...config.alerts,
    });
    notifier.start();
    running.push(() => notifier.stop());
    const sql = new SqlService({ engine, captureAlerts: () => alerts.capture(), ...config.query.sql });
    running.push(() => sql.stop());
    const metrics = createHubMetrics({ engine, uplink, gateways, maintenance, alerts, notifier, logger });
    let stopping = false;
    const services: HubServices = {
      engine,
      query,
      sql,
      alerts,
      notifier,
      releases: new Releases({ engine, query, clock }),
      gateways,
      uplink,
      tokens,
      enrolments: new Enrolments(store, clock),
      maintenance,
      metrics,
      clock,
      logger,
      isReady: () => !stopping,
      corsOrigins: config.http.corsOrigins,
    };
    const answer = getRequestListener(createHubApp(services).fetch);
    const direct = new DirectAggregates(services);
    const listener = (request: IncomingMessage, response: ServerResponse): void =>
      direct.answer(request, response, () => void answer(request, response));
    const server: Server = tls === null ? createHttpServer(HTTP_LIMITS, listener) : createHttpsServer({ ...HTTP_LIMITS, ...tls }, listener);
    uplink.attach(server);
    running.unshift(() => server.closeAllConnections());
    running.push(
      () => void server.close(),
      () => uplink.stop(UPLINK_STOP_DEADLINE_MS),
    );
    const address = await listen({
      server,
      host: config.http.host,
      port: config.http.port,
      credentialsConfigured: tokens.hasReaders,
      credentialsHint: 'create a read token with `sluice-hub token create --read`',
      flagName: '--http-port',
      what: 'the HTTP API',
    });
    const { lakeId } = engine;
    logger.info(
      { address: address.address, port: address.port, lakeId, lakeDir: config.lakeDir },
      `hub listens on ${address.address}:${address.port}`,
    );
    return {
      address,
      askEngine: () => engine.status(),
      stop() {
        stopping = true;
        return stop();
      },
    };
  } catch (error) {
    // Whatever runs already would keep the process alive.
    await stop().catch((cause: unknown) => logger.warn({ err: cause }, 'stopping after a failed start failed as well'));
    throw error;
  }
}

function maintenanceSettings(config: HubConfig) {
  const { schedule, compactionRowsMax } = config.maintenance;
  return { lakeDir: config.lakeDir, schedule, compactionRowsMax, definitions: config.windows, logLevel: config.logLevel };
}

export function engineSettings(config: HubConfig) {
  return {
    lakeDir: config.lakeDir,
    commitIntervalMsMin: config.commit.intervalMsMin,
    commitIntervalMsMax: config.commit.intervalMsMax,
    commitReadingsMax: config.commit.readingsMax,
    commitBytesMax: config.commit.bytesMax,
    flushIntervalMs: config.flushIntervalMs,
    windowBytesMax: config.windowBytesMax,
    allowedLatenessMs: config.allowedLatenessMs,
    gatewayIdleTimeoutMs: config.gatewayIdleTimeoutMs,
    definitions: config.windows,
    logLevel: config.logLevel,
  };
}
