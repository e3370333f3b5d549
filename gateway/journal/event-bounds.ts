/**
 * What is known of the event times in the journal even when the journal itself is not to be believed any more.
 *
 * When damage takes readings, the gap that stands for them has to cover their event times, and those are in what was lost.
 * Therefore a small file beside the database says, before a group commits, how far its event times are from their arrival, and
 * now and then how old the oldest is that the journal holds. Both err on the safe side: `lagUs` and `leadUs` are rounded up, so
 * that they are written a few times in a gateway's life, and `oldestUs` may be old, never too young.
 *
 * Layout: `bounds.json` {version, oldestUs, lagUs, leadUs, crc}; µs. Replaced as a whole (durable-file.ts).
 * A crash leaves the file before or after. Without a file that can be believed, everything since 2015 is possible, until
 * what the journal held at that time is gone.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { crc32 } from 'node:zlib';
import { EVENT_TIME_AHEAD_MAX_US, EVENT_TIME_MIN_US } from '../../shared/reading.ts';
import { writeDurably } from '../durable-file.ts';

const NAME = 'bounds.json';
const VERSION = 1;
const LAG_US_MIN = 60_000_000;
const LEAD_US_MIN = 1_000_000;
/** `oldestUs` is written when it has moved so far: 24 small writes a day. */
const OLDEST_STEP_US = 3_600_000_000;

interface Bounds {
  /** Nothing that is held arrived before. */
  readonly oldestUs: number;
  /** No event time is further behind its arrival. */
  readonly lagUs: number;
  /** Nor further ahead of it. */
  readonly leadUs: number;
}

/** A range of event times, half-open, µs. */
export interface EventRange {
  readonly fromUs: number;
  readonly toUs: number;
}

export class EventBounds {
  readonly #file: string;
  #stored: Bounds;
  /** Of this opening alone: what is stored may shrink to it once nothing older is held. */
  #own = { lagUs: 0, leadUs: 0 };
  readonly #openedUs: number;
  #isSaved: boolean;
  /** false: what is held from before this opening may be of any time. */
  #isKnown: boolean;

  /** @param isNew there is no journal yet: nothing is held */
  constructor(directory: string, nowUs: number, isNew: boolean) {
    this.#file = path.join(directory, NAME);
    this.#openedUs = nowUs;
    const read = isNew ? { oldestUs: nowUs, lagUs: LAG_US_MIN, leadUs: LEAD_US_MIN } : readBounds(this.#file);
    this.#isSaved = !isNew && read !== null;
    this.#isKnown = read !== null;
    this.#stored = read ?? { oldestUs: EVENT_TIME_MIN_US, lagUs: 0, leadUs: EVENT_TIME_AHEAD_MAX_US };
  }

  /** Event times that what the journal holds, or held, can have. */
  range(nowUs: number): EventRange {
    return this.around(this.#stored.oldestUs, nowUs);
  }

  /** Event times of what arrived in [fromUs, toUs]. */
  around(fromUs: number, toUs: number): EventRange {
    const from = Math.max(EVENT_TIME_MIN_US, Math.floor(Math.min(fromUs, toUs) - this.#stored.lagUs));
    return { fromUs: from, toUs: Math.max(from, Math.ceil(toUs + this.#stored.leadUs)) + 1 };
  }

  /**
   * Before a group commits: makes sure that its event times are covered.
   *
   * @param eventTimeUs NaN where there is none
   * @param nowUs wall clock; one that was never set is behind what was held before
   */
  cover(eventTimeUs: Float64Array, count: number, nowUs: number): void {
    const arrivalUs = Math.max(nowUs, this.#stored.oldestUs);
    let lagUs = 0;
    let leadUs = 0;
    for (let at = 0; at < count; at++) {
      const ahead = eventTimeUs[at] - arrivalUs;
      // Before 2015 and far ahead: quarantined, and then the range is that of the arrival.
      if (ahead < -lagUs && eventTimeUs[at] >= EVENT_TIME_MIN_US) lagUs = -ahead;
      else if (ahead > leadUs && ahead <= EVENT_TIME_AHEAD_MAX_US) leadUs = ahead;
    }
    this.#own = { lagUs: Math.max(this.#own.lagUs, lagUs), leadUs: Math.max(this.#own.leadUs, leadUs) };
    if (lagUs <= this.#stored.lagUs && leadUs <= this.#stored.leadUs) return;
    this.#store({
      oldestUs: this.#stored.oldestUs,
      lagUs: Math.max(this.#stored.lagUs, roundedUp(lagUs, LAG_US_MIN)),
      leadUs: Math.max(this.#stored.leadUs, roundedUp(leadUs, LEAD_US_MIN)),
    });
  }

  /** Now and then: nothing that is held arrived before `oldestUs`. */
  advance(oldestUs: number): void {
    const movedUs = oldestUs - this.#stored.oldestUs;
    // A clock that was set back makes what is held older than was said.
    if (this.#isSaved && movedUs >= 0 && movedUs < OLDEST_STEP_US) return;
    // Of what earlier openings brought nothing is left: their readings need not be covered any more.
    const isOwn = oldestUs >= this.#openedUs;
    if (!isOwn && !this.#isKnown) return;
    this.#isKnown = true;
    const { lagUs, leadUs } = isOwn ? this.#own : this.#stored;
    this.#store({
      oldestUs: Math.floor(oldestUs),
      lagUs: roundedUp(lagUs, LAG_US_MIN),
      leadUs: roundedUp(leadUs, LEAD_US_MIN),
    });
  }

  #store(bounds: Bounds): void {
    this.#stored = bounds;
    const body = { version: VERSION, ...bounds };
    const text = JSON.stringify({ ...body, crc: crc32(JSON.stringify(body)) });
    try {
      writeDurably(this.#file, text, `${this.#file}.new`);
      this.#isSaved = true;
    } catch {
      // A disk that takes nothing more takes no group either; the bounds of this process stand, the next change writes them.
      this.#isSaved = false;
    }
  }
}

/** To the next power of two, so that it seldom changes. */
function roundedUp(us: number, min: number): number {
  return us <= min ? min : 2 ** Math.ceil(Math.log2(us));
}

function readBounds(file: string): Bounds | null {
  try {
    const { crc, ...body } = JSON.parse(readFileSync(file, 'utf8')) as Bounds & { readonly version: number; readonly crc: number };
    const { version, oldestUs, lagUs, leadUs } = body;
    const isSane = [oldestUs, lagUs, leadUs].every((us) => Number.isSafeInteger(us) && us >= 0);
    return version === VERSION && isSane && crc === crc32(JSON.stringify({ version, oldestUs, lagUs, leadUs }))
      ? { oldestUs, lagUs, leadUs }
      : null;
  } catch {
    return null; // none yet, or not to be believed: the caller takes the widest
  }
}
