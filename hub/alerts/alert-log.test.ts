import { expect, test } from 'vitest';
import { systemClock } from '../../shared/clock.ts';
import { MemoryStore } from '../lake/memory-store.ts';
import type { Alert } from './alert.ts';
import { HISTORY_MAX } from './alert-book.ts';
import { AlertLog } from './alert-log.ts';
import { alertRuleSchema } from './rule.ts';

const RULE = alertRuleSchema.parse({ kind: 'threshold', window: '1m', above: 1 });

function open(store: MemoryStore, hub = 'a'): Promise<AlertLog> {
  return AlertLog.open(store, hub, (error) => {
    throw error;
  });
}

function alert(state: Alert['state'], device = 'd', version = 0): Alert {
  return {
    ...{
      id: `${version}-${device}`,
      rule: 'r',
      severity: 'warning',
      summary: '',
      condition: '',
      labels: {},
      gateway: 'g',
      device,
      metric: 'm',
      tags: null,
    },
    ...{ state, cause: 'window', value: 2, window: '1m', windowStartUs: 0, windowEndUs: 60, sinceUs: 0, firedUs: 60 },
    ...{ resolvedUs: state === 'resolved' ? 120 : null, updatedUs: 1, version },
  };
}

test('what was appended is there after a start, over snapshots and deleted entries', async () => {
  const store = new MemoryStore(systemClock);
  const log = await open(store);
  await log.append({ rules: { r: RULE } }, 1_000);
  for (let round = 0; round < 200; round++)
    await log.append({ alerts: [alert(round % 2 === 0 ? 'firing' : 'resolved')], bases: { r: { k: ['pending', round] } } }, 2_000);
  await log.append({ frontiers: { '1m': { g: 60 } } }, 500);
  const again = await open(store, 'b');
  expect(again.book.toSnapshot()).toEqual(log.book.toSnapshot());
  expect(again.book.history).toHaveLength(100);
  // The clock that went back is not believed.
  expect(again.book.committedUs).toBeGreaterThan(2_000);
  expect((await store.list('_sluice/alerts/')).length).toBeLessThan(150);
});

test('of two hubs that decide at once one does, and the other has taken that in', async () => {
  const store = new MemoryStore(systemClock);
  const [a, b] = [await open(store, 'a'), await open(store, 'b')];
  const entries = await Promise.all([a.append({ alerts: [alert('firing')] }, 1), b.append({ alerts: [alert('firing')] }, 1)]);
  expect(entries.filter((entry) => entry !== null)).toHaveLength(1);
  await a.refresh();
  await b.refresh();
  expect(a.book.toSnapshot()).toEqual(b.book.toSnapshot());
  expect(a.book.transitions.firing).toBe(1);
});

test.each(['fail-before', 'fail-after'] as const)('a put whose answer is lost (%s) is told by what is there', async (fault) => {
  const store = new MemoryStore(systemClock);
  const log = await open(store);
  store.hook = (operation) => (operation === 'putIfAbsent' ? fault : null);
  await expect(log.append({ alerts: [alert('firing')] }, 1)).rejects.toThrow(/./);
  store.hook = null;
  await log.refresh();
  expect(log.book.transitions.firing).toBe(fault === 'fail-after' ? 1 : 0);
  expect((await open(store)).book.version).toBe(log.book.version);
});

test('a hub that was away while entries were deleted starts from the snapshot', async () => {
  const store = new MemoryStore(systemClock);
  const away = await open(store, 'away');
  const log = await open(store);
  for (let round = 0; round < 130; round++) await log.append({ frontiers: { '1m': { g: round } } }, round);
  expect(await away.refresh()).toBe(true);
  expect(away.book.toSnapshot()).toEqual(log.book.toSnapshot());
});

test('a damaged snapshot is passed over, a damaged entry is not', async () => {
  const store = new MemoryStore(systemClock);
  const log = await open(store);
  for (let round = 0; round < 130; round++) await log.append({ frontiers: { '1m': { g: round } } }, round);
  await store.put('_sluice/alerts/snapshot/0000000128.json', Buffer.from('{'));
  expect((await open(store)).book.version).toBe(130);
  await store.put('_sluice/alerts/log/0000000130.json', Buffer.from('{"format":9}'));
  await expect(open(store)).rejects.toMatchObject({ code: 'ERR_ALERT_LOG' });
  await store.delete('_sluice/alerts/log/0000000129.json');
  await expect(open(store)).rejects.toMatchObject({ code: 'ERR_ALERT_LOG' });
});

test('of resolved alerts the newest are kept, and the others counted', async () => {
  const log = await open(new MemoryStore(systemClock));
  const count = HISTORY_MAX + 150;
  await log.append({ alerts: Array.from({ length: count }, (_, index) => alert('resolved', `d${index}`)) }, 1);
  const { history, forgotten } = log.book;
  expect(history.length + forgotten).toBe(count);
  expect(history.at(-1)?.device).toBe(`d${count - 1}`);
  expect(history.length).toBeLessThan(HISTORY_MAX + 100);
});
