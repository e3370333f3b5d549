import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../shared/clock.ts';
import { TestBroker } from './broker.fixture.ts';
import { simConfigSchema, type SimConfig } from './config.ts';
import { createDevices } from './devices/device.ts';
import { readLedger } from './ledger/ledger.ts';
import { MessageRanges } from './ledger/message-ranges.ts';
import { runFleet, type RunResult } from './run.ts';
import { regenerateTruth } from './verify/truth.ts';

const silent = { isTTY: false, write: () => true } as unknown as NodeJS.WriteStream;

let directory: string;
let broker: TestBroker;

beforeEach(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-sim-'));
  broker = new TestBroker();
  await broker.start();
});

afterEach(async () => {
  await broker.kill();
  rmSync(directory, { recursive: true, force: true });
});

function config(overrides: Partial<SimConfig> = {}): SimConfig {
  return simConfigSchema.parse({
    url: broker.url,
    devices: 12,
    duration: 0.5,
    rate: 20,
    drainTimeout: 10,
    ledger: path.join(directory, 'ledger.json'),
    ...overrides,
  });
}

function run(settings: SimConfig, stop = new AbortController()): Promise<RunResult> {
  return runFleet({ config: settings, clock: systemClock, stop: stop.signal, output: silent });
}

/** topic and payload of every message that the ledger says was acknowledged. */
function acknowledgedMessages(result: RunResult): string[] {
  const devices = createDevices(result.ledger.fleet);
  return result.ledger.devices.flatMap((entry, index) =>
    entry.acked.flatMap(([from, to]) =>
      Array.from(
        { length: to - from },
        (_, offset) => `${devices[index]?.topic} ${devices[index]?.payload(from + offset).toString('hex')}`,
      ),
    ),
  );
}

function receivedMessages(): string[] {
  return broker.received.map(({ topic, payload }) => `${topic} ${payload.toString('hex')}`);
}

describe('a run against a real broker', () => {
  test('what the broker received is exactly what the ledger regenerates', async () => {
    const result = await run(config({ qos: '0,1,1' }));
    expect(result.summary.drained).toBe(true);
    expect(result.ledger.totals.messagesAcked).toBe(12 * 10);
    expect(receivedMessages().sort()).toEqual(acknowledgedMessages(result).sort());
    expect(broker.received.some(({ dup }) => dup)).toBe(false);
    expect(readLedger(path.join(directory, 'ledger.json'))).toEqual(JSON.parse(JSON.stringify(result.ledger)));
    const readings = regenerateTruth(result.ledger).flatMap(({ metrics }) => [...metrics.values()].flat());
    expect(readings).toHaveLength(result.ledger.totals.readingsAcked);
  });

  test('QoS 0 is sent and stays in doubt', async () => {
    const result = await run(config({ qos: '1,0,0' }));
    expect(result.ledger.totals.messagesAcked).toBe(0);
    expect(result.summary.messagesInDoubt).toBe(12 * 10);
    expect(broker.received).toHaveLength(12 * 10);
    expect(regenerateTruth(result.ledger)[0]?.metrics.size).toBeGreaterThan(0);
  });

  test('a broker that is killed and restarted loses nothing: what had no ack comes again, with DUP set', async () => {
    const running = run(config({ duration: 2, qos: '0,1,1' }));
    for (let round = 0; round < 3; round++) {
      await sleep(400);
      broker.acknowledges = false; // what arrives now is taken and its ack never leaves
      await sleep(120);
      await broker.kill();
      broker.acknowledges = true;
      await broker.start();
    }
    const result = await running;
    expect(result.summary.drained).toBe(true);
    expect(result.ledger.totals.messagesAcked).toBe(12 * 40);
    expect(result.summary.messagesInDoubt).toBe(0);
    const received = receivedMessages();
    expect([...new Set(received)].sort()).toEqual(acknowledgedMessages(result).sort());
    const again = broker.received.filter((_, index) => received.indexOf(received[index]) < index);
    expect(again.length).toBeGreaterThan(0);
    expect(again.filter(({ dup }) => !dup)).toEqual([]);
    expect(result.summary.reconnects).toBeGreaterThanOrEqual(12);
  });

  test('a gateway that never acknowledges leaves every message in doubt, within the drain time-out', async () => {
    broker.acknowledges = false;
    const result = await run(config({ duration: 0.3, drainTimeout: 0.5, inFlightMessagesMax: 4 }));
    expect(result.summary.drained).toBe(false);
    expect(result.ledger.totals.messagesAcked).toBe(0);
    for (const entry of result.ledger.devices) {
      expect(entry.inDoubt).toEqual([[0, 4]]);
      expect(entry.skipped).toEqual([[4, 6]]);
    }
  });

  test('a refused port is survived: nothing was sent, everything due is skipped, the ledger is whole', async () => {
    await broker.kill();
    const result = await run(config({ duration: 0.3, drainTimeout: 0.3 }));
    expect(result.ledger.complete).toBe(true);
    expect(result.ledger.totals).toEqual({ messagesSent: 0, messagesAcked: 0, messagesSkipped: 12 * 6, readingsAcked: 0 });
    expect(Object.keys(result.summary.troubles).join()).toContain('ECONNREFUSED');
  });

  test('a stop ends the run early with a complete ledger', async () => {
    const stop = new AbortController();
    const running = run(config({ duration: 3600 }), stop);
    await sleep(500);
    stop.abort();
    const result = await running;
    expect(result.ledger.complete).toBe(true);
    expect(result.ledger.totals.messagesAcked).toBeGreaterThan(0);
    expect(receivedMessages().sort()).toEqual(acknowledgedMessages(result).sort());
  });

  test('the ledger on the disk covers, at every moment, all that the broker has', async () => {
    const settings = config({ duration: 1, ledgerIntervalMs: 100 });
    const running = run(settings);
    let looks = 0;
    for (let round = 0; round < 8; round++) {
      await sleep(110);
      // Read in one step with the copy of what was received: as after a kill of the simulator at this moment.
      const ledger = JSON.parse(readFileSync(settings.ledger, 'utf8')) as ReturnType<typeof readLedger>;
      const received = new Set(receivedMessages());
      const known = new Set<string>();
      const acknowledged: string[] = [];
      const devices = createDevices(ledger.fleet);
      for (const entry of ledger.devices) {
        const device = devices[entry.index];
        const acked = MessageRanges.of(entry.acked);
        for (let index = 0; index < entry.sent || device.dueMs(index) < (ledger.horizonMs as number); index++) {
          const message = `${device.topic} ${device.payload(index).toString('hex')}`;
          known.add(message);
          if (acked.has(index)) acknowledged.push(message);
        }
      }
      expect([...received].filter((message) => !known.has(message))).toEqual([]);
      expect(acknowledged.filter((message) => !received.has(message))).toEqual([]);
      looks += received.size;
    }
    expect(looks).toBeGreaterThan(0);
    await running;
  });
});
