import { expect, test } from 'vitest';
import { LaneReceiver } from './lane-receiver.ts';

test('takes batches in order and ignores what it has', () => {
  const lane = new LaneReceiver({ committed: 2, received: 4, status: 'open' });
  expect(lane.judge(3, 0)).toBe('ignore');
  expect(lane.judge(5, 0)).toBe('next');
  lane.taken();
  expect(lane.judge(5, 0)).toBe('ignore');
  expect(lane.received).toBe(5);
});

test('asks for a rewind once per generation, takes nothing of it any more, and goes on with the next generation', () => {
  const lane = new LaneReceiver({ committed: 0, received: 0, status: 'open' });
  expect(lane.judge(2, 0)).toBe('hole');
  expect(lane.rewind).toBe(true);
  expect(lane.judge(3, 0)).toBe('ignore');
  expect(lane.judge(1, 0)).toBe('ignore');
  expect(lane.judge(1, 1)).toBe('next');
  lane.taken();
  expect(lane).toMatchObject({ rewind: false, generation: 1, received: 1 });
  expect(lane.judge(2, 0)).toBe('ignore');
  expect(lane.judge(4, 1)).toBe('hole');
});

test('a commit of another hub moves received along, an older one moves nothing', () => {
  const lane = new LaneReceiver({ committed: 0, received: 3, status: 'open' });
  expect(lane.commit(2)).toBe(true);
  expect(lane.received).toBe(3);
  expect(lane.commit(9)).toBe(true);
  expect(lane.received).toBe(9);
  expect(lane.commit(5)).toBe(false);
  expect(lane.committed).toBe(9);
});

test('a lane that waits for an upgrade or has forked takes nothing and asks for nothing', () => {
  const lane = new LaneReceiver({ committed: 0, received: 0, status: 'open' });
  lane.waitForUpgrade();
  for (const seq of [1, 2, 9]) expect(lane.judge(seq, 0)).toBe('ignore');
  expect(lane).toMatchObject({ status: 'upgrade_hub', rewind: false });
  expect(new LaneReceiver({ committed: 9, received: 9, status: 'forked' }).judge(10, 0)).toBe('ignore');
});
