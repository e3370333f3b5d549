/** The whole gateway on one screen: what feeds what, the order of starting and of stopping. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';
import type { Clock } from '../shared/clock.ts';
import { SluiceError, errorMessage } from '../shared/errors.ts';
import type { Logger } from '../shared/logging.ts';
import { Access } from './access.ts';
import { startBroker, type Broker } from './broker/broker.ts';
import { sessionLimits } from './broker/session-store.ts';
import { GatewayClock, type ClockEvent } from './clock.ts';
import { DeviceClocks } from './clock-devices.ts';
import { machineClockSources, type ClockSources } from './clock-sources.ts';
import type { GatewayConfig } from './config.ts';
import { Credentials, credentialsPath } from './credentials.ts';
import { Decoder } from './decode/decoder.ts';
import { withIdentity } from './enroll/hub-identity.ts';
import { DeviceBook } from './devices/device-book.ts';
import { deviceDocument } from './devices/device-document.ts';
import { Ingest } from './http/ingest.ts';
import { Flash, type FlashOptions } from './flash.ts';
import { startHttp, type HttpServer } from './http/server.ts';
import { createIngestCounters } from './ingest-counters.ts';
import { JournalClient } from './journal/journal-client.ts';
import { createGatewayMetrics } from './metrics.ts';
import { startHostMetrics } from './sources/host-metrics.ts';
import { startSources } from './sources/sources.ts';
import { statusDocument, type StatusSources } from './status.ts';
import { MessageTap } from './tail/message-tap.ts';
import { TurnBudget } from './turn-budget.ts';
import { startUplink, type Uplink } from './uplink/uplink.ts';

export interface GatewayOptions {
  readonly config: GatewayConfig;
  /** Of the machine; whether it is believed is decided here. */
  readonly clock: Clock;
  /** Default: of this machine. */
  readonly clockSources?: ClockSources;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  readonly logger: Logger;
  /** The journal's thread is gone: nothing can be acknowledged any more. */
  readonly onFatal: (error: Error) => void;
}

export interface Gateway {
  readonly broker: Broker;
  readonly http: HttpServer;
  readonly journal: JournalClient;
  /** null: buffer only. */
  readonly uplink: Uplink | null;
  /** Takes nothing more, makes durable and seals what is there, leaves. */
  stop(): Promise<void>;
}

