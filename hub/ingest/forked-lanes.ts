/**
 * Lanes that have forked: the lake has more of them than their gateway ever assigned (a restored image or snapshot).
 *
 * What such a gateway still holds of the lane may be what the lake has, or something else under the same seqs: nobody can
 * tell, so it is held at the gateway until an operator decides. `release` takes it in as a lane of its own: its epoch is
 * derived from the old one, so that no row shares an id with another. Readings that the other branch has sent as well are
 * then in the lake twice, which is what the operator is told.
 *
 * Layout, immutable objects: `_sluice/lanes/<id>.json`, written when a hub sees the fork; `_sluice/lanes/<id>.released.json`,
 * put by the operator's command. The id is a hash of the lane. Crash: each is there whole or not at all, and what a hub did
 * not write it writes at the gateway's next question.
 *
 * To the uplink it is the engine; lanes that were released are renamed on the way in and out.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Clock } from '../../shared/clock.ts';
import { errorMessage, isSluiceError, SluiceError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logging.ts';
import { laneAppId, type LaneClaim, type LaneKey, type WatermarkClaim } from '../../shared/uplink.ts';
import type { IngestEngine, LaneState, SubmittedBatch } from '../engine-api.ts';
import type { ObjectStore } from '../lake/store.ts';

const PREFIX = '_sluice/lanes/';
/** A released lane may fork again, when its gateway is restored from the same image again. */
const FORKS_MAX = 8;

const forkSchema = z.object({
  gateway: z.string(),
  epoch: z.string(),
  lane: z.enum(['live', 'backfill']),
  /** What the gateway had assigned and the lake had committed when the fork was seen. */
  assigned: z.int(),
  committed: z.int(),
  seenUs: z.int(),
});
type Fork = z.infer<typeof forkSchema>;

export interface ForkedLane extends Fork {
  readonly id: string;
  readonly isReleased: boolean;
}

type LaneStore = Pick<ObjectStore, 'putIfAbsent' | 'get' | 'list'>;

function idOf(lane: LaneKey): string {
  return createHash('sha256').update(laneAppId(lane)).digest('hex').slice(0, 16);
}

/** The lane that takes in what is left of a released one. */
export function releasedLane(lane: LaneKey): LaneKey {
  return { ...lane, epoch: createHash('sha256').update(`${lane.epoch}/released`).digest('hex').slice(0, 32) };
}

/** Those that hubs have seen, oldest first. @throws SluiceError ERR_STORE_* */
export async function listForkedLanes(store: LaneStore): Promise<ForkedLane[]> {
  const keys = (await store.list(PREFIX)).map(({ key }) => key);
  const lanes: ForkedLane[] = [];
  for (const key of keys) {
    const id = /^_sluice\/lanes\/([0-9a-f]{16})\.json$/.exec(key)?.[1];
    const bytes = id === undefined ? null : await store.get(key);
    if (id === undefined || bytes === null) continue;
    const fork = forkSchema.safeParse(parseJson(bytes));
    if (fork.success) lanes.push({ id, ...fork.data, isReleased: keys.includes(`${PREFIX}${id}.released.json`) });
  }
  return lanes.sort((a, b) => a.seenUs - b.seenUs);
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null; // damaged: its lane asks again, and stays held
  }
}

/** Lets what the gateway holds of the lane into the lake. Twice is once. @throws SluiceError ERR_LANE_UNKNOWN, ERR_STORE_* */
export async function releaseForkedLane(store: LaneStore, id: string, clock: Clock): Promise<ForkedLane> {
  const lane = (await listForkedLanes(store)).find((known) => known.id === id);
  if (lane === undefined)
    throw new SluiceError('ERR_LANE_UNKNOWN', `no forked lane has the id ${id}; \`sluice-hub lanes list\` shows them`);
  await store.putIfAbsent(`${PREFIX}${id}.released.json`, new TextEncoder().encode(JSON.stringify({ releasedUs: clock.nowUs() })));
  return { ...lane, isReleased: true };
}

export interface ForkedLanesOptions {
  readonly engine: IngestEngine;
  readonly store: LaneStore;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class ForkedLanes implements IngestEngine {
  readonly #engine: IngestEngine;
  readonly #store: LaneStore;
  readonly #clock: Clock;
  readonly #logger: Logger;
  /** By laneAppId: what a lane is called in the lake, and back. One per released lane that has connected here. */
  readonly #inLake = new Map<string, LaneKey>();
  readonly #atGateway = new Map<string, LaneKey>();

  constructor({ engine, store, clock, logger }: ForkedLanesOptions) {
    this.#engine = engine;
    this.#store = store;
    this.#clock = clock;
    this.#logger = logger;
  }

  get lakeId(): string {
    return this.#engine.lakeId;
  }

  get pendingBytes(): number {
    return this.#engine.pendingBytes;
  }

  async openLane(lane: LaneKey, claim: LaneClaim): Promise<LaneState> {
    let state = await this.#engine.openLane(lane, claim);
    let key = lane;
    for (let fork = 0; state.status === 'forked' && fork < FORKS_MAX; fork++) {
      if (!(await this.#isReleased(key, claim, state))) return state;
      // What the other branch commits there is not what this gateway holds, and must free nothing.
      this.#atGateway.delete(laneAppId(key));
      key = releasedLane(key);
      state = await this.#engine.openLane(key, { ...claim, epoch: key.epoch }, true);
      this.#inLake.set(laneAppId(lane), key);
      this.#atGateway.set(laneAppId(key), lane);
    }
    return state;
  }

  async #isReleased(lane: LaneKey, { assigned }: LaneClaim, { committed }: LaneState): Promise<boolean> {
    const id = idOf(lane);
    try {
      if ((await this.#store.get(`${PREFIX}${id}.released.json`)) !== null) return true;
      const fork: Fork = { ...lane, assigned, committed, seenUs: this.#clock.nowUs() };
      await this.#store.putIfAbsent(`${PREFIX}${id}.json`, new TextEncoder().encode(JSON.stringify(fork)));
    } catch (error) {
      if (!isSluiceError(error)) throw error;
      this.#logger.warn({ lane, error: errorMessage(error) }, 'whether a forked lane is released cannot be read now: it stays held');
    }
    return false;
  }

  submit(lane: LaneKey, batch: SubmittedBatch): void {
    this.#engine.submit(this.#inLake.get(laneAppId(lane)) ?? lane, batch);
  }

  assertWatermark(gateway: string, claim: WatermarkClaim): void {
    this.#engine.assertWatermark(gateway, claim);
  }

  onCommitted(callback: (lane: LaneKey, committed: number) => void): void {
    this.#engine.onCommitted((lane, committed) => {
      // Positions of the branch that the lake has mean nothing to a gateway of the other.
      if (!this.#inLake.has(laneAppId(lane))) callback(this.#atGateway.get(laneAppId(lane)) ?? lane, committed);
    });
  }

  onPendingBytes(callback: (pendingBytes: number) => void): void {
    this.#engine.onPendingBytes(callback);
  }
}
