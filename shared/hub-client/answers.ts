/** Types of the hub's HTTP API. Made from its OpenAPI document by `npm run docs`; a test compares. */

/** RFC 3339, `now-1h`, a `Date`, or the Unix epoch (told apart by size). */
export type TimeParameter = string | number | Date;

/** One name or several; `*` in a name matches any characters. */
export type ListParameter = string | readonly string[];

export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  /** docs/errors.md lists them */
  readonly code: string;
  readonly retryable: boolean;
  readonly errors?: readonly {
    readonly parameter: string;
    readonly detail: string;
  }[];
}

export interface Aggregates {
  readonly window: string;
  readonly from: string;
  readonly to: string;
  /** Length of a row where windows are merged; null: a window a row */
  readonly step_seconds: number | null;
  /** Version of the lake table `aggregates` behind the answer */
  readonly aggregates_version: number;
  /** Version of the lake table `readings` behind the answer; what is received and not yet committed is in it too */
  readonly readings_version: number;
  /** false: memory was short, some received readings show only once they are committed */
  readonly overlay_complete: boolean;
  readonly rows: readonly WindowRow[];
  /** Gateways that keep a window of this page open */
  readonly waiting_for: readonly string[];
  /** cursor= of the next page; null: this was the last one */
  readonly next_cursor: string | null;
}

/** Keys that the window is not grouped by are null. One member per asked function. */
export interface WindowRow {
  readonly window_start: string;
  readonly window_end: string;
  readonly gateway: string | null;
  readonly device: string | null;
  readonly metric: string | null;
  readonly tags: Readonly<Record<string, string>> | null;
  readonly count: number;
  readonly sum?: number | null;
  readonly mean?: number | null;
  readonly min?: number | null;
  readonly max?: number | null;
  readonly first?: number | null;
  readonly last?: number | null;
  readonly stddev?: number | null;
  readonly p50?: number | null;
  readonly p95?: number | null;
  readonly p99?: number | null;
  /** closed and nothing late; closed and something late; not closed */
  readonly status: 'final' | 'revised' | 'provisional';
  /** How often something late was merged in */
  readonly revision: number;
  /** Readings that arrived after the window was closed; they are in the values */
  readonly late: number;
  /** Readings of the window that exceptions say are missing; null: some are, and nobody knows how many */
  readonly lost: number | null;
  readonly lost_is_estimate: boolean;
  /** Closed, and no exception overlaps it */
  readonly complete: boolean;
  readonly [name: string]: number | null | string | Readonly<Record<string, string>> | boolean | undefined;
}

export interface Readings {
  readonly from: string;
  readonly to: string;
  /** Version of the lake table that the answer is from */
  readonly readings_version: number;
  /** Files of the range that are damaged or gone: their rows are missing from the answer; 0 in a healthy lake */
  readonly unreadable_files: number;
  readonly rows: readonly Reading[];
  /** cursor= of the next page; null: this was the last one */
  readonly next_cursor: string | null;
}

export interface Reading {
  readonly ts: string;
  readonly gateway: string;
  readonly device: string;
  readonly metric: string;
  readonly tags: Readonly<Record<string, string>> | null;
  readonly value: number | null;
  /** Of a text reading, or the exact digits of an integer above 2^53 */
  readonly text: string | null;
  readonly epoch: string;
  readonly lane: string;
  readonly seq: number;
  readonly ingested_at: string;
}

export interface Exceptions {
  readonly from: string;
  readonly to: string;
  readonly exceptions_version: number;
  /** Files of the range that are damaged or gone: their rows are missing from the answer; 0 in a healthy lake */
  readonly unreadable_files: number;
  readonly rows: readonly Exception[];
  /** cursor= of the next page; null: this was the last one */
  readonly next_cursor: string | null;
}

