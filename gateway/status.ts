/** What the gateway tells about itself: one document for `/v1/status`, the page and the metrics. */
import { VERSION } from '../shared/version.ts';
import type { Broker, BrokerStats } from './broker/broker.ts';
import type { GatewayClock, ClockStatus } from './clock.ts';
import type { DeviceClocks } from './clock-devices.ts';
import { clockDocument } from './clock-status.ts';
import type { Decoder } from './decode/decoder.ts';
import { suggestPreset } from './decode/presets.ts';
import type { Flash, FlashFigures } from './flash.ts';
import { flashDocument } from './flash-status.ts';
import type { IngestCounters } from './ingest-counters.ts';
import type { JournalClient } from './journal/journal-client.ts';
import type { Sources, SourceStatus } from './sources/sources.ts';
import type { Uplink } from './uplink/uplink.ts';
import type { UplinkState } from './uplink/uplink-state.ts';

export interface StatusSources {
  readonly clock: GatewayClock;
  /** Monotonic. */
  readonly startedUs: number;
  readonly seriesMax: number;
  readonly counters: IngestCounters;
  readonly decoder: Decoder;
  readonly journal: JournalClient;
  readonly broker: Broker;
  readonly feeds: Sources;
  /** null: buffer only. */
  readonly uplink: Uplink | null;
  readonly flash: Flash;
  readonly deviceClocks: DeviceClocks;
}

export type JournalFigures = Awaited<ReturnType<JournalClient['stats']>>;

/** Everything that can be measured, read at one time. */
export interface GatewayFigures {
  readonly nowUs: number;
  readonly journal: JournalFigures;
  readonly broker: BrokerStats;
  readonly uplink: UplinkState | null;
  readonly clock: ClockStatus;
  /** null: no block device shows. */
  readonly flash: FlashFigures | null;
  readonly feeds: readonly SourceStatus[];
}

export async function readFigures(sources: StatusSources): Promise<GatewayFigures> {
  const journal = await sources.journal.stats();
  return {
    nowUs: sources.clock.nowUs(),
    journal,
    broker: sources.broker.stats(),
    uplink: sources.uplink?.state() ?? null,
    clock: sources.clock.status(),
    flash: sources.flash.figures(),
    feeds: sources.feeds.status(),
  };
}

/** `GET /v1/status`. Times are µs since the epoch, sizes bytes. */
export async function statusDocument(sources: StatusSources): Promise<Record<string, unknown>> {
  const { nowUs, journal, broker, uplink, flash } = await readFigures(sources);
  const claims = await sources.journal.lanes();
  const backlog = sources.journal.backlog();
  const { counters } = sources;
  return {
    version: VERSION,
    time_us: nowUs,
    uptime_seconds: Math.round((sources.clock.monotonicUs() - sources.startedUs) / 1e6),
    epoch: sources.journal.epoch,
    lake_id: sources.journal.lakeId,
    clock: clockDocument(sources.clock, sources.deviceClocks),
    backlog: { readings: backlog.readings, bytes: backlog.bytes, exceptions: backlog.exceptions, oldest_us: backlog.oldestUs },
    exceptions: {
      waiting: backlog.exceptions,
      losses: journal.journal.losses,
    },
    lanes: claims.map((claim) => {
      const state = uplink?.lanes.find((lane) => lane.epoch === claim.epoch && lane.lane === claim.lane);
      return {
        epoch: claim.epoch,
        lane: claim.lane,
        state: state?.state ?? 'waiting',
        base: claim.base,
        assigned: claim.assigned,
        received: state?.received ?? null,
        committed: state?.committed ?? null,
        in_flight_bytes: state?.inFlightBytes ?? 0,
      };
    }),
    uplink: uplink === null ? null : uplinkDocument(uplink),
    journal: {
      accepting: sources.journal.accepting,
      used_bytes: journal.journal.usedBytes,
      allowed_bytes: journal.journal.allowedBytes,
      file_bytes: journal.journal.fileBytes,
      wal_bytes: journal.journal.walBytes,
      ballast_bytes: journal.journal.ballastBytes,
      thinning_steps: journal.journal.thinned,
      unassigned: {
        batches: journal.journal.backfill.batches,
        readings: journal.journal.backfill.readings,
        bytes: journal.journal.backfill.bytes,
        thinned_batches: journal.journal.backfill.thinnedBatches,
        oldest_us: journal.journal.backfill.oldestUs,
      },
      unsealed_readings: journal.journal.journalReadings,
      batches: journal.journal.batches,
      commits: journal.journal.commits,
      commit_ms_mean: journal.journal.commits === 0 ? null : journal.journal.commitUs / journal.journal.commits / 1000,
      commit_ms_max: journal.journal.commitUsMax / 1000,
    },
    flash: flash === null ? null : flashDocument(flash),
    series: { count: journal.writer.series, max: sources.seriesMax },
    ingest: {
      messages: counters.messages,
      readings: counters.readings,
      dead_letters: counters.deadLetters,
      problems: counters.problems,
      unmatched: counters.unmatched,
      redeliveries: counters.redeliveries,
      refused: counters.refused,
    },
    unmatched_topics: sources.decoder.unmatched.list().map((topic) => ({
      suggested_match: topic.suggestedMatch,
      suggested_preset: suggestPreset(topic.example),
      example: topic.example,
      messages: topic.messageCount,
    })),
    recent_problems: sources.decoder.problems.list().map(({ code, topic, message, count, lastUs }) => ({
      code,
      topic,
      message,
      count,
      last_us: lastUs,
    })),
    broker: {
      connections: broker.connections,
      connections_refused: broker.connectionsRefused,
      authentications_failed: broker.authenticationsFailed,
      connection_errors: broker.connectionErrors,
      acks_pending: broker.acksPending,
      sessions: broker.sessions,
      sessions_refused: broker.sessionsRefused,
      queued_messages: broker.queuedMessages,
      queued_bytes: broker.queuedBytes,
      retained_messages: broker.retainedMessages,
      retained_bytes: broker.retainedBytes,
      subscriber_messages_dropped: broker.queueDropped,
      retained_dropped: broker.retainedDropped,
    },
    sources: sources.feeds.status().map(sourceDocument),
  };
}

function sourceDocument(source: SourceStatus): Record<string, unknown> {
  const { kind, name, state, sinceUs, lastError } = source;
  const common = { kind, name, state, since_us: sinceUs, last_error: lastError };
  if (source.kind === 'mqtt') {
    const { messages, retainedIgnored, inFlight, connections } = source;
    return { ...common, messages, retained_ignored: retainedIgnored, in_flight: inFlight, connections };
  }
  const { file, filesWaiting, filesDone, filesFailed } = source;
  return {
    ...common,
    file: file === null ? null : { name: file.name, bytes: file.bytes, bytes_read: file.bytesRead, rows: file.rows },
    files_waiting: filesWaiting,
    files_done: filesDone,
    files_failed: filesFailed,
  };
}

function uplinkDocument(state: UplinkState): Record<string, unknown> {
  return {
    status: state.status,
    gateway: state.gateway,
    hub_instance: state.hubInstance,
    hub_version: state.hubVersion,
    last_committed_us: state.lastCommittedUs,
    last_error:
      state.lastError === null ? null : { code: state.lastError.code, message: state.lastError.message, at_us: state.lastError.atUs },
    reconnects: state.reconnectsTotal,
    bytes_sent: state.bytesSentTotal,
    batches_sent: state.batchesSentTotal,
    backfill_bytes_per_second_max: state.backfillBytesPerSecondMax,
    retry_in_ms: state.retryInMs,
  };
}
