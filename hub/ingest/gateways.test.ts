import { expect, test } from 'vitest';
import type { Heartbeat, Hello } from '../../shared/uplink.ts';
import { GatewayRegistry } from './gateways.ts';

const EPOCH = 'a'.repeat(32);
const OLD = 'c'.repeat(32);
const NOW = 1_785_000_000_000_000;
const backlog = { readings: 1, bytes: 2, exceptions: 0, oldestUs: null };
const hello: Hello = {
  type: 'hello',
  gatewayVersion: '1.2.3',
  wireVersions: [1],
  lakeId: null,
  epoch: EPOCH,
  lane: 'live',
  lanes: [
    { epoch: EPOCH, lane: 'live', base: 1, assigned: 0 },
    { epoch: OLD, lane: 'live', base: 4, assigned: 9 },
  ],
  backlog,
  clock: { state: 'known', wallUs: NOW },
};

test("lag is the age of the oldest reading by the gateway's own clock, however wrong that is", () => {
  const registry = new GatewayRegistry();
  registry.hello('g', hello, NOW);
  const hourUs = 3_600_000_000;
  const heartbeat: Heartbeat = {
    type: 'heartbeat',
    watermark: { us: NOW - hourUs, positions: [] },
    backlog: { ...backlog, oldestUs: NOW - hourUs - 5_000_000 },
    clock: { state: 'known', wallUs: NOW - hourUs },
  };
  registry.heartbeat('g', heartbeat, NOW);
  expect(registry.get('g', NOW + 2_000_000)).toMatchObject({
    version: '1.2.3',
    clockOffsetUs: -hourUs,
    lagUs: 7_000_000,
    claimedWatermarkUs: NOW - hourUs,
    lastContactUs: NOW,
  });
});

test('shows lanes that are connected and lanes that wait at the gateway, and forgets those that it no longer lists', () => {
  const registry = new GatewayRegistry();
  const key = { gateway: 'g', epoch: EPOCH, lane: 'live' as const };
  registry.hello('g', hello, NOW);
  registry.laneConnected(key, { received: 0, committed: 0, status: 'open' }, NOW);
  registry.lanePosition(key, { received: 5, committed: 3, status: 'open' });
  expect(registry.get('g', NOW)?.lanes).toEqual([
    { epoch: EPOCH, lane: 'live', base: 1, assigned: 5, received: 5, committed: 3, status: 'open', connected: true },
    { epoch: OLD, lane: 'live', base: 4, assigned: 9, received: null, committed: null, status: null, connected: false },
  ]);
  registry.laneDisconnected(key, false);
  registry.hello('g', { ...hello, lanes: hello.lanes.slice(1) }, NOW);
  expect(registry.get('g', NOW)?.lanes.map((lane) => lane.epoch)).toEqual([OLD]);
  expect(registry.get('g', NOW)?.connections).toBe(0);
});

test('at its bound forgets the disconnected gateway that has been silent longest', () => {
  const registry = new GatewayRegistry(2);
  registry.hello('old', hello, NOW);
  registry.laneConnected({ gateway: 'old', epoch: EPOCH, lane: 'live' }, { received: 0, committed: 0, status: 'open' }, NOW);
  registry.hello('gone', hello, NOW + 1);
  registry.hello('new', hello, NOW + 2);
  expect(registry.list(NOW + 3).map((info) => info.gateway)).toEqual(['new', 'old']);
});
