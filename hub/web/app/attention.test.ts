import { describe, expect, test } from 'vitest';
import type { AlertsAnswer, ExceptionsAnswer, GatewaysAnswer } from './answers.ts';
import { allWell, faultsOf, type Known } from './attention.ts';

const NOW = '2026-11-22T12:00:00Z';
const NOW_MS = Date.parse(NOW);
const AGO = (seconds: number): string => new Date(NOW_MS - seconds * 1000).toISOString();

function gateway(name: string, changes: object = {}): object {
  return {
    gateway: name,
    connected: true,
    last_contact: AGO(1),
    lag_seconds: 1.2,
    backlog: { readings: 100 },
    clock: { state: 'known', offset_seconds: 0.01 },
    lanes: [{ status: 'open' }],
    ...changes,
  };
}

function known(rows: object[], hub: object = {}, exceptions: object[] = [], alerts: object[] = []): Known {
  return {
    gateways: {
      time: NOW,
      hub: { pending_readings: 0, last_commit: AGO(2), uplinks_paused: false, ...hub },
      rows,
    } as unknown as GatewaysAnswer,
    alerts: { rows: alerts, next_cursor: null } as unknown as AlertsAnswer,
    exceptions: { rows: exceptions, next_cursor: null } as unknown as ExceptionsAnswer,
  };
}

const exception = (kind: string, reading_count: number | null, hoursAgo = 1): object => ({
  kind,
  reading_count,
  released: false,
  ingested_at: AGO(hoursAgo * 3600),
});

describe('what needs attention', () => {
  test('nothing, where all is well, and that is said only when everything is known', () => {
    const well = known([gateway('a'), gateway('b', { lag_seconds: 3 })]);
    expect(faultsOf(well, NOW_MS)).toEqual([]);
    expect(allWell(well)).toBe('Nothing needs attention: all 2 gateways are connected, 3.0 s behind, nothing missing in 24 hours');
    expect(allWell({ ...well, exceptions: null })).toBeNull();
  });

  test.each<[string, Known, string[]]>([
    [
      'an absent gateway',
      known([gateway('a', { connected: false, last_contact: AGO(300) }), gateway('b')]),
      ['a is not connected, heard 5 min ago'],
    ],
    [
      'many of them',
      known(['a', 'b', 'c'].map((name) => gateway(name, { connected: false, last_contact: null }))),
      ['3 gateways are not connected'],
    ],
    ['lag', known([gateway('a', { lag_seconds: 600, backlog: { readings: 5000 } })]), ['a is 10 min behind, 5,000 readings to come']],
    ['silence on an open connection', known([gateway('a', { last_contact: AGO(80), lag_seconds: 300 })]), ['a is silent for 80 s']],
    [
      'no clock',
      known([gateway('a', { clock: { state: 'unknown', offset_seconds: null } })]),
      ['a is without a clock: readings wait for the time'],
    ],
    [
      'a clock that is off',
      known([gateway('a', { clock: { state: 'known', offset_seconds: -90 } })]),
      ["a is off by 2 min from the hub's clock"],
    ],
    ['commits that hang', known([gateway('a')], { pending_readings: 9, last_commit: AGO(600) }), ['nothing was committed for 10 min']],
    ['a pause', known([gateway('a')], { uplinks_paused: true }), ['gateways are held back: more comes than is committed']],
    [
      'losses before what was only not understood',
      known([gateway('a')], {}, [exception('dead_letter', null), exception('gap', 42), exception('gap', null), exception('gap', 7, 30)]),
      ['at least 42 readings lost, in 24 hours', '1 message not understood, in 24 hours'],
    ],
    ['quarantine', known([gateway('a')], {}, [exception('quarantined', 1)]), ['1 reading with an impossible time, in 24 hours']],
    [
      'alerts',
      known(
        [gateway('a')],
        {},
        [],
        [
          { state: 'firing', severity: 'critical' },
          { state: 'pending', severity: 'info' },
        ],
      ),
      ['1 alert fires'],
    ],
  ])('%s', (_, state, texts) => expect(faultsOf(state, NOW_MS).map(({ text }) => text)).toEqual(texts));

  test('what was released from quarantine needs nobody', () => {
    expect(faultsOf(known([gateway('a')], {}, [{ ...exception('quarantined', 1), released: true }]), NOW_MS)).toEqual([]);
  });
});
