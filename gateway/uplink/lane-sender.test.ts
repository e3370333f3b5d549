import { describe, expect, test } from 'vitest';
import type { Position, Welcome } from '../../shared/uplink.ts';
import type { OfferedBatch } from '../journal/journal-api.ts';
import { LaneSender, type LaneAction, type LaneSenderSettings } from './lane-sender.ts';

const EPOCH = 'a'.repeat(32);
const HUB = 'b'.repeat(32);
const S = 1_000_000;
const settings: LaneSenderSettings = { handshakeTimeoutMs: 10_000, watchdogMs: 60_000, watchdogSlowMsMax: 600_000, laneRetryMs: 300_000 };

function position(fields: Partial<Position> = {}): Position {
  return {
    type: 'position',
    hubInstance: HUB,
    epoch: EPOCH,
    lane: 'live',
    generation: 0,
    received: 0,
    committed: 0,
    status: 'open',
    rewind: false,
    admission: { inFlightBytesMax: 250, backfillBytesPerSecond: 100 },
    ...fields,
  };
}

function welcome(fields: Partial<Position> = {}): Welcome {
  return {
    type: 'welcome',
    hubInstance: HUB,
    hubVersion: '1',
    lakeId: 'l',
    gateway: 'g',
    wireVersions: [1],
    compressions: [],
    wallUs: 0,
    position: position(fields),
  };
}

function batch(seq: number, bytes = 100): OfferedBatch {
  return { epoch: EPOCH, lane: 'live', seq, readingCount: 1, exceptionCount: 0, arrivalFromUs: 0, body: new Uint8Array(bytes) };
}

function sender(options: { base?: number; assigned?: number; paced?: boolean } = {}): LaneSender {
  const claim = { epoch: EPOCH, lane: 'live' as const, base: options.base ?? 1, assigned: options.assigned ?? 0 };
  return new LaneSender(claim, options.paced ?? false, settings, 0);
}

/** Actions in short: 'send 3/0' is seq and generation, 'offer >2' is afterSeq. */
function short(actions: LaneAction[]): string[] {
  return actions.map((action) => {
    switch (action.type) {
      case 'send':
        return `send ${action.batch.seq}/${action.generation}`;
      case 'offer':
        return `offer >${action.afterSeq} ${action.bytesMax}`;
      case 'free':
        return `free ${action.seq}`;
      case 'rewound':
        return `rewound >${action.afterSeq}/${action.generation}`;
      case 'close':
        return `close ${action.reason}`;
    }
  });
}

describe('sending', () => {
  test("asks the journal only after the welcome, from the hub's received position on, and frees what is committed", () => {
    const lane = sender({ base: 3, assigned: 7 });
    expect(lane.sealed(0)).toEqual([]);
    expect(short(lane.welcome(welcome({ received: 5, committed: 4 }), 0))).toEqual(['free 4', 'offer >5 250']);
    expect(short(lane.offered(1, [batch(6), batch(7)], 0))).toEqual(['send 6/0', 'send 7/0', 'offer >7 50']);
    expect(short(lane.offered(2, [], 0))).toEqual([]);
    expect(short(lane.sealed(0))).toEqual(['offer >7 50']);
    expect(short(lane.position(position({ received: 7, committed: 7 }), 0))).toEqual(['free 7']);
    expect(short(lane.offered(3, [], 0))).toEqual([]);
    expect(lane.idle).toBe(true);
  });

  test('stays within the bytes that the hub admits, but sends a batch above the bound when nothing else is in flight', () => {
    const lane = sender();
    lane.welcome(welcome(), 0);
    expect(short(lane.offered(1, [batch(1), batch(2), batch(3, 900), batch(4)], 0))).toEqual(['send 1/0', 'send 2/0']);
    expect(short(lane.position(position({ received: 1 }), 0))).toEqual([]);
    expect(short(lane.position(position({ received: 2 }), 0))).toEqual(['send 3/0']);
    expect(short(lane.position(position({ received: 3 }), 0))).toEqual(['send 4/0', 'offer >4 150']);
    expect(lane.state.inFlightBytes).toBe(100);
  });

  test('a smaller admission holds back what is ready, a larger one lets it go', () => {
    const lane = sender();
    lane.welcome(welcome({ admission: { inFlightBytesMax: 100, backfillBytesPerSecond: 0 } }), 0);
    expect(short(lane.offered(1, [batch(1), batch(2)], 0))).toEqual(['send 1/0']);
    expect(short(lane.position(position({ admission: { inFlightBytesMax: 200, backfillBytesPerSecond: 0 } }), 0))).toEqual(['send 2/0']);
  });

  test('a paced lane sends at the admitted rate, follows a change of it at once, and stands while it is 0', () => {
    const lane = sender({ paced: true });
    lane.welcome(welcome(), 0);
    expect(short(lane.offered(1, [batch(1), batch(2), batch(3)], 5 * S))).toEqual(['send 1/0']);
    expect(lane.deadlineUs()).toBe(6 * S);
    expect(short(lane.tick(5.9 * S))).toEqual([]);
    expect(short(lane.tick(6 * S))).toEqual(['send 2/0']);
    const admission = { inFlightBytesMax: 1000, backfillBytesPerSecond: 0 };
    expect(short(lane.position(position({ received: 2, committed: 2, admission }), 20 * S))).toEqual(['free 2']);
    expect(lane.deadlineUs()).toBe(Infinity);
    expect(
      short(lane.position(position({ received: 2, committed: 2, admission: { ...admission, backfillBytesPerSecond: 1 } }), 21 * S)),
    ).toEqual([]);
    expect(lane.deadlineUs()).toBe(106 * S);
    expect(
      short(lane.position(position({ received: 2, committed: 2, admission: { ...admission, backfillBytesPerSecond: 1000 } }), 22 * S)),
    ).toEqual(['send 3/0', 'offer >3 900']);
  });
});

