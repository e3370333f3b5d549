/**
 * The order of series in the lake's files: device, metric, tags, gateway.
 *
 * Series of a registry are sorted once and stay so; new ones are sorted by themselves and merged into the others, so that a
 * device that is new to a hub of 100,000 series costs a look at 17 of them and not a sort of all.
 */
import assert from 'node:assert/strict';
import { mergedInSteps, sortedInSteps, type Steps } from '../steps.ts';
import type { GroupRegistry } from '../windows/group-registry.ts';

export class SeriesOrder {
  readonly registry: GroupRegistry;
  #ids: Uint32Array = new Uint32Array(0);
  #generation = -1;

  constructor(registry: GroupRegistry) {
    this.registry = registry;
  }

  /**
   * The ids of all series that the registry has at the first step, in order. Valid until the next call.
   *
   * Between steps series may be added, not numbered anew.
   */
  *update(): Steps<Uint32Array> {
    const { registry } = this;
    const { generation, seriesCount } = registry;
    if (this.#generation !== generation) this.#ids = new Uint32Array(0);
    this.#generation = generation;
    const { device, metric, tags, gateway } = registry.names;
    const compare = (a: number, b: number): number => {
      if (device[a] !== device[b]) return device[a] < device[b] ? -1 : 1;
      if (metric[a] !== metric[b]) return metric[a] < metric[b] ? -1 : 1;
      if (tags[a] !== tags[b]) return tags[a] < tags[b] ? -1 : 1;
      return gateway[a] < gateway[b] ? -1 : 1;
    };
    const added = yield* sortedInSteps(this.#ids.length, seriesCount, compare);
    const ids = yield* mergedInSteps(added, this.#ids, compare);
    assert(registry.generation === generation, 'the series were numbered anew while they were sorted');
    return (this.#ids = ids);
  }
}
