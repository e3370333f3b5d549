/** What the uplink says of itself: the status page, GET /v1/status, metrics. */
import type { LaneName } from '../../shared/uplink.ts';
import type { LaneSenderState } from './lane-sender.ts';

export interface UplinkLaneState {
  readonly epoch: string;
  readonly lane: LaneName;
  readonly state: 'connecting' | 'open' | 'upgrade_hub' | 'forked' | 'waiting';
  readonly assigned: number;
  readonly received: number | null;
  readonly committed: number | null;
  readonly inFlightBytes: number;
  readonly retryInMs: number | null;
}

export interface UplinkState {
  readonly status: 'connecting' | 'connected' | 'waiting' | 'wrong_lake' | 'stopped';
  readonly connected: boolean;
  readonly hubInstance: string | null;
  readonly hubVersion: string | null;
  /** The name that the token has at the hub. */
  readonly gateway: string | null;
  readonly lakeId: string | null;
  readonly lanes: readonly UplinkLaneState[];
  readonly lastError: { readonly code: string; readonly message: string; readonly atUs: number } | null;
  readonly reconnectsTotal: number;
  readonly bytesSentTotal: number;
  readonly batchesSentTotal: number;
  /** Wall clock, µs, when a committed position last moved. */
  readonly lastCommittedUs: number | null;
  /** Until the live lane tries again; null while it is connected or connecting. */
  readonly retryInMs: number | null;
  /** What the link bears of old data beside live data; null: it is not full. */
  readonly backfillBytesPerSecondMax: number | null;
}

/** What is known of a lane, connected or not. */
export interface KnownLane {
  readonly epoch: string;
  readonly lane: LaneName;
  readonly link: { readonly state: LaneSenderState; readonly open: boolean } | null;
  readonly parked: 'upgrade_hub' | 'forked' | null;
  readonly retryUs: number;
  readonly assigned: number;
  readonly received: number | null;
  readonly committed: number | null;
}

export function laneState(lane: KnownLane, nowUs: number): UplinkLaneState {
  const now = lane.link?.state;
  const open = lane.link?.open === true;
  const connectedState = now?.phase === 'waiting' ? 'upgrade_hub' : open ? 'open' : 'connecting';
  return {
    epoch: lane.epoch,
    lane: lane.lane,
    state: lane.link === null ? (lane.parked ?? 'waiting') : connectedState,
    assigned: Math.max(now?.assigned ?? 0, lane.assigned),
    received: open ? (now?.received ?? null) : lane.received,
    committed: open ? (now?.committed ?? null) : lane.committed,
    inFlightBytes: now?.inFlightBytes ?? 0,
    retryInMs: lane.link === null ? Math.max(0, Math.ceil((lane.retryUs - nowUs) / 1000)) : null,
  };
}
