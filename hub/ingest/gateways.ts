/**
 * The gateways that this hub has heard of since it started: what GET /v1/gateways and the dashboard show of them.
 *
 * Bounded: at the limit the disconnected gateway that has been silent longest is forgotten. In memory only; what has to
 * outlive a hub (positions, watermarks) is in the lake.
 */
import type { Backlog, ClockState, Heartbeat, Hello, LaneClaim, LaneKey, LaneName, LaneStatus } from '../../shared/uplink.ts';

export interface GatewayLane {
  readonly epoch: string;
  readonly lane: LaneName;
  /** As its gateway last claimed it. */
  readonly base: number;
  readonly assigned: number;
  /** As this hub knows it; null: the lane has not connected here. */
  readonly received: number | null;
  readonly committed: number | null;
  readonly status: LaneStatus | null;
  readonly connected: boolean;
}

export interface GatewayInfo {
  readonly gateway: string;
  readonly version: string;
  readonly connections: number;
  /** Hub wall clock, µs. */
  readonly firstContactUs: number;
  readonly lastContactUs: number;
  readonly backlog: Backlog;
  readonly clock: ClockState;
  /** Gateway minus hub wall clock at the last hello or heartbeat, transit included; null while its clock is unknown. */
  readonly clockOffsetUs: number | null;
  /** Age of the oldest reading that is not in the lake, by the gateway's own clock; 0 if there is none. */
  readonly lagUs: number;
  /** The newest watermark that it claimed (not yet necessarily accepted). */
  readonly claimedWatermarkUs: number | null;
  readonly bytesReceived: number;
  readonly batchesReceived: number;
  readonly lanes: readonly GatewayLane[];
}

/** Picked field by field: a receiver offers them as getters, which a spread does not copy. */
export interface LanePositions {
  readonly received: number;
  readonly committed: number;
  readonly status: LaneStatus;
}

interface Entry {
  version: string;
  connections: number;
  firstContactUs: number;
  lastContactUs: number;
  backlog: Backlog;
  clock: ClockState;
  /** Hub wall clock when backlog and clock came. */
  reportedUs: number;
  claimedWatermarkUs: number | null;
  bytesReceived: number;
  batchesReceived: number;
  claims: Map<string, LaneClaim>;
  lanes: Map<string, { received: number; committed: number; status: LaneStatus; connected: boolean }>;
}

const NO_BACKLOG: Backlog = { readings: 0, bytes: 0, exceptions: 0, oldestUs: null };

function laneId(epoch: string, lane: LaneName): string {
  return `${epoch}/${lane}`;
}

export class GatewayRegistry {
  readonly #gatewaysMax: number;
  #entries = new Map<string, Entry>();

  constructor(gatewaysMax = 10_000) {
    this.#gatewaysMax = gatewaysMax;
  }

  hello(gateway: string, message: Hello, nowUs: number): void {
    const entry = this.#entry(gateway, nowUs);
    entry.version = message.gatewayVersion;
    entry.lastContactUs = nowUs;
    this.#report(entry, message.backlog, message.clock, nowUs);
    entry.claims = new Map(message.lanes.map((claim) => [laneId(claim.epoch, claim.lane), claim]));
    for (const [id, lane] of entry.lanes) if (!lane.connected && !entry.claims.has(id)) entry.lanes.delete(id);
  }

  heartbeat(gateway: string, message: Heartbeat, nowUs: number): void {
    const entry = this.#entry(gateway, nowUs);
    entry.lastContactUs = nowUs;
    this.#report(entry, message.backlog, message.clock, nowUs);
    if (message.watermark !== null) entry.claimedWatermarkUs = message.watermark.us;
  }

  batch(gateway: string, bytes: number, nowUs: number): void {
    const entry = this.#entry(gateway, nowUs);
    entry.lastContactUs = nowUs;
    entry.bytesReceived += bytes;
    entry.batchesReceived++;
  }

  laneConnected(key: LaneKey, { received, committed, status }: LanePositions, nowUs: number): void {
    const entry = this.#entry(key.gateway, nowUs);
    entry.connections++;
    entry.lanes.set(laneId(key.epoch, key.lane), { received, committed, status, connected: true });
  }