export interface Exception {
  /** gateway/epoch/lane/seq/index */
  readonly id: string;
  readonly kind: string;
  /** Empty: several, or unknown */
  readonly gateway: string;
  /** null: several, or unknown */
  readonly device: string | null;
  /** null: several, or unknown */
  readonly metric: string | null;
  readonly from_ts: string;
  readonly to_ts: string;
  /** null: unknown */
  readonly reading_count: number | null;
  readonly reason: string;
  /** What was received, base64; a dead letter has its first 4096 bytes */
  readonly payload: string | null;
  readonly ingested_at: string;
  /** Its readings are in `readings` by now (POST /v1/exceptions/release) */
  readonly released: boolean;
}

export interface Series {
  readonly gateway: string;
  readonly device: string;
  readonly metric: string;
  readonly tags: Readonly<Record<string, string>> | null;
  /** Readings: numbers in the lake and in memory, texts in the lake */
  readonly count: number;
  readonly first_ts: string | null;
  readonly last_ts: string | null;
  readonly last_value: number | null;
  /** Where the newest reading is a text: its first 256 characters */
  readonly last_text: string | null;
}

export interface Device {
  readonly gateway: string;
  readonly device: string;
  readonly metrics: readonly string[];
  readonly series: number;
  readonly count: number;
  readonly first_ts: string | null;
  readonly last_ts: string | null;
}

export interface Gateways {
  readonly time: string;
  readonly hub: Hub;
  readonly rows: readonly Gateway[];
}

export interface Hub {
  readonly lake_id: string;
  readonly readings_version: number;
  readonly aggregates_version: number;
  /** By this hub since its start */
  readonly readings_committed: number;
  readonly last_commit: string | null;
  readonly commit_interval_seconds: number;
  readonly pending_readings: number;
  readonly pending_bytes: number;
  /** The lake does not keep up: gateways are held back and keep their data */
  readonly uplinks_paused: boolean;
  readonly lake_error: string | null;
}

export interface Gateway {
  readonly gateway: string;
  /** This and what follows is null for a gateway that this hub has not heard since its start */
  readonly version: string | null;
  readonly connected: boolean;
  readonly connections: number;
  readonly first_contact: string | null;
  readonly last_contact: string | null;
  /** Age of the oldest reading that the gateway holds and the lake does not have; 0: none */
  readonly lag_seconds: number | null;
  readonly backlog: {
    readonly readings: number;
    readonly bytes: number;
    readonly exceptions: number;
    readonly oldest: string | null;
  } | null;
  readonly clock: {
    readonly state: 'known' | 'unknown';
    readonly offset_seconds: number | null;
  } | null;
  /** What arrived at the gateway before it is in the lake: its windows that end before it are closed */
  readonly watermark: string | null;
  readonly received_bytes: number;
  readonly received_batches: number;
  readonly lanes: readonly {
    readonly epoch: string;
    readonly lane: 'live' | 'backfill';
    /** Lowest seq that the gateway still holds */
    readonly base: number;
    /** Highest seq that it has given */
    readonly assigned: number;
    readonly received: number | null;
    readonly committed: number | null;
    readonly status: 'open' | 'forked' | 'upgrade_hub' | null;
    readonly connected: boolean;
  }[];
}

export interface Windows {
  readonly rows: readonly {
    readonly name: string;
    readonly size: string;
    readonly size_ms: number;
    /** Time between two starts; less than the size for a hopping window */
    readonly slide_ms: number;
    readonly by: 'series' | 'metric';
    readonly group_keys: readonly string[];
    /** false: recent windows from memory, older ones computed from readings */
    readonly persisted: boolean;
    /** Value of the column `def` of the lake table `aggregates` */
    readonly def: string;
  }[];
  /** Besides percentiles p0 to p100, p99.9 too */
  readonly functions: readonly string[];
  readonly default_functions: readonly string[];
}

export interface Released {
  readonly id: string;
  /** pending: received and not yet committed; ask again */
  readonly status: 'released' | 'pending';
  readonly readings: number;
  /** An earlier request has released it: this one changed nothing */
  readonly again: boolean;
}

export interface ReleaseRequest {
  /** Of a quarantined exception (GET /v1/exceptions) */
  readonly id: string;
  /** Every reading is moved by so much */
  readonly shift_seconds?: number;
  /** Or: when the first reading was; the others are as far from it as they were sent */
  readonly start?: string;
}

