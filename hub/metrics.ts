/**
 * The hub's Prometheus metrics: one table of names, each with the figure that it shows, read at scrape time; requests are
 * the only thing that is counted as it happens.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { systemClock } from '../shared/clock.ts';
import { Counter, createMetrics, Gauge, Histogram } from '../shared/metrics.ts';
import type { AlertFigures, Alerts } from './alerts/alerts.ts';
import type { Notifier } from './alerts/notifier.ts';
import type { EngineStatus, QueryEngine } from './engine-api.ts';
import type { GatewayInfo, GatewayRegistry } from './ingest/gateways.ts';
import type { Logger } from '../shared/logging.ts';
import type { MaintenanceClient } from './maintenance-client.ts';
import type { MaintenanceStatus, TableReport } from './maintenance.ts';
import type { UplinkServerState } from './ingest/uplink-server.ts';

interface Figures {
  readonly engine: EngineStatus;
  readonly uplink: UplinkServerState;
  readonly gateways: readonly GatewayInfo[];
  /** null: the maintenance does not answer. */
  readonly maintenance: MaintenanceStatus | null;
  readonly alerts: AlertFigures;
  readonly nowUs: number;
}

interface MetricRow {
  readonly name: string;
  readonly help: string;
  readonly kind: 'counter' | 'gauge';
  readonly read: (figures: Figures) => number;
}

const counter = (name: string, help: string, read: MetricRow['read']): MetricRow => ({
  name: `sluice_hub_${name}`,
  help,
  kind: 'counter',
  read,
});
const gauge = (name: string, help: string, read: MetricRow['read']): MetricRow => ({
  name: `sluice_hub_${name}`,
  help,
  kind: 'gauge',
  read,
});

