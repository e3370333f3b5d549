/** A small fleet with its ledger, and the rows that a right lake has of it: what tests of verify plant their faults into. */
import { createDevices, type Device } from '../devices/device.ts';
import { FLEET_DEFAULTS, type FleetSpec } from '../devices/fleet-spec.ts';
import { DeviceProgress } from '../fleet.ts';
import { createLedger, type Ledger } from '../ledger/ledger.ts';
import type { FakeRow } from './fake-hub.fixture.ts';
import type { LakeContent, LakeException, LakeSeries } from './lake-reader.ts';

export const SPEC: FleetSpec = {
  ...FLEET_DEFAULTS,
  models: { environment: 2, vibration: 1, energy: 2, gps: 2 },
  shapes: ['flat', 'influx'],
  qos: [0, 1, 0],
  seed: 5,
  startMs: Date.UTC(2026, 10, 21, 23, 59, 30), // the run crosses a minute, an hour and a day
  devices: 9,
  intervalMs: 5000,
  gatewayCount: 2,
};
export const MESSAGES = 12;
/** This message was sent and its ack never seen. */
export const DOUBT = { device: 2, message: 3 };

const devices = createDevices(SPEC);

export function deviceAt(index: number): Device {
  return devices[index];
}

/** @param messages acknowledged by every device, but for DOUBT */
export function sceneLedger(messages = MESSAGES): Ledger {
  const progress = devices.map((device) => {
    const entry = new DeviceProgress(device);
    entry.nextDue = entry.nextToSend = messages;
    for (let message = 0; message < messages; message++) {
      if (device.index !== DOUBT.device || message !== DOUBT.message) entry.acknowledge(message, device.readings(message));
    }
    return entry;
  });
  return createLedger({ fleet: SPEC, urls: ['mqtt://a', 'mqtt://b'], complete: true, writtenMs: 0, endMs: 0, horizonMs: null }, progress);
}

export function rowsOf(deviceIndex: number, message: number): FakeRow[] {
  const device = deviceAt(deviceIndex);
  return device.readings(message).map(({ metric, eventTimeUs, value, text }) => ({
    eventTimeUs,
    gateway: `gw-${device.gatewayIndex}`,
    device: device.name,
    metric,
    tags: device.tags === '' ? null : device.tags,
    value: Number.isNaN(value) ? null : value,
    text,
  }));
}

/** Everything that was sent, and two readings of others. */
export function sceneRows(): FakeRow[] {
  const rows = devices.flatMap((device) => Array.from({ length: MESSAGES }, (_, message) => rowsOf(device.index, message)).flat());
  const others = { eventTimeUs: (SPEC.startMs + 1000) * 1000, gateway: 'gw-0', tags: null, text: null };
  return [
    ...rows,
    { ...others, device: 'someone-else', metric: 'temperature', value: -3 },
    { ...others, device: 'gw-0', metric: 'cpu', value: 0 },
  ];
}

/** Index of a number of an acknowledged message. */
export function victim(rows: readonly FakeRow[]): number {
  return rows.findIndex(
    (row) => row.metric === 'temperature' && row.device !== 'someone-else' && row.eventTimeUs > (SPEC.startMs + 20_000) * 1000,
  );
}

/** The rows as LakeReader gives them. */
export function lakeContent(rows: readonly FakeRow[], exceptions: readonly LakeException[] = []): LakeContent {
  const series = new Map<string, LakeSeries>();
  for (const { gateway, device, metric, tags, eventTimeUs, value, text } of rows) {
    const key = [gateway, device, metric, tags].join('|');
    const entry = series.get(key) ?? { gateway, device, metric, tags: tags ?? '', rows: [] };
    series.set(key, entry);
    entry.rows.push({ eventTimeUs, value: value ?? NaN, text });
  }
  return {
    readingsVersion: 1,
    exceptionsVersion: 0,
    fileCount: 1,
    rowCount: rows.length,
    series: [...series.values()],
    exceptions,
    defects: [],
  };
}