export interface Alerts {
  readonly from: string;
  readonly to: string;
  /** Entries of the log of alerts that the answer is made from */
  readonly alerts_version: number;
  readonly rows: readonly Alert[];
  /** cursor= of the next page; null: this was the last one */
  readonly next_cursor: string | null;
}

export interface Alert {
  readonly id: string;
  readonly rule: string;
  readonly state: 'pending' | 'firing' | 'resolved';
  readonly severity: 'info' | 'warning' | 'critical';
  readonly summary: string;
  /** The rule's, in words; '' of alerts from before there were such */
  readonly condition: string;
  readonly labels: Readonly<Record<string, string>>;
  /** null: the alert is not about one */
  readonly gateway: string | null;
  readonly device: string | null;
  readonly metric: string | null;
  readonly tags: Readonly<Record<string, string>> | null;
  /** That of the last change: of the window, seconds of silence, or of the gateway */
  readonly value: number | null;
  readonly window: string | null;
  /** Of the window that changed it last */
  readonly window_start: string | null;
  readonly window_end: string | null;
  /** The condition has held since; event time */
  readonly since: string;
  /** End of the window by which it fired; null: it has not */
  readonly fired_at: string | null;
  readonly resolved_at: string | null;
  /** When the last change became durable, by the clock of the hub */
  readonly updated_at: string;
  /** Of the last change. late: late readings changed a window that had been evaluated; early: by an open window; rule: the rule was changed or deleted; surplus: stands for alerts beyond the most that a rule may have */
  readonly cause: 'window' | 'late' | 'early' | 'silence' | 'gateway' | 'rule' | 'surplus';
}

export interface AlertRules {
  readonly version: number;
  readonly rows: readonly AlertRuleStatus[];
}

export interface AlertRuleStatus {
  readonly name: string;
  readonly rule: AlertRule;
  readonly updated_at: string;
  /** Alerts whose condition has not held for long enough */
  readonly pending: number;
  readonly firing: number;
  /** Alerts that there would be beyond the most that a rule may have; one alert says so */
  readonly surplus: number;
}

/** threshold: windows beyond a bound; absence: nothing is heard; gateway: the state of a gateway */
export type AlertRule =
  | {
      readonly kind: 'threshold';
      /** For people: what is wrong, and what to do */
      readonly summary?: string;
      readonly severity?: 'info' | 'warning' | 'critical';
      /** Carried along with each of its alerts */
      readonly labels?: Readonly<Record<string, string>>;
      /** Name of a window (GET /v1/windows) */
      readonly window: string;
      /** Of the readings of a window; as in /v1/aggregates */
      readonly function?: string;
      /** Only these gateways; * stands for any characters */
      readonly gateway?: readonly string[];
      /** Only these devices; * stands for any characters */
      readonly device?: readonly string[];
      /** Only these metrics; * stands for any characters */
      readonly metric?: readonly string[];
      /** Only series with these tags, key:value; several values of one key are alternatives */
      readonly tag?: readonly string[];
      /** Fires where the value is greater */
      readonly above?: number;
      /** Fires where the value is less; with above: outside of both */
      readonly below?: number;
      /** Of below: once it fires, only a value from here up clears it. Default: below */
      readonly clear_above?: number;
      /** Of above: once it fires, only a value from here down clears it. Default: above */
      readonly clear_below?: number;
      /** Event time that the condition has to hold; default, and 0s: one window */
      readonly for?: string;
      /** Judged is the value minus that of the window so long before; without such a window nothing is. A multiple of its slide */
      readonly change_over?: string;
      /** What a closed window without readings means. keep: nothing, what was stays; clear: the condition does not hold */
      readonly missing?: 'keep' | 'clear';
      /** Fires on an open window already; only a closed one clears */
      readonly early?: boolean;
    }
  | {
      readonly kind: 'absence';
      /** For people: what is wrong, and what to do */
      readonly summary?: string;
      readonly severity?: 'info' | 'warning' | 'critical';
      /** Carried along with each of its alerts */
      readonly labels?: Readonly<Record<string, string>>;
      /** Only these gateways; * stands for any characters */
      readonly gateway?: readonly string[];
      /** Only these devices; * stands for any characters */
      readonly device?: readonly string[];
      /** Only these metrics; * stands for any characters */
      readonly metric?: readonly string[];
      /** Only series with these tags, key:value; several values of one key are alternatives */
      readonly tag?: readonly string[];
      /** What has to be heard: any device of a gateway, any series of a device, or each series */
      readonly by?: 'gateway' | 'device' | 'series';
      /** Windows by series that are looked at; default: the longest that fits `for` */
      readonly window?: string;
      /** Nothing came for so long, while its gateway has delivered all that it had */
      readonly for: string;
      /** Then the alert ends without anything having come */
      readonly forget_after?: string;
    }
  | {
      readonly kind: 'gateway';
      /** For people: what is wrong, and what to do */
      readonly summary?: string;
      readonly severity?: 'info' | 'warning' | 'critical';
      /** Carried along with each of its alerts */
      readonly labels?: Readonly<Record<string, string>>;
      /** Only these gateways; * stands for any characters */
      readonly gateway?: readonly string[];
      /** disconnected: no hub hears it; lag: age of its oldest reading that is not in the lake, s; backlog: bytes that it holds; clock: not synchronised, or off by more than `above` s */
      readonly condition: 'disconnected' | 'lag' | 'backlog' | 'clock';
      /** For lag and backlog; of clock the allowed offset in s */
      readonly above?: number;
      /** Time that the condition has to hold */
      readonly for?: string;
    };

