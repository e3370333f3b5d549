import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../shared/clock.ts';
import { SluiceError } from '../../shared/errors.ts';
import { GROUP_COMMIT_DEFAULTS, GroupCommit, type CommitOutcome, type CommitPort, type GroupCommitOptions } from './group-commit.ts';
import type { Group } from './group.ts';
import type { MessageOptions, RedeliveryKey } from './journal-api.ts';
import { RedeliveryKeys } from './redelivery.ts';

const START_US = Date.UTC(2026, 0, 15) * 1000;

/** A journal that commits when it is told to. */
class ManualPort implements CommitPort {
  accepting = true;
  readonly groups: Group[] = [];
  #answer: ((outcome: CommitOutcome) => void) | null = null;

  commit(group: Group, answer: (outcome: CommitOutcome) => void): void {
    expect(this.#answer).toBe(null);
    this.groups.push(group);
    this.#answer = answer;
  }

  answer(outcome: Partial<CommitOutcome> = {}): void {
    const answer = this.#answer as (outcome: CommitOutcome) => void;
    this.#answer = null;
    answer({ error: null, failed: [], arrays: (this.groups.at(-1) as Group).arrays, ...outcome });
  }
}

function setUp(options: Partial<GroupCommitOptions> = {}) {
  const clock = new ManualClock(START_US);
  const port = new ManualPort();
  const deferred: (() => void)[] = [];
  const writer = new GroupCommit(port, {
    ...GROUP_COMMIT_DEFAULTS,
    clock,
    keys: new RedeliveryKeys(),
    defer: (callback) => void deferred.push(callback),
    ...options,
  });
  const turn = (): void => {
    for (const callback of deferred.splice(0)) callback();
  };
  const log: string[] = [];
  const send = (value: number, options_: Partial<MessageOptions> = {}): void => {
    const done = (error: Error | null): void => void log.push(`${value} ${error === null ? 'stored' : (error as SluiceError).code}`);
    writer.message((sink) => sink.add(writer.series.idOf('d', 'm', ''), NaN, value, null), {
      redelivery: null,
      idempotencyKey: null,
      done,
      ...options_,
    });
  };
  return { clock, port, writer, turn, log, send };
}

const keyOf = (messageId: number, qos: 1 | 2 = 1, hash = 77): RedeliveryKey => ({ clientId: 'client', messageId, hash, qos });

describe('a commit', () => {
  test('takes all messages of a turn, and those that arrive meanwhile share the next', () => {
    const { port, turn, log, send } = setUp();
    send(1);
    send(2);
    expect(port.groups.length).toBe(0);
    turn();
    expect(port.groups[0]?.messages).toBe(2);
    send(3);
    turn();
    expect(port.groups.length).toBe(1);
    port.answer();
    expect(log).toEqual(['1 stored', '2 stored']);
    turn();
    port.answer();
    expect(log).toEqual(['1 stored', '2 stored', '3 stored']);
  });

  test('names each new series once', () => {
    const { port, turn, send } = setUp();
    send(1);
    turn();
    send(2);
    port.answer();
    turn();
    expect(port.groups.map(({ newSeriesFrom, newSeries }) => [newSeriesFrom, newSeries.length])).toEqual([
      [0, 1],
      [1, 0],
    ]);
  });

  test('waits at most five seconds when nobody waits for it', () => {
    const { clock, port, turn, send } = setUp();
    send(1, { done: null });
    turn();
    clock.advance(4_999_000);
    turn();
    expect(port.groups.length).toBe(0);
    clock.advance(1_000);
    turn();
    expect(port.groups.length).toBe(1);
  });

  test('waits for the sake of the flash, so that the oldest message has its ack in time, and not when it is large or the last', async () => {
    const { clock, port, turn, send, writer } = setUp({ commitDelayMs: () => 1_000 });
    send(1);
    clock.advance(600_000);
    send(2);
    turn();
    clock.advance(399_000);
    expect(port.groups.length).toBe(0);
    clock.advance(1_000);
    expect(port.groups[0]?.messages).toBe(2);
    // The commit took 300 ms: the next starts so much earlier.
    clock.advance(300_000);
    port.answer();
    send(3);
    turn();
    clock.advance(700_000);
    expect(port.groups.length).toBe(2);
    port.answer();
    for (let message = 0; message < 16_384; message++) send(message);
    turn();
    expect(port.groups.length).toBe(3);
    port.answer();
    send(4);
    const closed = writer.close();
    expect(port.groups.length).toBe(4);
    port.answer();
    await closed;
  });

  test('that fails from some message on fails those, and forgets that they were ever seen', () => {
    const { port, writer, turn, log, send } = setUp();
    send(1, { redelivery: keyOf(1) });
    send(2, { redelivery: keyOf(2) });
    turn();
    port.answer({ error: { from: 1, error: new SluiceError('ERR_JOURNAL_UNAVAILABLE', 'disk') } });
    expect(log).toEqual(['1 stored', '2 ERR_JOURNAL_UNAVAILABLE']);
    expect(writer.isRedelivery(keyOf(1), () => {})).toBe(true);
    expect(writer.isRedelivery(keyOf(2), () => {})).toBe(false);
  });
});

test('a message that fails while it is decoded leaves nothing behind, and the next is whole', () => {
  const { port, writer, turn, send } = setUp();
  send(1);
  const half = (): void =>
    writer.message(
      (sink) => {
        sink.add(0, NaN, 2, 'text');
        sink.exception({
          kind: 'dead_letter',
          device: null,
          metric: null,
          fromUs: 0,
          toUs: 1,
          readingCount: null,
          reason: 'x',
          payload: null,
        });
        throw new Error('half');
      },
      { redelivery: keyOf(9), idempotencyKey: 'k', done: () => {} },
    );
  expect(half).toThrow('half');
  expect(writer.isRedelivery(keyOf(9), () => {})).toBe(false);
  expect(writer.isIdempotent('k', () => {})).toBe(false);
  send(3);
  turn();
  const group = port.groups[0];
  expect([group.messages, group.readings, group.exceptions.length, group.texts.length, group.hasTexts, group.keys]).toEqual([
    2,
    2,
    0,
    0,
    false,
    0,
  ]);
  expect([...group.arrays.value.subarray(0, 2)]).toEqual([1, 3]);
});

describe('a redelivery', () => {
  test('is recognised by id and hash, and answered only once the first copy is durable', async () => {
    const { port, writer, turn, log, send } = setUp();
    send(1, { redelivery: keyOf(5) });
    expect(writer.isRedelivery(keyOf(5, 1, 78), () => {})).toBe(false);
    expect(writer.isRedelivery(keyOf(5), () => log.push('open'))).toBe(true);
    turn();
    expect(writer.isRedelivery(keyOf(5), () => log.push('in flight'))).toBe(true);
    expect(log).toEqual([]);
    port.answer();
    expect(log).toEqual(['1 stored', 'open', 'in flight']);
    expect(writer.isRedelivery(keyOf(5), () => log.push('durable'))).toBe(true);
    await Promise.resolve();
    expect(log.at(-1)).toBe('durable');
  });

  test('of QoS 2 is one by id and content until the release is durable, with or without a time of its own', () => {
    const { port, writer, turn, log, send } = setUp();
    send(1, { redelivery: keyOf(5, 2) });
    turn();
    port.answer();
    expect(writer.qos2Open('client', 5)).toBe(true);
    expect(writer.isRedelivery(keyOf(5, 2), () => {})).toBe(true);
    expect(writer.isRedelivery(keyOf(5, 2, 0), () => {})).toBe(false);
    writer.qos2Release('client', 5, () => log.push('released'));
    expect(log).toEqual(['1 stored']);
    turn();
    port.answer();
    expect(log).toEqual(['1 stored', 'released']);
    expect(writer.qos2Open('client', 5)).toBe(false);
  });

  test('by idempotency key lasts a day', () => {
    const { clock, writer, send } = setUp();
    send(1, { idempotencyKey: 'k' });
    expect(writer.isIdempotent('k', () => {})).toBe(true);
    clock.advance(86_400_000_001);
    expect(writer.isIdempotent('k', () => {})).toBe(false);
  });

  test('by idempotency key outlasts the step of a clock that learns the time', () => {
    const { clock, writer, send } = setUp();
    send(1, { idempotencyKey: 'k' });
    clock.advance(30_000_000);
    clock.step(3 * 86_400_000_000);
    expect(writer.isIdempotent('k', () => {})).toBe(true);
    clock.advance(86_400_000_001);
    expect(writer.isIdempotent('k', () => {})).toBe(false);
  });
});

describe('at its bound', () => {
  test('callbacks are held and then fail, and what nobody waited for is a gap', () => {
    const { clock, port, turn, log, send } = setUp({ readingsWaitingMax: 2 });
    send(1);
    turn();
    send(2);
    send(3);
    send(4, { done: null });
    clock.advance(4_999_999);
    expect(log).toEqual([]);
    clock.advance(1);
    expect(log).toEqual(['3 ERR_JOURNAL_BUSY']);
    port.answer();
    turn();
    expect(port.groups[1]?.exceptions).toMatchObject([
      { kind: 'gap', reason: 'journal_overload: 1 messages without acknowledgement refused' },
    ]);
    port.answer();
    expect(log).toEqual(['3 ERR_JOURNAL_BUSY', '1 stored', '2 stored']);
  });

  test('of the journal nothing is taken until it accepts again', () => {
    const { clock, port, turn, log, send } = setUp();
    port.accepting = false;
    send(1);
    clock.advance(5_000_000);
    expect(log).toEqual(['1 ERR_JOURNAL_FULL']);
    port.accepting = true;
    send(2);
    turn();
    port.answer();
    expect(log.at(-1)).toBe('2 stored');
  });
});

test('closing commits what waits and refuses what comes', async () => {
  const { port, writer, turn, log, send } = setUp();
  send(1, { done: null });
  const closed = writer.close();
  turn();
  port.answer();
  await closed;
  send(2);
  await Promise.resolve();
  expect(log).toEqual(['2 ERR_JOURNAL_CLOSED']);
});

test('a position of a source moves when its message is durable, and stays where it is when the message is not', () => {
  const { port, writer, turn, log, send } = setUp();
  send(1, { position: { source: 'file', at: 10 } });
  turn();
  expect(writer.sourcePosition('file')).toBe(null);
  port.answer();
  expect(writer.sourcePosition('file')).toBe(10);
  send(2, { position: { source: 'file', at: 20 } });
  turn();
  port.answer({ failed: [{ message: 0, error: new SluiceError('ERR_JOURNAL_MESSAGE', 'too large') }] });
  expect(writer.sourcePosition('file')).toBe(10);
  expect(log).toEqual(['1 stored', '2 ERR_JOURNAL_MESSAGE']);
});
