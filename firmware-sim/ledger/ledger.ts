/**
 * The ledger: what a fleet truly sent and what was acknowledged (design.md, section 2).
 *
 * It holds no readings. The fleet's spec regenerates every message; the ledger says, per device, which of them were
 * acknowledged, and carries a checksum per metric that proves that the regenerated readings are those that were sent.
 *
 * States of message k of a device:
 * - acknowledged: k is in `acked`. It must be in the lake exactly once.
 * - never sent: k is in `skipped`, or k >= `sent` of a complete ledger. It must not be there.
 * - in doubt: k is in `inDoubt` (sent, no ack seen; all of QoS 0). It may be there, at most once.
 *
 * Written by temporary file, fsync and rename, every few seconds and at the end. Killing the simulator leaves the last
 * one, with `complete` false: what was acknowledged after it counts as in doubt, and so does everything due before
 * `horizonMs`, which is all that may have been sent, because the fleet sends nothing due later before the next ledger is
 * on the disk.
 */
import { readFileSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import { fleetSpecSchema, type FleetSpec } from '../devices/fleet-spec.ts';
import type { DeviceProgress } from '../fleet.ts';

const index = z.int().min(0);
const ranges = z.array(z.tuple([index, index]));

const deviceEntrySchema = z.strictObject({
  index,
  name: z.string(),
  /** Of the gateway that it sends to, in `urls`. */
  gateway: index,
  qos: z.union([z.literal(0), z.literal(1), z.literal(2)]),
  /** Messages [0, sent) were handed to the MQTT client or skipped. */
  sent: index,
  /** Half-open ranges of message indexes. */
  acked: ranges,
  skipped: ranges,
  inDoubt: ranges,
  /** Of the acknowledged readings: metric -> [count, first event time, last event time (µs, both inclusive), checksum]. */
  metrics: z.record(z.string(), z.tuple([index, z.number(), z.number(), z.string().regex(/^[0-9a-f]{16}$/)])),
});
export type LedgerDevice = z.infer<typeof deviceEntrySchema>;

export const LEDGER_VERSION = 1;

const ledgerSchema = z.strictObject({
  version: z.literal(LEDGER_VERSION),
  complete: z.boolean(),
  writtenMs: z.number(),
  fleet: fleetSpecSchema,
  urls: z.array(z.string()).min(1),
  /** No message due at or after this time was due when the run ended; null while it runs. */
  endMs: z.number().nullable(),
  /** Messages due before this time may have been sent since this ledger was written; null in a complete one. */
  horizonMs: z.number().nullable(),
  totals: z.strictObject({ messagesSent: index, messagesAcked: index, messagesSkipped: index, readingsAcked: index }),
  devices: z.array(deviceEntrySchema),
});
export type Ledger = z.infer<typeof ledgerSchema>;

function deviceEntry(progress: DeviceProgress): LedgerDevice {
  const metrics: LedgerDevice['metrics'] = {};
  for (const [metric, totals] of progress.metrics) {
    if (totals.count > 0) metrics[metric] = [totals.count, totals.fromUs, totals.toUs, totals.checksum.toString()];
  }
  return {
    index: progress.device.index,
    name: progress.device.name,
    gateway: progress.device.gatewayIndex,
    qos: progress.device.qos,
    sent: progress.nextToSend,
    acked: progress.acked.toRanges().map(([from, to]) => [from, to]),
    skipped: progress.skipped.toRanges().map(([from, to]) => [from, to]),
    inDoubt: progress.acked.complement(progress.nextToSend, progress.skipped).map(([from, to]) => [from, to]),
    metrics,
  };
}

export interface LedgerState {
  readonly fleet: FleetSpec;
  readonly urls: readonly string[];
  readonly complete: boolean;
  readonly writtenMs: number;
  readonly endMs: number | null;
  readonly horizonMs: number | null;
}

export function createLedger(state: LedgerState, progress: readonly DeviceProgress[]): Ledger {
  const devices = progress.map(deviceEntry);
  const sum = (of: (entry: DeviceProgress) => number): number => progress.reduce((total, entry) => total + of(entry), 0);
  const skipped = sum((entry) => entry.skipped.size);
  return {
    version: LEDGER_VERSION,
    complete: state.complete,
    writtenMs: state.writtenMs,
    fleet: state.fleet,
    urls: [...state.urls],
    endMs: state.endMs,
    horizonMs: state.horizonMs,
    totals: {
      messagesSent: sum((entry) => entry.nextToSend) - skipped,
      messagesAcked: sum((entry) => entry.acked.size),
      messagesSkipped: skipped,
      readingsAcked: sum((entry) => [...entry.metrics.values()].reduce((count, totals) => count + totals.count, 0)),
    },
    devices,
  };
}

/**
 * Durable when it resolves. Asynchronous because an fsync can take seconds on a busy disk, and a fleet that stands still
 * meanwhile would measure the disk of the simulator.
 *
 * @throws SluiceError ERR_SIM_LEDGER_WRITE; the ledger that was there before stays whole.
 */
export async function writeLedger(file: string, ledger: Ledger): Promise<void> {
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    await mkdir(path.dirname(path.resolve(file)), { recursive: true });
    await writeFile(temporary, `${JSON.stringify(ledger)}\n`, { flush: true });
    await rename(temporary, file);
  } catch (cause) {
    // What cannot be removed is only litter; the error that led here is the one to report.
    await rm(temporary, { force: true }).catch(() => {});
    throw new SluiceError('ERR_SIM_LEDGER_WRITE', `cannot write the ledger ${file}: ${errorMessage(cause)}`, { cause });
  }
}

/** @throws SluiceError ERR_SIM_LEDGER_READ for a file that is missing, is not a ledger, or is one of another version. */
export function readLedger(file: string): Ledger {
  let parsed: unknown;
  try {
    parsed = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new SluiceError('ERR_SIM_LEDGER_READ', `cannot read the ledger ${file}: ${errorMessage(cause)}`, { cause });
  }
  const result = ledgerSchema.safeParse(parsed);
  if (!result.success) {
    const issue = result.error.issues[0];
    throw new SluiceError(
      'ERR_SIM_LEDGER_READ',
      `${file} is not a ledger of version ${LEDGER_VERSION}: ${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}`,
    );
  }
  if (result.data.devices.length !== result.data.fleet.devices) {
    throw new SluiceError(
      'ERR_SIM_LEDGER_READ',
      `${file} has ${result.data.devices.length} devices, its fleet ${result.data.fleet.devices}`,
    );
  }
  return result.data;
}
