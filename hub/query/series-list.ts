/**
 * The list of all series, in the thread of the queries: sorted once, asked in pages.
 *
 * The thread that owns the sockets never sees more of it than a page: 100 k rows would hold it up for a tenth of a second.
 */
import { randomUUID } from 'node:crypto';
import { nameMatcher } from '../name-patterns.ts';
import type { DeviceRow, SeriesPage, SeriesQuery, SeriesRow } from './query-api.ts';
import { tagMatcher } from './tags.ts';

interface Keyed<T> {
  /** Sorts as the rows do; a page goes on behind it. U+0000 cannot stand in a name. */
  readonly key: string;
  readonly row: T;
}

export class SeriesList {
  readonly truncated: boolean;
  /** Names this reading of the list. */
  readonly version = randomUUID();
  readonly #rows: readonly Keyed<SeriesRow>[];

  constructor(rows: readonly SeriesRow[], truncated: boolean) {
    this.truncated = truncated;
    this.#rows = sortByKey(
      rows.map((row) => ({ key: `${row.gateway}\u0000${row.device}\u0000${row.metric}\u0000${row.tags ?? ''}`, row })),
    );
  }

  series(query: SeriesQuery): SeriesPage<SeriesRow> {
    return this.#page(this.#select(query), query);
  }

  /** By gateway and device. */
  devices(query: SeriesQuery): SeriesPage<DeviceRow> {
    return this.#page(devicesOf(this.#select(query)), query);
  }

  #select({ gateways, devices, metrics, tags: filter }: SeriesQuery): readonly Keyed<SeriesRow>[] {
    const [gateway, device, metric] = [gateways, devices, metrics].map((names) => (names === null ? () => true : nameMatcher(names)));
    const tags = filter === null ? () => true : tagMatcher(filter);
    return this.#rows.filter(({ row }) => gateway(row.gateway) && device(row.device) && metric(row.metric) && tags(row.tags));
  }

  #page<T>(keyed: readonly Keyed<T>[], { after, limit }: SeriesQuery): SeriesPage<T> {
    const behind = after === null ? keyed : keyed.filter(({ key }) => key > after);
    const page = behind.slice(0, limit);
    const { version, truncated } = this;
    const next = page.length === behind.length ? null : (page.at(-1)?.key ?? null);
    return { version, truncated, rows: page.map(({ row }) => row), next };
  }
}

function sortByKey<T>(rows: Keyed<T>[]): Keyed<T>[] {
  return rows.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
}

function devicesOf(series: readonly Keyed<SeriesRow>[]): Keyed<DeviceRow>[] {
  const devices = new Map<string, SeriesRow[]>();
  for (const { row } of series) {
    const key = `${row.gateway}\u0000${row.device}`;
    const known = devices.get(key);
    if (known === undefined) devices.set(key, [row]);
    else known.push(row);
  }
  return sortByKey([...devices].map(([key, rows]) => ({ key, row: deviceOf(rows) })));
}

function deviceOf(rows: readonly SeriesRow[]): DeviceRow {
  let [count, firstTsUs, lastTsUs] = [0, Infinity, -Infinity];
  for (const row of rows) {
    count += row.count;
    firstTsUs = Math.min(firstTsUs, row.firstTsUs ?? Infinity);
    lastTsUs = Math.max(lastTsUs, row.lastTsUs ?? -Infinity);
  }
  return {
    gateway: rows[0].gateway,
    device: rows[0].device,
    metrics: [...new Set(rows.map(({ metric }) => metric))].sort(),
    series: rows.length,
    count,
    firstTsUs: firstTsUs === Infinity ? null : firstTsUs,
    lastTsUs: lastTsUs === -Infinity ? null : lastTsUs,
  };
}
