/**
 * Is the simulator itself the bottleneck? A slow sender looks exactly like a slow gateway; these figures tell them apart.
 */
import { monitorEventLoopDelay, performance, type IntervalHistogram } from 'node:perf_hooks';

/** Above, messages are sent visibly later than they are due, whatever the gateway does. */
const LOOP_DELAY_P99_MS_MAX = 50;
/** One thread cannot do more than 1; above this share queueing in this process dominates. */
const CPU_RATIO_MAX = 0.85;
const MONITOR_RESOLUTION_MS = 10;

export interface SelfLimit {
  /** Share of one core that this process used. */
  readonly cpuRatio: number;
  /** Delay of the event loop beyond what was asked, 99th percentile. */
  readonly loopDelayP99Ms: number;
  /** null: the simulator kept up; else why its figures are its own ceiling. */
  readonly limitedBy: string | null;
}

export class SelfLimitMeter {
  readonly #delay: IntervalHistogram = monitorEventLoopDelay({ resolution: MONITOR_RESOLUTION_MS });
  #cpu = process.cpuUsage();
  #startMs = performance.now();

  start(): void {
    this.#cpu = process.cpuUsage();
    this.#startMs = performance.now();
    this.#delay.enable();
  }

  stop(): void {
    this.#delay.disable();
  }

  measure(): SelfLimit {
    const used = process.cpuUsage(this.#cpu);
    const elapsedMs = Math.max(1, performance.now() - this.#startMs);
    const cpuRatio = (used.user + used.system) / 1000 / elapsedMs;
    // The histogram holds whole periods in ns, NaN while it is empty.
    const loopDelayP99Ms = this.#delay.count === 0 ? 0 : Math.max(0, this.#delay.percentile(99) / 1e6 - MONITOR_RESOLUTION_MS);
    let limitedBy: string | null = null;
    if (cpuRatio > CPU_RATIO_MAX)
      limitedBy = `its CPU: ${(cpuRatio * 100).toFixed(0)} % of one core, ${CPU_RATIO_MAX * 100} % is the limit`;
    else if (loopDelayP99Ms > LOOP_DELAY_P99_MS_MAX)
      limitedBy = `its event loop: ${loopDelayP99Ms.toFixed(0)} ms late at p99, ${LOOP_DELAY_P99_MS_MAX} ms is the limit`;
    return { cpuRatio, loopDelayP99Ms, limitedBy };
  }
}
