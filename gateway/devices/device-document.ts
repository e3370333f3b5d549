import type { SeriesRegistry } from '../journal/journal-api.ts';
import type { DeviceBook } from './device-book.ts';

/** More do not fit on a page that is read beside the machine; the hub has them all. */
const DEVICES_MAX = 500;
const SERIES_MAX = 500;

/**
 * `GET /v1/devices` (device null) and `GET /v1/devices?device=NAME`. Times are µs since the epoch; what is told is since the
 * start of the process.
 *
 * @returns null: nothing came from that device
 */
export function deviceDocument(
  book: DeviceBook,
  registry: SeriesRegistry,
  device: string | null,
  nowUs: number,
): Record<string, unknown> | null {
  if (device !== null) {
    const rows = book.series(registry, device, SERIES_MAX);
    if (rows.length === 0) return null;
    const series = rows.map(({ metric, tags, readings, lastUs, lastValue }) => ({
      metric,
      tags,
      readings,
      last_us: lastUs,
      last_value: lastValue,
    }));
    return { time_us: nowUs, device, series };
  }
  const { count, devices } = book.devices(registry, DEVICES_MAX);
  return {
    time_us: nowUs,
    count,
    devices: devices.map(({ device: name, series, readings, lastUs }) => ({ device: name, series, readings, last_us: lastUs })),
  };
}
