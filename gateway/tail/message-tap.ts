/**
 * Lets people see messages as they come (`GET /v1/messages`, `sluice-gateway tail`).
 *
 * Constraints: while nobody looks, a message costs one comparison. While somebody does, at most MESSAGES_PER_SECOND of them
 * are looked at for each viewer, the others are counted, and a viewer that does not read is skipped, not waited for.
 * What is shown was decoded, not committed: the acknowledgement waits for the disk, the view does not.
 * Nothing here outlives the process.
 */
import type { Clock } from '../../shared/clock.ts';
import { SluiceError } from '../../shared/errors.ts';
import type { ReadingSink, SeriesRegistry } from '../journal/journal-api.ts';
import { SeenBuilder, type SeenMessage, type SeenOutcome, type SeenStart } from './seen-message.ts';
import { filterFault, topicMatcher } from './topic-filter.ts';

/** More scroll by faster than anybody reads; with the readings of each it is about 0.2 MB/s. */
const MESSAGES_PER_SECOND = 100;
const BURST_MAX = 200;
const VIEWERS_MAX = 8;

export interface ViewerOutput {
  /** false: what was sent before is not read yet; the next message is left out. */
  readonly ready: () => boolean;
  readonly message: (message: SeenMessage) => void;
}

class Viewer {
  readonly matches: (topic: string) => boolean;
  readonly output: ViewerOutput;
  leftOut = 0;
  #tokens = BURST_MAX;
  #filledUs: number;

  constructor(matches: (topic: string) => boolean, output: ViewerOutput, nowUs: number) {
    this.matches = matches;
    this.output = output;
    this.#filledUs = nowUs;
  }

  wants(nowUs: number): boolean {
    this.#tokens = Math.min(BURST_MAX, this.#tokens + ((nowUs - this.#filledUs) * MESSAGES_PER_SECOND) / 1e6);
    this.#filledUs = nowUs;
    if (this.#tokens >= 1 && this.output.ready()) {
      this.#tokens--;
      return true;
    }
    this.leftOut++;
    return false;
  }
}

/** A message that somebody looks at. */
export class Watch {
  readonly #builder: SeenBuilder;
  readonly #viewers: readonly Viewer[];

  constructor(start: SeenStart, series: SeriesRegistry, viewers: readonly Viewer[]) {
    this.#builder = new SeenBuilder(start, series);
    this.#viewers = viewers;
  }

  before(sink: ReadingSink): ReadingSink {
    return this.#builder.before(sink);
  }

  done(outcome: SeenOutcome | null, error: unknown = null, hint: string | null = null): void {
    const message = this.#builder.finish(outcome, error, hint);
    for (const viewer of this.#viewers) viewer.output.message(message);
  }
}

export interface OpenView {
  /** Messages that were not shown since the last call. */
  takeLeftOut(): number;
  close(): void;
}

export class MessageTap {
  readonly #series: SeriesRegistry;
  readonly #clock: Clock;
  #viewers: readonly Viewer[] = [];

  constructor(series: SeriesRegistry, clock: Clock) {
    this.#series = series;
    this.#clock = clock;
  }

  get viewers(): number {
    return this.#viewers.length;
  }

  /** @throws SluiceError ERR_HTTP_PARAMETER for a filter that is none, ERR_HTTP_UNAVAILABLE beyond VIEWERS_MAX */
  open(filter: string, output: ViewerOutput): OpenView {
    const fault = filterFault(filter);
    if (fault !== null) throw new SluiceError('ERR_HTTP_PARAMETER', `topic ${JSON.stringify(filter.slice(0, 100))}: ${fault}`);
    if (this.#viewers.length >= VIEWERS_MAX)
      throw new SluiceError('ERR_HTTP_UNAVAILABLE', `${this.#viewers.length} look already, at most ${VIEWERS_MAX} may`);
    const viewer = new Viewer(topicMatcher(filter), output, this.#clock.monotonicUs());
    this.#viewers = [...this.#viewers, viewer];
    return {
      takeLeftOut: () => {
        const count = viewer.leftOut;
        viewer.leftOut = 0;
        return count;
      },
      close: () => {
        this.#viewers = this.#viewers.filter((other) => other !== viewer);
      },
    };
  }

  /** null: nobody wants to see this message. */
  watch(start: SeenStart): Watch | null {
    if (this.#viewers.length === 0) return null;
    const nowUs = this.#clock.monotonicUs();
    const viewers = this.#viewers.filter((viewer) => viewer.matches(start.topic) && viewer.wants(nowUs));
    return viewers.length === 0 ? null : new Watch(start, this.#series, viewers);
  }
}
