/**
 * Dense ids for series and metrics, shared by all WindowStates of a process so that states merge by id.
 *
 * Constraints: one lookup per run of readings is the most that the windows can afford (design: 100 ns per reading with
 * everything), and hashing three strings takes longer than that. Gateways send their series in one sorted order again
 * and again, so the registry remembers for each series which one followed it, compares names with that guess, and
 * hashes only where the guess is wrong.
 *
 * Layout: series id -> gateway, device, metric, tags (parallel arrays), its metric's id, and the id that last followed
 * it in a series table (+ 1, 0 = none); per gateway a map from seriesKey to id and the id that last came first.
 *
 * Bounded by `seriesMax`: at the limit `resolve` throws and changes no state that anyone sees; the owner flushes, clears
 * and calls compactGroups. In memory only: ids mean nothing to another process or after `keep`.
 */
import assert from 'node:assert/strict';
import { SluiceError } from '../../shared/errors.ts';
import { seriesKey, type Series } from '../../shared/reading.ts';
import type { WindowBy } from '../../shared/window/definition.ts';
import type { GroupKey } from '../../shared/window/partial-columns.ts';

export interface GroupRegistryOptions {
  /** Series known at a time. One costs about 300 bytes. */
  readonly seriesMax?: number;
}

/** Ten gateways at their own limit of 100 k series: about 300 MB. */
const SERIES_MAX_DEFAULT = 1_000_000;
const CAPACITY_MIN = 64;
/** Map entries and array slots (estimate for V8, pointers compressed or not). */
const SERIES_OVERHEAD_BYTES = 200;

interface GatewaySeries {
  readonly ids: Map<string, number>;
  /** Id that came first in the last table, + 1; 0 = none. */
  first: number;
}

/** By series id; '' for no tags. They grow with the registry, until `keep`. */
export interface SeriesNames {
  readonly gateway: readonly string[];
  readonly device: readonly string[];
  readonly metric: readonly string[];
  readonly tags: readonly string[];
}

/** New ids after `keep`: map[old id] is the new one, or GONE. */
export interface GroupRenumbering {
  readonly series: Uint32Array;
  readonly metric: Uint32Array;
}
export const GONE = 0xffffffff;

function grown(array: Uint32Array, length: number): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(Math.max(CAPACITY_MIN, length * 2));
  larger.set(array);
  return larger;
}

export class GroupRegistry {
  readonly seriesMax: number;
  #gateways = new Map<string, GatewaySeries>();
  #gateway: string[] = [];
  #device: string[] = [];
  #metric: string[] = [];
  #tags: string[] = [];
  #metricOfSeries = new Uint32Array(CAPACITY_MIN);
  #next = new Uint32Array(CAPACITY_MIN);
  #metricIds = new Map<string, number>();
  #metricNames: string[] = [];
  #nameBytes = 0;
  #generation = 0;
  /** Ids by device, of the first `#devicesIndexed` series: made when a query names a device. */
  #byDevice = new Map<string, number[]>();
  #devicesIndexed = 0;
  #resolved = new WeakMap<readonly Series[], { readonly gateway: string; readonly generation: number; readonly ids: Uint32Array }>();

  constructor(options: GroupRegistryOptions = {}) {
    this.seriesMax = options.seriesMax ?? SERIES_MAX_DEFAULT;
  }

  get seriesCount(): number {
    return this.#gateway.length;
  }

  get metricCount(): number {
    return this.#metricNames.length;
  }

