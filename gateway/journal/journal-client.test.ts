import { afterEach, describe, expect, test } from 'vitest';
import { decodeBatch } from '../../shared/batch/decode.ts';
import { ManualClock, systemClock, type Clock } from '../../shared/clock.ts';
import { isSluiceError } from '../../shared/errors.ts';
import { START_US, temporaryDirectory } from './journal-fixture.ts';
import type { RedeliveryKey } from './journal-api.ts';
import { JournalClient, type JournalClientOptions } from './journal-client.ts';

const open: JournalClient[] = [];

afterEach(async () => {
  for (const client of open.splice(0)) await client.close();
});

async function openClient(options: Partial<JournalClientOptions> & { readonly directory: string }): Promise<JournalClient> {
  const client = await JournalClient.open({ clock: systemClock, thread: 'inline', freeSpaceReserveBytes: 0, ...options });
  open.push(client);
  return client;
}

async function close(client: JournalClient): Promise<void> {
  open.splice(open.indexOf(client), 1);
  await client.close();
}

function store(client: JournalClient, value: number, redelivery: RedeliveryKey | null = null): Promise<void> {
  return new Promise((resolve, reject) => {
    client.writer.message((sink) => sink.add(client.writer.series.idOf('d', 'm', ''), NaN, value, null), {
      redelivery,
      idempotencyKey: null,
      done: (error) => (error === null ? resolve() : reject(error)),
    });
  });
}

describe.each(['worker', 'inline'] as const)('the journal on thread %s', (thread) => {
  test('stores, seals, offers and frees, and tells how far it is', async () => {
    const client = await openClient({ directory: temporaryDirectory(), thread, sealIntervalMs: 100_000 });
    let sealed = 0;
    client.onSealed(() => sealed++);
    const startedUs = Date.now() * 1000;
    expect(client.watermark()?.us).toBeGreaterThanOrEqual(startedUs);
    await Promise.all([1, 2, 3].map((value) => store(client, value)));
    expect(client.backlog()).toMatchObject({ readings: 3, exceptions: 0 });
    expect(Math.abs((client.backlog().oldestUs as number) - startedUs)).toBeLessThan(10_000_000);
    expect(client.watermark()?.us).toBeLessThanOrEqual(Date.now() * 1000);
    expect(sealed).toBe(0);
    await client.seal();
    expect(sealed).toBe(1);
    expect(await client.lanes()).toEqual([{ epoch: client.epoch, lane: 'live', base: 1, assigned: 0, isDue: false }]);
    const [batch] = await client.offer(client.epoch, 'live', 0, 1e6);
    expect(batch).toMatchObject({ epoch: client.epoch, lane: 'live', seq: 1, readingCount: 3, exceptionCount: 0 });
    expect([...decodeBatch(batch?.body).runs.value]).toEqual([1, 2, 3]);
    const watermark = client.watermark();
    expect(watermark?.positions).toEqual([{ epoch: client.epoch, lane: 'live', seq: 1 }]);
    expect(watermark?.us).toBeGreaterThan(batch?.arrivalFromUs);
    await client.free(client.epoch, 'live', 1);
    expect(client.backlog()).toEqual({ readings: 0, bytes: 0, exceptions: 0, oldestUs: null });
    expect(client.watermark()?.positions).toEqual([]);
    await client.pinLake('lake-1');
    expect(client.lakeId).toBe('lake-1');
    expect((await client.stats()).journal).toMatchObject({ commits: 1, messages: 3, readings: 3, sealed: 1, full: false });
  });

  test('knows redeliveries and open QoS 2 ids after it was closed and opened', async () => {
    const directory = temporaryDirectory();
    const key = (messageId: number, qos: 1 | 2): RedeliveryKey => ({ clientId: 'c', messageId, hash: 2 ** 52 + messageId, qos });
    const first = await openClient({ directory, thread });
    await store(first, 1, key(1, 1));
    await store(first, 2, key(2, 2));
    await store(first, 3, key(3, 2));
    await new Promise<void>((resolve) => first.writer.qos2Release('c', 3, () => resolve()));
    await first.seal();
    const [batch] = await first.offer(first.epoch, 'live', 0, 1e6);
    await first.free(first.epoch, 'live', batch?.seq);
    await close(first);
    const again = await openClient({ directory, thread });
    expect(again.epoch).not.toBe(first.epoch);
    let answers = 0;
    const durable = (error: Error | null): void => void (answers += error === null ? 1 : 0);
    expect(again.writer.isRedelivery(key(1, 1), durable)).toBe(true);
    expect(again.writer.isRedelivery({ ...key(1, 1), hash: 4 }, durable)).toBe(false);
    expect([again.writer.qos2Open('c', 2), again.writer.qos2Open('c', 3)]).toEqual([true, false]);
    await Promise.resolve();
    expect(answers).toBe(1);
  });

  test('says who has it when it is open already', async () => {
    const directory = temporaryDirectory();
    await openClient({ directory, thread });
    const error = await openClient({ directory, thread }).catch((reason: unknown) => reason);
    expect(isSluiceError(error, 'ERR_JOURNAL_LOCKED')).toBe(true);
  });
});

