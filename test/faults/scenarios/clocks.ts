/**
 * Clocks are wrong: the gateway boots in 1970 and is synchronised later, its clock jumps an hour forth and back, devices are
 * minutes off, one group of devices is an hour ahead.
 *
 * A gateway whose clock is an hour behind takes right devices for devices that are an hour ahead and quarantines what they
 * send, and so it does with all readings of a boot that never learns the time; both are announced. Everything else must arrive.
 */
import path from 'node:path';
import { fetchJson } from '../../e2e/processes.ts';
import { BOOT_TIME, FakeClock, shiftedClock, TRUE_TIME } from '../fake-clock.ts';
import type { Scenario } from '../scenario.ts';
import type { System, Trial } from '../trial.ts';

interface GatewayStatus {
  readonly clock: { readonly state: string };
  readonly journal: { readonly batches: number };
}

/** verify finds nothing to compare where everything was quarantined. */
const NOTHING_ARRIVED = /^the hub answered no window|^no reading of the ledger is in the lake/;

/** While the gateway does not know the time it stores, and seals nothing. */
async function bootIn1970(trial: Trial, { gateway }: System, clock: FakeClock): Promise<void> {
  trial.fault('boot in 1970');
  await trial.pause(2_000, 5_000);
  const before = await fetchJson<GatewayStatus>(`${gateway.httpUrl}/v1/status`);
  if (before.clock.state !== 'unknown' || before.journal.batches > 0)
    trial.violation(`in 1970 the clock is ${before.clock.state} and ${before.journal.batches} batches are sealed`);
  clock.set(TRUE_TIME);
  trial.fault('synchronised');
}

/** Readings of a boot that never learnt the time are quarantined: nobody can say when they arrived. */
async function bootWithoutTime(trial: Trial, { gateway }: System, clock: FakeClock): Promise<void> {
  await gateway.program.kill();
  clock.set(BOOT_TIME);
  await gateway.program.start();
  trial.fault('a boot that never learns the time');
  await trial.pause(1_000, 3_000);
  await gateway.program.kill();
  clock.set(TRUE_TIME);
  await gateway.program.start();
}

export const clocks: Scenario = {
  name: 'clocks',
  about: 'the gateway boots in 1970, its clock jumps by an hour; devices are minutes off or an hour ahead',
  needs: ['faketime'],
  announcedLoss: false,
  control: null,
  async run(trial) {
    const clock = new FakeClock(path.join(trial.lab.directory, 'gateway-clock'), BOOT_TIME);
    const system = await trial.start({ gatewayEnv: clock.env });
    const { gateway, hub } = system;
    const few = { devices: 5 };
    const behind = trial.fleet('behind', gateway.mqttPort, few, shiftedClock('-7m'));
    const slightlyAhead = trial.fleet('slightly-ahead', gateway.mqttPort, few, shiftedClock('+3m'));
    const hourAhead = trial.fleet('hour-ahead', gateway.mqttPort, few, shiftedClock('+1h'));
    trial.fault('devices 7 min behind');
    trial.fault('devices 3 min ahead');
    trial.fault('devices an hour ahead');
    await bootIn1970(trial, system, clock);
    while (trial.goesOn) {
      trial.fault('gateway an hour ahead');
      await trial.pause(1_000, 3_000);
      clock.set('+1h');
      await trial.pause(1_000, 4_000);
      clock.set(TRUE_TIME);
    }
    // Those of an hour ahead were right while the gateway was wrong: they are quarantined or arrive.
    for (const fleet of [system.fleet, behind, slightlyAhead, hourAhead]) await trial.endFleet(fleet);

    const backward = trial.fleet('backward', gateway.mqttPort);
    for (let jump = 0; jump < 2; jump++) {
      await trial.pause(1_000, 3_000);
      trial.fault('gateway an hour behind');
      clock.set('-1h');
      await trial.pause(1_000, 3_000);
      clock.set(TRUE_TIME);
    }
    await trial.pause(1_000);
    await bootWithoutTime(trial, system, clock);
    await trial.recovered(gateway.httpUrl, hub.url);
    await trial.endFleet(backward);
    for (const name of ['fleet', 'behind', 'slightly-ahead']) await trial.judge(name, hub.url);
    const allow = (failure: string): boolean => NOTHING_ARRIVED.test(failure);
    const ahead = await trial.judge('hour-ahead', hub.url, { announcedLoss: true, allow });
    trial.measure('quarantined of devices an hour ahead', ahead.readings.accountedFor);
    if (ahead.readings.accountedFor === 0) trial.violation('readings from an hour ahead were taken for right');
    const back = await trial.judge('backward', hub.url, { announcedLoss: true, allow });
    trial.measure('quarantined while the gateway was wrong', back.readings.accountedFor);
  },
};