export const METRIC_TABLE: readonly MetricRow[] = [
  counter('readings_committed_total', 'Readings that this hub has written to the lake', ({ engine }) => engine.readingsCommittedTotal),
  counter('batches_committed_total', 'Batches that this hub has written to the lake', ({ engine }) => engine.batchesCommittedTotal),
  counter(
    'exceptions_committed_total',
    'Exceptions that this hub has written to the lake',
    ({ engine }) => engine.exceptionsCommittedTotal,
  ),
  counter('commits_total', 'Commits of readings', ({ engine }) => engine.commitsTotal),
  counter(
    'commit_conflicts_total',
    'Commits that another hub was faster with and that were built anew',
    ({ engine }) => engine.commitConflictsTotal,
  ),
  gauge('commit_seconds_last', 'Duration of the last commit', ({ engine }) => engine.commitDurationMsLast / 1000),
  gauge('commit_interval_seconds', 'Time between two commits, as it is now', ({ engine }) => engine.commitIntervalMs / 1000),
  gauge(
    'last_commit_timestamp_seconds',
    'When the last commit was; 0: none since the start',
    ({ engine }) => (engine.lastCommitUs ?? 0) / 1e6,
  ),
  gauge('lake_failing', '1 while the lake cannot be written', ({ engine }) => (engine.lastError === null ? 0 : 1)),
  gauge('readings_version', 'Version of table readings that answers are made from', ({ engine }) => engine.readingsVersion),
  gauge('aggregates_version', 'Version of table aggregates that answers are made from', ({ engine }) => engine.aggregatesVersion),
  gauge('pending_readings', 'Readings received and not committed', ({ engine }) => engine.pendingReadings),
  gauge('pending_bytes', 'Memory of what is received and not committed', ({ engine }) => engine.pendingBytes),
  gauge('window_groups', 'Series and other groups that windows know', ({ engine }) => engine.windowGroups),
  gauge('window_bytes', 'Memory of the windows that are not flushed', ({ engine }) => engine.windowBytes),
  counter('window_flushes_total', 'Flushes of windows to the lake', ({ engine }) => engine.flushesTotal),
  gauge('watermark_timestamp_seconds_min', 'Least watermark of all gateways; 0: none', ({ engine }) =>
    engine.watermarks.size === 0 ? 0 : least([...engine.watermarks.values()]) / 1e6,
  ),
  gauge('uplink_connections', 'Open connections of gateways', ({ uplink }) => uplink.connections),
  gauge('uplink_paused', '1 while gateways are held back because the lake does not keep up', ({ uplink }) => (uplink.paused ? 1 : 0)),
  counter('uplink_received_bytes_total', 'Bytes of batches received', ({ uplink }) => uplink.bytesReceivedTotal),
  counter('uplink_received_batches_total', 'Batches received', ({ uplink }) => uplink.batchesReceivedTotal),
  counter('uplink_upgrades_refused_total', 'Connections refused: no valid token, limits', ({ uplink }) => uplink.upgradesRefusedTotal),
  counter('uplink_take_overs_total', 'Lanes that a newer connection took over', ({ uplink }) => uplink.takeOversTotal),
  gauge('gateways', 'Gateways heard of since the start', ({ gateways }) => gateways.length),
  gauge(
    'gateways_connected',
    'Gateways with an open connection',
    ({ gateways }) => gateways.filter(({ connections }) => connections > 0).length,
  ),
  gauge('gateways_backlog_readings', 'Readings that gateways hold and the lake does not have', ({ gateways }) =>
    gateways.reduce((sum, { backlog }) => sum + backlog.readings, 0),
  ),
  gauge('gateways_backlog_bytes', 'Bytes of them', ({ gateways }) => gateways.reduce((sum, { backlog }) => sum + backlog.bytes, 0)),
  gauge(
    'gateways_lag_seconds_max',
    'Age of the oldest reading that a gateway holds and the lake does not have',
    ({ gateways }) => gateways.reduce((max, { lagUs }) => Math.max(max, lagUs), 0) / 1e6,
  ),
  counter('maintenance_runs_total', 'Runs of the maintenance of the lake', ({ maintenance }) => maintenance?.runs ?? 0),
  gauge('maintenance_failing', '1 while the maintenance of the lake fails or does not answer', ({ maintenance }) =>
    maintenance === null || maintenance.failures > 0 ? 1 : 0,
  ),
  gauge(
    'maintenance_last_run_timestamp_seconds',
    'End of the last good run; 0: none since the start',
    ({ maintenance }) => (maintenance?.lastRunUs ?? 0) / 1e6,
  ),
  gauge('maintenance_seconds_last', 'Duration of the last run', ({ maintenance }) => (maintenance?.lastRunMs ?? 0) / 1000),
  counter('compaction_merged_files_total', 'Files that were merged into others', ({ maintenance }) => maintenance?.filesMergedTotal ?? 0),
  counter('compaction_written_bytes_total', 'Bytes of merged files', ({ maintenance }) => maintenance?.bytesWrittenTotal ?? 0),
  counter('compaction_conflicts_total', 'Rewrites that gave way to another writer', ({ maintenance }) => maintenance?.conflictsTotal ?? 0),
  counter('vacuum_deleted_files_total', 'Data files that vacuum deleted', ({ maintenance }) => maintenance?.filesVacuumedTotal ?? 0),
  counter('vacuum_deleted_bytes_total', 'Bytes of them', ({ maintenance }) => maintenance?.bytesVacuumedTotal ?? 0),
  counter(
    'lake_repaired_files_total',
    'Damaged files of aggregates that were made again from readings',
    ({ maintenance }) => maintenance?.repairedFilesTotal ?? 0,
  ),
  gauge('lake_unreadable_files', 'Data files that a query or the maintenance could not read', ({ engine, maintenance }) =>
    Math.max(engine.unreadableFiles, maintenance?.unreadableFiles ?? 0),
  ),
  gauge('alerts_rules', 'Rules of alerts', ({ alerts }) => alerts.rules),
  gauge('alerts_pending', 'Alerts whose condition has not held for long enough', ({ alerts }) => alerts.pending),
  gauge('alerts_firing', 'Alerts that fire', ({ alerts }) => alerts.firing),
  gauge(
    'alerts_surplus',
    'Alerts beyond the most that a rule may have: one alert of the rule stands for them',
    ({ alerts }) => alerts.surplus,
  ),
  counter('alerts_fired_total', 'Alerts that fired, by whichever hub, since the start', ({ alerts }) => alerts.transitions.firing),
  counter('alerts_resolved_total', 'Alerts that were resolved', ({ alerts }) => alerts.transitions.resolved),
  gauge('alerts_history', 'Resolved alerts that are kept', ({ alerts }) => alerts.history),
  counter('alerts_forgotten_total', 'Resolved alerts that were forgotten because there were newer ones', ({ alerts }) => alerts.forgotten),
  counter('alerts_rounds_total', 'Rounds of evaluation', ({ alerts }) => alerts.rounds),
  counter('alerts_failed_rounds_total', 'Rounds that failed and were followed by another', ({ alerts }) => alerts.failures),
  gauge('alerts_round_seconds_last', 'Duration of the last round', ({ alerts }) => alerts.durationMs / 1000),
];