test('seals by itself at the interval, on its clock', async () => {
  const clock = new ManualClock(START_US);
  const client = await openClient({ directory: temporaryDirectory(), clock, sealIntervalMs: 2000 });
  const sealed = new Promise<void>((resolve) => client.onSealed(resolve));
  await store(client, 1);
  clock.advance(2_000_000);
  await sealed;
  expect((await client.offer(client.epoch, 'live', 0, 1)).length).toBe(1);
});

test('while the clock is unknown no watermark is asserted', async () => {
  const client = await openClient({ directory: temporaryDirectory(), clock: new ManualClock(0) });
  expect(client.watermark()).toBe(null);
});

test('the watermark stays behind what waits for its commit', async () => {
  const clock = new ManualClock(START_US);
  const client = await openClient({ directory: temporaryDirectory(), clock });
  const stored = store(client, 1);
  clock.advance(3_000_000);
  expect(client.watermark()?.us).toBe(START_US);
  expect(client.backlog()).toMatchObject({ readings: 1, oldestUs: START_US });
  await stored;
  expect(client.watermark()?.us).toBe(START_US);
});

test('on a full disk callers are told after five seconds, and when there is room the next message is taken', async () => {
  // Every wait passes at once: the five seconds of retries are those of the clock.
  const manual = new ManualClock(START_US);
  const clock: Clock = {
    nowUs: () => manual.nowUs(),
    monotonicUs: () => manual.monotonicUs(),
    after: (delayMs, callback) => {
      const cancel = manual.after(delayMs, callback);
      if (delayMs <= 1000) setImmediate(() => manual.advance(delayMs * 1000));
      return cancel;
    },
  };
  const client = await openClient({
    directory: temporaryDirectory(),
    clock,
    bufferBytesMax: 128 * 1024,
    sealIntervalMs: 1e9,
    batchReadingsMax: 1e9,
    batchBytesMax: 1e9,
  });
  const fill = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const { writer } = client;
      writer.message(
        (sink) => {
          for (let at = 0; at < 1000; at++) sink.add(writer.series.idOf('d', 'm', ''), NaN, Math.random(), null);
        },
        { redelivery: null, idempotencyKey: null, done: (error) => (error === null ? resolve() : reject(error)) },
      );
    });
  let failure: unknown = null;
  const startedUs = manual.monotonicUs();
  for (let at = 0; at < 100 && failure === null; at++)
    failure = await fill().then(
      () => null,
      (error: unknown) => error,
    );
  expect(isSluiceError(failure) && failure.kind.retryable).toBe(true);
  expect(manual.monotonicUs() - startedUs).toBeLessThanOrEqual(5_000_000);
  await client.seal();
  for (const { seq } of await client.offer(client.epoch, 'live', 0, 1e9)) await client.free(client.epoch, 'live', seq);
  await fill();
  expect(client.backlog().readings).toBe(1000);
});
