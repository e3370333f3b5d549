/**
 * The verdict of a simulation, from the lake itself and from what every hub would answer.
 *
 * Conservation: every acknowledged reading is in `readings` as often as the ledger allows (once), or an exception tells of
 * it; nothing is there that no device sent. Aggregates: lake partials, tail and overlay of each hub are the windows that
 * a plain loop over the lake's rows makes. Liveness: what was sent after the faults is in `readings`, and hubs and
 * gateways hold nothing back.
 *
 * Each check failed for its reason under a mutant of the product, named beside it.
 */
import assert from 'node:assert/strict';
import { Lake } from '../../hub/lake/lake.ts';
import { readParquetRows } from '../../hub/lake/parquet/read.ts';
import type { DeltaTable } from '../../hub/lake/delta-table.ts';
import type { ObjectStore } from '../../hub/lake/store.ts';
import type { Clock } from '../../shared/clock.ts';
import type { Logger } from '../../shared/logging.ts';
import { windowStartUs, type WindowDefinition } from '../../shared/window/definition.ts';
import { groupKeyText } from '../../shared/window/partial-columns.ts';
import type { SimHub } from './hub-process.ts';
import type { LakeTruth } from './lake-truth.ts';
import { quarantinedValues, type Ledger, type LedgerEntry, type Place } from './ledger.ts';

export interface GatewayFacts {
  readonly name: string;
  readonly epoch: string;
  readonly wasRestored: boolean;
  readonly wasDamaged: boolean;
}

