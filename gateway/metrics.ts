/**
 * The gateway's Prometheus metrics: one table of names, each with the figure that it shows, read at scrape time. Nothing
 * on the way of a message touches the library.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Counter, Gauge, createMetrics, type Registry } from '../shared/metrics.ts';
import type { IngestCounters } from './ingest-counters.ts';
import { readFigures, type GatewayFigures, type StatusSources } from './status.ts';

interface MetricRow {
  readonly name: string;
  readonly help: string;
  readonly kind: 'counter' | 'gauge';
  readonly read: (figures: GatewayFigures, counters: IngestCounters) => number;
}

const counter = (name: string, help: string, read: MetricRow['read']): MetricRow => ({
  name: `sluice_gateway_${name}`,
  help,
  kind: 'counter',
  read,
});
const gauge = (name: string, help: string, read: MetricRow['read']): MetricRow => ({
  name: `sluice_gateway_${name}`,
  help,
  kind: 'gauge',
  read,
});

function lossOf(losses: readonly { readonly reason: string; readonly readings: number }[], reason: string): number {
  return losses.find((loss) => loss.reason === reason)?.readings ?? 0;
}

export const METRIC_TABLE: readonly MetricRow[] = [
  counter('messages_total', 'MQTT messages and HTTP requests that were decoded', (_, counters) => counters.messages),
  counter('payload_bytes_total', 'Bytes of their payloads', (_, counters) => counters.payloadBytes),
  counter('readings_total', 'Readings taken', (_, counters) => counters.readings),
  counter('dead_letters_total', 'Messages of which nothing could be used', (_, counters) => counters.deadLetters),
  counter('values_rejected_total', 'Values of otherwise good messages that became exceptions', (_, counters) => counters.problems),
  counter('unmatched_messages_total', 'Messages on topics that no rule takes', (_, counters) => counters.unmatched),
  counter('redeliveries_total', 'Messages that came again and were known to be durable', (_, counters) => counters.redeliveries),
  counter(
    'refused_messages_total',
    'Messages that the journal could not take; their senders were told or a gap was recorded',
    ({ journal }, counters) => counters.refused + journal.writer.refusedMessages,
  ),
  counter(
    'remote_write_stale_markers_total',
    'Samples of remote write that say that a series has ended, and are no readings',
    (_, counters) => counters.staleMarkers,
  ),
  gauge(
    'mqtt_sources_connected',
    'MQTT brokers that this gateway takes messages from, and is connected to',
    ({ feeds }) => feeds.filter((source) => source.kind === 'mqtt' && source.state === 'connected').length,
  ),
  counter('mqtt_source_messages_total', 'Messages that came from them', ({ feeds }) =>
    feeds.reduce((sum, source) => sum + (source.kind === 'mqtt' ? source.messages : 0), 0),
  ),
  counter('mqtt_source_retained_ignored_total', 'Retained messages of them that were nothing new', ({ feeds }) =>
    feeds.reduce((sum, source) => sum + (source.kind === 'mqtt' ? source.retainedIgnored : 0), 0),
  ),
  counter('folder_files_done_total', 'Files of watched folders that were read', ({ feeds }) =>
    feeds.reduce((sum, source) => sum + (source.kind === 'folder' ? source.filesDone : 0), 0),
  ),
  counter('folder_files_failed_total', 'Files of watched folders that could not be read', ({ feeds }) =>
    feeds.reduce((sum, source) => sum + (source.kind === 'folder' ? source.filesFailed : 0), 0),
  ),
  gauge('mqtt_connections', 'Open MQTT connections', ({ broker }) => broker.connections),
  counter('mqtt_connections_refused_total', 'Connections beyond the limit', ({ broker }) => broker.connectionsRefused),
  counter('mqtt_authentications_failed_total', 'Clients refused for their credentials', ({ broker }) => broker.authenticationsFailed),
  counter('mqtt_connection_errors_total', 'Connections that ended with an error', ({ broker }) => broker.connectionErrors),
  gauge('mqtt_acks_pending', 'Messages that wait for their commit', ({ broker }) => broker.acksPending),
  counter(
    'mqtt_subscriber_messages_dropped_total',
    'Messages not queued for an absent or slow subscriber',
    ({ broker }) => broker.queueDropped,
  ),
  gauge('mqtt_sessions', 'Persistent sessions with subscriptions', ({ broker }) => broker.sessions),
  counter(
    'mqtt_sessions_refused_total',
    'Subscriptions refused for the limit of sessions or filters',
    ({ broker }) => broker.sessionsRefused,
  ),
  gauge('mqtt_queued_messages', 'Messages on their way to persistent sessions', ({ broker }) => broker.queuedMessages),
  gauge('mqtt_queued_bytes', 'Bytes of them', ({ broker }) => broker.queuedBytes),
  gauge('mqtt_retained_messages', 'Retained messages', ({ broker }) => broker.retainedMessages),
  gauge('mqtt_retained_bytes', 'Bytes of them', ({ broker }) => broker.retainedBytes),
  counter('mqtt_retained_dropped_total', 'Retained messages beyond the limit', ({ broker }) => broker.retainedDropped),
  gauge('series', 'Series known to this process', ({ journal }) => journal.writer.series),
  gauge('journal_waiting_readings', 'Readings in groups that are not committed', ({ journal }) => journal.writer.waitingReadings),
  gauge('journal_waiting_bytes', 'Bytes in groups that are not committed', ({ journal }) => journal.writer.waitingBytes),
  gauge('journal_held_messages', 'Messages whose answer is held because the journal takes nothing', ({ journal }) => journal.writer.held),
  counter('journal_commits_total', 'Group commits', ({ journal }) => journal.journal.commits),
  counter('journal_commit_seconds_total', 'Time in group commits', ({ journal }) => journal.journal.commitUs / 1e6),
  gauge('journal_commit_seconds_max', 'Longest group commit', ({ journal }) => journal.journal.commitUsMax / 1e6),
  gauge('journal_unsealed_readings', 'Readings not sealed yet', ({ journal }) => journal.journal.journalReadings),
  gauge('journal_bytes', 'Journal on disk: pages in use, WAL, ballast', ({ journal }) => journal.journal.usedBytes),
  gauge('journal_bytes_max', 'What it may be at most now', ({ journal }) => journal.journal.allowedBytes),
  gauge('journal_full', '1 while the journal takes nothing', ({ journal }) => (journal.journal.full ? 1 : 0)),
  counter('journal_reopened_total', 'Connections to the database opened anew after an error', ({ journal }) => journal.journal.reopened),
  counter('journal_quarantined_total', 'Databases moved aside because they were damaged', ({ journal }) => journal.journal.quarantined),
  gauge('journal_file_bytes', 'Database file, with pages that are free in it', ({ journal }) => journal.journal.fileBytes),
  gauge('journal_ballast_bytes', 'Held for deletes on a full disk; 0: given up', ({ journal }) => journal.journal.ballastBytes),
  counter(
    'journal_wals_mended_total',
    'Damaged write-ahead logs of which nothing was missing',
    ({ journal }) => journal.journal.walsMended,
  ),
  counter('journal_shrunk_total', 'Times that a drained database gave its room back', ({ journal }) => journal.journal.shrunk),
  counter('journal_thinning_steps_total', 'Steps of thinning at a full buffer', ({ journal }) => journal.journal.thinned),
  counter('journal_thinning_seconds_total', 'Time in them, during which no group commits', ({ journal }) => journal.journal.thinUs / 1e6),
  gauge('unassigned_batches', 'Sealed batches that have no place in a lane', ({ journal }) => journal.journal.backfill.batches),
  gauge('unassigned_thinned_batches', 'Of them, thinned', ({ journal }) => journal.journal.backfill.thinnedBatches),
  gauge('batches', 'Sealed batches that are not committed at the hub', ({ journal }) => journal.journal.batches),
  gauge('batch_readings', 'Readings in them', ({ journal }) => journal.journal.batchReadings),
  gauge('batch_bytes', 'Bytes of them', ({ journal }) => journal.journal.batchBytes),
  counter('batches_sealed_total', 'Batches sealed', ({ journal }) => journal.journal.sealed),
  counter('lost_readings_total', 'Readings that became gaps, since the journal exists', ({ journal }) =>
    journal.journal.losses.reduce((sum, loss) => sum + loss.readings, 0),
  ),
  counter('flash_written_bytes_total', 'Bytes written to the device of the data directory', ({ flash }) => flash?.writtenBytes ?? 0),
  counter('flash_process_written_bytes_total', 'Bytes of them that this process wrote', ({ flash }) => flash?.processBytes ?? 0),
  gauge('flash_bytes_per_day', 'At the rate of the last day; 0: unknown', ({ flash }) => flash?.bytesPerDay ?? 0),
  gauge('flash_bytes_per_day_max', 'The budget; 0: none', ({ flash }) => flash?.bytesPerDayMax ?? 0),
  gauge('flash_budget_bytes', 'What is left of it now; negative: overdrawn', ({ flash }) => flash?.budgetBytes ?? 0),
  gauge('flash_commit_delay_seconds', 'How long commits wait for the sake of the budget', ({ flash }) => (flash?.delayMs ?? 0) / 1000),
  gauge('flash_life_years', 'Estimated life of a new disk at this rate; 0: unknown', ({ flash }) => flash?.lifeYears ?? 0),
  gauge('clock_known', '1 once the time is vouched for', ({ clock }) => (clock.known ? 1 : 0)),
  gauge(
    'clock_machine_ahead_seconds',
    "The machine's clock minus the time that is believed; other than 0 while a step is not followed",
    ({ clock }) => clock.machineAheadUs / 1e6,
  ),
  gauge('clock_hub_ahead_seconds', "The hub's clock minus ours, 0 while it has not told", ({ clock }) => (clock.hub?.aheadUs ?? 0) / 1e6),
  counter('clock_steps_forward_total', 'Times that the clock was set forward', ({ clock }) => clock.stepsForward),
  counter('clock_steps_back_total', 'Times that the clock was set back', ({ clock }) => clock.stepsBack),
  counter('clock_steps_ignored_total', "Steps of the machine's clock that nobody vouched for", ({ clock }) => clock.stepsIgnored),
  counter('thinned_readings_total', 'Readings that thinning turned into gaps, since the journal exists', ({ journal }) =>
    lossOf(journal.journal.losses, 'thinned'),
  ),
  counter('dropped_readings_total', 'Readings that a full buffer dropped, since the journal exists', ({ journal }) =>
    lossOf(journal.journal.losses, 'buffer_full'),
  ),
  gauge(
    'uplink_backfill_bytes_per_second_max',
    'What the link bears of old data beside live data; 0: it is not full',
    ({ uplink }) => uplink?.backfillBytesPerSecondMax ?? 0,
  ),
  gauge('uplink_connected', '1 while the live lane is connected', ({ uplink }) => (uplink?.connected === true ? 1 : 0)),
  counter('uplink_reconnects_total', 'Connections to the hub after the first', ({ uplink }) => uplink?.reconnectsTotal ?? 0),
  counter('uplink_sent_bytes_total', 'Bytes of batches sent', ({ uplink }) => uplink?.bytesSentTotal ?? 0),
  counter('uplink_sent_batches_total', 'Batches sent', ({ uplink }) => uplink?.batchesSentTotal ?? 0),
  gauge(
    'uplink_last_committed_timestamp_seconds',
    'When a committed position last moved; 0: never',
    ({ uplink }) => (uplink?.lastCommittedUs ?? 0) / 1e6,
  ),
];

const LOOP_RESOLUTION_MS = 10;

export interface GatewayMetrics {
  readonly registry: Registry;
  /** The text of `/metrics`, from figures of now. */
  scrape(): Promise<string>;
  close(): void;
}

