/**
 * Committed readings back from the lake, for windows: versions that another hub wrote, and the tail after a restart.
 *
 * Files of other writers have their rows in any order; sortIntoRuns puts them into runs, which costs little where they
 * are sorted already.
 */
import { sortIntoRuns } from '../../shared/batch/runs.ts';
import { SluiceError, isSluiceError } from '../../shared/errors.ts';
import { seriesKey, type Series } from '../../shared/reading.ts';
import { giveUp, isDamage, isGivenUp, isSetAside, setAside } from '../lake/damage.ts';
import type { ActionSet } from '../lake/delta-actions.ts';
import type { Lake } from '../lake/lake.ts';
import type { ParquetColumn } from '../lake/parquet/encode.ts';
import { readParquetColumns } from '../lake/parquet/read.ts';
import type { ObjectStore } from '../lake/store.ts';
import type { GatewayRuns } from './overlay.ts';

interface TextColumn {
  readonly dictionary: readonly string[];
  readonly indices: Uint32Array;
}

interface GatewayRows {
  readonly table: Series[];
  readonly places: Map<string, number>;
  readonly rows: number[];
  readonly series: number[];
}

function texts(column: ParquetColumn | undefined, rowCount: number): TextColumn {
  if (column?.type === 'string') return column;
  return { dictionary: [], indices: new Uint32Array(rowCount) };
}

/**
 * All readings of one file of `readings`, by gateway.
 *
 * @throws SluiceError ERR_LAKE_FILE_MISSING, ERR_PARQUET_INVALID, ERR_PARQUET_UNSUPPORTED
 */
export async function readGatewayRuns(store: ObjectStore, key: string): Promise<GatewayRuns[]> {
  const bytes = await store.get(key);
  if (bytes === null) throw new SluiceError('ERR_LAKE_FILE_MISSING', `${key} is in the log of the lake and not in its store`);
  const { rowCount, columns } = await readParquetColumns(bytes, {
    columns: ['ts', 'gateway', 'device', 'metric', 'tags', 'value', 'text'],
  });
  const ts = columns.get('ts');
  const value = columns.get('value');
  if (ts?.type !== 'timestamp') throw new SluiceError('ERR_PARQUET_UNSUPPORTED', `${key}: column ts is missing`);
  const gateway = texts(columns.get('gateway'), rowCount);
  const device = texts(columns.get('device'), rowCount);
  const metric = texts(columns.get('metric'), rowCount);
  const tags = texts(columns.get('tags'), rowCount);
  const text = texts(columns.get('text'), rowCount);

  const gateways = new Map<string, GatewayRows>();
  let previousRow = -1;
  let current: GatewayRows | null = null;
  let place = 0;
  for (let row = 0; row < rowCount; row++) {
    const isSame =
      previousRow >= 0 &&
      gateway.indices[row] === gateway.indices[previousRow] &&
      device.indices[row] === device.indices[previousRow] &&
      metric.indices[row] === metric.indices[previousRow] &&
      tags.indices[row] === tags.indices[previousRow];
    previousRow = row;
    if (!isSame || current === null) {
      const name = gateway.dictionary[gateway.indices[row]] ?? '';
      current = gateways.get(name) ?? { table: [], places: new Map(), rows: [], series: [] };
      gateways.set(name, current);
      const series: Series = {
        device: device.dictionary[device.indices[row]] ?? '',
        metric: metric.dictionary[metric.indices[row]] ?? '',
        tags: tags.dictionary[tags.indices[row]] ?? '',
      };
      const seriesName = seriesKey(series);
      place = current.places.get(seriesName) ?? current.table.push(series) - 1;
      current.places.set(seriesName, place);
    }
    current.rows.push(row);
    current.series.push(place);
  }

  return [...gateways].map(([name, { table, rows, series }]) => {
    const values = Float64Array.from(rows, (row) => {
      if (value?.type !== 'double' || (value.valid !== undefined && value.valid !== null && value.valid[row] === 0)) return NaN;
      return value.values[row];
    });
    const textIndex = Uint32Array.from(rows, (row) => {
      const index = text.indices[row];
      return index < text.dictionary.length ? index + 1 : 0;
    });
    const runs = sortIntoRuns(
      {
        count: rows.length,
        series: Uint32Array.from(series),
        eventTimeUs: Float64Array.from(rows, (row) => ts.values[row]),
        value: values,
        text: textIndex.some((index) => index !== 0) ? textIndex : null,
        texts: text.dictionary,
      },
      table,
    );
    return { gateway: name, runs };
  });
}

/**
 * All readings of a file of `readings` that windows have to take in. One that cannot be read is given up, with a gap in
 * `exceptions`, and brings nothing: to anybody, ever. One that others read and this hub does not is set aside: it stays.
 *
 * @throws SluiceError ERR_LAKE_LOG_GAP where its rows are in other files by now; ERR_STORE_*
 */
export async function readFileRuns(lake: Lake, path: string, breathe: () => Promise<void>): Promise<GatewayRuns[]> {
  if (isGivenUp(lake, path)) {
    // A crash came between the gap and the removal.
    if (lake.readings.snapshot.files.has(path)) await giveUp(lake, path, 'it was given up before', breathe);
    return [];
  }
  if (isSetAside(lake, path)) return [];
  try {
    return await readGatewayRuns(lake.store, `${lake.readings.spec.name}/${path}`);
  } catch (error) {
    if (!isDamage(error)) throw error;
    if (isSluiceError(error, 'ERR_PARQUET_UNSUPPORTED')) await setAside(lake, path, error, breathe);
    else await giveUp(lake, path, error, breathe);
    return [];
  }
}

/**
 * What a version of `readings` adds to the windows. Compaction and deletion rewrite rows that were consumed when they were
 * added (design: 4, Windows): a version that removes data brings nothing.
 */
export async function readVersionRuns(lake: Lake, actions: ActionSet, breathe: () => Promise<void>): Promise<GatewayRuns[]> {
  if (actions.removes.some((remove) => remove.dataChange)) return [];
  const runs: GatewayRuns[] = [];
  for (const add of actions.adds) {
    if (!add.dataChange) continue;
    runs.push(...(await readFileRuns(lake, add.path, breathe)));
    await breathe();
  }
  return runs;
}
