/**
 * From names to series ids without building a string: per device and tags a tree of metric names, its nodes reached by
 * the keys of the payload. A known metric costs one Map lookup per level.
 *
 * Bounded: at most NODES_MAX nodes over all scopes; when they are used up, everything is forgotten and learnt again
 * (a device that invents names costs time then, never memory).
 */
import type { DeviceClock, DeviceClocks } from '../clock-devices.ts';
import { TwoGenerationCache } from './two-generation-cache.ts';
import { checkName } from './names.ts';

const NODES_MAX = 400_000;
const SCOPES_MAX = 20_000;

export interface MetricNode {
  /** The metric's whole name, '' for the root. */
  readonly name: string;
  /** -1: not asked yet. */
  seriesId: number;
  children: Map<string, MetricNode> | null;
}

export interface SeriesScope {
  readonly device: string;
  /** Canonical JSON or ''. */
  readonly tags: string;
  readonly root: MetricNode;
  /** What is known of the device's clock; null: it is not looked at. */
  readonly clock: DeviceClock | null;
}

export class SeriesScopes {
  #scopes = new TwoGenerationCache<string, SeriesScope>(SCOPES_MAX);
  readonly #clocks: DeviceClocks | null;
  #nodeCount = 0;
  /** Counts the times that everything was forgotten; who holds a scope over messages compares it. */
  generation = 0;

  constructor(clocks: DeviceClocks | null = null) {
    this.#clocks = clocks;
  }

  /**
   * @param tags canonical, checked by the caller
   * @throws SluiceError ERR_DECODE_NAME
   */
  scope(device: string, tags: string): SeriesScope {
    const key = tags === '' ? device : `${device}\u0000${tags}`;
    const known = this.#scopes.get(key);
    // A name that is not checked yet may look like the key of another scope.
    if (known?.device === device) return known;
    checkName('device', device);
    const scope: SeriesScope = { device, tags, root: { name: '', seriesId: -1, children: null }, clock: this.#clocks?.of(device) ?? null };
    this.#scopes.set(key, scope);
    return scope;
  }

  /** @throws SluiceError ERR_DECODE_NAME */
  child(node: MetricNode, key: string): MetricNode {
    const known = node.children?.get(key);
    if (known !== undefined) return known;
    const name = node.name === '' ? key : `${node.name}.${key}`;
    checkName('metric', name);
    const child: MetricNode = { name, seriesId: -1, children: null };
    if (this.#nodeCount >= NODES_MAX) this.#forget();
    (node.children ??= new Map()).set(key, child);
    this.#nodeCount++;
    return child;
  }

  #forget(): void {
    this.#scopes.clear();
    this.#nodeCount = 0;
    this.generation++;
  }
}
