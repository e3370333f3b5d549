import { afterEach, describe, expect, test } from 'vitest';
import { compareReadings } from './compare-readings.ts';
import { compareWindows, type WindowsResult } from './compare-windows.ts';
import { startFakeHub, type AnswerRow, type FakeHub } from './fake-hub.fixture.ts';
import { HubClient } from './hub-client.ts';
import { lakeContent, sceneLedger, sceneRows } from './scene.fixture.ts';
import { regenerateTruth } from './truth.ts';

const { counted } = compareReadings(regenerateTruth(sceneLedger()), lakeContent(sceneRows()), false);
const WINDOWS = ['1m', '1h', '1m_by_metric'];

let hub: FakeHub | null = null;
afterEach(() => hub?.server.close());

/** Compares a hub that is right but for what `change` does to its rows (null leaves a row out). */
async function compare(change: (row: AnswerRow, window: string) => AnswerRow | null, rows = sceneRows()): Promise<WindowsResult> {
  hub?.server.close();
  hub = await startFakeHub(() => rows, change);
  return compareWindows(new HubClient(hub.url, 'secret'), counted);
}

/** Changes one row of one window, the first that `suits`. */
function once(
  window: string,
  suits: (row: AnswerRow) => boolean,
  change: (row: AnswerRow) => AnswerRow | null,
): (row: AnswerRow, asked: string) => AnswerRow | null {
  let chosen: string | null = null;
  return (row, asked) => {
    if (asked !== window || !suits(row)) return row;
    const identity = JSON.stringify([row['window_start'], row['device'], row['metric'], row['tags']]);
    chosen ??= identity;
    return chosen === identity ? change(row) : row;
  };
}

function wrongs(result: WindowsResult): Record<string, number> {
  return Object.fromEntries(result.windows.map(({ window, wrong }) => [window, wrong]));
}

const NOTHING_WRONG = { '1m': 0, '1h': 0, '1m_by_metric': 0 };

describe("the comparison of the hub's answers", () => {
  test('agrees with the algebra of shared/window, which it does not use', async () => {
    const result = await compare((row) => row);
    expect(result.examples).toEqual([]);
    expect(wrongs(result)).toEqual(NOTHING_WRONG);
    for (const window of result.windows) {
      expect(window.expected).toBeGreaterThan(10);
      expect(window.answered).toBe(window.expected);
      expect(window.statuses).toEqual({ provisional: window.expected });
    }
  });

  test.each(['count', 'sum', 'mean', 'min', 'max', 'first', 'last', 'stddev', 'p50', 'p95', 'p99'])(
    'finds a wrong %s in any window',
    async (name) => {
      // A percentile may be 1.1 % off by right; 2.3 % is more than any right answer can be.
      const suits = (row: AnswerRow): boolean => row[name] !== null && Math.abs(row[name] as number) > 0.01;
      const plant = (row: AnswerRow): AnswerRow => ({ ...row, [name]: (row[name] as number) * 1.023 + (name === 'count' ? 1 : 0) });
      const plants = new Map(WINDOWS.map((window) => [window, once(window, suits, plant)]));
      const result = await compare((row, window) => plants.get(window)?.(row, window) ?? null);
      expect(wrongs(result)).toEqual({ '1m': 1, '1h': 1, '1m_by_metric': 1 });
      expect(result.examples.every((example) => example.includes(`${name} `))).toBe(true);
    },
  );

  test('finds null for a value', async () => {
    expect(
      wrongs(
        await compare(
          once(
            '1h',
            (row) => (row['count'] as number) > 2,
            (row) => ({ ...row, p99: null }),
          ),
        ),
      ),
    ).toEqual({ ...NOTHING_WRONG, '1h': 1 });
  });

  test('finds a window that is missing, under a wrong key, or too long', async () => {
    expect(
      wrongs(
        await compare(
          once(
            '1m',
            () => true,
            () => null,
          ),
        ),
      ),
    ).toEqual({ ...NOTHING_WRONG, '1m': 1 });
    const elsewhere = (row: AnswerRow): AnswerRow => ({ ...row, tags: { site: 'nowhere' } });
    expect(wrongs(await compare(once('1m', () => true, elsewhere)))).toEqual({ ...NOTHING_WRONG, '1m': 2 });
    const longer = (row: AnswerRow): AnswerRow => ({
      ...row,
      window_end: new Date(Date.parse(row['window_end'] as string) + 1).toISOString(),
    });
    expect(wrongs(await compare(once('1h', () => true, longer)))).toEqual({ ...NOTHING_WRONG, '1h': 1 });
  });

  test('finds a window that is answered twice', async () => {
    let previous: AnswerRow | null = null;
    let planted = false;
    const result = await compare((row, window) => {
      if (window !== '1m' || planted) return row;
      planted = previous !== null;
      return (previous ??= row);
    });
    expect(wrongs(result)).toEqual({ ...NOTHING_WRONG, '1m': 2 }); // one twice, and the one in whose place it stands
  });

  test('finds readings in a window that were not expected there', async () => {
    const extra = { eventTimeUs: Date.UTC(2026, 10, 22, 0, 20) * 1000, gateway: 'gw-0', device: 'sim-00000', tags: null, text: null };
    const metric = sceneRows()[0]?.metric;
    const result = await compare((row) => row, [...sceneRows(), { ...extra, metric, value: 1 }]);
    expect(wrongs(result)['1h']).toBeGreaterThan(0);
  });

  test('a hub that does not answer as agreed is a typed error', async () => {
    await expect(compare((row) => ({ ...row, count: '3' }))).rejects.toMatchObject({ code: 'ERR_SIM_HUB' });
    await expect(compareWindows(new HubClient(hub?.url ?? '', 'wrong'), counted)).rejects.toMatchObject({ code: 'ERR_SIM_HUB' });
    hub?.server.close();
    await expect(compareWindows(new HubClient('http://127.0.0.1:1', null), counted)).rejects.toMatchObject({ code: 'ERR_SIM_HUB' });
  });
});