export interface AlertReceivers {
  readonly rows: readonly AlertReceiver[];
}

export interface AlertReceiver {
  readonly receiver: string;
  /** Alerts that it was told, each as often, since the start of this hub */
  readonly delivered: number;
  /** Alerts that it would not take */
  readonly refused: number;
  /** Requests that failed; they are tried again */
  readonly failed: number;
  /** Changes of alerts that it has yet to be told */
  readonly waiting: number;
  /** When the oldest of them became durable; null: nothing waits */
  readonly waiting_since: string | null;
  /** Why the last request failed; null: it did not */
  readonly last_error: string | null;
}

export interface Tables {
  readonly time: string;
  readonly maintenance: {
    readonly runs: number;
    /** In a row; 0 after a good run */
    readonly failures: number;
    readonly last_error: string | null;
    readonly last_run: string | null;
    readonly last_run_seconds: number;
  };
  readonly rows: readonly Table[];
}

export interface Table {
  readonly name: string;
  readonly version: number;
  readonly files: number;
  /** Files that compaction would still merge */
  readonly small_files: number;
  /** null: a file has no statistics */
  readonly rows: number | null;
  readonly bytes: number;
  /** Removed files that are not yet deleted */
  readonly tombstones: number;
  readonly checkpoints: number;
  readonly newest_checkpoint: number | null;
  readonly oldest_log_version: number | null;
  readonly last_compaction: string | null;
  readonly last_vacuum: string | null;
  /** Who reads the table version by version */
  readonly consumers: readonly {
    readonly id: string;
    readonly version: number;
    readonly lag: number;
  }[];
}

export interface SqlAnswer {
  readonly columns: readonly {
    readonly name: string;
    readonly type: 'double' | 'long' | 'decimal' | 'boolean' | 'text' | 'timestamp';
    /** Of a decimal: digits in all */
    readonly precision?: number;
    /** Of a decimal: digits behind the point */
    readonly scale?: number;
  }[];
  /** Times are RFC 3339 in UTC; integers above 2^53 and decimals of more than 15 digits are texts; NaN and infinities are null */
  readonly rows: readonly Readonly<Record<string, unknown>>[];
  readonly row_count: number;
  /** Versions of the lake tables that the answer is from */
  readonly versions: Readonly<Record<string, number>>;
}

