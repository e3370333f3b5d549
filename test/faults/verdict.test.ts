import { describe, expect, test } from 'vitest';
import type { TrialResult } from './trial.ts';
import { formatTable, verdictOf } from './verdict.ts';

const CLEAN: TrialResult = {
  scenario: 'kill',
  isControl: false,
  seed: 1,
  elapsedMs: 1_000,
  faults: { 'kill gateway': 2, 'kill hub': 1 },
  figures: { acknowledged: 100, found: 100, accountedFor: 0, lost: 0, duplicated: 0, altered: 0, wrong: 0 },
  recoveryMs: 1_234,
  measures: {},
  violations: [],
};
const LOSING: TrialResult = {
  ...CLEAN,
  isControl: true,
  figures: { ...CLEAN.figures, found: 90, lost: 10 },
  violations: ['10 readings lost'],
};

describe('the verdict', () => {
  test('is good when nothing is violated and the control was seen to lose', () => {
    expect(verdictOf('kill', CLEAN, null, LOSING, null).ok).toBe(true);
    expect(verdictOf('kill', CLEAN, null, null, null).ok).toBe(true);
  });

  test('is bad on any violation, and on a control that lost without being seen', () => {
    expect(verdictOf('kill', { ...CLEAN, violations: ['x'] }, null, LOSING, null).ok).toBe(false);
    expect(verdictOf('kill', CLEAN, null, { ...CLEAN, isControl: true }, null).ok).toBe(false);
    const twice = { ...CLEAN, isControl: true, figures: { ...CLEAN.figures, duplicated: 3 }, violations: ['3 duplicated'] };
    expect(verdictOf('sessions', CLEAN, null, twice, null).ok).toBe(true);
    // Breaking off is no report of a loss.
    expect(verdictOf('kill', CLEAN, null, { ...CLEAN, isControl: true, violations: ['the trial broke off'] }, null).ok).toBe(false);
  });

  test('stands in a table with its figures, its control and what was skipped', () => {
    const table = formatTable([
      verdictOf('kill', CLEAN, null, LOSING, null),
      verdictOf('disk', null, 'needs loop devices', null, null),
      verdictOf('network', { ...CLEAN, violations: ['x', 'y'] }, null, null, null),
      verdictOf('clocks', CLEAN, null, { ...CLEAN, isControl: true }, null),
    ]);
    const [heading, kill, disk, network, clocks] = table.split('\n').map((line) => line.trim().split(/\s{2,}/));
    expect(heading).toHaveLength(10);
    expect(kill).toEqual(['kill', '3', '100', '0', '0', '0', '0', '1.2 s', 'reported 10 lost', 'ok']);
    expect(disk?.at(-1)).toBe('skipped: needs loop devices');
    expect(network?.at(-1)).toBe('FAILED (2)');
    expect(clocks?.slice(-2)).toEqual(['REPORTED NOTHING', 'FAILED']);
  });
});