export function createGatewayMetrics(sources: StatusSources): GatewayMetrics {
  const registry = createMetrics();
  const instruments = METRIC_TABLE.map((row) => {
    const options = { name: row.name, help: row.help, registers: [registry] };
    return row.kind === 'counter' ? { row, counter: new Counter(options), gauge: null } : { row, counter: null, gauge: new Gauge(options) };
  });
  const loopDelay = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS });
  loopDelay.enable();
  const loopDelayP99 = new Gauge({
    name: 'sluice_gateway_event_loop_delay_p99_seconds',
    help: 'Event-loop delay of the thread that owns the sockets, p99 since the scrape before',
    registers: [registry],
  });
  const backlogOldest = new Gauge({
    name: 'sluice_gateway_backlog_oldest_timestamp_seconds',
    help: 'Arrival of the oldest reading that is not committed at the hub; 0: none',
    registers: [registry],
  });
  return {
    registry,
    async scrape() {
      const figures = await readFigures(sources);
      for (const { row, counter: count, gauge: level } of instruments) {
        const value = row.read(figures, sources.counters);
        if (level !== null) level.set(value);
        else {
          // The figure is a total already; prom-client's counters know only how to add.
          count.reset();
          count.inc(Math.max(0, value));
        }
      }
      loopDelayP99.set(Math.max(0, loopDelay.percentile(99) / 1e9 - LOOP_RESOLUTION_MS / 1000));
      loopDelay.reset();
      backlogOldest.set((sources.journal.backlog().oldestUs ?? 0) / 1e6);
      return registry.metrics();
    },
    close: () => loopDelay.disable(),
  };
}
