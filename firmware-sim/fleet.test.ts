import { describe, expect, test } from 'vitest';
import { ManualClock } from '../shared/clock.ts';
import { createDevices } from './devices/device.ts';
import { FLEET_DEFAULTS } from './devices/fleet-spec.ts';
import { Fleet, type FleetOptions } from './fleet.ts';
import type { DeviceLink } from './transport.ts';

const START_MS = 1_790_000_000_000;

/** A link that keeps what it is given until the test acknowledges it. */
class HeldLink implements DeviceLink {
  ready = true;
  connects = 1;
  cuts = 0;
  readonly held: { payload: Buffer; done: (error: Error | null) => void }[] = [];
  onReady: () => void = () => {};

  publish(_topic: string, payload: Buffer, _qos: 0 | 1 | 2, done: (error: Error | null) => void): void {
    this.held.push({ payload, done });
  }

  cut(): void {
    this.cuts++;
    this.ready = false;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  ackAll(): void {
    for (const { done } of this.held.splice(0)) done(null);
  }
}

function bench(overrides: Partial<FleetOptions> = {}): { clock: ManualClock; fleet: Fleet; link: HeldLink } {
  const clock = new ManualClock(START_MS * 1000);
  const link = new HeldLink();
  const devices = createDevices({
    ...FLEET_DEFAULTS,
    seed: 1,
    startMs: START_MS,
    devices: 1,
    intervalMs: 1000,
    models: { environment: 1, vibration: 0, energy: 0, gps: 0 },
    shapes: ['flat'],
    qos: [0, 1, 0],
  });
  const fleet = new Fleet({
    devices,
    clock,
    endMs: START_MS + 10_000,
    queueMessagesMax: 1000,
    inFlightMessagesMax: 64,
    reconnectEveryMs: null,
    connectsPerSecondMax: 1000,
    openLink: (_device, onReady) => {
      link.onReady = onReady;
      return link;
    },
    ...overrides,
  });
  fleet.raiseHorizon(Infinity);
  return { clock, fleet, link };
}

const SECOND_US = 1_000_000;

describe('a fleet', () => {
  test('sends on schedule although nothing is acknowledged, and measures from when a message was due', () => {
    const { clock, fleet, link } = bench();
    fleet.start();
    clock.advance(5 * SECOND_US - 1);
    expect(link.held).toHaveLength(5);
    clock.advance(SECOND_US);
    link.ackAll();
    expect(fleet.counts.messagesAcked).toBe(6);
    expect(fleet.ackLatency.maxMs).toBeGreaterThan(5900);
    expect(fleet.progress[0]?.acked.toRanges()).toEqual([[0, 6]]);
  });

  test('keeps what is due while the link is down and sends all of it afterwards, in order', () => {
    const { clock, fleet, link } = bench();
    link.ready = false;
    fleet.start();
    clock.advance(4 * SECOND_US - 1);
    expect(link.held).toHaveLength(0);
    expect(fleet.waitingMessages).toBe(4);
    link.ready = true;
    link.onReady();
    const device = fleet.progress[0]?.device;
    expect(link.held.map(({ payload }) => payload.toString())).toEqual([0, 1, 2, 3].map((index) => device?.payload(index).toString()));
  });

  test('gives up the oldest above the bound of its queue and records it as never sent', () => {
    const { clock, fleet, link } = bench({ queueMessagesMax: 3 });
    link.ready = false;
    fleet.start();
    clock.advance(8 * SECOND_US - 1);
    link.ready = true;
    link.onReady();
    link.ackAll();
    const progress = fleet.progress[0];
    expect(progress?.skipped.toRanges()).toEqual([[0, 5]]);
    expect(progress?.acked.toRanges()).toEqual([[5, 8]]);
    expect(fleet.counts.messagesSkipped).toBe(5);
  });

  test('has no more messages in flight than it may', () => {
    const { clock, fleet, link } = bench({ inFlightMessagesMax: 2 });
    fleet.start();
    clock.advance(6 * SECOND_US - 1);
    expect(link.held).toHaveLength(2);
    link.ackAll();
    expect(link.held).toHaveLength(2);
    expect(fleet.waitingMessages).toBe(2);
  });

  test('sends nothing at or beyond the horizon until it is raised', () => {
    const { clock, fleet, link } = bench();
    const limited = new Fleet({
      devices: fleet.progress.map((progress) => progress.device),
      clock,
      endMs: START_MS + 10_000,
      queueMessagesMax: 1000,
      inFlightMessagesMax: 64,
      reconnectEveryMs: null,
      connectsPerSecondMax: 1000,
      openLink: () => link,
    });
    limited.start();
    clock.advance(5 * SECOND_US);
    expect(link.held).toHaveLength(0);
    limited.raiseHorizon(START_MS + 2500);
    clock.advance(SECOND_US);
    expect(link.held).toHaveLength(3);
  });

  test('a message whose fate will never be known is neither acknowledged nor skipped', () => {
    const { clock, fleet, link } = bench();
    fleet.start();
    clock.advance(3 * SECOND_US - 1);
    link.held.splice(1, 1)[0]?.done(new Error('connection closed'));
    link.ackAll();
    const progress = fleet.progress[0];
    expect(progress?.acked.toRanges()).toEqual([
      [0, 1],
      [2, 3],
    ]);
    expect(progress?.skipped.size).toBe(0);
    expect(fleet.counts.messagesFailed).toBe(1);
  });

  test('is finished when everything due is acknowledged, and says so when it is not by the deadline', async () => {
    for (const acknowledge of [true, false]) {
      const { clock, fleet, link } = bench();
      const finished = fleet.finished(5000);
      fleet.start();
      clock.advance(11 * SECOND_US);
      expect(link.held).toHaveLength(10);
      if (acknowledge) link.ackAll();
      clock.advance(5 * SECOND_US);
      expect(await finished).toBe(acknowledge);
    }
  });

  test('a stop lets nothing more become due, and what never left is recorded as skipped', async () => {
    const { clock, fleet, link } = bench();
    link.ready = false;
    fleet.start();
    clock.advance(3 * SECOND_US - 1);
    fleet.stop();
    clock.advance(5 * SECOND_US);
    await fleet.close();
    expect(fleet.progress[0]?.skipped.toRanges()).toEqual([[0, 3]]);
    expect(link.held).toHaveLength(0);
  });

  test('cuts its sockets about as often as it is told', () => {
    const { clock, fleet, link } = bench({ reconnectEveryMs: 2000 });
    fleet.start();
    for (let step = 0; step < 100; step++) {
      clock.advance(SECOND_US / 10);
      link.ready = true;
    }
    expect(link.cuts).toBeGreaterThanOrEqual(4);
    expect(link.cuts).toBeLessThanOrEqual(5);
  });
});