export interface SqlQuery {
  /** One SELECT, or EXPLAIN [ANALYZE] and a SELECT, in the dialect of DuckDB, over readings, aggregates, exceptions, devices, alerts */
  readonly sql: string;
  /** Bound to $1, $2 … (a list) or $name (an object) */
  readonly parameters?: readonly (string | number | boolean | null)[] | Readonly<Record<string, string | number | boolean | null>>;
  /** An answer with more rows is refused; default 10000 */
  readonly limit?: number;
  /** Form of the answer; without it the Accept header decides */
  readonly format?: 'json' | 'ndjson' | 'csv' | 'arrow' | 'parquet';
}

/** Parameters of /v1/aggregates. */
export interface AggregatesQuery {
  /** Name of a window (GET /v1/windows) */
  readonly window?: string;
  /** First window start (RFC 3339 with a zone (2026-01-02T03:04:05Z), a day (2026-01-02), Unix epoch in s, ms, µs or ns, or now-7d (ms, s, m, h, d, w, y)) */
  readonly from?: TimeParameter;
  /** Window starts before this; default now (RFC 3339 with a zone (2026-01-02T03:04:05Z), a day (2026-01-02), Unix epoch in s, ms, µs or ns, or now-7d (ms, s, m, h, d, w, y)) */
  readonly to?: TimeParameter;
  /** Only these gateways; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly gateway?: ListParameter;
  /** Only these devices; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly device?: ListParameter;
  /** Only these metrics; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly metric?: ListParameter;
  /** Only series with these tags, key:value; several values of one key are alternatives; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly tag?: ListParameter;
  /** Of count, sum, mean, min, max, first, last, stddev, variance, delta, p0 … p100; default count,sum,mean,min,max,first,last,stddev,p50,p95,p99; count is always there; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly functions?: ListParameter;
  /** Windows of several series as one: keys that are kept, of gateway, device, metric, tags, tag:<key>; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly group_by?: ListParameter;
  /** Windows merged into rows of so long, a multiple of the window */
  readonly step?: string;
  /** About so many rows per series: chooses window and step */
  readonly points?: number;
  /** What windows without a reading show; default none: no row */
  readonly fill?: 'none' | 'null' | 'previous' | 'linear';
  /** By window start; default asc */
  readonly order?: 'asc' | 'desc';
  /** Rows per page */
  readonly limit?: number;
  /** next_cursor of the page before; keep the other parameters as they were */
  readonly cursor?: string;
}

/** Parameters of /v1/readings. */
export interface ReadingsQuery {
  /** First event time (RFC 3339 with a zone (2026-01-02T03:04:05Z), a day (2026-01-02), Unix epoch in s, ms, µs or ns, or now-7d (ms, s, m, h, d, w, y)) */
  readonly from?: TimeParameter;
  /** Event times before this; default now, and 5 minutes for devices whose clock is ahead (RFC 3339 with a zone (2026-01-02T03:04:05Z), a day (2026-01-02), Unix epoch in s, ms, µs or ns, or now-7d (ms, s, m, h, d, w, y)) */
  readonly to?: TimeParameter;
  /** Only these gateways; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly gateway?: ListParameter;
  /** Only these devices; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly device?: ListParameter;
  /** Only these metrics; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly metric?: ListParameter;
  /** Only series with these tags, key:value; several values of one key are alternatives; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly tag?: ListParameter;
  /** By event time; default asc */
  readonly order?: 'asc' | 'desc';
  /** Rows per page */
  readonly limit?: number;
  /** next_cursor of the page before; keep the other parameters as they were */
  readonly cursor?: string;
}

/** Parameters of /v1/exceptions. */
export interface ExceptionsQuery {
  /** Start of the range (RFC 3339 with a zone (2026-01-02T03:04:05Z), a day (2026-01-02), Unix epoch in s, ms, µs or ns, or now-7d (ms, s, m, h, d, w, y)) */
  readonly from?: TimeParameter;
  /** End of the range; default now, and 5 minutes for devices whose clock is ahead (RFC 3339 with a zone (2026-01-02T03:04:05Z), a day (2026-01-02), Unix epoch in s, ms, µs or ns, or now-7d (ms, s, m, h, d, w, y)) */
  readonly to?: TimeParameter;
  /** Only these gateways, and what may be of any: damage to a file of the lake; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly gateway?: ListParameter;
  /** Only these devices; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly device?: ListParameter;
  /** Only these metrics; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly metric?: ListParameter;
  /** Of gap, dead_letter, quarantined; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly kind?: ListParameter;
  /** Rows per page */
  readonly limit?: number;
  /** next_cursor of the page before; keep the other parameters as they were */
  readonly cursor?: string;
}

