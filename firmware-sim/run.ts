/**
 * `sluice-sim run`: the fleet, its connections, its ledger and its progress, wired together.
 */
import type { Clock } from '../shared/clock.ts';
import { fleetSpecOf, gatewayUrls, type SimConfig } from './config.ts';
import { createDevices, type Device } from './devices/device.ts';
import { Fleet } from './fleet.ts';
import { createLedger, writeLedger, type Ledger } from './ledger/ledger.ts';
import { ProgressLine, runSummary, type RunSummary } from './progress.ts';
import { SelfLimitMeter } from './self-limit.ts';
import { openDeviceLink, type DeviceLink } from './transport.ts';

/** Beyond the time that the connections take to open, so that the first messages are not late by design. */
const START_DELAY_MS = 200;
/** Reconnects of a fleet are spread over this, so that a returning gateway is not hit at one instant. */
const RECONNECT_MS_MIN = 200;
const RECONNECT_MS_SPREAD = 300;
const CONNECT_TIMEOUT_MS = 5000;
/** The horizon is so many ledger intervals ahead: a slow disk may delay one write without stopping the fleet. */
const HORIZON_INTERVALS = 5;

export interface RunOptions {
  readonly config: SimConfig;
  readonly clock: Clock;
  /** Aborted: no further message becomes due; the ledger is still completed. */
  readonly stop: AbortSignal;
  /** Where progress goes. */
  readonly output: NodeJS.WriteStream;
}

export interface RunResult {
  readonly ledger: Ledger;
  readonly summary: RunSummary;
}

/** @throws SluiceError ERR_CONFIG_INVALID, ERR_SIM_LEDGER_WRITE */
export async function runFleet({ config, clock, stop, output }: RunOptions): Promise<RunResult> {
  const rampMs = Math.ceil((config.devices / config.connectsPerSecondMax) * 1000);
  const startMs = Math.ceil(clock.nowUs() / 1000) + START_DELAY_MS + rampMs;
  const endMs = config.duration === 0 ? Infinity : startMs + config.duration * 1000;
  const spec = fleetSpecOf(config, startMs);
  const urls = gatewayUrls(config);
  const troubles = new Map<string, number>();
  const fill = (pattern: string | null, device: Device): string | null => pattern?.replaceAll('{device}', device.name) ?? null;
  const openLink = (device: Device, onReady: () => void): DeviceLink =>
    openDeviceLink(
      {
        url: urls[device.gatewayIndex],
        clientId: device.name,
        username: fill(config.username, device),
        password: fill(config.passwordPattern, device),
        keepaliveSeconds: config.keepaliveSeconds,
        reconnectDelayMs: RECONNECT_MS_MIN + ((device.index * 37) % RECONNECT_MS_SPREAD),
        connectTimeoutMs: CONNECT_TIMEOUT_MS,
      },
      {
        onReady,
        onTrouble: (reason) => {
          if (troubles.size < 100 || troubles.has(reason)) troubles.set(reason, (troubles.get(reason) ?? 0) + 1);
        },
      },
    );
  const fleet = new Fleet({
    devices: createDevices(spec),
    clock,
    endMs,
    queueMessagesMax: config.queueMessagesMax,
    inFlightMessagesMax: config.inFlightMessagesMax,
    reconnectEveryMs: config.reconnectEvery === null ? null : config.reconnectEvery * 1000,
    connectsPerSecondMax: config.connectsPerSecondMax,
    openLink,
  });

  const ledgerNow = (complete: boolean, horizonMs: number | null): Ledger => {
    const nowMs = clock.nowUs() / 1000;
    const ended = complete ? Math.min(endMs, nowMs) : null;
    return createLedger({ fleet: spec, urls, complete, writtenMs: nowMs, endMs: ended, horizonMs }, fleet.progress);
  };
  // The ledger goes to the disk before the horizon is raised: never the other way round.
  const saveLedger = async (): Promise<void> => {
    const horizonMs = Math.max(startMs, clock.nowUs() / 1000) + HORIZON_INTERVALS * config.ledgerIntervalMs;
    await writeLedger(config.ledger, ledgerNow(false, horizonMs));
    fleet.raiseHorizon(horizonMs);
  };
  await saveLedger();

  const meter = new SelfLimitMeter();
  const progress = new ProgressLine({ fleet, output, startMs, endMs, clock, troubles });
  meter.start();
  fleet.start();
  progress.start();
  stop.addEventListener('abort', () => fleet.stop(), { once: true });
  if (stop.aborted) fleet.stop();
  let saving: Promise<void> | null = null;
  let failed: (error: unknown) => void = () => {};
  const ledgerFailure = new Promise<never>((_, reject) => {
    failed = reject;
  });
  // This interval also keeps the process alive while every socket is refused.
  const saveTimer = setInterval(() => {
    saving ??= saveLedger()
      .catch(failed)
      .finally(() => {
        saving = null;
      });
  }, config.ledgerIntervalMs);
  try {
    const drained = await Promise.race([fleet.finished(config.drainTimeout * 1000), ledgerFailure]);
    meter.stop();
    clearInterval(saveTimer);
    // oxlint-disable-next-line typescript/await-thenable -- assigned by the timer, which the flow analysis does not see
    await saving; // or it would be renamed over the last one
    await fleet.close();
    const ledger = ledgerNow(true, null);
    await writeLedger(config.ledger, ledger);
    return {
      ledger,
      summary: runSummary({ fleet, ledger, drained, selfLimit: meter.measure(), troubles, elapsedMs: clock.nowUs() / 1000 - startMs }),
    };
  } finally {
    clearInterval(saveTimer);
    progress.stop();
    await fleet.close();
  }
}
