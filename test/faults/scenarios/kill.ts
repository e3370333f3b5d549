/** SIGKILL of gateway, hub and both at random moments, sometimes after a hang, while devices publish QoS 1 and 2 and reconnect. */
import { Rounds } from '../random.ts';
import type { Scenario } from '../scenario.ts';

/** A program that hangs before it dies has taken in what it has not stored: the worst moment there is. */
const FREEZE_SHARE = 0.5;

export const kill: Scenario = {
  name: 'kill',
  about: 'SIGKILL of gateway, hub and both at random moments',
  needs: [],
  announcedLoss: false,
  isCounted: true,
  control: { about: 'a gateway that acknowledges on receipt', needs: [] },
  async run(trial) {
    const system = await trial.start({ fleetArgs: ['--reconnect-every', '5'], acknowledgeOnReceipt: trial.isControl });
    const { gateway, hub } = system;
    const rounds = new Rounds<'gateway' | 'hub' | 'both'>(trial.isControl ? ['gateway'] : ['gateway', 'hub', 'both'], trial.random);
    while (trial.goesOn) {
      const what = rounds.next();
      const victims = what === 'both' ? [gateway.program, hub.program] : [what === 'gateway' ? gateway.program : hub.program];
      if (trial.random.next() < FREEZE_SHARE || trial.isControl) {
        for (const victim of victims) victim.signal('SIGSTOP');
        await trial.pause(trial.isControl ? 300 : 50, 400);
      }
      await Promise.all(victims.map((victim) => victim.kill()));
      trial.fault(`kill ${what}`);
      await trial.pause(0, 400);
      await Promise.all(victims.map((victim) => victim.start()));
      // Sometimes the next one comes while the last start is still being digested.
      await trial.pause(0, 1_500);
    }
    await trial.settle(system);
  },
};
