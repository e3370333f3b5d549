/**
 * Both ends of a real uplink over loopback TCP, with a journal and a lake in memory and a proxy that misbehaves between
 * them: for tests that need the network to be the one thing that is real and broken.
 */
import { createServer as createHttpServer, type Server as HttpServer } from 'node:http';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { crc32 } from 'node:zlib';
import { randomBytes } from 'node:crypto';
import { pino } from 'pino';
import type { JournalLane, OfferedBatch, UplinkJournal } from '../../gateway/journal/journal-api.ts';
import type { UplinkSettings } from '../../gateway/uplink/settings.ts';
import { startUplink, type Uplink } from '../../gateway/uplink/uplink.ts';
import { GatewayRegistry } from '../../hub/ingest/gateways.ts';
import { createToken, TokenRegistry } from '../../hub/ingest/tokens.ts';
import { UplinkServer, type UplinkServerSettings } from '../../hub/ingest/uplink-server.ts';
import type { InspectBatch } from '../../hub/ingest/uplink-connection.ts';
import type { IngestEngine, LaneState, SubmittedBatch } from '../../hub/engine-api.ts';
import { MemoryStore } from '../../hub/lake/memory-store.ts';
import { inspectBatch } from '../../shared/batch/decode.ts';
import { readEnvelope, writeEnvelope } from '../../shared/batch/envelope.ts';
import { systemClock } from '../../shared/clock.ts';
import { laneAppId, type Backlog, type LaneClaim, type LaneKey, type LaneName, type WatermarkClaim } from '../../shared/uplink.ts';

export const logger = pino({ level: process.env['UPLINK_TEST_LOG'] ?? 'silent' });

export function newId(): string {
  return randomBytes(16).toString('hex');
}

/** A batch that a hub accepts, recognisable by `content`, about `size` bytes. */
export function sealedBatch(content: number, size = 200): Uint8Array {
  const body = Buffer.alloc(size);
  body.writeUInt32BE(content);
  const timeUs = systemClock.nowUs();
  return writeEnvelope(
    {
      wireVersion: 1,
      compression: 'none',
      rawBytes: size,
      readingCount: 10,
      seriesCount: 1,
      exceptionCount: 0,
      sealedUs: timeUs,
      arrivalFromUs: timeUs,
      arrivalToUs: timeUs,
    },
    body,
  );
}

export function contentOf(batch: Uint8Array): number {
  // A batch of a newer version differs in its version byte and checksum only.
  const { body } = readEnvelope(batch[3] === 1 ? batch : ofVersion(batch, 1));
  return Buffer.from(body.buffer, body.byteOffset, body.length).readUInt32BE();
}

/** The same batch under another wire version and a right checksum, as a newer gateway might write it. */
export function ofVersion(batch: Uint8Array, wireVersion: number): Uint8Array {
  const changed = Buffer.from(batch);
  changed[3] = wireVersion;
  changed.writeUInt32BE(crc32(changed.subarray(0, -4)), changed.length - 4);
  return changed;
}

interface MemoryLane {
  readonly epoch: string;
  readonly lane: LaneName;
  assigned: number;
  readonly held: Map<number, Uint8Array>;
}

export class MemoryJournal implements UplinkJournal {
  epoch = newId();
  lakeId: string | null = null;
  readonly laneList: MemoryLane[] = [];
  readonly unassigned: { live: Uint8Array[]; backfill: Uint8Array[] } = { live: [], backfill: [] };
  readonly epochReasons: string[] = [];
  freedTotal = 0;
  /** For each batch that is offered; a test may damage it. */
  onOffer: (body: Uint8Array, seq: number) => Uint8Array = (body) => body;
  /** Age of the oldest reading, as backlog() says it. */
  ageMs = 0;
  #callbacks: (() => void)[] = [];

