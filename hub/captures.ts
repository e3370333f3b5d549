/**
 * What queries see of the engine: captures of lake, tail and overlay of one moment.
 *
 * Each is made in one synchronous step of the engine's thread, or, where the windows are so many that others would wait for
 * it, in steps between which nothing but batches comes in (the engine keeps commits, flushes and other hubs' versions away).
 * Batches that come meanwhile go into parts of the overlay that the capture does not have.
 *
 * It holds no state but the epochs of releases, looked up once per version.
 */
import assert from 'node:assert/strict';
import type { Clock } from '../shared/clock.ts';
import { parseLaneAppId } from '../shared/uplink.ts';
import { definitionHash, type WindowDefinition } from '../shared/window/definition.ts';
import { packPartialsInSteps } from '../shared/window/packed-partials.ts';
import type {
  AggregateCapture,
  AggregateFilter,
  SnapshotCapture,
  SnapshotRequest,
  TableCapture,
  TableName,
  TableRange,
  UnreadableFile,
} from './engine-api.ts';
import { extentOf, type FileExtent } from './lake/damage.ts';
import { positionOf } from './lake/delta-snapshot.ts';
import { captureEarlier } from './lake/earlier-version.ts';
import type { Lake } from './lake/lake.ts';
import type { PendingLanes } from './lake/pending.ts';
import { ServedFiles, TIME_COLUMNS } from './lake/served-files.ts';
import type { LakeTable, UnreadableFiles } from './lake/unreadable-files.ts';
import { isPattern, nameFilter } from './name-patterns.ts';
import { isReleaseEpoch } from './release-lane.ts';
import { inSlices } from './steps.ts';
import type { Overlay } from './windows/overlay.ts';
import type { RowFilter } from './windows/slot-rows.ts';
import type { Tail } from './windows/tail.ts';
import type { Watermarks } from './windows/watermarks.ts';

/** Slots of the windows that are looked at in one step for a capture: about 5 ms. */
const WIDE_SLOTS = 16_384;
/** Devices whose slots are looked up one by one: as many as hot queries that share a capture may ask for. */
const NAMED_DEVICES_MAX = 2_048;

export interface CapturedParts {
  readonly definitions: readonly WindowDefinition[];
  readonly gatewayIdleTimeoutMs: number;
  readonly clock: Clock;
  readonly lake: Lake;
  readonly pending: PendingLanes;
  readonly watermarks: Watermarks;
  readonly overlay: Overlay;
  readonly tail: Tail;
  /** The files of `readings` up to the last applied version. */
  readonly readings: ServedFiles;
  readonly exceptions: ServedFiles;
  readonly unreadable: UnreadableFiles;
}

export class Captures {
  readonly #parts: CapturedParts;
  #released: { readonly version: number; readonly epochs: readonly string[] } = { version: -1, epochs: [] };

  constructor(parts: CapturedParts) {
    this.#parts = parts;
  }

