import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ByteWriter } from './bytes.ts';
import { messageHash } from './message-hash.ts';
import { POSITIONS_MAX, REDELIVERY_LIMITS, RedeliveryKeys } from './redelivery.ts';

const index = (): number => 0;

describe('keys', () => {
  test('are bounded per client: the oldest go first', () => {
    const keys = new RedeliveryKeys({ ...REDELIVERY_LIMITS, keysPerClientMax: 20 });
    for (let id = 1; id <= 30; id++) keys.add('a', id, id, 1, index);
    expect(keys.size).toBe(20);
    expect(keys.groupOf('a', 10, 10)).toBe(null);
    expect(keys.groupOf('a', 11, 11)).toBe(1);
    expect(keys.groupOf('a', 30, 30)).toBe(1);
  });

  test('are bounded in total: the client that was quiet for longest loses first', () => {
    const keys = new RedeliveryKeys({ ...REDELIVERY_LIMITS, keysMax: 10 });
    for (let client = 0; client < 4; client++) for (let id = 0; id < 3; id++) keys.add(`c${client}`, id, id, client + 1, index);
    expect(keys.size).toBe(10);
    expect([0, 1, 2].map((id) => keys.groupOf('c0', id, id))).toEqual([null, null, 1]);
    expect(keys.groupOf('c3', 2, 2)).toBe(4);
  });

  test('are bounded in total whatever the order of activity is: as a list in that order would have it', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { maxLength: 60 }), (clients) => {
        const keys = new RedeliveryKeys({ ...REDELIVERY_LIMITS, keysMax: 7 });
        let model: { client: string; ids: number[] }[] = [];
        clients.forEach((client, id) => {
          keys.add(client, id, id, id + 1, index);
          const ids = [...(model.find((entry) => entry.client === client)?.ids ?? []), id];
          model = [...model.filter((entry) => entry.client !== client), { client, ids }];
          if (model.reduce((sum, entry) => sum + entry.ids.length, 0) > 7) model[0].ids.shift();
          model = model.filter((entry) => entry.ids.length > 0);
        });
        const kept = new Set(model.flatMap(({ client, ids }) => ids.map((id) => `${client} ${id}`)));
        clients.forEach((client, id) => expect(keys.groupOf(client, id, id) !== null).toBe(kept.has(`${client} ${id}`)));
      }),
    );
  });

  test('of a reused id: the newest message alone counts', () => {
    const keys = new RedeliveryKeys();
    keys.add('a', 1, 100, 1, index);
    keys.add('a', 1, 200, 2, index);
    expect(keys.groupOf('a', 1, 100)).toBe(null);
    expect(keys.groupOf('a', 1, 200)).toBe(2);
  });

  test('that are taken back are gone: the same message again is a new one, even if its id and payload were stored before', () => {
    const keys = new RedeliveryKeys({ ...REDELIVERY_LIMITS, keysMax: 12 });
    // The oldest of client a are dropped before its ring grows: it has come round then.
    for (let id = 1; id <= 8; id++) keys.add('a', id, 2 ** 32 - id, 1, index);
    for (let id = 1; id <= 8; id++) keys.add('b', id, id, 1, index);
    for (let id = 9; id <= 13; id++) keys.add('a', id, 2 ** 32 - id, 2, index);
    keys.add('a', 13, 2 ** 32 - 13, 3, index);
    keys.forget('a', 13, 2 ** 32 - 13);
    keys.forget('a', 12, 2 ** 32 - 12);
    expect(keys.groupOf('a', 13, 2 ** 32 - 13)).toBe(null);
    const again = new RedeliveryKeys();
    again.replay(keys.snapshot(new ByteWriter(), 0));
    for (const known of [keys, again]) {
      expect(known.groupOf('a', 12, 2 ** 32 - 12)).toBe(null);
      for (const id of [9, 10, 11]) expect(known.groupOf('a', id, 2 ** 32 - id)).not.toBe(null);
    }
  });

  test('positions of sources outlive a restart; the sources that were not moved for longest are forgotten first', () => {
    const keys = new RedeliveryKeys();
    keys.setPosition('a', 1);
    for (let index_ = 0; index_ < POSITIONS_MAX; index_++) {
      if (index_ === 5) keys.setPosition('a', Number.MAX_SAFE_INTEGER);
      keys.setPosition(`s${index_}`, index_);
    }
    const again = new RedeliveryKeys();
    again.replay(keys.snapshot(new ByteWriter(), 0));
    for (const known of [keys, again]) {
      expect(known.size).toBe(POSITIONS_MAX);
      expect([known.positionOf('a'), known.positionOf('s0'), known.positionOf('s9')]).toEqual([Number.MAX_SAFE_INTEGER, null, 9]);
    }
  });

  test('of an open QoS 2 id: only the message that opened it is a redelivery, also after a restart', () => {
    const keys = new RedeliveryKeys();
    keys.openQos2('a', 1, 100, 1);
    const again = new RedeliveryKeys();
    again.replay(keys.snapshot(new ByteWriter(), 0));
    for (const known of [keys, again]) {
      expect(known.isQos2Open('a', 1)).toBe(true);
      expect(known.qos2GroupOf('a', 1, 100)).not.toBe(null);
      // A clean session uses the id again before the old one was released: another message, and not to be lost.
      expect(known.qos2GroupOf('a', 1, 200)).toBe(null);
    }
  });

  test('come back out of a snapshot as they were', () => {
    const operation = fc.oneof(
      fc.record({
        op: fc.constant('add' as const),
        client: fc.constantFrom('a', 'b', 'c\u00e9'),
        id: fc.integer({ min: 0, max: 65_535 }),
        hash: fc.maxSafeNat(),
      }),
      fc.record({
        op: fc.constant('open' as const),
        client: fc.constantFrom('a', 'b'),
        id: fc.integer({ min: 1, max: 5 }),
        hash: fc.constant(0),
      }),
      fc.record({
        op: fc.constant('release' as const),
        client: fc.constantFrom('a', 'b'),
        id: fc.integer({ min: 1, max: 5 }),
        hash: fc.constant(0),
      }),
      fc.record({
        op: fc.constant('idempotency' as const),
        client: fc.string(),
        id: fc.constant(0),
        hash: fc.integer({ min: 0, max: 1000 }),
      }),
    );
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const limits = { keysPerClientMax: 16, keysMax: 24, qos2OpenMax: 6, idempotencyKeysMax: 6 };
        const keys = new RedeliveryKeys(limits);
        for (const { op, client, id, hash } of operations) {
          if (op === 'add') keys.add(client, id, hash, 1, index);
          else if (op === 'open') keys.openQos2(client, id, 7, 1);
          else if (op === 'release') keys.releaseQos2(client, id);
          else keys.addIdempotency(client, hash, 1);
        }
        const again = new RedeliveryKeys(limits);
        again.replay(keys.snapshot(new ByteWriter(), 0));
        expect(again.size).toBe(keys.size);
        for (const { client, id, hash } of operations) {
          expect(again.groupOf(client, id, hash) === null).toBe(keys.groupOf(client, id, hash) === null);
          expect(again.qos2GroupOf(client, id, 7) === null).toBe(keys.qos2GroupOf(client, id, 7) === null);
          expect(again.idempotencyGroupOf(client, 0) === null).toBe(keys.idempotencyGroupOf(client, 0) === null);
        }
      }),
      { numRuns: 100 },
    );
  });
});

describe('messageHash', () => {
  test('has 53 bits and changes with every part of the message', () => {
    const payload = Buffer.from('{"temperature":21.5,"humidity":40}');
    const seen = new Set<number>();
    for (let at = 0; at < payload.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const other = Buffer.from(payload);
        other[at] = other[at] ^ (1 << bit);
        seen.add(messageHash('devices/a/telemetry', other));
      }
    }
    for (let length = 0; length <= payload.length; length++) seen.add(messageHash('devices/a/telemetry', payload.subarray(0, length)));
    seen.add(messageHash('devices/b/telemetry', payload));
    expect(seen.size).toBe(payload.length * 8 + payload.length + 1 + 1);
    for (const hash of seen) expect(Number.isSafeInteger(hash) && hash >= 0).toBe(true);
    expect(Math.max(...seen)).toBeGreaterThan(2 ** 51);
  });
});
