/**
 * What a run shows while it goes on, and its summary at the end.
 */
import type { Clock } from '../shared/clock.ts';
import type { Fleet } from './fleet.ts';
import type { Ledger } from './ledger/ledger.ts';
import type { SelfLimit } from './self-limit.ts';

const TERMINAL_INTERVAL_MS = 200;
/** In a log file a line every few seconds is enough. */
const PLAIN_INTERVAL_MS = 5000;
const BAR_WIDTH = 24;

export interface ProgressOptions {
  readonly fleet: Fleet;
  readonly output: NodeJS.WriteStream;
  readonly startMs: number;
  readonly endMs: number;
  readonly clock: Clock;
  readonly troubles: ReadonlyMap<string, number>;
}

/** One line, rewritten in place on a terminal, repeated every few seconds otherwise. */
export class ProgressLine {
  readonly #options: ProgressOptions;
  #timer: NodeJS.Timeout | null = null;
  #lastMs: number;
  #lastAcked = 0;
  #lastReadings = 0;

  constructor(options: ProgressOptions) {
    this.#options = options;
    this.#lastMs = options.clock.nowUs() / 1000;
  }

  start(): void {
    this.#timer = setInterval(() => this.#show(), this.#options.output.isTTY ? TERMINAL_INTERVAL_MS : PLAIN_INTERVAL_MS);
    this.#timer.unref();
  }

  stop(): void {
    if (this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
    if (this.#options.output.isTTY) this.#options.output.write('\n');
  }

  #show(): void {
    const { fleet, output, startMs, endMs, clock, troubles } = this.#options;
    const nowMs = clock.nowUs() / 1000;
    const seconds = Math.max(0.001, (nowMs - this.#lastMs) / 1000);
    const ackedPerSecond = (fleet.counts.messagesAcked - this.#lastAcked) / seconds;
    const readingsPerSecond = (fleet.counts.readingsSent - this.#lastReadings) / seconds;
    this.#lastMs = nowMs;
    this.#lastAcked = fleet.counts.messagesAcked;
    this.#lastReadings = fleet.counts.readingsSent;
    const parts = [
      `${fleet.connectedDevices}/${fleet.progress.length} connected`,
      `${fleet.counts.messagesSent} sent`,
      `${fleet.counts.messagesAcked} acked`,
      `${fleet.inFlightMessages} in flight`,
      `${fleet.waitingMessages} waiting`,
      `${ackedPerSecond.toFixed(0)} acks/s`,
      `${readingsPerSecond.toFixed(0)} readings/s`,
    ];
    if (fleet.counts.messagesSkipped > 0) parts.push(`${fleet.counts.messagesSkipped} given up`);
    const trouble = [...troubles.keys()].at(-1);
    if (trouble !== undefined && fleet.connectedDevices < fleet.progress.length) parts.push(trouble);
    const line = parts.join(', ');
    if (!output.isTTY) {
      output.write(`${Math.max(0, (nowMs - startMs) / 1000).toFixed(0)} s: ${line}\n`);
      return;
    }
    const done = endMs === Infinity ? 0 : Math.min(1, Math.max(0, (nowMs - startMs) / (endMs - startMs)));
    const bar = endMs === Infinity ? '' : `[${'#'.repeat(Math.round(done * BAR_WIDTH)).padEnd(BAR_WIDTH, '.')}] `;
    output.write(`\r\u001b[2K${`${bar}${line}`.slice(0, (output.columns || 120) - 1)}`);
  }
}

export interface RunSummary {
  readonly devices: number;
  readonly elapsedMs: number;
  readonly drained: boolean;
  readonly messagesSent: number;
  readonly messagesAcked: number;
  readonly messagesInDoubt: number;
  readonly messagesSkipped: number;
  readonly readingsAcked: number;
  readonly bytesSent: number;
  readonly reconnects: number;
  /** From due to acknowledged, null without an acknowledgement. */
  readonly ackLatencyMs: { readonly p50: number | null; readonly p99: number | null; readonly p999: number | null; readonly max: number };
  readonly selfLimit: SelfLimit;
  readonly troubles: Readonly<Record<string, number>>;
}

export function runSummary(of: {
  fleet: Fleet;
  ledger: Ledger;
  drained: boolean;
  selfLimit: SelfLimit;
  troubles: ReadonlyMap<string, number>;
  elapsedMs: number;
}): RunSummary {
  const { fleet, ledger } = of;
  const latency = fleet.ackLatency;
  return {
    devices: fleet.progress.length,
    elapsedMs: of.elapsedMs,
    drained: of.drained,
    messagesSent: ledger.totals.messagesSent,
    messagesAcked: ledger.totals.messagesAcked,
    messagesInDoubt: ledger.totals.messagesSent - ledger.totals.messagesAcked,
    messagesSkipped: ledger.totals.messagesSkipped,
    readingsAcked: ledger.totals.readingsAcked,
    bytesSent: fleet.counts.bytesSent,
    reconnects: fleet.progress.reduce((sum, progress) => sum + Math.max(0, (progress.link?.connects ?? 0) - 1), 0),
    ackLatencyMs: {
      p50: latency.percentileMs(0.5),
      p99: latency.percentileMs(0.99),
      p999: latency.percentileMs(0.999),
      max: latency.maxMs,
    },
    selfLimit: of.selfLimit,
    troubles: Object.fromEntries(of.troubles),
  };
}

function ms(value: number | null): string {
  return value === null ? '-' : `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`;
}

export function formatRunSummary(summary: RunSummary): string {
  const { ackLatencyMs: latency, selfLimit } = summary;
  const lines = [
    `${summary.devices} devices, ${(summary.elapsedMs / 1000).toFixed(1)} s: ${summary.messagesSent} messages sent, ${summary.messagesAcked} acknowledged (${summary.readingsAcked} readings), ${summary.messagesInDoubt} in doubt, ${summary.messagesSkipped} given up, ${summary.reconnects} reconnects`,
    `due to acknowledged: p50 ${ms(latency.p50)}, p99 ${ms(latency.p99)}, p99.9 ${ms(latency.p999)}, max ${ms(latency.max)}`,
    `simulator: ${(selfLimit.cpuRatio * 100).toFixed(0)} % of one core, event loop ${selfLimit.loopDelayP99Ms.toFixed(1)} ms late at p99${selfLimit.limitedBy === null ? '' : `; THE FIGURES ARE LIMITED BY ${selfLimit.limitedBy}`}`,
  ];
  for (const [reason, count] of Object.entries(summary.troubles)) lines.push(`connection trouble: ${reason} (${count} times)`);
  return lines.join('\n');
}