  aggregates(filter: AggregateFilter): AggregateCapture {
    const { definitionIndex, definition, rows } = this.#windowsAsked(filter);
    const tail = this.#parts.overlay.overlayRows(definitionIndex, rows);
    if (definition.persisted) tail.push(this.#parts.overlay.tailRows(definition, rows));
    // Each column is copied on its way, empty or not: it is what a hot query costs most (profile).
    return { ...this.#beside(filter, definition), tail: tail.filter(({ count }) => count > 0) };
  }

  /** Whether putting together what a capture has of this hub's memory takes so long that it is to be done in steps. */
  isWide({ window, devices }: Pick<AggregateFilter, 'window' | 'devices'>): boolean {
    if (this.#parts.overlay.slotCount <= WIDE_SLOTS) return false;
    const isBySeries = this.#parts.definitions.some(({ name, by }) => name === window && by === 'series');
    return !isBySeries || devices === null || devices.length > NAMED_DEVICES_MAX || devices.some(isPattern);
  }

  /** As aggregates, in steps: nothing but batches comes in until the last one. */
  async aggregatesInSteps(filter: AggregateFilter, breathe: () => Promise<void>): Promise<AggregateCapture> {
    return (await this.#inSteps([filter], breathe))[0];
  }

  /** All of the moment of the call: everything but the rows is captured before the first step, and that is taken at once. */
  async #inSteps(filters: readonly AggregateFilter[], breathe: () => Promise<void>): Promise<AggregateCapture[]> {
    const asked = filters.map((filter) => this.#windowsAsked(filter));
    const beside = filters.map((filter, index) => this.#beside(filter, asked[index].definition));
    const steps = this.#parts.overlay.rowsInSteps(asked.map(({ definitionIndex, rows }) => ({ definitionIndex, filter: rows })));
    const captures: AggregateCapture[] = [];
    for (const [index, rows] of (await inSlices(steps, breathe)).entries()) {
      const tail = rows.count === 0 ? [] : [await inSlices(packPartialsInSteps(rows), breathe)];
      captures.push({ ...beside[index], tail });
    }
    return captures;
  }

  #windowsAsked(filter: AggregateFilter): { definitionIndex: number; definition: WindowDefinition; rows: RowFilter } {
    const definitionIndex = this.#parts.definitions.findIndex((definition) => definition.name === filter.window);
    assert(definitionIndex >= 0, 'the caller has checked the name of the window');
    const definition = this.#parts.definitions[definitionIndex];
    const rows = {
      fromUs: filter.fromUs,
      toUs: filter.toUs,
      ...(filter.gateways !== null && definition.by === 'series' ? { gateway: nameFilter(filter.gateways) } : {}),
      ...(filter.devices !== null && definition.by === 'series' ? { device: nameFilter(filter.devices) } : {}),
      ...(filter.metrics !== null ? { metric: nameFilter(filter.metrics) } : {}),
    };
    return { definitionIndex, definition, rows };
  }

  #beside(filter: AggregateFilter, definition: WindowDefinition): Omit<AggregateCapture, 'tail'> {
    const range: TableRange = { ...filter, toUs: filter.toUs + definition.sizeMs * 1000 };
    // A window of a file that cannot be read may be whole all the same: what is not known is said.
    const unknown: AggregateCapture['pendingExceptions'][number][] = [];
    const missing = (table: LakeTable, slackUs: number) => (path: string) => unknown.push(this.#unreadableGap(table, path, slackUs));
    const source = definition.persisted ? 'aggregates' : 'readings';
    const files = (definition.persisted ? this.#parts.tail.aggregates : this.#parts.readings).select(
      definition.persisted ? { ...filter, definitions: [definitionHash(definition)] } : range,
      this.#parts.unreadable.paths(source),
      missing(source, definition.persisted ? definition.sizeMs * 1000 : 0),
    );
    const exceptionRange = { ...range, devices: null, metrics: null };
    const exceptionFiles = this.#parts.exceptions.select(
      exceptionRange,
      this.#parts.unreadable.paths('exceptions'),
      missing('exceptions', 0),
    );
    return {
      definition,
      definitionHash: definitionHash(definition),
      aggregatesVersion: this.#parts.tail.aggregates.version,
      readingsVersion: this.#parts.readings.version,
      files,
      overlayComplete: this.#parts.overlay.complete,
      watermarks: this.#parts.watermarks.all(),
      activeGateways: this.#parts.watermarks.active(this.#parts.clock.nowUs(), this.#parts.gatewayIdleTimeoutMs),
      exceptionFiles,
      pendingExceptions: [...this.#pendingExceptions(range), ...unknown],
      releasedEpochs: this.releasedEpochs(),
    };
  }

  table(table: TableName, range: TableRange): TableCapture {
    if (table === 'progress') {
      const progress = new ServedFiles(this.#parts.lake, this.#parts.lake.progress);
      return { version: progress.version, files: progress.select(range), unreadable: [] };
    }
    const served = { readings: this.#parts.readings, exceptions: this.#parts.exceptions, aggregates: this.#parts.tail.aggregates }[table];
    const unreadable: UnreadableFile[] = [];
    const files = served.select(range, this.#parts.unreadable.paths(table), (path) => {
      const { rows, fromUs, toUs } = this.#extentOf(table, path);
      unreadable.push({ path, rows, fromUs, toUs });
    });
    return { version: served.version, files, unreadable };
  }

  /** As it was at an earlier version; null: too far back, or not in the log any more. */
  tableAt(table: LakeTable, range: TableRange, version: number): Promise<TableCapture | null> {
    return captureEarlier(this.table(table, range), version, range, {
      readEntry: (entry) => this.#parts.lake[table].log.readEntry(entry),
      exists: async (path) => (await this.#parts.lake.store.stat(`${table}/${path}`)) !== null,
      localPath: (path) => this.#parts.lake.localPath(this.#parts.lake[table], path),
    });
  }

  #extentOf(table: LakeTable, path: string): FileExtent {
    const file = this.#parts.lake[table].snapshot.files.get(path);
    const unknown = { path, partitionValues: {}, size: 0, modificationTime: 0, dataChange: true, stats: null };
    return extentOf(file ?? unknown, TIME_COLUMNS[table]);
  }

  #unreadableGap(table: LakeTable, path: string, slackUs: number): AggregateCapture['pendingExceptions'][number] {
    const { fromUs, toUs, gateway, device, metric } = this.#extentOf(table, path);
    const reason = `lake_file_unreadable: ${table}/${path}`;
    return { gateway, kind: 'gap', device, metric, fromUs, toUs: toUs + slackUs, readingCount: null, reason };
  }

  /** Looked up once per version: captures come hundreds of times a second, lanes are thousands. */
  releasedEpochs(): readonly string[] {
    if (this.#released.version !== this.#parts.readings.version) {
      const lanes = [...this.#parts.lake.readings.snapshot.txns.keys()].map(parseLaneAppId);
      const epochs = lanes.flatMap((lane) => (lane !== null && isReleaseEpoch(lane.epoch) ? [lane.epoch] : []));
      this.#released = { version: this.#parts.readings.version, epochs };
    }
    return this.#released.epochs;
  }

  snapshot(request: SnapshotRequest): SnapshotCapture {
    return { ...this.#tables(request), aggregates: this.#filtersOf(request).map((filter) => this.aggregates(filter)) };
  }

  isWideSnapshot(request: SnapshotRequest): boolean {
    return this.#filtersOf(request).some((filter) => this.isWide(filter));
  }

  /** As snapshot, in steps, as aggregatesInSteps. */
  async snapshotInSteps(request: SnapshotRequest, breathe: () => Promise<void>): Promise<SnapshotCapture> {
    const tables = this.#tables(request);
    return { ...tables, aggregates: await this.#inSteps(this.#filtersOf(request), breathe) };
  }

  #tables({ readings, exceptions }: SnapshotRequest): Omit<SnapshotCapture, 'aggregates'> {
    return {
      readings: readings === null ? null : this.table('readings', readings),
      exceptions: exceptions === null ? null : this.table('exceptions', exceptions),
    };
  }

  #filtersOf({ aggregates }: SnapshotRequest): AggregateFilter[] {
    if (aggregates === null) return [];
    const persisted = this.#parts.definitions.filter((definition) => definition.persisted);
    return persisted.map(({ name }) => ({ ...aggregates, window: name, gateways: null }));
  }

  #pendingExceptions(range: TableRange): AggregateCapture['pendingExceptions'] {
    const known = this.#parts.lake.exceptions.snapshot;
    const pending: AggregateCapture['pendingExceptions'][number][] = [];
    for (const batch of this.#parts.pending.withExceptions) {
      if (batch.seq <= positionOf(known, batch.appId)) continue;
      for (const { kind, device, metric, fromUs, toUs, readingCount, reason } of batch.exceptions) {
        if (fromUs < range.toUs && toUs > range.fromUs)
          pending.push({ gateway: batch.lane.gateway, kind, device, metric, fromUs, toUs, readingCount, reason });
      }
    }
    return pending;
  }
}
