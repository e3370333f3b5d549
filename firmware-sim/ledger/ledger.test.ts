import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createDevices } from '../devices/device.ts';
import { FLEET_DEFAULTS, type FleetSpec } from '../devices/fleet-spec.ts';
import { DeviceProgress } from '../fleet.ts';
import { regenerateTruth } from '../verify/truth.ts';
import { createLedger, readLedger, writeLedger, type Ledger } from './ledger.ts';

const SPEC: FleetSpec = {
  ...FLEET_DEFAULTS,
  models: { ...FLEET_DEFAULTS.models },
  shapes: [...FLEET_DEFAULTS.shapes],
  qos: [0, 1, 0],
  seed: 3,
  startMs: 1_790_000_000_000,
  devices: 8,
  intervalMs: 1000,
};

/** Ten messages sent by each device; device n was acknowledged all but message n, and skipped none. */
function ledger(horizonMs: number | null = null): Ledger {
  const progress = createDevices(SPEC).map((device) => {
    const entry = new DeviceProgress(device);
    entry.nextDue = entry.nextToSend = 10;
    for (let index = 0; index < 10; index++) if (index !== device.index) entry.acknowledge(index, device.readings(index));
    return entry;
  });
  return createLedger(
    { fleet: SPEC, urls: ['mqtt://127.0.0.1'], complete: horizonMs === null, writtenMs: 1, endMs: 2, horizonMs },
    progress,
  );
}

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-ledger-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe('a ledger', () => {
  test('comes back from its file as it was, and leaves no temporary file', async () => {
    const file = path.join(directory, 'deeper', 'ledger.json');
    await writeLedger(file, ledger());
    expect(readLedger(file)).toEqual(ledger());
    expect(readdirSync(path.dirname(file))).toEqual(['ledger.json']);
  });

  test('lists what was never acknowledged one by one', () => {
    expect(ledger().devices[4]).toMatchObject({
      sent: 10,
      acked: [
        [0, 4],
        [5, 10],
      ],
      inDoubt: [[4, 5]],
      skipped: [],
    });
    expect(ledger().totals).toMatchObject({ messagesSent: 80, messagesAcked: 72 });
  });

  test('that cannot be written is a typed error', async () => {
    writeFileSync(path.join(directory, 'file'), '');
    await expect(writeLedger(path.join(directory, 'file', 'ledger.json'), ledger())).rejects.toMatchObject({
      code: 'ERR_SIM_LEDGER_WRITE',
    });
  });

  test.each([
    ['an empty file', ''],
    ['cut JSON', '{'],
    ['a list', '[]'],
    ['another version', JSON.stringify({ ...ledger(), version: 2 })],
    ['fewer devices than its fleet', JSON.stringify({ ...ledger(), devices: [] })],
    ['an unknown key', JSON.stringify({ ...ledger(), surprise: 1 })],
  ])('that is none is refused: %s', (_what, text) => {
    const file = path.join(directory, 'ledger.json');
    writeFileSync(file, text);
    expect(() => readLedger(file)).toThrow(expect.objectContaining({ code: 'ERR_SIM_LEDGER_READ' }));
  });
});

describe('the truth behind a ledger', () => {
  test('says of every reading whether it was acknowledged', () => {
    const truth = regenerateTruth(ledger());
    for (const { device, metrics } of truth) {
      for (const metric of device.metrics) {
        const expected = Array.from({ length: 10 }, (_, index) => device.readings(index).map((reading) => ({ index, ...reading })))
          .flat()
          .filter((reading) => reading.metric === metric)
          .map(({ index, eventTimeUs, value, text }) => ({ eventTimeUs, value, text, acked: index !== device.index }));
        expect(metrics.get(metric)).toEqual(expected);
      }
    }
  });

  test('of a killed run has all that may have been sent before the next ledger as in doubt', () => {
    const truth = regenerateTruth(ledger(SPEC.startMs + 15_000));
    for (const { device, metrics } of truth) {
      const times = new Set([...metrics.values()].flat().map((reading) => Math.floor((reading.eventTimeUs / 1000 - SPEC.startMs) / 1000)));
      expect(times).toEqual(new Set(Array.from({ length: 15 }, (_, index) => index)));
      const late = [...metrics.values()].flat().filter((reading) => reading.eventTimeUs >= device.readings(10)[0].eventTimeUs);
      expect(late.length > 0 && late.every((reading) => !reading.acked)).toBe(true);
    }
  });

  test('is refused when it is not what the ledger describes', () => {
    const wrong: Ledger[] = [
      { ...ledger(), fleet: { ...SPEC, seed: 4 } },
      { ...ledger(), fleet: { ...SPEC, startMs: SPEC.startMs + 1 } },
      { ...ledger(), fleet: { ...SPEC, namePrefix: 'other' } },
      { ...ledger(), devices: ledger().devices.map((entry) => ({ ...entry, acked: [[0, 10]] as [number, number][] })) },
    ];
    for (const other of wrong) expect(() => regenerateTruth(other)).toThrow(expect.objectContaining({ code: 'ERR_SIM_LEDGER_MISMATCH' }));
  });
});
