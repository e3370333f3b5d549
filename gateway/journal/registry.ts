/** The series of this process: ids are dense from 0, never reused, and bounded. */
import { isValidName } from '../../shared/batch/string-table.ts';
import { SluiceError } from '../../shared/errors.ts';
import { NAME_BYTES_MAX, type Series } from '../../shared/reading.ts';
import type { RegisteredSeries, SeriesRegistry } from './journal-api.ts';

/** Default of `seriesMax`: invariant 7. */
export const SERIES_MAX = 100_000;

export class BoundedSeriesRegistry implements SeriesRegistry {
  readonly #seriesMax: number;
  readonly #series: RegisteredSeries[] = [];
  /** Two levels, so that the common case (no tags) looks up two strings that exist and builds none. */
  readonly #byDevice = new Map<string, Map<string, number>>();

  constructor(seriesMax: number = SERIES_MAX) {
    this.#seriesMax = seriesMax;
  }

  get size(): number {
    return this.#series.length;
  }

  idOf(device: string, metric: string, tags: string, priority = 0): number {
    const key = tags === '' ? metric : `${metric}\u0000${tags}`;
    const known = this.#byDevice.get(device)?.get(key);
    if (known !== undefined) return known;
    const id = this.#series.length;
    if (id >= this.#seriesMax) {
      throw new SluiceError(
        'ERR_SERIES_LIMIT',
        `series ${device} ${metric} ${tags} would be number ${id + 1}; ${this.#seriesMax} are allowed (seriesMax)`,
      );
    }
    // Checked once per series, here, because a name that cannot stand in a batch would hold up everything behind it.
    for (const name of [device, metric]) {
      if (!isValidName(name)) {
        throw new SluiceError(
          'ERR_SERIES_NAME',
          `${JSON.stringify(name.slice(0, 64))} (${Buffer.byteLength(name)} bytes, ${NAME_BYTES_MAX} allowed) is no name`,
        );
      }
    }
    let ofDevice = this.#byDevice.get(device);
    if (ofDevice === undefined) {
      ofDevice = new Map();
      this.#byDevice.set(device, ofDevice);
    }
    ofDevice.set(key, id);
    this.#series.push({ device, metric, tags, priority });
    return id;
  }

  seriesOf(id: number): Series {
    const series = this.#series[id];
    if (series === undefined) throw new RangeError(`series id ${id} of ${this.#series.length}`);
    return series;
  }

  /** Series from id `from` on: what the journal does not know yet. */
  since(from: number): RegisteredSeries[] {
    return this.#series.slice(from);
  }
}