export interface Evidence {
  readonly ledger: Ledger;
  readonly objects: ObjectStore;
  readonly truth: LakeTruth;
  readonly gateways: readonly GatewayFacts[];
  readonly hubs: readonly SimHub[];
  readonly definitions: readonly WindowDefinition[];
  readonly fresh: readonly LedgerEntry[];
  readonly lakeRestores: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface Tally {
  readonly sent: number;
  readonly acked: number;
  readonly rows: number;
  /** More than once in the lake, as the ledger allows. */
  readonly repeated: number;
  readonly quarantined: number;
  /** Acknowledged and not in the lake, by what tells of them. */
  readonly inGaps: number;
  readonly inLostSeqs: number;
  readonly excused: number;
  /** In batches of a lane that a restored lake lost and its gateway had forgotten: nothing tells of them. */
  readonly forgotten: number;
}

export interface Row {
  readonly ts: number;
  readonly gateway: string;
  readonly device: string;
  readonly metric: string;
  readonly value: number;
  readonly text: string | null;
  readonly epoch: string;
  readonly lane: string;
  readonly seq: number;
}

interface ExceptionRow {
  readonly id: string;
  readonly gateway: string;
  readonly epoch: string;
  readonly lane: string;
  readonly seq: number;
  readonly kind: string;
  readonly reason: string;
  readonly readingCount: number | null;
  /** Values of the readings in a quarantine's payload. */
  readonly values: readonly number[];
}

export async function judge(evidence: Evidence): Promise<Tally> {
  const { objects, clock, logger } = evidence;
  const lake = await Lake.open(objects, '/', { clock, hubId: 'verdict', logger });
  const rows = await readingRows(objects, lake);
  const exceptions = (await tableRows(objects, lake.exceptions)).map(exceptionRow);
  const copies = checkRows(evidence, rows, exceptions);
  const tally = checkConservation(evidence, rows.length, exceptions, copies);
  for (const entry of evidence.fresh)
    assert.equal(
      copies.get(entry.value)?.rows ?? 0,
      1,
      `liveness: fresh reading ${entry.value} of ${entry.gateway}/${entry.device} is not in the lake`,
    );
  for (const hub of evidence.hubs) await checkAggregates(evidence, hub, rows);
  return tally;
}

export async function readingRows(objects: ObjectStore, lake: Lake): Promise<Row[]> {
  return (await tableRows(objects, lake.readings)).map(readingRow);
}

async function tableRows(objects: ObjectStore, table: DeltaTable): Promise<Record<string, unknown>[]> {
  const rows: Record<string, unknown>[] = [];
  for (const path of table.snapshot.files.keys()) {
    const bytes = await objects.get(`${table.spec.name}/${path}`);
    assert(bytes !== null, `${table.spec.name}/${path} is named by the log and not in the store`);
    rows.push(...(await readParquetRows(bytes)));
  }
  return rows;
}

function readingRow(row: Record<string, unknown>): Row {
  return {
    ts: Number(row['ts']),
    gateway: row['gateway'] as string,
    device: row['device'] as string,
    metric: row['metric'] as string,
    value: Number(row['value']),
    text: (row['text'] as string | null | undefined) ?? null,
    epoch: row['epoch'] as string,
    lane: row['lane'] as string,
    seq: Number(row['seq']),
  };
}

function exceptionRow(row: Record<string, unknown>): ExceptionRow {
  const [gateway, epoch, lane, kind, reason] = ['gateway', 'epoch', 'lane', 'kind', 'reason'].map((name) => row[name] as string);
  const seq = Number(row['seq']);
  const values = quarantinedValues({ kind, payload: (row['payload'] as Uint8Array | null | undefined) ?? null });
  const count = row['reading_count'] as number | bigint | null | undefined;
  return {
    id: `${gateway}/${epoch}/${lane}/${seq}/${Number(row['idx'])}`,
    gateway,
    epoch,
    lane,
    seq,
    kind,
    reason,
    readingCount: count == null ? null : Number(count),
    values,
  };
}

/** The reason of what a hub writes for batches that a lake has lost and their gateway has freed. */
const LOST_BATCHES = 'lake_behind_gateway';

interface Copies {
  rows: number;
  quarantined: number;
}

/** Nothing that was not sent, nothing altered, nothing too often, everything under the seq that it was offered with. */
function checkRows({ ledger }: Evidence, rows: readonly Row[], exceptions: readonly ExceptionRow[]): Map<number, Copies> {
  const copies = new Map<number, Copies>();
  const of = (value: number): Copies => {
    let known = copies.get(value);
    if (known === undefined) {
      known = { rows: 0, quarantined: 0 };
      copies.set(value, known);
    }
    return known;
  };
  for (const row of rows) {
    const entry = ledger.entries.get(row.value);
    assert(entry !== undefined, `the lake has ${row.gateway}/${row.device} = ${row.value}, which nobody sent`);
    assert.deepEqual(
      { gateway: row.gateway, device: row.device, metric: row.metric, text: row.text },
      { gateway: entry.gateway, device: entry.device, metric: entry.metric, text: entry.text },
      `reading ${row.value} is altered`,
    );
    if (!Number.isNaN(entry.eventTimeUs)) assert.equal(row.ts, entry.eventTimeUs, `the time of reading ${row.value} is altered`);
    assert(
      entry.places.some(({ epoch, lane, seq }) => epoch === row.epoch && lane === row.lane && seq === row.seq),
      `reading ${row.value} is in the lake as ${row.epoch}/${row.lane}/${row.seq}, under which it was never offered`,
    );
    of(row.value).rows++;
  }
  const ids = new Set<string>();
  for (const { id, values, gateway } of exceptions) {
    assert(!ids.has(id), `exception ${id} stands twice in the lake`);
    ids.add(id);
    for (const value of values) {
      assert.equal(ledger.entries.get(value)?.gateway, gateway, `quarantined reading ${value} was never sent to ${gateway}`);
      of(value).quarantined++;
    }
  }
  for (const [value, { rows: inRows, quarantined }] of copies) {
    const entry = ledger.entries.get(value) as LedgerEntry;
    // Mutants: no position check in a commit; redeliveries taken as new.
    assert(
      inRows + quarantined <= entry.copiesMax,
      `reading ${value} of ${entry.gateway}/${entry.device} is ${inRows} times in the lake and ${quarantined} times in quarantine, allowed ${entry.copiesMax}`,
    );
  }
  return copies;
}

/** Mutants: frees above committed; batches dropped at the bound without a gap; a forked lane that is taken for its own. */
function checkConservation(
  { ledger, gateways, lakeRestores }: Evidence,
  rowCount: number,
  exceptions: readonly ExceptionRow[],
  copies: ReadonlyMap<number, Copies>,
): Tally {
  const tally = { sent: 0, acked: 0, rows: rowCount, repeated: 0, quarantined: 0, inGaps: 0, inLostSeqs: 0, excused: 0, forgotten: 0 };
  for (const gateway of gateways) {
    const own = exceptions.filter((exception) => exception.gateway === gateway.name);
    const lostSeqs = own.flatMap(({ epoch, lane, reason, seq }) => {
      const match = /^lake_behind_gateway: batches (\d+) to (\d+) /.exec(reason);
      return match === null ? [] : [{ epoch, lane, first: Number(match[1]), last: seq }];
    });
    const isLost = ({ epoch, lane, seq }: Place): boolean =>
      lostSeqs.some((lost) => lost.epoch === epoch && lost.lane === lane && lost.first <= seq && seq <= lost.last);
    const isForgotten = ({ epoch }: Place): boolean => lakeRestores > 0 && epoch !== gateway.epoch;
    // A gap may itself have been in a part of the lake that was lost: then it was told of once, and what is told of it now counts.
    // The hub's own gap for lost batches has the place of the last of them, and with it maybe the id of a gap that was in it.
    const ids = new Set(own.filter(({ reason }) => !reason.startsWith(LOST_BATCHES)).map(({ id }) => id));
    const lostGaps = [...ledger.gaps].filter(
      ([id, gap]) => gap.gateway === gateway.name && !ids.has(id) && (isLost(gap.place) || isForgotten(gap.place)),
    );
    const counted = [
      ...own.filter(({ reason, values }) => !reason.startsWith(LOST_BATCHES) && values.length === 0),
      ...lostGaps.map(([, gap]) => gap),
    ];
    const countedReadings = counted.reduce((sum, { readingCount }) => sum + (readingCount ?? 0), 0);
    const isUnknown = counted.some(({ readingCount }) => readingCount === null);
    const missing: LedgerEntry[] = [];
    let absent = 0;
    for (const entry of ledger.of(gateway.name)) {
      tally.sent++;
      if (entry.isAcked) tally.acked++;
      const { rows, quarantined } = copies.get(entry.value) ?? { rows: 0, quarantined: 0 };
      if (rows > 1) tally.repeated++;
      tally.quarantined += quarantined;
      if (rows + quarantined > 0) continue;
      absent++;
      if (!entry.isAcked) continue;
      if (entry.places.some(isLost)) tally.inLostSeqs++;
      else if (entry.excuse !== null) tally.excused++;
      else if (entry.places.length > 0 && entry.places.every(isForgotten)) tally.forgotten++;
      else missing.push(entry);
    }
    tally.inGaps += missing.length;
    const first = missing[0];
    assert(
      missing.length <= countedReadings || isUnknown,
      `${missing.length} acknowledged readings of ${gateway.name} are not in the lake, gaps tell of ${countedReadings}; the first is ${JSON.stringify(first)}`,
    );
    if (!gateway.wasRestored && !gateway.wasDamaged)
      assert(countedReadings <= absent, `gaps of ${gateway.name} count ${countedReadings} readings, only ${absent} are absent`);
  }
  return tally;
}

interface Naive {
  n: number;
  sum: number;
  min: number;
  max: number;
}

export async function checkAggregates(
  { definitions, truth }: Pick<Evidence, 'definitions' | 'truth'>,
  hub: SimHub,
  rows: readonly Row[],
): Promise<void> {
  for (const definition of definitions) {
    if (!definition.persisted) continue;
    const answer = await hub.answer(definition.name);
    assert.equal(answer.readingsVersion, truth.version, `${hub.name} has not followed the log`);
    const naive = naiveWindows(definition, rows);
    const where = `${hub.name}, ${definition.name}`;
    assert.equal(answer.rows.size, naive.size, `${where}: ${answer.rows.size} windows, the rows make ${naive.size}`);
    for (const [key, expected] of naive) {
      const { n, sumValue, minValue, maxValue } = answer.rows.get(key) ?? { n: 0, sumValue: 0, minValue: NaN, maxValue: NaN };
      assert.deepEqual({ n, sum: sumValue, min: minValue, max: maxValue }, expected, `${where}: window ${JSON.stringify(key)}`);
    }
  }
}

function naiveWindows(definition: WindowDefinition, rows: readonly Row[]): Map<string, Naive> {
  const windows = new Map<string, Naive>();
  for (const { ts, gateway, device, metric, value } of rows) {
    const group =
      definition.by === 'series' ? { gateway, device, metric, tags: null } : { gateway: null, device: null, metric, tags: null };
    const key = `${groupKeyText(group)}@${windowStartUs(definition, ts)}`;
    const known = windows.get(key);
    if (known === undefined) windows.set(key, { n: 1, sum: value, min: value, max: value });
    else {
      known.n++;
      known.sum += value;
      known.min = Math.min(known.min, value);
      known.max = Math.max(known.max, value);
    }
  }
  return windows;
}
