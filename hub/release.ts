/**
 * Release of quarantined readings with corrected times.
 *
 * The exception stays as it is; its readings become a batch (see release-lane.ts), which the engine takes as it takes one of a
 * gateway: journal of nothing, committed or not at all. A crash before the commit leaves nothing, and whoever asks again
 * starts anew; a crash behind it leaves the position, which says that it is done.
 */
import { z } from 'zod';
import { encodeBatch } from '../shared/batch/encode.ts';
import type { Clock } from '../shared/clock.ts';
import { SluiceError } from '../shared/errors.ts';
import { EVENT_TIME_AHEAD_MAX_US, EVENT_TIME_MIN_US } from '../shared/reading.ts';
import { laneAppId, type LaneKey } from '../shared/uplink.ts';
import { DAYS_PER_COMMIT_MAX, type IngestEngine } from './engine-api.ts';
import type { ExceptionRow } from './query/query-api.ts';
import type { QueryService } from './query/query-service.ts';
import { exceptionIdText, releaseLane, type ExceptionId } from './release-lane.ts';

/** A commit that takes longer is not waited for. */
const WAIT_MS_MAX = 20_000;
const DAY_US = 86_400_000_000;
const ALL_TIME = { fromUs: 0, toUs: 253_402_300_799_000_000 };

/** How the times become right: all moved by so much, or the first one at this moment and the others as far from it as they were. */
export type TimeCorrection = { readonly shiftUs: number } | { readonly startUs: number };

export interface ReleaseAnswer {
  /** `pending`: it is on its way; ask again. */
  readonly status: 'released' | 'pending';
  readonly readings: number;
  /** An earlier request has released it: this one changed nothing. */
  readonly again: boolean;
}

const payloadSchema = z.object({
  device: z.string(),
  metric: z.string(),
  tags: z.string(),
  readings: z
    .array(
      z.object({
        ts: z.number().nullable(),
        value: z.number().nullable(),
        text: z.string().nullable(),
        /** The text is only the beginning of what was sent. */
        cut: z.boolean().optional(),
      }),
    )
    .min(1),
});

export interface ReleaseParts {
  readonly engine: Pick<IngestEngine, 'openLane' | 'submit' | 'onCommitted'>;
  readonly query: Pick<QueryService, 'exceptions'>;
  readonly clock: Clock;
}

export class Releases {
  readonly #parts: ReleaseParts;
  readonly #waiting = new Map<string, Set<() => void>>();

  constructor(parts: ReleaseParts) {
    this.#parts = parts;
    parts.engine.onCommitted((lane) => {
      for (const wake of this.#waiting.get(laneAppId(lane)) ?? []) wake();
    });
  }

  /** @throws SluiceError ERR_RELEASE_UNKNOWN, ERR_RELEASE_CONTENT, ERR_RELEASE_TIME, ERR_QUERY_*, ERR_LAKE_* */
  async release(id: ExceptionId, correction: TimeCorrection): Promise<ReleaseAnswer> {
    const { engine, clock } = this.#parts;
    const row = await this.#find(id);
    const { series, readings } = contentOf(row);
    const timesUs = correctedTimes(
      readings.map(({ ts }) => ts),
      correction,
      clock.nowUs(),
    );
    const lane = releaseLane(id);
    const { received } = await engine.openLane(lane, { epoch: lane.epoch, lane: lane.lane, base: 1, assigned: Number.MAX_SAFE_INTEGER });
    // Of two requests that both find 0 the engine drops the second one's batch, as it drops one that a gateway sends again.
    if (received === 0) engine.submit(lane, batchOf(series, readings, timesUs, clock.nowUs()));
    const isDone = await this.#wait(lane);
    return { status: isDone ? 'released' : 'pending', readings: readings.length, again: received > 0 };
  }

  async #find(id: ExceptionId): Promise<ExceptionRow> {
    const { rows } = await this.#parts.query.exceptions({
      ...ALL_TIME,
      gateways: [id.gateway],
      devices: null,
      metrics: null,
      kinds: null,
      id,
      limit: 1,
      after: null,
    });
    const [row] = rows;
    if (row === undefined) throw new SluiceError('ERR_RELEASE_UNKNOWN', `no exception ${exceptionIdText(id)} is in the lake`);
    return row;
  }

  /** @returns whether it is committed */
  async #wait(lane: LaneKey): Promise<boolean> {
    const { engine, clock } = this.#parts;
    const appId = laneAppId(lane);
    const isCommitted = async (): Promise<boolean> =>
      (await engine.openLane(lane, { epoch: lane.epoch, lane: lane.lane, base: 1, assigned: Number.MAX_SAFE_INTEGER })).committed > 0;
    const waiters = this.#waiting.get(appId) ?? new Set();
    this.#waiting.set(appId, waiters);
    try {
      await new Promise<void>((resolve, reject) => {
        const cancel = clock.after(WAIT_MS_MAX, resolve);
        const wake = (): void => {
          cancel();
          waiters.delete(wake);
          resolve();
        };
        waiters.add(wake);
        // It may have been committed before anybody waited.
        isCommitted().then((done) => (done ? wake() : undefined), reject);
      });
      return await isCommitted();
    } finally {
      if (waiters.size === 0) this.#waiting.delete(appId);
    }
  }
}