  seal(body: Uint8Array, lane: LaneName = 'live'): void {
    this.unassigned[lane].push(body);
    this.laneOf(this.epoch, lane);
    for (const callback of this.#callbacks) callback();
  }

  laneOf(epoch: string, lane: LaneName): MemoryLane {
    let found = this.laneList.find((other) => other.epoch === epoch && other.lane === lane);
    if (found === undefined) {
      found = { epoch, lane, assigned: 0, held: new Map() };
      this.laneList.push(found);
    }
    return found;
  }

  get empty(): boolean {
    return this.unassigned.live.length + this.unassigned.backfill.length === 0 && this.laneList.every((lane) => lane.held.size === 0);
  }

  async pinLake(lakeId: string): Promise<void> {
    await Promise.resolve();
    this.lakeId = lakeId;
  }

  async lanes(): Promise<JournalLane[]> {
    await Promise.resolve();
    return this.laneList
      .filter((lane) => lane.held.size > 0 || lane.epoch === this.epoch)
      .map(({ epoch, lane, assigned, held }) => ({
        epoch,
        lane,
        base: held.size === 0 ? assigned + 1 : Math.min(...held.keys()),
        assigned,
        isDue: held.size > 0 || (lane === 'backfill' && this.unassigned.backfill.length > 0),
      }));
  }

  async offer(epoch: string, lane: LaneName, afterSeq: number, bytesMax: number): Promise<OfferedBatch[]> {
    await new Promise((resolve) => setImmediate(resolve));
    const state = this.laneOf(epoch, lane);
    const batches: OfferedBatch[] = [];
    let bytes = 0;
    for (let seq = Math.max(afterSeq + 1, state.held.size === 0 ? state.assigned + 1 : Math.min(...state.held.keys())); ; seq++) {
      let body = state.held.get(seq);
      if (body === undefined && seq === state.assigned + 1 && epoch === this.epoch) {
        body = this.unassigned[lane][0];
        if (body !== undefined && (batches.length === 0 || bytes + body.length <= bytesMax)) {
          this.unassigned[lane].shift();
          state.assigned = seq;
          state.held.set(seq, body);
        }
      }
      if (body === undefined || (batches.length > 0 && bytes + body.length > bytesMax)) break;
      bytes += body.length;
      batches.push({ epoch, lane, seq, readingCount: 10, exceptionCount: 0, arrivalFromUs: 0, body: this.onOffer(body, seq) });
    }
    return batches;
  }

  async free(epoch: string, lane: LaneName, seq: number): Promise<void> {
    await Promise.resolve();
    const state = this.laneOf(epoch, lane);
    for (const held of state.held.keys()) {
      if (held > seq) continue;
      state.held.delete(held);
      this.freedTotal++;
    }
  }

  async startNewEpoch(reason: string): Promise<void> {
    await Promise.resolve();
    this.epochReasons.push(reason);
    this.epoch = newId();
  }

  backlog(): Backlog {
    return { readings: 0, bytes: 0, exceptions: 0, oldestUs: this.empty ? null : systemClock.nowUs() - this.ageMs * 1000 };
  }

  watermark(): WatermarkClaim {
    return { us: systemClock.nowUs(), positions: this.laneList.map(({ epoch, lane, assigned }) => ({ epoch, lane, seq: assigned })) };
  }

  onSealed(callback: () => void): void {
    this.#callbacks.push(callback);
  }
}

/** What outlives a hub: contents by lane, in the order of commits. */
export class MemoryLake {
  id = 'lake-1';
  readonly lanes = new Map<string, number[]>();
  /** Seqs that were given up by a gap. */
  readonly gaps: string[] = [];

  of(appId: string): number[] {
    let contents = this.lanes.get(appId);
    if (contents === undefined) this.lanes.set(appId, (contents = []));
    return contents;
  }

  get contents(): number[] {
    return [...this.lanes.values()].flat();
  }
}

export class MemoryEngine implements IngestEngine {
  readonly lake: MemoryLake;
  readonly watermarks: WatermarkClaim[] = [];
  readonly violations: string[] = [];
  held = false;
  #pending = new Map<string, { lane: LaneKey; batches: SubmittedBatch[] }>();
  #pendingBytes = 0;
  #committed: ((lane: LaneKey, committed: number) => void)[] = [];
  #pendingCallbacks: ((bytes: number) => void)[] = [];
  #timer: NodeJS.Timeout;

  constructor(lake: MemoryLake, commitIntervalMs = 20) {
    this.lake = lake;
    this.#timer = setInterval(() => this.#commit(), commitIntervalMs);
  }

  get lakeId(): string {
    return this.lake.id;
  }

  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  async openLane(lane: LaneKey, claim: LaneClaim): Promise<LaneState> {
    await new Promise((resolve) => setTimeout(resolve, 2));
    const contents = this.lake.of(laneAppId(lane));
    if (contents.length > claim.assigned) return { committed: contents.length, received: contents.length, status: 'forked' };
    while (contents.length + 1 < claim.base) {
      contents.push(-1);
      this.lake.gaps.push(`${laneAppId(lane)} ${contents.length}`);
    }
    const pending = this.#pending.get(laneAppId(lane))?.batches ?? [];
    return { committed: contents.length, received: pending.at(-1)?.seq ?? contents.length, status: 'open' };
  }

