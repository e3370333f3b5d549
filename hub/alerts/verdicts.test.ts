import fc from 'fast-check';
import { expect, test } from 'vitest';
import { EMPTY_PARTIAL, type WindowPartial } from '../../shared/window/partial.ts';
import { groupKeyText, type GroupKey } from '../../shared/window/partial-columns.ts';
import { judge, judgeWindows, type Bounds, type JudgedWindow, type RuleTask } from './verdicts.ts';

const SIZE_US = 60_000_000;

function partialOf(value: number): WindowPartial {
  return { ...EMPTY_PARTIAL, n: 1, mean: value, minValue: value, maxValue: value, sumValue: value };
}

function windowOf(group: Partial<GroupKey>, place: number, value: number): JudgedWindow {
  const key = { gateway: 'gw', device: 'pump-1', metric: 'temperature', tags: null, ...group };
  return { group: key, groupText: groupKeyText(key), windowStartUs: place * SIZE_US, partial: partialOf(value) };
}

function taskOf(condition: Partial<RuleTask['condition']> & { bounds?: Bounds }, task: Partial<RuleTask> = {}): RuleTask {
  const threshold = { kind: 'threshold', function: 'mean', bounds: {}, early: false, changeUs: 0, ...condition } as RuleTask['condition'];
  return { name: 'r', gateways: null, devices: null, metrics: null, tags: null, condition: threshold, known: [], newMax: 100, ...task };
}

const value = fc.integer({ min: 0, max: 20 });
const names = (choices: readonly string[]) => fc.option(fc.subarray([...choices, 'p*', '*1'], { minLength: 1 }), { nil: null });
const bounds: fc.Arbitrary<Bounds> = fc.record({ above: value, below: value }, { requiredKeys: [] });

test('every rule judges exactly the windows of the groups that it names', () => {
  const windows = fc.uniqueArray(
    fc.record({ device: fc.constantFrom('pump-1', 'pump-2', 'door'), metric: fc.constantFrom('a1', 'b'), place: fc.nat(9), value }),
    { selector: ({ device, metric, place }) => `${device} ${metric} ${place}`, maxLength: 60 },
  );
  const rules = fc.array(
    fc.record({ devices: names(['pump-1', 'door']), metrics: names(['b']), bounds, early: fc.boolean(), change: fc.nat(2) }),
    { maxLength: 6 },
  );
  fc.assert(
    fc.property(windows, rules, fc.nat(9), fc.nat(9), (given, wanted, basePlace, closedPlace) => {
      const tasks = wanted.map(({ devices, metrics, change, ...rest }) =>
        taskOf({ ...rest, changeUs: change * SIZE_US }, { devices, metrics }),
      );
      const rows = given.map(({ place, value: own, ...group }) => windowOf(group, place, own));
      const [baseUs, closedUs] = [basePlace * SIZE_US, closedPlace * SIZE_US];
      const answer = judgeWindows(rows, { rules: tasks, baseUs }, SIZE_US, closedUs);
      wanted.forEach((rule, at) => {
        const matches = (own: string, list: readonly string[] | null): boolean =>
          list === null || list.some((one) => (one === 'p*' ? own.startsWith('p') : one === '*1' ? own.endsWith('1') : one === own));
        const judged = given.flatMap(({ device, metric, place, value: own }) => {
          if (!matches(device, rule.devices) || !matches(metric, rule.metrics)) return [];
          const before = given.find((other) => other.device === device && other.metric === metric && other.place === place - rule.change);
          if (before === undefined || place + 1 <= basePlace || (!rule.early && place + 1 > closedPlace)) return [];
          const compared = rule.change === 0 ? own : own - before.value;
          return [{ key: windowOf({ device, metric }, 0, 0).groupText, place, value: compared, verdict: judge(compared, rule.bounds) }];
        });
        const firing = new Set(judged.filter(({ verdict }) => verdict === 'fire').map(({ key }) => key));
        const expected = judged
          .filter(({ key }) => firing.has(key))
          .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.place - b.place));
        expect(
          answer[at].rows.map(({ key, startUs, value: own, verdict }) => ({ key, place: startUs / SIZE_US, value: own, verdict })),
        ).toEqual(expected);
      });
    }),
  );
});

test('a gateway is heard by any of its devices', () => {
  const windows = [windowOf({ device: 'a' }, 0, 1), windowOf({ device: 'b' }, 3, 1)];
  const rule = taskOf({ kind: 'absence', by: 'gateway', forUs: 5 * SIZE_US });
  const rowsAt = (place: number) => judgeWindows(windows, { rules: [rule], baseUs: 0 }, SIZE_US, place * SIZE_US)[0].rows;
  expect(rowsAt(8)).toEqual([]);
  expect(rowsAt(9)).toMatchObject([{ key: groupKeyText({ gateway: 'gw', device: null, metric: null, tags: null }), value: 300 }]);
});
