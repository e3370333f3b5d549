/** How far an import is: a bar on a terminal, a line every few seconds elsewhere. */
import type { Clock } from '../../shared/clock.ts';

const BAR_INTERVAL_US = 200_000;
const LINE_INTERVAL_US = 5_000_000;
const BAR_CHARACTERS = 24;

export interface ProgressState {
  /** 0..1; null: unknown. */
  readonly ratio: number | null;
  readonly rows: number;
  readonly rejected: number;
  /** Batches in the lake, of those that were cut so far. */
  readonly committed: number;
  readonly batches: number;
}

export interface ProgressOutput {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

export function bar(ratio: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, ratio)) * BAR_CHARACTERS);
  return `[${'#'.repeat(filled)}${'.'.repeat(BAR_CHARACTERS - filled)}]`;
}

export class Progress {
  readonly #output: ProgressOutput;
  readonly #clock: Clock;
  readonly #name: string;
  readonly #startUs: number;
  #shownUs: number;

  constructor(output: ProgressOutput, clock: Clock, name: string) {
    this.#output = output;
    this.#clock = clock;
    this.#name = name;
    this.#startUs = clock.monotonicUs();
    this.#shownUs = this.#startUs;
  }

  update(state: ProgressState): void {
    const nowUs = this.#clock.monotonicUs();
    const isTerminal = this.#output.isTTY === true;
    if (nowUs - this.#shownUs < (isTerminal ? BAR_INTERVAL_US : LINE_INTERVAL_US)) return;
    this.#shownUs = nowUs;
    this.#output.write(isTerminal ? `\r\u001b[K${this.#text(state, true)}` : `${this.#text(state, false)}\n`);
  }

  /** The bar's line is left to what follows. */
  end(): void {
    if (this.#output.isTTY === true) this.#output.write('\r\u001b[K');
  }

  #text({ ratio, rows, rejected, committed, batches }: ProgressState, hasBar: boolean): string {
    const seconds = Math.max(0.001, (this.#clock.monotonicUs() - this.#startUs) / 1e6);
    const share = ratio === null ? '' : `${hasBar ? `${bar(ratio)} ` : ''}${Math.floor(ratio * 100)} % `;
    const faults = rejected === 0 ? '' : `, ${rejected} rejected`;
    return `${this.#name} ${share}${rows} rows (${Math.round(rows / seconds)}/s)${faults}, ${committed} of ${batches} batches committed`;
  }
}
