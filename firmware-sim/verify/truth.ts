/**
 * The readings behind a ledger, made again, device by device.
 */
import { SluiceError } from '../../shared/errors.ts';
import { createDevices, type Device } from '../devices/device.ts';
import { SeriesChecksum } from '../ledger/checksum.ts';
import type { Ledger, LedgerDevice } from '../ledger/ledger.ts';
import { MessageRanges } from '../ledger/message-ranges.ts';

export interface TruthReading {
  readonly eventTimeUs: number;
  /** NaN: only a text. */
  readonly value: number;
  readonly text: string | null;
  /** true: acknowledged, must be in the lake; false: in doubt, may be there once. */
  readonly acked: boolean;
}

export interface DeviceTruth {
  readonly device: Device;
  /** Metric -> readings in ascending event time, all different. */
  readonly metrics: ReadonlyMap<string, readonly TruthReading[]>;
}

/** A ledger may claim any horizon; beyond so many messages per device it is not one that a run wrote. */
const HORIZON_MESSAGES_MAX = 1_000_000;

/** Acknowledged and in doubt, as ranges of message indexes; the second also has what a killed run may have sent unrecorded. */
function mayBeInLake(ledger: Ledger, entry: LedgerDevice, device: Device): { acked: MessageRanges; all: MessageRanges } {
  const acked = MessageRanges.of(entry.acked);
  const all = MessageRanges.of([...entry.acked, ...entry.inDoubt]);
  if (ledger.horizonMs !== null) {
    let end = entry.sent;
    while (end - entry.sent < HORIZON_MESSAGES_MAX && device.dueMs(end) < ledger.horizonMs) end++;
    all.addRange(entry.sent, end);
  }
  return { acked, all };
}

function deviceTruth(ledger: Ledger, entry: LedgerDevice, device: Device): DeviceTruth {
  const { acked, all } = mayBeInLake(ledger, entry, device);
  const metrics = new Map<string, TruthReading[]>(device.metrics.map((metric) => [metric, []]));
  const checksums = new Map(device.metrics.map((metric) => [metric, { count: 0, checksum: new SeriesChecksum(device.name, metric) }]));
  for (const [from, to] of all.toRanges()) {
    for (let messageIndex = from; messageIndex < to; messageIndex++) {
      const isAcked = acked.has(messageIndex);
      for (const { metric, eventTimeUs, value, text } of device.readings(messageIndex)) {
        metrics.get(metric)?.push({ eventTimeUs, value, text, acked: isAcked });
        if (!isAcked) continue;
        const totals = checksums.get(metric) as { count: number; checksum: SeriesChecksum };
        totals.count++;
        totals.checksum.add(eventTimeUs, value, text);
      }
    }
  }
  for (const [metric, { count, checksum }] of checksums) {
    const [ledgerCount, , , ledgerChecksum] = entry.metrics[metric] ?? [0, 0, 0, checksum.toString()];
    if (ledgerCount !== count || ledgerChecksum !== checksum.toString()) {
      throw new SluiceError(
        'ERR_SIM_LEDGER_MISMATCH',
        `${device.name}/${metric}: the ledger has ${ledgerCount} readings with checksum ${ledgerChecksum}, regenerated are ${count} with ${checksum.toString()}`,
      );
    }
  }
  return { device, metrics };
}

/**
 * @throws SluiceError ERR_SIM_LEDGER_MISMATCH when this program's devices are not those that wrote the ledger.
 */
export function regenerateTruth(ledger: Ledger): DeviceTruth[] {
  const devices = createDevices(ledger.fleet);
  return ledger.devices.map((entry, index) => {
    const device = devices[index];
    if (entry.name !== device.name || entry.index !== index) {
      throw new SluiceError('ERR_SIM_LEDGER_MISMATCH', `device ${index} of the ledger is ${entry.name}, its fleet has ${device.name}`);
    }
    return deviceTruth(ledger, entry, device);
  });
}
