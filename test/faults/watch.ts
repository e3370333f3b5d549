/** What is measured while a system is under strain: the age of what a reader sees, and memory. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fetchJson, type Program } from '../e2e/processes.ts';

const SAMPLE_MS = 250;
const DEVICE = 'age-probe';

export function residentBytes(pid: number): number {
  const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return line === null ? 0 : Number(line[1]) * 1024;
}

export function percentile(values: readonly number[], ratio: number): number | null {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(ratio * sorted.length) - 1)] ?? null;
}

/**
 * Sends the time of day as a reading again and again, and looks up what a reader is told: now minus that is the age of live
 * data, with everything in it that delays it, the sampling too.
 */
export class AgeWatch {
  readonly agesMs: number[] = [];
  readonly #startMs = Date.now();
  #isRunning = true;
  readonly #done: Promise<void>;

  constructor(gatewayUrl: string, hubUrl: string) {
    this.#done = this.#run(gatewayUrl, hubUrl);
  }

  async #run(gatewayUrl: string, hubUrl: string): Promise<void> {
    let hasArrived = false;
    while (this.#isRunning) {
      await sleep(SAMPLE_MS);
      try {
        await fetch(`${gatewayUrl}/v1/readings?device=${DEVICE}`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ sent_ms: Date.now() }),
          signal: AbortSignal.timeout(5_000),
        });
        const url = `${hubUrl}/v1/aggregates?window=10s&metric=sent_ms&device=${DEVICE}&from=now-10m`;
        const { rows } = await fetchJson<{ rows: readonly { last: number | null }[] }>(url);
        const newest = rows.at(-1)?.last ?? null;
        // What an earlier watch has sent says nothing about now.
        const last = newest !== null && newest >= this.#startMs ? newest : null;
        hasArrived ||= last !== null;
        if (last !== null) this.agesMs.push(Date.now() - last);
      } catch {
        // Refused or overloaded: what is seen next is older by it.
        if (hasArrived) continue;
      }
    }
  }

  async stop(): Promise<void> {
    this.#isRunning = false;
    await this.#done;
  }
}

export class MemoryWatch {
  readonly #peaks = new Map<string, number>();
  readonly #timer: NodeJS.Timeout;

  constructor(programs: readonly Program[]) {
    this.#timer = setInterval(() => {
      for (const program of programs) {
        if (program.isRunning) this.#peaks.set(program.name, Math.max(this.#peaks.get(program.name) ?? 0, residentBytes(program.pid)));
      }
    }, SAMPLE_MS);
  }

  /** By program, in MB. */
  stop(): ReadonlyMap<string, number> {
    clearInterval(this.#timer);
    return new Map([...this.#peaks].map(([name, bytes]) => [name, Math.round(bytes / 1e6)]));
  }
}
