import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { writeLedger } from '../ledger/ledger.ts';
import { startFakeHub, writeFakeLake, type AnswerRow, type FakeHub, type FakeException, type FakeRow } from './fake-hub.fixture.ts';
import { formatReport, type VerifyReport } from './report.ts';
import { DOUBT, SPEC, rowsOf, sceneLedger, sceneRows, victim } from './scene.fixture.ts';
import { verify, type VerifyOptions } from './verify.ts';

interface Scene {
  rows: FakeRow[];
  readonly exceptions: FakeException[];
  /** What the hub aggregates; null: what is in the lake. */
  hubRows: FakeRow[] | null;
  change: (row: AnswerRow, window: string) => AnswerRow | null;
}

let directory: string;
let hub: FakeHub | null = null;
let options: Omit<VerifyOptions, 'hubUrl'>;

beforeEach(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-verify-'));
  options = {
    ledgerFile: path.join(directory, 'ledger.json'),
    token: 'secret',
    lakeDir: path.join(directory, 'lake'),
    waitMs: 0,
    otherRuns: false,
    onProgress: () => {},
  };
  await writeLedger(options.ledgerFile, sceneLedger());
});

afterEach(() => {
  hub?.server.close();
  rmSync(directory, { recursive: true, force: true });
});

/** Verifies a real lake of Parquet files and a hub that are right but for what `plant` does to them. */
async function verifyScene(plant: (scene: Scene) => unknown): Promise<VerifyReport> {
  const scene: Scene = { rows: sceneRows(), exceptions: [], hubRows: null, change: (row) => row };
  await plant(scene);
  const half = Math.floor(scene.rows.length / 2);
  await writeFakeLake(options.lakeDir, [scene.rows.slice(0, half), scene.rows.slice(half)], scene.exceptions);
  hub = await startFakeHub(() => scene.hubRows ?? scene.rows, scene.change);
  return verify({ ...options, hubUrl: hub.url });
}

const OK = { lost: 0, accountedFor: 0, duplicated: 0, altered: 0 };
const wrongs = (report: VerifyReport): number[] => report.windows.map((window) => window.wrong);