describe('rewinding', () => {
  test('goes back once per generation, however often the hub says it, and drops an offer of before', () => {
    const lane = sender();
    lane.welcome(welcome(), 0);
    lane.offered(1, [batch(1), batch(2)], 0);
    expect(short(lane.position(position({ received: 0, rewind: true }), 0))).toEqual(['rewound >0/1', 'offer >0 250']);
    expect(short(lane.position(position({ received: 0, rewind: true }), 0))).toEqual([]);
    expect(short(lane.offered(2, [batch(3)], 0))).toEqual([]);
    expect(short(lane.offered(3, [batch(1), batch(2)], 0))).toEqual(['send 1/1', 'send 2/1', 'offer >2 50']);
  });

  test('what the hub turns out to have is not sent again', () => {
    const lane = sender();
    lane.welcome(welcome(), 0);
    lane.offered(1, [batch(1), batch(2)], 0);
    lane.position(position({ received: 0, rewind: true }), 0);
    expect(short(lane.position(position({ received: 2 }), 0))).toEqual([]);
    expect(short(lane.offered(3, [batch(1), batch(2), batch(3)], 0))).toEqual(['send 3/1', 'offer >3 150']);
  });

  test('a hub that only ever rewinds is left', () => {
    const lane = sender();
    lane.welcome(welcome(), 0);
    let last: string[] = [];
    for (let generation = 0; generation < 9; generation++) last = short(lane.position(position({ rewind: true, generation }), 0));
    expect(last).toEqual(['close protocol']);
  });
});

describe('giving up', () => {
  test('without a welcome in time', () => {
    const lane = sender();
    expect(lane.tick(10 * S - 1)).toEqual([]);
    expect(short(lane.tick(10 * S))).toEqual(['close no_welcome']);
  });

  test("in flight, nothing committed, nothing heard for the watchdog's time; it starts with the first batch in flight", () => {
    const lane = sender();
    lane.welcome(welcome(), 0);
    expect(lane.deadlineUs()).toBe(Infinity);
    lane.offered(1, [batch(1)], 100 * S);
    expect(lane.deadlineUs()).toBe(160 * S);
    lane.position(position({ received: 1 }), 130 * S);
    expect(lane.tick(189 * S)).toEqual([]);
    expect(short(lane.tick(190 * S))).toEqual(['close stalled']);
  });

  test('in flight and nothing committed for the longer bound, whatever is heard', () => {
    const lane = sender();
    lane.welcome(welcome(), 0);
    lane.offered(1, [batch(1)], 0);
    for (let at = 30; at < 600; at += 30) {
      lane.position(position({ received: 1 }), at * S);
      expect(lane.tick(at * S)).toEqual([]);
    }
    lane.position(position({ received: 1 }), 599 * S);
    expect(short(lane.tick(600 * S))).toEqual(['close stalled']);
  });

  test('on a fork, at the welcome or later, and nothing is freed or offered', () => {
    expect(short(sender({ assigned: 10 }).welcome(welcome({ received: 50, committed: 50 }), 0))).toEqual(['close forked']);
    expect(short(sender({ assigned: 10 }).welcome(welcome({ received: 10, committed: 10, status: 'forked' }), 0))).toEqual([
      'close forked',
    ]);
    const lane = sender();
    lane.welcome(welcome(), 0);
    lane.offered(1, [batch(1)], 0);
    expect(short(lane.position(position({ received: 2, committed: 1 }), 0))).toEqual(['close forked']);
    expect(lane.position(position({ received: 1, committed: 1 }), 0)).toEqual([]);
  });

  test('where the hub needs what the journal has freed', () => {
    expect(short(sender({ base: 5, assigned: 9 }).welcome(welcome({ received: 2, committed: 2 }), 0))).toEqual([
      'free 2',
      'close base_missing',
    ]);
    const lane = sender({ assigned: 9 });
    lane.welcome(welcome(), 0);
    expect(short(lane.offered(1, [batch(2)], 0))).toEqual(['close base_missing']);
  });

  test('on answers of another instance, lane or a generation that never was', () => {
    for (const wrong of [{ hubInstance: 'c'.repeat(32) }, { epoch: 'c'.repeat(32) }, { lane: 'backfill' as const }, { generation: 1 }]) {
      const lane = sender();
      lane.welcome(welcome(), 0);
      expect(short(lane.position(position(wrong), 0))).toEqual(['close protocol']);
    }
    expect(short(sender().position(position(), 0))).toEqual(['close protocol']);
  });

  test('when the hub is too old for a batch: waits, frees what comes to be committed, and asks again after the retry time', () => {
    const lane = sender();
    lane.welcome(welcome(), 0);
    lane.offered(1, [batch(1), batch(2)], 0);
    expect(short(lane.position(position({ received: 1, status: 'upgrade_hub' }), 1 * S))).toEqual([]);
    expect(lane.sealed(2 * S)).toEqual([]);
    expect(short(lane.position(position({ received: 1, committed: 1, status: 'upgrade_hub' }), 3 * S))).toEqual(['free 1']);
    expect(lane.tick(300 * S)).toEqual([]);
    expect(short(lane.tick(301 * S))).toEqual(['close upgrade_hub']);
  });

  test('when the journal fails', () => {
    const lane = sender();
    lane.welcome(welcome(), 0);
    expect(short(lane.offerFailed(1, 'disk'))).toEqual(['close journal']);
  });
});
