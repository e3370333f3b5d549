import { describe, expect, test } from 'vitest';
import { Watermarks } from './watermarks.ts';

const EPOCH = '0'.repeat(32);
const NOW_US = 1e13;

function claim(us: number, seq: number): Parameters<Watermarks['claim']>[1] {
  return { us, positions: [{ epoch: EPOCH, lane: 'live', seq }] };
}

describe('watermarks', () => {
  test('a claim counts once its positions are committed, less the allowed lateness', () => {
    const watermarks = new Watermarks(2);
    let committed = 0;
    watermarks.claim('gw', claim(10_000, 1), NOW_US, () => committed);
    watermarks.claim('gw', claim(20_000, 2), NOW_US, () => committed);
    expect(watermarks.acceptedUs('gw')).toBeNull();
    committed = 1;
    watermarks.accept('gw', () => committed);
    expect(watermarks.acceptedUs('gw')).toBe(8_000);
    committed = 5;
    watermarks.accept('gw', () => committed);
    expect(watermarks.acceptedUs('gw')).toBe(18_000);
  });

  test('a lake that stands still for an hour delays the watermark and does not starve it', () => {
    const watermarks = new Watermarks(0);
    for (let second = 1; second <= 3_600; second++) watermarks.claim('gw', claim(second * 1_000_000, second), NOW_US, () => 0);
    // The commit that ends it has what had been received when it began, not the newest.
    watermarks.accept('gw', () => 1_800);
    expect(watermarks.acceptedUs('gw')).toBeGreaterThan(1_500_000_000);
    expect(watermarks.acceptedUs('gw')).toBeLessThanOrEqual(1_800_000_000);
    watermarks.accept('gw', () => 3_600);
    expect(watermarks.acceptedUs('gw')).toBe(3_600_000_000);
  });

  test('of a gateway whose clock runs ahead is no later than now: it must not close what has not begun', () => {
    const watermarks = new Watermarks(0);
    watermarks.claim('gw', claim(NOW_US + 3_600_000_000, 0), NOW_US, () => 0);
    expect(watermarks.acceptedUs('gw')).toBe(NOW_US);
  });

  test('an accepted watermark never goes back', () => {
    const watermarks = new Watermarks(0);
    watermarks.claim('gw', claim(100, 0), NOW_US, () => 0);
    watermarks.claim('gw', claim(50, 0), NOW_US, () => 0);
    watermarks.restore('gw', 70, 0);
    expect(watermarks.acceptedUs('gw')).toBe(100);
  });
});