  lanePosition(key: LaneKey, { received, committed, status }: LanePositions): void {
    const lane = this.#entries.get(key.gateway)?.lanes.get(laneId(key.epoch, key.lane));
    if (lane !== undefined) Object.assign(lane, { received, committed, status });
  }

  /** @param replaced a newer connection of the same lane is there already, so the lane is still connected */
  laneDisconnected(key: LaneKey, replaced: boolean): void {
    const entry = this.#entries.get(key.gateway);
    if (entry === undefined) return;
    entry.connections--;
    const id = laneId(key.epoch, key.lane);
    const lane = entry.lanes.get(id);
    if (lane === undefined || replaced) return;
    lane.connected = false;
    if (!entry.claims.has(id)) entry.lanes.delete(id);
  }

  list(nowUs: number): GatewayInfo[] {
    return [...this.#entries].map(([gateway, entry]) => infoOf(gateway, entry, nowUs)).sort((a, b) => (a.gateway < b.gateway ? -1 : 1));
  }

  get(gateway: string, nowUs: number): GatewayInfo | null {
    const entry = this.#entries.get(gateway);
    return entry === undefined ? null : infoOf(gateway, entry, nowUs);
  }

  get size(): number {
    return this.#entries.size;
  }

  #report(entry: Entry, backlog: Backlog, clock: ClockState, nowUs: number): void {
    entry.backlog = backlog;
    entry.clock = clock;
    entry.reportedUs = nowUs;
  }

  #entry(gateway: string, nowUs: number): Entry {
    const known = this.#entries.get(gateway);
    if (known !== undefined) return known;
    if (this.#entries.size >= this.#gatewaysMax) this.#evict();
    const entry: Entry = {
      version: '',
      connections: 0,
      firstContactUs: nowUs,
      lastContactUs: nowUs,
      backlog: NO_BACKLOG,
      clock: { state: 'unknown', wallUs: 0 },
      reportedUs: nowUs,
      claimedWatermarkUs: null,
      bytesReceived: 0,
      batchesReceived: 0,
      claims: new Map(),
      lanes: new Map(),
    };
    this.#entries.set(gateway, entry);
    return entry;
  }

  #evict(): void {
    let oldest: [string, Entry] | null = null;
    for (const candidate of this.#entries) {
      if (candidate[1].connections > 0) continue;
      if (oldest === null || candidate[1].lastContactUs < oldest[1].lastContactUs) oldest = candidate;
    }
    // All connected: the server's bound of connections is then what bounds this map.
    if (oldest !== null) this.#entries.delete(oldest[0]);
  }
}

function infoOf(gateway: string, entry: Entry, nowUs: number): GatewayInfo {
  const ids = new Set([...entry.claims.keys(), ...entry.lanes.keys()]);
  const lanes = [...ids].map((id): GatewayLane => {
    const [epoch, lane] = id.split('/') as [string, LaneName];
    const claim = entry.claims.get(id);
    const known = entry.lanes.get(id);
    return {
      epoch,
      lane,
      base: claim?.base ?? 1,
      assigned: Math.max(claim?.assigned ?? 0, known?.received ?? 0),
      received: known?.received ?? null,
      committed: known?.committed ?? null,
      status: known?.status ?? null,
      connected: known?.connected ?? false,
    };
  });
  const { oldestUs } = entry.backlog;
  // Both stamps are the gateway's, so a wrong clock there does not matter; the time since then is the hub's.
  const lagUs = oldestUs === null ? 0 : Math.max(0, entry.clock.wallUs - oldestUs) + Math.max(0, nowUs - entry.reportedUs);
  return {
    gateway,
    version: entry.version,
    connections: entry.connections,
    firstContactUs: entry.firstContactUs,
    lastContactUs: entry.lastContactUs,
    backlog: entry.backlog,
    clock: entry.clock,
    clockOffsetUs: entry.clock.state === 'known' ? entry.clock.wallUs - entry.reportedUs : null,
    lagUs,
    claimedWatermarkUs: entry.claimedWatermarkUs,
    bytesReceived: entry.bytesReceived,
    batchesReceived: entry.batchesReceived,
    lanes,
  };
}
