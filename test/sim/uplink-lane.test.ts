/**
 * A lane's sender against a lane's receiver, both the real ones, over a network, hubs and a lake that are models: batches
 * and answers get lost, doubled and reordered, connections are cut, hubs die and forget, two hubs share the lake.
 *
 * At every step: nothing is freed that the lake does not have, and the lake has each batch once, in order. At the end,
 * once the faults stop: everything produced is in the lake and freed.
 */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { OfferedBatch } from '../../gateway/journal/journal-api.ts';
import { LaneSender, type LaneAction } from '../../gateway/uplink/lane-sender.ts';
import { LaneReceiver } from '../../hub/ingest/lane-receiver.ts';
import type { Position } from '../../shared/uplink.ts';

const EPOCH = 'e'.repeat(32);
const BATCH_BYTES = 100;
const settings = { handshakeTimeoutMs: 10_000, watchdogMs: 60_000, watchdogSlowMsMax: 600_000, laneRetryMs: 300_000 };

interface Hub {
  instance: string;
  /** Seq to content, in memory. */
  pending: Map<number, number>;
}

interface Connection {
  sender: LaneSender;
  receiver: LaneReceiver;
  hub: Hub;
  instance: string;
  up: { seq: number; generation: number; content: number }[];
  down: Position[];
}

class World {
  #instances = 0;
  nowUs = 1_000_000;
  produced = 0;
  assigned = 0;
  freed = 0;
  /** Content by seq - 1. */
  readonly lake: number[] = [];
  readonly hubs: Hub[] = [this.#newHub(), this.#newHub()];
  connection: Connection | null = null;
  /** Asked of the journal and not yet answered; a rewind may ask again before the first answer. */
  readonly offers: { id: number; afterSeq: number; bytesMax: number; sender: LaneSender }[] = [];
  closes: string[] = [];

  #newHub(): Hub {
    return { instance: (++this.#instances).toString(16).padStart(32, '0'), pending: new Map() };
  }

  #receivedOf(hub: Hub): number {
    let received = this.lake.length;
    while (hub.pending.has(received + 1)) received++;
    return received;
  }

  #position(connection: Connection): Position {
    const { receiver } = connection;
    return {
      type: 'position',
      hubInstance: connection.instance,
      epoch: EPOCH,
      lane: 'live',
      generation: receiver.generation,
      received: receiver.received,
      committed: receiver.committed,
      status: receiver.status,
      rewind: receiver.rewind,
      admission: { inFlightBytesMax: 3 * BATCH_BYTES, backfillBytesPerSecond: 0 },
    };
  }

  connect(hubIndex: number): void {
    this.cut();
    const hub = this.hubs[hubIndex];
    const sender = new LaneSender(
      { epoch: EPOCH, lane: 'live', base: this.freed + 1, assigned: this.assigned },
      false,
      settings,
      this.nowUs,
    );
    const receiver = new LaneReceiver({ committed: this.lake.length, received: this.#receivedOf(hub), status: 'open' });
    const connection: Connection = { sender, receiver, hub, instance: hub.instance, up: [], down: [] };
    this.connection = connection;
    const position = this.#position(connection);
    this.#do(
      sender.welcome(
        {
          type: 'welcome',
          hubInstance: hub.instance,
          hubVersion: '1',
          lakeId: 'l',
          gateway: 'g',
          wireVersions: [1],
          compressions: [],
          wallUs: 0,
          position,
        },
        this.nowUs,
      ),
    );
  }

  cut(): void {
    this.connection?.sender.closed();
    this.connection = null;
  }

  #do(actions: LaneAction[]): void {
    const connection = this.connection as Connection;
    for (const action of actions) {
      if (action.type === 'offer') this.offers.push({ ...action, sender: connection.sender });
      else if (action.type === 'send') {
        assert.ok(action.batch.seq <= this.assigned);
        connection.up.push({ seq: action.batch.seq, generation: action.generation, content: action.batch.readingCount });
      } else if (action.type === 'free') {
        assert.ok(action.seq <= this.lake.length, 'freed what the lake does not have');
        assert.ok(action.seq <= this.assigned, 'freed what was never assigned');
        this.freed = Math.max(this.freed, action.seq);
      } else if (action.type === 'close') {
        this.closes.push(action.reason);
        this.connection = null;
      }
    }
  }

  produce(): void {
    this.produced++;
    if (this.connection !== null) this.#do(this.connection.sender.sealed(this.nowUs));
  }

  /** The journal answers; the lane's contents are 1, 2, 3 …, so that seq and content have to agree. */
  answerOffer(): void {
    const offer = this.offers.shift();
    if (offer === undefined) return;
    const batches: OfferedBatch[] = [];
    let bytes = 0;
    for (let seq = Math.max(offer.afterSeq, this.freed) + 1; seq <= this.produced; seq++) {
      if (batches.length > 0 && bytes + BATCH_BYTES > offer.bytesMax) break;
      bytes += BATCH_BYTES;
      this.assigned = Math.max(this.assigned, seq);
      batches.push({
        epoch: EPOCH,
        lane: 'live',
        seq,
        readingCount: seq,
        exceptionCount: 0,
        arrivalFromUs: 0,
        body: new Uint8Array(BATCH_BYTES),
      });
    }
    const actions = offer.sender.offered(offer.id, batches, this.nowUs);
    if (this.connection?.sender === offer.sender) this.#do(actions);
    else assert.deepEqual(actions, []);
  }

