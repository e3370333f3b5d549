import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { laneAppId } from '../shared/uplink.ts';
import { partialColumnsOf } from '../shared/window/packed-partials.ts';
import { partialRows } from '../shared/window/partial-columns.ts';
import { CaptureClient } from './capture-channel.ts';
import { EngineClient, submittedBytesOf } from './engine-client.ts';
import { batchOf, engineSettings, EPOCH, laneOf, temporaryLake } from './engine.fixture.ts';

const START_US = Date.UTC(2026, 10, 22, 12) * 1000;
const LANE = laneOf('gw-1');

let lake: ReturnType<typeof temporaryLake>;
beforeEach(() => {
  lake = temporaryLake();
});
afterEach(() => lake.remove());

describe('the engine in its thread', () => {
  test('counts what it was given from the moment on, by what it will take in memory, and nothing once it is committed', async () => {
    const failures: Error[] = [];
    const client = await EngineClient.start(engineSettings(lake.directory), (error) => failures.push(error));
    await client.openLane(LANE, { epoch: EPOCH, lane: 'live', base: 1, assigned: 2 });
    const [first, second] = [batchOf(1, START_US, 1_000, 0), batchOf(2, START_US, 1_000, 0)];
    const again = batchOf(1, START_US, 1_000, 0);
    const given = submittedBytesOf(first) + submittedBytesOf(second);
    const committed = new Promise<void>((resolve) => {
      client.onCommitted((lane, seq) => {
        if (laneAppId(lane) === laneAppId(LANE) && seq === 2) resolve();
      });
    });
    client.submit(LANE, first);
    client.submit(LANE, second);
    expect(client.pendingBytes).toBe(given);
    expect(given).toBeGreaterThan(40_000);
    await committed;
    // A batch that arrives late is let go, and does not count for ever.
    client.submit(LANE, again);
    await new Promise<void>((resolve) => {
      const check = (): void => {
        if (client.pendingBytes === 0) resolve();
      };
      client.onPendingBytes(check);
      check();
    });
    expect((await client.status()).readingsCommittedTotal).toBe(2_000);
    await client.stop();
    expect(failures).toEqual([]);
  });

  test('shows in a capture over its channel whatever it has acknowledged before, however much waits in between', async () => {
    const client = await EngineClient.start(engineSettings(lake.directory), () => undefined);
    const captures = new CaptureClient(client.captureChannel());
    await client.openLane(LANE, { epoch: EPOCH, lane: 'live', base: 1, assigned: 200 });
    const filter = { window: '1h', fromUs: START_US, toUs: START_US + 1, gateways: null, devices: ['pump-1'], metrics: null };
    const countOf = async (): Promise<number> => {
      const { tail } = await captures.capture(filter);
      return tail
        .map(partialColumnsOf)
        .flatMap(partialRows)
        .reduce((sum, { partial }) => sum + partial.n, 0);
    };
    const checked: Promise<void>[] = [];
    const all = new Promise<void>((resolve) => {
      client.onCommitted((_, seq) => {
        checked.push(countOf().then((count) => expect(count).toBeGreaterThanOrEqual(seq * 10)));
        if (seq === 200) resolve();
      });
    });
    for (let seq = 1; seq <= 200; seq++) client.submit(LANE, batchOf(seq, START_US, 10, 0));
    await all;
    await Promise.all(checked);
    expect(await countOf()).toBe(2_000);
    captures.close();
    await client.stop();
  });

  test('fails a capture that it will not answer any more', async () => {
    const client = await EngineClient.start(engineSettings(lake.directory), () => undefined);
    const [closed, left] = [new CaptureClient(client.captureChannel()), new CaptureClient(client.captureChannel())];
    const filter = { window: '1h', fromUs: START_US, toUs: START_US + 1, gateways: null, devices: null, metrics: null };
    const waiting = closed.capture(filter);
    closed.close();
    await expect(waiting).rejects.toMatchObject({ code: 'ERR_HTTP_UNAVAILABLE' });
    await left.capture(filter);
    await client.stop();
    await expect(left.capture(filter)).rejects.toMatchObject({ code: 'ERR_HTTP_UNAVAILABLE' });
  });

  test('is refused a folder that is none, with the code of the store', async () => {
    const settings = engineSettings('/dev/null/lake');
    await expect(EngineClient.start(settings, () => undefined)).rejects.toMatchObject({ code: expect.stringMatching(/^ERR_STORE_/) });
  });
});
