import { expect, test } from 'vitest';
import { ManualClock } from '../../shared/clock.ts';
import { createLogger } from '../../shared/logging.ts';
import { EMPTY_PARTIAL } from '../../shared/window/partial.ts';
import { groupKeyText } from '../../shared/window/partial-columns.ts';
import type { EngineStatus } from '../engine-api.ts';
import { MemoryStore } from '../lake/memory-store.ts';
import { AlertLog } from './alert-log.ts';
import { Evaluator } from './evaluator.ts';
import { alertRuleSchema } from './rule.ts';
import { judgeWindows, type JudgedWindow, type VerdictAnswer, type VerdictQuery } from './verdicts.ts';

const MINUTE_US = 60_000_000;
const DEFINITION = { name: '1m', sizeMs: 60_000, by: 'series', persisted: true } as const;

/** Values of the minutes of two gateways; minutes that a gateway has closed. */
class Fleet {
  readonly closed: Record<string, number> = { g1: 10, g2: 10 };
  readonly values: Record<string, number[]> = {
    g1: [...Array.from({ length: 10 }, () => 1), 90, 90, 90],
    g2: [...Array.from({ length: 10 }, () => 1), 1, 90, 1],
  };

  get status(): EngineStatus {
    const watermarks = new Map(Object.entries(this.closed).map(([gateway, minutes]) => [gateway, minutes * MINUTE_US]));
    return { readingsVersion: 1, watermarks } as Partial<EngineStatus> as EngineStatus;
  }

  verdicts(query: VerdictQuery): VerdictAnswer {
    const windows = (query.windows.gateways ?? []).flatMap((gateway) =>
      this.values[gateway].map((value, minute): JudgedWindow => {
        const group = { gateway, device: 'd', metric: 'm', tags: null };
        const partial = { ...EMPTY_PARTIAL, n: 1, mean: value, sumValue: value, minValue: value, maxValue: value };
        return { group, groupText: groupKeyText(group), windowStartUs: minute * MINUTE_US, partial };
      }),
    );
    const closedUs = query.closedUs as number;
    return { readingsVersion: 1, whole: true, closedUs, rules: judgeWindows(windows, query, MINUTE_US, closedUs) };
  }
}

test('a hub that was overtaken in a round does not go on with what it knew at its beginning: no alert is told twice', async () => {
  const clock = new ManualClock(20 * MINUTE_US);
  const store = new MemoryStore(clock);
  const fleet = new Fleet();
  let overtake: () => Promise<void> = () => Promise.resolve();
  const hub = async (name: string): Promise<{ log: AlertLog; evaluator: Evaluator }> => {
    const log = await AlertLog.open(store, name, () => undefined);
    const evaluator = new Evaluator({
      log,
      engine: { definitions: [DEFINITION], status: () => Promise.resolve(fleet.status) },
      query: {
        verdicts: async (query) => {
          const now = overtake;
          overtake = () => Promise.resolve();
          if (name === 'one') await now();
          return fleet.verdicts(query);
        },
      },
      gateways: { list: () => [] },
      clock,
      logger: createLogger('test', 'silent'),
    });
    return { log, evaluator };
  };
  const [one, two] = [await hub('one'), await hub('two')];
  await one.log.append({ rules: { hot: alertRuleSchema.parse({ kind: 'threshold', window: '1m', above: 80 }) } }, 1);
  await one.evaluator.round();
  await two.evaluator.round();
  Object.assign(fleet.closed, { g1: 11, g2: 13 });
  overtake = () => two.evaluator.round();
  for (let round = 0; round < 3; round++) {
    await one.evaluator.round();
    await two.evaluator.round();
  }
  expect(one.evaluator.figures.failures).toBe(0);
  expect([...one.log.book.alerts()].map(({ gateway, state }) => [gateway, state])).toEqual([
    ['g1', 'firing'],
    ['g2', 'resolved'],
  ]);
  expect(one.log.book.frontiers.get('1m')).toEqual(
    new Map([
      ['g1', 11 * MINUTE_US],
      ['g2', 13 * MINUTE_US],
    ]),
  );
  expect(two.log.book.toSnapshot()).toEqual(one.log.book.toSnapshot());
});
