/**
 * Clocks are wrong: the gateway reboots into 1970 without a network and learns the time from the hub later, across a kill -9 in
 * between; its machine's clock jumps an hour forth and back; devices are minutes off, one group of devices is an hour ahead;
 * one boot never learns the time.
 *
 * Everything must arrive, with these exceptions, which are announced: devices an hour ahead are quarantined, and so are all
 * readings of the boot that never learns the time. A step of the machine's clock that nobody vouches for costs nothing.
 */
import path from 'node:path';
import { fetchJson, until } from '../../e2e/processes.ts';
import { bootWrapper, BOOT_TIME, FakeClock, shiftedClock, TRUE_TIME } from '../fake-clock.ts';
import type { Scenario } from '../scenario.ts';
import type { System, Trial } from '../trial.ts';

interface GatewayStatus {
  readonly clock: {
    readonly state: string;
    readonly source: string | null;
    readonly machine_ahead_us: number;
    readonly steps: { readonly ignored: number };
  };
  readonly epoch: string;
  readonly lanes: readonly { readonly epoch: string; readonly assigned: number }[];
}

const HOUR_US = 3_600_000_000;
/** verify finds nothing to compare where everything was quarantined. */
const NOTHING_ARRIVED = /^the hub answered no window|^no reading of the ledger is in the lake/;

const statusOf = (system: System): Promise<GatewayStatus> => fetchJson<GatewayStatus>(`${system.gateway.httpUrl}/v1/status`);

async function reboot({ gateway }: System, clock: FakeClock, boot: number, time: string): Promise<void> {
  await gateway.program.kill();
  clock.set(time);
  gateway.program.wrapper = bootWrapper(boot);
  await gateway.program.start();
}

async function mustNotKnow(trial: Trial, system: System): Promise<void> {
  const { clock, epoch, lanes } = await statusOf(system);
  const assigned = lanes.filter((lane) => lane.epoch === epoch).reduce((sum, lane) => sum + lane.assigned, 0);
  if (clock.state !== 'unknown' || assigned > 0)
    trial.violation(`in 1970 the clock is ${clock.state} (${clock.source}) and ${assigned} batches have a place`);
}

/** Without a network and a battery the gateway stores, and gives nothing a place; the hub then tells it the time. */
async function bootIn1970(trial: Trial, system: System, clock: FakeClock): Promise<void> {
  system.link.cut();
  trial.fault('boot in 1970 without a network');
  await reboot(system, clock, 1, BOOT_TIME);
  await trial.pause(1_500, 3_000);
  await mustNotKnow(trial, system);
  trial.fault('kill -9 in 1970');
  await system.gateway.program.kill();
  await system.gateway.program.start();
  await trial.pause(1_500, 3_000);
  await mustNotKnow(trial, system);
  system.link.heal();
  trial.fault('the hub tells the time');
  await until('the clock to be known', async () => ((await statusOf(system)).clock.source === 'hub' ? true : null));
  await trial.pause(1_000, 2_000);
}

/** Readings of a boot that never learnt the time are quarantined: nobody can say when they arrived. */
async function bootWithoutTime(trial: Trial, system: System, clock: FakeClock): Promise<void> {
  system.link.cut();
  await reboot(system, clock, 2, BOOT_TIME);
  trial.fault('a boot that never learns the time');
  await trial.pause(2_000, 4_000);
  await reboot(system, clock, 3, TRUE_TIME);
  system.link.heal();
}

async function step(trial: Trial, system: System, clock: FakeClock, time: string, aheadUs: number): Promise<void> {
  trial.fault(`the gateway's machine ${time}`);
  clock.set(time);
  await trial.pause(1_500, 4_000);
  const { clock: seen } = await statusOf(system);
  if (seen.state !== 'known' || Math.abs(seen.machine_ahead_us - aheadUs) > 10_000_000)
    trial.violation(`after a step to ${time} the clock is ${seen.state} and the machine ${seen.machine_ahead_us / 1e6} s ahead`);
  clock.set(TRUE_TIME);
  await trial.pause(500, 1_500);
}

export const clocks: Scenario = {
  name: 'clocks',
  about:
    'the gateway boots in 1970 and learns the time later or never, its clock jumps by an hour; devices are minutes off or an hour ahead',
  needs: ['faketime', 'time namespaces'],
  announcedLoss: false,
  control: null,
  async run(trial) {
    const clock = new FakeClock(path.join(trial.lab.directory, 'gateway-clock'), TRUE_TIME);
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
    // The machine's clock is set right: nobody follows, because the time was right already.
    clock.set(TRUE_TIME);
    await trial.pause(1_500);
    do {
      await step(trial, system, clock, '+1h', HOUR_US);
      await step(trial, system, clock, '-1h', -HOUR_US);
    } while (trial.goesOn);
    trial.measure('steps ignored', (await statusOf(system)).clock.steps.ignored);
    for (const fleet of [system.fleet, behind, slightlyAhead, hourAhead]) await trial.endFleet(fleet);

    const lost = trial.fleet('lost-boot', gateway.mqttPort);
    await trial.pause(2_000);
    await bootWithoutTime(trial, system, clock);
    await trial.recovered(gateway.httpUrl, hub.url);
    await trial.endFleet(lost);
    for (const name of ['fleet', 'behind', 'slightly-ahead']) await trial.judge(name, hub.url);
    const allow = (failure: string): boolean => NOTHING_ARRIVED.test(failure);
    const ahead = await trial.judge('hour-ahead', hub.url, { announcedLoss: true, allow });
    trial.measure('quarantined of devices an hour ahead', ahead.readings.accountedFor);
    if (ahead.readings.accountedFor === 0) trial.violation('readings from an hour ahead were taken for right');
    const unknown = await trial.judge('lost-boot', hub.url, { announcedLoss: true, allow });
    trial.measure('quarantined of the boot without time', unknown.readings.accountedFor);
    if (unknown.readings.accountedFor === 0) trial.violation('readings of a boot that never knew the time were given one');
  },
};