  submit(lane: LaneKey, batch: SubmittedBatch): void {
    const appId = laneAppId(lane);
    const entry = this.#pending.get(appId) ?? { lane, batches: [] };
    this.#pending.set(appId, entry);
    const expected = (entry.batches.at(-1)?.seq ?? this.lake.of(appId).length) + 1;
    if (batch.seq !== expected) this.violations.push(`${appId}: got ${batch.seq}, expected ${expected}`);
    if (batch.body.buffer.byteLength !== batch.body.byteLength) this.violations.push('a body that shares its buffer');
    entry.batches.push(batch);
    this.#pendingBytes += batch.body.length;
    for (const callback of this.#pendingCallbacks) callback(this.#pendingBytes);
  }

  assertWatermark(_gateway: string, claim: WatermarkClaim): void {
    this.watermarks.push(claim);
  }

  onCommitted(callback: (lane: LaneKey, committed: number) => void): void {
    this.#committed.push(callback);
  }

  onPendingBytes(callback: (bytes: number) => void): void {
    this.#pendingCallbacks.push(callback);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #commit(): void {
    if (this.held) return;
    for (const [appId, { lane, batches }] of this.#pending) {
      const contents = this.lake.of(appId);
      for (const batch of batches) {
        this.#pendingBytes -= batch.body.length;
        if (batch.seq === contents.length + 1) contents.push(contentOf(batch.body));
      }
      for (const callback of this.#committed) callback(lane, contents.length);
    }
    this.#pending.clear();
    for (const callback of this.#pendingCallbacks) callback(this.#pendingBytes);
  }
}

/** Loopback TCP with faults: what is cut is closed at once, what is frozen stays open and says nothing. */
export class FaultProxy {
  #server: Server;
  #pairs: { client: Socket; upstream: Socket }[] = [];
  target = 0;
  connections = 0;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(target: number): Promise<FaultProxy> {
    const server = createServer();
    const proxy = new FaultProxy(server);
    proxy.target = target;
    server.on('connection', (client) => proxy.#onConnection(client));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  #onConnection(client: Socket): void {
    this.connections++;
    const upstream = connect(this.target, '127.0.0.1');
    this.#pairs.push({ client, upstream });
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      from.on('error', () => to.destroy());
      from.on('close', () => to.destroy());
      from.pipe(to);
    }
  }

  cut(): void {
    for (const { client, upstream } of this.#pairs.splice(0)) {
      client.resetAndDestroy();
      upstream.resetAndDestroy();
    }
  }

  /** Present connections go half-open: nothing passes any more, nobody is told. New ones work. */
  freeze(): void {
    for (const { client, upstream } of this.#pairs) {
      client.unpipe();
      upstream.unpipe();
      client.removeAllListeners('close');
      upstream.removeAllListeners('close');
      client.pause();
      upstream.pause();
    }
  }

  async stop(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

export interface Hub {
  readonly engine: MemoryEngine;
  readonly server: UplinkServer;
  readonly gateways: GatewayRegistry;
  readonly port: number;
  stop(): Promise<void>;
}

export class Bench {
  readonly lake = new MemoryLake();
  readonly store = new MemoryStore(systemClock);
  readonly journal = new MemoryJournal();
  readonly #stops: (() => Promise<void>)[] = [];

  async hub(settings: Partial<UplinkServerSettings> = {}, inspect: InspectBatch = inspectBatch): Promise<Hub> {
    const http: HttpServer = createHttpServer();
    const engine = new MemoryEngine(this.lake);
    const tokens = await TokenRegistry.open(this.store, systemClock, logger, { reloadIntervalMs: 50, unknownReloadMsMin: 10 });
    const gateways = new GatewayRegistry();
    const server = new UplinkServer({
      engine,
      tokens,
      gateways,
      clock: systemClock,
      logger,
      inspect,
      hubInstance: newId(),
      hubVersion: 'test',
      wireVersions: [1],
      compressions: ['br'],
      settings: { tickIntervalMs: 20, positionIntervalMs: 5, ...settings },
    });
    server.attach(http);
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    let stopped = false;
    const stop = async (): Promise<void> => {
      if (stopped) return;
      stopped = true;
      engine.stop();
      tokens.stop();
      await server.stop(200);
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
    };
    this.#stops.push(stop);
    return { engine, server, gateways, port: (http.address() as AddressInfo).port, stop };
  }

  async token(gateway = 'gw-1'): Promise<string> {
    return (await createToken(this.store, 'gateway', gateway, systemClock, randomBytes)).token;
  }

  async proxy(target: number): Promise<FaultProxy> {
    const proxy = await FaultProxy.start(target);
    this.#stops.unshift(() => proxy.stop());
    return proxy;
  }

  uplink(port: number, token: string, settings: Partial<UplinkSettings> = {}): Uplink {
    const uplink = startUplink({
      url: `http://127.0.0.1:${port}`,
      token,
      caFile: null,
      journal: this.journal,
      clock: systemClock,
      random: Math.random,
      logger,
      settings: { backoffMsMin: 10, backoffMsMax: 50, watchdogMs: 250, heartbeatIntervalMs: 100, drainIdleMs: 100, ...settings },
    });
    this.#stops.unshift(() => uplink.stop(200));
    return uplink;
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops) await stop();
  }
}

/** Polls until it holds. */
export async function until(condition: () => boolean, what: string, timeoutMs = 3_000): Promise<void> {
  const endMs = Date.now() + timeoutMs;
  while (!condition()) {
    if (Date.now() > endMs) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
}