/** Of each table, by the label `table`. */
export const TABLE_METRICS: readonly { readonly name: string; readonly help: string; readonly read: (table: TableReport) => number }[] = [
  { name: 'files', help: 'Active data files', read: ({ files }) => files },
  { name: 'small_files', help: 'Active data files that compaction would still merge', read: ({ smallFiles }) => smallFiles },
  { name: 'rows', help: 'Rows, as far as statistics say', read: ({ rows }) => rows ?? 0 },
  { name: 'bytes', help: 'Bytes of the active data files', read: ({ bytes }) => bytes },
  { name: 'version', help: 'Newest version', read: ({ version }) => version },
  {
    name: 'checkpoint_lag_versions',
    help: 'Versions since the newest checkpoint',
    read: ({ version, newestCheckpoint }) => version - (newestCheckpoint ?? 0),
  },
  {
    name: 'log_entries',
    help: 'Entries of the log that are kept',
    read: ({ version, oldestLogVersion }) => (oldestLogVersion === null ? 0 : version - oldestLogVersion + 1),
  },
  {
    name: 'consumer_lag_versions',
    help: 'Versions that the slowest registered consumer has not consumed',
    read: ({ consumers }) => consumers.reduce((most, { lag }) => Math.max(most, lag), 0),
  },
];

/** Labels are series at Prometheus: beyond so many gateways only the sums above tell. */
const LABELLED_GATEWAYS_MAX = 1_000;
const LOOP_RESOLUTION_MS = 10;

function least(values: readonly number[]): number {
  return values.reduce((min, value) => Math.min(min, value), Infinity);
}

export interface HubMetrics {
  /** The text of `/metrics`, from figures of now. */
  scrape(): Promise<string>;
  /** @param route the path pattern, never the path: labels are bounded */
  observeRequest(route: string, status: number, seconds: number): void;
  /** @param count open streams of /v1/stream */
  setStreams(count: number): void;
  close(): void;
}

export interface HubMetricsSources {
  readonly engine: Pick<QueryEngine, 'status'>;
  readonly uplink: { readonly state: UplinkServerState };
  readonly gateways: Pick<GatewayRegistry, 'list'>;
  readonly maintenance: Pick<MaintenanceClient, 'status'>;
  readonly alerts: Pick<Alerts, 'figures'>;
  readonly notifier: Pick<Notifier, 'figures'>;
  readonly logger: Pick<Logger, 'warn'>;
}

