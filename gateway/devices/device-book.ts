/**
 * What each device sent last: for people who stand beside the gateway.
 *
 * Constraints: fed once per group commit with its columns, two stores per reading; memory is bounded by the series
 * (`seriesMax`), 20 bytes each. Devices are gathered from the series when somebody asks. Forgotten at a restart.
 */
import type { Series } from '../../shared/reading.ts';

export interface DeviceRow {
  readonly device: string;
  readonly series: number;
  readonly readings: number;
  /** When the gateway had the last one: wall clock, µs. */
  readonly lastUs: number;
}

export interface SeriesRow {
  readonly metric: string;
  readonly tags: Readonly<Record<string, string>> | null;
  readonly readings: number;
  readonly lastUs: number;
  /** null: the last reading was a text. */
  readonly lastValue: number | null;
}

/** The columns of a group that count here. */
export interface GroupColumns {
  readonly series: Uint32Array;
  readonly value: Float64Array;
}

interface SeriesSource {
  readonly size: number;
  seriesOf(id: number): Series;
}

export class DeviceBook {
  #counts = new Float64Array(1024);
  #lastUs = new Float64Array(1024);
  #values = new Float64Array(1024);
  /** Device of each series, found when it is first asked for. */
  #deviceOf = new Uint32Array(1024);
  #resolved = 0;
  readonly #indexes = new Map<string, number>();
  readonly #names: string[] = [];

  /** @param count readings in the columns */
  add(columns: GroupColumns, count: number, nowUs: number): void {
    const { series, value } = columns;
    for (let index = 0; index < count; index++) {
      const id = series[index];
      if (id >= this.#counts.length) this.#grow(id + 1);
      this.#counts[id]++;
      this.#lastUs[id] = nowUs;
      this.#values[id] = value[index];
    }
  }

  /**
   * @param limit at most so many, those that sent last first
   * @returns how many devices there are, and the rows. Costs some ns per series.
   */
  devices(source: SeriesSource, limit: number): { count: number; devices: DeviceRow[] } {
    this.#resolve(source);
    const count = this.#names.length;
    const series = new Uint32Array(count);
    const readings = new Float64Array(count);
    const lastUs = new Float64Array(count);
    for (let id = 0; id < this.#resolved; id++) {
      if (this.#counts[id] === 0) continue;
      const device = this.#deviceOf[id];
      series[device]++;
      readings[device] += this.#counts[id];
      if (this.#lastUs[id] > lastUs[device]) lastUs[device] = this.#lastUs[id];
    }
    const order = Array.from({ length: count }, (_, device) => device).filter((device) => series[device] > 0);
    order.sort((a, b) => lastUs[b] - lastUs[a] || (this.#names[a] < this.#names[b] ? -1 : 1));
    const devices = order
      .slice(0, limit)
      .map((device) => ({ device: this.#names[device], series: series[device], readings: readings[device], lastUs: lastUs[device] }));
    return { count: order.length, devices };
  }

  /** The series of one device, those that sent last first; empty: nothing came from it since the start. */
  series(source: SeriesSource, device: string, limit: number): SeriesRow[] {
    this.#resolve(source);
    const wanted = this.#indexes.get(device);
    const rows: SeriesRow[] = [];
    for (let id = 0; id < this.#resolved; id++) {
      if (this.#deviceOf[id] !== wanted || this.#counts[id] === 0) continue;
      const { metric, tags } = source.seriesOf(id);
      const value = this.#values[id];
      rows.push({
        metric,
        tags: tags === '' ? null : (JSON.parse(tags) as Record<string, string>),
        readings: this.#counts[id],
        lastUs: this.#lastUs[id],
        lastValue: Number.isFinite(value) ? value : null,
      });
    }
    return rows.sort((a, b) => b.lastUs - a.lastUs || (a.metric < b.metric ? -1 : 1)).slice(0, limit);
  }

  #resolve(source: SeriesSource): void {
    const size = Math.min(source.size, this.#counts.length);
    for (; this.#resolved < size; this.#resolved++) {
      const { device } = source.seriesOf(this.#resolved);
      let index = this.#indexes.get(device);
      if (index === undefined) {
        index = this.#names.push(device) - 1;
        this.#indexes.set(device, index);
      }
      this.#deviceOf[this.#resolved] = index;
    }
  }

  #grow(needed: number): void {
    const length = Math.max(needed, this.#counts.length * 2);
    const grown = (column: Float64Array): Float64Array<ArrayBuffer> => {
      const larger = new Float64Array(length);
      larger.set(column);
      return larger;
    };
    this.#counts = grown(this.#counts);
    this.#lastUs = grown(this.#lastUs);
    this.#values = grown(this.#values);
    const devices = new Uint32Array(length);
    devices.set(this.#deviceOf);
    this.#deviceOf = devices;
  }
}