/** @throws SluiceError ERR_LISTEN_*, ERR_JOURNAL_*, ERR_CREDENTIALS_FILE, ERR_UPLINK_URL, ERR_CONFIG_* */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { random, logger, onFatal } = options;
  const config = withIdentity(options.config);
  const clock = new GatewayClock({
    clock: options.clock,
    sources: options.clockSources ?? machineClockSources(),
    policy: config.clock,
    hasHub: config.uplink.url !== null,
    onEvent: (event) => logClockEvent(logger, event),
  });
  const credentials = new Credentials(credentialsPath(config.dataDir), clock, (error) => logger.error({ err: error }, 'credentials file'));
  const access = new Access(config.access, credentials);
  const token = uplinkToken(config.uplink);
  let flash: Flash | null = null;
  const book = new DeviceBook();
  const turns = new TurnBudget(clock);
  const journal = await JournalClient.open({
    ...config.journal,
    commitDelayMs: () => flash?.delayMs ?? 0,
    directory: path.join(config.dataDir, 'journal'),
    clock,
    seriesMax: config.seriesMax,
    // Behind the sockets that wait for their turn: what they bring shares the commit.
    defer: (callback) => turns.later(callback),
    onGroup: (columns, readings) => book.add(columns, readings, clock.nowUs()),
    onTrouble: (error) => logger.warn({ err: error }, 'journal'),
    onFatal,
  });
  const stopped: (() => Promise<void> | void)[] = [() => closeJournal(journal, logger), () => clock.stop()];
  const stop = async (): Promise<void> => {
    for (const part of stopped.splice(0).reverse()) await part();
  };
  try {
    await clock.start(journal.clockMemory);
    const { writer } = journal;
    const counters = createIngestCounters();
    flash = new Flash({ ...flashSettings(config), clock, readings: () => counters.readings });
    stopped.push(() => flash?.close());
    const deviceClocks = new DeviceClocks(clock);
    stopped.push(() => deviceClocks.close());
    const decoder = new Decoder(config.topics, writer.series, deviceClocks);
    const tap = new MessageTap(writer.series, clock);
    const deadlineMs = config.shutdownDeadlineMs / 2;
    const { url, token: _token, tokenFile: _tokenFile, caFile, ...settings } = config.uplink;
    const uplink =
      url === null
        ? null
        : startUplink({ url, token, caFile, journal, clock, random, logger: logger.child({ part: 'uplink' }), settings, hubTime: clock });
    stopped.push(() => uplink?.stop(deadlineMs));
    const broker = await startBroker({
      config: config.mqtt,
      decoder,
      journal: writer,
      access,
      clock,
      counters,
      tap,
      stored: journal.takeSessions(),
      sessionLimits: sessionLimits(config.journal.bufferBytesMax),
      turns,
      logger: logger.child({ part: 'broker' }),
    });
    stopped.push(() => broker.stop(deadlineMs));
    const feeds = await startSources(config.sources, config.mqtt.packetBytesMax, {
      decoder,
      journal: writer,
      clock,
      random,
      counters,
      tap,
      dataDir: config.dataDir,
      logger: logger.child({ part: 'sources' }),
    });
    stopped.push(() => feeds.stop(deadlineMs));
    const sources: StatusSources = {
      clock,
      startedUs: clock.monotonicUs(),
      seriesMax: config.seriesMax,
      counters,
      decoder,
      journal,
      broker,
      feeds,
      uplink,
      flash,
      deviceClocks,
    };
    const metrics = createGatewayMetrics(sources);
    stopped.push(() => metrics.close());
    const http = await startHttp({
      config: config.http,
      access,
      ingest: new Ingest({ decoder, journal: writer, clock, counters, tap }),
      clock,
      tap,
      logger: logger.child({ part: 'http' }),
      status: () => statusDocument(sources),
      devices: (device) => deviceDocument(book, writer.series, device, clock.nowUs()),
      metrics: () => metrics.scrape(),
      notReady: () => (journal.accepting ? null : 'the buffer is full: nothing is taken'),
    });
    stopped.push(() => http.stop(deadlineMs));
    const { enabled, intervalMs, device } = config.hostMetrics;
    if (enabled) {
      const host = startHostMetrics({ device: device ?? hostname(), intervalMs, dataDir: config.dataDir, clock, journal: writer, logger });
      stopped.push(() => host.stop());
    }
    return { broker, http, journal, uplink, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function flashSettings({ dataDir, journal }: GatewayConfig): Omit<FlashOptions, 'clock' | 'readings'> {
  const { flashBytesPerDayMax, ackLatencyMsMax, flashEnduranceBytes } = journal;
  return { dataDir, bytesPerDayMax: flashBytesPerDayMax, ackLatencyMsMax, enduranceBytes: flashEnduranceBytes };
}

function logClockEvent(logger: Logger, { kind, source, stepUs }: ClockEvent): void {
  const stepSeconds = stepUs / 1e6;
  if (kind === 'known') logger.info({ source }, 'the clock is known');
  else if (kind === 'step') logger.warn({ source, stepSeconds }, 'the clock was set');
  else logger.warn({ stepSeconds }, "the machine's clock says another time than what is believed, and is not followed");
}

/** A seal makes the next start's work; without it nothing would be lost. */
async function closeJournal(journal: JournalClient, logger: Logger): Promise<void> {
  await journal.seal().catch((error: unknown) => logger.warn({ err: error }, 'the last seal failed; the next start seals'));
  await journal.close();
}

function uplinkToken({ url, token, tokenFile }: GatewayConfig['uplink']): string {
  if (url === null) return '';
  if (token !== null) return token;
  if (tokenFile === null)
    throw new SluiceError(
      'ERR_CONFIG_INVALID',
      'uplink.url is set, but neither uplink.tokenFile nor uplink.token, and the gateway is not enrolled; `sluice-gateway enroll` or `sluice-hub token create --gateway NAME`',
    );
  try {
    return readFileSync(tokenFile, 'utf8').trim();
  } catch (cause) {
    throw new SluiceError('ERR_CONFIG_FILE', `cannot read the token file ${tokenFile}: ${errorMessage(cause)}`, { cause });
  }
}