describe('verify', () => {
  test('finds nothing wrong where nothing is wrong, over days, files, gateways, tags and texts', async () => {
    const report = await verifyScene(() => {});
    expect(report.failures).toEqual([]);
    expect(report.ok).toBe(true);
    expect(report.readings).toMatchObject({ ...OK, foreign: 2, inDoubtArrived: rowsOf(DOUBT.device, DOUBT.message).length });
    expect(report.readings.found).toBe(report.ledger.readingsAcked);
    expect(report.lake.files).toBe(4);
    for (const window of report.windows) expect(window.answered).toBe(window.expected);
    expect(formatReport(report)).toContain('ok: ');
  });

  test('finds a lost reading, in the lake and in its three windows', async () => {
    const report = await verifyScene((scene) => scene.rows.splice(victim(scene.rows), 1));
    expect(report.readings).toMatchObject({ ...OK, lost: 1 });
    expect(wrongs(report)).toEqual([1, 1, 1]);
    expect(report.ok).toBe(false);
    expect(formatReport(report)).toMatch(/lost: sim-.*temperature at 2026-11-[^]*FAILED: 1 readings lost/);
  });

  test('finds a doubled reading', async () => {
    const report = await verifyScene((scene) => scene.rows.push(scene.rows[victim(scene.rows)]));
    expect(report.readings).toMatchObject({ ...OK, duplicated: 1 });
    expect(wrongs(report)).toEqual([1, 1, 1]);
    expect(report.ok).toBe(false);
  });

  test('finds an altered reading', async () => {
    const report = await verifyScene((scene) => {
      const index = victim(scene.rows);
      scene.rows[index] = { ...scene.rows[index], eventTimeUs: (scene.rows[index]?.eventTimeUs ?? 0) + 1 };
    });
    expect(report.readings).toMatchObject({ ...OK, altered: 1, lost: 1 });
    expect(report.ok).toBe(false);
  });

  test('finds a wrong aggregate over a right lake', async () => {
    let planted = false;
    const report = await verifyScene((scene) => {
      scene.change = (row, window) => {
        if (planted || window !== '1h') return row;
        planted = true;
        return { ...row, last: 12345 };
      };
    });
    expect(report.readings).toMatchObject(OK);
    expect(wrongs(report)).toEqual([0, 1, 0]);
    expect(report.ok).toBe(false);
  });

  test('a gap in the table of exceptions accounts for what is missing', async () => {
    const report = await verifyScene((scene) => {
      const [row] = scene.rows.splice(victim(scene.rows), 1) as [FakeRow];
      const { device, metric, eventTimeUs } = row;
      scene.exceptions.push({ kind: 'gap', device, metric, fromUs: eventTimeUs, toUs: eventTimeUs + 1, readingCount: 1 });
    });
    expect(report.failures).toEqual([]);
    expect(report.readings).toMatchObject({ ...OK, accountedFor: 1 });
    expect(report.lake.exceptions).toEqual({ gap: 1 });
  });

  test('finds an exception that stands twice and accounts for a second reading so', async () => {
    const report = await verifyScene((scene) => {
      const [row] = scene.rows.splice(victim(scene.rows), 1) as [FakeRow];
      const { device, metric, eventTimeUs } = row;
      const gap = { kind: 'gap', device, metric, fromUs: eventTimeUs, toUs: eventTimeUs + 1, readingCount: 1, idx: 0 };
      scene.exceptions.push(gap, gap);
    });
    expect(report.failures).toEqual(['exceptions: 1 rows stand there twice, the first is null/e/live/1/0']);
  });

  test.each<[string, (scene: Scene) => unknown, string]>([
    ['an empty lake', (scene) => (scene.rows = []), 'no reading of the ledger is in the lake'],
    ['a hub that answers nothing', (scene) => (scene.hubRows = []), 'the hub answered no window'],
    ['a ledger without readings', () => writeLedger(options.ledgerFile, sceneLedger(0)), 'the ledger has no readings'],
  ])('fails when it saw nothing: %s', async (_what, plant, failure) => {
    const report = await verifyScene(plant);
    expect(report.ok).toBe(false);
    expect(report.failures.join()).toContain(failure);
  });

  test('a lake, hub or ledger that cannot be read is a typed error', async () => {
    hub = await startFakeHub(
      () => sceneRows(),
      (row) => row,
    );
    const hubUrl = hub.url;
    await expect(verify({ ...options, hubUrl })).rejects.toMatchObject({ code: 'ERR_SIM_LAKE' });
    await expect(verify({ ...options, hubUrl, ledgerFile: 'none' })).rejects.toMatchObject({ code: 'ERR_SIM_LEDGER_READ' });
    await writeFakeLake(options.lakeDir, [sceneRows()], []);
    await expect(verify({ ...options, hubUrl, token: 'wrong' })).rejects.toMatchObject({ code: 'ERR_SIM_HUB' });
    writeFileSync(path.join(options.lakeDir, 'readings', '_delta_log', `${'2'.padStart(20, '0')}.json`), '{"add":');
    await expect(verify({ ...options, hubUrl })).rejects.toMatchObject({ code: 'ERR_SIM_LAKE' });
    writeFileSync(
      path.join(options.lakeDir, 'readings', '_delta_log', `${'2'.padStart(20, '0')}.json`),
      '{"add":{"path":"none.parquet","size":1}}',
    );
    await expect(verify({ ...options, hubUrl })).rejects.toMatchObject({ code: 'ERR_SIM_LAKE' });
  });

  test('waits for a lake that is not there yet and for windows that come later', async () => {
    let answers = 0;
    hub = await startFakeHub(
      () => sceneRows(),
      (row) => (answers++ < 5 ? { ...row, count: 0 } : row),
    );
    const running = verify({ ...options, hubUrl: hub.url, waitMs: 30_000 });
    await writeFakeLake(options.lakeDir, [sceneRows()], []);
    expect((await running).failures).toEqual([]);
    expect(answers).toBeGreaterThan(5);
  });

  test('uses the gateways that the rows came by: the same device under a wrong one is missing from its window', async () => {
    const report = await verifyScene((scene) => {
      scene.change = (row) => (row['gateway'] === 'gw-1' ? { ...row, gateway: 'gw-0' } : row);
    });
    expect(report.readings).toMatchObject(OK);
    expect(SPEC.gatewayCount).toBe(2);
    expect(wrongs(report)[0]).toBeGreaterThan(0);
  });
});
