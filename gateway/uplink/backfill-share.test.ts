import { describe, expect, test } from 'vitest';
import { BACKFILL_SHARE_MIN, BackfillShare } from './backfill-share.ts';

const STEP_MS = 500;

/**
 * A link that both share by halves where both want more, as two TCP connections do. Live data that does not fit waits.
 *
 * @returns the mean over the last half of the time
 */
function run(linkBytesPerSecond: number, liveBytesPerSecond: number, steps: number): { backfill: number; live: number; waitMsMax: number } {
  const share = new BackfillShare();
  const total = { backfill: 0, live: 0, waitMsMax: 0 };
  let liveQueue = 0;
  for (let step = 0; step < steps; step++) {
    const room = (linkBytesPerSecond * STEP_MS) / 1000;
    liveQueue += (liveBytesPerSecond * STEP_MS) / 1000;
    const wanted = Math.min(room, (share.bytesPerSecond * STEP_MS) / 1000);
    const backfill = Math.min(wanted, Math.max(room / 2, room - liveQueue));
    const live = Math.min(liveQueue, room - backfill);
    liveQueue -= live;
    const liveWaitMs = (liveQueue / liveBytesPerSecond) * 1000;
    share.sample({ elapsedMs: STEP_MS, deliveredBytes: backfill + live, liveWaitMs });
    if (step < steps / 2) continue;
    total.backfill += backfill;
    total.live += live;
    total.waitMsMax = Math.max(total.waitMsMax, liveWaitMs);
  }
  const seconds = ((steps - steps / 2) * STEP_MS) / 1000;
  return { backfill: total.backfill / seconds, live: total.live / seconds, waitMsMax: total.waitMsMax };
}

describe('old data beside live data', () => {
  test('is not held back by a link that carries both', () => {
    expect(run(10_000_000, 50_000, 100).backfill).toBeGreaterThan(8_000_000);
  });

  test('leaves live data what it needs on a link that both would fill', () => {
    const { live, backfill, waitMsMax } = run(100_000, 70_000, 600);
    expect(live).toBeGreaterThan(68_000);
    expect(waitMsMax).toBeLessThan(2_000);
    expect(backfill).toBeGreaterThan(100_000 * BACKFILL_SHARE_MIN * 0.8);
  });

  test('keeps its fifth of a link that live data alone would fill', () => {
    const { live, backfill } = run(100_000, 150_000, 200);
    expect(backfill).toBeGreaterThan(100_000 * BACKFILL_SHARE_MIN * 0.9);
    expect(live).toBeGreaterThan(70_000);
  });

  test('goes on at a trickle where nothing gets through, and at full speed soon after', () => {
    const share = new BackfillShare();
    for (let step = 0; step < 50; step++) share.sample({ elapsedMs: STEP_MS, deliveredBytes: 0, liveWaitMs: 5_000 });
    expect(share.bytesPerSecond).toBeGreaterThan(0);
    for (let step = 0; step < 60; step++) share.sample({ elapsedMs: STEP_MS, deliveredBytes: 1_000_000, liveWaitMs: 0 });
    expect(share.bytesPerSecond).toBe(Infinity);
  });
});