type Content = z.output<typeof payloadSchema>;

function contentOf(row: ExceptionRow): { series: { device: string; metric: string; tags: string }; readings: Content['readings'] } {
  if (row.kind !== 'quarantined' || row.payload === null)
    throw new SluiceError(
      'ERR_RELEASE_CONTENT',
      `the exception is a ${row.kind}${row.payload === null ? ' without its readings' : ''}; only quarantined readings can be released`,
    );
  let content: Content;
  try {
    content = payloadSchema.parse(JSON.parse(Buffer.from(row.payload).toString('utf8')));
  } catch (cause) {
    throw new SluiceError('ERR_RELEASE_CONTENT', 'the readings of the exception cannot be read', { cause });
  }
  const { device, metric, tags, readings } = content;
  if (readings.some(({ cut }) => cut === true))
    throw new SluiceError('ERR_RELEASE_CONTENT', 'a text was too long to be kept: only its beginning is there, which is not what was sent');
  return { series: { device, metric, tags }, readings };
}

/** @throws SluiceError ERR_RELEASE_TIME for readings without a time of their own, and times that would be quarantined again */
export function correctedTimes(sentUs: readonly (number | null)[], correction: TimeCorrection, nowUs: number): number[] {
  const known = sentUs.filter((us) => us !== null);
  if (known.length !== sentUs.length && !('startUs' in correction && sentUs.length === 1))
    throw new SluiceError(
      'ERR_RELEASE_TIME',
      `${sentUs.length - known.length} of ${sentUs.length} readings had no time of their own; only a single one can be given a start`,
    );
  const shiftUs = 'shiftUs' in correction ? correction.shiftUs : correction.startUs - Math.min(...(known.length === 0 ? [0] : known));
  const timesUs = sentUs.map((us) => Math.round((us ?? 0) + shiftUs));
  const latestUs = nowUs + EVENT_TIME_AHEAD_MAX_US;
  const [first, last] = [Math.min(...timesUs), Math.max(...timesUs)];
  if (first < EVENT_TIME_MIN_US || last > latestUs) {
    const day = (us: number): string => (Math.abs(us) < 8.64e18 ? new Date(us / 1000).toISOString() : `${us} µs`);
    throw new SluiceError(
      'ERR_RELEASE_TIME',
      `the readings would be of ${day(first)} to ${day(last)}; allowed is ${day(EVENT_TIME_MIN_US)} to ${day(latestUs)}`,
    );
  }
  const days = new Set(timesUs.map((us) => Math.floor(us / DAY_US))).size;
  if (days > DAYS_PER_COMMIT_MAX)
    throw new SluiceError(
      'ERR_RELEASE_TIME',
      `the readings would be of ${days} days; what is released together may be of ${DAYS_PER_COMMIT_MAX}`,
    );
  return timesUs;
}

function batchOf(
  series: { device: string; metric: string; tags: string },
  readings: Content['readings'],
  timesUs: readonly number[],
  nowUs: number,
) {
  const order = timesUs.map((_, index) => index).sort((a, b) => timesUs[a] - timesUs[b]);
  const texts: string[] = [];
  const text = Uint32Array.from(order, (index) => {
    const own = readings[index].text;
    return own === null ? 0 : texts.push(own);
  });
  const count = readings.length;
  const body = encodeBatch(
    {
      sealedUs: nowUs,
      arrivalFromUs: nowUs,
      arrivalToUs: nowUs,
      runs: {
        count,
        seriesTable: [series],
        runOffsets: Uint32Array.of(0, count),
        eventTimeUs: Float64Array.from(order, (index) => timesUs[index]),
        value: Float64Array.from(order, (index) => readings[index].value ?? NaN),
        text: texts.length === 0 ? null : text,
        texts,
      },
      exceptions: [],
    },
    'br',
  );
  return { seq: 1, readingCount: count, exceptionCount: 0, receivedUs: nowUs, body };
}