  get names(): SeriesNames {
    return { gateway: this.#gateway, device: this.#device, metric: this.#metric, tags: this.#tags };
  }

  /** Changes whenever ids change their meaning. */
  get generation(): number {
    return this.#generation;
  }

  /** Estimate. */
  get bytes(): number {
    return this.#gateway.length * SERIES_OVERHEAD_BYTES + this.#nameBytes + this.#metricOfSeries.byteLength + this.#next.byteLength;
  }

  groupCount(by: WindowBy): number {
    return by === 'series' ? this.seriesCount : this.metricCount;
  }

  metricIdOf(seriesId: number): number {
    return this.#metricOfSeries[seriesId];
  }

  /** Of all gateways, ascending. */
  seriesOfDevice(device: string): readonly number[] {
    for (; this.#devicesIndexed < this.#device.length; this.#devicesIndexed++) {
      const ids = this.#byDevice.get(this.#device[this.#devicesIndexed]);
      if (ids === undefined) this.#byDevice.set(this.#device[this.#devicesIndexed], [this.#devicesIndexed]);
      else ids.push(this.#devicesIndexed);
    }
    return this.#byDevice.get(device) ?? [];
  }

  groupKey(by: WindowBy, id: number): GroupKey {
    if (by === 'metric') return { gateway: null, device: null, metric: this.#metricNames[id], tags: null };
    const tags = this.#tags[id];
    return { gateway: this.#gateway[id], device: this.#device[id], metric: this.#metric[id], tags: tags === '' ? null : tags };
  }

  /**
   * The id of each series of a table, registering the unknown ones; remembered as long as the table lives, so that whoever
   * meets it again, batches that share it among them, compares no names.
   *
   * @throws SluiceError ERR_WINDOW_GROUPS_FULL; what was registered before stays registered.
   */
  idsOf(gateway: string, seriesTable: readonly Series[]): Uint32Array {
    const known = this.#resolved.get(seriesTable);
    if (known !== undefined && known.gateway === gateway && known.generation === this.#generation) return known.ids;
    const ids = new Uint32Array(seriesTable.length);
    this.resolve(gateway, seriesTable, ids);
    this.#resolved.set(seriesTable, { gateway, generation: this.#generation, ids });
    return ids;
  }

  /**
   * Writes the id of each series into `out`, registering the unknown ones.
   *
   * @throws SluiceError ERR_WINDOW_GROUPS_FULL; what was registered before stays registered.
   */
  resolve(gateway: string, seriesTable: readonly Series[], out: Uint32Array): void {
    let known = this.#gateways.get(gateway);
    if (known === undefined) {
      known = { ids: new Map(), first: 0 };
      this.#gateways.set(gateway, known);
    }
    let guess = known.first;
    let previous = -1;
    for (let index = 0; index < seriesTable.length; index++) {
      const series = seriesTable[index];
      let id = guess - 1;
      if (id < 0 || this.#metric[id] !== series.metric || this.#device[id] !== series.device || this.#tags[id] !== series.tags) {
        id = this.#find(gateway, known, series);
        if (previous < 0) known.first = id + 1;
        else this.#next[previous] = id + 1;
      }
      out[index] = id;
      previous = id;
      guess = this.#next[id];
    }
  }

  #find(gateway: string, known: GatewaySeries, series: Series): number {
    const key = seriesKey(series);
    const found = known.ids.get(key);
    if (found !== undefined) return found;
    const id = this.#gateway.length;
    if (id >= this.seriesMax) {
      throw new SluiceError('ERR_WINDOW_GROUPS_FULL', `series ${id + 1} is one more than the ${this.seriesMax} allowed`);
    }
    known.ids.set(key, id);
    this.#gateway.push(gateway);
    this.#device.push(series.device);
    this.#metric.push(series.metric);
    this.#tags.push(series.tags);
    this.#nameBytes += 2 * key.length;
    if (id >= this.#next.length) {
      this.#next = grown(this.#next, id);
      this.#metricOfSeries = grown(this.#metricOfSeries, id);
    }
    this.#metricOfSeries[id] = this.#metricId(series.metric);
    return id;
  }

  #metricId(name: string): number {
    let id = this.#metricIds.get(name);
    if (id === undefined) {
      id = this.#metricNames.length;
      this.#metricIds.set(name, id);
      this.#metricNames.push(name);
    }
    return id;
  }

  /**
   * Forgets all but the marked series and metrics (and the metrics of marked series) and numbers the rest anew.
   * For compactGroups, which renumbers the states.
   */
  keep(seriesMarks: Uint8Array, metricMarks: Uint8Array): GroupRenumbering {
    assert(seriesMarks.length === this.seriesCount && metricMarks.length === this.metricCount, 'marks of another registry');
    const old = { gateway: this.#gateway, device: this.#device, metric: this.#metric, tags: this.#tags, metricNames: this.#metricNames };
    this.#byDevice = new Map();
    this.#devicesIndexed = 0;
    this.#gateways = new Map();
    this.#gateway = [];
    this.#device = [];
    this.#metric = [];
    this.#tags = [];
    this.#metricOfSeries = new Uint32Array(CAPACITY_MIN);
    this.#next = new Uint32Array(CAPACITY_MIN);
    this.#metricIds = new Map();
    this.#metricNames = [];
    this.#nameBytes = 0;
    this.#generation++;
    const renumbering = { series: new Uint32Array(seriesMarks.length).fill(GONE), metric: new Uint32Array(metricMarks.length).fill(GONE) };
    const one = new Uint32Array(1);
    for (let id = 0; id < seriesMarks.length; id++) {
      if (seriesMarks[id] === 0) continue;
      this.resolve(old.gateway[id], [{ device: old.device[id], metric: old.metric[id], tags: old.tags[id] }], one);
      renumbering.series[id] = one[0];
    }
    for (let id = 0; id < metricMarks.length; id++) {
      const name = old.metricNames[id];
      if (metricMarks[id] !== 0 || this.#metricIds.has(name)) renumbering.metric[id] = this.#metricId(name);
    }
    return renumbering;
  }
}
