import { describe, expect, test } from 'vitest';
import { laneAppId, type LaneKey } from '../../shared/uplink.ts';
import { PendingLanes, type PendingBatch } from './pending.ts';

const lane = (name: string): LaneKey => ({ gateway: name, epoch: '0'.repeat(32), lane: 'live' });

function batch(name: string, seq: number, bytes: number): PendingBatch {
  const key = lane(name);
  return { lane: key, appId: laneAppId(key), firstSeq: seq, seq, receivedUs: 0, runs: null, exceptions: [], days: [], bytes };
}

function pendingOf(lanes: readonly string[], batches: number): PendingLanes {
  const pending = new PendingLanes();
  for (const name of lanes) {
    pending.settle(lane(name), 0);
    for (let seq = 1; seq <= batches; seq++) pending.add(batch(name, seq, 100));
  }
  return pending;
}

describe('pending lanes', () => {
  test('a group stays within its bound, whatever the number of lanes, and every lane gets its turn', () => {
    const lanes = Array.from({ length: 50 }, (_, index) => `gw-${index}`);
    const pending = pendingOf(lanes, 4);
    const taken = new Map<string, number>();
    for (let group = 0; group < 20; group++) {
      pending.takeGroup({ readingsMax: 1e9, bytesMax: 1_000, daysMax: 64 });
      expect(pending.group().reduce((sum, { batches }) => sum + batches.length, 0)).toBe(10);
      for (const { key, to } of pending.group()) {
        taken.set(key.gateway, to);
        pending.settle(key, to);
      }
      // After five groups of ten, each of the fifty lanes has had one turn.
      if (group % 5 === 4) expect([...taken.values()]).toEqual(lanes.map(() => (group + 1) / 5));
    }
    expect(pending.bytes).toBe(0);
    expect(pending.waitingBatches).toBe(0);
  });

  test('few lanes fill a group with several batches each, in order', () => {
    const pending = pendingOf(['a', 'b'], 5);
    pending.takeGroup({ readingsMax: 1e9, bytesMax: 700, daysMax: 64 });
    expect(pending.group().map(({ from, to }) => [from, to])).toEqual([
      [0, 4],
      [0, 3],
    ]);
    for (const { key, to } of pending.group()) pending.settle(key, to);
    pending.takeGroup({ readingsMax: 1e9, bytesMax: 700, daysMax: 64 });
    expect(pending.group().map(({ from, to }) => [from, to])).toEqual([
      [4, 5],
      [3, 5],
    ]);
  });

  test('what another hub has committed leaves group and waiting batches, and the rest goes on from there', () => {
    const pending = pendingOf(['a'], 5);
    pending.takeGroup({ readingsMax: 1e9, bytesMax: 200, daysMax: 64 });
    expect(pending.settle(lane('a'), 3)).toEqual({ fromGroup: 2, fromWaiting: 1 });
    expect(pending.hasGroup).toBe(false);
    pending.takeGroup({ readingsMax: 1e9, bytesMax: 1_000, daysMax: 64 });
    expect(pending.group()).toMatchObject([{ from: 3, to: 5 }]);
    expect(pending.settle(lane('a'), 9)).toEqual({ fromGroup: 2, fromWaiting: 0 });
    expect(pending.received(laneAppId(lane('a')))).toBe(9);
  });
});

test('a group touches so many days at most, and what is left out goes first into the next', () => {
  const pending = new PendingLanes();
  const old = { gateway: 'old', epoch: '0'.repeat(32), lane: 'live' } as const;
  const live = { ...old, gateway: 'live' };
  pending.settle(old, 0);
  pending.settle(live, 0);
  const batch = (key: typeof old | typeof live, seq: number, days: readonly number[]): PendingBatch => ({
    ...{ lane: key, appId: laneAppId(key), firstSeq: seq, seq, receivedUs: 0, runs: null, exceptions: [], bytes: 1 },
    days,
  });
  for (let seq = 1; seq <= 6; seq++) {
    pending.add(batch(old, seq, [seq * 2, seq * 2 + 1]));
    pending.add(batch(live, seq, [100]));
  }
  const limits = { readingsMax: 1e9, bytesMax: 1e9, daysMax: 5 };
  pending.takeGroup(limits);
  const taken = (): Record<string, number> => Object.fromEntries(pending.group().map(({ key, to }) => [key.gateway, to]));
  expect(taken()).toEqual({ old: 2, live: 6 });
  pending.settle(old, 2);
  pending.settle(live, 6);
  pending.takeGroup(limits);
  expect(taken()).toEqual({ old: 4 });
});

test('a lane whose day is one too many for a group is the first of the next, however much backlog others have', () => {
  const pending = new PendingLanes();
  const lanes = ['a', 'b', 'live'].map((gateway) => ({ gateway, epoch: '0'.repeat(32), lane: 'live' }) as const);
  for (const lane of lanes) pending.settle(lane, 0);
  lanes.forEach((lane, index) => {
    for (let seq = 1; seq <= 5; seq++) {
      const days = lane.gateway === 'live' ? [100] : [10 * seq + 2 * index, 10 * seq + 2 * index + 1];
      const appId = laneAppId(lane);
      pending.add({ lane, appId, firstSeq: seq, seq, receivedUs: 0, runs: null, exceptions: [], bytes: 1, days });
    }
  });
  const taken: string[][] = [];
  for (let group = 0; group < 2; group++) {
    pending.takeGroup({ readingsMax: 1e9, bytesMax: 1e9, daysMax: 4 });
    taken.push(pending.group().map(({ key }) => key.gateway));
    for (const { key, to } of pending.group()) pending.settle(key, to);
  }
  expect(taken).toEqual([['a', 'b'], expect.arrayContaining(['live'])]);
});
