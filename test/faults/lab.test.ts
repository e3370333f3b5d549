import { describe, expect, test } from 'vitest';
import { kill } from './scenarios/kill.ts';
import { runTrial, type TrialResult } from './trial.ts';
import { controlReportedLoss } from './verdict.ts';

const SEED = 1;
const MINUTES = 0.04;
/** The first kill may come before the fleet sends; a control must have had some that did not. */
const CONTROL_MINUTES = 0.15;

function attempt(isControl: boolean): Promise<TrialResult> {
  return runTrial({ scenario: kill, isControl, seed: SEED, minutes: isControl ? CONTROL_MINUTES : MINUTES, log: () => undefined });
}

describe(`the fault lab, seed ${SEED}`, () => {
  test(
    'sees that nothing is lost when programs are killed, and that something is where a gateway acknowledges on receipt',
    { timeout: 300_000 },
    async () => {
      const [sound, broken] = await Promise.all([attempt(false), attempt(true)]);
      expect(sound.violations).toEqual([]);
      expect(sound.figures).toMatchObject({ lost: 0, accountedFor: 0, duplicated: 0, altered: 0, wrong: 0 });
      expect(sound.figures.acknowledged).toBeGreaterThan(100);
      expect(sound.figures.found).toBe(sound.figures.acknowledged);
      expect(sound.recoveryMs).not.toBe(null);
      expect(Object.keys(sound.faults).length).toBeGreaterThan(0);
      expect(controlReportedLoss(broken), JSON.stringify(broken)).toBe(true);
    },
  );
});
