/**
 * Dense ids for the series of all gateways, shared by the commit loop and everything that sorts by series.
 *
 * Consecutive batches of a gateway nearly always bring the same table, so the last table of each gateway is kept with its
 * ids and compared by value before any map is asked. Ids are dense from 0 and valid until `reset`.
 */
import { compareSeries, seriesKey, type Series } from '../../shared/reading.ts';

interface CachedTable {
  readonly table: readonly Series[];
  readonly ids: Uint32Array;
}

export class SeriesIndex {
  readonly gateways: string[] = [];
  readonly series: Series[] = [];
  #byGateway = new Map<string, Map<string, number>>();
  #lastTable = new Map<string, CachedTable>();
  #ranks = new Uint32Array(0);

  get size(): number {
    return this.series.length;
  }

  /** Ids of the series of a batch, in the table's order. */
  idsOf(gateway: string, table: readonly Series[]): Uint32Array {
    const cached = this.#lastTable.get(gateway);
    if (cached !== undefined && sameTable(cached.table, table)) return cached.ids;
    let known = this.#byGateway.get(gateway);
    if (known === undefined) {
      known = new Map();
      this.#byGateway.set(gateway, known);
    }
    const ids = new Uint32Array(table.length);
    for (let index = 0; index < table.length; index++) {
      const series = table[index]!;
      const key = seriesKey(series);
      let id = known.get(key);
      if (id === undefined) {
        id = this.series.length;
        known.set(key, id);
        this.series.push(series);
        this.gateways.push(gateway);
      }
      ids[index] = id;
    }
    this.#lastTable.set(gateway, { table, ids });
    return ids;
  }

  /** ranks[id]: the place of the id in the order (device, metric, tags, gateway) of the lake's files. Kept until the index grows. */
  ranks(): Uint32Array {
    if (this.#ranks.length === this.series.length) return this.#ranks;
    const order = Array.from({ length: this.series.length }, (_, id) => id);
    order.sort((a, b) => compareSeries(this.series[a]!, this.series[b]!) || (this.gateways[a]! < this.gateways[b]! ? -1 : 1));
    this.#ranks = new Uint32Array(order.length);
    order.forEach((id, rank) => {
      this.#ranks[id] = rank;
    });
    return this.#ranks;
  }

  /** Forgets everything. Only while nothing holds ids. */
  reset(): void {
    this.gateways.length = 0;
    this.series.length = 0;
    this.#byGateway.clear();
    this.#lastTable.clear();
    this.#ranks = new Uint32Array(0);
  }
}

function sameTable(a: readonly Series[], b: readonly Series[]): boolean {
  if (a.length !== b.length) return false;
  for (let index = 0; index < a.length; index++) {
    const left = a[index]!;
    const right = b[index]!;
    if (left.metric !== right.metric || left.device !== right.device || left.tags !== right.tags) return false;
  }
  return true;
}
