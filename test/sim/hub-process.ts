/**
 * One hub: the real engine over a simulated store and the real uplink server over simulated sockets. Between the two,
 * where the product has a thread border, messages take a while and stay in order.
 *
 * A crash drops every object. A hub that cannot start (the store is away) or that gives up is started anew by its
 * supervisor after a while, as in the product.
 */
import assert from 'node:assert/strict';
import { Engine } from '../../hub/engine.ts';
import type { EngineSettings, IngestEngine, LaneState, SubmittedBatch } from '../../hub/engine-api.ts';
import { lakePartials, mergedCapture, type LakePartial } from '../../hub/engine.fixture.ts';
import { GatewayRegistry } from '../../hub/ingest/gateways.ts';
import { UplinkServer, type UplinkServerSettings } from '../../hub/ingest/uplink-server.ts';
import { Lake } from '../../hub/lake/lake.ts';
import { Maintenance } from '../../hub/maintenance.ts';
import { inspectBatch } from '../../shared/batch/decode.ts';
import { errorMessage, isSluiceError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logging.ts';
import { parseLaneAppId, type LaneClaim, type LaneKey, type WatermarkClaim } from '../../shared/uplink.ts';
import type { WindowPartial } from '../../shared/window/partial.ts';
import type { WebSocket } from 'ws';
import type { LakeTruth } from './lake-truth.ts';
import type { Target } from './network.ts';
import type { SimRandom } from './random.ts';
import { SimProcess, type Scheduler } from './scheduler.ts';
import { SimStore, type StoreBacking } from './store.ts';

const LAKE_ROOT = '/lake';
/** From one of the hub's threads to the other. */
const HOP_US = 300;
const RESTART_MS = 2_000;

export interface HubParts {
  readonly scheduler: Scheduler;
  readonly random: SimRandom;
  readonly backing: StoreBacking;
  readonly truth: LakeTruth;
  readonly logger: Logger;
  readonly engine: Omit<EngineSettings, 'hubInstance' | 'lakeDir'>;
  readonly server: Partial<UplinkServerSettings>;
  readonly trace: (line: string) => void;
  readonly fail: (error: unknown) => void;
}

class EngineLink implements IngestEngine {
  readonly #engine: Engine;
  readonly #process: SimProcess;
  #pendingBytes = 0;
  #submittedBytes = 0;
  readonly #committedCallbacks: ((lane: LaneKey, committed: number) => void)[] = [];
  readonly #pendingCallbacks: ((bytes: number) => void)[] = [];

  constructor(engine: Engine, process: SimProcess) {
    this.#engine = engine;
    this.#process = process;
  }

  get lakeId(): string {
    return this.#engine.lakeId;
  }

  get pendingBytes(): number {
    return this.#pendingBytes + this.#submittedBytes;
  }

  openLane(lane: LaneKey, claim: LaneClaim): Promise<LaneState> {
    return new Promise((resolve, reject) => {
      this.#process.deliver(HOP_US, () => {
        this.#engine.openLane(lane, claim).then(
          (state) => this.#process.deliver(HOP_US, () => resolve(state)),
          (error: unknown) => this.#process.deliver(HOP_US, () => reject(error instanceof Error ? error : new Error(String(error)))),
        );
      });
    });
  }

  submit(lane: LaneKey, batch: SubmittedBatch): void {
    this.#submittedBytes += batch.body.byteLength;
    this.#process.deliver(HOP_US, () => this.#engine.submit(lane, batch));
  }

  assertWatermark(gateway: string, claim: WatermarkClaim): void {
    this.#process.deliver(HOP_US, () => this.#engine.assertWatermark(gateway, claim));
  }

  onCommitted(callback: (lane: LaneKey, committed: number) => void): void {
    this.#committedCallbacks.push(callback);
  }

  onPendingBytes(callback: (bytes: number) => void): void {
    this.#pendingCallbacks.push(callback);
  }

  committed(positions: readonly { readonly appId: string; readonly committed: number }[]): void {
    this.#process.deliver(HOP_US, () => {
      for (const { appId, committed } of positions) {
        const lane = parseLaneAppId(appId);
        if (lane !== null) for (const callback of this.#committedCallbacks) callback(lane, committed);
      }
    });
  }

  pending(bytes: number): void {
    this.#process.deliver(HOP_US, () => {
      this.#pendingBytes = bytes;
      this.#submittedBytes = 0;
      for (const callback of this.#pendingCallbacks) callback(bytes);
    });
  }
}

export class SimHub {
  readonly name: string;
  readonly #parts: HubParts;
  #process: SimProcess | null = null;
  #engine: Engine | null = null;
  #server: UplinkServer | null = null;
  #lives = 0;
  #maintenances = 0;
  /** How wrong the machine's clock is. */
  #clockErrorUs = 0;

  constructor(name: string, parts: HubParts) {
    this.name = name;
    this.#parts = parts;
  }

  get process(): SimProcess | null {
    return this.#process;
  }

  get engine(): Engine | null {
    return this.#engine;
  }

  /** Where connections go; null while it is not listening. */
  get target(): Target | null {
    const server = this.#server;
    const process = this.#process;
    if (server === null || process === null) return null;
    return {
      process,
      accept: (socket: WebSocket, gateway: string) => server.accept(socket, { id: gateway, gateway }),
    };
  }