export function createHubMetrics({ engine, uplink, gateways, maintenance, alerts, notifier, logger }: HubMetricsSources): HubMetrics {
  const registry = createMetrics();
  const registers = [registry];
  const instruments = METRIC_TABLE.map((row) => {
    const options = { name: row.name, help: row.help, registers };
    return row.kind === 'counter' ? { row, counter: new Counter(options), gauge: null } : { row, counter: null, gauge: new Gauge(options) };
  });
  const labelled = { labelNames: ['gateway'] as const, registers };
  const backlog = new Gauge({
    name: 'sluice_hub_gateway_backlog_readings',
    help: 'Readings that the gateway holds and the lake does not have',
    ...labelled,
  });
  const lag = new Gauge({ name: 'sluice_hub_gateway_lag_seconds', help: 'Age of the oldest of them', ...labelled });
  const contact = new Gauge({
    name: 'sluice_hub_gateway_last_contact_timestamp_seconds',
    help: 'When the gateway was last heard',
    ...labelled,
  });
  const tables = TABLE_METRICS.map(({ name, help, read }) => ({
    read,
    gauge: new Gauge({ name: `sluice_hub_table_${name}`, help, labelNames: ['table'] as const, registers }),
  }));
  const notifications = createNotificationMetrics(notifier, registers);
  const maintenanceStatus = async (): Promise<MaintenanceStatus | null> => {
    try {
      return await maintenance.status();
    } catch (error) {
      // The scrape says so: maintenance_failing.
      logger.warn({ err: error }, 'the maintenance of the lake does not answer');
      return null;
    }
  };
  const requests = new Histogram({
    name: 'sluice_hub_http_request_seconds',
    help: 'Duration of HTTP requests until the answer starts',
    labelNames: ['route', 'status'] as const,
    buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 30],
    registers,
  });
  const streams = new Gauge({ name: 'sluice_hub_http_streams', help: 'Open streams of /v1/stream', registers });
  const loopDelay = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS });
  loopDelay.enable();
  const loopDelayP99 = new Gauge({
    name: 'sluice_hub_event_loop_delay_p99_seconds',
    help: 'Event-loop delay of the thread that owns the sockets, p99 since the scrape before',
    registers,
  });
  return {
    async scrape() {
      const nowUs = systemClock.nowUs();
      const figures: Figures = {
        engine: await engine.status(),
        uplink: uplink.state,
        gateways: gateways.list(nowUs),
        maintenance: await maintenanceStatus(),
        alerts: alerts.figures,
        nowUs,
      };
      for (const { read, gauge: level } of tables) {
        for (const table of figures.maintenance?.tables ?? []) level.set({ table: table.name }, read(table));
      }
      for (const { row, counter: count, gauge: level } of instruments) {
        const value = row.read(figures);
        if (level !== null) level.set(value);
        else {
          // The figure is a total already; prom-client's counters know only how to add.
          count.reset();
          count.inc(Math.max(0, value));
        }
      }
      notifications();
      for (const metric of [backlog, lag, contact]) metric.reset();
      for (const info of figures.gateways.slice(0, LABELLED_GATEWAYS_MAX)) {
        backlog.set({ gateway: info.gateway }, info.backlog.readings);
        lag.set({ gateway: info.gateway }, info.lagUs / 1e6);
        contact.set({ gateway: info.gateway }, info.lastContactUs / 1e6);
      }
      loopDelayP99.set(Math.max(0, loopDelay.percentile(99) / 1e9 - LOOP_RESOLUTION_MS / 1000));
      loopDelay.reset();
      return registry.metrics();
    },
    observeRequest: (route, status, seconds) => requests.observe({ route, status }, seconds),
    setStreams: (count) => streams.set(count),
    close: () => loopDelay.disable(),
  };
}

/** @returns reads the figures */
function createNotificationMetrics(notifier: Pick<Notifier, 'figures'>, registers: ReturnType<typeof createMetrics>[]): () => void {
  const sent = new Counter({
    name: 'sluice_hub_alert_notifications_total',
    help: 'Alerts that a receiver was told (delivered), or would not take (refused), and requests that failed and are tried again (failed)',
    labelNames: ['receiver', 'result'] as const,
    registers,
  });
  const labelled = { labelNames: ['receiver'] as const, registers };
  const waiting = new Gauge({
    name: 'sluice_hub_alert_notifications_waiting',
    help: 'Changes of alerts that a receiver has yet to be told',
    ...labelled,
  });
  const age = new Gauge({ name: 'sluice_hub_alert_notifications_waiting_seconds', help: 'Age of the oldest of them', ...labelled });
  return () => {
    sent.reset();
    for (const { receiver, delivered, refused, failed, ...figures } of notifier.figures) {
      for (const [result, count] of Object.entries({ delivered, refused, failed })) sent.inc({ receiver, result }, count);
      waiting.set({ receiver }, figures.waiting);
      age.set({ receiver }, figures.waitingSinceUs === null ? 0 : Math.max(0, systemClock.nowUs() - figures.waitingSinceUs) / 1e6);
    }
  };
}
