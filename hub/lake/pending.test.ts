import { describe, expect, test } from 'vitest';
import { laneAppId, type LaneKey } from '../../shared/uplink.ts';
import { PendingLanes, type PendingBatch } from './pending.ts';

const lane = (name: string): LaneKey => ({ gateway: name, epoch: '0'.repeat(32), lane: 'live' });

function batch(name: string, seq: number, bytes: number): PendingBatch {
  const key = lane(name);
  return { lane: key, appId: laneAppId(key), firstSeq: seq, seq, receivedUs: 0, runs: null, exceptions: [], bytes };
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
      pending.takeGroup({ readingsMax: 1e9, bytesMax: 1_000 });
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
    pending.takeGroup({ readingsMax: 1e9, bytesMax: 700 });
    expect(pending.group().map(({ from, to }) => [from, to])).toEqual([
      [0, 4],
      [0, 3],
    ]);
    for (const { key, to } of pending.group()) pending.settle(key, to);
    pending.takeGroup({ readingsMax: 1e9, bytesMax: 700 });
    expect(pending.group().map(({ from, to }) => [from, to])).toEqual([
      [4, 5],
      [3, 5],
    ]);
  });

  test('what another hub has committed leaves group and waiting batches, and the rest goes on from there', () => {
    const pending = pendingOf(['a'], 5);
    pending.takeGroup({ readingsMax: 1e9, bytesMax: 200 });
    expect(pending.settle(lane('a'), 3)).toEqual({ fromGroup: 2, fromWaiting: 1 });
    expect(pending.hasGroup).toBe(false);
    pending.takeGroup({ readingsMax: 1e9, bytesMax: 1_000 });
    expect(pending.group()).toMatchObject([{ from: 3, to: 5 }]);
    expect(pending.settle(lane('a'), 9)).toEqual({ fromGroup: 2, fromWaiting: 0 });
    expect(pending.received(laneAppId(lane('a')))).toBe(9);
  });
});