/** Parameters of /v1/series. */
export interface SeriesQuery {
  /** Only these gateways; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly gateway?: ListParameter;
  /** Only these devices; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly device?: ListParameter;
  /** Only these metrics; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly metric?: ListParameter;
  /** Only series with these tags, key:value; several values of one key are alternatives; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly tag?: ListParameter;
  /** Rows per page */
  readonly limit?: number;
  /** next_cursor of the page before; keep the other parameters as they were */
  readonly cursor?: string;
}

export interface SeriesAnswer {
  /** true: there are more series than the hub lists */
  readonly truncated: boolean;
  readonly rows: readonly Series[];
  /** cursor= of the next page; null: this was the last one */
  readonly next_cursor: string | null;
}

/** Parameters of /v1/devices. */
export interface DevicesQuery {
  /** Only these gateways; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly gateway?: ListParameter;
  /** Only these devices; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly device?: ListParameter;
  /** Only these metrics; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly metric?: ListParameter;
  /** Only series with these tags, key:value; several values of one key are alternatives; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly tag?: ListParameter;
  /** Rows per page */
  readonly limit?: number;
  /** next_cursor of the page before; keep the other parameters as they were */
  readonly cursor?: string;
}

export interface DevicesAnswer {
  /** true: there are more series than the hub lists */
  readonly truncated: boolean;
  readonly rows: readonly Device[];
  /** cursor= of the next page; null: this was the last one */
  readonly next_cursor: string | null;
}

/** Parameters of /v1/gateways. */
export interface GatewaysQuery {
  /** Only these gateways; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly gateway?: ListParameter;
}

/** Parameters of /v1/alerts. */
export interface AlertsQuery {
  /** Start of the range (RFC 3339 with a zone (2026-01-02T03:04:05Z), a day (2026-01-02), Unix epoch in s, ms, µs or ns, or now-7d (ms, s, m, h, d, w, y)) */
  readonly from?: TimeParameter;
  /** End of the range; default now, and 5 minutes for devices whose clock is ahead (RFC 3339 with a zone (2026-01-02T03:04:05Z), a day (2026-01-02), Unix epoch in s, ms, µs or ns, or now-7d (ms, s, m, h, d, w, y)) */
  readonly to?: TimeParameter;
  /** Only these: pending, firing, resolved; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly state?: ListParameter;
  /** Only of these rules; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly rule?: ListParameter;
  /** Only these: info, warning, critical; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly severity?: ListParameter;
  /** Only these gateways; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly gateway?: ListParameter;
  /** Only these devices; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly device?: ListParameter;
  /** Only these metrics; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly metric?: ListParameter;
  /** Rows per page */
  readonly limit?: number;
  /** next_cursor of the page before; keep the other parameters as they were */
  readonly cursor?: string;
}

/** Parameters of /v1/stream. */
export interface StreamQuery {
  /** Name of a window; default: the shortest by series */
  readonly window?: string;
  /** Only these gateways; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly gateway?: ListParameter;
  /** Only these devices; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly device?: ListParameter;
  /** Only these metrics; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly metric?: ListParameter;
  /** Only series with these tags, key:value; several values of one key are alternatives; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly tag?: ListParameter;
  /** Of count, sum, mean, min, max, first, last, stddev, variance, delta, p0 … p100; default count,sum,mean,min,max,first,last,stddev,p50,p95,p99; count is always there; a comma list, a repeated parameter or both (\, is a comma in a name) */
  readonly functions?: ListParameter;
}
