/** The order of series in the lake's files: device, metric, tags, gateway. */
import { compareSeries } from '../../shared/reading.ts';
import type { GroupRegistry } from '../windows/group-registry.ts';

export interface SeriesName {
  readonly gateway: string;
  readonly device: string;
  readonly metric: string;
  /** '' for none. */
  readonly tags: string;
}

/** Ranks of a registry's series ids, sorted once and kept until the registry changes. */
export class SeriesOrder {
  readonly registry: GroupRegistry;
  #ranks = new Uint32Array(0);
  #generation = -1;

  constructor(registry: GroupRegistry) {
    this.registry = registry;
  }

  nameOf(id: number): SeriesName {
    const key = this.registry.groupKey('series', id);
    return { gateway: key.gateway ?? '', device: key.device ?? '', metric: key.metric ?? '', tags: key.tags ?? '' };
  }

  /** ranks[id]: the place of the id in the order. */
  ranks(): Uint32Array {
    const count = this.registry.seriesCount;
    if (this.#ranks.length === count && this.#generation === this.registry.generation) return this.#ranks;
    const names = Array.from({ length: count }, (_, id) => this.nameOf(id));
    const order = Uint32Array.from(names, (_, id) => id).sort(
      (a, b) => compareSeries(names[a], names[b]) || (names[a].gateway < names[b].gateway ? -1 : 1),
    );
    this.#ranks = new Uint32Array(count);
    order.forEach((id, rank) => {
      this.#ranks[id] = rank;
    });
    this.#generation = this.registry.generation;
    return this.#ranks;
  }
}