  deliverUp(fault: 'none' | 'drop' | 'double' | 'swap'): void {
    const { connection } = this;
    if (connection === null || connection.up.length === 0) return;
    if (fault === 'swap') connection.up.reverse();
    const message = connection.up.shift() as Connection['up'][number];
    if (fault === 'drop') return;
    if (fault === 'double') connection.up.push(message);
    const verdict = connection.receiver.judge(message.seq, message.generation);
    if (verdict === 'next') {
      connection.receiver.taken();
      connection.hub.pending.set(message.seq, message.content);
    }
    this.answer();
  }

  answer(): void {
    if (this.connection !== null) this.connection.down.push(this.#position(this.connection));
  }

  deliverDown(at: number, fault: 'none' | 'drop' | 'double'): void {
    const { connection } = this;
    if (connection === null || connection.down.length === 0) return;
    const index = at % connection.down.length;
    const message = connection.down[index];
    if (fault !== 'double') connection.down.splice(index, 1);
    if (fault !== 'drop') this.#do(connection.sender.position(message, this.nowUs));
  }

  /** The compare-and-set: rows from the lake's position on, whatever this hub thought it was. */
  commit(hubIndex: number): void {
    const hub = this.hubs[hubIndex];
    for (let seq = this.lake.length + 1; hub.pending.has(seq); seq++) this.lake.push(hub.pending.get(seq) as number);
    for (const [seq] of hub.pending) if (seq <= this.lake.length) hub.pending.delete(seq);
    this.connection?.receiver.commit(this.lake.length);
    this.answer();
  }

  restartHub(hubIndex: number): void {
    const old = this.hubs[hubIndex];
    this.hubs[hubIndex] = this.#newHub();
    if (this.connection?.hub === old) this.cut();
  }

  advance(ms: number): void {
    this.nowUs += ms * 1000;
    if (this.connection !== null) this.#do(this.connection.sender.tick(this.nowUs));
  }

  check(): void {
    assert.ok(this.freed <= this.lake.length);
    this.lake.forEach((content, index) => assert.equal(content, index + 1));
  }

  /** No more faults: everybody does what they have to do, in turn. */
  settle(): void {
    for (let round = 0; round < 2000; round++) {
      if (this.connection === null) this.connect(0);
      while (this.offers.length > 0) this.answerOffer();
      for (let i = 0; i < 4; i++) this.deliverUp('none');
      this.commit(0);
      while (this.connection !== null && this.connection.down.length > 0) this.deliverDown(0, 'none');
      this.advance(1000);
      this.check();
      if (this.lake.length === this.produced && this.freed === this.produced) return;
    }
    throw new Error(
      `no progress: produced ${this.produced}, lake ${this.lake.length}, freed ${this.freed}, closes ${this.closes.join(' ')}`,
    );
  }
}

const faultUp = fc.constantFrom('none' as const, 'none' as const, 'none' as const, 'drop' as const, 'double' as const, 'swap' as const);
const faultDown = fc.constantFrom('none' as const, 'none' as const, 'drop' as const, 'double' as const);
const step = fc.oneof(
  { weight: 4, arbitrary: fc.constant((world: World) => world.produce()) },
  { weight: 5, arbitrary: fc.constant((world: World) => world.answerOffer()) },
  { weight: 6, arbitrary: faultUp.map((fault) => (world: World) => world.deliverUp(fault)) },
  {
    weight: 5,
    arbitrary: fc.tuple(fc.nat(5), faultDown).map(
      ([at, fault]) =>
        (world: World) =>
          world.deliverDown(at, fault),
    ),
  },
  { weight: 3, arbitrary: fc.nat(1).map((hub) => (world: World) => world.commit(hub)) },
  { weight: 2, arbitrary: fc.nat(1).map((hub) => (world: World) => world.connect(hub)) },
  { weight: 1, arbitrary: fc.nat(1).map((hub) => (world: World) => world.restartHub(hub)) },
  { weight: 1, arbitrary: fc.constant((world: World) => world.cut()) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 70_000 }).map((ms) => (world: World) => world.advance(ms)) },
);

describe('a lane between gateway and hub', () => {
  test('frees nothing that is not in the lake, commits every batch once, and never stands still', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 20, maxLength: 120 }), (steps) => {
        const world = new World();
        world.connect(0);
        for (const act of steps) {
          act(world);
          world.check();
        }
        world.settle();
        expect(world.closes.filter((reason) => reason !== 'stalled')).toEqual([]);
      }),
      { numRuns: 400 },
    );
  });
});
