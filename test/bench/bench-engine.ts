/** The hub's engine in this process, as the benchmarks of the lake and of queries drive it: one lane, on a clock moved by hand. */
import { Engine } from '../../hub/engine.ts';
import { engineSettings } from '../../hub/engine.fixture.ts';
import { Lake } from '../../hub/lake/lake.ts';
import { LocalStore } from '../../hub/lake/local-store.ts';
import type { ObjectStore } from '../../hub/lake/store.ts';
import type { ManualClock } from '../../shared/clock.ts';
import { createLogger } from '../../shared/logging.ts';
import { laneAppId, type LaneKey } from '../../shared/uplink.ts';
import type { SealedBody } from './uplink-client.ts';

const LANE: LaneKey = { gateway: 'gw-1', epoch: '0123456789abcdef0123456789abcdef', lane: 'live' };
/** What the clock moves at a time while a commit is awaited. */
const STEP_US = 100_000;
const logger = createLogger('bench', 'silent');

export function openBenchLake(store: ObjectStore, lakeDir: string, clock: ManualClock): Promise<Lake> {
  return Lake.open(store, lakeDir, { clock, hubId: 'bench', logger });
}

export async function openLocalBenchLake(lakeDir: string, clock: ManualClock): Promise<Lake> {
  return openBenchLake(await LocalStore.open(lakeDir), lakeDir, clock);
}

export class BenchEngine {
  readonly engine: Engine;
  readonly #clock: ManualClock;
  readonly #position: { committed: number };
  #seq = 0;

  private constructor(engine: Engine, clock: ManualClock, position: { committed: number }) {
    this.engine = engine;
    this.#clock = clock;
    this.#position = position;
  }

  static async open(lake: Lake, lakeDir: string, clock: ManualClock): Promise<BenchEngine> {
    const position = { committed: 0 };
    const settings = engineSettings(lakeDir, { commitIntervalMsMin: 1_000, commitIntervalMsMax: 60_000 });
    const engine = await Engine.open(settings, lake, clock, logger, {
      committed(positions) {
        position.committed = positions.find(({ appId }) => appId === laneAppId(LANE))?.committed ?? position.committed;
      },
      pending: () => undefined,
      fatal(error) {
        throw error;
      },
    });
    await engine.openLane(LANE, { epoch: LANE.epoch, lane: 'live', base: 1, assigned: Number.MAX_SAFE_INTEGER });
    return new BenchEngine(engine, clock, position);
  }

  /** Lets `intervalUs` pass and waits until the batch is in the lake. @returns its seq */
  commit(batch: SealedBody, intervalUs: number): Promise<number> {
    return this.commitTogether([batch], intervalUs);
  }

  /** The same of several that are received at once: they are one commit if it may be so large. @returns the last one's seq */
  async commitTogether(batches: readonly SealedBody[], intervalUs: number): Promise<number> {
    for (const { body, readingCount } of batches) {
      const seq = ++this.#seq;
      this.engine.submit(LANE, { seq, readingCount, exceptionCount: 0, receivedUs: this.#clock.nowUs(), body: new Uint8Array(body) });
    }
    const seq = this.#seq;
    this.#clock.advance(intervalUs);
    while (this.#position.committed < seq) {
      await this.engine.idle();
      this.#clock.advance(STEP_US);
    }
    return seq;
  }
}