  start(): void {
    const { scheduler, trace } = this.#parts;
    this.crash();
    const process = new SimProcess(scheduler, this.name, () => this.#clockErrorUs);
    this.#process = process;
    this.#open(process).catch((error: unknown) => {
      if (!isSluiceError(error)) this.#parts.fail(error);
      trace(`${this.name}: does not start: ${errorMessage(error)}`);
      process.after(RESTART_MS, () => this.start());
    });
  }

  /** Moves the machine's clock; 0 puts it right. */
  stepClock(us: number): void {
    this.#clockErrorUs = us === 0 ? 0 : this.#clockErrorUs + us;
  }

  crash(): void {
    this.#process?.kill();
    this.#process = null;
    this.#engine = null;
    this.#server = null;
  }

  async #open(process: SimProcess): Promise<void> {
    const { random, backing, logger, engine: settings, server, trace } = this.#parts;
    const life = random.stream(`${this.name}/${this.#lives++}`);
    const hubInstance = life.hex(16);
    const store = new SimStore(process, backing, life.stream('store'));
    const lake = await Lake.open(store, LAKE_ROOT, { clock: process, hubId: hubInstance, logger, uuid: () => life.uuid() });
    const held: { link: EngineLink | null } = { link: null };
    const engine = await Engine.open({ ...settings, lakeDir: LAKE_ROOT, hubInstance }, lake, process, logger, {
      committed: (positions) => held.link?.committed(positions),
      pending: (bytes) => held.link?.pending(bytes),
      fatal: (error) => {
        trace(`${this.name}: gives up: ${error.message}`);
        if (!isSluiceError(error)) this.#parts.fail(error);
        if (process.alive) this.start();
      },
    });
    if (!process.alive) return; // died in the very moment in which it came up
    const link = new EngineLink(engine, process);
    held.link = link;
    this.#engine = engine;
    this.#server = new UplinkServer({
      engine: link,
      tokens: { verify: () => Promise.resolve(null), isCurrent: () => true },
      gateways: new GatewayRegistry(),
      clock: process,
      logger,
      inspect: inspectBatch,
      hubInstance,
      hubVersion: 'sim',
      wireVersions: [1],
      compressions: [],
      settings: server,
    });
    trace(`${this.name}: up at version ${engine.status().readingsVersion}`);
  }

  /** A run of the maintenance, as the product's cron starts it: with a lake of its own, beside the engine. */
  maintain(): void {
    const process = this.#process;
    if (process === null) return;
    this.#maintain(process).catch((error: unknown) => {
      if (!isSluiceError(error)) this.#parts.fail(error);
      this.#parts.trace(`${this.name}: maintenance: ${errorMessage(error)}`);
    });
  }

  async #maintain(process: SimProcess): Promise<void> {
    const { random, backing, logger } = this.#parts;
    const life = random.stream(`${this.name}/maintenance/${this.#maintenances++}`);
    const store = new SimStore(process, backing, life.stream('store'));
    const lake = await Lake.open(store, LAKE_ROOT, { clock: process, hubId: `${this.name}-maintenance`, logger, uuid: () => life.uuid() });
    const maintenance = new Maintenance(lake, { fanIn: 3 });
    await maintenance.run();
    const { filesMergedTotal: merged, conflictsTotal: conflicts } = await maintenance.status();
    if (merged > 0) this.#parts.trace(`${this.name}: maintenance merged ${merged} files, gave way ${conflicts} times`);
  }

  /**
   * The answer to a query over everything: lake, tail and overlay of one moment are every row of the version that it
   * names and every pending reading, once.
   *
   * Caught (mutants): an overlay that keeps what a foreign version covers; a tail that is not emptied by its flush.
   */
  async checkCapture(): Promise<void> {
    const engine = this.#engine;
    if (engine === null) return;
    const { pendingReadings } = engine.status();
    const { readingsVersion, rows, complete } = await this.answer('1m');
    if (!complete) return;
    const counted = [...rows.values()].reduce((sum, { n }) => sum + n, 0);
    const expected = this.#parts.truth.rowsAt(readingsVersion) + pendingReadings;
    assert.equal(
      counted,
      expected,
      `${this.name} counts ${counted} readings at version ${readingsVersion}; the lake has ${expected - pendingReadings}, ${pendingReadings} wait`,
    );
  }

  /** What the hub would answer for one window definition, captured before the first await. */
  async answer(window: string): Promise<{ readingsVersion: number; rows: Map<string, WindowPartial>; complete: boolean }> {
    const engine = this.#engine;
    assert(engine !== null);
    const all = { fromUs: 0, toUs: Number.MAX_SAFE_INTEGER, gateways: null, devices: null, metrics: null };
    const capture = engine.captureAggregates({ window, ...all });
    return {
      readingsVersion: capture.readingsVersion,
      rows: await mergedCapture(capture, (path) => this.#partialsOf(path)),
      complete: capture.overlayComplete,
    };
  }

  /** Files are immutable and read again by every check. */
  async #partialsOf(path: string): Promise<readonly LakePartial[]> {
    const { objects, partials } = this.#parts.backing;
    const known = partials.get(path);
    if (known !== undefined) return known;
    const bytes = await objects.get(path.slice(LAKE_ROOT.length + 1));
    assert(bytes !== null, `${path} is named by the log and not in the store`);
    const rows = await lakePartials(bytes);
    partials.set(path, rows);
    return rows;
  }
}
