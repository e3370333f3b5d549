import { describe, expect, test } from 'vitest';
import { ManualClock } from '../shared/clock.ts';
import { DeviceClocks, DEVICES_MAX, WINDOW_MS } from './clock-devices.ts';
import { Decoder } from './decode/decoder.ts';
import { CollectingSink } from './decode/test-sink.ts';
import { topicRuleSchema } from './decode/topic-rules.ts';
import { BoundedSeriesRegistry } from './journal/registry.ts';

const START_US = Date.UTC(2026, 0, 15, 12) * 1000;
const SECOND_US = 1_000_000;
const HOUR_US = 3600 * SECOND_US;

class TestClock extends ManualClock {
  readonly boot = 'boot';
  known = true;
  extraUs = 0;
  get offsetUs(): number {
    return START_US + this.extraUs;
  }
}

function setting(deviceClock: 'report' | 'apply' = 'report') {
  const clock = new TestClock(START_US);
  const clocks = new DeviceClocks(clock);
  const registry = new BoundedSeriesRegistry(100);
  const decoder = new Decoder([topicRuleSchema.parse({ match: 'd/{device}', timeUnit: 'us', deviceClock })], registry, clocks);
  /** What the device's clock says when it is sent, and what becomes of it: `metric=value@time`. */
  const send = (device: string, eventTimeUs: number | null): string[] => {
    const plan = decoder.plan(`d/${device}`);
    if (plan === null) throw new Error('no rule');
    const sink = new CollectingSink(registry);
    const payload = Buffer.from(JSON.stringify(eventTimeUs === null ? { t: 1 } : { ts: eventTimeUs, t: 1, u: 2 }));
    decoder.decode(plan, payload, sink, { arrivalUs: clock.nowUs(), onlyDevice: null });
    return sink.readings.map(({ metric, value, us }) => `${metric}=${value}@${us}`);
  };
  const windows = (count: number, each: (at: number) => void): void => {
    for (let window = 0; window < count; window++) {
      each(window);
      clock.advance(WINDOW_MS * 1000);
    }
  };
  return { clock, clocks, send, windows };
}

describe('the estimated error of a device’s clock', () => {
  test('is that of its least delayed readings, late ones and one impossible time notwithstanding', () => {
    const { clock, clocks, send, windows } = setting();
    windows(8, (window) => {
      for (const delayUs of [900_000, 40_000, 5 * SECOND_US]) send('ahead', clock.nowUs() + HOUR_US - delayUs);
      send('behind', clock.nowUs() - 420 * SECOND_US);
      send('right', window === 3 ? clock.nowUs() + 1e5 * HOUR_US : clock.nowUs() - 20_000);
      send('timeless', null);
      if (window > 4) for (let minute = 0; minute < 9; minute++) send('right', clock.nowUs() - minute * 60 * SECOND_US - 20_000);
    });
    expect(clocks.worst(10)).toEqual([
      { device: 'ahead', aheadUs: HOUR_US - 40_000, appliedUs: expect.any(Number) as number },
      { device: 'behind', aheadUs: -420 * SECOND_US, appliedUs: expect.any(Number) as number },
      { device: 'right', aheadUs: -20_000, appliedUs: 0 },
    ]);
  });

  test('does not follow a device that sends what it stored for some minutes', () => {
    const { clock, clocks, send, windows } = setting();
    windows(4, () => send('d', clock.nowUs() - 20_000));
    windows(5, () => send('d', clock.nowUs() - 6 * HOUR_US));
    expect(clocks.worst(1)[0]?.aheadUs).toBe(-20_000);
  });

  test('is not learnt while the gateway does not know the time, and forgotten when its own clock is set', () => {
    const { clock, clocks, send, windows } = setting();
    clock.known = false;
    windows(5, () => send('d', clock.nowUs() + HOUR_US));
    expect(clocks.worst(1)).toEqual([]);
    clock.known = true;
    windows(4, () => send('d', clock.nowUs() + HOUR_US));
    clock.extraUs = HOUR_US;
    clock.step(HOUR_US);
    windows(4, () => send('d', clock.nowUs()));
    expect(clocks.worst(1)[0]?.aheadUs).toBe(0);
  });

  test('is kept for a bounded number of devices', () => {
    const { clocks } = setting();
    for (let device = 0; device < DEVICES_MAX + 5; device++) clocks.of(`d${device}`);
    expect([clocks.untracked, clocks.of('another'), clocks.of('d7')?.device]).toEqual([5, null, 'd7']);
  });
});

describe('a topic whose rule applies it', () => {
  test('has right times, from which the original ones can be had to the microsecond', () => {
    const { clock, send, windows } = setting('apply');
    windows(4, () => send('d', clock.nowUs() + HOUR_US));
    const sentUs = clock.nowUs() + HOUR_US + 123_457;
    const rightUs = sentUs - HOUR_US;
    expect(send('d', sentUs)).toEqual([`device_clock_ahead_us=${HOUR_US}@${rightUs}`, `t=1@${rightUs}`, `u=2@${rightUs}`]);
    expect(send('d', null)).toEqual(['t=1@null']);
  });

  test('leaves alone what is right, and other topics what they sent', () => {
    for (const [rule, aheadUs] of [
      ['apply', SECOND_US],
      ['report', HOUR_US],
    ] as const) {
      const { clock, send, windows } = setting(rule);
      windows(4, () => send('d', clock.nowUs() + aheadUs));
      const sentUs = clock.nowUs() + aheadUs;
      expect(send('d', sentUs)).toEqual([`t=1@${sentUs}`, `u=2@${sentUs}`]);
    }
  });
});
