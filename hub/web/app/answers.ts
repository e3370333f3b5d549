/** The answers of the hub's API, as far as this page reads them; times are RFC 3339. openapi.json has them whole. */

export type WindowStatus = 'final' | 'revised' | 'provisional';

export interface AggregateRow {
  readonly window_start: string;
  readonly window_end: string;
  readonly gateway?: string | null;
  readonly device?: string | null;
  readonly metric?: string | null;
  readonly tags?: Readonly<Record<string, string>> | null;
  readonly count: number;
  readonly mean: number | null;
  readonly min: number | null;
  readonly max: number | null;
  readonly status: WindowStatus;
  readonly revision: number;
  readonly late: number;
  readonly lost: number;
  /** `lost` is a guess: some exception overlaps the window whose series, count or share of it is not known. */
  readonly lost_is_estimate: boolean;
  readonly complete: boolean;
}

export interface AggregatesAnswer {
  readonly window: string;
  readonly from: string;
  readonly to: string;
  readonly rows: readonly AggregateRow[];
  /** Gateways that hold windows of the answer open. */
  readonly waiting_for: readonly string[];
  readonly next_cursor: string | null;
}

export interface WindowDefinition {
  readonly name: string;
  readonly size_ms: number;
  /** Less than the size: hopping windows, which a chart has no use for. */
  readonly slide_ms: number;
  readonly by: 'series' | 'metric';
}

export interface SeriesRow {
  readonly gateway: string;
  readonly device: string;
  readonly metric: string;
  readonly tags: Readonly<Record<string, string>> | null;
  readonly first_ts: string | null;
  readonly last_ts: string | null;
}

export interface SeriesAnswer {
  readonly rows: readonly SeriesRow[];
  /** There are more series than the hub lists. */
  readonly truncated: boolean;
  readonly next_cursor: string | null;
}

export interface WindowsAnswer {
  readonly rows: readonly WindowDefinition[];
}

export interface ExceptionRow {
  readonly id: string;
  readonly kind: string;
  readonly gateway: string;
  readonly device: string | null;
  readonly metric: string | null;
  readonly from_ts: string;
  readonly to_ts: string;
  readonly reading_count: number | null;
  readonly reason: string;
  /** Base64. */
  readonly payload: string | null;
  readonly ingested_at: string;
}

export interface ExceptionsAnswer {
  readonly rows: readonly ExceptionRow[];
  readonly next_cursor: string | null;
}

export interface GatewayLane {
  readonly epoch: string;
  readonly lane: string;
  readonly received: number | null;
  readonly committed: number | null;
  readonly status: 'open' | 'forked' | 'upgrade_hub' | null;
  readonly connected: boolean;
}

/** What is null: this hub has not heard the gateway since its start. */
export interface GatewayRow {
  readonly gateway: string;
  readonly version: string | null;
  readonly connected: boolean;
  readonly last_contact: string | null;
  readonly lag_seconds: number | null;
  readonly backlog: { readonly readings: number; readonly bytes: number; readonly exceptions: number } | null;
  readonly clock: { readonly state: 'known' | 'unknown'; readonly offset_seconds: number | null } | null;
  readonly lanes: readonly GatewayLane[];
}

export interface HubState {
  /** By this hub since its start. */
  readonly readings_committed: number;
  readonly last_commit: string | null;
  readonly pending_readings: number;
  readonly pending_bytes: number;
  readonly uplinks_paused: boolean;
  readonly lake_error: string | null;
}

export interface GatewaysAnswer {
  /** The hub's clock. */
  readonly time: string;
  readonly hub: HubState;
  readonly rows: readonly GatewayRow[];
}
